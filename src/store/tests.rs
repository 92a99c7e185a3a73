//! Tests of the store as a whole. What one file decides is tested in that file.

mod crash;
mod model;
mod shelf;

use std::collections::HashMap;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use super::*;
use crate::envelope::{self, Secret};

pub(super) const DAY: u64 = 24 * 60 * 60 * 1000;
/// A day in 2026.
pub(super) const DAY0: u64 = 20_600 * DAY;

const ALL: ReadLimit = ReadLimit { entries: usize::MAX, bytes: usize::MAX };

/// An envelope around a value of this size that hardly compresses. Number and size make its id.
pub(super) fn sealed(number: u64, size: usize) -> Sealed {
    // Sealing is slow without optimisation, and the tests ask for the same ones again and again.
    static MADE: LazyLock<Mutex<HashMap<(u64, usize), Sealed>>> = LazyLock::new(Mutex::default);
    MADE.lock().unwrap().entry((number, size)).or_insert_with(|| seal(number, size)).clone()
}

/// The withdrawal of an event that [`sealed`] has made.
pub(super) fn withdrawal_of(event: &Sealed) -> Sealed {
    let header = event.header().withdrawal(Uuid::from_u128(!event.header().id.as_u128()), DAY0);
    let draft =
        envelope::Draft::new(header, vec![("reason".into(), "\"x\"".into())], &envelope::Bounds::default()).unwrap();
    envelope::seal(&Secret::from_seed(&[1; 32]), vec![draft], &mut ChaCha8Rng::seed_from_u64(1)).remove(0)
}

fn seal(number: u64, size: usize) -> Sealed {
    let mut rng = ChaCha8Rng::seed_from_u64(number);
    let mut raw = vec![0; size];
    rng.fill_bytes(&mut raw);
    raw.iter_mut().for_each(|byte| *byte = b'0' + *byte % 43);
    let raw = String::from_utf8(raw).unwrap();
    let fields = [("raw", raw.as_str()), ("source.ip", "192.0.2.1"), ("source.port", "x")];
    let fields = fields.map(|(key, value)| (key.to_owned(), format!("\"{value}\""))).to_vec();
    let secret = Secret::from_seed(&[1; 32]);
    let id = Uuid::from_u128(u128::from(number) << 64 | size as u128);
    let header = envelope::Message::read(b"{}").unwrap().header(&"cert-at".parse().unwrap(), id, DAY0);
    let bounds = envelope::Bounds { bytes: usize::MAX, ..envelope::Bounds::default() };
    let draft = envelope::Draft::new(header, fields, &bounds).unwrap();
    envelope::seal(&secret, vec![draft], &mut rng).remove(0)
}

/// The number and size that it was made with.
pub(super) fn made_of(envelope: &Sealed) -> (u64, usize) {
    let (number, size) = envelope.header().id.as_u64_pair();
    (number, size as usize)
}

fn number(envelope: &Sealed) -> u64 {
    made_of(envelope).0
}

fn draft(number: u64, size: usize) -> Draft {
    Draft { at: DAY0, from: None, envelope: sealed(number, size) }
}

fn entries(drafts: impl IntoIterator<Item = Draft>) -> Commit {
    Commit { entries: drafts.into_iter().collect(), ..Commit::default() }
}

fn config() -> config::Store {
    config::Store { cache_bytes: 4 << 20, ..config::Store::default() }
}

async fn open(dir: &TempDir) -> Store {
    Store::open(dir.path(), &config()).await.unwrap()
}

async fn reopen(store: Store, dir: &TempDir) -> Store {
    store.close().await;
    open(dir).await
}

/// Everything after a number, read in steps of this size.
async fn read_all(store: &Store, mut after: u64, limit: ReadLimit) -> Vec<Arc<Entry>> {
    let mut all: Vec<Arc<Entry>> = Vec::new();
    loop {
        let some = store.read(after, limit).await.unwrap();
        assert!(some.len() <= limit.entries);
        let Some(last) = some.last() else { return all };
        after = last.seq;
        all.extend(some);
    }
}

