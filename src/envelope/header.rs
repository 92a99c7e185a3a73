//! The header: what the origin says about an event, signed as the exact bytes that travel.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::crypt::Slot;
use super::wire::Malformed;
use super::{Key, Name, Tlp};

/// The version of envelopes that this program writes and reads.
pub const VERSION: u8 = 1;

/// Most tags, links of a kind, recipients and extension keys.
const MAX_LIST: usize = 256;
/// Longest tag, link, format name or extension key, in bytes.
const MAX_TEXT: usize = 1024;

/// What an envelope carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An IntelMQ event.
    Event,
    /// An IntelMQ report: raw data that a parser has yet to read.
    Report,
    /// Word that an earlier envelope of the same origin no longer holds.
    Withdrawal,
}

impl Kind {
    /// As written in IEP04's `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Event => "event",
            Kind::Report => "report",
            Kind::Withdrawal => "withdrawal",
        }
    }
}

/// Relations to other messages (IEP04). UUIDs, CyCAT ids or opaque local ids (`RT#1234`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Links {
    /// The message that this one was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Messages about something connected.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub related: Vec<String>,
    /// Incidents that this message is part of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub group: Vec<String>,
    /// Other names of this message.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alternate: Vec<String>,
    /// The message that this one takes the place of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaces: Option<Uuid>,
    /// The message that no longer holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub withdraws: Option<Uuid>,
}

impl Links {
    fn is_empty(&self) -> bool {
        *self == Links::default()
    }

    fn texts(&self) -> impl Iterator<Item = &String> {
        self.parent.iter().chain(&self.related).chain(&self.group).chain(&self.alternate)
    }
}

/// The signed meta data of an envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// [`VERSION`].
    pub v: u8,
    /// The message's id.
    pub id: Uuid,
    /// Who sealed it,
    pub origin: Name,
    /// with which key.
    pub key: Key,
    /// The organisation (IEP04 `uuid_org`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org: Option<Uuid>,
    /// The installation (IEP04 `uuid_instance`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<Uuid>,
    /// When it was sealed, ms since 1970.
    pub time: u64,
    /// What it carries.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// The payload's format: `intelmq`, `n6`, `idea` …
    pub format: String,
    /// How far it may go; none: each node's configured default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tlp: Option<Tlp>,
    /// The only nodes it is for; empty: whoever policy permits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<Name>,
    /// Present when the payload is encrypted: for each of `to`, in that order, what opens it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<Slot>,
    /// IEP04 tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// IEP04 relations.
    #[serde(default, skip_serializing_if = "Links::is_empty")]
    pub links: Links,
    /// Further meta data, `x-…` or `prefix:key`, as JSON texts: carried and signed, not interpreted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ext: BTreeMap<String, String>,
    /// Present when the id is made of the content: the fields left out beside `raw` and `time.observation`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Vec<String>>,
    /// Number of fields, so that none can be cut off.
    pub n: u32,
}

impl Header {
    /// The header of the withdrawal of the message with this header: for the same nodes, with the same label. It is not
    /// encrypted yet, also where that one is.
    #[must_use]
    pub fn withdrawal(&self, id: Uuid, time: u64) -> Header {
        Header {
            id,
            time,
            kind: Kind::Withdrawal,
            keys: Vec::new(),
            tags: Vec::new(),
            links: Links { withdraws: Some(self.id), ..Links::default() },
            ext: BTreeMap::new(),
            content: None,
            n: 0,
            ..self.clone()
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        // Encoding plain data into memory cannot fail.
        serde_cbor::to_vec(self).expect("a header is plain data")
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Header, Malformed> {
        if bytes.first().is_none_or(|first| first >> 5 != 5) {
            return Err(Malformed::Header("it is no CBOR map"));
        }
        let header: Header =
            serde_cbor::from_slice(bytes).map_err(|e| version_of(bytes).unwrap_or_else(|| e.into()))?;
        if header.v != VERSION {
            return Err(Malformed::Version(header.v.into()));
        }
        header.check()?;
        // The decoder takes bytes for texts, tags, keys that stand twice: what others might not.
        if header.encode() != bytes {
            return Err(Malformed::Header("its bytes are not in the one form that a header has"));
        }
        Ok(header)
    }

    /// The bounds on everything that has no type of its own; the same when sealing and when opening.
    pub(super) fn check(&self) -> Result<(), Malformed> {
        let lists = [
            self.to.len(),
            self.tags.len(),
            self.links.related.len(),
            self.links.group.len(),
            self.links.alternate.len(),
            self.ext.len(),
            self.content.as_ref().map_or(0, Vec::len),
        ];
        if lists.iter().any(|&length| length > MAX_LIST) {
            return Err(Malformed::Header("a list has too many entries"));
        }
        if self.is_encrypted() {
            self.check_encrypted()?;
        }
        let texts = self.tags.iter().chain(self.links.texts()).chain(self.ext.keys());
        let texts = texts.chain(self.content.iter().flatten()).chain([&self.format]);
        if texts.into_iter().any(|text| text.len() > MAX_TEXT || text.chars().any(char::is_control)) {
            return Err(Malformed::Header("a text is too long or holds control characters"));
        }
        // Else anybody could make an event that differs from a known one in fields that do not count.
        if self.content.iter().flatten().any(|field| !field.starts_with("feed.")) {
            return Err(Malformed::Header("a content id may leave out fields of the feed only"));
        }
        for (key, value) in &self.ext {
            if !is_extension(key) {
                return Err(Malformed::Header("an extension key is neither x-… nor prefix:key"));
            }
            if super::json::complete(value).is_err() {
                return Err(Malformed::Header("an extension's value is not JSON"));
            }
        }
        Ok(())
    }
}

/// Whether a key may stand in [`Header::ext`].
pub fn is_extension(key: &str) -> bool {
    let rest = key.strip_prefix("x-").or_else(|| key.split_once(':').filter(|(p, _)| !p.is_empty()).map(|(_, k)| k));
    rest.is_some_and(|rest| !rest.is_empty())
}

/// The version that a header claims, when it is not ours: a better reason than the first unknown key.
fn version_of(bytes: &[u8]) -> Option<Malformed> {
    #[derive(Deserialize)]
    struct Version {
        v: u64,
    }
    let version = serde_cbor::from_slice::<Version>(bytes).ok()?.v;
    (version != u64::from(VERSION)).then_some(Malformed::Version(version))
}

/// A path or an id as operators see it.
pub(super) struct Path<'a>(pub &'a [Name]);

impl fmt::Display for Path<'_> {
    /// `!cert-at!cert-ee`, the first node first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|name| write!(f, "!{name}"))
    }
}
