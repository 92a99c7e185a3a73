//! The configuration: one TOML file as checked, plain data.
//!
//! Owns the names of the keys, their defaults (each argued where it stands), and every contradiction between them:
//! whoever holds a [`Config`] that [`Config::read`] returned need not check it again. It opens no socket and makes no
//! folder; the only files it touches are the configuration and the key file, both named by the caller. Other rooms
//! read their own section.

mod address;
mod check;
mod key_file;
mod parse;
mod peer_list;
mod size;

pub use key_file::{KeyFileError, make_key_file, read_key_file};
pub use parse::{ConfigError, Mistake, Mistakes};
pub use peer_list::{EditError, add_peer, edit_file, peer_block, remove_peer};

use std::borrow::Cow;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};
use uuid::Uuid;

use crate::envelope::{Key, Name, Shape, Tlp};

/// The whole file. Paths are absolute after reading (relative ones are meant from the file's folder).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// This node.
    pub node: Node,
    /// The link to peers.
    #[serde(default)]
    pub net: Net,
    /// The log, the seen set and how long they keep.
    #[serde(default)]
    pub store: Store,
    /// Bounds on what is accepted.
    #[serde(default)]
    pub limits: Limits,
    /// What holds for all peers.
    #[serde(default)]
    pub policy: Policy,
    /// Who we exchange with.
    #[serde(default, rename = "peer")]
    pub peers: Vec<Peer>,
    /// Nodes whose seals we accept beside the peers'.
    #[serde(default, rename = "origin")]
    pub origins: Vec<Origin>,
    /// Doors that events come in by.
    #[serde(default)]
    pub take: Take,
    /// Doors that events go out by.
    #[serde(default)]
    pub give: Give,
}

/// `[node]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Our name.
    pub name: Name,
    /// The key file (mode 0600).
    #[serde(default = "default_key")]
    pub key: PathBuf,
    /// The folder of the store and the control socket.
    #[serde(default = "default_data")]
    pub data: PathBuf,
    /// The organisation's UUID (its MISP organisation UUID, where it has one): IEP04 `uuid_org`.
    pub organisation: Option<Uuid>,
    /// This installation's UUID: IEP04 `uuid_instance`.
    pub instance: Option<Uuid>,
}

fn default_key() -> PathBuf {
    "node.key".into()
}

fn default_data() -> PathBuf {
    "data".into()
}

/// `[net]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Net {
    /// Multiaddrs to listen on, `/ip4/0.0.0.0/tcp/4747`. Default: none; a node that only dials needs none.
    pub listen: Vec<String>,
    /// Drop inbound connections from addresses that are no peer's, before any handshake.
    pub only_peer_addresses: bool,
    /// Handshakes under way with not yet known callers, at most.
    pub max_pending: u32,
    /// First and longest wait between two tries to reach a peer, seconds.
    pub dial_min_seconds: f64,
    #[allow(missing_docs)]
    pub dial_max_seconds: f64,
    /// A connection whose peer answers no ping for twice this long is closed, seconds.
    pub ping_seconds: f64,
    /// Bytes of batches that may be unanswered on one link.
    #[serde(deserialize_with = "size::bytes")]
    pub window_bytes: usize,
    /// How long a batch may stay unanswered before the link is closed, seconds.
    pub answer_seconds: f64,
}

impl Default for Net {
    fn default() -> Net {
        Net {
            listen: Vec::new(),
            only_peer_addresses: false,
            max_pending: 32,
            dial_min_seconds: 1.0,
            dial_max_seconds: 60.0,
            ping_seconds: 15.0,
            window_bytes: 8 << 20,
            answer_seconds: 30.0,
        }
    }
}

/// `[store]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// How long the log keeps events, days. log <= age window <= seen, so that no loop outlives the memory.
    pub log_days: u32,
    /// Events older than this are refused, days.
    pub age_days: u32,
    /// How long ids are remembered, days.
    pub seen_days: u32,
    /// The log's largest size on disk, bytes; the oldest go first.
    #[serde(deserialize_with = "size::bytes")]
    pub log_bytes: u64,
    /// One commit holds at most this many events,
    pub commit_events: usize,
    /// and waits at most this long for more, milliseconds.
    pub commit_millis: u64,
    /// sled's page cache, bytes.
    #[serde(deserialize_with = "size::bytes")]
    pub cache_bytes: u64,
}

