//! Deliver: from the log to a sink. A reader of the log like a peer's link, with the local IntelMQ at its end.
//!
//! Owns where the sink stands, and that what the local IntelMQ cannot take goes into quarantine, once. The sink's own
//! record wins, since it moves together with the data; the store's copy is for a sink that lost its data, or keeps no
//! record.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, warn};
use uuid::Uuid;

use super::fit::{Fit, Unfit};
use super::opened::Seen;
use super::trouble::{HeldBack, Trouble};
use super::{DoorError, Mark, Sink};
use crate::accept::Gate;
use crate::envelope::{Name, Recipient, Sealed};
use crate::store::{
    Cursor, Entry, Fate, Held, IdNote, Outcome, Quarantined, ReadLimit, Reader, Store, StoreError, short,
};

/// How often the store's copy of the mark follows the sink's, while there is much to deliver.
const NOTE_EVERY: Duration = Duration::from_secs(1);
const LIMIT: ReadLimit = ReadLimit { entries: 1024, bytes: 1 << 20 };
/// For a sink that keeps no mark: what comes twice after a crash, at most.
const UNMARKED: ReadLimit = ReadLimit { entries: 256, bytes: 1 << 20 };

/// What a step of a sink did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Step {
    /// Envelopes given.
    pub given: u64,
    /// Envelopes that the sink's shape cannot carry.
    pub unfit: u64,
    /// Envelopes that do not fit the local IntelMQ's data format, and are kept in quarantine.
    pub quarantined: u64,
    /// The number of the last entry that is given, or is not for this sink.
    pub seq: u64,
}

/// One sink and what it gets.
pub struct Deliver<K> {
    /// The door.
    pub sink: K,
    /// What it gets.
    pub outlet: Outlet,
}

/// From the log to texts.
pub struct Outlet {
    /// The door's name.
    pub door: Name,
    /// Which events, and how they are written.
    pub fit: Fit,
    /// We, as one that events are encrypted to.
    pub recipient: Arc<Recipient>,
    #[allow(missing_docs)]
    pub gate: Gate,
    /// Events of the quarantine that shall be tried again.
    pub again: mpsc::Receiver<Again>,
    /// The time of day, ms since 1970.
    pub now: fn() -> u64,
    /// Told after every step.
    pub count: Box<dyn Fn(Step) + Send + Sync>,
}

impl Outlet {
    fn note(&self, notes: Vec<(u64, Fate)>) {
        self.gate.note(&Reader::Door(self.door.clone()), notes, (self.now)());
    }
}

/// An event of the quarantine that shall be tried again.
pub struct Again {
    /// Its number there.
    pub number: u64,
    /// It.
    pub envelope: Sealed,
    /// Told when it is delivered and out of quarantine, and that it had left it before (`false`); else why not.
    pub reply: oneshot::Sender<Result<bool, String>>,
}

impl<K: Sink> Deliver<K> {
    /// Delivers for ever. Returns only when the store can go on no more. Cancellation loses and repeats nothing.
    pub async fn run(self) -> StoreError {
        let Deliver { sink, outlet } = self;
        let store = outlet.gate.store().clone();
        let mut head = store.watch_head();
        let mut trouble = Trouble::new(outlet.door.clone());
        let place = Place { log: store.log_id(), given: None, held: Vec::new() };
        let held_back = HeldBack::default();
        let mut delivery = Delivery { sink, outlet, store, place, at: 0, again: 0, held_back };
        loop {
            let error = match delivery.start().await {
                Ok(Ok(())) => {
                    trouble.over();
                    delivery.follow(&mut head).await
                }
                Ok(Err(error)) => Ok(error),
                Err(error) => Err(error),
            };
            match error {
                Ok(error) => trouble.wait(&error).await,
                Err(error) => return error,
            }
        }
    }
}

/// A delivery under way.
struct Delivery<K> {
    sink: K,
    outlet: Outlet,
    store: Store,
    /// What the store is told.
    place: Place,
    /// The number of the last entry that the sink has.
    at: u64,
    /// As in the sink's [`Mark`].
    again: u64,
    held_back: HeldBack,
}

/// Entries as the sink gets them.
#[derive(Default)]
struct Batch {
    texts: Vec<Bytes>,
    /// The numbers of their entries.
    seqs: Vec<u64>,
    misfits: Vec<Quarantined>,
    /// The numbers of their entries.
    held: Vec<u64>,
    unfit: u64,
    /// What becomes of each.
    notes: Vec<(u64, Fate)>,
}

