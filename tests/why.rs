//! `why`, through the program: three nodes in a row, with rules both ways, doors that choose, and an event that does not
//! fit. For every event and every reader there is an answer, and it is what the other nodes' logs say.

#![allow(clippy::unwrap_used)] // A test that fails may panic, in what it calls too.

#[path = "support/relay.rs"]
#[allow(dead_code)] // Other tests use the rest of it.
mod relay;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use relay::{Relay, wait_until};
use serde_json::{Value, json};

const RULES_OF_A: &str = r#"
[[rules.never]]
name = "secret"
do = "poison"
fields = { "extra.secret" = { present = true } }
[[rules.ours]]
do = "hide"
hide = ["raw", "extra.number-*"]
[[rules.ours]]
name = "spam"
do = "allow"
fields = { "classification.type" = "spam" }
[[rules.ours]]
name = "scans"
do = "allow"
fields = { "classification.type" = "scanner" }
"#;

const RULES_OF_B: &str = r#"
[[rules.taken]]
name = "not-wanted"
do = "deny"
fields = { "extra.unwanted" = { present = true } }
[[rules.taken]]
do = "allow"
"#;

/// The sources of A: what their events are sealed with.
const SEALS: [(&str, &str); 4] = [
    ("green", "tlp = \"GREEN\""),
    ("amber", "tlp = \"AMBER\""),
    ("red", "tlp = \"RED\""),
    ("named", "tlp = \"CLEAR\"\nto = [\"cert-b\"]\nencrypt = \"red\""),
];

struct Row {
    nodes: [Relay; 3],
}

impl Row {
    fn new() -> Row {
        let nodes = ["cert-a", "cert-b", "cert-c"].map(Relay::init);
        let [a, b, c] = &nodes;
        a.peer(b, "none");
        b.peer(a, "community");
        b.peer(c, "community");
        c.peer(b, "community");
        with(a, "give = \"none\"", "give = [\"never\", \"ours\"]\ncommunity = true");
        with(b, &format!("key = \"{}\"", a.key), &format!("key = \"{}\"\ntake = [\"taken\"]", a.key));
        a.and(RULES_OF_A);
        b.and(RULES_OF_B);
        // A does not know C; C knows A.
        c.and(&format!("[[origin]]\nname = \"cert-a\"\nkey = \"{}\"", a.key));
        for (source, seal) in SEALS {
            source_of(a, source, seal);
        }
        source_of(c, "green", "tlp = \"GREEN\"");
        door(b, "all", "");
        door(b, "reports", "types = [\"report\"]");
        door(b, "tagged", "tags = [\"shared\"]");
        door(c, "of-b", "origins = [\"cert-b\"]");
        door(c, "n6", "formats = [\"n6\"]");
        Row { nodes }
    }

    fn start(&mut self) {
        self.nodes.iter_mut().for_each(Relay::start);
        let [a, b, c] = &self.nodes;
        a.linked("cert-b");
        b.linked("cert-c");
        c.linked("cert-b");
    }

    /// Waits until `head` entries are in the log of each, and nothing is under way.
    fn settled(&self, heads: [u64; 3]) {
        for (node, head) in self.nodes.iter().zip(heads) {
            node.status_when("all is decided", |status| {
                let peers = status["peers"].as_object().unwrap();
                let idle = |peer: &Value| {
                    peer["linked"] == true && peer["behind"] == 0 && peer["unanswered"] == 0 && peer["taking"] == false
                };
                let sinks = status["sinks"].as_object().unwrap();
                status["head"] == head
                    && peers.values().all(idle)
                    && sinks.values().all(|sink| sink["seq"] == status["head"])
            });
        }
    }
}

fn with(node: &Relay, old: &str, new: &str) {
    let text = node.configuration();
    assert!(text.contains(old), "{old} is not in\n{text}");
    node.configure(&text.replacen(old, new, 1));
}

fn source_of(node: &Relay, name: &str, seal: &str) {
    fs::create_dir(node.path(&format!("in-{name}"))).unwrap();
    node.and(&format!("[[take.files]]\nname = \"from-{name}\"\ndirectory = \"in-{name}\"\n[take.files.seal]\n{seal}"));
}

fn door(node: &Relay, name: &str, events: &str) {
    fs::create_dir(node.path(&format!("out-{name}"))).unwrap();
    node.and(&format!(
        "[[give.files]]\nname = \"{name}\"\ndirectory = \"out-{name}\"\n[give.files.events]\nshape = \"extra\"\n\
         harmonization = \"builtin\"\n{events}"
    ));
}

