//! What the writer and everybody who reads have in common.
//!
//! Owns what is known in memory: it only ever shows what is durable.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use tokio::sync::watch;
use uuid::Uuid;

use super::disk::Disk;
use super::plan::Ends;
use super::quarantine;
use super::recent::Recent;
use super::seen::{Id, Index, Mark};
use super::{Entry, ReadLimit, StoreError, log};
use crate::config;

/// Bytes of the disk that commits leave free: enough for expiry to do its work, and for everybody else on it.
pub(super) const RESERVE: u64 = 64 << 20;

/// The counters, written with every batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    /// The number of the next entry.
    pub(super) next: u64,
    /// The number of the first entry that is kept; `next` where there is none. Always the first of a chunk.
    pub(super) first: u64,
    /// Bytes of the chunks of the log, as stored.
    pub(super) log_bytes: u64,
    /// The number of the next chunk of ids.
    pub(super) next_seen: u64,
    /// The number of the next item in quarantine.
    pub(super) next_quarantine: u64,
}

impl State {
    /// Of an empty store.
    pub(super) const EMPTY: State = State { next: 1, first: 1, log_bytes: 0, next_seen: 0, next_quarantine: 1 };

    pub(super) fn encode(&self) -> Vec<u8> {
        let numbers = [self.next, self.first, self.log_bytes, self.next_seen, self.next_quarantine];
        numbers.map(u64::to_be_bytes).concat()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<State> {
        let (numbers, []) = bytes.as_chunks::<8>() else { return None };
        let [next, first, log_bytes, next_seen, next_quarantine] = *numbers else { return None };
        let state = State {
            next: u64::from_be_bytes(next),
            first: u64::from_be_bytes(first),
            log_bytes: u64::from_be_bytes(log_bytes),
            next_seen: u64::from_be_bytes(next_seen),
            next_quarantine: u64::from_be_bytes(next_quarantine),
        };
        (1 <= state.first && state.first <= state.next && 1 <= state.next_quarantine).then_some(state)
    }
}

pub(super) struct Shared {
    dir: PathBuf,
    pub(super) id: Uuid,
    pub(super) config: config::Store,
    pub(super) index: Index,
    pub(super) head: watch::Sender<u64>,
    /// Counts withdrawals.
    pub(super) withdrawals: watch::Sender<u64>,
    /// `None` once closed.
    disk: RwLock<Option<Disk>>,
    recent: RwLock<Recent>,
    cache: log::Cache,
    first: AtomicU64,
    log_bytes: AtomicU64,
    quarantined: AtomicU64,
    journal_bytes: AtomicU64,
    /// What tests say is free on the disk; everything: look.
    #[cfg(test)]
    free: AtomicU64,
    broken: OnceLock<StoreError>,
}

impl Shared {
    pub(super) fn new(dir: &Path, id: Uuid, config: config::Store, disk: Disk, ends: &Ends, index: Index) -> Shared {
        Shared {
            dir: dir.into(),
            id,
            config,
            index,
            head: watch::Sender::new(ends.state.next - 1),
            withdrawals: watch::Sender::new(0),
            disk: RwLock::new(Some(disk)),
            recent: RwLock::default(),
            cache: log::Cache::default(),
            first: AtomicU64::new(ends.state.first),
            log_bytes: AtomicU64::new(ends.state.log_bytes),
            quarantined: AtomicU64::new(ends.ward.items),
            journal_bytes: AtomicU64::new(ends.journal.bytes()),
            #[cfg(test)]
            free: AtomicU64::new(u64::MAX),
            broken: OnceLock::new(),
        }
    }

    pub(super) fn head(&self) -> u64 {
        *self.head.borrow()
    }

    pub(super) fn first(&self) -> u64 {
        self.first.load(Ordering::Acquire)
    }

    pub(super) fn log_bytes(&self) -> u64 {
        self.log_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn quarantined(&self) -> u64 {
        self.quarantined.load(Ordering::Relaxed)
    }

    pub(super) fn journal_bytes(&self) -> u64 {
        self.journal_bytes.load(Ordering::Relaxed)
    }

    /// Whether `needed` bytes can be written to the disk and the reserve stays free after that.
    pub(super) fn room(&self, disk: &Disk, needed: u64) -> Result<(), StoreError> {
        let free = disk.free()?;
        #[cfg(test)]
        let free = free.min(self.free.load(Ordering::Relaxed));
        let needed = needed.saturating_add(RESERVE);
        if free < needed { Err(StoreError::Full { free, needed }) } else { Ok(()) }
    }

    #[cfg(test)]
    pub(super) fn set_free(&self, bytes: u64) {
        self.free.store(bytes, Ordering::Relaxed);
    }

    /// Holds the writer up before its next write, as a slow disk does, until it is dropped.
    #[cfg(test)]
    pub(super) fn hold_up(&self) -> std::sync::RwLockWriteGuard<'_, Option<Disk>> {
        self.disk.write().unwrap()
    }

