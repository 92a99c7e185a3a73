//! The shelf: the files that the log's complete chunks lie in.
//!
//! Owns the folder `log` beside sled's: what is appended to its files and when that is durable, what is read from them, what is
//! made zero, and which of them go. sled says where a chunk lies and what its checksum is, so bytes that it does not speak of
//! are nobody's: they go when the store is opened. A chunk's bytes are durable before sled speaks of them, are never
//! written over as long as it does, and are made zero or go only when it durably does not.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::pieces;

/// Bytes of a file, beyond which the next one begins, unless a chunk alone has more. A file goes with its last chunk, so
/// about as much of the disk is held by what has expired.
const FILE: u32 = 8 << 20;

/// Files that are kept open: as many readers at different places wait for nobody.
const OPEN: usize = 16;

/// Where a chunk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    file: u32,
    offset: u32,
    /// Its bytes.
    pub(super) length: u32,
    /// Their checksum.
    sum: u32,
}

impl Place {
    pub(super) const ENCODED: usize = 16;

    pub(super) fn encode(&self) -> [u8; Place::ENCODED] {
        let mut bytes = [0; Place::ENCODED];
        let numbers = [self.file, self.offset, self.length, self.sum].map(u32::to_be_bytes);
        bytes.copy_from_slice(numbers.as_flattened());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Place> {
        let (&[file, offset, length, sum], []) = bytes.as_chunks::<4>() else { return None };
        let [file, offset, length, sum] = [file, offset, length, sum].map(u32::from_be_bytes);
        let place = Place { file, offset, length, sum };
        (length as usize <= pieces::LARGEST && offset.checked_add(length).is_some()).then_some(place)
    }
}

/// What one write changes on the shelf.
#[derive(Default)]
pub(super) struct Changes {
    /// Appended before sled speaks of it.
    runs: Vec<Run>,
    /// Made zero when sled does not speak of it any more.
    pub(super) void: Vec<Place>,
    /// Removed then.
    empty: Vec<u32>,
}

/// Bytes for one file.
struct Run {
    file: u32,
    offset: u32,
    bytes: Vec<u8>,
}

/// What lies where, as the writer knows it: ahead of the disk until that is written.
#[derive(Debug, Default)]
pub(super) struct Stock {
    files: BTreeMap<u32, Held>,
    /// The number of the next file. Not used twice, as long as anybody may have the old one open.
    next: u32,
}

/// What a file holds.
#[derive(Debug, Default)]
struct Held {
    chunks: u64,
    end: u32,
}

impl Stock {
    /// Appends a chunk.
    pub(super) fn put(&mut self, changes: &mut Changes, bytes: &[u8]) -> Place {
        // `pieces::LARGEST` at most.
        let length = bytes.len() as u32;
        let fits = |held: &Held| held.end.saturating_add(length) <= FILE;
        let file = self.files.last_key_value().filter(|(_, held)| fits(held)).map_or(self.next, |(file, _)| *file);
        self.next = self.next.max(file.saturating_add(1));
        let held = self.files.entry(file).or_default();
        let offset = held.end;
        held.chunks += 1;
        held.end += length;
        match changes.runs.last_mut().filter(|run| run.file == file) {
            Some(run) => run.bytes.extend_from_slice(bytes),
            None => changes.runs.push(Run { file, offset, bytes: bytes.to_vec() }),
        }
        Place { file, offset, length, sum: crc32fast::hash(bytes) }
    }

    /// A chunk is gone; with the last one its file.
    pub(super) fn release(&mut self, changes: &mut Changes, place: Place) {
        let Some(held) = self.files.get_mut(&place.file) else { return };
        held.chunks = held.chunks.saturating_sub(1);
        if held.chunks == 0 {
            self.files.remove(&place.file);
            changes.empty.push(place.file);
        }
    }
}

/// The files.
pub(super) struct Shelf {
    dir: PathBuf,
    open: Mutex<VecDeque<(u32, Arc<File>)>>,
}

impl Shelf {
    /// The shelf of the store in this folder. Makes its folder where there is none.
    pub(super) fn open(store: &Path) -> io::Result<Shelf> {
        let dir = store.join("log");
        match DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => File::open(store)?.sync_all()?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        Ok(Shelf { dir, open: Mutex::default() })
    }

