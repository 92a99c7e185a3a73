//! Messages as they come from an IntelMQ, a file or another program: every shape of IEP04, and the bare event.

use std::collections::BTreeMap;

use serde_json::Value;
use uuid::Uuid;

use super::header::{Header, Kind, Links, VERSION, is_extension};
use super::json::{self, JsonError, Member};
use super::view::{MARK, RAW_KEYS, RELAY, is_mark};
use super::{Key, Name, Tlp, parse_id};

/// A message that was read and not yet sealed: what it says of itself, and its fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The id that it carries.
    pub id: Option<Uuid>,
    /// The node that sealed it before, where a relay has said so: the message came out of a relay.
    pub origin: Option<Name>,
    /// Event, report or withdrawal.
    pub kind: Kind,
    /// The payload's format.
    pub format: String,
    /// IEP04 `uuid_org`.
    pub org: Option<Uuid>,
    /// IEP04 `uuid_instance`.
    pub instance: Option<Uuid>,
    /// The stricter of the meta data's label and the event's `tlp` field.
    pub tlp: Option<Tlp>,
    /// Recipients.
    pub to: Vec<Name>,
    /// Tags.
    pub tags: Vec<String>,
    /// Relations.
    pub links: Links,
    /// Other meta data, as JSON texts.
    pub ext: BTreeMap<String, String>,
    /// Keys and JSON texts of the payload's members; a payload that is no object is one field with the key "".
    pub fields: Vec<(String, String)>,
}

/// Why a text is no message. It names the place; the remedy is at the sender's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Not text at all.
    #[error("not UTF-8 at byte {0}")]
    Utf8(usize),
    /// Not JSON.
    #[error("{0}")]
    Json(#[from] JsonError),
    /// JSON, but no object.
    #[error("a JSON value, but no object: an event is {{\"key\": value, …}}")]
    NoObject,
    /// A version of IEP04 that is not known.
    #[error("meta data version {0}: this program reads 1 and 2")]
    Version(String),
    /// A member of the meta data that does not fit.
    #[error("{key}: {what}")]
    Meta {
        /// Which,
        key: String,
        /// and what is expected.
        what: &'static str,
    },
}

fn meta(key: &str, what: &'static str) -> Unreadable {
    Unreadable::Meta { key: key.chars().take(64).collect(), what }
}

impl Message {
    /// Reads a message in any shape. IEP04 is told by `meta`, or by `format` together with `payload`; everything else
    /// is a bare event.
    pub fn read(text: &[u8]) -> Result<Message, Unreadable> {
        let text = std::str::from_utf8(text).map_err(|e| Unreadable::Utf8(e.valid_up_to()))?;
        match json::members(text) {
            // A value of an event may be as deep as that, and stands deeper in an IEP04 message.
            Err(error) if error.what == json::TOO_DEEP => {
                let members = json::outer_members(text)?.filter(|members| is_iep04(members));
                members.map_or(Err(error.into()), |members| iep04(&members))
            }
            members => {
                let members = members?.ok_or(Unreadable::NoObject)?;
                if is_iep04(&members) { iep04(&members) } else { bare(members) }
            }
        }
    }

    /// The header of this message when `origin` seals it: with the message's own id, or else `id`.
    pub fn header(&self, origin: &Name, id: Uuid, time: u64) -> Header {
        Header {
            v: VERSION,
            id: self.id.unwrap_or(id),
            origin: origin.clone(),
            key: Key::default(),
            org: self.org,
            instance: self.instance,
            time,
            kind: self.kind,
            format: self.format.clone(),
            tlp: self.tlp,
            to: self.to.clone(),
            keys: Vec::new(),
            tags: self.tags.clone(),
            links: self.links.clone(),
            ext: self.ext.clone(),
            content: None,
            n: 0,
        }
    }

    fn empty() -> Message {
        Message {
            id: None,
            origin: None,
            kind: Kind::Event,
            format: "intelmq".into(),
            org: None,
            instance: None,
            tlp: None,
            to: Vec::new(),
            tags: Vec::new(),
            links: Links::default(),
            ext: BTreeMap::new(),
            fields: Vec::new(),
        }
    }

