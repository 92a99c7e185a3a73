//! Pseudonyms: the same for the same value at this node, and without the node's secret nothing to be guessed from.

use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::envelope::json;

/// Before the node's secret becomes the key of its pseudonyms.
const DOMAIN: &[u8] = b"intelmq-relay/1 pseudonyms";
/// Bytes of the hash that are shown: two values share them by chance where there are some 2^64 of them, not before.
const SHOWN: usize = 16;

/// The key of a node's pseudonyms. No `Debug`; zeroised when the last clone is dropped.
#[derive(Clone)]
pub struct PseudonymKey(Arc<Zeroizing<[u8; 32]>>);

impl PseudonymKey {
    /// The key of the node with this secret seed. Another seed gives other pseudonyms.
    pub fn derive(seed: &[u8; 32]) -> PseudonymKey {
        PseudonymKey(Arc::new(Zeroizing::new(hash(seed, DOMAIN))))
    }

    /// The pseudonym of a field's value, both as JSON texts. How a text is escaped makes no difference, nor whether a
    /// number is one or its digits. `null` is no value, and stays.
    pub(super) fn of(&self, value: &str) -> String {
        let value = value.trim();
        if value == "null" {
            return value.to_owned();
        }
        let text = json::string(value);
        let hash = hash(&self.0, text.as_deref().unwrap_or(value).as_bytes());
        let digits = hash[..SHOWN].iter().flat_map(|byte| [byte >> 4, byte & 15]);
        let digits = digits.filter_map(|digit| char::from_digit(u32::from(digit), 16));
        std::iter::once('"').chain(digits).chain(['"']).collect()
    }
}

fn hash(key: &[u8; 32], text: &[u8]) -> [u8; 32] {
    // HMAC takes keys of every length.
    let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("a key has any length");
    mac.chain_update(text).finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_values_have_equal_pseudonyms_at_one_node() {
        let (ours, theirs) = (PseudonymKey::derive(&[1; 32]), PseudonymKey::derive(&[2; 32]));
        assert_eq!(ours.of("\"alice\""), ours.of(" \"\\u0061lice\" "));
        assert_eq!(ours.of("1234"), ours.of("\"1234\""));
        assert_eq!(ours.of("\"alice\""), PseudonymKey::derive(&[1; 32]).of("\"alice\""));
        assert_ne!(ours.of("\"alice\""), ours.of("\"Alice\""));
        assert_ne!(ours.of("\"alice\""), theirs.of("\"alice\""));
        assert_eq!(ours.of("null"), "null");
        // Fixed: another one would part what was sent from what will be.
        assert_eq!(ours.of("\"alice\""), "\"ecebf7a918a1b1544efc38b49ffe56a1\"");
    }

    proptest! {
        #[test]
        fn a_pseudonym_is_a_text_of_one_length_without_the_value(value in "[ -~äöü]{6,40}") {
            let written = serde_json::to_string(&value).unwrap();
            let pseudonym = PseudonymKey::derive(&[7; 32]).of(&written);
            let text = json::string(&pseudonym).unwrap().into_owned();
            prop_assert_eq!(text.len(), 2 * SHOWN);
            prop_assert!(text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
            prop_assert!(!pseudonym.contains(&*value) && !pseudonym.contains(&written));
        }
    }
}
