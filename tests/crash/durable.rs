//! What is durable at once, though the store would open without it.
//!
//! What a power cut leaves opens with an old witness too, and with what was purged: no image shows the difference. But the witness
//! matters when sled has lost something, which goes unnoticed without it; and what was purged is to be gone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::disk::{Disk, Part};
use crate::trace::{Call, Event, Word};
use crate::{STORE, folder, run, work};

/// What is read of the store's folder after a power cut that takes everything that it can, and after one that takes nothing.
fn look<T>(disk: &Disk, read: impl Fn(&Path) -> T) -> [T; 2] {
    [Part::Nothing, Part::All].map(|part| {
        let image = folder();
        disk.write(part, &mut ChaCha8Rng::seed_from_u64(0), image.path());
        read(&image.path().join(STORE))
    })
}

fn witness(store: &Path) -> String {
    fs::read_to_string(store.join("head")).unwrap_or_default()
}

fn shelf(store: &Path) -> BTreeMap<String, Vec<u8>> {
    let Ok(files) = fs::read_dir(store.join("log")) else { return BTreeMap::new() };
    let files = files.map(|file| file.unwrap());
    files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())).collect()
}

fn names(folder: &Path) -> BTreeSet<String> {
    let Ok(files) = fs::read_dir(folder) else { return BTreeSet::new() };
    files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn the_witness_and_the_shelf_are_durable_where_it_matters() {
    let scratch = folder();
    let root = scratch.path().join("root");
    fs::create_dir(&root).unwrap();
    let mut disk = Disk::of(&root);
    // Killed in the 13th step, and closed after the 30th.
    let mut events = run(&root, 12, 4000);
    events.extend(run(&root, 30, 0));
    let (mut said, mut was_killed) = (Vec::new(), false);
    for (moment, event) in events.iter().enumerate() {
        if let Event::Said(Word::Acknowledged(step)) = event {
            // What was appended, and zeros in the place of what was purged. A name that is gone may come back.
            let [durable, there] = look(&disk, shelf);
            for (name, bytes) in there {
                assert!(durable.get(&name) == Some(&bytes), "log/{name} after step {step}");
            }
        }
        if let Event::Said(Word::Opened(_)) = event {
            // Of sled's snapshot too: segments that only an older one needs may be emptied from now on.
            let [durable, there] = look(&disk, |store| names(&store.join("sled")));
            assert_eq!(durable, there);
        }
        let matters = match event {
            Event::Said(Word::Acknowledged(step)) => work::expires(*step),
            Event::Said(Word::Opened(_) | Word::Closed) => true,
            // Whoever opens it after the kill believes what the system has of it, and may be cut off as well.
            Event::Begins(_, call) => was_killed && call.changes(&Path::new(STORE).join("sled")),
            Event::Ends(_) | Event::Gone => false,
        };
        was_killed = matches!(event, Event::Gone) || (was_killed && !matters);
        if matters {
            let [durable, there] = look(&disk, witness);
            assert_eq!(durable, there, "moment {moment}");
            said.push(there);
        }
        disk.apply(event);
    }
    let [opened, expired, killed, again, second, third, closed] = &said[..] else { panic!("{said:?}") };
    assert!(opened < expired && expired < killed && killed <= again && again < second, "{said:?}");
    assert!(second < third && third < closed && opened.len() == closed.len(), "{said:?}");
}

/// What a kill leaves is the system's, and not yet the disk's: sled would note where it lies as if it were.
#[test]
fn what_a_kill_left_is_durable_before_sled_goes_on_from_it() {
    let scratch = folder();
    let root = scratch.path().join("root");
    fs::create_dir(&root).unwrap();
    let (mut disk, mut killed) = (Disk::of(&root), None);
    let sled = Path::new(STORE).join("sled");
    let db = |disk: &Disk| look(disk, |store| fs::read(store.join("sled/db")).unwrap_or_default());
    for event in &run(&root, 12, 0) {
        // Killed when something was written, and before it was synced: the last time that this was so.
        if matches!(event, Event::Begins(_, Call::Sync { path }) if *path == sled.join("db")) {
            let [durable, there] = db(&disk);
            killed = (durable != there).then(|| disk.clone()).or(killed);
        }
        disk.apply(event);
    }
    let mut disk = killed.expect("it syncs what it has written");
    disk.apply(&Event::Gone);
    let again = folder();
    disk.write(Part::All, &mut ChaCha8Rng::seed_from_u64(0), again.path());
    for event in &run(again.path(), 14, 0) {
        if matches!(event, Event::Begins(_, call) if call.changes(&sled)) {
            let [durable, there] = db(&disk);
            assert!(durable == there);
            return;
        }
        disk.apply(event);
    }
    panic!("sled has changed nothing");
}

/// Its thread would write heads of segments that call others stable, and use segments again, before either is synced.
#[test]
fn sled_writes_nothing_behind_our_back() {
    let (runtime, dir) = (crate::runtime(), folder());
    runtime.block_on(async {
        let store = work::open(dir.path()).await.unwrap();
        // Threads give themselves their names.
        work::step(&store, 1).await.unwrap();
        let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
        let names: Vec<String> = tasks.filter_map(|task| fs::read_to_string(task.join("comm")).ok()).collect();
        assert!(names.iter().any(|name| name == "store\n"), "{names:?}");
        assert!(!names.iter().any(|name| name.contains("flusher")), "{names:?}");
        store.close().await;
    });
}
