//! The log on disk: chunks of entries.
//!
//! Owns the form of a chunk and reading a run of entries from the chunks. Under the number of its first entry lies a
//! chunk's head in sled; the next chunk begins with the number after its last. A complete chunk ([`CHUNK_ENTRIES`] or
//! [`CHUNK_BYTES`], compressed together) lies on the [`super::shelf`], and its head says where. Of the one that is being
//! filled, each commit puts what it adds into sled as a small chunk of its own, a *part*: nothing is written again before
//! the whole is complete and takes the place of its parts. What was in parts when the store was closed stays so.
//!
//! Readers meet only chunks that never change again ([`super::recent`] has the others; [`super::purge`] changes one while nobody
//! reads), but expiry may take one away under their hands: that is told apart from damage by the number of the first
//! kept entry.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::disk::Disk;
use super::recent::{Taken, cost};
use super::shelf::Place;
use super::{Entry, ReadLimit, StoreError, keys, pieces};
use crate::envelope::Sealed;

/// Entries of one chunk at most.
pub(super) const CHUNK_ENTRIES: usize = 256;
/// Bytes of one chunk at most, before compression, if it holds more than one entry.
pub(super) const CHUNK_BYTES: usize = 512 << 10;

/// The entries of one chunk came within so long, ms: it goes as one, so what is in it may stay for so
/// much longer than it should.
const CHUNK_SPAN: u64 = 24 * 60 * 60 * 1000;

/// zstd's usual level. Of sealed events it leaves a fourteenth less than the fastest, for a microsecond per event more.
const LEVEL: i32 = 3;

thread_local! {
    // Made anew for each chunk, it would cost as much as a few entries.
    static DECOMPRESSOR: RefCell<zstd::bulk::Decompressor<'static>> =
        RefCell::new(zstd::bulk::Decompressor::new().expect("there is memory for a decompressor"));
}

/// A chunk that the writer fills: the entries in their stored form.
#[derive(Debug)]
pub(super) struct Open {
    /// The number of the first entry.
    pub(super) first: u64,
    head: Head,
    raw: Vec<u8>,
    /// [`Entry::at`] of the first entry.
    oldest: u64,
    /// What is in sled already and goes when the whole is stored: by first number.
    pub(super) replaces: Vec<(u64, Lying)>,
    /// What came after the last part, and where in `raw` it begins.
    fresh: Head,
    fresh_from: usize,
}

/// What a stored chunk says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Entries.
    pub(super) count: u32,
    /// The newest [`Entry::at`].
    pub(super) newest: u64,
    raw: u32,
}

/// How a chunk lies on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lying {
    /// The length of what sled holds of it.
    pub(super) value: usize,
    /// Where the rest is; `None`: sled holds all of it.
    pub(super) place: Option<Place>,
}

impl Lying {
    /// Bytes of the chunk, as stored.
    pub(super) fn bytes(&self) -> u64 {
        self.place.map_or(self.value as u64, |place| place.length.into())
    }
}

impl Open {
    /// An empty chunk that begins with this number.
    pub(super) fn new(first: u64) -> Open {
        let (head, fresh) = (Head::EMPTY, Head::EMPTY);
        Open { first, head, raw: Vec::new(), oldest: 0, replaces: Vec::new(), fresh, fresh_from: 0 }
    }

    /// Whether it has no room for this entry.
    pub(super) fn is_full_for(&self, entry: &Entry) -> bool {
        let too_large = self.raw.len() + entry.envelope.bytes().len() > CHUNK_BYTES;
        self.head.count > 0 && (too_large || entry.at.saturating_sub(self.oldest) >= CHUNK_SPAN)
    }

    /// Whether it is complete.
    pub(super) fn is_full(&self) -> bool {
        self.head.count as usize >= CHUNK_ENTRIES || self.raw.len() >= CHUNK_BYTES
    }

    /// Whether what was added since the last part is worth a chunk of its own, rather than to be stored twice.
    pub(super) fn is_large(&self) -> bool {
        self.fresh.count as usize >= CHUNK_ENTRIES / 2 || self.fresh.raw as usize >= CHUNK_BYTES / 2
    }

