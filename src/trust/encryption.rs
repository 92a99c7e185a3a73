//! What is encrypted to an origin: the key in the configuration, or else the roster's; and what follows it by notices.

use super::lines::MAX_OF_ORIGIN;
use super::origins::{KeyStanding, Origins};
use crate::envelope::{EncryptionKey, Key, Name};

impl Origins {
    /// The same, with what is configured to be encrypted to.
    #[must_use]
    pub fn encrypting(mut self, keys: impl Iterator<Item = (Name, EncryptionKey)>) -> Origins {
        self.encryption = keys.collect();
        self
    }

    /// The key to encrypt to this node at this time (ms since 1970). The configured one wins, as everywhere; a roster that
    /// speaks of another node under that name is not asked. Where a notice has the next one, that counts when the node's
    /// key is over or void: until then the node may not have gone over, and after it, it still reads what is encrypted to
    /// the one before. Nothing is encrypted to what goes with a void key: who stole that reads it, too.
    pub fn encryption(&self, name: &Name, time: u64) -> Option<EncryptionKey> {
        let configured = || Some((*self.encryption.get(name)?, *self.configured_key(name)?));
        let by_roster = || Some((self.encryption_by_roster(name)?, self.member(name)?.keys.first()?.key));
        let follow = |(found, key)| self.encryption_from(name, found, key, time);
        configured().and_then(follow).or_else(|| by_roster().and_then(follow))
    }

    /// The same, where this one goes with this key.
    fn encryption_from(&self, name: &Name, found: EncryptionKey, mut key: Key, time: u64) -> Option<EncryptionKey> {
        let mut found = Some(found);
        // As many keys as an origin can have in a row.
        for _ in 0..=MAX_OF_ORIGIN {
            match self.ask(name, &key, time) {
                KeyStanding::Good => break,
                KeyStanding::NotThen => {}
                KeyStanding::Revoked(_) | KeyStanding::Other(_) | KeyStanding::Unknown => found = None,
            }
            let Some(next) = self.successor(&key) else { break };
            (found, key) = (next.encryption.or(found), next.key);
        }
        found
    }

    fn encryption_by_roster(&self, name: &Name) -> Option<EncryptionKey> {
        self.member(name)?.encryption.and_then(|key| EncryptionKey::from_bytes(key.into_array()).ok())
    }

    /// Where roster and configuration name different keys, for a person.
    pub(super) fn encryption_contradictions(&self) -> Vec<String> {
        let mut found: Vec<String> = self
            .encryption
            .iter()
            .filter_map(|(name, ours)| {
                let theirs = self.encryption_by_roster(name).filter(|theirs| theirs != ours)?;
                Some(format!(
                    "the roster has the encryption key {theirs} for {name}, and relay.toml {ours}, which holds: ask its \
                     operator which is right, and correct relay.toml, or have the roster corrected"
                ))
            })
            .collect();
        found.sort();
        found
    }

    /// For whom relay.toml has another encryption key than the node itself has told of with its key of today: that one. What
    /// is configured holds, and may be a key that the node has no more, or a thief has.
    pub fn outdated_encryption(&self) -> Vec<(Name, EncryptionKey)> {
        let told = |name: &Name| {
            let key = self.configured_key(name).filter(|key| self.successor(key).is_none())?;
            let before = self.ancestors(key).next()?;
            self.successor(&before)?.encryption
        };
        let differs =
            |(name, ours): (&Name, &EncryptionKey)| Some((name.clone(), told(name).filter(|key| key != ours)?));
        let mut found: Vec<_> = self.encryption.iter().filter_map(differs).collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }

    /// What the roster says that others shall encrypt to us, where that is wrong.
    pub fn encryption_of_us(&self, me: &Name, ours: &EncryptionKey) -> Option<String> {
        let theirs = self.roster()?.roster().member(me)?.encryption?;
        (*theirs != *ours.as_bytes()).then(|| {
            format!(
                "the roster has another encryption key for this node: what others encrypt to it, this node cannot read; tell \
                 its authorities ours, {ours}"
            )
        })
    }
}
