//! The desk: what an operator's commands ask the running node, and have it do.
//!
//! Owns who answers for an item in quarantine: the door that put it there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::status::Board;
use super::{Core, lock};
use crate::envelope::{Name, Sealed};
use crate::intelmq::{Again, Intake};
use crate::net::now;
use crate::store::{Held, IdNote, Outcome, Quarantined, Reader, StoreError};
use crate::watch::{self, Act};

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
}

impl watch::Node for Desk {
    fn report(&self) -> serde_json::Value {
        serde_json::to_value(self.board.status()).unwrap_or_default()
    }

    fn write_notes(&self) -> std::pin::Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        Box::pin(async { self.core.gate.write_notes().await.map_err(|error| error.to_string()) })
    }

    fn quarantine(
        &self,
        number: u64,
        act: Act,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<String, String>> + Send + '_>> {
        Box::pin(async move {
            let _turn = self.turn.lock().await;
            let text = |error: StoreError| error.to_string();
            let found = self.core.gate.store().quarantined(number.saturating_sub(1), 1).await.map_err(text)?;
            let item = found.into_iter().find(|(found, _)| *found == number).map(|(_, item)| item);
            let Some(item) = item else { return Err("there is no item with this number".into()) };
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
    async fn retry(&self, number: u64, item: Quarantined) -> Result<String, String> {
        let Quarantined { door, held, .. } = item;
        let hand = lock(&self.hands.0).get(&door).cloned();
        match (hand, held) {
            (Some(Hand::Source(intake)), Held::Item(item)) => {
                intake.retry(number, &item).await.map_err(|error| error.to_string())??;
                Ok(format!("sealed, as taken by {door}"))
            }
            (Some(Hand::Sink(sink)), Held::Envelope(envelope)) => {
                deliver(&sink, number, *envelope).await?;
                Ok(format!("delivered by {door}"))
            }
            (None | Some(_), _) => {
                Err(format!("the door {door}, which put it there, is not in the configuration any more"))
            }
        }
    }
}

async fn deliver(sink: &mpsc::Sender<Again>, number: u64, envelope: Sealed) -> Result<(), String> {
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
