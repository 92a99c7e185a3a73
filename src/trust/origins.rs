//! The known origins: by name, with their keys, at a time. The configuration's first, then the roster's.
//!
//! Where both know a name, the roster adds to what is configured as long as it knows the configured key too: then a
//! member's next key is accepted without an edit, and a revoked one is refused though it is configured. A roster that
//! does not know the configured key speaks of somebody else; it is not heard about that name, and the operator is told.
//!
//! Notices add to both: the keys that follow an origin's, and those that came before.

use std::collections::HashMap;
use std::sync::Arc;

use super::lines::{Lines, Notices, Root, Successor};
use super::roster::{Member, MemberKey, Roster};
use super::{Held, Trusted, Unfit};
use crate::config::Config;
use crate::envelope::{EncryptionKey, Header, Key, Name, rfc3339};

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
    /// and by key, ourselves among them.
    owners: HashMap<Key, Name>,
    /// Ourselves.
    us: Option<(Name, Key)>,
    /// What is encrypted to them, as configured.
    pub(super) encryption: HashMap<Name, EncryptionKey>,
    /// Whose rosters count; none: there is none.
    trusted: Option<Trusted>,
    roster: Option<Arc<Held>>,
    /// Whose the roster's keys are.
    listed: Arc<HashMap<Key, Name>>,
    notices: Arc<Notices>,
    /// What notices say of those that are configured, were there no roster: whether it speaks of the same nodes.
    own: Arc<Lines>,
    lines: Arc<Lines>,
}

impl Origins {
    /// Those that the configuration names, and whose rosters name more.
    pub fn new(configured: impl Iterator<Item = (Name, Key)>, trusted: Option<Trusted>) -> Origins {
        let configured: HashMap<Name, Key> = configured.collect();
        let owners = configured.iter().map(|(name, key)| (*key, name.clone())).collect();
        Origins { configured, owners, trusted, ..Origins::default() }
    }

    /// The same, of the node with this name and key.
    #[must_use]
    pub fn of(mut self, me: Name, key: Key) -> Origins {
        self.owners.insert(key, me.clone());
        self.us = Some((me, key));
        self.lined()
    }

    /// Those of a node with this configuration, before any roster.
    pub fn configured(config: &Config) -> Origins {
        let peers = config.peers.iter().map(|peer| (peer.name.clone(), peer.key));
        let origins = config.origins.iter().map(|origin| (origin.name.clone(), origin.key));
        let of_peers = config.peers.iter().filter_map(|peer| Some((peer.name.clone(), peer.encryption?)));
        let of_origins = config.origins.iter().filter_map(|origin| Some((origin.name.clone(), origin.encryption?)));
        let origins = Origins::new(peers.chain(origins), config.roster.as_ref().map(Into::into));
        origins.encrypting(of_peers.chain(of_origins))
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
        let listed = roster.roster().members.iter();
        let listed = listed.flat_map(|member| member.keys.iter().map(|held| (held.key, member.name.clone()))).collect();
        Ok(Origins { roster: Some(roster), listed: Arc::new(listed), ..self }.lined())
    }

    /// The same with these notices.
    #[must_use]
    pub fn noticing(self, notices: Arc<Notices>) -> Origins {
        Origins { notices, ..self }.lined()
    }

    /// The notices that are held, in the order in which they were taken.
    pub fn notices(&self) -> &Arc<Notices> {
        &self.notices
    }

    pub(super) fn lines(&self) -> &Lines {
        &self.lines
    }

    /// What these notices would say here.
    pub(super) fn lines_of(&self, notices: &Notices) -> Lines {
        let own = self.own_lines(notices);
        Lines::new(notices, |origin| self.root(origin, self.member_by(origin, &own)))
    }

    fn own_lines(&self, notices: &Notices) -> Lines {
        match &self.roster {
            Some(_) => Lines::new(notices, |origin| self.root(origin, None)),
            None => Lines::default(),
        }
    }

