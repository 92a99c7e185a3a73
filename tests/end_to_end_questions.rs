//! What an operator asks about what has passed: `tail`, `show`, `export`, `quarantine`, of a running node and of one that
//! is stopped, with the same answers.

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

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use events::{event_with, events};
use redis_server::Redis;
use relay::{PATIENCE, Relay, command, wait_until};

/// A command that goes on; ended with the test.
struct Following {
    process: Child,
    lines: Receiver<String>,
}

impl Following {
    fn start(node: &Relay, arguments: &[&str]) -> Following {
        let mut process =
            command(&node.path(""), arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let stdout: BufReader<ChildStdout> = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Following { process, lines }
    }

    fn next(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line")
    }

    /// Exit code and last words, when it has ended by itself.
    fn ended(&mut self) -> (Option<i32>, String) {
        wait_until("it ends", || self.process.try_wait().unwrap().is_some());
        let mut text = String::new();
        std::io::Read::read_to_string(self.process.stderr.as_mut().unwrap(), &mut text).unwrap();
        (self.process.wait().unwrap().code(), text)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A node with a Redis that it takes "out" from.
fn node(redis: &Redis) -> Relay {
    let node = Relay::init("cert-a");
    node.takes(&redis.config(), "out", "");
    node
}

#[test]
fn tail_follows_what_passes() {
    let redis = Redis::start();
    let mut node = node(&redis);
    node.start();
    redis.push("out", &events(0..20));
    node.status_when("they are sealed", |status| status["head"] == 20);
    let mut json = Following::start(&node, &["tail", "--json"]);
    let mut lines = Following::start(&node, &["tail", "-n", "0"]);
    let numbers = |tail: &Following, count| -> Vec<String> {
        let number = |line: String| line.split("\"extra.number\": ").nth(1).unwrap().split(',').next().unwrap().into();
        (0..count).map(|_| number(tail.next())).collect()
    };
    let expected: Vec<String> = (10..20).map(|n| n.to_string()).collect();
    assert_eq!(numbers(&json, 10), expected, "the last ten, oldest first");
    // Both follow: the second began behind everything, which shows with the first that comes.
    let mut next = 20;
    let first = loop {
        redis.push("out", &events(next..next + 1));
        assert_eq!(numbers(&json, 1), [next.to_string()]);
        next += 1;
        if let Ok(line) = lines.lines.recv_timeout(Duration::from_millis(50)) {
            break line;
        }
    };
    assert!(first.contains(" cert-a:intelmq:") && first.contains("infected-system (8 fields)"), "{first}");
    let all = node.expect(0, &["tail", "-n", "5", "--no-follow", "--type", "event"]);
    assert_eq!(all.lines().count(), 5, "{all}");
    let none = node.expect(0, &["tail", "--no-follow", "--type", "report"]);
    assert_eq!(none, "");
    node.terminate();
    for tail in [&mut json, &mut lines] {
        let (code, said) = tail.ended();
        assert!(code == Some(1) && said.contains("the node has stopped"), "{code:?} {said}");
    }
}

#[test]
fn a_tail_of_a_stopped_node_does_not_keep_it_from_starting() {
    let redis = Redis::start();
    let mut node = node(&redis);
    node.start();
    redis.push("out", &events(0..3));
    node.status_when("they are sealed", |status| status["head"] == 3);
    node.terminate();
    let mut tail = Following::start(&node, &["tail"]);
    for _ in 0..3 {
        tail.next();
    }
    let (code, said) = tail.ended();
    assert!(code == Some(1) && said.contains("start it"), "{code:?} {said}");
    node.start();
    // `status` does not even look at the store: whoever asks while the node starts does not get in its way.
    std::fs::remove_file(node.path("data/control.sock")).unwrap();
    let starting = node.expect(1, &["status"]);
    assert!(starting.contains("the node is not running"), "{starting}");
}

#[test]
fn show_and_export_say_the_same_of_a_running_node_and_of_a_stopped_one() {
    let redis = Redis::start();
    let mut node = node(&redis);
    node.takes(
        &redis.config(),
        "special",
        "tlp = \"GREEN\"\ntags = [\"test\"]\nto = [\"cert-b\", \"cert-c\"]\nencrypt = \"red\"",
    );
    node.start();
    // More than one read of the log, and larger than any buffer between.
    let all = events(0..3_000);
    redis.push("out", &all);
    node.status_when("they are sealed", |status| status["head"] == 3_000);
    redis.push("special", &[event_with(3_000, "")]);
    node.status_when("and the last", |status| status["head"] == 3_001);

    let ask = |node: &Relay| {
        let tail = node.expect(0, &["tail", "-n", "1", "--no-follow"]);
        let id = tail.split_whitespace().nth(2).unwrap().to_owned();
        let uuid = id.rsplit(':').next().unwrap();
        let shown = node.expect(0, &["show", uuid]);
        assert_eq!(shown, node.expect(0, &["show", &id]), "by UUID and by CyCAT's form");
        for says in ["number    3001", "from      our own IntelMQ", "tlp       GREEN", "to        cert-b cert-c"] {
            assert!(shown.contains(says), "{says} is not in\n{shown}");
        }
        assert!(shown.contains("  extra.odd = 1.0\n") && shown.contains("tags      test"), "{shown}");
        let shapes = ["iep04", "proposed", "typed", "bare", "extra"];
        let exports = shapes.map(|shape| node.expect(0, &["export", "--shape", shape]));
        (tail, shown, node.expect(0, &["show", "--json", &id]), exports)
    };
    let running = ask(&node);
    node.terminate();
    let stopped = ask(&node);
    assert_eq!(running, stopped);

    let (_, _, json, [iep04, proposed, typed, bare, extra]) = stopped;
    for export in [&iep04, &proposed, &typed, &bare, &extra] {
        assert_eq!(export.lines().count(), 3_001);
    }
    assert!(typed.lines().zip(&all).all(|(line, event)| line == event), "the events as they came");
    assert!(bare.lines().zip(&all).all(|(line, event)| line == event.replace(", \"__type\": \"Event\"", "")));
    assert_eq!(iep04.lines().last(), json.lines().last());
    let last = iep04.lines().last().unwrap();
    assert!(last.starts_with("{\"format\": \"intelmq\", \"version\": 1, \"type\": \"event\", \"meta\": {"), "{last}");
    assert!(last.contains("\"relay:tlp\": \"GREEN\"") && last.contains("\"tags\": [\"test\"]"), "{last}");
    assert!(proposed.lines().last().unwrap().contains("\"current\": \"cert-a:intelmq:"), "{proposed:.200}");
    assert!(extra.lines().last().unwrap().contains("\"extra.relay.origin\": \"cert-a\""), "{extra:.200}");
    // What is exported can be taken again.
    let part = node.expect(0, &["export", "--after", "2999", "--origin", "cert-a"]);
    assert_eq!(part.lines().count(), 2);
    let none = node.expect(0, &["export", "--peer", "cert-b"]);
    assert_eq!(none, "");

    let unknown = node.expect(1, &["show", "72ddb00c-2d0a-4eea-b7ac-ae122b8e6c3b"]);
    assert!(unknown.contains("is not in the log"), "{unknown}");
    let wrong = node.expect(2, &["show", "nonsense"]);
    assert!(wrong.contains("is no id"), "{wrong}");
    let down = node.expect(1, &["status"]);
    assert!(down.contains("the node is not running"), "{down}");
}

#[test]
fn what_is_no_event_is_kept_in_quarantine() {
    let redis = Redis::start();
    let mut node = node(&redis);
    node.start();
    let pink = event_with(1, "\"tlp\": \"PINK\", ");
    let items: Vec<Vec<u8>> = vec![
        b"no JSON".to_vec(),
        b"{\"source.ip\": \"192.0.2.1\", \"raw\": \"\xff\xfe\"}".to_vec(),
        format!("{{\"raw\": \"{}\"}}", "A".repeat(1 << 20)).into_bytes(),
        pink.clone().into_bytes(),
        b"{\"__type\": \"Incident\"}".to_vec(),
        b"[1, 2]".to_vec(),
        b"".to_vec(),
        b"{\"format\": \"intelmq\", \"version\": 9, \"meta\": {}, \"payload\": {}}".to_vec(),
        b"{\"source.ip\":\n \x1b[31m\"}".to_vec(),
    ];
    let good = events(0..2);
    redis.push("out", &good[..1]);
    for item in &items {
        redis::cmd("LPUSH").arg("out").arg(&item[..]).exec(&mut redis.connect()).unwrap();
    }
    redis.push("out", &good[1..]);
    // The door counts after the store, and lets go of what it took after that.
    let status = node.status_when("all is taken and let go of", |status| {
        status["head"] == 2
            && status["sources"]["from-out"]["quarantined"].as_u64() >= Some(9)
            && redis.length("out-internal") == 0
    });
    assert_eq!((&status["quarantined"], &status["sources"]["from-out"]["quarantined"]), (&9.into(), &9.into()));
    assert_eq!(redis.length("out"), 0);

    let ask = |node: &Relay| {
        let list = node.expect(0, &["quarantine", "list"]);
        assert_eq!(list.lines().count(), items.len(), "{list}");
        for (number, line) in (1..).zip(list.lines()) {
            assert!(line.starts_with(&format!("{number} ")) && line.contains(" from-out "), "{line}");
        }
        let json = node.expect(0, &["quarantine", "list", "--json"]);
        let json: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((json.len(), &json[3]["item"], &json[0]["item"]), (9, &pink.clone().into(), &"no JSON".into()));
        let shown: Vec<_> =
            (1..=9).map(|number| node.expect(0, &["quarantine", "show", &number.to_string()])).collect();
        assert!(shown[3].contains("number    4\n") && shown[3].contains("PINK"), "{}", shown[3]);
        assert!(shown[2].len() > 1 << 20, "whole");
        assert!(shown.iter().all(|text| text.lines().count() == 6), "{shown:?}");
        assert!(!shown[8].contains('\x1b'), "a terminal is not told what to do");
        (list, json, shown)
    };
    let running = ask(&node);
    node.terminate();
    assert_eq!(running, ask(&node));
    for (line, reason) in running.0.lines().zip(["JSON", "UTF-8", "limits.envelope_bytes", "TLP", "__type"]) {
        assert!(line.contains(reason), "{line}");
    }
    eprintln!("{}", running.0);
    let nothing = node.command(&["quarantine", "show", "10"]);
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("nothing is in quarantine under this number"));
    assert_eq!(nothing.status.code(), Some(1), "as `show` says that there is none");
}
