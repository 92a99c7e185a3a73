//! Events per second over one hop, all on this machine: a Redis queue, the relay of cert-a, the relay of cert-b, a
//! Redis queue. `cargo bench --bench one_hop -- [--events N] [--runs N] [--folder DIRECTORY]` (100,000 and 3).
//!
//! The relays are two processes of the built program, with stores on disk as in operation. The queue is full before
//! cert-a is started; what is measured is from the first event at the other end to the last. While it runs, nothing is
//! read from cert-b's queue: its length is the count.

#![allow(clippy::unwrap_used)] // What fails here is to stop it.

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
use nodes::{Place, Relay};
use serde_json::Value;

/// Messages that are pushed or compared at once.
const AT_ONCE: usize = 1000;
/// How long all may take without one more event.
const STANDSTILL: Duration = Duration::from_secs(60);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1));
    let number = |name, default| option(name).map_or(default, |text| text.parse().unwrap());
    let (events, runs) = (number("--events", 100_000), number("--runs", 3));
    let folder = option("--folder").map_or_else(std::env::temp_dir, PathBuf::from);

    let mut measured: Vec<Run> = (1..=runs)
        .map(|n| {
            let run = Run::measure(events, &folder);
            println!("run {n}: {run}");
            run
        })
        .collect();
    measured.sort_by(|a, b| a.rate().total_cmp(&b.rate()));
    println!("median: {}", measured[measured.len() / 2]);
}

struct Run {
    all: usize,
    /// What came after the first look: what is counted for the rate.
    events: usize,
    /// Of an event, in the mean.
    bytes: usize,
    /// From the start of cert-a to the first event at the other end, and from that to the last.
    first: Duration,
    span: Duration,
    /// CPU seconds of the relays of cert-a and cert-b.
    cpu: [f64; 2],
}

impl Run {
    fn rate(&self) -> f64 {
        self.events as f64 / self.span.as_secs_f64()
    }

    fn measure(events: usize, folder: &Path) -> Run {
        let redis = server::Redis::start();
        let mut connection = redis.connect();
        let mut bytes = 0;
        let all: Vec<String> = Events::new(1).labelled(Tlp::Green).take(events).collect();
        for some in all.chunks(AT_ONCE) {
            bytes += some.iter().map(String::len).sum::<usize>();
            redis::cmd("LPUSH").arg("from-a").arg(some).exec(&mut connection).unwrap();
        }

        let folder = tempfile::tempdir_in(folder).unwrap();
        let [a, b] = ["cert-a", "cert-b"].map(|name| Place::new(folder.path().join(name)));
        let socket = redis.config().host;
        b.configure("cert-b", &give(&socket, events), &a.key, "cert-a", "");
        let relay_b = Relay::start(&b);
        let address = format!("addresses = [\"{}\"]", relay_b.listening());
        a.configure("cert-a", &take(&socket), &b.key, "cert-b", &address);

        let started = Instant::now();
        let relay_a = Relay::start(&a);
        let (mut arrived, mut first, mut moved) = (0, None, Instant::now());
        while arrived < events {
            // No faster than Redis answers, and no slower than the measurement needs.
            std::thread::sleep(Duration::from_millis(2));
            let now: usize = redis::cmd("LLEN").arg("to-b").query(&mut connection).unwrap();
            if now > arrived {
                (arrived, moved) = (now, Instant::now());
                first.get_or_insert((moved, now));
            }
            assert!(moved.elapsed() < STANDSTILL, "{arrived} of {events} events, and no more");
        }
        let (begun, at_once) = first.unwrap();
        let cpu = [&relay_a, &relay_b].map(Relay::cpu_seconds);
        assert_all_are_there(&mut connection, &all);
        let (first, span) = (begun - started, moved - begun);
        Run { all: events, events: events - at_once, bytes: bytes / events, first, span, cpu }
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b] = self.cpu.map(|seconds| seconds * 1e6 / self.all as f64);
        write!(
            f,
            "{:.0} events/s ({} of {} bytes in {:.2} s, the first after {:.2} s); CPU per event: cert-a {a:.1} µs, cert-b {b:.1} µs",
            self.rate(),
            self.events,
            self.bytes,
            self.span.as_secs_f64(),
            self.first.as_secs_f64(),
        )
    }
}

/// Every event once, and as it was: not part of what is measured.
fn assert_all_are_there(connection: &mut redis::Connection, all: &[String]) {
    let mut times = vec![0; all.len()];
    for from in (0..all.len()).step_by(AT_ONCE) {
        let to = from + AT_ONCE - 1;
        let some: Vec<String> = redis::cmd("LRANGE").arg("to-b").arg(from).arg(to).query(connection).unwrap();
        for text in some {
            let event: Value = serde_json::from_str(&text).unwrap();
            let serial = event["extra.serial"].as_u64().unwrap() as usize;
            times[serial] += 1;
            assert_eq!(event, serde_json::from_str::<Value>(&all[serial]).unwrap(), "changed on the way");
        }
    }
    assert!(times.iter().all(|times| *times == 1), "an event is missing, or there more than once");
}

fn take(socket: &str) -> String {
    format!("[[take.redis]]\nname = \"in\"\nqueue = \"from-a\"\nserver = {{ host = \"{socket}\" }}\n")
}

fn give(socket: &str, events: usize) -> String {
    let high = 2 * events;
    format!(
        "[[give.redis]]\nname = \"out\"\nqueue = \"to-b\"\nhigh_water = {high}\n\
         server = {{ host = \"{socket}\" }}\nevents = {{ shape = \"typed\", harmonization = \"builtin\" }}\n"
    )
}
