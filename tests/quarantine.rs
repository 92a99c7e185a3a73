//! What a node holds back and why, through the program: events that do not fit the local IntelMQ, events that a pipeline
//! brings back, what stays here before sealing, which queue gets what, and quarantine that is tried again or dropped.

#![allow(clippy::unwrap_used)] // A test that fails may panic, in what it calls too.

#[path = "support/events.rs"]
#[allow(dead_code)] // Other tests use the rest of it.
mod events;
#[path = "support/redis.rs"]
#[allow(dead_code)]
mod redis_server;
#[path = "support/relay.rs"]
#[allow(dead_code)]
mod relay;

use std::fs;

use redis_server::Redis;
use relay::{Relay, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

const OUT: &str = "relay-queue";
const IN: &str = "bot-queue";

/// A takes from a queue, B gives to another one of the same Redis.
struct Way {
    redis: Redis,
    a: Relay,
    b: Relay,
}

impl Way {
    /// `seal` are lines of A's seal, `events` is the inline table of B's door.
    fn with(seal: &str, events: &str) -> Way {
        let (redis, a, b) = (Redis::start(), Relay::init("cert-a"), Relay::init("cert-b"));
        a.takes(&redis.config(), OUT, seal);
        b.gives(&redis.config(), IN, &format!("events = {events}"));
        a.peer(&b, "community");
        b.peer(&a, "community");
        Way { redis, a, b }
    }

    fn start(&mut self) {
        self.a.start();
        self.b.start();
    }

    /// Puts events into A's queue and waits until B has decided about everything that came of them.
    fn send(&self, events: &[Value]) {
        self.send_behind(0, events);
    }

    /// The same, where A has this many that B may not have.
    fn send_behind(&self, withheld: u64, events: &[Value]) {
        self.push(OUT, events);
        self.taken(OUT);
        let a = self.a.status();
        let head = a["head"].as_u64().unwrap() - withheld;
        self.b.status_when("B has decided", |b| {
            b["head"].as_u64() >= Some(head) && b["sinks"]["to-bot-queue"]["seq"] == b["head"]
        });
    }

    fn push(&self, queue: &str, events: &[Value]) {
        self.redis.push(queue, &events.iter().map(Value::to_string).collect::<Vec<_>>());
    }

    /// Waits until everything in a queue is taken, and durably decided.
    fn taken(&self, queue: &str) {
        wait_until("the queue is empty", || {
            self.redis.length(queue) == 0 && self.redis.length(&format!("{queue}-internal")) == 0
        });
    }

    fn arrived(&self) -> Vec<Value> {
        self.redis.items(IN).iter().map(|item| serde_json::from_str(item).unwrap()).collect()
    }
}

fn event(number: u64, more: Value) -> Value {
    let mut event = json!({"source.ip": "192.0.2.1", "classification.type": "spam", "extra.number": number});
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    event.as_object_mut().unwrap().insert("__type".into(), "Event".into());
    event
}

fn quarantine(node: &Relay) -> Vec<Value> {
    let list = node.expect(0, &["quarantine", "list", "--json"]);
    list.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Whether a text is in a node's data, or in what it has logged.
fn left_a_trace(node: &Relay, text: &str) -> bool {
    let mut folders = vec![node.path("data")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() && fs::read(path).unwrap().windows(text.len()).any(|part| part == text.as_bytes())
            {
                return true;
            }
        }
    }
    node.log_text().contains(text)
}

fn numbers(events: &[Value]) -> Vec<u64> {
    let mut numbers: Vec<u64> = events.iter().map(|event| event["extra.number"].as_u64().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

const OLD_FORMAT: &str = r#"{
  "event": {
    "classification.type": {"type": "ClassificationType"}, "source.ip": {"type": "IPAddress"},
    "source.asn": {"type": "ASN"}, "extra": {"type": "JSONDict"}
  },
  "report": {"raw": {"type": "Base64"}}
}"#;

#[test]
fn what_does_not_fit_is_kept_and_given_once_when_it_fits() {
    let mut way = Way::with("", "{ harmonization = \"./harmonization.conf\" }");
    let format = way.b.path("harmonization.conf");
    fs::write(&format, OLD_FORMAT).unwrap();
    way.start();
    way.send(&[
        event(1, json!({})),
        event(2, json!({"source.asn": "no number"})),
        event(3, json!({"severity": "high", "source.asn": "64496"})),
        event(4, json!({"source.ip": "300.0.0.1"})),
    ]);
    let arrived = way.arrived();
    assert_eq!(numbers(&arrived), [1, 3], "{arrived:?}");
    assert_eq!(arrived[1]["extra.severity"], "high", "a field that the format lacks");
    assert_eq!(arrived[1]["source.asn"], 64496, "as IntelMQ would read it");
    let kept = quarantine(&way.b);
    let reasons: Vec<_> = kept.iter().map(|item| item["reason"].as_str().unwrap()).collect();
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert!(reasons[0].starts_with("source.asn: ") && reasons[1].starts_with("source.ip: "), "{reasons:?}");
    assert!(!reasons.concat().contains("300.0.0.1"), "a reason goes to logs, and a value may not: {reasons:?}");
    assert!(kept[0]["item"].as_str().unwrap().contains("no number"), "{kept:?}");
    let status = way.b.status();
    assert_eq!((&status["quarantined"], &status["sinks"]["to-bot-queue"]["quarantined"]), (&json!(2), &json!(2)));

    // Again, while nothing has changed; then with a format that has it as a text.
    let refused = way.b.command(&["quarantine", "retry", "1"]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stdout).contains("source.asn"), "{refused:?}");
    fs::write(&format, OLD_FORMAT.replace("\"ASN\"", "\"String\"")).unwrap();
    way.b.kill9();
    way.b.start();
    assert_eq!(quarantine(&way.b).len(), 2, "it was on disk, and once");
    way.b.expect(0, &["quarantine", "retry", "1"]);
    assert_eq!(numbers(&way.arrived()), [1, 2, 3]);
    let again = way.b.command(&["quarantine", "retry", "1"]);
    assert!(String::from_utf8_lossy(&again.stdout).contains("no item"), "{again:?}");
    way.b.expect(0, &["quarantine", "drop", "--all"]);
    assert_eq!(quarantine(&way.b), Vec::<Value>::new());
    way.b.kill9();
    way.b.start();
    way.send(&[event(5, json!({}))]);
    assert_eq!(numbers(&way.arrived()), [1, 2, 3, 5], "each once, over the crash");
    assert_eq!(way.b.status()["quarantined"], 0);
}

/// The last thing that came does not fit, and the operator corrects the format while the node is down.
#[test]
fn what_is_in_quarantine_is_not_given_from_the_log_as_well() {
    let mut way = Way::with("", "{ harmonization = \"./harmonization.conf\" }");
    let format = way.b.path("harmonization.conf");
    fs::write(&format, OLD_FORMAT).unwrap();
    way.start();
    way.send(&[event(1, json!({"source.asn": "no number"}))]);
    way.b.terminate();
    fs::write(&format, OLD_FORMAT.replace("\"ASN\"", "\"String\"")).unwrap();
    way.b.start();
    way.send(&[event(2, json!({}))]);
    assert_eq!((numbers(&way.arrived()), quarantine(&way.b).len()), (vec![2], 1));
    // The other side is restarted without its data, and what it got is given from the node's own note on.
    way.b.terminate();
    redis::cmd("DEL").arg("relay:cert-b:to-bot-queue:mark").exec(&mut way.redis.connect()).unwrap();
    way.b.start();
    way.b.expect(0, &["quarantine", "retry", "1"]);
    assert_eq!((numbers(&way.arrived()), quarantine(&way.b).len()), (vec![1, 2], 0));
}

/// A command that gave up leaves its wish behind, and the operator asks once more.
#[test]
fn what_is_asked_for_twice_while_the_door_waits_is_given_once() {
    let (events, high_water) = ("{ harmonization = \"./harmonization.conf\" }", "high_water = 1\n");
    let mut way = Way::with("", &format!("{events}\n{high_water}"));
    let format = way.b.path("harmonization.conf");
    fs::write(&format, OLD_FORMAT).unwrap();
    way.start();
    way.send(&[event(1, json!({"source.asn": "no number"})), event(2, json!({}))]);
    fs::write(&format, OLD_FORMAT.replace("\"ASN\"", "\"String\"")).unwrap();
    let gave_up = way.b.command(&["quarantine", "retry", "1"]);
    assert!(String::from_utf8_lossy(&gave_up.stdout).contains("has not answered"), "{gave_up:?}");
    let folder = way.b.path("");
    let again = std::thread::spawn(move || relay::command(&folder, &["quarantine", "retry", "1"]).output().unwrap());
    // It is on its way: the bot takes what it has been given only now.
    std::thread::sleep(std::time::Duration::from_millis(500));
    redis::cmd("DEL").arg(IN).exec(&mut way.redis.connect()).unwrap();
    let again = again.join().unwrap();
    assert!(String::from_utf8_lossy(&again.stdout).contains("1 is no item in quarantine"), "{again:?}");
    assert_eq!((numbers(&way.arrived()), quarantine(&way.b)), (vec![1], vec![]));
}

#[test]
fn a_door_whose_format_cannot_be_read_waits_and_says_so() {
    let mut way = Way::with("", "{ harmonization = \"./harmonization.conf\" }");
    way.start();
    way.push(OUT, &[event(1, json!({}))]);
    way.b.says("cannot read the data format");
    assert_eq!(way.redis.length(IN), 0);
    fs::write(way.b.path("harmonization.conf"), OLD_FORMAT).unwrap();
    // The pause is for the operator; who does not want to wait restarts.
    way.b.terminate();
    way.b.start();
    wait_until("it is given", || way.redis.length(IN) == 1);
}

#[test]
fn a_pipeline_that_leads_back_to_the_relay_makes_no_loop() {
    let mut way = Way::with("", "{ harmonization = \"builtin\" }");
    way.b.takes(&way.redis.config(), "back", "");
    way.a.gives(&way.redis.config(), "home", "events = { harmonization = \"builtin\" }");
    way.start();
    way.send(&[event(1, json!({})), event(2, json!({"extra.relay.note": "not a mark"}))]);
    let arrived = way.arrived();
    assert_eq!(arrived[0]["extra.relay.origin"], "cert-a");
    assert_eq!(arrived[0]["extra.relay.path"], "!cert-a!cert-b");
    // B's pipeline adds something, as experts do, and brings them back; and one that B has never seen.
    let mut back = arrived.clone();
    back[0]["source.asn"] = json!(64496);
    back.push(event(3, json!({"extra.relay.uuid": uuid::Uuid::new_v4(), "extra.relay.origin": "cert-x"})));
    way.push("back", &back);
    way.taken("back");
    let status = way.b.status_when("all are counted", |b| {
        let source = &b["sources"]["from-back"];
        source["duplicates"].as_u64().unwrap() + source["quarantined"].as_u64().unwrap() == 3
    });
    assert_eq!(status["sources"]["from-back"], json!({"sealed": 0, "duplicates": 2, "quarantined": 1}));
    let kept = quarantine(&way.b);
    assert!(kept[0]["reason"].as_str().unwrap().contains("cert-x's event"), "{kept:?}");
    // A gets its own back by a way without marks of B's: it knows them too.
    way.push(OUT, &arrived);
    way.taken(OUT);
    way.a.status_when("A knows them", |a| a["sources"]["from-relay-queue"]["duplicates"] == 2);
    // Another event, to see that nothing else was under way.
    way.send(&[event(4, json!({}))]);
    assert_eq!(numbers(&way.arrived()), [1, 2, 4]);
    assert_eq!(way.redis.length("home"), 0);
}

#[test]
fn what_is_not_to_leave_is_dropped_or_hidden_before_sealing() {
    let seal = "drop = [\"feed.url\", \"rtir_id\", \"extra.internal.*\"]\nhide = [\"source.fqdn\"]";
    let mut way = Way::with(seal, "{ harmonization = \"builtin\" }");
    way.start();
    let private = json!({
        "feed.url": "https://feed.example/?key=s3cret", "rtir_id": 12345678, "extra.internal.note": "ours alone",
        "source.fqdn": "hidden.example"
    });
    way.send(&[event(1, private), json!({"rtir_id": 1, "__type": "Event"})]);
    let arrived = way.arrived();
    assert_eq!(numbers(&arrived), [1]);
    assert_eq!(arrived[0]["extra.relay.hidden"], 1, "it is seen that something is withheld");
    for node in [&mut way.a, &mut way.b] {
        let log = node.expect(0, &["export"]);
        for secret in ["s3cret", "12345678", "ours alone", "hidden.example", "source.fqdn"] {
            assert!(!log.contains(secret), "{}: {secret}: {log}", node.name);
        }
    }
    assert!(quarantine(&way.a)[0]["reason"].as_str().unwrap().contains("no field is left"));
    let refused = way.a.configuration().replace("rtir_id", "*.type");
    way.a.configure(&refused);
    let said = way.a.expect(2, &["run"]);
    assert!(said.contains("takes away classification.type"), "{said}");
}

#[test]
fn rules_of_a_seal_say_what_leaves_this_node() {
    let seal = "encrypt = \"red\"\ndrop = [\"raw\"]\npseudonym = [\"*.account\"]\n\
        [[take.redis.seal.rules]]\nwhen.fields.\"feed.name\" = \"sinkhole\"\ntruncate.fields = [\"*.ip\"]\ntags = \"coarse\"\n\
        [[take.redis.seal.rules]]\nwhen.fields.\"extra.for\" = \"nobody\"\nto = \"cert-x\"\ntlp = \"AMBER+STRICT\"";
    let mut way = Way::with(seal, "{ harmonization = \"builtin\" }");
    way.start();
    let user = json!({"feed.name": "sinkhole", "source.ip": "198.51.100.77", "source.account": "alice-and-bob",
        "destination.account": "alice-and-bob", "raw": "YWxpY2UtYW5kLWJvYg=="});
    let other = json!({"feed.name": "other", "source.ip": "203.0.113.99", "source.account": "alice-and-bob"});
    let named = json!({"meta": {"relay:to": ["cert-b"]}, "payload": event(4, json!({"extra.for": "nobody"}))});
    way.push(OUT, &[event(3, json!({"extra.for": "nobody", "tlp": "GREEN"})), named]);
    way.taken(OUT);
    let held = quarantine(&way.a);
    assert_eq!(held.len(), 1, "no recipient is left of it: {held:?}");
    assert!(held[0]["reason"].as_str().unwrap().contains("the rule from-relay-queue/2 of the door's seal"), "{held:?}");
    way.send_behind(1, &[event(1, user), event(2, other)]);
    let arrived = way.arrived();
    assert_eq!(numbers(&arrived), [1, 2], "what is for others only did not come");
    let [one, two] = &*arrived else { panic!("{arrived:?}") };
    assert_eq!((&one["source.network"], one.get("source.ip")), (&json!("198.51.100.0/24"), None));
    assert_eq!(two["source.ip"], "203.0.113.99", "the rule is not for this feed");
    let pseudonym = one["source.account"].as_str().unwrap();
    assert_eq!(pseudonym.len(), 32);
    assert!([&one["destination.account"], &two["source.account"]].into_iter().all(|other| other == pseudonym));
    let log = way.a.expect(0, &["export", "--shape", "iep04"]);
    let kept: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert_eq!((&kept["meta"]["relay:tlp"], &kept["payload"]["tlp"]), (&json!("AMBER+STRICT"), &json!("AMBER+STRICT")));
    assert_eq!(kept["meta"]["relay:to"], json!(["cert-x"]));
    // As it is on disk, in logs and in what is asked of the node: nothing of it.
    way.a.terminate();
    way.b.terminate();
    for node in [&way.a, &way.b] {
        for gone in ["198.51.100.77", "alice-and-bob", "YWxpY2UtYW5kLWJvYg"] {
            assert!(!left_a_trace(node, gone), "{}: {gone}", node.name);
        }
        assert!(left_a_trace(node, "203.0.113.99"), "{}: what is there is found", node.name);
    }
}

#[test]
fn doors_share_events_out_by_their_lists() {
    let mut way = Way::with("tags = [\"urgent\"]", "{ types = [\"event\"], tags = [\"urgent\"] }");
    way.b.gives(&way.redis.config(), "reports", "events = { types = [\"report\"], origins = [\"cert-a\"] }");
    way.b.gives(&way.redis.config(), "others", "events = { tags = [\"other\"] }");
    way.b.gives(&way.redis.config(), "strangers", "events = { origins = [\"cert-x\"] }");
    way.start();
    way.send(&[event(1, json!({})), json!({"raw": "eA==", "feed.name": "n", "__type": "Report"})]);
    way.b.status_when("all doors are there", |b| {
        b["sinks"].as_object().unwrap().values().all(|sink| sink["seq"] == b["head"])
    });
    let lengths = [IN, "reports", "others", "strangers"].map(|queue| way.redis.length(queue));
    assert_eq!(lengths, [1, 1, 0, 0]);
    assert!(way.redis.items("reports")[0].contains("\"__type\": \"Report\""));
}

#[test]
fn an_item_that_could_not_be_read_is_sealed_when_it_can_be() {
    let mut way = Way::with("", "{ harmonization = \"builtin\" }");
    way.a.and("[limits]\nenvelope_bytes = 2048");
    way.start();
    way.send(&[event(1, json!({"comment": "x".repeat(3000)})), json!("no event"), event(2, json!({}))]);
    assert_eq!(numbers(&way.arrived()), [2]);
    assert_eq!(quarantine(&way.a).len(), 2);
    let refused = way.a.command(&["quarantine", "retry", "--all"]);
    assert!(!refused.status.success());
    assert_eq!(quarantine(&way.a).len(), 2);
    way.a.terminate();
    way.a.configure(&way.a.configuration().replace("envelope_bytes = 2048", "envelope_bytes = 1048576"));
    way.a.start();
    let done = way.a.command(&["quarantine", "retry", "--all"]);
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(text.contains("1 sealed, as taken by from-relay-queue") && text.contains("2 stays"), "{text}");
    wait_until("it arrives", || way.redis.length(IN) == 2);
    assert_eq!(numbers(&way.arrived()), [1, 2]);
    assert_eq!(quarantine(&way.a).len(), 1);
    // Without the door there is nobody to try it; without a node, nobody to ask.
    let without: String = way.a.configuration().split("[[take.redis]]").next().unwrap().to_owned();
    way.a.configure(&without);
    way.a.signal(Signal::HUP);
    way.a.says("configuration read again");
    let refused = way.a.command(&["quarantine", "retry", "2"]);
    assert!(String::from_utf8_lossy(&refused.stdout).contains("not in the configuration"), "{refused:?}");
    way.a.terminate();
    assert!(way.a.expect(1, &["quarantine", "drop", "2"]).contains("not running"));
}
