//! `[take.….seal]`: what the sealing node does to the events of a source, and says of them, before it seals them.
//!
//! Owns how it is spelled. The same keys stand in the seal itself, for every event, and in its `rules`, for those that a
//! rule matches. How they work together is policy's.

use std::collections::BTreeMap;

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use toml::Value;

use super::rules::one_or_more;
use super::{Matcher, Take};
use crate::envelope::{Kind, Name, Tlp};

/// What the sealing node says about every event of a source.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Seal {
    /// How ids are made: `random` or `content`.
    pub id: IdKind,
    /// `feed.*` fields that content ids leave out, beside `raw` and `time.observation`.
    pub id_without: Vec<String>,
    /// TLP of events for which neither they themselves nor a rule say one; default: none, the receiver's
    /// `policy.default_tlp` holds.
    pub tlp: Option<Tlp>,
    /// Tags of every event.
    #[serde(deserialize_with = "list")]
    pub tags: Vec<String>,
    /// Recipients of events for which neither they themselves nor a rule name any; none: whoever policy permits.
    #[serde(deserialize_with = "list")]
    pub to: Vec<Name>,
    /// What is encrypted to its recipients.
    pub encrypt: Encrypt,
    /// Fields that are left out; names with stars.
    #[serde(deserialize_with = "list")]
    pub drop: Vec<String>,
    /// Fields that are sealed hidden: others see that there is one, and neither its name nor its value.
    #[serde(deserialize_with = "list")]
    pub hide: Vec<String>,
    /// Addresses of which only the network goes out.
    pub truncate: Truncate,
    /// Fields whose values are replaced by pseudonyms.
    #[serde(deserialize_with = "list")]
    pub pseudonym: Vec<String>,
    /// What holds for some events only. All that match apply.
    pub rules: Vec<SealRule>,
}

/// Which events are encrypted to their recipients, so that nobody else can read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encrypt {
    /// All that name recipients: what is for some is of no use to others.
    #[default]
    Named,
    /// TLP:RED alone.
    Red,
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

/// Fields with addresses, and the prefixes that are left of these.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Truncate {
    /// Bits that are left of an IPv4 address,
    // First, so that a bare list of fields is refused: a list is read as the values of a table in this order.
    pub ipv4: u8,
    /// and of an IPv6 address: a site has 48, and a host can be known by 64.
    pub ipv6: u8,
    /// Names with stars.
    #[serde(deserialize_with = "list")]
    pub fields: Vec<String>,
}

impl Default for Truncate {
    fn default() -> Truncate {
        Truncate { ipv4: 24, ipv6: 48, fields: Vec::new() }
    }
}

/// What is done to the events that it matches, beside what is done to all.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SealRule {
    /// How it is called in answers; none: its number, from 1.
    pub name: Option<Name>,
    /// Which events it matches: those for which all of it holds. Nothing: all of them.
    pub when: When,
    /// They have this label at least.
    pub tlp: Option<Tlp>,
    /// Tags that they get.
    #[serde(deserialize_with = "list")]
    pub tags: Vec<String>,
    /// Nobody else may have them.
    #[serde(deserialize_with = "list")]
    pub to: Vec<Name>,
    /// As in the seal.
    #[serde(deserialize_with = "list")]
    pub drop: Vec<String>,
    /// As in the seal.
    #[serde(deserialize_with = "list")]
    pub hide: Vec<String>,
    /// As in the seal.
    pub truncate: Truncate,
    /// As in the seal.
    #[serde(deserialize_with = "list")]
    pub pseudonym: Vec<String>,
    /// Where it stands in the file.
    #[serde(skip)]
    pub line: Line,
}

/// A line of the file, from 1. All are equal: a door whose rules only stand elsewhere than before has not changed, and
/// is not opened anew.
#[derive(Debug, Clone, Copy, Default)]
pub struct Line(pub usize);

impl PartialEq for Line {
    fn eq(&self, _: &Line) -> bool {
        true
    }
}

/// Conditions on an event as it came in, before anything was done to it.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct When {
    /// Fields, each with what it must be.
    pub fields: BTreeMap<String, Matcher>,
    /// What it carries is one of these.
    #[serde(rename = "type", deserialize_with = "one_or_more")]
    pub kind: Option<Vec<Kind>>,
    /// Its format is one of these.
    #[serde(deserialize_with = "one_or_more")]
    pub format: Option<Vec<String>>,
    /// It brings one of these tags.
    #[serde(deserialize_with = "one_or_more")]
    pub tags: Option<Vec<String>>,
}

impl Take {
    /// Every source: its name, where its seal stands in the file, and the seal.
    pub fn seals(&self) -> impl Iterator<Item = (&Name, String, &Seal)> {
        let redis = self.redis.iter().enumerate().map(|(i, door)| (&door.name, format!("redis.{i}"), &door.seal));
        let files = self.files.iter().enumerate().map(|(i, door)| (&door.name, format!("files.{i}"), &door.seal));
        let tcp = self.tcp.iter().enumerate().map(|(i, door)| (&door.name, format!("tcp.{i}"), &door.seal));
        let amqp = self.amqp.iter().enumerate().map(|(i, door)| (&door.name, format!("amqp.{i}"), &door.seal));
        redis.chain(files).chain(tcp).chain(amqp).map(|(name, at, seal)| (name, format!("take.{at}.seal"), seal))
    }

    /// The same seals in the same order, to be changed.
    pub(super) fn seals_mut(&mut self) -> impl Iterator<Item = &mut Seal> {
        let redis = self.redis.iter_mut().map(|door| &mut door.seal);
        let redis = redis.chain(self.files.iter_mut().map(|door| &mut door.seal));
        redis
            .chain(self.tcp.iter_mut().map(|door| &mut door.seal))
            .chain(self.amqp.iter_mut().map(|door| &mut door.seal))
    }
}

/// A list that may be written without its brackets when it has one element.
fn list<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Vec<T>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Array(elements) if elements.is_empty() => Ok(Vec::new()),
        some => one_or_more(some).map(Option::unwrap_or_default).map_err(|error| D::Error::custom(error.message())),
    }
}
