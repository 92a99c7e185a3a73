//! Items in quarantine, as they lie on disk.

use super::{Quarantined, StoreError, keys, pieces};

impl Quarantined {
    pub(super) fn encode(&self) -> Vec<u8> {
        let (door, reason) = (self.door.as_str().as_bytes(), self.reason.as_bytes());
        let mut bytes = Vec::with_capacity(13 + door.len() + reason.len() + self.item.len());
        bytes.extend_from_slice(&self.at.to_be_bytes());
        // A name has at most 63 bytes, everything together at most `pieces::LARGEST`.
        bytes.push(door.len() as u8);
        bytes.extend_from_slice(door);
        bytes.extend_from_slice(&(reason.len() as u32).to_be_bytes());
        bytes.extend_from_slice(reason);
        bytes.extend_from_slice(&self.item);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Quarantined> {
        let (at, bytes) = bytes.split_first_chunk::<8>()?;
        let (length, bytes) = bytes.split_first()?;
        let (door, bytes) = bytes.split_at_checked(usize::from(*length))?;
        let (length, bytes) = bytes.split_first_chunk::<4>()?;
        let (reason, item) = bytes.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        Some(Quarantined {
            at: u64::from_be_bytes(*at),
            door: std::str::from_utf8(door).ok()?.parse().ok()?,
            reason: std::str::from_utf8(reason).ok()?.into(),
            item: item.to_vec().into(),
        })
    }
}

/// At most `limit` items with numbers above `after` and up to `last`, in order.
pub(super) fn read(
    tree: &sled::Tree,
    after: u64,
    last: u64,
    limit: usize,
) -> Result<Vec<(u64, Quarantined)>, StoreError> {
    let mut items = Vec::new();
    for number in (after.saturating_add(1)..=last).take(limit) {
        let bytes = pieces::get(tree, &keys::quarantine(number))?;
        let item = bytes.as_deref().and_then(Quarantined::decode);
        items.push((number, item.ok_or_else(|| StoreError::damaged(format!("item {number} of the quarantine")))?));
    }
    Ok(items)
}
