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

use rand::CryptoRng;
use rand::seq::SliceRandom;
use serde::{Serialize, Serializer};
use serde_bytes::ByteArray;
use sha2::{Digest, Sha256};

use super::cbor::Reader;
use super::merkle::{Hash, Tree, proof_length, root_of};
use super::wire::{Bounds, Malformed, Seal, WireSeal, within};
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
            leaves[*place] = leaf(&envelope.leaf(), envelope.path().last(), me.as_str(), time);
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

fn leaf(envelope: &Hash, from: Option<&Name>, name: &str, time: u64) -> Hash {
    // A path always has a first node, and no name is empty: what would be signed without one names nobody.
    let from = from.map_or("", Name::as_str);
    let hash = Sha256::new().chain_update([0]).chain_update(LEAF).chain_update(envelope);
    let hash = [from, name]
        .iter()
        .fold(hash, |hash, name| hash.chain_update((name.len() as u32).to_be_bytes()).chain_update(name));
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
        let Seal { index, count, proof, signature } = seal.checked().ok()?;
        let root = root_of(leaf(envelope, from, name, *time), index, count, &proof)?;
        let key = key.into_array();
        let holds = Key::from_bytes(key).is_ok_and(|key| key.verifies(HOPS, &signed(&root, count), &signature));
        Some(Attestation { key: Key::unchecked(key), time: *time, holds })
    }
}

/// The names of a path.
pub(super) fn check(path: &[WireHop<'_>]) -> Result<Vec<Name>, Malformed> {
    let names = path.iter().map(|hop| hop.name().parse()).collect::<Result<Vec<Name>, _>>();
    let names = names.map_err(|_| Malformed::Shape("the path holds what is no node name"))?;
    for (index, hop) in path.iter().enumerate() {
        let WireHop::Attested(.., seal) = hop else { continue };
        let Seal { index: place, count, proof, .. } = seal.checked()?;
        if index == 0 {
            return Err(Malformed::Shape("the origin attests by its seal, and by nothing in the path"));
        }
        if proof.len() != proof_length(place, count) {
            return Err(Malformed::Shape("an attestation's proof does not fit its batch"));
        }
    }
    Ok(names)
}

/// A path, or an entry of one.
pub(super) fn encode(part: impl Serialize) -> Vec<u8> {
    // Encoding plain data into memory cannot fail.
    serde_cbor::to_vec(&part).expect("a path is plain data")
}

/// A path, as it stands at the end of an envelope.
pub(super) fn read<'a>(reader: &mut Reader<'a>, bounds: &Bounds) -> Result<Vec<WireHop<'a>>, Malformed> {
    let length = reader.list()?;
    within("path", length, bounds.path)?;
    let hop = |_| {
        if !reader.is_list() {
            return reader.text().map(WireHop::Claimed);
        }
        reader.list_of(4)?;
        let (name, key, time) = (reader.text()?, reader.array()?, reader.uint()?);
        Ok(WireHop::Attested(name, ByteArray::new(key), time, WireSeal::read(reader)?))
    };
    (0..length).map(hop).collect()
}

