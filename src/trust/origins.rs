//! The known origins: by name, with their keys, at a time. The configuration's first, then the roster's.
//!
//! Where both know a name, the roster adds to what is configured as long as it knows the configured key too: then a
//! member's next key is accepted without an edit, and a revoked one is refused though it is configured. A roster that
//! does not know the configured key speaks of somebody else; it is not heard about that name, and the operator is told.

use std::collections::HashMap;
use std::sync::Arc;

use super::roster::{Member, MemberKey, Roster};
use super::{Held, Trusted, Unfit};
use crate::envelope::{EncryptionKey, Key, Name, rfc3339};

/// How a key stands for an origin, for what it sealed at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyStanding {
    /// It is the origin's.
    Good,
    /// Nobody has told of an origin of that name.
    Unknown,
    /// The origin is known, with this other key.
    Other(Key),
    /// It is the origin's, but not at that time.
    NotThen,
    /// It is revoked, from this time on.
    Revoked(u64),
}

/// Whose seals are accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins {
    /// Peers and further origins, by name,
    configured: HashMap<Name, Key>,
    /// and by key.
    owners: HashMap<Key, Name>,
    /// What is encrypted to them, as configured.
    pub(super) encryption: HashMap<Name, EncryptionKey>,
    /// Whose rosters count; none: there is none.
    trusted: Option<Trusted>,
    roster: Option<Arc<Held>>,
}

impl Origins {
    /// Those that the configuration names, and whose rosters name more.
    pub fn new(configured: impl Iterator<Item = (Name, Key)>, trusted: Option<Trusted>) -> Origins {
        let configured: HashMap<Name, Key> = configured.collect();
        let owners = configured.iter().map(|(name, key)| (*key, name.clone())).collect();
        Origins { configured, owners, encryption: HashMap::new(), trusted, roster: None }
    }

    /// Whose rosters count.
    pub fn trusted(&self) -> Option<&Trusted> {
        self.trusted.as_ref()
    }

    /// The roster that holds.
    pub fn roster(&self) -> Option<&Arc<Held>> {
        self.roster.as_ref()
    }

    /// The same with this roster, which must be vouched for as *these* origins ask for. Without trusted authorities it is
    /// left aside.
    pub fn with(self, roster: &Arc<Held>) -> Result<Origins, Unfit> {
        let Some(trusted) = &self.trusted else { return Ok(self) };
        let roster = match &roster.by {
            by if by == trusted => roster.clone(),
            _ => Held::open(roster.signed.clone(), trusted)?.into(),
        };
        Ok(Origins { roster: Some(roster), ..self })
    }

    /// How this key stands for this origin, for what it sealed at this time (ms since 1970).
    pub fn ask(&self, origin: &Name, key: &Key, time: u64) -> KeyStanding {
        let configured = self.configured.get(origin);
        let member = self.member(origin);
        match member.and_then(|member| self.keys_of(member).find(|held| held.key == *key)) {
            Some(held) => match held.revoked {
                Some(from) if held.is_revoked(time) => KeyStanding::Revoked(from),
                _ if configured == Some(key) || held.holds(time) => KeyStanding::Good,
                _ => KeyStanding::NotThen,
            },
            None if configured == Some(key) => KeyStanding::Good,
            None => self.keys(origin).next().map_or(KeyStanding::Unknown, |known| KeyStanding::Other(*known)),
        }
    }

    /// The keys of this origin, also those of the past, the configured one first. None: it is not known.
    pub fn keys(&self, origin: &Name) -> impl Iterator<Item = &Key> {
        let configured = self.configured.get(origin);
        let member = self.member(origin).into_iter().flat_map(|member| self.keys_of(member));
        configured.into_iter().chain(member.map(|held| &held.key).filter(move |key| Some(*key) != configured))
    }

    /// Every key of every origin.
    pub fn all_keys(&self) -> impl Iterator<Item = &Key> {
        let members = self.roster.iter().flat_map(|roster| &roster.roster().members);
        self.configured.values().chain(members.flat_map(|member| &member.keys).map(|held| &held.key))
    }

    /// What the roster says of this name, if it speaks of the same node as the configuration.
    pub(super) fn member(&self, name: &Name) -> Option<&Member> {
        let member = self.roster.as_ref()?.roster().member(name)?;
        let same = |key: &Key| member.keys.iter().any(|held| held.key == *key);
        self.configured.get(name).is_none_or(same).then_some(member)
    }

    /// A key that the configuration gives to another name is that one's.
    fn keys_of<'a>(&'a self, member: &'a Member) -> impl Iterator<Item = &'a MemberKey> {
        member.keys.iter().filter(|held| self.owners.get(&held.key).is_none_or(|owner| *owner == member.name))
    }

    /// Where roster and configuration say different things, and what holds, for a person. `me` is this node.
    pub fn contradictions(&self, me: &Name, my_key: &Key) -> Vec<String> {
        let Some(held) = &self.roster else { return Vec::new() };
        let mut found = about_us(held.roster(), me, my_key);
        for member in &held.roster().members {
            let name = &member.name;
            if let Some(configured) = self.configured.get(name) {
                match member.keys.iter().find(|held| held.key == *configured) {
                    None => found.push(format!(
                        "the roster knows {name} with the key {}, and relay.toml with {configured}, which holds: ask its operator \
                         which is right, and correct relay.toml, or have the roster corrected",
                        member.keys[0].key
                    )),
                    Some(held) => found.extend(held.revoked.map(|from| {
                        format!(
                            "the roster has revoked the key {configured} of {name}, which relay.toml still has: what it \
                             seals from {} on is refused; ask its operator for the new key",
                            rfc3339(from)
                        )
                    })),
                }
            }
            for held in &member.keys {
                if let Some(owner) = self.owners.get(&held.key).filter(|owner| *owner != name) {
                    found.push(format!(
                        "the key {} is that of {name} in the roster, and that of {owner} in relay.toml, which holds",
                        held.key
                    ));
                }
            }
        }
        found.extend(self.encryption_contradictions());
        found
    }
}

fn about_us(roster: &Roster, me: &Name, my_key: &Key) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(us) = roster.member(me) {
        match us.keys.iter().find(|held| held.key == *my_key) {
            None => found.push(format!(
                "the roster knows this node with another key ({}): nodes that go by it refuse our events; tell its \
                 authorities our key, {my_key}",
                us.keys[0].key
            )),
            Some(held) => found.extend(held.revoked.map(|from| {
                format!("the roster has revoked this node's key from {} on: our events are refused", rfc3339(from))
            })),
        }
    }
    let others = roster.members.iter().filter(|member| member.name != *me);
    for other in others.filter(|member| member.keys.iter().any(|held| held.key == *my_key)) {
        found.push(format!(
            "the roster knows this node's key as that of {}: its authorities must correct it",
            other.name
        ));
    }
    found
}