#[tokio::test]
async fn everything_survives_reopening() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    let id = store.log_id();
    assert_eq!((store.head(), store.first()), (0, 1));
    let peer: Name = "cert-at".parse().unwrap();
    let cursors =
        [Cursor::Source(peer.clone()), Cursor::Sink(peer.clone()), Cursor::Source("cert-at-2".parse().unwrap())];
    let item = Quarantined {
        at: DAY0,
        door: peer.clone(),
        reason: "no JSON".into(),
        held: Held::Item(vec![7; 100_000].into()),
    };
    let known = sealed(3, 0).seen_keys();
    let commit = Commit {
        entries: vec![draft(1, 1200), Draft { from: Some(peer.clone()), ..draft(2, 0) }],
        remember: vec![Remember { at: DAY0, keys: known }],
        // Larger than one piece, then smaller.
        cursors: vec![(cursors[0].clone(), vec![1; 70_000]), (cursors[1].clone(), vec![2])],
        quarantine: vec![item.clone(), Quarantined { held: Held::Item(Bytes::new()), ..item.clone() }],
        ..Commit::default()
    };
    assert_eq!(store.commit(commit).await.unwrap(), [Appended::New(1), Appended::New(2)]);
    let usage = store.usage();
    assert_eq!((usage.entries, usage.ids, usage.quarantined), (2, 3, 2));

    let store = reopen(store, &dir).await;
    assert_eq!((store.log_id(), store.head(), store.first(), store.usage()), (id, 2, 1, usage));
    let log = read_all(&store, 0, ALL).await;
    assert_eq!(log.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(log.iter().map(|entry| entry.at).collect::<Vec<_>>(), [DAY0, DAY0]);
    assert_eq!((log[0].from.as_ref(), log[1].from.as_ref()), (None, Some(&peer)));
    assert_eq!(log[0].envelope.bytes(), sealed(1, 1200).bytes());
    assert_eq!(store.seen(&log[1].envelope.seen_keys()), Some(0));
    assert_eq!(store.seen(&known), Some(0));
    assert_eq!(store.seen(&sealed(4, 0).seen_keys()), None);
    assert_eq!(store.cursor(&cursors[0]).await.unwrap(), Some(vec![1; 70_000]));
    assert_eq!(store.cursor(&cursors[1]).await.unwrap(), Some(vec![2]));
    assert_eq!(store.cursor(&cursors[2]).await.unwrap(), None);
    let quarantined = store.quarantined(0, 1).await.unwrap();
    assert_eq!((quarantined.len(), quarantined[0].0), (1, 1));
    assert_eq!(quarantined[0].1.encode(), item.encode());
    assert_eq!(store.quarantined(1, 9).await.unwrap().len(), 1);
    assert!(store.quarantined(2, 9).await.unwrap().is_empty());

    assert_eq!(
        store.commit(entries([draft(1, 1200), draft(5, 0)])).await.unwrap(),
        [Appended::Duplicate, Appended::New(3)]
    );
    let shorter = Commit { cursors: vec![(cursors[0].clone(), vec![3; 5])], ..Commit::default() };
    store.commit(shorter).await.unwrap();
    let store = reopen(store, &dir).await;
    assert_eq!(store.cursor(&cursors[0]).await.unwrap(), Some(vec![3; 5]));
    assert_eq!(store.head(), 3);
}

#[tokio::test]
async fn a_fuller_copy_is_appended_and_remembered_over_a_restart() {
    use Appended::{Completed, Duplicate, New};
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    let whole = sealed(9, 50);
    let copy = |hidden: &[&str]| {
        let envelope = whole.hide(|key| hidden.contains(&key));
        Draft { at: DAY0, from: None, envelope }
    };
    let copies = [copy(&["raw", "source.ip"]), copy(&["raw"]), copy(&["source.port"])];
    assert_eq!(store.commit(entries(copies)).await.unwrap(), [New(1), Completed(2), Duplicate]);
    let store = reopen(store, &dir).await;
    assert_eq!(store.seen(&whole.seen_keys()), Some(1));
    let copies = [copy(&["source.port"]), copy(&[]), copy(&[])];
    assert_eq!(store.commit(entries(copies)).await.unwrap(), [Duplicate, Completed(3), Duplicate]);
    let store = reopen(store, &dir).await;
    assert_eq!((store.seen(&whole.seen_keys()), store.usage().ids), (Some(0), 1));
}

#[tokio::test]
async fn reading_goes_from_the_disk_into_memory_without_a_gap() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    let size = 20_000;
    let count = (2 * recent::KEPT / size) as u64;
    for first in (1..=count).step_by(50) {
        store.commit(entries((first..=count).take(50).map(|n| draft(n, size)))).await.unwrap();
    }
    assert_eq!(store.head(), count);
    for limit in [ALL, ReadLimit { entries: 7, bytes: usize::MAX }, ReadLimit { entries: 1000, bytes: 45_000 }] {
        let all = read_all(&store, 0, limit).await;
        assert!(all.iter().map(|entry| (entry.seq, number(&entry.envelope))).eq((1..=count).map(|n| (n, n))));
    }
    let one = store.read(10, ReadLimit { entries: 0, bytes: 0 }).await.unwrap();
    assert_eq!(one.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [11], "at least one");
    assert!(store.read(count, ALL).await.unwrap().is_empty());
    assert!(store.read(count + 10, ALL).await.unwrap().is_empty());

    let store = reopen(store, &dir).await;
    let all = read_all(&store, 3, ReadLimit { entries: 100, bytes: usize::MAX }).await;
    assert!(all.iter().map(|entry| entry.seq).eq(4..=count));
}

