//! The files door in the states that crashes, operators and other programs leave it in.

#![allow(clippy::unwrap_used)] // A test that fails may panic, in what it calls too.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use intelmq_relay::config::{Events, GiveFiles, TakeFiles};
use intelmq_relay::intelmq::{DoorError, FilesSink, FilesSource, Mark, Sink, Source, TakeLimit};
use tempfile::TempDir;
use uuid::Uuid;

const ALL: TakeLimit = TakeLimit { items: 1000, bytes: 100 << 20 };

fn source_with(directory: &Path, taken: Option<&Path>, position: Option<Vec<u8>>) -> FilesSource {
    let config = TakeFiles {
        name: "out".parse().unwrap(),
        directory: directory.to_owned(),
        taken: taken.map(Path::to_owned),
        seal: Default::default(),
    };
    FilesSource::new(&config, position)
}

fn source(directory: &TempDir, position: Option<Vec<u8>>) -> FilesSource {
    source_with(directory.path(), None, position)
}

fn sink_with(directory: &Path, rotate_bytes: u64, rotate_seconds: u64) -> FilesSink {
    let (name, directory) = ("in".parse().unwrap(), directory.to_owned());
    let config = GiveFiles { name, directory, rotate_bytes, rotate_seconds, events: Events::default() };
    FilesSink::new(&config)
}

fn sink(directory: &TempDir) -> FilesSink {
    sink_with(directory.path(), 1 << 20, 3600)
}

fn mark(seq: u64) -> Mark {
    Mark { log: Uuid::from_u128(7), seq, again: 0 }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Writes a file elsewhere and renames it in.
fn put(directory: &TempDir, name: &str, content: &str) {
    let temporary = directory.path().join(format!(".{name}"));
    fs::write(&temporary, content).unwrap();
    fs::rename(&temporary, directory.path().join(name)).unwrap();
}

async fn take(source: &mut FilesSource) -> Vec<Bytes> {
    source.take(ALL).await.unwrap().items
}

fn names(directory: &Path) -> Vec<OsString> {
    let mut names: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

fn read(directory: &TempDir, name: &str) -> String {
    fs::read_to_string(directory.path().join(name)).unwrap()
}

#[track_caller]
fn operator<T: std::fmt::Debug>(result: Result<T, DoorError>, directory: &Path) {
    match result {
        Err(DoorError::Operator(text)) => assert!(text.contains(&directory.display().to_string()), "{text}"),
        other => panic!("not for the operator: {other:?}"),
    }
}

#[tokio::test]
async fn the_oldest_file_comes_first_and_others_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    for (name, age) in [("c.jsonl", 30), ("a.jsonl", 10), ("b.jsonl", 30), ("d.jsonl", 40)] {
        put(&directory, name, &format!("{name}\n"));
        let file = fs::File::open(directory.path().join(name)).unwrap();
        file.set_modified(now - Duration::from_secs(age)).unwrap();
    }
    for name in ["x.json", "x.jsonl.tmp", ".hidden.jsonl", "jsonl"] {
        fs::write(directory.path().join(name), "no\n").unwrap();
    }
    fs::create_dir(directory.path().join("folder.jsonl")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", directory.path().join("link.jsonl")).unwrap();
    let mut source = source(&directory, None);
    for expected in ["d.jsonl", "b.jsonl", "c.jsonl", "a.jsonl"] {
        assert_eq!(take(&mut source).await, [expected]);
        source.committed().await.unwrap();
    }
    assert!(tokio::time::timeout(Duration::from_millis(500), source.take(ALL)).await.is_err());
    assert_eq!(names(directory.path()).len(), 6);
}

#[tokio::test]
async fn a_new_file_of_the_old_name_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    put(&directory, "a.jsonl", "1\n2\n");
    let mut door = source(&directory, None);
    let taken = door.take(ALL).await.unwrap();
    door.committed().await.unwrap();
    drop(door);
    assert!(names(directory.path()).is_empty());
    // File systems give the inode to the next file at once.
    put(&directory, "a.jsonl", "1\n2\n3\n");
    let mut door = source(&directory, Some(taken.position));
    assert_eq!(take(&mut door).await, ["1", "2", "3"]);
}

#[tokio::test]
async fn a_file_that_replaces_the_one_under_way_is_not_removed() {
    let directory = tempfile::tempdir().unwrap();
    put(&directory, "a.jsonl", "1\n2\n");
    let mut door = source(&directory, None);
    let one = TakeLimit { items: 1, ..ALL };
    assert_eq!(door.take(one).await.unwrap().items, ["1"]);
    door.committed().await.unwrap();
    put(&directory, "a.jsonl", "3\n");
    assert_eq!(take(&mut door).await, ["2"]);
    door.committed().await.unwrap();
    assert_eq!(take(&mut door).await, ["3"]);
    door.committed().await.unwrap();
    assert!(names(directory.path()).is_empty());
}

#[tokio::test]
async fn taken_files_are_kept_where_asked() {
    let directory = tempfile::tempdir().unwrap();
    let taken = directory.path().join("deep/taken");
    let mut position = None;
    for content in ["first\n", "second\n", ""] {
        put(&directory, "a.jsonl", content);
        if content.is_empty() {
            // Nothing in it: moved away without a batch.
            put(&directory, "b.jsonl", "third");
        }
        let mut door = source_with(directory.path(), Some(&taken), position.take());
        let batch = door.take(ALL).await.unwrap();
        assert_eq!(batch.items.len(), 1);
        door.committed().await.unwrap();
        position = Some(batch.position);
    }
    assert_eq!(names(&taken), ["a.jsonl", "a.jsonl.2", "a.jsonl.3", "b.jsonl"]);
    assert_eq!(fs::read_to_string(taken.join("a.jsonl.2")).unwrap(), "second\n");
    assert_eq!(names(directory.path()), ["deep"]);
}

#[tokio::test]
async fn a_crash_before_the_removal_repeats_nothing_even_in_the_middle() {
    let directory = tempfile::tempdir().unwrap();
    put(&directory, "a.jsonl", "1\n\n22\n333");
    let one = TakeLimit { items: 1, ..ALL };
    let mut position = None;
    for expected in ["1", "22", "333"] {
        let taken = source(&directory, position).take(one).await.unwrap();
        assert_eq!(taken.items, [expected]);
        position = Some(taken.position);
    }
    assert_eq!(names(directory.path()), ["a.jsonl"]);
    put(&directory, "b.jsonl", "next\n");
    assert_eq!(source(&directory, position).take(ALL).await.unwrap().items, ["next"]);
    assert_eq!(names(directory.path()), ["b.jsonl"]);
}

#[tokio::test]
async fn a_missing_directory_is_for_the_operator() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    operator(source_with(&missing, None, None).take(ALL).await, &missing);
    let mut door = sink_with(&missing, 1000, 1000);
    operator(door.mark().await, &missing);
    operator(door.give(&[bytes("x")], mark(1)).await, &missing);
    // The operator acts; the same instance goes on.
    fs::create_dir(&missing).unwrap();
    door.give(&[bytes("x")], mark(1)).await.unwrap();
    assert_eq!(door.mark().await.unwrap(), Some(mark(1)));
}

