//! Notices over a link: each goes once, also back to whom it came from, who sees by that that it is held.
//!
//! They go before what is sealed by the keys that they tell of. What came under a key that a peer no longer has still
//! counts for it.

use std::collections::HashSet;
use std::sync::Arc;

use serde_bytes::ByteBuf;

use super::drive::{Exchange, LinkEnd, Session};
use super::partner::Partner;
use crate::accept::Noticed;
use crate::envelope::Key;
use crate::link::{Frame, TokenKey, Violation};
use crate::store::{Cursor, StoreError};
use crate::trust::{MAX_NOTICE, Notices};

/// Notices of one frame, at most: far below any limit of a frame.
const AT_ONCE: usize = 64;
/// Notices of unknown origins that are kept until their origin may be known.
const KEPT: usize = 64;
/// Refused notices that are said, on one link,
const SAID: u64 = 8;
/// and that are borne with: each costs us something.
const MOST: u64 = 64;

/// What was said on a link.
#[derive(Default)]
pub(super) struct Noticing {
    /// As they were when we last looked.
    seen: Option<Arc<Notices>>,
    said: HashSet<Vec<u8>>,
    refused: u64,
    /// Of origins that are not known here.
    strange: Vec<Vec<u8>>,
    /// We have no place in the peer's log, as far as was known when the link began.
    is_new: bool,
}

impl Noticing {
    pub(super) fn new(is_new: bool) -> Noticing {
        Noticing { is_new, ..Noticing::default() }
    }

    /// The peer begins to give its log.
    pub(super) fn begins(&mut self) {
        self.is_new = false;
    }
}

impl Session<'_> {
    /// Says what the peer has not been told on this link.
    pub(super) fn say_notices(&mut self) {
        let rules = self.exchange.gate.rules();
        let held = rules.origins.notices();
        let noticing = &mut self.noticing;
        if noticing.seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, held)) {
            return;
        }
        noticing.seen = Some(held.clone());
        // What is held no more is not said again either.
        let now: HashSet<&[u8]> = held.iter().map(|held| held.bytes()).collect();
        noticing.said.retain(|said| now.contains(&said[..]));
        let new: Vec<&[u8]> =
            held.iter().map(|held| held.bytes()).filter(|bytes| noticing.said.insert(bytes.to_vec())).collect();
        let frames = new.chunks(AT_ONCE).map(|some| some.iter().map(|bytes| ByteBuf::from(*bytes)).collect());
        self.link.out.extend(frames.map(Frame::Notices));
    }

    /// The peer says what keys have said.
    pub(super) async fn take_notices(&mut self, notices: &[ByteBuf]) -> Result<(), LinkEnd> {
        if notices.len() > AT_ONCE || notices.iter().any(|notice| notice.len() > MAX_NOTICE) {
            return Err(Violation::Unexpected("more notices at once than a frame may hold, or longer ones").into());
        }
        for bytes in notices {
            self.take_notice(bytes).await?;
        }
        // They come before the first batch: nothing of its log has been taken yet.
        if self.noticing.is_new && self.exchange.cursor_of(self.partner).await?.is_some() {
            return Err(LinkEnd::KnownAfterAll);
        }
        Ok(())
    }

    async fn take_notice(&mut self, bytes: &[u8]) -> Result<(), LinkEnd> {
        let (gate, peer) = (&self.exchange.gate, &self.partner.bringer.name);
        match gate.notice(bytes).await? {
            Ok(noticed @ (Noticed::New(_) | Noticed::Same)) => {
                if let Noticed::New(notice) = noticed
                    && notice.origin == gate.rules().me
                {
                    // We would have told them.
                    tracing::error!(
                        %peer, key = %notice.key, next = notice.next.map(tracing::field::display),
                        "A PEER TELLS OF THIS NODE'S OWN KEY what this node has not said: unless its data folder was lost, or is \
                         older, since it did, somebody else has that key: docs/operating.md says what to do about a stolen one"
                    );
                }
                gate.is_told(peer, bytes).await?;
            }
            Ok(Noticed::Stranger) => {
                if self.noticing.strange.len() < KEPT && !self.noticing.strange.iter().any(|kept| kept == bytes) {
                    self.noticing.strange.push(bytes.to_vec());
                }
            }
            Err(reason) => {
                self.noticing.refused += 1;
                if self.noticing.refused > MOST {
                    return Err(Violation::Unexpected("too many notices that may not hold").into());
                }
                if self.noticing.refused <= SAID {
                    tracing::warn!(%peer, %reason, "a notice that the peer sends is refused");
                }
            }
        }
        Ok(())
    }

    /// Whose word counts has changed: what was offered may be void now, and what was strange may not be so.
    pub(super) async fn look_at_keys_again(&mut self) -> Result<(), LinkEnd> {
        for notice in std::mem::take(&mut self.noticing.strange) {
            self.take_notice(&notice).await?;
        }
        Ok(self.reconsider().await?)
    }
}

impl Exchange {
    /// The other keys that this peer has, and had.
    fn keys_of(&self, partner: &Partner) -> Vec<Key> {
        let rules = self.gate.rules();
        let others = rules.origins.keys(&partner.bringer.name).filter(|key| **key != partner.bringer.key);
        others.copied().collect()
    }

    /// The key of this peer's tokens: those that it was given under another key open too.
    pub(super) fn tokens_of(&self, partner: &Partner) -> TokenKey {
        self.token_key.of_peer(partner.bringer.key, self.keys_of(partner))
    }

    /// Where we stand in this peer's log, also if that was noted under another key of its.
    pub(super) async fn cursor_of(&self, partner: &Partner) -> Result<Option<Vec<u8>>, StoreError> {
        let store = self.gate.store();
        for key in [partner.bringer.key].into_iter().chain(self.keys_of(partner)) {
            if let Some(token) = store.cursor(&Cursor::Peer(key)).await? {
                return Ok(Some(token));
            }
        }
        Ok(None)
    }
}
