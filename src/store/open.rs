//! Opening a store.
//!
//! Owns the folder and what is recognised in it: `lock`, `head`, `log/`, and `sled/` with our marker inside. A new store is made
//! under another name and renamed when it is complete, so a `sled/` without a marker is never a half-made one of ours.
//! It must never make a store where there is anything of one, nor repair.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use uuid::Uuid;

use super::disk::Disk;
use super::journal::Journal;
use super::lock::{Lock, LockError};
use super::quarantine::Ward;
use super::seen::{self, Filling, Ids, Index, Mark};
use super::shared::State;
use super::shelf::{Shelf, Stock};
use super::sum::{Batch, Sum};
use super::{OpenError, StoreError, keys, log, witness};

/// The version of the store's form.
const VERSION: u32 = 1;

/// What opening found.
pub(super) struct Opened {
    pub(super) lock: Lock,
    pub(super) disk: Disk,
    pub(super) id: Uuid,
    pub(super) state: State,
    pub(super) stock: Stock,
    pub(super) ward: Ward,
    pub(super) journal: Journal,
    pub(super) index: Index,
}

/// Opens the store in this folder, or makes one where there is none. Blocks, up to seconds.
pub(super) fn open(dir: &Path, cache_bytes: u64) -> Result<Opened, OpenError> {
    let io = |error| OpenError::Io { dir: dir.into(), error };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
    let lock = Lock::take(dir).map_err(|error| match error {
        LockError::Held(pid) => OpenError::Locked { dir: dir.into(), pid },
        LockError::Io(error) => io(error),
    })?;
    if dir.join("db").exists() || dir.join("conf").exists() {
        return Err(OpenError::Foreign { dir: dir.into(), reason: "a sled lies in the folder itself".into() });
    }
    let home = dir.join("sled");
    let witness = witness::read(dir).map_err(io)?;
    let shelf = Shelf::open(dir).map_err(io)?;
    if !home.exists() {
        if witness.is_some() || !shelf.is_empty().map_err(io)? {
            let reason = "sled/ is missing, and there was one".into();
            return Err(OpenError::Damaged { dir: dir.into(), reason });
        }
        make(dir, &home)?;
    }
    for part in ["db", "conf"] {
        if !home.join(part).exists() {
            return Err(OpenError::Damaged { dir: dir.into(), reason: format!("sled/{part} is missing") });
        }
    }
    let disk = Disk::open(&home, shelf, cache_bytes)?;
    let id = read_marker(dir, &disk).map_err(|error| match (error, &witness) {
        (OpenError::Foreign { dir, reason }, Some(said)) => {
            let reason = format!("{reason}, and write {} was durable", said.batch);
            OpenError::Damaged { dir, reason }
        }
        (error, _) => error,
    })?;
    let damaged = |error: StoreError| OpenError::Damaged { dir: dir.into(), reason: error.to_string() };
    let state = read_state(&disk).map_err(damaged)?;
    if let Some(said) = witness.filter(|said| said.id == id && said.batch > disk.batch()) {
        let reason = format!("it is as it was after write {}, and write {} was durable", disk.batch(), said.batch);
        return Err(OpenError::Damaged { dir: dir.into(), reason });
    }
    let mut sum = Sum::default();
    let index = read_seen(disk.tree(), &state, &mut sum).map_err(damaged)?;
    // The other kinds, which nobody reads as a whole.
    for kind in keys::SUMMED.into_iter().filter(|kind| *kind != keys::SEEN) {
        sum.add_all(disk.tree(), kind).map_err(damaged)?;
    }
    if sum != disk.sum() {
        return Err(damaged(StoreError::damaged(
            "the cursors, the ids or the quarantine are not as they were written",
        )));
    }
    let ward = Ward::count(disk.tree()).map_err(damaged)?;
    let journal = Journal::open(disk.tree()).map_err(damaged)?;
    let (used, void) = (log::places(disk.tree()).map_err(damaged)?, disk.void().map_err(damaged)?);
    let stock = disk.settle_shelf(&used, void).map_err(io)?;
    Ok(Opened { lock, disk, id, state, stock, ward, journal, index })
}

