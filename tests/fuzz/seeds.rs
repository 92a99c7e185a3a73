//! Where mutation begins: the vectors of `tests/vectors/`, the example configuration, and small inputs of each further
//! form, made here. What was found once is in `tests/fuzz/findings/`, and is tried first.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use bytes::Bytes;
use intelmq_relay::envelope::Key;
use intelmq_relay::link::{Answer, Batch, Bodies, Frame, Offer, TokenKey, Verdict, Want, pack};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use serde_bytes::ByteBuf;
use serde_json::Value;
use uuid::Uuid;

fn vectors_of(file: &str) -> Value {
    let text = match file {
        "envelope" => include_str!("../vectors/envelope.json"),
        "encrypted" => include_str!("../vectors/encrypted.json"),
        "frames" => include_str!("../vectors/frames.json"),
        "roster" => include_str!("../vectors/roster.json"),
        "notice" => include_str!("../vectors/notice.json"),
        "join" => include_str!("../vectors/join.json"),
        _ => panic!("there are no vectors {file}"),
    };
    serde_json::from_str(text).unwrap()
}

/// The bytes under this key of each vector.
pub fn vectors(file: &str, key: &str) -> Vec<Vec<u8>> {
    vectors_of(file).as_array().unwrap().iter().map(|vector| hex(&vector[key])).collect()
}

fn hex(value: &Value) -> Vec<u8> {
    let digits = value.as_str().unwrap().as_bytes();
    digits.chunks_exact(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn texts<const N: usize>(texts: [&str; N]) -> Vec<Vec<u8>> {
    texts.map(|text| text.as_bytes().to_vec()).into()
}

pub fn envelopes() -> Vec<Vec<u8>> {
    [vectors("envelope", "envelope"), vectors("encrypted", "envelope")].concat()
}

/// The headers of the envelopes whose heads are in order.
pub fn headers() -> Vec<Vec<u8>> {
    let header = |envelope: Vec<u8>| match *envelope {
        [0x85, 0x58, length, ref rest @ ..] => rest.get(..length.into()).map(<[u8]>::to_vec),
        [0x85, 0x59, high, low, ref rest @ ..] => {
            rest.get(..u16::from_be_bytes([high, low]).into()).map(<[u8]>::to_vec)
        }
        _ => None,
    };
    let mut headers: Vec<_> = envelopes().into_iter().filter_map(header).collect();
    headers.sort_unstable();
    headers.dedup();
    headers
}

pub fn decrypted() -> Vec<Vec<u8>> {
    let fields = |fields: &[(&str, &str)]| serde_cbor::to_vec(&serde_json::json!({ "fields": fields })).unwrap();
    let meta = "a4636f72675072ddb00c2d0a4eeab7acae122b8e6c3b6474616773816178636578 74a163782d61617166666965 6c647380";
    let meta = Value::String(meta.replace(' ', ""));
    vec![fields(&[]), fields(&[("source.ip", "\"192.0.2.1\""), ("raw", "\"eA==\"")]), hex(&meta)]
}

pub fn frames() -> Vec<Vec<u8>> {
    vectors("frames", "frame")
}

/// Envelopes as they are packed, and as they are before that.
pub fn bodies() -> Vec<Vec<u8>> {
    let envelopes: Vec<Bytes> = envelopes().into_iter().take(4).map(Bytes::from).collect();
    let plain: Vec<_> = (0_u16..).zip(&envelopes).map(|(slot, body)| (slot, serde_bytes::Bytes::new(body))).collect();
    let packed = pack((0..).zip(&envelopes));
    vec![[&[0][..], &packed].concat(), [vec![1], serde_cbor::to_vec(&plain).unwrap()].concat()]
}

/// Conversations.
pub fn links() -> Vec<Vec<u8>> {
    let envelope = Bytes::from(envelopes().remove(0));
    let offer = |slot| Offer(slot, "cert-at".parse().unwrap(), Uuid::from_u128(slot.into()), 900, 0);
    let batch = |no, offers: Vec<Offer>, whole: &[Bytes]| {
        let whole = pack((offers.len() as u16..).zip(whole));
        Frame::Batch(Batch { no, offers, whole, token: ByteBuf::from([7; 64]) }).encode()
    };
    let bodies = |no| Frame::Bodies(Bodies { no, packed: pack([(0, &envelope), (1, &envelope)].into_iter()) }).encode();
    let want = |answers| Frame::Want(Want { no: 1, answers }).encode();
    let refused = (0, Answer::Refuse(Verdict::Malformed));
    let told = frames().split_off(3);
    vec![
        [batch(1, vec![offer(0), offer(1)], &[]), bodies(1), batch(2, Vec::new(), std::slice::from_ref(&envelope))]
            .concat(),
        [batch(1, vec![offer(0)], std::slice::from_ref(&envelope)), want(vec![refused]), bodies(1)].concat(),
        told.concat(),
    ]
}

pub fn tokens() -> Vec<Vec<u8>> {
    let ours = TokenKey::derive(&[1; 32]).seal(Uuid::from_u128(1), 7, &mut ChaCha20Rng::seed_from_u64(1));
    vec![ours, vec![7; 64], Vec::new()]
}

pub fn events() -> Vec<Vec<u8>> {
    let mut seeds = texts([
        r#"{"source.ip": "192.0.2.1", "source.port": 80, "extra.score": 1.0, "raw": "eHl6enk=", "__type": "Event"}"#,
        r#"{"time.source": "2026-01-31T00:00:00+01:00", "source.fqdn": "b\u00fccher.example", "tlp": "AMBER+STRICT"}"#,
        r#"{"source": {"ip": "2001:db8::1", "asn": 64496}, "extra": {"a": {"b": [1, NaN, -Infinity]}}, "output": "{}"}"#,
        r#"{"source.url": "http://user:pw@192.0.2.1:8080/\ud83d\ude00?q=1#f", "destination.network": "192.0.2.0/24"}"#,
        r#"{"extra.relay.uuid": "72ddb00c-2d0a-4eea-b7ac-ae122b8e6c3b", "extra.relay.to": ["cert-ee"], "tlp": "CLEAR"}"#,
        r#"{"classification.type": "scanner", "source.reverse_dns": "a.b", "source.geolocation.cc": "ee", "x": null}"#,
        r#"{"meta": {"version": 1, "uuid": {"current": "!a!b!72ddb00c-2d0a-4eea-b7ac-ae122b8e6c3b", "parent": "x",
            "links": [{"left_side": "a", "type": "group", "right_side": "b"}]}, "tags": "t"}, "payload": {"a": 1}}"#,
        r#"{"format": "n6", "version": 1, "type": "report", "meta": {"uuid": "72ddb00c-2d0a-4eea-b7ac-ae122b8e6c3b",
            "x-y": [1], "a:b": "c", "encoding": "gzip", "relay:tlp": "GREEN", "relay:to": ["cert-ee"]}, "payload": "x"}"#,
    ]);
    let texts = vectors_of("envelope");
    seeds.extend(texts.as_array().unwrap().iter().filter_map(|v| Some(v["json"].as_str()?.as_bytes().to_vec())));
    // As deep as a value may be.
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let value = format!("{}1{}", open.repeat(128), close.repeat(128));
        seeds.push(format!("{{\"extra.deep\": {value}, \"a.b\": {value}}}").into_bytes());
    }
    seeds
}

