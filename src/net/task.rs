//! The task that drives the swarm: the one owner of libp2p's state. Everything in it happens in turn.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use libp2p::allow_block_list::{self, AllowedPeers};
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::core::transport::{ListenerId, TransportError};
use libp2p::identity::Keypair;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{self, ConnectionError, ConnectionId, DialError, NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, ping};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tracing::{debug, warn};

use super::address::{self, Address, Resolved};
use super::backoff::{Backoff, Quiet};
use super::callers::Callers;
use super::guest::Guest;
use super::join::{Guests, Join, News as Arrival};
use super::peer::{Configured, PeerEntry};
use super::streams::{Event, News, Streams};
use super::trouble::{self, cannot_listen};
use super::{NetError, Shared, lock, transport};
use crate::config;
use crate::envelope::Key;

/// A connection without a stream is closed after this. The second of two that were dialled at once goes so.
const IDLE: Duration = Duration::from_secs(30);

/// Connections of one peer. Two, not one: with one, both sides may each close the other's of two simultaneous dials.
const CONNECTIONS: u32 = 2;

/// Streams that a peer may be about to open on one connection.
const NEGOTIATING: usize = 8;

/// How long binding may take until the addresses of the interfaces are known.
const BINDING: Duration = Duration::from_secs(5);

/// How often names are resolved again for `only_peer_addresses`.
const REFRESH: Duration = Duration::from_secs(60);

/// How long an orderly end may take.
const ENDING: Duration = Duration::from_secs(2);

/// What handles ask of the task.
#[derive(Debug)]
pub(super) enum Command {
    /// The peers are these now; says when done.
    SetPeers(Vec<Configured>, oneshot::Sender<()>),
    /// The guests are these now; says when done.
    SetGuests(HashMap<PeerId, Key>, oneshot::Sender<()>),
    /// Peers, by their configured keys, may show themselves as these, the newest first; says when done.
    SetIdentities(Vec<(PeerId, Vec<PeerId>)>, oneshot::Sender<()>),
    /// A stream is wanted.
    Open(PeerId),
    /// Close the peer's connections.
    Close(PeerId),
    /// End.
    Shutdown,
}

/// Asked in this order when a connection comes; the first refusal counts. So a stranger gets no protocol.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    pub(super) allowed: allow_block_list::Behaviour<AllowedPeers>,
    // Before the limits: a call that is refused does not count as a pending one.
    pub(super) callers: Callers,
    limits: connection_limits::Behaviour,
    ping: ping::Behaviour,
    streams: Streams,
    join: Join,
}

pub(super) struct Task {
    pub(super) swarm: Swarm<Behaviour>,
    commands: mpsc::Receiver<Command>,
    pub(super) shared: Arc<Shared>,
    /// By their configured keys.
    pub(super) peers: HashMap<PeerId, PeerEntry>,
    /// Whom each shows itself as: that peer.
    pub(super) owners: HashMap<PeerId, PeerId>,
    pub(super) redial: Backoff,
    /// A connection that is silent for so long is dead.
    silence: Duration,
    /// Resolving names; at most one per peer and reason.
    lookups: JoinSet<(PeerId, Reason, Resolved)>,
    guests: Guests,
    arrivals: mpsc::Sender<Guest>,
    /// Complaints about callers.
    quiet: Quiet,
}

/// Why names are resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    Dial,
    Refresh,
}

