//! X25519 keys: whom a payload is encrypted to, and who opens it.

use std::fmt;
use std::str::FromStr;

use hpke::kem::X25519HkdfSha256 as Kem;
use hpke::{Deserializable, Kem as _, Serializable};
use serde::{Deserialize, Deserializer};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Before a node's seed, where its X25519 key is derived from it.
const DERIVED: &[u8] = b"intelmq-relay/1 encryption";
/// Before a key's bytes, where it is written as a text, which begins with `X25` by it.
const CODEC: [u8; 3] = [0x2d, 0xf9, 0xc0];
/// Bytes of a text's checksum.
const CHECK: usize = 4;

/// A node's X25519 public key. Operators see it as `X25…`, with a checksum: other than an Ed25519 key, a wrong one would
/// be noticed only by who cannot read what was encrypted to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EncryptionKey([u8; 32]);

/// Why something is no [`EncryptionKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncryptionKeyError {
    /// Not the text of one.
    #[error("no encryption key: expected the form X25… that `intelmq-relay id` prints, whole")]
    Text,
    /// Not canonical, or of small order.
    #[error("no canonical X25519 key of full order")]
    Point,
}

impl EncryptionKey {
    /// The key with these bytes; refused unless they are the canonical encoding of a point that is not of small order.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<EncryptionKey, EncryptionKeyError> {
        if is_x25519(&bytes) { Ok(EncryptionKey(bytes)) } else { Err(EncryptionKeyError::Point) }
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(super) fn point(&self) -> <Kem as hpke::Kem>::PublicKey {
        Deserializable::from_bytes(&self.0).expect("every 32 bytes are a public key of X25519")
    }
}

fn check(bytes: &[u8]) -> [u8; CHECK] {
    let hash = Sha256::digest(bytes);
    [hash[0], hash[1], hash[2], hash[3]]
}

impl FromStr for EncryptionKey {
    type Err = EncryptionKeyError;

    fn from_str(text: &str) -> Result<EncryptionKey, EncryptionKeyError> {
        let mut bytes = [0; CODEC.len() + 32 + CHECK];
        let length = bs58::decode(text).onto(&mut bytes[..]).map_err(|_| EncryptionKeyError::Text)?;
        let (said, sum) = bytes.split_at(CODEC.len() + 32);
        let key = said.strip_prefix(&CODEC).filter(|_| length == bytes.len() && check(said) == *sum);
        let key = key.and_then(|key| key.try_into().ok()).ok_or(EncryptionKeyError::Text)?;
        EncryptionKey::from_bytes(key)
    }
}

impl fmt::Display for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = [&CODEC[..], &self.0].concat();
        f.write_str(&bs58::encode([&said[..], &check(&said)].concat()).into_string())
    }
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> Deserialize<'de> for EncryptionKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<EncryptionKey, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A node's X25519 secret key. No `Debug`, no `Clone`; zeroised when dropped.
pub struct EncryptionSecret(pub(super) <Kem as hpke::Kem>::PrivateKey);

impl EncryptionSecret {
    /// The key of the node with this secret seed: RFC 9180's `DeriveKeyPair`, so that there is no second secret to keep.
    pub fn derive(seed: &[u8; 32]) -> EncryptionSecret {
        let mut material = Zeroizing::new([0; DERIVED.len() + 32]);
        material[..DERIVED.len()].copy_from_slice(DERIVED);
        material[DERIVED.len()..].copy_from_slice(seed);
        EncryptionSecret(Kem::derive_keypair(&material[..]).0)
    }

    /// The public half.
    pub fn key(&self) -> EncryptionKey {
        EncryptionKey(Kem::sk_to_pk(&self.0).to_bytes().into())
    }
}

/// Points of small order: whoever encrypted to one would encrypt to everybody.
const SMALL: [[u8; 32]; 2] = [
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09,
        0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04, 0x44,
        0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
    ],
];

/// Below p = 2^255 - 19, and none of the points of small order.
fn is_x25519(key: &[u8; 32]) -> bool {
    let rest_is = |from: usize, byte: u8| key[from..31].iter().all(|b| *b == byte);
    // p - 1 is of small order too.
    let high = key[31] > 0x7f || (key[31] == 0x7f && rest_is(1, 0xff) && key[0] >= 0xec);
    let low = key[31] == 0 && rest_is(1, 0) && key[0] <= 1;
    !high && !low && !SMALL.contains(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_written_and_no_slip_passes() {
        let key = EncryptionSecret::derive(&[1; 32]).key();
        let text = key.to_string();
        assert_eq!(text.parse(), Ok(key));
        assert_eq!(EncryptionKey::from_bytes(*key.as_bytes()), Ok(key));
        // Fixed: another one would leave a node without what was encrypted to it.
        assert_eq!(text, "X25YqKydC6PhPoPH6FeykJmzV5NgSqnthBFZKbQscoBjgumt5F9st");
        assert!(text.starts_with("X25"), "{text}");
        for at in 0..text.len() {
            let mut slip = text.clone().into_bytes();
            slip[at] = if slip[at] == b'x' { b'y' } else { b'x' };
            let slip = String::from_utf8(slip).unwrap();
            assert_eq!(slip.parse::<EncryptionKey>(), Err(EncryptionKeyError::Text), "{slip}");
        }
        for text in ["", "X25", &text[1..], &format!("{text}x"), "12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5"]
        {
            assert_eq!(text.parse::<EncryptionKey>(), Err(EncryptionKeyError::Text), "{text}");
        }
        assert_ne!(key, EncryptionSecret::derive(&[2; 32]).key());
    }

    #[test]
    fn nobody_encrypts_to_a_key_that_opens_to_everybody() {
        let mut one = [0; 32];
        one[0] = 1;
        let mut minus_one = [0xff; 32];
        (minus_one[0], minus_one[31]) = (0xec, 0x7f);
        let mut p = minus_one;
        p[0] = 0xed;
        for bytes in [[0; 32], one, minus_one, p, [0xff; 32], SMALL[0], SMALL[1]] {
            assert_eq!(EncryptionKey::from_bytes(bytes), Err(EncryptionKeyError::Point), "{bytes:x?}");
        }
        assert!(EncryptionKey::from_bytes([9; 32]).is_ok());
    }
}
