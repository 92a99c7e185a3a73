//! Makes the vectors of encrypted payloads, and opens them. Each has the recipient's name, the seed of its node, the
//! envelope, and what must come of it.
//!
//! What is good is made by the program, with fixed random numbers; a second implementation has opened it.

use bytes::Bytes;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{OpModeS, Serializable};
use intelmq_relay::envelope::{
    Bounds, Draft, EncryptionKey, EncryptionSecret, Envelope, Header, Message, Name, Recipient, Secret, Shape, Slot,
    Verifier, encrypt, seal,
};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use serde_json::{Value, json};

const EVENT: &str = r#"{"format": "intelmq", "version": 1, "type": "event", "meta": {"uuid": "72ddb00c-2d0a-4eea-b7ac-ae122b8e6c3b",
    "tags": ["a tag"], "intelmq:parent": "RT#1", "uuid_org": "33333333-3333-3333-3333-333333333333", "x-ticket": {"a": [1]},
    "relay:tlp": "RED", "relay:to": ["cert-ee", "cert-pl"]},
    "payload": {"source.ip": "192.0.2.1", "extra.score": 1.0, "extra.odd": "\ud800", "raw": "eHl6enk="}}"#;
/// The seeds of the two recipients, and of the origin.
const EE: [u8; 32] = [2; 32];
const PL: [u8; 32] = [3; 32];
const AT: [u8; 32] = [1; 32];

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &Value) -> Vec<u8> {
    let digits = text.as_str().unwrap().as_bytes();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn message() -> (Header, Vec<(String, String)>) {
    let message = Message::read(EVENT.as_bytes()).unwrap();
    let header = message.header(&name("cert-at"), uuid::Uuid::nil(), 1_795_514_400_000);
    (Header { key: Secret::from_seed(&AT).key(), ..header }, message.fields)
}

fn sealed(header: Header, fields: Vec<(String, String)>) -> Bytes {
    let draft = Draft::new(header, fields, &Bounds::default()).unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    seal(&Secret::from_seed(&AT), vec![draft], &mut rng).remove(0).bytes().clone()
}

fn closed() -> (Header, Vec<(String, String)>) {
    let (header, fields) = message();
    let keys = [EE, PL].map(|seed| Some(EncryptionSecret::derive(&seed).key()));
    encrypt(header, &fields, &keys, &Bounds::default(), &mut ChaCha20Rng::seed_from_u64(1)).unwrap()
}

/// A payload of these bytes, for cert-ee alone; written out from the description of the format.
fn made(plain: &[u8]) -> Bytes {
    let (header, _) = message();
    let bound = |domain: &[u8]| [domain, header.key.as_bytes(), header.id.as_bytes()].concat();
    let content_key = [7; 32];
    let payload = Payload { msg: plain, aad: &bound(b"intelmq-relay/1 payload") };
    let ciphertext = ChaCha20Poly1305::new((&content_key).into()).encrypt(&Nonce::default(), payload).unwrap();
    let to: EncryptionKey = EncryptionSecret::derive(&EE).key();
    let mut wrapped = content_key;
    let (encapsulated, tag) =
        hpke::single_shot_seal_inout_detached_with_rng::<hpke::aead::ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeS::Base,
            &hpke::Deserializable::from_bytes(to.as_bytes()).unwrap(),
            &bound(b"intelmq-relay/1 recipient"),
            wrapped.as_mut_slice().into(),
            &[],
            &mut ChaCha20Rng::seed_from_u64(3),
        )
        .unwrap();
    let slot = [&encapsulated.to_bytes()[..], &wrapped, &tag.to_bytes()].concat();
    let base64 = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, ciphertext);
    let header = Header {
        to: vec![name("cert-ee")],
        keys: vec![Slot::new(slot.try_into().unwrap())],
        org: None,
        tags: vec![],
        links: Default::default(),
        ext: Default::default(),
        ..header
    };
    sealed(header, vec![(String::new(), format!("\"{base64}\""))])
}

/// u32(length), these bytes, and so many zeros that it has this size.
fn padded(inner: &[u8], size: usize) -> Vec<u8> {
    let mut plain = [&(inner.len() as u32).to_be_bytes()[..], inner].concat();
    plain.resize(size, 0);
    plain
}

/// A map of one member, `fields`.
const INNER: &[u8] = b"\xa1\x66fields\x81\x82\x61a\x611";

