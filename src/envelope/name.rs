//! Who: the names of nodes, their public keys, and a node's own secret key.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A node's name: 1 to 63 of `[a-z0-9-]`, as `cert-at`. Held in place: envelopes are full of names, and an allocation for
/// each would cost more than all that is done with it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    /// Zeros behind the name. First, so that names are in the order of their texts.
    text: [u8; Name::MAX],
    length: u8,
}

/// Why a text is no [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no node name: 1 to 63 of the letters a-z, the digits and '-' are allowed")]
pub struct NameError(String);

impl Name {
    /// Longest name, in bytes.
    pub const MAX: usize = 63;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text[..usize::from(self.length)]).expect("a name is ASCII")
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Name, NameError> {
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if text.is_empty() || text.len() > Name::MAX || !text.bytes().all(legal) {
            // Bounded: the text may come from a peer and end in a log line.
            return Err(NameError(text.chars().take(Name::MAX + 1).collect()));
        }
        let mut name = Name { text: [0; Name::MAX], length: text.len() as u8 };
        name.text[..text.len()].copy_from_slice(text.as_bytes());
        Ok(name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A node's Ed25519 public key. Operators see it as a libp2p `PeerId` (`12D3KooW…`): the same key identifies the
/// node on the link and verifies its seals. The default is all zeros: nobody's, it verifies nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Key([u8; 32]);

/// Why something is no [`Key`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not the base58 form of an Ed25519 key.
    #[error("no Ed25519 PeerId: expected the form 12D3KooW… that `intelmq-relay id` prints")]
    Text,
    /// Not a canonically encoded point of full order.
    #[error("not a canonical Ed25519 public key")]
    Point,
}

/// What stands before the 32 bytes of an Ed25519 key in a PeerId: an identity multihash (0x00, 36 bytes) of the
/// protobuf `{ type: Ed25519, data: 32 bytes }`.
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

impl Key {
    /// The key with these bytes; refused unless they are the canonical encoding of a point that is not of small order.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Key, KeyError> {
        let point = VerifyingKey::from_bytes(&bytes).map_err(|_| KeyError::Point)?;
        if point.is_weak() || point.to_edwards().compress().to_bytes() != bytes {
            return Err(KeyError::Point);
        }
        Ok(Key(bytes))
    }

    /// A key that somebody names, and that is only ever compared with a known one.
    pub(super) fn unchecked(bytes: [u8; 32]) -> Key {
        Key(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether it has signed these bytes as what `domain` says. Strictly: no malleable signature, no key of small order.
    pub(crate) fn verifies(&self, domain: &'static [u8], bytes: &[u8], signature: &[u8; 64]) -> bool {
        let signature = Signature::from_bytes(signature);
        let message = [domain, bytes].concat();
        VerifyingKey::from_bytes(&self.0).is_ok_and(|point| point.verify_strict(&message, &signature).is_ok())
    }
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Key, KeyError> {
        let mut bytes = [0; 38];
        let length = bs58::decode(text).onto(&mut bytes[..]).map_err(|_| KeyError::Text)?;
        let key = bytes.strip_prefix(&PEER_ID_PREFIX).filter(|_| length == 38).ok_or(KeyError::Text)?;
        Key::from_bytes(key.try_into().map_err(|_| KeyError::Text)?)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; 38];
        bytes[..6].copy_from_slice(&PEER_ID_PREFIX);
        bytes[6..].copy_from_slice(&self.0);
        f.write_str(&bs58::encode(bytes).into_string())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { serializer.serialize_bytes(&self.0) }
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        if deserializer.is_human_readable() {
            let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
            return text.parse().map_err(serde::de::Error::custom);
        }
        // A key in a header is only ever compared with a configured one, which was checked to be a good point.
        serde_bytes::ByteArray::deserialize(deserializer).map(|bytes| Key(bytes.into_array()))
    }
}

/// A node's secret key. No `Debug`, no `Clone`; zeroised when dropped.
pub struct Secret(SigningKey);

impl Secret {
    /// The key pair of this seed (the 32 bytes that the key file holds).
    pub fn from_seed(seed: &[u8; 32]) -> Secret {
        Secret(SigningKey::from_bytes(seed))
    }

    /// The public half.
    pub fn key(&self) -> Key {
        Key(self.0.verifying_key().to_bytes())
    }

    /// The seed, for the transport's handshake and for keys that are derived from it. Visible on purpose: every use
    /// is a place where the secret leaves this type.
    pub fn expose_seed(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Signs these bytes as what `domain` says: no signature is good for anything else. No domain is the beginning of
    /// another.
    pub(crate) fn sign_as(&self, domain: &'static [u8], bytes: &[u8]) -> [u8; 64] {
        self.sign(&[domain, bytes].concat())
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}
