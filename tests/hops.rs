//! Nodes as processes: which of them have signed that they passed an event on, and what an operator reads of that.

#![allow(clippy::unwrap_used)] // A test that fails may panic, in what it calls too.

#[path = "support/events.rs"]
#[allow(dead_code)] // Other tests use the rest of it.
mod events;
#[path = "support/hand.rs"]
#[allow(dead_code)]
mod hand;
#[path = "support/redis.rs"]
#[allow(dead_code)]
mod redis_server;
#[path = "support/relay.rs"]
#[allow(dead_code)]
mod relay;

use bytes::Bytes;
use events::event_with;
use hand::{Hand, by, sealed, sealed_text, secret};
use intelmq_relay::envelope::{Bounds, Sealed, attest, rfc3339};
use intelmq_relay::link::Verdict;
use intelmq_relay::net::now;
use redis_server::Redis;
use relay::Relay;

fn attests(node: &Relay) {
    node.configure(&node.configuration().replacen("[node]\n", "[node]\nattest = true\n", 1));
}

/// What `show` has after this word at the beginning of a line.
fn line<'a>(show: &'a str, word: &str) -> &'a str {
    let found = show.lines().find_map(|line| line.trim_start().strip_prefix(word));
    found.unwrap_or_else(|| panic!("no {word:?} in\n{show}")).trim()
}

/// Ids in the log, oldest first.
fn ids(node: &Relay) -> Vec<String> {
    let lines = node.expect(0, &["export"]);
    let id = |line: &str| {
        serde_json::from_str::<serde_json::Value>(line).unwrap()["meta"]["uuid"].as_str().unwrap().to_owned()
    };
    // Events have values that only Python takes for JSON.
    lines.lines().map(|line| id(&line.replace("NaN", "0"))).collect()
}

#[test]
fn a_leak_is_followed_from_node_to_node() {
    let redis = Redis::start();
    let mut nodes = ["cert-a", "cert-b", "cert-c", "cert-d"].map(Relay::init);
    nodes[0].takes(&redis.config(), "out", "");
    attests(&nodes[1]);
    for (one, other) in [(0, 1), (1, 2), (2, 3)] {
        nodes[one].peer(&nodes[other], "community");
        nodes[other].peer(&nodes[one], "community");
    }
    let hides = "[[rules.less]]\ndo = \"allow\"\nhide = [\"raw\"]";
    let to_d = "name = \"cert-d\"";
    let c = nodes[2].configuration();
    let (before, of_d) = c.split_at(c.find(to_d).unwrap());
    nodes[2].configure(&format!(
        "{before}{}\n{hides}\n",
        of_d.replacen("give = \"community\"", "give = [\"less\"]\ncommunity = true", 1)
    ));
    for (at, origin) in [(2, 0), (3, 0), (3, 1)] {
        let Relay { name, key, .. } = &nodes[origin];
        let block = format!("[[origin]]\nname = \"{name}\"\nkey = \"{key}\"");
        nodes[at].and(&block);
    }
    nodes.iter_mut().for_each(Relay::start);
    for (one, other) in [(0, "cert-b"), (1, "cert-c"), (2, "cert-d")] {
        nodes[one].linked(other);
    }
    let begun = now();
    redis.push("out", &[0, 3].map(|number| event_with(number, "\"tlp\": \"GREEN\", ")));
    for node in &nodes {
        node.status_when("they are there", |status| status["head"] == 2);
    }
    let d = &nodes[3];
    let ended = now();

    for id in ids(d) {
        let show = d.expect(0, &["show", &id]);
        assert_eq!(line(&show, "way "), "!!cert-a!!cert-b!cert-c!cert-d", "{show}");
        assert_eq!(line(&show, "!!cert-a "), "verified: it sealed it");
        let time =
            line(&show, "!!cert-b ").strip_prefix("verified: it signed that it took it from cert-a at ").unwrap();
        assert!(*time >= *rfc3339(begun) && *time <= *rfc3339(ended), "{time} of {begun} to {ended}");
        assert!(line(&show, "!cert-c ").starts_with("claimed"), "{show}");
        assert_eq!(line(&show, "!cert-d "), "this node, which does not attest");
        assert!(show.contains("1 hidden") && show.contains("seal      valid"), "{show}");
        // B shows of its own the same time, when it stored it.
        let at_b = nodes[1].expect(0, &["show", &id]);
        assert_eq!(line(&at_b, "way "), "!!cert-a!!cert-b", "{at_b}");
        assert_eq!(line(&at_b, "stored "), time);
        // C was never told of a key of B's but B is its peer.
        let at_c = nodes[2].expect(0, &["show", &id]);
        assert_eq!(line(&at_c, "way "), "!!cert-a!!cert-b!cert-c", "{at_c}");
        let tail = d.expect(0, &["tail", "--no-follow"]);
        assert!(tail.lines().all(|line| line.contains(" !!cert-a!!cert-b!cert-c!cert-d ")), "{tail}");
        let json = d.expect(0, &["show", "--json", &id]);
        assert!(json.contains("\"relay:path\": \"!cert-a!cert-b!cert-c!cert-d\""), "{json}");
    }
    // The same of the store alone, by the configuration: and without B's key there, it is a claim.
    let shows = |node: &Relay| ids(node).iter().map(|id| node.expect(0, &["show", id])).collect::<Vec<_>>();
    let running = shows(d);
    nodes[3].terminate();
    let d = &nodes[3];
    assert_eq!(shows(d), running);
    let block = format!("[[origin]]\nname = \"cert-b\"\nkey = \"{}\"", nodes[1].key);
    d.configure(&d.configuration().replace(&block, ""));
    for show in shows(d) {
        assert_eq!(line(&show, "way "), "!!cert-a!cert-b!cert-c!cert-d", "{show}");
        assert!(line(&show, "!cert-b ").contains("knows no key of it"), "{show}");
    }
}

