//! What would stop, block or make dump an IntelMQ's bots is put where events are expected: into the queue that a relay
//! takes from, and by a peer that is known and hostile. No real bot stops, gets stuck or dumps; the good events around it
//! all arrive; and every bad one is made to fit, or held back with a reason that a person understands.

#![allow(clippy::unwrap_used)] // A test that fails may panic, in what it calls too.

#[path = "poison/cases.rs"]
mod cases;
#[path = "support/hand.rs"]
#[allow(dead_code)] // Other tests use the rest of it.
mod hand;
#[path = "support/instance.rs"]
#[allow(dead_code)]
mod instance;
#[path = "support/intelmq.rs"]
mod intelmq;
#[path = "support/redis.rs"]
#[allow(dead_code)]
mod redis_server;
#[path = "support/relay.rs"]
#[allow(dead_code)]
mod relay;
#[path = "support/triangle.rs"]
#[allow(dead_code)]
mod triangle;

use bytes::Bytes;
use cases::{Case, Fate, Members, What};
use hand::{Hand, by, sealed_fields};
use intelmq_relay::envelope::{Header, Kind, Secret};
use intelmq_relay::link::Verdict;
use serde_json::Value;
use triangle::Triangle;
use uuid::Uuid;

/// An item in a node's quarantine.
struct Kept {
    reason: String,
    item: String,
}

impl Kept {
    /// Whether it is this case; what is long is cut in quarantine.
    fn is(&self, name: &str, item: &str) -> bool {
        let cut = self.item.len() > 10_000 && item.starts_with(&self.item);
        self.item.contains(&format!("\"{name}\"")) || self.item == item || cut
    }
}

/// Where things end at one node.
struct Ends {
    node: &'static str,
    output: Vec<Value>,
    quarantine: Vec<Kept>,
}

impl Ends {
    /// Complains unless the case ended here as it should, and once.
    fn check(&self, name: &str, item: &str, fate: Fate) -> Option<String> {
        let node = self.node;
        let came: Vec<_> = self.output.iter().filter(|event| event["extra.case"] == name).collect();
        let kept: Vec<_> = self.quarantine.iter().filter(|kept| kept.is(name, item)).collect();
        let reasons: Vec<_> = kept.iter().map(|kept| &*kept.reason).collect();
        match (came.as_slice(), reasons.as_slice(), fate) {
            ([], [], Fate::Stays) => None,
            ([event], [], Fate::Comes(part)) if event.to_string().contains(part) => None,
            ([], [reason], Fate::Held(word)) if !reason.is_empty() && reason.contains(word) => None,
            _ => {
                let came: Vec<String> = came.iter().map(|event| cut(&event.to_string())).collect();
                Some(format!("{node}: {name}: expected {fate:?}; came out: {came:?}; held: {reasons:?}"))
            }
        }
    }

    /// The numbers of the good events that came out.
    fn good(&self) -> Vec<&str> {
        let mut good: Vec<_> = self.output.iter().filter_map(|event| event["extra.good"].as_str()).collect();
        good.sort_unstable();
        good
    }
}

fn cut(text: &str) -> String {
    text.chars().take(400).collect()
}

fn good(number: &str) -> Members {
    let mut members = cases::members("good", &[("extra.good", &format!("\"{number}\""))]);
    members.retain(|(key, _)| key != "extra.case");
    members
}

fn item(members: Members) -> Vec<u8> {
    let case = Case { name: String::new(), what: What::Members(members), taken: Fate::Held(""), sealed: None };
    case.item()
}

/// As a peer seals it that sticks to the envelope and to nothing else.
fn envelope(secret: &Secret, mut members: Members) -> Bytes {
    let kind =
        members.iter().position(|(key, value)| key == "__type" && ["\"Event\"", "\"Report\""].contains(&&**value));
    let kind = kind.map(|at| members.remove(at).1);
    by(
        &sealed_fields(secret, "cert-m", members, |header| {
            header.kind = if kind.as_deref() == Some("\"Report\"") { Kind::Report } else { Kind::Event };
        }),
        &[],
    )
}

/// What a peer seals of a case: its members, under the name of the sealed one.
fn to_seal(case: &Case) -> Option<(String, Members, Fate)> {
    let (What::Members(members), Some(fate)) = (&case.what, case.sealed) else { return None };
    let name = format!("sealed: {}", case.name);
    let mut members = members.clone();
    for (key, value) in &mut members {
        if key == "extra.case" {
            *value = format!("\"{name}\"");
        }
    }
    Some((name, members, fate))
}

fn quarantine(node: &relay::Relay) -> Vec<Kept> {
    let listed = node.expect(0, &["quarantine", "list", "--json"]);
    let kept = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| line[key].as_str().unwrap().to_owned();
        Kept { reason: text("reason"), item: text("item") }
    };
    listed.lines().map(kept).collect()
}

/// Fields that came with IntelMQ 3.5, with values.
const NEW: [(&str, &str); 7] = [
    ("severity", "\"high\""),
    ("constituency", "\"others\""),
    ("product.full_name", "\"Example Server 1.0\""),
    ("product.name", "\"server\""),
    ("product.vendor", "\"example\""),
    ("product.version", "\"1.0\""),
    ("product.vulnerabilities", "\"cve-2026-0001\""),
];

