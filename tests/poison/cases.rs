//! What does not belong on IntelMQ's pipeline, by name, and what becomes of it on the way through a relay.
//!
//! A message of which IntelMQ's own bots would stop, get stuck or dump is either made to fit (it comes out, as IntelMQ
//! would have it, or with the odd part under `extra`), or held back in quarantine for a person to look at.

use Fate::{Comes, Held, Stays};

/// What becomes of a case.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fate {
    /// It comes out of the file output bot, with this in its JSON.
    Comes(&'static str),
    /// It comes out nowhere, and the reason has this in it.
    Held(&'static str),
    /// It is nothing for this door, which is no fault of it: it stays in the log.
    Stays,
}

/// One thing that somebody put where an event was expected.
pub struct Case {
    pub name: String,
    pub what: What,
    /// In the queue that the relay takes from,
    pub taken: Fate,
    /// and sealed by a peer, from which it comes as it is.
    pub sealed: Option<Fate>,
}

/// Members of an object: keys decoded, values as JSON texts.
pub type Members = Vec<(String, String)>;

pub enum What {
    Members(Members),
    /// Something else.
    Bytes(Vec<u8>),
}

impl Case {
    /// The item as it lies in the queue.
    pub fn item(&self) -> Vec<u8> {
        match &self.what {
            What::Bytes(bytes) => bytes.clone(),
            What::Members(members) => {
                let member = |(key, value): &(String, String)| format!("{}: {value}", text(key));
                format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(", ")).into_bytes()
            }
        }
    }
}

fn text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A good event with its name, where `members` replace its own, or come behind them.
pub fn members(name: &str, members: &[(&str, &str)]) -> Members {
    let own = [
        ("extra.case", text(name)),
        ("classification.type", text("test")),
        ("source.ip", text("192.0.2.1")),
        ("__type", text("Event")),
    ];
    let mut all: Members = own.map(|(key, value)| (key.to_owned(), value)).into();
    for (key, value) in members {
        match all.iter_mut().find(|(own, _)| own == key) {
            Some((_, own)) => (*value).clone_into(own),
            // What says what it is comes last, as IntelMQ writes it.
            None => all.insert(all.len() - 1, ((*key).into(), (*value).into())),
        }
    }
    all
}

fn one(name: &str, key: &str, value: &str, fate: Fate) -> Case {
    many(name, &[(key, value)], fate)
}

fn many(name: &str, fields: &[(&str, &str)], fate: Fate) -> Case {
    Case { name: name.into(), what: What::Members(members(name, fields)), taken: fate, sealed: Some(fate) }
}

/// What no envelope can carry, or what says something else in one.
fn raw(name: &str, item: impl Into<Vec<u8>>, fate: Fate) -> Case {
    Case { name: name.into(), what: What::Bytes(item.into()), taken: fate, sealed: None }
}

impl Case {
    /// It fares otherwise where a peer seals it.
    fn sealed(self, fate: Fate) -> Case {
        Case { sealed: Some(fate), ..self }
    }
}

pub fn all() -> Vec<Case> {
    [keys(), types(), addresses(), values(), numbers_and_texts(), no_events()].into_iter().flatten().collect()
}