    /// Adds the entry, which must be the next.
    pub(super) fn push(&mut self, entry: &Entry) {
        let from = entry.from.as_ref().map_or("", |name| name.as_str());
        let envelope = entry.envelope.bytes();
        let before = self.raw.len();
        if self.head.count == 0 {
            self.oldest = entry.at;
        }
        self.raw.extend_from_slice(&entry.at.to_be_bytes());
        // A name has at most 63 bytes, an envelope at most `pieces::LARGEST`.
        self.raw.push(from.len() as u8 | if entry.completes { COMPLETES } else { 0 });
        self.raw.extend_from_slice(from.as_bytes());
        self.raw.extend_from_slice(&(envelope.len() as u32).to_be_bytes());
        self.raw.extend_from_slice(envelope);
        let raw = (self.raw.len() - before) as u32;
        for head in [&mut self.head, &mut self.fresh] {
            *head = Head { count: head.count + 1, newest: head.newest.max(entry.at), raw: head.raw + raw };
        }
    }

    /// All of it, as it lies on the shelf.
    pub(super) fn pack(&self, compressor: &mut Compressor) -> Result<Vec<u8>, StoreError> {
        compressor.compress(&self.raw)
    }

    /// What sled holds of it when it is there.
    pub(super) fn shelved(&self, place: &Place) -> Vec<u8> {
        self.head.encode(SHELVED, &place.encode())
    }

    /// What was added since this was asked last: its first number, and what sled holds of it. `None`: nothing.
    pub(super) fn part(&mut self, compressor: &mut Compressor) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        let (fresh, from) = (self.fresh, self.fresh_from);
        if fresh.count == 0 {
            return Ok(None);
        }
        (self.fresh, self.fresh_from) = (Head::EMPTY, self.raw.len());
        let raw = &self.raw[from..];
        let value =
            if raw.len() < PACKED { fresh.encode(PLAIN, raw) } else { fresh.encode(0, &compressor.compress(raw)?) };
        let first = self.first + u64::from(self.head.count - fresh.count);
        self.replaces.push((first, Lying { value: value.len(), place: None }));
        Ok(Some((first, value)))
    }

    /// What is in it.
    pub(super) fn entries(&self) -> Result<Vec<Arc<Entry>>, StoreError> {
        split(self.first, &self.head, &self.raw)
    }
}

/// zstd, kept between chunks.
pub(super) struct Compressor(zstd::bulk::Compressor<'static>);

impl Compressor {
    pub(super) fn new() -> std::io::Result<Compressor> {
        let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
        compressor.include_checksum(true)?;
        Ok(Compressor(compressor))
    }

    pub(super) fn compress(&mut self, bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.0.compress(bytes).map_err(|error| StoreError::broken(error.to_string()))
    }
}

const HEAD: usize = 4 + 8 + 4;
/// Beside the length of the peer's name: the entry is a completion.
const COMPLETES: u8 = 0x80;
/// Beside the number of entries: the chunk is not compressed,
const PLAIN: u32 = 1 << 30;
/// or lies elsewhere.
const SHELVED: u32 = 1 << 31;
/// Bytes of a part from which on it is compressed: to compress a little takes longer than to write it.
const PACKED: usize = 16 << 10;

impl Head {
    const EMPTY: Head = Head { count: 0, newest: 0, raw: 0 };

    fn encode(&self, form: u32, rest: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD + rest.len());
        bytes.extend_from_slice(&(self.count | form).to_be_bytes());
        bytes.extend_from_slice(&self.newest.to_be_bytes());
        bytes.extend_from_slice(&self.raw.to_be_bytes());
        bytes.extend_from_slice(rest);
        bytes
    }

    /// The head, the form, and what follows.
    fn decode(value: &[u8]) -> Option<(Head, u32, &[u8])> {
        let (count, rest) = value.split_first_chunk::<4>()?;
        let (newest, rest) = rest.split_first_chunk::<8>()?;
        let (raw, rest) = rest.split_first_chunk::<4>()?;
        let (count, newest, raw) = (u32::from_be_bytes(*count), u64::from_be_bytes(*newest), u32::from_be_bytes(*raw));
        let (form, count) = (count & (PLAIN | SHELVED), count & !(PLAIN | SHELVED));
        (count > 0).then_some((Head { count, newest, raw }, form, rest))
    }
}

