//! What is done to the store, step by step, and what must be in it after each step.
//!
//! A step is one call: it is there wholly or not at all. What is expected after it is taken from a store that did the same and
//! was never cut off.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{LazyLock, Mutex};

use intelmq_relay::config;
use intelmq_relay::envelope::{self, Message, Sealed, Secret, SeenKeys};
use intelmq_relay::store::{
    Commit, Cursor, Draft, Fate, Held, IdNote, Note, OpenError, Outcome, Quarantined, ReadLimit, Reader, Remember,
    Store, StoreError,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use uuid::Uuid;

use crate::trace::Word;

const DAY: u64 = 24 * 60 * 60 * 1000;
const DAY0: u64 = 20_600 * DAY;

/// Small, so that pages are written out and read again.
pub async fn open(dir: &Path) -> Result<Store, OpenError> {
    Store::open(dir, &config::Store { cache_bytes: 2 << 20, log_days: 2, seen_days: 3, ..config::Store::default() })
        .await
}

/// Two hours a step.
fn time(step: u64) -> u64 {
    DAY0 + step * DAY / 12
}

/// The envelopes of a step: their numbers and sizes.
fn envelopes(step: u64) -> impl Iterator<Item = (u64, usize)> {
    let (count, size) = match step {
        // More than two segments in one batch.
        _ if step % 40 == 19 => (14, 400_000),
        _ if step % 6 == 3 => (1, 350_000),
        _ if step % 5 == 1 => (40, 300),
        _ => (1 + step % 3, 200 + 97 * (step as usize % 19)),
    };
    (0..count).map(move |place| (step * 100 + place, size))
}

fn remembered(step: u64) -> SeenKeys {
    sealed(step * 100 + 99, 10).seen_keys()
}

/// Where it stands.
pub async fn position(store: &Store) -> Result<u64, StoreError> {
    let value = store.cursor(&cursor("step")).await?;
    let step = value.map_or(0, |value| u64::from_be_bytes(value.try_into().unwrap()));
    // A purge moves no cursor, but shows. What expires may have been nothing, and expires again as it did.
    let next = step + 1;
    Ok(if purges(next) && is_purged(store).await? { next } else { step })
}

fn purges(step: u64) -> bool {
    step % 8 == 5
}

/// What is purged while the head is where it is.
fn purged(store: &Store) -> Vec<u64> {
    [2, 9, 10].map(|back| store.head().saturating_sub(back)).to_vec()
}

async fn is_purged(store: &Store) -> Result<bool, StoreError> {
    for seq in purged(store) {
        let entries = store.read(seq.saturating_sub(1), ReadLimit { entries: 1, bytes: 1 }).await?;
        if entries.first().is_none_or(|entry| entry.envelope.hidden() == 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn cursor(name: &str) -> Cursor {
    Cursor::Source(name.parse().unwrap())
}

/// Whether it is a step that expires.
pub fn expires(step: u64) -> bool {
    step.is_multiple_of(8)
}

/// Does one step.
pub async fn step(store: &Store, step: u64) -> Result<(), StoreError> {
    match step {
        _ if expires(step) => store.expire(time(step)).await.map(|_| ()),
        _ if purges(step) => store.purge(purged(store)).await.map(|_| ()),
        _ => store.commit(commit(store, step)).await.map(|_| ()),
    }
}

fn commit(store: &Store, step: u64) -> Commit {
    let at = time(step);
    let peer = Reader::Peer("peer".parse().unwrap());
    let mut commit = Commit::default();
    for (number, size) in envelopes(step) {
        commit.entries.push(Draft { at, from: Some("peer".parse().unwrap()), envelope: sealed(number, size) });
    }
    commit.remember.push(Remember { at, keys: remembered(step) });
    commit.cursors.push((cursor("step"), step.to_be_bytes().to_vec()));
    if step % 9 == 2 {
        commit.cursors.push((cursor("long"), vec![step as u8; 30_000 + step as usize * 100]));
    }
    if step % 4 == 1 {
        let held = Held::Item(vec![step as u8; 20_000 + 31 * step as usize].into());
        commit.quarantine.push(Quarantined { at, door: "door".parse().unwrap(), reason: format!("step {step}"), held });
        commit.release.push((step / 4).saturating_sub(5));
    }
    if store.head() > 0 {
        let fate = Fate::Quarantined(format!("at {step}").into());
        commit.notes.push(Note { reader: peer.clone(), first: store.head(), count: 1, at, fate });
    }
    let id = id_of(step);
    commit.id_notes.push(IdNote { at, reader: peer, origin: "far".parse().unwrap(), id, outcome: Outcome::Dropped });
    commit
}

/// Puts an item of 40 KB into quarantine, and takes the one out that was put in 60 before.
pub async fn replace_one(store: &Store, number: u64) -> Result<(), StoreError> {
    let mut bytes = vec![0; 40_000];
    ChaCha8Rng::seed_from_u64(number).fill_bytes(&mut bytes);
    let (door, reason, held) = ("door".parse().unwrap(), String::new(), Held::Item(bytes.into()));
    let quarantine = vec![Quarantined { at: time(0), door, reason, held }];
    store.commit(Commit { quarantine, release: vec![number.saturating_sub(60)], ..Commit::default() }).await.map(|_| ())
}

fn id_of(step: u64) -> Uuid {
    Uuid::from_u64_pair(7, step)
}

/// All that a store shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Portrait {
    pub step: u64,
    ends: (u64, u64),
    usage: [u64; 4],
    entries: Vec<(u64, u64, bool, u64)>,
    seen: Vec<Option<u16>>,
    long: Option<u64>,
    quarantine: Vec<(u64, u64)>,
    notes: Vec<u64>,
    id_notes: Vec<usize>,
}

impl Portrait {
    /// Looks at everything. `last`: no step beyond this one was ever begun.
    pub async fn of(store: &Store, last: u64) -> Result<Portrait, StoreError> {
        let step = position(store).await?;
        let mut entries = Vec::new();
        let mut after = 0;
        while let Some(seq) = {
            let some = store.read(after, ReadLimit { entries: 100, bytes: 1 << 20 }).await?;
            entries.extend(some.iter().map(|one| (one.seq, one.at, one.completes, hash(one.envelope.bytes()))));
            some.last().map(|one| one.seq)
        } {
            after = seq;
        }
        let mut seen = Vec::new();
        for step in 1..=last {
            seen.extend(envelopes(step).map(|(number, size)| store.seen(&sealed(number, size).seen_keys())));
            seen.push(store.seen(&remembered(step)));
        }
        let long = store.cursor(&cursor("long")).await?.map(|value| hash(&value));
        let quarantine = store.quarantined(0, usize::MAX).await?;
        let quarantine = quarantine.iter().map(|(number, item)| (*number, hash(item.held.bytes()))).collect();
        let notes = store.notes(store.head().saturating_sub(30)..=store.head()).await?;
        let mut id_notes = Vec::new();
        for step in last.saturating_sub(3)..=last {
            id_notes.push(store.id_notes(id_of(step)).await?.len());
        }
        let usage = store.usage();
        Ok(Portrait {
            step,
            ends: (store.first(), store.head()),
            usage: [usage.entries, usage.log_bytes, usage.ids, usage.quarantined],
            entries,
            seen,
            long,
            quarantine,
            notes: notes.iter().map(|note| hash(format!("{note:?}").as_bytes())).collect(),
            id_notes,
        })
    }

    /// Where they differ, in a few words.
    pub fn difference(&self, other: &Portrait) -> String {
        let mut words = Vec::new();
        let mut say = |differs: bool, text: String| words.extend(differs.then_some(text));
        say(self.step != other.step, format!("step {} for {}", self.step, other.step));
        say(self.ends != other.ends, format!("log {:?} for {:?}", self.ends, other.ends));
        say(self.usage != other.usage, format!("usage {:?} for {:?}", self.usage, other.usage));
        let differing = self.entries.iter().zip(&other.entries).filter(|(one, other)| one != other);
        let first = differing.clone().next().map(|(one, _)| one.0);
        say(self.entries != other.entries, format!("{} entries, first {first:?}", differing.count()));
        let seen = self.seen.iter().zip(&other.seen).filter(|(one, other)| one != other).count();
        say(self.seen != other.seen, format!("{seen} ids"));
        say(self.long != other.long, "the long cursor".into());
        say(self.quarantine != other.quarantine, "the quarantine".into());
        say(self.notes != other.notes, "notes".into());
        say(self.id_notes != other.id_notes, format!("notes by id {:?} for {:?}", self.id_notes, other.id_notes));
        words.join(", ")
    }
}

/// What is in the store after each step, by a store in `dir` that is told the same: it opens where that one opened.
/// `last`: as for [`Portrait::of`].
pub async fn expected(dir: &Path, words: &[Word], last: u64) -> BTreeMap<u64, Portrait> {
    let mut portraits = BTreeMap::new();
    let mut store: Option<Store> = None;
    for word in words {
        match word {
            Word::Closed => {}
            Word::Opened(at) => {
                if let Some(store) = store.take() {
                    // What the other one had begun when it ended, and was found.
                    if position(&store).await.unwrap() < *at {
                        step(&store, *at).await.unwrap();
                    }
                    store.close().await;
                }
                let now = open(dir).await.unwrap();
                assert_eq!(position(&now).await.unwrap(), *at);
                portraits.insert(*at, Portrait::of(&now, last).await.unwrap());
                store = Some(now);
            }
            Word::Acknowledged(number) => {
                let store = store.as_ref().unwrap();
                step(store, *number).await.unwrap();
                portraits.insert(*number, Portrait::of(store, last).await.unwrap());
            }
        }
    }
    // The one that was under way at the end.
    let store = store.unwrap();
    let next = portraits.last_key_value().map_or(0, |(step, _)| *step) + 1;
    step(&store, next).await.unwrap();
    portraits.insert(next, Portrait::of(&store, last).await.unwrap());
    store.close().await;
    portraits
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// An envelope around a value of this size that hardly compresses.
fn sealed(number: u64, size: usize) -> Sealed {
    static MADE: LazyLock<Mutex<HashMap<u64, Sealed>>> = LazyLock::new(Mutex::default);
    MADE.lock().unwrap().entry(number).or_insert_with(|| seal(number, size)).clone()
}

fn seal(number: u64, size: usize) -> Sealed {
    let mut rng = ChaCha8Rng::seed_from_u64(number);
    let mut raw = vec![0; size];
    rng.fill_bytes(&mut raw);
    let raw: String = raw.iter().map(|byte| char::from(b'0' + byte % 43)).collect();
    let secret = Secret::from_seed(&[1; 32]);
    let header =
        Message::read(b"{}").unwrap().header(&"cert-at".parse().unwrap(), Uuid::from_u128(number.into()), DAY0);
    let bounds = envelope::Bounds { bytes: usize::MAX, ..envelope::Bounds::default() };
    let fields = vec![("raw".to_owned(), format!("\"{raw}\"")), ("source.port".to_owned(), "1".to_owned())];
    let draft = envelope::Draft::new(header, fields, &bounds).unwrap();
    envelope::seal(&secret, vec![draft], &mut rng).remove(0)
}
