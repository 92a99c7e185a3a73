//! Simulates whole networks on the code that runs in production, and says what they cost.
//!
//! `cargo run --release --example simulate -- --nodes 300 --degree 6 --seeds 100`

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;

#[path = "../../tests/simulation/network/mod.rs"]
mod network;

use network::faults::Faults;
use network::report::{Numbers, percentile};
use network::scenario::Scenario;

/// Simulates networks of relays from seeds: random graphs, faults, and the invariants after every run.
///
/// Prints what an event costs. Fails with the first seed for which something does not hold, and with the command that
/// runs it again.
#[derive(Parser)]
#[command(name = "simulate")]
struct Arguments {
    /// Nodes of a network.
    #[arg(long, default_value_t = 300)]
    nodes: usize,
    /// Peers of a node, on average.
    #[arg(long, default_value_t = 6)]
    degree: usize,
    /// Events of a network, of random origins.
    #[arg(long, default_value_t = 100)]
    events: usize,
    /// How many networks.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// The first one's seed; the others follow.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What goes wrong: `all` (but retention), `none`, or some of cuts, partitions, crashes, slow, deaf, zombies, liars,
    /// floods, skew, wrong-clock, reloads, retention, with commas between them. With `none`, everything is TLP:CLEAR.
    #[arg(long, default_value = "all", value_parser = Faults::read)]
    faults: Faults,
    /// Where nodes keep their logs: `memory`, or the real store on `disk`.
    #[arg(long, default_value = "memory", value_parser = ["memory", "disk"])]
    store: String,
    /// Networks that are run at the same time; as many as there are processors, unless it is said.
    #[arg(long)]
    jobs: Option<usize>,
    /// A line for each seed, and the verdicts of all gates.
    #[arg(long, short)]
    verbose: bool,
}

/// A run that ended well: its numbers, its trace, and how long it took.
type Ran = (Numbers, u64, Duration);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Arguments { nodes, degree, events, seeds, seed, faults, .. } = arguments;
    if nodes < 2 {
        eprintln!("a network has two nodes at least");
        return ExitCode::FAILURE;
    }
    let disk = arguments.store == "disk";
    let scenario = |seed| Scenario { seed, nodes, degree, events, faults, disk };
    let jobs = arguments.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let results = run_all(seed..seed + seeds, jobs, &scenario, arguments.verbose);
    let mut all = Numbers::default();
    let mut time = Duration::ZERO;
    for (seed, result) in results {
        let Some((numbers, _, took)) = result else {
            let command = scenario(seed).command();
            eprintln!("\nseed {seed} FAILS, as said above. Again:\n  {command}");
            return ExitCode::FAILURE;
        };
        all.add(&numbers);
        time += took;
    }
    print_table(&all, nodes, time);
    if arguments.verbose {
        print_counts("verdicts", all.verdicts.iter().map(|(word, count)| (&**word, *count)));
    }
    ExitCode::SUCCESS
}

/// Runs all of them, some at a time, up to the first that fails.
fn run_all(
    seeds: std::ops::Range<u64>,
    jobs: usize,
    scenario: &(impl Fn(u64) -> Scenario + Sync),
    verbose: bool,
) -> BTreeMap<u64, Option<Ran>> {
    let (next, results) = (AtomicU64::new(seeds.start), Mutex::new(BTreeMap::new()));
    let lock = || results.lock().unwrap_or_else(PoisonError::into_inner);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || lock().values().any(Option::is_none) {
                break;
            }
            let result = run(&scenario(seed));
            if let (Some((numbers, trace, took)), true) = (&result, verbose) {
                println!("seed {seed:>6}  {}  {:>6.1} s  trace {trace:016x}", line(numbers), took.as_secs_f64());
            }
            lock().insert(seed, result);
        }
    };
    std::thread::scope(|scope| (0..jobs.max(1)).for_each(|_| drop(scope.spawn(work))));
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// `None`: something does not hold, and is said.
fn run(scenario: &Scenario) -> Option<Ran> {
    let started = Instant::now();
    let world = catch_unwind(AssertUnwindSafe(|| scenario.run())).ok()?;
    Some((Numbers::of(&world.seen, &world.events), world.trace(), started.elapsed()))
}

fn line(numbers: &Numbers) -> String {
    let (hops, latency) = (&numbers.hops, &numbers.latency);
    format!(
        "{:.3} copies  {:>6.0} bytes  hops {}/{}/{}  latency {}/{}/{}/{} ms",
        numbers.copies(),
        numbers.bytes_moved(),
        percentile(hops, 500),
        percentile(hops, 950),
        percentile(hops, 1000),
        percentile(latency, 500),
        percentile(latency, 950),
        percentile(latency, 990),
        percentile(latency, 1000),
    )
}

fn print_table(all: &Numbers, nodes: usize, time: Duration) {
    let Numbers { runs, events, moved, hops, latency, .. } = all;
    let of = |counts, parts: &[u64]| {
        parts.iter().map(|part| percentile(counts, *part).to_string()).collect::<Vec<_>>().join(" / ")
    };
    println!("\n{runs} networks of {nodes} nodes; {events} events, {moved} times a node came to have one\n");
    println!("  copies per event and node      {:.3}", all.copies());
    println!("  bytes of an event              {:.0}", all.payload_mean());
    let (bytes, payload) = (all.bytes_moved(), all.payload_mean());
    println!("  on the wire, per event and node {bytes:.0} ({:.2} times as many)", bytes / payload);
    println!("  and while nothing is said, all {:.1} % more", 100.0 * all.idle_bytes as f64 / all.bytes as f64);
    println!("  frames per event and node      {:.1}", all.frames as f64 / (*moved).max(1) as f64);
    println!("  hops p50/p95/max               {}", of(hops, &[500, 950, 1000]));
    println!("  latency p50/p95/p99/max, ms    {}", of(latency, &[500, 950, 990, 1000]));
    println!("  time of one processor          {:.1} s; peak memory {}", time.as_secs_f64(), peak_memory());
    print_counts("what went wrong", all.faults.iter().map(|(what, count)| (*what, *count)));
}

fn print_counts<'a>(title: &str, counts: impl Iterator<Item = (&'a str, u64)>) {
    println!("\n{title}:");
    counts.for_each(|(what, count)| println!("  {count:>10}  {what}"));
}

/// What the system says, where it does.
fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or("unknown".into(), |line| line.trim().to_owned())
}
