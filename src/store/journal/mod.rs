//! The journal: what became of the log's entries, reader by reader, and of what was refused. For `why`.
//!
//! Owns its two shelves of chunks, how much they may hold, and what goes when. Notes on entries go with the log's
//! oldest entries; notes by id, which are about what is not in the log, after as many days. Both are bounded in
//! size, the oldest go first, of notes by id those of whoever has most: the journal explains, and nothing may wait for it or depend on it. Where it has
//! forgotten who was given what is withdrawn, the rules of today say who is told.
//!
//! A chunk lies under the log's head at the time when it was begun, and a number: so its notes are about entries up
//! to the next chunk's, and who looks for a later entry begins there.

mod codec;
mod ids;

use std::collections::HashSet;
use std::sync::Arc;

use uuid::Uuid;

pub use self::codec::decode as decode_chunk;

use self::codec::Chunk;
use self::ids::Ids;
use super::log::Compressor;
use super::{StoreError, keys, pieces};
use crate::envelope::Name;
use crate::link::Verdict;
use crate::policy::{Reason, RuleId};

/// Bytes of notes on entries, as stored.
const ENTRIES_BYTES: u64 = 64 << 20;
/// Bytes of notes by id, as stored.
const IDS_BYTES: u64 = 16 << 20;

/// Who reads the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reader {
    /// A peer.
    Peer(Name),
    /// A door into the local IntelMQ.
    Door(Name),
}

impl Reader {
    /// Its name.
    pub fn name(&self) -> &Name {
        match self {
            Reader::Peer(name) | Reader::Door(name) => name,
        }
    }
}

/// What became of an entry for one reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// The peer may have it.
    Granted {
        /// By this rule; `None`: by a word that allows everything.
        by: Option<Arc<RuleId>>,
        /// So many fields are hidden from it.
        hidden: u16,
    },
    /// The peer may not have it.
    Withheld(Reason),
    /// The peer's verdict.
    Told(Verdict),
    /// The peer had shown us the same: nothing was sent.
    Had,
    /// It was there before the peer's first contact, and is not given to it.
    Before,
    /// The door has given it.
    Delivered,
    /// It is not for the door: this part of its `events` says no.
    NotFor(Part),
    /// The local IntelMQ has no form for it.
    Unfit,
    /// It does not fit the local IntelMQ, for this reason, and was put into quarantine.
    Quarantined(Arc<str>),
}

impl Fate {
    /// Whether it is the peer's answer, not our decision.
    pub fn is_answer(&self) -> bool {
        matches!(self, Fate::Told(_) | Fate::Had)
    }
}

/// What keeps an entry from a door: a part of its `events`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// None: it came from the same IntelMQ.
    Own,
    /// `completions`
    Completions,
    /// `types`
    Types,
    /// `origins`
    Origins,
    /// `formats`
    Formats,
    /// `tags`
    Tags,
    /// `withdrawals`: the door tells of none.
    Withdrawals,
    /// It withdraws an event that the door has not given.
    NotGiven,
    /// Its origin has withdrawn it.
    Withdrawn,
    /// It was sealed with a key that is revoked.
    KeyRevoked,
    /// It is encrypted to others.
    ForOthers,
}

/// A note on entries with numbers in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// For whom.
    pub reader: Reader,
    /// The first entry's number,
    pub first: u64,
    /// and how many there are. At least 1.
    pub count: u64,
    /// When, ms since 1970: of the first of them.
    pub at: u64,
    /// What became of them.
    pub fate: Fate,
}

impl Note {
    /// Whether it is about this entry.
    pub fn is_about(&self, seq: u64) -> bool {
        self.first <= seq && seq - self.first < self.count
    }
}

/// A note on what has no number: by its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdNote {
    /// When, ms since 1970.
    pub at: u64,
    /// The peer that brought it, or the door.
    pub reader: Reader,
    /// Who sealed it, by its own word,
    pub origin: Name,
    /// as what.
    pub id: Uuid,
    /// What became of it.
    pub outcome: Outcome,
}

/// See [`IdNote`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Our verdict on what the peer brought or offered, with the rule that decided.
    Refused(Verdict, Option<Arc<RuleId>>),
    /// Taken out of quarantine, and given by the door.
    Delivered,
    /// Taken out of quarantine by an operator, and thrown away.
    Dropped,
}

/// A note longer than this is cut: reasons are for people.
const TEXT: usize = 256;