#[tokio::test]
async fn small_commits_share_chunks() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    for n in 1..=300 {
        store.commit(entries([draft(n, 100)])).await.unwrap();
    }
    let count =
        |prefix: u8| store.inner.shared.with_disk(|disk| Ok(disk.tree().scan_prefix([prefix]).count())).unwrap();
    assert_eq!(count(b'l'), 300 / log::CHUNK_ENTRIES + 300 % log::CHUNK_ENTRIES);
    assert_eq!(count(b's'), 300usize.div_ceil(seen::CHUNK));
    assert!(store.usage().log_bytes < 300 * 500, "what a chunk replaces is not counted");
}

#[tokio::test]
async fn large_values_make_no_blob_files() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    let mut n = 0;
    for size in [1 << 20, 300_000, 64 << 10, 24 << 10, 25_000, 40_000, 2_000] {
        for _ in 0..12 {
            let drafts = (1..=4).map(|i| draft(n + i, size));
            let cursor = (Cursor::Source("spool".parse().unwrap()), sealed(n, size).bytes().to_vec());
            let item = Quarantined {
                at: DAY0,
                door: "spool".parse().unwrap(),
                reason: String::new(),
                held: Held::Envelope(sealed(n, size).into()),
            };
            let commit = Commit { cursors: vec![cursor], quarantine: vec![item], ..entries(drafts) };
            store.commit(commit).await.unwrap();
            n += 4;
        }
        // Merging leaves is where nodes get largest.
        store.expire(DAY0 + 30 * DAY).await.unwrap();
    }
    assert_no_blobs(dir.path());
    let store = reopen(store, &dir).await;
    assert_no_blobs(dir.path());
    assert_eq!(store.head(), n);
}

