//! Rules in running nodes: what a peer is given and shown, what a reload takes back, what an operator has sent again, test
//! mode, and the dry runs, which say the same.

#![allow(clippy::unwrap_used)] // A test that fails may panic, in what it calls too.

#[path = "support/hand.rs"]
#[allow(dead_code)] // Other tests use the rest of it.
mod hand;
#[path = "support/relay.rs"]
#[allow(dead_code)]
mod relay;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;

use hand::{Hand, shown};
use intelmq_relay::envelope::{Bounds, Envelope};
use intelmq_relay::link::{Answer, Done, Frame, From, Mode, Offer, Verdict, Want};
use rand::{RngExt, SeedableRng};
use relay::{Relay, wait_until};
use serde_json::Value;

/// An event of this number: every second one is of the secret feed.
fn event(number: usize) -> String {
    let feed = if number.is_multiple_of(2) { "open" } else { "secret" };
    format!(
        "{{\"feed.name\": \"{feed}\", \"classification.type\": \"scanner\", \"source.ip\": \"192.0.2.{}\", \
         \"extra.number\": {number}, \"extra.mark\": \"{}{number:06}\", \"raw\": \"QUJD\", \"tlp\": \"GREEN\"}}\n",
        number % 250,
        &feed[..4]
    )
}

/// A node that takes files from `in` and writes what others send to `out`.
fn node(name: &str) -> Relay {
    let node = Relay::init(name);
    fs::create_dir_all(node.path("in")).unwrap();
    fs::create_dir_all(node.path("out")).unwrap();
    node.and("[[take.files]]\nname = \"in\"\ndirectory = \"in\"");
    node.and("[[give.files]]\nname = \"out\"\ndirectory = \"out\"\nevents.shape = \"iep04\"");
    node
}

/// Gives these events to a node, as its IntelMQ would.
fn put(node: &Relay, file: &str, events: &str) {
    fs::write(node.path(&format!("in/.{file}")), events).unwrap();
    fs::rename(node.path(&format!("in/.{file}")), node.path(&format!("in/{file}.jsonl"))).unwrap();
}

/// The numbers of the events that came out at a node, each once, with the number of hidden fields.
fn out(node: &Relay) -> BTreeMap<u64, u64> {
    let text = fs::read_to_string(node.path("out/events.jsonl")).unwrap_or_default();
    // The last line may be being written.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let mut found = BTreeMap::new();
    for line in whole.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let number = event["payload"]["extra.number"].as_u64().unwrap();
        let hidden = event["meta"]["relay:hidden"].as_u64().unwrap_or(0);
        assert_eq!(found.insert(number, hidden), None, "event {number} came twice");
    }
    found
}

const NO_SECRETS: &str = "[[rules.no-secrets]]\nname = \"secret\"\ndo = \"poison\"\nfields = { \"feed.name\" = \"secret\" }\n\
     [[rules.no-secrets]]\ndo = \"hide\"\nhide = [\"raw\"]\n";

