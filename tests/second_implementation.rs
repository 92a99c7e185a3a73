//! The protocol has a second implementation, `tests/vectors/verify.py`, which was written from `docs/protocol.md` alone.
//! Here the two are held against each other: where they judge the same bytes differently, one of them has a fault, or
//! the document a hole.

#![allow(clippy::unwrap_used)] // A test that panics says what it found.

#[path = "support/intelmq.rs"]
mod intelmq;

use std::collections::BTreeMap;
use std::io::{Seek, Write};
use std::process::{Command, Stdio};

use bytes::{Bytes, BytesMut};
use intelmq_relay::envelope::{Bounds, EncryptionSecret, Envelope, Key, Recipient, Sealed, Secret, Shape, Verifier};
use intelmq_relay::invite::{Invitation, Message};
use intelmq_relay::link::{Frame, decode_length};
use intelmq_relay::trust::{Held, Signed, SignedNotice, Trusted};
use serde_json::{Value, json};

#[track_caller]
fn python(script: &str, arguments: &[&str], input: &[Value]) -> String {
    // A file, since nobody would read the answers while a pipe is filled.
    let mut file = tempfile::tempfile().unwrap();
    for line in input {
        writeln!(file, "{line}").unwrap();
    }
    file.rewind().unwrap();
    let output = Command::new(intelmq::python())
        .args(["-B", &format!("{}/tests/vectors/{script}", env!("CARGO_MANIFEST_DIR"))])
        .args(arguments)
        .stdin(Stdio::from(file))
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    let hint =
        if err.contains("ModuleNotFoundError") { "run tests/all, which installs what is missing:\n" } else { "" };
    assert!(output.status.success(), "{script} has failed: {hint}{out}{err}");
    out
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|reason| panic!("{line}: {reason}"))).collect()
}

/// What this crate finds in the bytes, as JSON; or why it refuses them.
fn ours(question: &Value) -> Result<String, String> {
    let bytes = unhex(&question["hex"]);
    match question["kind"].as_str().unwrap() {
        "envelope" => Ok(envelope(bytes)?.write(Shape::Iep04)),
        "hops" => Ok(hops(&envelope(bytes)?).to_string()),
        "encrypted" => {
            let seed: [u8; 32] = unhex(&question["seed"]).try_into().unwrap();
            let name = question["recipient"].as_str().unwrap().parse().unwrap();
            let envelope = envelope(bytes)?;
            assert!(envelope.header().is_encrypted(), "probes of this kind are");
            let opened = Recipient::new(name, EncryptionSecret::derive(&seed), vec![]);
            Ok(opened.open(&envelope, &Bounds::default()).map_err(|e| e.to_string())?.write(Shape::Iep04))
        }
        "notice" => notice(&bytes),
        "line" => line(&String::from_utf8(bytes).unwrap()),
        "message" => Message::decode(&bytes).map_err(|e| e.to_string()).map(|said| message(&said).to_string()),
        "ask" => ask(&bytes),
        "frame" => frame(&bytes),
        "roster" => roster(&bytes, question.get("before").map(unhex)),
        kind => panic!("no such kind: {kind}"),
    }
}

fn envelope(bytes: Vec<u8>) -> Result<Sealed, String> {
    let envelope = Envelope::decode(Bytes::from(bytes), &Bounds::default()).map_err(|e| e.to_string())?;
    Verifier::new(4).open(envelope).map_err(|e| e.to_string())
}

fn hops(envelope: &Sealed) -> Value {
    let said = envelope.hops().into_iter().map(|hop| {
        hop.attestation.map(|word| json!({"key": hex(word.key.as_bytes()), "time": word.time, "holds": word.holds}))
    });
    said.collect()
}

fn notice(bytes: &[u8]) -> Result<String, String> {
    let opened = SignedNotice::open(bytes, |_| true).map_err(|e| e.to_string())?.unwrap();
    let said = opened.notice();
    let parts = [
        ("v", Some(json!(said.v))),
        ("origin", Some(json!(said.origin))),
        ("key", Some(json!(hex(said.key.as_bytes())))),
        ("time", Some(json!(said.time))),
        ("next", said.next.map(|key| json!(hex(key.as_bytes())))),
        ("until", said.until.map(|time| json!(time))),
        ("revoked", said.revoked.map(|time| json!(time))),
        ("encryption", said.encryption.map(|key| json!(hex(&key[..])))),
    ];
    let there = parts.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Ok(Value::Object(there.collect()).to_string())
}