fn drop_in(node: &Relay, source: &str, number: u64, more: Value) {
    let mut event = json!({
        "source.ip": "192.0.2.1", "classification.type": "spam", "feed.name": "test", "raw": "cmF3",
        "time.source": "2026-11-24T10:00:00+00:00", "extra.number": number,
    });
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let folder = node.path(&format!("in-{source}"));
    let hidden = folder.join(format!(".{number}"));
    fs::write(&hidden, format!("{event}\n")).unwrap();
    fs::rename(hidden, folder.join(format!("{number}.jsonl"))).unwrap();
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Ids by the events' numbers, as a node's log has them.
fn log(node: &Relay) -> BTreeMap<u64, String> {
    let export = lines(&node.expect(0, &["export", "--shape", "extra"]));
    let id = |event: &Value| event["extra.relay.uuid"].as_str().unwrap().to_owned();
    export.iter().map(|event| (event["extra.number"].as_u64().unwrap(), id(event))).collect()
}

fn given_by(node: &Relay, door: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(node.path(&format!("out-{door}/events.jsonl"))).unwrap_or_default();
    lines(&text).iter().map(|event| event["extra.relay.uuid"].as_str().unwrap().to_owned()).collect()
}

/// What `why` says; nothing where it has never been shown it.
fn why(node: &Relay, id: &str) -> Vec<Value> {
    let output = node.command(&["why", "--json", id]);
    let answers = lines(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(output.status.code(), Some(i32::from(answers.is_empty())), "{answers:?}");
    if answers.is_empty() {
        assert!(String::from_utf8_lossy(&output.stderr).contains("has never been shown"));
    }
    answers
}

fn of<'a>(answers: &'a [Value], name: &str) -> &'a Value {
    answers.iter().find(|answer| answer["name"] == name).unwrap_or_else(|| panic!("no {name} in {answers:?}"))
}

/// The parts of an answer that a restart does not change.
fn core(answers: Vec<Value>) -> Vec<Vec<Value>> {
    let part = |answer: &Value| {
        ["seq", "reader", "name", "fate", "reason", "rule", "hidden", "verdict", "at"].map(|k| answer[k].clone()).into()
    };
    answers.iter().map(part).collect()
}

#[test]
fn every_event_is_explained_for_everybody_and_the_other_logs_agree() {
    let mut row = Row::new();
    row.start();
    let [a, _, c] = &row.nodes;
    drop_in(a, "green", 1, json!({}));
    drop_in(a, "green", 2, json!({"classification.type": "scanner"}));
    drop_in(a, "green", 3, json!({"classification.type": "phishing"}));
    drop_in(a, "green", 4, json!({"extra.secret": "x"}));
    drop_in(a, "green", 5, json!({"extra.unwanted": "x"}));
    drop_in(a, "green", 6, json!({"source.asn": "no number"}));
    drop_in(a, "amber", 7, json!({}));
    drop_in(a, "red", 8, json!({}));
    drop_in(a, "named", 9, json!({}));
    drop_in(c, "green", 10, json!({}));
    // B: 1, 2, 6, 7, 9 of A and 10 of C. C: its own, and 1, 2, 6.
    row.settled([9, 6, 4]);
    let logs: BTreeMap<&str, BTreeMap<u64, String>> =
        row.nodes.iter().map(|node| (node.name.as_str(), log(node))).collect();
    let ids: BTreeMap<u64, String> = logs.values().flatten().map(|(number, id)| (*number, id.clone())).collect();
    assert_eq!(ids.len(), 10);
    let readers = |node: &str| -> BTreeSet<&str> {
        BTreeSet::from_iter(match node {
            "cert-a" => vec!["cert-b"],
            "cert-b" => vec!["cert-a", "cert-c", "all", "reports", "tagged"],
            _ => vec!["cert-b", "of-b", "n6"],
        })
    };
    for node in &row.nodes {
        let text = node.configuration();
        for id in ids.values() {
            let answers = why(node, id);
            let has = |name: &str| logs[name].values().any(|there| there == id);
            let (entries, refusals): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer["fate"] != "refused");
            let named: BTreeSet<&str> = entries.iter().map(|answer| answer["name"].as_str().unwrap()).collect();
            let expected = if has(&node.name) { readers(&node.name) } else { BTreeSet::new() };
            assert_eq!(named, expected, "{} of {id}", node.name);
            assert_eq!(entries.len(), expected.len());
            for answer in &answers {
                let rule = &answer["rule"];
                if let Some(line) = rule["line"].as_u64() {
                    let set = rule["name"].as_str().unwrap().split('/').next().unwrap();
                    let found = text.lines().nth(line as usize - 1).unwrap();
                    assert_eq!((found, &rule["file"]), (&*format!("[[rules.{set}]]"), &json!("relay.toml")));
                }
            }
            for answer in entries {
                let (name, fate) = (answer["name"].as_str().unwrap(), answer["fate"].as_str().unwrap());
                let reason = answer["reason"].as_str().unwrap_or_default();
                if answer["reader"] == "door" {
                    assert_eq!(given_by(node, name).contains(id), fate == "delivered", "{answer}");
                    continue;
                }
                let verdict = answer["verdict"].as_str().unwrap_or_default();
                let said = match fate {
                    "given" => matches!(verdict, "accepted" | "duplicate"),
                    "had" => true,
                    "withheld" => matches!(reason, "its-origin" | "came-from"),
                    other => panic!("{other}: {answer}"),
                };
                assert_eq!(said, has(name), "{} of {name}: {answer}", node.name);
                if fate == "given" && !said {
                    let other = row.nodes.iter().find(|other| other.name == name).unwrap();
                    let there = why(other, id);
                    let refused = of(&there, &node.name);
                    assert_eq!((&refused["fate"], &refused["verdict"]), (&json!("refused"), &answer["verdict"]));
                }
            }
            assert!(refusals.iter().all(|_| !has(&node.name)), "{refusals:?}");
        }
    }
    each_reason(&row, &ids);
    after_a_crash(&mut row, &ids);
}

