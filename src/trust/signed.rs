//! A roster as it travels: its exact bytes, and who signed them.
//!
//! ```text
//! signed    = [ roster: bytes, [ [ key: bytes(32), signature: bytes(64) ] … ] ]
//! signature = Ed25519(key, "intelmq-relay/1 roster" ‖ roster)
//! ```
//!
//! The signatures are looked at before the content: what nobody vouches for costs no more than that.

use serde::{Deserialize, Serialize};
use serde_bytes::{ByteArray, ByteBuf};
use sha2::{Digest, Sha256};

use super::roster::{MAX_AUTHORITIES, MAX_BYTES, Roster, within};
use super::{Trusted, Unfit};
use crate::envelope::{Key, Secret};

const DOMAIN: &[u8] = b"intelmq-relay/1 roster";
/// Bytes of the whole, at most.
pub const MAX_SIGNED: usize = MAX_BYTES + 16 + MAX_AUTHORITIES * 104;

/// A roster's bytes with signatures, verified or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    bytes: Vec<u8>,
    signatures: Vec<(Key, [u8; 64])>,
}

#[derive(Serialize, Deserialize)]
struct Wire(ByteBuf, Vec<(ByteArray<32>, ByteArray<64>)>);

impl Signed {
    /// A roster that nobody has signed.
    pub fn unsigned(roster: &Roster) -> Result<Signed, Unfit> {
        Ok(Signed { bytes: roster.encode()?, signatures: Vec::new() })
    }

    /// Reads what [`Signed::encode`] writes. Says nothing about whether the signatures are good.
    pub fn decode(bytes: &[u8]) -> Result<Signed, Unfit> {
        within("bytes", bytes.len(), MAX_SIGNED)?;
        let Wire(roster, list) = serde_cbor::from_slice(bytes).map_err(|e| Unfit::cbor(&e))?;
        within("signatures", list.len(), MAX_AUTHORITIES)?;
        within("bytes", roster.len(), MAX_BYTES)?;
        let mut signatures: Vec<(Key, [u8; 64])> = Vec::with_capacity(list.len());
        for (key, signature) in list {
            let key = Key::from_bytes(key.into_array())
                .map_err(|error| Unfit::Shape(format!("the key of a signature is {error}")))?;
            if signatures.iter().any(|(other, _)| *other == key) {
                return Err(Unfit::Twice(key));
            }
            signatures.push((key, signature.into_array()));
        }
        let signed = Signed { bytes: roster.into_vec(), signatures };
        if signed.encode() != bytes {
            return Err(Unfit::Shape("its bytes are not in the one form that a signed roster has".into()));
        }
        Ok(signed)
    }

    /// The bytes, as they travel and are stored.
    pub fn encode(&self) -> Vec<u8> {
        let pair = |(key, signature): &(Key, [u8; 64])| (ByteArray::new(*key.as_bytes()), ByteArray::new(*signature));
        let wire = Wire(ByteBuf::from(self.bytes.clone()), self.signatures.iter().map(pair).collect());
        // Encoding plain data into memory cannot fail.
        serde_cbor::to_vec(&wire).expect("a signed roster is plain data")
    }

    /// What was signed.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its SHA-256.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.bytes).into()
    }

    /// Who signed, as far as one believes it.
    pub fn signers(&self) -> impl ExactSizeIterator<Item = &Key> {
        self.signatures.iter().map(|(key, _)| key)
    }

    /// Adds a signature; one of the same key is replaced.
    pub fn sign(&mut self, secret: &Secret) {
        let key = secret.key();
        self.signatures.retain(|(other, _)| *other != key);
        self.signatures.push((key, secret.sign_as(DOMAIN, &self.bytes)));
    }

    /// The content, whoever signed it: to look at, never to act by.
    pub fn unverified(&self) -> Result<Roster, Unfit> {
        Roster::decode(&self.bytes)
    }

    /// The content, if enough of the authorities that are trusted have signed it. A signature that is not good is
    /// none of a careless authority's: whatever else is there, it is refused.
    pub fn open(&self, trusted: &Trusted) -> Result<Roster, Unfit> {
        let mut by = 0;
        for (key, signature) in &self.signatures {
            if !trusted.authorities.contains(key) {
                continue;
            }
            if !key.verifies(DOMAIN, &self.bytes, signature) {
                return Err(Unfit::Signature(*key));
            }
            by += 1;
        }
        // Zero is no threshold, whoever configured it.
        let needed = trusted.threshold.max(1) as usize;
        if by < needed {
            return Err(Unfit::TooFew { by, needed, of: trusted.authorities.len() });
        }
        let roster = Roster::decode(&self.bytes)?;
        if let Some(stranger) = self.signers().find(|key| !roster.authorities.contains(key)) {
            return Err(Unfit::Stranger(*stranger));
        }
        Ok(roster)
    }
}
