//! Envelopes as JSON texts, in the shapes of IEP04. Values are copied as they came, never re-written.

use serde::{Deserialize, Serialize};

use super::header::{Header, Kind, Links, Path};
use super::id::CyCat;
use super::json::push_string;
use super::wire::{Envelope, Field};

/// The JSON forms of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// IEP04 as decided in 2022: `{"format", "version", "type", "meta", "payload"}`.
    #[default]
    Iep04,
    /// IEP04 as first proposed in 2021: `{"meta": {"version", "uuid": {"current", "parent"}, …}, "payload"}`.
    Proposed,
    /// The flat event with `__type`, as on IntelMQ's pipeline.
    Typed,
    /// The flat event without `__type`, as IntelMQ's output bots write it.
    Bare,
    /// As `Typed`, with the meta data under `extra.relay.*`.
    Extra,
}

/// What a node knows of an envelope beside the envelope.
#[derive(Debug, Clone, Copy, Default)]
struct Marks {
    withdrawn: bool,
}

/// Meta data of IEP04 that speaks of `payload.raw`; kept in the header under a prefixed key, as the header's own
/// extension keys have a prefix.
pub(super) const RAW_KEYS: [(&str, &str); 2] = [("encoding", "iep04:encoding"), ("compress", "iep04:compress")];

/// Before the keys of our meta data in IEP04's, and in a flat event. They are ours to write, and nobody else's to pass as ours.
pub(super) const MARK: &str = "relay:";
pub(super) const RELAY: &str = "extra.relay.";
/// In which IntelMQ's pipeline says what an object is.
const TYPE: &str = "__type";

/// The links of a header as IEP04 has them: written from there alone.
const LINKS: [&str; 4] = ["intelmq:parent", "intelmq:related", "intelmq:group", "intelmq:alternate"];

impl Envelope {
    /// The envelope as one line of JSON, without the line's end.
    pub fn write(&self, shape: Shape) -> String {
        self.write_marked(shape, false)
    }

    /// As [`Envelope::write`]; where the shape has meta data, they say whether its origin has withdrawn it.
    pub fn write_marked(&self, shape: Shape, withdrawn: bool) -> String {
        let mut out = String::with_capacity(self.bytes().len() + 512);
        match shape {
            Shape::Iep04 => self.write_decided(&mut out, withdrawn),
            Shape::Proposed => self.write_proposed(&mut out, withdrawn),
            Shape::Typed => self.write_payload(&mut out, true, None),
            Shape::Bare => self.write_payload(&mut out, false, None),
            Shape::Extra => self.write_payload(&mut out, true, Some(Marks { withdrawn })),
        }
        out
    }

