//! The desk: what an operator's commands ask the running node, and have it do.
//!
//! Owns who answers for an item in quarantine: the door that put it there.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::invitations::Invitations;
use super::keys::{self, NoticeFailed};
use super::roster::{self, PublishError};
use super::status::Board;
use super::{Core, lock};
use crate::envelope::{Key, Name, Recipient, Sealed};
use crate::intelmq::{Again, Intake, withdraw};
use crate::net::now;
use crate::store::{Held, IdNote, Outcome, Quarantined, Reader, StoreError};
use crate::watch::{self, Act, Invite, Recall};

/// How long a door may take for one event: it may be closed, or wait for a queue to get shorter.
const PATIENCE: Duration = Duration::from_secs(10);

/// The doors that are open, as whoever tries an item again sees them. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Hands(Arc<Mutex<BTreeMap<Name, Hand>>>);

/// A door.
#[derive(Clone)]
pub(super) enum Hand {
    Source(Arc<Intake>),
    Sink(mpsc::Sender<Again>),
}

impl Hands {
    pub(super) fn put(&self, door: Name, hand: Hand) {
        lock(&self.0).insert(door, hand);
    }

    pub(super) fn remove(&self, door: &Name) {
        lock(&self.0).remove(door);
    }
}

/// Answers for the node.
pub(super) struct Desk {
    pub(super) core: Arc<Core>,
    pub(super) board: Board,
    pub(super) hands: Hands,
    /// One item at a time: asked for twice, it must not go out twice.
    pub(super) turn: tokio::sync::Mutex<()>,
    pub(super) invitations: Arc<Invitations>,
}

impl watch::Node for Desk {
    fn report(&self) -> serde_json::Value {
        serde_json::to_value(self.board.status()).unwrap_or_default()
    }

    fn known(&self) -> watch::Known {
        let rules = self.core.gate.rules();
        watch::Known { me: rules.me.clone(), origins: rules.origins.clone() }
    }

    fn recipient(&self) -> &Recipient {
        &self.core.recipient
    }

    fn resend(&self, peer: &Name, since: u64) -> Result<String, String> {
        let Some((partner, linked)) = self.board.partner(peer) else {
            return Err(format!("there is no peer {peer}: `intelmq-relay peer list` shows those there are"));
        };
        partner.resend.send_replace(Some(since));
        let when = if linked { "now" } else { "as soon as there is a link" };
        Ok(format!(
            "{peer} is given again what it may have of the log since then, {when}; what it has already it declines"
        ))
    }

    fn write_notes(&self) -> std::pin::Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        Box::pin(async { self.core.gate.write_notes().await.map_err(|error| error.to_string()) })
    }

    fn publish(
        &self,
        roster: Vec<u8>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Vec<String>, String>> + Send + '_>> {
        Box::pin(async move {
            let published = roster::publish(&self.core.gate, &roster).await;
            if let Err(PublishError::Store(error)) = published {
                let text = error.to_string();
                // As every task that finds the store broken.
                let _ = self.core.failed.try_send(error);
                return Err(text);
            }
            let mut lines = published.map_err(|reason| reason.to_string())?;
            let (rules, ours) = (self.core.gate.rules(), self.core.recipient.key());
            lines.extend(rules.origins.encryption_of_us(&rules.me, &ours));
            Ok(lines)
        })
    }

    fn notice(
        &self,
        notice: Vec<u8>,
        at_once: bool,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Vec<String>, String>> + Send + '_>> {
        Box::pin(async move {
            let peers = lock(&self.core.keys.peers).clone();
            let noticed = keys::notice(&self.core.gate, &notice, at_once, &peers).await;
            if let Err(NoticeFailed::Store(error)) = noticed {
                let text = error.to_string();
                let _ = self.core.failed.try_send(error);
                return Err(text);
            }
            noticed.map_err(|reason| reason.to_string())
        })
    }

    fn recall<'a>(
        &'a self,
        recall: &'a Recall,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<String, String>> + Send + 'a>> {
        Box::pin(async move {
            let _turn = self.turn.lock().await;
            match recall {
                Recall::Withdraw { id, reason } => self.withdraw(*id, reason).await,
                Recall::Purge(id) => self.purge(*id).await,
                Recall::Replace { id, event, door } => self.replace(*id, event, door.as_ref()).await,
            }
        })
    }

    fn invite<'a>(
        &'a self,
        invite: &'a Invite,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Vec<String>, String>> + Send + 'a>> {
        Box::pin(self.invitations.tend(invite))
    }

    fn reload(&self) -> std::pin::Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        Box::pin(self.invitations.reload())
    }

    fn quarantine(
        &self,
        number: u64,
        act: Act,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<String, String>> + Send + '_>> {
        Box::pin(async move {
            let _turn = self.turn.lock().await;
            let text = |error: StoreError| stays(&error);
            let found = self.core.gate.store().quarantined(number.saturating_sub(1), 1).await.map_err(text)?;
            let item = found.into_iter().find(|(found, _)| *found == number).map(|(_, item)| item);
            let Some(item) = item else { return Err(GONE.into()) };
            match act {
                Act::Drop => {
                    self.core.gate.release(vec![number]).await.map_err(text)?;
                    if let Held::Envelope(envelope) = &item.held {
                        let (reader, header) = (Reader::Door(item.door.clone()), envelope.header());
                        let (origin, id, outcome) = (header.origin.clone(), header.id, Outcome::Dropped);
                        self.core.gate.note_id(IdNote { at: now(), reader, origin, id, outcome });
                    }
                    Ok("dropped".into())
                }
                Act::Retry => self.retry(number, item).await,
            }
        })
    }
}

