//! kill -9 while many commit: what was acknowledged is there, and what is there is there together.
//!
//! The child is this test binary, started again to run [`child`] alone.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use super::*;

const FOLDER: &str = "INTELMQ_RELAY_TEST_CRASH_FOLDER";
const CALLERS: u64 = 6;
const ROUNDS: u64 = 12;

/// Caller `c` makes commits 1, 2, 3 …: commit `i` has these entries, and sets the caller's cursor to `i`.
fn events(caller: u64, i: u64) -> impl Iterator<Item = (u64, usize)> {
    let count = 1 + (caller * 7 + i * 13) % 9;
    (0..count).map(move |j| {
        let size = if (i + j).is_multiple_of(11) { 90_000 } else { 200 + 37 * j as usize };
        (caller << 48 | i << 8 | j, size)
    })
}

fn cursor(caller: u64) -> Cursor {
    Cursor::Source(format!("caller-{caller}").parse().unwrap())
}

fn note(caller: u64, i: u64) -> IdNote {
    let (reader, id) = (Reader::Peer("peer".parse().unwrap()), Uuid::from_u64_pair(caller, i));
    IdNote { at: DAY0 + i, reader, origin: "far".parse().unwrap(), id, outcome: Outcome::Dropped }
}

async fn position(store: &Store, caller: u64) -> u64 {
    let value = store.cursor(&cursor(caller)).await.unwrap();
    value.map_or(0, |value| u64::from_be_bytes(value.try_into().unwrap()))
}

/// Commits until it is killed; says on stdout what was acknowledged. Does nothing in a usual run.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(Path::new(&folder), &config()).await.unwrap();
        let callers = (0..CALLERS).map(|caller| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut i = position(&store, caller).await;
                loop {
                    i += 1;
                    let drafts = events(caller, i).map(|(number, size)| draft(number, size));
                    let cursors = vec![(cursor(caller), i.to_be_bytes().to_vec())];
                    let id_notes = vec![note(caller, i)];
                    store.commit(Commit { cursors, id_notes, ..entries(drafts) }).await.unwrap();
                    // The parent goes away first only if it has failed: then end, whatever is left.
                    if writeln!(std::io::stdout().lock(), "acknowledged {caller} {i}").is_err() {
                        std::process::exit(1);
                    }
                }
            })
        });
        futures::future::join_all(callers).await;
    });
}

fn start(dir: &TempDir) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["store::tests::crash::child", "--exact", "--nocapture", "--test-threads=1"])
        .env(FOLDER, dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Kills it after so many acknowledgements; returns the last one of each caller that got out.
fn kill_after(mut child: Child, count: u64) -> [u64; CALLERS as usize] {
    let mut acknowledged = [0; CALLERS as usize];
    let mut seen = 0;
    // To the end, not to the kill: what it said before it died counts.
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let Some((_, said)) = line.split_once("acknowledged ") else { continue };
        // The last line may be cut.
        let mut words = said.split(' ').map_while(|word| word.parse::<u64>().ok());
        if let (Some(caller), Some(i)) = (words.next(), words.next()) {
            let last = &mut acknowledged[caller as usize];
            *last = i.max(*last);
        }
        seen += 1;
        if seen == count {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(seen >= count, "the child ended by itself after {seen} acknowledgements");
    acknowledged
}

#[tokio::test]
async fn kill_9_loses_nothing_that_was_acknowledged_and_leaves_nothing_half() {
    let dir = TempDir::new().unwrap();
    let (mut id, mut done) = (None, 0);
    for round in 0..ROUNDS {
        let acknowledged = kill_after(start(&dir), 3 + (round * 97) % 300);
        let store = open(&dir).await;
        assert_eq!(*id.get_or_insert(store.log_id()), store.log_id());
        let mut expected = HashSet::new();
        for caller in 0..CALLERS {
            let position = position(&store, caller).await;
            let acknowledged = acknowledged[caller as usize];
            assert!(position >= acknowledged, "round {round}: {acknowledged} acknowledged, {position} there");
            for i in [position, position + 1] {
                let found = store.id_notes(note(caller, i).id).await.unwrap();
                let there: &[IdNote] = if i <= position && i > 0 { &[note(caller, i)] } else { &[] };
                assert_eq!(found, there, "round {round}: notes and cursors differ");
            }
            expected.extend((1..=position).flat_map(|i| events(caller, i)));
        }
        let log = read_all(&store, 0, ReadLimit { entries: 1000, bytes: 1 << 20 }).await;
        assert!(log.iter().map(|entry| entry.seq).eq(1..=store.head()), "round {round}");
        assert_eq!(log.len(), expected.len(), "round {round}: entries and cursors differ");
        assert_eq!(store.usage().ids, expected.len() as u64, "round {round}: entries and ids differ");
        for entry in &log {
            assert!(expected.remove(&made_of(&entry.envelope)), "round {round}: {}", entry.seq);
            assert_eq!(store.seen(&entry.envelope.seen_keys()), Some(0));
        }
        assert!(log.len() > done, "round {round} added nothing");
        done = log.len();
        store.close().await;
    }
    assert_no_blobs(dir.path());
}
