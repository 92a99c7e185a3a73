//! The sum: whether everything that is read when a store opens is as it was written.
//!
//! Where sled 0.34.7 cannot read a piece of its file that was written since it was last opened, it passes over the rest of
//! that segment, and shows pages as they were before, or without some changes, and says nothing. The log notices, since
//! its numbers have no gaps. For the cursors, the ids and the quarantine there is this: the sum of a code of each of their keys
//! and values, written with every batch, and added up again when the store opens. In no order, so that a batch changes
//! it by what it changes.

use std::collections::HashMap;

use super::{StoreError, keys, shelf};

/// See the module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum(pub(super) u64);

impl Sum {
    /// Whether this key counts.
    fn covers(key: &[u8]) -> bool {
        key.first().is_some_and(|kind| keys::SUMMED.contains(kind))
    }

    /// Adds what is there.
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) {
        self.0 = self.0.wrapping_add(code(key, value));
    }

    /// Adds everything of this kind.
    pub(super) fn add_all(&mut self, tree: &sled::Tree, kind: u8) -> Result<(), StoreError> {
        for entry in tree.scan_prefix([kind]) {
            let (key, value) = entry.map_err(StoreError::read)?;
            self.add(&key, &value);
        }
        Ok(())
    }

    /// The sum after this batch. The tree: as it is before.
    pub(super) fn after(mut self, tree: &sled::Tree, batch: &Batch) -> Result<Sum, sled::Error> {
        for (key, code_after) in &batch.summed {
            let before = tree.get(key)?.map_or(0, |value| code(key, &value));
            self.0 = self.0.wrapping_sub(before).wrapping_add(*code_after);
        }
        Ok(self)
    }
}

/// 64 bits of a key and its value. Another value under the same key has the same with a probability of 2^-32: it is there
/// against chance, not against people, who could write the sum as well.
fn code(key: &[u8], value: &[u8]) -> u64 {
    let bits = u64::from(crc32fast::hash(key)) << 32 | u64::from(crc32fast::hash(value));
    (bits ^ bits >> 32).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// What one write changes, in one step.
#[derive(Default)]
pub(super) struct Batch {
    /// All of it. What is put in here directly does not count for the sum.
    pub(super) writes: sled::Batch,
    /// Of what counts, the code afterwards; 0: it is gone.
    summed: HashMap<sled::IVec, u64>,
    /// What changes beside sled.
    pub(super) shelf: shelf::Changes,
}

impl Batch {
    pub(super) fn insert(&mut self, key: impl Into<sled::IVec>, value: impl Into<sled::IVec>) {
        let (key, value) = (key.into(), value.into());
        if Sum::covers(&key) {
            self.summed.insert(key.clone(), code(&key, &value));
        }
        self.writes.insert(key, value);
    }

    pub(super) fn remove(&mut self, key: impl Into<sled::IVec>) {
        let key = key.into();
        if Sum::covers(&key) {
            self.summed.insert(key.clone(), 0);
        }
        self.writes.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_that_was_kept_is_the_sum_of_what_is_there() {
        let tree = sled::Config::new().temporary(true).open().unwrap();
        let mut kept = Sum::default();
        let counted = || {
            let mut sum = Sum::default();
            keys::SUMMED.iter().for_each(|kind| sum.add_all(&tree, *kind).unwrap());
            sum
        };
        for round in 0..50u8 {
            let mut batch = Batch::default();
            for place in 0..4 {
                let key = vec![keys::SUMMED[usize::from(round + place) % keys::SUMMED.len()], round % (3 + place)];
                if (round + place) % 5 == 0 { batch.remove(key) } else { batch.insert(key, vec![round, place]) }
            }
            batch.insert(vec![b'l', round], vec![round]);
            kept = kept.after(&tree, &batch).unwrap();
            tree.apply_batch(batch.writes).unwrap();
            assert_eq!(kept, counted());
        }
        let key = tree.scan_prefix([keys::SUMMED[0]]).next().unwrap().unwrap().0;
        tree.insert(key, b"another").unwrap();
        assert_ne!(kept, counted());
    }
}
