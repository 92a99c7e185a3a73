//! From log to log over one link: a relay with a backlog, and one that has nothing and dials it. No IntelMQ at either end.
//! `cargo bench --bench log_to_log -- [--events N] [--rounds N] [--folder DIRECTORY]` (300,000 and 3).
//!
//! The relays are two processes of the built program on the loopback, with stores on disk as in operation: everything is
//! signed, verified, encrypted on the way, and synced before it is answered. Measured is from the link to the last event
//! in the other log. CPU is that of both processes for all of it, from before cert-b is started to the last answer.

#![allow(clippy::unwrap_used)] // What fails here is to stop it.

#[path = "support/backlog.rs"]
mod backlog;
#[path = "support/measured.rs"]
mod measured;
#[path = "support/nodes.rs"]
#[allow(dead_code)] // Another benchmark uses the rest of it.
mod nodes;

use std::path::{Path, PathBuf};

use backlog::Pair;
use measured::{Round, Rounds};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1));
    let number = |name, default| option(name).map_or(default, |text| text.parse().unwrap());
    let (events, rounds) = (number("--events", 300_000), number("--rounds", 3));
    let folder = option("--folder").map_or_else(std::env::temp_dir, PathBuf::from);

    let folder = tempfile::tempdir_in(folder).unwrap();
    let relay = Relays::with_backlog(events, folder.path());
    println!("{events} events of {} bytes as JSON, in the mean; {rounds} rounds: median (least–most)", relay.bytes);
    let mut by_relay = Rounds::new("relay");
    for _ in 0..rounds {
        by_relay.add(relay.round());
    }
    measured::print(&[by_relay]);
}

struct Relays {
    pair: Pair,
    events: u64,
    /// Of an event's JSON, in the mean.
    bytes: u64,
}

impl Relays {
    fn with_backlog(events: u64, folder: &Path) -> Relays {
        let pair = Pair::new(folder);
        let a = pair.start_a(true);
        let bytes = pair.fill(&a, events) / events;
        Relays { pair, events, bytes }
    }

    fn round(&self) -> Round {
        let (pair, events) = (&self.pair, self.events);
        // Anew each time, so that none has in memory what another has not.
        let a = pair.start_a(false);
        let before = a.cpu_seconds();
        let b = pair.start_b(&a);
        let (begun, already) = pair.linked(&b);
        let span = pair.arrived([&a, &b], events) - begun;
        let cpu = a.cpu_seconds() - before + b.cpu_seconds();
        let memory = backlog::most_memory([&a, &b]).iter().sum::<u64>();
        drop((a, b));
        let disk = backlog::disk(&pair.b).blocks;
        pair.forget_b();
        Round {
            rate: (events - already) as f64 / span.as_secs_f64(),
            cpu: cpu * 1e6 / events as f64,
            disk: disk as f64 / events as f64,
            memory: memory as f64,
        }
    }
}
