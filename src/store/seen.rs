//! The seen set: which ids we had, and how full our best copy is.
//!
//! Owns the exact index in memory that everybody asks, and the form of the chunks of ids on disk that it is rebuilt
//! from: append-only, by day, so that forgetting a day is a range delete. It must never hold an id that is not
//! durable: the writer inserts after the disk has it.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::envelope::{SeenKey, SeenKeys};

/// Ids of one chunk. 64 are less than a KiB: small enough to be written again with each commit while it fills, large
/// enough that keys and tree cost less than a byte per id.
pub(super) const CHUNK: usize = 64;

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

/// The index. 17 bytes per slot, 28 per id at 10 million.
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
        let hidden = |key: SeenKey| {
            let id = Id::of(key);
            read(self.shard(id)).get(&id).map(|mark| mark.hidden)
        };
        let known = hidden(keys.insert);
        let also = keys.also.and_then(hidden);
        // `None` is below every `Some`, so a plain `min` would forget what is known.
        known.into_iter().chain(also).min()
    }

    /// Remembers an id: the fuller copy and the newer day win.
    pub(super) fn insert(&self, id: Id, mark: Mark) {
        remember(&mut write(self.shard(id)), id, mark);
    }

    /// Forgets every id whose newest day is below this one; returns how many.
    pub(super) fn forget_below(&self, day: u16) -> usize {
        let mut forgotten = 0;
        for shard in &self.shards {
            let mut shard = write(shard);
            let before = shard.len();
            shard.retain(|_, mark| mark.day >= day);
            forgotten += before - shard.len();
            shrink(&mut shard);
        }
        forgotten
    }

    /// How many ids are known.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| read(shard).len()).sum()
    }

    fn shard(&self, id: Id) -> &RwLock<Shard> {
        &self.shards[self.seed.shard(id)]
    }
}

fn remember(shard: &mut Shard, id: Id, mark: Mark) {
    let remember = |known: &mut Mark| {
        known.hidden = known.hidden.min(mark.hidden);
        known.day = known.day.max(mark.day);
    };
    shard.entry(id).and_modify(remember).or_insert(mark);
}

/// An index that is being filled. A shard's ids are put into it many at a time, while its memory is in the
/// processor's cache: at 10 million ids that halves the time.
pub(super) struct Filling {
    index: Index,
    waiting: Vec<Vec<(Id, Mark)>>,
}

impl Filling {
    /// `count`: how many ids there will be, about. An error of that costs time or, for a while, memory.
    pub(super) fn new(count: usize) -> Filling {
        let index = Index::new();
        for shard in &index.shards {
            write(shard).reserve(count / SHARDS);
        }
        Filling { index, waiting: (0..SHARDS).map(|_| Vec::with_capacity(WAITING)).collect() }
    }

    pub(super) fn insert(&mut self, id: Id, mark: Mark) {
        let place = self.index.seed.shard(id);
        let waiting = &mut self.waiting[place];
        waiting.push((id, mark));
        if waiting.len() == WAITING {
            let mut shard = write(&self.index.shards[place]);
            waiting.drain(..).for_each(|(id, mark)| remember(&mut shard, id, mark));
        }
    }

    pub(super) fn finish(self) -> Index {
        for (shard, waiting) in self.index.shards.iter().zip(self.waiting) {
            let mut shard = write(shard);
            waiting.into_iter().for_each(|(id, mark)| remember(&mut shard, id, mark));
            shrink(&mut shard);
        }
        self.index
    }
}

/// Ids that wait for their shard; 4 MiB in all.
const WAITING: usize = 1024;

/// What a burst took is given back, unless it would soon be needed again.
fn shrink(shard: &mut Shard) {
    let length = shard.len();
    if shard.capacity() > 4 * length {
        shard.shrink_to(2 * length);
    }
}

// A panic while a shard was locked leaves the map itself whole: nothing in here can panic halfway.
fn read(shard: &RwLock<Shard>) -> RwLockReadGuard<'_, Shard> {
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(shard: &RwLock<Shard>) -> RwLockWriteGuard<'_, Shard> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}

/// What is kept of a key: 96 bits of a hash. Two of 10 million ids share them with a probability of 2^-50, and who
/// wants an event dropped must find one with the same bits, of 2^96. Without alignment, so that a slot has no gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id([u8; ID]);

const ID: usize = 12;

