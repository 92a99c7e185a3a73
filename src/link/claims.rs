//! Claims: an id that is wanted on one link is not wanted on another for a while, so that each body comes once.

use std::collections::{BTreeMap, HashMap};

use crate::envelope::SeenKey;

/// Which peer's link of this node: the same for all links to one peer, since the start.
pub type LinkId = u64;

/// How long a link that let a claim expire may not claim, ms: offering early and serving never would slow everybody.
const PENALTY: u64 = 60_000;

/// The claims of all links of a node.
#[derive(Debug, Default)]
pub struct Claims {
    held: HashMap<SeenKey, (LinkId, u64)>,
    /// Until when a link may not claim.
    barred: BTreeMap<LinkId, u64>,
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
    /// Link `link` would ask for the body of `key`.
    pub fn claim(&mut self, key: SeenKey, link: LinkId, now: u64, period: u64) -> Claimed {
        if let Some(&(holder, until)) = self.held.get(&key)
            && holder != link
        {
            if now < until {
                return Claimed::Elsewhere(until);
            }
            self.barred.insert(holder, now + PENALTY);
        }
        if self.barred.get(&link).is_some_and(|&until| now < until) {
            // Wanted here as well, but nobody waits for it.
            self.held.remove(&key);
        } else {
            self.barred.remove(&link);
            self.held.insert(key, (link, now + period));
        }
        Claimed::Here
    }

    /// The body came on `link`, and was decided.
    pub fn release(&mut self, key: &SeenKey, link: LinkId) {
        if self.held.get(key).is_some_and(|&(holder, _)| holder == link) {
            self.held.remove(key);
        }
    }

    /// The link ended: what it claimed is free. A peer that may not claim does not get the right back by reconnecting.
    pub fn forget(&mut self, link: LinkId) {
        self.held.retain(|_, &mut (holder, _)| holder != link);
    }

    /// How many ids are claimed.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_holds_until_it_expires_and_then_bars_its_holder() {
        let (mut claims, one, two) = (Claims::default(), SeenKey([1; 16]), SeenKey([2; 16]));
        assert_eq!(claims.claim(one, 1, 0, 5000), Claimed::Here);
        assert_eq!(claims.claim(one, 2, 4999, 5000), Claimed::Elsewhere(5000));
        assert_eq!(claims.claim(one, 2, 5000, 5000), Claimed::Here);
        // Link 1 let it expire: it may ask, but holds up nobody.
        assert_eq!(claims.claim(two, 1, 5000, 5000), Claimed::Here);
        assert_eq!(claims.claim(two, 2, 5000, 5000), Claimed::Here);
        assert_eq!(claims.claim(two, 1, 5001, 5000), Claimed::Elsewhere(10000));
        // Until a minute later.
        claims.release(&two, 2);
        assert_eq!(claims.claim(two, 1, 5000 + PENALTY, 5000), Claimed::Here);
        assert_eq!(claims.claim(two, 2, 5001 + PENALTY, 5000), Claimed::Elsewhere(10000 + PENALTY));
    }

    #[test]
    fn a_link_that_ends_frees_what_it_claimed() {
        let (mut claims, key) = (Claims::default(), SeenKey([1; 16]));
        claims.claim(key, 1, 0, 5000);
        claims.forget(1);
        assert!(claims.is_empty());
        assert_eq!(claims.claim(key, 2, 1, 5000), Claimed::Here);
        claims.release(&key, 1);
        assert_eq!(claims.len(), 1, "only the holder releases");
    }
}