/// The text, cut to what a note holds.
pub fn short(text: &str) -> Arc<str> {
    let end = (0..=TEXT.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text[..end.unwrap_or(0)].into()
}

/// The writer's ends of both shelves.
pub(super) struct Journal {
    entries: Shelf,
    ids: Ids,
}

impl Journal {
    pub(super) fn open(tree: &sled::Tree) -> Result<Journal, StoreError> {
        let counters = tree.get(keys::JOURNAL).map_err(StoreError::read)?;
        // A store that never had a journal has no counters of one either.
        let [entries, _] = counters.map_or(Some([0; 2]), |bytes| decode(&bytes)).ok_or_else(|| damaged("counters"))?;
        Ok(Journal {
            entries: Shelf::open(tree, keys::NOTES, ENTRIES_BYTES, entries)?,
            ids: Ids::open(tree, IDS_BYTES)?,
        })
    }

    /// Bytes of both, as stored.
    pub(super) fn bytes(&self) -> u64 {
        self.entries.bytes + self.ids.bytes
    }

    pub(super) fn is_changed(&self) -> bool {
        self.entries.changed || self.ids.changed
    }

    /// Adds notes; before that, what is too much goes, the oldest first. `head`: the log's.
    pub(super) fn add(
        &mut self,
        tree: &sled::Tree,
        batch: &mut sled::Batch,
        compressor: &mut Compressor,
        head: u64,
        notes: &[Note],
        by_id: &[IdNote],
    ) -> Result<(), StoreError> {
        if !notes.is_empty() {
            self.entries.trim(tree, batch)?;
        }
        if !by_id.is_empty() {
            self.ids.trim(batch);
        }
        for note in notes {
            self.entries.put(batch, compressor, head, |chunk| chunk.note(note))?;
        }
        for note in by_id {
            self.ids.put(batch, compressor, head, note)?;
        }
        Ok(())
    }

    /// Stores what was added to.
    pub(super) fn finish(&mut self, batch: &mut sled::Batch, compressor: &mut Compressor) -> Result<(), StoreError> {
        if std::mem::take(&mut self.entries.changed) {
            self.entries.store(batch, compressor)?;
        }
        self.ids.finish(batch, compressor)?;
        batch.insert(keys::JOURNAL, encode([self.entries.bytes, self.ids.bytes]));
        Ok(())
    }

    /// Removes at most `most` chunks of notes on entries below `first`, and of notes by id older than `oldest`;
    /// returns how many.
    pub(super) fn expire(
        &mut self,
        tree: &sled::Tree,
        batch: &mut sled::Batch,
        first: u64,
        oldest: u64,
        most: usize,
    ) -> Result<usize, StoreError> {
        let gone = self.entries.remove_while(tree, batch, most, |head, _| head.high < first)?;
        let gone = gone + self.ids.expire(tree, batch, oldest, most - gone)?;
        if gone > 0 {
            batch.insert(keys::JOURNAL, encode([self.entries.bytes, self.ids.bytes]));
        }
        Ok(gone)
    }
}

/// The notes on these entries, oldest first.
pub(super) fn read(tree: &sled::Tree, seqs: &HashSet<u64>) -> Result<Vec<Note>, StoreError> {
    let (Some(&low), Some(&high)) = (seqs.iter().min(), seqs.iter().max()) else { return Ok(Vec::new()) };
    // Notes in chunks before this one are about entries that the log had when this one was begun.
    let before = tree.get_lt(keys::chunk(keys::NOTES, low, 0)).map_err(StoreError::read)?;
    let start = before.map(|(key, _)| key.to_vec()).filter(|key| keys::chunk_place(keys::NOTES, key).is_some());
    let start = start.unwrap_or_else(|| vec![keys::NOTES]);
    let mut notes = Vec::new();
    for chunk in tree.range(start..vec![keys::NOTES + 1]) {
        let (_, bytes) = chunk.map_err(StoreError::read)?;
        let (head, packed) = Head::decode(&bytes)?;
        if head.low <= high && head.high >= low {
            let all = codec::decode(&head.unpack(packed)?).ok_or_else(|| damaged("a chunk"))?.0;
            notes.extend(all.into_iter().filter(|note| seqs.iter().any(|seq| note.is_about(*seq))));
        }
    }
    Ok(notes)
}

/// The notes by this id, oldest first.
pub(super) fn read_id(tree: &sled::Tree, id: Uuid) -> Result<Vec<IdNote>, StoreError> {
    let mut notes = Vec::new();
    for chunk in tree.scan_prefix([keys::ID_NOTES]) {
        let (_, bytes) = chunk.map_err(StoreError::read)?;
        let (head, packed) = Head::decode(&bytes)?;
        let all = codec::decode(&head.unpack(packed)?).ok_or_else(|| damaged("a chunk"))?.1;
        notes.extend(all.into_iter().filter(|note| note.id == id));
    }
    // Each reader has chunks of its own.
    notes.sort_by_key(|note| note.at);
    Ok(notes)
}

fn damaged(what: &str) -> StoreError {
    StoreError::damaged(format!("{what} of the journal"))
}

fn encode(counters: [u64; 2]) -> Vec<u8> {
    counters.map(u64::to_be_bytes).concat()
}

fn decode(bytes: &[u8]) -> Option<[u64; 2]> {
    let ([entries, ids], []) = bytes.as_chunks::<8>() else { return None };
    Some([u64::from_be_bytes(*entries), u64::from_be_bytes(*ids)])
}

/// The chunks of notes on entries, and the one that is being filled. After a restart a new one is begun.
struct Shelf {
    kind: u8,
    /// Bytes that it may hold.
    most: u64,
    bytes: u64,
    /// The next chunk's number.
    next: u64,
    open: Option<Open>,
    changed: bool,
}

#[derive(Default)]
struct Open {
    key: Vec<u8>,
    chunk: Chunk,
    /// Its length, where it is stored already.
    stored: usize,
    changed: bool,
}

impl Open {
    /// As it is stored.
    fn encode(&self, compressor: &mut Compressor) -> Result<Vec<u8>, StoreError> {
        let mut value = Head::of(&self.chunk).encode();
        value.extend_from_slice(&compressor.compress(self.chunk.bytes())?);
        Ok(value)
    }
}

/// Bytes of a chunk before it is compressed, so that every chunk is one piece: then a reader never meets half of
/// one that is being replaced.
const CHUNK: usize = 20 << 10;

impl Shelf {
    fn open(tree: &sled::Tree, kind: u8, most: u64, bytes: u64) -> Result<Shelf, StoreError> {
        let last = tree.get_lt([kind + 1]).map_err(StoreError::read)?;
        let last = last.and_then(|(key, _)| keys::chunk_place(kind, &key));
        Ok(Shelf { kind, most, bytes, next: last.map_or(0, |(_, number)| number + 1), open: None, changed: false })
    }

    fn put(
        &mut self,
        batch: &mut sled::Batch,
        compressor: &mut Compressor,
        head: u64,
        add: impl FnOnce(&mut Chunk),
    ) -> Result<(), StoreError> {
        if self.open.as_ref().is_some_and(|open| open.chunk.bytes().len() + codec::LARGEST > CHUNK) {
            self.store(batch, compressor)?;
            self.open = None;
        }
        let open = self.open.get_or_insert_with(|| {
            let key = keys::chunk(self.kind, head, self.next);
            self.next += 1;
            Open { key, ..Open::default() }
        });
        add(&mut open.chunk);
        self.changed = true;
        Ok(())
    }

    fn store(&mut self, batch: &mut sled::Batch, compressor: &mut Compressor) -> Result<(), StoreError> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let value = open.encode(compressor)?;
        self.bytes = self.bytes + value.len() as u64 - open.stored as u64;
        open.stored = value.len();
        batch.insert(&*open.key, value);
        Ok(())
    }

    fn trim(&mut self, tree: &sled::Tree, batch: &mut sled::Batch) -> Result<(), StoreError> {
        // What this group has changed already is longer in its batch than in the tree: it is looked at the next time.
        if self.changed || self.bytes <= self.most {
            return Ok(());
        }
        let most = self.most;
        self.remove_while(tree, batch, usize::MAX, |_, bytes| bytes > most).map(|_| ())
    }

    /// Removes chunks, the oldest first, while `so` says so of one's head and of how much there is.
    fn remove_while(
        &mut self,
        tree: &sled::Tree,
        batch: &mut sled::Batch,
        most: usize,
        so: impl Fn(&Head, u64) -> bool,
    ) -> Result<usize, StoreError> {
        let mut gone = 0;
        for chunk in tree.scan_prefix([self.kind]) {
            let (key, value) = chunk.map_err(StoreError::read)?;
            if gone >= most || !so(&Head::decode(&value)?.0, self.bytes) {
                break;
            }
            self.open.take_if(|open| key == open.key);
            batch.remove(key);
            self.bytes = self.bytes.saturating_sub(value.len() as u64);
            gone += 1;
        }
        Ok(gone)
    }
}

