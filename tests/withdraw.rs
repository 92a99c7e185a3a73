//! Withdrawal, through the program: it follows the event to every node that has it, and to no other; whichever comes
//! first, and whoever was away.

#![allow(clippy::unwrap_used)] // A test that fails may panic, in what it calls too.

#[path = "support/hand.rs"]
#[allow(dead_code)] // Other tests use the rest of it.
mod hand;
#[path = "support/redis.rs"]
#[allow(dead_code)]
mod redis_server;
#[path = "support/relay.rs"]
#[allow(dead_code)]
mod relay;

use std::collections::BTreeSet;
use std::fs;

use bytes::Bytes;
use hand::{Hand, by, sealed, sealed_fields, secret};
use intelmq_relay::envelope::{Sealed, Secret, Tlp};
use intelmq_relay::link::{Answer, Done, Frame, From, Mode, Offer, Verdict, Want, pack};
use redis_server::Redis;
use relay::{Relay, wait_for, wait_until};
use serde_json::{Value, json};
use uuid::Uuid;

const TELLS: &str = "withdrawals = \"event\"";

fn source(node: &Relay, seal: &str) {
    fs::create_dir(node.path("in")).ok();
    node.and(&format!("[[take.files]]\nname = \"from-intelmq\"\ndirectory = \"in\"\n[take.files.seal]\n{seal}"));
}

fn door(node: &Relay, name: &str, events: &str) {
    fs::create_dir(node.path(&format!("out-{name}"))).unwrap();
    node.and(&format!(
        "[[give.files]]\nname = \"{name}\"\ndirectory = \"out-{name}\"\n[give.files.events]\nshape = \"extra\"\n\
         harmonization = \"builtin\"\n{events}"
    ));
}