    /// Fails once anything has failed.
    pub(super) fn usable(&self) -> Result<(), StoreError> {
        self.broken.get().cloned().map_or(Ok(()), Err)
    }

    /// Lets no later commit through if this one failed.
    pub(super) fn stop_on_error<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &result {
            // The first reason stays.
            let _ = self.broken.set(error.clone());
        }
        result
    }

    /// Does something with the disk, which stays open meanwhile.
    pub(super) fn with_disk<T>(&self, act: impl FnOnce(&Disk) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let disk = self.disk.read().unwrap_or_else(PoisonError::into_inner);
        act(disk.as_ref().ok_or(StoreError::Closed)?)
    }

    /// Makes what the witness was told durable.
    pub(super) fn testify(&self, disk: &Disk) {
        // What it said before still holds.
        let _ = disk.testify(&self.dir, self.id);
    }

    /// Closes the disk, when nobody reads it any more.
    pub(super) fn close(&self) {
        let disk = self.disk.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(disk) = &disk {
            self.testify(disk);
        }
    }

    /// Shows what has become durable. The head moves behind what it counts: who sees it move can read up to it.
    pub(super) fn publish(&self, ids: Vec<(Id, Mark)>, entries: Vec<Arc<Entry>>, ends: &Ends) {
        let Ends { state, ward, journal, .. } = ends;
        for (id, mark) in ids {
            self.index.insert(id, mark);
        }
        self.log_bytes.store(state.log_bytes, Ordering::Relaxed);
        self.quarantined.store(ward.items, Ordering::Relaxed);
        self.journal_bytes.store(journal.bytes(), Ordering::Relaxed);
        if entries.is_empty() {
            return;
        }
        let withdraws = entries.iter().any(|entry| entry.envelope.withdraws().is_some());
        let mut recent = self.recent.write().unwrap_or_else(PoisonError::into_inner);
        for entry in entries {
            recent.push(entry);
        }
        drop(recent);
        self.head.send_replace(state.next - 1);
        if withdraws {
            // After the head: whoever is woken by it reads the log up to there, and is not woken again.
            self.withdrawals.send_modify(|count| *count += 1);
        }
    }

    /// As [`Shared::with_disk`], while nobody else reads it.
    pub(super) fn with_disk_alone<T>(&self, act: impl FnOnce(&Disk) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let disk = self.disk.write().unwrap_or_else(PoisonError::into_inner);
        act(disk.as_ref().ok_or(StoreError::Closed)?)
    }

    /// Shows entries as they are now, and nowhere as they were.
    pub(super) fn rewrite(&self, entries: &[Arc<Entry>], ends: &Ends) {
        self.log_bytes.store(ends.state.log_bytes, Ordering::Relaxed);
        self.cache.forget(entries.iter().map(|entry| entry.seq));
        let mut recent = self.recent.write().unwrap_or_else(PoisonError::into_inner);
        entries.iter().for_each(|entry| recent.replace(entry));
    }

    /// Hides what expires.
    pub(super) fn forget_below(&self, ends: &Ends) {
        let Ends { state, journal, .. } = ends;
        self.first.store(state.first, Ordering::Release);
        self.log_bytes.store(state.log_bytes, Ordering::Relaxed);
        self.journal_bytes.store(journal.bytes(), Ordering::Relaxed);
        self.recent.write().unwrap_or_else(PoisonError::into_inner).forget_below(state.first);
    }

    /// The entries after this number, if they are in memory.
    pub(super) fn read_recent(&self, after: u64, limit: ReadLimit) -> Option<Vec<Arc<Entry>>> {
        self.recent.read().unwrap_or_else(PoisonError::into_inner).read(after, limit)
    }

    /// The entries after this number that are no longer in memory. Blocks.
    pub(super) fn read_disk(&self, after: u64, limit: ReadLimit) -> Result<Vec<Arc<Entry>>, StoreError> {
        // Taken before: what is in memory now is not read from disk, where its chunk may still change.
        let head = self.head();
        let end = self.recent.read().unwrap_or_else(PoisonError::into_inner).first().unwrap_or(head + 1);
        self.with_disk(|disk| log::read(disk, &self.cache, after, end, limit, || self.first()))
    }

    /// Items in quarantine. Blocks.
    pub(super) fn read_quarantine(
        &self,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, super::Quarantined)>, StoreError> {
        self.with_disk(|disk| quarantine::read(disk.tree(), after, limit))
    }
}
