//! The way of an envelope for a person: the nodes that it passed, and which of them have signed that.
//!
//! Owns what the marks mean, as on Usenet: `!!` before a node that has signed, `!` before one that is only claimed; and
//! `!?` before one in whose name something is signed that does not hold. It must never show more than what is signed:
//! everything in a path was written by somebody on the way.

use std::sync::Arc;

use crate::accept::kept_notices;
use crate::config::{Config, KeySource, StoredKey};
use crate::envelope::{Attestation, Header, Hop, Key, Name, rfc3339};
use crate::store::{Cursor, Entry, Store, StoreError};
use crate::trust::{Held, KeyStanding, Origins, Signed};

/// By whose keys hops are verified, and events are void.
#[derive(Debug, Clone)]
pub struct Known {
    /// This node.
    pub me: Name,
    /// Those whose keys it knows.
    pub origins: Arc<Origins>,
}

impl Known {
    /// What a node knows that does not run: by its configuration, its key, and the roster and the notices of its store.
    pub(super) async fn at_rest(config: &Config, store: &Store) -> Result<Known, StoreError> {
        let me = &config.node.name;
        let configured = Origins::configured(config);
        let origins = match our_key(config) {
            Some(key) => configured.of(me.clone(), key),
            None => configured,
        };
        let roster = store.cursor(&Cursor::Roster).await?.and_then(|bytes| Signed::decode(&bytes).ok());
        // One that is not vouched for does not hold when the node runs either.
        let held = roster.zip(origins.trusted()).and_then(|(signed, trusted)| Held::open(signed, trusted).ok());
        let with = held.map(Arc::new).and_then(|held| origins.clone().with(&held).ok());
        let origins = with.unwrap_or(origins);
        let origins = match kept_notices(store).await? {
            Some((notices, _)) => origins.noticing(notices.into()),
            None => origins,
        };
        Ok(Known { me: me.clone(), origins: origins.into() })
    }
}

/// Our public key, where no passphrase and no command is needed to tell it.
fn our_key(config: &Config) -> Option<Key> {
    match config.node.key_source() {
        source @ KeySource::File(_) => StoredKey::read(source).ok()?.key(),
        KeySource::Command(_) => None,
    }
}

impl Known {
    /// Whether what has this header is sealed by a key that was revoked by then.
    pub(super) fn is_void(&self, header: &Header) -> bool {
        self.origins.is_void(header)
    }
}

/// A node on the way.
pub(super) struct Step {
    mark: &'static str,
    name: Name,
    text: String,
}

/// The way of an entry, the origin first.
pub(super) fn way(entry: &Entry, known: &Known) -> Vec<Step> {
    let hops = entry.envelope.hops();
    let last = hops.len().saturating_sub(1);
    let mut from: Option<&Name> = None;
    let mut steps = Vec::with_capacity(hops.len());
    for (index, hop) in hops.iter().enumerate() {
        let ours = entry.from.is_some() && index == last && hop.name == known.me;
        let (mark, text) = match (from, &hop.attestation) {
            // The path's beginning was compared with the seal before the envelope was stored.
            (None, _) => ("!!", "verified: it sealed it".into()),
            (Some(_), None) if ours => ("!", "this node, which does not attest".into()),
            (Some(_), None) => ("!", "claimed: it has signed nothing, or it was taken off".into()),
            (Some(from), Some(word)) => judged(hop, word, from, ours, known),
        };
        steps.push(Step { mark, name: hop.name.clone(), text });
        from = Some(&hop.name);
    }
    steps
}

fn judged(hop: &Hop, word: &Attestation, from: &Name, ours: bool, known: &Known) -> (&'static str, String) {
    let Attestation { key, time, holds } = word;
    let time_of_day = rfc3339(*time);
    if !holds {
        return ("!?", format!("FALSE: {key} has not signed this envelope as taken from {from} at {time_of_day}"));
    }
    // What we signed ourselves, with whichever key we had then, and keep in our own log.
    let standing = if ours { KeyStanding::Good } else { known.origins.ask(&hop.name, key, *time) };
    match standing {
        KeyStanding::Good => ("!!", format!("verified: it signed that it took it from {from} at {time_of_day}")),
        KeyStanding::Unknown => {
            let text = "claimed: somebody signed that it took it from";
            ("!", format!("{text} {from} at {time_of_day}, with {key}; this node knows no key of it"))
        }
        KeyStanding::Other(known) => ("!?", format!("FALSE, or its key is new: signed with {key}; its key is {known}")),
        KeyStanding::NotThen => {
            ("!?", format!("not believed: signed with {key}, which was not its key at {time_of_day}"))
        }
        KeyStanding::Revoked(from) => {
            ("!?", format!("not believed: signed at {time_of_day} with {key}, revoked from {} on", rfc3339(from)))
        }
    }
}

/// The way in one word.
pub(super) fn short(steps: &[Step]) -> String {
    steps.iter().map(|step| format!("{}{}", step.mark, step.name)).collect()
}

/// What the way says of each node, a line each.
pub(super) fn long(steps: &[Step]) -> impl Iterator<Item = String> + '_ {
    steps.iter().map(|step| format!("  {}{}  {}", step.mark, step.name, step.text))
}
