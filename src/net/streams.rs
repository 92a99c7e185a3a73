//! The protocol `/intelmq-relay/1` within libp2p: who opens a stream, who accepts it, and that a stream ends with its
//! connection.
//!
//! Of the two nodes of a link, the one with the lower key opens and the other accepts, whoever dialled: so there is
//! no tie to break. `libp2p-stream` would serve, but its queue for accepted streams holds one stream for all peers
//! and drops the rest in silence. Here nothing queues: every connection hands on the newest stream only.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::identity::PublicKey;
use libp2p::swarm::behaviour::{ConnectionClosed, DialFailure, ListenFailure};
use libp2p::swarm::handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    NotifyHandler, StreamProtocol, StreamUpgradeError, SubstreamProtocol, ToSwarm,
};
use libp2p::{PeerId, Stream as Substream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::protocol::Protocol;
use crate::envelope::Key;

const PROTOCOL: StreamProtocol = StreamProtocol::new("/intelmq-relay/1");

/// How long the peer may take to agree on the protocol of a stream.
const NEGOTIATION: Duration = Duration::from_secs(5);

/// An ordered stream of bytes to a peer and from it. Dropping it resets what was not yet sent: to end it in order,
/// shut it down and read to the end.
pub struct Stream {
    inner: Compat<Substream>,
    life: Arc<Life>,
    opened: bool,
    ended_for_reader: Pin<Box<WaitForCancellationFutureOwned>>,
    ended_for_writer: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Stream {
    fn new(substream: Substream, life: Arc<Life>, opened: bool) -> Stream {
        Stream {
            opened,
            inner: substream.compat(),
            ended_for_reader: Box::pin(life.ended.clone().cancelled_owned()),
            ended_for_writer: Box::pin(life.ended.clone().cancelled_owned()),
            life,
        }
    }

    /// Whether this node has opened it: it speaks first.
    pub fn is_opened_here(&self) -> bool {
        self.opened
    }

    /// The key that the peer has shown itself with.
    pub fn identity(&self) -> Key {
        self.life.identity
    }

    /// Whether its connection is still there.
    pub(super) fn lives(&self) -> bool {
        !self.life.ended.is_cancelled()
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("lives", &self.lives()).finish()
    }
}

/// What is pending ends with the connection.
fn unless_ended<T>(
    poll: Poll<io::Result<T>>,
    ended: &mut Pin<Box<WaitForCancellationFutureOwned>>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<T>> {
    if poll.is_pending() && ended.as_mut().poll(cx).is_ready() {
        return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the connection was closed")));
    }
    poll
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let poll = Pin::new(&mut this.inner).poll_read(cx, buf);
        if buf.filled().len() > before {
            this.life.heard.store(true, Ordering::Relaxed);
        }
        unless_ended(poll, &mut this.ended_for_reader, cx)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        unless_ended(Pin::new(&mut this.inner).poll_write(cx, bytes), &mut this.ended_for_writer, cx)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        unless_ended(Pin::new(&mut this.inner).poll_flush(cx), &mut this.ended_for_writer, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        unless_ended(Pin::new(&mut this.inner).poll_shutdown(cx), &mut this.ended_for_writer, cx)
    }
}

/// What a connection and its streams know of each other. Yamux does not wake a reader when we close the connection
/// ourselves; so the streams look here.
#[derive(Debug)]
pub(super) struct Life {
    identity: Key,
    ended: CancellationToken,
    heard: AtomicBool,
}

impl Life {
    fn new(identity: Key) -> Life {
        Life { identity, ended: CancellationToken::new(), heard: AtomicBool::new(false) }
    }

    /// The connection ends: so do its streams, at once.
    pub(super) fn end(&self) {
        self.ended.cancel();
    }

    /// Whether a stream has received anything since the last question.
    pub(super) fn was_heard(&self) -> bool {
        self.heard.swap(false, Ordering::Relaxed)
    }
}

/// What a connection reports.
#[derive(Debug)]
pub(super) enum News {
    /// The peer has opened a stream.
    Accepted(Stream),
    /// The stream that we asked for.
    Opened(Stream),
    /// We asked for a stream and there will be none; why.
    Refused(String),
}

/// A connection's news.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) peer: PeerId,
    pub(super) connection: ConnectionId,
    pub(super) news: News,
}

/// The behaviour: one handler per connection.
pub(super) struct Streams {
    /// Peers that open; to all others we do. Which is which depends on the keys only.
    opens: Box<dyn Fn(&PeerId) -> bool + Send>,
    lives: HashMap<ConnectionId, Arc<Life>>,
    actions: VecDeque<ToSwarm<Event, Open>>,
    waker: Option<Waker>,
}

/// Asks a handler for a stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Open;

impl Streams {
    /// `opens` tells of a peer whether it is the one that opens.
    pub(super) fn new(opens: impl Fn(&PeerId) -> bool + Send + 'static) -> Streams {
        Streams { opens: Box::new(opens), lives: HashMap::new(), actions: VecDeque::new(), waker: None }
    }

    /// What the connection and its streams share.
    pub(super) fn life(&self, connection: ConnectionId) -> Option<Arc<Life>> {
        self.lives.get(&connection).cloned()
    }

    /// Opens a stream on this connection; ask again only after its answer, or the connection's end.
    pub(super) fn open(&mut self, peer: PeerId, connection: ConnectionId) {
        self.actions.push_back(ToSwarm::NotifyHandler {
            peer_id: peer,
            handler: NotifyHandler::One(connection),
            event: Open,
        });
        self.waker.take().into_iter().for_each(Waker::wake);
    }

    fn handler(&mut self, peer: &PeerId, connection: ConnectionId) -> Result<Handler, ConnectionDenied> {
        let identity = key_of(peer).ok_or_else(|| ConnectionDenied::new(NoKey))?;
        let life = Arc::new(Life::new(identity));
        self.lives.insert(connection, life.clone());
        Ok(Handler { life, accepts: (self.opens)(peer), ask: false, accepted: None, answer: None })
    }
}

/// Why a connection is none of ours.
#[derive(Debug, thiserror::Error)]
#[error("its key is no Ed25519 key")]
struct NoKey;

/// The key in a PeerId.
fn key_of(peer: &PeerId) -> Option<Key> {
    let key = PublicKey::try_decode_protobuf(peer.as_ref().digest()).ok()?.try_into_ed25519().ok()?;
    Key::from_bytes(key.to_bytes()).ok()
}

impl NetworkBehaviour for Streams {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        self.handler(&peer, connection)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        self.handler(&peer, connection)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        // The failures: another behaviour may deny a connection that has its handler already.
        let (FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. })
        | FromSwarm::DialFailure(DialFailure { connection_id, .. })
        | FromSwarm::ListenFailure(ListenFailure { connection_id, .. })) = event
        else {
            return;
        };
        if let Some(life) = self.lives.remove(&connection_id) {
            life.end();
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, news: News) {
        // Bounded: a handler's next event is taken only after the swarm has polled this one out.
        self.actions.push_back(ToSwarm::GenerateEvent(Event { peer, connection, news }));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Event, Open>> {
        if let Some(action) = self.actions.pop_front() {
            return Poll::Ready(action);
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// One connection's part.
pub(super) struct Handler {
    life: Arc<Life>,
    accepts: bool,
    /// A stream is to be asked for.
    ask: bool,
    /// The newest stream that the peer opened and that was not yet handed on.
    accepted: Option<Substream>,
    answer: Option<News>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Open;
    type ToBehaviour = News;
    type InboundProtocol = Protocol;
    type OutboundProtocol = Protocol;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Protocol> {
        SubstreamProtocol::new(Protocol(self.accepts.then_some(PROTOCOL)), ()).with_timeout(NEGOTIATION)
    }

    fn on_behaviour_event(&mut self, Open: Open) {
        self.ask = true;
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Protocol, Protocol>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                self.accepted = Some(protocol);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, .. }) => {
                self.answer = Some(News::Opened(Stream::new(protocol, self.life.clone(), true)));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => {
                self.answer = Some(News::Refused(match error {
                    StreamUpgradeError::Timeout => "it did not answer the request for a stream".into(),
                    StreamUpgradeError::NegotiationFailed => {
                        format!("it does not speak {PROTOCOL}: one of the two relays has to be updated")
                    }
                    StreamUpgradeError::Io(error) => format!("the request for a stream failed: {error}"),
                    StreamUpgradeError::Apply(never) => match never {},
                }));
            }
            _ => {}
        }
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Protocol, (), News>> {
        if let Some(substream) = self.accepted.take() {
            let stream = Stream::new(substream, self.life.clone(), false);
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(News::Accepted(stream)));
        }
        if let Some(answer) = self.answer.take() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(answer));
        }
        if std::mem::take(&mut self.ask) {
            let protocol = SubstreamProtocol::new(Protocol(Some(PROTOCOL)), ()).with_timeout(NEGOTIATION);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        Poll::Pending
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.life.end();
    }
}
