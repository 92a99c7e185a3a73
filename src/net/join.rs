//! The protocol `/intelmq-relay/join/1` within libp2p: one stream of one guest, for some seconds.
//!
//! A guest is let in by the identity that its invitation gives it, has this protocol (and libp2p's ping), and never
//! that of peers. It must never harm the others: it has one connection and one stream, the newest, and both end by
//! themselves. What is said on the stream is [`super::guest`]'s and [`super::knock`]'s.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished, DialFailure, ListenFailure};
use libp2p::swarm::handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, StreamProtocol, StreamUpgradeError, SubstreamProtocol, ToSwarm,
};
use libp2p::{PeerId, Stream as Substream};
use tokio::time::{Instant, Sleep};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _};

use super::lock;
use super::protocol::Protocol;
use crate::envelope::Key;

const PROTOCOL: StreamProtocol = StreamProtocol::new("/intelmq-relay/join/1");

/// How long the other side may take to agree on the protocol.
const NEGOTIATION: Duration = Duration::from_secs(5);
/// How long a guest's connection lasts, whatever it does.
const STAY: Duration = Duration::from_secs(12);

/// A guest's stream.
pub(super) type Talk = Compat<Substream>;

/// The guests that are let in, and their keys.
#[derive(Clone, Default)]
pub(super) struct Guests(Arc<Mutex<HashMap<PeerId, Key>>>);

impl Guests {
    /// They are these now; who is new, and who is none any more.
    pub(super) fn set(&self, guests: HashMap<PeerId, Key>) -> (Vec<PeerId>, Vec<PeerId>) {
        let mut now = lock(&self.0);
        let new = guests.keys().filter(|id| !now.contains_key(id)).copied().collect();
        let gone = now.keys().filter(|id| !guests.contains_key(id)).copied().collect();
        *now = guests;
        (new, gone)
    }

    /// Whether it is one; then, its key.
    pub(super) fn key(&self, id: &PeerId) -> Option<Key> {
        lock(&self.0).get(id).copied()
    }
}

/// What comes of a connection.
#[derive(Debug)]
pub(super) enum News {
    /// The stream.
    Opened(Talk),
    /// The connection has ended before.
    Ended,
    /// There will be none; why.
    Refused(&'static str),
}

/// The behaviour: one handler per connection, which speaks only with guests, or, in a guest, with its host.
pub(super) struct Join {
    side: Side,
    open: HashMap<PeerId, ConnectionId>,
    /// Whose place a newer one has taken: who comes again need not wait until the old one is found dead.
    replaced: VecDeque<(PeerId, ConnectionId)>,
    /// When guests' connections end, in order.
    stays: VecDeque<(Instant, PeerId, ConnectionId)>,
    timer: Pin<Box<Sleep>>,
    news: VecDeque<(PeerId, News)>,
}

enum Side {
    Host(Guests),
    Guest,
}

impl Join {
    /// A host's side.
    pub(super) fn host(guests: Guests) -> Join {
        Join::new(Side::Host(guests))
    }

    /// A guest's side: every connection that it makes is to its host.
    pub(super) fn guest() -> Join {
        Join::new(Side::Guest)
    }

    fn new(side: Side) -> Join {
        let timer = Box::pin(tokio::time::sleep(STAY));
        Join {
            side,
            open: HashMap::new(),
            replaced: VecDeque::new(),
            stays: VecDeque::new(),
            timer,
            news: VecDeque::new(),
        }
    }
}

impl NetworkBehaviour for Join {
    type ConnectionHandler = Handler;
    type ToSwarm = (PeerId, News);

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        let Side::Host(guests) = &self.side else { return Ok(Handler::silent()) };
        if guests.key(&peer).is_none() {
            return Ok(Handler::silent());
        }
        self.replaced.extend(self.open.insert(peer, connection).map(|older| (peer, older)));
        Ok(Handler { accepts: true, ..Handler::silent() })
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(Handler { asks: matches!(self.side, Side::Guest), ..Handler::silent() })
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished { peer_id, connection_id, .. })
                if self.open.get(&peer_id) == Some(&connection_id) =>
            {
                self.stays.push_back((Instant::now() + STAY, peer_id, connection_id));
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. })
            // Another behaviour may deny a connection that has its handler already.
            | FromSwarm::DialFailure(DialFailure { connection_id, .. })
            | FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => {
                self.open.retain(|_, open| *open != connection_id);
                self.stays.retain(|(_, _, open)| *open != connection_id);
                self.replaced.retain(|(_, older)| *older != connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, _: ConnectionId, news: News) {
        // Bounded: a handler has one.
        self.news.push_back((peer, news));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<(PeerId, News), Infallible>> {
        if let Some(news) = self.news.pop_front() {
            return Poll::Ready(ToSwarm::GenerateEvent(news));
        }
        if let Some((peer_id, older)) = self.replaced.pop_front() {
            return Poll::Ready(ToSwarm::CloseConnection { peer_id, connection: CloseConnection::One(older) });
        }
        // The swarm polls again after every event: a connection that has just come is seen here.
        if let Some((until, peer_id, connection)) = self.stays.front().copied() {
            if self.timer.deadline() != until {
                self.timer.as_mut().reset(until);
            }
            if self.timer.as_mut().poll(cx).is_ready() {
                self.stays.pop_front();
                let connection = CloseConnection::One(connection);
                return Poll::Ready(ToSwarm::CloseConnection { peer_id, connection });
            }
        }
        Poll::Pending
    }
}

/// One connection's part.
pub(super) struct Handler {
    accepts: bool,
    asks: bool,
    news: Option<News>,
}

impl Handler {
    fn silent() -> Handler {
        Handler { accepts: false, asks: false, news: None }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = News;
    type InboundProtocol = Protocol;
    type OutboundProtocol = Protocol;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Protocol> {
        SubstreamProtocol::new(Protocol(self.accepts.then_some(PROTOCOL)), ()).with_timeout(NEGOTIATION)
    }

    fn on_behaviour_event(&mut self, never: Infallible) {
        match never {}
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Protocol, Protocol>) {
        match event {
            // One, however many were about to be opened.
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) if self.accepts => {
                self.accepts = false;
                self.news = Some(News::Opened(protocol.compat()));
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, .. }) => {
                self.news = Some(News::Opened(protocol.compat()));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => {
                self.news = Some(match error {
                    StreamUpgradeError::NegotiationFailed => {
                        News::Refused("it takes no invitations: its relay may have to be updated")
                    }
                    StreamUpgradeError::Timeout => News::Refused("it did not answer"),
                    StreamUpgradeError::Io(_) => News::Ended,
                    StreamUpgradeError::Apply(never) => match never {},
                });
            }
            _ => {}
        }
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Protocol, (), News>> {
        if let Some(news) = self.news.take() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(news));
        }
        if std::mem::take(&mut self.asks) {
            let protocol = SubstreamProtocol::new(Protocol(Some(PROTOCOL)), ()).with_timeout(NEGOTIATION);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        Poll::Pending
    }
}