    /// As [`Envelope::write`] in a flat shape of IntelMQ's, with these fields instead of the envelope's own: what they
    /// were made to fit a data format, or what tells of a withdrawal. Only then do they mark the event: what did not fit has
    /// been moved, and not to where a relay would believe it.
    pub fn write_fitted<'a>(&self, shape: Shape, fields: impl Iterator<Item = (&'a str, &'a str)>) -> String {
        let mut out = String::with_capacity(self.bytes().len() + 512);
        let (typed, meta) = (shape != Shape::Bare, (shape == Shape::Extra).then(Marks::default));
        let ours = self.header().kind == Kind::Withdrawal;
        let fields = fields.filter(|(key, _)| ours || !key.starts_with(RELAY));
        self.write_fields(&mut out, fields, typed, meta);
        out
    }

    fn write_decided(&self, out: &mut String, withdrawn: bool) {
        let header = self.header();
        let mut message = Object::open(out);
        message.text("format", &header.format);
        message.raw("version", "1");
        message.text("type", header.kind.as_str());
        let mut meta = message.object("meta");
        meta.text("uuid", &header.id.to_string());
        meta.texts("tags", &header.tags);
        let Links { parent, related, group, alternate, .. } = &header.links;
        if let Some(parent) = parent {
            meta.text("intelmq:parent", parent);
        }
        for (key, list) in [("intelmq:related", related), ("intelmq:group", group), ("intelmq:alternate", alternate)] {
            if !list.is_empty() {
                meta.texts(key, list);
            }
        }
        self.write_meta(&mut meta, withdrawn);
        meta.close();
        self.payload_of(&mut message);
        message.close();
    }

    fn write_proposed(&self, out: &mut String, withdrawn: bool) {
        let header = self.header();
        let mut message = Object::open(out);
        let mut meta = message.object("meta");
        meta.raw("version", "1");
        let mut uuid = meta.object("uuid");
        uuid.text("current", &CyCat(header).to_string());
        // Without a parent, a message is its own (as a git commit's first one has none).
        uuid.text("parent", header.links.parent.as_deref().unwrap_or(&CyCat(header).to_string()));
        let Links { related, group, alternate, .. } = &header.links;
        for (key, list) in [("related", related), ("group", group), ("alternate", alternate)] {
            if !list.is_empty() {
                uuid.texts(key, list);
            }
        }
        uuid.close();
        meta.text("type", header.kind.as_str());
        meta.text("format", &header.format);
        if !header.tags.is_empty() {
            meta.texts("tags", &header.tags);
        }
        self.write_meta(&mut meta, withdrawn);
        meta.close();
        self.payload_of(&mut message);
        message.close();
    }

    /// What both IEP04 shapes say in the same words.
    fn write_meta(&self, meta: &mut Object<'_>, withdrawn: bool) {
        let Header { origin, org, instance, time, tlp, to, links, ext, .. } = self.header();
        for (key, uuid) in [("uuid_org", org), ("uuid_instance", instance)] {
            if let Some(uuid) = uuid {
                meta.text(key, &uuid.to_string());
            }
        }
        let theirs = |key: &str| !key.starts_with(MARK) && !LINKS.contains(&key);
        for (key, value) in ext.iter().filter(|(key, _)| theirs(key)) {
            let plain = RAW_KEYS.iter().find(|(_, prefixed)| prefixed == key).map_or(key.as_str(), |(plain, _)| plain);
            meta.raw(plain, value);
        }
        for (key, uuid) in [("relay:replaces", links.replaces), ("relay:withdraws", links.withdraws)] {
            if let Some(uuid) = uuid {
                meta.text(key, &uuid.to_string());
            }
        }
        meta.text("relay:origin", origin.as_str());
        meta.text("relay:time", &rfc3339(*time));
        if let Some(tlp) = tlp {
            meta.text("relay:tlp", tlp.as_str());
        }
        if !to.is_empty() {
            meta.texts("relay:to", &to.iter().map(|name| name.as_str().to_owned()).collect::<Vec<_>>());
        }
        meta.text("relay:path", &Path(self.path()).to_string());
        if self.hidden() > 0 {
            meta.raw("relay:hidden", &self.hidden().to_string());
        }
        if withdrawn {
            meta.raw("relay:withdrawn", "true");
        }
        if self.was_encrypted() || self.header().is_encrypted() {
            meta.raw("relay:encrypted", "true");
        }
    }

    fn payload_of(&self, message: &mut Object<'_>) {
        // No fields: an update of tags, which IEP04 writes without a payload.
        if self.fields().len() > 0 {
            message.key("payload");
            self.write_payload(message.out, false, None);
        }
    }

    /// The payload as it came in; with `__type` and meta data only where IntelMQ reads it.
    fn write_payload(&self, out: &mut String, typed: bool, meta: Option<Marks>) {
        let intelmq = self.header().format == "intelmq" && !self.header().is_encrypted();
        // An IntelMQ event may have a member without a name; it is an object all the same, with all its members.
        if let (Some(whole), 1, false) = (self.field(""), self.header().n, intelmq) {
            return push_value(out, whole);
        }
        // `__type` is the pipeline's to write.
        let fields = self.payload_fields().filter(|(key, _)| !intelmq || *key != TYPE);
        self.write_fields(out, fields, typed && intelmq, meta.filter(|_| intelmq));
    }

    /// The open fields that are the origin's to fill: not those in which a relay marks an event. What an event seems to say by
    /// them, nobody has said; a relay that reads it out of an IntelMQ would believe it.
    pub fn payload_fields(&self) -> impl Iterator<Item = (&str, &str)> {
        let intelmq = self.header().format == "intelmq";
        self.open_fields().filter(move |(key, _)| !intelmq || !key.starts_with(RELAY))
    }

    /// Keys and values of the fields that are open.
    pub fn open_fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields().filter_map(|field| match field {
            Field::Open { key, value, .. } => Some((key, value)),
            Field::Hidden { .. } => None,
        })
    }

    fn write_fields<'a>(
        &self,
        out: &mut String,
        fields: impl Iterator<Item = (&'a str, &'a str)>,
        typed: bool,
        meta: Option<Marks>,
    ) {
        let mut event = Object::open(out);
        for (key, value) in fields.filter(|(key, _)| meta.is_none() || !key.starts_with(RELAY)) {
            event.raw(key, value);
        }
        if let Some(marks) = meta {
            self.write_extra(&mut event, marks);
        }
        if typed {
            event.text(TYPE, if self.header().kind == Kind::Report { "Report" } else { "Event" });
        }
        event.close();
    }

    fn write_extra(&self, event: &mut Object<'_>, marks: Marks) {
        let Header { id, origin, time, tlp, links, .. } = self.header();
        event.text("extra.relay.uuid", &id.to_string());
        event.text("extra.relay.origin", origin.as_str());
        event.text("extra.relay.path", &Path(self.path()).to_string());
        event.text("extra.relay.time", &rfc3339(*time));
        if let Some(tlp) = tlp {
            event.text("extra.relay.tlp", tlp.as_str());
        }
        for (key, uuid) in [("extra.relay.replaces", links.replaces), ("extra.relay.withdraws", links.withdraws)] {
            if let Some(uuid) = uuid {
                event.text(key, &uuid.to_string());
            }
        }
        if self.hidden() > 0 {
            event.raw("extra.relay.hidden", &self.hidden().to_string());
        }
        if marks.withdrawn {
            event.raw("extra.relay.withdrawn", "true");
        }
        if self.was_encrypted() {
            event.raw("extra.relay.encrypted", "true");
        }
    }
}

