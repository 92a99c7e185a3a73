//! The log on disk: chunks of entries.
//!
//! Owns the form of a chunk (about 32 entries or 64 KiB, compressed together) and reading a run of entries from the
//! chunks. A chunk lies under the number of its first entry; the next chunk begins with the number after its last.
//! Readers meet only chunks that never change again ([`super::recent`] has the others; [`super::purge`] changes one while nobody
//! reads), but expiry may take one away under their hands: that is told apart from damage by the number of the first
//! kept entry.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::recent::Taken;
use super::{Entry, ReadLimit, StoreError, keys, pieces};
use crate::envelope::Sealed;

/// Entries of one chunk at most.
pub(super) const CHUNK_ENTRIES: usize = 32;
/// Bytes of one chunk at most, before compression, if it holds more than one entry.
pub(super) const CHUNK_BYTES: usize = 64 << 10;

/// zstd's fastest usual level: the disk and sled are the narrow places, not the last tenth of the size.
const LEVEL: i32 = 1;

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
    /// How many.
    pub(super) count: u32,
    newest: u64,
    raw: Vec<u8>,
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

impl Open {
    /// An empty chunk that begins with this number.
    pub(super) fn new(first: u64) -> Open {
        Open { first, count: 0, newest: 0, raw: Vec::new() }
    }

    /// Whether this entry belongs into the next chunk.
    pub(super) fn is_full_for(&self, entry: &Entry) -> bool {
        let bytes = self.raw.len() + entry.envelope.bytes().len();
        self.count > 0 && (self.count as usize >= CHUNK_ENTRIES || bytes > CHUNK_BYTES)
    }

    /// Adds the entry, which must be the next.
    pub(super) fn push(&mut self, entry: &Entry) {
        let from = entry.from.as_ref().map_or("", |name| name.as_str());
        let envelope = entry.envelope.bytes();
        self.raw.extend_from_slice(&entry.at.to_be_bytes());
        // A name has at most 63 bytes, an envelope at most `pieces::LARGEST`.
        self.raw.push(from.len() as u8 | if entry.completes { COMPLETES } else { 0 });
        self.raw.extend_from_slice(from.as_bytes());
        self.raw.extend_from_slice(&(envelope.len() as u32).to_be_bytes());
        self.raw.extend_from_slice(envelope);
        self.count += 1;
        self.newest = self.newest.max(entry.at);
    }

    /// The stored form.
    pub(super) fn encode(&self, compressor: &mut Compressor) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::with_capacity(HEAD + self.raw.len() / 2);
        bytes.extend_from_slice(&self.count.to_be_bytes());
        bytes.extend_from_slice(&self.newest.to_be_bytes());
        bytes.extend_from_slice(&(self.raw.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&compressor.compress(&self.raw)?);
        Ok(bytes)
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

impl Head {
    pub(super) fn decode(chunk: &[u8]) -> Result<(Head, &[u8]), StoreError> {
        let split = || {
            let (count, rest) = chunk.split_first_chunk::<4>()?;
            let (newest, rest) = rest.split_first_chunk::<8>()?;
            let (raw, rest) = rest.split_first_chunk::<4>()?;
            let count = u32::from_be_bytes(*count);
            Some((Head { count, newest: u64::from_be_bytes(*newest), raw: u32::from_be_bytes(*raw) }, rest))
        };
        split().filter(|(head, _)| head.count > 0).ok_or_else(|| StoreError::damaged("a chunk of the log has no head"))
    }
}

/// The entries of a stored chunk, the first of which has this number.
pub fn decode(first: u64, chunk: &[u8]) -> Result<Vec<Arc<Entry>>, StoreError> {
    let (head, packed) = Head::decode(chunk)?;
    // Our own bound, so that a damaged head cannot ask for any amount of memory.
    let size = (head.raw as usize).min(pieces::LARGEST + CHUNK_BYTES);
    let raw = DECOMPRESSOR
        .with_borrow_mut(|decompressor| decompressor.decompress(packed, size))
        .map_err(|error| StoreError::damaged(format!("the chunk of the log at {first}: {error}")))?;
    let mut raw = Bytes::from(raw);
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

fn split_entry(seq: u64, raw: &mut Bytes) -> Option<Result<Entry, StoreError>> {
    let mut take = |length: usize| (length <= raw.len()).then(|| raw.split_to(length));
    let at = u64::from_be_bytes(take(8)?.as_ref().try_into().ok()?);
    let mark = take(1)?[0];
    let (completes, length) = (mark & COMPLETES != 0, mark & !COMPLETES);
    let from = take(length.into())?;
    let length = u32::from_be_bytes(take(4)?.as_ref().try_into().ok()?);
    let envelope = take(length as usize)?;
    let open = || {
        let damaged = |reason: String| StoreError::damaged(format!("entry {seq} of the log: {reason}"));
        let from = match std::str::from_utf8(&from).map_err(|error| damaged(error.to_string()))? {
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
    tree: &sled::Tree,
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
            None => match load(tree, next) {
                Ok(chunk) => cache.put(chunk),
                // Expired while it was read: go on after it.
                Err(_) if first() > next => continue,
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
pub(super) fn load(tree: &sled::Tree, seq: u64) -> Result<Vec<Arc<Entry>>, StoreError> {
    let missing = || StoreError::damaged(format!("entry {seq} of the log is missing"));
    let (key, _) = tree.get_lt(keys::log(seq + 1)).map_err(StoreError::read)?.ok_or_else(missing)?;
    let first = keys::log_first(&key).ok_or_else(missing)?;
    let chunk = pieces::get(tree, &keys::log(first))?.ok_or_else(missing)?;
    let entries = decode(first, &chunk)?;
    if entries.last().is_none_or(|last| last.seq < seq) {
        return Err(missing());
    }
    Ok(entries)
}

/// The head and stored length of the chunk that begins with this number.
pub(super) fn head(tree: &sled::Tree, first: u64) -> Result<(Head, usize), StoreError> {
    let (length, bytes) = pieces::head(tree, &keys::log(first))?
        .ok_or_else(|| StoreError::damaged(format!("the chunk of the log at {first} is missing")))?;
    Ok((Head::decode(&bytes)?.0, length))
}

/// The chunks read last: a reader that takes less than a chunk at a time does not unpack it again, and readers that
/// catch up together share.
#[derive(Default)]
pub(super) struct Cache(Mutex<VecDeque<Arc<[Arc<Entry>]>>>);

impl Cache {
    /// Chunks kept: at most 16 times the largest envelope, usually 1 MiB in all.
    const KEPT: usize = 16;

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
        chunks.truncate(Cache::KEPT - 1);
        chunks.push_front(chunk.clone());
        chunk
    }
}