/// What a stored chunk says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    /// The lowest entry that it has a note on; above `high` where it has none,
    low: u64,
    /// and the highest.
    high: u64,
    /// When its newest note was made.
    newest: u64,
    raw: u32,
}

impl Head {
    const LENGTH: usize = 28;

    fn of(chunk: &Chunk) -> Head {
        Head { low: chunk.low(), high: chunk.high(), newest: chunk.newest(), raw: chunk.bytes().len() as u32 }
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = [self.low, self.high, self.newest].map(u64::to_be_bytes).concat();
        bytes.extend_from_slice(&self.raw.to_be_bytes());
        bytes
    }

    fn decode(chunk: &[u8]) -> Result<(Head, &[u8]), StoreError> {
        let split = || {
            let (head, rest) = chunk.split_at_checked(Head::LENGTH)?;
            let (numbers, raw) = head.as_chunks::<8>();
            let [low, high, newest] = *numbers else { return None };
            let [low, high, newest] = [low, high, newest].map(u64::from_be_bytes);
            Some((Head { low, high, newest, raw: u32::from_be_bytes(raw.try_into().ok()?) }, rest))
        };
        split().ok_or_else(|| damaged("the head of a chunk"))
    }

    fn unpack(&self, packed: &[u8]) -> Result<Vec<u8>, StoreError> {
        // Our own bound, so that a damaged head cannot ask for any amount of memory.
        let size = (self.raw as usize).min(pieces::PIECE);
        zstd::bulk::decompress(packed, size).map_err(|error| damaged(&format!("{error}: a chunk")))
    }
}

#[cfg(test)]
pub(super) mod tests;
