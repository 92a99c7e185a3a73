//! Whether two relays stay as large as they are, under load: memory, descriptors and threads of both, as a series, and
//! the slope after the warm-up. `cargo bench --bench soak -- [--seconds N] [--rate N] [--folder DIRECTORY]` (60 and
//! 1,000 per second; the aim is an hour).
//!
//! From a Redis queue over cert-a and cert-b to a Redis queue, which is emptied as an IntelMQ would. The log is bounded to
//! 64 MiB, so it is full after some minutes and old entries go as new ones come. The seen set cannot be: ids are kept
//! for a day at least. So it grows by what the ids take, at most 40 bytes each by design, and that is told apart.

#![allow(clippy::unwrap_used)] // What fails here is to stop it.

#[path = "support/load.rs"]
mod load;
#[path = "support/nodes.rs"]
#[allow(dead_code)] // Another benchmark uses the rest of it.
mod nodes;
#[path = "../tests/support/redis.rs"]
#[allow(dead_code)]
mod server;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use load::Load;
use nodes::{Place, Relay};

/// What an id may take of memory.
const PER_ID: f64 = 40.0;
/// Lines of the series.
const LINES: u32 = 60;
/// How often the queue at the end is emptied.
const TICK: Duration = Duration::from_millis(20);
/// The part of the time that is warm-up.
const WARM_UP: f64 = 0.25;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1));
    let number = |name, default: u64| option(name).map_or(default, |text| text.parse().unwrap());
    let (seconds, rate) = (number("--seconds", 60), number("--rate", 1000));
    let folder = tempfile::tempdir_in(option("--folder").map_or_else(std::env::temp_dir, PathBuf::from)).unwrap();

    let redis = server::Redis::start();
    let socket = redis.config().host;
    let [a, b] = ["cert-a", "cert-b"].map(|name| Place::new(folder.path().join(name)));
    let store = "[store]\nlog_bytes = \"64 MiB\"\nlog_days = 1\nage_days = 1\nseen_days = 2\n";
    let server = format!("server = {{ host = \"{socket}\" }}\n");
    let give = format!(
        "[[give.redis]]\nname = \"out\"\nqueue = \"to-b\"\n{server}\
         events = {{ shape = \"typed\", harmonization = \"builtin\" }}\n{store}"
    );
    b.configure("cert-b", &give, &a.key, "cert-a", "");
    let relay_b = Relay::start(&b);
    let address = format!("addresses = [\"{}\"]", relay_b.listening());
    let take = format!("[[take.redis]]\nname = \"in\"\nqueue = \"from-a\"\n{server}{store}");
    a.configure("cert-a", &take, &b.key, "cert-b", &address);
    let relays = [Relay::start(&a), relay_b];
    relays[0].listening();

    let mut series = Series::new(Duration::from_secs(seconds), rate);
    let load = Load::start(redis.connect(), vec!["from-a".into()], 0, rate);
    let (mut connection, mut delivered) = (redis.connect(), 0);
    let empty = |connection: &mut redis::Connection| -> u64 {
        let some: Option<Vec<String>> = redis::cmd("RPOP").arg("to-b").arg(10_000).query(connection).unwrap();
        some.map_or(0, |some| some.len() as u64)
    };
    while series.begun.elapsed() < series.length {
        std::thread::sleep(TICK);
        delivered += empty(&mut connection);
        series.look(&relays, load.pushed(), delivered);
    }
    let pushed = load.stop();
    let late = Instant::now();
    while delivered < pushed {
        assert!(late.elapsed() < Duration::from_secs(60), "{delivered} of {pushed} events came out");
        std::thread::sleep(TICK);
        delivered += empty(&mut connection);
    }
    assert_eq!(delivered, pushed, "an event came out twice");
    series.sum_up();
}

/// A node at a moment.
struct Size {
    resident: f64,
    threads: f64,
    descriptors: f64,
    ids: f64,
}

impl Size {
    fn of(relay: &Relay) -> Size {
        let process = PathBuf::from(format!("/proc/{}", relay.pid()));
        let status = fs::read_to_string(process.join("status")).unwrap();
        let number = |name: &str| -> f64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        let descriptors = fs::read_dir(process.join("fd")).unwrap().count() as f64;
        let ids = relay.status()["ids"].as_f64().unwrap();
        Size { resident: 1024.0 * number("VmRSS:"), threads: number("Threads:"), descriptors, ids }
    }
}

struct Series {
    begun: Instant,
    length: Duration,
    looks: Vec<(f64, [Size; 2])>,
}

impl Series {
    fn new(length: Duration, rate: u64) -> Series {
        println!("{rate} events/s for {} s; of cert-a and cert-b:", length.as_secs());
        let columns = ["MiB", "threads", "fds", "ids"].map(|name| format!("{name:>17}")).concat();
        println!("{:>8}{columns}{:>10}{:>10}", "s", "pushed", "waiting");
        Series { begun: Instant::now(), length, looks: Vec::new() }
    }

    fn look(&mut self, relays: &[Relay; 2], pushed: u64, delivered: u64) {
        let at = self.begun.elapsed();
        if at < self.length / LINES * self.looks.len() as u32 {
            return;
        }
        let sizes = [Size::of(&relays[0]), Size::of(&relays[1])];
        let both = |of: fn(&Size) -> f64, digits| {
            let [a, b] = [&sizes[0], &sizes[1]].map(of);
            format!("{a:>8.digits$} {b:>8.digits$}")
        };
        println!(
            "{:>8.0}{}{}{}{}{pushed:>10}{:>10}",
            at.as_secs_f64(),
            both(|size| size.resident / 1048576.0, 1),
            both(|size| size.threads, 0),
            both(|size| size.descriptors, 0),
            both(|size| size.ids, 0),
            pushed.saturating_sub(delivered),
        );
        self.looks.push((at.as_secs_f64(), sizes));
    }

    fn sum_up(&self) {
        let from = WARM_UP * self.length.as_secs_f64();
        let warm: Vec<_> = self.looks.iter().filter(|(at, _)| *at >= from).collect();
        println!("per minute, after the first {from:.0} s:");
        for (node, name) in ["cert-a", "cert-b"].iter().enumerate() {
            let slope = |of: fn(&Size) -> f64| {
                60.0 * slope(&warm.iter().map(|(at, sizes)| (*at, of(&sizes[node]))).collect::<Vec<_>>())
            };
            let (memory, ids) = (slope(|size| size.resident), slope(|size| size.ids));
            println!(
                "{name}: {:+.1} KiB, of which {:.0} new ids may take {:.1} KiB; {:+.2} threads, {:+.2} descriptors",
                memory / 1024.0,
                ids,
                ids * PER_ID / 1024.0,
                slope(|size| size.threads),
                slope(|size| size.descriptors),
            );
        }
    }
}

/// Of the line that lies best among these points.
fn slope(points: &[(f64, f64)]) -> f64 {
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / points.len() as f64;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let (above, below) = points.iter().fold((0.0, 0.0), |(above, below), point| {
        let from = point.0 - x;
        (above + from * (point.1 - y), below + from * from)
    });
    if below == 0.0 { 0.0 } else { above / below }
}
