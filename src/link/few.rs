//! Lists of a frame: never longer than a batch, whatever they say of their length and however little their entries
//! weigh.
//!
//! A frame has a bound in bytes; but an entry may have three bytes on the wire and forty in memory, and compression
//! makes a million of them a short frame.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

use super::MAX_ENTRIES;

/// At most as many as a batch has slots.
pub(super) struct Few<T>(pub(super) Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize(deserializer).map(Few)
    }
}

/// Reads such a list.
pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct Entries<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MAX_ENTRIES} entries")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            // Not as long as it says: that is the sender's word.
            let mut entries = Vec::new();
            while let Some(entry) = seq.next_element()? {
                if entries.len() >= MAX_ENTRIES {
                    return Err(A::Error::custom(format_args!("a list of more than {MAX_ENTRIES} entries")));
                }
                entries.push(entry);
            }
            Ok(entries)
        }
    }

    deserializer.deserialize_seq(Entries(PhantomData))
}
