//! The network: who we are, whom we reach, whom we let in, and one ordered stream of bytes per peer.
//!
//! The one place that knows libp2p. It knows nothing of envelopes, and never trusts a peer with memory: every queue has
//! a bound, and a peer that is not in the list gets no protocol at all. What runs over the streams is `drive`'s.
//!
//! A node's Ed25519 key is its PeerId. Peers are dialled for ever, with growing waits; a peer behind NAT dials us, which
//! comes to the same. A connection of which the peer answers no ping is closed: libp2p alone would keep it.

mod address;
mod admission;
mod anew;
mod backoff;
mod beginning;
mod callers;
mod drive;
mod giving;
mod guest;
mod hello;
mod join;
mod knock;
mod notes;
mod notices;
mod outbox;
mod partner;
mod peer;
mod peer_link;
mod protocol;
mod reading;
mod rosters;
mod slowed;
mod streams;
mod taking;
mod task;
mod transport;
mod trouble;

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use libp2p::identity::{Keypair, PublicKey, ed25519};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, oneshot};
use tracing::Instrument;

pub use self::drive::{Exchange, LinkEnd, now};
pub use self::guest::{Guest, GuestEnd};
pub use self::knock::{Call, JoinError, Joined, Joiner, join};
pub use self::partner::{Partner, Test, Traffic};
pub use self::peer_link::{PeerLink, PeerState};
pub use self::slowed::Slowed;
pub use self::streams::Stream;

use self::address::Address;
use self::hello::short;
use self::peer::Configured;
use self::peer_link::Slot;
use self::task::{Command, Task};
use crate::config;
use crate::envelope::{Key, Name, Secret};

/// Commands under way to the task: small, since each sender waits.
const COMMANDS: usize = 64;

/// Guests that wait to be heard; one more is sent away.
const GUESTS: usize = 16;

/// What we tell others that we are.
pub(crate) const SOFTWARE: &str = concat!("intelmq-relay ", env!("CARGO_PKG_VERSION"));

/// A peer, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// What logs call it.
    pub name: Name,
    /// Who it is.
    pub key: Key,
    /// Where to dial it, `/dns/relay.example.org/tcp/4747`; none: it dials us.
    pub addresses: Vec<String>,
}

impl From<&config::Peer> for Peer {
    fn from(peer: &config::Peer) -> Peer {
        Peer { name: peer.name.clone(), key: peer.key, addresses: peer.addresses.clone() }
    }
}

/// Why there is no network. All of these are the operator's to mend; none happens once the net has started.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum NetError {
    /// An address cannot be read.
    #[error("{place}: the address {address:?} is wrong: {reason}")]
    Address { place: String, address: String, reason: String },
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ([net] listen): {source}; {remedy}")]
    Listen { address: String, source: io::Error, remedy: &'static str },
    /// The peer list contradicts itself.
    #[error("[[peer]] {peer}: {reason}")]
    Peer { peer: Name, reason: String },
    /// The transport cannot be built.
    #[error("cannot set up the network: {0}")]
    Transport(io::Error),
    /// The net has been shut down.
    #[error("the network has been shut down")]
    Ended,
}

/// The running network. Clones are handles of the same; it ends with [`Net::shutdown`], or when the last is dropped.
#[derive(Debug, Clone)]
pub struct Net {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
}

/// What the handles see of the task.
#[derive(Debug)]
struct Shared {
    key: Key,
    listening: Mutex<Vec<Multiaddr>>,
    slots: Mutex<HashMap<Key, Arc<Slot>>>,
    guests: Mutex<Option<mpsc::Receiver<Guest>>>,
}

impl Net {
    /// Listens, begins to dial, and returns when all listen addresses are bound.
    pub async fn start(config: &config::Net, secret: &Secret, peers: Vec<Peer>) -> Result<Net, NetError> {
        Net::start_with(config, secret, peers, Vec::new()).await
    }

    /// The same, where peers have other keys than those configured: see [`Net::set_identities`]. Nobody is dialled or let in
    /// before these are known.
    pub async fn start_with(
        config: &config::Net,
        secret: &Secret,
        peers: Vec<Peer>,
        identities: Vec<(Key, Vec<Key>)>,
    ) -> Result<Net, NetError> {
        let (arrivals, guests) = mpsc::channel(GUESTS);
        let guests = Mutex::new(Some(guests));
        let shared =
            Arc::new(Shared { key: secret.key(), listening: Mutex::default(), slots: Mutex::default(), guests });
        let (sender, commands) = mpsc::channel(COMMANDS);
        let peers = configured(peers, &shared.key)?;
        let mut task = Task::new(config, &keypair(secret), shared.clone(), commands, arrivals)?;
        task.listen(&config.listen).await?;
        task.set_peers(peers);
        ids(&identities).into_iter().for_each(|(peer, ids)| task.identify(peer, ids));
        tokio::spawn(task.run().in_current_span());
        Ok(Net { commands: sender, shared })
    }