fn assert_no_blobs(dir: &Path) {
    let blobs = std::fs::read_dir(dir.join("sled/blobs")).unwrap().count();
    assert_eq!(blobs, 0, "blob files in {}", dir.display());
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    let commit = entries([draft(1, 10), draft(2, Store::LARGEST)]);
    assert!(matches!(store.commit(commit).await, Err(StoreError::TooLarge { .. })));
    assert_eq!((store.head(), store.usage().ids), (0, 0));
    let size = Store::LARGEST - 1000;
    store.commit(entries([draft(2, size)])).await.unwrap();
    let store = reopen(store, &dir).await;
    assert_eq!(read_all(&store, 0, ALL).await[0].envelope.bytes(), sealed(2, size).bytes());
    assert_no_blobs(dir.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_calls_first_is_stored_first() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    const EACH: u64 = 200;
    let callers = (0..16u64).map(|caller| {
        let store = store.clone();
        tokio::spawn(async move {
            let commits = (0..EACH).map(|i| store.commit(entries([draft(caller * EACH + i, 300)])));
            let answers = futures::future::join_all(commits).await;
            answers.into_iter().map(|answer| answer.unwrap()[0]).collect::<Vec<_>>()
        })
    });
    for answers in futures::future::join_all(callers).await {
        let numbers: Vec<u64> = answers
            .unwrap()
            .into_iter()
            .map(|appended| match appended {
                Appended::New(seq) => seq,
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(numbers.is_sorted(), "{numbers:?}");
    }
    assert_eq!(store.head(), 16 * EACH);
    let mut all: Vec<u64> = read_all(&store, 0, ALL).await.iter().map(|entry| number(&entry.envelope)).collect();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..16 * EACH));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_callers_with_the_same_event_store_it_once() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    let commits = (0..64u64).map(|i| {
        let store = store.clone();
        tokio::spawn(async move { store.commit(entries([draft(i % 8, 300), draft(i % 8, 300)])).await.unwrap() })
    });
    let answers = futures::future::join_all(commits).await;
    let new = answers.into_iter().flat_map(Result::unwrap).filter(|a| matches!(a, Appended::New(_))).count();
    assert_eq!((new, store.head(), store.usage().ids), (8, 8, 8));
}

#[tokio::test]
async fn the_head_moves_when_the_entries_can_be_read() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    let mut head = store.watch_head();
    let reader = {
        let store = store.clone();
        tokio::spawn(async move {
            let mut read = 0;
            while read < 50 {
                let to = *head.wait_for(|head| *head > read).await.unwrap();
                let entries = store.read(read, ALL).await.unwrap();
                read = entries.last().unwrap().seq;
                assert!(read >= to);
            }
        })
    };
    for n in 1..=50 {
        store.commit(entries([draft(n, 10)])).await.unwrap();
    }
    tokio::time::timeout(Duration::from_secs(60), reader).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_log_goes_by_age_and_numbers_are_never_used_twice() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    for day in 0..10u64 {
        let drafts = (0..100).map(|i| Draft { at: DAY0 + day * DAY, ..draft(day * 100 + i, 50) });
        store.commit(entries(drafts)).await.unwrap();
    }
    // log_days = 7: days 0 to 2 are older at the end of day 9. A chunk goes with its newest entry, and has room for more
    // than two days, but no entry stays so much longer for that.
    let expired = store.expire(DAY0 + 10 * DAY - 1).await.unwrap();
    assert_eq!((expired.entries, expired.ids), (300, 0));
    assert_eq!((store.first(), store.head(), store.usage().entries), (301, 1000, 700));
    assert_eq!(store.read(0, ALL).await.unwrap()[0].seq, 301);
    let store = reopen(store, &dir).await;
    assert_eq!(store.read(0, ALL).await.unwrap()[0].seq, 301);
    assert!(read_all(&store, 0, ALL).await.iter().map(|entry| entry.seq).eq(301..=1000));

    store.commit(entries([draft(5000, 50)])).await.unwrap();
    let expired = store.expire(DAY0 + 30 * DAY).await.unwrap();
    assert_eq!((expired.entries, expired.ids), (701, 1001));
    assert_eq!(store.usage(), Usage { entries: 0, log_bytes: 0, ids: 0, quarantined: 0, journal_bytes: 0 });
    assert_eq!((store.first(), store.head()), (1002, 1001));
    assert!(store.read(0, ALL).await.unwrap().is_empty());
    assert_eq!(store.expire(DAY0 + 30 * DAY).await.unwrap(), Expired::default());
    let store = reopen(store, &dir).await;
    assert_eq!((store.first(), store.head()), (1002, 1001));
    // Forgotten, so new; and the number goes on.
    assert_eq!(store.commit(entries([draft(5000, 50)])).await.unwrap(), [Appended::New(1002)]);
    assert_eq!(read_all(&store, 0, ALL).await.len(), 1);
}

#[tokio::test]
async fn the_log_goes_by_size_down_to_the_chunk_that_is_open() {
    let dir = TempDir::new().unwrap();
    let config = config::Store { log_bytes: 500_000, ..config() };
    let store = Store::open(dir.path(), &config).await.unwrap();
    for n in 1..=400 {
        store.commit(entries([draft(n, 5_000)])).await.unwrap();
    }
    let before = store.usage();
    assert!(before.log_bytes > 1_000_000, "{before:?}");
    let expired = store.expire(DAY0).await.unwrap();
    let usage = store.usage();
    assert!(usage.log_bytes <= 500_000 && usage.log_bytes > 300_000, "{usage:?}");
    assert_eq!(usage.log_bytes + expired.log_bytes, before.log_bytes);
    assert_eq!((usage.entries + expired.entries, usage.ids), (400, 400));
    assert!(read_all(&store, 0, ALL).await.iter().map(|entry| entry.seq).eq(store.first()..=400));

    drop(store);
    let store = Store::open(dir.path(), &config::Store { log_bytes: 0, ..config }).await.unwrap();
    store.commit(entries([draft(401, 5_000)])).await.unwrap();
    store.expire(DAY0).await.unwrap();
    assert_eq!((store.first(), store.usage().entries), (401, 1));
}