/// How giving a batch ended.
enum Gave {
    All,
    Failed(DoorError),
    /// One of them was withdrawn meanwhile, or is void.
    Recalled,
}

impl<K: Sink> Delivery<K> {
    const LIMIT: ReadLimit = if K::KEEPS_MARK { LIMIT } else { UNMARKED };

    /// Finds the sink's place.
    async fn start(&mut self) -> Result<Result<(), DoorError>, StoreError> {
        let mark = match self.sink.mark().await {
            Ok(mark) => mark,
            Err(error) => return Ok(Err(error)),
        };
        let log = self.store.log_id();
        let noted = self.store.cursor(&Cursor::Sink(self.outlet.door.clone())).await?;
        let noted = noted.and_then(|bytes| Place::decode(&bytes)).filter(|noted| noted.log == log);
        self.place = noted.unwrap_or(Place { log, given: None, held: Vec::new() });
        let door = &self.outlet.door;
        let ours = mark.filter(|mark| mark.log == log);
        self.at = match (ours, self.place.given) {
            (Some(mark), _) => mark.seq.min(self.store.head()),
            (None, Some(seq)) if !K::KEEPS_MARK => seq.min(self.store.head()),
            (None, Some(seq)) => {
                warn!(
                    %door,
                    "the other side has lost its record of what it was given (flushed, or restarted without its data); \
                     going on behind what it was last given: what it had not yet worked off is lost there"
                );
                seq
            }
            (None, None) => {
                if mark.is_some() {
                    warn!(
                        %door,
                        "the other side was last given events of another log (was the data folder lost, or a queue \
                         taken over?): it is given everything that is in this one, some of it perhaps again"
                    );
                }
                self.store.first() - 1
            }
        };
        // Without a record over there, a note here would look as if that record had been lost.
        if mark.is_some() || !K::KEEPS_MARK {
            self.place.given = Some(self.at);
        }
        self.outlet.gate.note_place(&Reader::Door(door.clone()), self.at);
        self.again = ours.map_or(0, |mark| mark.again);
        if self.again != 0 {
            // Given before a crash, and perhaps not out of quarantine yet.
            self.outlet.gate.release(vec![self.again]).await?;
        }
        Ok(Ok(()))
    }

    /// Gives everything after the sink's place, and what comes, until something goes wrong at the door.
    async fn follow(&mut self, head: &mut watch::Receiver<u64>) -> Result<DoorError, StoreError> {
        let (mut noted, mut when) = (self.at, Instant::now());
        (self.outlet.count)(Step { seq: self.at, ..Step::default() });
        loop {
            while let Ok(again) = self.outlet.again.try_recv() {
                if let Some(error) = self.retry(again).await? {
                    return Ok(error);
                }
            }
            if let Err(error) = self.outlet.fit.refresh(&self.outlet.door) {
                return Ok(error);
            }
            let entries = self.store.read(self.at, Self::LIMIT).await?;
            let Some(last) = entries.last().map(|entry| entry.seq) else {
                if noted != self.at {
                    self.note().await?;
                    (noted, when) = (self.at, Instant::now());
                }
                tokio::select! {
                    // The store closes with its last handle: there is nobody to deliver to then.
                    changed = head.changed() => if changed.is_err() {
                        return Err(StoreError::Closed);
                    },
                    Some(again) = self.outlet.again.recv() => if let Some(error) = self.retry(again).await? {
                        return Ok(error);
                    },
                }
                continue;
            };
            let (given, error) = self.step(&entries, last).await?;
            if let Some(error) = error {
                return Ok(error);
            }
            if when.elapsed() >= NOTE_EVERY || (given && !K::KEEPS_MARK) {
                self.note().await?;
                (noted, when) = (self.at, Instant::now());
            }
        }
    }

