//! A node that was away for a day: how long until its log has all of it, and what both nodes take of disk and memory.
//! `cargo bench --bench catch_up -- [--events N] [--folder DIRECTORY]` (1,100,000: a day of the largest published feed,
//! Warden's 13 events/s).
//!
//! cert-b has a cursor for cert-a, and is stopped; cert-a takes the events by a files door and runs on; cert-b is started.
//! Measured is from its start, as a process, to the last event in its log.

#![allow(clippy::unwrap_used)] // What fails here is to stop it.

#[path = "support/backlog.rs"]
mod backlog;
#[path = "support/nodes.rs"]
#[allow(dead_code)] // Another benchmark uses the rest of it.
mod nodes;

use std::path::PathBuf;
use std::time::Instant;

use backlog::{Pair, mib};
use nodes::Relay;

/// Events that cert-b has before it is stopped.
const BEFORE: u64 = 1000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1));
    let events: u64 = option("--events").map_or(1_100_000, |text| text.parse().unwrap());
    let folder = option("--folder").map_or_else(std::env::temp_dir, PathBuf::from);

    let folder = tempfile::tempdir_in(folder).unwrap();
    let pair = Pair::new(folder.path());
    let a = pair.start_a(true);
    let b = pair.start_b(&a);
    pair.linked(&b);
    println!("an empty node, linked:       {}", b.memory());
    let mut bytes = pair.fill(&a, BEFORE);
    pair.arrived([&a, &b], BEFORE);
    drop(b);

    let all = BEFORE + events;
    bytes += pair.fill(&a, all);
    println!("{events} events of {} bytes as JSON, in the mean, wait at cert-a", bytes / all);
    println!("cert-a with {all} in its log: {}", a.memory());

    let before = a.cpu_seconds();
    let begun = Instant::now();
    let b = pair.start_b(&a);
    let span = (pair.arrived([&a, &b], all) - begun).as_secs_f64();
    let cpu = [a.cpu_seconds() - before, b.cpu_seconds()].map(|seconds| seconds * 1e6 / events as f64);
    println!("caught up after {span:.1} s: {:.0} events/s", events as f64 / span);
    println!("CPU per event: cert-a {:.1} µs, cert-b {:.1} µs, both {:.1} µs", cpu[0], cpu[1], cpu[0] + cpu[1]);
    println!("cert-a, having given:        {}", a.memory());
    println!("cert-b, having caught up:    {}", b.memory());
    drop(b);
    println!("cert-b, started again:       {}", started_again(&pair, &a, all).memory());
    drop(a);

    for (name, place) in [("cert-a", &pair.a), ("cert-b", &pair.b)] {
        let disk = backlog::disk(place);
        println!(
            "{name}: {:.0} MiB on disk, {:.0} bytes per event, {:.2} of its JSON (length of the files: {:.2})",
            mib(disk.blocks),
            disk.blocks as f64 / all as f64,
            disk.blocks as f64 / bytes as f64,
            disk.length as f64 / bytes as f64,
        );
    }
}

/// `cert-b`, when it has its log open and a link again.
fn started_again(pair: &Pair, a: &Relay, all: u64) -> Relay {
    let b = pair.start_b(a);
    pair.arrived([a, &b], all);
    b
}
