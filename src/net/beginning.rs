//! Where a peer begins in our log: at its place, or, when it is met for the first time, where the configuration lets it.

use super::drive::Exchange;
use super::partner::Partner;
use crate::link::From;
use crate::store::{ReadLimit, Store, StoreError};

/// Where a peer begins.
pub(super) struct Beginning {
    /// The number after which, unless it has a token of this log.
    pub(super) after: u64,
    /// It has had no place in a log of ours before.
    pub(super) first_contact: bool,
}

impl Beginning {
    /// As the peer asks, but at its first contact not before the place that it has here. Who has a token that we made
    /// for it, if of another log, was met before; any other token is only the peer's word.
    pub(super) async fn new(node: &Exchange, partner: &Partner, from: &From) -> Result<Beginning, StoreError> {
        let store = node.gate.store();
        let after = position(store, from).await?;
        let own = node.tokens_of(partner);
        let first_contact = !matches!(from, From::Token(token) if own.open(token).is_some());
        let first = if first_contact { position(store, &partner.first_contact).await? } else { 0 };
        Ok(Beginning { after: after.max(first), first_contact })
    }
}

/// The number after which a peer begins that has no token, or whose token is not ours.
pub(super) async fn position(store: &Store, from: &From) -> Result<u64, StoreError> {
    let (mut low, mut high) = (store.first() - 1, store.head());
    match from {
        From::Now => return Ok(high),
        From::All | From::Token(_) => return Ok(low),
        From::Time(_) => {}
    }
    // Numbers are in the order of their times, as far as the clock is.
    while let (From::Time(time), true) = (from, low < high) {
        let middle = low + (high - low) / 2;
        let one = store.read(middle, ReadLimit { entries: 1, bytes: 1 }).await?;
        match one.first() {
            Some(entry) if entry.at < *time => low = entry.seq,
            _ => high = middle,
        }
    }
    Ok(low)
}