    /// Gives these entries; whether there was any to give, and what went wrong at the door.
    async fn step(&mut self, entries: &[Arc<Entry>], last: u64) -> Result<(bool, Option<DoorError>), StoreError> {
        // From before they are looked at.
        let mut withdrawals = self.store.watch_withdrawals();
        let told = self.outlet.told_of(entries, self.at).await?;
        let Batch { texts, seqs, misfits, held, unfit, mut notes } = self.batch(entries, &told);
        let quarantined = misfits.len() as u64;
        self.held_back.tell(&self.outlet.door, &misfits);
        if quarantined > 0 {
            // Before the mark moves: what is kept twice is looked at twice, what is kept nowhere is lost.
            self.place.hold(held);
            self.outlet.gate.note_sink(&self.outlet.door, self.place.encode(), misfits).await?;
        }
        // Our own events come by here too: where there is nothing to give, the mark need not move each time. Behind what
        // is in quarantine it moves at once: a later format may fit, and it must not be given from the log as well.
        let behind_held = self.place.held.iter().any(|seq| *seq > self.at);
        if !texts.is_empty() || behind_held || last - self.at >= LIMIT.entries as u64 {
            let gave = self.give(&texts, last, &mut withdrawals, entries, &seqs).await;
            if !matches!(gave, Gave::All) {
                // Some of it may be confirmed all the same.
                if let Some(seq) = self.sink.confirmed().checked_sub(1).and_then(|last| seqs.get(last)) {
                    self.at = *seq;
                    self.place.given = Some(self.at);
                    notes.retain(|(seq, _)| *seq <= self.at);
                    self.outlet.note(notes);
                    self.note().await?;
                }
                return Ok((
                    false,
                    match gave {
                        Gave::Failed(error) => Some(error),
                        // How far it came, the other side says.
                        _ => self.start().await?.err(),
                    },
                ));
            }
            self.place.given = Some(last);
            debug!(door = %self.outlet.door, given = texts.len(), seq = last, "delivered");
        }
        self.at = last;
        self.outlet.note(notes);
        (self.outlet.count)(Step { given: texts.len() as u64, unfit, quarantined, seq: last });
        Ok((!texts.is_empty(), None))
    }

    /// Gives these texts. It may have to wait for long: what is withdrawn meanwhile, or void, must not go out after that.
    async fn give(
        &mut self,
        texts: &[Bytes],
        last: u64,
        withdrawals: &mut watch::Receiver<u64>,
        entries: &[Arc<Entry>],
        seqs: &[u64],
    ) -> Gave {
        let mark = self.mark(last);
        let outlet = &self.outlet;
        let is_gone = |entry: &Arc<Entry>| {
            seqs.binary_search(&entry.seq).is_ok() && outlet.is_recalled(&entry.envelope).is_some()
        };
        let mut trust = outlet.gate.watch_roster();
        let mut giving = pin!(self.sink.give(texts, mark));
        loop {
            tokio::select! {
                gave = &mut giving => return gave.map_or_else(Gave::Failed, |()| Gave::All),
                Ok(()) = withdrawals.changed() => if entries.iter().any(is_gone) {
                    return Gave::Recalled;
                },
                Ok(()) = trust.changed() => if entries.iter().any(is_gone) {
                    return Gave::Recalled;
                },
            }
        }
    }

    /// `told`: the withdrawals of events that were given.
    fn batch(&self, entries: &[Arc<Entry>], told: &HashSet<u64>) -> Batch {
        let Outlet { door, fit, now, .. } = &self.outlet;
        let mut batch = Batch::default();
        // What is in quarantine, or was, is nobody's but the operator's, whether it fits by now or not.
        let newest = self.place.held.iter().max().copied().unwrap_or(0);
        let held = |entry: &Entry| entry.seq <= newest && self.place.held.contains(&entry.seq);
        for entry in entries.iter().filter(|entry| !held(entry)) {
            let seen = self.outlet.see(entry);
            let part = if let Seen::NotFor(part) = seen { Some(part) } else { self.outlet.no_longer(entry, told) };
            if let Some(part) = part {
                batch.notes.push((entry.seq, Fate::NotFor(part)));
                continue;
            }
            let text = match seen {
                Seen::Open(envelope) => fit.text(&envelope),
                Seen::Closed(closed) => Err(Unfit::Misfit(closed.to_string())),
                Seen::NotFor(_) => Err(Unfit::NoForm),
            };
            let fate = match text {
                Ok(text) => {
                    batch.texts.push(text);
                    batch.seqs.push(entry.seq);
                    Fate::Delivered
                }
                Err(Unfit::NoForm) => {
                    debug!(%door, event = %entry.envelope.header().id, "no event of IntelMQ's: not delivered");
                    batch.unfit += 1;
                    Fate::Unfit
                }
                Err(Unfit::Misfit(reason)) => {
                    batch.held.push(entry.seq);
                    let fate = Fate::Quarantined(short(&reason));
                    let held = Held::Envelope(entry.envelope.clone().into());
                    batch.misfits.push(Quarantined { at: now(), door: door.clone(), reason, held });
                    fate
                }
            };
            batch.notes.push((entry.seq, fate));
        }
        batch
    }