impl Id {
    pub(super) fn of(key: SeenKey) -> Id {
        let [id @ .., _, _, _, _] = key.0;
        Id(id)
    }
}

impl Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut bytes = [0; 16];
        bytes[..ID].copy_from_slice(&self.0);
        state.write_u128(u128::from_le_bytes(bytes));
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

    fn shard(&self, id: Id) -> usize {
        // The map takes the lowest bits for the slot and the highest seven for its tag.
        (self.hash_one(id) >> 40) as usize % SHARDS
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
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ids(pub(super) Vec<(Id, u16)>);

impl Ids {
    /// Number of full copies, their ids, then the others with their hidden fields: nearly all are full.
    pub(super) fn encode(&self) -> Vec<u8> {
        let (full, partial): (Vec<_>, Vec<_>) = self.0.iter().partition(|(_, hidden)| *hidden == 0);
        let mut bytes = Vec::with_capacity(2 + PARTIAL * self.0.len());
        bytes.extend_from_slice(&(full.len() as u16).to_be_bytes());
        for (id, _) in full {
            bytes.extend_from_slice(&id.0);
        }
        for (id, hidden) in partial {
            bytes.extend_from_slice(&id.0);
            bytes.extend_from_slice(&hidden.to_be_bytes());
        }
        bytes
    }

    /// What [`Ids::encode`] made, in its order; `None`: something else made it.
    pub(super) fn decode(bytes: &[u8]) -> Option<Ids> {
        let (full, bytes) = bytes.split_first_chunk::<2>()?;
        let (full, partial) = bytes.split_at_checked(ID * usize::from(u16::from_be_bytes(*full)))?;
        let (full, _) = full.as_chunks::<ID>();
        let (partial, rest) = partial.as_chunks::<PARTIAL>();
        if !rest.is_empty() {
            return None;
        }
        let mut ids = Vec::with_capacity(full.len() + partial.len());
        ids.extend(full.iter().map(|id| (Id(*id), 0)));
        for bytes in partial {
            let (id, hidden) = bytes.split_first_chunk::<ID>()?;
            ids.push((Id(*id), u16::from_be_bytes(hidden.try_into().ok()?)));
        }
        Some(Ids(ids))
    }
}

const PARTIAL: usize = ID + 2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(number: u64) -> Id {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&number.to_le_bytes());
        Id::of(SeenKey(key))
    }

    proptest! {
        #[test]
        fn a_chunk_is_read_as_it_was_written(mut ids in proptest::collection::vec((any::<u64>(), 0u16..3), 0..600)) {
            let written = Ids(ids.iter().map(|(number, hidden)| (id(*number), *hidden)).collect());
            ids.sort_by_key(|(_, hidden)| *hidden > 0);
            let expected = Ids(ids.iter().map(|(number, hidden)| (id(*number), *hidden)).collect());
            prop_assert_eq!(Ids::decode(&written.encode()), Some(expected));
        }

        #[test]
        fn any_bytes_are_a_chunk_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Some(ids) = Ids::decode(&bytes) {
                prop_assert_eq!(ids.0.len(), (bytes.len() - 2) / ID);
            }
        }
    }

    #[test]
    fn filling_and_inserting_give_the_same_index() {
        let (mut filling, index) = (Filling::new(10), Index::new());
        for number in 0..400_000 {
            let mark = Mark { hidden: (number % 3) as u16, day: (number % 7) as u16 };
            filling.insert(id(number % 300_000), mark);
            index.insert(id(number % 300_000), mark);
        }
        let filled = filling.finish();
        assert_eq!((filled.len(), index.len()), (300_000, 300_000));
        for number in 0..300_000 {
            let mark = |index: &Index| *read(index.shard(id(number))).get(&id(number)).unwrap();
            assert_eq!(mark(&filled), mark(&index));
        }
        assert_eq!(filled.forget_below(5), index.forget_below(5));
        assert_eq!(filled.len(), index.len());
    }

    #[test]
    fn keys_that_agree_in_their_ends_fall_into_different_slots() {
        // Without the multiplication these would share all the bits that a map looks at. One of the seeds: with one in some
        // thousands there are a few hundred fewer.
        let seed = Seed(0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03);
        let slots: std::collections::HashSet<u64> =
            (0..4096u64).map(|number| seed.hash_one(id(number << 40)) % (1 << 20)).collect();
        assert!(slots.len() > 4000, "{}", slots.len());
    }
}
