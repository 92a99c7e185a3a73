//! A plan: what one group of commits will write.
//!
//! Owns the final check against duplicates and withdrawn ids, the numbers of new entries, and which values change. It must never write, nor tell
//! anybody what it found: that is for after the disk has it. A plan that cannot be finished or written leaves the
//! ends in a state that the disk has not, so the writer must not go on after it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::journal::Journal;
use super::log::{Compressor, Open};
use super::quarantine::{self, Ward};
use super::seen::{self, Id, Ids, Index, Mark};
use super::shared::State;
use super::shelf::Stock;
use super::sum::Batch;
use super::{Appended, Commit, Cursor, Draft, Entry, Quarantined, StoreError, keys, pieces};
use crate::envelope::{SeenKey, SeenKeys};

/// What the writer adds to: the counters, and the chunks that are not full yet. After a restart it begins new chunks.
pub(super) struct Ends {
    pub(super) state: State,
    pub(super) log: Open,
    pub(super) stock: Stock,
    days: Vec<Day>,
    pub(super) compressor: Compressor,
    pub(super) ward: Ward,
    pub(super) journal: Journal,
}

struct Day {
    day: u16,
    number: u64,
    ids: Ids,
    changed: bool,
}

/// Days that keep an open chunk. Around midnight there are two.
const OPEN_DAYS: usize = 4;

impl Ends {
    pub(super) fn new(state: State, stock: Stock, ward: Ward, journal: Journal) -> std::io::Result<Ends> {
        let (log, compressor) = (Open::new(state.next), Compressor::new()?);
        Ok(Ends { state, log, stock, days: Vec::new(), compressor, ward, journal })
    }

    /// Begins a new chunk of the log. Parts of the one before stay as they are.
    pub(super) fn begin_chunk(&mut self) {
        self.log = Open::new(self.state.next);
    }

    /// Puts a chunk on the shelf, in the place of what it replaces.
    pub(super) fn shelve(&mut self, batch: &mut Batch, chunk: &Open) -> Result<(), StoreError> {
        let place = self.stock.put(&mut batch.shelf, &chunk.pack(&mut self.compressor)?);
        for (first, old) in &chunk.replaces {
            pieces::remove(batch, &keys::log(*first), old.value);
            self.state.log_bytes = self.state.log_bytes.saturating_sub(old.bytes());
            if let Some(place) = old.place {
                self.stock.release(&mut batch.shelf, place);
                batch.shelf.void.push(place);
            }
        }
        pieces::put(batch, &keys::log(chunk.first), &chunk.shelved(&place), None);
        self.state.log_bytes += u64::from(place.length);
        Ok(())
    }

    /// Lets go of open chunks of days below this one: expiry removes them.
    pub(super) fn forget_days_below(&mut self, day: u16) {
        self.days.retain(|open| open.day >= day);
    }
}

/// A group that is being planned.
pub(super) struct Plan<'a> {
    tree: &'a sled::Tree,
    index: &'a Index,
    ends: &'a mut Ends,
    batch: Batch,
    pending: HashMap<SeenKey, u16>,
    ids: Vec<(Id, Mark)>,
    entries: Vec<Arc<Entry>>,
    cursors: HashMap<Cursor, Vec<u8>>,
    quarantined: bool,
    /// Items that go with this group.
    released: HashSet<u64>,
    quarantine_bytes: u64,
    crowded_out: u64,
}

/// A finished plan.
pub(super) struct Planned {
    /// What to write; `None`: nothing has changed.
    pub(super) batch: Option<Batch>,
    /// What to insert into the index afterwards.
    pub(super) ids: Vec<(Id, Mark)>,
    /// What is in the log afterwards.
    pub(super) entries: Vec<Arc<Entry>>,
    /// Items of the quarantine that go because it is full.
    pub(super) crowded_out: u64,
}

