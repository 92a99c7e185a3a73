//! A node as a process, and a peer in its list that does not keep to the rules: what it sends is told from what is good,
//! is counted, and reaches nobody. And a peer that may do one thing to others' events: hide fields.

#![allow(clippy::unwrap_used)] // A test that fails may panic, in what it calls too.

#[path = "support/hand.rs"]
#[allow(dead_code)]
mod hand;
#[path = "support/redis.rs"]
#[allow(dead_code)] // Other tests use the rest of it.
mod redis_server;
#[path = "support/relay.rs"]
#[allow(dead_code)]
mod relay;

use std::collections::BTreeMap;

use bytes::Bytes;
use hand::{Hand, by, sealed, sealed_text, secret, shown};
use intelmq_relay::envelope::{Header, Tlp};
use intelmq_relay::link::{Answer, Batch, Done, Frame, From, Mode, Offer, Verdict};
use redis_server::Redis;
use relay::{Relay, wait_until};
use serde_bytes::ByteBuf;
use uuid::Uuid;

const DAY: u64 = 24 * 3600 * 1000;

/// The bytes with one part of them replaced.
fn patched(bytes: &Bytes, old: &[u8], new: &[u8]) -> Bytes {
    let at = bytes.windows(old.len()).position(|part| part == old).expect("it is there");
    [&bytes[..at], new, &bytes[at + old.len()..]].concat().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_peer_in_the_list_is_told_what_is_wrong_and_reaches_nobody() {
    let redis = Redis::start();
    let mut node = Relay::init("cert-c");
    node.gives(&redis.config(), "in", "events = { shape = \"bare\", harmonization = \"none\" }\n");
    let mut hand = Hand::listed_by(&node, "cert-m");
    let (ours, other) = (secret("cert-m"), secret("cert-o"));
    node.and(&format!("[[origin]]\nname = \"cert-o\"\nkey = \"{}\"", other.key()));
    node.start();
    hand.link(&node).await;

    let refused = |rule: &str| Verdict::Refused(rule.into());
    let mine = |number, change: fn(&mut Header)| by(&sealed(&ours, "cert-m", number, change), &[]);
    let theirs = |change: fn(&mut Header)| by(&sealed(&other, "cert-o", 99, change), &["cert-m"]);
    let good = mine(0, |_| {});
    let passed_on = sealed(&other, "cert-o", 1, |_| {});
    let for_others = mine(99, |header| header.to = vec!["cert-x".parse().unwrap()]);
    let unsigned = sealed(&other, "cert-o", 99, |_| {});
    let big = format!("{{\"raw\": \"{}\"}}", "A".repeat(1 << 20));
    let cases: Vec<(&str, Bytes, Verdict)> = vec![
        ("a good one of its own", good.clone(), Verdict::Accepted),
        ("a changed value", patched(&mine(99, |_| {}), b"192.0.2.7", b"192.0.2.8"), Verdict::BadSignature),
        ("a good one of another's", by(&passed_on, &["cert-m"]), Verdict::Accepted),
        (
            "no signature",
            patched(&by(&unsigned, &["cert-m"]), &unsigned.seal().signature, &[0; 64]),
            Verdict::BadSignature,
        ),
        ("a good one", mine(2, |_| {}), Verdict::Accepted),
        ("garbage", Bytes::from_static(b"no envelope"), Verdict::Malformed),
        ("nothing: not given any more", Bytes::new(), Verdict::Later),
        ("a part", good.slice(..good.len() - 1), Verdict::Malformed),
        ("something behind it", [&good[..], b"\0"].concat().into(), Verdict::Malformed),
        ("a replay", good.clone(), Verdict::Duplicate),
        ("one of nobody's", by(&sealed(&secret("nobody"), "nobody", 99, |_| {}), &["cert-m"]), Verdict::UnknownOrigin),
        ("another's name", by(&sealed(&ours, "cert-o", 99, |_| {}), &["cert-m"]), refused("other-key")),
        ("our name", by(&sealed(&ours, "cert-c", 99, |_| {}), &["cert-m"]), Verdict::Loop),
        ("a way that does not lead here", by(&sealed(&other, "cert-o", 99, |_| {}), &[]), Verdict::Malformed),
        ("a long way", by(&sealed(&other, "cert-o", 99, |_| {}), &["cert-m"; 40]), Verdict::TooBig),
        ("too big", by(&sealed_text(&ours, "cert-m", &big, |_| {}), &[]), Verdict::TooBig),
        ("too old", mine(99, |header| header.time -= 11 * DAY), Verdict::TooOld),
        ("of tomorrow", mine(99, |header| header.time += DAY), Verdict::FromTheFuture),
        ("RED, not named", mine(99, |header| header.tlp = Some(Tlp::Red)), refused("tlp-red")),
        ("AMBER, passed on", theirs(|header| header.tlp = Some(Tlp::Amber)), refused("tlp-amber")),
        ("for others", for_others.clone(), refused("not-named")),
        ("a good last one", mine(3, |_| {}), Verdict::Accepted),
    ];
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    // One by one, and in the same batch.
    for (what, envelope, expected) in &cases[..9] {
        let verdicts = hand.give(std::slice::from_ref(envelope)).await;
        assert_eq!(verdicts, std::slice::from_ref(expected), "{what}");
    }
    let envelopes: Vec<Bytes> = cases[9..].iter().map(|(_, envelope, _)| envelope.clone()).collect();
    let verdicts = hand.give(&envelopes).await;
    for ((what, _, expected), verdict) in cases[9..].iter().zip(&verdicts) {
        assert_eq!(verdict, expected, "{what}");
    }
    assert_eq!(hand.give(&[for_others]).await, [Verdict::Duplicate], "it is remembered");
    counts.insert("duplicate".into(), 1);
    for (_, _, verdict) in &cases {
        *counts.entry(verdict.to_string()).or_default() += 1;
    }
    let status = node.status_when("it counts", |status| status["sinks"]["to-in"]["seq"] == status["head"]);
    let taken: BTreeMap<String, u64> = serde_json::from_value(status["peers"]["cert-m"]["taken"].clone()).unwrap();
    assert_eq!(taken, counts);
    assert_eq!((&status["head"], &status["peers"]["cert-m"]["links"]), (&4.into(), &1.into()), "{status:#}");
    let delivered = redis.items("in");
    let said = node.says("another key than the one known");
    assert_eq!((&said["origin"], &said["peer"]), (&"cert-o".into(), &"cert-m".into()), "{said}");
    assert_eq!(said["sealed_with"], ours.key().to_string(), "{said}");
    assert_eq!(said["known_key"], other.key().to_string(), "{said}");
    let numbers: Vec<_> = [0, 1, 2, 3].map(|number| format!("\"extra.number\": {number},")).into();
    assert!(delivered.len() == 4 && delivered.iter().zip(&numbers).all(|(a, b)| a.contains(b)), "{delivered:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_brings_only_those_that_it_may_and_another_brings_the_rest() {
    let mut node = Relay::init("cert-c");
    let (mut picky, mut all) = (Hand::listed_by(&node, "cert-m"), Hand::listed_by(&node, "cert-n"));
    let (ours, other) = (secret("cert-m"), secret("cert-o"));
    let may = "name = \"cert-m\"\norigins = [\"cert-m\"]";
    node.configure(&node.configuration().replace("name = \"cert-m\"", may));
    node.and(&format!("[[origin]]\nname = \"cert-o\"\nkey = \"{}\"", other.key()));
    node.start();
    picky.link(&node).await;
    all.link(&node).await;

    let not_here = || Verdict::Refused("origin-not-here".into());
    let passed_on = sealed(&other, "cert-o", 1, |_| {});
    let own = by(&sealed(&ours, "cert-m", 0, |_| {}), &[]);
    assert_eq!(picky.give(&[own, by(&passed_on, &["cert-m"])]).await, [Verdict::Accepted, not_here()]);
    // What is offered is not even asked for.
    let offer = Offer(0, "cert-o".parse().unwrap(), passed_on.header().id, 900, 0);
    let (answers, verdicts) = picky.batch(vec![offer.clone()], &[]).await;
    assert_eq!((answers, verdicts), (vec![(0, Answer::Refuse(not_here()))], vec![not_here()]));
    assert_eq!(all.give(&[by(&passed_on, &["cert-n"])]).await, [Verdict::Accepted], "it is not remembered");
    // Known by another way, it is a duplicate here too.
    assert_eq!(picky.batch(vec![offer], &[]).await.1, [Verdict::Duplicate]);
    let why = node.expect(0, &["why", &passed_on.header().id.to_string()]);
    assert!(why.contains("refused") && why.contains("origin-not-here"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_out_of_place_end_the_link_and_nothing_else() {
    let redis = Redis::start();
    let mut node = Relay::init("cert-c");
    node.takes(&redis.config(), "out", "tlp = \"GREEN\"");
    node.gives(&redis.config(), "in", "");
    let mut hand = Hand::listed_by(&node, "cert-m");
    let mut good_peer = Hand::listed_by(&node, "cert-n");
    node.start();
    good_peer.link(&node).await;
    let ours = secret("cert-m");
    let token = || ByteBuf::from([7; 64]);
    let offer = |slot, origin: &str| Offer(slot, origin.parse().unwrap(), Uuid::new_v4(), 900, 0);
    let batch = |no, offers, whole: &'static [u8]| {
        Frame::Batch(Batch { no, offers, whole: Bytes::from_static(whole), token: token() }).encode()
    };
    let wrong: Vec<(&str, Vec<u8>)> = vec![
        ("a batch out of turn", batch(9, vec![offer(0, "cert-m")], &[])),
        ("an empty batch", batch(1, vec![], &[])),
        ("a slot twice", batch(1, vec![offer(0, "cert-m"), offer(0, "cert-m")], &[])),
        ("a broken body", batch(1, vec![], &[1, 2, 3])),
        ("a body unasked", Frame::Bodies(intelmq_relay::link::Bodies { no: 1, packed: Bytes::new() }).encode()),
        ("a second pull", Frame::Pull(From::All).encode()),
        ("an answer to nothing", Frame::Done(Done { no: 1, verdicts: vec![], mode: Mode::Offer }).encode()),
        ("a hello too many", Frame::Refuse("why?".into()).encode()),
        ("an unknown kind", vec![1, 99]),
        ("a frame without end", vec![0xff, 0xff, 0xff, 0xff, 0x7f]),
        ("no varint", vec![0xff; 16]),
        ("no CBOR", vec![3, 4, 0xff, 0xff]),
    ];
    let links = wrong.len() as u64;
    for (what, bytes) in wrong {
        hand.link(&node).await;
        hand.write(&bytes).await;
        hand.hung_up().await;
        let said = node.says("link down");
        assert_eq!((&said["peer"], &said["level"]), (&"cert-m".into(), &"INFO".into()), "{what}: {said}");
        eprintln!("{what}: {}", said["reason"]);
    }
    // What is offered in the name of others.
    hand.link(&node).await;
    let (answers, verdicts) = hand.batch(vec![offer(0, "cert-c"), offer(1, "nobody")], &[]).await;
    let expected = [Verdict::Loop, Verdict::UnknownOrigin];
    assert_eq!(verdicts, expected);
    assert_eq!(answers, [(0, Answer::Refuse(Verdict::Loop)), (1, Answer::Refuse(Verdict::UnknownOrigin))]);
    let good = by(&sealed(&ours, "cert-m", 7, |_| {}), &[]);
    assert_eq!(hand.give(&[good]).await, [Verdict::Accepted]);

    // Our own event comes back.
    redis.push("out", &["{\"extra.number\": 1, \"__type\": \"Event\"}"]);
    let own = hand.next_batch().await;
    assert_eq!((own.no, shown(&own)), (1, 1));
    let verdicts = vec![Verdict::Accepted];
    hand.send(Frame::Done(Done { no: 1, verdicts, mode: Mode::Offer })).await;

    let status = node.status_when("it is delivered", |status| status["sinks"]["to-in"]["seq"] == status["head"]);
    assert_eq!(status["peers"]["cert-m"]["links"], links + 1);
    assert_eq!(status["peers"]["cert-n"]["links"], 1, "the good peer's link stayed up");
    assert_eq!(redis.length("in"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_hides_fields_and_another_brings_them() {
    let redis = Redis::start();
    let mut node = Relay::init("cert-c");
    node.gives(&redis.config(), "once", "");
    node.gives(&redis.config(), "fuller", "events = { completions = true, shape = \"extra\" }\n");
    let (mut hides, mut shows) = (Hand::listed_by(&node, "cert-m"), Hand::listed_by(&node, "cert-n"));
    let origin = secret("cert-o");
    node.and(&format!("[[origin]]\nname = \"cert-o\"\nkey = \"{}\"", origin.key()));
    node.start();
    hides.link(&node).await;
    shows.link(&node).await;

    let whole = sealed(&origin, "cert-o", 1, |_| {});
    let hidden = whole.hide(|key| key == "extra.hush" || key == "raw");
    let less = whole.hide(|key| key != "extra.number");
    let id = whole.header().id.to_string();
    let secrets = ["extra.hush", "s3cret", "QUJD"];
    let bytes = by(&hidden, &["cert-m"]);
    for text in secrets {
        assert!(!bytes.windows(text.len()).any(|part| part == text.as_bytes()), "{text} is in the bytes");
    }
    assert_eq!(hides.give(std::slice::from_ref(&bytes)).await, [Verdict::Accepted]);
    // What hides more is nothing new, and what claims to hide less without a seal that fits is nothing at all.
    assert_eq!(shows.give(&[by(&less, &["cert-n"])]).await, [Verdict::Duplicate]);
    let forged = patched(&by(&whole, &["cert-n"]), b"s3cret", b"forged");
    assert_eq!(shows.give(&[forged]).await, [Verdict::BadSignature]);

    let show = node.expect(0, &["show", &id]);
    for says in ["2 hidden", "seal      valid", "(hidden)", "from      cert-m", "way       !!cert-o!cert-m!cert-c"] {
        assert!(show.contains(says), "{says} is not in\n{show}");
    }
    for shape in ["iep04", "proposed", "typed", "bare", "extra"] {
        let export = node.expect(0, &["export", "--shape", shape]);
        assert!(export.contains("192.0.2.7") && secrets.iter().all(|text| !export.contains(text)), "{export}");
    }

    // The whole of it, by another way: once. The sinks differ in what they want of it.
    let fuller = by(&whole, &["cert-n"]);
    assert_eq!(shows.give(&[fuller.clone(), fuller.clone()]).await, [Verdict::Completed, Verdict::Duplicate]);
    assert_eq!(hides.give(&[bytes]).await, [Verdict::Duplicate]);
    wait_until("the second copy", || redis.length("fuller") >= 2);
    node.status_when("all is delivered", |status| {
        status["sinks"]["to-once"]["seq"] == status["head"] && status["sinks"]["to-fuller"]["seq"] == status["head"]
    });
    let (once, twice) = (redis.items("once"), redis.items("fuller"));
    assert_eq!((once.len(), twice.len()), (1, 2));
    assert!(!once[0].contains("s3cret") && once[0].contains("\"extra.number\": 1"), "{once:?}");
    assert!(!twice[0].contains("s3cret") && twice[0].contains("\"extra.relay.hidden\": 2"), "{twice:?}");
    assert!(twice[1].contains("\"extra.hush\": \"s3cret\"") && !twice[1].contains("relay.hidden"), "{twice:?}");
    let show = node.expect(0, &["show", &format!("cert-o:intelmq:{id}")]);
    assert!(show.contains("(a fuller copy)") && show.matches("seal      valid").count() == 2, "{show}");
    assert_eq!(node.status()["peers"]["cert-n"]["taken"]["completed"], 1);
}
