//! What can go wrong, by who must act.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Why a store was not opened. The node does not start; nothing was changed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // The fields are named in the texts.
pub enum OpenError {
    /// Another process has it.
    #[error("the store in {} is in use by process {}: stop that one first", dir.display(), pid_text(*pid))]
    Locked { dir: PathBuf, pid: Option<u32> },
    /// There is a sled, but not one of ours.
    #[error("{} holds a database that is not ours ({reason}): name another folder, or move it away", dir.display())]
    Foreign { dir: PathBuf, reason: String },
    /// Ours, from a later version.
    #[error(
        "the store in {} has version {found}, and this program knows {known} at most: update the program",
        dir.display()
    )]
    Newer { dir: PathBuf, found: u32, known: u32 },
    /// Ours, but not whole.
    #[error(
        "the store in {} is damaged ({reason}): restore it from a backup, or move it away to begin with an empty one",
        dir.display()
    )]
    Damaged { dir: PathBuf, reason: String },
    /// The system refused something.
    #[error("the store in {} cannot be opened: {error}{}", dir.display(), remedy(error))]
    Io { dir: PathBuf, error: io::Error },
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => ": run this as the user that runs the relay, who must own the folder",
        _ => "",
    }
}

fn pid_text(pid: Option<u32>) -> String {
    pid.map_or_else(|| "(its number is not known)".into(), |pid| pid.to_string())
}

/// Why a call to an open store failed.
#[derive(Debug, Clone, thiserror::Error)]
#[allow(missing_docs)] // The fields are named in the texts.
pub enum StoreError {
    /// Nothing was stored. Later: it goes on by itself when there is room.
    #[error(
        "the disk of the store is nearly full: {free} bytes free, {needed} needed; free some, or lower store.log_bytes"
    )]
    Full { free: u64, needed: u64 },
    /// This commit cannot be stored, now or later. Nothing was stored.
    #[error("{bytes} bytes in one value are more than the store keeps ({most})")]
    TooLarge { bytes: usize, most: usize },
    /// Stop the node: what was asked is perhaps stored and perhaps not, and nothing more will be until the store is
    /// opened again.
    #[error("the store is broken ({0}): see to the disk, then restart")]
    Broken(Arc<str>),
    /// [`super::Store::close`] was called.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    pub(super) fn broken(reason: impl Into<Arc<str>>) -> StoreError {
        StoreError::Broken(reason.into())
    }

    pub(super) fn damaged(reason: impl std::fmt::Display) -> StoreError {
        StoreError::broken(format!("damaged: {reason}"))
    }

    pub(super) fn read(error: sled::Error) -> StoreError {
        StoreError::broken(format!("reading failed: {error}"))
    }
}