#[tokio::test]
async fn two_doors_do_not_share_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let mut door = sink(&directory);
    assert_eq!(door.mark().await.unwrap(), None);
    assert!(matches!(sink(&directory).mark().await, Err(DoorError::Retry(_))));
    assert!(matches!(source(&directory, None).take(ALL).await, Err(DoorError::Retry(_))));
    drop(door);
    assert_eq!(sink(&directory).mark().await.unwrap(), None);
}

#[tokio::test]
async fn what_a_crash_left_beyond_the_record_is_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    let current = directory.path().join("events.jsonl");
    sink(&directory).give(&[bytes("1")], mark(1)).await.unwrap();
    // Killed after the data, before the record: in the middle of a line, or after it.
    for rest in ["2", "2\n3\n"] {
        fs::write(&current, format!("1\n{rest}")).unwrap();
        assert_eq!(sink(&directory).mark().await.unwrap(), Some(mark(1)));
        assert_eq!(read(&directory, "events.jsonl"), "1\n");
    }
    // The same while this instance has it open.
    let mut door = sink(&directory);
    door.mark().await.unwrap();
    fs::write(&current, "1\n2").unwrap();
    door.give(&[bytes("2")], mark(2)).await.unwrap();
    assert_eq!(read(&directory, "events.jsonl"), "1\n2\n");
    drop(door);
    // Killed in the middle of the very first step.
    let directory = tempfile::tempdir().unwrap();
    sink(&directory).mark().await.unwrap();
    fs::write(directory.path().join("events.jsonl"), "1\n").unwrap();
    let mut door = sink(&directory);
    assert_eq!(door.mark().await.unwrap(), None);
    door.give(&[bytes("1")], mark(1)).await.unwrap();
    assert_eq!(read(&directory, "events.jsonl"), "1\n");
}

