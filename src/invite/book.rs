//! The book of a host: whom it has invited, and what became of it. Times are arguments.
//!
//! A secret works once: what is written here, and durable, before a guest becomes a peer, is who that guest is. From
//! then on the secret is worth nothing to any other key. What is over stays for a while, so that who comes too late is
//! told why.

use serde::{Deserialize, Serialize};

use super::message::Refusal;
use crate::envelope::{Key, Name};

/// Invitations that are open at once,
pub const OPEN: usize = 64;
/// and those that are over and kept.
pub const CLOSED: usize = 64;
/// How long these are kept, ms.
pub const KEPT: u64 = 7 * 24 * 3600 * 1000;

/// All of them, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    records: Vec<Record>,
}

/// An invitation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Whom it is for.
    pub name: Name,
    /// The guest's identity until it is a peer: all that is kept of the secret.
    pub ticket: Key,
    /// When it ends, ms since 1970.
    pub expires: u64,
    /// Whether the peer will be given what a community has; else nothing.
    pub community: bool,
    /// What became of it.
    pub state: State,
}

/// What became of an invitation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing yet; past its time, it has expired.
    Open,
    /// The operator took it back, at this time.
    Cancelled(u64),
    /// A node has joined.
    Used {
        /// Which.
        key: Key,
        /// When.
        at: u64,
        /// The words to compare.
        words: String,
        /// Whether it was made a peer. Until then it may come again for it; afterwards the peer list says what it is.
        done: bool,
    },
}

impl Record {
    /// Whether somebody can join with it.
    pub fn is_open(&self, now: u64) -> bool {
        self.state == State::Open && now < self.expires
    }

    /// When it was over; none: it is not.
    fn closed(&self, now: u64) -> Option<u64> {
        match self.state {
            State::Open => (self.expires <= now).then_some(self.expires),
            State::Cancelled(at) | State::Used { at, .. } => Some(at),
        }
    }
}

impl Book {
    /// All that it holds, oldest first.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The invitation of this identity.
    pub fn find(&self, ticket: &Key) -> Option<&Record> {
        self.records.iter().find(|record| record.ticket == *ticket)
    }

    /// One more; an open one for the same name is withdrawn, and whether there was one is said. `None`: too many.
    pub fn open(&mut self, record: Record, now: u64) -> Option<bool> {
        self.prune(now);
        let instead = self.cancel(&record.name, now);
        if self.records.iter().filter(|record| record.is_open(now)).count() >= OPEN {
            return None;
        }
        self.records.push(record);
        Some(instead)
    }

    /// Withdraws the open invitation for this name; whether there was one.
    pub fn cancel(&mut self, name: &Name, now: u64) -> bool {
        let open = self.records.iter_mut().find(|record| record.name == *name && record.is_open(now));
        open.map(|record| record.state = State::Cancelled(now)).is_some()
    }

    /// Whether the node of this name and key may join by this invitation, or has.
    pub fn admits(&self, ticket: &Key, name: &Name, key: &Key, now: u64) -> Result<&Record, Refusal> {
        // Without a record it was forgotten just now.
        let record = self.find(ticket).ok_or(Refusal::Expired)?;
        match &record.state {
            State::Cancelled(_) => Err(Refusal::Cancelled),
            State::Used { key: by, .. } if by != key => Err(Refusal::Used),
            State::Open if record.expires <= now => Err(Refusal::Expired),
            State::Open | State::Used { .. } if record.name != *name => Err(Refusal::OtherName),
            State::Open | State::Used { .. } => Ok(record),
        }
    }

    /// What [`Book::admits`] admits is used, by this key and by no other from now on.
    pub fn take(&mut self, ticket: &Key, key: Key, words: String, done: bool, now: u64) {
        if let Some(record) = self.records.iter_mut().find(|record| record.ticket == *ticket) {
            let at = if let State::Used { at, .. } = record.state { at } else { now };
            record.state = State::Used { key, at, words, done };
        }
    }

    /// Forgets what was over long ago, or is too much; whether there was anything.
    pub fn prune(&mut self, now: u64) -> bool {
        let before = self.records.len();
        self.records.retain(|record| record.closed(now).is_none_or(|at| now < at.saturating_add(KEPT)));
        let closed = self.records.iter().filter(|record| record.closed(now).is_some()).count();
        for _ in CLOSED..closed {
            let oldest = self.records.iter().enumerate().filter_map(|(i, record)| Some((record.closed(now)?, i))).min();
            if let Some((_, oldest)) = oldest {
                self.records.remove(oldest);
            }
        }
        self.records.len() != before
    }
}
