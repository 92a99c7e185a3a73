//! The notices that are held: kept in the store, in force at once. And who has been told of our own.
//!
//! What it must never do: hold what does not count, or let go of what is held; whoever brings what.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use uuid::Uuid;

use super::{Gate, Rules};
use crate::envelope::{Header, Key, Name, rfc3339};
use crate::store::{Commit, Cursor, Store, StoreError};
use crate::trust::{Heard, Notice, NoticeRefused, Notices, SignedNotice, Successor};

/// How far the rotation of our own key is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// The key that is to follow ours.
    pub next: Option<Key>,
    /// An operator does not want to wait until all know of it.
    pub now: bool,
    /// The peers that have shown that they know.
    pub told: BTreeSet<Name>,
}

/// Why a notice is not held.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoticeError {
    /// It may not be.
    #[error(transparent)]
    Refused(#[from] NoticeRefused),
    /// Nothing can be stored.
    #[error("there is no room on the disk: free some, and try again")]
    NoRoom,
}

/// What became of a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Noticed {
    /// It is held from now on.
    New(Notice),
    /// It was, or says nothing new.
    Same,
    /// Its origin is not known here.
    Stranger,
}

/// Where [`Rotation`] is kept.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<Rotation>);

impl Told {
    fn lock(&self) -> std::sync::MutexGuard<'_, Rotation> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The notices of the store, and whether these are all that it has.
pub(crate) async fn kept_notices(store: &Store) -> Result<Option<(Notices, bool)>, StoreError> {
    let Some(bytes) = store.cursor(&Cursor::Notices).await? else { return Ok(None) };
    let kept = serde_cbor::from_slice::<Vec<ByteBuf>>(&bytes).unwrap_or_default();
    let read = kept.iter().filter_map(|bytes| SignedNotice::open(bytes, |_| true).ok().flatten());
    let notices: Notices = read.map(Arc::new).collect();
    let whole = !notices.is_empty() && notices.len() == kept.len();
    Ok(Some((notices, whole)))
}

impl Gate {
    /// Puts the notices of the store in force, and remembers who was told of ours.
    pub async fn recall_notices(&self) -> Result<(), StoreError> {
        let _turn = self.roster_turn.lock().await;
        let Some((notices, whole)) = kept_notices(&self.store).await? else { return Ok(()) };
        if !whole {
            tracing::error!("notices that are kept cannot be read, and do not hold: was a newer program here?");
        }
        self.put_notices_in_force(notices.into());
        if let Some(rotation) = self.store.cursor(&Cursor::Rotation).await? {
            *self.told.lock() = serde_cbor::from_slice(&rotation).unwrap_or_default();
        }
        Ok(())
    }

    /// Takes a notice, if it counts: it is durable, and in force, when this returns. An error of the store means that the
    /// node must stop.
    pub async fn notice(&self, bytes: &[u8]) -> Result<Result<Noticed, NoticeError>, StoreError> {
        let _turn = self.roster_turn.lock().await;
        let (notice, notices) = match self.rules().origins.hear(bytes) {
            Ok(Heard::New(notice, notices)) => (notice, notices),
            Ok(Heard::Same) => return Ok(Ok(Noticed::Same)),
            Ok(Heard::Stranger) => return Ok(Ok(Noticed::Stranger)),
            Err(reason) => {
                if let NoticeRefused::Split { .. } = reason {
                    tracing::error!(%reason, "TWO SUCCESSORS of one key: the second is refused");
                }
                return Ok(Err(reason.into()));
            }
        };
        let list: Vec<ByteBuf> = notices.iter().map(|held| ByteBuf::from(held.bytes())).collect();
        // Encoding plain data into memory cannot fail.
        let value = serde_cbor::to_vec(&list).expect("notices are plain data");
        match self.store.commit(Commit { cursors: vec![(Cursor::Notices, value)], ..Commit::default() }).await {
            Err(StoreError::Full { .. }) => return Ok(Err(NoticeError::NoRoom)),
            result => result?,
        };
        self.put_notices_in_force(notices);
        self.say_notice(notice.notice());
        // What waits may be sealed with a key that is known only now.
        self.announce();
        Ok(Ok(Noticed::New(notice.notice().clone())))
    }