fn drop_in(node: &Relay, number: u64, more: Value) {
    let mut event = json!({
        "source.ip": "192.0.2.1", "classification.type": "spam", "feed.name": "test",
        "time.source": "2026-11-24T10:00:00+00:00", "extra.number": number,
    });
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let hidden = node.path(&format!("in/.{number}"));
    fs::write(&hidden, format!("{event}\n")).unwrap();
    fs::rename(hidden, node.path(&format!("in/{number}.jsonl"))).unwrap();
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn given_by(node: &Relay, door: &str) -> Vec<Value> {
    lines(&fs::read_to_string(node.path(&format!("out-{door}/events.jsonl"))).unwrap_or_default())
}

fn export(node: &Relay) -> Vec<Value> {
    lines(&node.expect(0, &["export"]))
}

/// The id under which a node's log has this event.
fn id_of(node: &Relay, number: u64) -> String {
    wait_for("it is in the log", || {
        let all = export(node);
        let found = all.iter().find(|message| message["payload"]["extra.number"] == number)?;
        Some(found["meta"]["uuid"].as_str().unwrap().to_owned())
    })
}

fn head_is(node: &Relay, head: u64) {
    node.status_when("all is there, and passed by the doors", |status| {
        let idle = |peer: &Value| peer["behind"] == 0 && peer["unanswered"] == 0 && peer["taking"] == false;
        status["head"] == head
            && status["sinks"].as_object().unwrap().values().all(|sink| sink["seq"] == head)
            && status["peers"].as_object().unwrap().values().all(|peer| peer["linked"] == false || idle(peer))
    });
}

fn why(node: &Relay, id: &str, name: &str) -> Value {
    let answers = lines(&node.expect(0, &["why", "--json", id]));
    answers.iter().find(|answer| answer["name"] == name).cloned().unwrap_or_else(|| panic!("no {name}: {answers:?}"))
}

fn refused(rule: &str) -> Verdict {
    Verdict::Refused(rule.into())
}

/// A seals, E only passes on, C and D deliver.
#[test]
fn what_is_withdrawn_while_a_node_is_down_is_never_delivered_there() {
    let [mut a, mut e, mut c, mut d] = ["cert-a", "cert-e", "cert-c", "cert-d"].map(Relay::init);
    source(&a, "tlp = \"CLEAR\"");
    a.peer(&e, "community");
    for other in [&a, &c, &d] {
        e.peer(other, "community");
    }
    for node in [&c, &d] {
        node.peer(&e, "community");
        node.and(&format!("[[origin]]\nname = \"cert-a\"\nkey = \"{}\"", a.key));
        door(node, "told", TELLS);
        door(node, "plain", "");
    }
    for node in [&mut a, &mut e, &mut c, &mut d] {
        node.start();
    }
    a.linked("cert-e");
    drop_in(&a, 1, json!({}));
    for node in [&e, &c, &d] {
        head_is(node, 1);
    }
    c.terminate();
    drop_in(&a, 2, json!({"extra.hush": "s3cret"}));
    head_is(&e, 2);
    head_is(&d, 2);
    let id = id_of(&a, 2);
    let said = a.expect(0, &["withdraw", &format!("cert-a:intelmq:{id}"), "--reason", "a \"false\" alarm"]);
    assert!(said.contains(&format!("{id} is withdrawn, by ")), "{said}");
    drop_in(&a, 3, json!({}));
    for node in [&a, &e, &d] {
        head_is(node, 4);
    }

    // Everybody's log says so.
    let show = d.expect(0, &["show", &id]);
    for says in ["withdrawn by its origin", &format!("withdraws {id}"), "  reason = \"a \\\"false\\\" alarm\""] {
        assert!(show.contains(says), "{says} is not in\n{show}");
    }
    let tail = d.expect(0, &["tail", "--no-follow"]);
    assert!(tail.contains(" fields, withdrawn)") && tail.contains(&format!(", withdraws {id})")), "{tail}");
    let marked = export(&d).into_iter().find(|message| message["meta"]["uuid"] == *id).unwrap();
    assert_eq!(marked["meta"]["relay:withdrawn"], true);
    let explained = d.expect(0, &["why", &id]);
    assert!(explained.contains(", withdrawn, stored"), "{explained}");

    // D had it, and one of its doors tells.
    let told = given_by(&d, "told");
    let by_now: Vec<&Value> = told.iter().map(|event| &event["classification.type"]).collect();
    assert_eq!(by_now, ["spam", "spam", "other", "spam"], "{told:#?}");
    assert_eq!(told[2]["extra.relay.withdraws"], *id);
    assert_eq!(told[2]["extra.relay.origin"], "cert-a");
    assert_eq!(told[2]["classification.identifier"], "withdrawn");
    assert_eq!(told[2]["event_description.text"], "a \"false\" alarm");
    assert_eq!(given_by(&d, "plain").len(), 3, "the other does not");
    assert_eq!(why(&d, &id, "told")["fate"], "delivered");

    // C gets the withdrawal and what came after it, and never the event.
    c.start();
    c.linked("cert-e");
    head_is(&c, 3);
    for door in ["told", "plain"] {
        let numbers: Vec<u64> =
            given_by(&c, door).iter().map(|event| event["extra.number"].as_u64().unwrap()).collect();
        assert_eq!(numbers, [1, 3], "{door}: an event that was not given is not told of");
    }
    let log = c.expect(0, &["export"]);
    assert!(!log.contains("s3cret") && log.contains("\"relay:withdraws\""), "{log}");
    let withheld = why(&e, &id, "cert-c");
    assert_eq!((&withheld["fate"], &withheld["reason"]), (&json!("withheld"), &json!("withdrawn")));
    let withdrawal = export(&c).iter().find(|message| message["type"] == "withdrawal").cloned().unwrap();
    let withdrawal = withdrawal["meta"]["uuid"].as_str().unwrap().to_owned();
    assert_eq!(why(&c, &withdrawal, "told")["reason"], "not-given");
    assert_eq!(why(&c, &withdrawal, "plain")["reason"], "withdrawals");

    // E, which only passes on, purges: the event's id, header and seal stay.
    assert!(e.expect(0, &["export"]).contains("s3cret"));
    let other = id_of(&a, 1);
    let not_withdrawn = e.expect(1, &["purge", &other]);
    assert!(not_withdrawn.contains("is not withdrawn"), "{not_withdrawn}");
    let said = e.expect(0, &["purge", &id]);
    assert!(said.contains("is purged: 1 copies"), "{said}");
    assert!(e.expect(0, &["purge", &id]).contains("there are no fields of it here"));
    for _ in 0..2 {
        assert!(!e.expect(0, &["export"]).contains("s3cret"));
        let show = e.expect(0, &["show", &id]);
        for says in [&*format!("cert-a:intelmq:{id}"), "seal      valid", "withdrawn by its origin", "(hidden)"] {
            assert!(show.contains(says), "{says} is not in\n{show}");
        }
        e.terminate();
        e.start();
    }
}

/// A node that purges by itself, as it comes and what it finds when it starts.
#[test]
fn a_node_that_is_set_so_purges_at_once() {
    let [mut a, mut e] = ["cert-a", "cert-e"].map(Relay::init);
    source(&a, "tlp = \"CLEAR\"");
    a.peer(&e, "community");
    e.peer(&a, "community");
    a.start();
    e.start();
    drop_in(&a, 1, json!({"extra.hush": "f1rst"}));
    drop_in(&a, 2, json!({"extra.hush": "s3cond"}));
    head_is(&e, 2);
    a.expect(0, &["withdraw", &id_of(&a, 1), "--reason", "x"]);
    head_is(&e, 3);
    assert!(e.expect(0, &["export"]).contains("f1rst"), "not by default");
    e.terminate();
    e.and("[store]\npurge_withdrawn = true");
    e.start();
    let second = id_of(&e, 2);
    wait_until("it is purged at the start", || !e.expect(0, &["export"]).contains("f1rst"));
    a.expect(0, &["withdraw", &second, "--reason", "x"]);
    wait_until("it is purged as it comes", || !e.expect(0, &["export"]).contains("s3cond"));
    e.terminate();
    assert_eq!(export(&e).len(), 4);
}

#[test]
fn only_the_origin_withdraws_and_replaces() {
    let [mut a, mut b] = ["cert-a", "cert-b"].map(Relay::init);
    for node in [&a, &b] {
        source(node, "tlp = \"CLEAR\"");
    }
    a.peer(&b, "community");
    b.peer(&a, "community");
    door(&b, "told", TELLS);
    a.start();
    b.start();
    a.linked("cert-b");
    drop_in(&a, 1, json!({}));
    head_is(&b, 1);
    let first = id_of(&b, 1);
    let not_ours = b.expect(1, &["withdraw", &first, "--reason", "x"]);
    assert!(not_ours.contains("only an event's origin can withdraw it"), "{not_ours}");
    let nobody = a.expect(1, &["withdraw", &Uuid::new_v4().to_string(), "--reason", "x"]);
    assert!(nobody.contains("no event that this node has sealed"), "{nobody}");
    let why_not = a.expect(1, &["withdraw", &first, "--reason", " "]);
    assert!(why_not.contains("says why"), "{why_not}");

    // Replaced: the new one and the withdrawal come together.
    let file = a.path("new.json");
    fs::write(&file, json!({"classification.type": "spam", "extra.number": 2, "source.ip": "192.0.2.2"}).to_string())
        .unwrap();
    let said = a.expect(0, &["replace", &first, "new.json"]);
    head_is(&b, 3);
    let second = id_of(&b, 2);
    assert!(said.contains(&format!("{first} is withdrawn, and replaced by {second}")), "{said}");
    let new = export(&b).into_iter().find(|message| message["meta"]["uuid"] == *second).unwrap();
    assert_eq!(new["meta"]["relay:replaces"], *first);
    let twice = a.expect(1, &["withdraw", &first, "--reason", "x"]);
    assert!(twice.contains("is withdrawn already"), "{twice}");

    // From IntelMQ: an event that names one of ours, and one that names another's.
    drop_in(&a, 3, json!({"extra.relay.replaces": second}));
    head_is(&b, 5);
    let third = id_of(&b, 3);
    drop_in(&a, 4, json!({"extra.relay.withdraws": third, "event_description.text": "no more"}));
    head_is(&b, 6);
    drop_in(&b, 5, json!({"extra.relay.withdraws": third}));
    drop_in(&b, 6, json!({"extra.relay.replaces": third}));
    let held = wait_for("both are in quarantine", || {
        let held = lines(&b.expect(0, &["quarantine", "list", "--json"]));
        (held.len() == 2).then_some(held)
    });
    for item in held {
        assert!(item["reason"].as_str().unwrap().contains("only an event's origin"), "{item}");
    }
    head_is(&b, 6);
    let told = given_by(&b, "told");
    let told: BTreeSet<(&str, &str)> = told
        .iter()
        .filter_map(|event| Some((event["extra.relay.withdraws"].as_str()?, event["event_description.text"].as_str()?)))
        .collect();
    assert_eq!(told, [(&*first, "replaced"), (&*second, "replaced"), (&*third, "no more")].into());
}

/// The door has read it, and waits for its queue to get shorter.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_withdrawn_while_the_door_waits_is_not_given() {
    let redis = Redis::start();
    let mut node = Relay::init("cert-c");
    let events = format!("events = {{ {TELLS}, harmonization = \"none\" }}");
    node.gives(&redis.config(), "in", &format!("high_water = 2\n{events}"));
    let mut hand = Hand::listed_by(&node, "cert-m");
    node.start();
    hand.link(&node).await;
    let ours = secret("cert-m");
    let event = |number| sealed(&ours, "cert-m", number, |_| {});
    let (first, second, third) = (event(1), event(2), event(3));
    redis.push("in", &["other", "other"]);
    hand.give(&[by(&first, &[]), by(&second, &[])]).await;
    node.says("slower than what comes");
    hand.give(&[by(&withdrawal(&ours, "cert-m", &first), &[]), by(&third, &[])]).await;
    wait_until("the door looks again", || node.log_text().matches("slower than what comes").count() == 2);
    redis::cmd("DEL").arg("in").exec(&mut redis.connect()).unwrap();
    node.status_when("all is passed", |status| status["sinks"]["to-in"]["seq"] == 4);
    let given = redis.items("in");
    let numbers: Vec<Value> =
        given.iter().map(|item| serde_json::from_str::<Value>(item).unwrap()["extra.number"].clone()).collect();
    assert_eq!(numbers, [2, 3], "{given:?}");
    assert_eq!(why(&node, &first.header().id.to_string(), "to-in")["fate"], "withdrawn");
}

