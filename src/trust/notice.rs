//! A notice: what a key says about itself. That another one follows it, or that it is void.
//!
//! ```text
//! signed    = [ notice: bytes, signature: bytes(64), signature by the next key: bytes(64) | null ]
//! signature = Ed25519(key, "intelmq-relay/1 notice" ‖ notice)
//! ```
//!
//! A next key signs too: nobody can make somebody else's key his own. Says nothing about whether a notice counts: that
//! is [`super::lines`]'.

use serde::{Deserialize, Serialize};
use serde_bytes::{ByteArray, ByteBuf};

use crate::envelope::{EncryptionKey, Key, Name, Secret};

/// The version of notices that this program writes and reads.
const VERSION: u8 = 1;

const DOMAIN: &[u8] = b"intelmq-relay/1 notice";
/// Bytes of a signed notice, at most.
pub const MAX_NOTICE: usize = 1024;

/// What a key says about itself. Times are ms since 1970, and those of the envelopes' headers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notice {
    /// 1.
    pub v: u8,
    /// Whose key it is.
    pub origin: Name,
    /// The key.
    pub key: Key,
    /// When it was made. For people only.
    pub time: u64,
    /// The key that follows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Key>,
    /// Of a succession: the key holds for what it sealed before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// Of a revocation: what the key sealed at this time or later is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<u64>,
    /// The X25519 key to encrypt to that goes with the next key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<ByteArray<32>>,
}

impl Notice {
    /// That `next` follows `key`, which holds for what it sealed before `until`.
    pub fn succession(origin: &Name, key: Key, next: Key, until: u64, time: u64) -> Notice {
        let (next, until) = (Some(next), Some(until));
        Notice { v: VERSION, origin: origin.clone(), key, time, next, until, revoked: None, encryption: None }
    }

    /// That `key` is void for what it sealed at `revoked` or later; with `next`, that only this one follows it.
    pub fn revocation(origin: &Name, key: Key, revoked: u64, next: Option<Key>, time: u64) -> Notice {
        let (revoked, until) = (Some(revoked), None);
        Notice { v: VERSION, origin: origin.clone(), key, time, next, until, revoked, encryption: None }
    }

    /// The same, with what is encrypted to the next key.
    #[must_use]
    pub fn encrypting(self, encryption: Option<EncryptionKey>) -> Notice {
        Notice { encryption: encryption.map(|key| ByteArray::new(*key.as_bytes())), ..self }
    }

    /// What is encrypted to the next key.
    pub(super) fn encryption(&self) -> Option<EncryptionKey> {
        self.encryption.and_then(|key| EncryptionKey::from_bytes(key.into_array()).ok())
    }

    fn encode(&self) -> Result<Vec<u8>, BadNotice> {
        self.check()?;
        // Encoding plain data into memory cannot fail.
        Ok(serde_cbor::to_vec(self).expect("a notice is plain data"))
    }

    fn decode(bytes: &[u8]) -> Result<Notice, BadNotice> {
        let notice: Notice =
            serde_cbor::from_slice(bytes).map_err(|e| version_of(bytes).unwrap_or_else(|| BadNotice::cbor(&e)))?;
        if notice.encode()? != bytes {
            return shape("its bytes are not in the one form that a notice has");
        }
        Ok(notice)
    }

    fn check(&self) -> Result<(), BadNotice> {
        if self.v != VERSION {
            return Err(BadNotice::Version(self.v.into()));
        }
        // A key that was decoded is not checked yet.
        if [Some(self.key), self.next].into_iter().flatten().any(|key| Key::from_bytes(*key.as_bytes()).is_err()) {
            return shape("a key in it is not a canonical Ed25519 public key");
        }
        if self.next == Some(self.key) {
            return shape("its key follows itself");
        }
        match (self.next, self.until, self.revoked) {
            (Some(_), Some(_), None) | (_, None, Some(_)) => {}
            _ => return shape("it names a next key and a time until which the old one holds, or a time of revocation"),
        }
        match &self.encryption {
            Some(_) if self.next.is_none() => shape("an encryption key goes with a next key"),
            Some(key) if EncryptionKey::from_bytes(key.into_array()).is_err() => {
                shape("its encryption key is no canonical X25519 key of full order")
            }
            _ => Ok(()),
        }
    }
}

