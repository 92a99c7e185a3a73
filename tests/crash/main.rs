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
mod durable;
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

use crate::disk::{Disk, PARTS, Part};
use crate::trace::{Event, Word};
use crate::work::Portrait;

const FOLDER: &str = "CRASH_FOLDER";
const UNTIL: &str = "CRASH_UNTIL";
const KILL: &str = "CRASH_KILL";
/// The store's folder, below the traced one: the store makes both.
const STORE: &str = "lib/relay";
/// No step beyond this one is begun by anybody.
const LAST: u64 = 125;

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
    /// The step that had been acknowledged when it began.
    acknowledged: u64,
    /// What is in the store after each step.
    expected: BTreeMap<u64, Portrait>,
}

impl Recording {
    /// A folder that is not there yet; then the child, until each of these steps, killed or not (see [`run`]).
    fn of(runs: &[(u64, u64)], runtime: &Runtime) -> Recording {
        let (scratch, other) = (folder(), folder());
        let root = scratch.path().join("root");
        std::fs::create_dir(&root).unwrap();
        let start = Disk::of(&root);
        let events: Vec<Event> = runs.iter().flat_map(|(until, kill)| run(&root, *until, *kill)).collect();
        let expected = runtime.block_on(work::expected(&other.path().join(STORE), &words(&events), LAST));
        Recording { start, events, acknowledged: 0, expected }
    }

    /// Goes on from what a power cut left while this was recorded: a moment while the store was opened, or another.
    fn after_a_cut(&self, opening: bool, rng: &mut ChaCha8Rng, runtime: &Runtime) -> Recording {
        let openings = openings(&self.events);
        // Not before there is a store at all.
        let first = self.events.iter().position(|event| matches!(event, Event::Said(_))).unwrap();
        let moments: Vec<usize> = (first..openings.len()).filter(|moment| openings[*moment] == opening).collect();
        let moment = moments[rng.random_range(0..moments.len())];
        let (mut disk, mut acknowledged) = (self.start.clone(), self.acknowledged);
        for event in &self.events[..=moment] {
            disk.apply(event);
            acknowledged = acknowledged.max(step_of(event));
        }
        let (scratch, other) = (folder(), folder());
        let root = scratch.path().join("root");
        std::fs::create_dir(&root).unwrap();
        disk.write(Part::Sectors, &mut rng.clone(), &root);
        disk.write(Part::Sectors, rng, other.path());
        let start = Disk::of(&root);
        let mut events = run(&root, acknowledged + 9, 4000);
        events.extend(run(&root, acknowledged + 14, 0));
        let mut expected: BTreeMap<u64, Portrait> = self
            .expected
            .range(acknowledged..=acknowledged + 1)
            .map(|(step, portrait)| (*step, portrait.clone()))
            .collect();
        expected.extend(runtime.block_on(work::expected(&other.path().join(STORE), &words(&events), LAST)));
        Recording { start, events, acknowledged, expected }
    }
}

fn words(events: &[Event]) -> Vec<Word> {
    events.iter().filter_map(|event| if let Event::Said(word) = event { Some(*word) } else { None }).collect()
}

