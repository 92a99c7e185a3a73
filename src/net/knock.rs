//! Joining: a guest dials its host with the identity of the invitation, says who it is, and hears the answer.
//!
//! A small swarm of its own, for some seconds: the node of the guest need not run. The host is known by the key in the
//! line; whoever answers there with another is not spoken to.

use std::time::Duration;

use futures::StreamExt as _;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{self, DialError, SwarmEvent};
use libp2p::{PeerId, Swarm};

use super::address::{self, Address};
use super::guest::{GuestEnd, receive, send};
use super::join::{Join, News, Talk};
use super::peer::Configured;
use super::{keypair, peer_id, transport, trouble};
use crate::envelope::{EncryptionKey, EncryptionSecret, Name, Secret};
use crate::invite::{Asked, Invitation, Message, Parties, Refusal, Welcome, commitment, guest_nonce};

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The guest, as the host is to know it.
pub struct Joiner<'a> {
    #[allow(missing_docs)]
    pub name: &'a Name,
    #[allow(missing_docs)]
    pub secret: &'a Secret,
    /// Where it is dialled; none: it dials.
    pub addresses: Vec<String>,
}

/// The host has this node in its peer list now.
#[derive(Debug)]
pub struct Joined {
    /// The words that both operators compare.
    pub words: String,
    /// What is encrypted to the host.
    pub encryption: EncryptionKey,
    /// The host's program and version.
    pub software: String,
}

/// Why a node has not joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// An address in the invitation.
    #[error("the address {address} in the invitation is wrong: {reason}")]
    Address {
        #[allow(missing_docs)]
        address: String,
        #[allow(missing_docs)]
        reason: String,
    },
    /// The network cannot be set up.
    #[error("cannot set up the network: {0}")]
    Transport(std::io::Error),
    /// Nobody is there, or somebody else.
    #[error("cannot reach {host}: {reason}")]
    Unreachable {
        #[allow(missing_docs)]
        host: Name,
        #[allow(missing_docs)]
        reason: String,
    },
    /// Who is at the address has another key than the invitation says.
    #[error("the node at {address} has another key than {host} had when it invited: {obtained}")]
    OtherKey {
        #[allow(missing_docs)]
        host: Name,
        #[allow(missing_docs)]
        address: String,
        #[allow(missing_docs)]
        obtained: String,
    },
    /// It lets nobody in with this invitation.
    #[error("{0} is there, and lets nobody in with this invitation: it never had it, or has forgotten it")]
    TurnedAway(Name),
    /// It said why not.
    #[error("{host} says: {reason}")]
    Refused {
        #[allow(missing_docs)]
        host: Name,
        #[allow(missing_docs)]
        reason: Refusal,
    },
    /// The exchange did not come to its end.
    #[error("{host}: {reason}")]
    Broken {
        #[allow(missing_docs)]
        host: Name,
        #[allow(missing_docs)]
        reason: String,
    },
    /// The host calls itself something else.
    #[error("the node that invites calls itself {is}, and the invitation says {said}")]
    OtherName {
        #[allow(missing_docs)]
        is: Name,
        #[allow(missing_docs)]
        said: Name,
    },
}

/// Joins. After an error, and after a crash, it can be done again with the same invitation: the host knows this key.
pub async fn join(invitation: &Invitation, joiner: &Joiner<'_>) -> Result<Joined, JoinError> {
    let late = |_| broken(invitation, "it took too long; try again");
    let joining = async { Call::to(invitation).await?.join(invitation, joiner).await };
    tokio::time::timeout(PATIENCE, joining).await.map_err(late)?
}

fn broken(invitation: &Invitation, reason: impl Into<String>) -> JoinError {
    JoinError::Broken { host: invitation.host.clone(), reason: reason.into() }
}

/// A guest's connection with its host.
pub struct Call {
    swarm: Swarm<Join>,
    talk: Talk,
}

