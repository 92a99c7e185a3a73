//! A guest that has said who it is: checked against the peers, and made one.
//!
//! Owns the order of what must outlive a crash: first the invitation is used, by this key and by no other; then the
//! peer stands in the file; then that is noted; then it holds in the running node; then the guest is told.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::Node;
use super::invitations::Invitations;
use crate::config::{Config, Peer, Share, add_joined_peer, check_peer_address, edit_file, one_line};
use crate::envelope::{Key, Name};
use crate::invite::{Asked, Refusal, State};
use crate::net::now;
use crate::trust::{KeyStanding, Origins};

/// What the node asks of whoever has its configuration file.
pub enum Change {
    /// It is to be read again; the answer is why the old one stays.
    Reload(oneshot::Sender<Result<(), String>>),
    /// Somebody has joined.
    Admit(Box<Newcomer>),
}

/// A guest that is about to become a peer.
pub struct Newcomer {
    pub(super) invitations: Arc<Invitations>,
    pub(super) ticket: Key,
    pub(super) asked: Asked,
    pub(super) words: String,
    pub(super) answer: oneshot::Sender<Result<(), Refusal>>,
}

impl Newcomer {
    /// Makes it a peer, in the file and in the running node, in test mode.
    pub async fn admit(self, node: &mut Node, file: &Path) {
        let admitted = admit(&self, node, file).await;
        if let Err(refusal) = admitted {
            warn!(guest = %self.asked.node, key = %self.asked.key, reason = %refusal, "a guest has not joined");
        }
        // A guest that has gone meanwhile comes again, with the same key.
        let _ = self.answer.send(admitted);
    }
}

async fn admit(newcomer: &Newcomer, node: &mut Node, file: &Path) -> Result<(), Refusal> {
    let Newcomer { invitations, ticket, asked, words, .. } = newcomer;
    let record = invitations.admits(ticket, &asked.node, &asked.key).await?;
    let mut config = node.config().clone();
    let before = in_file(file, asked, &node.core.sealer.secret.key())?;
    if before.is_none() {
        fits(&node.core.gate.rules().origins, &asked.node, &asked.key, now())?;
    }
    match (&record.state, &before) {
        // It had its answer, or missed it.
        (State::Used { done: true, .. }, Some(_)) => return Ok(()),
        // The operator has removed it since.
        (State::Used { done: true, .. }, None) => return Err(Refusal::Used),
        (State::Open | State::Cancelled(_) | State::Used { .. }, _) => {}
    }
    let take = async |done| invitations.take(ticket, asked.key, words, done).await.map_err(|reason| not_now(&reason));
    take(false).await?;
    let peer = match before {
        Some(peer) => Some(peer),
        None => {
            let give = if record.community { Share::Community } else { Share::None };
            let edit = |text: &str| {
                add_joined_peer(text, &asked.node, &asked.key, &asked.addresses, &give, &asked.encryption, words)
            };
            let edited = edit_file(file, edit).map_err(|reason| not_now(&one_line(&reason)))?;
            edited.peers.into_iter().find(|peer| peer.key == asked.key)
        }
    };
    take(true).await?;
    // What holds, and this peer: what else was changed in the file waits for its operator.
    config.peers.extend(peer.filter(|new| config.peers.iter().all(|peer| peer.key != new.key)));
    let (peer, software) = (&asked.node, &asked.software);
    info!(%peer, key = %asked.key, software, words, "joined by invitation, in test mode; compare these words with its operator's");
    if let Err(reason) = node.reload(config).await {
        // It stands in the file, and the guest need not come again.
        error!(%peer, %reason, "the new peer holds only after `intelmq-relay reload`, or a restart");
    }
    Ok(())
}

/// The guest as it stands in the file already, if it does; or why it cannot.
fn in_file(file: &Path, asked: &Asked, ours: &Key) -> Result<Option<Peer>, Refusal> {
    if asked.key == *ours {
        return Err(Refusal::OwnKey);
    }
    for address in &asked.addresses {
        check_peer_address(address, &asked.key).map_err(|_| Refusal::Malformed)?;
    }
    let config = Config::read(file).map_err(|reason| not_now(&one_line(&reason)))?;
    let same_name = |peer: &&Peer| peer.name == asked.node;
    match (config.peers.iter().find(same_name), config.peers.iter().find(|peer| peer.key == asked.key)) {
        (None, None) => Ok(None),
        (Some(peer), _) if peer.key == asked.key => Ok(Some(peer.clone())),
        (Some(_), _) => Err(Refusal::KnownName),
        (None, Some(_)) => Err(Refusal::KnownKey),
    }
}

/// Whether this name can be that of this key, by all that is known. What stands in the file comes before a roster, and
/// who has somebody's line must not be able to push a member aside by that.
fn fits(origins: &Origins, name: &Name, key: &Key, time: u64) -> Result<(), Refusal> {
    match origins.ask(name, key, time) {
        KeyStanding::Good => Ok(()),
        KeyStanding::Unknown if origins.all_keys().any(|known| known == key) => Err(Refusal::KnownKey),
        KeyStanding::Unknown => Ok(()),
        KeyStanding::Other(_) | KeyStanding::NotThen | KeyStanding::Revoked(_) => Err(Refusal::KnownName),
    }
}

fn not_now(reason: &str) -> Refusal {
    error!(reason, "a guest cannot be made a peer");
    Refusal::NotNow
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::envelope::Secret;
    use crate::trust::{Notice, SignedNotice};

    #[test]
    fn a_guest_pushes_nobody_aside_who_is_known() {
        let secret = |n: u8| Secret::from_seed(&[n; 32]);
        let name = |text: &str| -> Name { text.parse().unwrap() };
        let ee = name("cert-ee");
        let notice = Notice::succession(&ee, secret(1).key(), secret(2).key(), 1000, 0);
        let notice = SignedNotice::sign(notice, &secret(1), Some(&secret(2))).unwrap();
        let origins = Origins::new([(ee, secret(1).key())].into_iter(), None);
        let origins = origins.noticing(Arc::new(vec![Arc::new(notice)]));
        for (who, n, time, expected) in [
            ("cert-fi", 3, 0, Ok(())),
            ("cert-ee", 1, 999, Ok(())),
            ("cert-ee", 2, 1000, Ok(())),
            ("cert-ee", 1, 1000, Err(Refusal::KnownName)),
            ("cert-ee", 3, 0, Err(Refusal::KnownName)),
            ("cert-fi", 1, 0, Err(Refusal::KnownKey)),
            ("cert-fi", 2, 0, Err(Refusal::KnownKey)),
        ] {
            assert_eq!(fits(&origins, &name(who), &secret(n).key(), time), expected, "{who} {n} at {time}");
        }
    }
}