#[tokio::test]
async fn rotation_by_size_keeps_whole_lines_and_survives_a_crash_at_each_step() {
    let directory = tempfile::tempdir().unwrap();
    let door = || sink_with(directory.path(), 10, 3600);
    for seq in 1..=4 {
        door().give(&[bytes(&format!("line{seq}"))], mark(10 * seq)).await.unwrap();
    }
    let (first, second) = ("events-000000000001.jsonl", "events-000000000011.jsonl");
    assert_eq!(read(&directory, first), "line1\n");
    assert_eq!(read(&directory, second), "line2\n");
    assert_eq!(read(&directory, "events.jsonl"), "line4\n");
    // Renamed, and killed.
    fs::rename(directory.path().join("events.jsonl"), directory.path().join("events-000000000031.jsonl")).unwrap();
    assert_eq!(door().mark().await.unwrap(), Some(mark(40)));
    // Renamed and begun anew, and killed before the record.
    fs::remove_file(directory.path().join("events.jsonl")).unwrap();
    fs::write(directory.path().join("events.jsonl"), "").unwrap();
    let mut again = door();
    assert_eq!(again.mark().await.unwrap(), Some(mark(40)));
    again.give(&[bytes("line5")], mark(50)).await.unwrap();
    assert_eq!(read(&directory, "events-000000000031.jsonl"), "line4\n");
    assert_eq!(read(&directory, "events.jsonl"), "line5\n");
    // A wiped log counts anew: the name is used already.
    drop(again);
    let other = |seq| Mark { log: Uuid::from_u128(8), seq, again: 0 };
    door().give(&[], other(0)).await.unwrap();
    for seq in 1..=3 {
        door().give(&[bytes(&format!("other{seq}"))], other(seq)).await.unwrap();
    }
    assert_eq!(read(&directory, "events-000000000001-2.jsonl"), "other1\n");
    assert_eq!(read(&directory, first), "line1\n");
}

#[tokio::test]
async fn rotation_by_age() {
    let directory = tempfile::tempdir().unwrap();
    // As old as it can be at once.
    let mut door = sink_with(directory.path(), 1 << 20, 0);
    door.give(&[bytes("1")], mark(1)).await.unwrap();
    door.give(&[], mark(5)).await.unwrap();
    assert_eq!(read(&directory, "events-000000000001.jsonl"), "1\n");
    assert_eq!(read(&directory, "events.jsonl"), "");
    // Nothing in it: nothing to rotate.
    door.give(&[], mark(6)).await.unwrap();
    assert_eq!(door.mark().await.unwrap(), Some(mark(6)));
    assert_eq!(names(directory.path()), [".in.mark", "events-000000000001.jsonl", "events.jsonl"]);
}

#[tokio::test]
async fn who_takes_cuts_or_replaces_the_file_disturbs_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let current = directory.path().join("events.jsonl");
    let mut door = sink(&directory);
    door.give(&[bytes("1")], mark(1)).await.unwrap();
    // Somebody takes it away.
    fs::rename(&current, directory.path().join("mine")).unwrap();
    door.give(&[bytes("2")], mark(2)).await.unwrap();
    assert_eq!(read(&directory, "mine"), "1\n");
    assert_eq!(read(&directory, "events.jsonl"), "2\n");
    // logrotate's copytruncate.
    fs::write(&current, "").unwrap();
    door.give(&[bytes("3")], mark(3)).await.unwrap();
    assert_eq!(read(&directory, "events.jsonl"), "3\n");
    // A restored copy: another file, with what we gave and more.
    fs::write(directory.path().join("copy"), "3\nmore\n").unwrap();
    fs::rename(directory.path().join("copy"), &current).unwrap();
    door.give(&[bytes("4")], mark(4)).await.unwrap();
    assert_eq!(read(&directory, "events-000000000000.jsonl"), "3\nmore\n");
    assert_eq!(read(&directory, "events.jsonl"), "4\n");
    assert_eq!(door.mark().await.unwrap(), Some(mark(4)));
}

#[tokio::test]
async fn a_damaged_record_is_for_the_operator() {
    let directory = tempfile::tempdir().unwrap();
    sink(&directory).give(&[bytes("1")], mark(1)).await.unwrap();
    fs::write(directory.path().join(".in.mark"), "{").unwrap();
    operator(sink(&directory).mark().await, directory.path());
    operator(sink(&directory).give(&[bytes("2")], mark(2)).await, directory.path());
    assert_eq!(read(&directory, "events.jsonl"), "1\n");
}
