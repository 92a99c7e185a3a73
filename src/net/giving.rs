//! What becomes of entries of the log for one peer: policy, asked with all that it must know.
//!
//! Owns what policy cannot look up: that an event is withdrawn, and which event a withdrawal is about. It must never keep
//! a decision: it is asked at the moment of sending.

use std::collections::HashMap;
use std::sync::Arc;

use super::drive::{Exchange, now};
use super::partner::Partner;
use crate::envelope::{Sealed, SeenKeys};
use crate::link::{Outgoing, Verdict};
use crate::policy::{Copy, Decision, Grant, Reason, Terms};
use crate::store::{Entry, Fate, Note, StoreError};

/// Decides about entries for a peer.
pub(super) struct Giving<'a> {
    exchange: &'a Exchange,
    partner: &'a Partner,
    terms: Arc<Terms>,
    /// Largest envelope that the peer accepts.
    most: usize,
    /// It has said that it is in test mode.
    tests_only: bool,
    /// The link's time, and that of day: one step's entries are decided at one moment.
    at: (u64, u64),
    /// Of the withdrawals among the entries, by number.
    withdrawals: HashMap<u64, Decision>,
}

impl<'a> Giving<'a> {
    /// Looks up what is needed to decide about these entries. Where there is no withdrawal among them, nothing is.
    pub(super) fn prepare(
        exchange: &'a Exchange,
        partner: &'a Partner,
        most: usize,
        tests_only: bool,
        entries: &[Arc<Entry>],
    ) -> impl Future<Output = Result<Giving<'a>, StoreError>> + use<'a> {
        let about: Vec<Arc<Entry>> =
            entries.iter().filter(|entry| entry.envelope.withdraws().is_some()).cloned().collect();
        async move {
            let terms = partner.terms.borrow().clone();
            let at = (exchange.clock(), now());
            let mut giving = Giving { exchange, partner, terms, most, tests_only, at, withdrawals: HashMap::new() };
            if !about.is_empty() {
                giving.look_up(&about).await?;
            }
            Ok(giving)
        }
    }

    async fn look_up(&mut self, withdrawals: &[Arc<Entry>]) -> Result<(), StoreError> {
        let gate = &self.exchange.gate;
        let event = |entry: &Entry| entry.envelope.withdraws().map(|id| (entry.envelope.header().key, id));
        let through = withdrawals.last().map_or(0, |entry| entry.seq);
        gate.locate(withdrawals.iter().filter_map(|entry| event(entry)), through).await?;
        for entry in withdrawals {
            let Some(event) = event(entry) else { continue };
            let copies = gate.copies(event).await?;
            let decision = self.decide_withdrawal(entry, &copies).await?;
            self.withdrawals.insert(entry.seq, decision);
        }
        Ok(())
    }

    /// Who may have the event may have its withdrawal, and who was given the event too, whatever the rules are today.
    async fn decide_withdrawal(&self, entry: &Entry, copies: &[Arc<Entry>]) -> Result<Decision, StoreError> {
        let (gate, peer) = (&self.exchange.gate, &self.partner.bringer.name);
        let (policy, from) = (&gate.rules().policy, entry.from.as_ref());
        let events: Vec<Copy<'_>> = copies.iter().map(|copy| (&*copy.envelope, copy.from.as_ref())).collect();
        let decision = policy.shares_withdrawal(&entry.envelope, from, peer, &self.terms, self.tests_only, &events);
        if matches!(decision, Decision::Give(_)) || policy.keeps_withdrawal(&entry.envelope, from, peer).is_some() {
            return Ok(decision);
        }
        let notes = gate.notes_on(copies, &self.partner.reader()).await?;
        Ok(if was_given(&notes) { Decision::Give(Grant::default()) } else { decision })
    }

