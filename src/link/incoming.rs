//! A batch of the peer's that is not decided: how each of its slots stands, and when one is due.

use super::frame::Offer;
use super::verdict::Verdict;
use crate::envelope::{SeenKey, SeenKeys};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Slot {
    /// Asked for, since when.
    Wanted(Offer, Option<SeenKey>, u64),
    /// Another link asked for it; when to look again.
    Later(Offer, SeenKeys, u64),
    /// Not asked for: the peer is over its rate. Nothing is claimed.
    Slowed(Offer, SeenKeys),
    /// Handed over to be decided.
    Submitted(Option<SeenKey>),
    Decided(Verdict),
}

pub(super) struct Incoming {
    pub(super) slots: Vec<Slot>,
    pub(super) token: Vec<u8>,
    /// When the peer was last told that we are at work.
    pub(super) told: u64,
    /// When a slot is due next, and whether one is `Later`, or `Slowed`: so that nobody looks through all slots of all
    /// batches for each frame.
    pub(super) due: u64,
    pub(super) later: bool,
    pub(super) slowed: bool,
}

impl Incoming {
    pub(super) fn new(slots: Vec<Slot>, token: Vec<u8>, now: u64, answer: u64) -> Incoming {
        let mut incoming = Incoming { slots, token, told: now, due: 0, later: false, slowed: false };
        incoming.look(answer);
        incoming
    }

    /// Slots have changed.
    pub(super) fn look(&mut self, answer: u64) {
        let due = self.slots.iter().filter_map(|slot| match slot {
            Slot::Wanted(_, _, since) => Some(since + answer),
            Slot::Later(_, _, until) => Some(*until),
            Slot::Slowed(..) | Slot::Submitted(_) | Slot::Decided(_) => None,
        });
        self.due = due.min().unwrap_or(u64::MAX);
        self.later = self.slots.iter().any(|slot| matches!(slot, Slot::Later(..)));
        self.slowed = self.slots.iter().any(|slot| matches!(slot, Slot::Slowed(..)));
    }

    pub(super) fn is_submitted(&self) -> bool {
        self.slots.iter().all(|slot| matches!(slot, Slot::Submitted(_) | Slot::Decided(_)))
    }

    pub(super) fn verdicts(&self) -> Option<Vec<Verdict>> {
        let verdict = |slot: &Slot| if let Slot::Decided(verdict) = slot { Some(verdict.clone()) } else { None };
        self.slots.iter().map(verdict).collect()
    }
}
