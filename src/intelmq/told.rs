//! Withdrawn events and a sink: what was not given never is, and of what was given it may be told.

use std::collections::HashSet;
use std::sync::Arc;

use super::deliver::Outlet;
use crate::envelope::Envelope;
use crate::store::{Entry, Fate, Outcome, Part, Reader, StoreError};

impl Outlet {
    /// Which of these entries, which come after number `at`, withdraw an event that this sink has given.
    pub(super) async fn told_of(&self, entries: &[Arc<Entry>], at: u64) -> Result<HashSet<u64>, StoreError> {
        let of = |entry: &Entry| {
            let id = entry.envelope.withdraws().filter(|_| self.not_for_it(entry).is_none())?;
            Some((entry.envelope.header().key, id))
        };
        let through = entries.last().map_or(0, |entry| entry.seq);
        self.gate.locate(entries.iter().filter_map(|entry| of(entry)), through).await?;
        let mut told = HashSet::new();
        for entry in entries {
            let Some(event) = of(entry) else { continue };
            let mut copies = self.gate.copies(event).await?;
            // The sink has not come to the others.
            copies.retain(|copy| copy.seq <= at);
            if self.has_given(&copies).await? {
                told.insert(entry.seq);
            }
        }
        Ok(told)
    }

    /// Whether one of these copies was given, as far as is known: what is not noted may have been.
    async fn has_given(&self, copies: &[Arc<Entry>]) -> Result<bool, StoreError> {
        let reader = Reader::Door(self.door.clone());
        let notes = self.gate.notes_on(copies, &reader).await?;
        for copy in copies {
            let last = notes.iter().rev().find(|note| note.is_about(copy.seq)).map(|note| &note.fate);
            let given = match last {
                Some(Fate::Quarantined(_)) => {
                    let header = copy.envelope.header();
                    let by_id = self.gate.store().id_notes(header.id).await?;
                    by_id.iter().any(|note| {
                        note.reader == reader && note.origin == header.origin && note.outcome == Outcome::Delivered
                    })
                }
                Some(Fate::NotFor(_) | Fate::Unfit) => false,
                _ => self.not_for_it(copy).is_none(),
            };
            if given {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Why an entry that would be for this sink is not given.
    pub(super) fn no_longer(&self, entry: &Entry, told: &HashSet<u64>) -> Option<Part> {
        if self.gate.is_void(entry.envelope.header()) {
            Some(Part::KeyRevoked)
        } else if entry.envelope.withdraws().is_some() {
            (!told.contains(&entry.seq)).then_some(Part::NotGiven)
        } else {
            self.is_withdrawn(&entry.envelope).then_some(Part::Withdrawn)
        }
    }

    /// Why an event is given no more, for a person.
    pub(super) fn is_recalled(&self, envelope: &Envelope) -> Option<&'static str> {
        if self.gate.is_void(envelope.header()) {
            Some("it was sealed with a key that is revoked (key-revoked): drop it")
        } else {
            self.is_withdrawn(envelope).then_some("its origin has withdrawn it: drop it")
        }
    }

    fn is_withdrawn(&self, envelope: &Envelope) -> bool {
        let header = envelope.header();
        self.gate.store().is_withdrawn(&header.key, header.id)
    }
}