/// The entries of a chunk that sled holds, the first of which has this number, all of it: nothing that lies elsewhere.
pub fn decode(first: u64, value: &[u8]) -> Result<Vec<Arc<Entry>>, StoreError> {
    decode_with(first, value, |_| Err("it lies elsewhere"))
}

/// The same; `shelf` reads what lies elsewhere.
fn decode_with<E: Display>(
    first: u64,
    value: &[u8],
    shelf: impl FnOnce(&Place) -> Result<Vec<u8>, E>,
) -> Result<Vec<Arc<Entry>>, StoreError> {
    let damaged = |reason: &dyn Display| StoreError::damaged(format!("the chunk of the log at {first}: {reason}"));
    let (head, form, rest) = Head::decode(value).ok_or_else(|| damaged(&"it has no head"))?;
    let shelved;
    let packed = match form {
        PLAIN => return split(first, &head, rest),
        0 => rest,
        _ => {
            let place = Place::decode(rest).ok_or_else(|| damaged(&"it lies nowhere"))?;
            shelved = shelf(&place).map_err(|reason| damaged(&reason))?;
            &shelved
        }
    };
    // Our own bound, so that a damaged head cannot ask for any amount of memory.
    let size = (head.raw as usize).min(pieces::LARGEST + CHUNK_BYTES);
    let raw = DECOMPRESSOR.with_borrow_mut(|decompressor| decompressor.decompress(packed, size));
    split(first, &head, &raw.map_err(|error| damaged(&error))?)
}

fn split(first: u64, head: &Head, mut raw: &[u8]) -> Result<Vec<Arc<Entry>>, StoreError> {
    let mut entries = Vec::new();
    let end = first.checked_add(head.count.into());
    let end = end.ok_or_else(|| StoreError::damaged(format!("the chunk of the log at {first} counts too far")))?;
    for seq in first..end {
        let entry = split_entry(seq, &mut raw)
            .ok_or_else(|| StoreError::damaged(format!("the chunk of the log at {first} ends too early")))??;
        entries.push(Arc::new(entry));
    }
    Ok(entries)
}

fn split_entry(seq: u64, raw: &mut &[u8]) -> Option<Result<Entry, StoreError>> {
    let mut take = |length: usize| raw.split_off(..length);
    let at = u64::from_be_bytes(take(8)?.try_into().ok()?);
    let mark = take(1)?[0];
    let (completes, length) = (mark & COMPLETES != 0, mark & !COMPLETES);
    let from = take(length.into())?;
    let length = u32::from_be_bytes(take(4)?.try_into().ok()?);
    // A copy, so that one entry that somebody keeps does not keep the whole chunk.
    let envelope = Bytes::copy_from_slice(take(length as usize)?);
    let open = || {
        let damaged = |reason: String| StoreError::damaged(format!("entry {seq} of the log: {reason}"));
        let from = match std::str::from_utf8(from).map_err(|error| damaged(error.to_string()))? {
            "" => None,
            name => Some(name.parse().map_err(|error| damaged(format!("{error}")))?),
        };
        let envelope = Sealed::reopen(envelope).map_err(|error| damaged(error.to_string()))?;
        Ok(Entry { seq, at, from, completes, envelope })
    };
    Some(open())
}

/// Reads entries after `after` and below `end`, from the disk. `end`: below it every chunk is complete. `first`: the
/// number of the first kept entry, asked again where a chunk has gone meanwhile.
pub(super) fn read(
    disk: &Disk,
    cache: &Cache,
    after: u64,
    end: u64,
    limit: ReadLimit,
    first: impl Fn() -> u64,
) -> Result<Vec<Arc<Entry>>, StoreError> {
    let mut taken = Taken::new(limit);
    let mut entries: Vec<Arc<Entry>> = Vec::new();
    let mut next = after + 1;
    loop {
        next = next.max(first());
        if next >= end {
            return Ok(entries);
        }
        let chunk = match cache.get(next) {
            Some(chunk) => chunk,
            None => match load(disk, next) {
                Ok(chunk) => cache.put(chunk),
                // Expired while it was read: go on after it.
                Err(_) if first() > next => continue,
                // Whoever reads on meets it.
                Err(_) if !entries.is_empty() => return Ok(entries),
                Err(error) => return Err(error),
            },
        };
        for entry in chunk.iter().filter(|entry| entry.seq >= next) {
            if entry.seq >= end || !taken.admits(entry) {
                return Ok(entries);
            }
            entries.push(entry.clone());
        }
        next = chunk.last().map_or(next, |entry| entry.seq) + 1;
    }
}