impl<'a> Plan<'a> {
    pub(super) fn new(tree: &'a sled::Tree, index: &'a Index, ends: &'a mut Ends, quarantine_bytes: u64) -> Plan<'a> {
        Plan {
            tree,
            index,
            ends,
            batch: Batch::default(),
            pending: HashMap::new(),
            ids: Vec::new(),
            entries: Vec::new(),
            cursors: HashMap::new(),
            quarantined: false,
            released: HashSet::new(),
            quarantine_bytes,
            crowded_out: 0,
        }
    }

    /// Adds a commit; the answer holds once the plan is written.
    pub(super) fn add(&mut self, commit: Commit) -> Result<Vec<Appended>, StoreError> {
        let mut answers = Vec::with_capacity(commit.entries.len());
        for draft in commit.entries {
            let keys = draft.envelope.seen_keys();
            answers.push(self.append(draft, keys)?);
        }
        for remember in commit.remember {
            let keys = SeenKeys { hidden: 0, ..remember.keys };
            if self.known(&keys) != Some(0) {
                self.remember(&keys, remember.at);
            }
        }
        self.cursors.extend(commit.cursors);
        for number in commit.release {
            self.release(number)?;
        }
        for item in &commit.quarantine {
            self.quarantine(item)?;
        }
        let Ends { journal, compressor, state, .. } = &mut *self.ends;
        journal.add(self.tree, &mut self.batch.writes, compressor, state.next - 1, &commit.notes, &commit.id_notes)?;
        Ok(answers)
    }

    /// The plan, with the chunks that were added to, the cursors and the counters.
    pub(super) fn finish(mut self) -> Result<Planned, StoreError> {
        let nothing = self.ids.is_empty() && self.entries.is_empty() && self.cursors.is_empty();
        if nothing && !self.quarantined && !self.ends.journal.is_changed() {
            return Ok(Planned { batch: None, ids: self.ids, entries: self.entries, crowded_out: 0 });
        }
        if self.ends.log.is_large() {
            self.store_chunk()?
        } else {
            self.store_part()?
        }
        let open = &mut self.ends.days;
        for day in open.iter_mut().filter(|day| day.changed) {
            self.batch.insert(keys::seen(day.day, day.number), day.ids.encode());
            day.changed = false;
        }
        open.drain(..open.len().saturating_sub(OPEN_DAYS));
        for (cursor, value) in &self.cursors {
            let key = keys::cursor(cursor);
            pieces::put(&mut self.batch, &key, value, pieces::length(self.tree, &key)?);
        }
        if self.ends.journal.is_changed() {
            let Ends { journal, compressor, .. } = &mut *self.ends;
            journal.finish(&mut self.batch.writes, compressor)?;
        }
        self.batch.insert(keys::STATE, self.ends.state.encode());
        let Plan { batch, ids, entries, crowded_out, .. } = self;
        Ok(Planned { batch: Some(batch), ids, entries, crowded_out })
    }

    fn append(&mut self, draft: Draft, keys: SeenKeys) -> Result<Appended, StoreError> {
        let known = self.known(&keys);
        if known.is_some_and(|hidden| hidden <= keys.hidden) {
            return Ok(Appended::Duplicate);
        }
        let header = draft.envelope.header();
        let withdraws = draft.envelope.withdraws().map(|id| SeenKeys::of_withdrawn(&header.key, id));
        // Whichever comes first, in one group too. A withdrawal itself stays.
        if withdraws.is_none() && self.known(&SeenKeys::of_withdrawn(&header.key, header.id)).is_some() {
            return Ok(Appended::Withdrawn);
        }
        let seq = self.ends.state.next;
        let Draft { at, from, envelope } = draft;
        let entry = Entry { seq, at, from, completes: known.is_some(), envelope };
        if self.ends.log.is_full_for(&entry) {
            self.store_chunk()?;
        }
        self.ends.log.push(&entry);
        self.ends.state.next += 1;
        if self.ends.log.is_full() {
            self.store_chunk()?;
        }
        self.remember(&keys, entry.at);
        if let Some(keys) = withdraws {
            self.remember(&keys, entry.at);
        }
        self.entries.push(Arc::new(entry));
        Ok(if known.is_some() { Appended::Completed(seq) } else { Appended::New(seq) })
    }

    /// As [`Index::known`], with what this group adds.
    fn known(&self, keys: &SeenKeys) -> Option<u16> {
        let pending = |key: &SeenKey| self.pending.get(key).copied();
        let here = pending(&keys.insert).into_iter().chain(keys.also.as_ref().and_then(pending));
        here.chain(self.index.known(keys)).min()
    }

    fn remember(&mut self, keys: &SeenKeys, at: u64) {
        let (id, hidden, day) = (Id::of(keys.insert), keys.hidden, seen::day(at));
        self.pending.insert(keys.insert, hidden);
        self.ids.push((id, Mark { hidden, day }));
        let Ends { days, state, .. } = &mut *self.ends;
        let place = days.iter().position(|open| open.day == day).unwrap_or_else(|| {
            days.push(Day { day, number: state.next_seen, ids: Ids::default(), changed: false });
            state.next_seen += 1;
            days.len() - 1
        });
        let open = &mut days[place];
        open.ids.0.push((id, hidden));
        open.changed = true;
        if open.ids.0.len() >= seen::CHUNK {
            self.batch.insert(keys::seen(day, open.number), open.ids.encode());
            days.remove(place);
        }
    }

    /// The chunk that was being filled is complete.
    fn store_chunk(&mut self) -> Result<(), StoreError> {
        let next = Open::new(self.ends.state.next);
        let chunk = std::mem::replace(&mut self.ends.log, next);
        self.ends.shelve(&mut self.batch, &chunk)
    }

    /// What this group has added to the chunk that goes on being filled.
    fn store_part(&mut self) -> Result<(), StoreError> {
        let ends = &mut *self.ends;
        if let Some((first, part)) = ends.log.part(&mut ends.compressor)? {
            pieces::put(&mut self.batch, &keys::log(first), &part, None);
            ends.state.log_bytes += part.len() as u64;
        }
        Ok(())
    }

    /// Puts the item in, and the oldest out where there is no room for all. What this group itself puts in stays.
    fn quarantine(&mut self, item: &Quarantined) -> Result<(), StoreError> {
        let number = self.ends.state.next_quarantine;
        self.ends.state.next_quarantine += 1;
        let bytes = item.encode();
        pieces::put(&mut self.batch, &keys::quarantine(number), &bytes, None);
        self.quarantined = true;
        self.ends.ward.add(bytes.len());
        let mut after = 0;
        while self.ends.ward.bytes > self.quarantine_bytes {
            let Some(oldest) = quarantine::next(self.tree, after)? else { break };
            after = oldest;
            self.crowded_out += u64::from(self.release(oldest)?);
        }
        Ok(())
    }

    /// Takes an item out of quarantine; whether it was there.
    fn release(&mut self, number: u64) -> Result<bool, StoreError> {
        let key = keys::quarantine(number);
        let Some(length) = pieces::length(self.tree, &key)? else { return Ok(false) };
        if !self.released.insert(number) {
            return Ok(false);
        }
        pieces::remove(&mut self.batch, &key, length);
        self.quarantined = true;
        self.ends.ward.remove(length);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::{DAY0, sealed, withdrawal_of};

    fn keys(id: u8, also: Option<u8>, hidden: u16) -> SeenKeys {
        SeenKeys { insert: SeenKey([id; 16]), also: also.map(|id| SeenKey([id; 16])), hidden }
    }

    fn draft(number: u64) -> Draft {
        Draft { at: DAY0, from: None, envelope: sealed(number, 10) }
    }

    #[test]
    fn duplicates_and_completions_are_told_apart_within_a_group_and_across_groups() {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let index = Index::new();
        let mut ends = Ends::new(State::EMPTY, Stock::default(), Ward::default(), Journal::open(&db).unwrap()).unwrap();
        let mut plan = Plan::new(&db, &index, &mut ends, u64::MAX);
        let mut append = |number, keys| plan.append(draft(number), keys).unwrap();
        assert_eq!(append(1, keys(1, None, 3)), Appended::New(1));
        assert_eq!(append(2, keys(1, None, 3)), Appended::Duplicate);
        assert_eq!(append(3, keys(1, None, 5)), Appended::Duplicate);
        assert_eq!(append(4, keys(1, None, 2)), Appended::Completed(2));
        assert_eq!(append(5, keys(2, Some(1), 2)), Appended::Duplicate, "known under the other key");
        assert_eq!(append(6, keys(2, Some(1), 1)), Appended::Completed(3));
        assert_eq!(append(7, keys(3, None, 0)), Appended::New(4));
        let planned = plan.finish().unwrap();
        assert_eq!(planned.entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(index.len(), 0, "nothing is known before it is durable");
        for (id, mark) in planned.ids {
            index.insert(id, mark);
        }

        let mut plan = Plan::new(&db, &index, &mut ends, u64::MAX);
        let mut append = |number, keys| plan.append(draft(number), keys).unwrap();
        assert_eq!(append(8, keys(1, None, 2)), Appended::Duplicate);
        assert_eq!(append(9, keys(1, Some(2), 1)), Appended::Duplicate, "the best copy under either key counts");
        assert_eq!(append(10, keys(1, Some(2), 0)), Appended::Completed(5));
        assert_eq!(append(11, keys(3, None, 0)), Appended::Duplicate);
    }

    #[test]
    fn a_withdrawn_event_is_not_stored_whichever_comes_first() {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let index = Index::new();
        let mut ends = Ends::new(State::EMPTY, Stock::default(), Ward::default(), Journal::open(&db).unwrap()).unwrap();
        let append = |plan: &mut Plan<'_>, envelope: &crate::envelope::Sealed| {
            let draft = Draft { at: DAY0, from: None, envelope: envelope.clone() };
            let keys = draft.envelope.seen_keys();
            plan.append(draft, keys).unwrap()
        };
        let (first, later, other) = (sealed(1, 10), sealed(2, 10), sealed(3, 10));
        let mut plan = Plan::new(&db, &index, &mut ends, u64::MAX);
        assert_eq!(append(&mut plan, &first), Appended::New(1));
        assert_eq!(append(&mut plan, &withdrawal_of(&first)), Appended::New(2));
        assert_eq!(append(&mut plan, &withdrawal_of(&later)), Appended::New(3));
        assert_eq!(append(&mut plan, &later), Appended::Withdrawn, "in the same group");
        for (id, mark) in plan.finish().unwrap().ids {
            index.insert(id, mark);
        }
        let mut plan = Plan::new(&db, &index, &mut ends, u64::MAX);
        assert_eq!(append(&mut plan, &later), Appended::Withdrawn);
        assert_eq!(append(&mut plan, &first), Appended::Duplicate);
        assert_eq!(append(&mut plan, &other), Appended::New(4));
        assert_eq!(append(&mut plan, &withdrawal_of(&first)), Appended::Duplicate);
    }

    #[test]
    fn a_remembered_refusal_is_seen_as_a_full_copy() {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let index = Index::new();
        let mut ends = Ends::new(State::EMPTY, Stock::default(), Ward::default(), Journal::open(&db).unwrap()).unwrap();
        let mut plan = Plan::new(&db, &index, &mut ends, u64::MAX);
        let remember = vec![crate::store::Remember { at: DAY0, keys: keys(9, None, 4) }];
        plan.add(Commit { remember, ..Commit::default() }).unwrap();
        assert_eq!(plan.append(draft(1), keys(9, None, 0)).unwrap(), Appended::Duplicate);
        assert_eq!(plan.finish().unwrap().ids, [(Id::of(SeenKey([9; 16])), Mark { hidden: 0, day: seen::day(DAY0) })]);
    }

    #[test]
    fn a_group_of_nothing_new_writes_nothing() {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let index = Index::new();
        index.insert(Id::of(SeenKey([1; 16])), Mark { hidden: 0, day: 1 });
        let mut ends = Ends::new(State::EMPTY, Stock::default(), Ward::default(), Journal::open(&db).unwrap()).unwrap();
        let mut plan = Plan::new(&db, &index, &mut ends, u64::MAX);
        assert_eq!(plan.append(draft(1), keys(1, None, 0)).unwrap(), Appended::Duplicate);
        assert!(plan.finish().unwrap().batch.is_none());
    }
}
