//! Origins whose events are refused, so that each is said once: unknown names, and known ones with another key.
//!
//! Peers choose names and keys: both are bounded, the keys by origin, so that a flood of one keeps nothing of another
//! from being said.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use super::Bringer;
use super::judge::Stranger;
use crate::envelope::{Key, Name};
use crate::trust::KeyStanding;

/// Unknown names that are said.
const NAMES: usize = 256;
/// Keys of one known origin that are said.
const KEYS: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Strangers(Mutex<Met>);

#[derive(Debug, Default)]
struct Met {
    names: BTreeSet<Name>,
    /// By known origin: as many as are configured, at most.
    keys: BTreeMap<Name, BTreeSet<Key>>,
}

impl Strangers {
    /// Somebody shows an event of an origin that is not known.
    pub(super) fn meet(&self, origin: &Name) {
        let mut met = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if met.names.len() < NAMES && met.names.insert(origin.clone()) {
            tracing::warn!(
                %origin,
                "events are refused: their origin is not configured; add it as [[origin]] to accept them"
            );
        }
    }

    /// A peer brings an event with a key that is not accepted. The seal is not verified.
    pub(super) fn say(&self, bringer: &Bringer, stranger: &Stranger<'_>) {
        let (origin, key, peer) = (&stranger.header.origin, &stranger.header.key, &bringer.name);
        match stranger.standing {
            KeyStanding::Good => {}
            KeyStanding::Unknown => self.meet(origin),
            KeyStanding::Other(known) if self.is_new(origin, key) => tracing::warn!(
                %origin, %peer, sealed_with = %key, known_key = %known,
                "events are refused: they name another key than the one known for their origin; ask its operator, on a \
                 channel that you trust, for what `intelmq-relay id` prints there: if the key has changed, correct \
                 `key` of that [[peer]] or [[origin]]; else somebody seals in its name"
            ),
            KeyStanding::Revoked(from) if self.is_new(origin, key) => tracing::warn!(
                %origin, %peer, sealed_with = %key, from = crate::envelope::rfc3339(from),
                "events are refused: their key is revoked for the time they name, by the roster or by its own word; ask the \
                 origin's operator whether these events are theirs"
            ),
            KeyStanding::NotThen if self.is_new(origin, key) => tracing::warn!(
                %origin, %peer, sealed_with = %key,
                "events are refused: by the roster, or by its own word, their key does not hold for the time they name; the \
                 origin seals with the wrong key or has a wrong clock, or the roster is not up to date"
            ),
            KeyStanding::Other(_) | KeyStanding::Revoked(_) | KeyStanding::NotThen => {}
        }
    }

    fn is_new(&self, origin: &Name, key: &Key) -> bool {
        let mut met = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = met.keys.entry(origin.clone()).or_default();
        keys.len() < KEYS && keys.insert(*key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::Secret;

    #[test]
    fn a_key_is_new_once_and_a_flood_of_one_origin_silences_no_other() {
        let (strangers, at, ee): (_, Name, Name) =
            (Strangers::default(), "cert-at".parse().unwrap(), "cert-ee".parse().unwrap());
        let key = |n: u8| Secret::from_seed(&[n; 32]).key();
        assert!(strangers.is_new(&at, &key(1)) && !strangers.is_new(&at, &key(1)) && strangers.is_new(&at, &key(2)));
        let said = (3..200).filter(|n| strangers.is_new(&at, &key(*n))).count();
        assert_eq!(said, KEYS - 2);
        assert!(strangers.is_new(&ee, &key(1)));
    }
}
