//! Encrypted events and a sink: opened in memory, for as long as it takes to give them.
//!
//! Owns that a sink sees of an event what its recipient may see. What is opened is never stored.

use std::borrow::Cow;

use super::deliver::Outlet;
use crate::envelope::{Closed, Envelope, Sealed};
use crate::store::{Entry, Part};

/// An entry, as far as this node can read it.
// Nearly all are open: boxing them would cost an allocation each to spare the few that are not.
#[allow(clippy::large_enum_variant)]
pub(super) enum Seen<'e> {
    /// It, opened if need be.
    Open(Cow<'e, Envelope>),
    /// It is not for this sink.
    NotFor(Part),
    /// It is for this node, which cannot read it.
    Closed(Closed),
}

impl Outlet {
    pub(super) fn see<'e>(&self, entry: &'e Entry) -> Seen<'e> {
        // What is our own is not given, whether we could read it or not.
        let opened =
            if entry.from.is_none() { Ok(Cow::Borrowed(&*entry.envelope)) } else { self.open(&entry.envelope) };
        let (opened, closed) = match opened {
            Ok(opened) => (opened, None),
            Err(Closed::ForOthers(_)) => return Seen::NotFor(Part::ForOthers),
            // What it withdraws stands in the clear, and the reason is not needed for that.
            Err(_) if entry.envelope.withdraws().is_some() => {
                (Cow::Owned((*entry.envelope.hide(|_| true)).clone()), None)
            }
            Err(closed) => (Cow::Borrowed(&*entry.envelope), Some(closed)),
        };
        match (self.fit.not_for_it(entry, &opened), closed) {
            // Its tags are not known.
            (Some(part), None) => Seen::NotFor(part),
            (Some(part), Some(_)) if part != Part::Tags => Seen::NotFor(part),
            (_, Some(closed)) => Seen::Closed(closed),
            (None, None) => Seen::Open(opened),
        }
    }

    /// Why the entry is not for this sink; `None`: it is.
    pub(super) fn not_for_it(&self, entry: &Entry) -> Option<Part> {
        if let Seen::NotFor(part) = self.see(entry) { Some(part) } else { None }
    }

    pub(super) fn open<'e>(&self, envelope: &'e Sealed) -> Result<Cow<'e, Envelope>, Closed> {
        if !envelope.header().is_encrypted() {
            return Ok(Cow::Borrowed(envelope));
        }
        self.recipient.open(envelope, &self.gate.rules().bounds)
    }
}
