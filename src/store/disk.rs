//! The disk: an open sled, and what "durable" means.
//!
//! Owns the one way to write: a batch, sled's flush, and `fdatasync` on the same inode, because the flush alone ends
//! in `sync_file_range`. It must never write after an error: sled 0.34.7 then refuses everything until it is opened
//! anew (its `global_error`), and what of the failed batch reached the file is known only after that. So an error in
//! here is [`StoreError::Broken`], and the usual reason for one, a full disk, is looked for beforehand.

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::{OpenError, StoreError, pieces};

/// An open sled.
pub(super) struct Disk {
    db: sled::Db,
    file: File,
    dir: PathBuf,
}

impl Disk {
    /// Opens or makes a sled in this folder.
    pub(super) fn open(dir: &Path, cache_bytes: u64) -> Result<Disk, OpenError> {
        await_release(dir)?;
        let config = sled::Config::new().path(dir).segment_size(pieces::SEGMENT).cache_capacity(cache_bytes);
        // sled asserts while it recovers; a file that makes it panic is damaged like any other.
        let opened = catch_unwind(AssertUnwindSafe(|| config.open()));
        let damaged = |reason: String| OpenError::Damaged { dir: dir.into(), reason };
        let db = match opened {
            Ok(Ok(db)) => db,
            Ok(Err(sled::Error::Unsupported(reason))) => return Err(OpenError::Foreign { dir: dir.into(), reason }),
            Ok(Err(sled::Error::Io(error))) => return Err(OpenError::Io { dir: dir.into(), error }),
            Ok(Err(error)) => return Err(damaged(error.to_string())),
            Err(_) => return Err(damaged("sled panicked while it read the file".into())),
        };
        let file = File::open(dir.join("db")).map_err(|error| OpenError::Io { dir: dir.into(), error })?;
        Ok(Disk { db, file, dir: dir.into() })
    }

    /// The one tree.
    pub(super) fn tree(&self) -> &sled::Tree {
        &self.db
    }

    /// Writes the batch; on return it is durable. Every error is [`StoreError::Broken`].
    pub(super) fn write(&self, batch: sled::Batch) -> Result<(), StoreError> {
        let written = catch_unwind(AssertUnwindSafe(|| {
            self.db.apply_batch(batch)?;
            self.db.flush()?;
            self.file.sync_data()?;
            Ok::<(), sled::Error>(())
        }));
        match written {
            Ok(Ok(())) => Ok(()),
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
