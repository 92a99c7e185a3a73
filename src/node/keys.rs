//! Keys that change: whom peers may show themselves as, and when this node goes over to its next key.
//!
//! A peer that was met with a key is not met with an older one again. This node keeps its old key until every peer has
//! shown that it knows the next one; whoever waits longer than the old one holds does not wait any more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{Core, lock};
use crate::accept::{Gate, NoticeError, Noticed};
use crate::config::Config;
use crate::envelope::{Key, Name, rfc3339};
use crate::net::now;
use crate::store::{OpenError, Store, StoreError};

use super::settings;

/// How often times are looked at: a key may be over.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// So long before our old key ends we go over, whoever has not heard, ms: what it seals must be good when it arrives.
const MARGIN: u64 = 3600 * 1000;

/// So long, where an operator does not want to wait, peers that are linked have to show that they know the next key: a busy
/// link needs a moment to tell them, and whom nobody has told lets this node in no more.
const GRACE: Duration = Duration::from_secs(5);

/// What is known of keys in use.
#[derive(Default)]
pub(super) struct Keys {
    /// The peers' configured keys.
    pub(super) peers: Mutex<Vec<(Name, Key)>>,
    /// The keys that they were last met with, where they have several.
    met: Mutex<BTreeMap<Name, Key>>,
    /// What the net was told last.
    told: tokio::sync::Mutex<Vec<(Key, Vec<Key>)>>,
    /// The key that this node is to go over to.
    succeeds: watch::Sender<Option<Key>>,
}

impl Keys {
    /// What is known of the peers of this configuration.
    pub(super) async fn open(gate: &Gate, config: &Config) -> Result<Keys, StoreError> {
        let keys = Keys::default();
        keys.set_peers(gate, config).await?;
        Ok(keys)
    }

    async fn set_peers(&self, gate: &Gate, config: &Config) -> Result<(), StoreError> {
        let peers: Vec<(Name, Key)> = config.peers.iter().map(|peer| (peer.name.clone(), peer.key)).collect();
        for (name, _) in &peers {
            if let Some(key) = gate.last_met(name).await? {
                lock(&self.met).entry(name.clone()).or_insert(key);
            }
        }
        *lock(&self.peers) = peers;
        Ok(())
    }

    /// As whom peers, by their configured keys, may show themselves now.
    pub(super) fn identities(&self, gate: &Gate) -> Vec<(Key, Vec<Key>)> {
        let (rules, time) = (gate.rules(), now());
        let peers = lock(&self.peers).clone();
        let identities = peers.into_iter().map(|(name, key)| {
            let mut keys = rules.origins.identities(&name, time);
            let met = lock(&self.met).get(&name).and_then(|met| keys.iter().position(|key| key == met));
            keys.truncate(met.map_or(keys.len(), |met| met + 1));
            (key, keys)
        });
        identities.collect()
    }

    pub(super) fn succession(&self) -> Succession {
        Succession(self.succeeds.subscribe())
    }
}

/// When a node is to go over to its next key.
pub struct Succession(watch::Receiver<Option<Key>>);

impl Succession {
    /// Waits for it; the key. Never, where the node has ended. Safe to cancel.
    pub async fn wait(&self) -> Key {
        let key = self.0.clone().wait_for(Option::is_some).await.ok().and_then(|key| *key);
        match key {
            Some(key) => key,
            None => std::future::pending().await,
        }
    }
}

/// The rotation of our own key, as it stands.
#[derive(Debug, Clone, Serialize)]
pub struct RotationStatus {
    /// The key that is to follow.
    pub next: Key,
    /// What the key of now seals before this time holds.
    pub until: Option<String>,
    /// The peers that have not shown that they know it.
    pub waits_for: Vec<Name>,
}

impl RotationStatus {
    pub(super) fn of(gate: &Gate, peers: &[(Name, Key)]) -> Option<RotationStatus> {
        let (next, rotation) = (gate.succession()?, gate.rotation()?);
        let waits_for = peers.iter().map(|(name, _)| name).filter(|name| !rotation.told.contains(*name)).cloned();
        Some(RotationStatus { next: next.key, until: next.until.map(rfc3339), waits_for: waits_for.collect() })
    }
}

