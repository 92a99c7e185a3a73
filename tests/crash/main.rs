//! Power cuts: whatever one leaves of the store's files opens with everything that was acknowledged.
//!
//! A child (this program again) works on a store under strace. From the calls that it made, [`disk`] makes what a power
//! cut could have left at each moment, and the store is opened on that: it must hold what had been acknowledged by then, and
//! may hold the step that was under way. It must never hold less, nor anything else. It may refuse no such image.
//!
//! What is damaged otherwise (bits that rot, files cut short while nobody writes) it may refuse, by name; or the one
//! entry when it is read.
//!
//! `CRASH_SEED` repeats a run, `CRASH_IMAGES` says how many images each part looks at; `INTELMQ_RELAY_TESTS=long` looks at all.

#![allow(clippy::unwrap_used)]

mod disk;
mod trace;
mod work;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::disk::{Disk, PARTS};
use crate::trace::{Event, Word};
use crate::work::Portrait;

const FOLDER: &str = "CRASH_FOLDER";
const UNTIL: &str = "CRASH_UNTIL";
const KILL: &str = "CRASH_KILL";
/// The store's folder, below the traced one: the store makes both.
const STORE: &str = "lib/relay";
/// No step beyond this one is begun by anybody.
const LAST: u64 = 110;

fn say(word: Word) {
    use std::io::Write;
    std::io::stderr().write_all(word.text().as_bytes()).unwrap();
}

/// Works on a store, and says what is acknowledged. Does nothing in a usual run.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let until: u64 = std::env::var(UNTIL).unwrap().parse().unwrap();
    let kill: u64 = std::env::var(KILL).unwrap().parse().unwrap();
    runtime().block_on(async {
        let store = work::open(Path::new(&folder)).await.unwrap();
        let position = work::position(&store).await.unwrap();
        say(Word::Opened(position));
        for step in position + 1..=until {
            work::step(&store, step).await.unwrap();
            say(Word::Acknowledged(step));
        }
        if kill > 0 {
            let under_way = store.clone();
            tokio::spawn(async move { work::step(&under_way, until + 1).await });
            tokio::time::sleep(Duration::from_micros(kill)).await;
            let this = std::process::id().to_string();
            Command::new("kill").args(["-KILL", &this]).status().unwrap();
        }
        store.close().await;
        drop(store);
        say(Word::Closed);
    });
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// In memory where that is possible: nothing here needs a disk.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

fn is_long() -> bool {
    std::env::var("INTELMQ_RELAY_TESTS").is_ok_and(|value| value == "long")
}

fn seed() -> u64 {
    let seed = std::env::var("CRASH_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = seed.unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
    println!("CRASH_SEED={seed}");
    seed
}

fn images(usual: usize) -> usize {
    let asked = std::env::var("CRASH_IMAGES").ok().map(|count| count.parse().unwrap());
    asked.unwrap_or(if is_long() { usize::MAX } else { usual })
}

/// Runs the child on this folder until this step. `kill`: it is killed so many microseconds after it has begun the next.
fn run(root: &Path, until: u64, kill: u64) -> Vec<Event> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["child", "--exact", "--nocapture", "--test-threads=1"]);
    command.env(FOLDER, root.join(STORE)).env(UNTIL, until.to_string()).env(KILL, kill.to_string());
    trace::record(&command, root, &root.join(".."))
}

/// What was done to a store, from a known beginning.
struct Recording {
    start: Disk,
    events: Vec<Event>,
    expected: BTreeMap<u64, Portrait>,
}

impl Recording {
    fn words(events: &[Event]) -> Vec<Word> {
        events.iter().filter_map(|event| if let Event::Said(word) = event { Some(*word) } else { None }).collect()
    }
}

/// What became of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// It holds what was acknowledged,
    Complete,
    /// and the step that was under way.
    Further,
    Refused(String),
    /// It does not hold what it must.
    Wrong(String),
}

/// Opens a store, and compares it.
async fn judge(dir: PathBuf, acknowledged: u64, expected: &BTreeMap<u64, Portrait>) -> Outcome {
    let look = async {
        let store = work::open(&dir).await.map_err(|error| error.to_string())?;
        let portrait = Portrait::of(&store, LAST).await;
        store.close().await;
        Ok::<_, String>(portrait)
    };
    let Ok(looked) = tokio::time::timeout(Duration::from_secs(20), look).await else {
        return Outcome::Wrong("it hangs".into());
    };
    let portrait = match looked {
        Err(reason) => return Outcome::Refused(reason),
        Ok(Err(error)) => return Outcome::Wrong(format!("reading: {error}")),
        Ok(Ok(portrait)) => portrait,
    };
    let (now, next) = (expected.get(&acknowledged), expected.get(&(acknowledged + 1)));
    match (now, next) {
        (None, _) if acknowledged == 0 && portrait.step == 0 => Outcome::Complete,
        (Some(now), _) if *now == portrait => Outcome::Complete,
        (_, Some(next)) if *next == portrait => Outcome::Further,
        (Some(now), _) => Outcome::Wrong(portrait.difference(now)),
        (None, _) => Outcome::Wrong(format!("step {}", portrait.step)),
    }
}

