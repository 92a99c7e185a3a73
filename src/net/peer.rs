//! What the task keeps per peer: its connections, when to dial it, and what was said about it. No I/O.

use std::sync::Arc;
use std::time::Duration;

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::address::Address;
use super::backoff::{Backoff, Quiet};
use super::peer_link::Slot;
use super::streams::{Life, Stream};
use crate::envelope::{Key, Name};

/// A peer of the configuration, checked.
#[derive(Debug)]
pub(super) struct Configured {
    pub(super) name: Name,
    pub(super) key: Key,
    pub(super) id: PeerId,
    pub(super) addresses: Vec<Address>,
}

/// Between two requests for a stream that were refused.
const REOPEN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// One peer.
pub(super) struct PeerEntry {
    pub(super) configured: Configured,
    /// Whom it may show itself as, the newest first.
    ids: Vec<PeerId>,
    /// As whom it was last met.
    met: Option<PeerId>,
    /// It was dialled as somebody that it is no more, or not yet, and since then no try has come to an end.
    redirected: bool,
    pub(super) slot: Arc<Slot>,
    /// Oldest first.
    connections: Vec<Connection>,
    /// Where a stream was asked for.
    opening: Option<ConnectionId>,
    /// Before this no stream is asked for.
    reopen_at: Option<Instant>,
    reopen: Backoff,
    dial: Dial,
    redial: Backoff,
    /// A stream has come since the last time that all connections were gone.
    up: bool,
    quiet: Quiet,
}

struct Connection {
    id: ConnectionId,
    peer: PeerId,
    remote: String,
    life: Arc<Life>,
    heard: Instant,
}

/// Where the dialling of a peer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dial {
    /// Nothing to do: connected, or there is no address.
    Idle,
    /// To be dialled then.
    At(Instant),
    /// Names are being resolved, or the dial is under way.
    UnderWay,
}

impl PeerEntry {
    pub(super) fn new(configured: Configured, slot: Slot, redial: Backoff) -> PeerEntry {
        let mut entry = PeerEntry {
            ids: vec![configured.id],
            met: None,
            redirected: false,
            configured,
            slot: Arc::new(slot),
            connections: Vec::new(),
            opening: None,
            reopen_at: None,
            reopen: Backoff::new(REOPEN.0, REOPEN.1),
            dial: Dial::Idle,
            redial,
            up: false,
            quiet: Quiet::default(),
        };
        entry.dial_at(Instant::now());
        entry
    }

    /// The same peer, with what the configuration says now.
    pub(super) fn reconfigure(&mut self, configured: Configured) {
        let changed = self.configured.addresses != configured.addresses;
        self.configured = configured;
        if changed && self.connections.is_empty() && self.dial != Dial::UnderWay {
            self.redial.reset();
            self.dial_at(Instant::now());
        }
    }

    /// Whom it may show itself as.
    pub(super) fn ids(&self) -> &[PeerId] {
        &self.ids
    }

    /// It may show itself as these now, the newest first; the connections that it may have no longer.
    pub(super) fn identify(&mut self, ids: Vec<PeerId>, now: Instant) -> Vec<ConnectionId> {
        self.ids = ids;
        if self.ids.is_empty() {
            let error = "none of its keys holds any more (revoked, or its time is over): ask its operator for the one of \
                         today, and write it into relay.toml";
            self.complain(error.into(), now);
        } else if self.connections.is_empty() && self.dial == Dial::Idle {
            self.dial_at(now);
        }
        let gone = self.connections.iter().filter(|connection| !self.ids.contains(&connection.peer));
        gone.map(|connection| connection.id).collect()
    }

    /// As whom it is to be dialled. One that has followed and was not met yet may not be in use yet.
    pub(super) fn dial_as(&self) -> Option<PeerId> {
        self.met.filter(|met| self.ids.contains(met)).or(self.ids.last().copied())
    }

    /// Where it was dialled, it shows itself as this one; whether it is that one all the same, and is dialled again.
    pub(super) fn redirect(&mut self, obtained: PeerId, now: Instant) -> bool {
        let its = self.ids.contains(&obtained) && self.dial_as() != Some(obtained);
        if its {
            self.met = Some(obtained);
            // At once, but not for ever from one to the other.
            if std::mem::replace(&mut self.redirected, true) { self.dial_later(now) } else { self.dial_at(now) }
        }
        its
    }

    /// When something is due; none: not before something happens.
    pub(super) fn due(&self) -> Option<Instant> {
        let dial = match self.dial {
            Dial::At(at) => Some(at),
            Dial::Idle | Dial::UnderWay => None,
        };
        dial.into_iter().chain(self.reopen_at).min()
    }

    /// Whether it is to be dialled now; if so, that counts as under way.
    pub(super) fn takes_dial(&mut self, now: Instant) -> bool {
        let due = matches!(self.dial, Dial::At(at) if at <= now);
        if due {
            self.dial = Dial::UnderWay;
        }
        due
    }

    /// The dial has failed; `error` says why and what to do.
    pub(super) fn dial_failed(&mut self, error: String, now: Instant) {
        if self.connections.is_empty() {
            self.complain(error, now);
            self.dial_later(now);
        } else {
            self.dial = Dial::Idle;
        }
    }