/// Whether a field of an event marks it.
pub(super) fn is_mark(key: &str) -> bool {
    key == TYPE || key.starts_with(RELAY)
}

/// A time as `2026-11-24T10:00:00.000Z`; times beyond the calendar as milliseconds.
pub fn rfc3339(millis: u64) -> String {
    let time = i64::try_from(millis).ok().and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
    time.map_or_else(|| millis.to_string(), |time| format!("{time:.3}"))
}

/// White space outside strings may hold line ends; a line of JSON must not.
fn push_value(out: &mut String, value: &str) {
    // All of it, also behind the first: the processor looks at many at once then.
    if value.bytes().fold(false, |any, b| any | (b == b'\n') | (b == b'\r')) {
        out.extend(value.chars().map(|c| if c == '\n' || c == '\r' { ' ' } else { c }));
    } else {
        out.push_str(value);
    }
}

/// A JSON object being written with Python's separators.
struct Object<'a> {
    out: &'a mut String,
    first: bool,
}

impl Object<'_> {
    fn open(out: &mut String) -> Object<'_> {
        out.push('{');
        Object { out, first: true }
    }

    fn close(self) {
        self.out.push('}');
    }

    fn key(&mut self, key: &str) {
        if !std::mem::take(&mut self.first) {
            self.out.push_str(", ");
        }
        push_string(self.out, key);
        self.out.push_str(": ");
    }

    fn raw(&mut self, key: &str, value: &str) {
        self.key(key);
        push_value(self.out, value);
    }

    fn text(&mut self, key: &str, text: &str) {
        self.key(key);
        push_string(self.out, text);
    }

    fn texts(&mut self, key: &str, texts: &[String]) {
        self.key(key);
        self.out.push('[');
        for (index, text) in texts.iter().enumerate() {
            if index > 0 {
                self.out.push_str(", ");
            }
            push_string(self.out, text);
        }
        self.out.push(']');
    }

    fn object(&mut self, key: &str) -> Object<'_> {
        self.key(key);
        Object::open(self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(1_795_514_400_007), "2026-11-24T10:00:00.007Z");
        assert_eq!(rfc3339(u64::MAX), u64::MAX.to_string());
    }

    #[test]
    fn a_line_stays_a_line() {
        let mut out = String::new();
        push_value(&mut out, "{\r\n \"a\":\n1}");
        assert_eq!(out, "{   \"a\": 1}");
    }
}
