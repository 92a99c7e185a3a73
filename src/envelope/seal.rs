//! Sealing, verifying and hiding: the three things that touch digests.
//!
//! ```text
//! salt_i = SHA-256(seed ‖ i)[..16]          d_i = SHA-256(salt_i ‖ len(key) ‖ key ‖ value)
//! leaf   = SHA-256(0x00 ‖ "intelmq-relay/1 envelope" ‖ SHA-256(header) ‖ d_1 … d_n)
//! seal   = Ed25519("intelmq-relay/1 seal" ‖ root of the leaves ‖ count)
//! ```
//!
//! Integers are 32 bits, big-endian. Fields are hashed one by one, so that a relay can put a digest in a field's
//! place and the origin's signature still verifies; the salt keeps the field from being guessed.

use std::collections::{HashSet, VecDeque};
use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use ed25519_dalek::{Signature, VerifyingKey};
use rand::CryptoRng;
use rand::seq::SliceRandom;
use sha2::{Digest, Sha256};

use super::hop::WireHop;
use super::merkle::{Hash, Tree, root_of};
use super::wire::{Bounds, Envelope, Field, MAX_BATCH, Malformed, RawField, Seal, within};
use super::{Header, Name, Secret, id};

const LEAF: &[u8] = b"intelmq-relay/1 envelope";
const SEAL: &[u8] = b"intelmq-relay/1 seal";

/// What an envelope has beside header and fields, at most: seed, seal, proof, path of one and CBOR's own bytes.
const FRAME_BYTES: usize = 640;

/// An event ready to be sealed: within all bounds, so that sealing cannot fail.
#[derive(Debug)]
pub struct Draft {
    header: Header,
    /// The header as it is signed, if its key stays.
    encoded: Vec<u8>,
    fields: Vec<(String, String)>,
}

impl Draft {
    /// Checks everything that a receiver will check. `header.n` is set here, and `header.key` when sealing, if it is another;
    /// with `header.content`, `header.id` is computed from the fields. The fields' values are JSON, and no key is there
    /// twice: see [`Message`](super::Message).
    pub fn new(mut header: Header, fields: Vec<(String, String)>, bounds: &Bounds) -> Result<Draft, Malformed> {
        within("fields", fields.len(), bounds.fields)?;
        let bytes: usize = fields.iter().map(|(key, value)| key.len() + value.len() + 12).sum();
        within("envelope_bytes", bytes, bounds.bytes)?;
        header.n = fields.len() as u32;
        header.check()?;
        if let Some(without) = &header.content {
            header.id = id::of_content(fields.iter().map(|(k, v)| (k.as_str(), v.as_str())), without);
        }
        let encoded = header.encode();
        within("envelope_bytes", bytes + encoded.len() + FRAME_BYTES, bounds.bytes)?;
        Ok(Draft { header, encoded, fields })
    }

    /// The id that the envelope will have.
    pub fn header(&self) -> &Header {
        &self.header
    }
}

/// An envelope whose seal is valid: made here, verified here, or read back from our own store.
#[derive(Debug, Clone)]
pub struct Sealed(Envelope);

impl Deref for Sealed {
    type Target = Envelope;

    fn deref(&self) -> &Envelope {
        &self.0
    }
}

/// Seals a batch with one signature. `rng` gives the seeds of the salts.
///
/// # Panics
/// When there are more than [`MAX_BATCH`] drafts.
pub fn seal(secret: &Secret, drafts: Vec<Draft>, rng: &mut impl CryptoRng) -> Vec<Sealed> {
    let places = (0..drafts.len()).collect();
    seal_at(secret, drafts, places, rng)
}

/// The same, at random places among so many leaves, of which the others are noise: who is given a part of the batch
/// finds out by its seals neither how many others there are nor where they lie between.
///
/// # Panics
/// When there are more than [`MAX_BATCH`] drafts or leaves.
pub fn seal_among(leaves: usize, secret: &Secret, drafts: Vec<Draft>, rng: &mut impl CryptoRng) -> Vec<Sealed> {
    let mut places: Vec<usize> = (0..leaves.max(drafts.len())).collect();
    places.shuffle(rng);
    seal_at(secret, drafts, places, rng)
}

