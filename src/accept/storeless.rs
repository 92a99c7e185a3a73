//! The gate's judgement for who keeps the log elsewhere: what [`Gate::judge`](super::Gate::judge) decides, and what a link
//! must know, by any seen set.
//!
//! Owns no rule: it hands on to `judge`. Whole networks are simulated with it, with more nodes than one machine has room
//! for stores. It must never be a second way into a store: what it returns is a value.

use std::sync::Arc;

use bytes::Bytes;

use super::judge::{self, Judged};
use super::{Acquaintance, Bringer, Rules};
use crate::envelope::{Name, Sealed, SeenKeys, Verifier};
use crate::link::Verdict;
use crate::store::Store;

/// A seen set to judge by.
pub trait Seen {
    /// As [`Store::seen`].
    fn seen(&self, keys: &SeenKeys) -> Option<u16>;
}

impl Seen for Store {
    fn seen(&self, keys: &SeenKeys) -> Option<u16> {
        Store::seen(self, keys)
    }
}

impl<S: Seen> Seen for &S {
    fn seen(&self, keys: &SeenKeys) -> Option<u16> {
        (*self).seen(keys)
    }
}

/// What an envelope is worth, before the store has the last word on duplicates.
#[derive(Debug)]
pub enum Judgement {
    /// For the log, our own name at the end of its path.
    Good(Box<Sealed>),
    /// Refused; with the keys to remember, where it would be the same whoever brought it.
    Bad(Verdict, Option<SeenKeys>),
}

/// Judges an envelope that `bringer` brings, by the rules in their order.
pub fn judge(
    bytes: Bytes,
    bringer: &Bringer,
    rules: &Rules,
    seen: &impl Seen,
    verifier: &Verifier,
    now: u64,
) -> Judgement {
    match judge::judge(bytes, bringer, rules, |keys| seen.seen(keys), |_| {}, verifier, now) {
        Judged::Good(envelope) => Judgement::Good(envelope.with_hop(&rules.me).into()),
        Judged::Bad(verdict, remember, _) => Judgement::Bad(verdict, remember),
    }
}

impl<S: Seen> Acquaintance<S> {
    /// What a link with this peer must know, by this seen set and these rules.
    pub fn new(seen: S, rules: Arc<Rules>, peer: &Name) -> Acquaintance<S> {
        let terms = rules.terms.get(peer).cloned().unwrap_or_default();
        Acquaintance { seen, rules, terms, strangers: Arc::default() }
    }
}