#[tokio::test]
async fn ids_are_remembered_for_the_full_time() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    let keys = |n| sealed(n, 0).seen_keys();
    let remember = |n: u64, at| Remember { at, keys: keys(n) };
    let late = DAY0 + DAY - 1;
    let many = (100..3000).map(|n| remember(n, DAY0 + 5 * DAY));
    let all = [remember(1, DAY0), remember(2, late), remember(3, DAY0 + DAY)].into_iter().chain(many).collect();
    store.commit(Commit { remember: all, ..Commit::default() }).await.unwrap();
    // The last of them may be of an envelope that was sealed a day ahead, and is 11 days old a day later.
    assert_eq!(store.expire(late + 12 * DAY).await.unwrap().ids, 0, "the newest of the day is not older yet");
    assert_eq!(store.expire(late + 12 * DAY + 1).await.unwrap().ids, 2);
    assert_eq!([1, 2, 3, 100].map(|n| store.seen(&keys(n))), [None, None, Some(0), Some(0)]);
    let store = reopen(store, &dir).await;
    assert_eq!([1, 2, 3, 100].map(|n| store.seen(&keys(n))), [None, None, Some(0), Some(0)]);
    assert_eq!(store.usage().ids, 2901);
    assert_eq!(store.expire(DAY0 + 18 * DAY).await.unwrap().ids, 2901);
    let store = reopen(store, &dir).await;
    assert_eq!(store.usage().ids, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reader_that_expiry_overtakes_goes_on_with_what_is_kept() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    for day in 0..20u64 {
        let drafts = (0..100).map(|i| Draft { at: DAY0 + day * DAY, ..draft(day * 100 + i, 500) });
        store.commit(entries(drafts)).await.unwrap();
    }
    // Reopened: everything is read from the disk.
    let store = reopen(store, &dir).await;
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let all = read_all(&store, 0, ReadLimit { entries: 3, bytes: usize::MAX }).await;
                assert!(all.is_sorted_by_key(|entry| entry.seq));
                assert_eq!(all.last().unwrap().seq, 2000);
            })
        })
        .collect();
    for day in 8..26u64 {
        store.expire(DAY0 + day * DAY).await.unwrap();
    }
    for reader in readers {
        reader.await.unwrap();
    }
}

#[tokio::test]
async fn a_full_quarantine_loses_its_oldest_and_keeps_what_is_new() {
    let dir = TempDir::new().unwrap();
    let config = config::Store { quarantine_bytes: 1 << 20, ..config() };
    let store = Store::open(dir.path(), &config).await.unwrap();
    let item = |n: u8| Quarantined {
        at: DAY0,
        door: "it".parse().unwrap(),
        reason: "no JSON".into(),
        held: Held::Item(vec![n; 300_000].into()),
    };
    let numbers = async |store: &Store| {
        let items = store.quarantined(0, 9).await.unwrap();
        assert_eq!(store.usage().quarantined, items.len() as u64);
        items.into_iter().map(|(number, item)| (number, item.held.bytes()[0])).collect::<Vec<_>>()
    };
    for n in 1..=3 {
        store.commit(Commit { quarantine: vec![item(n)], ..Commit::default() }).await.unwrap();
    }
    assert_eq!(numbers(&store).await, [(1, 1), (2, 2), (3, 3)]);
    let commit = Commit { quarantine: vec![item(4), item(5)], release: vec![1], ..Commit::default() };
    store.commit(commit).await.unwrap();
    assert_eq!(numbers(&store).await, [(3, 3), (4, 4), (5, 5)]);
    store.close().await;
    let store = Store::open(dir.path(), &config).await.unwrap();
    // More than fits, at once: nothing that is new goes.
    store.commit(Commit { quarantine: (6..=9).map(item).collect(), ..Commit::default() }).await.unwrap();
    assert_eq!(numbers(&store).await, [(6, 6), (7, 7), (8, 8), (9, 9)]);
}

#[tokio::test]
async fn a_full_disk_means_later_and_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    store.commit(entries([draft(1, 100)])).await.unwrap();
    store.inner.shared.set_free(0);
    let refused = store.commit(entries([draft(2, 100)])).await;
    assert!(matches!(refused, Err(StoreError::Full { .. })), "{refused:?}");
    assert_eq!((store.head(), store.usage().ids), (1, 1));
    assert_eq!(store.seen(&sealed(2, 100).seen_keys()), None);
    assert_eq!(read_all(&store, 0, ALL).await.len(), 1, "it keeps serving");
    store.expire(DAY0).await.unwrap();
    store.inner.shared.set_free(u64::MAX);
    assert_eq!(store.commit(entries([draft(2, 100)])).await.unwrap(), [Appended::New(2)]);
    let store = reopen(store, &dir).await;
    assert_eq!(read_all(&store, 0, ALL).await.len(), 2);
}