/// A node between cert-m, which brings, and cert-n, which gets everything from the beginning.
async fn between_hands() -> (Relay, Hand, Hand) {
    let mut node = Relay::init("cert-c");
    let (mut brings, mut gets) = (Hand::listed_by(&node, "cert-m"), Hand::listed_by(&node, "cert-n"));
    node.start();
    brings.link(&node).await;
    gets.link_from(&node, From::All).await;
    assert!(matches!(gets.receive().await, Some(Frame::Pull(_))));
    // First it is told where it begins.
    assert!(matches!(gets.receive().await, Some(Frame::Beat(_))));
    (node, brings, gets)
}

/// What was offered and not fetched when the withdrawal came.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_offered_is_not_given_any_more() {
    let (node, mut brings, mut gets) = between_hands().await;
    let ours = secret("cert-m");
    let event = sealed(&ours, "cert-m", 1, |header| header.tlp = Some(Tlp::Clear));
    assert_eq!(brings.give(&[by(&event, &[])]).await, [Verdict::Accepted]);
    let Some(Frame::Batch(batch)) = gets.receive().await else { panic!("it is offered") };
    assert_eq!(brings.give(&[by(&withdrawal(&ours, "cert-m", &event), &[])]).await, [Verdict::Accepted]);
    let Some(Frame::Batch(next)) = gets.receive().await else { panic!("the withdrawal is offered") };
    gets.send(Frame::Want(Want { no: batch.no, answers: vec![(0, Answer::Want)] })).await;
    let Some(Frame::Bodies(bodies)) = gets.receive().await else { panic!("an answer") };
    assert_eq!(bodies.packed, pack(&[(0, Bytes::new())]), "nothing in its place");
    for no in [batch.no, next.no] {
        gets.send(Frame::Done(Done { no, verdicts: vec![Verdict::Later], mode: Mode::Offer })).await;
    }
    let told = why(&node, &event.header().id.to_string(), "cert-n");
    assert_eq!((&told["fate"], &told["reason"]), (&json!("withheld"), &json!("withdrawn")), "{told}");
}

