//! The witness: how far the log was, told by another file than sled's.
//!
//! sled 0.34.7 takes a segment that it cannot read for the torn end of its file, and goes on with what was before:
//! a damaged store would open as an older one, and use numbers twice. So the file `head` beside it says a number that
//! the log has reached: written when the store opens, expires and closes, never before that number is durable.
//! It is a lower bound only; where it cannot be written, the older one stays and still holds.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use uuid::Uuid;

/// What the file says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Witness {
    /// Of this log,
    pub(super) id: Uuid,
    /// this entry was durable.
    pub(super) head: u64,
}

/// Reads the witness; `None`: there is none. An error where the file is not what was written.
pub(super) fn read(dir: &Path) -> io::Result<Option<Witness>> {
    let text = match fs::read_to_string(dir.join("head")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    let witness = text
        .trim_end()
        .split_once(' ')
        .and_then(|(id, head)| Some(Witness { id: id.parse().ok()?, head: head.parse().ok()? }));
    witness.map(Some).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the file `head` is not ours"))
}

/// Writes the witness: wholly or not at all.
pub(super) fn write(dir: &Path, witness: &Witness) -> io::Result<()> {
    let fresh = dir.join("head.new");
    let mut file = File::create(&fresh)?;
    writeln!(file, "{} {}", witness.id, witness.head)?;
    file.sync_all()?;
    fs::rename(fresh, dir.join("head"))?;
    File::open(dir)?.sync_all()
}