impl Default for Store {
    fn default() -> Store {
        Store {
            log_days: 7,
            age_days: 10,
            seen_days: 11,
            log_bytes: 20 << 30,
            commit_events: 4096,
            commit_millis: 2,
            cache_bytes: 64 << 20,
        }
    }
}

/// `[limits]`
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of one envelope.
    #[serde(deserialize_with = "size::bytes")]
    pub envelope_bytes: usize,
    /// Fields of one event.
    pub fields: usize,
    /// Bytes of one frame.
    #[serde(deserialize_with = "size::bytes")]
    pub frame_bytes: usize,
    /// Names in a path.
    pub path: usize,
    /// Seconds that an origin's clock may be ahead of ours.
    pub future_seconds: u64,
}

impl Limits {
    /// What a frame holds beside envelopes, at most, bytes: 512 offers, a token, and CBOR's own. `frame_bytes` must be
    /// larger than `envelope_bytes` by this much.
    pub const FRAME_OVERHEAD: usize = 64 << 10;
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { envelope_bytes: 1 << 20, fields: 4096, frame_bytes: 4 << 20, path: 32, future_seconds: 600 }
    }
}

/// `[policy]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// What an event without TLP counts as: `CLEAR`, `GREEN`, `AMBER`, `AMBER+STRICT` or `RED`.
    pub default_tlp: Tlp,
    /// Nodes that an event may have passed when we pass it on.
    pub hops: usize,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy { default_tlp: Tlp::Amber, hops: 16 }
    }
}

/// `[[peer]]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Its name: what it signs as, and what the logs call it.
    pub name: Name,
    /// Its key, as PeerId.
    pub key: Key,
    /// Where to dial it, `/dns/relay.example.org/tcp/4747`; none: it dials us.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// What it may have.
    #[serde(default)]
    pub give: Share,
    /// Where to begin with a peer that we have no cursor for.
    #[serde(default)]
    pub first_contact: FirstContact,
}

/// Where to begin with a peer that we have no cursor for: `all`, `now` or an RFC 3339 time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FirstContact {
    /// With the oldest event that the peer still has.
    #[default]
    All,
    /// With what comes after the first contact.
    Now,
    /// With what the peer's log got at this time or later.
    Since(jiff::Timestamp),
}

impl FromStr for FirstContact {
    type Err = String;

    fn from_str(text: &str) -> Result<FirstContact, String> {
        match text {
            "all" => Ok(FirstContact::All),
            "now" => Ok(FirstContact::Now),
            time => time.parse().map(FirstContact::Since).map_err(|_| {
                format!("{text:?} is no beginning: write \"all\", \"now\" or a time as \"2026-01-31T00:00:00Z\"")
            }),
        }
    }
}

impl<'de> Deserialize<'de> for FirstContact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FirstContact, D::Error> {
        <Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What a peer is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Share {
    /// Nothing.
    #[default]
    None,
    /// What TLP lets a member of the community have.
    Community,
}

/// As the file spells it.
impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Share::None => "none",
            Share::Community => "community",
        })
    }
}

/// `[[origin]]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// Its name.
    pub name: Name,
    /// Its key, as PeerId.
    pub key: Key,
}

/// `[take]`: the sources.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Take {
    /// `[[take.redis]]`
    pub redis: Vec<TakeRedis>,
    /// `[[take.files]]`
    pub files: Vec<TakeFiles>,
}

/// `[give]`: the sinks.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Give {
    /// `[[give.redis]]`
    pub redis: Vec<GiveRedis>,
    /// `[[give.files]]`
    pub files: Vec<GiveFiles>,
}

