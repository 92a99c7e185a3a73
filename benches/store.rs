//! What the store does, in numbers: `cargo bench --bench store -- [ids] [events]` (10 million and 500,000).
//!
//! Not criterion's kind of measuring: the sizes are the point, and each is reached once. The folder is made under
//! `TMPDIR`; take one on the disk that is meant.

#![allow(clippy::unwrap_used)] // What fails here is to stop it.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use intelmq_relay::config;
use intelmq_relay::envelope::{self, Header, Sealed, Secret, SeenKey, SeenKeys};
use intelmq_relay::store::{Commit, Draft, ReadLimit, Remember, Store};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// As the program has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const DAY: u64 = 24 * 60 * 60 * 1000;
const NOW: u64 = 20_600 * DAY;
/// Events of one commit.
const COMMIT: usize = 256;
/// Ids of one commit.
const IDS: usize = 4096;

/// Asks for [`opening`] alone, of the store in the folder that follows.
const OPENING: &str = "--opening";

fn main() {
    let mut arguments = std::env::args();
    if arguments.any(|argument| argument == OPENING) {
        return opening(Path::new(&arguments.next().unwrap()));
    }
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let (ids, events) = (*numbers.first().unwrap_or(&10_000_000), *numbers.get(1).unwrap_or(&500_000));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        seen(ids).await;
        log(events).await;
        small_commits().await;
    });
}

async fn seen(count: usize) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &config::Store::default()).await.unwrap();
    let before = resident();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let start = Instant::now();
    for from in (0..count).step_by(IDS) {
        let remember: Vec<_> =
            (from..count.min(from + IDS)).map(|_| Remember { at: NOW, keys: keys(&mut rng) }).collect();
        assert!(remember.iter().all(|id| store.seen(&id.keys).is_none()));
        store.commit(Commit { remember, ..Commit::default() }).await.unwrap();
    }
    rate("ids checked and inserted, durable", count, start);
    println!("{:>12.1} bytes of memory per id, with the cache", (resident() - before) as f64 / count as f64);

    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let start = Instant::now();
    let found = (0..count).filter(|_| store.seen(&keys(&mut rng)) == Some(0)).count();
    assert_eq!(found, count);
    rate("known ids looked up", count, start);
    let start = Instant::now();
    store.close().await;
    drop(store);
    println!("{:>12.2} s to close", start.elapsed().as_secs_f64());
    println!("{:>12.1} bytes of disk per id", size(dir.path()) as f64 / count as f64);

    let itself = Command::new(std::env::current_exe().unwrap()).arg(OPENING).arg(dir.path()).status();
    assert!(itself.unwrap().success());
    let store = Store::open(dir.path(), &config::Store::default()).await.unwrap();
    let start = Instant::now();
    store.expire(NOW + 30 * DAY).await.unwrap();
    println!("{:>12.2} s to forget them all", start.elapsed().as_secs_f64());
}

/// In a process of its own: in one that had it open before, memory that is free already would not count.
#[tokio::main]
async fn opening(dir: &Path) {
    let before = resident();
    let start = Instant::now();
    let store = Store::open(dir, &config::Store::default()).await.unwrap();
    let ids = store.usage().ids;
    println!("{:>12.2} s to open with {ids} ids", start.elapsed().as_secs_f64());
    println!("{:>12.1} bytes of memory per id grown by opening", (resident() - before) as f64 / ids as f64);
}

async fn log(count: usize) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &config::Store::default()).await.unwrap();
    let mut envelopes = envelopes(count).into_iter();
    let bytes: usize = envelopes.as_slice().iter().map(|envelope| envelope.bytes().len()).sum();
    println!("events of {} bytes", bytes / count);
    let start = Instant::now();
    // Four callers, as doors and links are.
    let mut waiting = std::collections::VecDeque::new();
    loop {
        let entries: Vec<_> =
            envelopes.by_ref().take(COMMIT).map(|envelope| Draft { at: NOW, from: None, envelope }).collect();
        if entries.is_empty() {
            break;
        }
        let store = store.clone();
        waiting.push_back(tokio::spawn(async move {
            store.commit(Commit { entries, ..Commit::default() }).await.unwrap();
        }));
        if waiting.len() == 4 {
            waiting.pop_front().unwrap().await.unwrap();
        }
    }
    for task in waiting {
        task.await.unwrap();
    }
    rate("events committed, durable, 256 each by 4 callers", count, start);
    println!("{:>12.2} of their size, as stored", store.usage().log_bytes as f64 / bytes as f64);
    read(&store, count, "events read, the newest from memory").await;
    store.close().await;
    drop(store);
    println!("{:>12.2} of their size, on disk", size(dir.path()) as f64 / bytes as f64);
    let start = Instant::now();
    let store = Store::open(dir.path(), &config::Store::default()).await.unwrap();
    println!("{:>12.2} s to open", start.elapsed().as_secs_f64());
    read(&store, count, "events read from disk, 64 KiB at a time").await;
}

