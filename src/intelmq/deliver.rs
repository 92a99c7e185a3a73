//! Deliver: from the log to a sink. A reader of the log like a peer's link, with the local IntelMQ at its end.
//!
//! Owns where the sink stands. The sink's own record wins, since it moves together with the data; the store's copy is
//! for a sink that lost its data.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;
use tracing::{debug, warn};
use uuid::Uuid;

use super::ingest::Trouble;
use super::{DoorError, Mark, Sink};
use crate::accept::Gate;
use crate::envelope::{Envelope, Kind, Name, Shape};
use crate::store::{Cursor, Entry, ReadLimit, Store, StoreError};

/// How often the store's copy of the mark follows the sink's, while there is much to deliver.
const NOTE_EVERY: Duration = Duration::from_secs(1);
const LIMIT: ReadLimit = ReadLimit { entries: 1024, bytes: 1 << 20 };

/// What a step of a sink did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Step {
    /// Envelopes given.
    pub given: u64,
    /// Envelopes that the sink's shape cannot carry.
    pub unfit: u64,
    /// The number of the last entry that is given, or is not for this sink.
    pub seq: u64,
}

/// One sink and what it gets.
pub struct Deliver<K> {
    /// The door.
    pub sink: K,
    /// Its name.
    pub door: Name,
    /// How events are written.
    pub shape: Shape,
    /// Whether fuller copies of delivered events are delivered too.
    pub completions: bool,
    #[allow(missing_docs)]
    pub gate: Gate,
    /// Whether the sink has a record of what it was given: only then is its place worth noting here.
    pub given: bool,
    /// Told after every step.
    pub count: Box<dyn Fn(Step) + Send + Sync>,
}

impl<K: Sink> Deliver<K> {
    /// Delivers for ever. Returns only when the store can go on no more. Cancellation loses and repeats nothing.
    pub async fn run(mut self) -> StoreError {
        let store = self.gate.store().clone();
        let mut head = store.watch_head();
        let mut trouble = Trouble::new(self.door.clone());
        loop {
            let error = match self.start(&store).await {
                Ok(Ok(at)) => {
                    trouble.over();
                    self.follow(&store, at, &mut head).await
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

    /// The number of the last entry that the sink has.
    async fn start(&mut self, store: &Store) -> Result<Result<u64, DoorError>, StoreError> {
        let mark = match self.sink.mark().await {
            Ok(mark) => mark,
            Err(error) => return Ok(Err(error)),
        };
        self.given |= mark.is_some();
        let ours = store.cursor(&Cursor::Sink(self.door.clone())).await?.and_then(|bytes| decode(&bytes));
        let of_this_log = |mark: Option<Mark>| mark.filter(|mark| mark.log == store.log_id()).map(|mark| mark.seq);
        Ok(Ok(match (of_this_log(mark), of_this_log(ours)) {
            (Some(seq), _) => seq.min(store.head()),
            (None, Some(seq)) => {
                warn!(
                    door = %self.door,
                    "the other side has lost its record of what it was given (flushed, or restarted without its data); \
                     going on behind what it was last given: what it had not yet worked off is lost there"
                );
                seq
            }
            (None, None) => {
                if mark.is_some() {
                    warn!(
                        door = %self.door,
                        "the other side was last given events of another log (was the data folder lost, or a queue \
                         taken over?): it is given everything that is in this one, some of it perhaps again"
                    );
                }
                store.first() - 1
            }
        }))
    }

    /// Gives everything after `at`, and what comes, until something goes wrong at the door.
    async fn follow(
        &mut self,
        store: &Store,
        mut at: u64,
        head: &mut watch::Receiver<u64>,
    ) -> Result<DoorError, StoreError> {
        let (mut noted, mut when) = (at, Instant::now());
        (self.count)(Step { seq: at, ..Step::default() });
        loop {
            let entries = store.read(at, LIMIT).await?;
            let Some(last) = entries.last().map(|entry| entry.seq) else {
                if noted != at {
                    self.note(store, at).await?;
                    (noted, when) = (at, Instant::now());
                }
                // The store closes with its last handle: there is nobody to deliver to then.
                if head.changed().await.is_err() {
                    return Err(StoreError::Closed);
                }
                continue;
            };
            let (fit, unfit): (Vec<_>, Vec<_>) =
                entries.iter().filter(|entry| self.admits(entry)).partition(|entry| self.fits(&entry.envelope));
            for entry in &unfit {
                debug!(door = %self.door, event = %entry.envelope.header().id, "no event of IntelMQ's: not delivered");
            }
            let texts: Vec<Bytes> = fit.iter().map(|entry| entry.envelope.write(self.shape).into()).collect();
            // Our own events come by here too: where there is nothing to give, the mark need not move each time.
            if !texts.is_empty() || last - at >= LIMIT.entries as u64 {
                if let Err(error) = self.sink.give(&texts, Mark { log: store.log_id(), seq: last }).await {
                    return Ok(error);
                }
                self.given = true;
                debug!(door = %self.door, given = texts.len(), seq = last, "delivered");
            }
            at = last;
            (self.count)(Step { given: texts.len() as u64, unfit: unfit.len() as u64, seq: last });
            if when.elapsed() >= NOTE_EVERY {
                self.note(store, at).await?;
                (noted, when) = (at, Instant::now());
            }
        }
    }

    async fn note(&mut self, store: &Store, seq: u64) -> Result<(), StoreError> {
        // A note without a record over there would look as if that record had been lost.
        if !self.given {
            return Ok(());
        }
        self.gate.note_sink(&self.door, encode(Mark { log: store.log_id(), seq })).await
    }

    /// What our own IntelMQ gave us does not go back to it.
    fn admits(&self, entry: &Entry) -> bool {
        entry.from.is_some() && (self.completions || !entry.completes)
    }

    /// On IntelMQ's pipeline, a message of another format stops the bot that reads it, with everything behind it.
    fn fits(&self, envelope: &Envelope) -> bool {
        let header = envelope.header();
        let pipeline = matches!(self.shape, Shape::Typed | Shape::Extra);
        !pipeline || (header.format == "intelmq" && header.kind != Kind::Withdrawal)
    }
}

fn encode(mark: Mark) -> Vec<u8> {
    [&mark.log.as_bytes()[..], &mark.seq.to_be_bytes()].concat()
}

fn decode(bytes: &[u8]) -> Option<Mark> {
    let (log, seq) = bytes.split_at_checked(16)?;
    Some(Mark { log: Uuid::from_slice(log).ok()?, seq: u64::from_be_bytes(seq.try_into().ok()?) })
}
