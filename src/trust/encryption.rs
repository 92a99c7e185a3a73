//! What is encrypted to an origin: the key in the configuration, or else the roster's.

use super::origins::Origins;
use crate::envelope::{EncryptionKey, Name};

impl Origins {
    /// The same, with what is configured to be encrypted to.
    #[must_use]
    pub fn encrypting(mut self, keys: impl Iterator<Item = (Name, EncryptionKey)>) -> Origins {
        self.encryption = keys.collect();
        self
    }

    /// The key to encrypt to this node. The configured one wins, as everywhere; a roster that speaks of another node under
    /// that name is not asked.
    pub fn encryption(&self, name: &Name) -> Option<EncryptionKey> {
        self.encryption.get(name).copied().or_else(|| self.encryption_by_roster(name))
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
