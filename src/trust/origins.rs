//! The known origins: by name, with their keys.

use std::collections::HashMap;

use crate::envelope::{Key, Name};

/// How a key stands for an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyStanding {
    /// It is the origin's.
    Good,
    /// Nobody has told of an origin of that name.
    Unknown,
    /// The origin is known, with this other key.
    Other(Key),
}

/// Whose seals are accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins {
    /// Peers and further origins, by name.
    configured: HashMap<Name, Key>,
}

impl Origins {
    /// Those that the configuration names.
    pub fn new(configured: impl Iterator<Item = (Name, Key)>) -> Origins {
        Origins { configured: configured.collect() }
    }

    /// How this key stands for this origin.
    pub fn ask(&self, origin: &Name, key: &Key) -> KeyStanding {
        match self.configured.get(origin) {
            None => KeyStanding::Unknown,
            Some(known) if known == key => KeyStanding::Good,
            Some(known) => KeyStanding::Other(*known),
        }
    }

    /// The keys of this origin, the first one first. None: it is not known.
    pub fn keys(&self, origin: &Name) -> impl Iterator<Item = &Key> {
        self.configured.get(origin).into_iter()
    }
}
