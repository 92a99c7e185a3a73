//! Recall: an event of our own no longer holds.
//!
//! Owns what a withdrawal says, and that this node withdraws only what it has sealed itself, with the key of today.

use serde_json::json;
use uuid::Uuid;

use super::ingest::Sealer;
use super::secrecy;
use crate::accept::{Gate, Own};
use crate::envelope::{Draft, Kind, Message, seal};
use crate::store::StoreError;

/// Longest reason, in bytes.
const MOST: usize = 4096;
/// The reason where another event takes the place. It does not name that one: not everybody may have it.
pub(super) const REPLACED: &str = "replaced";

/// The reason in a message of IntelMQ's that withdraws.
pub(super) fn reason(message: &Message) -> String {
    let field = |name: &str| message.fields.iter().find(|(key, _)| key == name);
    let text = field("reason").or_else(|| field("event_description.text"));
    let text = text.and_then(|(_, value)| serde_json::from_str::<String>(value).ok());
    text.unwrap_or_else(|| "withdrawn in its origin's IntelMQ".into())
}

/// The withdrawal of this event, ready to be sealed; or why there is none, for a person.
pub(super) async fn draft(
    gate: &Gate,
    sealer: &Sealer,
    id: Uuid,
    reason: &str,
    now: u64,
) -> Result<Result<Draft, String>, StoreError> {
    if reason.trim().is_empty() || reason.len() > MOST {
        return Ok(Err(format!("a withdrawal says why, in 1 to {MOST} bytes")));
    }
    let key = sealer.secret.key();
    if gate.store().is_withdrawn(&key, id) {
        return Ok(Err(format!("{id} is withdrawn already")));
    }
    let copies = gate.copies((key, id)).await?;
    let own = copies.iter().map(|entry| entry.envelope.header()).find(|header| header.origin == sealer.name);
    Ok(match own {
        Some(event) if event.kind == Kind::Withdrawal => {
            Err(format!("{id} is a withdrawal itself: send the event again instead"))
        }
        Some(event) => {
            let fields = vec![("reason".to_owned(), json!(reason).to_string())];
            let header = event.withdrawal(Uuid::new_v4(), now);
            let draft = if event.is_encrypted() {
                secrecy::withdrawal(gate, sealer, header, &fields)
            } else {
                Draft::new(header, fields, &gate.rules().bounds)
            };
            draft.map_err(|error| error.to_string())
        }
        None if gate.knows(&sealer.name, id) => Err(format!(
            "{id} is not in the log any more (store.log_days): this node does not know whom it would have to tell"
        )),
        None => Err(format!(
            "{id} is no event that this node has sealed with its key of today: only an event's origin can withdraw it"
        )),
    })
}

/// Withdraws an event of our own; the withdrawal's id, or why not.
pub async fn withdraw(
    gate: &Gate,
    sealer: &Sealer,
    id: Uuid,
    reason: &str,
    now: u64,
) -> Result<Result<Uuid, String>, StoreError> {
    let draft = match draft(gate, sealer, id, reason, now).await? {
        Ok(draft) => draft,
        Err(reason) => return Ok(Err(reason)),
    };
    let withdrawal = draft.header().id;
    let sealed = seal(&sealer.secret, vec![draft], &mut rand::rng());
    gate.own(Own { sealed, ..Own::default() }, now).await?;
    Ok(Ok(withdrawal))
}