    /// A connection is there, whoever dialled.
    pub(super) fn connected(&mut self, id: ConnectionId, peer: PeerId, remote: String, life: Arc<Life>, now: Instant) {
        debug!(peer = %self.configured.name, %id, %remote, "connection");
        self.dial = Dial::Idle;
        (self.met, self.redirected) = (Some(peer), false);
        self.connections.push(Connection { id, peer, remote, life, heard: now });
    }

    /// Ends the streams of a connection and forgets it; whether it was known. When it was the last, dials again.
    pub(super) fn disconnected(&mut self, id: ConnectionId, why: &str, now: Instant) -> bool {
        let Some(at) = self.connections.iter().position(|connection| connection.id == id) else {
            return false;
        };
        let connection = self.connections.remove(at);
        connection.life.end();
        debug!(peer = %self.configured.name, %id, remote = %connection.remote, why, "connection closed");
        if self.opening == Some(id) {
            self.opening = None;
        }
        if !self.connections.is_empty() {
            return true;
        }
        self.slot.show(|state| state.connected = None);
        if std::mem::take(&mut self.up) {
            info!(peer = %self.configured.name, why, "disconnected");
        } else {
            // It may have turned us away: a peer that does not know us closes at once, and does not say why.
            let error = format!(
                "{} closed the connection before its use ({why}); does its peer list have this node's key?",
                connection.remote
            );
            self.complain(error, now);
        }
        self.dial_later(now);
        true
    }

    /// A sign of life.
    pub(super) fn heard(&mut self, id: ConnectionId, now: Instant) {
        if let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) {
            connection.heard = now;
        }
    }

    /// A connection of which nothing was heard for `silence`.
    pub(super) fn dead(&mut self, silence: Duration, now: Instant) -> Option<ConnectionId> {
        for connection in &mut self.connections {
            if connection.life.was_heard() {
                connection.heard = now;
            }
        }
        self.connections.iter().find(|connection| now - connection.heard >= silence).map(|connection| connection.id)
    }

    /// Any connection.
    pub(super) fn any_connection(&self) -> Option<ConnectionId> {
        self.connections.first().map(|connection| connection.id)
    }

    /// Where to ask for a stream now, if one is wanted, and we are the one that opens; if so, that counts as asked.
    pub(super) fn takes_open(&mut self, ours: &PeerId, now: Instant) -> Option<(PeerId, ConnectionId)> {
        if self.reopen_at.is_some_and(|at| at <= now) {
            self.reopen_at = None;
        }
        if !self.slot.wants() || self.opening.is_some() || self.reopen_at.is_some() {
            return None;
        }
        // The newest: if the peer came back, the older one is dead.
        let newest = self.connections.last().map(|connection| (connection.peer, connection.id));
        let newest = newest.filter(|(peer, _)| ours.to_bytes() < peer.to_bytes());
        self.opening = newest.map(|(_, id)| id);
        newest
    }

    /// The stream that we asked for.
    pub(super) fn opened(&mut self, id: ConnectionId, stream: Stream) {
        if self.opening == Some(id) {
            self.opening = None;
        }
        self.reopen.reset();
        self.is_up(id);
        // Without a user it is dropped, which tells the peer.
        if self.slot.wants() && stream.lives() {
            self.slot.put(stream);
        }
    }

    /// A stream that the peer has opened.
    pub(super) fn accepted(&mut self, id: ConnectionId, stream: Stream) {
        self.is_up(id);
        if stream.lives() {
            self.slot.put(stream);
        }
    }

    /// There will be no stream on this connection for now.
    pub(super) fn refused(&mut self, id: ConnectionId, error: String, now: Instant) {
        if self.opening == Some(id) {
            self.opening = None;
            self.reopen_at = Some(now + self.reopen.next(rand::random()));
            self.complain(error, now);
        }
    }

    /// The peer has admitted us: it is reached.
    fn is_up(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.iter().find(|connection| connection.id == id) else {
            return;
        };
        let remote = connection.remote.clone();
        if !std::mem::replace(&mut self.up, true) {
            info!(peer = %self.configured.name, %remote, "connected");
        }
        self.slot.show(|state| {
            state.connected = Some(remote);
            state.error = None;
        });
        self.redial.reset();
        self.quiet.reset();
    }

    /// Tells the operator, at first loudly.
    pub(super) fn complain(&mut self, error: String, now: Instant) {
        if self.quiet.speaks(now) {
            warn!(peer = %self.configured.name, error, "cannot reach the peer; trying on");
        } else {
            debug!(peer = %self.configured.name, error, "cannot reach the peer; trying on");
        }
        self.slot.show(|state| state.error = Some(error));
    }

    fn dial_later(&mut self, now: Instant) {
        let wait = self.redial.next(rand::random());
        self.dial_at(now + wait);
    }

    fn dial_at(&mut self, at: Instant) {
        let nowhere = self.configured.addresses.is_empty() || self.ids.is_empty();
        self.dial = if nowhere { Dial::Idle } else { Dial::At(at) };
    }
}