    /// The payload's own `tlp` counts too: nothing that is said of an event may widen what it says itself.
    fn heed_tlp_field(&mut self) -> Result<(), Unreadable> {
        let own = self.fields.iter().find(|(key, _)| key == "tlp" && self.format == "intelmq");
        if let Some((key, value)) = own {
            let label = json::string(value).and_then(|label| label.parse().ok());
            self.tlp = self.tlp.max(Some(label.ok_or_else(|| {
                meta(key, "a TLP label is expected: CLEAR (or WHITE), GREEN, AMBER, AMBER+STRICT or RED")
            })?));
        }
        // A label that IntelMQ has no name for lies there; it must not widen on its way through a pipeline.
        let exact = self.fields.iter().find(|(key, _)| key == "extra.tlp" && self.format == "intelmq");
        let exact = exact.and_then(|(_, value)| json::string(value)?.parse().ok());
        self.tlp = self.tlp.max(exact);
        Ok(())
    }
}

fn is_iep04(members: &[Member<'_>]) -> bool {
    let has = |name: &str| members.iter().any(|(key, _)| key == name);
    has("meta") || (has("format") && has("payload"))
}

fn bare(members: Vec<Member<'_>>) -> Result<Message, Unreadable> {
    let mut message = Message::empty();
    for (key, value) in members {
        if key == "__type" {
            message.kind = match json::string(value).as_deref() {
                Some("Event") => Kind::Event,
                Some("Report") => Kind::Report,
                _ => return Err(meta("__type", "\"Event\" or \"Report\" is expected")),
            };
        } else if let Some(said) = key.strip_prefix(RELAY) {
            match said {
                "uuid" => message.id = Some(one_id(&key, value)?),
                "origin" => message.origin = Some(one_name(&key, value)?),
                "to" => message.to = names(&key, value)?,
                "withdraws" => message.links.withdraws = Some(one_id(&key, value)?),
                "replaces" => message.links.replaces = Some(one_id(&key, value)?),
                // What the last relay said about the way; whoever seals says it anew.
                _ => {}
            }
        } else {
            message.fields.push((key.into_owned(), value.to_owned()));
        }
    }
    message.heed_tlp_field()?;
    Ok(message)
}

fn iep04(members: &[Member<'_>]) -> Result<Message, Unreadable> {
    let mut message = Message::empty();
    for (key, value) in members {
        match key.as_ref() {
            "meta" => read_meta(&mut message, value)?,
            "payload" => {}
            "version" => version(value)?,
            "format" | "type" => {
                let text = json::string(value).ok_or_else(|| meta(key, "a text is expected"))?;
                read_kind(&mut message, key, &text)?;
            }
            _ => return Err(meta(key, "not a member of an IEP04 message")),
        }
    }
    if let Some((_, payload)) = members.iter().find(|(key, _)| key == "payload") {
        match json::members(payload)? {
            Some(fields) => {
                // Marks are the pipeline's and the relays', and said by `type` and `meta` here.
                let fields = fields.into_iter().filter(|(key, _)| !is_mark(key) || message.format != "intelmq");
                message.fields = fields.map(|(key, value)| (key.into_owned(), value.to_owned())).collect();
            }
            None if message.format == "intelmq" => return Err(Unreadable::NoObject),
            None => message.fields = vec![(String::new(), (*payload).to_owned())],
        }
    }
    if message.fields.is_empty() {
        as_update(&mut message);
    }
    message.heed_tlp_field()?;
    Ok(message)
}

/// IEP04's "known uuid and no payload: new tags". A relay cannot give two messages one id (the second is a duplicate
/// everywhere), so an update is a message of its own that names what it updates.
fn as_update(message: &mut Message) {
    if let Some(id) = message.id.take() {
        message.links.parent.get_or_insert_with(|| id.to_string());
    }
}

fn version(value: &str) -> Result<(), Unreadable> {
    match value {
        "1" | "2" => Ok(()),
        _ => Err(Unreadable::Version(value.chars().take(32).collect())),
    }
}

fn read_kind(message: &mut Message, key: &str, text: &str) -> Result<(), Unreadable> {
    match (key, text) {
        ("format", _) => message.format = text.to_owned(),
        (_, "event") => message.kind = Kind::Event,
        (_, "report") => message.kind = Kind::Report,
        (_, "withdrawal") => message.kind = Kind::Withdrawal,
        _ => return Err(meta(key, "\"event\", \"report\" or \"withdrawal\" is expected")),
    }
    Ok(())
}

fn read_meta(message: &mut Message, value: &str) -> Result<(), Unreadable> {
    let members = json::members(value)?.ok_or_else(|| meta("meta", "an object is expected"))?;
    for (key, text) in members {
        let key = key.as_ref();
        if let Some((_, prefixed)) = RAW_KEYS.iter().find(|(plain, _)| *plain == key) {
            message.ext.insert((*prefixed).to_owned(), text.to_owned());
            continue;
        }
        match key {
            "version" => version(text)?,
            "uuid" => read_uuid(message, text)?,
            "uuid_org" => message.org = Some(one_id(key, text)?),
            "uuid_instance" => message.instance = Some(one_id(key, text)?),
            "format" | "type" => read_kind(message, key, &one_text(key, text)?)?,
            "tags" => message.tags = texts(key, text)?,
            "intelmq:parent" => message.links.parent = Some(one_text(key, text)?),
            "intelmq:related" => message.links.related = texts(key, text)?,
            "intelmq:group" => message.links.group = texts(key, text)?,
            "intelmq:alternate" => message.links.alternate = texts(key, text)?,
            "relay:replaces" => message.links.replaces = Some(one_id(key, text)?),
            "relay:withdraws" => message.links.withdraws = Some(one_id(key, text)?),
            "relay:tlp" => {
                let label = one_text(key, text)?.parse().map_err(|_| {
                    meta(key, "a TLP label is expected: CLEAR (or WHITE), GREEN, AMBER, AMBER+STRICT or RED")
                })?;
                message.tlp = message.tlp.max(Some(label));
            }
            "relay:to" => message.to = names(key, text)?,
            "relay:origin" => message.origin = Some(one_name(key, text)?),
            // What the last relay said about the way; whoever seals says it anew.
            _ if key.starts_with(MARK) => {}
            _ if is_extension(key) => {
                message.ext.insert(key.to_owned(), text.to_owned());
            }
            _ => return Err(meta(key, "not known; extensions are named x-… or prefix:key")),
        }
    }
    Ok(())
}

/// `meta.uuid`: a UUID, the first proposal's `{current, parent}`, or one of the variants that were discussed,
/// `{origin, id, related, group, alternate}` and `{origin, id, links: [{left_side, type, right_side}]}`.
fn read_uuid(message: &mut Message, text: &str) -> Result<(), Unreadable> {
    let Ok(Some(members)) = json::members(text) else {
        message.id = Some(one_id("uuid", text)?);
        return Ok(());
    };
    for (key, text) in members {
        match key.as_ref() {
            "current" | "id" => message.id = Some(one_id(&key, text)?),
            "parent" => message.links.parent = Some(one_text(&key, text)?),
            "related" => message.links.related = texts(&key, text)?,
            "group" => message.links.group = texts(&key, text)?,
            "alternate" => message.links.alternate = texts(&key, text)?,
            "links" => read_links(&mut message.links, text)?,
            "origin" => {}
            _ => return Err(meta(&key, "not known in meta.uuid")),
        }
    }
    // Its own parent: it has none.
    if message.links.parent.as_deref().and_then(parse_id).is_some_and(|parent| Some(parent) == message.id) {
        message.links.parent = None;
    }
    Ok(())
}

fn read_links(links: &mut Links, text: &str) -> Result<(), Unreadable> {
    let fault = || meta("links", "a list of {left_side, type, right_side} is expected");
    let list: Vec<Value> = serde_json::from_str(text).map_err(|_| fault())?;
    for link in &list {
        let part = |key: &str| link.get(key).and_then(Value::as_str);
        let (Some(kind), Some(right)) = (part("type"), part("right_side")) else { return Err(fault()) };
        match kind {
            "parent" => links.parent = Some(right.to_owned()),
            "group" => links.group.push(right.to_owned()),
            "alternate" => links.alternate.push(right.to_owned()),
            _ => links.related.push(right.to_owned()),
        }
    }
    Ok(())
}

fn one_text(key: &str, text: &str) -> Result<String, Unreadable> {
    json::string(text).map(|text| text.into_owned()).ok_or_else(|| meta(key, "a text is expected"))
}

fn one_id(key: &str, text: &str) -> Result<Uuid, Unreadable> {
    parse_id(&one_text(key, text)?).ok_or_else(|| meta(key, "a UUID, or CyCAT's publisher:project:UUID, is expected"))
}

fn one_name(key: &str, text: &str) -> Result<Name, Unreadable> {
    one_text(key, text)?.parse().map_err(|_| meta(key, "a node's name is expected"))
}

fn names(key: &str, text: &str) -> Result<Vec<Name>, Unreadable> {
    let names = texts(key, text)?;
    names.iter().map(|name| name.parse().map_err(|_| meta(key, "a list of node names is expected"))).collect()
}

/// A list of texts, or one text for a list of one.
fn texts(key: &str, text: &str) -> Result<Vec<String>, Unreadable> {
    if let Some(one) = json::string(text) {
        return Ok(vec![one.into_owned()]);
    }
    serde_json::from_str(text).map_err(|_| meta(key, "a list of texts is expected"))
}
