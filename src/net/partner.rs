//! A peer as its links see it, from one to the next: who it is, what holds for it, and what is counted about it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::watch;

use super::slowed::Slowed;
use crate::accept::Bringer;
use crate::link::{Allowance, From, Given, LinkId, Verdict, by_word};
use crate::policy::{Reason, Terms};
use crate::store::Reader;

/// One peer, and what is counted about it.
pub struct Partner {
    /// Who.
    pub bringer: Bringer,
    /// Whose claims are its. One peer has one link at a time, and a name with the claims that outlives it.
    pub id: LinkId,
    /// What it may have: replaced on reload.
    pub terms: watch::Sender<Arc<Terms>>,
    /// How much it may bring: it outlives the link, or who reconnects would begin anew.
    pub allowance: Arc<Allowance>,
    /// Where to begin, both ways, when there is no cursor.
    pub first_contact: From,
    /// An operator wants it to be given again what was stored at this time (ms since 1970) or later; done when `None`.
    pub resend: watch::Sender<Option<u64>>,
    /// Since the node started.
    pub traffic: Mutex<Traffic>,
}

/// Counters of one peer. `withheld` counts what policy kept back when the log was read for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// What it was given, and its verdicts.
    pub given: Given,
    #[allow(missing_docs)]
    #[serde(serialize_with = "by_word")]
    pub withheld: BTreeMap<Reason, u64>,
    /// Our verdicts on what it showed us.
    #[serde(serialize_with = "by_word")]
    pub taken: BTreeMap<Verdict, u64>,
    /// Links that were made.
    pub links: u64,
    /// Entries that are not yet sent to it.
    pub behind: u64,
    /// The number of the last entry that is sent to it or withheld, on the link that stands.
    #[serde(skip)]
    pub place: u64,
    /// Batches that it has not answered.
    pub unanswered: usize,
    /// Whether something of its log is under way into ours.
    pub taking: bool,
    /// Whether a link stands now.
    pub linked: bool,
    /// Who is in test mode, as of the last link.
    pub test: Test,
    /// Who is slowed on the link that stands.
    pub slowed: Slowed,
}

/// The sides of a link that let tests pass only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Test {
    /// We do.
    pub ours: bool,
    /// The peer does.
    pub theirs: bool,
}

impl Traffic {
    /// How it stands where the log has this head: a link that has not woken since a commit is behind by what is new.
    pub fn at(self, head: u64) -> Traffic {
        let behind = if self.linked { head.saturating_sub(self.place) } else { self.behind };
        Traffic { behind, ..self }
    }
}

impl Partner {
    /// It, as a reader of our log.
    pub fn reader(&self) -> Reader {
        Reader::Peer(self.bringer.name.clone())
    }

    /// The counters.
    pub fn traffic(&self) -> MutexGuard<'_, Traffic> {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