fn is_new(field: &str) -> bool {
    NEW.iter().any(|(new, _)| *new == field)
}

type Change = fn(&mut Header);

/// Sealed well, and nothing for a bot.
const OTHER_MESSAGES: [(&str, Change); 4] = [
    ("another format", |header| header.format = "n6".into()),
    ("a format without a name", |header| header.format = "-".into()),
    ("a withdrawal", |header| (header.kind, header.links.withdraws) = (Kind::Withdrawal, Some(Uuid::nil()))),
    ("a report", |header| header.kind = Kind::Report),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_would_stop_a_bot_does_not_reach_it() {
    let cases = cases::all();
    assert!(cases.len() >= 60, "{}", cases.len());
    let mut triangle = Triangle::new(is_new);
    let [a, b, c] = &triangle.relays;
    // b's peer; its events reach the others by way of b.
    let mut hand = Hand::listed_by(b, "cert-m");
    for node in [a, c] {
        node.and(&format!("[[origin]]\nname = \"cert-m\"\nkey = \"{}\"", hand.secret.key()));
    }
    triangle.start();

    let newer = [good("taken-newer"), NEW.map(|(key, value)| (key.into(), value.into())).into()].concat();
    let mut items = vec![item(newer)];
    for (number, case) in cases.iter().enumerate() {
        items.extend([case.item(), item(good(&format!("taken-{number}")))]);
    }
    triangle.intelmqs[0].redis.push(instance::OUT, &items);

    hand.link(&triangle.relays[1]).await;
    let mut verdicts = Vec::new();
    let mut sealed_good = 0;
    for (name, members, fate) in cases.iter().filter_map(to_seal) {
        let (bad, good) = (envelope(&hand.secret, members), good(&format!("sealed-{name}")));
        // More than a peer may send at all ends the link, and nothing else.
        let verdict = match hand.try_batch(Vec::new(), &[bad]).await {
            Some((_, verdicts)) => verdicts[0].clone(),
            None => {
                hand.link(&triangle.relays[1]).await;
                Verdict::TooBig
            }
        };
        assert_eq!(hand.give(&[envelope(&hand.secret, good)]).await, [Verdict::Accepted], "behind {name}");
        sealed_good += 1;
        verdicts.push((name, verdict, fate));
    }
    for (name, change) in OTHER_MESSAGES {
        let fields = cases::members(name, &[("__type", "\"Event\"")]);
        let sealed = by(&sealed_fields(&hand.secret, "cert-m", fields, change), &[]);
        verdicts.push((name.to_owned(), hand.give(&[sealed]).await.remove(0), Fate::Stays));
    }
    triangle.settled([sealed_good, cases.len() + 1 + sealed_good, cases.len() + 1 + sealed_good]);

    let mut ends = ["a", "b", "c"].into_iter().zip(&triangle.relays).zip(&triangle.intelmqs);
    let mut next = || {
        let ((node, relay), intelmq) = ends.next().unwrap();
        Ends { node, output: intelmq.output(), quarantine: quarantine(relay) }
    };
    let [a, b, c] = [next(), next(), next()];
    let mut complaints = Vec::new();
    for case in &cases {
        let item = String::from_utf8_lossy(&case.item()).into_owned();
        // What a's relay holds back when it takes it, goes nowhere.
        let held = a.quarantine.iter().any(|kept| kept.is(&case.name, &item));
        let at: &[&Ends] = if held { &[&a] } else { &[&b, &c] };
        complaints.extend(at.iter().filter_map(|ends| ends.check(&case.name, &item, case.taken)));
    }
    for (name, verdict, fate) in &verdicts {
        if *verdict == Verdict::Accepted {
            complaints.extend([&a, &b, &c].iter().filter_map(|ends| ends.check(name, name, *fate)));
        } else if !matches!((verdict, fate), (Verdict::TooBig | Verdict::Malformed, Fate::Held(_))) {
            complaints.push(format!("{name}: {verdict}"));
        }
    }
    assert!(complaints.is_empty(), "{} of {} cases:\n{}", complaints.len(), cases.len(), complaints.join("\n"));
    for ends in [&a, &b, &c] {
        let good = ends.good();
        let taken = good.iter().filter(|number| number.starts_with("taken")).count();
        let expected = if ends.node == "a" { 0 } else { cases.len() + 1 };
        assert_eq!((taken, good.len() - taken), (expected, sealed_good), "{}: good events, once each", ends.node);
        assert!(good.windows(2).all(|pair| pair[0] != pair[1]), "{}: {good:?}", ends.node);
    }
    newer_fields_are_under_extra([&b, &c]);
}

/// c has an older format, which lacks some fields: a bot would stop at each.
#[track_caller]
fn newer_fields_are_under_extra([b, c]: [&Ends; 2]) {
    let newer = |ends: &Ends| ends.output.iter().find(|event| event["extra.good"] == "taken-newer").unwrap().clone();
    let (at_b, at_c) = (newer(b), newer(c));
    for (field, value) in NEW {
        let (value, extra): (Value, _) = (serde_json::from_str(value).unwrap(), format!("extra.{field}"));
        assert_eq!((&at_b[field], at_b.get(&extra)), (&value, None), "b has the format of today: {at_b}");
        assert_eq!((at_c.get(field), &at_c[&extra]), (None, &value), "c has an older one: {at_c}");
    }
}