#[tokio::test]
async fn nothing_overtakes_what_a_full_disk_refused() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    store.commit(entries([draft(1, 100)])).await.unwrap();
    // Room for little.
    store.inner.shared.set_free(shared::RESERVE + (32 << 20));
    let cursor = |to: &str| vec![(Cursor::Sink("it".parse().unwrap()), to.as_bytes().to_vec())];
    // Too large to go to the disk together with what comes after it.
    let large = Commit { cursors: cursor("large"), ..entries((2..20).map(|n| draft(n, 900_000))) };
    let small = Commit { cursors: cursor("small"), ..entries([draft(100, 100)]) };
    let mut both = std::pin::pin!(futures::future::join(store.commit(large), store.commit(small)));
    // Both are handed in before anything is refused.
    let slow = store.inner.shared.hold_up();
    assert!(futures::FutureExt::now_or_never(&mut both).is_none());
    drop(slow);
    let (large, small) = both.await;
    assert!(matches!(large, Err(StoreError::Full { .. })), "{large:?}");
    assert!(matches!(small, Err(StoreError::Full { .. })), "{small:?}");
    assert_eq!((store.head(), store.cursor(&Cursor::Sink("it".parse().unwrap())).await.unwrap()), (1, None));
    // Who knows of the refusal decides itself what comes first.
    store.inner.shared.set_free(u64::MAX);
    assert_eq!(store.commit(entries([draft(100, 100)])).await.unwrap(), [Appended::New(2)]);
}

#[tokio::test]
async fn an_error_while_writing_stops_every_later_commit() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    store.commit(entries([draft(1, 100)])).await.unwrap();
    let failed: Result<(), _> = store.inner.shared.stop_on_error(Err(StoreError::broken("for the test")));
    assert!(failed.is_err());
    assert!(matches!(store.commit(entries([draft(2, 100)])).await, Err(StoreError::Broken(_))));
    assert!(matches!(store.expire(DAY0).await, Err(StoreError::Broken(_))));
    assert_eq!(store.head(), 1);
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    store.commit(entries([draft(1, 100)])).await.unwrap();
    let other = store.clone();
    store.close().await;
    assert!(matches!(other.commit(entries([draft(2, 100)])).await, Err(StoreError::Closed)));
    assert!(matches!(other.cursor(&Cursor::Sink("a".parse().unwrap())).await, Err(StoreError::Closed)));
    other.close().await;
}

#[tokio::test]
async fn commits_that_were_handed_in_are_stored_before_it_closes() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    let commit = |n| Box::pin(futures::future::maybe_done(store.commit(entries([draft(n, 100)]))));
    let mut commits: Vec<_> = (0..100).map(commit).collect();
    for commit in &mut commits {
        let _ = futures::poll!(commit.as_mut());
    }
    store.close().await;
    for mut commit in commits {
        commit.as_mut().await;
        commit.as_mut().take_output().unwrap().unwrap();
    }
    assert_eq!(open(&dir).await.head(), 100);
}

#[tokio::test]
async fn the_folder_is_made_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new().unwrap();
    let home = dir.path().join("a/b");
    let _store = Store::open(&home, &config()).await.unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!([mode(&home), mode(&home.join("log"))], [0o700, 0o700]);
    // A service manager may have made the folder, for everybody to look into.
    let open = TempDir::new().unwrap();
    std::fs::set_permissions(open.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let _store = Store::open(open.path(), &config()).await.unwrap();
    assert_eq!((mode(open.path()), mode(&open.path().join("sled"))), (0o755, 0o700));
}

#[tokio::test]
async fn the_lock_names_the_process_and_goes_with_the_last_clone() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    let clone = store.clone();
    drop(store);
    match Store::open(dir.path(), &config()).await.err() {
        Some(error @ OpenError::Locked { pid: Some(pid), .. }) => {
            assert_eq!(pid, std::process::id());
            assert!(error.to_string().contains(&pid.to_string()));
        }
        other => panic!("{other:?}"),
    }
    drop(clone);
    open(&dir).await;
}

#[tokio::test]
async fn a_foreign_database_is_refused_and_left_alone() {
    for place in ["sled", ""] {
        let dir = TempDir::new().unwrap();
        let config_of = || sled::Config::new().path(dir.path().join(place)).segment_size(pieces::SEGMENT);
        let foreign = || config_of().open().unwrap();
        let db = foreign();
        db.insert("theirs", "value").unwrap();
        drop(db);
        let refused = Store::open(dir.path(), &config()).await.err();
        assert!(matches!(refused, Some(OpenError::Foreign { .. })), "{refused:?}");
        assert_eq!(foreign().get("theirs").unwrap().unwrap(), "value");
    }
    let dir = TempDir::new().unwrap();
    drop(sled::open(dir.path().join("sled")).unwrap());
    let refused = Store::open(dir.path(), &config()).await.err();
    assert!(matches!(refused, Some(OpenError::Foreign { .. })), "another segment size: {refused:?}");
}

