//! A store in memory, for networks with more nodes than one machine has room for stores: it takes the decisions that the
//! real one takes (`store::plan`, `store::retention`), and keeps nothing that the real one would not.
//!
//! `both_stores_tell_the_same_story` runs the same networks on both: whatever differs is a fault of one.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use intelmq_relay::accept::Judgement;
use intelmq_relay::config;
use intelmq_relay::envelope::{Key, Name, Sealed, SeenKey, SeenKeys};
use intelmq_relay::link::Verdict;
use intelmq_relay::store::Entry;
use uuid::Uuid;

/// As in the store: entries and bytes of one chunk, which expires as a whole. Until it is complete, each commit's part of it
/// is a chunk of its own.
const CHUNK_ENTRIES: u64 = 256;
const CHUNK_BYTES: usize = 512 << 10;
const DAY: u64 = 24 * 3600 * 1000;

pub struct Memory {
    pub log_id: Uuid,
    log: VecDeque<Arc<Entry>>,
    first: u64,
    /// The first number of each chunk, and the newest time in it.
    chunks: VecDeque<(u64, u64)>,
    /// The chunk that is being filled, and what was added to it since its last part.
    open: Filling,
    fresh: Filling,
    /// Fields hidden in the best copy, and the day of the newest.
    seen: HashMap<SeenKey, (u16, u64)>,
    cursors: BTreeMap<[u8; 32], Vec<u8>>,
    days: config::Store,
}

/// Entries from this number on.
struct Filling {
    first: u64,
    bytes: usize,
    newest: u64,
    /// When its first entry came.
    began: Option<u64>,
}

impl Filling {
    fn at(first: u64) -> Filling {
        Filling { first, bytes: 0, newest: 0, began: None }
    }
}

/// What was judged and is not durable.
pub struct Held {
    pub judged: Vec<Judgement>,
    pub from: Option<Name>,
    pub cursor: Option<(Key, Vec<u8>)>,
    pub at: u64,
}

impl Memory {
    pub fn new(log_id: Uuid, days: config::Store) -> Memory {
        let (log, chunks) = (VecDeque::new(), VecDeque::new());
        let (seen, cursors) = (HashMap::new(), BTreeMap::new());
        let (open, fresh) = (Filling::at(1), Filling::at(1));
        Memory { log_id, log, first: 1, chunks, open, fresh, seen, cursors, days }
    }

    pub fn known(&self, keys: &SeenKeys) -> Option<u16> {
        [Some(keys.insert), keys.also]
            .into_iter()
            .flatten()
            .filter_map(|key| self.seen.get(&key))
            .map(|seen| seen.0)
            .min()
    }

    pub fn head(&self) -> u64 {
        self.first + self.log.len() as u64 - 1
    }

    pub fn first(&self) -> u64 {
        self.first
    }

    pub fn cursor(&self, peer: &Key) -> Option<Vec<u8>> {
        self.cursors.get(peer.as_bytes()).cloned()
    }

    pub fn read(&self, after: u64, most: usize) -> Vec<Arc<Entry>> {
        let skip = (after + 1).saturating_sub(self.first) as usize;
        self.log.range(skip.min(self.log.len())..).take(most).cloned().collect()
    }

    /// Everything of it at once; the verdicts.
    pub fn commit(&mut self, held: Held) -> Vec<Verdict> {
        let Held { judged, from, cursor, at } = held;
        let mut remembered = Vec::new();
        let one = |judged| match judged {
            Judgement::Good(envelope) => self.append(at, from.clone(), *envelope),
            Judgement::Bad(verdict, keys) => {
                remembered.extend(keys);
                verdict
            }
        };
        let verdicts = judged.into_iter().map(one).collect();
        self.finish();
        for keys in remembered {
            let keys = SeenKeys { hidden: 0, ..keys };
            if self.known(&keys) != Some(0) {
                self.remember(&keys, at);
            }
        }
        self.cursors.extend(cursor.map(|(peer, token)| (*peer.as_bytes(), token)));
        verdicts
    }

    fn append(&mut self, at: u64, from: Option<Name>, envelope: Sealed) -> Verdict {
        let keys = envelope.seen_keys();
        let known = self.known(&keys);
        if known.is_some_and(|hidden| hidden <= keys.hidden) {
            return Verdict::Duplicate;
        }
        let seq = self.head() + 1;
        let bytes = envelope.bytes().len();
        let (began, too_large) = (self.open.began, self.open.bytes + bytes > CHUNK_BYTES);
        if too_large && seq > self.open.first || began.is_some_and(|began| at.saturating_sub(began) >= DAY) {
            self.complete();
        }
        for filling in [&mut self.open, &mut self.fresh] {
            // Beside the envelope: its time, where it came from, and two lengths.
            filling.bytes += 8 + 1 + from.as_ref().map_or(0, |name| name.as_str().len()) + 4 + bytes;
            filling.newest = filling.newest.max(at);
            filling.began.get_or_insert(at);
        }
        self.log.push_back(Arc::new(Entry { seq, at, from, completes: known.is_some(), envelope }));
        if seq + 1 - self.open.first >= CHUNK_ENTRIES || self.open.bytes >= CHUNK_BYTES {
            self.complete();
        }
        self.remember(&keys, at);
        if known.is_some() { Verdict::Completed } else { Verdict::Accepted }
    }

    /// The chunk takes the place of its parts, and the next one begins.
    fn complete(&mut self) {
        self.chunks.retain(|(first, _)| *first < self.open.first);
        self.chunks.push_back((self.open.first, self.open.newest));
        self.begin();
    }

    fn begin(&mut self) {
        let next = self.head() + 1;
        (self.open, self.fresh) = (Filling::at(next), Filling::at(next));
    }

    /// The end of a commit: what it added is a part, or so much that it is a chunk.
    fn finish(&mut self) {
        let next = self.head() + 1;
        let added = next - self.fresh.first;
        if added >= CHUNK_ENTRIES / 2 || self.fresh.bytes >= CHUNK_BYTES / 2 {
            self.complete();
        } else if added > 0 {
            self.chunks.push_back((self.fresh.first, self.fresh.newest));
            self.fresh = Filling::at(next);
        }
    }

    fn remember(&mut self, keys: &SeenKeys, at: u64) {
        let (hidden, day) = self.seen.entry(keys.insert).or_insert((keys.hidden, at / DAY));
        (*hidden, *day) = (keys.hidden.min(*hidden), (at / DAY).max(*day));
    }

    pub fn expire(&mut self, now: u64) {
        let oldest = now.saturating_sub(u64::from(self.days.log_days) * DAY);
        while self.chunks.front().is_some_and(|(_, newest)| *newest < oldest) {
            self.chunks.pop_front();
            let next = self.chunks.front().map_or(self.head() + 1, |(first, _)| *first);
            self.log.drain(..(next - self.first) as usize);
            self.first = next;
        }
        if self.open.first < self.first {
            self.begin();
        }
        // A day longer: what is sealed ahead of our clock is young for so much longer.
        let day = now.saturating_sub((u64::from(self.days.seen_days) + 1) * DAY) / DAY;
        self.seen.retain(|_, (_, newest)| *newest >= day);
    }

    /// After a restart the writer begins a new chunk.
    pub fn restart(&mut self) {
        self.begin();
    }
}
