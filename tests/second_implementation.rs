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
use intelmq_relay::envelope::{Bounds, Envelope, Key, Secret, Shape, Verifier};
use intelmq_relay::link::{Frame, decode_length};
use intelmq_relay::trust::{Held, Signed, Trusted};
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
        "envelope" => {
            let envelope = Envelope::decode(Bytes::from(bytes), &Bounds::default()).map_err(|e| e.to_string())?;
            let sealed = Verifier::new(4).open(envelope).map_err(|e| e.to_string())?;
            Ok(sealed.write(Shape::Iep04))
        }
        "frame" => frame(&bytes),
        "roster" => roster(&bytes, question.get("before").map(unhex)),
        kind => panic!("no such kind: {kind}"),
    }
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
    let counted = ["envelope", "frames", "roster"].map(|file| {
        let path = format!("{}/tests/vectors/{file}.json", env!("CARGO_MANIFEST_DIR"));
        let vectors: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        vectors.len()
    });
    let told = python("verify.py", &[], &[]);
    assert_eq!(told, format!("{} vectors, 0 failures\n", counted.iter().sum::<usize>()));
}

#[test]
fn what_it_makes_is_opened_here() {
    let made = lines(&python("verify.py", &["--make"], &[]));
    let envelopes = made.iter().filter(|one| one["kind"] == "envelope").count();
    assert!(envelopes >= 5 && made.len() >= envelopes + 2);
    let good = assert_alike(made.clone());
    assert!(good.iter().all(|good| *good), "{good:?}");
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

#[test]
fn both_judge_alike_at_every_edge() {
    let seed = std::env::var("PROBES_SEED").unwrap_or_else(|_| rand::random::<u32>().to_string());
    eprintln!("PROBES_SEED={seed} makes the same again");
    let given = lines(&python("probes.py", &[&seed], &[]));
    assert!(given.len() > 10_000);
    let good = assert_alike(given).into_iter().filter(|good| *good).count();
    assert!(good > 500, "only {good} are good: the probes do not reach the edges");
}