impl Task {
    pub(super) fn new(
        config: &config::Net,
        keypair: &Keypair,
        shared: Arc<Shared>,
        commands: mpsc::Receiver<Command>,
        arrivals: mpsc::Sender<Guest>,
    ) -> Result<Task, NetError> {
        let transport = transport::build(keypair).map_err(NetError::Transport)?;
        let limits = ConnectionLimits::default()
            .with_max_pending_incoming(Some(config.max_pending))
            .with_max_established_per_peer(Some(CONNECTIONS));
        let pings = seconds(config.ping_seconds);
        let ours = PeerId::from(keypair.public());
        let guests = Guests::default();
        let are_guests = guests.clone();
        let behaviour = Behaviour {
            allowed: allow_block_list::Behaviour::default(),
            callers: Callers::new(config.only_peer_addresses),
            limits: connection_limits::Behaviour::new(limits),
            ping: ping::Behaviour::new(ping::Config::new().with_interval(pings).with_timeout(2 * pings)),
            // All ids have the same prefix: their order is that of the keys.
            streams: Streams::new(move |peer| peer.to_bytes() < ours.to_bytes() && are_guests.key(peer).is_none()),
            join: Join::host(guests.clone()),
        };
        let swarm_config = swarm::Config::with_tokio_executor()
            .with_idle_connection_timeout(IDLE)
            .with_max_negotiating_inbound_streams(NEGOTIATING);
        Ok(Task {
            swarm: Swarm::new(transport, behaviour, ours, swarm_config),
            commands,
            shared,
            peers: HashMap::new(),
            owners: HashMap::new(),
            redial: Backoff::new(seconds(config.dial_min_seconds), seconds(config.dial_max_seconds)),
            // One interval, then the two that an answer may take: libp2p only reports failed pings, and on a frozen
            // peer waits 10 s more for a stream to send the next on.
            silence: 3 * pings,
            lookups: JoinSet::new(),
            guests,
            arrivals,
            quiet: Quiet::default(),
        })
    }

    /// Binds the addresses and waits until they are known.
    pub(super) async fn listen(&mut self, addresses: &[String]) -> Result<(), NetError> {
        let ours = *self.swarm.local_peer_id();
        let mut waiting: HashMap<ListenerId, &String> = HashMap::new();
        for text in addresses {
            let wrong =
                |reason: String| NetError::Address { place: "[net] listen".into(), address: text.clone(), reason };
            let address = Address::parse(text, &ours).map_err(wrong)?;
            let listening = address.listening();
            let listening =
                listening.ok_or_else(|| wrong("a host name is for dialling: listen on /ip4/… or /ip6/…".into()))?;
            trouble::probe(&address).map_err(|error| cannot_listen(text, error))?;
            let id = self.swarm.listen_on(listening).map_err(|error| match error {
                TransportError::Other(error) => cannot_listen(text, error),
                TransportError::MultiaddrNotSupported(_) => wrong("this transport is not built in".into()),
            })?;
            waiting.insert(id, text);
        }
        let deadline = tokio::time::sleep(BINDING);
        tokio::pin!(deadline);
        while !waiting.is_empty() {
            let event = tokio::select! {
                event = self.swarm.select_next_some() => event,
                // On 0.0.0.0 without any interface there is nothing to wait for; they may come up later.
                () = &mut deadline => return Ok(()),
            };
            match &event {
                SwarmEvent::NewListenAddr { listener_id, .. } => {
                    waiting.remove(listener_id);
                }
                SwarmEvent::ListenerClosed { listener_id, reason: Err(error), .. }
                | SwarmEvent::ListenerError { listener_id, error } => {
                    if let Some(text) = waiting.get(listener_id) {
                        return Err(cannot_listen(text, io::Error::new(error.kind(), error.to_string())));
                    }
                }
                _ => {}
            }
            self.on_event(event);
        }
        Ok(())
    }

