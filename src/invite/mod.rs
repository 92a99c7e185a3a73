//! Invitations: how two nodes that know nothing of each other become peers.
//!
//! Pure: no I/O, no clock, no randomness of its own. Owns the line that an operator hands over, the identity that a
//! guest has for as long as it takes, what the two nodes say to each other, the words that the two operators compare,
//! and the book of what was invited. It must never let one secret bring two nodes in.
//!
//! The host is the node that invites, the guest the one that joins. `docs/protocol.md` has the same for another
//! implementation.

mod book;
mod line;
mod message;
mod words;

pub use book::{Book, CLOSED, KEPT, OPEN, Record, State};
pub use line::{Damaged, Invitation, LONGEST, MAX_ADDRESSES, Ticket};
pub use message::{Asked, MAX_MESSAGE, Message, Refusal, Unreadable, Welcome};
pub use words::{Nonce, Parties, commitment, guest_nonce, host_nonce};

#[cfg(test)]
mod tests;
