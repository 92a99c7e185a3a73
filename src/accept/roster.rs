//! The roster that holds: kept in the store, in force at once.
//!
//! What it must never do: let a roster hold that is not newer, or that is signed by fewer than the configuration asks
//! for; whether it came from an operator, from a peer or from our own store.

use std::sync::{Arc, PoisonError};

use tokio::sync::watch;

use super::{Gate, Rules};
use crate::link::Have;
use crate::store::{Commit, Cursor, StoreError};
use crate::trust::{Change, Held, Refused, Signed, Unfit, changes};

/// Changes that are logged one by one; the first roster of a large network has thousands.
const SAID: usize = 100;

/// Why a roster does not come to hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RosterError {
    /// Nobody's word counts.
    #[error("relay.toml has no [roster]: write the keys of its authorities there")]
    NotConfigured,
    /// Nothing can be stored.
    #[error("there is no room on the disk: free some, and publish it again")]
    NoRoom,
    /// Not a roster, or nobody whose word counts vouches for it.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// Vouched for, and does not follow the one that there is.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// What became of a roster that may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// It holds; with what it changes.
    New(Vec<Change>),
    /// It is the one that there was.
    Same,
}

impl Gate {
    /// Puts the roster of the store in force, if there is one and it is vouched for.
    pub async fn recall_roster(&self) -> Result<(), StoreError> {
        let _turn = self.roster_turn.lock().await;
        if self.rules().origins.trusted().is_none() || self.rules().origins.roster().is_some() {
            return Ok(());
        }
        let Some(bytes) = self.store.cursor(&Cursor::Roster).await? else { return Ok(()) };
        match Signed::decode(&bytes).map_err(RosterError::from).and_then(|signed| self.vouched(signed)) {
            Ok(held) => {
                tracing::info!(
                    network = %held.roster().network, number = held.roster().number, members = held.roster().members.len(),
                    "the roster holds"
                );
                self.put_in_force(&held);
            }
            Err(reason) => does_not_hold(&reason),
        }
        Ok(())
    }

    /// Takes a roster, if it is vouched for and newer: it is durable, and in force, when this returns. An error of the
    /// store means that the node must stop.
    pub async fn publish(&self, bytes: &[u8]) -> Result<Result<Published, RosterError>, StoreError> {
        let _turn = self.roster_turn.lock().await;
        let signed = match Signed::decode(bytes) {
            Ok(signed) => signed,
            Err(reason) => return Ok(Err(reason.into())),
        };
        // Cheap, whoever sends it how often.
        if self.rules().origins.roster().is_some_and(|held| held.signed().bytes() == signed.bytes()) {
            return Ok(Ok(Published::Same));
        }
        let held = match self.vouched(signed) {
            Ok(held) => held,
            Err(reason) => return Ok(Err(reason)),
        };
        let before = self.store.cursor(&Cursor::Roster).await?.and_then(|before| Signed::decode(&before).ok());
        // The one that there was, if it is that: it does not hold any more, or it would be in force, and now it does again.
        if let Err(reason) = before.as_ref().map_or(Ok(true), |before| held.follows(before)) {
            match &reason {
                Refused::Split { .. } => tracing::error!(%reason, "A SPLIT ROSTER is refused"),
                _ => tracing::warn!(%reason, "a roster is refused"),
            }
            return Ok(Err(reason.into()));
        }
        let cursors = vec![(Cursor::Roster, held.signed().encode())];
        // Not waited for: a link that brings one has other things to do.
        match self.store.commit(Commit { cursors, ..Commit::default() }).await {
            Err(StoreError::Full { .. }) => return Ok(Err(RosterError::NoRoom)),
            result => result?,
        };
        let old = before.and_then(|before| before.unverified().ok());
        let changed = changes(old.as_ref(), held.roster());
        say(&held, &changed);
        self.put_in_force(&held);
        // What waits may be somebody's whose key is known only now.
        self.announce();
        Ok(Ok(Published::New(changed)))
    }

    /// Which roster we have, as it is said to peers; `None`: none, and we take none.
    pub fn has_roster(&self) -> Option<Have> {
        let rules = self.rules();
        rules.origins.trusted()?;
        let have = |held: &Arc<Held>| Have {
            number: held.roster().number,
            network: Some(held.roster().network.clone()),
            digest: Some(held.digest().into()),
        };
        Some(rules.origins.roster().map(have).unwrap_or_default())
    }

    /// Changes when [`Gate::has_roster`] may say something else.
    pub fn watch_roster(&self) -> watch::Receiver<()> {
        self.roster_changed.subscribe()
    }

    fn vouched(&self, signed: Signed) -> Result<Arc<Held>, RosterError> {
        let rules = self.rules();
        let trusted = rules.origins.trusted().ok_or(RosterError::NotConfigured)?;
        Ok(Held::open(signed, trusted)?.into())
    }

    fn put_in_force(&self, held: &Arc<Held>) {
        let mut now = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        let mut rules = Rules::clone(&now);
        // Not vouched for any more only if the configuration has changed meanwhile.
        if let Ok(origins) = rules.origins.as_ref().clone().with(held) {
            rules.origins = origins.into();
            say_contradictions(&rules);
            *now = rules.into();
        }
        self.roster_changed.send_replace(());
    }
}

/// New rules go on with the notices of the old ones, and with their roster, if it is signed as they ask for.
pub(super) fn carry_over(old: &Rules, new: &mut Rules) {
    new.origins = Arc::new(new.origins.as_ref().clone().noticing(old.origins.notices().clone()));
    let Some(held) = old.origins.roster() else { return };
    match new.origins.as_ref().clone().with(held) {
        Ok(origins) => {
            new.origins = origins.into();
            say_contradictions(new);
        }
        Err(reason) => does_not_hold(&reason.into()),
    }
}

fn does_not_hold(reason: &RosterError) {
    tracing::error!(%reason, "the roster does not hold any more: publish one that is signed as [roster] asks for");
}

fn say(held: &Held, changed: &[Change]) {
    let roster = held.roster();
    tracing::info!(
        network = %roster.network, number = roster.number, members = roster.members.len(), changes = changed.len(),
        "a new roster holds"
    );
    let takes_away =
        |change: &&Change| matches!(change, Change::Removed(_) | Change::KeyRemoved(..) | Change::KeyRevoked(..));
    for change in changed.iter().filter(takes_away).take(SAID) {
        tracing::warn!(number = roster.number, %change, "the roster has changed");
    }
    for change in changed.iter().filter(|change| !takes_away(change)).take(SAID) {
        tracing::info!(number = roster.number, %change, "the roster has changed");
    }
}

fn say_contradictions(rules: &Rules) {
    for what in rules.origins.contradictions(&rules.me, &rules.key).into_iter().take(SAID) {
        tracing::warn!(what, "the roster and the configuration differ");
    }
}