/// The peers are these now: what they may show themselves with is told to the net.
pub(super) async fn set_peers(core: &Core, config: &Config) -> Result<(), StoreError> {
    core.keys.set_peers(&core.gate, config).await?;
    core.keys.told.lock().await.clear();
    identify(core).await;
    Ok(())
}

/// A peer shows itself with this key.
pub(super) async fn meet(core: &Core, peer: &Name, key: Key) -> Result<(), StoreError> {
    let several = core.gate.rules().origins.identities(peer, now()).len() > 1;
    let before = lock(&core.keys.met).get(peer).copied();
    if before == Some(key) || (before.is_none() && !several) {
        return Ok(());
    }
    lock(&core.keys.met).insert(peer.clone(), key);
    core.gate.meet(peer, key).await?;
    identify(core).await;
    Ok(())
}

/// Tells the net whom peers may show themselves as now.
async fn identify(core: &Core) {
    let mut told = core.keys.told.lock().await;
    let identities = core.keys.identities(&core.gate);
    // Without a net, the node is about to end.
    if *told != identities && core.net.set_identities(identities.clone()).await.is_ok() {
        *told = identities;
    }
}

/// Looks after keys, for ever.
pub(super) async fn follow(core: Arc<Core>) {
    let mut changed = core.gate.watch_roster();
    let (mut said, mut outdated, mut wrong, mut hurried) = (None, Vec::new(), None, None);
    loop {
        changed.mark_unchanged();
        identify(&core).await;
        say_outdated(&core, &mut outdated);
        say_wrong(&core, &mut wrong);
        let wait = look_at_rotation(&core, &mut said, &mut hurried);
        // The gate lives as long as we.
        let _ = tokio::time::timeout(wait, changed.changed()).await;
    }
}

fn say_outdated(core: &Core, said: &mut Vec<(Name, Key, Key)>) {
    let outdated = core.gate.rules().origins.outdated();
    for (name, old, new) in outdated.iter().filter(|found| !said.contains(found)) {
        info!(
            %name, %old, %new,
            "relay.toml has an old key of this name, which works as long as this node remembers who followed: write the new one"
        );
    }
    *said = outdated;
}

/// The roster, which may come at any time and from any peer, has what others encrypt to us.
fn say_wrong(core: &Core, said: &mut Option<String>) {
    let rules = core.gate.rules();
    let wrong = rules.origins.encryption_of_us(&rules.me, &core.sealer.encryption);
    if let Some(reason) = wrong.as_ref().filter(|reason| said.as_ref() != Some(*reason)) {
        warn!("{reason}");
    }
    *said = wrong;
}

/// Goes over to the next key, if it is time. When to look again; `hurried` is since when an operator does not want to wait.
fn look_at_rotation(core: &Core, said: &mut Option<Vec<Name>>, hurried: &mut Option<Instant>) -> Duration {
    let peers = lock(&core.keys.peers).clone();
    let (Some(status), Some(rotation)) = (RotationStatus::of(&core.gate, &peers), core.gate.rotation()) else {
        return LOOK_EVERY;
    };
    let over = core.gate.succession().and_then(|next| next.until).is_none_or(|until| until <= now() + MARGIN);
    let RotationStatus { next, waits_for, .. } = status;
    if waits_for.is_empty() || rotation.now || over {
        let grace = GRACE.saturating_sub(hurried.get_or_insert_with(Instant::now).elapsed());
        if !waits_for.is_empty() && !grace.is_zero() {
            return grace;
        }
        if core.keys.succeeds.send_replace(Some(next)) == Some(next) {
            return LOOK_EVERY;
        }
        if waits_for.is_empty() {
            info!(%next, "every peer knows this node's next key: going over to it");
        } else {
            let why = if rotation.now { "as it was told to" } else { "as the old one is about to end" };
            warn!(
                %next, waits_for = list(&waits_for),
                "going over to the next key, {why}, before these peers have shown that they know it: they follow when they \
                 hear of it from another node, or when their operators write it into relay.toml"
            );
        }
    } else if said.as_ref() != Some(&waits_for) {
        info!(%next, waits_for = list(&waits_for), "this node's key is being rotated: the old one stays until these know");
        *said = Some(waits_for);
    }
    LOOK_EVERY
}

fn list(names: &[Name]) -> String {
    names.iter().map(Name::as_str).collect::<Vec<_>>().join(", ")
}

