//! Makes the vectors. Everything is written out anew, from the description of the format alone.

mod hops;

use std::fmt::Write;

use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha256};

#[derive(Clone)]
pub struct Vector {
    pub name: String,
    pub bytes: Vec<u8>,
    /// `ok`, or a part of the reason.
    pub expect: String,
    /// Of a good envelope: its IEP04 text.
    pub json: Option<String>,
    /// Of an envelope with attestations: for each node of the path, what it has signed, and whether that holds.
    pub hops: Option<serde_json::Value>,
}

/// One vector a line, so that a change shows as one.
pub fn write(vectors: &[Vector], subject: &str) -> String {
    let mut text = String::from("[");
    for (index, vector) in vectors.iter().enumerate() {
        let hex: String = vector.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut line = serde_json::json!({"name": vector.name, "expect": vector.expect, subject: hex});
        if let Some(json) = &vector.json {
            line["json"] = json.as_str().into();
        }
        if let Some(hops) = &vector.hops {
            line["hops"] = hops.clone();
        }
        write!(text, "{}\n{line}", if index > 0 { "," } else { "" }).unwrap();
    }
    text + "\n]\n"
}

pub fn read(text: &str, subject: &str) -> Vec<Vector> {
    let list: Vec<serde_json::Value> = serde_json::from_str(text).unwrap();
    let part = |vector: &serde_json::Value, key: &str| vector.get(key).map(|text| text.as_str().unwrap().to_owned());
    let vector = |vector: &serde_json::Value| {
        let hex = part(vector, subject).unwrap();
        let bytes = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        Vector {
            name: part(vector, "name").unwrap(),
            bytes: bytes.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect(),
            expect: part(vector, "expect").unwrap(),
            json: part(vector, "json"),
            hops: vector.get("hops").cloned(),
        }
    };
    list.iter().map(vector).collect()
}

/// As much of CBOR (RFC 8949) as there is in envelopes and frames, and what must not be.
#[derive(Clone)]
enum Cbor {
    Number(u64),
    Bytes(Vec<u8>),
    Text(String),
    List(Vec<Cbor>),
    Map(Vec<(Cbor, Cbor)>),
    Null,
}

use Cbor::{List, Map, Null, Number};

fn text(text: &str) -> Cbor {
    Cbor::Text(text.to_owned())
}

fn texts(list: &[&str]) -> Cbor {
    List(list.iter().map(|one| text(one)).collect())
}

fn bytes(bytes: impl AsRef<[u8]>) -> Cbor {
    Cbor::Bytes(bytes.as_ref().to_vec())
}

fn map(members: Vec<(&str, Cbor)>) -> Cbor {
    Map(members.into_iter().map(|(key, value)| (text(key), value)).collect())
}

impl Cbor {
    fn encode(&self) -> Vec<u8> {
        let head = |major: u8, n: u64| match n {
            0..24 => vec![major << 5 | n as u8],
            24..0x100 => vec![major << 5 | 24, n as u8],
            0x100..0x1_0000 => [&[major << 5 | 25][..], &(n as u16).to_be_bytes()].concat(),
            0x1_0000..0x1_0000_0000 => [&[major << 5 | 26][..], &(n as u32).to_be_bytes()].concat(),
            _ => [&[major << 5 | 27][..], &n.to_be_bytes()].concat(),
        };
        match self {
            Number(n) => head(0, *n),
            Cbor::Bytes(bytes) => [head(2, bytes.len() as u64), bytes.clone()].concat(),
            Cbor::Text(text) => [head(3, text.len() as u64), text.clone().into_bytes()].concat(),
            List(list) => list.iter().fold(head(4, list.len() as u64), |out, one| [out, one.encode()].concat()),
            Map(members) => {
                let head = head(5, members.len() as u64);
                members.iter().fold(head, |out, (key, value)| [out, key.encode(), value.encode()].concat())
            }
            Null => vec![0xf6],
        }
    }
}

type Hash = [u8; 32];

fn sha(parts: &[&[u8]]) -> Hash {
    Sha256::digest(parts.concat()).into()
}

/// RFC 6962 §2.1, recursive as it stands there.
fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [one] => *one,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            sha(&[&[1], &root(left), &root(right)])
        }
    }
}

fn proof(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let at = split(leaves.len());
    let (left, right) = leaves.split_at(at);
    let (mut proof, other) =
        if index < at { (proof(index, left), root(right)) } else { (proof(index - at, right), root(left)) };
    proof.push(other);
    proof
}

