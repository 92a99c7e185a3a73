//! Who is let in: each peer, with the keys that it may show itself with, and nobody else.
//!
//! A part of [`Task`]. A peer is known by its configured key, whatever it shows; a key is one peer's at a time.

use libp2p::PeerId;
use tokio::time::Instant;
use tracing::warn;

use super::lock;
use super::peer::{Configured, PeerEntry};
use super::peer_link::Slot;
use super::task::Task;

impl Task {
    pub(super) fn set_peers(&mut self, configured: Vec<Configured>) {
        let mut before = std::mem::take(&mut self.peers);
        for peer in configured {
            let id = peer.id;
            let entry = match before.remove(&id) {
                Some(mut entry) => {
                    entry.reconfigure(peer);
                    entry
                }
                None => {
                    if peer.addresses.is_empty() && self.swarm.behaviour().callers.checks() {
                        warn!(peer = %peer.name, "it has no addresses, and with net.only_peer_addresses cannot call either");
                    }
                    PeerEntry::new(peer, Slot::new(), self.redial.clone())
                }
            };
            self.peers.insert(id, entry);
        }
        // Those who go first: a key that was one peer's may be another's now.
        for (id, mut entry) in before {
            while let Some(connection) = entry.any_connection() {
                entry.disconnected(connection, "this node ends the link", Instant::now());
            }
            entry.slot.end();
            self.swarm.behaviour_mut().callers.forget(&id);
            entry.ids().iter().for_each(|id| self.shut_out(id));
        }
        let ids: Vec<(PeerId, Vec<PeerId>)> =
            self.peers.iter().map(|(id, entry)| (*id, entry.ids().to_vec())).collect();
        ids.into_iter().for_each(|(peer, ids)| self.identify(peer, ids));
        let slots = self.peers.values().map(|entry| (entry.configured.key, entry.slot.clone())).collect();
        *lock(&self.shared.slots) = slots;
        self.refresh();
    }

    /// Lets a peer in as these, and as nobody else.
    pub(super) fn identify(&mut self, peer: PeerId, ids: Vec<PeerId>) {
        let Some(entry) = self.peers.get(&peer) else { return };
        let gone: Vec<PeerId> = entry.ids().iter().filter(|id| !ids.contains(id)).copied().collect();
        // Somebody else's stays that one's.
        let its = |id: &PeerId| self.owners.get(id).is_none_or(|owner| *owner == peer);
        let ids: Vec<PeerId> = ids.into_iter().filter(its).collect();
        for id in &ids {
            self.owners.insert(*id, peer);
            self.swarm.behaviour_mut().allowed.allow_peer(*id);
        }
        let closed = self.peers.get_mut(&peer).map(|entry| entry.identify(ids, Instant::now())).unwrap_or_default();
        for connection in closed {
            self.close(peer, connection, "it has another key now");
        }
        let its = |id: &&PeerId| self.owners.get(*id) == Some(&peer);
        let gone: Vec<PeerId> = gone.iter().filter(its).copied().collect();
        gone.iter().for_each(|id| self.shut_out(id));
    }

    /// Nobody comes in as this one any more, and whoever has, goes.
    fn shut_out(&mut self, id: &PeerId) {
        self.owners.remove(id);
        self.swarm.behaviour_mut().allowed.disallow_peer(*id);
    }

    /// The peer that shows itself so.
    pub(super) fn entry(&mut self, id: &PeerId) -> Option<(PeerId, &mut PeerEntry)> {
        let owner = *self.owners.get(id)?;
        self.peers.get_mut(&owner).map(|entry| (owner, entry))
    }
}
