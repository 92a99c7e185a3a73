//! Whether a link is slowed, and by whom: for the counters, and in words when it begins and ends.

use serde::Serialize;
use tracing::info;

use crate::envelope::Name;

/// Which side of a link slows the other, or lately did, because it is brought more than it has allowed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Slowed {
    /// We do: the peer is over its rate.
    pub ours: bool,
    /// The peer does: we are.
    pub theirs: bool,
    /// Events of the peer's that wait for it here.
    pub waiting: usize,
}

impl Slowed {
    /// Says when it begins and when it ends; in between it shows in the counters.
    pub(super) fn say(&self, before: &Slowed, peer: &Name) {
        match (before.ours, self.ours) {
            (false, true) => info!(%peer, "the peer brings more than its [peer.rate] allows: it is slowed"),
            (true, false) => info!(%peer, "the peer keeps to its [peer.rate] again"),
            _ => {}
        }
        match (before.theirs, self.theirs) {
            (false, true) => info!(%peer, "the peer takes no more than its limit for us: we are slowed"),
            (true, false) => info!(%peer, "the peer does not slow us any more"),
            _ => {}
        }
    }
}
