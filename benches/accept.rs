//! What the gate takes on one core: envelopes as a link brings them, judged, and committed with their ids and the cursor,
//! durable. `cargo bench --bench accept -- [--events N] [--runs N] [--folder DIRECTORY]` (200,000 and 3).
//!
//! All threads of this process, the store's too, are kept on one core. In the one case the roots of the batches are
//! verified already, so that no signature is; in the other all are new: one signature for each 64 events, as links bring
//! them. Beside both, the same envelopes committed without being judged.

#![allow(clippy::unwrap_used)] // What fails here is to stop it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use intelmq_relay::accept::{Bringer, Gate, Rules};
use intelmq_relay::config::{self, Config};
use intelmq_relay::envelope::{Bounds, Draft, Envelope, Message, Name, Sealed, Secret, Tlp, Verifier, seal};
use intelmq_relay::link::Verdict;
use intelmq_relay::policy::{Policy, Terms};
use intelmq_relay::sample::Events;
use intelmq_relay::store::{self, Commit, Store};
use intelmq_relay::trust::Origins;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rustix::thread::{CpuSet, sched_setaffinity};
use uuid::Uuid;

/// As the program has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Events under one signature: as many as the doors put there.
const SEALED: usize = 64;
/// Bytes that a link brings at once, and how many times that is under way: its window.
const AT_ONCE: usize = 64 << 10;
const UNDER_WAY: usize = 128;
const NOW: u64 = 1_800_000_000_000;
const DAY: u64 = 24 * 60 * 60 * 1000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1));
    let number = |name, default: usize| option(name).map_or(default, |text| text.parse().unwrap());
    let (events, runs) = (number("--events", 200_000), number("--runs", 3));
    let folder = option("--folder").map_or_else(std::env::temp_dir, PathBuf::from);

    // Before there are threads: they inherit it.
    let mut one = CpuSet::new();
    one.set(rustix::thread::sched_getcpu());
    sched_setaffinity(None, &one).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();

    let sealed = sealed(events);
    let bytes = sealed.iter().map(|envelope| envelope.bytes().len()).sum::<usize>() / events;
    println!("{events} envelopes of {bytes} bytes in the mean, {AT_ONCE} bytes at once; on one core, durable");
    for (name, how) in [
        ("judged and committed, roots verified before", How::Verified),
        ("judged and committed, roots new", How::New),
        ("committed only", How::Committed),
    ] {
        let mut measured: Vec<(f64, f64)> =
            (0..runs).map(|_| runtime.block_on(measure(&sealed, how, &folder))).collect();
        measured.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (rate, cpu) = measured[runs / 2];
        println!("{rate:>10.0} events/s, {cpu:>6.2} µs of CPU each: {name}");
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Verified,
    New,
    Committed,
}

