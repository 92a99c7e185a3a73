//! The header: what the origin says about an event, signed as the exact bytes that travel.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::cbor::Reader;
use super::crypt::Slot;
use super::wire::Malformed;
use super::{Key, Name, Tlp};

/// The version of envelopes that this program writes and reads.
pub const VERSION: u8 = 1;

/// Most tags, links of a kind, recipients and extension keys.
const MAX_LIST: usize = 256;
/// Longest tag, link, format name or extension key, in bytes.
const MAX_TEXT: usize = 1024;

const TOO_MANY: Malformed = Malformed::Header("a list has too many entries");
const ABSENT: Malformed = Malformed::Header("what is empty is absent in the one form");

/// The keys of a header,
const KEYS: &[&str] = &[
    "v", "id", "origin", "key", "org", "instance", "time", "type", "format", "tlp", "to", "keys", "tags", "links",
    "ext", "content", "n",
];
/// and of its links.
const LINKS: &[&str] = &["parent", "related", "group", "alternate", "replaces", "withdraws"];

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org: Option<Uuid>,
    /// The installation (IEP04 `uuid_instance`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<Uuid>,
    /// When it was sealed, ms since 1970.
    pub time: u64,
    /// What it carries.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// The payload's format: `intelmq`, `n6`, `idea` …
    pub format: String,
    /// How far it may go; none: each node's configured default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tlp: Option<Tlp>,
    /// The only nodes it is for; empty: whoever policy permits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<Name>,
    /// Present when the payload is encrypted: for each of `to`, in that order, what opens it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<Slot>,
    /// IEP04 tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// IEP04 relations.
    #[serde(skip_serializing_if = "Links::is_empty")]
    pub links: Links,
    /// Further meta data, `x-…` or `prefix:key`, as JSON texts: carried and signed, not interpreted.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ext: BTreeMap<String, String>,
    /// Present when the id is made of the content: the fields left out beside `raw` and `time.observation`.
    #[serde(skip_serializing_if = "Option::is_none")]
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

    /// Reads a header in the one form that it has: what a general decoder takes beside it, others might refuse.
    pub(super) fn decode(bytes: &[u8]) -> Result<Header, Malformed> {
        let header = Header::reopen(bytes)?;
        header.check()?;
        Ok(header)
    }

    /// The same of a header that was checked before it was stored.
    pub(super) fn reopen(bytes: &[u8]) -> Result<Header, Malformed> {
        if bytes.first().is_none_or(|first| first >> 5 != 5) {
            return Err(Malformed::Header("it is no CBOR map"));
        }
        let mut reader = Reader::new(bytes);
        let mut map = reader.map(KEYS)?;
        let v = map.must("v", Reader::uint)?;
        if v != u64::from(VERSION) {
            return Err(Malformed::Version(v));
        }
        let header = Header {
            v: VERSION,
            id: map.must("id", uuid)?,
            origin: map.must("origin", name)?,
            key: Key::unchecked(map.must("key", Reader::array)?),
            org: map.maybe("org", uuid)?,
            instance: map.maybe("instance", uuid)?,
            time: map.must("time", Reader::uint)?,
            kind: map.must("type", kind)?,
            format: map.must("format", text)?,
            tlp: map.maybe("tlp", tlp)?,
            to: map.maybe("to", |reader| list(reader, name))?.unwrap_or_default(),
            keys: map.maybe("keys", |reader| list(reader, |reader| reader.array().map(Slot::new)))?.unwrap_or_default(),
            tags: map.maybe("tags", texts)?.unwrap_or_default(),
            links: map.maybe("links", links)?.unwrap_or_default(),
            ext: map.maybe("ext", extensions)?.unwrap_or_default(),
            content: map.maybe("content", |reader| items(reader, text))?,
            n: map.must("n", Reader::u32)?,
        };
        map.end()?;
        reader.end()?;
        Ok(header)
    }

    /// The origin and the id that these bytes name, if they begin as a header does.
    pub(super) fn named(bytes: &[u8]) -> Result<(Name, Uuid), Malformed> {
        let mut reader = Reader::new(bytes);
        let mut map = reader.map(KEYS)?;
        map.must("v", Reader::uint)?;
        let id = map.must("id", uuid)?;
        Ok((map.must("origin", name)?, id))
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
            return Err(TOO_MANY);
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

fn uuid(reader: &mut Reader<'_>) -> Result<Uuid, Malformed> {
    reader.array().map(Uuid::from_bytes)
}

fn text(reader: &mut Reader<'_>) -> Result<String, Malformed> {
    reader.text().map(str::to_owned)
}

fn name(reader: &mut Reader<'_>) -> Result<Name, Malformed> {
    reader.text()?.parse().map_err(|_| Malformed::Header("what is no node name stands for one"))
}

fn kind(reader: &mut Reader<'_>) -> Result<Kind, Malformed> {
    let text = reader.text()?;
    let kind = [Kind::Event, Kind::Report, Kind::Withdrawal].into_iter().find(|kind| kind.as_str() == text);
    kind.ok_or(Malformed::Header("its type is an unknown variant"))
}

/// Only as it is written: a relay that knew other spellings would read what others refuse.
fn tlp(reader: &mut Reader<'_>) -> Result<Tlp, Malformed> {
    let text = reader.text()?;
    Tlp::ALL
        .into_iter()
        .find(|tlp| tlp.as_str() == text)
        .ok_or(Malformed::Header("its tlp is no TLP label of the one form"))
}

fn items<'a, T>(
    reader: &mut Reader<'a>,
    item: impl Fn(&mut Reader<'a>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let length = reader.list()?;
    if length > MAX_LIST {
        return Err(TOO_MANY);
    }
    (0..length).map(|_| item(reader)).collect()
}

/// A list that is absent when it is empty.
fn list<'a, T>(
    reader: &mut Reader<'a>,
    item: impl Fn(&mut Reader<'a>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let items = items(reader, item)?;
    if items.is_empty() { Err(ABSENT) } else { Ok(items) }
}

fn texts(reader: &mut Reader<'_>) -> Result<Vec<String>, Malformed> {
    list(reader, text)
}

fn links(reader: &mut Reader<'_>) -> Result<Links, Malformed> {
    let mut map = reader.map(LINKS)?;
    let links = Links {
        parent: map.maybe("parent", text)?,
        related: map.maybe("related", texts)?.unwrap_or_default(),
        group: map.maybe("group", texts)?.unwrap_or_default(),
        alternate: map.maybe("alternate", texts)?.unwrap_or_default(),
        replaces: map.maybe("replaces", uuid)?,
        withdraws: map.maybe("withdraws", uuid)?,
    };
    map.end()?;
    if links.is_empty() { Err(ABSENT) } else { Ok(links) }
}

fn extensions(reader: &mut Reader<'_>) -> Result<BTreeMap<String, String>, Malformed> {
    let mut map = reader.map(&[])?;
    let mut ext = BTreeMap::new();
    while let Some(key) = map.next()? {
        if ext.len() >= MAX_LIST {
            return Err(TOO_MANY);
        }
        if ext.last_key_value().is_some_and(|(last, _): (&String, _)| last.as_str() >= key) {
            return Err(Malformed::Header("its extensions are not in the one form: each key once, and in their order"));
        }
        ext.insert(key.to_owned(), text(map.value())?);
    }
    if ext.is_empty() { Err(ABSENT) } else { Ok(ext) }
}

/// A path or an id as operators see it.
pub(super) struct Path<'a>(pub &'a [Name]);

impl fmt::Display for Path<'_> {
    /// `!cert-at!cert-ee`, the first node first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|name| write!(f, "!{name}"))
    }
}
