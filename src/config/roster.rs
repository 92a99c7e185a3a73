//! The roster: whose word counts (`[roster]`), and the description that a roster is made from, a TOML file of its own.

use std::borrow::Cow;
use std::path::Path;

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use uuid::Uuid;

use super::nesting;
use super::parse::Mistake;
use crate::envelope::{EncryptionKey, Key, Name};

/// `[roster]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roster {
    /// Who may sign it, as PeerIds.
    pub authorities: Vec<Key>,
    /// How many of them must have signed it.
    #[serde(default = "one")]
    pub threshold: u32,
}

fn one() -> u32 {
    1
}

/// What `roster new` makes a roster of.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Described {
    /// The network's name.
    pub network: Name,
    /// Higher than that of the last one.
    pub number: u64,
    /// Who may sign, as PeerIds,
    pub authorities: Vec<Key>,
    /// and how many of them have to.
    #[serde(default = "one")]
    pub threshold: u32,
    /// `[[member]]`
    #[serde(default, rename = "member")]
    pub members: Vec<DescribedMember>,
}

/// `[[member]]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DescribedMember {
    /// Its name.
    pub name: Name,
    /// Its keys, the one in use first.
    pub keys: Vec<DescribedKey>,
    /// The organisation's UUID.
    pub organisation: Option<Uuid>,
    /// The name in reversed DNS.
    pub rdns: Option<String>,
    /// Whom to call.
    pub contact: Option<String>,
    /// What is encrypted to it, as `intelmq-relay id` prints it there.
    pub encryption: Option<EncryptionKey>,
}

/// A key of a member; times are RFC 3339, in quotes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DescribedKey {
    /// The key, as PeerId.
    pub key: Key,
    /// Not before;
    pub from: Option<Time>,
    /// not at this time or later.
    pub until: Option<Time>,
    /// Revoked for what was sealed at this time or later.
    pub revoked: Option<Time>,
}

/// A time of a description, in ms since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub u64);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        let text = <Cow<'de, str>>::deserialize(deserializer)?;
        let time = text.parse::<jiff::Timestamp>().ok().and_then(|time| u64::try_from(time.as_millisecond()).ok());
        let wrong = || D::Error::custom(format!("{text:?} is no time: write it as \"2026-01-31T00:00:00Z\""));
        time.map(Time).ok_or_else(wrong)
    }
}

/// Why there is no description.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableRoster {
    /// The file cannot be read.
    #[error("{0}")]
    Read(#[from] std::io::Error),
    /// The file says something else.
    #[error("line {}, column {}: {}", .0.line, .0.column, .0.reason)]
    Wrong(Mistake),
}

impl Described {
    /// Reads the file.
    pub fn read(file: &Path) -> Result<Described, UnreadableRoster> {
        Described::parse(&std::fs::read_to_string(file)?).map_err(UnreadableRoster::Wrong)
    }

    /// Reads a text.
    pub fn parse(text: &str) -> Result<Described, Mistake> {
        nesting::check(text)?;
        toml::from_str(text).map_err(|error| Mistake::of_toml(text, &error))
    }
}
