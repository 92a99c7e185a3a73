//! What a withdrawal is about: the copies of its event in the log.
//!
//! Owns finding them. The log has no index by id, so it is read from one end to the other: once for many withdrawals, by
//! one caller at a time, and what was found is remembered. Of an event that was never seen here nothing is read.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

use super::Gate;
use crate::envelope::Key;
use crate::store::{Entry, Held, Note, ReadLimit, Reader, StoreError};

/// An event: its origin's key, and its id. Sealed with that key, or with one that it follows.
pub type Event = (Key, Uuid);

/// Events whose copies are remembered, at most.
const MOST: usize = 16 << 10;
/// Copies of one event, at most: the fullest are the last.
const COPIES: usize = 8;
const STEP: ReadLimit = ReadLimit { entries: 512, bytes: 1 << 20 };
/// Entries that one step purges: nobody reads meanwhile.
const AT_ONCE: usize = 64;
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
    /// Finds the copies of these events, all in one reading of the log: before each is asked for. `through`: the number
    /// of the last entry that speaks of them; 0: none does.
    pub async fn locate(&self, events: impl IntoIterator<Item = Event>, through: u64) -> Result<(), StoreError> {
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
        let mut meant: HashMap<Event, Vec<Event>> = HashMap::new();
        for event in found.keys() {
            for key in self.line(&event.0) {
                meant.entry((key, event.1)).or_default().push(*event);
            }
        }
        // An entry can be read a moment before the head says so; its event may have come together with it.
        let head = self.store.watch_head().wait_for(|head| *head >= through).await.map(|head| *head);
        let (mut at, end) = (0, head.map_err(|_| StoreError::Closed)?);
        while at < end {
            let entries = self.store.read(at, STEP).await?;
            let Some(last) = entries.last() else { break };
            at = last.seq;
            for entry in entries {
                let header = entry.envelope.header();
                for event in meant.get(&(header.key, header.id)).into_iter().flatten() {
                    let Some(places) = found.get_mut(event) else { continue };
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
        self.locate([event], 0).await?;
        let mut copies = Vec::new();
        for seq in self.places.get(&event).unwrap_or_default() {
            let entries = self.store.read(seq - 1, ONE).await?;
            // What has expired since is not there any more.
            copies.extend(entries.into_iter().filter(|entry| entry.seq == seq));
        }
        Ok(copies)
    }

    /// Takes the fields of events that are withdrawn out of the log, and the events out of quarantine; how many copies
    /// there were.
    pub async fn purge(&self, events: &[Event]) -> Result<u64, StoreError> {
        let mut seqs = Vec::new();
        for event in events {
            let has_fields = |entry: &&Arc<Entry>| u32::from(entry.envelope.hidden()) < entry.envelope.header().n;
            seqs.extend(self.copies(*event).await?.iter().filter(has_fields).map(|entry| entry.seq));
        }
        let mut purged = 0;
        for some in seqs.chunks(AT_ONCE) {
            purged += self.store.purge(some.to_vec()).await?;
        }
        let (mut after, mut held) = (0, Vec::new());
        loop {
            let items = self.store.quarantined(after, 64).await?;
            let Some((last, _)) = items.last() else { break };
            after = *last;
            held.extend(items.into_iter().filter_map(|(number, item)| match item.held {
                Held::Envelope(envelope) => {
                    let header = envelope.header();
                    let is_it = |(key, id): &Event| *id == header.id && self.line(key).contains(&header.key);
                    events.iter().any(is_it).then_some(number)
                }
                Held::Item(_) => None,
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
            if !events.is_empty() {
                self.locate(events.iter().copied(), last.seq).await?;
                self.purge(&events).await?;
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
        self.was_sealed(key, *id)
    }
}
