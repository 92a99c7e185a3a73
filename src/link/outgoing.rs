//! What goes to a peer, and what of it was shown and is not decided.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bytes::Bytes;
use uuid::Uuid;

use crate::envelope::{Name, SeenKey};

/// An entry that the peer may have, in the form in which it may have it.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// When it was stored, by the link's clock.
    pub at: u64,
    /// We sealed it.
    pub own: bool,
    /// Its key by origin and id, as of an offer of it (`SeenKeys::of_offer(…).insert`), never the content's.
    pub key: SeenKey,
    /// Who sealed it,
    pub origin: Name,
    /// as what.
    pub id: Uuid,
    /// Fields hidden in this form.
    pub hidden: u16,
    /// The envelope.
    pub bytes: Bytes,
}

impl Outgoing {
    /// No envelope is empty: what is, is to be read again.
    pub(super) fn is_held(&self) -> bool {
        !self.bytes.is_empty()
    }
}

/// A batch that is not done.
pub(super) struct Open {
    /// What may still be asked for, by slot; `None`: not given any more.
    pub(super) offered: BTreeMap<u16, Option<Outgoing>>,
    /// The entries' numbers, by slot.
    pub(super) slots: Vec<u64>,
    /// What of the window it takes.
    pub(super) bytes: usize,
    /// What the peer put off, with the bytes of it that are held: it takes nothing of the window.
    pub(super) slowed: BTreeMap<u16, usize>,
    /// When the peer last said something about it.
    pub(super) heard: u64,
}

impl Open {
    /// The peer puts a slot off: its bytes are held if they are so few, else they are read again when it asks for them.
    /// Returns the bytes that it took of the window, and those that are held; nothing if it is put off already, or is none
    /// that was offered.
    pub(super) fn put_off(&mut self, slot: u16, room: usize) -> Option<(usize, usize)> {
        let entry = self.offered.get_mut(&slot)?.as_mut()?;
        let Entry::Vacant(place) = self.slowed.entry(slot) else { return None };
        let size = entry.bytes.len();
        if size > room {
            entry.bytes = Bytes::new();
        }
        place.insert(entry.bytes.len());
        // It is less where policy has changed the form since it was offered.
        let counted = size.min(self.bytes);
        self.bytes -= counted;
        Some((counted, entry.bytes.len()))
    }
}
