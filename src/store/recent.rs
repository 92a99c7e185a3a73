//! The recent entries: what live readers read, without touching the disk.
//!
//! Owns a bounded run of the newest entries, without gaps up to the head. It always holds the whole chunk that the
//! writer still adds to: so readers of the disk meet only chunks that never change again.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Entry, ReadLimit};

/// Bytes of envelopes kept. Far above a chunk, and some thousand usual events.
pub(super) const KEPT: usize = 16 << 20;

/// What an entry takes beside its envelope's bytes, roughly: the header is decoded.
const OVERHEAD: usize = 1024;

/// The newest entries.
#[derive(Debug, Default)]
pub(super) struct Recent {
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
}

impl Recent {
    /// Adds the next entry; the oldest go.
    pub(super) fn push(&mut self, entry: Arc<Entry>) {
        self.bytes += cost(&entry);
        self.entries.push_back(entry);
        while self.bytes > KEPT && self.entries.len() > 1 {
            self.pop();
        }
    }

    /// Puts an entry in the place of the one with its number, if that is in here.
    pub(super) fn replace(&mut self, entry: &Arc<Entry>) {
        let place = self.first().and_then(|first| usize::try_from(entry.seq.checked_sub(first)?).ok());
        if let Some(old) = place.and_then(|place| self.entries.get_mut(place)) {
            self.bytes = (self.bytes + cost(entry)).saturating_sub(cost(old));
            *old = entry.clone();
        }
    }

    /// Lets go of the entries below this number.
    pub(super) fn forget_below(&mut self, seq: u64) {
        while self.first().is_some_and(|first| first < seq) {
            self.pop();
        }
    }

    /// The number of the oldest entry in here.
    pub(super) fn first(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.seq)
    }

    /// The entries after this number, if the one right after it is in here.
    pub(super) fn read(&self, after: u64, limit: ReadLimit) -> Option<Vec<Arc<Entry>>> {
        let first = self.first()?;
        let skip = usize::try_from((after + 1).checked_sub(first)?).ok()?;
        let mut taken = Taken::new(limit);
        let mut entries = Vec::new();
        for entry in self.entries.range(skip.min(self.entries.len())..) {
            if !taken.admits(entry) {
                break;
            }
            entries.push(entry.clone());
        }
        Some(entries)
    }

    fn pop(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= cost(&entry);
        }
    }
}

/// Counts what was read against a limit. The first entry is always admitted.
pub(super) struct Taken {
    limit: ReadLimit,
    entries: usize,
    bytes: usize,
}

impl Taken {
    pub(super) fn new(limit: ReadLimit) -> Taken {
        Taken { limit, entries: 0, bytes: 0 }
    }

    pub(super) fn admits(&mut self, entry: &Entry) -> bool {
        let bytes = entry.envelope.bytes().len();
        if self.entries > 0 && (self.entries >= self.limit.entries || self.bytes + bytes > self.limit.bytes) {
            return false;
        }
        self.entries += 1;
        self.bytes += bytes;
        true
    }
}

/// What an entry takes in memory.
pub(super) fn cost(entry: &Entry) -> usize {
    entry.envelope.bytes().len() + OVERHEAD
}