fn keys() -> Vec<Case> {
    let many_fields: Members = (0..4_000).map(|n| (format!("extra.k{n}"), n.to_string())).collect();
    let many_fields: Vec<_> = many_fields.iter().map(|(key, value)| (&**key, &**value)).collect();
    let long = format!("extra.{}", "k".repeat(60_000));
    vec![
        one("a key that IntelMQ has not", "foo", "1", Comes(r#""extra.foo":1"#)),
        one("a key as of another program", "src_ip", r#""192.0.2.9""#, Comes(r#""extra.src_ip":"192.0.2.9""#)),
        one("meta data that are none", "meta", r#"{"a": 1}"#, Held("IEP04")).sealed(Comes(r#""extra.meta":"#)),
        one("a key's part beside it", "source", r#"{"ip": "192.0.2.2"}"#, Held("twice")).sealed(Comes("extra.source")),
        one("a key that goes too deep", "source.ip.address", r#""192.0.2.2""#, Comes("extra.source.ip.address")),
        one("capitals in extra", "extra.Foo", "1", Comes(r#""extra.foo":1"#)),
        one("capitals in a known key", "Source.IP", r#""192.0.2.2""#, Comes(r#""extra.source.ip":"192.0.2.2""#)),
        one("a dash in extra", "extra.a-b", "1", Held("extra.a-b")),
        one("two dots in extra", "extra.a..b", "1", Held("extra.a..b")),
        one("nothing behind extra", "extra.", "1", Held("extra.")),
        one("one letter in extra", "extra.a", "1", Comes(r#""extra.a":1"#)),
        one("a digit first in extra", "extra.1a", "1", Comes(r#""extra.1a":1"#)),
        one("an empty key", "", "1", Held("")),
        one("a blank for a key", " ", "1", Held("")),
        one("another alphabet in a key", "extra.ключ", "1", Held("extra.")),
        one("NUL in a key", "extra.a\0b", "1", Held("extra.a")),
        one("a line end in a key", "extra.a\nb", "1", Held("extra.a")),
        one("a line end behind a key", "extra.ab\n", "1", Held("extra.ab")),
        one("a key of 60,000 letters", &long, "1", Comes("kkk")),
        many("thousands of keys", &many_fields, Comes(r#""extra.k3999":3999"#)),
        one("extra as an object", "extra", r#"{"foo": {"bar": [1]}}"#, Comes("[1]")),
        one("extra as an object with capitals", "extra", r#"{"Foo": 1}"#, Comes(r#""extra.foo":1"#)),
        one("extra as text", "extra", r#""{\"foo\": 1}""#, Comes(r#""extra.foo":1"#)),
        one("extra as text that is no JSON", "extra", r#""foo""#, Held("extra")),
        one("extra as a list", "extra", "[1, 2]", Held("extra")),
        many("extra twice over", &[("extra", r#"{"foo": 1}"#), ("extra.foo", "2")], Held("extra")),
        many(
            "meta data of the relay's, forged",
            &[("extra.relay.uuid", r#""no UUID""#), ("extra.relay.origin", r#""cert-x""#)],
            Held("extra.relay.uuid"),
        )
        .sealed(Comes(r#""extra.relay.origin":"cert-m""#)),
    ]
}

fn types() -> Vec<Case> {
    let no_type = |name: &str| {
        let mut members = members(name, &[]);
        members.retain(|(key, _)| key != "__type");
        members
    };
    let mut first = members("__type first", &[]);
    first.rotate_right(1);
    let case = |name: &str, members| Case {
        name: name.into(),
        what: What::Members(members),
        taken: Comes("192.0.2.1"),
        sealed: Some(Comes("192.0.2.1")),
    };
    // A sealed event is told to be one by its header; whatever its fields say is a field.
    let other = |name: &str, kind: &str| one(name, "__type", kind, Held("__type")).sealed(Comes("extra.__type"));
    vec![
        case("no __type", no_type("no __type")),
        case("__type first", first),
        other("a __type that there is not", r#""Foo""#),
        other("the __type of no message", r#""Message""#),
        other("a __type that names something else of IntelMQ", r#""MessageFactory""#),
        other("a small __type", r#""event""#),
        other("an empty __type", r#""""#).sealed(Comes("an empty __type")),
        other("a number as __type", "1"),
        other("null as __type", "null").sealed(Comes("null as __type")),
        other("an object as __type", r#"{"a": 1}"#),
        one("a report that has an event's fields", "__type", r#""Report""#, Stays),
        one("__type in extra", "extra.__type", r#""Event""#, Comes(r#""extra.__type":"Event""#)),
        one("__type in a value", "extra.foo", r#"{"__type": "Event"}"#, Comes(r#"{"__type":"Event"}"#)),
        one("__class__", "__class__", r#""Event""#, Comes("extra.__class__")),
    ]
}

fn addresses() -> Vec<Case> {
    let long_label = format!("\"{}.example.com\"", "a".repeat(64));
    let long_name = format!("\"{}example.com\"", "abcdefgh.".repeat(40));
    vec![
        one("no address", "source.ip", r#""300.1.1.1""#, Held("source.ip")),
        one("an empty address", "source.ip", r#""""#, Comes("an empty address")),
        one("a dash for an address", "source.ip", r#""-""#, Comes("a dash for an address")),
        one("null for an address", "source.ip", "null", Comes("null for an address")),
        one("the address of nobody", "source.ip", r#""0.0.0.0""#, Held("source.ip")),
        one("an address with a scope", "source.ip", r#""fe80::1%eth0""#, Comes(r#""fe80::1""#)),
        one("a number for an address", "source.ip", "3221225985", Comes("a number for an address")),
        one("a list of addresses", "source.ip", r#"["192.0.2.1"]"#, Held("source.ip")),
        one("a network that is none", "source.network", r#""192.0.2.0/99""#, Held("source.network")),
        one("an empty label", "source.fqdn", r#""a..b""#, Held("source.fqdn")),
        one("a label of 64", "source.fqdn", &long_label, Held("source.fqdn")),
        one("a name of 371", "source.fqdn", &long_name, Comes("abcdefgh")),
        one("an address for a name", "source.fqdn", r#""192.0.2.1""#, Held("source.fqdn")),
        one("half a surrogate pair in a name", "source.fqdn", r#""\ud800.example.com""#, Held("source.fqdn")),
        one("capitals and a dot behind a name", "source.fqdn", r#""EXAMPLE.com.""#, Comes(r#""example.com""#)),
        one("a URL with half an address", "source.url", r#""http://[::1""#, Held("source.url")),
        one("a URL without a host", "source.url", r#""http://""#, Held("source.url")),
        one("a URL that is a script", "source.url", r#""javascript:alert(1)""#, Held("source.url")),
        one("NUL in a URL", "source.url", r#""http://example.com/\u0000""#, Held("NUL")),
        one("AS 0", "source.asn", "0", Held("source.asn")),
        one("an AS below 0", "source.asn", "-1", Held("source.asn")),
        one("an AS above 32 bit", "source.asn", "4294967296", Held("source.asn")),
        one("AS as text", "source.asn", r#""AS64496""#, Comes(r#""source.asn":64496"#)),
        one("a port as text", "source.port", r#""80""#, Comes(r#""source.port":80"#)),
        one("a port of seven digits", "source.port", "1000000", Held("source.port")),
        one("a registry that there is not", "source.registry", r#""moon""#, Held("source.registry")),
        one("a country of three letters", "source.geolocation.cc", r#""AUT""#, Held("source.geolocation.cc")),
    ]
}

fn values() -> Vec<Case> {
    vec![
        one("raw that is no base64", "raw", r#""!!!""#, Comes("raw that is no base64")),
        one("raw without padding", "raw", r#""QUI""#, Held("raw")),
        one("raw with half a group", "raw", r#""QUJDQ""#, Held("raw")),
        one("raw with a line end", "raw", r#""QUJD\n""#, Comes("raw with a line end")),
        one("a number as raw", "raw", "1", Held("raw")),
        one("output that is no JSON", "output", r#""{""#, Comes("output that is no JSON")),
        one("TLP of 2022", "tlp", r#""CLEAR""#, Comes(r#""tlp":"WHITE""#)),
        one("TLP of 2022, the strict one", "tlp", r#""AMBER+STRICT""#, Comes(r#""tlp":"AMBER""#)),
        one("TLP in small letters", "tlp", r#""tlp:green""#, Comes(r#""tlp":"GREEN""#)),
        one("TLP that there is not", "tlp", r#""PURPLE""#, Held("tlp")),
        one("a number as TLP", "tlp", "1", Held("tlp")),
        one("a type that there is not", "classification.type", r#""evil""#, Held("classification.type")),
        one("a type of old", "classification.type", r#""C&C""#, Comes(r#""c2-server""#)),
        one("a taxonomy that there is not", "classification.taxonomy", r#""evil""#, Held("classification.taxonomy")),
        one("a time that is none", "time.source", r#""yesterday""#, Held("time.source")),
        one("the 13th month", "time.source", r#""2026-13-01T00:00:00+00:00""#, Held("time.source")),
        one("a time without zone", "time.source", r#""2026-01-01 00:00:00""#, Comes("2026-01-01T00:00:00+00:00")),
        one("another zone", "time.source", r#""2026-01-01T02:00:00+02:00""#, Comes("2026-01-01T00:00:00+00:00")),
        one("accuracy above 100", "feed.accuracy", "101", Held("feed.accuracy")),
        one("accuracy that is no number", "feed.accuracy", "NaN", Held("feed.accuracy")),
        one("a code of 101 letters", "feed.code", &format!("\"{}\"", "c".repeat(101)), Held("feed.code")),
        one("capitals in a malware's name", "malware.name", r#""Zeus""#, Comes(r#""zeus""#)),
        one("letters that a malware's name has not", "malware.name", r#""zeüs""#, Held("malware.name")),
        one("a hash that is none", "malware.hash.md5", &format!("\"{}\"", "0".repeat(201)), Held("malware.hash.md5")),
        one("a number as a name", "feed.name", "1", Comes(r#""feed.name":"1""#)),
        one("a list as a name", "feed.name", r#"["a"]"#, Held("feed.name")),
        one("an object as status", "status", r#"{"a": 1}"#, Comes(r#""extra.status.a":1"#)).sealed(Held("status")),
        one("a transport that there is not", "protocol.transport", r#""pigeon""#, Held("protocol.transport")),
    ]
}

fn numbers_and_texts() -> Vec<Case> {
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let digits = "9".repeat(5_000);
    vec![
        one("NaN", "extra.foo", "NaN", Held("NaN")),
        one("Infinity", "extra.foo", "[Infinity, -Infinity]", Held("Infinity")),
        one("a number too large for 64 bits", "extra.foo", "123456789012345678901234567890", Comes("")),
        one("an integer too large for 64 bits", "rtir_id", "123456789012345678901234567890", Held("64 bits")),
        one("a number beyond all numbers", "extra.foo", "1e400", Held("Infinity")),
        one("a number of 5,000 digits", "extra.foo", &digits, Held("extra.foo")),
        one("a number of 5,000 digits in a list", "extra.foo", &format!("[{digits}]"), Held("extra.foo")),
        one("half a surrogate pair", "extra.foo", r#""\ud800""#, Held("extra.foo")),
        one("half a surrogate pair within", "extra.foo", r#"{"a": ["\udfff"]}"#, Held("extra.foo")),
        one("half a surrogate pair in an inner key", "extra.foo", r#"{"\ud800": 1}"#, Held("extra.foo")),
        one("NUL in a text", "event_description.text", r#""a\u0000b""#, Held("NUL")),
        one("line ends of Unicode", "comment", "\"a\u{2028}b\u{85}c\"", Comes("line ends of Unicode")),
        one("letters beyond 16 bits", "comment", r#""\ud83d\ude00""#, Comes("😀")),
        one("100 lists in each other", "extra.foo", &deep(100), Comes("100 lists")),
        Case { sealed: None, ..one("5,000 lists in each other", "extra.foo", &deep(5_000), Held("deep")) },
        one("half a megabyte", "extra.foo", &format!("\"{}\"", "x".repeat(500_000)), Comes("xxx")),
        one("five megabytes", "raw", &format!("\"{}\"", "QUJD".repeat(1_250_000)), Held("5")),
    ]
}

/// What no peer can seal: an envelope has fields with JSON values.
fn no_events() -> Vec<Case> {
    let event = |name: &str| format!("{{\"extra.case\": \"{name}\", \"__type\": \"Event\"}}");
    vec![
        raw("no JSON", "this is no JSON", Held("not JSON")),
        raw("Python, no JSON", "{'extra.case': 'Python, no JSON', '__type': 'Event'}", Held("not JSON")),
        raw("half an event", &event("half an event")[..30], Held("not JSON")),
        raw("two events in one", event("two events in one").repeat(2), Held("not JSON")),
        raw("a mark in front", format!("\u{feff}{}", event("a mark in front")), Held("not JSON")),
        raw("a list", r#"["a list"]"#, Held("no object")),
        raw("a text", r#""a text""#, Held("no object")),
        raw("a number", "4711", Held("no object")),
        raw("null", "null", Held("no object")),
        raw("no number", "NaN", Held("no object")),
        raw("a blank", " ", Held("not JSON")),
        raw("nothing", "", Held("")),
        raw("NUL", "\0", Held("not JSON")),
        raw("not UTF-8", b"{\"extra.case\": \"not UTF-8 \xff\", \"__type\": \"Event\"}".as_slice(), Held("UTF-8")),
        raw("a control character", event("a control character\u{1}"), Held("control character")),
        raw(
            "half a surrogate pair in a key",
            r#"{"half a surrogate pair in a key": 1, "\ud800": 1}"#,
            Held("surrogate"),
        ),
        raw(
            "the same key twice",
            r#"{"extra.case": "the first", "extra.case": "the same key twice", "__type": "Event"}"#,
            Comes("the same key twice"),
        ),
        raw(
            "two kinds of __type",
            r#"{"extra.case": "two kinds of __type", "__type": "Foo", "__type": "Event"}"#,
            Comes("two kinds of __type"),
        ),
        raw(
            "IEP04 of another year",
            r#"{"format": "intelmq", "version": 9, "type": "event", "payload": {"extra.case": "IEP04 of another year"}}"#,
            Held("version"),
        ),
        raw(
            "IEP04 without an object",
            r#"{"format": "intelmq", "version": 1, "type": "event", "payload": ["IEP04 without an object"]}"#,
            Held("object"),
        ),
        raw("five megabytes of nothing", " ".repeat(5_000_000), Held("5000000 bytes")),
    ]
}