    /// The addresses that are bound now, each with `/p2p/<our id>`. On `0.0.0.0`, those of the interfaces.
    pub fn listening(&self) -> Vec<String> {
        let ours = peer_id(&self.shared.key);
        let listening = lock(&self.shared.listening);
        listening.iter().map(|address| address.clone().with_p2p(ours).unwrap_or_else(|same| same).to_string()).collect()
    }

    /// The peers are these now, and no others: who is gone is disconnected and locked out, who is new is let in and
    /// dialled, who stays keeps connection and stream (a changed address counts from the next dial on). With an error,
    /// nothing has changed. When it returns, [`Net::link`] knows the new ones.
    pub async fn set_peers(&self, peers: Vec<Peer>) -> Result<(), NetError> {
        let peers = configured(peers, &self.shared.key)?;
        let (done, is_done) = oneshot::channel();
        self.commands.send(Command::SetPeers(peers, done)).await.map_err(|_| NetError::Ended)?;
        is_done.await.map_err(|_| NetError::Ended)
    }

    /// The guests are these now, and no others: they may join, and nothing else. Guests come by [`Net::guests`].
    pub async fn set_guests(&self, tickets: impl IntoIterator<Item = Key>) -> Result<(), NetError> {
        let guests = tickets.into_iter().map(|ticket| (peer_id(&ticket), ticket)).collect();
        let (done, is_done) = oneshot::channel();
        self.commands.send(Command::SetGuests(guests, done)).await.map_err(|_| NetError::Ended)?;
        is_done.await.map_err(|_| NetError::Ended)
    }

    /// The key that the links prove.
    pub fn key(&self) -> &Key {
        &self.shared.key
    }

    /// The guests that come, for the one who asks first.
    pub fn guests(&self) -> Option<mpsc::Receiver<Guest>> {
        lock(&self.shared.guests).take()
    }

    /// The peers with these keys may show themselves with these from now on, the newest first, and with no others. A peer
    /// that nothing is said of, with its own.
    pub async fn set_identities(&self, identities: Vec<(Key, Vec<Key>)>) -> Result<(), NetError> {
        let (done, is_done) = oneshot::channel();
        self.commands.send(Command::SetIdentities(ids(&identities), done)).await.map_err(|_| NetError::Ended)?;
        is_done.await.map_err(|_| NetError::Ended)
    }

    /// The link to this peer; none if it is not configured.
    pub fn link(&self, key: &Key) -> Option<PeerLink> {
        let slot = lock(&self.shared.slots).get(key)?.clone();
        Some(PeerLink::new(peer_id(key), slot, self.commands.downgrade()))
    }

    /// Closes all connections and returns when the ports are free. Safe to call twice.
    pub async fn shutdown(&self) {
        // An error means that it has ended already.
        let _ = self.commands.send(Command::Shutdown).await;
        self.commands.closed().await;
    }
}

/// The peers, checked.
fn configured(peers: Vec<Peer>, ours: &Key) -> Result<Vec<Configured>, NetError> {
    let mut keys = HashSet::new();
    let check = |peer: Peer| {
        let wrong = |reason: &str| NetError::Peer { peer: peer.name.clone(), reason: reason.into() };
        if peer.key == *ours {
            return Err(wrong(
                "its key is this node's own: write that of the peer (`intelmq-relay id` there prints it)",
            ));
        }
        if !keys.insert(peer.key) {
            return Err(wrong("another peer has the same key: remove one of the two"));
        }
        let id = peer_id(&peer.key);
        let read = |text: &String| {
            Address::parse(text, &id).map_err(|reason| NetError::Address {
                place: format!("[[peer]] {}", peer.name),
                address: text.clone(),
                reason,
            })
        };
        let addresses = peer.addresses.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Configured { name: peer.name, key: peer.key, id, addresses })
    };
    peers.into_iter().map(check).collect()
}

fn ids(identities: &[(Key, Vec<Key>)]) -> Vec<(PeerId, Vec<PeerId>)> {
    identities.iter().map(|(peer, keys)| (peer_id(peer), keys.iter().map(peer_id).collect())).collect()
}

fn keypair(secret: &Secret) -> Keypair {
    let mut seed = *secret.expose_seed();
    // Any 32 bytes are a seed. `seed` is zeroed by the call.
    let secret = ed25519::SecretKey::try_from_bytes(&mut seed).expect("32 bytes");
    Keypair::from(ed25519::Keypair::from(secret))
}

fn peer_id(key: &Key) -> PeerId {
    // A `Key` is checked to be the encoding of a point.
    let key = ed25519::PublicKey::try_from_bytes(key.as_bytes()).expect("a checked key");
    PublicKey::from(key).to_peer_id()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these hold is replaced in one step: a panic elsewhere leaves it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
