//! IntelMQ's own TCP output, TCP collector and JSON parser, as they are, at the two ends of two nodes.

#![allow(clippy::unwrap_used)] // A test that fails may panic, in what it calls too.

#[path = "support/intelmq.rs"]
mod intelmq;
#[path = "support/redis.rs"]
#[allow(dead_code)] // Other tests use the rest of it.
mod redis_server;
#[path = "support/relay.rs"]
#[allow(dead_code)]
mod relay;
#[path = "support/tcp.rs"]
#[allow(dead_code)]
mod tcp;

use std::collections::BTreeMap;
use std::io::Read;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use redis_server::Redis;
use relay::{Relay, wait_until};
use rustix::process::Signal;
use serde_json::{Map, Value, json};

/// One of IntelMQ's bots, in library mode: without a configuration, a user or a folder of its own.
struct Bot {
    module: &'static str,
    process: Child,
}

impl Bot {
    /// Reads `<from>-queue` and writes to `<to>-queue` of this Redis, with these parameters.
    fn start(module: &'static str, redis: &Redis, from: &str, to: &str, parameters: Value) -> Bot {
        let server = redis.config();
        let mut settings = json!({
            "logging_path": null, "logging_level": "INFO", "logging_handler": "stream", "error_retry_delay": 1,
            "statistics_host": server.host, "statistics_port": server.port,
            "destination_queues": {"_default": [format!("{to}-queue")]},
        });
        for side in ["source", "destination"] {
            settings[format!("{side}_pipeline_broker")] = "redis".into();
            settings[format!("{side}_pipeline_host")] = server.host.clone().into();
            settings[format!("{side}_pipeline_db")] = server.db.into();
        }
        settings.as_object_mut().unwrap().extend(parameters.as_object().unwrap().clone());
        let program = format!(
            "import json, sys\nfrom {module} import BOT\nBOT(sys.argv[1], settings=json.loads(sys.argv[2])).start()"
        );
        let process = Command::new(intelmq::python())
            .args(["-c", &program, from, &settings.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Bot { module, process }
    }

    fn output(redis: &Redis, from: &str, to: SocketAddr, more: Value) -> Bot {
        let mut parameters = json!({"ip": to.ip().to_string(), "port": to.port()});
        parameters.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Bot::start("intelmq.bots.outputs.tcp.output", redis, from, "none", parameters)
    }

    fn collector(redis: &Redis, at: SocketAddr) -> Bot {
        let parameters = json!({"ip": at.ip().to_string(), "port": at.port(), "name": "relay"});
        Bot::start("intelmq.bots.collectors.tcp.collector", redis, "collector", "json", parameters)
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let mut said = String::new();
            let _ = self.process.stderr.take().unwrap().read_to_string(&mut said);
            eprintln!("{} said:\n{said}", self.module);
        }
    }
}

/// Events as they are in a queue.
fn events(kind: &str, count: usize) -> Vec<Map<String, Value>> {
    let event = |n: usize| {
        json!({
            "classification.type": "c2-server", "feed.name": format!("{kind} {n}"), "source.ip": "192.0.2.1",
            "source.geolocation.cc": "AT", "source.port": n + 1, "time.source": "2026-11-24T10:00:00+00:00",
            "extra.odd": 1.0, "extra.deep": {"a": [1, {"b": null}]}, "extra.text": "ü\u{2028}\"\\",
            "raw": "eA==", "tlp": "GREEN", "__type": "Event",
        })
    };
    (0..count).map(|n| event(n).as_object().unwrap().clone()).collect()
}

fn push(redis: &Redis, queue: &str, events: &[Map<String, Value>]) {
    redis.push(queue, &events.iter().map(|event| Value::from(event.clone()).to_string()).collect::<Vec<_>>());
}

/// Every event once, with the values that it had; what a relay and IntelMQ add aside.
#[track_caller]
fn assert_arrived(expected: &[Map<String, Value>], got: &[String]) {
    let mut found: BTreeMap<String, Vec<Map<String, Value>>> = BTreeMap::new();
    for text in got {
        let event: Map<String, Value> = serde_json::from_str(text).unwrap();
        found.entry(event["feed.name"].to_string()).or_default().push(event);
    }
    for event in expected {
        let there = found.get(&event["feed.name"].to_string()).map_or(&[][..], Vec::as_slice);
        assert_eq!(there.len(), 1, "of {event:?} are there {there:?}");
        for (key, value) in event {
            assert_eq!(there[0].get(key), Some(value), "{key} of {:?}", there[0]);
        }
    }
    assert_eq!(got.len(), expected.len());
}

#[test]
fn from_stock_outputs_to_a_stock_collector() {
    let (here, there) = (Redis::start(), Redis::start());
    let (lengths, lines, collector) = (tcp::address(), tcp::address(), tcp::address());
    let (mut a, mut b) = (Relay::init("cert-a"), Relay::init("cert-b"));
    a.and(&format!("[[take.tcp]]\nname = \"lengths\"\nlisten = \"{lengths}\""));
    a.and(&format!("[[take.tcp]]\nname = \"lines\"\nlisten = \"{lines}\"\nseparator = \"\\n\""));
    b.and(&format!(
        "[[give.tcp]]\nname = \"out\"\naddress = \"{collector}\"\nevents = {{ harmonization = \"builtin\" }}"
    ));
    a.peer(&b, "community");
    b.peer(&a, "none");
    a.start();
    b.start();

    let kinds = ["flat", "nested", "lines"];
    let all: Vec<_> = kinds.map(|kind| events(kind, 60)).into_iter().flatten().collect();
    for (kind, events) in kinds.iter().zip(all.chunks(60)) {
        push(&here, &format!("{kind}-queue"), events);
    }
    let outputs = [
        Bot::output(&here, "flat", lengths, json!({})),
        Bot::output(&here, "nested", lengths, json!({"hierarchical_output": true})),
        // It waits for an answer in this mode too.
        Bot::output(&here, "lines", lines, json!({"separator": "\n"})),
    ];
    let parser = Bot::start("intelmq.bots.parsers.json.parser", &there, "json", "parsed", json!({}));
    let collecting = Bot::collector(&there, collector);
    wait_until("everything arrives", || there.length("parsed-queue") >= all.len());
    assert_arrived(&all, &there.items("parsed-queue"));
    // Every one was answered: nothing is in the bots' queues.
    wait_until("everything is answered", || {
        kinds
            .iter()
            .all(|kind| here.length(&format!("{kind}-queue")) + here.length(&format!("{kind}-queue-internal")) == 0)
    });

    b.status_when("the collector has answered", |b| b["head"] == all.len() && b["sinks"]["out"]["seq"] == b["head"]);
    drop(collecting);

    // The nodes stop and start again: what comes meanwhile waits, at the bot or in the log.
    let more = events("later", 40);
    a.terminate();
    push(&here, "flat-queue", &more);
    a.start();
    b.terminate();
    b.start();
    let _collecting = Bot::collector(&there, collector);
    wait_until("the rest arrives", || there.length("parsed-queue") >= all.len() + more.len());
    assert_arrived(&[all, more].concat(), &there.items("parsed-queue"));
    drop((outputs, parser));
}

#[test]
fn whatever_is_killed_nothing_is_lost() {
    let (here, there) = (Redis::start(), Redis::start());
    let (address, collector) = (tcp::address(), tcp::address());
    let (mut a, mut b) = (Relay::init("cert-a"), Relay::init("cert-b"));
    a.and(&format!("[[take.tcp]]\nname = \"in\"\nlisten = \"{address}\""));
    b.and(&format!("[[give.tcp]]\nname = \"out\"\naddress = \"{collector}\"\nanswer_seconds = 60"));
    a.peer(&b, "community");
    b.peer(&a, "none");
    a.start();
    b.start();
    let all = events("killed", 1500);
    push(&here, "flat-queue", &all);
    // Patient enough for a node that is away for a moment.
    let _output = Bot::output(&here, "flat", address, json!({"error_max_retries": 1000, "error_retry_delay": 1}));
    let _collecting = Bot::collector(&there, collector);
    for round in 1..=4 {
        wait_until("some arrive", || there.length("json-queue") >= round * 200);
        let node = if round % 2 == 0 { &mut a } else { &mut b };
        node.signal(Signal::KILL);
        node.ended();
        node.start();
    }
    let texts = || -> Vec<Map<String, Value>> {
        let reports = there.items("json-queue");
        reports.iter().map(|report| event_of(&serde_json::from_str(report).unwrap())).collect()
    };
    let distinct = || {
        let mut names: Vec<String> = texts().iter().map(|event| event["feed.name"].to_string()).collect();
        names.sort();
        names.dedup();
        names.len()
    };
    for some in (300..=all.len()).step_by(300) {
        wait_until(&format!("{some} arrive"), || distinct() >= some);
    }
    assert_eq!(distinct(), all.len());
    // Each kill may double what was under way: one event of the bot's, and one batch before the collector.
    let doubled = texts().len() - all.len();
    assert!(doubled <= 2 + 2 * 256, "{doubled} are there twice");
}

/// Senders that keep on sending while the door is closed and opened again: what it had begun to store, it answers.
#[test]
fn stopping_and_reloading_doubles_nothing() {
    let address = tcp::address();
    let mut node = Relay::init("cert-a");
    let configuration = node.configuration();
    let with = |tag: usize| {
        format!(
            "{configuration}\n[[take.tcp]]\nname = \"in\"\nlisten = \"{address}\"\nseal = {{ tags = [\"t{tag}\"] }}"
        )
    };
    node.configure(&with(0));
    node.start();
    let outputs: Vec<tcp::Output> = (0..4).map(|_| tcp::Output::to(address)).collect();
    let total = 4 * 3000;
    for (client, output) in outputs.iter().enumerate() {
        let texts: Vec<_> =
            (0..3000).map(|n| bytes::Bytes::from(format!("{{\"feed.name\": \"{client} {n}\"}}"))).collect();
        output.put(&texts);
    }
    let left = || outputs.iter().map(tcp::Output::unanswered).sum::<usize>();
    let (begun, mut reloads) = (Instant::now(), 0);
    while left() > 0 {
        let before = left();
        wait_until("some are answered", || left() < before || left() == 0);
        reloads += 1;
        node.configure(&with(reloads));
        node.signal(Signal::HUP);
    }
    assert!(reloads > 2, "{reloads} reloads");
    node.terminate();
    let took = begun.elapsed();
    let mut names: Vec<String> = node
        .expect(0, &["export", "--shape", "bare"])
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["feed.name"].to_string())
        .collect();
    names.sort();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), total);
    // Each once is more than is promised: a commit that a slow disk does not let end within a second after the door was
    // told to close is left without an answer, and what is in it comes again. Each such takes its second.
    let (doubled, slow) = (all - total, took.as_secs() as usize);
    assert!(doubled <= 512 * slow, "{doubled} are there twice, after {reloads} reloads in {took:?}");
}

/// The event in a report's `raw`.
fn event_of(report: &Map<String, Value>) -> Map<String, Value> {
    serde_json::from_slice(&base64(report["raw"].as_str().unwrap())).unwrap()
}

fn base64(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let (mut bits, mut count, mut out) = (0_u32, 0, Vec::new());
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        bits = bits << 6 | u32::from(value(byte));
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    out
}
