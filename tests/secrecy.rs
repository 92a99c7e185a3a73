//! Events that only their recipients can read, through the program: what a relay on the way has of them, in its files and
//! in its memory, is not what is in them.

#![allow(clippy::unwrap_used)] // A test that fails may panic, in what it calls too.

#[path = "support/redis.rs"]
#[allow(dead_code)] // Other tests use the rest of it.
mod redis_server;
#[path = "support/relay.rs"]
#[allow(dead_code)]
mod relay;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::Path;

use redis_server::Redis;
use relay::{Relay, wait_for, wait_until};
use serde_json::{Value, json};

const IN: &str = "bot-queue";

/// A gives to B, which carries for both, and B to C. A and C know each other as origins.
struct Row {
    redis: Redis,
    nodes: [Relay; 3],
}

/// The sources of A: what their events are sealed with.
const SEALS: [(&str, &str); 4] = [
    ("open", "tlp = \"GREEN\""),
    ("red", "tlp = \"RED\"\nto = [\"cert-c\"]\ntags = [\"hush\"]"),
    ("amber", "tlp = \"AMBER\"\nto = [\"cert-c\"]"),
    ("both", "tlp = \"AMBER+STRICT\"\nto = [\"cert-b\", \"cert-c\"]"),
];

impl Row {
    fn new() -> Row {
        let (redis, nodes) = (Redis::start(), ["cert-a", "cert-b", "cert-c"].map(Relay::init));
        let [a, b, c] = &nodes;
        for (queue, seal) in SEALS {
            a.takes(&redis.config(), queue, seal);
        }
        a.peer(b, "community");
        a.configure(&a.configuration().replace("give = \"community\"", "give = \"community\"\ncarries = true"));
        a.knows(c);
        b.peer(a, "none");
        b.peer(c, "community");
        b.configure(&b.configuration().replace("give = ", "carries = true\ngive = "));
        c.peer(b, "none");
        c.knows(a);
        c.gives(&redis.config(), IN, "events = { harmonization = \"builtin\", withdrawals = \"event\" }");
        b.and(&format!("[[give.files]]\nname = \"out\"\ndirectory = {:?}", b.path("out")));
        fs::create_dir_all(b.path("out")).unwrap();
        Row { redis, nodes }
    }

    fn start(&mut self) {
        self.nodes.iter_mut().for_each(Relay::start);
        let [a, b, _] = &self.nodes;
        a.linked("cert-b");
        b.linked("cert-c");
    }

    /// What C's IntelMQ has.
    fn delivered(&self) -> Vec<Value> {
        self.redis.items(IN).iter().map(|text| serde_json::from_str(text).unwrap()).collect()
    }

    /// What came of the event with this marker at C.
    fn arrives(&self, marker: &str) -> Value {
        let has = |event: &Value| event["extra.marker"] == marker;
        wait_for("it is delivered at C", || self.delivered().into_iter().find(has))
    }

    fn take(&self, queue: &str, marker: &str) {
        self.redis.push(queue, &[event(marker)]);
    }
}

/// Nothing that is anywhere by chance, nor made less by compression: it is looked for in its own bytes.
fn marker(what: &str) -> String {
    format!("{what}-{:032x}", rand::random::<u128>())
}

fn event(marker: &str) -> String {
    json!({
        "classification.type": "infected-system", "source.ip": "192.0.2.7", "feed.name": "Drone",
        "time.source": "2026-11-24T10:00:00+00:00", "time.observation": "2026-11-24T10:00:00+00:00",
        "extra.marker": marker, "__type": "Event",
    })
    .to_string()
}

fn files_with(folder: &Path, marker: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_with(&path, marker, found);
        } else if let Ok(bytes) = fs::read(&path)
            && contains(&bytes, marker.as_bytes())
        {
            found.push(path.display().to_string());
        }
    }
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    // Most places differ in the first byte already.
    let first = what[0];
    let mut at = 0;
    while let Some(next) = bytes[at..].iter().position(|byte| *byte == first) {
        at += next;
        if bytes[at..].starts_with(what) {
            return true;
        }
        at += 1;
    }
    false
}

