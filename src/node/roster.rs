//! The roster, taken from an operator: by a running node, or put into the store for the next start.

use crate::accept::{Gate, Published, RosterError};
use crate::config::Config;
use crate::envelope::Key;
use crate::store::{OpenError, Store, StoreError};

use super::settings;

/// Why a roster does not hold.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// It may not.
    #[error("the roster is refused: {0}")]
    Refused(#[from] RosterError),
    /// The store cannot be opened: a node may hold it.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// The store fails.
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// Takes a roster; what follows from it, a line each, for a person.
pub(super) async fn publish(gate: &Gate, bytes: &[u8]) -> Result<Vec<String>, PublishError> {
    let published = gate.publish(bytes).await??;
    let rules = gate.rules();
    let roster = rules.origins.roster().map(|held| held.roster());
    let which = roster.map_or_else(String::new, |roster| {
        format!("number {} of {}, {} members", roster.number, roster.network, roster.members.len())
    });
    let mut lines = match published {
        Published::Same => vec![format!("The roster holds already: {which}.")],
        Published::New(changes) => {
            let changes = changes.iter().map(|change| format!("  {change}"));
            [format!("The roster holds: {which}.")].into_iter().chain(changes).collect()
        }
    };
    lines.extend(rules.origins.contradictions(&rules.me, &rules.key));
    Ok(lines)
}

/// The same for a node that does not run: `key` is its own.
pub async fn publish_at_rest(config: &Config, key: &Key, bytes: &[u8]) -> Result<Vec<String>, PublishError> {
    let store = Store::open(&config.node.data, &config.store).await?;
    let gate = Gate::new(store.clone(), settings::rules(config, key));
    let published = async {
        gate.recall_roster().await?;
        publish(&gate, bytes).await
    };
    let published = published.await;
    store.close().await;
    published
}
