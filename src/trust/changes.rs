//! What a newer roster changes: for the log, and for whoever reads it before it is published.

use std::fmt;

use super::roster::{Member, Roster};
use crate::envelope::{Key, Name};

/// One difference that matters to whoever accepts events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A member that was not there.
    Added(Name),
    /// One that is not there any more.
    Removed(Name),
    /// A further key.
    KeyAdded(Name, Key),
    /// A key that is gone: as if it had never been.
    KeyRemoved(Name, Key),
    /// A key that is revoked, from this time on (ms since 1970).
    KeyRevoked(Name, Key, u64),
    /// A revocation that is taken back.
    KeyRestored(Name, Key),
    /// A key whose time has changed.
    KeyTime(Name, Key),
    /// Something else about a member.
    Details(Name),
    /// Other authorities, or another number of them.
    Authorities,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Added(name) => write!(f, "member {name} added"),
            Change::Removed(name) => write!(f, "member {name} removed"),
            Change::KeyAdded(name, key) => write!(f, "key {key} of {name} added"),
            Change::KeyRemoved(name, key) => write!(f, "key {key} of {name} removed"),
            Change::KeyRevoked(name, key, from) => {
                write!(f, "key {key} of {name} revoked from {} on", crate::envelope::rfc3339(*from))
            }
            Change::KeyRestored(name, key) => write!(f, "key {key} of {name} no longer revoked"),
            Change::KeyTime(name, key) => write!(f, "key {key} of {name} holds for another time"),
            Change::Details(name) => write!(f, "details of {name} changed"),
            Change::Authorities => f.write_str("other authorities, or another threshold"),
        }
    }
}

/// What is different in `new`; without an old one, every member is added.
pub fn changes(old: Option<&Roster>, new: &Roster) -> Vec<Change> {
    let mut found = Vec::new();
    if old.is_some_and(|old| (&old.authorities, old.threshold) != (&new.authorities, new.threshold)) {
        found.push(Change::Authorities);
    }
    for member in &new.members {
        match old.and_then(|old| old.member(&member.name)) {
            Some(before) => of_member(before, member, &mut found),
            None => {
                found.push(Change::Added(member.name.clone()));
                let revoked = |key: &super::MemberKey| Some((key.key, key.revoked?));
                let revoked = member.keys.iter().filter_map(revoked);
                found.extend(revoked.map(|(key, from)| Change::KeyRevoked(member.name.clone(), key, from)));
            }
        }
    }
    let gone = old.into_iter().flat_map(|old| &old.members).filter(|member| new.member(&member.name).is_none());
    found.extend(gone.map(|member| Change::Removed(member.name.clone())));
    found
}

fn of_member(old: &Member, new: &Member, found: &mut Vec<Change>) {
    let name = || new.name.clone();
    for key in &new.keys {
        let before = old.keys.iter().find(|before| before.key == key.key);
        if before.is_none() {
            found.push(Change::KeyAdded(name(), key.key));
        }
        match (before.and_then(|before| before.revoked), key.revoked) {
            (before, Some(from)) if before != Some(from) => found.push(Change::KeyRevoked(name(), key.key, from)),
            (Some(_), None) => found.push(Change::KeyRestored(name(), key.key)),
            _ => {}
        }
        if before.is_some_and(|before| (before.from, before.until) != (key.from, key.until)) {
            found.push(Change::KeyTime(name(), key.key));
        }
    }
    let gone = old.keys.iter().filter(|before| !new.keys.iter().any(|key| key.key == before.key));
    found.extend(gone.map(|key| Change::KeyRemoved(name(), key.key)));
    let details = |member: &Member| (member.org, member.rdns.clone(), member.contact.clone(), member.encryption);
    if details(old) != details(new) {
        found.push(Change::Details(name()));
    }
}
