//! Items in quarantine, as they lie on disk.
//!
//! Owns their form, and how much of them there is. Items go one by one, so their numbers have gaps.

use super::{Held, Quarantined, StoreError, keys, pieces};
use crate::envelope::Sealed;

/// In the byte of the door's length: the item is an envelope.
const ENVELOPE: u8 = 0x80;

impl Quarantined {
    pub(super) fn encode(&self) -> Vec<u8> {
        let (door, reason) = (self.door.as_str().as_bytes(), self.reason.as_bytes());
        let mut bytes = Vec::with_capacity(13 + door.len() + reason.len() + self.held.bytes().len());
        bytes.extend_from_slice(&self.at.to_be_bytes());
        // A name has at most 63 bytes, everything together at most `pieces::LARGEST`.
        bytes.push(door.len() as u8 | if matches!(self.held, Held::Envelope(_)) { ENVELOPE } else { 0 });
        bytes.extend_from_slice(door);
        bytes.extend_from_slice(&(reason.len() as u32).to_be_bytes());
        bytes.extend_from_slice(reason);
        bytes.extend_from_slice(self.held.bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Quarantined> {
        let (at, bytes) = bytes.split_first_chunk::<8>()?;
        let (length, bytes) = bytes.split_first()?;
        let (door, bytes) = bytes.split_at_checked(usize::from(length & !ENVELOPE))?;
        let (reason_length, bytes) = bytes.split_first_chunk::<4>()?;
        let (reason, item) = bytes.split_at_checked(u32::from_be_bytes(*reason_length) as usize)?;
        let item = item.to_vec().into();
        Some(Quarantined {
            at: u64::from_be_bytes(*at),
            door: std::str::from_utf8(door).ok()?.parse().ok()?,
            reason: std::str::from_utf8(reason).ok()?.into(),
            held: if length & ENVELOPE == 0 {
                Held::Item(item)
            } else {
                Held::Envelope(Sealed::reopen(item).ok()?.into())
            },
        })
    }
}

/// How much is in quarantine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ward {
    pub(super) items: u64,
    /// As stored.
    pub(super) bytes: u64,
}

impl Ward {
    /// Looks at every item.
    pub(super) fn count(tree: &sled::Tree) -> Result<Ward, StoreError> {
        let mut ward = Ward::default();
        let mut after = 0;
        while let Some(number) = next(tree, after)? {
            let length = pieces::length(tree, &keys::quarantine(number))?;
            ward.add(length.unwrap_or(0));
            after = number;
        }
        Ok(ward)
    }

    pub(super) fn add(&mut self, length: usize) {
        self.items += 1;
        self.bytes += length as u64;
    }

    pub(super) fn remove(&mut self, length: usize) {
        self.items = self.items.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(length as u64);
    }
}

/// The number of the first item after this number.
pub(super) fn next(tree: &sled::Tree, after: u64) -> Result<Option<u64>, StoreError> {
    let Some(number) = after.checked_add(1) else { return Ok(None) };
    let found = tree.range(keys::quarantine(number)..keys::quarantine_end()).next().transpose();
    Ok(found.map_err(StoreError::read)?.and_then(|(key, _)| keys::quarantine_number(&key)))
}

/// At most `limit` items with numbers above `after`, in order.
pub(super) fn read(tree: &sled::Tree, mut after: u64, limit: usize) -> Result<Vec<(u64, Quarantined)>, StoreError> {
    let mut items = Vec::new();
    while items.len() < limit {
        let Some(number) = next(tree, after)? else { break };
        after = number;
        let key = keys::quarantine(number);
        match pieces::get(tree, &key) {
            Ok(Some(bytes)) => {
                let item = Quarantined::decode(&bytes);
                items.push((
                    number,
                    item.ok_or_else(|| StoreError::damaged(format!("item {number} of the quarantine")))?,
                ));
            }
            // It went meanwhile; from under the reader, perhaps.
            Ok(None) => {}
            Err(_) if pieces::length(tree, &key)?.is_none() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(items)
}
