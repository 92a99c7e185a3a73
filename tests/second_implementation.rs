//! The protocol has a second implementation, `tests/vectors/verify.py`, which was written from `docs/protocol.md` alone.
//! Here the two are held against each other: where they judge the same bytes differently, one of them has a fault, or
//! the document a hole.

#![allow(clippy::unwrap_used)] // A test that panics says what it found.

#[path = "support/intelmq.rs"]
mod intelmq;

use std::io::{Seek, Write};
use std::process::{Command, Stdio};

use bytes::{Bytes, BytesMut};
use intelmq_relay::envelope::{Bounds, Envelope, Secret, Shape, Verifier};
use intelmq_relay::link::{Frame, decode_length};
use intelmq_relay::trust::{Signed, Trusted};
use serde_json::Value;

/// What one of the two programs prints, as JSON lines.
fn python(script: &str, arguments: &[&str], input: &[Value]) -> Vec<Value> {
    let text = run(script, arguments, input);
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|reason| panic!("{line}: {reason}"))).collect()
}

#[track_caller]
fn run(script: &str, arguments: &[&str], input: &[Value]) -> String {
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
    assert!(
        output.status.success(),
        "{script} failed (it needs cbor2 and cryptography, which tests/all installs):\n{out}{err}"
    );
    out
}

/// What this crate makes of the bytes: the text of an envelope, nothing of others; or why it refuses them.
fn ours(kind: &str, bytes: Vec<u8>) -> Result<Option<String>, String> {
    match kind {
        "envelope" => {
            let envelope = Envelope::decode(Bytes::from(bytes), &Bounds::default()).map_err(|e| e.to_string())?;
            let sealed = Verifier::new(4).open(envelope).map_err(|e| e.to_string())?;
            Ok(Some(sealed.write(Shape::Iep04)))
        }
        "frame" => {
            let mut buffer = BytesMut::from(&bytes[..]);
            let length = decode_length(&mut buffer, 4 << 20).map_err(|e| e.to_string())?;
            let length = length.ok_or("more bytes are needed")?;
            let frame = buffer.get(..length).ok_or("more bytes are needed")?;
            let decoded = Frame::decode(frame).map_err(|e| e.to_string())?;
            // The decoder of frames is laxer than those who write them.
            let all = bytes.len() - buffer.len() + length;
            if decoded.encode() == bytes[..all] { Ok(None) } else { Err("not in the one form".to_owned()) }
        }
        "roster" => {
            let authorities = [1, 2, 3].map(|n| Secret::from_seed(&[n; 32]).key()).into();
            let trusted = Trusted { authorities, threshold: 2 };
            Signed::decode(&bytes).and_then(|signed| signed.open(&trusted).map(|_| ())).map_err(|e| e.to_string())?;
            Ok(None)
        }
        _ => panic!("no such kind: {kind}"),
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// Where the two do not judge alike, and how many they were agreed to be good.
fn differences(given: Vec<Value>) -> (Vec<String>, usize) {
    let asked: Vec<_> = given
        .into_iter()
        .map(|mut one| {
            let answer = ours(one["kind"].as_str().unwrap(), unhex(one["hex"].as_str().unwrap()));
            if let Ok(Some(text)) = &answer {
                one["json"] = text.as_str().into();
            }
            (one, answer)
        })
        .collect();
    let questions: Vec<_> = asked.iter().map(|(question, _)| question.clone()).collect();
    let theirs = python("verify.py", &["--judge"], &questions);
    assert_eq!(theirs.len(), asked.len(), "verify.py has not answered everything");
    let mut differences = Vec::new();
    let mut good = 0;
    for ((question, ours), theirs) in asked.iter().zip(theirs) {
        match ours {
            Ok(_) if theirs.get("ok").is_some() => good += 1,
            Err(_) if theirs.get("refused").is_some() => {}
            _ => {
                let hex: String = question["hex"].as_str().unwrap().chars().take(1200).collect();
                let text: String = theirs.to_string().chars().take(600).collect();
                differences.push(format!("{}: here {ours:?}, there {text}\n    {hex}", question["name"]));
            }
        }
    }
    (differences, good)
}

#[track_caller]
fn assert_alike(given: Vec<Value>) -> usize {
    let count = given.len();
    let (differences, good) = differences(given);
    assert!(differences.is_empty(), "{} of {count} differ:\n{}", differences.len(), differences.join("\n"));
    good
}

#[test]
fn the_vectors_come_out_of_it_as_they_say() {
    let counted = ["envelope", "frames", "roster"].map(|file| {
        let path = format!("{}/tests/vectors/{file}.json", env!("CARGO_MANIFEST_DIR"));
        let vectors: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        vectors.len()
    });
    let told = run("verify.py", &[], &[]);
    assert_eq!(told, format!("{} vectors, 0 failures\n", counted.iter().sum::<usize>()));
}

#[test]
fn what_it_makes_is_opened_here() {
    let made = python("verify.py", &["--make"], &[]);
    let envelopes = made.iter().filter(|one| one["kind"] == "envelope").count();
    assert!(envelopes >= 5 && made.len() >= envelopes + 2);
    assert_eq!(assert_alike(made.clone()), made.len());
}

#[test]
fn both_judge_alike_at_every_edge() {
    let seed = std::env::var("PROBES_SEED").unwrap_or_else(|_| rand::random::<u32>().to_string());
    eprintln!("PROBES_SEED={seed} makes these again");
    let given = python("probes.py", &[&seed], &[]);
    assert!(given.len() > 10_000);
    let good = assert_alike(given);
    assert!(good > 500, "{good}");
}