/// Whether the process of this relay has the marker anywhere in its memory.
fn memory_has(relay: &Relay, marker: &str) -> bool {
    let process = format!("/proc/{}", relay.pid());
    let memory = File::open(format!("{process}/mem")).expect("a process that the test started may be looked into");
    let maps = BufReader::new(File::open(format!("{process}/maps")).unwrap());
    let (mut looked, mut found) = (0, false);
    for line in maps.lines() {
        let line = line.unwrap();
        let mut parts = line.split_whitespace();
        let (range, rights) = (parts.next().unwrap(), parts.next().unwrap());
        // Not what the kernel keeps for itself.
        if !rights.starts_with('r') || line.contains("[v") {
            continue;
        }
        let (from, to) = range.split_once('-').unwrap();
        let [from, to] = [from, to].map(|text| u64::from_str_radix(text, 16).unwrap());
        // With as much again of the next piece as a marker may reach into it.
        for at in (from..to).step_by(1 << 20) {
            let mut piece = vec![0; ((to - at).min((1 << 20) + 256)) as usize];
            // A page that is gone meanwhile, or was never there.
            let read = memory.read_at(&mut piece, at).unwrap_or(0);
            looked += read;
            found |= contains(&piece[..read], marker.as_bytes());
        }
    }
    assert!(looked > 1 << 20, "only {looked} bytes of memory could be read");
    found
}

/// Whether the relay has it in its files, as they are or in what it reads out of them.
fn disk_has(relay: &Relay, marker: &str) -> bool {
    let mut found = Vec::new();
    files_with(&relay.path("data"), marker, &mut found);
    !found.is_empty() || relay.expect(0, &["export"]).contains(marker)
}

#[test]
fn a_relay_carries_what_it_cannot_read() {
    let mut row = Row::new();
    row.start();
    let [open, red, amber] = ["open", "red", "amber"].map(marker);
    row.take("red", &red);
    row.take("amber", &amber);
    row.take("open", &open);
    let got = row.arrives(&red);
    assert_eq!(got["extra.relay.encrypted"], true);
    assert_eq!(
        (&got["extra.relay.origin"], &got["extra.relay.path"]),
        (&json!("cert-a"), &json!("!cert-a!cert-b!cert-c"))
    );
    assert_eq!(got["extra.relay.tlp"], "RED");
    row.arrives(&amber);
    row.arrives(&open);
    let [a, b, c] = &row.nodes;
    b.status_when("B has delivered what it may", |b| b["sinks"]["out"]["seq"] == b["head"] && b["head"] == 3);

    // What is looked for is found where it is in the clear: else none of the rest would say anything.
    assert!(memory_has(b, &open) && disk_has(b, &open));
    for secret in [&red, &amber] {
        assert!(!memory_has(b, secret), "{secret} is in the relay's memory");
        assert!(!disk_has(b, secret), "{secret} is in the relay's files");
        assert!(!fs::read_to_string(b.path("out/events.jsonl")).unwrap().contains(secret.as_str()));
        // Nor at its origin's, once it is sealed; and its recipient opens it to show it, and keeps it closed.
        assert!(!disk_has(a, secret));
        let mut files = Vec::new();
        files_with(&c.path("data"), secret, &mut files);
        assert!(files.is_empty(), "{files:?}");
        assert!(c.expect(0, &["export"]).contains(secret.as_str()));
    }
    assert!(!memory_has(b, "hush"), "nor its tags");

    // What is said of it.
    let id = got["extra.relay.uuid"].as_str().unwrap();
    assert!(a.expect(0, &["show", id]).contains("it cannot read it back"));
    assert!(b.expect(0, &["show", id]).contains("no recipient"));
    let shown = c.expect(0, &["show", id]);
    assert!(shown.contains(&red) && shown.contains("tags      hush") && shown.contains("has opened it"), "{shown}");
    assert!(b.expect(0, &["tail", "--no-follow"]).contains("(encrypted)"));
    assert!(c.expect(0, &["tail", "--no-follow"]).contains("fields, encrypted)"));
    let why = a.expect(0, &["why", id]);
    assert!(why.contains("given by `carries`"), "{why}");
    let why = b.expect(0, &["why", id]);
    assert!(why.contains("given by its origin, which names it"), "{why}");
    assert!(why.contains("only carried here"), "{why}");

    // At rest, with the key at hand.
    row.nodes[2].terminate();
    row.nodes[1].terminate();
    let [_, b, c] = &row.nodes;
    assert!(c.expect(0, &["show", id]).contains(&red));
    assert!(!b.expect(0, &["export"]).contains(&red));
}

