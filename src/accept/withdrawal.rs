//! What a withdrawal is about: the copies of its event in the log.
//!
//! Owns finding them. The log has no index by id, so it is read from one end to the other: once for many withdrawals, by
//! one caller at a time, and what was found is remembered. Of an event that was never seen here nothing is read.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

use super::Gate;
use crate::envelope::{Key, SeenKeys};
use crate::store::{Entry, Held, Note, ReadLimit, Reader, StoreError};

/// An event: its origin's key, and its id.
pub type Event = (Key, Uuid);

/// Events whose copies are remembered, at most.
const MOST: usize = 16 << 10;
/// Copies of one event, at most: the fullest are the last.
const COPIES: usize = 8;
const STEP: ReadLimit = ReadLimit { entries: 512, bytes: 1 << 20 };
const ONE: ReadLimit = ReadLimit { entries: 1, bytes: 1 };

/// Where the copies of withdrawn events are in the log.
#[derive(Default)]
pub(super) struct Places {
    found: Mutex<HashMap<Event, Vec<u64>>>,
    /// One reads; the others find what it has found.
    turn: tokio::sync::Mutex<()>,
}

impl Places {
    fn get(&self, event: &Event) -> Option<Vec<u64>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).get(event).cloned()
    }

    fn put(&self, found: HashMap<Event, Vec<u64>>) {
        let mut all = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() + found.len() > MOST {
            all.clear();
        }
        all.extend(found);
    }
}

impl Gate {
    /// Finds the copies of these events, all in one reading of the log: before each is asked for.
    pub async fn locate(&self, events: impl IntoIterator<Item = Event>) -> Result<(), StoreError> {
        let unknown = |event: &Event| self.places.get(event).is_none() && self.was_seen(event);
        let wanted: Vec<Event> = events.into_iter().filter(unknown).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let _turn = self.places.turn.lock().await;
        let wanted: HashSet<Event> = wanted.into_iter().filter(unknown).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let own = self.rules().key;
        // To what is withdrawn no copy comes any more, and of our own events there is one.
        let lasts = |(key, id): &Event| *key == own || self.store.is_withdrawn(key, *id);
        let mut found: HashMap<Event, Vec<u64>> =
            wanted.iter().filter(|event| lasts(event)).map(|event| (*event, Vec::new())).collect();
        let (mut at, end) = (0, self.store.head());
        while at < end {
            let entries = self.store.read(at, STEP).await?;
            let Some(last) = entries.last() else { break };
            at = last.seq;
            for entry in entries {
                let header = entry.envelope.header();
                if let Some(places) = found.get_mut(&(header.key, header.id)) {
                    places.push(entry.seq);
                    let more = places.len().saturating_sub(COPIES);
                    places.drain(..more);
                }
            }
        }
        self.places.put(found);
        Ok(())
    }

    /// The copies in the log of an event that is withdrawn, or of our own: the fullest last.
    pub async fn copies(&self, event: Event) -> Result<Vec<Arc<Entry>>, StoreError> {
        self.locate([event]).await?;
        let mut copies = Vec::new();
        for seq in self.places.get(&event).unwrap_or_default() {
            let entries = self.store.read(seq - 1, ONE).await?;
            // What has expired since is not there any more.
            copies.extend(entries.into_iter().filter(|entry| entry.seq == seq));
        }
        Ok(copies)
    }

    /// Takes the fields of an event that is withdrawn out of the log, and the event out of quarantine; how many copies
    /// there were.
    pub async fn purge(&self, event: Event) -> Result<u64, StoreError> {
        let copies = self.copies(event).await?;
        let has_fields = |entry: &&Arc<Entry>| u32::from(entry.envelope.hidden()) < entry.envelope.header().n;
        let seqs: Vec<u64> = copies.iter().filter(has_fields).map(|entry| entry.seq).collect();
        let mut purged = 0;
        if !seqs.is_empty() {
            purged = self.store.purge(seqs).await?;
        }
        let (mut after, mut held) = (0, Vec::new());
        loop {
            let items = self.store.quarantined(after, 64).await?;
            let Some((last, _)) = items.last() else { break };
            after = *last;
            held.extend(items.into_iter().filter_map(|(number, item)| match item.held {
                Held::Envelope(envelope) if (envelope.header().key, envelope.header().id) == event => Some(number),
                _ => None,
            }));
        }
        if !held.is_empty() {
            purged += held.len() as u64;
            self.release(held).await?;
        }
        Ok(purged)
    }

    /// Purges what is withdrawn, and from now on what will be, as it comes. Ends only with an error.
    pub async fn keep_purged(&self) -> StoreError {
        let mut changed = self.store.watch_withdrawals();
        let mut at = 0;
        loop {
            changed.mark_unchanged();
            match self.purge_after(&mut at).await {
                Ok(()) => {}
                Err(StoreError::Full { .. }) => {
                    tokio::time::sleep(super::FULL_PAUSE).await;
                    continue;
                }
                Err(error) => return error,
            }
            if changed.changed().await.is_err() {
                return StoreError::Closed;
            }
        }
    }

    async fn purge_after(&self, at: &mut u64) -> Result<(), StoreError> {
        while *at < self.store.head() {
            let entries = self.store.read(*at, STEP).await?;
            let Some(last) = entries.last() else { break };
            let event = |entry: &Arc<Entry>| Some((entry.envelope.header().key, entry.envelope.withdraws()?));
            let events: Vec<Event> = entries.iter().filter_map(event).collect();
            self.locate(events.iter().copied()).await?;
            for event in events {
                self.purge(event).await?;
            }
            *at = last.seq;
        }
        Ok(())
    }

    /// What is noted of these entries for this reader, oldest first, up to this moment.
    pub async fn notes_on(&self, entries: &[Arc<Entry>], reader: &Reader) -> Result<Vec<Note>, StoreError> {
        self.write_notes().await?;
        let notes = self.store.notes(entries.iter().map(|entry| entry.seq)).await?;
        Ok(notes.into_iter().filter(|note| note.reader == *reader).collect())
    }

    fn was_seen(&self, (key, id): &Event) -> bool {
        self.store.seen(&SeenKeys::of_offer(key, *id, 0)).is_some()
    }
}
