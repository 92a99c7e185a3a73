//! What one more peer costs who gives: a node with no peer, with one and with more, all on this machine; the CPU time of its
//! process per event. `cargo bench --bench fan_out -- [--events N] [--peers N,N…] [--folder DIRECTORY]` (20,000, and
//! 0, 1, 2, 10, 25, 50).
//!
//! The events lie in a Redis queue; all links stand before. So the node takes, seals and stores each event once, and gives
//! it to each peer. Every peer is a process of the built program with a store on disk; what they need is not counted, but
//! they need it of the same machine, so the rate says little.

#![allow(clippy::unwrap_used)] // What fails here is to stop it.

#[path = "support/network.rs"]
mod network;
#[path = "support/nodes.rs"]
#[allow(dead_code)] // Another benchmark uses the rest of it.
mod nodes;
#[path = "../tests/support/redis.rs"]
#[allow(dead_code)]
mod server;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use intelmq_relay::envelope::Tlp;
use intelmq_relay::sample::Events;
use network::Member;
use nodes::Place;
use serde_json::Value;

/// How long all may take without one more event.
const STANDSTILL: Duration = Duration::from_secs(120);
/// How often the node is asked how far it is: it counts as its work.
const LOOK: Duration = Duration::from_millis(250);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1));
    let events: usize = option("--events").map_or(20_000, |text| text.parse().unwrap());
    let peers = option("--peers").map_or("0,1,2,10,25,50", |text| text);
    let folder = option("--folder").map_or_else(std::env::temp_dir, PathBuf::from);

    println!("{events} events; CPU of the giving node per event");
    println!(
        "{:>6}{:>12}{:>14}{:>20}{:>20}{:>16}",
        "peers", "events/s", "µs", "µs per further", "% of one peer's", "% of the first"
    );
    let (mut none, mut one) = (None, None);
    for peers in peers.split(',').map(|text| text.parse().unwrap()) {
        let (seconds, cpu) = measure(events, peers, &folder);
        let (rate, cpu) = (events as f64 / seconds, cpu * 1e6 / events as f64);
        print!("{peers:>6}{rate:>12.0}{cpu:>14.2}");
        match (peers, one) {
            (0, _) => none = Some(cpu),
            (1, _) => one = Some(cpu),
            (_, Some(one)) => {
                let further = (cpu - one) / (peers - 1) as f64;
                // Of all that a node with one peer does, and of what that peer adds to one with none.
                print!("{further:>20.2}{:>20.1}", 100.0 * further / one);
                if let Some(none) = none {
                    print!("{:>16.1}", 100.0 * further / (one - none));
                }
            }
            _ => {}
        }
        println!();
    }
}

/// Seconds until every peer has all, and CPU seconds of the node that gives.
fn measure(events: usize, peers: usize, folder: &Path) -> (f64, f64) {
    let redis = server::Redis::start();
    let folder = tempfile::tempdir_in(folder).unwrap();
    let member = |name: String| {
        let place = Place::new(folder.path().join(&name));
        Member::new(name, place)
    };
    let mut giver = member("cert-a".into());
    let mut takers: Vec<Member> = (0..peers).map(|n| member(format!("peer-{n}"))).collect();
    let socket = redis.config().host;
    let door = format!("[[take.redis]]\nname = \"in\"\nqueue = \"from-a\"\nserver = {{ host = \"{socket}\" }}\n");
    giver.configure(&takers.iter().collect::<Vec<_>>(), &door);
    giver.start();
    for taker in &mut takers {
        taker.configure(&[&giver], "");
        taker.start();
    }
    let giver = giver.relay();
    let linked = |status: &Value| status["peers"].as_object().unwrap().values().all(|peer| peer["linked"] == true);
    let begun = Instant::now();
    while !linked(&giver.status()) {
        assert!(begun.elapsed() < STANDSTILL, "not every peer is linked");
        std::thread::sleep(LOOK);
    }

    let all: Vec<String> = Events::new(1).labelled(Tlp::Green).take(events).collect();
    let (begun, cpu) = (Instant::now(), giver.cpu_seconds());
    redis.push("from-a", &all);
    let (mut before, mut moved) = (0, begun);
    loop {
        std::thread::sleep(LOOK);
        let status = giver.status();
        let given = status["peers"].as_object().unwrap().values().map(accepted).min();
        let now = given.unwrap_or(status["entries"].as_u64().unwrap());
        if now == events as u64 {
            return (begun.elapsed().as_secs_f64(), giver.cpu_seconds() - cpu);
        }
        if now > before {
            (before, moved) = (now, Instant::now());
        }
        assert!(moved.elapsed() < STANDSTILL, "a peer has {now} of {events} events, and no more");
    }
}

fn accepted(peer: &Value) -> u64 {
    peer["given"]["verdicts"]["accepted"].as_u64().unwrap_or(0)
}
