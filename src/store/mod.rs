//! The store: the log, the seen set and the cursors, durable in one place.
//!
//! Owns sled (nobody else imports it), the numbering of the log, and what "durable" means: one atomic `sled::Batch`,
//! one flush and one `fdatasync` of the same inode per commit. Only [`crate::accept`] commits; everybody reads.
//! Public methods are `async`, so that another engine could take this place.
//!
//! It must never decide whether an event is good, and never recreate or repair what it does not understand: a
//! damaged, foreign or newer store is refused by name.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use crate::envelope::{Key, Name, Sealed, SeenKeys};

/// An envelope in the log.
#[derive(Debug)]
pub struct Entry {
    /// Its number: from 1, without gaps, never used twice in one log.
    pub seq: u64,
    /// When it was committed, ms since 1970.
    pub at: u64,
    /// The peer it came from; `None`: our own IntelMQ.
    pub from: Option<Name>,
    /// The envelope.
    pub envelope: Sealed,
}

/// What one commit may hold; everything in it becomes durable in one step or not at all.
#[derive(Default)]
pub struct Commit {
    /// Envelopes for the log, in order.
    pub entries: Vec<Draft>,
    /// Ids to remember without an entry: refusals that would be the same whoever brought them.
    pub remember: Vec<Remember>,
    /// Cursors to set.
    pub cursors: Vec<(Cursor, Vec<u8>)>,
    /// What a door took and could not be read as an event: kept, so that nothing is lost.
    pub quarantine: Vec<Quarantined>,
}

/// An envelope that accept wants in the log.
pub struct Draft {
    /// As [`Entry::at`].
    pub at: u64,
    /// As [`Entry::from`].
    pub from: Option<Name>,
    /// The envelope, our own name already at the end of its path.
    pub envelope: Sealed,
}

/// An id to remember. See [`SeenKeys`].
pub struct Remember {
    /// Day bucket of the memory, as [`Entry::at`].
    pub at: u64,
    /// Under which keys.
    pub keys: SeenKeys,
}

/// An item that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// When, ms since 1970.
    pub at: u64,
    /// The door it came by.
    pub door: Name,
    /// Why, for a person.
    pub reason: String,
    /// The item, byte for byte.
    pub item: Bytes,
}

/// What became of a [`Draft`], in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// In the log, under this number.
    New(u64),
    /// A fuller copy of what we had; in the log, under this number.
    Completed(u64),
    /// We had it, as full or fuller: not stored again.
    Duplicate,
}

/// Whose place a cursor marks. Its bytes mean something only to its owner.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Cursor {
    /// How far we have read a peer's log (its resume token).
    Peer(Key),
    /// Where a source stands.
    Source(Name),
    /// Where a sink stands.
    Sink(Name),
}

/// How much [`Store::read`] returns at most.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimit {
    /// Entries.
    pub entries: usize,
    /// Bytes of envelopes (at least one entry is returned).
    pub bytes: usize,
}