/// The step that is acknowledged by this.
fn step_of(event: &Event) -> u64 {
    match event {
        // What somebody has seen in an open store must stay.
        Event::Said(Word::Opened(step) | Word::Acknowledged(step)) => *step,
        _ => 0,
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
    /// It opens, and something in it cannot be read.
    Unread(String),
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
    let Ok(looked) = tokio::time::timeout(Duration::from_secs(100), look).await else {
        return Outcome::Wrong("it hangs".into());
    };
    let portrait = match looked {
        Err(reason) => return Outcome::Refused(reason),
        Ok(Err(error)) => return Outcome::Unread(error.to_string()),
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
            Outcome::Unread(reason) => format!("not read: {}", text(reason)),
            Outcome::Wrong(reason) => format!("WRONG: {}", text(reason)),
        };
        // One kind, whatever the numbers.
        let kind = reason.chars().filter(|char| !char.is_ascii_digit()).collect();
        self.bad.entry(kind).or_default().push(format!("{what}: {reason}"));
    }

    fn all(&self) -> usize {
        self.complete + self.further + self.bad.values().map(Vec::len).sum::<usize>()
    }

    fn report(&self, what: &str) {
        println!(
            "{what}: of {} images {} complete, {} with the step under way",
            self.all(),
            self.complete,
            self.further
        );
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
    // What removes a file of the log too early is seen in the few moments until sled says so: always looked at.
    let log = Path::new(STORE).join("log");
    let (mut disk, mut acknowledged) = (recording.start.clone(), recording.acknowledged);
    let mut count = Count::default();
    for (moment, event) in recording.events.iter().enumerate() {
        disk.apply(event);
        acknowledged = acknowledged.max(step_of(event));
        for part in PARTS {
            let mut rng = ChaCha8Rng::seed_from_u64(rng.random());
            let chosen = rng.random_bool((chance * weight(moment) as f64).min(1.0));
            if !chosen && !event.removes(&log) {
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

/// The first recording: made, killed, recovered, closed, opened, killed, recovered, closed.
const RUNS: [(u64, u64); 4] = [(45, 3000), (70, 0), (100, 5000), (104, 0)];

#[test]
fn a_power_cut_takes_nothing_that_was_acknowledged() {
    let mut rng = ChaCha8Rng::seed_from_u64(seed());
    let runtime = runtime();
    let recording = Recording::of(&RUNS, &runtime);
    let count = explore(&recording, images(90), &mut rng, &runtime);
    count.report("power cuts");
    let mut bad = count.bad.len();
    for opening in [true, false].into_iter().cycle().take(if is_long() { 12 } else { 2 }) {
        let second = recording.after_a_cut(opening, &mut rng, &runtime);
        let count = explore(&second, images(40), &mut rng, &runtime);
        count.report(if opening { "second cuts, the first while it was opened" } else { "second cuts" });
        bad += count.bad.len();
    }
    assert_eq!(bad, 0, "see above");
}

/// Nobody writes, and a file is changed: cut short, made zero in one place or from there on, or one bit is another.
#[test]
fn what_rots_is_whole_or_refused_by_name() {
    let mut rng = ChaCha8Rng::seed_from_u64(seed());
    let runtime = runtime();
    let dir = folder();
    let portrait = runtime.block_on(async {
        let home = dir.path().join(STORE);
        let store = work::open(&home).await.unwrap();
        for step in 1..=20 {
            work::step(&store, step).await.unwrap();
        }
        store.close().await;
        // From here on sled knows only from its log where everything is.
        let store = work::open(&home).await.unwrap();
        for step in 21..=70 {
            work::step(&store, step).await.unwrap();
        }
        let portrait = Portrait::of(&store, LAST).await.unwrap();
        store.close().await;
        portrait
    });
    let whole = Disk::of(dir.path());
    let expected = BTreeMap::from([(portrait.step, portrait.clone())]);
    let mut count = Count::default();
    let all = images(120).min(20_000);
    for number in 0..all {
        let image = folder();
        whole.write(Part::Nothing, &mut rng, image.path());
        let what = rot(&image.path().join(STORE), number, &mut rng);
        let outcome = runtime.block_on(judge(image.path().join(STORE), portrait.step, &expected));
        count.add(outcome, image.path(), what);
    }
    count.report("rot");
    assert!(count.complete > 0 && count.complete < all, "some places matter, some do not");
    assert!(!count.bad.keys().any(|kind| kind.starts_with("WRONG")), "see above");
}

/// Changes one file in this folder.
fn rot(dir: &Path, number: usize, rng: &mut ChaCha8Rng) -> String {
    let mut files: Vec<PathBuf> = vec![dir.join("head")];
    for folder in ["sled", "log"] {
        files.extend(std::fs::read_dir(dir.join(folder)).unwrap().map(|entry| entry.unwrap().path()));
    }
    files.retain(|path| path.is_file());
    files.sort();
    // Every file, and most often those that have nearly everything.
    let path = match number % 4 {
        0 => files[rng.random_range(0..files.len())].clone(),
        1 => files.iter().find(|path| path.starts_with(dir.join("log"))).unwrap().clone(),
        _ => dir.join("sled/db"),
    };
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.len();
    let at = match number % 3 {
        // Where segments begin.
        0 if end > SEGMENT => rng.random_range(0..end / SEGMENT) * SEGMENT + rng.random_range(0..40),
        _ => rng.random_range(0..end),
    };
    let what = match rng.random_range(0..4) {
        0 => {
            bytes.truncate(at);
            "cut"
        }
        1 => {
            bytes[at..].fill(0);
            "zero from there on"
        }
        2 => {
            let from = at / 512 * 512;
            let to = (from + [512, 4096][rng.random_range(0..2)]).min(end);
            bytes[from..to].fill(0);
            "zero in a place"
        }
        _ => {
            bytes[at] ^= 1 << rng.random_range(0..8);
            "a bit"
        }
    };
    std::fs::write(&path, bytes).unwrap();
    format!("{}, {what} at {at} of {end}", path.file_name().unwrap().display())
}

/// sled's, as the store has it.
const SEGMENT: usize = 2 << 20;

/// sled cleans up only while something is written: what is freed is used again all the same.
#[test]
fn a_store_of_a_steady_size_has_a_file_of_a_steady_size() {
    let (runtime, dir) = (runtime(), folder());
    let size = || std::fs::metadata(dir.path().join("sled/db")).unwrap().len();
    let mut sizes = Vec::new();
    runtime.block_on(async {
        let store = work::open(dir.path()).await.unwrap();
        for round in 0..8 {
            for number in 1..=150 {
                work::replace_one(&store, round * 150 + number).await.unwrap();
            }
            sizes.push(size());
        }
        store.close().await;
    });
    println!("{sizes:?}");
    assert!(sizes[7] <= sizes[3] + 4 * SEGMENT as u64, "{sizes:?}");
}
