//! Refuses calls from IP addresses that are no peer's, before the first byte of a handshake, where that is asked for.
//!
//! A name that does not resolve lets nobody in; what it resolved to last stays allowed while it does not.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::net::IpAddr;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandlerInEvent, ToSwarm, dummy};
use libp2p::{Multiaddr, PeerId};

use super::address::{Resolved, ip_of};

/// Who may call.
pub(super) struct Callers {
    asked: bool,
    ips: HashMap<PeerId, HashSet<IpAddr>>,
}

/// Why a call was refused.
#[derive(Debug, thiserror::Error)]
#[error("not an address of a configured peer (net.only_peer_addresses)")]
pub(super) struct Unknown;

impl Callers {
    /// Lets everybody call, unless `only_peer_addresses`.
    pub(super) fn new(only_peer_addresses: bool) -> Callers {
        Callers { asked: only_peer_addresses, ips: HashMap::new() }
    }

    /// Whether callers are checked at all.
    pub(super) fn checks(&self) -> bool {
        self.asked
    }

    /// The peer's addresses are these now.
    pub(super) fn learn(&mut self, peer: PeerId, resolved: &Resolved) {
        let ips = self.ips.entry(peer).or_default();
        if resolved.failed.is_none() {
            ips.clear();
        }
        ips.extend(&resolved.ips);
    }

    /// The peer is none any more.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.ips.remove(peer);
    }
}

impl NetworkBehaviour for Callers {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let known = |ip| self.ips.values().any(|ips| ips.contains(&ip));
        if self.asked && !ip_of(remote).is_some_and(known) {
            return Err(ConnectionDenied::new(Unknown));
        }
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: Infallible) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}
