//! Ingest: from a source through sealing to the gate.
//!
//! Owns that nothing a source gives is lost: what cannot be read as an event, or not be sealed as its door says, goes
//! into quarantine, with the reason, in the same commit. What is done to events before they are sealed is policy's. What a pipeline brings back is recognised here, so that no loop leads through the local IntelMQ.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use uuid::Uuid;

use super::trouble::{HeldBack, Trouble};
use super::{Source, TakeLimit};
use crate::accept::{Gate, Own};
use crate::envelope::{Bounds, Draft, Message, Name, Sealed, Secret, Unreadable, seal_among};
use crate::link::Verdict;
use crate::policy::{Prepared, Sealing};
use crate::store::{Held, Quarantined, Store, StoreError};

/// What is taken at once: one commit.
const LIMIT: TakeLimit = TakeLimit { items: 512, bytes: 1 << 20 };
/// How long what was taken may take to be durable, when the door is to be closed.
const LAST: Duration = Duration::from_millis(300);
/// Leaves under one signature, be the envelopes among them ever so few: else their number would show in each. More
/// would cost a hash (32 bytes) more in each for every doubling.
const BATCH: usize = 64;

/// Who seals.
pub struct Sealer {
    /// Our name,
    pub name: Name,
    /// our key,
    pub secret: Secret,
    /// IEP04 `uuid_org`,
    pub organisation: Option<Uuid>,
    /// and `uuid_instance`.
    pub instance: Option<Uuid>,
}

/// Counters of one source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Taken {
    /// Events sealed into the log,
    pub sealed: u64,
    /// those that were known already, or came from a relay,
    pub duplicates: u64,
    /// and items that could not be read.
    pub quarantined: u64,
}

/// One source and what happens to its items.
pub struct Ingest<S> {
    /// The door.
    pub source: S,
    /// Where its items go.
    pub intake: Arc<Intake>,
    /// Told after every commit.
    pub count: Box<dyn Fn(Taken) + Send + Sync>,
}

/// From items to sealed events in the log.
pub struct Intake {
    /// The door's name.
    pub door: Name,
    /// What is done to its events, and said of them.
    pub sealing: Sealing,
    #[allow(missing_docs)]
    pub sealer: Arc<Sealer>,
    #[allow(missing_docs)]
    pub gate: Gate,
    /// The time of day, ms since 1970.
    pub now: fn() -> u64,
    /// What is said of items that are no events.
    pub held_back: HeldBack,
}

impl<S: Source> Ingest<S> {
    /// Takes until it is stopped, then `None`, or until the store can go on no more. What was taken is committed and
    /// acknowledged first, unless that takes long: some doors' other side would send it again.
    pub async fn run(self, stop: CancellationToken) -> Option<StoreError> {
        let Ingest { mut source, intake, count } = self;
        let mut trouble = Trouble::new(intake.door.clone());
        let held_up = async {
            stop.cancelled().await;
            tokio::time::sleep(LAST).await;
        };
        let work = async {
            loop {
                match stop.run_until_cancelled(source.take(LIMIT)).await? {
                    Ok(taken) => {
                        trouble.over();
                        match intake.commit(taken.items, taken.position).await {
                            Ok(counts) => count(counts),
                            Err(error) => return Some(error),
                        }
                        if let Err(error) = source.committed().await {
                            trouble.wait(&error).await;
                        }
                    }
                    Err(error) => trouble.wait(&error).await,
                }
            }
        };
        tokio::select! {
            biased;
            ended = work => ended,
            () = held_up => None,
        }
    }
}

impl Intake {
    async fn commit(&self, items: Vec<Bytes>, position: Vec<u8>) -> Result<Taken, StoreError> {
        let now = (self.now)();
        let bounds = self.gate.rules().bounds;
        let (mut drafts, mut quarantine, mut returned) = (Vec::with_capacity(items.len()), Vec::new(), 0);
        for item in items {
            match self.draft(&item, now, &bounds) {
                Ok(Some(draft)) => drafts.push(draft),
                Ok(None) => returned += 1,
                Err(reason) => {
                    let (item, reason) = kept(item, reason);
                    quarantine.push(Quarantined { at: now, door: self.door.clone(), reason, held: Held::Item(item) });
                }
            }
        }
        let quarantined = quarantine.len() as u64;
        self.held_back.tell(&self.door, &quarantine);
        let position = Some((self.door.clone(), position));
        let own = Own { sealed: self.seal(drafts), position, quarantine, release: Vec::new() };
        let verdicts = self.gate.own(own, now).await?;
        let new = verdicts.iter().filter(|verdict| verdict.is_new()).count() as u64;
        let duplicates = returned + verdicts.iter().filter(|verdict| **verdict == Verdict::Duplicate).count() as u64;
        debug!(door = %self.door, sealed = new, duplicates, quarantined, "committed");
        Ok(Taken { sealed: new, duplicates, quarantined })
    }

