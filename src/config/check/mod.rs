//! The contradictions: what each key alone may say, and all of them together may not.
//!
//! Pure: takes a parsed [`Config`] with absolute paths, and names every place that contradicts another. Finding the
//! line of a place is `parse`'s.

mod amqp;
mod doors;
mod numbers;
mod rate;
mod rules;
mod seal;
mod tcp;

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use super::address::{self, Use};
use super::{Config, Origin, Peer};

/// Something that cannot be meant.
pub(super) struct Contradiction {
    /// Keys and indexes joined by dots: `peer.0.name`. Several, with a space between, where keys contradict each other:
    /// the operator is shown the first that stands in the file, as the others have their defaults.
    pub(super) places: String,
    pub(super) reason: String,
    pub(super) remedy: String,
}

/// All of them; none means that the configuration can be run.
pub(super) fn contradictions(config: &Config) -> Vec<Contradiction> {
    let mut found = Found(Vec::new());
    numbers::check(config, &mut found);
    key(config, &mut found);
    listen(config, &mut found);
    peers(config, &mut found);
    origins(config, &mut found);
    roster(config, &mut found);
    rate::check(config, &mut found);
    rules::check(config, &mut found);
    doors::check(config, &mut found);
    seal::check(config, &mut found);
    tcp::check(config, &mut found);
    amqp::check(config, &mut found);
    found.0
}

struct Found(Vec<Contradiction>);

impl Found {
    fn add(&mut self, places: impl Into<String>, reason: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Contradiction { places: places.into(), reason: reason.into(), remedy: remedy.into() });
    }
}

/// Things that must differ, and who had each first.
struct Unique<K>(HashMap<K, String>);

impl<K: Hash + Eq> Unique<K> {
    fn new() -> Unique<K> {
        Unique(HashMap::new())
    }

    /// Who had it before `owner`, if anybody.
    fn claim(&mut self, thing: K, owner: impl Into<String>) -> Option<String> {
        match self.0.get(&thing) {
            Some(first) => Some(first.clone()),
            None => {
                self.0.insert(thing, owner.into());
                None
            }
        }
    }
}

fn key(config: &Config, found: &mut Found) {
    let node = &config.node;
    if node.key_command.iter().any(|text| text.contains('\0')) || node.key_command.first().is_some_and(String::is_empty)
    {
        found.add(
            "node.key_command",
            "this is no command",
            "write a program and its arguments, each as a text of its own, as [\"pass\", \"show\", \"relay\"]",
        );
    }
    if node.key.is_some() && !node.key_command.is_empty() {
        found.add(
            "node.key_command",
            "the key is in the file that `key` names, or held by `key_command`, not both",
            "remove one of them; a new key is a new node for all peers",
        );
    }
}

fn listen(config: &Config, found: &mut Found) {
    for (i, text) in config.net.listen.iter().enumerate() {
        if let Err(reason) = address::check(text, Use::Listen) {
            found.add(
                format!("net.listen.{i}"),
                format!("{text:?} is no address to listen on: {reason}"),
                "write it as \"/ip4/0.0.0.0/tcp/4747\"",
            );
        }
    }
}

fn peers(config: &Config, found: &mut Found) {
    let (mut names, mut keys) = (Unique::new(), Unique::new());
    for (i, peer) in config.peers.iter().enumerate() {
        if peer.name == config.node.name {
            found.add(
                format!("peer.{i}.name"),
                format!("the peer {} has the name of this node", peer.name),
                "a node is no peer of itself: remove this peer, or correct a name",
            );
        }
        if names.claim(&peer.name, peer.name.as_str()).is_some() {
            found.add(
                format!("peer.{i}.name"),
                format!("there are two peers with the name {}", peer.name),
                "every peer has its own name: remove one, or correct it",
            );
        }
        if let Some(first) = keys.claim(peer.key, peer.name.as_str()) {
            found.add(
                format!("peer.{i}.key"),
                format!("the peers {first} and {} have the same key", peer.name),
                "ask both for what `intelmq-relay id` prints there",
            );
        }
        let same = |other: &&Peer| other.encryption.is_some() && other.encryption == peer.encryption;
        if let Some(first) = config.peers[..i].iter().find(same) {
            found.add(
                format!("peer.{i}.encryption"),
                format!("the peers {} and {} have the same encryption key", first.name, peer.name),
                "ask both for what `intelmq-relay id` prints there",
            );
        }
        peer_addresses(i, peer, found);
        peer_origins(config, i, peer, found);
    }
}

