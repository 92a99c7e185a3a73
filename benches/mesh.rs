//! How often an envelope's body comes to each node of a mesh: ten nodes, each with four peers, all of them origins.
//! `cargo bench --bench mesh -- [--rate N] [--seconds N] [--missed N] [--folder DIRECTORY]` (500 per second and 20; 10,000).
//!
//! The nodes are processes of the built program. Bodies are counted by those who send them (`status`: `given.sent`), live
//! and for a node that was away and catches up from four peers at once. 1.00 is each body once to each node that lacks it.

#![allow(clippy::unwrap_used)] // What fails here is to stop it.

#[path = "support/load.rs"]
#[allow(dead_code)] // Another benchmark uses the rest of it.
mod load;
#[path = "support/network.rs"]
mod network;
#[path = "support/nodes.rs"]
#[allow(dead_code)]
mod nodes;
#[path = "../tests/support/redis.rs"]
#[allow(dead_code)]
mod server;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use intelmq_relay::envelope::Tlp;
use intelmq_relay::sample::Events;
use load::Load;
use network::Member;
use nodes::Place;
use serde_json::Value;

const NODES: usize = 10;
/// Who is away, and comes back.
const AWAY: usize = 5;
/// How long all may take without one more event.
const STANDSTILL: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(500);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1));
    let number = |name, default: u64| option(name).map_or(default, |text| text.parse().unwrap());
    let (rate, seconds, missed) = (number("--rate", 500), number("--seconds", 20), number("--missed", 10_000));
    let folder = tempfile::tempdir_in(option("--folder").map_or_else(std::env::temp_dir, PathBuf::from)).unwrap();

    let redis = server::Redis::start();
    let mut members: Vec<Member> = (0..NODES)
        .map(|n| {
            let name = format!("cert-{n}");
            let place = Place::new(folder.path().join(&name));
            Member::new(name, place)
        })
        .collect();
    for n in 0..NODES {
        members[n].configure(&peers(n).map(|peer| &members[peer]), &more(n, &members, &redis.config().host));
        members[n].start();
    }
    wait("every link", &members, is_quiet);

    let live = live(&members, &redis, rate, seconds);
    catch_up(&mut members, &redis, live, missed);
}

/// Prints how many copies there were under a steady load; returns the number of events.
fn live(members: &[Member], redis: &server::Redis, rate: u64, seconds: u64) -> u64 {
    let load = Load::start(redis.connect(), (0..NODES).map(queue).collect(), 0, rate);
    std::thread::sleep(Duration::from_secs(seconds));
    let events = load.stop();
    wait("every event", members, |status| status["entries"] == events && is_quiet(status));
    let (sent, offered) = (count(members, "sent"), count(members, "offered"));
    let each = |given: u64| given as f64 / (events as f64 * (NODES - 1) as f64 / NODES as f64);
    let mean = |given: &BTreeMap<String, u64>| each(given.values().sum::<u64>()) / NODES as f64;
    let most = sent.values().map(|sent| each(*sent)).fold(0.0, f64::max);
    println!(
        "live, {events} events at {rate}/s: {:.4} copies of each body per node, {most:.4} at the node with most; {:.2} offers",
        mean(&sent),
        mean(&offered)
    );
    events
}

/// Prints how many came to a node that has missed some.
fn catch_up(members: &mut Vec<Member>, redis: &server::Redis, live: u64, missed: u64) {
    // Ends the process.
    members[AWAY].relay = None;
    let others: Vec<usize> = (0..NODES).filter(|n| *n != AWAY).collect();
    let texts: Vec<String> = Events::new(2).labelled(Tlp::Green).take(missed as usize).collect();
    for (n, some) in others.iter().zip(texts.chunks(texts.len().div_ceil(others.len()))) {
        redis.push(&queue(*n), some);
    }
    let away = members.remove(AWAY);
    let has_all = |status: &Value| status["entries"] == live + missed;
    wait("every event", members, has_all);
    let before = count(members, "sent")[&away.name];
    members.insert(AWAY, away);
    let begun = Instant::now();
    members[AWAY].start();
    wait("what it missed", &members[AWAY..=AWAY], has_all);
    let took = begun.elapsed().as_secs_f64();
    wait("silence", members, is_quiet);
    let sent = count(members, "sent")[&members[AWAY].name] - before;
    println!("catching up with {missed} from four peers in {took:.1} s: {:.4} copies", sent as f64 / missed as f64);
}

/// Nothing is under way to a peer.
fn is_quiet(status: &Value) -> bool {
    let mut peers = status["peers"].as_object().unwrap().values();
    peers.all(|peer| peer["behind"] == 0 && peer["unanswered"] == 0 && peer["linked"] == true)
}

/// A ring in which each has the two nearest on both sides.
fn peers(n: usize) -> [usize; 4] {
    [1, 2, NODES - 1, NODES - 2].map(|far| (n + far) % NODES)
}

fn queue(n: usize) -> String {
    format!("from-{n}")
}

/// A door, and the origins that are no peers.
fn more(n: usize, members: &[Member], socket: &str) -> String {
    let queue = queue(n);
    let door = format!("[[take.redis]]\nname = \"in\"\nqueue = \"{queue}\"\nserver = {{ host = \"{socket}\" }}\n");
    let others = (0..NODES).filter(|other| *other != n && !peers(n).contains(other));
    let origin = |other: usize| {
        let Member { name, place, .. } = &members[other];
        format!("[[origin]]\nname = \"{name}\"\nkey = \"{}\"\n", place.key)
    };
    others.map(origin).fold(door, |text, origin| text + &origin)
}

/// Waits until it is true of every node.
fn wait(what: &str, members: &[Member], so: impl Fn(&Value) -> bool) {
    let (mut last, mut moved) = (0, Instant::now());
    loop {
        let all: Vec<Value> = members.iter().map(|member| member.relay().status()).collect();
        if all.iter().all(&so) {
            return;
        }
        let entries = all.iter().map(|status| status["entries"].as_u64().unwrap()).sum();
        if entries > last {
            (last, moved) = (entries, Instant::now());
        }
        assert!(moved.elapsed() < STANDSTILL, "in vain: {what}; {last} entries in all logs");
        std::thread::sleep(LOOK);
    }
}

/// What was given to each node, by all others.
fn count(members: &[Member], what: &str) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for member in members {
        for (peer, status) in member.relay().status()["peers"].as_object().unwrap() {
            *all.entry(peer.clone()).or_default() += status["given"][what].as_u64().unwrap();
        }
    }
    all
}