    fn lined(self) -> Origins {
        let own = Arc::new(self.own_lines(&self.notices));
        let lines = Arc::new(self.lines_of(&self.notices));
        Origins { own, lines, ..self }
    }

    /// What is known of an origin without notices.
    fn root<'a>(&'a self, origin: &Name, member: Option<&'a Member>) -> Root<'a> {
        let first = member.and_then(|member| member.keys.first()).map(|held| held.key);
        // Whoever finds the secret of a key that was put aside must not name what follows it.
        let aside = move |held: &MemberKey| held.until.is_some() && first != Some(held.key);
        let (of, void) = (origin.clone(), move |held: &&MemberKey| held.revoked.is_some() || aside(held));
        let listed = member.into_iter().flat_map(|member| self.keys_of(member));
        Root {
            keys: self.ours(origin).into_iter().copied().chain(listed.clone().map(|held| held.key)).collect(),
            void: listed.filter(void).map(|held| held.key).collect(),
            foreign: Box::new(move |key| {
                [self.owners.get(key), self.listed.get(key)].into_iter().flatten().any(|owner| *owner != of)
            }),
        }
    }

    pub(super) fn configured_key(&self, name: &Name) -> Option<&Key> {
        self.configured.get(name)
    }

    /// The key that relay.toml has for this name, or our own.
    fn ours(&self, origin: &Name) -> Option<&Key> {
        self.us.as_ref().filter(|(me, _)| me == origin).map(|(_, key)| key).or_else(|| self.configured.get(origin))
    }

    /// Whether anything is known of this origin.
    pub fn knows(&self, origin: &Name) -> bool {
        self.keys(origin).next().is_some()
    }

    /// Whether what has this header is sealed by a key that was revoked by then.
    pub fn is_void(&self, header: &Header) -> bool {
        matches!(self.ask(&header.origin, &header.key, header.time), KeyStanding::Revoked(_))
    }

    /// How this key stands for this origin, for what it sealed at this time (ms since 1970).
    pub fn ask(&self, origin: &Name, key: &Key, time: u64) -> KeyStanding {
        let configured = self.ours(origin);
        let listed = self.member(origin).and_then(|member| self.keys_of(member).find(|held| held.key == *key));
        if listed.is_none() && configured != Some(key) && !self.lines.keys(origin).contains(key) {
            return self.keys(origin).next().map_or(KeyStanding::Unknown, |known| KeyStanding::Other(*known));
        }
        let void = [listed.and_then(|held| held.revoked), self.lines.revoked(key)].into_iter().flatten().min();
        if let Some(from) = void.filter(|from| *from <= time) {
            return KeyStanding::Revoked(from);
        }
        // The key itself has said so: whoever still has it configured has not heard.
        let over = self.lines.next(key).and_then(|next| next.until).is_some_and(|until| until <= time);
        let holds = configured == Some(key) || listed.is_none_or(|held| held.holds(time));
        if holds && !over { KeyStanding::Good } else { KeyStanding::NotThen }
    }

    /// The keys of this origin, also those of the past, the configured one first. None: it is not known.
    pub fn keys(&self, origin: &Name) -> impl Iterator<Item = &Key> {
        let configured = self.ours(origin);
        let member = self.member(origin);
        let listed = member.into_iter().flat_map(|member| self.keys_of(member)).map(|held| &held.key);
        let is_listed = move |key: &Key| member.is_some_and(|member| member.keys.iter().any(|held| held.key == *key));
        let told = self.lines.keys(origin).iter().filter(move |key| !is_listed(key));
        configured.into_iter().chain(listed.chain(told).filter(move |key| Some(*key) != configured))
    }

    /// Every key of every origin.
    pub fn all_keys(&self) -> impl Iterator<Item = &Key> {
        let members = self.roster.iter().flat_map(|roster| &roster.roster().members);
        let listed = members.flat_map(|member| &member.keys).map(|held| &held.key);
        self.configured.values().chain(listed).chain(self.lines.all_keys())
    }