/// The frames that bring everything that a node has for a hand, in plain text, and as they would be without what is
/// random in them.
async fn everything(node: &Relay, name: &'static str, expected: usize) -> (Vec<u8>, Vec<String>) {
    let mut hand = Hand::known(name);
    hand.link_from(node, From::All).await;
    // When bodies come between the batches depends on when they were asked for.
    let (mut plain, mut shape, mut signatures, mut left) = (Vec::new(), Vec::new(), Vec::new(), BTreeMap::new());
    let (mut came, mut places) = (0, BTreeSet::new());
    while came < expected {
        let frame = hand.receive().await.expect("the node keeps the link");
        plain.extend(frame.encode());
        match frame {
            Frame::Batch(batch) => {
                assert!(batch.whole.is_empty(), "what was there before the link is offered");
                assert_eq!(batch.token.len(), 64);
                let slots: Vec<u16> = batch.offers.iter().map(|offer| offer.0).collect();
                shape.push(format!("batch {} with {slots:?}", batch.no));
                left.insert(batch.no, (slots.len(), slots.len()));
                let answers = slots.into_iter().map(|slot| (slot, Answer::Want)).collect();
                hand.send(Frame::Want(Want { no: batch.no, answers })).await;
            }
            Frame::Bodies(bodies) => {
                let unpacked = zstd::stream::decode_all(&bodies.packed[..]).unwrap();
                let list: Vec<(u16, serde_bytes::ByteBuf)> = serde_cbor::from_slice(&unpacked).unwrap();
                plain.extend(unpacked);
                came += list.len();
                for (_, body) in &list {
                    let envelope = Envelope::decode(body.to_vec().into(), &Bounds::default()).unwrap();
                    places.insert(envelope.seal().index);
                    signatures.push(format!("one of {} under a signature", envelope.seal().count));
                }
                let (missing, all) = left.get_mut(&bodies.no).unwrap();
                *missing -= list.len();
                if *missing == 0 {
                    let verdicts = vec![Verdict::Accepted; *all];
                    hand.send(Frame::Done(Done { no: bodies.no, verdicts, mode: Mode::Offer })).await;
                }
            }
            Frame::Pull(_) | Frame::Beat(_) => {}
            other => panic!("{other:?}"),
        }
    }
    // Every second one is withheld.
    assert!(places.len() > 60, "they are everywhere in their batches, not in some places only: {places:?}");
    shape.append(&mut signatures);
    (plain, shape)
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_withheld_does_not_show_in_what_a_peer_receives() {
    const GIVEN: usize = 1300;
    let mut shapes = Vec::new();
    for with_secrets in [true, false] {
        let mut node = node("cert-a");
        node.and(NO_SECRETS);
        let key = hand::secret("cert-h").key();
        node.and(&format!("[[peer]]\nname = \"cert-h\"\nkey = \"{key}\"\ngive = [\"no-secrets\", \"community\"]\n"));
        node.start();
        let numbers = (0..2 * GIVEN).filter(|number| with_secrets || number.is_multiple_of(2));
        let count = numbers.clone().count();
        put(&node, "all", &numbers.map(event).collect::<String>());
        node.status_when("all are sealed", |status| status["head"] == count);
        let (plain, shape) = everything(&node, "cert-h", GIVEN).await;

        let log = node.expect(0, &["export"]);
        let (ids, marks): (HashSet<&[u8]>, HashSet<&[u8]>) = (plain.windows(16).collect(), plain.windows(10).collect());
        for line in log.lines() {
            let entry: Value = serde_json::from_str(line).unwrap();
            let id: uuid::Uuid = entry["meta"]["uuid"].as_str().unwrap().parse().unwrap();
            let mark = entry["payload"]["extra.mark"].as_str().unwrap();
            let open = mark.starts_with("open");
            assert_eq!(ids.contains(&id.as_bytes()[..]), open, "{id}");
            assert_eq!(marks.contains(mark.as_bytes()), open, "{mark}");
        }
        assert!(!has(&plain, b"secret") && !has(&plain, b"QUJD"), "a word of what is not given");
        shapes.push(shape);
    }
    assert_eq!(shapes[0], shapes[1], "the frames are those of a node that has nothing else");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tighter_policy_holds_for_what_was_shown_and_a_looser_one_resends_nothing_by_itself() {
    let mut node = node("cert-a");
    node.and(NO_SECRETS);
    let mut hand = Hand::listed_by(&node, "cert-h");
    node.start();
    put(&node, "all", &(0..4).map(event).collect::<String>());
    node.status_when("all are sealed", |status| status["head"] == 4);
    hand.link_from(&node, From::All).await;
    let batch = hand.next_batch().await;
    assert_eq!(batch.offers.len(), 4);

    node.reload("give = \"community\"", "give = [\"no-secrets\", \"community\"]");
    node.status_when("it is decided anew", |status| {
        status["peers"]["cert-h"]["withheld"]["rule-no-secrets/secret"] == 2
    });
    let answers = (0..4).map(|slot| (slot, Answer::Want)).collect();
    hand.send(Frame::Want(Want { no: batch.no, answers })).await;
    let Some(Frame::Bodies(bodies)) = hand.receive().await else { panic!("no bodies") };
    let plain = zstd::stream::decode_all(&bodies.packed[..]).unwrap();
    let list: Vec<(u16, serde_bytes::ByteBuf)> = serde_cbor::from_slice(&plain).unwrap();
    let lengths: Vec<bool> = list.iter().map(|(_, body)| body.is_empty()).collect();
    assert_eq!(lengths, [false, true, false, true]);
    assert!(!has(&plain, b"secret") && !has(&plain, b"QUJD"), "what is not given any more, or hidden now");
    let verdicts = [Verdict::Accepted, Verdict::Later, Verdict::Accepted, Verdict::Later].to_vec();
    hand.send(Frame::Done(Done { no: batch.no, verdicts, mode: Mode::Offer })).await;
    node.status_when("it is answered", |status| status["peers"]["cert-h"]["unanswered"] == 0);
    for (Offer(slot, _, id, ..), fate) in batch.offers.iter().zip(["given", "withheld", "given", "withheld"]) {
        let answer = node.expect(0, &["why", "--json", "--peer", "cert-h", &id.to_string()]);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["fate"], fate, "{slot}: {answer}");
    }

    node.reload("give = [\"no-secrets\", \"community\"]", "give = \"community\"");
    put(&node, "more", &event(4));
    // Only the new one comes, on the same link.
    let batch = hand.next_batch().await;
    assert_eq!((batch.no, shown(&batch)), (2, 1));
    hand.send(Frame::Done(Done { no: 2, verdicts: vec![Verdict::Accepted], mode: Mode::Offer })).await;
    let status = node.status();
    assert_eq!(status["peers"]["cert-h"]["links"], 1);

    // Until an operator wants it.
    node.expect(0, &["resend", "--peer", "cert-h", "--since", "2026-01-01T00:00:00Z"]);
    assert_eq!(shown(&hand.next_batch().await), 5);
    // The link ends before it is answered: the next one begins there.
    hand.link_from(&node, From::Now).await;
    assert_eq!(hand.next_batch().await.offers.len(), 5);
    let said = node.expect(1, &["resend", "--peer", "nobody", "--since", "2026-01-01T00:00:00Z"]);
    assert!(said.contains("there is no peer nobody: `intelmq-relay peer list`"), "{said}");
}

/// A peer asks for everything and does not read: what is not on its way when policy changes does not go.
#[tokio::test(flavor = "multi_thread")]
async fn a_tighter_policy_holds_for_what_a_slow_peer_has_asked_for() {
    const EVENTS: u16 = 12;
    let mut node = node("cert-a");
    node.and(NO_SECRETS);
    let mut hand = Hand::listed_by(&node, "cert-h");
    node.start();
    let noise = |number: u64| -> String {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(number);
        (0..600_000).map(|_| char::from(rng.random_range(b'a'..=b'z'))).collect()
    };
    let text = |number: u16| format!("{{\"feed.name\": \"secret\", \"extra.noise\": \"{}\"}}\n", noise(number.into()));
    put(&node, "all", &(0..EVENTS).map(text).collect::<String>());
    node.status_when("all are sealed", |status| status["head"] == EVENTS);
    hand.link_from(&node, From::All).await;
    let mut open = BTreeMap::new();
    while open.values().sum::<usize>() < usize::from(EVENTS) {
        if let Frame::Batch(batch) = hand.receive().await.unwrap() {
            open.insert(batch.no, batch.offers.len());
        }
    }
    for (&no, &offers) in &open {
        let answers = (0..offers as u16).map(|slot| (slot, Answer::Want)).collect();
        hand.send(Frame::Want(Want { no, answers })).await;
    }
    node.status_when("all are asked for", |status| status["peers"]["cert-h"]["given"]["sent"] == EVENTS);
    node.reload("give = \"community\"", "give = [\"no-secrets\", \"community\"]");
    let withheld = |status: &Value| status["peers"]["cert-h"]["withheld"]["rule-no-secrets/secret"].as_u64();
    node.status_when("it is decided anew", |status| withheld(status).is_some());
    let mut lengths = Vec::new();
    while lengths.len() < usize::from(EVENTS) {
        if let Frame::Bodies(bodies) = hand.receive().await.unwrap() {
            let plain = zstd::stream::decode_all(&bodies.packed[..]).unwrap();
            let list: Vec<(u16, serde_bytes::ByteBuf)> = serde_cbor::from_slice(&plain).unwrap();
            lengths.extend(list.iter().map(|(_, body)| body.len()));
        }
    }
    let gone = lengths.iter().filter(|length| **length == 0).count();
    println!("{gone} of {EVENTS} were taken back");
    assert!(gone > 0 && lengths.last() == Some(&0), "{lengths:?}");
}

#[test]
fn rules_decide_on_both_sides_and_links_stay_up() {
    let (mut a, mut b) = (node("cert-a"), node("cert-b"));
    a.and(NO_SECRETS);
    a.peer(&b, "community");
    b.peer(&a, "none");
    let text = a.configuration().replace("give = \"community\"", "give = [\"no-secrets\", \"community\"]");
    a.configure(&text);
    b.and("[[rules.even]]\nname = \"mid\"\ndo = \"deny\"\nfields = { \"extra.number\" = { range = [10, 13] } }");
    b.configure(&b.configuration().replace("give = \"none\"", "give = \"none\"\ntake = [\"even\", \"all\"]"));
    a.start();
    b.start();
    b.linked("cert-a");
    put(&a, "first", &(0..10).map(event).collect::<String>());
    wait_until("the open ones are there", || out(&b).len() == 5);
    assert_eq!(out(&b), (0..5).map(|n| (2 * n, 1)).collect());

    // The set goes on to the next one where it denies.
    put(&a, "second", &(10..14).map(event).collect::<String>());
    wait_until("the others are there", || out(&b).len() == 7);
    b.reload("take = [\"even\", \"all\"]", "take = [\"even\"]");
    put(&a, "third", &(10..16).map(event).collect::<String>());
    let status = a.status_when("b has refused", |status| {
        let verdicts = &status["peers"]["cert-b"]["given"]["verdicts"];
        verdicts["refused:rule-even/mid"] == 2 && verdicts["refused:no-rule"] == 1
    });
    assert_eq!(status["peers"]["cert-b"]["withheld"]["rule-no-secrets/secret"], 10);
    assert_eq!(status["peers"]["cert-b"]["links"], 1);
    assert_eq!(out(&b).len(), 7);
}

#[test]
fn in_test_mode_only_tests_pass_until_both_lift_it() {
    let (mut a, mut b) = (node("cert-a"), node("cert-b"));
    a.peer(&b, "community");
    b.peer(&a, "community");
    for node in [&a, &b] {
        node.configure(&node.configuration().replace("give = \"community\"", "give = \"community\"\ntest = true"));
    }
    a.start();
    b.start();
    b.linked("cert-a");
    let test = |number: usize| event(number).replace("scanner", "test");
    put(&a, "first", &(event(0) + &test(1) + &event(2)));
    wait_until("the test is there", || out(&b).len() == 1);
    let status =
        a.status_when("the others are withheld", |status| status["peers"]["cert-b"]["withheld"]["test-mode"] == 2);
    assert_eq!(status["peers"]["cert-b"]["test"], serde_json::json!({"ours": true, "theirs": true}));

    // One side alone lifts nothing.
    a.reload("test = true", "test = false");
    let status = a.status_when("the link is new", |status| {
        let peer = &status["peers"]["cert-b"];
        peer["test"]["ours"] == false && peer["linked"] == true
    });
    assert_eq!(status["peers"]["cert-b"]["test"]["theirs"], true);
    put(&a, "second", &(test(3) + &event(4)));
    wait_until("the second test is there", || out(&b).len() == 2);
    // Counted since the link began anew.
    a.status_when("the other is withheld", |status| status["peers"]["cert-b"]["withheld"]["test-mode"] == 1);

    b.reload("test = true", "test = false");
    a.status_when("neither has it", |status| {
        let peer = &status["peers"]["cert-b"];
        peer["test"]["theirs"] == false && peer["linked"] == true
    });
    put(&a, "third", &event(5));
    wait_until("everything passes", || out(&b).contains_key(&5));
    assert_eq!(out(&b).into_keys().collect::<BTreeSet<_>>(), BTreeSet::from([1, 3, 5]));
    a.expect(0, &["resend", "--peer", "cert-b", "--since", "2026-01-01T00:00:00Z"]);
    wait_until("what was withheld is there", || out(&b).len() == 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_test_mode_refuses_is_not_said_to_be_refused_by_the_rule_that_would_take_it() {
    let node = node("cert-a");
    node.and("[[rules.scans]]\ndo = \"allow\"\nfields = { \"classification.type\" = \"scanner\" }\n");
    let mut hand = Hand::listed_by(&node, "cert-h");
    let terms = "give = \"community\"\ntake = [\"scans\"]\ntest = true";
    node.configure(&node.configuration().replace("give = \"community\"", terms));
    let mut node = node;
    node.start();
    hand.link(&node).await;
    let sealed = hand::sealed_text(&hand.secret, "cert-h", event(0).trim(), |_| {});
    let id = sealed.header().id.to_string();
    assert_eq!(hand.give(&[sealed.bytes().clone()]).await, [Verdict::Refused("test-mode".into())]);
    let said = node.expect(0, &["why", &id]);
    assert!(said.contains("refused: test-mode; it would be taken by scans/1 (relay.toml:"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_none_of_ours_is_no_way_around_the_first_contact() {
    let mut node = node("cert-a");
    let mut hand = Hand::listed_by(&node, "cert-h");
    node.configure(
        &node.configuration().replace("give = \"community\"", "give = \"community\"\nfirst_contact = \"now\""),
    );
    node.start();
    put(&node, "old", &(0..4).map(event).collect::<String>());
    node.status_when("all are sealed", |status| status["head"] == 4);
    hand.link_from(&node, From::Token(vec![7; 64].into())).await;
    let begun = |status: &Value| {
        let peer = &status["peers"]["cert-h"];
        peer["linked"] == true && peer["behind"] == 0
    };
    let status = node.status_when("it has begun behind them", begun);
    assert_eq!(status["peers"]["cert-h"]["unanswered"], 0);
    put(&node, "new", &event(5));
    let batch = hand.next_batch().await;
    assert_eq!(shown(&batch), 1, "what was there before: {:?}", batch.offers);
}

#[test]
fn first_contact_holds_for_what_is_given_too() {
    let (mut a, mut b) = (node("cert-a"), node("cert-b"));
    a.peer(&b, "community");
    b.peer(&a, "none");
    a.configure(&a.configuration().replace("give = \"community\"", "give = \"community\"\nfirst_contact = \"now\""));
    a.start();
    put(&a, "old", &event(0));
    a.status_when("it is sealed", |status| status["head"] == 1);
    b.start();
    b.linked("cert-a");
    a.linked("cert-b");
    a.status_when("b has begun behind it", |status| status["peers"]["cert-b"]["behind"] == 0);
    put(&a, "new", &event(2));
    wait_until("the new one is there", || out(&b).contains_key(&2));
    assert_eq!(out(&b).len(), 1);
    a.expect(0, &["resend", "--peer", "cert-b", "--since", "2026-01-01T00:00:00Z"]);
    wait_until("the old one is there", || out(&b).len() == 2);
}

#[test]
fn dry_runs_say_what_would_happen() {
    let mut a = node("cert-a");
    let b = node("cert-b");
    a.and(NO_SECRETS);
    a.peer(&b, "community");
    let loose = a.configuration();
    a.configure(&loose.replace("give = \"community\"", "give = [\"no-secrets\", \"community\"]"));
    let line = 1 + a.configuration().lines().position(|line| line == "[[rules.no-secrets]]").unwrap();
    fs::write(a.path("events"), event(0) + &event(1) + "no event\n" + &event(3).replace("GREEN", "RED")).unwrap();

    let output = a.command(&["policy", "test", "events", "--peer", "cert-b"]);
    assert_eq!(output.status.code(), Some(1), "a line is no event");
    let (told, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(said.starts_with("line 3: not JSON"), "{said}");
    let lines: Vec<Vec<&str>> = told.lines().map(|line| line.split_whitespace().collect()).collect();
    let secret = format!(
        "1 scanner 192.0.2.0 GREEN given, without raw|2 scanner 192.0.2.1 GREEN withheld by \
         no-secrets/secret (relay.toml:{line})|4 scanner 192.0.2.3 RED withheld: tlp-red|\
         1 given to cert-b, 2 withheld"
    );
    assert_eq!(lines.iter().map(|words| words.join(" ")).collect::<Vec<_>>().join("|"), secret);

    // As its door would have it: what is hidden before sealing is not there for anybody.
    a.and("[[take.files]]\nname = \"strict\"\ndirectory = \"strict\"\n[take.files.seal]\nhide = [\"feed.name\"]\ntlp = \"RED\"");
    fs::write(a.path("event"), event(1).replace(", \"tlp\": \"GREEN\"", "")).unwrap();
    for (door, expected) in
        [("in", "1 scanner 192.0.2.1 - withheld by"), ("strict", "1 scanner 192.0.2.1 RED withheld: tlp-red")]
    {
        let told = a.expect(0, &["policy", "test", "event", "--peer", "cert-b", "--door", door]);
        let words: Vec<&str> = told.split_whitespace().collect();
        assert!(words.join(" ").starts_with(expected), "{told}");
    }
    let json = a.expect(1, &["policy", "test", "events", "--peer", "cert-b", "--json"]);
    assert!(json.starts_with("line 3"));
    let said = a.expect(2, &["policy", "test", "events", "--peer", "cert-x"]);
    assert!(said.contains("there is no peer cert-x\n  `intelmq-relay peer list`"), "{said}");
    let said = a.expect(2, &["policy", "test", "nowhere", "--peer", "cert-b"]);
    assert!(said.contains("cannot read nowhere"), "{said}");

    // Of the log, of a running node and of its store; the same as what happens.
    a.start();
    put(&a, "first", &(event(0) + &event(1)));
    a.status_when("they are sealed", |status| status["head"] == 2);
    fs::write(a.path("loose.toml"), &loose).unwrap();
    for running in [true, false] {
        if !running {
            a.terminate();
        }
        let told = a.expect(0, &["policy", "test", "--peer", "cert-b", "--json"]);
        let told: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let given: Vec<(&Value, &Value, &Value)> =
            told.iter().map(|told| (&told["number"], &told["given"], &told["line"])).collect();
        assert_eq!(given, [(&1.into(), &true.into(), &Value::Null), (&2.into(), &false.into(), &line.into())]);
        let changes = a.expect(0, &["policy", "diff", "relay.toml", "loose.toml"]);
        let expected = "cert-b: of 2 events, 1 more would be given, 0 no longer, 1 with other fields hidden\n";
        assert_eq!(changes, expected);
        let changes = a.expect(0, &["policy", "diff", "loose.toml", "relay.toml", "--json"]);
        let changes: Vec<Value> = changes.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(changes.len(), 2);
        assert_eq!(changes[0]["new"]["hidden"], serde_json::json!(["raw"]));
        assert_eq!(changes[1]["new"]["rule"], "no-secrets/secret");
        assert_eq!(changes[1]["old"]["given"], true);
    }
}
