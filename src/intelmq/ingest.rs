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
use uuid::{Builder, Uuid};

use super::trouble::{HeldBack, Trouble};
use super::{Source, TakeLimit, recall, secrecy};
use crate::accept::{Gate, Own};
use crate::envelope::{Bounds, Draft, EncryptionKey, Kind, Message, Name, Sealed, Secret, Unreadable, seal_among};
use crate::link::Verdict;
use crate::policy::{Prepared, Sealing};
use crate::store::{Held, Quarantined, Store, StoreError};

/// What is taken at once: one commit.
const LIMIT: TakeLimit = TakeLimit { items: 512, bytes: 1 << 20 };
/// How long what was taken may take to be durable, when the door is to be closed.
const LAST: Duration = Duration::from_secs(1);
/// Leaves under one signature, be the envelopes among them ever so few: else their number would show in each. More
/// would cost a hash (32 bytes) more in each for every doubling.
const BATCH: usize = 64;

/// Who seals.
pub struct Sealer {
    /// Our name,
    pub name: Name,
    /// our key,
    pub secret: Arc<Secret>,
    /// what is encrypted to us,
    pub encryption: EncryptionKey,
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
        let (mut made, mut quarantine) = (Vec::with_capacity(items.len()), Vec::new());
        let held = |item, reason| {
            let (item, reason) = kept(item, reason);
            Quarantined { at: now, door: self.door.clone(), reason, held: Held::Item(item) }
        };
        for item in items {
            match self.draft(&item, now, &bounds) {
                Ok(drafted) => made.push((item, drafted)),
                Err(reason) => quarantine.push(held(item, reason)),
            }
        }
        let returned = made.iter().filter(|(_, drafted)| drafted.is_nothing()).count() as u64;
        // All that is withdrawn is looked for at once.
        let key = self.sealer.secret.key();
        self.gate.locate(made.iter().filter_map(|(_, drafted)| Some((key, drafted.withdraws.as_ref()?.0))), 0).await?;
        let mut drafts = Vec::with_capacity(made.len());
        for (item, drafted) in made {
            match self.complete(drafted, now).await? {
                Ok(own) => drafts.extend(own),
                Err(reason) => quarantine.push(held(item, reason)),
            }
        }
        let quarantined = quarantine.len() as u64;
        self.held_back.tell(&self.door, &quarantine);
        let position = Some((self.door.clone(), position));
        let own = Own { sealed: self.seal(drafts), position, quarantine, release: Vec::new() };
        let verdicts = self.gate.own(own, now).await?;
        let new = verdicts.iter().filter(|verdict| verdict.is_new()).count() as u64;
        let known = |verdict: &&Verdict| matches!(verdict, Verdict::Duplicate | Verdict::Withdrawn);
        let duplicates = returned + verdicts.iter().filter(known).count() as u64;
        debug!(door = %self.door, sealed = new, duplicates, quarantined, "committed");
        Ok(Taken { sealed: new, duplicates, quarantined })
    }

    /// Tries an item of the quarantine again: seals it and takes it out of there, in one step; else says why not.
    pub async fn retry(&self, number: u64, item: &Bytes) -> Result<Result<(), String>, StoreError> {
        let now = (self.now)();
        let drafts = match self.draft(item, now, &self.gate.rules().bounds) {
            Ok(drafted) => self.complete(drafted, now).await?,
            Err(reason) => Err(reason),
        };
        let drafts = match drafts {
            Ok(drafts) => drafts,
            Err(reason) => return Ok(Err(reason)),
        };
        let sealed = self.seal(drafts);
        let own = Own { sealed, release: vec![number], ..Own::default() };
        self.gate.own(own, now).await.map(|_| Ok(()))
    }

    /// Seals this event in the place of one of ours, which is withdrawn in the same step; the new one's id, or why not.
    pub async fn replace(&self, id: Uuid, event: &[u8]) -> Result<Result<Uuid, String>, StoreError> {
        let now = (self.now)();
        let bounds = self.gate.rules().bounds;
        let drafted = Message::read(event).map_err(|error| error.to_string()).and_then(|mut message| {
            message.links.replaces = Some(id);
            self.draft_of(message, now, &bounds)
        });
        let drafts = match drafted {
            Ok(drafted) if drafted.is_nothing() => Err("it came from a relay, and is known".into()),
            Ok(drafted) => self.complete(drafted, now).await?,
            Err(reason) => Err(reason),
        };
        let drafts = match drafts {
            Ok(drafts) => drafts,
            Err(reason) => return Ok(Err(reason)),
        };
        let new = drafts.first().map_or(id, |(draft, _)| draft.header().id);
        self.gate.own(Own { sealed: self.seal(drafts), ..Own::default() }, now).await?;
        Ok(Ok(new))
    }

    /// What is to be sealed: the event, and the withdrawal that belongs to it; or why neither is.
    async fn complete(&self, drafted: Drafted, now: u64) -> Result<Result<Vec<Prepare>, String>, StoreError> {
        let Drafted { own, withdraws } = drafted;
        let mut drafts: Vec<Prepare> = own.into_iter().collect();
        if let Some((id, reason)) = withdraws {
            match recall::draft(&self.gate, &self.sealer, id, &reason, now).await? {
                Ok(withdrawal) => drafts.push((withdrawal, Vec::new())),
                Err(reason) => return Ok(Err(reason)),
            }
        }
        Ok(Ok(drafts))
    }

    fn seal(&self, mut drafts: Vec<Prepare>) -> Vec<Sealed> {
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

    /// The item as an event of ours, or what it asks for; nothing if it came from a relay and is known; or why it is
    /// none, for a person.
    fn draft(&self, item: &Bytes, now: u64, bounds: &Bounds) -> Result<Drafted, String> {
        if item.len() > bounds.bytes {
            return Err(format!("{} bytes, more than limits.envelope_bytes = {}", item.len(), bounds.bytes));
        }
        let message = Message::read(item).map_err(|error: Unreadable| error.to_string())?;
        self.draft_of(message, now, bounds)
    }

    fn draft_of(&self, mut message: Message, now: u64, bounds: &Bounds) -> Result<Drafted, String> {
        message.flatten(bounds).map_err(|error| error.to_string())?;
        if let (Some(origin), Some(id)) = (&message.origin, message.id) {
            if self.gate.knows(origin, id) {
                return Ok(Drafted::default());
            }
            // Of ours, only this node's memory can be too short. Anybody else's is not ours to seal.
            if *origin != self.sealer.name {
                return Err(format!(
                    "it is {origin}'s event {id}, by its mark of a relay (extra.relay.origin or relay:origin), and this \
                     node has not seen it; without the mark it would go out as your own"
                ));
            }
        }
        if let Some(id) = message.links.withdraws {
            let reason = recall::reason(&message);
            return Ok(Drafted { own: None, withdraws: Some((id, reason)) });
        }
        if message.kind == Kind::Withdrawal {
            return Err("a withdrawal that names no event (relay:withdraws)".into());
        }
        let replaces = message.links.replaces;
        let default_tlp = self.gate.rules().policy.default_tlp;
        let Prepared { message, hide, content, encrypt, .. } =
            self.sealing.prepare(message, default_tlp).map_err(|unsealable| unsealable.to_string())?;
        let mut header = message.header(&self.sealer.name, random_id(), now);
        header.org = header.org.or(self.sealer.organisation);
        header.instance = header.instance.or(self.sealer.instance);
        header.content = content;
        header.key = self.sealer.secret.key();
        let draft = if encrypt {
            secrecy::secret(&self.gate, &self.sealer, header, &message.fields)?
        } else {
            Draft::new(header, message.fields, bounds).map_err(|error| error.to_string())?
        };
        if replaces == Some(draft.header().id) {
            return Err("it has the id of the event that it replaces".into());
        }
        let withdraws = replaces.map(|id| (id, recall::REPLACED.to_owned()));
        Ok(Drafted { own: Some((draft, hide)), withdraws })
    }
}

/// Not asked of the kernel: that would be a call for every event. The generator is seeded by it.
fn random_id() -> Uuid {
    Builder::from_random_bytes(rand::random()).into_uuid()
}

/// An event to be sealed, and the fields to hide of it.
type Prepare = (Draft, Vec<String>);

/// What becomes of an item.
#[derive(Default)]
struct Drafted {
    /// It is sealed as our own.
    own: Option<Prepare>,
    /// An event of ours is withdrawn, for this reason.
    withdraws: Option<(Uuid, String)>,
}

impl Drafted {
    fn is_nothing(&self) -> bool {
        self.own.is_none() && self.withdraws.is_none()
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