/// Changes our store behind its back.
fn tamper(dir: &TempDir, change: impl FnOnce(&sled::Db)) {
    let home = dir.path().join("sled");
    disk::await_release(&home).unwrap();
    let db = sled::Config::new().path(home).segment_size(pieces::SEGMENT).open().unwrap();
    change(&db);
    db.flush().unwrap();
}

#[tokio::test]
async fn a_newer_store_is_refused() {
    let dir = TempDir::new().unwrap();
    open(&dir).await.close().await;
    tamper(&dir, |db| {
        db.insert(keys::MARKER, [&2u32.to_be_bytes()[..], &[0; 16], b"and what comes with it"].concat()).unwrap();
    });
    let refused = Store::open(dir.path(), &config()).await.err();
    assert!(matches!(refused, Some(OpenError::Newer { found: 2, known: 1, .. })), "{refused:?}");
}

#[tokio::test]
async fn a_damaged_store_is_refused() {
    type Damage = fn(&sled::Db);
    let damages: [(&str, Damage); 7] = [
        ("ids gone", |db| drop(db.remove(keys::seen(20_600, 0)).unwrap().unwrap())),
        ("all gone", |db| db.clear().unwrap()),
        ("counters gone", |db| drop(db.remove(keys::STATE).unwrap())),
        ("last chunk gone", |db| drop(db.remove([&keys::log(257)[..], &[0, 0]].concat()).unwrap())),
        ("first chunk gone", |db| drop(db.remove([&keys::log(1)[..], &[0, 0]].concat()).unwrap())),
        ("counters of an empty log", |db| drop(db.insert(keys::STATE, shared::State::EMPTY.encode()).unwrap())),
        ("ids cut", |db| drop(db.insert(keys::seen(1, 1), b"\0\x01half").unwrap())),
    ];
    for (what, damage) in damages {
        let dir = TempDir::new().unwrap();
        let store = open(&dir).await;
        store.commit(entries((0..300).map(|n| draft(n, 100)))).await.unwrap();
        store.close().await;
        tamper(&dir, damage);
        let refused = Store::open(dir.path(), &config()).await.err();
        assert!(matches!(refused, Some(OpenError::Damaged { .. })), "{what}: {refused:?}");
    }
}

#[tokio::test]
async fn a_log_that_is_shorter_than_it_was_is_refused() {
    let dir = TempDir::new().unwrap();
    open(&dir).await.close().await;
    let old = TempDir::new().unwrap();
    for file in std::fs::read_dir(dir.path().join("sled")).unwrap().map(Result::unwrap) {
        if file.file_type().unwrap().is_file() {
            std::fs::copy(file.path(), old.path().join(file.file_name())).unwrap();
        }
    }
    let store = open(&dir).await;
    store.commit(entries([draft(1, 100)])).await.unwrap();
    store.close().await;
    std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
    let refused = Store::open(dir.path(), &config()).await.err();
    assert!(matches!(refused, Some(OpenError::Damaged { .. })), "gone: {refused:?}");
    std::fs::rename(old.path(), dir.path().join("sled")).unwrap();
    let refused = Store::open(dir.path(), &config()).await.err();
    assert!(matches!(refused, Some(OpenError::Damaged { .. })), "older: {refused:?}");
    // Another store's: not what the witness saw.
    std::fs::write(dir.path().join("head"), format!("{} 7\n", Uuid::new_v4())).unwrap();
    assert_eq!(open(&dir).await.head(), 0);
}

