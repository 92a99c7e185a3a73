//! Which notices count, and what follows: each origin's line of keys, from the first to the one in use.
//!
//! A notice counts where its key is known for its origin, by configuration or roster or by a notice that counts; or where
//! the key that it names as the next is: then that one vouches for what came before it. The first successor of a key that
//! is held is the only one. Of a key that is void none counts that was not there before, unless the revocation names it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::notice::SignedNotice;
use crate::envelope::{EncryptionKey, Key, Name};

/// Notices of one origin, at most.
pub const MAX_OF_ORIGIN: usize = 8;
/// Notices in all, at most.
pub const MAX_NOTICES: usize = 4096;

/// The notices that are held, in the order in which they were taken: it decides.
pub type Notices = Vec<Arc<SignedNotice>>;

/// What the notices that count say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Lines {
    /// By origin, the keys that it has by its notices, the newest first.
    keys: HashMap<Name, Vec<Key>>,
    next: HashMap<Key, Successor>,
    before: HashMap<Key, Key>,
    revoked: HashMap<Key, u64>,
}

/// The key that follows another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Successor {
    /// It.
    pub key: Key,
    /// What the other sealed before this time holds; `None`: it is revoked by the notice that names its successor.
    pub until: Option<u64>,
    /// What is encrypted to it.
    pub encryption: Option<EncryptionKey>,
}

/// What is known of an origin without its notices.
pub(super) struct Root<'a> {
    /// Its keys.
    pub(super) keys: Vec<Key>,
    /// Those of them that the roster has revoked, or put aside: they have no say.
    pub(super) void: HashSet<Key>,
    /// Whether a key is somebody else's.
    pub(super) foreign: Box<dyn Fn(&Key) -> bool + 'a>,
}

impl Lines {
    /// What these notices say, where `root` tells of an origin what is known without them.
    pub(super) fn new<'a>(notices: &Notices, root: impl Fn(&Name) -> Root<'a>) -> Lines {
        let mut by_origin: HashMap<&Name, Vec<&SignedNotice>> = HashMap::new();
        for notice in notices {
            by_origin.entry(&notice.notice().origin).or_default().push(notice);
        }
        let mut lines = Lines::default();
        let mut origins: Vec<_> = by_origin.into_iter().collect();
        // A key in two lines is a contradiction: the same one wins everywhere.
        origins.sort_by(|a, b| a.0.cmp(b.0));
        for (origin, held) in origins {
            lines.add(origin, &held, &root(origin));
        }
        lines
    }

    fn add(&mut self, origin: &Name, held: &[&SignedNotice], root: &Root<'_>) {
        let mut known: HashSet<Key> = root.keys.iter().copied().collect();
        loop {
            let before = (known.len(), self.next.len());
            for (at, notice) in held.iter().map(|held| held.notice()).enumerate() {
                let Some(next) = notice.next.filter(|_| !self.next.contains_key(&notice.key)) else { continue };
                let is_strange = |key: &Key| (root.foreign)(key) || (!known.contains(key) && self.has(key));
                if is_strange(&notice.key) || is_strange(&next) {
                    continue;
                }
                let vouched = known.contains(&next);
                let void = root.void.contains(&notice.key) || held[..at].iter().any(|held| is_void(held, &notice.key));
                if (known.contains(&notice.key) && !void) || vouched {
                    known.extend([notice.key, next]);
                    self.next.insert(
                        notice.key,
                        Successor { key: next, until: notice.until, encryption: notice.encryption() },
                    );
                    self.before.entry(next).or_insert(notice.key);
                }
            }
            if before == (known.len(), self.next.len()) {
                break;
            }
        }
        for notice in held.iter().map(|held| held.notice()).filter(|notice| known.contains(&notice.key)) {
            if let Some(from) = notice.revoked {
                let known = self.revoked.entry(notice.key).or_insert(from);
                *known = from.min(*known);
            }
        }
        let mut keys: Vec<Key> = known.into_iter().filter(|key| self.has(key)).collect();
        keys.sort_by_cached_key(|key| (self.successors(key).count(), *key.as_bytes()));
        self.keys.insert(origin.clone(), keys);
    }

    fn has(&self, key: &Key) -> bool {
        self.next.contains_key(key) || self.before.contains_key(key)
    }

    /// The keys of this origin that notices tell of, the newest first.
    pub(super) fn keys(&self, origin: &Name) -> &[Key] {
        self.keys.get(origin).map_or(&[], |keys| keys)
    }

    /// Every key that notices tell of.
    pub(super) fn all_keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.values().flatten()
    }

    /// What follows this key.
    pub(super) fn next(&self, key: &Key) -> Option<Successor> {
        self.next.get(key).copied()
    }

    /// From when on this key is void, by its own word.
    pub(super) fn revoked(&self, key: &Key) -> Option<u64> {
        self.revoked.get(key).copied()
    }

    /// The keys that follow this one, in order.
    pub(super) fn successors(&self, key: &Key) -> impl Iterator<Item = Key> {
        walk(key, |key| self.next.get(key).map(|next| next.key))
    }

    /// The keys that this one follows, the last first.
    pub(super) fn ancestors(&self, key: &Key) -> impl Iterator<Item = Key> {
        walk(key, |key| self.before.get(key).copied())
    }
}

fn is_void(held: &SignedNotice, key: &Key) -> bool {
    held.notice().key == *key && held.notice().revoked.is_some()
}

/// Keys that follow themselves in the end are no reason to go on for ever.
fn walk(from: &Key, step: impl Fn(&Key) -> Option<Key>) -> impl Iterator<Item = Key> {
    let start = *from;
    std::iter::successors(step(from), move |key| step(key)).take_while(move |key| *key != start).take(MAX_OF_ORIGIN)
}