pub fn harmonizations() -> Vec<Vec<u8>> {
    texts([
        r#"{"event": {"source.ip": {"type": "IPAddress", "description": "d"}, "extra": {"type": "JSONDict"}, "raw":
            {"type": "Base64", "length": 100}, "feed.name": {"type": "String", "regex": "^[[&~]\\Z$", "iregex": "a{2}"},
            "time.source": {"type": "DateTime"}}, "report": {}}"#,
        r#"{"event": {"feed.name": {"type": "LowercaseString", "length": 3, "regex": "^[]\\w-]{1,9}(?:a|b)*$"}, "source.asn":
            {"type": "ASN"}, "tlp": {"type": "TLP"}}, "report": {"raw": {"type": "Base64"}}}"#,
    ])
}

pub fn rosters() -> Vec<Vec<u8>> {
    let signed = vectors("roster", "roster");
    // The content of the first: [bytes, signatures].
    let length = usize::from(u16::from_be_bytes([signed[0][2], signed[0][3]]));
    let content = signed[0][4..4 + length].to_vec();
    [signed, vec![content]].concat()
}

pub fn notices() -> Vec<Vec<u8>> {
    let signed = vectors("notice", "notice");
    let content = signed[0][3..3 + usize::from(signed[0][2])].to_vec();
    [signed, vec![content]].concat()
}

pub fn ticket() -> Key {
    Key::from_bytes(hex(&vectors_of("join")["ticket"]["key"]).try_into().unwrap()).unwrap()
}

pub fn invitations() -> Vec<Vec<u8>> {
    let line = vectors_of("join")["line"].as_str().unwrap().to_owned();
    let bytes = BASE64.decode(line.strip_prefix("relay-invite:").unwrap()).unwrap();
    vec![line.into_bytes(), bytes[1..bytes.len() - 4].to_vec()]
}

pub fn joins() -> Vec<Vec<u8>> {
    ["ask", "nonce_message", "welcome", "refused"].map(|message| hex(&vectors_of("join")[message])).into()
}

pub fn configs() -> Vec<Vec<u8>> {
    let example = include_str!("../../examples/relay.toml");
    // The example with every key, and what is commented out in it too.
    let all: String = example.lines().map(|line| format!("{}\n", line.strip_prefix("# ").unwrap_or(line))).collect();
    let described = "network = 'certs'\nnumber = 1\nauthorities = ['A']\n[[member]]\nname = 'cert-at'\nkeys = [{ key = 'A', until = \
                     '2026-01-31T00:00:00Z' }]\n";
    texts([
        example,
        &all,
        described,
        "[node]\nname = 'a'\n[rules]\na = [{ act = 'give', 'source.ip' = ['192.0.2.0/24'] }]\n",
    ])
}

