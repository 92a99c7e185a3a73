//! `check`, on IntelMQ's side: a Redis as an operator may have it, and a `runtime.yaml` that fits the doors or does not.

#![allow(clippy::unwrap_used)] // A test that fails may panic, in what it calls too.

#[path = "support/redis.rs"]
#[allow(dead_code)] // Other tests use the rest of it.
mod redis_server;
#[path = "support/relay.rs"]
#[allow(dead_code)]
mod relay;

use std::fs;

use redis_server::Redis;
use relay::{Relay, command};

/// A node that takes from `out` and gives to `in`.
fn node(redis: &Redis) -> Relay {
    let node = Relay::init("cert-a");
    node.takes(&redis.config(), "out", "");
    node.gives(&redis.config(), "in-queue", "");
    node
}

/// What `check` prints with this runtime.yaml, and whether it is content.
fn check(node: &Relay, runtime: Option<&str>) -> (bool, String) {
    let root = node.path("intelmq");
    fs::create_dir_all(root.join("etc")).unwrap();
    match runtime {
        Some(text) => fs::write(root.join("etc/runtime.yaml"), text).unwrap(),
        None => drop(fs::remove_file(root.join("etc/runtime.yaml"))),
    }
    let output = command(&node.path(""), &["check"]).env("INTELMQ_ROOT_DIR", &root).output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

const WIRED: &str = "
global: {intelmqctl_check_orphaned_queues_ignore: [out, out-internal, out-relay, 'relay:cert-a:to-in-queue:mark']}
taxonomy: {parameters: {destination_queues: {_default: [out]}}}
in: {enabled: true}
";

#[test]
fn the_botnet_must_fit_the_doors() {
    let redis = Redis::start_with(&["--appendonly", "yes"]);
    let node = node(&redis);
    let (content, text) = check(&node, Some(WIRED));
    assert!(content && !text.contains("note") && !text.contains("PROBLEM"), "{text}");
    assert_eq!(text.matches("runtime.yaml").count(), 2, "both doors were looked at: {text}");
    assert!(!check(&node, None).1.contains("runtime.yaml"));

    for (runtime, content, what) in [
        (WIRED.replace("[out]}", "[other]}"), false, "no bot writes to it"),
        (WIRED.replace("in: {enabled: true}", "on: {enabled: true}"), false, "no bot reads it"),
        (WIRED.replace("in: {enabled: true}", "in: {enabled: false}"), true, "intelmqctl enable in"),
        (WIRED.replace("[out, out-internal, ", "["), true, "- out-internal"),
        (format!("{WIRED}thief: {{parameters: {{source_queue: out}}}}"), false, "thief reads it too"),
        ("taxonomy: [".to_owned(), false, "IntelMQ's"),
    ] {
        let (is, text) = check(&node, Some(&runtime));
        assert!(is == content && text.contains(what), "{what}: {text}");
    }
}

/// Which bots are there does not depend on whether the broker answers.
#[test]
fn the_botnet_must_fit_doors_to_rabbitmq_too() {
    let node = Relay::init("cert-a");
    for (door, name, queue) in [("take", "from", "out"), ("give", "to", "in-queue")] {
        node.and(&format!("[[{door}.amqp]]\nname = {name:?}\nqueue = {queue:?}\nserver = {{ port = 1 }}"));
    }
    let (_, text) = check(&node, Some(WIRED));
    assert!(text.contains("ok       door from: out in") && text.contains("ok       door to: in-queue in"), "{text}");
    assert_eq!(text.matches("start that RabbitMQ").count(), 2, "{text}");
    let (_, text) = check(&node, Some("{}"));
    assert!(text.contains("no bot writes to it") && text.contains("no bot reads it"), "{text}");
    let (_, text) = check(&node, Some("taxonomy: ["));
    assert!(text.contains("PROBLEM  IntelMQ's"), "{text}");
}

#[test]
fn a_redis_that_may_lose_queues_is_named() {
    let redis = Redis::start_with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let node = node(&redis);
    redis.push("in-queue", &["{}".to_owned(), "{}".to_owned()]);
    let (content, text) = check(&node, None);
    assert!(!content, "{text}");
    for what in ["throws queues away", "allkeys-lru", "keeps nothing on disk", "nobody takes from in-queue", "2 items"]
    {
        assert!(text.contains(what), "{what}: {text}");
    }
    assert!(!text.contains("nobody takes from out"), "nothing waits there: {text}");
}

#[test]
fn what_is_probably_not_meant_is_said() {
    let node = Relay::init("cert-a");
    let key = "12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5";
    node.and(&format!("[[peer]]\nname = \"cert-b\"\nkey = \"{key}\"\ntest = true\ngive = [\"ours\"]"));
    node.and("[[peer]]\nname = \"cert-c\"\nkey = \"12D3KooWJWoaqZhDaoEFshF7Rh1bpY9ohihFhzcW6d69Lr2NASuq\"\ntake = [\"bare\"]");
    node.and("[[rules.bare]]\ndo = \"deny\"\ntags = \"internal\"");
    node.and(
        "[[rules.ours]]\ndo = \"allow\"\nfields = { \"source.ipp\" = \"192.0.2.1\", \"extra.any\" = 1, raw = \"eA==\" }",
    );
    node.and("[[give.redis]]\nname = \"odd\"\nqueue = \"q\"\nserver = { port = 1 }\nevents.shape = \"iep04\"");
    let (_, text) = check(&node, None);
    let line = 1 + node.configuration().lines().position(|line| line == "[[rules.ours]]").unwrap();
    assert!(
        text.contains(&format!("rules of ours, line {line}")) && text.contains("no field \"source.ipp\""),
        "{text}"
    );
    assert_eq!(text.matches("IntelMQ has no field").count(), 1, "{text}");
    assert!(text.contains("it is in test mode") && text.contains("TLP:GREEN does not go to it"), "{text}");
    assert!(text.contains("no bot of IntelMQ's reads"), "{text}");
    assert!(text.contains("no rule in the sets of its take allows anything"), "{text}");
    assert_eq!(text.matches("allows anything").count(), 1, "{text}");
}
