//! The line that an operator hands over, and the secret in it.
//!
//! ```text
//! line     = "relay-invite:" ‖ base64url(version ‖ content ‖ checksum)
//! content  = CBOR [host: text, key: bytes(32), addresses: [text…], secret: bytes(16), expires: ms, guest: text]
//! checksum = SHA-256("intelmq-relay/1 invitation" ‖ version ‖ content)[..4]
//! ```
//!
//! The checksum is against hands and mail programs; what somebody changes on purpose, the words show.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::envelope::{Key, Name, Secret};

/// What every line begins with.
const PREFIX: &str = "relay-invite:";
const VERSION: u8 = 1;
const CHECKSUM: &[u8] = b"intelmq-relay/1 invitation";
const CHECKSUM_BYTES: usize = 4;
const GUEST: &[u8] = b"intelmq-relay/1 join";
/// Characters of a line, at most.
const MAX_LINE: usize = 4096;
/// Addresses of a node, at most.
pub const MAX_ADDRESSES: usize = 8;
/// Bytes of an address.
const MAX_ADDRESS: usize = 340;
/// How long an invitation may be open, ms.
pub const LONGEST: u64 = 7 * 24 * 3600 * 1000;

/// The secret of an invitation. No `Debug`; zeroised when dropped.
pub struct Ticket(Zeroizing<[u8; 16]>);

impl Ticket {
    /// The ticket of these random bytes.
    pub fn new(bytes: Zeroizing<[u8; 16]>) -> Ticket {
        Ticket(bytes)
    }

    /// Who the guest is towards the host, until it is a peer. The host keeps the public half only.
    pub fn guest(&self) -> Secret {
        let seed: Zeroizing<[u8; 32]> =
            Zeroizing::new(Sha256::new().chain_update(GUEST).chain_update(&self.0[..]).finalize().into());
        Secret::from_seed(&seed)
    }
}

/// What the line says. Whoever has it can join.
pub struct Invitation {
    /// Who invites,
    pub host: Name,
    /// with which key,
    pub key: Key,
    /// and where it is dialled; at least one.
    pub addresses: Vec<String>,
    /// What lets the guest in.
    pub ticket: Ticket,
    /// When it ends, ms since 1970. The host goes by its own book.
    pub expires: u64,
    /// Whom it is for.
    pub guest: Name,
}

#[derive(Serialize, Deserialize)]
struct Content(Name, Key, Vec<String>, ByteArray<16>, u64, Name);

/// Why a text is no invitation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    /// It is not as it was printed.
    #[error("the invitation is damaged: {0}")]
    Text(&'static str),
    /// It was made by a relay that is newer than this one.
    #[error("the invitation is of version {0}, and this relay reads version {VERSION}")]
    Newer(u8),
}

impl Invitation {
    /// The line.
    ///
    /// # Panics
    /// When there are no addresses, or more or longer ones than a line may have.
    pub fn line(&self) -> Zeroizing<String> {
        assert!(self.is_bounded(), "an invitation has 1 to {MAX_ADDRESSES} addresses");
        let secret = ByteArray::new(*self.ticket.0);
        let content =
            Content(self.host.clone(), self.key, self.addresses.clone(), secret, self.expires, self.guest.clone());
        let mut bytes = Zeroizing::new(vec![VERSION]);
        // Encoding plain data into memory cannot fail.
        serde_cbor::to_writer(&mut *bytes, &content).expect("an invitation is plain data");
        let checksum = checksum(&bytes);
        bytes.extend_from_slice(&checksum);
        let mut line = Zeroizing::new(String::from(PREFIX));
        BASE64.encode_string(&bytes[..], &mut line);
        line
    }

    /// Reads a line. Blanks and line ends within are a mail program's, and count for nothing.
    pub fn read(text: &str) -> Result<Invitation, Damaged> {
        let damaged = |reason| Err(Damaged::Text(reason));
        let text: Zeroizing<String> =
            Zeroizing::new(text.chars().filter(|c| !c.is_whitespace()).take(MAX_LINE + 1).collect());
        if text.len() > MAX_LINE {
            return damaged("it is longer than any that a relay prints");
        }
        let Some(body) = text.strip_prefix(PREFIX) else {
            return damaged("it does not begin with relay-invite:");
        };
        let Ok(bytes) = BASE64.decode(body).map(Zeroizing::new) else {
            return damaged("it has characters that do not belong there, or its end is missing");
        };
        let Some((checked, sum)) = bytes.split_last_chunk::<CHECKSUM_BYTES>() else {
            return damaged("it is too short");
        };
        if checksum(checked) != *sum {
            return damaged("it was changed or cut on its way");
        }
        // What follows in another version is that one's.
        match checked.first() {
            Some(&VERSION) => {}
            Some(&version) => return Err(Damaged::Newer(version)),
            None => return damaged("it is empty"),
        }
        let Ok(Content(host, key, addresses, secret, expires, guest)) = serde_cbor::from_slice(&checked[1..]) else {
            return damaged("its content is none of an invitation");
        };
        let ticket = Ticket(Zeroizing::new(secret.into_array()));
        let invitation = Invitation { host, key, addresses, ticket, expires, guest };
        if Key::from_bytes(*key.as_bytes()).is_err() || !invitation.is_bounded() {
            return damaged("its content is none of an invitation");
        }
        // One content has one line.
        if *invitation.line() != *text {
            return damaged("its content is not in the one form that an invitation has");
        }
        Ok(invitation)
    }

    fn is_bounded(&self) -> bool {
        !self.addresses.is_empty() && are_bounded(&self.addresses)
    }
}

/// Whether addresses that another node says may be looked at.
pub(super) fn are_bounded(addresses: &[String]) -> bool {
    let plain = |address: &String| address.len() <= MAX_ADDRESS && address.bytes().all(|b| b.is_ascii_graphic());
    addresses.len() <= MAX_ADDRESSES && addresses.iter().all(plain)
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest: [u8; 32] = Sha256::new().chain_update(CHECKSUM).chain_update(bytes).finalize().into();
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&digest[..CHECKSUM_BYTES]);
    sum
}

#[cfg(test)]
pub(super) fn tests_only_line_of(bytes: &[u8]) -> String {
    format!("{PREFIX}{}", BASE64.encode([bytes, &checksum(bytes)].concat()))
}
