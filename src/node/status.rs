//! How everything stands: for logs, for stopping, and for whoever asks over the control socket.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde::Serialize;
use tokio::runtime::Handle;
use tracing::info;

use super::keys::RotationStatus;
use super::peers::Peer;
use super::{Core, lock};
use crate::envelope::{Key, Name};
use crate::intelmq::TakenCounts;
use crate::net::{Partner, PeerLink, Traffic};

/// A moment of a node.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Status {
    /// The newest entry's number.
    pub head: u64,
    /// Entries in the log, ids in the seen set, items in quarantine.
    pub entries: u64,
    #[allow(missing_docs)]
    pub ids: u64,
    #[allow(missing_docs)]
    pub quarantined: u64,
    /// What the process does at once: more with every connection, and no more when it has ended.
    pub tasks: usize,
    /// The roster that holds.
    pub roster: Option<RosterStatus>,
    /// The rotation of this node's key that is under way.
    pub rotation: Option<RotationStatus>,
    /// Of whom relay.toml has an old key: that of today.
    pub outdated: BTreeMap<Name, Key>,
    /// For whom relay.toml has an encryption key of an older key: that of today.
    pub outdated_encryption: BTreeMap<Name, String>,
    /// By peer,
    pub peers: BTreeMap<Name, PeerStatus>,
    /// by source,
    pub sources: BTreeMap<Name, TakenCounts>,
    /// and by sink.
    pub sinks: BTreeMap<Name, DoorStatus>,
}

/// A roster.
#[derive(Debug, Clone, Serialize)]
pub struct RosterStatus {
    /// Of which network,
    pub network: Name,
    #[allow(missing_docs)]
    pub number: u64,
    /// and how many it names.
    pub members: usize,
}

/// A peer.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PeerStatus {
    /// Where it is connected.
    pub connected: Option<String>,
    /// Why it is not.
    pub error: Option<String>,
    /// Since the node started.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// A sink.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct DoorStatus {
    /// Envelopes given to it since the node started.
    pub given: u64,
    /// Envelopes that are no events of IntelMQ's, and were not given to its pipeline.
    pub unfit: u64,
    /// Events that do not fit its data format, and are in quarantine.
    pub quarantined: u64,
    /// The number of the last entry that it has, or that was not for it.
    pub seq: u64,
}

impl Status {
    /// Whether nothing waits in the log for a peer that is linked, or for a door.
    pub(super) fn is_drained(&self) -> bool {
        let linked = self.peers.values().map(|peer| &peer.traffic).filter(|traffic| traffic.linked);
        linked.into_iter().all(|Traffic { behind, unanswered, taking, .. }| *behind == 0 && *unanswered == 0 && !taking)
            && self.sinks.values().all(|sink| sink.seq == self.head)
    }

    /// One line per link and door that did something since `last`.
    pub(super) fn log_since(&self, last: &Status) {
        for (peer, now) in &self.peers {
            let before = last.peers.get(peer).map(|peer| &peer.traffic);
            if before != Some(&now.traffic) {
                let Traffic { given, taken, withheld, links, behind, linked, .. } = &now.traffic;
                let since = |f: fn(&Traffic) -> u64| f(&now.traffic) - before.map_or(0, f).min(f(&now.traffic));
                info!(
                    %peer, linked, links, behind, sent = since(|t| t.given.sent), bytes = since(|t| t.given.bytes),
                    offered = since(|t| t.given.offered), taken = ?Words(taken), answered = ?Words(&given.verdicts),
                    withheld = ?Words(withheld), "link"
                );
            }
        }
        for (door, now) in &self.sources {
            if last.sources.get(door) != Some(now) {
                let TakenCounts { sealed, duplicates, quarantined } = now;
                info!(%door, sealed, duplicates, quarantined, "source");
            }
        }
        for (door, now) in &self.sinks {
            if last.sinks.get(door) != Some(now) {
                let DoorStatus { given, unfit, quarantined, seq } = now;
                info!(%door, given, unfit, quarantined, waiting = self.head.saturating_sub(*seq), "sink");
            }
        }
    }
}