    /// Whether there is no file.
    pub(super) fn is_empty(&self) -> io::Result<bool> {
        Ok(self.files()?.is_empty())
    }

    /// The numbers and lengths of the files. What else lies here was not made by us.
    fn files(&self) -> io::Result<Vec<(u32, u64)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(number) = number.filter(|number| *name(*number) == *entry.file_name()) {
                files.push((number, entry.metadata()?.len()));
            }
        }
        Ok(files)
    }

    /// Takes away what is nobody's: files, and the ends of files, that none of these places is in.
    pub(super) fn settle(&self, places: &[Place]) -> io::Result<Stock> {
        let mut stock = Stock::default();
        for place in places {
            let held = stock.files.entry(place.file).or_default();
            held.chunks += 1;
            held.end = held.end.max(place.offset + place.length);
        }
        stock.next = stock.files.last_key_value().map_or(1, |(file, _)| file.saturating_add(1));
        for (number, length) in self.files()? {
            stock.next = stock.next.max(number.saturating_add(1));
            match stock.files.get(&number) {
                None => fs::remove_file(self.path(number))?,
                Some(held) if length > held.end.into() => self.file(number)?.set_len(held.end.into())?,
                Some(_) => {}
            }
        }
        Ok(stock)
    }

    /// Appends what is to be appended; on return it is durable.
    pub(super) fn append(&self, changes: &Changes) -> io::Result<()> {
        for Run { file, offset, bytes } in &changes.runs {
            let file = if *offset == 0 { self.make(*file)? } else { self.file(*file)? };
            file.write_all_at(bytes, (*offset).into())?;
            file.sync_data()?;
        }
        Ok(())
    }

    /// Makes zero what is void, durably.
    pub(super) fn wipe(&self, void: &[Place]) -> io::Result<()> {
        for place in void {
            let file = match self.file(place.file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file?,
            };
            file.write_all_at(&vec![0; place.length as usize], place.offset.into())?;
            file.sync_data()?;
        }
        Ok(())
    }

    /// Removes files that are empty. What stays goes when the store is opened.
    pub(super) fn remove(&self, changes: &Changes) {
        for file in &changes.empty {
            if let Err(error) = fs::remove_file(self.path(*file)) {
                tracing::warn!(file = %self.path(*file).display(), %error, "what has expired cannot be removed");
            }
            self.open.lock().unwrap_or_else(PoisonError::into_inner).retain(|(number, _)| number != file);
        }
    }

    /// The bytes at this place, as they were written; or why not.
    pub(super) fn read(&self, place: &Place) -> Result<Vec<u8>, String> {
        let Place { file, offset, length, sum } = *place;
        let at = || format!("{length} bytes at {offset} of log/{}", name(file));
        let mut bytes = vec![0; length as usize];
        let read = self.file(file).and_then(|file| file.read_exact_at(&mut bytes, offset.into()));
        read.map_err(|error| format!("{} cannot be read: {error}", at()))?;
        if crc32fast::hash(&bytes) != sum {
            return Err(format!("{} are not as they were written", at()));
        }
        Ok(bytes)
    }

    fn make(&self, number: u32) -> io::Result<Arc<File>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(self.path(number))?;
        File::open(&self.dir)?.sync_all()?;
        Ok(self.keep(number, file))
    }

    fn file(&self, number: u32) -> io::Result<Arc<File>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, file)) = open.iter().find(|(open, _)| *open == number) {
            return Ok(file.clone());
        }
        drop(open);
        Ok(self.keep(number, OpenOptions::new().read(true).write(true).open(self.path(number))?))
    }

    fn keep(&self, number: u32, file: File) -> Arc<File> {
        let file = Arc::new(file);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.truncate(OPEN - 1);
        open.push_front((number, file.clone()));
        file
    }

    fn path(&self, number: u32) -> PathBuf {
        self.dir.join(name(number))
    }
}

fn name(number: u32) -> String {
    format!("{number:010}")
}