pub fn tcp() -> Vec<Vec<u8>> {
    [
        &b"\0\x03\0\0\0\x02{}\0\0\0\x08{\"a\": 1}\0\0"[..],
        b"\x01\x02{}\n\n{\"a\": 1}\n{",
        b"\x02\x01{}--\n{\"a\": 1}----\n--\n",
        b"\0\x01\xff\xff\xff\xff{}",
    ]
    .map(<[u8]>::to_vec)
    .into()
}

pub fn questions() -> Vec<Vec<u8>> {
    texts([
        r#"{"ask": {"log": {"after": 5, "last": null, "follow": false, "filter": {"origin": "cert-at", "kind": "event"}}}}"#,
        r#"{"ask": {"settle": {"numbers": [1, 2], "act": "retry"}}, "form": {"json": "iep04"}}"#,
        r#"{"ask": {"recall": {"replace": {"id": "72ddb00c-2d0a-4eea-b7ac-ae122b8e6c3b", "event": "{}", "door": null}}}}"#,
        r#"{"ask": {"why": {"id": "72ddb00c-2d0a-4eea-b7ac-ae122b8e6c3b", "peer": "cert-ee", "file": "relay.toml"}}}"#,
        r#"{"ask": {"notice": {"notice": "AAAA", "at_once": true}}, "form": "full"}"#,
        r#"{"ask": {"quarantine": 3}}"#,
        r#"{"ask": "status"}"#,
    ])
}

pub fn key_files() -> Vec<Vec<u8>> {
    let seed = "07".repeat(32);
    texts([
        &format!("{seed}\n"),
        &format!("# a comment\n# public key: 12D3KooWKMnEp2dHzNPqD6Vx8wGbjUvYLMD1Cmz5E7CLAhgHn7fJ\n{seed}\n"),
        "# x\n-----BEGIN AGE ENCRYPTED FILE-----\nYWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IHNjcnlwdCBBQUVD\n-----END AGE ENCRYPTED FILE-----\n",
    ])
}

pub fn runtimes() -> Vec<Vec<u8>> {
    texts([
        "global:\n  intelmqctl_check_orphaned_queues_ignore: [relay-queue, b]\nexpert:\n  bot_id: expert\n  enabled: true\n  parameters:\n    \
         destination_queues:\n      _default: [relay-queue, c]\n      _on_error: e\noutput:\n  parameters: {source_queue: relay-queue}\n",
        "a: &a {parameters: {destination_queues: 'relay-queue b'}}\nb: *a\nc:\n  <<: *a\n  enabled: no\n",
        r#"{"b": {"parameters": {"destination_queues": ["relay-queue"]}}}"#,
    ])
}

pub fn log_chunks() -> Vec<Vec<u8>> {
    let entry = |envelope: Vec<u8>, from: &str| {
        let mut entry = 1_795_514_400_000_u64.to_be_bytes().to_vec();
        entry.push(from.len() as u8);
        entry.extend_from_slice(from.as_bytes());
        entry.extend_from_slice(&(envelope.len() as u32).to_be_bytes());
        entry.extend_from_slice(&envelope);
        entry
    };
    let raw = [entry(envelopes().remove(0), ""), entry(envelopes().remove(1), "cert-ee")].concat();
    let head = [&2_u32.to_be_bytes()[..], &7_u64.to_be_bytes(), &(raw.len() as u32).to_be_bytes()].concat();
    let chunk = |first: u64| [&[1][..], &first.to_be_bytes(), &head, &raw].concat();
    let packed = [&[0][..], &1_u64.to_be_bytes(), &head, &zstd::bulk::compress(&raw, 1).unwrap()].concat();
    vec![chunk(1), chunk(u64::MAX), packed]
}

pub fn journal_chunks() -> Vec<Vec<u8>> {
    let id = [7; 16];
    let mut chunk = b"\0\0\x07cert-ee\0\x01\x02in\x01\x09community\x05".to_vec();
    // Given by that rule, told a verdict, not for a door, quarantined; then a note of each, and one by id.
    chunk.extend_from_slice(b"\x02\0\x01\x02\0\x02\x02\0\0\x09malformed\x02\x06\0\x03\0\x02\x08\0\0\x04none");
    for note in [b"\x03\0\0\x10\x02\x05", b"\x03\0\x01\x02\0\x01", b"\x03\x01\x02\x01\x0a\x01", b"\x03\x01\x03\0\0\x7f"]
    {
        chunk.extend_from_slice(note);
    }
    chunk.extend_from_slice(b"\x04\0\x02\x07cert-at");
    chunk.extend_from_slice(&id);
    chunk.extend_from_slice(b"\0\x09malformed\0");
    vec![chunk]
}
