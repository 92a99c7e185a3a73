//! The disk: an open sled, and what "durable" means.
//!
//! Owns the one way to write: a batch, sled's flush, and `fdatasync` on the same inode, because the flush alone ends
//! in `sync_file_range`; before it, what the batch speaks of on the [`super::shelf`], and after it what it does not speak of any
//! more; then the batch's number for [`super::witness`]. It must never write after an error: sled 0.34.7
//! then refuses everything until it is opened anew (its `global_error`), and what of the failed batch reached the file is
//! known only after that. So an error in here is [`StoreError::Broken`], and the usual reason for one, a full disk, is
//! looked for beforehand.
//!
//! It must never let sled write behind our back: its thread that cleans segments up would write new ones, say in their
//! heads that those before are stable, and reuse old ones, all before anything is synced. Without it, sled cleans up while it
//! writes a batch, and what a head calls stable is of earlier batches, which are. `tests/crash` has what a power cut leaves.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use uuid::Uuid;

use super::shelf::{Place, Shelf, Stock};
use super::sum::{Batch, Sum};
use super::witness::{Said, Witness};
use super::{OpenError, StoreError, keys, pieces};

/// An open sled.
pub(super) struct Disk {
    db: sled::Db,
    file: File,
    dir: PathBuf,
    shelf: Shelf,
    /// Places that are zero, which sled says are to be.
    wiped: Mutex<Vec<Place>>,
    /// The number of the last batch,
    batch: AtomicU64,
    /// and the sum after it.
    sum: AtomicU64,
    witness: OnceLock<Witness>,
}

impl Disk {
    /// Opens or makes a sled in this folder; the shelf goes with it.
    pub(super) fn open(dir: &Path, shelf: Shelf, cache_bytes: u64) -> Result<Disk, OpenError> {
        let io = |error| OpenError::Io { dir: dir.into(), error };
        await_release(dir)?;
        settle(dir).map_err(io)?;
        let config = sled::Config::new().path(dir).segment_size(pieces::SEGMENT).cache_capacity(cache_bytes);
        let config = config.flush_every_ms(None);
        // sled asserts while it recovers; a file that makes it panic is damaged like any other.
        let opened = catch_unwind(AssertUnwindSafe(|| config.open()));
        let damaged = |reason: String| OpenError::Damaged { dir: dir.into(), reason };
        let db = match opened {
            Ok(Ok(db)) => db,
            Ok(Err(sled::Error::Unsupported(reason))) => return Err(OpenError::Foreign { dir: dir.into(), reason }),
            Ok(Err(sled::Error::Io(error))) => return Err(io(error)),
            Ok(Err(error)) => return Err(damaged(error.to_string())),
            Err(_) => return Err(damaged("sled panicked while it read the file".into())),
        };
        let file = File::open(dir.join("db")).map_err(io)?;
        // It has just written where everything is, under a new name, and emptied what is no longer needed.
        file.sync_all().and_then(|()| File::open(dir)?.sync_all()).map_err(io)?;
        let batch = db.get(keys::BATCH).map_err(|error| damaged(error.to_string()))?;
        let numbers = batch.map_or(Some((0, Sum::default())), |bytes| decode(&bytes));
        let (batch, sum) = numbers.ok_or_else(|| damaged("the number of the last batch has not 16 bytes".into()))?;
        let (batch, sum) = (batch.into(), sum.0.into());
        let wiped = Mutex::default();
        Ok(Disk { db, file, dir: dir.into(), shelf, wiped, batch, sum, witness: OnceLock::new() })
    }

    /// The number of the last batch; 0: there was none.
    pub(super) fn batch(&self) -> u64 {
        self.batch.load(Ordering::Relaxed)
    }

    /// The sum of what it covers, as it was written.
    pub(super) fn sum(&self) -> Sum {
        Sum(self.sum.load(Ordering::Relaxed))
    }

    /// From now on tells the witness in this folder, for the log of this id, and has told it what is there now.
    pub(super) fn testify(&self, dir: &Path, id: Uuid) -> io::Result<()> {
        let said = Said { id, batch: self.batch() };
        match self.witness.get() {
            Some(witness) => witness.sync(),
            // Nobody else is here yet: the store is being opened.
            None => self.witness.set(Witness::begin(dir, &said)?).map_err(|_| io::ErrorKind::AlreadyExists.into()),
        }
    }

    /// The one tree.
    pub(super) fn tree(&self) -> &sled::Tree {
        &self.db
    }

    /// The log's files.
    pub(super) fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// What is to be zero on the shelf, and may not be yet.
    pub(super) fn void(&self) -> Result<Vec<Place>, StoreError> {
        let place = |key: Result<sled::IVec, sled::Error>| {
            let place = keys::void_place(&key.map_err(StoreError::read)?).and_then(Place::decode);
            place.ok_or_else(|| StoreError::damaged("what is to be zero lies nowhere"))
        };
        self.db.scan_prefix([keys::VOID]).keys().map(place).collect()
    }

    /// Brings the shelf to what sled says of it. For when everything else is found to be good: it takes away.
    pub(super) fn settle_shelf(&self, used: &[Place], void: Vec<Place>) -> io::Result<Stock> {
        // Before what is nobody's goes: it is among that.
        self.shelf.wipe(&void)?;
        *self.wiped.lock().unwrap_or_else(PoisonError::into_inner) = void;
        self.shelf.settle(used)
    }

