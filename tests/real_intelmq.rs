//! Three real IntelMQ instances in a triangle of relays: what IntelMQ's own parsers make of their own tests' inputs
//! goes in at one, through real bots, and comes out of the others' file output bots, once each and with equal values.

#![allow(clippy::unwrap_used)] // A test that fails may panic, in what it calls too.

#[path = "support/instance.rs"]
#[allow(dead_code)] // Other tests use the rest of it.
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

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use triangle::Triangle;

/// What stands between an event on the pipeline of its origin and the same event in a file at the end, and why.
/// Everything else must be equal.
fn as_it_comes_out(message: &str, keep_raw: bool) -> Value {
    let mut event: Map<String, Value> = serde_json::from_str(message).unwrap();
    // The file output bot writes no __type, and no raw unless it is told to.
    event.remove("__type");
    if !keep_raw {
        event.remove("raw");
    }
    // A bot that reads a message leaves these out.
    event.retain(|_, value| !value.is_null() && !["", "-", "N/A"].iter().any(|empty| value == empty));
    Value::Object(event)
}

/// Fails unless every expected event came out exactly once, and nothing else did. The taxonomy expert at the origin adds
/// a taxonomy where there is none.
#[track_caller]
fn assert_once_each(place: &str, expected: impl IntoIterator<Item = Value>, got: Vec<Value>) {
    const ADDED: &str = "classification.taxonomy";
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    for event in expected {
        *counts.entry(sorted(event)).or_default() += 1;
    }
    for mut event in got {
        let members = event.as_object_mut().expect("an event is an object");
        let before = members.len();
        // What the relay says about the event.
        members.retain(|key, _| !key.starts_with("extra.relay."));
        assert!(members.len() < before, "{place}: it has not come by a relay: {event}");
        let as_it_is = sorted(event.clone());
        if counts.get(&as_it_is).is_some_and(|count| *count > 0) {
            *counts.entry(as_it_is).or_default() -= 1;
        } else {
            let added = event.as_object_mut().and_then(|event| event.remove(ADDED));
            assert!(added.is_some(), "{place}: it has not passed the first expert: {event}");
            *counts.entry(sorted(event)).or_default() -= 1;
        }
    }
    counts.retain(|_, count| *count != 0);
    let (few, many): (Vec<_>, Vec<_>) = counts.iter().partition(|(_, count)| **count > 0);
    assert!(
        counts.is_empty(),
        "{place}: {} kinds of events are missing, as {:#?}, and {} too many, as {:#?}",
        few.len(),
        &few[..few.len().min(3)],
        many.len(),
        &many[..many.len().min(3)]
    );
}

fn sorted(mut event: Value) -> String {
    event.sort_all_objects();
    event.to_string()
}

#[test]
fn what_parsers_make_comes_out_at_the_others_once_and_unchanged() {
    let parsing = std::thread::spawn(instance::parser_events);
    let mut triangle = Triangle::new(|_| false);
    triangle.start();
    let (parsers, messages): (Vec<String>, Vec<String>) = parsing.join().unwrap().into_iter().unzip();
    let parsers: BTreeSet<_> = parsers.into_iter().collect();
    assert!(parsers.contains("shadowserver") && parsers.len() > 5, "{parsers:?}");
    eprintln!("{} events of {} parsers", messages.len(), parsers.len());

    let [a, b, _] = &triangle.intelmqs;
    a.redis.push(instance::FIRST, &messages);
    let own_of_b =
        r#"{"source.ip": "192.0.2.1", "classification.type": "test", "feed.name": "b's own", "__type": "Event"}"#;
    b.redis.push(instance::FIRST, &[own_of_b]);
    triangle.settled([1, messages.len(), messages.len() + 1]);

    let raw = |keep| messages.iter().map(move |message| as_it_comes_out(message, keep));
    let [a, b, c] = &triangle.intelmqs;
    assert_once_each("a", [as_it_comes_out(own_of_b, true)], a.output());
    assert_once_each("b", raw(true), b.output());
    assert_once_each("c", raw(false).chain([as_it_comes_out(own_of_b, false)]), c.output());

    for relay in &triangle.relays {
        assert_eq!(relay.expect(0, &["quarantine", "list"]), "", "{} holds something back", relay.name);
    }
    // What b's pipeline brought back to the relay is known there, and went nowhere.
    let status = triangle.relays[1].status();
    let taken = &status["sources"]["from-relay-queue"];
    assert_eq!((&taken["sealed"], &taken["duplicates"]), (&1.into(), &messages.len().into()), "{status:#}");
}