/// The secret is seen by the ticket that is made of it.
fn line(text: &str) -> Result<String, String> {
    let said = Invitation::read(text).map_err(|e| e.to_string())?;
    let (key, ticket) = (hex(said.key.as_bytes()), hex(said.ticket.guest().key().as_bytes()));
    Ok(json!([said.host, key, said.addresses, ticket, said.expires, said.guest]).to_string())
}

fn message(message: &Message) -> Value {
    match message {
        Message::Ask(content, signature) => json!({"ask": [hex(content), hex(&signature[..])]}),
        Message::Nonce(nonce) => json!({"nonce": hex(&nonce[..])}),
        Message::Welcome(said) => json!({"welcome": {
            "node": said.node, "encryption": hex(said.encryption.as_bytes()), "software": said.software,
        }}),
        Message::Refused(word) => json!({"refused": word}),
    }
}

/// By the host and the ticket that `verify.py` judges by.
fn ask(bytes: &[u8]) -> Result<String, String> {
    let [host, ticket] = [1, 7].map(|n| Secret::from_seed(&[n; 32]).key());
    let said = Message::decode(bytes).and_then(|said| said.asked(&ticket, &host)).map_err(|e| e.to_string())?;
    let (key, encryption) = (hex(said.key.as_bytes()), hex(said.encryption.as_bytes()));
    Ok(json!({
        "node": said.node, "key": key, "encryption": encryption, "addresses": said.addresses,
        "software": said.software, "commitment": hex(&said.commitment[..]),
    })
    .to_string())
}

fn frame(bytes: &[u8]) -> Result<String, String> {
    let mut buffer = BytesMut::from(bytes);
    let length = decode_length(&mut buffer, 4 << 20).map_err(|e| e.to_string())?;
    let length = length.ok_or("more bytes are needed")?;
    let frame = buffer.get(..length).ok_or("more bytes are needed")?;
    let decoded = Frame::decode(frame).map_err(|e| e.to_string())?;
    let all = bytes.len() - buffer.len() + length;
    // The decoder of frames is laxer than those who write them, and may be.
    if decoded.encode() != bytes[..all] {
        return Err("not in the one form".to_owned());
    }
    Ok(json!({"kind": frame[0], "bytes": all}).to_string())
}

