//! Trust: whose seals are accepted, and by whose word.
//!
//! Pure: no I/O, no clock. It answers by name and key, and must never accept a key for anything but what an operator
//! has written.

mod origins;

pub use origins::{KeyStanding, Origins};
