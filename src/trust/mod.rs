//! Trust: whose seals are accepted, and by whose word.
//!
//! Owns the roster (who belongs to a network, signed by its authorities), which of two rosters holds, what keys say of
//! themselves (notices: another one follows, it is void) and which of that counts, and the known origins that come of
//! all this and of the configuration.
//!
//! Pure: no I/O, no clock. It answers by name, key and time, and must never accept anything by less than what the
//! configuration asks for: not by fewer signatures, not by an older roster, not by a roster's own word about who its
//! authorities are.

mod changes;
mod encryption;
mod hear;
mod lines;
mod notice;
mod origins;
mod roster;
mod signed;

pub use changes::{Change, changes};
pub use hear::{Heard, NoticeRefused};
pub use lines::{MAX_NOTICES, MAX_OF_ORIGIN, Notices, Successor};
pub use notice::{BadNotice, MAX_NOTICE, Notice, SignedNotice};
pub use origins::{KeyStanding, Origins};
pub use roster::{MAX_MEMBERS, Member, MemberKey, Roster, VERSION};
pub use signed::{MAX_SIGNED, Signed};

use crate::config;
use crate::envelope::{Key, Name};

#[cfg(test)]
mod notice_tests;
#[cfg(test)]
mod tests;

/// Whose signatures make a roster hold here, and how many of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trusted {
    /// As configured.
    pub authorities: Vec<Key>,
    #[allow(missing_docs)]
    pub threshold: u32,
}

impl From<&config::Roster> for Trusted {
    fn from(roster: &config::Roster) -> Trusted {
        Trusted { authorities: roster.authorities.clone(), threshold: roster.threshold }
    }
}

/// A roster that enough authorities have signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    signed: Signed,
    roster: Roster,
    digest: [u8; 32],
    /// Whose word it was opened by.
    by: Trusted,
}

impl Held {
    /// Verifies and reads.
    pub fn open(signed: Signed, trusted: &Trusted) -> Result<Held, Unfit> {
        let roster = signed.open(trusted)?;
        let digest = signed.digest();
        Ok(Held { signed, roster, digest, by: trusted.clone() })
    }

    /// What it says.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// The SHA-256 of what was signed.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// What was signed, with the signatures.
    pub fn signed(&self) -> &Signed {
        &self.signed
    }

    /// Whether this one takes the place of `before`, which once held here, whoever is trusted now. The same one again
    /// does not, and is no fault.
    pub fn follows(&self, before: &Signed) -> Result<bool, Refused> {
        // What cannot be read any more is no reason to stay without a roster for ever.
        let Ok(ours) = before.unverified() else { return Ok(true) };
        let theirs = &self.roster;
        if ours.network != theirs.network {
            return Err(Refused::Network { ours: ours.network, theirs: theirs.network.clone() });
        }
        if theirs.number < ours.number {
            return Err(Refused::Older { ours: ours.number, theirs: theirs.number });
        }
        if theirs.number > ours.number {
            return Ok(true);
        }
        if before.bytes() != self.signed.bytes() {
            return Err(Refused::Split { number: ours.number, by: self.signed.signers().copied().collect() });
        }
        Ok(false)
    }
}

/// Why something is no roster, or none that is vouched for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Not the CBOR that it is made of.
    #[error("no roster: not its CBOR: {0}")]
    Cbor(String),
    /// Made by a newer program.
    #[error("roster version {0}; this program knows version 1: update it")]
    Version(u64),
    /// What no roster may say.
    #[error("no roster: {0}")]
    Shape(String),
    /// Over a bound.
    #[error("no roster: {is} {what}, at most {most} are allowed")]
    TooBig {
        /// Of what.
        what: &'static str,
        #[allow(missing_docs)]
        is: usize,
        #[allow(missing_docs)]
        most: usize,
    },
    /// Two signatures of one key.
    #[error("{0} has signed the roster twice")]
    Twice(Key),
    /// A signature that does not hold.
    #[error("the signature of {0} is not over this roster: it was changed, or signed as something else")]
    Signature(Key),
    /// Signed by somebody that it does not call an authority.
    #[error("{0} has signed the roster, which does not name it as an authority")]
    Stranger(Key),
    /// Fewer authorities than the configuration asks for.
    #[error("signed by {by} of the {of} authorities in [roster], which asks for {needed}")]
    TooFew {
        #[allow(missing_docs)]
        by: usize,
        #[allow(missing_docs)]
        needed: usize,
        #[allow(missing_docs)]
        of: usize,
    },
}

impl Unfit {
    fn cbor(error: &serde_cbor::Error) -> Unfit {
        // The text can quote the input: bounded, as it may end in a log line.
        Unfit::Cbor(error.to_string().chars().filter(|c| !c.is_control()).take(120).collect())
    }
}

/// Why a roster that is vouched for does not take the place of the one that holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It goes back.
    #[error("it has number {theirs}, and {ours} holds here: a roster never goes back")]
    Older {
        #[allow(missing_docs)]
        ours: u64,
        #[allow(missing_docs)]
        theirs: u64,
    },
    /// Authorities have signed two contents under one number.
    #[error(
        "there are two rosters of number {number}: the authorities ({}) have signed different ones, or somebody has their keys; \
         nothing is changed; ask them, and let them sign one with a higher number",
        by.iter().map(Key::to_string).collect::<Vec<_>>().join(", ")
    )]
    Split {
        #[allow(missing_docs)]
        number: u64,
        /// Who signed the other one.
        by: Vec<Key>,
    },
    /// It is another network's.
    #[error("it is the roster of {theirs}, and this node's is that of {ours}")]
    Network {
        #[allow(missing_docs)]
        ours: Name,
        #[allow(missing_docs)]
        theirs: Name,
    },
}