#[test]
fn each_of_several_recipients_reads_it_and_a_withdrawal_follows_it() {
    let mut row = Row::new();
    row.start();
    let marker = marker("both");
    row.take("both", &marker);
    let got = row.arrives(&marker);
    let [a, b, _] = &row.nodes;
    let out = wait_for("it is delivered at B", || {
        fs::read_to_string(b.path("out/events.jsonl")).ok().filter(|text| text.contains(&marker))
    });
    let at_b: Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    assert_eq!(at_b["meta"]["relay:encrypted"], true);
    assert_eq!(at_b["meta"]["relay:to"], json!(["cert-b", "cert-c"]));

    let red = self::marker("red");
    row.take("red", &red);
    let other = row.arrives(&red);
    for (event, reason) in [(&got, "both-is-wrong"), (&other, "red-is-wrong")] {
        a.expect(0, &["withdraw", event["extra.relay.uuid"].as_str().unwrap(), "--reason", reason]);
        let told = wait_for("C is told", || {
            row.delivered().into_iter().find(|event| event["event_description.text"] == reason)
        });
        assert_eq!(told["extra.relay.withdraws"], event["extra.relay.uuid"]);
    }
    // Why it was withdrawn may say what was in it.
    assert!(!memory_has(b, "red-is-wrong") && !disk_has(b, "red-is-wrong"));
    assert!(b.expect(0, &["export"]).contains("both-is-wrong"), "B is a recipient of that one");
}

#[test]
fn without_a_key_nothing_goes_out_and_with_a_wrong_one_it_is_kept() {
    let mut row = Row::new();
    let [a, _, c] = &row.nodes;
    let with = a.configuration();
    let line = format!("encryption = \"{}\"\n", c.encryption);
    a.configure(&with.replace(line.trim_end(), ""));
    row.start();
    let a = &row.nodes[0];
    let (red, again) = (marker("red"), marker("again"));
    row.take("red", &red);
    let kept =
        wait_for("it is held back", || Some(a.expect(0, &["quarantine", "list"])).filter(|list| !list.is_empty()));
    assert!(kept.contains("no encryption key of cert-c") && kept.contains("`intelmq-relay id` prints there"), "{kept}");
    assert_eq!(a.status()["head"], 0);

    // The key that stands there is another node's.
    let wrong = with.replace(&row.nodes[2].encryption, &Relay::init("cert-x").encryption);
    let now = a.configuration();
    a.reload(&now, &wrong);
    a.expect(0, &["quarantine", "retry", "--all"]);
    let c = &row.nodes[2];
    let kept =
        wait_for("it is kept at C", || Some(c.expect(0, &["quarantine", "list"])).filter(|list| !list.is_empty()));
    assert!(kept.contains("not to a key that it has") && !kept.contains(&red), "{kept}");
    assert!(row.delivered().is_empty());

    a.reload(&wrong, &with);
    row.take("red", &again);
    row.arrives(&again);
    assert_eq!(row.delivered().len(), 1);
}