    /// Writes the batch; on return it is durable. Every error is [`StoreError::Broken`].
    pub(super) fn write(&self, mut batch: Batch) -> Result<(), StoreError> {
        let failed = |error: io::Error| StoreError::broken(format!("writing failed: {error}"));
        let shelf = std::mem::take(&mut batch.shelf);
        self.shelf.append(&shelf).map_err(failed)?;
        let mut wiped = self.wiped.lock().unwrap_or_else(PoisonError::into_inner);
        for place in wiped.drain(..) {
            batch.remove(keys::void(&place.encode()));
        }
        for place in &shelf.void {
            batch.insert(keys::void(&place.encode()), &[]);
        }
        self.write_sled(batch)?;
        self.shelf.wipe(&shelf.void).map_err(failed)?;
        self.shelf.remove(&shelf);
        *wiped = shelf.void;
        Ok(())
    }

    fn write_sled(&self, mut batch: Batch) -> Result<(), StoreError> {
        let number = self.batch() + 1;
        let written = catch_unwind(AssertUnwindSafe(|| {
            let sum = self.sum().after(&self.db, &batch)?;
            batch.insert(keys::BATCH, [number, sum.0].map(u64::to_be_bytes).concat());
            self.db.apply_batch(batch.writes)?;
            self.db.flush()?;
            self.file.sync_data()?;
            Ok::<Sum, sled::Error>(sum)
        }));
        match written {
            Ok(Ok(sum)) => {
                self.batch.store(number, Ordering::Relaxed);
                self.sum.store(sum.0, Ordering::Relaxed);
                // What it said before still holds.
                let _ = self.witness.get().map(|witness| witness.note(number));
                Ok(())
            }
            Ok(Err(error)) => Err(StoreError::broken(format!("writing failed: {error}"))),
            Err(_) => Err(StoreError::broken("writing failed: sled panicked")),
        }
    }

    /// Bytes that are free for us.
    pub(super) fn free(&self) -> Result<u64, StoreError> {
        let stat = rustix::fs::statvfs(&self.dir)
            .map_err(|error| StoreError::broken(format!("statvfs of {} failed: {error}", self.dir.display())))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

fn decode(bytes: &[u8]) -> Option<(u64, Sum)> {
    let ([number, sum], []) = bytes.as_chunks::<8>() else { return None };
    Some((u64::from_be_bytes(*number), Sum(u64::from_be_bytes(*sum))))
}

/// Makes what is there now durable before sled goes on from it, and finishes what sled left unfinished.
///
/// After `kill -9` the system has what the disk may not have yet, and sled would note where it lies as if it had. This note
/// is `snap.…`, made as `snap.….generating`: a half one sled would take for the newest, and refuse it. A whole one
/// that has not got its name yet is the newest, and segments may be gone that an older one needs.
fn settle(dir: &Path) -> io::Result<()> {
    let names = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        names => names?,
    };
    for name in names {
        let path = name?.path();
        if path.is_file() {
            File::open(&path)?.sync_all()?;
        }
        if path.extension().is_some_and(|extension| extension == "generating") {
            if is_whole(&fs::read(&path)?) {
                fs::rename(&path, path.with_extension(""))?
            } else {
                fs::remove_file(&path)?
            }
        }
    }
    File::open(dir)?.sync_all()
}

/// Whether these are all bytes of a `snap.…`: 8 of a length and 4 of a checksum are the last.
fn is_whole(bytes: &[u8]) -> bool {
    let Some((rest, sum)) = bytes.split_last_chunk::<4>() else { return false };
    let bytes = rest.len().checked_sub(8).map(|length| &rest[..length]);
    bytes.is_some_and(|bytes| crc32fast::hash(bytes) == u32::from_le_bytes(*sum))
}

/// How long threads of a sled that was closed may take to end.
const RELEASE: Duration = Duration::from_secs(10);

/// Waits for sled's own lock. [`super::lock`] is ours already, so it is held by what is left of a sled that this
/// process has closed a moment ago: its threads may outlive it. A blocking `flock` would wait for a stranger for ever.
pub(super) fn await_release(dir: &Path) -> Result<(), OpenError> {
    let io = |error| OpenError::Io { dir: dir.into(), error };
    let file = match File::open(dir.join("db")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file.map_err(io)?,
    };
    let deadline = Instant::now() + RELEASE;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            // Given back with the file.
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
            Err(Errno::WOULDBLOCK) => return Err(OpenError::Locked { dir: dir.into(), pid: None }),
            Err(error) => return Err(io(error.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_snapshot_gets_its_name_and_half_a_one_goes() {
        let dir = tempfile::tempdir().unwrap();
        let whole = [&b"where it lies"[..], &[0; 8], &crc32fast::hash(b"where it lies").to_le_bytes()].concat();
        fs::write(dir.path().join("snap.2.generating"), &whole).unwrap();
        fs::write(dir.path().join("snap.3.generating"), &whole[..20]).unwrap();
        settle(dir.path()).unwrap();
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["snap.2"]);
        assert_eq!(fs::read(dir.path().join("snap.2")).unwrap(), whole);
    }
}