    /// Runs until it is shut down or all handles are gone.
    pub(super) async fn run(mut self) {
        let mut check = every((self.silence / 6).max(Duration::from_millis(10)));
        let mut refresh = every(REFRESH);
        loop {
            let due = self.peers.values().filter_map(PeerEntry::due).min();
            let wake = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                command = self.commands.recv() => match command {
                    None | Some(Command::Shutdown) => break,
                    Some(command) => self.on_command(command),
                },
                event = self.swarm.select_next_some() => self.on_event(event),
                Some(found) = self.lookups.join_next() => {
                    if let Ok((peer, reason, resolved)) = found {
                        self.on_resolved(peer, reason, resolved);
                    }
                }
                () = wake => self.on_due(),
                _ = check.tick() => self.close_dead(),
                _ = refresh.tick() => self.refresh(),
            }
        }
        self.end().await;
    }

    /// Closes what is open, so that peers need not find out by themselves.
    async fn end(&mut self) {
        self.set_peers(Vec::new());
        self.set_guests(HashMap::new());
        let closed = async {
            while self.swarm.network_info().connection_counters().num_established() > 0 {
                self.swarm.next().await;
            }
        };
        let _ = tokio::time::timeout(ENDING, closed).await;
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::SetPeers(peers, done) => {
                self.set_peers(peers);
                // Who asked may have gone.
                let _ = done.send(());
            }
            Command::SetGuests(guests, done) => {
                self.set_guests(guests);
                let _ = done.send(());
            }
            Command::SetIdentities(identities, done) => {
                identities.into_iter().for_each(|(peer, ids)| self.identify(peer, ids));
                let _ = done.send(());
            }
            Command::Open(peer) => self.open(peer),
            Command::Close(peer) => {
                while let Some(connection) = self.peers.get(&peer).and_then(PeerEntry::any_connection) {
                    self.close(peer, connection, "closed by this node");
                }
            }
            // Ends the loop in `run`.
            Command::Shutdown => {}
        }
    }

    fn set_guests(&mut self, guests: HashMap<PeerId, Key>) {
        let (new, gone) = self.guests.set(guests);
        let allowed = &mut self.swarm.behaviour_mut().allowed;
        new.into_iter().for_each(|id| _ = allowed.allow_peer(id));
        // Closes their connections.
        gone.into_iter().for_each(|id| _ = allowed.disallow_peer(id));
    }

    /// Asks for a stream where one is wanted, possible, and ours to ask for.
    fn open(&mut self, peer: PeerId) {
        let ours = *self.swarm.local_peer_id();
        let open = self.peers.get_mut(&peer).and_then(|entry| entry.takes_open(&ours, Instant::now()));
        if let Some((id, connection)) = open {
            self.swarm.behaviour_mut().streams.open(id, connection);
        }
    }

    /// Closes a connection; its streams end now, its socket within a second.
    pub(super) fn close(&mut self, peer: PeerId, connection: ConnectionId, why: &str) {
        if let Some(entry) = self.peers.get_mut(&peer) {
            entry.disconnected(connection, why, Instant::now());
        }
        self.swarm.close_connection(connection);
        // There may be another one to open on.
        self.open(peer);
    }

    fn close_dead(&mut self) {
        let (now, silence) = (Instant::now(), self.silence);
        let dead =
            |(id, entry): (&PeerId, &mut PeerEntry)| entry.dead(silence, now).map(|connection| (*id, connection));
        let dead: Vec<_> = self.peers.iter_mut().filter_map(dead).collect();
        for (peer, connection) in dead {
            self.close(peer, connection, "it answers no ping");
        }
    }

    fn on_due(&mut self) {
        let now = Instant::now();
        let due = self.peers.values().filter(|entry| entry.due().is_some_and(|at| at <= now));
        let due: Vec<PeerId> = due.map(|entry| entry.configured.id).collect();
        for peer in due {
            self.open(peer);
            if self.peers.get_mut(&peer).is_some_and(|entry| entry.takes_dial(now)) {
                self.look_up(peer, Reason::Dial);
            }
        }
    }

    /// For the check of callers: names may mean other addresses now.
    pub(super) fn refresh(&mut self) {
        if self.swarm.behaviour().callers.checks() {
            let peers: Vec<PeerId> = self.peers.keys().copied().collect();
            for peer in peers {
                self.look_up(peer, Reason::Refresh);
            }
        }
    }

    fn look_up(&mut self, peer: PeerId, reason: Reason) {
        if let Some(entry) = self.peers.get(&peer) {
            let addresses = entry.configured.addresses.clone();
            self.lookups.spawn(async move { (peer, reason, address::resolve(addresses).await) });
        }
    }

    fn on_resolved(&mut self, peer: PeerId, reason: Reason, resolved: Resolved) {
        let now = Instant::now();
        let Some(entry) = self.peers.get_mut(&peer) else {
            return;
        };
        self.swarm.behaviour_mut().callers.learn(peer, &resolved);
        if reason == Reason::Refresh {
            if let Some(error) = resolved.failed {
                entry.complain(format!("{error}; calls from it are refused until this resolves"), now);
            }
            return;
        }
        if resolved.dialable.is_empty() {
            let error = resolved.failed.unwrap_or_else(|| "it has no address any more".into());
            return entry.dial_failed(error, now);
        }
        // A new port for each: with the listening port's, two nodes that dial each other at once get in each other's way.
        let Some(id) = entry.dial_as() else {
            return entry.dial_failed("none of its keys holds any more".into(), now);
        };
        let options = DialOpts::peer_id(id)
            .condition(PeerCondition::Always)
            .addresses(resolved.dialable)
            .allocate_new_port()
            .build();
        if let Err(error) = self.swarm.dial(options) {
            entry.dial_failed(trouble::dialling(&error, &entry.configured), now);
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        let now = Instant::now();
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event { peer, connection, result: Ok(_) })) => {
                self.entry(&peer).into_iter().for_each(|(_, entry)| entry.heard(connection, now));
            }
            SwarmEvent::Behaviour(BehaviourEvent::Streams(event)) => self.on_stream(event, now),
            SwarmEvent::Behaviour(BehaviourEvent::Join((id, Arrival::Opened(talk)))) => {
                if let Some(ticket) = self.guests.key(&id) {
                    // Nobody hears guests, or there are too many: it may come again.
                    let _ = self.arrivals.try_send(Guest { ticket, talk });
                }
            }
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                let life = self.swarm.behaviour().streams.life(connection_id);
                // Without an entry it was removed a moment ago, and the allow list closes it.
                if let (Some((peer, entry)), Some(life)) = (self.entry(&peer_id), life) {
                    let remote = endpoint.get_remote_address().to_string();
                    entry.connected(connection_id, peer_id, remote, life, now);
                    self.open(peer);
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, .. } => {
                let why = match cause {
                    None => "closed".into(),
                    Some(ConnectionError::KeepAliveTimeout) => "nothing used it".into(),
                    Some(ConnectionError::IO(error)) => error.to_string(),
                };
                if let Some((peer, entry)) = self.entry(&peer_id) {
                    entry.disconnected(connection_id, &why, now);
                    self.open(peer);
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => {
                let Some((_, entry)) = self.entry(&peer) else { return };
                let is_its =
                    matches!(&error, DialError::WrongPeerId { obtained, .. } if entry.redirect(*obtained, now));
                if !is_its {
                    entry.dial_failed(trouble::dialling(&error, &entry.configured), now);
                }
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                let error = trouble::calling(&error);
                if self.quiet.speaks(now) {
                    warn!(remote = %send_back_addr, error, "refused a call");
                } else {
                    debug!(remote = %send_back_addr, error, "refused a call");
                }
            }
            SwarmEvent::NewListenAddr { address, .. } => lock(&self.shared.listening).push(address),
            SwarmEvent::ExpiredListenAddr { address, .. } => self.not_listening(&[address]),
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                warn!(?addresses, ?reason, "listening has ended; restart the relay");
                self.not_listening(&addresses);
            }
            SwarmEvent::ListenerError { error, .. } => warn!(%error, "cannot accept a call"),
            _ => {}
        }
    }

    fn on_stream(&mut self, event: Event, now: Instant) {
        let Event { peer, connection, news } = event;
        if let Some((_, entry)) = self.entry(&peer) {
            match news {
                News::Accepted(stream) => entry.accepted(connection, stream),
                News::Opened(stream) => entry.opened(connection, stream),
                News::Refused(error) => entry.refused(connection, error, now),
            }
        }
    }

    fn not_listening(&self, gone: &[Multiaddr]) {
        lock(&self.shared.listening).retain(|address| !gone.contains(address));
    }
}

impl Drop for Task {
    /// However the task ends, nobody waits for it in vain.
    fn drop(&mut self) {
        lock(&self.shared.slots).clear();
        lock(&self.shared.listening).clear();
        self.peers.values().for_each(|entry| entry.slot.end());
    }
}

/// Within a millisecond and a day, whatever the configuration says: TOML can say `nan`.
fn seconds(seconds: f64) -> Duration {
    let seconds = if seconds.is_finite() { seconds } else { f64::MAX };
    Duration::from_secs_f64(seconds.clamp(0.001, 86_400.0))
}

fn every(period: Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