/// `places` are those of the drafts, and then those of noise.
fn seal_at(secret: &Secret, drafts: Vec<Draft>, places: Vec<usize>, rng: &mut impl CryptoRng) -> Vec<Sealed> {
    assert!(places.len() <= MAX_BATCH as usize, "a batch holds at most {MAX_BATCH}");
    if drafts.is_empty() {
        return Vec::new();
    }
    let key = secret.key();
    let mut leaves = vec![Hash::default(); places.len()];
    places[drafts.len()..].iter().for_each(|place| rng.fill_bytes(&mut leaves[*place]));
    let mut parts = Vec::with_capacity(drafts.len());
    for (mut draft, place) in drafts.into_iter().zip(places) {
        if draft.header.key != key {
            draft.header.key = key;
            draft.encoded = draft.header.encode();
        }
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        let digests =
            draft.fields.iter().zip(0..).map(|((k, v), i)| field_digest(&salt(&seed, i), k.as_bytes(), v.as_bytes()));
        leaves[place] = leaf(&draft.encoded, digests);
        parts.push((draft, seed, place));
    }
    let count = leaves.len() as u32;
    let tree = Tree::new(leaves);
    let signature = secret.sign(&signed(&tree.root(), count));
    let sealed = parts.into_iter().map(|(draft, seed, place)| {
        let seal = Seal { index: place as u32, count, proof: tree.proof(place), signature };
        let Draft { header, encoded, fields } = draft;
        let sealed = Sealed(Envelope::made(header, &encoded, &fields, seed, seal));
        debug_assert!(Sealed::reopen(sealed.bytes().clone()).is_ok(), "a draft holds what it promises");
        sealed
    });
    sealed.collect()
}

/// Why a seal does not hold: the envelope was changed, or never sealed by the key in its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSeal {
    /// The inclusion proof has not the length that its batch asks for.
    #[error("its inclusion proof does not fit its batch")]
    Proof,
    /// The header's key is no good key.
    #[error("its key is not a canonical Ed25519 public key")]
    Key,
    /// The signature is not the key's over this content.
    #[error("its signature does not verify")]
    Signature,
    /// The id says that it is made of the content, and is not.
    #[error("its id is not that of its content")]
    ContentId,
}

/// Verifies seals, and remembers the roots that it verified: an envelope of a batch that was seen costs hashes only.
/// Several threads may verify with it at a time.
pub struct Verifier(Mutex<Roots>);

struct Roots {
    /// Keyed by a digest of key, root, count *and signature*: a wrong signature over a known root must not pass, or
    /// the next node would refuse what we passed on.
    known: HashSet<Hash>,
    order: VecDeque<Hash>,
    capacity: usize,
}

impl Verifier {
    /// A verifier that remembers this many roots (32 bytes each, twice).
    pub fn new(capacity: usize) -> Verifier {
        Verifier(Mutex::new(Roots { known: HashSet::new(), order: VecDeque::new(), capacity: capacity.max(1) }))
    }

    /// Verifies the seal against the key in the header. Whether that key is the origin's is asked before, by whoever
    /// knows the origins.
    pub fn open(&self, envelope: Envelope) -> Result<Sealed, BadSeal> {
        let seal = envelope.seal();
        let root = root_of(envelope.leaf(), seal.index, seal.count, &seal.proof).ok_or(BadSeal::Proof)?;
        let key = envelope.header().key;
        let signed = signed(&root, seal.count);
        let known: Hash = Sha256::new()
            .chain_update(key.as_bytes())
            .chain_update(&signed)
            .chain_update(seal.signature)
            .finalize()
            .into();
        if !self.roots().known.contains(&known) {
            let point = VerifyingKey::from_bytes(key.as_bytes()).map_err(|_| BadSeal::Key)?;
            let signature = Signature::from_bytes(&seal.signature);
            point.verify_strict(&signed, &signature).map_err(|_| BadSeal::Signature)?;
            self.roots().remember(known);
        }
        if let Some(without) = &envelope.header().content
            && envelope.hidden() == 0
            && envelope.header().id != id::of_content(id::open_fields(&envelope), without)
        {
            return Err(BadSeal::ContentId);
        }
        Ok(Sealed(envelope))
    }