impl Desk {
    async fn withdraw(&self, id: Uuid, reason: &str) -> Result<String, String> {
        let Core { gate, sealer, .. } = &*self.core;
        let withdrawal = withdraw(gate, sealer, id, reason, now()).await.map_err(|error| error.to_string())??;
        Ok(format!("{id} is withdrawn, by {withdrawal}\n{FOLLOWS}"))
    }

    async fn replace(&self, id: Uuid, event: &str, door: Option<&Name>) -> Result<String, String> {
        let sources: Vec<(Name, Arc<Intake>)> = lock(&self.hands.0)
            .iter()
            .filter_map(|(name, hand)| match hand {
                Hand::Source(intake) if door.is_none_or(|door| door == name) => Some((name.clone(), intake.clone())),
                _ => None,
            })
            .collect();
        let names = || sources.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        let (door, intake) = match (&*sources, door) {
            ([one], _) => one,
            ([], Some(door)) => return Err(format!("there is no door {door} that takes events")),
            ([], None) => return Err("no door takes events: there is none whose seal would hold for it".into()),
            (_, _) => return Err(format!("name the door whose seal shall hold for it, --door: {}", names())),
        };
        let new = intake.replace(id, event.as_bytes()).await.map_err(|error| error.to_string())??;
        Ok(format!("{id} is withdrawn, and replaced by {new}, sealed as what {door} takes\n{FOLLOWS}"))
    }

    async fn purge(&self, id: Uuid) -> Result<String, String> {
        let gate = &self.core.gate;
        let rules = gate.rules();
        let keys: Vec<Key> = rules.origins.all_keys().chain([&rules.key]).copied().collect();
        let (mut withdrawn, mut purged) = (false, 0);
        for key in keys.into_iter().filter(|key| gate.store().is_withdrawn(key, id)) {
            withdrawn = true;
            purged += gate.purge(&[(key, id)]).await.map_err(|error| error.to_string())?;
        }
        match (withdrawn, purged) {
            (false, _) => Err(format!("{id} is not withdrawn: only what its origin has withdrawn is purged")),
            (true, 0) => Ok(format!("{id} is withdrawn, and there are no fields of it here")),
            (true, copies) => Ok(format!(
                "{id} is purged: {copies} copies; id, header and seal stay. Until the store writes over the place, old \
                 bytes may be found in its file"
            )),
        }
    }

    async fn retry(&self, number: u64, item: Quarantined) -> Result<String, String> {
        let Quarantined { door, held, .. } = item;
        let hand = lock(&self.hands.0).get(&door).cloned();
        match (hand, held) {
            (Some(Hand::Source(intake)), Held::Item(item)) => {
                intake.retry(number, &item).await.map_err(|error| stays(&error))?.map_err(|reason| stays(&reason))?;
                Ok(format!("sealed, as taken by {door}"))
            }
            (Some(Hand::Sink(sink)), Held::Envelope(envelope)) => match deliver(&sink, number, *envelope).await {
                Ok(true) => Ok(format!("delivered by {door}")),
                Ok(false) => Err(GONE.into()),
                Err(reason) => Err(stays(&reason)),
            },
            (None | Some(_), _) => {
                Err(stays(&format!("the door {door}, which put it there, is not in the configuration any more")))
            }
        }
    }
}

/// What comes of a withdrawal.
const FOLLOWS: &str = "it is given to nobody any more; peers that may have it are told now, or as soon as they are back: \
                       there it is not delivered, or, where it was, their doors tell of it if they are set so";

/// What is said of an item that is not there, or not any more.
const GONE: &str = "is no item in quarantine";

fn stays(reason: &dyn Display) -> String {
    format!("stays in quarantine: {reason}")
}

/// Whether it was still in quarantine, and so is delivered.
async fn deliver(sink: &mpsc::Sender<Again>, number: u64, envelope: Sealed) -> Result<bool, String> {
    let (reply, answer) = oneshot::channel();
    let asked = async {
        sink.send(Again { number, envelope, reply }).await.ok()?;
        answer.await.ok()
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Some(answer)) => answer,
        Ok(None) => Err("the door has just been closed: try again".into()),
        Err(_) => Err(format!(
            "the door has not answered for {} seconds (see the log: is it closed, or its queue full?); it is tried \
             when the door opens",
            PATIENCE.as_secs()
        )),
    }
}
