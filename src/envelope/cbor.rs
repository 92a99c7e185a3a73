//! CBOR that others wrote, in one dialect.
//!
//! serde_cbor also reads dialects of its own: numbers in the place of keys and variants, and arrays in that of enums. What a node takes and another
//! implementation refuses would split a network, so here they are errors.

use serde::Deserialize;
use serde_cbor::{Deserializer, Error};

/// Reads one value, all of `bytes`.
pub(crate) fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Error> {
    let mut input = Deserializer::from_slice(bytes).disable_packed_format().disable_legacy_enums();
    let value = T::deserialize(&mut input)?;
    input.end()?;
    Ok(value)
}
