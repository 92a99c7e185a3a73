//! What a peer was given and what it said of it: counters and news, bounded whatever the peer says.

use std::collections::BTreeMap;

use serde::Serialize;

use super::verdict::{Verdict, by_word};

/// Counters of what was given; verdicts by what the peer answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Given {
    /// Envelopes sent, whole or as bodies, and their bytes.
    pub sent: u64,
    #[allow(missing_docs)]
    pub bytes: u64,
    /// Envelopes offered by id,
    pub offered: u64,
    /// and those of them that the peer put off, because it takes no more of us for now.
    pub slowed: u64,
    /// The peer's verdicts.
    #[serde(serialize_with = "by_word")]
    pub verdicts: BTreeMap<Verdict, u64>,
}

/// Different verdicts that are counted, at most: the rules' names are the peer's to choose.
const MAX_VERDICTS: usize = 64;

impl Given {
    /// Adds what was given since.
    pub fn add(&mut self, since: Given) {
        self.sent += since.sent;
        self.bytes += since.bytes;
        self.offered += since.offered;
        self.slowed += since.slowed;
        since.verdicts.into_iter().for_each(|(verdict, count)| self.count(verdict, count));
    }

    pub(super) fn count(&mut self, verdict: Verdict, count: u64) {
        if self.verdicts.len() < MAX_VERDICTS || self.verdicts.contains_key(&verdict) {
            *self.verdicts.entry(verdict).or_default() += count;
        }
    }
}

/// What a peer said about an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The entry's number.
    pub seq: u64,
    /// Its verdict; `None`: it had shown us the same before, and nothing was sent.
    pub verdict: Option<Verdict>,
}
