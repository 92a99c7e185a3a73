//! The words that two operators compare by voice.
//!
//! Six words are 66 bits: who could try keys until the words fit would manage that. So both nodes put a number into
//! them that the other cannot know before it is bound to its own: the guest commits to its number, the host shows its
//! own, and only then the guest shows what it is bound to. Whoever sits in the middle has one try with each side.
//!
//! A node's numbers are made of its own secret: nobody else can tell them in advance, and who joins again, after a
//! crash, reads the same words.

use serde_bytes::ByteArray;
use sha2::{Digest, Sha256};

use crate::envelope::{Key, Name, Secret};

const WORDS: &[u8] = b"intelmq-relay/1 words";
const COMMITMENT: &[u8] = b"intelmq-relay/1 nonce commitment";
const HOST_NONCE: &[u8] = b"intelmq-relay/1 host nonce";
const GUEST_NONCE: &[u8] = b"intelmq-relay/1 guest nonce";
/// How many words, of 11 bits each.
const COUNT: usize = 6;
const BITS: usize = 11;

/// What a side puts into the words.
pub type Nonce = ByteArray<16>;

/// Who is to be the same on both sides.
pub struct Parties<'a> {
    #[allow(missing_docs)]
    pub host: (&'a Name, &'a Key),
    #[allow(missing_docs)]
    pub guest: (&'a Name, &'a Key),
    /// The guest's identity until it is a peer.
    pub ticket: &'a Key,
}

impl Parties<'_> {
    /// The words, with a blank between two.
    pub fn words(&self, host: &Nonce, guest: &Nonce) -> String {
        let mut hash = Sha256::new().chain_update(WORDS).chain_update(self.ticket.as_bytes());
        for ((name, key), nonce) in [(self.host, host), (self.guest, guest)] {
            // A name has 63 bytes at most.
            hash.update([name.as_str().len() as u8]);
            hash.update(name.as_str());
            hash.update(key.as_bytes());
            hash.update(&nonce[..]);
        }
        let digest: [u8; 32] = hash.finalize().into();
        let list = bip39::Language::English.word_list();
        let bit = |at: usize| usize::from(digest[at / 8] >> (7 - at % 8) & 1);
        let number = |word: usize| (0..BITS).fold(0, |number, i| number << 1 | bit(word * BITS + i));
        (0..COUNT).map(|word| list[number(word)]).collect::<Vec<_>>().join(" ")
    }
}

/// What binds the guest to its number before it shows it.
pub fn commitment(guest: &Nonce) -> [u8; 32] {
    Sha256::new().chain_update(COMMITMENT).chain_update(&guest[..]).finalize().into()
}

/// The host's number for this guest: another for every commitment, or who asks twice would know it.
pub fn host_nonce(host: &Secret, ticket: &Key, guest: &Key, commitment: &[u8; 32]) -> Nonce {
    derive(HOST_NONCE, host, &[ticket.as_bytes(), guest.as_bytes(), commitment])
}

/// The guest's number for this invitation of this host.
pub fn guest_nonce(guest: &Secret, ticket: &Key, host: &Key) -> Nonce {
    derive(GUEST_NONCE, guest, &[ticket.as_bytes(), host.as_bytes()])
}

/// All parts have one length each: no two lists of them are the same bytes.
fn derive(domain: &[u8], secret: &Secret, parts: &[&[u8; 32]]) -> Nonce {
    let hash = Sha256::new().chain_update(domain).chain_update(secret.expose_seed());
    let digest: [u8; 32] = parts.iter().fold(hash, |hash, part| hash.chain_update(part)).finalize().into();
    let mut nonce = [0; 16];
    nonce.copy_from_slice(&digest[..16]);
    ByteArray::new(nonce)
}
