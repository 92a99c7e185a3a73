//! The shelf of notes by id: what peers brought and was refused, and what became of quarantined items.
//!
//! Owns that nobody's notes push out another's. Ids are what a peer chooses, and a hostile one has no end of them. So
//! each reader has chunks of its own, and where there is too much, what goes is the oldest of whoever has the most.

use std::collections::{BTreeMap, HashMap};

use super::codec;
use super::{CHUNK, Head, IdNote, Open, Reader, damaged};
use crate::store::log::Compressor;
use crate::store::{StoreError, keys};

/// Chunks by reader, and of each the one that is being filled. After a restart new ones are begun.
pub(super) struct Ids {
    /// Bytes that it may hold, as stored.
    pub(super) most: u64,
    pub(super) bytes: u64,
    /// The next chunk's number.
    next: u64,
    /// What is stored: by key, so the oldest first; of whom, and how long.
    stored: BTreeMap<Vec<u8>, (Reader, u64)>,
    /// Bytes of each reader.
    by: HashMap<Reader, u64>,
    open: HashMap<Reader, Open>,
    pub(super) changed: bool,
}

impl Ids {
    pub(super) fn open(tree: &sled::Tree, most: u64) -> Result<Ids, StoreError> {
        let mut ids = Ids {
            most,
            bytes: 0,
            next: 0,
            stored: BTreeMap::new(),
            by: HashMap::new(),
            open: HashMap::new(),
            changed: false,
        };
        for chunk in tree.scan_prefix([keys::ID_NOTES]) {
            let (key, value) = chunk.map_err(StoreError::read)?;
            let (_, number) = keys::chunk_place(keys::ID_NOTES, &key).ok_or_else(|| damaged("a key"))?;
            let (head, packed) = Head::decode(&value)?;
            let notes = codec::decode(&head.unpack(packed)?).ok_or_else(|| damaged("a chunk"))?.1;
            let reader = notes.into_iter().next().ok_or_else(|| damaged("an empty chunk"))?.reader;
            ids.next = ids.next.max(number + 1);
            ids.note_stored(key.to_vec(), reader, value.len() as u64);
        }
        Ok(ids)
    }

    pub(super) fn put(
        &mut self,
        batch: &mut sled::Batch,
        compressor: &mut Compressor,
        head: u64,
        note: &IdNote,
    ) -> Result<(), StoreError> {
        let is_full = |open: &Open| open.chunk.bytes().len() + codec::LARGEST > CHUNK;
        if self.open.get(&note.reader).is_some_and(is_full)
            && let Some(full) = self.open.remove(&note.reader)
        {
            self.store(batch, compressor, &note.reader, &full)?;
        }
        let open = self.open.entry(note.reader.clone()).or_insert_with(|| {
            self.next += 1;
            Open { key: keys::chunk(keys::ID_NOTES, head, self.next - 1), ..Open::default() }
        });
        open.chunk.id_note(note);
        open.changed = true;
        self.changed = true;
        Ok(())
    }

    /// Stores what was added to.
    pub(super) fn finish(&mut self, batch: &mut sled::Batch, compressor: &mut Compressor) -> Result<(), StoreError> {
        let mut open = std::mem::take(&mut self.open);
        for (reader, open) in open.iter_mut().filter(|(_, open)| open.changed) {
            open.changed = false;
            self.store(batch, compressor, reader, open)?;
        }
        (self.open, self.changed) = (open, false);
        Ok(())
    }

    fn store(
        &mut self,
        batch: &mut sled::Batch,
        compressor: &mut Compressor,
        reader: &Reader,
        open: &Open,
    ) -> Result<(), StoreError> {
        let value = open.encode(compressor)?;
        self.note_stored(open.key.clone(), reader.clone(), value.len() as u64);
        batch.insert(&*open.key, value);
        Ok(())
    }

    fn note_stored(&mut self, key: Vec<u8>, reader: Reader, length: u64) {
        self.note_removed(&key);
        self.bytes += length;
        *self.by.entry(reader.clone()).or_default() += length;
        self.stored.insert(key, (reader, length));
    }

    fn note_removed(&mut self, key: &[u8]) {
        let Some((reader, length)) = self.stored.remove(key) else { return };
        self.bytes -= length;
        if let Some(by) = self.by.get_mut(&reader) {
            *by -= length;
        }
    }

    /// What is too much goes. Only where nothing has changed since it was stored.
    pub(super) fn trim(&mut self, batch: &mut sled::Batch) {
        while !self.changed && self.bytes > self.most {
            let Some((greedy, _)) = self.by.iter().max_by_key(|(reader, bytes)| (**bytes, *reader)) else { return };
            let Some(key) = self.stored.iter().find(|(_, (reader, _))| reader == greedy).map(|(key, _)| key.clone())
            else {
                return;
            };
            self.remove(batch, key);
        }
    }

    /// Removes at most `most` chunks in which nothing is as new as `oldest`; returns how many.
    pub(super) fn expire(
        &mut self,
        tree: &sled::Tree,
        batch: &mut sled::Batch,
        oldest: u64,
        most: usize,
    ) -> Result<usize, StoreError> {
        let mut gone = Vec::new();
        for chunk in tree.scan_prefix([keys::ID_NOTES]) {
            let (key, value) = chunk.map_err(StoreError::read)?;
            if gone.len() >= most || Head::decode(&value)?.0.newest >= oldest {
                break;
            }
            gone.push(key.to_vec());
        }
        let count = gone.len();
        gone.into_iter().for_each(|key| self.remove(batch, key));
        Ok(count)
    }

    fn remove(&mut self, batch: &mut sled::Batch, key: Vec<u8>) {
        self.open.retain(|_, open| open.key != key);
        self.note_removed(&key);
        batch.remove(key);
    }
}