fn withdrawal(secret: &Secret, origin: &str, event: &Sealed) -> Sealed {
    sealed_fields(secret, origin, vec![("reason".into(), "\"x\"".into())], |header| {
        let of = event.header().withdrawal(header.id, header.time);
        (header.kind, header.links, header.tlp) = (of.kind, of.links, of.tlp);
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn in_both_orders_and_by_nobody_else() {
    let mut node = Relay::init("cert-c");
    door(&node, "told", TELLS);
    let (mut hand, mut other) = (Hand::listed_by(&node, "cert-m"), Hand::listed_by(&node, "cert-n"));
    let origin = secret("cert-o");
    node.and(&format!("[[origin]]\nname = \"cert-o\"\nkey = \"{}\"", origin.key()));
    node.start();
    hand.link(&node).await;
    other.link(&node).await;
    let clear = |number| sealed(&origin, "cert-o", number, |header| header.tlp = Some(Tlp::Clear));
    let way = |sealed: &Sealed| by(sealed, &["cert-m"]);

    let (known, late, both, kept) = (clear(1), clear(2), clear(3), clear(4));
    assert_eq!(hand.give(&[way(&known), way(&kept)]).await, [Verdict::Accepted, Verdict::Accepted]);
    node.status_when("they are delivered", |status| status["sinks"]["told"]["seq"] == 2);
    // By the relay that brings it, as itself and in the origin's name; by another peer; and of what the node has not.
    let ours = secret("cert-m");
    assert_eq!(hand.give(&[by(&withdrawal(&ours, "cert-m", &kept), &[])]).await, [refused("not-its-origin")]);
    assert_eq!(hand.give(&[way(&withdrawal(&ours, "cert-o", &kept))]).await, [refused("other-key")]);
    let mut forged = way(&withdrawal(&origin, "cert-o", &late)).to_vec();
    let at = forged.windows(16).position(|part| part == late.header().id.as_bytes()).unwrap();
    forged[at..at + 16].copy_from_slice(kept.header().id.as_bytes());
    assert_eq!(hand.give(&[forged.into()]).await, [Verdict::BadSignature]);
    let theirs = secret("cert-n");
    assert_eq!(other.give(&[by(&withdrawal(&theirs, "cert-n", &late), &[])]).await, [Verdict::Accepted]);

    // After its event; before it, alone and in one batch; and offered.
    let bytes: Vec<Bytes> =
        [&withdrawal(&origin, "cert-o", &known), &withdrawal(&origin, "cert-o", &late)].map(way).to_vec();
    assert_eq!(hand.give(&bytes).await, [Verdict::Accepted, Verdict::Accepted]);
    let offer = Offer(0, "cert-o".parse().unwrap(), late.header().id, 900, 0);
    let (answers, _) = hand.batch(vec![offer], &[]).await;
    assert_eq!(answers, [(0, Answer::Refuse(Verdict::Withdrawn))]);
    assert_eq!(hand.give(&[way(&late)]).await, [Verdict::Withdrawn]);
    assert_eq!(
        hand.give(&[way(&withdrawal(&origin, "cert-o", &both)), way(&both)]).await,
        [Verdict::Accepted, Verdict::Withdrawn]
    );
    let again = clear(5);
    assert_eq!(hand.give(&[way(&again)]).await, [Verdict::Accepted]);
    let status = node.status_when("all is passed", |status| status["sinks"]["told"]["seq"] == status["head"]);
    assert_eq!(status["head"], 7, "{status:#}");

    let given: Vec<Value> = given_by(&node, "told");
    let numbers: Vec<&Value> = given.iter().map(|event| &event["extra.number"]).collect();
    assert_eq!(numbers, [&json!(1), &json!(4), &Value::Null, &json!(5)], "{given:#?}");
    assert_eq!(given[2]["extra.relay.withdraws"], known.header().id.to_string());
    let refusal = node.expect(0, &["why", &late.header().id.to_string()]);
    assert!(refusal.contains("refused: withdrawn"), "{refusal}");
    let refusal = node.expect(0, &["why", &both.header().id.to_string()]);
    assert!(refusal.contains("refused: withdrawn"), "though they came together: {refusal}");

    // It is remembered, though the node was down.
    drop(hand);
    node.terminate();
    node.start();
    let mut hand = Hand::known("cert-m");
    hand.link(&node).await;
    assert_eq!(hand.give(&[way(&late)]).await, [Verdict::Withdrawn]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_given_an_event_is_told_whatever_the_rules_are_today() {
    let (node, mut brings, mut gets) = between_hands().await;
    let ours = secret("cert-m");
    let [before, after] = [1, 2].map(|number| sealed(&ours, "cert-m", number, |header| header.tlp = Some(Tlp::Clear)));
    let withdrawals = [&before, &after].map(|event| withdrawal(&ours, "cert-m", event));
    assert_eq!(brings.give(&[by(&before, &[])]).await, [Verdict::Accepted]);
    assert_eq!(offered(&mut gets, 1).await, [before.header().id]);
    node.status_when("it has answered", |status| status["peers"]["cert-n"]["given"]["verdicts"]["accepted"] == 1);
    // Nothing more for anybody.
    node.configure(&node.configuration().replace("give = \"community\"", "give = \"none\""));
    node.signal(rustix::process::Signal::HUP);
    node.says("configuration read again");
    assert_eq!(brings.give(&[by(&after, &[])]).await, [Verdict::Accepted]);
    let all = [&withdrawals[1], &withdrawals[0]].map(|sealed| by(sealed, &[]));
    assert_eq!(brings.give(&all).await, [Verdict::Accepted, Verdict::Accepted]);
    assert_eq!(offered(&mut gets, 1).await, [withdrawals[0].header().id]);
    let status = node.status_when("it counts", |status| status["peers"]["cert-n"]["behind"] == 0);
    assert_eq!(status["peers"]["cert-n"]["withheld"], json!({"nothing-given": 2}), "{status:#}");
}

/// What a peer is offered until it was offered this many.
async fn offered(hand: &mut Hand, most: usize) -> Vec<Uuid> {
    let mut ids = Vec::new();
    while ids.len() < most {
        match hand.receive().await.expect("the link stands") {
            Frame::Batch(batch) => {
                assert!(batch.whole.is_empty(), "only what is passed on");
                ids.extend(batch.offers.iter().map(|offer| offer.2));
                let verdicts = vec![Verdict::Accepted; batch.offers.len()];
                hand.send(Frame::Done(Done { no: batch.no, verdicts, mode: Mode::Offer })).await;
            }
            Frame::Beat(_) => {}
            other => panic!("{other:?}"),
        }
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_have_an_event_never_sees_its_id() {
    let (node, mut brings, mut gets) = between_hands().await;
    let ours = secret("cert-m");
    let event = |number, tlp| sealed(&ours, "cert-m", number, |header| header.tlp = Some(tlp));
    let (amber, clear, last) = (event(1, Tlp::Amber), event(2, Tlp::Clear), event(3, Tlp::Clear));
    let never_had = event(4, Tlp::Clear);
    // Labelled as wide as can be: it is the event that counts.
    let widened = |of: &Sealed| {
        let mut of = withdrawal(&ours, "cert-m", of);
        if of.header().tlp != Some(Tlp::Clear) {
            let event = amber.header().clone();
            of = sealed_fields(&ours, "cert-m", vec![("reason".into(), "\"x\"".into())], |header| {
                let withdrawal = event.withdrawal(header.id, header.time);
                (header.kind, header.links, header.tlp) = (withdrawal.kind, withdrawal.links, Some(Tlp::Clear));
            });
        }
        of
    };
    let (of_amber, of_clear, of_none) = (widened(&amber), widened(&clear), widened(&never_had));
    let all = [&amber, &clear].map(|sealed| by(sealed, &[]));
    assert_eq!(brings.give(&all).await, [Verdict::Accepted, Verdict::Accepted]);
    assert_eq!(offered(&mut gets, 1).await, [clear.header().id]);
    let all = [&of_amber, &of_none, &of_clear, &last].map(|sealed| by(sealed, &[]));
    assert_eq!(brings.give(&all).await, [(); 4].map(|()| Verdict::Accepted));
    assert_eq!(offered(&mut gets, 2).await, [of_clear.header().id, last.header().id]);
    let status = node.status_when("it counts", |status| status["peers"]["cert-n"]["behind"] == 0);
    let withheld = &status["peers"]["cert-n"]["withheld"];
    assert_eq!((&withheld["tlp-amber"], &withheld["no-event"]), (&json!(2), &json!(1)), "{status:#}");
    wait_until("nothing waits", || node.status()["peers"]["cert-n"]["unanswered"] == 0);
}
