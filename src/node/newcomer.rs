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
use crate::config::{Config, Peer, Share, add_joined_peer, check_peer_address, edit_file};
use crate::envelope::Key;
use crate::invite::{Asked, Refusal, State};

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

fn not_now(reason: &str) -> Refusal {
    error!(reason, "a guest cannot be made a peer");
    Refusal::NotNow
}

/// A mistake and its remedy are two lines on a terminal; a line of the log stands alone.
fn one_line(reason: &dyn std::fmt::Display) -> String {
    reason.to_string().replace("\n  ", "; ").replace('\n', "; ")
}
