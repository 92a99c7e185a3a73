//! The log's files: what is there, what goes, and what damage to them is called.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;

/// The log's files, oldest first.
fn log_files(dir: &TempDir) -> Vec<PathBuf> {
    let mut all = Vec::new();
    files(&dir.path().join("log"), &mut all);
    all.sort();
    all
}

fn size(path: &PathBuf) -> u64 {
    fs::metadata(path).unwrap().len()
}

/// Whether these bytes are in any file of the folder.
fn is_anywhere(dir: &TempDir, bytes: &[u8]) -> bool {
    let mut all = Vec::new();
    files(dir.path(), &mut all);
    let has = |file: Vec<u8>| file.windows(bytes.len()).any(|window| window[0] == bytes[0] && window == bytes);
    all.into_iter().any(|path| has(fs::read(path).unwrap()))
}

/// Entries of a chunk.
const EACH: u64 = log::CHUNK_ENTRIES as u64;

/// So many entries, in commits of a chunk each: everything goes straight to the files.
async fn store_chunks(store: &Store, chunks: u64, size: usize) {
    for _ in 0..chunks {
        let first = store.head() + 1;
        store.commit(entries((first..first + EACH).map(|n| draft(n, size)))).await.unwrap();
    }
}

#[tokio::test]
async fn what_nobody_speaks_of_goes_when_the_store_is_opened() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    store_chunks(&store, 2, 50).await;
    store.close().await;
    let [file] = &log_files(&dir)[..] else { panic!() };
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    let whole = fs::read(file).unwrap();
    // As a cut leaves it between the files and sled: some bytes too many, and a file too many.
    fs::write(file, [&whole[..], &[7; 5000]].concat()).unwrap();
    fs::write(dir.path().join("log/0000000002"), [7; 5000]).unwrap();
    fs::write(dir.path().join("log/notes"), "not ours").unwrap();
    let store = open(&dir).await;
    assert_eq!(fs::read(file).unwrap(), whole);
    assert_eq!(log_files(&dir).len(), 2, "what is not ours stays");
    store_chunks(&store, 1, 50).await;
    let store = reopen(store, &dir).await;
    assert!(read_all(&store, 0, ALL).await.iter().map(|entry| entry.seq).eq(1..=store.head()));
    assert_eq!(store.usage().log_bytes, size(file));
}

#[tokio::test]
async fn a_file_goes_with_its_last_chunk() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    for day in 0..12u64 {
        // One chunk each.
        let drafts = (0..4).map(|i| Draft { at: DAY0 + day * DAY, ..draft(day * 4 + i, 700_000) });
        store.commit(entries(drafts)).await.unwrap();
    }
    let before = log_files(&dir);
    assert!(before.len() >= 3, "{before:?}");
    assert!(before.iter().all(|file| size(file) <= 8 << 20));
    store.expire(DAY0 + 15 * DAY).await.unwrap();
    let after = log_files(&dir);
    assert!(!after.is_empty() && after.len() < before.len() && before.ends_with(&after), "{after:?}");
    let store = reopen(store, &dir).await;
    assert_eq!(log_files(&dir), after);
    assert!(read_all(&store, 0, ALL).await.iter().map(|entry| entry.seq).eq(store.first()..=48));
    store.expire(DAY0 + 40 * DAY).await.unwrap();
    assert_eq!(log_files(&dir), [] as [PathBuf; 0]);
    store_chunks(&store, 1, 50).await;
    assert!(log_files(&dir)[0] > before[before.len() - 1], "no number twice, since somebody may have the file open");
    assert_eq!(read_all(&store, 0, ALL).await.len(), log::CHUNK_ENTRIES);
}

/// The bytes of the chunk that begins with this number, on the shelf.
fn shelved(store: &Store, first: u64) -> Vec<u8> {
    let read = |disk: &disk::Disk| Ok(disk.shelf().read(&log::head(disk.tree(), first)?.1.place.unwrap()).unwrap());
    store.inner.shared.with_disk(read).unwrap()
}