impl Serialize for WireHop<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            WireHop::Claimed(name) => serializer.serialize_str(name),
            WireHop::Attested(name, key, time, seal) => (name, key, time, seal).serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use bytes::Bytes;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    use super::*;
    use crate::envelope::{Bounds, Draft, Envelope, Message, Verifier, seal};

    const NOW: u64 = 1_795_514_400_000;

    fn secret(n: u8) -> Secret {
        Secret::from_seed(&[n; 32])
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    /// Events of cert-at, whose key is 1.
    fn sealed(count: u128) -> Vec<Sealed> {
        let draft = |id| {
            let message = Message::read(br#"{"source.ip": "192.0.2.1", "raw": "eA==", "extra.a": 1}"#).unwrap();
            let header = message.header(&name("cert-at"), uuid::Uuid::from_u128(id), NOW);
            Draft::new(header, message.fields, &Bounds::default()).unwrap()
        };
        seal(&secret(1), (1..=count).map(draft).collect(), &mut ChaCha20Rng::seed_from_u64(1))
    }

    fn attested(by: u8, me: &str, time: u64, mut envelopes: Vec<Sealed>) -> Vec<Sealed> {
        let mut all: Vec<&mut Sealed> = envelopes.iter_mut().collect();
        attest(&secret(by), &name(me), time, &Bounds::default(), &mut all, &mut ChaCha20Rng::seed_from_u64(by.into()));
        envelopes
    }

    /// As another node reads it, its seal verified.
    fn opened(bytes: &[u8]) -> Result<Sealed, String> {
        let envelope =
            Envelope::decode(Bytes::copy_from_slice(bytes), &Bounds::default()).map_err(|e| e.to_string())?;
        Verifier::new(8).open(envelope).map_err(|e| e.to_string())
    }

    fn holding(envelope: &Envelope) -> Vec<Option<bool>> {
        envelope.hops().iter().map(|hop| hop.attestation.map(|word| word.holds)).collect()
    }

    /// The same with another path.
    fn with_path(envelope: &Sealed, path: &[WireHop<'_>]) -> Sealed {
        let old = encode(envelope.wire_path()).len();
        let bytes = envelope.bytes();
        opened(&[&bytes[..bytes.len() - old], &encode(path)].concat()).unwrap()
    }

    #[test]
    fn a_batch_is_attested_with_one_signature_and_each_can_prove_it() {
        let batch = attested(2, "cert-ee", NOW + 1, sealed(3));
        for envelope in &batch {
            let hops = opened(envelope.bytes()).unwrap().hops();
            let word = Attestation { key: secret(2).key(), time: NOW + 1, holds: true };
            let expected = [("cert-at", None), ("cert-ee", Some(word))];
            assert_eq!(hops, expected.map(|(text, attestation)| Hop { name: name(text), attestation }));
        }
        let signature = |envelope: &Sealed| match &envelope.wire_path()[1] {
            WireHop::Attested(.., seal) => <[u8; 64]>::try_from(seal.3).unwrap(),
            WireHop::Claimed(_) => unreachable!(),
        };
        assert_eq!(batch.iter().map(signature).collect::<HashSet<_>>().len(), 1);
        assert!(attested(2, "cert-ee", NOW, sealed(AMONG as u128 + 1)).iter().all(|one| holding(one)[1] == Some(true)));
    }

    #[test]
    fn what_follows_leaves_it_as_it_is() {
        let one = attested(2, "cert-ee", NOW, sealed(1)).remove(0).with_hop(&name("cert-pl"));
        let far = attested(4, "cert-si", NOW + 9, vec![one]).remove(0);
        assert_eq!(holding(&far), [None, Some(true), None, Some(true)]);
        let hidden = opened(far.hide(|key| key == "source.ip").bytes()).unwrap();
        assert_eq!((hidden.hidden(), hidden.hops()), (1, far.hops()), "it is of the envelope, whatever is hidden");
        let again = opened(hidden.hide(|_| true).with_hop(&name("x")).bytes()).unwrap();
        assert_eq!(holding(&again), [None, Some(true), None, Some(true), None]);
        let bare = opened(far.without_attestations().bytes()).unwrap();
        assert_eq!((holding(&bare), bare.path()), (vec![None; 4], far.path()));
    }

    #[test]
    fn it_is_of_this_envelope_from_this_node_by_this_node_at_this_time_with_this_key() {
        let batch = attested(2, "cert-ee", NOW, sealed(2));
        let [one, other] = [&batch[0], &batch[1]];
        let key = |n| ByteArray::new(*secret(n).key().as_bytes());
        let seal_of = |envelope: &Sealed| match envelope.wire_path().remove(1) {
            WireHop::Attested(.., WireSeal(index, count, proof, signature)) => {
                (index, count, proof, <[u8; 64]>::try_from(signature).unwrap())
            }
            WireHop::Claimed(_) => unreachable!(),
        };
        let (index, count, proof, signature) = seal_of(one);
        let place = |index, count, proof: &[_]| WireSeal(index, count, proof.to_vec(), &signature);
        let good = || place(index, count, &proof);
        let at = || WireHop::Claimed("cert-at");
        let mut wrong = Vec::new();
        let mut changed = proof.clone();
        changed[4] = ByteArray::new([7; 32]);
        let path = |hop| vec![at(), hop];
        let (o_index, o_count, o_proof, o_signature) = seal_of(other);
        for (what, path, expected) in [
            ("as it was", path(WireHop::Attested("cert-ee", key(2), NOW, good())), true),
            ("another name", path(WireHop::Attested("cert-eu", key(2), NOW, good())), false),
            ("another time", path(WireHop::Attested("cert-ee", key(2), NOW + 1, good())), false),
            ("another key", path(WireHop::Attested("cert-ee", key(3), NOW, good())), false),
            ("no key", path(WireHop::Attested("cert-ee", ByteArray::new([0; 32]), NOW, good())), false),
            ("another proof", path(WireHop::Attested("cert-ee", key(2), NOW, place(index, count, &changed))), false),
            ("another place", path(WireHop::Attested("cert-ee", key(2), NOW, place(index ^ 1, count, &proof))), false),
            ("another count", path(WireHop::Attested("cert-ee", key(2), NOW, place(index, 511, &proof))), false),
            (
                "of another envelope of the batch",
                path(WireHop::Attested("cert-ee", key(2), NOW, WireSeal(o_index, o_count, o_proof, &o_signature))),
                false,
            ),
            (
                "from another node",
                vec![at(), WireHop::Claimed("cert-pl"), WireHop::Attested("cert-ee", key(2), NOW, good())],
                false,
            ),
        ] {
            if holding(&with_path(one, &path)).pop().unwrap() != Some(expected) {
                wrong.push(what);
            }
        }
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn a_seal_is_no_attestation_and_an_attestation_no_seal() {
        // The origin's own signature over its one leaf, which is no leaf of a hop.
        let one = &sealed(1)[0];
        let signature = one.seal().signature;
        let key = ByteArray::new(*secret(1).key().as_bytes());
        let hop = WireHop::Attested("cert-ee", key, NOW, WireSeal(0, 1, Vec::new(), &signature));
        assert_eq!(holding(&with_path(one, &[WireHop::Claimed("cert-at"), hop])), [None, Some(false)]);
        // The domains tell signatures apart where the trees would not.
        let root = leaf(&one.leaf(), Some(&name("cert-at")), "cert-ee", NOW);
        for (domain, expected) in [(HOPS, true), (&b"intelmq-relay/1 seal"[..], false)] {
            let signature = secret(2).sign_as(domain, &signed(&root, 1));
            let key = ByteArray::new(*secret(2).key().as_bytes());
            let hop = WireHop::Attested("cert-ee", key, NOW, WireSeal(0, 1, Vec::new(), &signature));
            assert_eq!(holding(&with_path(one, &[WireHop::Claimed("cert-at"), hop])), [None, Some(expected)]);
        }
        let as_seal = secret(1).sign_as(HOPS, &signed(&one.leaf(), 1));
        let at = one.bytes().windows(64).position(|window| window == signature).unwrap();
        let mut bytes = one.bytes().to_vec();
        bytes[at..at + 64].copy_from_slice(&as_seal);
        assert!(opened(&bytes).unwrap_err().contains("signature does not verify"));
    }

    #[test]
    fn an_attestation_shows_neither_how_many_were_taken_nor_their_order() {
        for count in [1, 3, 64] {
            let batch = attested(2, "cert-ee", NOW, sealed(count));
            let places: Vec<(u32, u32, usize)> = batch
                .iter()
                .map(|envelope| match &envelope.wire_path()[1] {
                    WireHop::Attested(.., seal) => (seal.0, seal.1, seal.2.len()),
                    WireHop::Claimed(_) => unreachable!(),
                })
                .collect();
            assert!(places.iter().all(|place| (place.1, place.2) == (AMONG as u32, 9)), "{places:?}");
            assert!(places.iter().zip(0..).any(|(place, index)| place.0 != index), "{places:?}");
        }
        // Noise is no constant, which a neighbour's proof would show.
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        let mut proofs = HashSet::new();
        for _ in 0..2 {
            let mut one = sealed(1);
            attest(&secret(2), &name("x"), NOW, &Bounds::default(), &mut [&mut one[0]], &mut rng);
            let WireHop::Attested(.., seal) = one[0].wire_path().remove(1) else { unreachable!() };
            proofs.insert(seal.2[0].into_array());
        }
        assert_eq!(proofs.len(), 2);
    }

    #[test]
    fn no_envelope_becomes_too_large_by_it() {
        let plain = sealed(1).remove(0);
        let most = attested(2, "cert-ee", NOW, vec![plain.clone()])[0].bytes().len();
        for (bytes, expected) in [(most, Some(true)), (most - 1, None)] {
            let mut one = plain.clone();
            // The place has one to three bytes; a seed of its own keeps it where it was.
            let mut rng = ChaCha20Rng::seed_from_u64(2);
            let bounds = Bounds { bytes, ..Bounds::default() };
            attest(&secret(2), &name("cert-ee"), NOW, &bounds, &mut [&mut one], &mut rng);
            assert_eq!((holding(&one)[1], one.path().len()), (expected, 2), "{bytes} of {most}");
        }
        let cost = most - plain.with_hop(&name("cert-ee")).bytes().len();
        assert!((420..=430).contains(&cost), "docs and examples say what it costs: {cost}");
    }

    proptest! {
        #[test]
        fn any_change_of_an_attested_path_is_noticed(at in any::<prop::sample::Index>(), bit in 0..8_u32) {
            let one = attested(2, "cert-ee", NOW, sealed(2)).remove(1);
            let path = encode(one.wire_path()).len();
            let mut bytes = one.bytes().to_vec();
            let place = bytes.len() - path + at.index(path);
            bytes[place] ^= 1 << bit;
            if let Ok(changed) = opened(&bytes) {
                let hops = changed.hops();
                prop_assert!(hops.iter().all(|hop| hop.attestation.is_none_or(|word| !word.holds)), "{hops:?}");
            }
        }
    }
}
