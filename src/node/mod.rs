//! The node: the rooms wired together, and their lifetimes.
//!
//! Owns every long-lived task, the order of starting and stopping, and what a reload may change while running. It
//! decides nothing about envelopes.

mod desk;
mod doors;
mod invitations;
mod keys;
mod newcomer;
mod peers;
mod roster;
mod settings;
mod status;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, error, info, info_span, warn};

use crate::accept::Gate;
use crate::config::Config;
use crate::envelope::{EncryptionSecret, Name, Recipient, Secret};
use crate::intelmq::Sealer;
use crate::link::{Claims, TokenKey};
use crate::net::{Exchange, Net, NetError, now};
use crate::store::{OpenError, Store, StoreError};
use crate::watch::Control;

pub use keys::{NoticeFailed, RotationStatus, Succession, identities_at_rest, notice_at_rest};
pub use newcomer::{Change, Newcomer};
pub use roster::{PublishError, publish_at_rest};
pub use status::{DoorStatus, PeerStatus, Status};

/// How often old entries and ids are removed.
const EXPIRE_EVERY: Duration = Duration::from_secs(600);
/// How often what became of entries is written into the journal.
const WRITE_NOTES_EVERY: Duration = Duration::from_secs(1);
/// How often a summary of each link and door is logged, while something happens.
const SUMMARY_EVERY: Duration = Duration::from_secs(60);
/// Changes that wait for whoever has the configuration file.
const CHANGES: usize = 8;
/// How long stopping waits for peers and doors to get what is in the log.
const DRAIN: Duration = Duration::from_secs(2);

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be opened.
    #[error("{0}")]
    Store(#[from] OpenError),
    /// The network cannot be set up.
    #[error("{0}")]
    Net(#[from] NetError),
    /// The store fails at once.
    #[error("{0}")]
    Broken(#[from] StoreError),
    /// The control socket cannot be made.
    #[error("cannot make the control socket {path}: {error}")]
    Control {
        /// Where.
        path: String,
        #[allow(missing_docs)]
        error: std::io::Error,
    },
}

/// Why a running node keeps its old configuration.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// Changed keys that only a restart can change.
    #[error("{0} changed: restart for that, or change it back; nothing else was changed either")]
    Restart(String),
    /// The network refuses the peers.
    #[error("{0}")]
    Net(#[from] NetError),
}

/// What the tasks share.
struct Core {
    gate: Gate,
    net: Net,
    exchange: Exchange,
    sealer: Arc<Sealer>,
    recipient: Arc<Recipient>,
    /// A task that cannot go on says why.
    failed: mpsc::Sender<StoreError>,
    /// Moves with every step of a link or a door: what stopping waits for.
    progress: watch::Sender<()>,
    /// The next peer's number among the claims.
    links: AtomicU64,
    /// Whom peers show themselves as, and whom we are to.
    keys: keys::Keys,
}

/// A task with its own end.
struct Running<C> {
    /// What it was made from.
    config: C,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl<C> Running<C> {
    async fn stop(self) {
        self.cancel.cancel();
        // A task that panicked has ended too.
        let _ = self.task.await;
    }
}

/// A running node.
pub struct Node {
    core: Arc<Core>,
    config: Config,
    peers: BTreeMap<Name, peers::Peer>,
    doors: doors::Doors,
    chores: CancellationToken,
    control: Option<Control>,
    board: status::Board,
    failures: mpsc::Receiver<StoreError>,
    changes: Option<mpsc::Receiver<Change>>,
    span: Span,
}

impl Node {
    /// Opens the store, listens, dials, and opens the doors. Everything that the node's tasks log carries its name.
    /// With the keys that it had before, it reads what was encrypted to these.
    pub async fn start(config: Config, secret: Secret, former: Vec<EncryptionSecret>) -> Result<Node, StartError> {
        let span = info_span!("node", node = %config.node.name);
        Node::start_here(config, secret, former).instrument(span).await
    }

    async fn start_here(config: Config, secret: Secret, former: Vec<EncryptionSecret>) -> Result<Node, StartError> {
        let secret = Arc::new(secret);
        let gate = Node::open(&config, &secret).await?;
        let tokens = TokenKey::bytes(secret.expose_seed());
        let token_key = TokenKey::new(&tokens, &gate.keep_token_key(tokens).await?);
        let encryption = EncryptionSecret::derive(secret.expose_seed());
        let recipient = Recipient::new(config.node.name.clone(), encryption, former);
        let keys = keys::Keys::open(&gate, &config).await?;
        let (peers, identities) = (config.peers.iter().map(Into::into).collect(), keys.identities(&gate));
        let net = Net::start_with(&config.net, &secret, peers, identities).await?;
        let (failed, failures) = mpsc::channel(1);
        let exchange = Exchange {
            gate: gate.clone(),
            settings: settings::links(&config),
            token_key,
            claims: Claims::default(),
            started: Instant::now(),
            progress: watch::Sender::new(()),
        };
        let sealer = Sealer {
            name: config.node.name.clone(),
            secret,
            encryption: recipient.key(),
            organisation: config.node.organisation,
            instance: config.node.instance,
        };
        let progress = exchange.progress.clone();
        let (sealer, recipient) = (sealer.into(), recipient.into());
        let links = AtomicU64::new(1);
        let core = Arc::new(Core { gate, net, exchange, sealer, recipient, failed, progress, links, keys });
        let board = status::Board::new(core.clone());
        let hands = desk::Hands::default();
        let turn = tokio::sync::Mutex::default();
        let (asked, changes) = mpsc::channel(CHANGES);
        let invitations = invitations::Invitations::open(core.clone(), asked).await?;
        let desk = desk::Desk {
            core: core.clone(),
            board: board.clone(),
            hands: hands.clone(),
            turn,
            invitations: invitations.clone(),
        };
        let control = Control::open(&config.node.data, core.gate.store().clone(), desk)
            .map_err(|(path, error)| StartError::Control { path, error })?;
        let mut node = Node {
            core,
            peers: BTreeMap::new(),
            doors: doors::Doors::new(hands),
            chores: CancellationToken::new(),
            control: Some(control),
            board,
            failures,
            changes: Some(changes),
            span: Span::current(),
            config,
        };
        node.apply(node.config.clone()).await?;
        node.start_chores(invitations);
        info!(listening = ?node.core.net.listening(), "running");
        Ok(node)
    }

    /// The gate before the store, with what was known when the node ended.
    async fn open(config: &Config, secret: &Arc<Secret>) -> Result<Gate, StartError> {
        let store = Store::open(&config.node.data, &config.store).await?;
        let mut gate = Gate::new(store, settings::rules(config, &secret.key()));
        if config.node.attest {
            gate = gate.attesting(secret.clone());
        }
        gate.recall_roster().await?;
        gate.recall_notices().await?;
        Ok(gate)
    }

    /// What runs beside peers and doors until the node ends.
    fn start_chores(&self, invitations: Arc<invitations::Invitations>) {
        let core = &self.core;
        self.chore(chores(core.clone(), self.board.clone()));
        self.chore(keys::follow(core.clone()));
        self.chore(write_notes(core.clone()));
        self.chore(invitations.serve());
        if self.config.store.purge_withdrawn {
            self.chore(keep_purged(core.clone()));
        }
    }

    fn chore<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) {
        let work = self.chores.clone().run_until_cancelled_owned(work);
        tokio::spawn(work.in_current_span());
    }

    /// Takes a changed configuration without touching what did not change. On an error everything stays as it was.
    pub async fn reload(&mut self, config: Config) -> Result<(), ReloadError> {
        let span = self.span.clone();
        self.reload_here(config).instrument(span).await
    }

    async fn reload_here(&mut self, config: Config) -> Result<(), ReloadError> {
        if let Some(keys) = settings::needs_restart(&self.config, &config) {
            return Err(ReloadError::Restart(keys));
        }
        self.core.net.set_peers(config.peers.iter().map(Into::into).collect()).await?;
        self.core.gate.set_rules(settings::rules(&config, &self.core.sealer.secret.key()));
        // One that was put aside, as long as nobody's word counted.
        let recalled = self.core.gate.recall_roster().await;
        let applied = match recalled {
            Ok(()) => self.apply(config).await,
            broken => broken,
        };
        if let Err(error) = applied {
            // The doors' places cannot be read: as when a task finds the store broken.
            let _ = self.core.failed.try_send(error);
        }
        Ok(())
    }

    async fn apply(&mut self, config: Config) -> Result<(), StoreError> {
        keys::set_peers(&self.core, &config).await?;
        peers::apply(&self.core, &mut self.peers, &config).await;
        self.board.show_peers(&self.peers);
        self.doors.apply(&self.core, &self.board, &config).await?;
        self.config = config;
        Ok(())
    }

    /// The configuration that holds.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What the node asks of whoever has its configuration file, for the one who asks first. Without one, nobody joins.
    pub fn changes(&mut self) -> Option<mpsc::Receiver<Change>> {
        self.changes.take()
    }

    /// Addresses that are listened on, with our PeerId.
    pub fn listening(&self) -> Vec<String> {
        self.core.net.listening()
    }

    /// How everything stands.
    pub fn status(&self) -> Status {
        self.board.status()
    }

    /// Changes with every step of a link or a door.
    pub fn watch_progress(&self) -> watch::Receiver<()> {
        self.core.progress.subscribe()
    }

    /// The log, to read.
    pub fn store(&self) -> &Store {
        self.core.gate.store()
    }

    /// To wait for the moment at which this node is to go over to its next key.
    pub fn successor(&self) -> Succession {
        self.core.keys.succession()
    }

    /// Waits until the node cannot go on; the reason is the store's.
    pub async fn failed(&mut self) -> StoreError {
        self.failures.recv().await.unwrap_or(StoreError::Closed)
    }

    /// Stops taking, gives peers and doors a few seconds to get what is there, and ends. What is not done then goes on
    /// from the cursors at the next start. Returns how everything stood in the end.
    pub async fn stop(mut self) -> Status {
        self.doors.stop_sources().await;
        let mut progress = self.watch_progress();
        let drained = async { while !self.board.status().is_drained() && progress.changed().await.is_ok() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            self.span.in_scope(|| {
                warn!("stopping with events that a peer or a door has not got yet: they go out after the next start");
            });
        }
        self.kill().await
    }

    /// Ends at once, as a crash would, but for the store's lock. Returns how everything stood in the end.
    pub async fn kill(mut self) -> Status {
        self.chores.cancel();
        drop(self.control.take());
        self.doors.stop_sources().await;
        for (_, peer) in std::mem::take(&mut self.peers) {
            peer.running.stop().await;
        }
        self.doors.stop_sinks().await;
        let last = self.board.status();
        // Best effort: whoever stops a broken store knows why.
        let _ = self.core.gate.write_notes().await;
        self.core.net.shutdown().await;
        self.core.gate.store().close().await;
        self.span.in_scope(|| info!("stopped"));
        last
    }
}

/// What must be done from time to time.
async fn chores(core: Arc<Core>, board: status::Board) {
    let mut expire = tokio::time::interval(EXPIRE_EVERY);
    let mut summary = tokio::time::interval_at(tokio::time::Instant::now() + SUMMARY_EVERY, SUMMARY_EVERY);
    let mut last = board.status();
    loop {
        tokio::select! {
            _ = expire.tick() => match core.gate.store().expire(now()).await {
                Ok(gone) if gone.entries + gone.ids > 0 => info!(entries = gone.entries, ids = gone.ids, "expired"),
                Ok(_) => {}
                // The disk is full, or the writer has failed and says so itself.
                Err(reason) => error!(%reason, "old entries were not removed"),
            },
            _ = summary.tick() => {
                let status = board.status();
                status.log_since(&last);
                last = status;
            }
        }
    }
}

/// Takes out of the log what is withdrawn.
async fn keep_purged(core: Arc<Core>) {
    let reason = core.gate.keep_purged().await;
    let _ = core.failed.try_send(reason);
}

/// Writes what was noted, apart from the other chores: expiry may take its time.
async fn write_notes(core: Arc<Core>) {
    loop {
        // Early when there is much.
        let _ = tokio::time::timeout(WRITE_NOTES_EVERY, core.gate.many_notes()).await;
        if let Err(reason) = core.gate.write_notes().await {
            // As every task that finds the store broken.
            let _ = core.failed.try_send(reason);
            return;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
