//! Every piece of configuration in `docs/policy.md` does what the page says: conditions by a dry run, recipes in running
//! nodes with links between them, one of which has a real IntelMQ behind it. A piece that is not in the tables here
//! fails the tests.

#![allow(clippy::unwrap_used)] // A test that fails may panic, in what it calls too.

#[path = "support/instance.rs"]
#[allow(dead_code)] // Other tests use the rest of it.
mod instance;
#[path = "support/intelmq.rs"]
mod intelmq;
#[path = "support/page.rs"]
mod page;
#[path = "support/redis.rs"]
#[allow(dead_code)]
mod redis_server;
#[path = "support/relay.rs"]
#[allow(dead_code)]
mod relay;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use instance::{IN, Intelmq, Pipeline};
use intelmq_relay::config::Config;
use intelmq_relay::envelope::{EncryptionSecret, Secret};
use page::{Piece, filled, pieces};
use relay::{Relay, wait_until};
use serde_json::Value;

// ---- Conditions, by dry runs ----------------------------------------------------------------------------------------

/// Of an example: who brought the event (empty: it is the node's own), the event, and what is said of it: `given`, with
/// the fields that are hidden, or the reason.
type Trial = (&'static str, &'static str, &'static str);

/// The examples, by the sets of rules that they define.
const EXAMPLES: &[(&str, &[Trial])] = &[
    (
        "never+public",
        &[
            ("", r#"{"feed.name": "honeypots", "tlp": "CLEAR"}"#, "rule-never/honeypots"),
            ("", r#"{"classification.type": "blacklist", "tlp": "CLEAR"}"#, "rule-public/2"),
            (
                "",
                r#"{"feed.name": "x", "raw": "eA==", "source.abuse_contact": "a@b.example", "tlp": "CLEAR"}"#,
                "given raw source.abuse_contact",
            ),
            ("", r#"{"feed.name": "x"}"#, "no-rule"),
            // With sets alone, it is not of the community; so GREEN ends before any rule.
            ("", r#"{"feed.name": "honeypots", "tlp": "GREEN"}"#, "tlp-green"),
            ("cert-a", r#"{"feed.name": "x", "tlp": "AMBER"}"#, "tlp-amber"),
        ],
    ),
    (
        "austria",
        &[
            ("", r#"{"source.geolocation.cc": "AT"}"#, "given"),
            ("", r#"{"source.geolocation.cc": ["DE", "AT"]}"#, "given"),
            ("", r#"{"source.geolocation.cc": "at"}"#, "no-rule"),
            ("", r#"{"source.geolocation.cc": "DE"}"#, "no-rule"),
            ("", r#"{"destination.geolocation.cc": "AT"}"#, "no-rule"),
            ("", r#"{"source.geolocation.cc": null}"#, "no-rule"),
        ],
    ),
    (
        "malware",
        &[
            ("", r#"{"classification.type": "c2-server"}"#, "given"),
            ("", r#"{"classification.type": "infected-system"}"#, "given"),
            ("", r#"{"classification.type": "scanner"}"#, "no-rule"),
        ],
    ),
    (
        "telnet",
        &[
            ("", r#"{"source.port": 23}"#, "given"),
            ("", r#"{"source.port": "2323"}"#, "given"),
            ("", r#"{"source.port": 23.0}"#, "given"),
            ("", r#"{"source.port": 232}"#, "no-rule"),
            ("", r#"{"source.port": [22, 23]}"#, "given"),
        ],
    ),
    ("shared", &[("", r#"{"extra.shared": true}"#, "given"), ("", r#"{"extra.shared": false}"#, "no-rule")]),
    (
        "plain-http",
        &[
            ("", r#"{"source.url": "http://example.org/"}"#, "given"),
            ("", r#"{"source.url": "https://example.org/"}"#, "no-rule"),
            ("", r#"{"source.url": "HTTP://example.org/"}"#, "no-rule"),
        ],
    ),
    (
        "domains",
        &[
            ("", r#"{"source.fqdn": "example.org"}"#, "given"),
            ("", r#"{"source.fqdn": "www.Example.org."}"#, "given"),
            ("", r#"{"source.fqdn": "a.gov.example"}"#, "given"),
            ("", r#"{"source.fqdn": "badexample.org"}"#, "no-rule"),
            ("", r#"{"source.fqdn": "gov.example.net"}"#, "no-rule"),
        ],
    ),
    (
        "customers",
        &[
            ("", r#"{"source.ip": "192.0.2.255"}"#, "given"),
            ("", r#"{"source.ip": "::ffff:192.0.2.1"}"#, "given"),
            ("", r#"{"source.ip": "2001:db8:a:1::1"}"#, "given"),
            ("", r#"{"source.ip": "192.0.3.0"}"#, "no-rule"),
            ("", r#"{"source.ip": "2001:db8:b::1"}"#, "no-rule"),
            ("", r#"{"source.ip": "no address"}"#, "no-rule"),
        ],
    ),
    (
        "customer-networks",
        &[
            ("", r#"{"source.network": "192.0.2.128/25"}"#, "given"),
            ("", r#"{"source.network": "192.0.2.0/24"}"#, "given"),
            ("", r#"{"source.network": "192.0.0.0/16"}"#, "no-rule"),
            ("", r#"{"source.network": "2001:db8::/32"}"#, "no-rule"),
        ],
    ),
    (
        "concerned",
        &[
            ("", r#"{"source.network": "192.0.0.0/16"}"#, "given"),
            ("", r#"{"source.network": "192.0.2.128/25"}"#, "given"),
            ("", r#"{"source.network": "2001:db8::/32"}"#, "given"),
            ("", r#"{"source.network": "198.51.100.0/24"}"#, "no-rule"),
            ("", r#"{"source.network": "2001:db8:b::/48"}"#, "no-rule"),
        ],
    ),
    (
        "private-asn",
        &[
            ("", r#"{"source.asn": 64512}"#, "given"),
            ("", r#"{"source.asn": "65534"}"#, "given"),
            ("", r#"{"source.asn": 65535}"#, "no-rule"),
            ("", r#"{"source.asn": "many"}"#, "no-rule"),
        ],
    ),
    (
        "with-host",
        &[
            ("", r#"{"source.fqdn": "example.org"}"#, "given"),
            ("", r#"{"source.ip": "192.0.2.1"}"#, "no-rule"),
            ("", r#"{"source.fqdn": null}"#, "no-rule"),
        ],
    ),
    (
        "no-account",
        &[("", r#"{"source.ip": "192.0.2.1"}"#, "given"), ("", r#"{"source.account": "someone"}"#, "no-rule")],
    ),
    (
        "web-in-austria",
        &[
            ("", r#"{"source.geolocation.cc": "AT", "source.port": 443}"#, "given"),
            ("", r#"{"source.geolocation.cc": "AT", "source.port": 22}"#, "no-rule"),
            ("", r#"{"source.port": 80}"#, "no-rule"),
        ],
    ),
    (
        "of-friends",
        &[
            ("cert-a", r#"{"source.ip": "192.0.2.1", "tlp": "GREEN"}"#, "given"),
            ("cert-b", r#"{"source.ip": "192.0.2.1", "extra.relay.origin": "cert-c", "tlp": "GREEN"}"#, "given"),
            ("cert-b", r#"{"source.ip": "192.0.2.1", "tlp": "GREEN"}"#, "no-rule"),
            ("", r#"{"source.ip": "192.0.2.1", "tlp": "GREEN"}"#, "no-rule"),
        ],
    ),
    (
        "by-cert-a",
        &[
            ("cert-a", r#"{"source.ip": "192.0.2.1", "tlp": "GREEN"}"#, "given"),
            ("cert-a", r#"{"source.ip": "192.0.2.1", "extra.relay.origin": "cert-c", "tlp": "GREEN"}"#, "given"),
            ("cert-b", r#"{"source.ip": "192.0.2.1", "extra.relay.origin": "cert-a", "tlp": "GREEN"}"#, "no-rule"),
            ("", r#"{"source.ip": "192.0.2.1", "tlp": "GREEN"}"#, "no-rule"),
        ],
    ),
    (
        "events-only",
        &[
            ("", r#"{"source.ip": "192.0.2.1", "__type": "Event"}"#, "given"),
            ("", r#"{"feed.name": "x", "raw": "eA==", "__type": "Report"}"#, "no-rule"),
        ],
    ),
    (
        "other-formats",
        &[
            ("", r#"{"format": "n6", "version": 1, "type": "event", "meta": {}, "payload": {"name": "x"}}"#, "given"),
            ("", r#"{"source.ip": "192.0.2.1"}"#, "no-rule"),
        ],
    ),
    (
        "exercise",
        &[
            (
                "",
                r#"{"format": "intelmq", "version": 1, "type": "event", "meta": {"tags": ["x", "drill"]},
                "payload": {"source.ip": "192.0.2.1"}}"#,
                "given",
            ),
            (
                "",
                r#"{"format": "intelmq", "version": 1, "type": "event", "meta": {"tags": ["x"]},
                "payload": {"source.ip": "192.0.2.1"}}"#,
                "no-rule",
            ),
        ],
    ),
    (
        "open",
        &[
            ("", r#"{"source.ip": "192.0.2.1", "tlp": "CLEAR"}"#, "given"),
            ("", r#"{"source.ip": "192.0.2.1", "tlp": "GREEN"}"#, "given"),
            ("", r#"{"source.ip": "192.0.2.1", "tlp": "AMBER"}"#, "no-rule"),
            ("", r#"{"source.ip": "192.0.2.1"}"#, "no-rule"),
        ],
    ),
    (
        "nearby",
        &[
            ("", r#"{"source.ip": "192.0.2.1", "tlp": "GREEN"}"#, "given"),
            ("cert-a", r#"{"source.ip": "192.0.2.1", "tlp": "GREEN"}"#, "given"),
            ("cert-a", r#"{"source.ip": "192.0.2.1", "extra.relay.origin": "cert-c", "tlp": "GREEN"}"#, "no-rule"),
        ],
    ),
    (
        "without-contacts",
        &[
            (
                "",
                r#"{"raw": "eA==", "source.abuse_contact": "a@b.example", "extra.internal.a.b": 1, "extra.c": 1}"#,
                "given raw source.abuse_contact extra.internal.a.b",
            ),
            ("", r#"{"source.ip": "192.0.2.1"}"#, "given"),
        ],
    ),
    (
        "no-accounts-of-phishing",
        &[
            (
                "",
                r#"{"classification.type": "phishing", "destination.account": "a", "raw": "eA=="}"#,
                "given destination.account",
            ),
            ("", r#"{"classification.type": "scanner", "destination.account": "a"}"#, "given"),
        ],
    ),
];

/// Examples that say what is hidden, and give everything: what they do not match is given whole.
const HIDING: [&str; 2] = ["without-contacts", "no-accounts-of-phishing"];

/// Pieces that belong to no node: the examples.
fn examples() -> Vec<Piece> {
    pieces().into_iter().filter(|piece| piece.node().is_none()).collect()
}

fn key_of(name: &str) -> (String, String, String) {
    let seed = [name.bytes().fold(0, u8::wrapping_add); 32];
    let (key, encryption) = (Secret::from_seed(&seed).key(), EncryptionSecret::derive(&seed).key());
    (key.to_string(), "/ip4/127.0.0.1/tcp/4747".into(), encryption.to_string())
}

/// The example as the whole configuration of cert-at, and the sets that it defines.
fn configuration(piece: &Piece) -> (String, Vec<String>) {
    let known = "[node]\nname = \"cert-at\"\n[[peer]]\nname = \"cert-a\"\nkey = \"12D3KooW…\"\n[[peer]]\n\
                 name = \"cert-b\"\nkey = \"12D3KooW…\"\n[[origin]]\nname = \"cert-c\"\nkey = \"12D3KooW…\"\n";
    let text = filled(&format!("{known}{}", piece.text), key_of);
    let parse =
        |text: &str| Config::parse(text, Path::new("/")).unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}"));
    let config = parse(&text);
    let sets: Vec<String> = config.rules.keys().map(ToString::to_string).collect();
    if config.peers.iter().any(|peer| peer.name.as_str() == "cert-x") {
        return (text, sets);
    }
    let peer = format!("[[peer]]\nname = \"cert-x\"\nkey = \"12D3KooW…\"\ngive = {sets:?}\ncommunity = true\n");
    let text = text + &filled(&peer, key_of);
    parse(&text);
    (text, sets)
}

/// What a dry run says of these events, all brought by the same peer.
fn dry_run(node: &Relay, from: &str, events: &[&str]) -> Vec<String> {
    let lines: String = events.iter().map(|event| event.replace('\n', " ") + "\n").collect();
    fs::write(node.path("events"), lines).unwrap();
    let mut arguments = vec!["policy", "test", "events", "--peer", "cert-x", "--json"];
    if !from.is_empty() {
        arguments.extend(["--from", from]);
    }
    let told = node.expect(0, &arguments);
    let told = told.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    told.map(|told| match (&told["given"], told["reason"].as_str()) {
        (Value::Bool(true), _) => {
            let hidden = told["hidden"].as_array().unwrap().iter().map(|field| field.as_str().unwrap());
            std::iter::once("given").chain(hidden).collect::<Vec<_>>().join(" ")
        }
        (_, Some(reason)) => match told["rule"].as_str() {
            Some(rule) if reason == format!("rule-{rule}") => reason.to_owned(),
            None => reason.to_owned(),
            Some(_) => panic!("{told}"),
        },
        _ => panic!("{told}"),
    })
    .collect()
}

#[test]
fn every_condition_matches_what_the_page_says() {
    let node = Relay::init("cert-at");
    let mut trials: BTreeMap<&str, &[Trial]> = EXAMPLES.iter().copied().collect();
    for piece in examples() {
        let (text, sets) = configuration(&piece);
        let sets = sets.join("+");
        let trials = trials.remove(&*sets).unwrap_or_else(|| panic!("no trial of this example:\n{}", piece.text));
        node.configure(&text);
        let froms: BTreeSet<&str> = trials.iter().map(|(from, ..)| *from).collect();
        for one in froms {
            let of: Vec<&Trial> = trials.iter().filter(|(from, ..)| *from == one).collect();
            let events: Vec<&str> = of.iter().map(|(_, event, _)| *event).collect();
            let said = dry_run(&node, one, &events);
            assert_eq!(said, of.iter().map(|(.., said)| *said).collect::<Vec<_>>(), "{events:#?}\n{}", piece.text);
        }
        let matches = |said: &str| if HIDING.contains(&&*sets) { said != "given" } else { said.starts_with("given") };
        let (some, others): (Vec<&Trial>, Vec<&Trial>) = trials.iter().partition(|(.., said)| matches(said));
        assert!(!some.is_empty() && !others.is_empty(), "{sets}: an event that it matches, and one that it does not");
    }
    assert!(trials.is_empty(), "the page has no such examples: {:?}", trials.keys());
}

// ---- Recipes, in running nodes --------------------------------------------------------------------------------------

/// The recipes, by their headings, and the test that runs each.
macro_rules! recipes {
    ($($heading:literal => $test:ident,)*) => {
        const RECIPES: &[&str] = &[$($heading),*];
        $(
            #[test]
            fn $test() {
                recipe::$test(&named($heading));
            }
        )*
    };
}

recipes! {
    "Constituencies" => constituencies,
    "Hub and members" => hub_and_members,
    "Research" => research,
    "Full events for two" => full_events_for_two,
    "A feed that never leaves" => a_feed_that_never_leaves,
    "Own events only" => own_events_only,
    "A new peer" => a_new_peer,
}

fn named(heading: &str) -> Vec<Piece> {
    let pieces: Vec<Piece> = pieces().into_iter().filter(|piece| piece.heading == heading).collect();
    assert!(!pieces.is_empty(), "the page has no recipe {heading:?}");
    pieces
}

#[test]
fn every_recipe_is_run() {
    let headings: BTreeSet<String> =
        pieces().into_iter().filter(|piece| piece.node().is_some()).map(|piece| piece.heading).collect();
    assert_eq!(headings, RECIPES.iter().map(ToString::to_string).collect::<BTreeSet<_>>());
    let recipes = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/policy.md")).unwrap();
    let (_, recipes) = recipes.split_once("\n## Recipes\n").unwrap();
    assert_eq!(recipes.matches("\n### ").count(), RECIPES.len(), "a recipe without a piece of configuration");
    assert!(!recipes.contains("\n## "));
}

/// An event that a node seals, and where it arrives, with these fields hidden. Whichever node is not named does not get
/// it.
struct Row {
    at: &'static str,
    event: &'static str,
    to: &'static [&'static str],
    tags: &'static [&'static str],
    arrives: Vec<(&'static str, &'static [&'static str])>,
}

/// `event`: the members of a JSON object.
fn row(at: &'static str, event: &'static str, arrives: &[&'static str]) -> Row {
    Row { at, event, to: &[], tags: &[], arrives: arrives.iter().map(|node| (*node, &[][..])).collect() }
}

impl Row {
    /// The same, where it arrives at these nodes too, without these fields.
    fn without(mut self, hidden: &'static [&'static str], nodes: &[&'static str]) -> Row {
        self.arrives.extend(nodes.iter().map(|node| (*node, hidden)));
        self
    }

    /// The same, for these recipients only.
    fn to(self, to: &'static [&'static str]) -> Row {
        Row { to, ..self }
    }

    fn tagged(self, tags: &'static [&'static str]) -> Row {
        Row { tags, ..self }
    }

    /// The fields that are hidden at this node; `None`: it does not arrive there.
    fn hidden_at(&self, name: &str) -> Option<&'static [&'static str]> {
        self.arrives.iter().find(|(node, _)| *node == name).map(|(_, hidden)| *hidden)
    }

    /// Its message, with a number to know it by.
    fn message(&self, number: u64) -> String {
        let Row { event, to, tags, .. } = self;
        let event = event.replace('\n', " ");
        format!(
            "{{\"format\": \"intelmq\", \"version\": 1, \"type\": \"event\", \"meta\": {{\"relay:to\": {to:?}, \
             \"tags\": {tags:?}}}, \"payload\": {{{event}, \"extra.number\": {number}}}}}\n"
        )
    }
}

/// An event as it came out: its fields, and how many were hidden.
type Arrived = (serde_json::Map<String, Value>, u64);

/// Nodes with the configuration of a recipe, in a network.
struct Network {
    nodes: BTreeMap<String, Relay>,
    /// Behind this node, in place of a folder.
    intelmq: (&'static str, Intelmq),
    sent: u64,
}

impl Network {
    /// The nodes of the pieces, and `others` with their configuration in the page's notation.
    fn new(recipe: &[Piece], others: &[(&str, &str)], behind: &'static str) -> Network {
        let recipe = recipe.iter().map(|piece| (piece.node().unwrap(), &*piece.text));
        let files: Vec<(&str, &str)> = recipe.chain(others.iter().copied()).collect();
        let nodes: BTreeMap<String, Relay> =
            files.iter().map(|(name, _)| ((*name).to_owned(), Relay::init(name))).collect();
        assert_eq!(nodes.len(), files.len(), "one file per node");
        let intelmq = (behind, Intelmq::start("the receiver's", Pipeline::default(), |_| false));
        let network = Network { nodes, intelmq, sent: 0 };
        for (name, text) in files {
            let node = network.node(name);
            let of = |peer: &str| {
                let Relay { key, address, encryption, .. } = network.node(peer);
                (key.clone(), address.clone(), encryption.clone())
            };
            node.and(&filled(text, of));
            fs::create_dir_all(node.path("in")).unwrap();
            node.and("[[take.files]]\nname = \"in\"\ndirectory = \"in\"");
            if name == behind {
                let (_, intelmq) = &network.intelmq;
                let format = intelmq.harmonization();
                node.gives(&intelmq.redis.config(), IN, &format!("events = {{ harmonization = {format:?} }}"));
            } else {
                fs::create_dir_all(node.path("out")).unwrap();
                node.and("[[give.files]]\nname = \"out\"\ndirectory = \"out\"\nevents.shape = \"iep04\"");
            }
        }
        network
    }

    /// Starts the nodes, and waits for their links.
    #[track_caller]
    fn start(&mut self) {
        self.nodes.values_mut().for_each(Relay::start);
        for node in self.nodes.values() {
            let config = Config::parse(&node.configuration(), Path::new("/")).unwrap();
            config.peers.iter().for_each(|peer| node.linked(peer.name.as_str()));
        }
    }

    #[track_caller]
    fn node(&self, name: &str) -> &Relay {
        self.nodes.get(name).unwrap_or_else(|| panic!("no node {name} in the network"))
    }

    /// What came out at a node, each event once.
    fn arrived(&self, name: &str) -> BTreeMap<u64, Arrived> {
        let (behind, intelmq) = &self.intelmq;
        let events: Vec<Arrived> = if name == *behind {
            let flat = |event: Value| {
                let hidden = event["extra.relay.hidden"].as_u64().unwrap_or(0);
                (event.as_object().unwrap().clone(), hidden)
            };
            intelmq.output().into_iter().map(flat).collect()
        } else {
            let text = fs::read_to_string(self.node(name).path("out/events.jsonl")).unwrap_or_default();
            // The last line may be being written.
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            let events = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            let flat = |event: Value| {
                let hidden = event["meta"]["relay:hidden"].as_u64().unwrap_or(0);
                (event["payload"].as_object().unwrap().clone(), hidden)
            };
            events.map(flat).collect()
        };
        let mut arrived = BTreeMap::new();
        for event in events {
            let number = event.0["extra.number"].as_u64().unwrap();
            assert!(arrived.insert(number, event).is_none(), "{name}: event {number} came twice");
        }
        arrived
    }

    /// Sends the rows, then `last`, and looks where each arrived. Behind one of `last` that has arrived nothing more
    /// comes: so each node that could wrongly get something needs one.
    #[track_caller]
    fn check(&mut self, rows: &[Row], last: &[Row]) {
        let first = self.sent;
        for some in [rows, last] {
            let from = self.sent;
            let mut files: BTreeMap<&str, String> = BTreeMap::new();
            for row in some {
                self.sent += 1;
                *files.entry(row.at).or_default() += &row.message(self.sent);
            }
            for (name, text) in files {
                let node = self.node(name);
                fs::write(node.path("in/.new"), text).unwrap();
                fs::rename(node.path("in/.new"), node.path(&format!("in/{from}.jsonl"))).unwrap();
            }
            for name in self.nodes.keys() {
                let numbered = (from + 1..).zip(some);
                let expected: BTreeSet<u64> =
                    numbered.filter(|(_, row)| row.hidden_at(name).is_some()).map(|(n, _)| n).collect();
                wait_until(&format!("{name} gets {expected:?}"), || {
                    let arrived = self.arrived(name);
                    expected.iter().all(|number| arrived.contains_key(number))
                });
            }
            // So that nothing is under way that `last` could overtake.
            for node in self.nodes.values() {
                node.status_when("it has given what it has", |status| {
                    let mut peers = status["peers"].as_object().unwrap().values();
                    peers.all(|peer| peer["behind"] == 0 && peer["unanswered"] == 0)
                });
            }
        }
        let rows: Vec<(u64, &Row)> = (first + 1..).zip(rows.iter().chain(last)).collect();
        for name in self.nodes.keys() {
            let arrived = self.arrived(name);
            let came: Vec<u64> = arrived.keys().copied().filter(|number| *number > first).collect();
            let expected: Vec<u64> =
                rows.iter().filter(|(_, row)| row.hidden_at(name).is_some()).map(|(number, _)| *number).collect();
            assert_eq!(came, expected, "what arrived at {name}");
            for (number, row) in &rows {
                if let Some(hidden) = row.hidden_at(name) {
                    self.assert_fields(name, row, hidden, &arrived[number]);
                }
            }
        }
        assert_eq!(self.intelmq.1.complaints(), Vec::<String>::new());
    }

    /// The event has its fields, but those that are hidden.
    #[track_caller]
    fn assert_fields(&self, name: &str, row: &Row, hidden: &[&str], (fields, count): &Arrived) {
        assert_eq!(*count, hidden.len() as u64, "{name}: hidden in {fields:?}");
        let sent: Value = serde_json::from_str(&row.message(0)).unwrap();
        // IntelMQ's file output leaves it out, as is its default.
        let behind_bots = self.intelmq.0 == name;
        for (field, value) in sent["payload"].as_object().unwrap() {
            if hidden.contains(&field.as_str()) || behind_bots && field == "raw" {
                assert_eq!(fields.get(field), None, "{name}: {field} of {fields:?}");
            } else if field != "extra.number" && field != "tlp" {
                assert_eq!(fields.get(field), Some(value), "{name}: {field} of {fields:?}");
            }
        }
    }
}

/// Each recipe with its table. What arrives last shows that nothing more comes.
mod recipe {
    use super::{Network, Piece, row, wait_until};

    /// A node that takes everything from cert-at, and gives it nothing.
    const RECEIVER: &str = "[[peer]]\nname = \"cert-at\"\nkey = \"12D3KooW…\"\n";

    pub(super) fn constituencies(recipe: &[Piece]) {
        let receiver = RECEIVER.replace("cert-at", "cert-eu");
        let others = [("cert-at", &*receiver), ("cert-ee", &*receiver)];
        let mut network = Network::new(recipe, &others, "cert-at");
        network.start();
        let eu = |event, arrives: &[&'static str]| row("cert-eu", event, arrives);
        network.check(
            &[
                eu(
                    r#""source.ip": "192.0.2.77", "source.port": 4711, "raw": "eA==", "feed.name": "sinkhole", "tlp": "GREEN",
                    "classification.type": "infected-system", "malware.name": "x", "source.abuse_contact": "a@b.example""#,
                    &["cert-at"],
                ),
                eu(r#""source.ip": "2001:db8:a::7", "source.geolocation.cc": "EE", "tlp": "CLEAR""#, &["cert-at"]),
                eu(r#""source.ip": "198.51.100.9", "source.geolocation.cc": "AT", "tlp": "GREEN""#, &["cert-ee"]),
                eu(r#""source.ip": "2001:db8:e::9""#, &["cert-ee"]),
                eu(r#""source.ip": "203.0.113.1", "source.geolocation.cc": "AT", "source.fqdn": "a.at.example""#, &[]),
                eu(r#""source.network": "192.0.0.0/8", "tlp": "AMBER""#, &["cert-at"]),
                eu(r#""source.network": "198.51.100.64/26""#, &["cert-ee"]),
                eu(r#""source.fqdn": "www.at.example", "source.url": "http://www.at.example/""#, &["cert-at"]),
                eu(r#""source.fqdn": "www.at.example.org", "source.geolocation.cc": "AT""#, &[]),
                eu(r#""source.geolocation.cc": "AT", "source.account": "somebody""#, &["cert-at"]),
                eu(r#""source.ip": "192.0.2.78", "tlp": "RED""#, &[]),
                // Its key is not known there, and it does not go out in the clear.
                eu(r#""source.ip": "192.0.2.79", "tlp": "RED""#, &[]).to(&["cert-at"]),
                eu(r#""classification.type": "infected-system""#, &[]),
            ],
            &[eu(r#""source.network": "128.0.0.0/1""#, &["cert-at", "cert-ee"])],
        );
    }

    pub(super) fn hub_and_members(recipe: &[Piece]) {
        // The other members have the same file, with the names that are theirs.
        let member = recipe.iter().find(|piece| piece.node() == Some("cert-a")).unwrap();
        let as_it = |name: &str| member.text.replace(&format!("{name:?}"), "\"cert-a\"");
        let (b, c) = (as_it("cert-b"), as_it("cert-c"));
        let mut network = Network::new(recipe, &[("cert-b", &b), ("cert-c", &c)], "cert-b");
        network.start();
        network.check(
            &[
                row("cert-a", r#""source.ip": "192.0.2.1", "tlp": "GREEN""#, &["hub", "cert-b", "cert-c"]),
                row("cert-b", r#""source.ip": "192.0.2.2", "tlp": "CLEAR""#, &["hub", "cert-a", "cert-c"]),
                row("cert-a", r#""source.ip": "192.0.2.3", "tlp": "AMBER""#, &["hub"]),
                row("cert-a", r#""source.ip": "192.0.2.4""#, &["hub"]),
                row("cert-c", r#""source.ip": "192.0.2.5", "tlp": "AMBER""#, &["hub", "cert-b"]).to(&["hub", "cert-b"]),
                row("cert-c", r#""source.ip": "192.0.2.6", "tlp": "RED""#, &["hub", "cert-b"]).to(&["hub", "cert-b"]),
                row("cert-c", r#""source.ip": "192.0.2.61", "tlp": "RED""#, &["cert-b"]).to(&["cert-b"]),
                row("cert-a", r#""source.ip": "192.0.2.62""#, &["cert-b", "cert-c"]).to(&["cert-b", "cert-c"]),
                row("cert-c", r#""source.ip": "192.0.2.7", "tlp": "AMBER+STRICT""#, &["hub"]),
                row("hub", r#""source.ip": "192.0.2.8""#, &["cert-a", "cert-b", "cert-c"]),
            ],
            &[
                row("cert-a", r#""source.ip": "192.0.2.9", "tlp": "CLEAR""#, &["hub", "cert-b", "cert-c"]),
                row("cert-b", r#""source.ip": "192.0.2.10", "tlp": "CLEAR""#, &["hub", "cert-a", "cert-c"]),
                row("cert-c", r#""source.ip": "192.0.2.11", "tlp": "CLEAR""#, &["hub", "cert-a", "cert-b"]),
                row("hub", r#""source.ip": "192.0.2.12", "tlp": "CLEAR""#, &["cert-a", "cert-b", "cert-c"]),
            ],
        );
    }

    pub(super) fn research(recipe: &[Piece]) {
        // Another peer's events go there too; and what the network itself has to say is not taken.
        let peers = "[[peer]]\nname = \"cert-at\"\nkey = \"12D3KooW…\"\ngive = \"community\"\n";
        let research = format!("{peers}[[origin]]\nname = \"cert-b\"\nkey = \"12D3KooW…\"\n");
        let others = [("research", &*research), ("cert-b", peers)];
        let mut network = Network::new(recipe, &others, "research");
        network.node("cert-at").peer(network.node("cert-b"), "none");
        network.start();
        const HIDDEN: &[&str] = &["raw", "source.abuse_contact", "destination.account"];
        let full = r#""source.ip": "192.0.2.1", "raw": "eA==", "source.abuse_contact": "a@b.example",
            "destination.account": "x", "extra.kept": 1, "tlp": "CLEAR""#;
        network.check(
            &[
                row("cert-at", full, &[]).without(HIDDEN, &["research"]),
                row("cert-at", r#""source.ip": "192.0.2.2", "tlp": "CLEAR""#, &["research"]),
                row("cert-at", r#""source.ip": "192.0.2.3", "tlp": "GREEN""#, &[]),
                row("cert-at", r#""source.ip": "192.0.2.4""#, &[]),
                row("cert-at", r#""source.ip": "192.0.2.5", "tlp": "AMBER""#, &[]),
                row("cert-b", full, &["cert-at"]).without(HIDDEN, &["research"]),
                row("cert-b", r#""source.ip": "192.0.2.6", "tlp": "GREEN""#, &["cert-at"]),
                row("research", r#""source.ip": "192.0.2.7", "tlp": "CLEAR""#, &[]),
            ],
            &[
                row("cert-at", r#""source.ip": "192.0.2.8", "tlp": "CLEAR""#, &["research"]),
                row("cert-b", r#""source.ip": "192.0.2.9", "tlp": "CLEAR""#, &["cert-at", "research"]),
            ],
        );
        // Nothing that it sealed arrives later, so its answers say it.
        network.node("research").status_when("it was refused", |status| {
            status["peers"]["cert-at"]["given"]["verdicts"]["refused:nothing-given"] == 1
        });
    }

    pub(super) fn full_events_for_two(recipe: &[Piece]) {
        let others = ["cert-a", "cert-b", "cert-c", "cert-d"].map(|name| (name, RECEIVER));
        let mut network = Network::new(recipe, &others, "cert-c");
        network.start();
        let (two, rest) = (&["cert-a", "cert-b"], &["cert-c", "cert-d"]);
        let last = row("cert-at", r#""source.ip": "192.0.2.4", "tlp": "CLEAR""#, two).without(&[], rest);
        network.check(
            &[
                row("cert-at", r#""source.ip": "192.0.2.1", "raw": "eA==", "extra.kept": true, "tlp": "GREEN""#, two)
                    .without(&["raw"], rest),
                row(
                    "cert-at",
                    r#""raw": "eA==", "source.abuse_contact": "a@b.example", "destination.abuse_contact": "c@d.example""#,
                    two,
                )
                .without(&["raw", "source.abuse_contact", "destination.abuse_contact"], rest),
                row("cert-at", r#""source.ip": "192.0.2.2""#, two).without(&[], rest),
            ],
            &[last],
        );
        // As the page warns: one of the two may pass on in full what is GREEN, and only that.
        let (a, c) = (network.node("cert-a"), network.node("cert-c"));
        let full = || c.expect(0, &["export"]).matches("\"raw\"").count();
        assert_eq!(full(), 0);
        a.peer(c, "community");
        c.peer(a, "none");
        a.reload("", "");
        c.reload("", "");
        a.status_when("cert-c has a fuller copy", |status| {
            status["peers"]["cert-c"]["given"]["verdicts"]["completed"] == 1
        });
        assert_eq!(full(), 1);
    }

    pub(super) fn a_feed_that_never_leaves(recipe: &[Piece]) {
        let mut network = Network::new(recipe, &[("cert-a", RECEIVER), ("cert-b", RECEIVER)], "cert-b");
        network.start();
        let at = |event, arrives: &[&'static str]| row("cert-at", event, arrives);
        network.check(
            &[
                at(r#""feed.name": "open", "classification.type": "phishing""#, &["cert-a", "cert-b"]),
                at(r#""feed.name": "open", "classification.type": "scanner""#, &["cert-a"]),
                at(r#""feed.name": "sensor-internal", "classification.type": "phishing""#, &[]),
                at(r#""feed.name": "sensor-internal", "classification.type": "phishing", "tlp": "CLEAR""#, &[]),
                at(r#""feed.name": "sensor-internal", "classification.type": "phishing""#, &[]).to(&["cert-b"]),
                at(r#""feed.name": "open", "classification.type": "phishing""#, &[]).tagged(&["x", "internal"]),
                at(r#""classification.type": "phishing""#, &["cert-a", "cert-b"]).tagged(&["x"]),
            ],
            &[at(r#""feed.name": "last", "classification.type": "phishing""#, &["cert-a", "cert-b"])],
        );
        let status = network.node("cert-at").status();
        let withheld = &status["peers"]["cert-b"]["withheld"];
        assert_eq!((&withheld["rule-never/sensor-feed"], &withheld["rule-never/sensor-tag"]), (&2.into(), &1.into()));
        // It names a peer, and would be encrypted to it: so the rules are asked before.
        let held = network.node("cert-at").expect(0, &["quarantine", "list"]);
        assert!(held.contains("the rule never/sensor-feed"), "{held}");
    }

    pub(super) fn own_events_only(recipe: &[Piece]) {
        let b = "[[peer]]\nname = \"cert-at\"\nkey = \"12D3KooW…\"\ngive = \"community\"\n[[peer]]\nname = \"cert-c\"\n\
                 key = \"12D3KooW…\"\ngive = \"community\"\n";
        let c = "[[peer]]\nname = \"cert-b\"\nkey = \"12D3KooW…\"\naddresses = [\"/dns/relay.cert-b.example/tcp/4747\"]\n\
                 give = \"community\"\n[[peer]]\nname = \"cert-d\"\nkey = \"12D3KooW…\"\ngive = \"none\"\n\
                 [[origin]]\nname = \"cert-at\"\nkey = \"12D3KooW…\"\n";
        let mut network = Network::new(recipe, &[("cert-b", b), ("cert-c", c), ("cert-d", "")], "cert-at");
        // Another peer, from whom all is taken.
        network.node("cert-d").peer(network.node("cert-at"), "community");
        network.node("cert-d").peer(network.node("cert-c"), "none");
        network.node("cert-at").peer(network.node("cert-d"), "none");
        network.start();
        network.check(
            &[
                row("cert-b", r#""source.ip": "192.0.2.1", "tlp": "GREEN""#, &["cert-at", "cert-c"]),
                // By way of cert-b only, for cert-c gives cert-d nothing.
                row("cert-c", r#""source.ip": "192.0.2.2", "tlp": "GREEN""#, &["cert-b"]),
                row("cert-at", r#""source.ip": "192.0.2.3", "tlp": "GREEN""#, &["cert-b", "cert-c"]),
            ],
            &[
                row("cert-b", r#""source.ip": "192.0.2.4""#, &["cert-at", "cert-c"]),
                row("cert-d", r#""source.ip": "192.0.2.5""#, &["cert-at"]),
            ],
        );
        network.node("cert-b").status_when("cert-at has refused it", |status| {
            status["peers"]["cert-at"]["given"]["verdicts"]["refused:no-rule"] == 1
        });
        // When cert-d brings it, it is taken.
        network.node("cert-c").reload("give = \"none\"", "give = \"community\"");
        network.check(
            &[],
            &[row("cert-c", r#""source.ip": "192.0.2.6", "tlp": "GREEN""#, &["cert-b", "cert-d", "cert-at"])],
        );
    }

    pub(super) fn a_new_peer(recipe: &[Piece]) {
        let new = "[[peer]]\nname = \"cert-at\"\nkey = \"12D3KooW…\"\ngive = \"community\"\ntest = true\n";
        let mut network = Network::new(recipe, &[("cert-new", new)], "cert-new");
        network.start();
        let (test, real) = (r#""classification.type": "test""#, r#""classification.type": "scanner""#);
        network.check(
            &[
                row("cert-at", test, &["cert-new"]),
                row("cert-at", real, &[]),
                row("cert-new", real, &[]),
                row("cert-new", r#""source.ip": "192.0.2.1""#, &[]),
            ],
            &[row("cert-at", test, &["cert-new"]), row("cert-new", test, &["cert-at"])],
        );
        let status = network.node("cert-at").status();
        assert_eq!(status["peers"]["cert-new"]["withheld"]["test-mode"], 1);

        for name in ["cert-at", "cert-new"] {
            network.node(name).reload("test = true", "test = false");
        }
        for (name, peer) in [("cert-at", "cert-new"), ("cert-new", "cert-at")] {
            network.node(name).status_when("neither is in test mode", |status| {
                let peer = &status["peers"][peer];
                peer["linked"] == true && peer["test"]["ours"] == false && peer["test"]["theirs"] == false
            });
        }
        network.check(
            &[row("cert-at", real, &["cert-new"])],
            &[row("cert-new", real, &["cert-at"]), row("cert-at", test, &["cert-new"])],
        );
        // What was withheld comes when it is resent: of each side as much as it asks for.
        let before = network.arrived("cert-new").len();
        network.node("cert-at").expect(0, &["resend", "--peer", "cert-new", "--since", "2026-11-01T00:00:00Z"]);
        wait_until("the one that was withheld is there", || network.arrived("cert-new").len() == before + 1);
    }
}