#[test]
fn a_node_that_names_itself_reads_it_back_and_what_becomes_too_large_is_said() {
    let (redis, mut a) = (Redis::start(), Relay::init("cert-a"));
    a.takes(&redis.config(), "self", "tlp = \"RED\"\nto = [\"cert-a\"]");
    a.and("[limits]\nenvelope_bytes = \"8 KiB\"");
    a.start();
    let own = marker("own");
    redis.push("self", &[event(&own)]);
    a.status_when("it is sealed", |status| status["head"] == 1);
    let export = a.expect(0, &["export"]);
    assert!(export.contains(&own), "{export}");
    let mut files = Vec::new();
    files_with(&a.path("data"), &own, &mut files);
    assert!(files.is_empty(), "{files:?}");

    // As it is, it would fit.
    redis.push("self", &[event(&"x".repeat(7_000))]);
    let kept =
        wait_for("it is held back", || Some(a.expect(0, &["quarantine", "list"])).filter(|list| !list.is_empty()));
    assert!(kept.contains("encrypted to its recipients, envelope_bytes: ") && kept.contains("at most 8192"), "{kept}");
}

#[test]
fn rules_about_fields_are_asked_before_it_is_closed() {
    let mut row = Row::new();
    let a = &row.nodes[0];
    a.configure(&a.configuration().replace("give = \"community\"", "give = [\"never\", \"community\"]"));
    a.and(
        "[[rules.never]]\nname = \"bots\"\ndo = \"poison\"\nfields = { \"classification.type\" = \"infected-system\" }",
    );
    row.start();
    let (both, red) = (marker("both"), marker("red"));
    row.take("both", &both);
    let a = &row.nodes[0];
    let kept =
        wait_for("it is held back", || Some(a.expect(0, &["quarantine", "list"])).filter(|list| !list.is_empty()));
    assert!(kept.contains("it names cert-b, and the rule never/bots"), "{kept}");
    // To B it is no more than something to carry.
    row.take("red", &red);
    row.arrives(&red);
    assert_eq!(row.nodes[1].status()["head"], 1);
    // A dry run says the same.
    let a = &row.nodes[0];
    fs::write(a.path("events"), event(&both)).unwrap();
    let output = a.command(&["policy", "test", "events", "--peer", "cert-b", "--door", "from-both"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("it would be held back: it names cert-b, and the rule never/bots"), "{said}");
    let given = a.expect(0, &["policy", "test", "events", "--peer", "cert-b", "--door", "from-red"]);
    assert!(given.contains("1 given to cert-b"), "{given}");
}

#[test]
fn who_does_not_carry_is_not_given_it_nor_takes_it() {
    let mut row = Row::new();
    let [a, ..] = &row.nodes;
    a.configure(&a.configuration().replace("carries = true", "carries = false"));
    row.start();
    let [a, b, _] = &row.nodes;
    let red = marker("red");
    row.take("red", &red);
    let count = |node: &Relay, peer: &str, reason: &str| node.status()["peers"][peer]["withheld"][reason].as_u64();
    wait_until("A withholds it", || count(a, "cert-b", "not-named") == Some(1));
    // B does not take it either; nothing is remembered of that, since it may come to carry.
    b.reload("carries = true", "carries = false");
    a.reload("carries = false", "carries = true");
    a.expect(0, &["resend", "--peer", "cert-b", "--since", "2026-01-01T00:00:00Z"]);
    wait_until("B refuses it", || {
        let id = a.expect(0, &["export"]);
        let id = serde_json::from_str::<Value>(id.lines().next().unwrap()).unwrap()["meta"]["uuid"]
            .as_str()
            .unwrap()
            .to_owned();
        a.expect(0, &["why", &id]).contains("refused:not-named")
    });
    b.reload("carries = false", "carries = true");
    a.expect(0, &["resend", "--peer", "cert-b", "--since", "2026-01-01T00:00:00Z"]);
    row.arrives(&red);

    // In test mode nobody can see that it is a test.
    let [a, b, _] = &row.nodes;
    a.reload("carries = true", "carries = true\ntest = true");
    a.linked("cert-b");
    row.take("amber", &marker("amber"));
    wait_until("A withholds it in test mode", || count(a, "cert-b", "test-mode") == Some(1));
    assert_eq!(b.status()["head"], 1);
}
