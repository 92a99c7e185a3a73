//! The lock: one process per store.
//!
//! Owns the file `lock` in the store's folder: held with `flock`, so that it goes with the process however that ends,
//! and naming the process for whoever is refused. It must never remove the file: another process may already wait on
//! the same inode.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

/// Held as long as the value lives.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// Why the lock was not taken.
#[derive(Debug)]
pub(super) enum LockError {
    /// Held by this process id; `None`: the holder has not written it yet.
    Held(Option<u32>),
    /// The file could not be made or locked.
    Io(io::Error),
}

impl Lock {
    /// Takes the lock of this folder without waiting.
    pub(super) fn take(dir: &Path) -> Result<Lock, LockError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.join("lock"))
            .map_err(LockError::Io)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(LockError::Held(holder(&mut file))),
            Err(error) => return Err(LockError::Io(error.into())),
        }
        write_pid(&mut file).map_err(LockError::Io)?;
        Ok(Lock { _file: file })
    }
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(format!("{}\n", std::process::id()).as_bytes())
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    // Bounded: the file may be anything.
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