#[derive(Default)]
struct Count {
    complete: usize,
    further: usize,
    bad: BTreeMap<String, Vec<String>>,
}

impl Count {
    fn add(&mut self, outcome: Outcome, image: &Path, what: String) {
        // The folder is another each time.
        let text = |reason: String| reason.replace(image.to_str().unwrap(), "…");
        let reason = match outcome {
            Outcome::Complete => return self.complete += 1,
            Outcome::Further => return self.further += 1,
            Outcome::Refused(reason) => format!("refused: {}", text(reason)),
            Outcome::Wrong(reason) => format!("WRONG: {}", text(reason)),
        };
        // One kind, whatever the numbers.
        let kind = reason.chars().filter(|char| !char.is_ascii_digit()).collect();
        self.bad.entry(kind).or_default().push(format!("{what}: {reason}"));
    }

    fn report(&self, what: &str) {
        println!("{what}: {} complete, {} with the step under way", self.complete, self.further);
        for (reason, images) in &self.bad {
            println!("  {} × {reason}", images.len());
            images.iter().take(3).for_each(|image| println!("      {image}"));
        }
    }
}

/// How many times likelier a moment is looked at while a store is being opened: there are few of these, and much is moved.
const OPENING: usize = 6;

/// Looks at images of a recording: about so many.
fn explore(recording: &Recording, most: usize, rng: &mut ChaCha8Rng, runtime: &Runtime) -> Count {
    let opening = openings(&recording.events);
    let weight = |moment: usize| if opening[moment] { OPENING } else { 1 };
    let all: usize = (0..recording.events.len()).map(|moment| weight(moment) * PARTS.len()).sum();
    let chance = most as f64 / all as f64;
    let (mut disk, mut acknowledged, mut count) = (recording.start.clone(), 0, Count::default());
    for (moment, event) in recording.events.iter().enumerate() {
        disk.apply(event);
        if let Event::Said(Word::Opened(step) | Word::Acknowledged(step)) = event {
            acknowledged = acknowledged.max(*step);
        }
        for part in PARTS {
            let mut rng = ChaCha8Rng::seed_from_u64(rng.random());
            if !rng.random_bool((chance * weight(moment) as f64).min(1.0)) {
                continue;
            }
            let image = folder();
            disk.write(part, &mut rng, image.path());
            let outcome = runtime.block_on(judge(image.path().join(STORE), acknowledged, &recording.expected));
            let opening = if opening[moment] { ", while opening" } else { "" };
            count.add(outcome, image.path(), format!("{part:?} at {moment} after step {acknowledged}{opening}"));
        }
    }
    count
}

/// For each moment, whether a store is being opened.
fn openings(events: &[Event]) -> Vec<bool> {
    let mut open = false;
    let mut openings: Vec<bool> = events
        .iter()
        .rev()
        .map(|event| {
            match event {
                Event::Said(Word::Opened(_)) => open = true,
                Event::Said(_) => open = false,
                _ => {}
            }
            open
        })
        .collect();
    openings.reverse();
    openings
}

#[test]
fn a_power_cut_takes_nothing_that_was_acknowledged() {
    let mut rng = ChaCha8Rng::seed_from_u64(seed());
    let runtime = runtime();
    let (scratch, other) = (folder(), folder());
    let root = scratch.path().join("root");
    std::fs::create_dir(&root).unwrap();
    let start = Disk::of(&root);
    let clock = std::time::Instant::now();
    let mut events = Vec::new();
    for (until, kill) in [(45, 3000), (70, 0), (100, 5000), (104, 0)] {
        events.extend(run(&root, until, kill));
        println!("recorded until {until}: {:.1} s", clock.elapsed().as_secs_f64());
    }
    let expected = runtime.block_on(work::expected(&other.path().join(STORE), &Recording::words(&events), LAST));
    println!("expected: {:.1} s", clock.elapsed().as_secs_f64());
    let recording = Recording { start, events, expected };
    let count = explore(&recording, images(300), &mut rng, &runtime);
    count.report("power cuts");
    println!("explored: {:.1} s", clock.elapsed().as_secs_f64());
    assert!(count.bad.is_empty());
}
