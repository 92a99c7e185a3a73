//! A notice that comes: whether it is held from now on.

use std::sync::Arc;

use super::lines::{MAX_NOTICES, MAX_OF_ORIGIN, Notices};
use super::notice::{BadNotice, Notice, SignedNotice};
use super::origins::Origins;
use crate::envelope::{Key, Name};

/// How long after its end a key may be forgotten where there is no room, ms: longer than events are taken after that.
const LONG: u64 = 90 * 24 * 3600 * 1000;

/// What is to become of a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// It counts: it is to be held, as the last of these.
    New(Arc<SignedNotice>, Arc<Notices>),
    /// It says nothing that is not known.
    Same,
    /// It is of an origin, or of a key, that is not known: it is not held, and no fault.
    Stranger,
}

/// Why a notice is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoticeRefused {
    /// It is none.
    #[error(transparent)]
    Bad(#[from] BadNotice),
    /// The key has named another successor before.
    #[error(
        "the key {key} of {origin} has named two successors: {held}, which was first and holds here, and {other}: somebody \
         else has that key; nothing is changed; ask the operator of {origin}, on a channel that you trust, which one is \
         right: if it is {other}, write that key into relay.toml, or have the authorities put it into the roster and \
         revoke the other"
    )]
    Split {
        #[allow(missing_docs)]
        origin: Name,
        #[allow(missing_docs)]
        key: Key,
        /// The successor that holds.
        held: Key,
        /// The other one.
        other: Key,
    },
    /// A key that is void names a successor.
    #[error(
        "the key {key} of {origin} is revoked, and names {next} as its successor only now: whoever stole it could do so; \
         if {next} is right, write it into relay.toml, or have the authorities put it into the roster"
    )]
    Void {
        #[allow(missing_docs)]
        origin: Name,
        #[allow(missing_docs)]
        key: Key,
        #[allow(missing_docs)]
        next: Key,
    },
    /// Over a bound.
    #[error(
        "{origin} has made more notices than are kept ({MAX_OF_ORIGIN}; {MAX_NOTICES} of all origins): write its key of \
         today into relay.toml"
    )]
    TooMany {
        #[allow(missing_docs)]
        origin: Name,
    },
}

impl Origins {
    /// Judges a notice's bytes.
    pub fn hear(&self, bytes: &[u8]) -> Result<Heard, NoticeRefused> {
        if self.notices().iter().any(|held| held.bytes() == bytes) {
            return Ok(Heard::Same);
        }
        let is_known =
            |notice: &Notice| self.keys(&notice.origin).any(|key| *key == notice.key || Some(*key) == notice.next);
        let Some(signed) = SignedNotice::open(bytes, is_known)? else { return Ok(Heard::Stranger) };
        let signed = Arc::new(signed);
        let notice = signed.notice();
        let notices = self.with_room_for(&signed)?;
        let lines = self.lines_of(&notices);
        let (before, after) = (self.lines(), lines.next(&notice.key).map(|next| next.key));
        let tells = before.next(&notice.key) != lines.next(&notice.key)
            || before.revoked(&notice.key) != lines.revoked(&notice.key);
        if tells {
            return Ok(Heard::New(signed.clone(), Arc::new(notices)));
        }
        let (origin, key) = (notice.origin.clone(), notice.key);
        match (notice.next, after) {
            (Some(next), Some(held)) if next != held => Err(NoticeRefused::Split { origin, key, held, other: next }),
            (Some(next), None) if lines.revoked(&key).is_some() => Err(NoticeRefused::Void { origin, key, next }),
            // The roster has revoked its key or put it aside, or its next one is somebody else's.
            (Some(_), None) => Ok(Heard::Stranger),
            _ => Ok(Heard::Same),
        }
    }

    /// What would be held with this one. Of an origin that has made many, a key goes whose time is long over, as long as
    /// what comes still counts without it. Of origins that are not known any more, all goes.
    fn with_room_for(&self, coming: &Arc<SignedNotice>) -> Result<Notices, NoticeRefused> {
        let (notice, held) = (coming.notice(), self.notices().iter());
        let mut notices: Notices = held.filter(|held| self.knows(&held.notice().origin)).cloned().collect();
        let too_many = || NoticeRefused::TooMany { origin: notice.origin.clone() };
        let only_ends = self.only_ends(notice);
        let kind = notices.iter().filter(|held| self.only_ends(held.notice()) == only_ends);
        let has_room = kind.clone().count() < MAX_NOTICES;
        if only_ends {
            return if has_room { Ok(with_end(notices, coming, |held| self.only_ends(held))) } else { Err(too_many()) };
        }
        let its = kind.filter(|held| held.notice().origin == notice.origin);
        if has_room && its.clone().count() < MAX_OF_ORIGIN {
            notices.push(coming.clone());
            return Ok(notices);
        }
        let is_over = |held: &&Arc<SignedNotice>| {
            let Notice { until, revoked, .. } = *held.notice();
            until.or(revoked).is_some_and(|end| end.saturating_add(LONG) < notice.time)
        };
        for old in its.filter(is_over).map(|held| held.notice().key) {
            let rest = notices.iter().filter(|held| held.notice().key != old).chain([coming]);
            let rest: Notices = rest.cloned().collect();
            let lines = self.lines_of(&rest);
            if lines.next(&notice.key).is_some() || lines.revoked(&notice.key).is_some() {
                return Ok(rest);
            }
        }
        Err(too_many())
    }

    /// Whether it says that a key is void, and cannot say what follows it. Such ones have room of their own: else a thief
    /// who is fast could say so much with a key that its owner has no room to end it.
    fn only_ends(&self, notice: &Notice) -> bool {
        let follows = |next| self.successor(&notice.key).is_none_or(|held| held.key == next);
        notice.revoked.is_some() && !notice.next.is_some_and(follows)
    }
}

/// With this revocation in the place of those of its key that it makes needless.
fn with_end(mut notices: Notices, coming: &Arc<SignedNotice>, only_ends: impl Fn(&Notice) -> bool) -> Notices {
    let Notice { key, revoked, .. } = *coming.notice();
    let needless = |held: &Notice| held.key == key && held.revoked >= revoked && only_ends(held);
    // Where the first of them stood: what came after a revocation still does.
    let place = notices.iter().position(|held| needless(held.notice())).unwrap_or(notices.len());
    notices.insert(place, coming.clone());
    let mut at = 0..;
    notices.retain(|held| at.next() == Some(place) || !needless(held.notice()));
    notices
}
