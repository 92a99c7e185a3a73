//! The envelope: an event with its meta data, sealed by the node it came from.
//!
//! Pure: no I/O, no clock, no randomness of its own. Everything that is hashed or signed is carried as the exact
//! bytes that were hashed; nobody re-serialises to verify. `docs/protocol.md` says the same for another
//! implementation, with the vectors of `tests/vectors/`.
//!
//! ```text
//! text ─Message::read→ Message ─Draft::new→ Draft ─seal→ Sealed ─bytes→ … ─Envelope::decode→ Envelope ─Verifier::open→ Sealed ─write→ text
//! ```

mod cbor;
mod crypt;
mod glob;
mod header;
mod hierarchy;
mod hop;
mod id;
pub(crate) mod json;
mod merkle;
mod name;
mod read;
mod seal;
mod tlp;
mod view;
mod wire;

pub use crypt::{
    Closed, EncryptionKey, EncryptionKeyError, EncryptionSecret, Recipient, SLOT, Slot, encrypt, read as read_decrypted,
};
pub use glob::glob;
pub use header::{Header, Kind, Links, VERSION};
pub use hop::{AMONG, Attestation, Hop, attest};
pub use id::{CyCat, SeenKey, SeenKeys, counts as counts_for_id, parse as parse_id};
pub use name::{Key, KeyError, Name, NameError, Secret};
pub use read::{Message, Unreadable};
pub use seal::{BadSeal, Draft, Sealed, Verifier, seal, seal_among};
pub use tlp::{Tlp, TlpError};
pub use view::{Shape, rfc3339};
pub use wire::{Bounds, Envelope, Field, MAX_BATCH, Malformed, Seal};

#[cfg(test)]
mod tests;