async fn read(store: &Store, count: usize, what: &str) {
    let limit = ReadLimit { entries: 512, bytes: 64 << 10 };
    let start = Instant::now();
    let mut after = 0;
    loop {
        let entries = store.read(after, limit).await.unwrap();
        let Some(last) = entries.last() else { break };
        after = last.seq;
    }
    assert_eq!(after, count as u64);
    rate(what, count, start);
}

async fn small_commits() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &config::Store::default()).await.unwrap();
    for callers in [1, 16] {
        let count = 4000;
        let before = written();
        let start = Instant::now();
        let tasks = (0..callers).map(|caller| {
            let (store, drafts) = (store.clone(), envelopes_from(count / callers, 1000 * callers + caller));
            tokio::spawn(async move {
                for envelope in drafts {
                    let entries = vec![Draft { at: NOW, from: None, envelope }];
                    store.commit(Commit { entries, ..Commit::default() }).await.unwrap();
                }
            })
        });
        for task in futures::future::join_all(tasks).await {
            task.unwrap();
        }
        rate(&format!("events committed one by one by {callers} callers"), count, start);
        println!("{:>12.1} KiB written for each", (written() - before) as f64 / 1024.0 / count as f64);
    }
}

/// Bytes that this process has written so far. Not `write_bytes`, which counts a large folio for each byte in it.
fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    io.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap().parse().unwrap()
}

fn keys(rng: &mut ChaCha8Rng) -> SeenKeys {
    SeenKeys { insert: SeenKey(rng.random()), also: Some(SeenKey(rng.random())), hidden: 0 }
}

fn envelopes(count: usize) -> Vec<Sealed> {
    envelopes_from(count, 1)
}

fn envelopes_from(count: usize, seed: usize) -> Vec<Sealed> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed as u64);
    let secret = Secret::from_seed(&[1; 32]);
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        let drafts = (0..COMMIT.min(count - all.len())).map(|_| draft(&secret, &mut rng)).collect();
        all.extend(envelope::seal(&secret, drafts, &mut rng));
    }
    all
}

/// As IntelMQ's events are: 18 fields of which some repeat, and a `raw` that hardly compresses.
fn draft(secret: &Secret, rng: &mut ChaCha8Rng) -> envelope::Draft {
    let mut raw = [0; 300];
    rng.fill_bytes(&mut raw);
    let raw: String = raw.iter().map(|byte| char::from(b'0' + byte % 43)).collect();
    let [a, b] = rng.random::<[u8; 2]>();
    let mut fields: Vec<(String, String)> = [
        ("classification.identifier", "\"open-telnet\""),
        ("classification.taxonomy", "\"vulnerable\""),
        ("classification.type", "\"vulnerable-system\""),
        ("feed.accuracy", "100.0"),
        ("feed.code", "\"shadowserver-telnet\""),
        ("feed.name", "\"Accessible Telnet\""),
        ("feed.provider", "\"Shadowserver\""),
        ("protocol.application", "\"telnet\""),
        ("protocol.transport", "\"tcp\""),
        ("source.geolocation.cc", "\"AT\""),
        ("source.geolocation.city", "\"Vienna\""),
        ("time.observation", "\"2026-05-28T00:00:00+00:00\""),
        ("time.source", "\"2026-05-27T23:11:02+00:00\""),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .to_vec();
    fields.push(("source.ip".into(), format!("\"198.51.{a}.{b}\"")));
    fields.push(("source.asn".into(), rng.random::<u16>().to_string()));
    fields.push(("source.port".into(), rng.random::<u16>().to_string()));
    fields.push(("extra.banner".into(), format!("\"{:x}\"", rng.random::<u128>())));
    fields.push(("raw".into(), format!("\"{raw}\"")));
    let header = Header {
        v: envelope::VERSION,
        id: uuid::Uuid::from_u128(rng.random()),
        origin: "cert-at".parse().unwrap(),
        key: secret.key(),
        org: None,
        instance: None,
        time: NOW,
        kind: envelope::Kind::Event,
        format: "intelmq".into(),
        tlp: Some(envelope::Tlp::Green),
        to: vec![],
        keys: vec![],
        tags: vec![],
        links: envelope::Links::default(),
        ext: Default::default(),
        content: None,
        n: 0,
    };
    envelope::Draft::new(header, fields, &envelope::Bounds::default()).unwrap()
}

fn rate(what: &str, count: usize, start: Instant) {
    println!("{:>12.0} {what} per second", count as f64 / start.elapsed().as_secs_f64());
}

/// Bytes of memory that are resident.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Bytes that the folder takes on disk.
fn size(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            let meta = entry.metadata().unwrap();
            if meta.is_dir() { size(&entry.path()) } else { meta.blocks() * 512 }
        })
        .sum()
}
