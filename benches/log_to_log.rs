//! From log to log over one link: a relay with a backlog, and one that has nothing and dials it, no IntelMQ at either end;
//! beside what one would take instead, with the same events in the same run: NATS (a stream whose source is a stream of
//! another server, over a leaf node) and RabbitMQ (a shovel between durable queues). What is not installed is left out.
//! `cargo bench --bench log_to_log -- [--events N] [--shoveled N] [--rounds N] [--folder DIRECTORY]` (300,000, for RabbitMQ
//! 100,000, and 3), and `--alone` for the relay only.
//!
//! The relays are two processes of the built program on the loopback, with stores on disk as in operation: everything is
//! signed, verified, encrypted on the way, and synced before it is answered. Measured is from the link to the last event
//! in the other log. CPU is that of both processes for all of it, from before cert-b is started to the last answer.
//!
//! A round is one of each, so that what else the machine does falls on all of them.

#![allow(clippy::unwrap_used)] // What fails here is to stop it.

#[path = "support/backlog.rs"]
mod backlog;
#[path = "support/measured.rs"]
mod measured;
#[path = "support/nats.rs"]
mod nats;
#[path = "support/nodes.rs"]
#[allow(dead_code)] // Another benchmark uses the rest of it.
mod nodes;
#[path = "../tests/support/rabbitmq.rs"]
#[allow(dead_code)] // Tests use the rest of it.
mod rabbitmq;
#[path = "../tests/support/relay.rs"]
#[allow(dead_code)]
mod relay;
#[path = "support/shovel.rs"]
mod shovel;

use std::path::{Path, PathBuf};

use backlog::Pair;
use measured::{Round, Rounds};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1));
    let number = |name, default| option(name).map_or(default, |text| text.parse().unwrap());
    let (events, shoveled, rounds) =
        (number("--events", 300_000), number("--shoveled", 100_000), number("--rounds", 3));
    let folder = option("--folder").map_or_else(std::env::temp_dir, PathBuf::from);
    let rivals = !arguments.iter().any(|argument| argument == "--alone");

    let folder = tempfile::tempdir_in(folder).unwrap();
    let relays = Relays::with_backlog(events, folder.path());
    println!("{events} events of {} bytes as JSON, in the mean; {rounds} rounds: median (least–most)", relays.bytes);
    let nats = (rivals && there(nats::is_there(), "nats-server"))
        .then(|| nats::Backlog::of(backlog::events(0..events), folder.path()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let brokers =
        (rivals && there(shovel::is_there(), "rabbitmq-server")).then(|| runtime.block_on(shovel::Brokers::start()));

    let mut all = ["relay", "NATS", "RabbitMQ"].map(Rounds::new);
    for _ in 0..rounds {
        all[0].add(relays.round());
        if let Some(nats) = &nats {
            all[1].add(nats.round());
        }
        if let Some(brokers) = &brokers {
            all[2].add(runtime.block_on(brokers.round(backlog::events(0..shoveled))));
        }
    }
    measured::print(&all);
}

fn there(is: bool, package: &str) -> bool {
    if !is {
        println!("there is no {package}, and it is left out: apt-get install {package}");
    }
    is
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