/// Whose events a peer may bring.
fn peer_origins(config: &Config, i: usize, peer: &Peer, found: &mut Found) {
    let Some(names) = &peer.origins else { return };
    if names.is_empty() {
        found.add(
            format!("peer.{i}.origins"),
            format!("the peer {} may bring events of nobody", peer.name),
            "write take = \"none\" if you mean it; without origins, it may bring those of every known origin",
        );
    }
    for (j, name) in names.iter().enumerate() {
        let place = format!("peer.{i}.origins.{j}");
        if *name == config.node.name {
            found.add(place, "our own events are taken from no peer", "remove this name, or correct it");
        } else if !config.knows(name) {
            found.add(
                place,
                format!("{name} is neither a peer nor an [[origin]]"),
                "correct the name, or add the node as [[origin]]: events of unknown origin are refused anyway",
            );
        } else if names[..j].contains(name) {
            found.add(place, format!("{name} stands here twice"), "remove one of the two");
        }
    }
}

fn peer_addresses(i: usize, peer: &Peer, found: &mut Found) {
    for (j, text) in peer.addresses.iter().enumerate() {
        if let Err(reason) = address::check(text, Use::Dial(peer.key)) {
            found.add(
                format!("peer.{i}.addresses.{j}"),
                format!("{text:?} is no address of a peer: {reason}"),
                "write it as \"/dns/relay.example.org/tcp/4747\" or \"/ip4/192.0.2.1/tcp/4747\"",
            );
        }
    }
}

fn roster(config: &Config, found: &mut Found) {
    let Some(roster) = &config.roster else { return };
    if roster.authorities.is_empty() {
        found.add(
            "roster.authorities",
            "a roster that nobody signs is nobody's word",
            "write the keys of those who sign it, or remove [roster]",
        );
    }
    let mut keys = HashSet::new();
    for (i, key) in roster.authorities.iter().enumerate() {
        if !keys.insert(key) {
            found.add(format!("roster.authorities.{i}"), format!("{key} stands here twice"), "remove one of the two");
        }
    }
    let most = keys.len().max(1);
    if roster.threshold == 0 || roster.threshold as usize > most {
        found.add(
            "roster.threshold roster.authorities",
            format!("{} signatures of {most} authorities cannot be asked for", roster.threshold),
            format!("choose from 1 to {most}"),
        );
    }
}

fn origins(config: &Config, found: &mut Found) {
    let (mut names, mut keys) = (Unique::new(), Unique::new());
    for (i, origin) in config.origins.iter().enumerate() {
        let Origin { name, key, .. } = origin;
        if *name == config.node.name {
            found.add(
                format!("origin.{i}.name"),
                format!("the origin {name} has the name of this node"),
                "our own seals need no entry: remove it, or correct a name",
            );
        }
        if names.claim(name, name.as_str()).is_some() {
            found.add(
                format!("origin.{i}.name"),
                format!("there are two origins with the name {name}"),
                "an origin has one key: remove the old one",
            );
        }
        if let Some(first) = keys.claim(*key, name.as_str()) {
            found.add(
                format!("origin.{i}.key"),
                format!("the origins {first} and {name} have the same key"),
                "ask both for what `intelmq-relay id` prints there",
            );
        }
        if let Some(peer) = config.peers.iter().find(|peer| peer.name == *name)
            && let (Some(of_peer), Some(of_origin)) = (peer.encryption, origin.encryption)
            && of_peer != of_origin
        {
            found.add(
                format!("origin.{i}.encryption"),
                format!("the origin {name} is a peer too, with another encryption key"),
                "ask it for what `intelmq-relay id` prints there, and remove this origin",
            );
        }
        // The same name and key as a peer's is no contradiction, only needless.
        if config.peers.iter().any(|peer| peer.name == *name && peer.key != *key) {
            found.add(
                format!("origin.{i}.key"),
                format!("the origin {name} is a peer too, with another key"),
                "remove this origin: a peer's seals are accepted anyway",
            );
        }
        if let Some(peer) = config.peers.iter().find(|peer| peer.key == *key && peer.name != *name) {
            found.add(
                format!("origin.{i}.name"),
                format!("the key of the origin {name} is that of the peer {}", peer.name),
                "one key is one node: correct the name, or the key",
            );
        }
    }
}
