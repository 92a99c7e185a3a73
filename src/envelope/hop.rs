//! Hops: the nodes that an envelope passed, and who has signed that.
//!
//! Owns what a relay signs when it takes envelopes, one signature for many, and whether such a signature holds. It must
//! never make a false one a reason to refuse: anybody on the way can add one to anybody's envelope.
//!
//! ```text
//! leaf      = SHA-256(0x00 ‖ "intelmq-relay/1 hop" ‖ the envelope's leaf ‖ len(from) ‖ from ‖ len(name) ‖ name ‖ time)
//! signature = Ed25519("intelmq-relay/1 hops" ‖ root of the leaves ‖ count)
//! ```
//!
//! Lengths and the count are 32 bits, the time 64, big-endian. The envelope's leaf is that of its seal, the same
//! whatever is hidden.

use std::fmt;

use rand::CryptoRng;
use rand::seq::SliceRandom;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::ByteArray;
use sha2::{Digest, Sha256};

use super::merkle::{Hash, Tree, proof_length, root_of};
use super::wire::{Bounds, Malformed, Seal, WireSeal};
use super::{Key, Name, Sealed, Secret};

const LEAF: &[u8] = b"intelmq-relay/1 hop";
const HOPS: &[u8] = b"intelmq-relay/1 hops";

/// Leaves under one signature, the rest of them noise: as many for one envelope as for a full batch of a link, or a peer
/// could tell by their number how many others were taken that it is not given.
pub const AMONG: usize = 512;

/// A node that an envelope passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// Its name, as somebody on the way wrote it.
    pub name: Name,
    /// What it has signed, if it has; the first node of a path signs by its seal.
    pub attestation: Option<Attestation>,
}

/// What a node signs: that it took the envelope from the one before it in the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attestation {
    /// With which key. Whose that is, is not said here.
    pub key: Key,
    /// When it took it, ms since 1970.
    pub time: u64,
    /// Whether the key has signed this: of this envelope, from the node before, at this time.
    pub holds: bool,
}

/// Puts `me` at the end of these envelopes' paths, with our word that we took each from the node that stands before us:
/// one signature for every [`AMONG`] of them. Where the word would make an envelope too large, the name stands alone.
pub fn attest(
    secret: &Secret,
    me: &Name,
    time: u64,
    bounds: &Bounds,
    envelopes: &mut [&mut Sealed],
    rng: &mut impl CryptoRng,
) {
    let key = ByteArray::new(*secret.key().as_bytes());
    for some in envelopes.chunks_mut(AMONG) {
        let mut places: Vec<usize> = (0..AMONG).collect();
        places.shuffle(rng);
        let mut leaves = vec![Hash::default(); AMONG];
        places[some.len()..].iter().for_each(|place| rng.fill_bytes(&mut leaves[*place]));
        for (envelope, place) in some.iter().zip(&places) {
            // A path without a beginning is nobody's: no name is the empty one, so nobody is told to have been before us.
            let from = envelope.path().last().map_or("", Name::as_str);
            leaves[*place] = leaf(&envelope.leaf(), from, me.as_str(), time);
        }
        let tree = Tree::new(leaves);
        let signature = secret.sign_as(HOPS, &signed(&tree.root(), AMONG as u32));
        for (envelope, &place) in some.iter_mut().zip(&places) {
            let proof = tree.proof(place).into_iter().map(ByteArray::new).collect();
            let seal = WireSeal(place as u32, AMONG as u32, proof, &signature);
            let attested = envelope.with_entry(me, WireHop::Attested(me.as_str(), key, time, seal));
            let fits = attested.bytes().len() <= bounds.bytes;
            **envelope = if fits { attested } else { envelope.with_hop(me) };
        }
    }
}

