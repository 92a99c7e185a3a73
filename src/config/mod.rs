//! The configuration: one TOML file as checked, plain data.
//!
//! Owns the names of the keys, their defaults (each argued where it stands), and every contradiction between them:
//! whoever holds a [`Config`] that [`Config::read`] returned need not check it again. It opens no socket and makes no
//! folder; the only files it touches are the configuration, the key file and a passphrase's, all named by the caller; the
//! only program it runs is the one that holds the key. Other rooms read their own section.

mod address;
mod amqp;
mod check;
mod doors;
mod key_file;
mod nesting;
mod parse;
mod peer_list;
mod rate;
mod replace;
mod roster;
mod rules;
mod seal;
mod size;
mod tcp;

pub use address::check_peer_address;
pub use amqp::{Amqp, GiveAmqp, TakeAmqp};
pub use doors::{
    Events, Give, GiveFiles, GiveRedis, Harmonization, Password, Redis, Take, TakeFiles, TakeRedis, Withdrawals,
};
pub use key_file::{
    KeyCommandError, KeyFileError, KeySource, Passphrase, PassphraseError, StoredKey, decrypt_key_file,
    encrypt_key_file, former_key_files, former_secrets, has_next_key, make_key_file, make_next_key_file, next_key_file,
    succeed_key_file,
};
pub use parse::{ConfigError, Mistake, Mistakes};
pub use peer_list::{EditError, add_joined_peer, add_peer, edit_file, peer_block, remove_peer};
pub use rate::Rate;
pub use roster::{Described, DescribedKey, DescribedMember, Roster, UnreadableRoster};
pub use rules::{Act, Admit, Matcher, Rule, RuleSets, Scalar, Share};
pub use seal::{Encrypt, IdKind, Line, Seal, SealRule, Truncate, When};
pub use tcp::{GiveTcp, TakeTcp};

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer};
use uuid::Uuid;

use crate::envelope::{EncryptionKey, Key, Name, Tlp};

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
    /// Sets of rules that peers' `give` and `take` name.
    #[serde(default)]
    pub rules: RuleSets,
    /// Who we exchange with.
    #[serde(default, rename = "peer")]
    pub peers: Vec<Peer>,
    /// Nodes whose seals we accept beside the peers'.
    #[serde(default, rename = "origin")]
    pub origins: Vec<Origin>,
    /// Whose word makes further origins known; none: nobody's.
    pub roster: Option<Roster>,
    /// Doors that events come in by.
    #[serde(default)]
    pub take: Take,
    /// Doors that events go out by.
    #[serde(default)]
    pub give: Give,
}

impl Config {
    /// Whether events of this node may be accepted. With a roster, whose members are not known here, any may.
    fn knows(&self, name: &Name) -> bool {
        self.roster.is_some()
            || self.peers.iter().any(|peer| peer.name == *name)
            || self.origins.iter().any(|origin| origin.name == *name)
    }
}

/// `[node]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Our name.
    pub name: Name,
    /// The key file (mode 0600). After reading there is one, unless a command holds the key.
    pub key: Option<PathBuf>,
    /// A program and its arguments; what it prints is the key. None: the key is in the file.
    #[serde(default)]
    pub key_command: Vec<String>,
    /// The folder of the store and the control socket.
    #[serde(default = "default_data")]
    pub data: PathBuf,
    /// The organisation's UUID (its MISP organisation UUID, where it has one): IEP04 `uuid_org`.
    pub organisation: Option<Uuid>,
    /// This installation's UUID: IEP04 `uuid_instance`.
    pub instance: Option<Uuid>,
    /// Sign that we took what we take, from whom and when, for whoever gets it after us. Default: no, since it tells
    /// all of them.
    #[serde(default)]
    pub attest: bool,
}

impl Node {
    /// The key file's name, in the folder of the configuration.
    pub const KEY: &str = "node.key";

    /// Where the key is.
    pub fn key_source(&self) -> KeySource<'_> {
        match &self.key {
            _ if !self.key_command.is_empty() => KeySource::Command(&self.key_command),
            Some(file) => KeySource::File(file),
            None => KeySource::File(Path::new(Node::KEY)),
        }
    }
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
    /// Bytes in quarantine, at most; the oldest items go first.
    #[serde(deserialize_with = "size::bytes")]
    pub quarantine_bytes: u64,
    /// Take the fields of what its origin withdraws out of the log at once.
    pub purge_withdrawn: bool,
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
            quarantine_bytes: 256 << 20,
            purge_withdrawn: false,
            commit_events: 4096,
            commit_millis: 2,
            cache_bytes: 16 << 20,
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
    /// What is encrypted to it; none: the roster says it, or nothing is.
    pub encryption: Option<EncryptionKey>,
    /// Where to dial it, `/dns/relay.example.org/tcp/4747`; none: it dials us.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// What it may have.
    #[serde(default)]
    pub give: Share,
    /// What is taken from it.
    #[serde(default)]
    pub take: Admit,
    /// Whether it is of the community, so that TLP:GREEN may go to it; none: it is with `give = "community"`.
    pub community: Option<bool>,
    /// Events that are encrypted to others pass, both ways.
    #[serde(default)]
    pub carries: bool,
    /// Only events of the classification type `test` pass, both ways.
    #[serde(default)]
    pub test: bool,
    /// Where to begin, both ways, when there is no cursor.
    #[serde(default)]
    pub first_contact: FirstContact,
    /// How much it may bring.
    #[serde(default)]
    pub rate: Rate,
    /// Whose events it may bring; none: those of every known origin.
    pub origins: Option<Vec<Name>>,
}

impl Peer {
    /// Whether TLP:GREEN may go to it.
    pub fn is_community(&self) -> bool {
        let named = || self.give.sets().iter().any(|set| set.as_str() == Share::COMMUNITY);
        self.community.unwrap_or_else(|| self.give == Share::Community || named())
    }
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

/// `[[origin]]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// Its name.
    pub name: Name,
    /// Its key, as PeerId.
    pub key: Key,
    /// As a peer's.
    pub encryption: Option<EncryptionKey>,
}

/// A mistake and its remedy are two lines on a terminal; a line of the log stands alone.
pub fn one_line(reason: &dyn std::fmt::Display) -> String {
    reason.to_string().replace("\n  ", "; ").replace('\n', "; ")
}
