//! The nodes of the demonstration: their folders, configurations, starts and ends.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use futures::future::{join_all, select_all};
use rand::Rng;

use super::NAMES;
use crate::cli::CliError;
use crate::config::{Config, KeyFileError, Share, StoredKey, make_key_file};
use crate::envelope::Secret;
use crate::link::Verdict;
use crate::node::{Node, PeerStatus, Status};
use crate::sample::Events;

/// All nodes, in the order of [`NAMES`].
pub(super) struct Fleet {
    places: Vec<Place>,
}

/// Where a node is, running or not.
struct Place {
    name: &'static str,
    folder: PathBuf,
    key: String,
    node: Option<Node>,
    /// How it stood when it was stopped, every time.
    ends: Vec<Status>,
}

impl Fleet {
    /// Makes the folders and starts the nodes; none knows another yet.
    pub(super) async fn start(folder: &Path) -> Result<Fleet, CliError> {
        let places = NAMES.iter().map(|name| Place::make(name, folder.join(name))).collect::<Result<_, _>>()?;
        let mut fleet = Fleet { places };
        for node in 0..NAMES.len() {
            fleet.start_one(node).await?;
        }
        Ok(fleet)
    }

    /// Starts a node from what is in its folder.
    pub(super) async fn start_one(&mut self, node: usize) -> Result<(), CliError> {
        let place = &mut self.places[node];
        let config = Config::read(&place.folder.join("relay.toml"))?;
        let file = place.folder.join("node.key");
        let secret = StoredKey::read(config.node.key_source())?.open(|| Err(KeyFileError::Encrypted(file)))?;
        let started = Node::start(config, secret, Vec::new()).await;
        place.node = Some(started.map_err(|error| CliError::Node(format!("{}: {error}", place.name)))?);
        Ok(())
    }

    /// Tells every node who the others are, where they listen now, and what it gives them.
    pub(super) async fn introduce(&mut self, share: impl Fn(usize, usize) -> Share) -> Result<(), CliError> {
        for node in 0..self.places.len() {
            let mut text = self.places[node].configuration();
            for (other, peer) in self.places.iter().enumerate().filter(|(other, _)| *other != node) {
                let address = peer.node.as_ref().and_then(|running| running.listening().into_iter().next());
                let (name, key, give) = (peer.name, &peer.key, share(node, other));
                // Writing into a String does not fail.
                let _ = write!(text, "\n[[peer]]\nname = \"{name}\"\nkey = \"{key}\"\ngive = {}\n", give.toml());
                if let Some(address) = address {
                    let _ = writeln!(text, "addresses = [\"{address}\"]");
                }
            }
            let place = &mut self.places[node];
            let config = place.write(&text)?;
            if let Some(running) = &mut place.node {
                let reloaded = running.reload(config).await;
                reloaded.map_err(|error| CliError::Node(format!("{}: {error}", place.name)))?;
            }
        }
        Ok(())
    }

    /// Gives these events to cert-a, as its IntelMQ would: a file that appears when it is whole.
    pub(super) fn put(&self, file: &str, events: &Events, serials: Range<u64>) -> Result<(), CliError> {
        let door = self.places[super::A].folder.join("in");
        let path = door.join(format!("{file}.jsonl"));
        let write = || {
            let unfinished = door.join(format!(".{file}"));
            let mut lines = BufWriter::new(fs::File::create(&unfinished)?);
            for serial in serials {
                writeln!(lines, "{}", events.event(serial))?;
            }
            lines.flush()?;
            fs::rename(unfinished, &path)
        };
        write().map_err(|source| CliError::Make { path: path.clone(), source })
    }

    /// Waits until `holds`; it is asked again at every step of a link or a door.
    pub(super) async fn until(&self, mut holds: impl FnMut(&Fleet) -> bool) {
        // Listening first: what happens between the question and the wait is not missed.
        let mut watches: Vec<_> =
            self.places.iter().filter_map(|place| Some(place.node.as_ref()?.watch_progress())).collect();
        while !holds(self) {
            // It fails only when the node is gone, and we hold it.
            let _ = select_all(watches.iter_mut().map(|watch| Box::pin(watch.changed()))).await;
        }
    }

    /// How the running nodes stand; a stopped one stands as nothing.
    pub(super) fn status(&self) -> Vec<Status> {
        self.places.iter().map(|place| place.node.as_ref().map(Node::status).unwrap_or_default()).collect()
    }

    /// How a node stands with another.
    pub(super) fn peer(&self, node: usize, other: usize) -> PeerStatus {
        let peers = self.places[node].node.as_ref().map(|running| running.status().peers).unwrap_or_default();
        peers.into_iter().find(|(name, _)| name.as_str() == NAMES[other]).map(|(_, peer)| peer).unwrap_or_default()
    }