    fn roots(&self) -> MutexGuard<'_, Roots> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Roots {
    fn remember(&mut self, root: Hash) {
        // Another thread may have been as fast.
        if !self.known.insert(root) {
            return;
        }
        self.order.push_back(root);
        if self.order.len() > self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

impl Sealed {
    /// What our own store holds was verified before it was stored.
    pub(crate) fn reopen(bytes: Bytes) -> Result<Sealed, Malformed> {
        Envelope::reopen(bytes).map(Sealed)
    }

    /// As [`Envelope::with_hop`]; the path is not part of what is sealed.
    #[must_use]
    pub fn with_hop(&self, node: &Name) -> Sealed {
        Sealed(self.0.with_hop(node))
    }

    /// The same with another entry at the end of its path: `node`'s.
    pub(super) fn with_entry(&self, node: &Name, entry: WireHop<'_>) -> Sealed {
        Sealed(self.0.with_entry(node, entry))
    }

    /// The same with names alone in its path, as a relay may pass it on.
    #[must_use]
    pub fn without_attestations(&self) -> Sealed {
        Sealed(self.0.without_attestations())
    }

    /// The same envelope with every field hidden for which `hides` is true; the origin's seal still holds. Neither
    /// name nor value of a hidden field, nor what would let them be guessed, is in the result.
    #[must_use]
    pub fn hide(&self, hides: impl Fn(&str) -> bool) -> Sealed {
        let hit = |field: Field<'_>| matches!(field, Field::Open { key, .. } if hides(key));
        if !self.fields().any(hit) {
            return self.clone();
        }
        let fields: Vec<Field<'_>> = self
            .fields()
            .zip(0..)
            .map(|(field, index)| match field {
                Field::Open { key, value, salt: own } => {
                    let salt = own.unwrap_or_else(|| salt(self.seed().unwrap_or(&[0; 32]), index));
                    if hides(key) {
                        Field::Hidden { digest: field_digest(&salt, key.as_bytes(), value.as_bytes()) }
                    } else {
                        Field::Open { key, value, salt: Some(salt) }
                    }
                }
                hidden @ Field::Hidden { .. } => hidden,
            })
            .collect();
        let bytes = Envelope::encode(self.header_bytes(), &fields, None, self.seal(), &self.wire_path());
        Sealed::reopen(bytes.into()).expect("hiding keeps an envelope well formed")
    }
}

impl Envelope {
    /// What the seal is over: the same, whatever is hidden.
    pub(super) fn leaf(&self) -> Hash {
        // Decoding checked that a seed travels where fields have no salt.
        let seed = self.seed().unwrap_or(&[0; 32]);
        let digests = self.raw_fields().zip(0..).map(|(field, index)| match field {
            RawField::Open { key, value, salt: own } => {
                field_digest(&own.unwrap_or_else(|| salt(seed, index)), key, value)
            }
            RawField::Hidden { digest } => digest,
        });
        leaf(self.header_bytes(), digests)
    }
}

fn salt(seed: &[u8; 32], index: u32) -> [u8; 16] {
    let hash: Hash = Sha256::new().chain_update(seed).chain_update(index.to_be_bytes()).finalize().into();
    let mut salt = [0; 16];
    salt.copy_from_slice(&hash[..16]);
    salt
}

fn field_digest(salt: &[u8; 16], key: &[u8], value: &[u8]) -> Hash {
    let hash = Sha256::new().chain_update(salt).chain_update((key.len() as u32).to_be_bytes());
    hash.chain_update(key).chain_update(value).finalize().into()
}

fn leaf(header: &[u8], digests: impl Iterator<Item = Hash>) -> Hash {
    let hash = Sha256::new().chain_update([0]).chain_update(LEAF).chain_update(Sha256::digest(header));
    digests.fold(hash, |hash, digest| hash.chain_update(digest)).finalize().into()
}

fn signed(root: &Hash, count: u32) -> Vec<u8> {
    [SEAL, root, &count.to_be_bytes()].concat()
}

/// What is signed of an envelope that is alone in its batch.
#[cfg(test)]
pub(super) fn tests_only_signed(sealed: &Sealed) -> Vec<u8> {
    let signed = signed(&sealed.leaf(), 1);
    signed[SEAL.len()..].to_vec()
}

/// A header sealed as it is, content id and all: what only a liar does.
#[cfg(test)]
pub(super) fn tests_only_seal_as_is(secret: &Secret, mut header: Header, fields: Vec<(String, String)>) -> Vec<u8> {
    header.n = fields.len() as u32;
    let header = header.encode();
    let seed = [9; 32];
    let fields: Vec<Field<'_>> = fields.iter().map(|(key, value)| Field::Open { key, value, salt: None }).collect();
    let digests = fields.iter().zip(0..).map(|(field, index)| match field {
        Field::Open { key, value, .. } => field_digest(&salt(&seed, index), key.as_bytes(), value.as_bytes()),
        Field::Hidden { digest } => *digest,
    });
    let root = leaf(&header, digests);
    let seal = Seal { index: 0, count: 1, proof: vec![], signature: secret.sign(&signed(&root, 1)) };
    Envelope::encode(&header, &fields, Some(&seed), &seal, &[])
}