    fn put_notices_in_force(&self, notices: Arc<Notices>) {
        let mut now = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        let mut rules = Rules::clone(&now);
        rules.origins = Arc::new(rules.origins.as_ref().clone().noticing(notices));
        *now = rules.into();
        self.roster_changed.send_replace(());
    }

    fn say_notice(&self, notice: &Notice) {
        let (origin, key, rules) = (&notice.origin, &notice.key, self.rules());
        let follows = rules.origins.successor(key).map(|next| next.key);
        if let Some(from) = notice.revoked {
            tracing::warn!(
                %origin, %key, from = rfc3339(from), next = follows.map(tracing::field::display),
                "a key is revoked, by its own word: what it sealed from then on is refused, and given to nobody"
            );
        }
        match (notice.next, follows) {
            (Some(next), Some(held)) if next != held => tracing::error!(
                %origin, %key, %held, other = %next,
                "TWO SUCCESSORS of one key: the revocation names another one than the one that was first and holds; ask \
                 the operator of the origin, and write the right one into relay.toml"
            ),
            (Some(next), _) if notice.until.is_some() => tracing::info!(
                %origin, %key, %next, until = notice.until.map(|until| tracing::field::display(rfc3339(until))),
                "an origin has another key, by the word of both: it is accepted from now on"
            ),
            _ => {}
        }
    }

    /// The key that is to follow ours, as long as it has not.
    pub fn succession(&self) -> Option<Successor> {
        let rules = self.rules();
        rules.origins.successor(&rules.key)
    }

    /// How far the rotation is that is under way; none: none is.
    pub fn rotation(&self) -> Option<Rotation> {
        let next = self.succession()?.key;
        let kept = self.told.lock().clone();
        Some(if kept.next == Some(next) { kept } else { Rotation { next: Some(next), ..Rotation::default() } })
    }

    /// A peer has shown that it holds this notice.
    pub async fn is_told(&self, peer: &Name, bytes: &[u8]) -> Result<(), StoreError> {
        let rules = self.rules();
        let names_it = |held: &SignedNotice| held.notice().key == rules.key && held.notice().next.is_some();
        if !rules.origins.notices().iter().any(|held| held.bytes() == bytes && names_it(held)) {
            return Ok(());
        }
        self.turn_rotation(|rotation| rotation.told.insert(peer.clone())).await
    }

    /// We do not wait until all know of it.
    pub async fn rotate_now(&self) -> Result<(), StoreError> {
        self.turn_rotation(|rotation| !std::mem::replace(&mut rotation.now, true)).await
    }

    async fn turn_rotation(&self, change: impl FnOnce(&mut Rotation) -> bool) -> Result<(), StoreError> {
        let Some(mut rotation) = self.rotation() else { return Ok(()) };
        if !change(&mut rotation) {
            return Ok(());
        }
        // Encoding plain data into memory cannot fail.
        let value = serde_cbor::to_vec(&rotation).expect("a rotation is plain data");
        *self.told.lock() = rotation;
        self.keep(Cursor::Rotation, value).await?;
        self.roster_changed.send_replace(());
        Ok(())
    }

    /// Whether an envelope with this header is sealed by a key that was void by then: asked whenever the log is read, for
    /// it may have come before that was known.
    pub fn is_void(&self, header: &Header) -> bool {
        self.rules().origins.is_void(header)
    }

    /// The key of this event, and those that its origin had before.
    pub(super) fn line(&self, key: &Key) -> Vec<Key> {
        [*key].into_iter().chain(self.rules().origins.ancestors(key)).collect()
    }

    /// Whether the event of this origin's key with this id was seen, sealed with that key or with one before it.
    pub(super) fn was_sealed(&self, key: &Key, id: Uuid) -> bool {
        let seen = |key: &Key| self.store.seen(&crate::envelope::SeenKeys::of_offer(key, id, 0)).is_some();
        self.line(key).iter().any(seen)
    }
}