/// What the rules were written for.
fn each_reason(row: &Row, ids: &BTreeMap<u64, String>) {
    let [a, b, c] = &row.nodes;
    let told = |node: &Relay, number: u64, name: &str| of(&why(node, &ids[&number]), name).clone();
    let withheld = |node, number, name| {
        let answer = told(node, number, name);
        assert_eq!(answer["fate"], "withheld", "{answer}");
        answer["reason"].as_str().unwrap().to_owned()
    };
    let first = told(a, 1, "cert-b");
    assert_eq!(
        (&first["rule"]["name"], &first["hidden"], &first["verdict"]),
        (&json!("ours/spam"), &json!(1), &json!("accepted"))
    );
    assert_eq!(told(a, 2, "cert-b")["rule"]["name"], "ours/scans");
    assert_eq!(withheld(a, 3, "cert-b"), "no-rule");
    assert_eq!(withheld(a, 4, "cert-b"), "rule-never/secret");
    assert_eq!(told(a, 5, "cert-b")["verdict"], "refused:rule-taken/not-wanted");
    assert_eq!(told(b, 5, "cert-a")["rule"]["name"], "taken/not-wanted");
    assert_eq!(withheld(b, 7, "cert-c"), "tlp-amber");
    assert_eq!(withheld(a, 8, "cert-b"), "tlp-red");
    assert_eq!(withheld(b, 9, "cert-c"), "not-named");
    assert_eq!(told(b, 10, "cert-a")["verdict"], "unknown-origin");
    assert_eq!(told(a, 10, "cert-b")["verdict"], "unknown-origin");
    let held = told(b, 6, "all");
    assert_eq!((&held["fate"], &held["quarantine"]), (&json!("quarantined"), &json!(1)), "{held}");
    assert_eq!(told(b, 1, "all")["fate"], "delivered");
    for (node, name, part) in
        [(b, "reports", "types"), (b, "tagged", "tags"), (c, "of-b", "origins"), (c, "n6", "formats")]
    {
        // Of C's, its own format comes first.
        let answer = told(node, 1, name);
        assert_eq!((&answer["fate"], &answer["reason"]), (&json!("not-for-it"), &json!(part)), "{answer}");
    }
    assert_eq!(told(c, 10, "n6")["reason"], "own");
    let text = a.expect(0, &["why", &ids[&4]]);
    assert!(text.contains("peer cert-b: withheld by never/secret (relay.toml:"), "{text}");
    assert_eq!(b.expect(0, &["why", "--peer", "cert-c", &ids[&1]]).lines().count(), 2);
    eprintln!("{text}{}{}", b.expect(0, &["why", &ids[&6]]), b.expect(0, &["why", &ids[&5]]));
    b.expect(0, &["quarantine", "drop", "1"]);
    assert_eq!(told(b, 6, "all")["fate"], "dropped");
}

/// What was answered once, or is older than a second, is there after a crash, and a peer that is away is waited for.
fn after_a_crash(row: &mut Row, ids: &BTreeMap<u64, String>) {
    let all = |node: &Relay| ids.values().map(|id| core(why(node, id))).collect::<Vec<_>>();
    let before = all(&row.nodes[1]);
    row.nodes[1].kill9();
    assert_eq!(all(&row.nodes[1]), before, "of the store of a node that was killed");
    drop_in(&row.nodes[0], "green", 11, json!({}));
    row.nodes[0].status_when("it is sealed", |status| status["head"] == 10);
    let id = log(&row.nodes[0])[&11].clone();
    let waits = why(&row.nodes[0], &id);
    assert_eq!(of(&waits, "cert-b")["fate"], "waits", "{waits:?}");
    assert!(of(&waits, "cert-b")["text"].as_str().unwrap().contains("is away"), "{waits:?}");
    row.nodes[1].start();
    row.settled([10, 7, 5]);
    // What a peer had not yet noted durably is shown again: decided anew, and refused once more.
    let lasting = |all: &[Vec<Vec<Value>>]| -> Vec<BTreeSet<String>> {
        let parts = |answer: &Vec<Value>| format!("{:?}", &answer[..7]);
        all.iter().map(|answers| answers.iter().map(parts).collect()).collect()
    };
    assert_eq!(lasting(&all(&row.nodes[1])), lasting(&before), "of the node that was started again");
    wait_until("the answer is there", || of(&why(&row.nodes[0], &id), "cert-b")["verdict"] == "accepted");
    row.nodes[0].expect(1, &["why", "72ddb00c-2d0a-4eea-b7ac-ae122b8e6c3b"]);
    row.nodes[0].expect(2, &["why", "nonsense"]);
}
