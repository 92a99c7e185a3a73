//! The link: how two nodes exchange, as state machines without a network.
//!
//! Each side of a link gives its log to the other ([`Push`]) and takes the other's ([`Pull`]); both run over one
//! stream, and [`Link`] holds the pair. Frames and times go in, frames and [`Submission`]s come out; whoever drives it
//! (an async task, or a simulation) reads the log, asks policy, commits, and moves the bytes.
//!
//! ```text
//! Push: Pull ─→ read the log ─→ Batch (Whole | Offer) ─→ Want ─→ Bodies ─→ Done: the window opens
//! Pull: Batch ─→ known? claimed? ─→ Want ─→ Bodies ─→ submit ─→ decided ─→ Done: the cursor moves
//! ```
//!
//! Pure: no I/O, no clock, no randomness of its own. Times are milliseconds of any clock that never goes back. It must never hold more than its window, whatever the other side
//! sends; what breaks the rules is a [`Violation`], which ends this link and nothing else.

mod claims;
mod few;
mod frame;
mod given;
mod incoming;
mod outgoing;
mod packing;
mod pull;
mod push;
mod rate;
mod recent;
mod rosters;
mod slow;
mod token;
mod turns;
mod verdict;

pub use claims::{Claimed, Claims, LinkId};
pub use frame::{Answer, Batch, Beat, Bodies, Done, Frame, FrameError, From, Hello, Mode, Offer, Want, decode_length};
pub use given::{Given, Told};
pub use outgoing::Outgoing;
pub use packing::{pack, unpack};
pub use pull::{Known, Pull, Standing, Submission};
pub use push::Push;
pub use rate::Allowance;
pub use rosters::{Have, Rosters, Say};
pub use token::TokenKey;
pub use verdict::{Verdict, by_word};

use rand::CryptoRng;
use uuid::Uuid;

/// How a link behaves. Times are milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of envelopes in unanswered batches, at most.
    pub window: usize,
    /// Bytes of one frame, at most, in both directions.
    pub frame: usize,
    /// Bytes of one envelope that the other side accepts.
    pub envelope: usize,
    /// How long a batch may go unanswered.
    pub answer: u64,
    /// How long an id that is wanted here is not wanted elsewhere.
    pub claim: u64,
    /// How long after its arrival an event that we pass on is offered: its origin may be about to send it itself.
    pub hold: u64,
    /// How often a quiet side says where its log ends.
    pub beat: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            window: 8 << 20,
            frame: 4 << 20,
            envelope: 1 << 20,
            answer: 30_000,
            claim: 5_000,
            hold: 50,
            beat: 10_000,
        }
    }
}

/// Entries of one batch, at most.
pub const MAX_ENTRIES: usize = 512;
/// Batches that may be open in one direction.
pub const MAX_BATCHES: usize = 512;

/// Bytes of a token of the other side's, at most; ours have 64. One is kept for each open batch.
const MAX_TOKEN: usize = 1024;

/// The other side broke the rules, or stopped answering: the link ends, and begins anew from the cursor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A frame that does not belong here.
    #[error("the peer sent {0}")]
    Unexpected(&'static str),
    /// Silence where an answer is due.
    #[error("the peer left {0} unanswered for too long")]
    Unanswered(&'static str),
}

/// Both directions of one link.
pub struct Link {
    /// Our log to them.
    pub push: Push,
    /// Their log to us.
    pub pull: Pull,
    /// Which roster each has.
    pub rosters: Rosters,
    /// Frames to be sent, in order.
    pub out: Vec<Frame>,
}

impl Link {
    /// A link over a fresh stream, both hellos exchanged. `log` is ours; `resume` is where we stand in theirs.
    pub fn new(id: LinkId, settings: Settings, token_key: TokenKey, log: Uuid, resume: From, now: u64) -> Link {
        Link {
            push: Push::new(settings, token_key, log, now),
            pull: Pull::new(id, settings),
            rosters: Rosters::default(),
            out: vec![Frame::Pull(resume)],
        }
    }

    /// A frame came. `position` tells after which number a peer begins that has no token of ours; it is asked for
    /// `Pull` only. Whatever is to be committed is returned.
    pub fn handle<K: Known>(
        &mut self,
        frame: Frame,
        position: impl FnOnce(From) -> u64,
        known: &K,
        claims: &Claims,
        now: u64,
    ) -> Result<Option<Submission>, Violation> {
        match frame {
            Frame::Hello(_) | Frame::HelloAck(_) | Frame::Refuse(_) => {
                return Err(Violation::Unexpected("a hello after the first"));
            }
            Frame::Pull(from) => self.push.pull(from, position, now)?,
            Frame::Want(want) => self.push.want(want, now, &mut self.out)?,
            Frame::Done(done) => self.push.done(&done, now)?,
            Frame::Batch(batch) => {
                for (key, hidden) in batch.keys(known) {
                    self.push.note_theirs(key, hidden);
                }
                return self.pull.batch(batch, known, claims, now, &mut self.out);
            }
            Frame::Bodies(bodies) => return self.pull.bodies(bodies, claims, now, &mut self.out),
            Frame::Beat(beat) => self.pull.beat(beat, now)?,
            Frame::Have(have) => self.rosters.hear(have),
            // Whoever drives the link knows whether it may hold.
            Frame::Roster(_) | Frame::Notices(_) => {}
        }
        Ok(None)
    }

    /// Time passed, or something was decided on another link.
    pub fn tick<K: Known>(
        &mut self,
        known: &K,
        claims: &Claims,
        rng: &mut impl CryptoRng,
        now: u64,
    ) -> Result<Option<Submission>, Violation> {
        self.push.tick(rng, now, &mut self.out)?;
        self.pull.tick(known, claims, now, &mut self.out)
    }

    /// When [`Link::tick`] is due next.
    pub fn deadline(&self) -> u64 {
        self.push.deadline().min(self.pull.deadline())
    }
}

#[cfg(test)]
mod tests;