#[tokio::test]
async fn bytes_that_rot_are_found() {
    for at in [1, 2, 3] {
        let dir = TempDir::new().unwrap();
        let store = open(&dir).await;
        for n in 0..300 {
            store.commit(entries([draft(n, 20_000)])).await.unwrap();
        }
        store.close().await;
        let db = dir.path().join("sled/db");
        let mut bytes = std::fs::read(&db).unwrap();
        let place = bytes.len() / 4 * at;
        bytes[place..place + 4096].iter_mut().for_each(|byte| *byte ^= 0x55);
        std::fs::write(&db, bytes).unwrap();
        // Either it is refused, or what rotted was garbage, or reading says so; never is anything silently gone.
        let Ok(store) = Store::open(dir.path(), &config()).await else { continue };
        assert_eq!((store.first(), store.head()), (1, 300));
        let mut after = 0;
        while after < 300 {
            match store.read(after, ALL).await {
                Ok(entries) => {
                    assert_eq!(entries[0].seq, after + 1);
                    after = entries.last().unwrap().seq;
                }
                Err(StoreError::Broken(_)) => break,
                Err(other) => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_store_that_lost_its_file_is_not_made_anew() {
    for file in ["db", "conf"] {
        let dir = TempDir::new().unwrap();
        open(&dir).await.close().await;
        std::fs::remove_file(dir.path().join("sled").join(file)).unwrap();
        let refused = Store::open(dir.path(), &config()).await.err();
        assert!(matches!(refused, Some(OpenError::Damaged { .. })), "{refused:?}");
        assert!(!dir.path().join("sled").join(file).exists());
    }
    let dir = TempDir::new().unwrap();
    open(&dir).await.close().await;
    std::fs::write(dir.path().join("sled/db"), b"").unwrap();
    assert!(Store::open(dir.path(), &config()).await.is_err());
}

#[tokio::test]
async fn a_start_that_did_not_come_to_its_end_is_begun_again() {
    let dir = TempDir::new().unwrap();
    std::fs::create_dir(dir.path().join("sled.new")).unwrap();
    std::fs::write(dir.path().join("sled.new/db"), b"half").unwrap();
    assert_eq!(open(&dir).await.head(), 0);
    assert!(!dir.path().join("sled.new").exists());
}

#[tokio::test]
async fn what_is_purged_is_nowhere_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &config()).await.unwrap();
    for number in 1..=300 {
        store.commit(Commit { entries: vec![draft(number, 300)], ..Commit::default() }).await.unwrap();
    }
    let all = ReadLimit { entries: 400, bytes: usize::MAX };
    let before = store.read(0, all).await.unwrap();
    // In a full chunk, in the one that is being filled, and one that is not there.
    assert_eq!(store.purge(vec![300, 3, 999, 5]).await.unwrap(), 3);
    let check = |after: &[Arc<Entry>]| {
        assert_eq!(after.len(), 300);
        for (old, new) in before.iter().zip(after) {
            let (copy, is_purged) = (&new.envelope, [3, 5, 300].contains(&new.seq));
            assert_eq!((old.seq, old.at, &old.from), (new.seq, new.at, &new.from));
            assert_eq!(copy.header(), old.envelope.header());
            assert_eq!(copy.hidden() == 3, is_purged, "{}", new.seq);
            assert_eq!(copy.bytes() == old.envelope.bytes(), !is_purged);
            let again = envelope::Envelope::decode(copy.bytes().clone(), &envelope::Bounds::default()).unwrap();
            envelope::Verifier::new(1).open(again).expect("the seal holds");
        }
    };
    check(&store.read(0, all).await.unwrap());
    store.commit(Commit { entries: vec![draft(301, 300)], ..Commit::default() }).await.unwrap();
    assert_eq!(store.purge(vec![300]).await.unwrap(), 1, "again: nothing changes");
    store.close().await;
    drop(store);
    let store = Store::open(dir.path(), &config()).await.unwrap();
    let mut after = store.read(0, all).await.unwrap();
    while after.len() < 301 {
        after.extend(store.read(after.len() as u64, all).await.unwrap());
    }
    assert_eq!(after.pop().unwrap().envelope.hidden(), 0);
    check(&after);
    // No value that the store can reach has it; what sled has freed is no value any more.
    let secret = before[2].envelope.field("raw").unwrap().to_owned();
    let text = |entry: &Arc<Entry>| entry.envelope.bytes().windows(secret.len()).any(|part| part == secret.as_bytes());
    assert!(before.iter().any(text) && !after.iter().any(text));
}

/// What `purge` cannot promise of what came in small commits: that lay in sled until its chunk was complete, and sled frees a
/// place without writing over it. In a small store it is soon used again.
#[tokio::test]
async fn what_was_purged_is_written_over_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &config()).await.unwrap();
    let mut number = 0;
    let mut store_some = async |count: u64| {
        for _ in 0..count {
            number += 1;
            store.commit(Commit { entries: vec![draft(number, 1000)], ..Commit::default() }).await.unwrap();
        }
    };
    store_some(40).await;
    let old = store.inner.shared.with_disk(|disk| pieces::get(disk.tree(), &keys::log(3))).unwrap().unwrap();
    let part = &old[200..264];
    let is_there = || {
        let mut all = Vec::new();
        files(dir.path(), &mut all);
        let has_it = |file: Vec<u8>| file.windows(part.len()).any(|window| window[0] == part[0] && window == part);
        all.into_iter().any(|path| has_it(std::fs::read(path).unwrap()))
    };
    assert!(is_there(), "the search finds it");
    store.purge(vec![3]).await.unwrap();
    for _ in 0..40 {
        if !is_there() {
            return;
        }
        store_some(200).await;
    }
    panic!("it is still in the store's files");
}

fn files(folder: &Path, all: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, all) } else { all.push(path) }
    }
}