/// The largest power of two below `length`.
fn split(length: usize) -> usize {
    length.next_power_of_two() / 2
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

const SEED: Hash = [0x5e; 32];
const ID: &[u8; 16] = &[0x72, 0xdd, 0xb0, 0x0c, 0x2d, 0x0a, 0x4e, 0xea, 0xb7, 0xac, 0xae, 0x12, 0x2b, 0x8e, 0x6c, 0x3b];
const UUID: &str = "72ddb00c-2d0a-4eea-b7ac-ae122b8e6c3b";
/// What stands in the JSON of the plain header, before and after the tags' and links' place.
const META: &str = r#""relay:origin": "cert-at", "relay:time": "2026-11-24T10:00:00.000Z", "relay:path": "!cert-at""#;
const EVENT: [(&str, &str); 4] =
    [("source.ip", "\"192.0.2.1\""), ("source.port", "80"), ("extra.score", "1.0"), ("raw", "\"eHl6enk=\"")];

fn salt(index: u32) -> Vec<u8> {
    sha(&[&SEED, &index.to_be_bytes()])[..16].to_vec()
}

fn digest(salt: &[u8], key: &str, value: &str) -> Hash {
    sha(&[salt, &(key.len() as u32).to_be_bytes(), key.as_bytes(), value.as_bytes()])
}

/// An envelope in its parts, each of which can be spoilt.
#[derive(Clone)]
struct Parts {
    header: Vec<(&'static str, Cbor)>,
    fields: Vec<(String, String)>,
    hidden: Vec<usize>,
    /// Whose key signs,
    signer: SigningKey,
    /// under which domain.
    domain: &'static [u8],
    /// The other leaves of the batch, and this one's place.
    others: usize,
    index: usize,
    path: Vec<&'static str>,
}

fn plain() -> Parts {
    let header = vec![
        ("v", Number(1)),
        ("id", bytes(ID)),
        ("origin", text("cert-at")),
        ("key", bytes(key().verifying_key().to_bytes())),
        ("time", Number(1_795_514_400_000)),
        ("type", text("event")),
        ("format", text("intelmq")),
        ("n", Number(4)),
    ];
    let fields = EVENT.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Parts {
        header,
        fields,
        hidden: vec![],
        signer: key(),
        domain: b"intelmq-relay/1 seal",
        others: 0,
        index: 0,
        path: vec!["cert-at"],
    }
}

/// The five members of the wire's array.
type Wire = [Cbor; 5];

/// The keys of a header in their order. One that is unknown stands before the last.
const KEYS: [&str; 17] = [
    "v", "id", "origin", "key", "org", "instance", "time", "type", "format", "tlp", "to", "keys", "tags", "links",
    "ext", "content", "n",
];

fn place(key: &str) -> (usize, bool) {
    KEYS.iter().position(|known| *known == key).map_or((KEYS.len() - 2, true), |at| (at, false))
}

impl Parts {
    fn with(mut self, key: &'static str, value: Cbor) -> Parts {
        match self.header.iter_mut().find(|(there, _)| *there == key) {
            Some(member) => member.1 = value,
            None => {
                let at = self.header.iter().position(|(there, _)| place(there) > place(key));
                self.header.insert(at.unwrap_or(self.header.len()), (key, value));
            }
        }
        self
    }

    fn without(mut self, key: &str) -> Parts {
        self.header.retain(|(there, _)| *there != key);
        self
    }

    fn fields(mut self, fields: &[(&str, &str)]) -> Parts {
        self.fields = fields.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let count = Number(fields.len() as u64);
        self.with("n", count)
    }

    fn hide(self, hidden: &[usize]) -> Parts {
        Parts { hidden: hidden.to_vec(), ..self }
    }

    fn batch(self, index: usize, count: usize) -> Parts {
        Parts { index, others: count - 1, ..self }
    }

    fn leaf(&self) -> Hash {
        self.leaf_of(&map(self.header.clone()).encode())
    }

    fn leaf_of(&self, header: &[u8]) -> Hash {
        let digests: Vec<u8> =
            self.fields.iter().zip(0..).flat_map(|((key, value), i)| digest(&salt(i), key, value)).collect();
        sha(&[&[0], b"intelmq-relay/1 envelope", &sha(&[header]), &digests])
    }

    fn wire(&self) -> Wire {
        self.wire_of(map(self.header.clone()).encode())
    }

    fn wire_of(&self, header: Vec<u8>) -> Wire {
        let leaf = self.leaf_of(&header);
        let mut fields = Vec::new();
        for (i, (key, value)) in self.fields.iter().enumerate() {
            let salt = salt(i as u32);
            let digest = digest(&salt, key, value);
            fields.push(if self.hidden.contains(&i) {
                bytes(digest)
            } else if self.hidden.is_empty() {
                List(vec![text(key), text(value)])
            } else {
                List(vec![text(key), text(value), bytes(salt)])
            });
        }
        let mut leaves: Vec<Hash> = (0..self.others).map(|other| sha(&[b"another", &other.to_be_bytes()])).collect();
        leaves.insert(self.index, leaf);
        let count = leaves.len() as u32;
        let signature = self.signer.sign(&[self.domain, &root(&leaves), &count.to_be_bytes()].concat()).to_bytes();
        let proof = proof(self.index, &leaves).iter().map(bytes).collect();
        let seal = vec![Number(self.index as u64), Number(count.into()), List(proof), bytes(signature)];
        let seed = if self.hidden.is_empty() { bytes(SEED) } else { Null };
        [bytes(header), List(fields), seed, List(seal), texts(&self.path)]
    }
}

fn list(cbor: &mut Cbor) -> &mut Vec<Cbor> {
    let List(list) = cbor else { unreachable!("a list") };
    list
}

fn encode(wire: Wire) -> Vec<u8> {
    List(wire.to_vec()).encode()
}

fn vector(name: &str, bytes: Vec<u8>, expect: &str) -> Vector {
    Vector { name: name.to_owned(), bytes, expect: expect.to_owned(), json: None, hops: None }
}

pub fn envelopes() -> Vec<Vector> {
    let all = [good(), bad_shapes(), bad_headers(), bad_fields(), bad_seals(), other_forms(), hops::hops(), closed()];
    all.into_iter().flatten().collect()
}

/// Encrypted payloads, as whoever passes them on sees them. What opens is in `encrypted.json`.
fn closed() -> Vec<Vector> {
    let parts = || {
        let to = plain().with("to", texts(&["cert-ee", "cert-pl"]));
        to.with("keys", List(vec![bytes([0x55; 80]), bytes([0x66; 80])])).fields(&[("", "\"AAAA\"")])
    };
    let made = |name: &str, parts: Parts, expect: &str| vector(name, encode(parts.wire()), expect);
    let json = format!(
        r#"{{"format": "intelmq", "version": 1, "type": "event", "meta": {{"uuid": "{UUID}", "tags": [], {}, "relay:to": ["cert-ee", "cert-pl"], "relay:path": "!cert-at", "relay:encrypted": true}}, "payload": "AAAA"}}"#,
        META.replace(r#", "relay:path": "!cert-at""#, "")
    );
    let tells_more = "more than is needed";
    let link = |key| map(vec![(key, bytes([0x11; 16]))]);
    vec![
        Vector { json: Some(json), ..made("encrypted", parts(), "ok") },
        made("encrypted-key-missing", parts().with("keys", List(vec![bytes([0x55; 80])])), "as many keys"),
        made("encrypted-to-nobody", parts().without("to"), "as many keys"),
        made("encrypted-name-twice", parts().with("to", texts(&["cert-ee", "cert-ee"])), "a recipient twice"),
        made("encrypted-key-short", parts().with("keys", List(vec![bytes([0x55; 79]); 2])), "not an envelope's CBOR"),
        made("encrypted-with-tags", parts().with("tags", texts(&["x"])), tells_more),
        made("encrypted-with-org", parts().with("org", bytes([1; 16])), tells_more),
        made("encrypted-with-instance", parts().with("instance", bytes([1; 16])), tells_more),
        made("encrypted-with-ext", parts().with("ext", map(vec![("x-a", text("1"))])), tells_more),
        made("encrypted-with-replaces", parts().with("links", link("replaces")), tells_more),
        made("encrypted-with-content-id", parts().with("content", texts(&[])), tells_more),
        made("encrypted-two-fields", parts().fields(&[("", "\"AAAA\""), ("a", "1")]), "is one field"),
        made("encrypted-no-field", parts().fields(&[]), "is one field"),
        made("encrypted-field-with-a-name", parts().fields(&[("a", "\"AAAA\"")]), "has no name"),
        made("encrypted-object", parts().fields(&[("", "{}")]), "no base64"),
        made("encrypted-without-padding", parts().fields(&[("", "\"AAA\"")]), "no base64"),
        made("encrypted-bits-left-over", parts().fields(&[("", "\"AAB=\"")]), "no base64"),
        made("encrypted-with-an-escape", parts().fields(&[("", "\"AA\\/A\"")]), "no base64"),
    ]
}

fn good() -> Vec<Vector> {
    let ok = |name: &str, parts: Parts, json: String| Vector {
        json: Some(json),
        ..vector(name, encode(parts.wire()), "ok")
    };
    let payload = r#"{"source.ip": "192.0.2.1", "source.port": 80, "extra.score": 1.0, "raw": "eHl6enk="}"#;
    let iep04 = |uuid: &str, meta: &str, payload: &str| {
        format!(
            r#"{{"format": "intelmq", "version": 1, "type": "event", "meta": {{"uuid": "{uuid}", "tags": [], {meta}}}, "payload": {payload}}}"#
        )
    };
    let odd =
        [("a", "\"\\ud800\""), ("b", "NaN"), ("c", "-Infinity"), ("d", "123456789012345678901234567890"), ("e", "1.0")];
    let odd_payload = r#"{"a": "\ud800", "b": NaN, "c": -Infinity, "d": 123456789012345678901234567890, "e": 1.0}"#;
    let (content, content_uuid) = content_id(&EVENT[..3]);
    vec![
        ok("single", plain(), iep04(UUID, META, payload)),
        ok("batch-of-5-first", plain().batch(0, 5), iep04(UUID, META, payload)),
        ok("batch-of-5-last", plain().batch(4, 5), iep04(UUID, META, payload)),
        ok("batch-of-1024", plain().batch(700, 1024), iep04(UUID, META, payload)),
        ok(
            "two-fields-hidden",
            plain().batch(2, 5).hide(&[0, 3]),
            iep04(UUID, &format!(r#"{META}, "relay:hidden": 2"#), r#"{"source.port": 80, "extra.score": 1.0}"#),
        ),
        ok(
            "all-fields-hidden",
            plain().hide(&[0, 1, 2, 3]),
            iep04(UUID, &format!(r#"{META}, "relay:hidden": 4"#), "{}"),
        ),
        ok(
            "content-id",
            plain().with("id", bytes(content)).with("content", texts(&[])),
            iep04(&content_uuid, META, payload),
        ),
        ok(
            // Nobody can check it; the id is then known by its origin alone.
            "content-id-with-a-hidden-field",
            plain().with("content", texts(&[])).hide(&[1]),
            iep04(
                UUID,
                &format!(r#"{META}, "relay:hidden": 1"#),
                r#"{"source.ip": "192.0.2.1", "extra.score": 1.0, "raw": "eHl6enk="}"#,
            ),
        ),
        ok("odd-values", plain().fields(&odd), iep04(UUID, META, odd_payload)),
        ok(
            "hops",
            Parts { path: vec!["cert-at", "cert-ee"], ..plain() },
            iep04(UUID, &META.replace("!cert-at", "!cert-at!cert-ee"), payload),
        ),
        ok(
            "no-fields",
            plain().fields(&[]),
            format!(
                r#"{{"format": "intelmq", "version": 1, "type": "event", "meta": {{"uuid": "{UUID}", "tags": [], {META}}}}}"#
            ),
        ),
        ok("all-meta-data", all_meta(), all_meta_json()),
    ]
}

/// SHA-256 over the sorted fields, as UUIDv8.
fn content_id(fields: &[(&str, &str)]) -> (Vec<u8>, String) {
    let mut fields = fields.to_vec();
    fields.sort_unstable();
    let mut input = b"intelmq-relay/1 content id".to_vec();
    for part in fields.iter().flat_map(|(key, value)| [key, value]) {
        input.extend((part.len() as u32).to_be_bytes());
        input.extend(part.as_bytes());
    }
    let mut id = sha(&[&input])[..16].to_vec();
    id[6] = id[6] & 0x0f | 0x80;
    id[8] = id[8] & 0x3f | 0x80;
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let uuid = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
    (id, uuid)
}

fn all_meta() -> Parts {
    let links = map(vec![
        ("parent", text("cert-ee:intelmq:00000000-0000-4000-8000-000000000001")),
        ("related", texts(&["RT#1"])),
        ("group", texts(&["RT#2", "RT#3"])),
        ("alternate", texts(&["x"])),
        ("replaces", bytes([0x11; 16])),
        ("withdraws", bytes([0x22; 16])),
    ]);
    plain()
        .with("org", bytes([0x33; 16]))
        .with("instance", bytes([0x44; 16]))
        .with("type", text("report"))
        .with("format", text("n6"))
        .with("tlp", text("AMBER+STRICT"))
        .with("to", texts(&["cert-ee", "cert-pl"]))
        .with("tags", texts(&["a tag", "\u{e9}"]))
        .with("links", links)
        .with("ext", map(vec![("iep04:compress", text("\"gzip\"")), ("x-ticket", text("{\"a\": [1]}"))]))
}

fn all_meta_json() -> String {
    let uuid = |digit: &str| format!("{0}{0}-{1}-{1}-{1}-{0}{0}{0}", digit.repeat(4), digit.repeat(4));
    format!(
        concat!(
            r#"{{"format": "n6", "version": 1, "type": "report", "meta": {{"uuid": "{}", "tags": ["a tag", "\u00e9"], "#,
            r#""intelmq:parent": "cert-ee:intelmq:00000000-0000-4000-8000-000000000001", "intelmq:related": ["RT#1"], "#,
            r#""intelmq:group": ["RT#2", "RT#3"], "intelmq:alternate": ["x"], "uuid_org": "{}", "uuid_instance": "{}", "#,
            r#""compress": "gzip", "x-ticket": {{"a": [1]}}, "relay:replaces": "{}", "relay:withdraws": "{}", "#,
            r#""relay:origin": "cert-at", "relay:time": "2026-11-24T10:00:00.000Z", "relay:tlp": "AMBER+STRICT", "#,
            r#""relay:to": ["cert-ee", "cert-pl"], "relay:path": "!cert-at"}}, "#,
            r#""payload": {{"source.ip": "192.0.2.1", "source.port": 80, "extra.score": 1.0, "raw": "eHl6enk="}}}}"#
        ),
        UUID,
        uuid("3"),
        uuid("4"),
        uuid("1"),
        uuid("2")
    )
}

fn bad_shapes() -> Vec<Vector> {
    let whole = encode(plain().wire());
    let cbor = "not an envelope's CBOR";
    let spoil = |name: &str, expect: &str, spoil: &dyn Fn(&mut Wire)| {
        let mut wire = plain().wire();
        spoil(&mut wire);
        vector(name, encode(wire), expect)
    };
    let map_of = |wire: Wire| Map(wire.into_iter().zip(0..).map(|(part, n)| (Number(n), part)).collect()).encode();
    let mut four = plain().wire().to_vec();
    four.pop();
    let mut six = plain().wire().to_vec();
    six.push(Null);
    vec![
        vector("empty", vec![], cbor),
        vector("truncated", whole[..whole.len() - 1].to_vec(), cbor),
        vector("trailing-byte", [&whole[..], &[0]].concat(), cbor),
        vector("map-instead-of-array", map_of(plain().wire()), cbor),
        vector("path-missing", List(four).encode(), cbor),
        vector("a-sixth-part", List(six).encode(), cbor),
        spoil("seed-short", cbor, &|wire| wire[2] = bytes([0x5e; 31])),
        spoil("seed-a-text", cbor, &|wire| wire[2] = text("seed")),
        spoil("path-with-illegal-name", "no node name", &|wire| wire[4] = texts(&["cert-at", "Cert EE"])),
        spoil("path-with-empty-name", "no node name", &|wire| wire[4] = texts(&["cert-at", ""])),
        spoil("path-too-long", "limits.path", &|wire| wire[4] = texts(&["cert-at"; 33])),
    ]
}

fn bad_headers() -> Vec<Vector> {
    let made = |name: &str, parts: Parts, expect: &str| vector(name, encode(parts.wire()), expect);
    let cbor = "not an envelope's CBOR";
    let values = List(plain().header.into_iter().map(|(_, value)| value).collect());
    let mut twice = plain();
    twice.header.insert(1, ("id", bytes(ID)));
    let longer = [map(plain().header).encode(), vec![0]].concat();
    vec![
        vector("header-as-array", encode(plain().wire_of(values.encode())), "header: it is no CBOR map"),
        vector("header-trailing-byte", encode(plain().wire_of(longer)), cbor),
        made("header-key-unknown", plain().with("colour", text("red")), "unknown field"),
        made("header-key-twice", twice, "duplicate field"),
        made("header-without-key", plain().without("key"), "missing field"),
        made("version-2", plain().with("v", Number(2)).with("new", Null), "envelope version 2"),
        made("version-300", plain().with("v", Number(300)), "envelope version 300"),
        made("id-short", plain().with("id", bytes([1; 15])), cbor),
        made("origin-illegal", plain().with("origin", text("CERT")), "no node name"),
        made("to-illegal", plain().with("to", texts(&["*"])), "no node name"),
        made("type-unknown", plain().with("type", text("alert")), "unknown variant"),
        made("tlp-unknown", plain().with("tlp", text("PURPLE")), "no TLP label"),
        made("time-negative", plain().with("time", text("-1")), cbor),
        made("ext-key-without-prefix", plain().with("ext", map(vec![("ticket", text("1"))])), "extension key"),
        made("ext-key-only-prefix", plain().with("ext", map(vec![("x-", text("1"))])), "extension key"),
        made(
            "ext-value-not-json",
            plain().with("ext", map(vec![("x-a", text("1, \"uuid\": 2"))])),
            "extension's value",
        ),
        made("tag-with-line-end", plain().with("tags", texts(&["a\nb"])), "control characters"),
        made("tag-too-long", plain().with("tags", texts(&[&"t".repeat(1025)])), "too long"),
        made("tags-too-many", plain().with("tags", texts(&["t"; 257])), "too many entries"),
        made("links-key-unknown", plain().with("links", map(vec![("child", text("x"))])), "unknown field"),
        made("n-too-small", plain().with("n", Number(3)), "another number of fields"),
        made("n-too-large", plain().with("n", Number(5)), "another number of fields"),
    ]
}

fn bad_fields() -> Vec<Vector> {
    let made = |name: &str, parts: Parts, expect: &str| vector(name, encode(parts.wire()), expect);
    let value = |name: &str, value: &str| made(name, plain().fields(&[("a", value)]), "field 0: its value is not JSON");
    let spoil = |name: &str, parts: Parts, expect: &str, spoil: &dyn Fn(&mut Wire)| {
        let mut wire = parts.wire();
        spoil(&mut wire);
        vector(name, encode(wire), expect)
    };
    let hidden = || plain().hide(&[0]);
    let cbor = "not an envelope's CBOR";
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    vec![
        made("key-twice", plain().fields(&[("a", "1"), ("b", "2"), ("a", "1")]), "two fields have the same key"),
        value("value-empty", ""),
        value("value-injects-a-member", "1, \"__type\": \"x\""),
        value("value-closes-the-object", "1}, {\"a\": 1"),
        value("value-unquoted", "abc"),
        value("value-leading-zero", "01"),
        value("value-with-raw-line-end", "\"a\nb\""),
        value("value-two", "1 2"),
        value("value-nested-too-deeply", &deep),
        spoil("seed-with-a-hidden-field", hidden(), "field 1: it has a salt", &|wire| wire[2] = bytes(SEED)),
        spoil("seed-with-a-hidden-field-and-no-salts", hidden(), "exactly when no field is hidden", &|wire| {
            wire[2] = bytes(SEED);
            list(&mut wire[1]).iter_mut().skip(1).for_each(|field| drop(list(field).pop()));
        }),
        spoil("no-seed-and-nothing-hidden", plain(), "exactly when no", &|wire| wire[2] = Null),
        spoil("salt-missing", hidden(), "field 1: it has a salt", &|wire| {
            list(&mut list(&mut wire[1])[1]).pop();
        }),
        spoil("salt-beside-the-seed", plain(), "field 0: it has a salt", &|wire| {
            list(&mut list(&mut wire[1])[0]).push(bytes([0; 16]));
        }),
        spoil("salt-short", hidden(), cbor, &|wire| list(&mut list(&mut wire[1])[1])[2] = bytes([0; 15])),
        spoil("salt-wrong", hidden(), "signature does not verify", &|wire| {
            list(&mut list(&mut wire[1])[1])[2] = bytes([0; 16]);
        }),
        spoil("digest-short", hidden(), cbor, &|wire| list(&mut wire[1])[0] = bytes([0; 31])),
        spoil("digest-wrong", hidden(), "signature does not verify", &|wire| list(&mut wire[1])[0] = bytes([0; 32])),
        spoil("field-of-one", plain(), cbor, &|wire| list(&mut wire[1])[0] = texts(&["a"])),
        spoil("field-of-four", hidden(), cbor, &|wire| list(&mut list(&mut wire[1])[1]).push(Null)),
        spoil("fields-exchanged", plain(), "signature does not verify", &|wire| list(&mut wire[1]).swap(0, 1)),
        spoil("value-changed", plain(), "signature does not verify", &|wire| {
            list(&mut list(&mut wire[1])[1])[1] = text("81");
        }),
        // The same number, and another text.
        spoil("value-respelt", plain(), "signature does not verify", &|wire| {
            list(&mut list(&mut wire[1])[2])[1] = text("1.00");
        }),
    ]
}

fn bad_seals() -> Vec<Vector> {
    let five = || plain().batch(2, 5);
    let seal = |name: &str, parts: Parts, expect: &str, spoil: &dyn Fn(&mut Vec<Cbor>)| {
        let mut wire = parts.wire();
        spoil(list(&mut wire[3]));
        vector(name, encode(wire), expect)
    };
    let made = |name: &str, parts: Parts, expect: &str| vector(name, encode(parts.wire()), expect);
    let place = "place in its batch is impossible";
    let (signature, proof) = ("signature does not verify", "inclusion proof does not fit");
    // p + 1: the second encoding of the y coordinate 1.
    let mut non_canonical = [0xff; 32];
    (non_canonical[0], non_canonical[31]) = (0xee, 0x7f);
    let (lie, _) = content_id(&[("a", "1")]);
    vec![
        seal("count-0", five(), place, &|seal| seal[1] = Number(0)),
        seal("count-1025", five(), place, &|seal| seal[1] = Number(1025)),
        seal("index-is-count", five(), place, &|seal| seal[0] = Number(5)),
        seal("index-of-another", five(), signature, &|seal| seal[0] = Number(1)),
        seal("count-of-another-batch", five(), signature, &|seal| seal[1] = Number(6)),
        seal("index-negative", five(), "not an envelope's CBOR", &|seal| seal[0] = text("-1")),
        seal("proof-short", five(), proof, &|seal| drop(list(&mut seal[2]).pop())),
        seal("proof-long", five(), proof, &|seal| list(&mut seal[2]).push(bytes([0; 32]))),
        seal("proof-for-one", plain(), proof, &|seal| list(&mut seal[2]).push(bytes([0; 32]))),
        seal("proof-wrong", five(), signature, &|seal| list(&mut seal[2])[1] = bytes([0; 32])),
        seal("proof-hash-short", five(), "not an envelope's CBOR", &|seal| list(&mut seal[2])[1] = bytes([0; 31])),
        seal("signature-short", five(), "a signature has 64 bytes", &|seal| seal[3] = bytes([0; 63])),
        seal("signature-of-zeros", five(), signature, &|seal| seal[3] = bytes([0; 64])),
        seal("signature-of-another-root", five(), signature, &|seal| {
            let other = plain().batch(3, 5).wire();
            let List(other) = &other[3] else { unreachable!() };
            seal[3] = other[3].clone();
        }),
        made("signature-of-another-domain", Parts { domain: b"intelmq-relay/1 other", ..plain() }, signature),
        made("signature-by-another-key", Parts { signer: SigningKey::from_bytes(&[2; 32]), ..plain() }, signature),
        made("key-all-zero", plain().with("key", bytes([0; 32])), signature),
        made("key-of-small-order", plain().with("key", bytes([&[1][..], &[0; 31]].concat())), signature),
        made("key-non-canonical", plain().with("key", bytes(non_canonical)), signature),
        made("key-short", plain().with("key", bytes([1; 31])), "not an envelope's CBOR"),
        made(
            "content-id-of-another-content",
            plain().with("id", bytes(lie)).with("content", texts(&[])),
            "not that of its content",
        ),
    ]
}

/// What says the same as a good envelope, sealed as it is, and is not in the one form.
fn other_forms() -> Vec<Vector> {
    let (form, cbor) = ("one form", "not an envelope's CBOR");
    let head = |name: &str, from: &[u8], to: &[u8]| {
        let header = map(plain().with("ext", map(vec![("x-a", text("1"))])).header).encode();
        let at = header.windows(from.len()).position(|part| part == from).unwrap();
        let header = [&header[..at], to, &header[at + from.len()..]].concat();
        vector(name, encode(plain().wire_of(header)), form)
    };
    let made = |name: &str, parts: Parts| vector(name, encode(parts.wire()), form);
    let part = |name: &str, which: usize, bytes: &[u8]| {
        let mut parts = plain().wire().map(|part| part.encode());
        parts[which] = bytes.to_vec();
        vector(name, [&[0x85][..], &parts.concat()].concat(), form)
    };
    let mut reversed = plain();
    reversed.header.reverse();
    let [_, fields, seed, ..] = plain().wire().map(|part| part.encode());
    let path = [&[0x9f][..], &text("cert-at").encode(), &[0xff]].concat();
    let mut path_of_bytes = plain().wire();
    path_of_bytes[4] = List(vec![bytes("cert-at")]);
    let as_bytes = |place: usize| {
        let mut wire = plain().wire();
        let field = list(&mut list(&mut wire[1])[0]);
        let Cbor::Text(text) = field[place].clone() else { unreachable!() };
        field[place] = bytes(text);
        encode(wire)
    };
    vec![
        made("header-keys-in-another-order", reversed),
        made("header-with-an-empty-list", plain().with("tags", texts(&[]))),
        made("header-with-null", plain().with("tlp", Null)),
        made("tlp-in-small-letters", plain().with("tlp", text("green"))),
        made("tlp-of-old", plain().with("tlp", text("WHITE"))),
        made("ext-out-of-order", plain().with("ext", map(vec![("x-b", text("1")), ("x-a", text("1"))]))),
        head("ext-key-twice", b"\xa1\x63x-a\x611", b"\xa2\x63x-a\x611\x63x-a\x611"),
        head("header-number-longer-than-it-must-be", b"\x61v\x01", b"\x61v\x18\x01"),
        head("header-text-as-bytes", b"\x67intelmq", b"\x47intelmq"),
        head("header-text-in-pieces", b"\x67intelmq", b"\x7f\x65intel\x62mq\xff"),
        head("header-text-with-a-tag", b"\x67intelmq", b"\xd8\x20\x67intelmq"),
        part("fields-of-indefinite-length", 1, &[&[0x9f], &fields[1..], &[0xff]].concat()),
        part("seed-with-a-tag", 2, &[&[0xc2], &seed[..]].concat()),
        Vector {
            expect: cbor.into(),
            ..part("seed-as-a-list-of-numbers", 2, &List(SEED.map(|byte| Number(byte.into())).to_vec()).encode())
        },
        part("path-of-indefinite-length", 4, &path),
        vector("path-of-bytes", encode(path_of_bytes), cbor),
        vector("field-key-as-bytes", as_bytes(0), cbor),
        vector("field-value-as-bytes", as_bytes(1), cbor),
    ]
}

/// Length, kind and content of a frame.
fn frame(kind: u8, content: &Cbor) -> Vec<u8> {
    lengthened(&[&[kind][..], &content.encode()].concat())
}

fn lengthened(content: &[u8]) -> Vec<u8> {
    let (mut length, mut out) = (content.len(), Vec::new());
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend(content);
    out
}

pub fn frames() -> Vec<Vector> {
    let hello = || {
        vec![
            ("node", text("cert-at")),
            ("software", text("intelmq-relay 0.1.0")),
            ("log", bytes([5; 16])),
            ("envelope_bytes", Number(1 << 20)),
            ("frame_bytes", Number(4 << 20)),
        ]
    };
    let offer = List(vec![Number(0), text("cert-ee"), bytes(ID), Number(1400), Number(2)]);
    let token = || bytes([7; 64]);
    let batch =
        |offers: Vec<Cbor>| vec![("no", Number(1)), ("offers", List(offers)), ("whole", bytes([])), ("token", token())];
    let refused = map(vec![("refuse", map(vec![("refused", text("tlp-red"))]))]);
    let answers = [text("want"), text("have"), text("later"), refused, text("slow")];
    let answers = answers.into_iter().zip(0..).map(|(answer, slot)| List(vec![Number(slot), answer])).collect();
    let verdicts = List(vec![text("accepted"), text("too-old"), map(vec![("refused", text("x"))])]);
    let done = map(vec![("no", Number(1)), ("verdicts", verdicts), ("mode", text("whole"))]);
    let good = [
        ("hello", frame(0, &map(hello()))),
        ("hello-ack", frame(1, &map(hello()))),
        ("refuse", frame(2, &text("who are you?"))),
        ("pull-now", frame(3, &text("now"))),
        ("pull-all", frame(3, &text("all"))),
        ("pull-time", frame(3, &map(vec![("time", Number(1_795_514_400_000))]))),
        ("pull-token", frame(3, &map(vec![("token", token())]))),
        ("batch", frame(4, &map(batch(vec![offer.clone()])))),
        ("want", frame(5, &map(vec![("no", Number(1)), ("answers", List(answers))]))),
        ("bodies", frame(6, &map(vec![("no", Number(1)), ("packed", bytes([]))]))),
        ("done", frame(7, &done)),
        ("beat", frame(8, &map(vec![("token", token())]))),
        ("have-none", frame(9, &map(vec![("number", Number(0))]))),
        ("have", frame(9, &map(vec![("number", Number(8)), ("network", text("certs")), ("digest", bytes([4; 32]))]))),
        ("roster", frame(10, &bytes([5; 64]))),
        ("notices", frame(11, &List(vec![bytes([5; 64]), bytes([6; 64])]))),
    ];
    let content = "does not decode";
    let one_more = [frame(8, &map(vec![("token", token())]))[1..].to_vec(), vec![0]].concat();
    let bad = [
        ("no-kind", vec![0], "whose length is no varint"),
        ("kind-unknown", frame(99, &Null), "unknown kind 99"),
        ("notices-of-no-bytes", frame(11, &List(vec![Number(5)])), content),
        ("notices-very-many", frame(11, &List(vec![bytes([]); 513])), content),
        ("cut", frame(2, &text("who"))[..4].to_vec(), "more bytes are needed"),
        ("trailing-byte", lengthened(&one_more), content),
        ("length-over-the-limit", vec![0x81, 0x80, 0x80, 0x02], "limits.frame_bytes"),
        ("length-of-eleven-bytes", vec![0xff; 11], "no varint"),
        ("length-not-minimal", vec![0x80, 0x00], "no varint"),
        ("hello-key-unknown", frame(0, &map([hello(), vec![("colour", Null)]].concat())), content),
        (
            "hello-name-illegal",
            frame(0, &map([vec![("node", text("CERT AT"))], hello()[1..].to_vec()].concat())),
            content,
        ),
        ("hello-limit-missing", frame(0, &map(hello()[..4].to_vec())), content),
        ("pull-unknown", frame(3, &text("some")), content),
        ("batch-key-unknown", frame(4, &map([batch(vec![]), vec![("gaps", Null)]].concat())), content),
        ("offer-short", frame(4, &map(batch(vec![List(vec![Number(0)])]))), content),
        (
            "offer-slot-too-large",
            frame(4, &map(batch(vec![List(vec![Number(70_000), text("a"), bytes(ID), Number(1), Number(0)])]))),
            content,
        ),
        (
            "verdict-unknown",
            frame(7, &map(vec![("no", Number(1)), ("verdicts", texts(&["fine"])), ("mode", text("offer"))])),
            content,
        ),
    ];
    let good = good.into_iter().map(|(name, bytes)| vector(name, bytes, "ok"));
    good.chain(bad.into_iter().map(|(name, bytes, expect)| vector(name, bytes, expect))).collect()
}

// ---- Rosters --------------------------------------------------------------------------------------------------------

fn authority(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn public(n: u8) -> Cbor {
    bytes(authority(n).verifying_key().as_bytes())
}

fn member_key(n: u8, more: Vec<(&'static str, Cbor)>) -> Cbor {
    map([vec![("key", public(n))], more].concat())
}

fn member(name: &str, keys: Vec<Cbor>, more: Vec<(&'static str, Cbor)>) -> Cbor {
    map([vec![("name", text(name)), ("keys", List(keys))], more].concat())
}

type Members = Vec<(&'static str, Cbor)>;

fn roster_parts() -> Members {
    let at = member(
        "cert-at",
        vec![
            member_key(11, vec![("from", Number(1_795_514_400_000))]),
            member_key(12, vec![("until", Number(1_795_600_800_000)), ("revoked", Number(1_795_514_400_000))]),
        ],
        vec![
            ("org", bytes(ID)),
            ("rdns", text("at.cert")),
            ("contact", text("+43 1 00000")),
            ("encryption", bytes([9; 32])),
        ],
    );
    vec![
        ("v", Number(1)),
        ("network", text("certs")),
        ("number", Number(7)),
        ("issued", Number(1_795_514_400_000)),
        ("authorities", List(vec![public(1), public(2), public(3)])),
        ("threshold", Number(2)),
        ("members", List(vec![at, member("cert-ee", vec![member_key(13, vec![])], vec![])])),
    ]
}

fn signature(n: u8, domain: &str, content: &[u8]) -> Cbor {
    let signature = authority(n).sign(&[domain.as_bytes(), content].concat()).to_bytes();
    List(vec![public(n), bytes(signature)])
}

fn signed_roster(content: &[u8], by: &[u8]) -> Vec<u8> {
    let signatures = by.iter().map(|n| signature(*n, "intelmq-relay/1 roster", content)).collect();
    List(vec![bytes(content), List(signatures)]).encode()
}

/// For a node that trusts the keys of the seeds 1, 2 and 3 (32 times that byte), two of which must have signed.
pub fn rosters() -> Vec<Vector> {
    let mut made = Vec::new();
    let mut add = |name: &str, expect: &str, bytes: Vec<u8>| {
        made.push(vector(name, bytes, expect));
    };
    let good = map(roster_parts()).encode();
    let with = |key: &str, value: Cbor| {
        let parts = roster_parts().into_iter().map(|(k, v)| if k == key { (k, value.clone()) } else { (k, v) });
        signed_roster(&map(parts.collect()).encode(), &[1, 2])
    };
    let members = |list: Vec<Cbor>| with("members", List(list));
    add("two of three", "ok", signed_roster(&good, &[1, 2]));
    add("all three, in another order", "ok", signed_roster(&good, &[3, 1, 2]));
    add("nobody in it", "ok", members(vec![]));
    add("nobody signed", "signed by 0 of the 3", signed_roster(&good, &[]));
    add("one signed", "signed by 1 of the 3", signed_roster(&good, &[1]));
    add("two signed, one of them a stranger", "signed by 1 of the 3", signed_roster(&good, &[1, 9]));
    add("enough signed, and a stranger", "does not name it as an authority", signed_roster(&good, &[1, 2, 9]));
    add("one signed twice", "has signed the roster twice", signed_roster(&good, &[1, 1]));
    let seal = List(vec![signature(1, "intelmq-relay/1 roster", &good), signature(2, "intelmq-relay/1 seal", &good)]);
    add("signed as a seal", "is not over this roster", List(vec![bytes(&good), seal]).encode());
    let bare = List(vec![signature(1, "", &good), signature(2, "", &good)]);
    add("signed without a domain", "is not over this roster", List(vec![bytes(&good), bare]).encode());
    let mut sealed = List(vec![Number(0), Number(1), List(vec![]), bytes([7; 64])]).encode();
    sealed.splice(0..0, bytes(&good).encode());
    add("an envelope's seal in the place of the signatures", "not its CBOR", [vec![0x82], sealed].concat());
    let other = map([roster_parts(), vec![]].concat()).encode();
    let mut moved = other.clone();
    let at = moved.windows(7).position(|part| part == b"\x66number").unwrap() + 7;
    moved[at] = 8;
    let old = List(vec![signature(1, "intelmq-relay/1 roster", &good), signature(2, "intelmq-relay/1 roster", &good)]);
    add("signatures of another number", "is not over this roster", List(vec![bytes(&moved), old]).encode());
    add("a byte behind it", "not its CBOR", [signed_roster(&good, &[1, 2]), vec![0]].concat());
    add("a byte behind the content", "not its CBOR", signed_roster(&[good.clone(), vec![0]].concat(), &[1, 2]));
    let longer = [&good[..at], &[0x18, 7], &good[at + 1..]].concat();
    add("a number longer than it must be", "one form", signed_roster(&longer, &[1, 2]));
    let unknown = [roster_parts(), vec![("note", text("x"))]].concat();
    add("an unknown key", "not its CBOR", signed_roster(&map(unknown).encode(), &[1, 2]));
    let mut reversed = roster_parts();
    reversed.reverse();
    add("keys in another order", "one form", signed_roster(&map(reversed).encode(), &[1, 2]));
    let mut twice = roster_parts();
    twice.insert(3, ("number", Number(9)));
    add("a key twice", "not its CBOR", signed_roster(&map(twice).encode(), &[1, 2]));
    add("another version", "version 2", with("v", Number(2)));
    add("number 0", "count from 1", with("number", Number(0)));
    add("no threshold", "threshold", with("threshold", Number(0)));
    add("a threshold that cannot be reached", "threshold", with("threshold", Number(4)));
    add("an authority twice", "twice", with("authorities", List(vec![public(1), public(2), public(1)])));
    add("a name that is none", "not its CBOR", members(vec![member("Cert", vec![member_key(11, vec![])], vec![])]));
    add("a member without a key", "has no key", members(vec![member("cert-at", vec![], vec![])]));
    let (a, b) = (
        member("cert-at", vec![member_key(11, vec![])], vec![]),
        member("cert-ee", vec![member_key(11, vec![])], vec![]),
    );
    add("one key of two members", "stands in it twice", members(vec![a.clone(), b]));
    add("members out of order", "order of names", members(vec![member("x", vec![member_key(13, vec![])], vec![]), a]));
    let key_with = |more| members(vec![member("cert-at", vec![member_key(11, more)], vec![])]);
    add("a key that ends first", "ends before", key_with(vec![("from", Number(5)), ("until", Number(5))]));
    add("an unknown key of a key", "not its CBOR", key_with(vec![("why", text("x"))]));
    let small = map(vec![("key", bytes([0; 32]))]);
    add("a key of small order", "not a canonical", members(vec![member("cert-at", vec![small], vec![])]));
    let mut high = [0xff; 32];
    (high[0], high[31]) = (0xee, 0x7f);
    let high = map(vec![("key", bytes(high))]);
    add("a key that is not canonical", "not a canonical", members(vec![member("cert-at", vec![high], vec![])]));
    let small = with("authorities", List(vec![public(1), public(2), bytes([0; 32])]));
    add("an authority of small order", "not a canonical", small);
    let stranger = List(vec![bytes([0; 32]), bytes([0; 64])]);
    let signatures = [1, 2].map(|n| signature(n, "intelmq-relay/1 roster", &good));
    let signatures = List([&signatures[..], &[stranger]].concat());
    add("signed by a key of small order", "not a canonical", List(vec![bytes(&good), signatures]).encode());
    let member_with = |more| members(vec![member("cert-at", vec![member_key(11, vec![])], more)]);
    add("an encryption key of small order", "X25519", member_with(vec![("encryption", bytes([0; 32]))]));
    add("a control character", "control characters", member_with(vec![("contact", text("a\nb"))]));
    add("no reversed name", "reversed name", member_with(vec![("rdns", text("AT.cert"))]));
    add("a label of 64", "reversed name", member_with(vec![("rdns", text(&"a".repeat(64)))]));
    made
}

// ---- Notices --------------------------------------------------------------------------------------------------------

fn notice(more: Members) -> Vec<u8> {
    let head =
        vec![("v", Number(1)), ("origin", text("cert-at")), ("key", public(1)), ("time", Number(1_795_514_400_000))];
    map([head, more].concat()).encode()
}

fn signed_notice(content: &[u8], by: u8, next: Option<u8>) -> Vec<u8> {
    let sign = |n: u8| bytes(authority(n).sign(&[&b"intelmq-relay/1 notice"[..], content].concat()).to_bytes());
    List(vec![bytes(content), sign(by), next.map_or(Null, sign)]).encode()
}

/// Of the origin cert-at, whose key has the seed 1 (32 times that byte); the key that is to follow has the seed 2.
pub fn notices() -> Vec<Vector> {
    let mut made = Vec::new();
    let mut add = |name: &str, expect: &str, bytes: Vec<u8>| {
        made.push(vector(name, bytes, expect));
    };
    let until = || ("until", Number(1_798_106_400_000));
    let revoked = || ("revoked", Number(1_795_514_400_000));
    let next = || ("next", public(2));
    let good = notice(vec![next(), until()]);
    let void = notice(vec![revoked()]);
    let both = |more: Members| signed_notice(&notice(more), 1, Some(2));
    let alone = |more: Members| signed_notice(&notice(more), 1, None);
    add("another key follows", "ok", signed_notice(&good, 1, Some(2)));
    add("with a key to encrypt to", "ok", both(vec![next(), until(), ("encryption", bytes([9; 32]))]));
    add("revoked", "ok", signed_notice(&void, 1, None));
    add("revoked, always", "ok", alone(vec![("revoked", Number(0))]));
    add("revoked, and only this key follows", "ok", both(vec![next(), revoked()]));
    add("the next key has not signed", "its next key has not signed", signed_notice(&good, 1, None));
    add("somebody else has signed for the next key", "is not over this notice", signed_notice(&good, 1, Some(3)));
    add("somebody else has signed for the key", "is not over this notice", signed_notice(&good, 3, Some(2)));
    add("a signature of no next key", "names no next key", signed_notice(&void, 1, Some(2)));
    let as_seal = bytes(authority(1).sign(&[&b"intelmq-relay/1 seal"[..], &void].concat()).to_bytes());
    add("signed as a seal", "is not over this notice", List(vec![bytes(&void), as_seal, Null]).encode());
    let as_roster = bytes(authority(1).sign(&[&b"intelmq-relay/1 roster"[..], &void].concat()).to_bytes());
    add("signed as a roster", "is not over this notice", List(vec![bytes(&void), as_roster, Null]).encode());
    add("neither a next key nor a revocation", "names a next key and a time", alone(vec![]));
    add("a next key without a time", "names a next key and a time", both(vec![next()]));
    add("a time without a next key", "names a next key and a time", alone(vec![until()]));
    add("a succession that revokes", "names a next key and a time", both(vec![next(), until(), revoked()]));
    add(
        "a key that follows itself",
        "follows itself",
        signed_notice(&notice(vec![("next", public(1)), until()]), 1, Some(1)),
    );
    add("a next key of small order", "not a canonical", both(vec![("next", bytes([0; 32])), until()]));
    add(
        "a key to encrypt to, of nobody",
        "goes with a next key",
        alone(vec![revoked(), ("encryption", bytes([9; 32]))]),
    );
    let small = ("encryption", bytes([0; 32]));
    add("a key to encrypt to, of small order", "X25519", both(vec![next(), until(), small]));
    add("an unknown key", "not its CBOR", alone(vec![revoked(), ("note", text("x"))]));
    add("keys in another order", "one form", both(vec![until(), next()]));
    let other =
        map(vec![("v", Number(2)), ("origin", text("cert-at")), ("key", public(1)), ("time", Number(0)), revoked()]);
    add("another version", "version 2", signed_notice(&other.encode(), 1, None));
    add("a byte behind it", "not its CBOR", [signed_notice(&void, 1, None), vec![0]].concat());
    add("a byte behind the content", "not its CBOR", signed_notice(&[void.clone(), vec![0]].concat(), 1, None));
    let at = void.windows(2).position(|part| part == b"\x61v").unwrap() + 2;
    let longer = [&void[..at], &[0x18, 1], &void[at + 1..]].concat();
    add("a number longer than it must be", "one form", signed_notice(&longer, 1, None));
    let two = List(vec![bytes(&void), bytes(authority(1).sign(&void).to_bytes())]).encode();
    add("two parts", "not its CBOR", two);
    add("too long", "at most 1024", vec![0; 1025]);
    made
}