/// Counters by their words: `accepted=12 duplicate=3`.
struct Words<'a, W>(&'a BTreeMap<W, u64>);

impl<W: std::fmt::Display> std::fmt::Debug for Words<'_, W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("{")?;
        for (index, (word, count)) in self.0.iter().enumerate() {
            write!(f, "{}{word}={count}", if index > 0 { " " } else { "" })?;
        }
        f.write_str("}")
    }
}

/// Where the tasks leave what they count. Cheap to clone.
#[derive(Clone)]
pub(super) struct Board {
    core: Arc<Core>,
    shown: Arc<Mutex<Shown>>,
}

#[derive(Default)]
struct Shown {
    peers: BTreeMap<Name, (Arc<Partner>, PeerLink)>,
    sources: BTreeMap<Name, Arc<Mutex<TakenCounts>>>,
    sinks: BTreeMap<Name, Arc<Mutex<DoorStatus>>>,
}

impl Board {
    pub(super) fn new(core: Arc<Core>) -> Board {
        Board { core, shown: Arc::default() }
    }

    pub(super) fn show_peers(&self, peers: &BTreeMap<Name, Peer>) {
        let shown = |peer: &Peer| Some((peer.partner.clone(), self.core.net.link(&peer.running.config.key)?));
        lock(&self.shown).peers = peers.iter().filter_map(|(name, peer)| Some((name.clone(), shown(peer)?))).collect();
    }

    pub(super) fn source(&self, door: &Name) -> Arc<Mutex<TakenCounts>> {
        lock(&self.shown).sources.entry(door.clone()).or_default().clone()
    }

    pub(super) fn sink(&self, door: &Name) -> Arc<Mutex<DoorStatus>> {
        lock(&self.shown).sinks.entry(door.clone()).or_default().clone()
    }

    pub(super) fn forget_source(&self, door: &Name) {
        lock(&self.shown).sources.remove(door);
    }

    pub(super) fn forget_sink(&self, door: &Name) {
        lock(&self.shown).sinks.remove(door);
    }

    /// A peer, and whether its link stands.
    pub(super) fn partner(&self, peer: &Name) -> Option<(Arc<Partner>, bool)> {
        let shown = lock(&self.shown);
        let (partner, _) = shown.peers.get(peer)?;
        Some((partner.clone(), partner.traffic().linked))
    }

    pub(super) fn status(&self) -> Status {
        let usage = self.core.gate.store().usage();
        // Before the links are asked: what is committed after this is not held against them.
        let head = self.core.gate.store().head();
        let rules = self.core.gate.rules();
        let shown = lock(&self.shown);
        let peers = shown.peers.iter().map(|(name, (partner, link))| {
            let state = link.state();
            let traffic = partner.traffic().clone().at(head);
            (name.clone(), PeerStatus { connected: state.connected, error: state.error, traffic })
        });
        let roster = rules.origins.roster().map(|held| held.roster());
        let outdated_encryption = rules.origins.outdated_encryption().into_iter();
        Status {
            roster: roster.map(|roster| RosterStatus {
                network: roster.network.clone(),
                number: roster.number,
                members: roster.members.len(),
            }),
            outdated: rules.origins.outdated().into_iter().map(|(name, _, new)| (name, new)).collect(),
            outdated_encryption: outdated_encryption.map(|(name, key)| (name, key.to_string())).collect(),
            rotation: RotationStatus::of(&self.core.gate, &lock(&self.core.keys.peers)),
            head,
            entries: usage.entries,
            ids: usage.ids,
            quarantined: usage.quarantined,
            // Asked outside of a runtime, it has none.
            tasks: Handle::try_current().map_or(0, |handle| handle.metrics().num_alive_tasks()),
            peers: peers.collect(),
            sources: shown.sources.iter().map(|(name, counts)| (name.clone(), *lock(counts))).collect(),
            sinks: shown.sinks.iter().map(|(name, counts)| (name.clone(), *lock(counts))).collect(),
        }
    }
}