/// The envelope, passed on by a node that signs as `name`, with the key of `signs`.
fn passed(mut sealed: Sealed, name: &str, signs: &str) -> Sealed {
    let me = name.parse().unwrap();
    attest(&secret(signs), &me, now(), &Bounds::default(), &mut [&mut sealed], &mut rand::rng());
    sealed
}

/// Where the path begins in these bytes.
fn path_at(sealed: &Sealed) -> usize {
    let signature = sealed.seal().signature;
    sealed.bytes().windows(64).position(|part| part == signature).unwrap() + 64
}

#[tokio::test(flavor = "multi_thread")]
async fn a_false_attestation_is_shown_as_one_and_keeps_nothing_out() {
    let mut node = Relay::init("cert-c");
    attests(&node);
    let mut hand = Hand::listed_by(&node, "cert-m");
    for known in ["cert-o", "cert-k"] {
        node.and(&format!("[[origin]]\nname = \"{known}\"\nkey = \"{}\"", secret(known).key()));
    }
    node.start();
    hand.link(&node).await;

    let fresh = |number| sealed(&secret("cert-o"), "cert-o", number, |_| {});
    let good = passed(fresh(0), "cert-k", "cert-k");
    let other = fresh(1);
    // The path of one envelope behind another.
    let moved = [&other.bytes()[..path_at(&other)], &good.bytes()[path_at(&good)..]].concat();
    let moved = [moved.as_slice()].map(|bytes| {
        let envelope = intelmq_relay::envelope::Envelope::decode(Bytes::copy_from_slice(bytes), &Bounds::default());
        intelmq_relay::envelope::Verifier::new(1).open(envelope.unwrap()).unwrap()
    });
    let cases = [
        ("good", good.clone(), "!!cert-o!!cert-k!cert-m!!cert-c", "!!cert-k ", "verified: it signed"),
        ("moved", moved[0].clone(), "!!cert-o!?cert-k!cert-m!!cert-c", "!?cert-k ", "FALSE"),
        (
            "with another key",
            passed(fresh(2), "cert-k", "cert-m"),
            "!!cert-o!?cert-k!cert-m!!cert-c",
            "!?cert-k ",
            "FALSE, or its key is new",
        ),
        ("unknown", passed(fresh(3), "cert-x", "cert-x"), "!!cert-o!cert-x!cert-m!!cert-c", "!cert-x ", "claimed"),
        ("none", fresh(4), "!!cert-o!cert-m!!cert-c", "!cert-m ", "claimed"),
    ];
    let bytes: Vec<Bytes> = cases.iter().map(|(_, envelope, ..)| by(envelope, &["cert-m"])).collect();
    assert_eq!(hand.give(&bytes).await, vec![Verdict::Accepted; cases.len()]);
    for (what, envelope, way, node_of, text) in &cases {
        let show = node.expect(0, &["show", &envelope.header().id.to_string()]);
        assert_eq!(line(&show, "way "), *way, "{what}: {show}");
        assert!(line(&show, node_of).starts_with(text), "{what}: {show}");
        assert!(line(&show, "!!cert-c ").starts_with("verified: it signed that it took it from cert-m at "), "{show}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envelope_that_is_too_large_for_a_peer_by_its_attestations_goes_without() {
    let (mut node, mut small) = (Relay::init("cert-c"), Relay::init("cert-d"));
    attests(&node);
    let mut hand = Hand::listed_by(&node, "cert-m");
    small.and("[limits]\nenvelope_bytes = 1500");
    small.and(&format!("[[origin]]\nname = \"cert-m\"\nkey = \"{}\"", secret("cert-m").key()));
    node.peer(&small, "community");
    small.peer(&node, "community");
    node.start();
    small.start();
    node.linked("cert-d");
    hand.link(&node).await;

    let event = |raw: usize| {
        let text = format!("{{\"raw\": \"{}\"}}", "A".repeat(raw));
        sealed_text(&secret("cert-m"), "cert-m", &text, |_| {})
    };
    let (fits, barely) = (event(400), event(900));
    let sizes = [&fits, &barely].map(|event| event.bytes().len());
    assert!(sizes[0] + 500 < 1500 && sizes[1] + 100 < 1500 && sizes[1] + 400 > 1500, "{sizes:?}");
    assert_eq!(hand.give(&[by(&fits, &[]), by(&barely, &[])]).await, vec![Verdict::Accepted; 2]);
    small.status_when("both are there", |status| status["head"] == 2);
    for (event, way) in [(fits, "!!cert-m!!cert-c!cert-d"), (barely, "!!cert-m!cert-c!cert-d")] {
        let show = small.expect(0, &["show", &event.header().id.to_string()]);
        assert_eq!(line(&show, "way "), way, "{show}");
        let show = node.expect(0, &["show", &event.header().id.to_string()]);
        assert_eq!(line(&show, "way "), "!!cert-m!!cert-c", "{show}");
    }
}
