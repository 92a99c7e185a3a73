//! The vectors of `tests/vectors/`: for another implementation, and against a change of format that nobody meant.
//!
//! They are made here, by a writer of CBOR, a tree and a seal that share nothing with the program's; so they do not just
//! mirror it. After a change that is meant: `UPDATE_VECTORS=1 cargo nextest run --test vectors`.

#![allow(clippy::unwrap_used)] // A test that panics says what it found.

#[path = "vectors/closed.rs"]
mod closed;
#[path = "vectors/make.rs"]
mod make;

use bytes::{Bytes, BytesMut};
use intelmq_relay::envelope::{Bounds, Envelope, Hop, Secret, Shape, Verifier};
use intelmq_relay::link::{Frame, decode_length};
use intelmq_relay::trust::{Signed, SignedNotice, Trusted};
use make::Vector;

/// The vectors as they are committed; the same as those that are made now.
fn committed(file: &str, made: &[Vector], subject: &str) -> Vec<Vector> {
    let path = format!("{}/tests/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = make::write(made, subject);
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap();
    for (there, now) in there.lines().zip(text.lines()) {
        assert_eq!(there, now, "{file} is not what tests/vectors/make.rs makes");
    }
    assert_eq!(there, text, "{file} is not what tests/vectors/make.rs makes");
    make::read(&there, subject)
}

/// The JSON of what opens, and what its hops have signed.
fn outcome(bytes: Vec<u8>) -> Result<(String, serde_json::Value), String> {
    let envelope = Envelope::decode(Bytes::from(bytes), &Bounds::default()).map_err(|reason| reason.to_string())?;
    let sealed = Verifier::new(4).open(envelope).map_err(|reason| reason.to_string())?;
    let hex = |key: &[u8; 32]| key.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let hop = |hop: Hop| {
        hop.attestation
            .map(|word| serde_json::json!({"key": hex(word.key.as_bytes()), "time": word.time, "holds": word.holds}))
    };
    let hops: Vec<_> = sealed.hops().into_iter().map(hop).collect();
    Ok((sealed.write(Shape::Iep04), serde_json::json!(hops)))
}

#[test]
fn envelopes_are_opened_or_refused_as_the_vectors_say() {
    let vectors = committed("envelope.json", &make::envelopes(), "envelope");
    let mut wrong = Vec::new();
    for vector in &vectors {
        match (outcome(vector.bytes.clone()), vector.expect.as_str()) {
            (Ok((json, hops)), "ok")
                if Some(&json) == vector.json.as_ref() && vector.hops.as_ref().is_none_or(|said| *said == hops) => {}
            (Err(reason), expect) if expect != "ok" && reason.contains(expect) => {}
            // What is not in the one form is refused for the first thing that is met.
            (Err(reason), "one form") if reason.contains("CBOR") => {}
            (is, _) => wrong.push(format!("{}: {is:?}\n    expected {} {:?}", vector.name, vector.expect, vector.json)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(vectors.iter().filter(|vector| vector.expect == "ok").count() >= 8 && vectors.len() >= 50);
}

#[test]
fn encrypted_payloads_are_opened_or_stay_closed_as_the_vectors_say() {
    let path = format!("{}/tests/vectors/encrypted.json", env!("CARGO_MANIFEST_DIR"));
    let text = closed::write();
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap();
    assert_eq!(there, text, "encrypted.json is not what tests/vectors/closed.rs makes");
    closed::check(&there);
}

#[test]
fn frames_are_read_or_refused_as_the_vectors_say() {
    let most = 4 << 20;
    let read = |bytes: &[u8]| {
        let mut buffer = BytesMut::from(bytes);
        let length = decode_length(&mut buffer, most).map_err(|reason| reason.to_string())?;
        let length = length.ok_or("more bytes are needed")?;
        Frame::decode(&buffer[..length]).map_err(|reason| reason.to_string())
    };
    for Vector { name, bytes, expect, .. } in committed("frames.json", &make::frames(), "frame") {
        match read(&bytes) {
            Ok(frame) => {
                assert_eq!(expect, "ok", "{name}: {frame:?}");
                assert_eq!(frame.encode(), bytes, "{name}");
            }
            Err(reason) => assert!(expect != "ok" && reason.contains(&expect), "{name}: {reason}"),
        }
    }
}

#[test]
fn rosters_are_opened_or_refused_as_the_vectors_say() {
    let authorities = [1, 2, 3].map(|n| Secret::from_seed(&[n; 32]).key()).into();
    let trusted = Trusted { authorities, threshold: 2 };
    let vectors = committed("roster.json", &make::rosters(), "roster");
    let mut wrong = Vec::new();
    for Vector { name, bytes, expect, .. } in &vectors {
        let opened = Signed::decode(bytes).and_then(|signed| signed.open(&trusted).map(|_| signed));
        match opened {
            Ok(signed) if expect == "ok" && signed.encode() == *bytes => {}
            Err(reason) if expect != "ok" && reason.to_string().contains(expect) => {}
            is => wrong.push(format!("{name}: {is:?}\n    expected {expect}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(vectors.len() >= 30);
}

#[test]
fn notices_are_opened_or_refused_as_the_vectors_say() {
    let vectors = committed("notice.json", &make::notices(), "notice");
    let mut wrong = Vec::new();
    for Vector { name, bytes, expect, .. } in &vectors {
        match SignedNotice::open(bytes, |_| true) {
            Ok(Some(notice)) if expect == "ok" && notice.bytes() == bytes => {}
            Err(reason) if expect != "ok" && reason.to_string().contains(expect) => {}
            is => wrong.push(format!("{name}: {is:?}\n    expected {expect}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(vectors.len() >= 25);
}