    /// What becomes of an entry, and the form in which the peer may have it; what is withheld is counted.
    pub(super) fn decide(&self, entry: &Entry) -> (Fate, Option<Outgoing>) {
        let reason = match self.decision(entry) {
            Decision::Give(grant) => {
                let mut form = grant.form(&entry.envelope);
                if form.bytes().len() > self.most {
                    // Better without what nodes on the way have signed than not at all.
                    form = form.without_attestations();
                }
                if form.bytes().len() <= self.most {
                    let hidden = form.hidden().saturating_sub(entry.envelope.hidden());
                    let fate = Fate::Granted { by: grant.by, hidden };
                    return (fate, Some(outgoing(entry, &form, self.at)));
                }
                Reason::TooBig
            }
            Decision::Withhold(reason) => reason,
        };
        *self.partner.traffic().withheld.entry(reason.clone()).or_default() += 1;
        (Fate::Withheld(reason), None)
    }

    fn decision(&self, entry: &Entry) -> Decision {
        let (gate, header) = (&self.exchange.gate, entry.envelope.header());
        // Whatever it is, and whichever came first.
        if gate.is_void(header) {
            return Decision::Withhold(Reason::KeyRevoked);
        }
        if entry.envelope.withdraws().is_some() {
            return self.withdrawals.get(&entry.seq).cloned().unwrap_or(Decision::Withhold(Reason::NoEvent));
        }
        if gate.store().is_withdrawn(&header.key, header.id) {
            return Decision::Withhold(Reason::Withdrawn);
        }
        let policy = &gate.rules().policy;
        let decision = policy.shares(&entry.envelope, entry.from.as_ref(), &self.partner.bringer.name, &self.terms);
        if self.tests_only { decision.tests_only(&entry.envelope) } else { decision }
    }
}

fn outgoing(entry: &Entry, form: &Sealed, (clock, wall): (u64, u64)) -> Outgoing {
    let header = form.header();
    let keys = SeenKeys::of_offer(&header.key, header.id, form.hidden());
    Outgoing {
        at: clock - wall.saturating_sub(entry.at).min(1 << 39),
        own: entry.from.is_none(),
        key: keys.insert,
        origin: header.origin.clone(),
        id: header.id,
        hidden: keys.hidden,
        bytes: form.bytes().clone(),
    }
}

/// Whether a peer with these notes on an event, oldest first, has it, or was shown it at least.
fn was_given(notes: &[Note]) -> bool {
    let (mut has_it, mut granted) = (false, false);
    for note in notes {
        match &note.fate {
            Fate::Told(verdict) => has_it |= verdict.is_new() || *verdict == Verdict::Duplicate,
            Fate::Had => has_it = true,
            Fate::Granted { .. } => granted = true,
            // That came after, and takes back nothing.
            Fate::Withheld(Reason::Withdrawn) => {}
            // Granted, and not sent before the rules were others.
            _ => granted = false,
        }
    }
    has_it || granted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_given_an_event_is_told_from_who_was_about_to_be() {
        let granted = || Fate::Granted { by: None, hidden: 0 };
        let (withheld, withdrawn) = (|| Fate::Withheld(Reason::NoRule), || Fate::Withheld(Reason::Withdrawn));
        let told = Fate::Told;
        for (fates, expected) in [
            (vec![], false),
            (vec![granted()], true),
            (vec![granted(), withdrawn()], true),
            (vec![granted(), withheld()], false),
            (vec![granted(), withheld(), withdrawn()], false),
            (vec![granted(), told(Verdict::Accepted), withheld()], true),
            (vec![granted(), told(Verdict::Refused("no-rule".into())), withheld()], false),
            (vec![granted(), Fate::Had, withheld()], true),
            (vec![withheld()], false),
            (vec![Fate::Before], false),
        ] {
            let reader = crate::store::Reader::Peer("it".parse().unwrap());
            let note = |fate: &Fate| Note { reader: reader.clone(), first: 1, count: 1, at: 0, fate: fate.clone() };
            let notes: Vec<Note> = fates.iter().map(note).collect();
            assert_eq!(was_given(&notes), expected, "{fates:?}");
        }
    }
}
