//! What a link has decided and decides anew: the rules have changed, keys do not count any more, events are withdrawn.
//!
//! Owns that nothing is sent by rules that do not hold any more: what was read and not sent, what was offered, and what waits to
//! be written. It must never send again what has been sent.

use super::drive::{LinkEnd, Session};
use crate::envelope::Name;
use crate::link::Outgoing;
use crate::policy::Reason;
use crate::store::{Fate, ReadLimit, StoreError};

impl Session<'_> {
    /// Before anything is sent or answered: where policy has changed, or something was withdrawn, what is not sent yet is
    /// decided anew, what was offered and not asked for too.
    pub(super) async fn keep_to_terms(&mut self) -> Result<(), LinkEnd> {
        if self.trust.has_changed().unwrap_or(false) {
            self.trust.mark_unchanged();
            self.look_at_keys_again().await?;
        }
        while self.terms.has_changed().unwrap_or(false) {
            self.terms.mark_unchanged();
            self.reconsider().await?;
        }
        if self.withdrawals.has_changed().unwrap_or(false) {
            self.withdrawals.mark_unchanged();
            self.retract().await?;
        }
        Ok(())
    }

    pub(super) async fn reconsider(&mut self) -> Result<(), StoreError> {
        self.link.push.forget_unsent();
        for (place, seq) in self.link.push.offered() {
            let form = self.decide_again(seq).await?;
            self.link.push.reconsider(place, form);
        }
        self.revise_waiting().await
    }

    /// Decides anew about what is to be written: but for the few bytes that are encoded, it has not been sent.
    async fn revise_waiting(&mut self) -> Result<(), StoreError> {
        let mut waiting = std::mem::take(self.out.waiting());
        for frame in &mut waiting {
            let mut forms = Vec::new();
            for (slot, seq) in self.link.push.carried(frame) {
                forms.push((slot, self.decide_again(seq).await?.map(|form| form.bytes)));
            }
            frame.revise(forms);
        }
        *self.out.waiting() = waiting;
        Ok(())
    }

    /// What becomes of an entry by the terms of now; what has expired meanwhile is not given any more.
    async fn decide_again(&mut self, seq: u64) -> Result<Option<Outgoing>, StoreError> {
        let entries = self.exchange.gate.store().read(seq - 1, ReadLimit { entries: 1, bytes: 1 }).await?;
        let giving = self.giving(&entries).await?;
        let decided = entries.first().filter(|entry| entry.seq == seq).map(|entry| giving.decide(entry));
        let (fate, form) = decided.unzip();
        self.note(fate.map(|fate| (seq, fate)));
        Ok(form.flatten())
    }

    /// Something was withdrawn: what of it waits or is offered is not given any more.
    async fn retract(&mut self) -> Result<(), StoreError> {
        let (gate, rules) = (&self.exchange.gate, self.exchange.gate.rules());
        let gone = |origin: &Name, id| {
            let own = (*origin == rules.me).then_some(&rules.key);
            own.into_iter().chain(rules.origins.keys(origin)).any(|key| gate.store().is_withdrawn(key, id))
        };
        let seqs = self.link.push.retract(gone);
        self.note(seqs.into_iter().map(|seq| (seq, Fate::Withheld(Reason::Withdrawn))));
        self.revise_waiting().await
    }
}