#[tokio::test]
async fn what_is_purged_is_in_no_file() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    store_chunks(&store, 3, 300).await;
    let old = shelved(&store, EACH + 1);
    let parts: Vec<&[u8]> = old.chunks_exact(64).step_by(old.len() / 64 / 8).collect();
    assert!(parts.iter().all(|part| is_anywhere(&dir, part)), "the search finds it");
    let kept = shelved(&store, 1);
    assert_eq!(store.purge(vec![EACH + 2, EACH + 80]).await.unwrap(), 2);
    let gone = |when: &str| {
        assert!(!parts.iter().any(|part| is_anywhere(&dir, part)), "{when}");
        assert!(is_anywhere(&dir, &kept));
    };
    gone("at once");
    let before = read_all(&store, 0, ALL).await;
    store.close().await;
    // As a cut leaves it before anything is zero.
    let file = &log_files(&dir)[0];
    let now = fs::read(file).unwrap();
    let then = [&now[..kept.len()], &old, &now[kept.len() + old.len()..]].concat();
    fs::write(file, then).unwrap();
    assert!(is_anywhere(&dir, &old));
    let store = open(&dir).await;
    gone("when it is opened again");
    assert_eq!(fs::read(file).unwrap(), now);
    let after = read_all(&store, 0, ALL).await;
    assert!(before.iter().map(|entry| entry.envelope.bytes()).eq(after.iter().map(|entry| entry.envelope.bytes())));
    // The next write forgets it.
    let void = || store.inner.shared.with_disk(|disk| disk.void()).unwrap().len();
    assert_eq!(void(), 1);
    store_chunks(&store, 1, 50).await;
    assert_eq!(void(), 0);
    // So it does without a restart between them.
    store.purge(vec![2 * EACH + 1]).await.unwrap();
    assert_eq!(void(), 1);
    store_chunks(&store, 1, 50).await;
    assert_eq!(void(), 0);
}

#[tokio::test]
async fn damage_to_a_file_is_named() {
    type Damage = fn(&PathBuf, usize);
    let flip: Damage = |file, at| {
        let mut bytes = fs::read(file).unwrap();
        bytes[at] ^= 1;
        fs::write(file, bytes).unwrap();
    };
    let cut: Damage = |file, at| fs::OpenOptions::new().write(true).open(file).unwrap().set_len(at as u64).unwrap();
    let remove: Damage = |file, _| fs::remove_file(file).unwrap();
    // Behind the second chunk, so that the last one is elsewhere.
    for (what, damage, opens) in [("a bit", flip, true), ("cut", cut, false), ("gone", remove, false)] {
        let dir = TempDir::new().unwrap();
        let store = open(&dir).await;
        store_chunks(&store, 3, 300).await;
        let at = shelved(&store, 1).len() + 100;
        store.close().await;
        damage(&log_files(&dir)[0], at);
        match Store::open(dir.path(), &config()).await {
            Ok(store) => {
                assert!(opens, "{what}");
                assert!(
                    read_all(&store, 2 * EACH, ALL).await.iter().map(|entry| entry.seq).eq(2 * EACH + 1..=3 * EACH)
                );
                assert_eq!(store.read(0, ALL).await.unwrap().len() as u64, EACH);
                let error = store.read(EACH, ALL).await.unwrap_err().to_string();
                assert!(
                    error.contains(&format!("the chunk of the log at {}", EACH + 1))
                        && error.contains("log/0000000001"),
                    "{error}"
                );
            }
            Err(error @ OpenError::Damaged { .. }) => {
                assert!(!opens && error.to_string().contains("log/0000000001"), "{what}: {error}");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn files_without_their_sled_are_left_alone() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    store_chunks(&store, 1, 50).await;
    store.close().await;
    let file = &log_files(&dir)[0];
    let before = fs::read(file).unwrap();
    fs::remove_dir_all(dir.path().join("sled")).unwrap();
    fs::remove_file(dir.path().join("head")).unwrap();
    let refused = Store::open(dir.path(), &config()).await.err();
    assert!(matches!(refused, Some(OpenError::Damaged { .. })), "{refused:?}");
    assert_eq!(fs::read(file).unwrap(), before);
}

#[tokio::test]
async fn nothing_is_written_to_sled_twice() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    let written = store.inner.shared.with_disk(|disk| Ok(disk.tree().watch_prefix([keys::LOG]))).unwrap();
    // Each entry once, and where the chunks lie.
    let mut all = 2 * 40;
    for n in 1..=300 {
        store.commit(entries([draft(n, 300)])).await.unwrap();
        all += sealed(n, 300).bytes().len() + 40;
    }
    store.close().await;
    drop(store);
    let inserted = written.filter_map(|event| match event {
        sled::Event::Insert { value, .. } => Some(value.len()),
        sled::Event::Remove { .. } => None,
    });
    let inserted: usize = inserted.sum();
    assert!(inserted <= all, "{inserted} of {all}");
}