/// The chunk that holds this number.
pub(super) fn load(disk: &Disk, seq: u64) -> Result<Vec<Arc<Entry>>, StoreError> {
    let missing = || StoreError::damaged(format!("entry {seq} of the log is missing"));
    let tree = disk.tree();
    let (key, _) = tree.get_lt(keys::log(seq + 1)).map_err(StoreError::read)?.ok_or_else(missing)?;
    let first = keys::log_first(&key).ok_or_else(missing)?;
    let value = pieces::get(tree, &keys::log(first))?.ok_or_else(missing)?;
    let entries = decode_with(first, &value, |place| disk.shelf().read(place))?;
    if entries.last().is_none_or(|last| last.seq < seq) {
        return Err(missing());
    }
    Ok(entries)
}

/// The head of the chunk that begins with this number, and how it lies.
pub(super) fn head(tree: &sled::Tree, first: u64) -> Result<(Head, Lying), StoreError> {
    let damaged = |what| StoreError::damaged(format!("the chunk of the log at {first} {what}"));
    let (length, value) = pieces::head(tree, &keys::log(first))?.ok_or_else(|| damaged("is missing"))?;
    let (head, form, rest) = Head::decode(&value).ok_or_else(|| damaged("has no head"))?;
    let place = if form == SHELVED { Some(Place::decode(rest).ok_or_else(|| damaged("lies nowhere"))?) } else { None };
    Ok((head, Lying { value: length, place }))
}

/// Where everything is that lies on the shelf, in order.
pub(super) fn places(tree: &sled::Tree) -> Result<Vec<Place>, StoreError> {
    let mut places = Vec::new();
    let mut last = None;
    for key in tree.scan_prefix([keys::LOG]).keys() {
        let first = keys::log_first(&key.map_err(StoreError::read)?);
        if let Some(first) = first.filter(|_| first != last) {
            places.extend(head(tree, first)?.1.place);
        }
        last = first;
    }
    Ok(places)
}

/// The chunks read last: a reader that takes less than a chunk at a time does not unpack it again, and readers that
/// catch up together share.
#[derive(Default)]
pub(super) struct Cache(Mutex<VecDeque<Arc<[Arc<Entry>]>>>);

impl Cache {
    /// Chunks kept,
    const KEPT: usize = 32;
    /// and what they take in memory, about: at least one is kept.
    const KEPT_BYTES: usize = 8 << 20;

    fn get(&self, seq: u64) -> Option<Arc<[Arc<Entry>]>> {
        let chunks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let holds = |chunk: &&Arc<[Arc<Entry>]>| {
            chunk.first().is_some_and(|entry| entry.seq <= seq) && chunk.last().is_some_and(|entry| seq <= entry.seq)
        };
        chunks.iter().find(holds).cloned()
    }

    /// Lets go of the chunks that hold these numbers.
    pub(super) fn forget(&self, seqs: impl Iterator<Item = u64> + Clone) {
        let mut chunks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        chunks.retain(|chunk| {
            let (first, last) = (chunk.first().map_or(0, |entry| entry.seq), chunk.last().map_or(0, |entry| entry.seq));
            !seqs.clone().any(|seq| (first..=last).contains(&seq))
        });
    }

    fn put(&self, chunk: Vec<Arc<Entry>>) -> Arc<[Arc<Entry>]> {
        let chunk: Arc<[Arc<Entry>]> = chunk.into();
        let mut chunks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        chunks.push_front(chunk.clone());
        let mut bytes = 0;
        let kept = chunks.iter().take(Cache::KEPT).take_while(|chunk| {
            let fits = bytes < Cache::KEPT_BYTES;
            bytes += chunk.iter().map(|entry| cost(entry)).sum::<usize>();
            fits
        });
        let kept = kept.count();
        chunks.truncate(kept);
        chunk
    }
}