fn leaf(envelope: &Hash, from: &str, name: &str, time: u64) -> Hash {
    let hash = Sha256::new().chain_update([0]).chain_update(LEAF).chain_update(envelope);
    let hash = [from, name].iter().fold(hash, |hash, name| {
        hash.chain_update((name.len() as u32).to_be_bytes()).chain_update(name)
    });
    hash.chain_update(time.to_be_bytes()).finalize().into()
}

fn signed(root: &Hash, count: u32) -> Vec<u8> {
    [&root[..], &count.to_be_bytes()].concat()
}

/// What stands in a path: a name, or a name with what its node has signed.
pub(super) enum WireHop<'a> {
    Claimed(&'a str),
    /// Name, key, time, and the place in the batch with its signature.
    Attested(&'a str, ByteArray<32>, u64, WireSeal<'a>),
}

impl WireHop<'_> {
    fn name(&self) -> &str {
        match self {
            WireHop::Claimed(name) | WireHop::Attested(name, ..) => name,
        }
    }

    /// `from`: the node before; `envelope`: the envelope's leaf.
    pub(super) fn read(&self, from: Option<&Name>, envelope: &Hash) -> Option<Attestation> {
        let WireHop::Attested(name, key, time, seal) = self else { return None };
        let seal = seal.checked().ok()?;
        // Compared with a known key before it counts, which was checked to be a good point.
        let key = Key::unchecked(key.into_array());
        let leaf = leaf(envelope, from.map_or("", Name::as_str), name, *time);
        let holds = root_of(leaf, seal.index, seal.count, &seal.proof)
            .is_some_and(|root| key.verifies(HOPS, &signed(&root, seal.count), &seal.signature));
        Some(Attestation { key, time: *time, holds })
    }
}

/// The names of a path, which these bytes are.
pub(super) fn check(path: &[WireHop<'_>], bytes: &[u8]) -> Result<Vec<Name>, Malformed> {
    let names = path.iter().map(|hop| hop.name().parse()).collect::<Result<Vec<Name>, _>>();
    let names = names.map_err(|_| Malformed::Shape("the path holds what is no node name"))?;
    // Else a break would follow the seal or the path, and be lost with the next hop.
    serde_cbor::from_slice::<Vec<WireHop<'_>>>(bytes)
        .map_err(|_| Malformed::Shape("the envelope and its seal have definite lengths"))?;
    let mut attested = false;
    for (index, hop) in path.iter().enumerate() {
        let WireHop::Attested(.., seal) = hop else { continue };
        attested = true;
        let Seal { index: place, count, proof, .. } = seal.checked()?;
        if index == 0 {
            return Err(Malformed::Shape("the origin attests by its seal, and by nothing in the path"));
        }
        if proof.len() != proof_length(place, count) {
            return Err(Malformed::Shape("an attestation's proof does not fit its batch"));
        }
    }
    if attested && encode(path) != bytes {
        return Err(Malformed::Shape("a path with attestations has one form: definite and shortest lengths"));
    }
    Ok(names)
}

pub(super) fn encode(path: &[WireHop<'_>]) -> Vec<u8> {
    // Encoding plain data into memory cannot fail.
    serde_cbor::to_vec(&path).expect("a path is plain data")
}

impl<'de: 'a, 'a> Deserialize<'de> for WireHop<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = WireHop<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name or [name, key, time, [index, count, proof, signature]]")
            }

            fn visit_borrowed_str<E: serde::de::Error>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(WireHop::Claimed(name))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let missing = |index| A::Error::invalid_length(index, &Either);
                let name = seq.next_element()?.ok_or_else(|| missing(0))?;
                let key = seq.next_element()?.ok_or_else(|| missing(1))?;
                let time = seq.next_element()?.ok_or_else(|| missing(2))?;
                let seal = seq.next_element()?.ok_or_else(|| missing(3))?;
                Ok(WireHop::Attested(name, key, time, seal))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Serialize for WireHop<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            WireHop::Claimed(name) => serializer.serialize_str(name),
            WireHop::Attested(name, key, time, seal) => (name, key, time, seal).serialize(serializer),
        }
    }
}