/// Events per second, and µs of CPU time of each.
async fn measure(sealed: &[Sealed], how: How, folder: &Path) -> (f64, f64) {
    let folder = tempfile::tempdir_in(folder).unwrap();
    let gate = gate(folder.path()).await;
    let bringer = Bringer { name: name("cert-a"), key: Secret::from_seed(&[1; 32]).key() };
    let verifier = Verifier::new(sealed.len() / SEALED + 1);
    if how == How::Verified {
        for first in sealed.iter().step_by(SEALED) {
            let envelope = Envelope::decode(first.bytes().clone(), &Bounds::default()).unwrap();
            verifier.open(envelope).unwrap();
        }
    }
    let batches = batches(sealed);
    let (begun, cpu) = (Instant::now(), cpu_seconds());
    if how == How::Committed {
        commit(gate.store(), batches).await;
    } else {
        let mut under_way = FuturesOrdered::new();
        for (batch, no) in batches.into_iter().zip(1u64..) {
            let envelopes: Vec<Bytes> = batch.iter().map(|envelope| envelope.bytes().clone()).collect();
            let cursor = Some(no.to_be_bytes().to_vec());
            // On one core, as all of it is here: judged, and the commit goes on beside it.
            let (brought, gate) = (gate.judge(&bringer, envelopes, cursor, &verifier, NOW), gate.clone());
            under_way.push_back(tokio::spawn(async move { gate.take(brought).await }));
            if under_way.len() == UNDER_WAY {
                assert_accepted(&under_way.next().await.unwrap().unwrap().unwrap());
            }
            tokio::task::yield_now().await;
        }
        while let Some(verdicts) = under_way.next().await {
            assert_accepted(&verdicts.unwrap().unwrap());
        }
    }
    let (seconds, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    assert_eq!(gate.store().head(), sealed.len() as u64);
    gate.store().close().await;
    (sealed.len() as f64 / seconds, cpu * 1e6 / sealed.len() as f64)
}

async fn commit(store: &Store, batches: Vec<&[Sealed]>) {
    let mut under_way = FuturesOrdered::new();
    for batch in batches {
        let draft = |envelope: &Sealed| store::Draft { at: NOW, from: None, envelope: envelope.clone() };
        let commit = Commit { entries: batch.iter().map(draft).collect(), ..Commit::default() };
        let store = store.clone();
        under_way.push_back(tokio::spawn(async move { store.commit(commit).await }));
        if under_way.len() == UNDER_WAY {
            under_way.next().await.unwrap().unwrap().unwrap();
        }
        tokio::task::yield_now().await;
    }
    while let Some(appended) = under_way.next().await {
        appended.unwrap().unwrap();
    }
}

fn assert_accepted(verdicts: &[Verdict]) {
    assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Accepted), "{verdicts:?}");
}

/// As they are cut for a link.
fn batches(sealed: &[Sealed]) -> Vec<&[Sealed]> {
    let mut bytes = 0;
    let cut = |a: &Sealed, b: &Sealed| {
        bytes += a.bytes().len();
        let more = bytes + b.bytes().len() <= AT_ONCE;
        if !more {
            bytes = 0;
        }
        more
    };
    sealed.chunk_by(cut).collect()
}

/// The gate of a node whose peer is cert-a.
async fn gate(data: &Path) -> Gate {
    let key = Secret::from_seed(&[1; 32]).key();
    let text = format!("[node]\nname = \"me\"\n[[peer]]\nname = \"cert-a\"\nkey = \"{key}\"\n");
    let config = Config::parse(&text, Path::new("/")).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let (me, key) = (name("me"), Secret::from_seed(&[2; 32]).key());
    let terms = Arc::new(Terms::new(&config.peers[0], &config.rules));
    let rules = Rules {
        origins: Origins::configured(&config).of(me.clone(), key).into(),
        policy: Policy::new(&config),
        terms: HashMap::from([(name("cert-a"), terms)]),
        bounds: Bounds::default(),
        age: 10 * DAY,
        future: 600_000,
        me,
        key,
    };
    Gate::new(Store::open(data, &config::Store::default()).await.unwrap(), rules)
}

fn sealed(events: usize) -> Vec<Sealed> {
    let (secret, origin) = (Secret::from_seed(&[1; 32]), name("cert-a"));
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let draft = |(text, id): (String, u128)| {
        let message = Message::read(text.as_bytes()).unwrap();
        let header = message.header(&origin, Uuid::from_u128(id), NOW);
        Draft::new(header, message.fields, &Bounds::default()).unwrap()
    };
    let drafts: Vec<Draft> = Events::new(1).labelled(Tlp::Green).take(events).zip(1..).map(draft).collect();
    let mut drafts = drafts.into_iter();
    let mut all = Vec::with_capacity(events);
    while all.len() < events {
        all.extend(seal(&secret, drafts.by_ref().take(SEALED).collect(), &mut rng));
    }
    all
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// User and system time of this process so far, of all threads.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // After the name, which stands in brackets: state is field 3, utime 14, stime 15.
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / rustix::param::clock_ticks_per_second() as f64
}
