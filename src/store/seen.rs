//! The seen set: which ids we had, and how full our best copy is.
//!
//! Owns the exact index in memory that everybody asks, and the form of the chunks of ids on disk that it is rebuilt
//! from: append-only, by day, so that forgetting a day is a range delete. It must never hold an id that is not
//! durable: the writer inserts after the disk has it.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::envelope::{SeenKey, SeenKeys};

/// Ids of one chunk. 256 are 4 KiB: small enough to be written again while it fills, large enough that keys and
/// tree cost less than a byte per id.
pub(super) const CHUNK: usize = 256;

const DAY: u64 = 24 * 60 * 60 * 1000;

/// Days since 1970 of a time in ms, up to the year 2149.
pub(super) fn day(at: u64) -> u16 {
    u16::try_from(at / DAY).unwrap_or(u16::MAX)
}

/// What is known about an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// Fields hidden in the best copy.
    pub(super) hidden: u16,
    /// Day of the newest copy.
    pub(super) day: u16,
}

/// A power of two. Each grows alone, so a growing map stops nobody for long and never takes its memory twice.
const SHARDS: usize = 256;

type Shard = HashMap<Id, Mark, Seed>;

/// The exact index. 21 bytes per slot, 35 per id at 10 million.
pub(super) struct Index {
    shards: Box<[RwLock<Shard>]>,
    seed: Seed,
}

impl Index {
    pub(super) fn new() -> Index {
        let seed = Seed::random();
        Index { shards: (0..SHARDS).map(|_| RwLock::new(HashMap::with_hasher(seed))).collect(), seed }
    }

    /// The fewest hidden fields known under either key.
    pub(super) fn known(&self, keys: &SeenKeys) -> Option<u16> {
        let hidden = |key: SeenKey| read(self.shard(key)).get(&Id(key.0)).map(|mark| mark.hidden);
        let known = hidden(keys.insert);
        let also = keys.also.and_then(hidden);
        // `None` is below every `Some`, so a plain `min` would forget what is known.
        known.into_iter().chain(also).min()
    }

    /// Remembers a key: the fuller copy and the newer day win.
    pub(super) fn insert(&self, key: SeenKey, mark: Mark) {
        write(self.shard(key))
            .entry(Id(key.0))
            .and_modify(|known| {
                known.hidden = known.hidden.min(mark.hidden);
                known.day = known.day.max(mark.day);
            })
            .or_insert(mark);
    }

    /// Forgets every id whose newest day is below this one; returns how many.
    pub(super) fn forget_below(&self, day: u16) -> usize {
        let mut forgotten = 0;
        for shard in &self.shards {
            let mut shard = write(shard);
            let before = shard.len();
            shard.retain(|_, mark| mark.day >= day);
            forgotten += before - shard.len();
            // What a burst took is given back, unless it would be needed again at once.
            let length = shard.len();
            if shard.capacity() > 4 * length {
                shard.shrink_to(2 * length);
            }
        }
        forgotten
    }

    /// How many ids are known.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| read(shard).len()).sum()
    }

    fn shard(&self, key: SeenKey) -> &RwLock<Shard> {
        // The map takes the lowest bits for the slot and the highest seven for its tag.
        &self.shards[(self.seed.hash_one(Id(key.0)) >> 40) as usize % SHARDS]
    }
}

// A panic while a shard was locked leaves the map itself whole: nothing in here can panic halfway.
fn read(shard: &RwLock<Shard>) -> RwLockReadGuard<'_, Shard> {
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(shard: &RwLock<Shard>) -> RwLockWriteGuard<'_, Shard> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}

/// A key without alignment, hashed as one number.
#[derive(PartialEq, Eq)]
struct Id([u8; 16]);

impl Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(u128::from_le_bytes(self.0));
    }
}

/// Keys are hashes already, but whoever makes events can choose among them. So both halves are mixed with what this
/// process alone knows, by a multiplication whose high and low half are folded: without the seed nobody can arrange
/// that keys fall into the same slots.
#[derive(Clone, Copy)]
struct Seed(u64, u64);

impl Seed {
    fn random() -> Seed {
        let random = RandomState::new();
        Seed(random.hash_one(0u8), random.hash_one(1u8))
    }
}

impl BuildHasher for Seed {
    type Hasher = Fold;

    fn build_hasher(&self) -> Fold {
        Fold { seed: *self, hash: 0 }
    }
}

struct Fold {
    seed: Seed,
    hash: u64,
}

impl Hasher for Fold {
    fn write_u128(&mut self, key: u128) {
        let low = key as u64 ^ self.seed.0;
        let high = (key >> 64) as u64 ^ self.seed.1;
        let product = u128::from(low) * u128::from(high);
        self.hash = product as u64 ^ (product >> 64) as u64;
    }

    /// Not used by [`Id`]; here because the trait wants it.
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u128(u128::from(self.hash) << 64 | u128::from(*byte));
        }
    }

    fn finish(&self) -> u64 {
        self.hash
    }
}

/// A chunk that the writer still adds to: ids with the number of hidden fields.
#[derive(Debug, Default)]
pub(super) struct Ids(pub(super) Vec<(SeenKey, u16)>);

impl Ids {
    /// Number of full copies, their keys, then the others with their hidden fields: nearly all are full.
    pub(super) fn encode(&self) -> Vec<u8> {
        let (full, partial): (Vec<_>, Vec<_>) = self.0.iter().partition(|(_, hidden)| *hidden == 0);
        let mut bytes = Vec::with_capacity(2 + 18 * self.0.len());
        bytes.extend_from_slice(&(full.len() as u16).to_be_bytes());
        for (key, _) in full {
            bytes.extend_from_slice(&key.0);
        }
        for (key, hidden) in partial {
            bytes.extend_from_slice(&key.0);
            bytes.extend_from_slice(&hidden.to_be_bytes());
        }
        bytes
    }

    /// What [`Ids::encode`] made; `None`: something else made it.
    pub(super) fn decode(bytes: &[u8]) -> Option<Ids> {
        let (full, bytes) = bytes.split_first_chunk::<2>()?;
        let (full, partial) = bytes.split_at_checked(16 * usize::from(u16::from_be_bytes(*full)))?;
        let (full, _) = full.as_chunks::<16>();
        let (partial, rest) = partial.as_chunks::<18>();
        if !rest.is_empty() {
            return None;
        }
        let mut ids = Vec::with_capacity(full.len() + partial.len());
        ids.extend(full.iter().map(|key| (SeenKey(*key), 0)));
        for bytes in partial {
            let (key, hidden) = bytes.split_first_chunk::<16>()?;
            ids.push((SeenKey(*key), u16::from_be_bytes(hidden.try_into().ok()?)));
        }
        Some(Ids(ids))
    }
}