fn make(dir: &Path, home: &Path) -> Result<(), OpenError> {
    let io = |error| OpenError::Io { dir: dir.into(), error };
    let fresh = dir.join("sled.new");
    match fs::remove_dir_all(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        // Left by a start that did not come to its end: never in use.
        _ => {}
    }
    DirBuilder::new().mode(0o700).create(&fresh).map_err(io)?;
    let disk = Disk::open(&fresh, Shelf::open(dir).map_err(io)?, 1 << 20)?;
    let mut batch = Batch::default();
    batch.insert(keys::MARKER, encode_marker(VERSION, Uuid::new_v4()));
    batch.insert(keys::STATE, State::EMPTY.encode());
    disk.write(batch).map_err(|error| io(io::Error::other(error)))?;
    drop(disk);
    for name in ["db", "conf"] {
        File::open(fresh.join(name)).and_then(|file| file.sync_all()).map_err(io)?;
    }
    File::open(&fresh).and_then(|folder| folder.sync_all()).map_err(io)?;
    fs::rename(&fresh, home).map_err(io)?;
    sync_upwards(dir).map_err(io)
}

/// Makes the folder's names durable, and those of the folders above it, which may be as new. What cannot be opened was
/// not made by us.
fn sync_upwards(dir: &Path) -> io::Result<()> {
    let dir = dir.canonicalize()?;
    dir.ancestors().filter_map(|folder| File::open(folder).ok()).try_for_each(|folder| folder.sync_all())
}

fn encode_marker(version: u32, id: Uuid) -> Vec<u8> {
    [&version.to_be_bytes()[..], id.as_bytes()].concat()
}

fn read_marker(dir: &Path, disk: &Disk) -> Result<Uuid, OpenError> {
    let damaged = |reason: String| OpenError::Damaged { dir: dir.into(), reason };
    let Some(marker) = disk.tree().get(keys::MARKER).map_err(|error| damaged(error.to_string()))? else {
        return Err(OpenError::Foreign { dir: dir.into(), reason: "it has no marker of ours".into() });
    };
    let (version, id) = marker.split_first_chunk::<4>().ok_or_else(|| damaged("the marker is too short".into()))?;
    let found = u32::from_be_bytes(*version);
    if found > VERSION {
        return Err(OpenError::Newer { dir: dir.into(), found, known: VERSION });
    }
    Uuid::from_slice(id).map_err(|_| damaged("the log id has not 16 bytes".into()))
}

/// The counters, if the ends of the log are where they say.
fn read_state(disk: &Disk) -> Result<State, StoreError> {
    let tree = disk.tree();
    let bytes = tree.get(keys::STATE).map_err(StoreError::read)?;
    let state = bytes.as_deref().and_then(State::decode).ok_or_else(|| StoreError::damaged("no counters"))?;
    let last = tree.get_lt(keys::log(u64::MAX)).map_err(StoreError::read)?;
    let last = last.and_then(|(key, _)| keys::log_first(&key));
    if state.first == state.next {
        return if last.is_some() { Err(StoreError::damaged("the log is not as empty as it says")) } else { Ok(state) };
    }
    let last = last.ok_or_else(|| StoreError::damaged("the log is empty and should not be"))?;
    log::head(tree, state.first)?;
    let (head, _) = log::head(tree, last)?;
    if last + u64::from(head.count) != state.next {
        return Err(StoreError::damaged("the log does not end where it says"));
    }
    log::load(disk, last)?;
    Ok(state)
}

fn read_seen(tree: &sled::Tree, state: &State, sum: &mut Sum) -> Result<Index, StoreError> {
    // Chunks are numbered in the order they were begun, so this many there are at most.
    let first = tree.get_gt([keys::SEEN]).map_err(StoreError::read)?.and_then(|(key, _)| keys::seen_number(&key));
    let chunks = first.map_or(0, |first| state.next_seen.saturating_sub(first));
    let mut index = Filling::new(usize::try_from(chunks).unwrap_or(0).saturating_mul(seen::CHUNK).min(MOST_EXPECTED));
    for entry in tree.scan_prefix([keys::SEEN]) {
        let (key, ids) = entry.map_err(StoreError::read)?;
        sum.add(&key, &ids);
        let chunk = keys::day_of(&key).zip(Ids::decode(&ids));
        let (day, ids) = chunk.ok_or_else(|| StoreError::damaged("a chunk of the seen set"))?;
        for (id, hidden) in ids.0 {
            index.insert(id, Mark { hidden, day });
        }
    }
    Ok(index.finish())
}

/// Ids that memory is taken for before they are there: half a GiB of it.
const MOST_EXPECTED: usize = 16 << 20;
