//! What host and guest say to each other. Bounded and strict.
//!
//! ```text
//! guest → asked      host → nonce      guest → nonce      host → welcome
//!                    or refused                           or refused
//! ```

use serde::{Deserialize, Serialize};
use serde_bytes::{ByteArray, ByteBuf};

use super::line::are_bounded;
use super::words::Nonce;
use crate::envelope::{EncryptionKey, Key, Name, Secret};

/// Bytes of a message.
pub const MAX_MESSAGE: usize = 4096;
/// Bytes of what a node calls its software.
const MAX_SOFTWARE: usize = 200;
const POSSESSION: &[u8] = b"intelmq-relay/1 possession";

/// A message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Message {
    /// The guest's first: an [`Asked`] in bytes, and the signature over it.
    Ask(ByteBuf, ByteArray<64>),
    /// A side's part of the words; the guest's second.
    Nonce(Nonce),
    /// The guest is a peer now.
    Welcome(Welcome),
    /// It is not, for this reason.
    Refused(Refusal),
}

/// Who the guest is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// What it calls itself.
    pub node: Name,
    /// Its key, of which it proves that it has it.
    pub key: Key,
    /// What others encrypt to.
    #[serde(with = "in_bytes")]
    pub encryption: EncryptionKey,
    /// Where it is dialled; none: it dials.
    pub addresses: Vec<String>,
    /// Program and version, for the log.
    pub software: String,
    /// What binds it to its nonce.
    pub commitment: ByteArray<32>,
}

/// What the host says in the end. Its key and addresses are in the line, and the link has proved them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Welcome {
    /// What it calls itself.
    pub node: Name,
    /// What others encrypt to.
    #[serde(with = "in_bytes")]
    pub encryption: EncryptionKey,
    /// Program and version, for the log.
    pub software: String,
}

/// Why a guest does not become a peer. The text is for its operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// Too late.
    #[error("the invitation has expired: ask for a new one")]
    Expired,
    /// Another node has joined with it.
    #[error(
        "the invitation was used already, and not by this node: if nobody of yours has, somebody else has read it; tell \
         the operator there, who should remove that peer"
    )]
    Used,
    /// Its operator has taken it back.
    #[error("the invitation was withdrawn: ask for a new one")]
    Cancelled,
    /// It is for another node.
    #[error("the invitation is for a node of another name: ask for one with the name of this node")]
    OtherName,
    /// The key is the host's own.
    #[error("this node has the key of the node that invites: one of the two must make a key of its own")]
    OwnKey,
    /// A node of another name is known with this key.
    #[error("this node's key is that of another one that it knows: one of the two must make a key of its own")]
    KnownKey,
    /// A node of this name is known with another key.
    #[error(
        "it knows a node of this name with another key: its operator must remove that peer first, or, where its roster has \
         that key, have it corrected"
    )]
    KnownName,
    /// What was said does not hold together.
    #[error("it could not make sense of what this relay said: one of the two relays may have to be updated")]
    Malformed,
    /// Not the guest's fault.
    #[error(
        "it could not take a new peer just now: its log says why; when that is mended, join again with the same line"
    )]
    NotNow,
}

/// Why a message, or what is in it, cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(&'static str);

impl Message {
    /// The bytes that [`Message::decode`] reads.
    pub fn encode(&self) -> Vec<u8> {
        // Encoding plain data into memory cannot fail.
        serde_cbor::to_vec(self).expect("a message is plain data")
    }

    /// Reads a message.
    pub fn decode(bytes: &[u8]) -> Result<Message, Unreadable> {
        if bytes.len() > MAX_MESSAGE {
            return Err(Unreadable("the message is too long"));
        }
        let message: Message = serde_cbor::from_slice(bytes).map_err(|_| Unreadable("the message cannot be read"))?;
        if message.encode() != bytes {
            return Err(Unreadable("the message is not in the one form that it has"));
        }
        if matches!(&message, Message::Welcome(welcome) if !is_legible(&welcome.software)) {
            return Err(Unreadable("what the host says of itself is too long, or no text"));
        }
        Ok(message)
    }

    /// The guest's first message. It is good for this host and this invitation only.
    pub fn ask(asked: &Asked, guest: &Secret, ticket: &Key, host: &Key) -> Message {
        let content = asked.encode();
        let signature = guest.sign_as(POSSESSION, &signed(ticket, host, &content));
        Message::Ask(ByteBuf::from(content), ByteArray::new(signature))
    }

    /// Who asks, if it has proved that it has the key.
    pub fn asked(&self, ticket: &Key, host: &Key) -> Result<Asked, Unreadable> {
        let Message::Ask(content, signature) = self else {
            return Err(Unreadable("the guest's first message says not who it is"));
        };
        let asked: Asked =
            serde_cbor::from_slice(content).map_err(|_| Unreadable("what the guest says of itself cannot be read"))?;
        if asked.encode() != **content {
            return Err(Unreadable("what the guest says of itself is not in the one form that it has"));
        }
        if Key::from_bytes(*asked.key.as_bytes()).is_err() {
            return Err(Unreadable("the guest's key is none"));
        }
        if !asked.key.verifies(POSSESSION, &signed(ticket, host, content), signature) {
            return Err(Unreadable("the guest has not the key that it says is its own"));
        }
        if !is_legible(&asked.software) || !are_bounded(&asked.addresses) {
            return Err(Unreadable("what the guest says of itself is too long, or no text"));
        }
        Ok(asked)
    }
}

impl Asked {
    fn encode(&self) -> Vec<u8> {
        // Encoding plain data into memory cannot fail.
        serde_cbor::to_vec(self).expect("a message is plain data")
    }
}

/// What may stand in a log and on a terminal.
fn is_legible(software: &str) -> bool {
    software.len() <= MAX_SOFTWARE && !software.chars().any(char::is_control)
}

/// A key to encrypt to, as its bytes.
mod in_bytes {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
    use serde_bytes::ByteArray;

    use crate::envelope::EncryptionKey;

    pub(super) fn serialize<S: Serializer>(key: &EncryptionKey, serializer: S) -> Result<S::Ok, S::Error> {
        ByteArray::new(*key.as_bytes()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<EncryptionKey, D::Error> {
        let bytes = ByteArray::<32>::deserialize(deserializer)?;
        EncryptionKey::from_bytes(bytes.into_array()).map_err(D::Error::custom)
    }
}

fn signed(ticket: &Key, host: &Key, content: &[u8]) -> Vec<u8> {
    [ticket.as_bytes(), host.as_bytes(), content].concat()
}
