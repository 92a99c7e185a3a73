//! The doors' sections: `[[take.…]]` and `[[give.…]]`.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

use super::{GiveAmqp, GiveTcp, Seal, TakeAmqp, TakeTcp, size};
use crate::envelope::{Kind, Name, Shape};

/// `[take]`: the sources.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Take {
    /// `[[take.redis]]`
    pub redis: Vec<TakeRedis>,
    /// `[[take.files]]`
    pub files: Vec<TakeFiles>,
    /// `[[take.tcp]]`
    pub tcp: Vec<TakeTcp>,
    /// `[[take.amqp]]`
    pub amqp: Vec<TakeAmqp>,
}

/// `[give]`: the sinks.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Give {
    /// `[[give.redis]]`
    pub redis: Vec<GiveRedis>,
    /// `[[give.files]]`
    pub files: Vec<GiveFiles>,
    /// `[[give.tcp]]`
    pub tcp: Vec<GiveTcp>,
    /// `[[give.amqp]]`
    pub amqp: Vec<GiveAmqp>,
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

/// Which events a sink gives, and how they are written. Of the lists, an empty one lets everything through.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Events {
    /// How they are written; none: as is usual for the kind of door.
    pub shape: Option<Shape>,
    /// Deliver fuller copies of events that were delivered with hidden fields.
    pub completions: bool,
    /// What flat events of IntelMQ's are made to fit before they are given.
    pub harmonization: Harmonization,
    /// Only these types of messages,
    pub types: Vec<Kind>,
    /// only what these nodes sealed,
    pub origins: Vec<Name>,
    /// only these formats,
    pub formats: Vec<String>,
    /// only what has one of these tags.
    pub tags: Vec<String>,
    /// What is given when an event that was given is withdrawn.
    pub withdrawals: Withdrawals,
}

/// What a sink gives of withdrawals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Withdrawals {
    /// Nothing: a botnet that does not know what they are would take them for incidents.
    #[default]
    None,
    /// In a flat shape an event that tells of it, in IEP04's the withdrawal itself.
    Event,
}

/// The data format that events must fit: an IntelMQ's `harmonization.conf`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Harmonization {
    /// The file where IntelMQ keeps it, or else the built-in format.
    #[default]
    Auto,
    /// That of IntelMQ 3.5.0.
    Builtin,
    /// None: events are given as they come, for readers other than IntelMQ.
    None,
    /// This file.
    File(PathBuf),
}

impl<'de> Deserialize<'de> for Harmonization {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Harmonization, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(match &*text {
            "auto" => Harmonization::Auto,
            "builtin" => Harmonization::Builtin,
            "none" => Harmonization::None,
            path if path.contains('/') => Harmonization::File(path.into()),
            other => {
                return Err(serde::de::Error::custom(format!(
                    "{other:?} is no data format: write \"auto\", \"builtin\", \"none\", or the path of a \
                     harmonization.conf with a / in it"
                )));
            }
        })
    }
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
    /// Which events, and how they are written. Default shape: `extra`.
    #[serde(default)]
    pub events: Events,
}

fn default_high_water() -> u64 {
    100_000
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
    /// Which events, and how they are written. Default shape: `iep04`.
    #[serde(default)]
    pub events: Events,
}

fn default_rotate_bytes() -> u64 {
    128 << 20
}

fn default_rotate_seconds() -> u64 {
    24 * 3600
}