    /// Events in a node's log, running or not.
    pub(super) fn head(&self, node: usize) -> u64 {
        let place = &self.places[node];
        match &place.node {
            Some(running) => running.store().head(),
            None => place.ends.last().map_or(0, |status| status.head),
        }
    }

    /// Whether the door has all that is in the log.
    pub(super) fn is_delivered(&self, node: usize) -> bool {
        let status = self.places[node].node.as_ref().map(Node::status).unwrap_or_default();
        status.sinks.values().all(|sink| sink.seq == status.head)
    }

    /// A node that must be running: the story knows which are.
    pub(super) fn running(&self, node: usize) -> &Node {
        self.places[node].node.as_ref().expect("the story asks running nodes only")
    }

    /// Where a node listens.
    pub(super) fn address(&self, node: usize) -> String {
        self.running(node).listening().join(" ")
    }

    /// The directory that a node delivers into.
    pub(super) fn out(&self, node: usize) -> PathBuf {
        self.places[node].folder.join("out")
    }

    /// Stops a node; its folder stays.
    pub(super) async fn stop_one(&mut self, node: usize) {
        self.places[node].stop().await;
    }

    /// Stops all nodes; what each has done in all its runs.
    pub(super) async fn stop(&mut self) -> Vec<Totals> {
        join_all(self.places.iter_mut().map(Place::stop)).await;
        self.places.iter().map(|place| Totals::of(place.name, &place.ends)).collect()
    }

    /// Ends all nodes at once.
    pub(super) async fn kill(&mut self) {
        let nodes = self.places.iter_mut().filter_map(|place| place.node.take());
        join_all(nodes.map(Node::kill)).await;
    }
}

impl Place {
    fn make(name: &'static str, folder: PathBuf) -> Result<Place, CliError> {
        for path in [folder.clone(), folder.join("in"), folder.join("out")] {
            fs::create_dir(&path).map_err(|source| CliError::Make { path, source })?;
        }
        let mut seed = zeroize::Zeroizing::new([0; 32]);
        rand::rng().fill_bytes(&mut seed[..]);
        let file = folder.join("node.key");
        make_key_file(&file, &seed, None)?;
        let key = Secret::from_seed(&seed).key().to_string();
        let place = Place { name, folder, key, node: None, ends: Vec::new() };
        place.write(&place.configuration())?;
        Ok(place)
    }

    /// The configuration without peers.
    fn configuration(&self) -> String {
        format!(
            r#"[node]
name = "{}"

[net]
listen = ["/ip4/127.0.0.1/tcp/0"]
dial_min_seconds = 0.1

[[take.files]]
name = "from-intelmq"
directory = "in"

[[give.files]]
name = "to-intelmq"
directory = "out"
"#,
            self.name
        )
    }

    fn write(&self, text: &str) -> Result<Config, CliError> {
        let file = self.folder.join("relay.toml");
        fs::write(&file, text).map_err(|source| CliError::Make { path: file.clone(), source })?;
        Ok(Config::read(&file)?)
    }

    async fn stop(&mut self) {
        if let Some(node) = self.node.take() {
            self.ends.push(node.stop().await);
        }
    }
}

/// What a node has done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Totals {
    pub(super) name: &'static str,
    pub(super) sealed: u64,
    pub(super) sent: u64,
    pub(super) offered: u64,
    pub(super) received: u64,
    pub(super) duplicates: u64,
}

impl Totals {
    fn of(name: &'static str, runs: &[Status]) -> Totals {
        let peers = |of: fn(&PeerStatus) -> u64| runs.iter().flat_map(|run| run.peers.values()).map(of).sum();
        let sealed = runs.iter().map(sealed).sum();
        Totals {
            name,
            sealed,
            sent: peers(|peer| peer.traffic.given.sent),
            offered: peers(|peer| peer.traffic.given.offered),
            // By the log: a link that is cut off by the end of its node no longer counts what was just stored.
            received: runs.last().map_or(0, |run| run.head) - sealed,
            duplicates: peers(|peer| verdicts(peer, &Verdict::Duplicate)),
        }
    }
}

/// Events that the node's own doors brought.
pub(super) fn sealed(status: &Status) -> u64 {
    status.sources.values().map(|source| source.sealed).sum()
}

/// How often we said this of what a peer showed us.
pub(super) fn verdicts(peer: &PeerStatus, verdict: &Verdict) -> u64 {
    peer.traffic.taken.get(verdict).copied().unwrap_or(0)
}

/// Whether a link stands to every other node.
pub(super) fn is_linked(status: &Status) -> bool {
    status.peers.len() + 1 == NAMES.len() && status.peers.values().all(|peer| peer.traffic.linked)
}