    /// The keys that a node of this name may show itself with at this time, the newest first: whoever has used one is not
    /// met with an older one again.
    pub fn identities(&self, name: &Name, time: u64) -> Vec<Key> {
        let listed = self.member(name).into_iter().flat_map(|member| self.keys_of(member)).map(|held| held.key);
        let mut found: Vec<Key> = Vec::new();
        for root in listed.chain(self.ours(name).copied()) {
            let mut line: Vec<Key> = self.lines.successors(&root).collect();
            line.reverse();
            line.push(root);
            line.extend(self.lines.ancestors(&root));
            for key in line {
                if !found.contains(&key) && self.ask(name, &key, time) == KeyStanding::Good {
                    found.push(key);
                }
            }
        }
        found
    }

    /// The keys that this one follows, by notices that count.
    pub fn ancestors(&self, key: &Key) -> impl Iterator<Item = Key> {
        self.lines.ancestors(key)
    }

    /// The last of those that follow this key, or itself.
    pub fn newest(&self, key: &Key) -> Key {
        self.lines.successors(key).last().unwrap_or(*key)
    }

    /// What follows this key, by a notice that counts.
    pub fn successor(&self, key: &Key) -> Option<Successor> {
        self.lines.next(key)
    }

    /// From when on this key is void, by its own word.
    pub fn revoked(&self, key: &Key) -> Option<u64> {
        self.lines.revoked(key)
    }

    /// Whom relay.toml has with a key that another one has followed, that one last: it should have that, unless it is void.
    pub fn outdated(&self) -> Vec<(Name, Key, Key)> {
        let newest = |(name, key): (&Name, &Key)| Some((name.clone(), *key, self.lines.successors(key).last()?));
        let void = |(name, _, new): &(Name, Key, Key)| matches!(self.ask(name, new, u64::MAX), KeyStanding::Revoked(_));
        let mut found: Vec<_> = self.configured.iter().filter_map(newest).filter(|found| !void(found)).collect();
        found.sort();
        found
    }

    /// What the roster says of this name, if it speaks of the same node as the configuration.
    pub(super) fn member(&self, name: &Name) -> Option<&Member> {
        self.member_by(name, &self.own)
    }

    /// It does where it has the configured key, or one that follows it or came before it.
    fn member_by(&self, name: &Name, own: &Lines) -> Option<&Member> {
        let member = self.roster.as_ref()?.roster().member(name)?;
        let Some(ours) = self.ours(name) else { return Some(member) };
        let has = |key: Key| member.keys.iter().any(|held| held.key == key);
        let mut line = [*ours].into_iter().chain(own.successors(ours)).chain(own.ancestors(ours));
        line.any(has).then_some(member)
    }

    /// A key that the configuration gives to another name is that one's.
    fn keys_of<'a>(&'a self, member: &'a Member) -> impl Iterator<Item = &'a MemberKey> + Clone {
        member.keys.iter().filter(|held| self.owners.get(&held.key).is_none_or(|owner| *owner == member.name))
    }

    /// Where roster and configuration say different things, and what holds, for a person. `me` is this node.
    pub fn contradictions(&self, me: &Name, my_key: &Key) -> Vec<String> {
        let Some(held) = &self.roster else { return Vec::new() };
        let mut found = about_us(held.roster(), me, my_key, &self.lines.ancestors(my_key).collect::<Vec<_>>());
        for member in &held.roster().members {
            let name = &member.name;
            if let Some(configured) = self.configured.get(name) {
                match member.keys.iter().find(|held| held.key == *configured) {
                    // It speaks of the same node: relay.toml has an old key of it.
                    None if self.member(name).is_some() => {}
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

fn about_us(roster: &Roster, me: &Name, my_key: &Key, before: &[Key]) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(us) = roster.member(me) {
        let good = |held: &&MemberKey| before.contains(&held.key) && held.revoked.is_none();
        match us.keys.iter().find(|held| held.key == *my_key) {
            None if us.keys.iter().any(|held| good(&held)) => found.push(format!(
                "the roster has an old key of this node, and nodes know by its notice that {my_key} follows: tell its authorities"
            )),
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
