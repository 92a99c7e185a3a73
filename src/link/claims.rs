//! Claims: an id that is wanted on one link is not wanted on another for a while, so that each body comes once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::envelope::SeenKey;

/// Which peer's link of this node: the same for all links to one peer, since the start.
pub type LinkId = u64;

/// How long a link that let a claim expire may not claim, ms: offering early and serving never would slow everybody.
const PENALTY: u64 = 60_000;

/// The claims of all links of a node. Locked for one id at a time: links do not wait for each other's work.
#[derive(Debug, Default)]
pub struct Claims(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    held: HashMap<SeenKey, (LinkId, u64)>,
    /// Until when a link may not claim.
    barred: BTreeMap<LinkId, u64>,
    /// The links that stand.
    links: BTreeSet<LinkId>,
}

/// The answer to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    /// Ask for it here.
    Here,
    /// Another link asked for it; look again at this time, or when something was decided.
    Elsewhere(u64),
}

impl Claims {
    /// Link `link` stands; whether it is the only one.
    pub fn attend(&self, link: LinkId) -> bool {
        let mut held = self.lock();
        held.links.insert(link);
        held.links.len() == 1
    }

    /// Link `link` would ask for the body of `key`. Asking again does not prolong its claim.
    pub fn claim(&self, key: SeenKey, link: LinkId, now: u64, period: u64) -> Claimed {
        let Held { held, barred, .. } = &mut *self.lock();
        if let Some(&(holder, until)) = held.get(&key) {
            if now < until {
                return if holder == link { Claimed::Here } else { Claimed::Elsewhere(until) };
            }
            barred.insert(holder, now + PENALTY);
        }
        if barred.get(&link).is_some_and(|&until| now < until) {
            // Wanted here as well, but nobody waits for it.
            held.remove(&key);
        } else {
            barred.remove(&link);
            held.insert(key, (link, now + period));
        }
        Claimed::Here
    }

    /// The body came on `link`, and was decided. One that no honest node sends counts as none.
    pub fn release(&self, key: &SeenKey, link: LinkId, honest: bool) {
        let Held { held, barred, .. } = &mut *self.lock();
        let Some((_, until)) = held.get(key).copied().filter(|&(holder, _)| holder == link) else { return };
        held.remove(key);
        if !honest {
            barred.insert(link, until + PENALTY);
        }
    }

    /// The link ended: what it claimed is free, and as it did not come, the link may not claim for a while. Nor does a
    /// peer get the right back by reconnecting.
    pub fn forget(&self, link: LinkId) {
        let Held { held, barred, links } = &mut *self.lock();
        links.remove(&link);
        let left = held.extract_if(|_, &mut (holder, _)| holder == link).map(|(_, (_, until))| until).max();
        if let Some(until) = left {
            barred.insert(link, until + PENALTY);
        }
    }

    /// How many ids are claimed.
    pub fn len(&self) -> usize {
        self.lock().held.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.lock().held.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_holds_until_it_expires_and_then_bars_its_holder() {
        let (claims, one, two) = (Claims::default(), SeenKey([1; 16]), SeenKey([2; 16]));
        assert_eq!(claims.claim(one, 1, 0, 5000), Claimed::Here);
        assert_eq!(claims.claim(one, 2, 4999, 5000), Claimed::Elsewhere(5000));
        assert_eq!(claims.claim(one, 2, 5000, 5000), Claimed::Here);
        // Link 1 let it expire: it may ask, but holds up nobody.
        assert_eq!(claims.claim(two, 1, 5000, 5000), Claimed::Here);
        assert_eq!(claims.claim(two, 2, 5000, 5000), Claimed::Here);
        assert_eq!(claims.claim(two, 1, 5001, 5000), Claimed::Elsewhere(10000));
        // Until a minute later.
        claims.release(&two, 2, true);
        assert_eq!(claims.claim(two, 1, 5000 + PENALTY, 5000), Claimed::Here);
        assert_eq!(claims.claim(two, 2, 5001 + PENALTY, 5000), Claimed::Elsewhere(10000 + PENALTY));
    }

    #[test]
    fn a_link_that_ends_frees_what_it_claimed() {
        let (claims, key) = (Claims::default(), SeenKey([1; 16]));
        claims.claim(key, 1, 0, 5000);
        claims.forget(1);
        assert!(claims.is_empty());
        assert_eq!(claims.claim(key, 2, 1, 5000), Claimed::Here);
        claims.release(&key, 1, true);
        assert_eq!(claims.len(), 1, "only the holder releases");
    }

    #[test]
    fn a_claim_cannot_be_prolonged() {
        let key = SeenKey([1; 16]);
        let (offered_again, ended, garbage) = (Claims::default(), Claims::default(), Claims::default());
        for claims in [&offered_again, &ended, &garbage] {
            assert_eq!(claims.claim(key, 1, 0, 5000), Claimed::Here);
        }
        assert_eq!(offered_again.claim(key, 1, 4000, 5000), Claimed::Here);
        ended.forget(1);
        assert_eq!(ended.claim(key, 1, 4000, 5000), Claimed::Here);
        garbage.release(&key, 1, false);
        assert_eq!(garbage.claim(key, 1, 4000, 5000), Claimed::Here);
        for claims in [offered_again, ended, garbage] {
            assert_eq!(claims.claim(key, 2, 5000, 5000), Claimed::Here, "nobody waits longer than the first claim");
        }
    }
}