impl Call {
    /// Calls the host; it has let us in when this returns.
    pub async fn to(invitation: &Invitation) -> Result<Call, JoinError> {
        let id = peer_id(&invitation.key);
        let host = host(invitation, id)?;
        let resolved = address::resolve(host.addresses.clone()).await;
        let unreachable = |reason| JoinError::Unreachable { host: invitation.host.clone(), reason };
        if resolved.dialable.is_empty() {
            return Err(unreachable(resolved.failed.unwrap_or_else(|| "it has no address".into())));
        }
        let identity = keypair(&invitation.ticket.guest());
        let transport = transport::build(&identity).map_err(JoinError::Transport)?;
        let config = swarm::Config::with_tokio_executor();
        let mut swarm = Swarm::new(transport, Join::guest(), PeerId::from(identity.public()), config);
        let dial = DialOpts::peer_id(id).addresses(resolved.dialable).build();
        swarm.dial(dial).map_err(|error| unreachable(trouble::dialling(&error, &host)))?;
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::Behaviour((_, News::Opened(talk))) => return Ok(Call { swarm, talk }),
                // It closes at once, and does not say why.
                SwarmEvent::Behaviour((_, News::Ended)) | SwarmEvent::ConnectionClosed { .. } => {
                    return Err(JoinError::TurnedAway(invitation.host.clone()));
                }
                SwarmEvent::Behaviour((_, News::Refused(reason))) => return Err(broken(invitation, reason)),
                SwarmEvent::OutgoingConnectionError { error: DialError::WrongPeerId { obtained, address }, .. } => {
                    let (host, address, obtained) =
                        (invitation.host.clone(), address.to_string(), obtained.to_string());
                    return Err(JoinError::OtherKey { host, address, obtained });
                }
                SwarmEvent::OutgoingConnectionError { error, .. } => {
                    return Err(unreachable(trouble::dialling(&error, &host)));
                }
                _ => {}
            }
        }
    }

    /// Says something.
    pub async fn send(&mut self, message: &Message) -> Result<(), GuestEnd> {
        Ok(driven(&mut self.swarm, send(&mut self.talk, message)).await?)
    }

    /// Hears something.
    pub async fn receive(&mut self) -> Result<Message, GuestEnd> {
        driven(&mut self.swarm, receive(&mut self.talk)).await
    }

    async fn join(mut self, invitation: &Invitation, joiner: &Joiner<'_>) -> Result<Joined, JoinError> {
        let (ticket, key) = (invitation.ticket.guest().key(), joiner.secret.key());
        let ours = guest_nonce(joiner.secret, &ticket, &invitation.key);
        let asked = Asked {
            node: joiner.name.clone(),
            key,
            encryption: EncryptionSecret::derive(joiner.secret.expose_seed()).key(),
            addresses: joiner.addresses.clone(),
            software: super::SOFTWARE.into(),
            commitment: commitment(&ours).into(),
        };
        let ended = |end: GuestEnd| match end {
            GuestEnd::Closed(error) => {
                broken(invitation, format!("it went away ({error}); join again with the same line"))
            }
            end => broken(invitation, end.to_string()),
        };
        let refused = |reason| JoinError::Refused { host: invitation.host.clone(), reason };
        let out_of_place = || broken(invitation, GuestEnd::OutOfPlace.to_string());

        self.send(&Message::ask(&asked, joiner.secret, &ticket, &invitation.key)).await.map_err(ended)?;
        let theirs = match self.receive().await.map_err(ended)? {
            Message::Nonce(theirs) => theirs,
            Message::Refused(reason) => return Err(refused(reason)),
            _ => return Err(out_of_place()),
        };
        self.send(&Message::Nonce(ours)).await.map_err(ended)?;
        let Welcome { node, encryption, software } = match self.receive().await.map_err(ended)? {
            Message::Welcome(welcome) => welcome,
            Message::Refused(reason) => return Err(refused(reason)),
            _ => return Err(out_of_place()),
        };
        if node != invitation.host {
            return Err(JoinError::OtherName { is: node, said: invitation.host.clone() });
        }
        let parties = Parties { host: (&node, &invitation.key), guest: (joiner.name, &key), ticket: &ticket };
        Ok(Joined { words: parties.words(&theirs, &ours), encryption, software: super::short(&software) })
    }
}

/// The connection lives only as long as somebody drives it.
async fn driven<T>(swarm: &mut Swarm<Join>, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = swarm.select_next_some() => {}
        }
    }
}

/// The host, as what is dialled.
fn host(invitation: &Invitation, id: PeerId) -> Result<Configured, JoinError> {
    let read = |address: &String| {
        Address::parse(address, &id).map_err(|reason| JoinError::Address { address: address.clone(), reason })
    };
    let addresses = invitation.addresses.iter().map(read).collect::<Result<_, _>>()?;
    Ok(Configured { name: invitation.host.clone(), key: invitation.key, id, addresses })
}
