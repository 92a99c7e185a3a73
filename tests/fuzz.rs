//! Hostile bytes for every decoder, on the stable toolchain: each target of `fuzz/targets.rs` gets what was found once,
//! its seeds, and mutations of them for a while. An input that ends in words which none had before joins the corpus.
//!
//! Half a second of processor time each; with `INTELMQ_RELAY_TESTS=long`, two minutes. `FUZZ_SECONDS` says otherwise, `FUZZ_SEED`
//! repeats what failed. An input that fails is kept under the target directory: it belongs into `tests/fuzz/findings/TARGET/`, under a
//! name that says what it is. libFuzzer runs the same targets, guided by coverage: `tests/fuzz/run`.

#![allow(clippy::unwrap_used)] // A panic is how a test fails.

#[path = "fuzz/bombs.rs"]
mod bombs;
#[path = "fuzz/daemon.rs"]
mod daemon;
#[path = "fuzz/decoders.rs"]
mod decoders;
#[path = "support/hand.rs"]
#[allow(dead_code)] // Other tests use the rest of it.
mod hand;
#[path = "fuzz/mutate.rs"]
mod mutate;
#[path = "support/relay.rs"]
#[allow(dead_code)]
mod relay;
#[path = "fuzz/seeds.rs"]
mod seeds;
#[path = "fuzz/targets.rs"]
mod targets;
#[path = "support/tcp.rs"]
#[allow(dead_code)]
mod tcp;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use targets::{Cost, TARGETS, Target};

/// Inputs that are kept, beside the seeds.
const KEPT: usize = 512;

/// Memory is counted for the whole process: where tests share one, they wait for each other.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was found once: named files.
fn findings(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/findings").join(target.name);
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| (file.clone(), std::fs::read(file).unwrap())).collect()
}

fn seconds() -> f64 {
    let long = std::env::var("INTELMQ_RELAY_TESTS").is_ok_and(|length| length == "long");
    let said = std::env::var("FUZZ_SECONDS").ok().map(|seconds| seconds.parse().expect("FUZZ_SECONDS is a number"));
    said.unwrap_or(if long { 120.0 } else { 0.5 })
}

fn seed() -> u64 {
    let said = std::env::var("FUZZ_SEED").ok().map(|seed| seed.parse().expect("FUZZ_SEED is a number"));
    said.unwrap_or_else(|| rand::rng().random())
}

/// What a run has seen.
#[derive(Default)]
struct Seen {
    inputs: u64,
    time: Duration,
    /// The most bytes that one took beside 64 of each of its own,
    most: usize,
    /// and the longest that one took.
    longest: Duration,
    words: HashSet<String>,
}

impl Seen {
    /// Whether it ended in words that are new.
    fn note(&mut self, input: &[u8], (words, cost): (String, Cost)) -> bool {
        self.inputs += 1;
        self.time += cost.time;
        self.most = self.most.max(cost.bytes.saturating_sub(64 * input.len()));
        self.longest = self.longest.max(cost.time);
        self.words.insert(words)
    }
}

fn run(target: &Target) {
    let _alone = alone();
    let (seed, seconds, mut seen) = (seed(), Duration::from_secs_f64(seconds()), Seen::default());
    println!("FUZZ_SEED={seed} cargo nextest run --all-features --test fuzz {}", target.name);
    target.warm_up();
    let mut corpus = Vec::new();
    for (file, input) in findings(target) {
        println!("{}", file.display());
        seen.note(&input, decoded(target, &input));
        corpus.push(input);
    }
    for input in (target.seeds)() {
        seen.note(&input, decoded(target, &input));
        corpus.push(input);
    }
    let (most, mut rng) = (corpus.len() + KEPT, ChaCha20Rng::seed_from_u64(seed));
    while seen.time < seconds {
        let input = mutate::mutated(&corpus, &mut rng);
        if seen.note(&input, decoded(target, &input)) && corpus.len() < most {
            corpus.push(input);
        }
    }
    let Seen { inputs, words, most, longest, .. } = seen;
    println!("{}: {inputs} inputs, {} outcomes, {most} bytes and {longest:?} at most", target.name, words.len());
    assert!(words.len() > 1, "every input ends in the same words: nothing is decoded");
}

/// Decodes; where that fails, the input is kept.
fn decoded(target: &Target, input: &[u8]) -> (String, Cost) {
    catch_unwind(AssertUnwindSafe(|| target.decode(input))).unwrap_or_else(|panic| {
        let sum = input.iter().fold(0_u32, |sum, byte| sum.wrapping_mul(31) ^ u32::from(*byte));
        let name = format!("fuzz-{}-{sum:08x}", target.name);
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&file, input).unwrap();
        eprintln!("the input is in {}: name it, and put it into tests/fuzz/findings/{}/", file.display(), target.name);
        resume_unwind(panic)
    })
}

/// One test each, so that they run side by side, and each says how it ended.
macro_rules! each {
    ($($test:ident $name:literal),* $(,)?) => {
        $(#[test] fn $test() { run(Target::of_name($name)); })*

        #[test]
        fn every_target_has_its_test_and_its_binary() {
            let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!([$($name),*], *names);
            let manifest = include_str!("fuzz/Cargo.toml");
            let manifest: Vec<&str> = manifest.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).collect();
            assert_eq!(manifest[1..], *names, "tests/fuzz/Cargo.toml has the targets, in this order");
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/findings");
            for entry in std::fs::read_dir(folder).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                assert!(names.contains(&&*name), "there are findings for {name}, which is no target");
            }
        }
    };
}

each! {
    envelope "envelope",
    header "header",
    decrypted "decrypted",
    frame "frame",
    bodies "bodies",
    link "link",
    event "event",
    harmonization "harmonization",
    roster "roster",
    notice "notice",
    config "config",
    tcp "tcp",
    invitation "invitation",
    join "join",
    question "question",
    key_file "key-file",
    runtime "runtime",
    token "token",
    log_chunk "log-chunk",
    journal_chunk "journal-chunk",
}

/// Writes the seeds for another engine: `FUZZ_CORPUS=folder`.
#[test]
#[ignore = "is asked for by tests/fuzz/run"]
fn write_seeds() {
    let folder = PathBuf::from(std::env::var_os("FUZZ_CORPUS").expect("FUZZ_CORPUS names a folder"));
    for target in TARGETS {
        let folder = folder.join(target.name);
        std::fs::create_dir_all(&folder).unwrap();
        for (number, seed) in (target.seeds)().iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number:03}")), seed).unwrap();
        }
    }
}