/// As a node with the authorities of the vectors takes it, which has another one from before, perhaps.
fn roster(bytes: &[u8], before: Option<Vec<u8>>) -> Result<String, String> {
    let authorities = [1, 2, 3].map(|n| Secret::from_seed(&[n; 32]).key()).into();
    let trusted = Trusted { authorities, threshold: 2 };
    let held = Signed::decode(bytes).and_then(|signed| Held::open(signed, &trusted)).map_err(|e| e.to_string())?;
    let before = before.map(|before| Signed::decode(&before).unwrap());
    let newer = before.map(|before| held.follows(&before)).transpose().map_err(|e| e.to_string())?;
    let keys = |keys: &[Key]| keys.iter().map(|key| hex(key.as_bytes())).collect::<Vec<_>>();
    let members = held.roster().members.iter().map(|member| {
        let held: Vec<_> = member.keys.iter().map(|key| key.key).collect();
        (member.name.as_str(), keys(&held))
    });
    let members: BTreeMap<_, _> = members.collect();
    Ok(json!({"digest": hex(&held.digest()), "number": held.roster().number, "newer": newer, "members": members})
        .to_string())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &Value) -> Vec<u8> {
    let pairs = text.as_str().unwrap().as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// Fails where the two do not judge alike, or find different things; otherwise, which of them both found good.
#[track_caller]
fn assert_alike(given: Vec<Value>) -> Vec<bool> {
    let ask = |mut question: Value| {
        let answer = ours(&question);
        if let Ok(found) = &answer {
            question["json"] = found.as_str().into();
        }
        (question, answer)
    };
    let (questions, answers): (Vec<_>, Vec<_>) = given.into_iter().map(ask).unzip();
    let theirs = lines(&python("verify.py", &["--judge"], &questions));
    assert_eq!(theirs.len(), questions.len(), "verify.py has not answered everything");
    let mut differences = Vec::new();
    let mut good = Vec::new();
    for ((question, ours), theirs) in questions.iter().zip(answers).zip(theirs) {
        match &ours {
            Ok(_) if theirs.get("ok").is_some() => good.push(true),
            Err(_) if theirs.get("refused").is_some() => good.push(false),
            _ => differences.push(format!("{}: here {ours:.600?}, there {theirs}\n{question:.2000}", question["name"])),
        }
    }
    assert!(differences.is_empty(), "{} of {} differ:\n{}", differences.len(), questions.len(), differences.join("\n"));
    good
}

#[test]
fn the_vectors_come_out_of_it_as_they_say() {
    let counted = ["envelope", "encrypted", "frames", "roster", "notice"].map(|file| {
        let path = format!("{}/tests/vectors/{file}.json", env!("CARGO_MANIFEST_DIR"));
        let vectors: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        vectors.len()
    });
    let told = python("verify.py", &[], &[]);
    // And join.json, which is one exchange.
    assert_eq!(told, format!("{} vectors, 0 failures\n", counted.iter().sum::<usize>() + 1));
}

#[test]
fn what_it_makes_is_opened_here() {
    let made = lines(&python("verify.py", &["--make"], &[]));
    let of = |kind: &'static str| made.iter().filter(move |one| one["kind"] == kind);
    for (kind, least) in [("envelope", 6), ("hops", 2), ("encrypted", 2), ("notice", 2), ("roster", 2)] {
        assert!(of(kind).count() >= least, "{kind}");
    }
    let good = assert_alike(made.clone());
    assert!(good.iter().all(|good| *good), "{good:?}");
    assert!(of("hops").all(|one| holds(ours(one)).len() == 2));
    for one in of("encrypted").chain(of("hops")).chain(of("notice")) {
        no_byte_of_it_can_be_another(one);
    }
    // With one byte of what is signed changed, wherever that stands, nobody takes it.
    let header = 0x61_76_01; // "v": 1
    let changed = made.into_iter().map(|mut one| {
        let mut bytes = unhex(&one["hex"]);
        let at = bytes.windows(3).position(|part| part == &u32::to_be_bytes(header)[1..]).unwrap();
        bytes[at + 40] ^= 1;
        one["hex"] = hex(&bytes).into();
        one
    });
    let good = assert_alike(changed.collect());
    assert!(good.iter().all(|good| !good), "{good:?}");
}

/// Which of the hops that have signed it have done so, if all.
fn holds(hops: Result<String, String>) -> Vec<bool> {
    let hops: Vec<Value> = hops.map_or_else(|_| Vec::new(), |hops| serde_json::from_str(&hops).unwrap());
    let said: Vec<_> = hops.iter().filter(|hop| !hop.is_null()).map(|hop| hop["holds"] == true).collect();
    if said.contains(&false) { Vec::new() } else { said }
}

/// What hops have signed must be false then; a path of one name is signed by nobody, and comes last.
#[track_caller]
fn no_byte_of_it_can_be_another(one: &Value) {
    let good = unhex(&one["hex"]);
    let path = if one["kind"] == "encrypted" { "cert-py".len() } else { 0 };
    for place in 0..good.len() - path {
        let mut bytes = good.clone();
        bytes[place] ^= 1;
        let mut other = one.clone();
        other["hex"] = hex(&bytes).into();
        let taken = match one["kind"].as_str().unwrap() {
            "hops" => !holds(ours(&other)).is_empty(),
            _ => ours(&other).is_ok(),
        };
        assert!(!taken, "{}: byte {place}", one["name"]);
    }
}

/// Both judge what this script prints, and find at least so much of it good.
#[track_caller]
fn assert_alike_at_the_edges_of(script: &str, least: usize) {
    let seed = std::env::var("PROBES_SEED").unwrap_or_else(|_| rand::random::<u32>().to_string());
    eprintln!("PROBES_SEED={seed} makes the same again");
    let given = lines(&python(script, &[&seed], &[]));
    assert!(given.len() > 10_000);
    let good = assert_alike(given).into_iter().filter(|good| *good).count();
    assert!(good > least, "only {good} are good: the probes do not reach the edges");
}

#[test]
fn both_judge_envelopes_rosters_and_frames_alike_at_every_edge() {
    assert_alike_at_the_edges_of("probes.py", 500);
}

#[test]
fn both_judge_hops_encrypted_payloads_notices_and_joining_alike_at_every_edge() {
    assert_alike_at_the_edges_of("more_probes.py", 1500);
}
