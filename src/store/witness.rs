//! The witness: how much was written, told by another file than sled's.
//!
//! sled 0.34.7 takes a segment that it cannot read for the torn end of its file, and goes on with what was before:
//! a damaged store would open as an older one, and use numbers twice. So every batch has a number, and the file `head`
//! beside sled's folder holds one that was durable. It is written after each batch, which costs a call but no wait: the
//! system carries it to the disk within seconds. Where it matters that it is there (a store that was opened, has
//! expired or is closed) it is synced. It never says more than what is durable, so it is a lower bound only; where it cannot be
//! written, what it said before still holds.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use uuid::Uuid;

/// What the file says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// Of this log,
    pub(super) id: Uuid,
    /// this batch was durable.
    pub(super) batch: u64,
}

/// Reads the witness; `None`: there is none. An error where the file is not what was written.
pub(super) fn read(dir: &Path) -> io::Result<Option<Said>> {
    let file = match File::open(dir.join("head")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    // After `kill -9` the disk may not have it yet, and whoever opens the store now may be cut off as well.
    file.sync_data()?;
    let mut bytes = Vec::new();
    // Bounded: the file may be anything.
    file.take(128).read_to_end(&mut bytes)?;
    parse(&bytes).map(Some).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "the file `head` is damaged, or not ours: without it, older data would go unnoticed",
        )
    })
}

fn parse(bytes: &[u8]) -> Option<Said> {
    let (id, batch) = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?.split_once(' ')?;
    Some(Said { id: id.parse().ok()?, batch: batch.parse().ok()? })
}

/// The file, to write to.
pub(super) struct Witness {
    id: Uuid,
    file: File,
}

impl Witness {
    /// Makes the file say this, durably: wholly or not at all.
    pub(super) fn begin(dir: &Path, said: &Said) -> io::Result<Witness> {
        let fresh = dir.join("head.new");
        let mut file = File::create(&fresh)?;
        file.write_all(text(said.id, said.batch).as_bytes())?;
        file.sync_all()?;
        fs::rename(fresh, dir.join("head"))?;
        File::open(dir)?.sync_all()?;
        Ok(Witness { id: said.id, file })
    }

    /// Says that this batch is durable. Over what is there: it has always the same length, and lies in one sector.
    pub(super) fn note(&self, batch: u64) -> io::Result<()> {
        self.file.write_all_at(text(self.id, batch).as_bytes(), 0)
    }

    /// Makes what was noted last durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

fn text(id: Uuid, batch: u64) -> String {
    format!("{id} {batch:020}\n")
}