    /// Tries an event of the quarantine again. The sink's record says that it was given, as for every other event: so
    /// that a crash before it is out of quarantine does not give it twice.
    async fn retry(&mut self, again: Again) -> Result<Option<DoorError>, StoreError> {
        let Again { number, envelope, reply } = again;
        // While the door was closed, it may have been asked for once more, or dropped.
        let there = self.store.quarantined(number.saturating_sub(1), 1).await?;
        if there.first().is_none_or(|(first, _)| *first != number) {
            let _ = reply.send(Ok(false));
            return Ok(None);
        }
        let fitted = self.outlet.fit.refresh(&self.outlet.door).map_err(|error| error.to_string());
        let fitted = self.outlet.is_recalled(&envelope).map_or(fitted, |why| Err(why.to_owned()));
        let text = fitted.and_then(|()| {
            let opened = self.outlet.open(&envelope).map_err(|closed| closed.to_string())?;
            self.outlet.fit.text(&opened).map_err(|unfit| match unfit {
                Unfit::NoForm => "it is no event of IntelMQ's".to_owned(),
                Unfit::Misfit(reason) => reason,
            })
        });
        // Whoever asked may have gone: then nobody is told, and what was done is done.
        let text = match text {
            Ok(text) => text,
            Err(reason) => {
                let _ = reply.send(Err(reason));
                return Ok(None);
            }
        };
        let mark = Mark { again: number, ..self.mark(self.at) };
        if let Err(error) = self.sink.give(&[text], mark).await {
            let _ = reply.send(Err(error.to_string()));
            return Ok(Some(error));
        }
        (self.again, self.place.given) = (number, Some(self.at));
        self.outlet.gate.release(vec![number]).await?;
        let (reader, header) = (Reader::Door(self.outlet.door.clone()), envelope.header());
        let (origin, id, at) = (header.origin.clone(), header.id, (self.outlet.now)());
        self.outlet.gate.note_id(IdNote { at, reader, origin, id, outcome: Outcome::Delivered });
        (self.outlet.count)(Step { given: 1, seq: self.at, ..Step::default() });
        let _ = reply.send(Ok(true));
        Ok(None)
    }

    fn mark(&self, seq: u64) -> Mark {
        Mark { log: self.store.log_id(), seq, again: self.again }
    }

    async fn note(&mut self) -> Result<(), StoreError> {
        if self.place.given.is_none() {
            return Ok(());
        }
        self.place.given = Some(self.at);
        self.outlet.gate.note_sink(&self.outlet.door, self.place.encode(), Vec::new()).await
    }
}

/// Where a sink stands, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    log: Uuid,
    /// The number of the last entry that it was given; `None`: it has no record of anything yet.
    given: Option<u64>,
    /// The last entries that went into quarantine: the sink's mark may be before them, or come to be (a server that
    /// was restarted with an older state), and the data format another one by then.
    held: Vec<u64>,
}

impl Place {
    /// Instead of a number.
    const NOTHING: u64 = u64::MAX;
    /// How many entries are remembered: more than one batch has.
    const HELD: usize = 2 * LIMIT.entries;

    fn hold(&mut self, entries: Vec<u64>) {
        self.held.extend(entries);
        self.held.drain(..self.held.len().saturating_sub(Place::HELD));
    }

    fn encode(&self) -> Vec<u8> {
        let given = self.given.unwrap_or(Place::NOTHING);
        let numbers = std::iter::once(&given).chain(&self.held).flat_map(|number| number.to_be_bytes());
        self.log.as_bytes().iter().copied().chain(numbers).collect()
    }

    fn decode(bytes: &[u8]) -> Option<Place> {
        let (log, numbers) = bytes.split_at_checked(16)?;
        let ([given, held @ ..], []) = numbers.as_chunks::<8>() else { return None };
        let given = u64::from_be_bytes(*given);
        Some(Place {
            log: Uuid::from_slice(log).ok()?,
            given: (given != Place::NOTHING).then_some(given),
            held: held.iter().map(|seq| u64::from_be_bytes(*seq)).collect(),
        })
    }
}