    /// Tries an item of the quarantine again: seals it and takes it out of there, in one step; else says why not.
    pub async fn retry(&self, number: u64, item: &Bytes) -> Result<Result<(), String>, StoreError> {
        let now = (self.now)();
        let draft = match self.draft(item, now, &self.gate.rules().bounds) {
            Ok(draft) => draft,
            Err(reason) => return Ok(Err(reason)),
        };
        let sealed = self.seal(draft.into_iter().collect());
        let own = Own { sealed, release: vec![number], ..Own::default() };
        self.gate.own(own, now).await.map(|_| Ok(()))
    }

    fn seal(&self, mut drafts: Vec<(Draft, Vec<String>)>) -> Vec<Sealed> {
        let mut sealed = Vec::with_capacity(drafts.len());
        while !drafts.is_empty() {
            let rest = drafts.split_off(drafts.len().min(BATCH));
            let (batch, hide): (Vec<_>, Vec<_>) = std::mem::replace(&mut drafts, rest).into_iter().unzip();
            let batch = seal_among(BATCH, &self.sealer.secret, batch, &mut rand::rng()).into_iter().zip(hide);
            sealed.extend(batch.map(|(event, hide)| match &*hide {
                [] => event,
                hide => event.hide(|key| hide.iter().any(|name| name == key)),
            }));
        }
        sealed
    }

    /// The item as an event of ours, with the fields to hide; `None` if it came from a relay and is known; or why it is
    /// none, for a person.
    fn draft(&self, item: &Bytes, now: u64, bounds: &Bounds) -> Result<Option<(Draft, Vec<String>)>, String> {
        if item.len() > bounds.bytes {
            return Err(format!("{} bytes, more than limits.envelope_bytes = {}", item.len(), bounds.bytes));
        }
        let mut message = Message::read(item).map_err(|error: Unreadable| error.to_string())?;
        message.flatten(bounds).map_err(|error| error.to_string())?;
        if let (Some(origin), Some(id)) = (&message.origin, message.id) {
            if self.gate.knows(origin, id) {
                return Ok(None);
            }
            // Of ours, only this node's memory can be too short. Anybody else's is not ours to seal.
            if *origin != self.sealer.name {
                return Err(format!(
                    "it is {origin}'s event {id}, by its mark of a relay (extra.relay.origin or relay:origin), and this \
                     node has not seen it; without the mark it would go out as your own"
                ));
            }
        }
        let Prepared { message, hide, content, .. } =
            self.sealing.prepare(message).map_err(|unsealable| unsealable.to_string())?;
        let mut header = message.header(&self.sealer.name, Uuid::new_v4(), now);
        header.org = header.org.or(self.sealer.organisation);
        header.instance = header.instance.or(self.sealer.instance);
        header.content = content;
        let draft = Draft::new(header, message.fields, bounds).map_err(|error| error.to_string())?;
        Ok(Some((draft, hide)))
    }
}

/// Bytes of an item that are kept in quarantine, at most: the store takes no more, and a node that cannot store what
/// it has taken cannot go on.
const KEPT: usize = Store::LARGEST / 2;

/// What of an item is kept, and why it is there.
fn kept(item: Bytes, reason: String) -> (Bytes, String) {
    if item.len() <= KEPT {
        return (item, reason);
    }
    (item.slice(..KEPT), format!("{reason}; only the first {KEPT} bytes are kept"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_store_does_not_take_is_cut() {
        let (item, reason) = kept(Bytes::from(vec![b'x'; 3 * Store::LARGEST]), "too large".into());
        assert!(item.len() + reason.len() < Store::LARGEST);
        assert!(reason.starts_with("too large; only the first"), "{reason}");
        assert_eq!(kept(Bytes::from_static(b"{"), "no JSON".into()), (Bytes::from_static(b"{"), "no JSON".into()));
    }
}
