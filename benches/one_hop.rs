//! One hop, all on this machine: a Redis queue, the relay of cert-a, the relay of cert-b, a Redis queue.
//! `cargo bench --bench one_hop -- [--events N] [--runs N] [--rate N] [--seconds N] [--folder DIRECTORY]` (100,000 and 3;
//! 1,000 per second and 20).
//!
//! The relays are two processes of the built program, with stores on disk as in operation. Measured are
//!
//! - events per second, directly and over a connection with a round trip of 50 ms: the queue is full before cert-a is
//!   started; from the first event at the other end to the last. While it runs, nothing is read from cert-b's queue: its
//!   length is the count;
//! - the time that an event takes at a steady rate, from when its LPUSH was due (it is not put off when the relays, or the
//!   machine, are slow) to when a reader at the other end has it by BRPOP.

#![allow(clippy::unwrap_used)] // What fails here is to stop it.

#[path = "support/nodes.rs"]
#[allow(dead_code)] // Another benchmark uses the rest of it.
mod nodes;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "../tests/support/redis.rs"]
#[allow(dead_code)]
mod server;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use intelmq_relay::envelope::Tlp;
use intelmq_relay::sample::Events;
use nodes::{Place, Relay};
use proxy::Proxy;
use serde_json::Value;

/// Messages that are pushed or compared at once.
const AT_ONCE: usize = 1000;
/// How long all may take without one more event.
const STANDSTILL: Duration = Duration::from_secs(60);
/// Of the long way.
const ROUND_TRIP: Duration = Duration::from_millis(50);
/// Seconds before times count.
const WARM_UP: u64 = 3;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1));
    let number = |name, default: u64| option(name).map_or(default, |text| text.parse().unwrap());
    let (events, runs) = (number("--events", 100_000) as usize, number("--runs", 3));
    let folder = option("--folder").map_or_else(std::env::temp_dir, PathBuf::from);

    // By turns, so that what the machine does besides falls on both alike.
    let mut measured = [Vec::new(), Vec::new()];
    for n in 1..=runs {
        for (all, round_trip) in measured.iter_mut().zip([Duration::ZERO, ROUND_TRIP]) {
            let run = Run::measure(events, round_trip / 2, &folder);
            println!("run {n}, round trip {:>2} ms: {run}", round_trip.as_millis());
            all.push(run);
        }
    }
    let [directly, far] = measured.map(median);
    println!("median: {directly}");
    println!("with a round trip of {} ms: {:.1} % of it", ROUND_TRIP.as_millis(), 100.0 * far.rate() / directly.rate());
    latency(number("--rate", 1000), number("--seconds", 20), &folder);
}

fn median(mut runs: Vec<Run>) -> Run {
    runs.sort_by(|a, b| a.rate().total_cmp(&b.rate()));
    runs.swap_remove(runs.len() / 2)
}

/// Two nodes, of which the second runs.
struct Hop {
    a: Place,
    relay_b: Relay,
    // After the processes, which write there.
    _folder: tempfile::TempDir,
}

impl Hop {
    /// `high` is cert-b's high-water mark; each byte takes `way` between them.
    fn new(redis: &server::Redis, high: usize, way: Duration, folder: &Path) -> Hop {
        let folder = tempfile::tempdir_in(folder).unwrap();
        let [a, b] = ["cert-a", "cert-b"].map(|name| Place::new(folder.path().join(name)));
        let socket = redis.config().host;
        b.configure("cert-b", &give(&socket, high), &a.key, "cert-a", "");
        let relay_b = Relay::start(&b);
        let listening = relay_b.listening();
        let port: u16 = listening.split('/').nth(4).unwrap().parse().unwrap();
        let target = Proxy::start((Ipv4Addr::LOCALHOST, port).into(), way);
        let address = format!("addresses = [\"/ip4/127.0.0.1/tcp/{}\"]", target.port());
        a.configure("cert-a", &take(&socket), &b.key, "cert-b", &address);
        Hop { a, relay_b, _folder: folder }
    }
}

/// Prints how long events take at this rate.
fn latency(rate: u64, seconds: u64, folder: &Path) {
    let redis = server::Redis::start();
    let hop = Hop::new(&redis, 1 << 20, Duration::ZERO, folder);
    let _relay_a = Relay::start(&hop.a);
    let (mut source, mut sink) = (redis.connect(), redis.connect());
    let source_events = Events::new(1).labelled(Tlp::Green);
    let take = |connection: &mut redis::Connection| -> usize {
        let item: Option<(String, String)> = redis::cmd("BRPOP").arg("to-b").arg(10).query(connection).unwrap();
        let event: Value = serde_json::from_str(&item.expect("an event within 10 s").1).unwrap();
        event["extra.serial"].as_u64().unwrap() as usize
    };
    // The first goes alone: the link stands when it is there.
    redis::cmd("LPUSH").arg("from-a").arg(source_events.event(0)).exec(&mut source).unwrap();
    take(&mut sink);

    let count = (rate * (WARM_UP + seconds)) as usize;
    let begun = Instant::now() + Duration::from_millis(100);
    let due = move |n: usize| begun + Duration::from_secs(1).mul_f64(n as f64 / rate as f64);
    let pushing = std::thread::spawn(move || {
        let push = |n: usize| {
            let event = source_events.event(n as u64);
            std::thread::sleep(due(n).saturating_duration_since(Instant::now()));
            let late = due(n).elapsed();
            redis::cmd("LPUSH").arg("from-a").arg(event).exec(&mut source).unwrap();
            late
        };
        (0..count).map(push).collect::<Vec<_>>()
    });
    let mut took = vec![Duration::MAX; count];
    for _ in 0..count {
        let serial = take(&mut sink);
        assert_eq!(took[serial], Duration::MAX, "event {serial} came twice");
        took[serial] = due(serial).elapsed();
    }
    let late = pushing.join().unwrap();
    let measured = (rate * WARM_UP) as usize..;
    println!("at {rate} events/s for {seconds} s, from LPUSH to BRPOP: {}", Quantiles(took[measured.clone()].to_vec()));
    println!("of which the LPUSH itself was late: {}", Quantiles(late[measured].to_vec()));
}

struct Quantiles(Vec<Duration>);

impl std::fmt::Display for Quantiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut sorted = self.0.clone();
        sorted.sort();
        for (name, part) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("most", 1.0)] {
            let at = ((sorted.len() as f64 * part) as usize).min(sorted.len() - 1);
            write!(f, "{name} {:.2} ms  ", sorted[at].as_secs_f64() * 1e3)?;
        }
        Ok(())
    }
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

    fn measure(events: usize, way: Duration, folder: &Path) -> Run {
        let redis = server::Redis::start();
        let mut connection = redis.connect();
        let mut bytes = 0;
        let all: Vec<String> = Events::new(1).labelled(Tlp::Green).take(events).collect();
        for some in all.chunks(AT_ONCE) {
            bytes += some.iter().map(String::len).sum::<usize>();
            redis::cmd("LPUSH").arg("from-a").arg(some).exec(&mut connection).unwrap();
        }

        let hop = Hop::new(&redis, 2 * events, way, folder);
        let started = Instant::now();
        let relay_a = Relay::start(&hop.a);
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
        let cpu = [&relay_a, &hop.relay_b].map(Relay::cpu_seconds);
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

fn give(socket: &str, high: usize) -> String {
    format!(
        "[[give.redis]]\nname = \"out\"\nqueue = \"to-b\"\nhigh_water = {high}\n\
         server = {{ host = \"{socket}\" }}\nevents = {{ shape = \"typed\", harmonization = \"builtin\" }}\n"
    )
}