/// How to reach a Redis server: as IntelMQ's `*_pipeline_{host,port,db,password}`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// Host name or address, or the path of a unix socket (begins with `/`).
    #[serde(default = "default_redis_host")]
    pub host: String,
    /// TCP port.
    #[serde(default = "default_redis_port")]
    pub port: u16,
    /// Database; IntelMQ's pipeline is 2.
    #[serde(default = "default_redis_db")]
    pub db: i64,
    /// Password.
    pub password: Option<Password>,
}

fn default_redis_host() -> String {
    "127.0.0.1".into()
}

fn default_redis_port() -> u16 {
    6379
}

fn default_redis_db() -> i64 {
    2
}

/// A secret text of the configuration: shown as `…`.
#[derive(Clone, PartialEq)]
pub struct Password(pub String);

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Password, D::Error> {
        // Not derived: serde's own message for a wrong type quotes the value, and this one must not reach a log.
        match toml::Value::deserialize(deserializer)? {
            toml::Value::String(text) => Ok(Password(text)),
            _ => Err(serde::de::Error::custom("a password is a text: put it in quotes")),
        }
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// What the sealing node says about every event of a source.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Seal {
    /// How ids are made: `random` or `content`.
    pub id: IdKind,
    /// `feed.*` fields that content ids leave out, beside `raw` and `time.observation`.
    pub id_without: Vec<String>,
    /// TLP of events that have none; default: none, the receiver's `policy.default_tlp` holds.
    pub tlp: Option<Tlp>,
    /// Tags of every event.
    pub tags: Vec<String>,
    /// Recipients of every event; none: whoever policy permits.
    pub to: Vec<Name>,
}

/// How an event without an id gets one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdKind {
    /// UUIDv4, as IEP04 decided.
    #[default]
    Random,
    /// UUIDv8 of the content: equal events from two sources have one id.
    Content,
}

/// `[[take.redis]]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TakeRedis {
    /// The door's name.
    pub name: Name,
    /// The queue that a bot's `destination_queues` names; the relay is its one consumer.
    pub queue: String,
    /// The server.
    pub server: Redis,
    /// What is said about its events.
    #[serde(default)]
    pub seal: Seal,
}

/// `[[give.redis]]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GiveRedis {
    /// The door's name.
    pub name: Name,
    /// The bot's source queue, `<bot-id>-queue`.
    pub queue: String,
    /// The server.
    pub server: Redis,
    /// Above this length of the queue, deliver waits.
    #[serde(default = "default_high_water")]
    pub high_water: u64,
    /// How events are written.
    #[serde(default = "default_redis_shape")]
    pub shape: Shape,
    /// Deliver fuller copies of events that were delivered with hidden fields.
    #[serde(default)]
    pub completions: bool,
}

fn default_high_water() -> u64 {
    100_000
}

fn default_redis_shape() -> Shape {
    Shape::Typed
}

/// `[[take.files]]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TakeFiles {
    /// The door's name.
    pub name: Name,
    /// The directory: files that are renamed into it as `*.jsonl` are taken, oldest first, and removed.
    pub directory: PathBuf,
    /// Keep taken files, in this directory, instead of removing them.
    pub taken: Option<PathBuf>,
    /// What is said about its events.
    #[serde(default)]
    pub seal: Seal,
}

/// `[[give.files]]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GiveFiles {
    /// The door's name.
    pub name: Name,
    /// The directory: `events.jsonl` is appended to; full ones are renamed to `events-<first event's number>.jsonl`.
    pub directory: PathBuf,
    /// A file is rotated at this size, bytes,
    #[serde(default = "default_rotate_bytes", deserialize_with = "size::bytes")]
    pub rotate_bytes: u64,
    /// or at this age, seconds.
    #[serde(default = "default_rotate_seconds")]
    pub rotate_seconds: u64,
    /// How events are written.
    #[serde(default)]
    pub shape: Shape,
    /// Deliver fuller copies of events that were delivered with hidden fields.
    #[serde(default)]
    pub completions: bool,
}

fn default_rotate_bytes() -> u64 {
    128 << 20
}

fn default_rotate_seconds() -> u64 {
    24 * 3600
}