pub fn write() -> String {
    let (header, fields) = closed();
    let whole = sealed(header.clone(), fields.clone());
    let moved = sealed(Header { id: uuid::Uuid::max(), ..header.clone() }, fields.clone());
    let mut damaged = fields.clone();
    damaged[0].1.replace_range(5..6, if fields[0].1.as_bytes()[5] == b'A' { "B" } else { "A" });
    let damaged = sealed(header.clone(), damaged);
    let json = |envelope: &Bytes, seed: &[u8; 32], node: &str| open(node, seed, envelope.clone()).unwrap();
    let mut noise = padded(INNER, 1024);
    noise[1023] = 1;
    let mut long = padded(INNER, 1024);
    long[2] = 4;
    let not_json = b"\xa1\x66fields\x81\x82\x61a\x61{";
    let long_head = b"\xa1\x66fields\x98\x01\x82\x61a\x611";
    let withdraws = b"\xa2\x65links\xa1\x69withdraws\x50................\x66fields\x81\x82\x61a\x611";
    let rows = [
        ("first-recipient", "cert-ee", EE, whole.clone(), "ok"),
        ("second-recipient", "cert-pl", PL, whole.clone(), "ok"),
        ("smallest", "cert-ee", EE, made(&padded(INNER, 1024)), "ok"),
        ("no-recipient", "cert-at", AT, whole.clone(), "encrypted to cert-ee cert-pl"),
        ("another's-slot", "cert-ee", PL, whole.clone(), "not to a key that it has"),
        ("another-id", "cert-ee", EE, moved, "not to a key that it has"),
        ("damaged", "cert-ee", EE, damaged, "damaged"),
        ("padding-with-noise", "cert-ee", EE, made(&noise), "damaged"),
        ("padding-too-long", "cert-ee", EE, made(&padded(INNER, 1280)), "damaged"),
        ("padding-missing", "cert-ee", EE, made(&padded(INNER, 4 + INNER.len())), "damaged"),
        ("length-beyond-the-end", "cert-ee", EE, made(&long), "damaged"),
        ("value-not-json", "cert-ee", EE, made(&padded(not_json, 1024)), "not JSON"),
        ("withdraws-inside", "cert-ee", EE, made(&padded(withdraws, 1024)), "in the clear"),
        ("number-longer-than-it-must-be", "cert-ee", EE, made(&padded(long_head, 1024)), "one form"),
        ("no-cbor", "cert-ee", EE, made(&padded(b"\xff", 1024)), "CBOR"),
    ];
    let lines = rows.map(|(name, node, seed, envelope, expect)| {
        let mut line = json!({
            "name": name, "recipient": node, "seed": hex(&seed), "encryption": EncryptionSecret::derive(&seed).key().to_string(),
            "expect": expect, "envelope": hex(&envelope),
        });
        if expect == "ok" {
            line["json"] = json(&envelope, &seed, node).into();
        }
        line.to_string()
    });
    format!("[{}\n]\n", lines.map(|line| format!("\n{line}")).join(","))
}

fn open(node: &str, seed: &[u8; 32], envelope: Bytes) -> Result<String, String> {
    let envelope = Envelope::decode(envelope, &Bounds::default()).unwrap();
    let sealed = Verifier::new(1).open(envelope).unwrap();
    let recipient = Recipient::new(name(node), EncryptionSecret::derive(seed), vec![]);
    let opened = recipient.open(&sealed, &Bounds::default()).map_err(|closed| closed.to_string())?;
    Ok(opened.write(Shape::Iep04))
}

pub fn check(text: &str) {
    let vectors: Vec<Value> = serde_json::from_str(text).unwrap();
    for vector in &vectors {
        let seed: [u8; 32] = unhex(&vector["seed"]).try_into().unwrap();
        let got = open(vector["recipient"].as_str().unwrap(), &seed, unhex(&vector["envelope"]).into());
        let expect = vector["expect"].as_str().unwrap();
        match got {
            Ok(json) => assert!(expect == "ok" && vector["json"] == json, "{}: {json}", vector["name"]),
            Err(reason) => assert!(expect != "ok" && reason.contains(expect), "{}: {reason}", vector["name"]),
        }
    }
    let first = vectors[0]["json"].as_str().unwrap();
    let inside = [
        r#""tags": ["a tag"]"#,
        r#""intelmq:parent": "RT#1""#,
        r#""x-ticket": {"a": [1]}"#,
        r#""extra.odd": "\ud800""#,
    ];
    assert!(inside.iter().all(|part| first.contains(part)) && first.contains(r#""relay:encrypted": true"#), "{first}");
}