/// A notice whose signatures hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedNotice {
    notice: Notice,
    encoded: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Wire(ByteBuf, ByteArray<64>, Option<ByteArray<64>>);

impl SignedNotice {
    /// Signs. `next` is the secret of the next key where there is one.
    pub fn sign(notice: Notice, secret: &Secret, next: Option<&Secret>) -> Result<SignedNotice, BadNotice> {
        if (notice.key, notice.next) != (secret.key(), next.map(Secret::key)) {
            return shape("these secrets are not those of the keys that it names");
        }
        let bytes = notice.encode()?;
        let sign = |secret: &Secret| ByteArray::new(secret.sign_as(DOMAIN, &bytes));
        let (by_key, by_next) = (sign(secret), next.map(sign));
        let wire = Wire(ByteBuf::from(bytes.clone()), by_key, by_next);
        // Encoding plain data into memory cannot fail.
        Ok(SignedNotice { notice, encoded: serde_cbor::to_vec(&wire).expect("a signed notice is plain data") })
    }

    /// Reads the bytes and verifies the signatures. `asked` sees the content before: what it declines costs no more.
    pub fn open(bytes: &[u8], asked: impl FnOnce(&Notice) -> bool) -> Result<Option<SignedNotice>, BadNotice> {
        if bytes.len() > MAX_NOTICE {
            return Err(BadNotice::TooBig(bytes.len()));
        }
        let wire: Wire = serde_cbor::from_slice(bytes).map_err(|e| BadNotice::cbor(&e))?;
        let notice = Notice::decode(&wire.0)?;
        // Encoding plain data into memory cannot fail.
        let encoded = serde_cbor::to_vec(&wire).expect("a signed notice is plain data");
        if encoded != bytes {
            return shape("its bytes are not in the one form that a signed notice has");
        }
        if !asked(&notice) {
            return Ok(None);
        }
        let Wire(content, by_key, by_next) = wire;
        let by_next = match (notice.next, by_next) {
            (Some(next), Some(signature)) => Some((next, signature)),
            (None, None) => None,
            (Some(_), None) => return shape("its next key has not signed it"),
            (None, Some(_)) => return shape("it has a second signature, and names no next key"),
        };
        for (key, signature) in [(notice.key, by_key)].into_iter().chain(by_next) {
            if !key.verifies(DOMAIN, &content, &signature) {
                return Err(BadNotice::Signature(key));
            }
        }
        Ok(Some(SignedNotice { notice, encoded }))
    }

    /// What it says.
    pub fn notice(&self) -> &Notice {
        &self.notice
    }

    /// The bytes, as they travel and are stored.
    pub fn bytes(&self) -> &[u8] {
        &self.encoded
    }
}

/// Why something is no notice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadNotice {
    /// Not the CBOR that it is made of.
    #[error("no notice: not its CBOR: {0}")]
    Cbor(String),
    /// Made by a newer program.
    #[error("notice version {0}; this program knows version 1: update it")]
    Version(u64),
    /// What no notice may say.
    #[error("no notice: {0}")]
    Shape(String),
    /// Over the bound.
    #[error("no notice: {0} bytes, at most {MAX_NOTICE} are allowed")]
    TooBig(usize),
    /// A signature that does not hold.
    #[error("the signature of {0} is not over this notice: it was changed, or signed as something else")]
    Signature(Key),
}

impl BadNotice {
    fn cbor(error: &serde_cbor::Error) -> BadNotice {
        // The text can quote the input: bounded, as it may end in a log line.
        BadNotice::Cbor(error.to_string().chars().filter(|c| !c.is_control()).take(120).collect())
    }
}

/// The version that a notice claims, when it is not ours: a better reason than the first unknown key.
fn version_of(bytes: &[u8]) -> Option<BadNotice> {
    #[derive(Deserialize)]
    struct Version {
        v: u64,
    }
    let version = serde_cbor::from_slice::<Version>(bytes).ok()?.v;
    (version != u64::from(VERSION)).then_some(BadNotice::Version(version))
}

fn shape<T>(what: &str) -> Result<T, BadNotice> {
    Err(BadNotice::Shape(what.into()))
}