/// Why a notice is not held.
#[derive(Debug, thiserror::Error)]
pub enum NoticeFailed {
    /// It may not be.
    #[error("the notice is refused: {0}")]
    Refused(#[from] NoticeError),
    /// Nobody knows whose it is.
    #[error(
        "the notice is of an origin, or a key, that is not known here, or that the roster has revoked: of such a one none \
         follows but what the authorities list"
    )]
    Stranger,
    /// The store cannot be opened: a node may hold it.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// The store fails.
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// Takes a notice from an operator; what follows, a line each, for a person. `at_once`: our own rotation does not wait.
pub(super) async fn notice(
    gate: &Gate,
    bytes: &[u8],
    at_once: bool,
    peers: &[(Name, Key)],
) -> Result<Vec<String>, NoticeFailed> {
    let mut lines = Vec::new();
    match gate.notice(bytes).await?? {
        Noticed::New(notice) => {
            let (origin, key) = (&notice.origin, &notice.key);
            if let Some(next) = notice.next {
                lines.push(format!("It is known now that the key {key} of {origin} is followed by {next}."));
            }
            if let Some(from) = notice.revoked {
                lines.push(format!("The key {key} of {origin} is revoked, from {} on.", rfc3339(from)));
            }
            lines.push("Peers are told, now or as soon as they are back; and they tell theirs.".into());
        }
        Noticed::Same => lines.push("It is known already.".into()),
        Noticed::Stranger => return Err(NoticeFailed::Stranger),
    }
    if at_once {
        gate.rotate_now().await?;
    }
    if let Some(RotationStatus { next, until, waits_for }) = RotationStatus::of(gate, peers) {
        let until = until.map_or_else(String::new, |until| format!(", and the old one holds until {until}"));
        match (at_once, &*waits_for) {
            (_, []) => lines.push(format!("Every peer knows of it: this node goes over to {next} now{until}.")),
            (true, peers) => lines.push(format!(
                "This node goes over to {next} now{until}. These peers have not shown yet that they know it: {}. Those that \
                 are linked are told first, for {} seconds at most. The others let this node in when they have heard of it \
                 from another node that they are linked with; else their operators must write this key into relay.toml.",
                list(peers),
                GRACE.as_secs()
            )),
            (false, peers) => lines.push(format!(
                "This node goes over to {next} by itself{until}, when these peers know of it: {}. To wait no longer: \
                 intelmq-relay key rotate --now",
                list(peers)
            )),
        }
    }
    let rules = gate.rules();
    if let Some(from) = rules.origins.revoked(&rules.key) {
        lines.push(format!(
            "This is the key that this node has: what it seals from {} on is refused everywhere, and peers that know it let \
             it in no more, until it has a key that follows, or the authorities put a new one into the roster.",
            rfc3339(from)
        ));
    }
    Ok(lines)
}

/// The same for a node that does not run: `key` is its own. With the key that it is to go over to now, if any.
pub async fn notice_at_rest(
    config: &Config,
    key: &Key,
    bytes: &[u8],
    at_once: bool,
) -> Result<(Vec<String>, Option<Key>), NoticeFailed> {
    let store = Store::open(&config.node.data, &config.store).await?;
    let gate = Gate::new(store.clone(), settings::rules(config, key));
    let peers: Vec<(Name, Key)> = config.peers.iter().map(|peer| (peer.name.clone(), peer.key)).collect();
    let taken = async {
        gate.recall_roster().await?;
        gate.recall_notices().await?;
        let lines = notice(&gate, bytes, at_once, &peers).await?;
        let status = RotationStatus::of(&gate, &peers);
        let over = status.filter(|status| at_once || status.waits_for.is_empty());
        Ok((lines, over.map(|status| status.next)))
    };
    let taken = taken.await;
    store.close().await;
    taken
}

/// As whom peers, by their configured keys, may show themselves to a node that does not run: `key` is its own.
pub async fn identities_at_rest(config: &Config, key: &Key) -> Result<Vec<(Key, Vec<Key>)>, NoticeFailed> {
    let store = Store::open(&config.node.data, &config.store).await?;
    let gate = Gate::new(store.clone(), settings::rules(config, key));
    let known = async {
        gate.recall_roster().await?;
        gate.recall_notices().await?;
        Ok(Keys::open(&gate, config).await?.identities(&gate))
    };
    let known = known.await;
    store.close().await;
    known
}
