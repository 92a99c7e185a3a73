//! What a link notes in the journal: where a peer begins, what it was given, what it said.

use super::drive::{Session, now};
use crate::link::Told;
use crate::store::{Fate, IdNote, Note, Outcome};

impl Session<'_> {
    /// Notes where the peer begins: what is before that it was given, or it is none of its business.
    pub(super) fn note_beginning(&self, first_contact: bool) {
        let (gate, reader, place) = (&self.exchange.gate, self.partner.reader(), self.link.push.place());
        gate.note_place(&reader, place);
        let first = gate.store().first();
        if first_contact {
            gate.note_run(Note {
                reader,
                first,
                count: (place + 1).saturating_sub(first),
                at: now(),
                fate: Fate::Before,
            });
        }
    }

    /// Notes what the peer said, and what of its offers was refused.
    pub(super) fn note_answers(&mut self) {
        let told = self.link.push.take_told();
        if !told.is_empty() {
            self.note(told.into_iter().map(|Told { seq, verdict }| (seq, verdict.map_or(Fate::Had, Fate::Told))));
        }
        for (origin, id, verdict) in self.link.pull.take_refused() {
            let (reader, outcome) = (self.partner.reader(), Outcome::Refused(verdict, None));
            self.exchange.gate.note_id(IdNote { at: now(), reader, origin, id, outcome });
        }
    }

    pub(super) fn note(&self, notes: impl IntoIterator<Item = (u64, Fate)>) {
        self.exchange.gate.note(&self.partner.reader(), notes, now());
    }
}
