//! The resume token: where a peer stands in our log, unreadable to it.
//!
//! Sealed with XChaCha20-Poly1305 under a key that only we have, always of one length and never twice the same, so
//! that a peer sees neither numbers nor the gaps of what policy withheld.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use rand::CryptoRng;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::envelope::Key as PeerKey;

const NONCE: usize = 24;

/// The key of our tokens. Derived from the node's secret, so that tokens outlive the store.
#[derive(Clone)]
pub struct TokenKey {
    cipher: XChaCha20Poly1305,
    /// Those of the keys that this node had before: they open, and seal nothing.
    former: Vec<XChaCha20Poly1305>,
    /// Whose tokens they are, by the keys that it has and had: those of another peer are none.
    peer: Vec<PeerKey>,
}

impl TokenKey {
    /// The token key of the node with this secret seed.
    pub fn derive(seed: &[u8; 32]) -> TokenKey {
        TokenKey::new(&TokenKey::bytes(seed), [])
    }

    /// What is derived from the seed: to be kept for when the node has another.
    pub fn bytes(seed: &[u8; 32]) -> [u8; 32] {
        Sha256::new().chain_update(b"intelmq-relay/1 resume token").chain_update(seed).finalize().into()
    }

    /// The token key of these [`TokenKey::bytes`], which opens the tokens of the former ones too.
    pub fn new<'a>(now: &[u8; 32], former: impl IntoIterator<Item = &'a [u8; 32]>) -> TokenKey {
        let cipher = |bytes: &[u8; 32]| XChaCha20Poly1305::new(&Key::from(*bytes));
        TokenKey { cipher: cipher(now), former: former.into_iter().map(cipher).collect(), peer: Vec::new() }
    }

    /// The key of the tokens that this peer holds; `former` are keys that it had before.
    #[must_use]
    pub fn of_peer(&self, peer: PeerKey, former: impl IntoIterator<Item = PeerKey>) -> TokenKey {
        TokenKey { peer: [peer].into_iter().chain(former).collect(), ..self.clone() }
    }

    /// The token for "everything up to `seq` of log `log` is decided".
    pub fn seal(&self, log: Uuid, seq: u64, rng: &mut impl CryptoRng) -> Vec<u8> {
        let mut nonce = [0; NONCE];
        rng.fill_bytes(&mut nonce);
        let mut plain = [0; 24];
        plain[..16].copy_from_slice(log.as_bytes());
        plain[16..].copy_from_slice(&seq.to_be_bytes());
        let payload = Payload { msg: &plain, aad: self.peer.first().map_or(&[], |peer| peer.as_bytes()) };
        let sealed =
            self.cipher.encrypt(&XNonce::from(nonce), payload).expect("24 bytes are within the cipher's limit");
        [&nonce[..], &sealed].concat()
    }

    /// What a token of ours says; `None`: it is none, or was changed.
    pub fn open(&self, token: &[u8]) -> Option<(Uuid, u64)> {
        let (nonce, sealed) = token.split_at_checked(NONCE)?;
        let nonce: [u8; NONCE] = nonce.try_into().ok()?;
        let open = |cipher: &XChaCha20Poly1305, aad: &[u8]| {
            let plain = cipher.decrypt(&XNonce::from(nonce), Payload { msg: sealed, aad }).ok()?;
            <[u8; 24]>::try_from(plain).ok()
        };
        let plain = [&self.cipher].into_iter().chain(&self.former).find_map(|cipher| {
            let none = if self.peer.is_empty() { open(cipher, &[]) } else { None };
            none.or_else(|| self.peer.iter().find_map(|peer| open(cipher, peer.as_bytes())))
        })?;
        let (log, seq) = plain.split_at(16);
        Some((Uuid::from_slice(log).ok()?, u64::from_be_bytes(seq.try_into().ok()?)))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn tokens_are_opaque_alike_and_only_ours() {
        let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
        let (key, log) = (TokenKey::derive(&[1; 32]), Uuid::from_u128(9));
        let (one, two) = (key.seal(log, 1, &mut rng), key.seal(log, u64::MAX, &mut rng));
        assert_eq!(one.len(), two.len());
        assert_ne!(one, key.seal(log, 1, &mut rng));
        assert_eq!(key.open(&two), Some((log, u64::MAX)));
        assert_eq!(TokenKey::derive(&[2; 32]).open(&one), None);
        let peer_key = |n| crate::envelope::Secret::from_seed(&[n; 32]).key();
        let peer = |n| key.of_peer(peer_key(n), []);
        let its = peer(3).seal(log, 1, &mut rng);
        assert_eq!((peer(3).open(&its), peer(4).open(&its), key.open(&its)), (Some((log, 1)), None, None));
        // Whoever has another key by now, we or the peer, still knows where it stands.
        let follows = |seed, former| {
            let bytes = [&[seed; 32], &[1; 32]].map(TokenKey::bytes);
            TokenKey::new(&bytes[0], &bytes[1..]).of_peer(peer_key(5), former)
        };
        assert_eq!(follows(2, vec![peer_key(3)]).open(&its), Some((log, 1)));
        assert_eq!(follows(2, vec![peer_key(4)]).open(&its), None);
        let new = follows(2, vec![peer_key(3)]).seal(log, 2, &mut rng);
        assert_eq!((peer(3).open(&new), peer(5).open(&new)), (None, None));
        for at in 0..one.len() {
            let mut changed = one.clone();
            changed[at] ^= 1;
            assert_eq!(key.open(&changed), None);
            assert_eq!(key.open(&one[..at]), None);
        }
    }
}
