//! The disk: an open sled, and what "durable" means.
//!
//! Owns the one way to write: a batch, sled's flush, and `fdatasync` on the same inode, because the flush alone ends
//! in `sync_file_range`; then the batch's number for [`super::witness`]. It must never write after an error: sled 0.34.7
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
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use uuid::Uuid;

use super::sum::{Batch, Sum};
use super::witness::{Said, Witness};
use super::{OpenError, StoreError, keys, pieces};

/// An open sled.
pub(super) struct Disk {
    db: sled::Db,
    file: File,
    dir: PathBuf,
    /// The number of the last batch,
    batch: AtomicU64,
    /// and the sum after it.
    sum: AtomicU64,
    witness: OnceLock<Witness>,
}

impl Disk {
    /// Opens or makes a sled in this folder.
    pub(super) fn open(dir: &Path, cache_bytes: u64) -> Result<Disk, OpenError> {
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
        Ok(Disk { db, file, dir: dir.into(), batch, sum, witness: OnceLock::new() })
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

    /// Writes the batch; on return it is durable. Every error is [`StoreError::Broken`].
    pub(super) fn write(&self, mut batch: Batch) -> Result<(), StoreError> {
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
fn await_release(dir: &Path) -> Result<(), OpenError> {
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
