//! Pieces: values of any size under keys of sled, none of them large.
//!
//! Owns the rule that keeps sled 0.34.7 from making blob files, which it never syncs: a tree node must stay below a
//! quarter of a segment. A leaf holds up to 16 values before it splits (a few more for a moment: when a split is
//! pending, or after a merge of 3 with 16), so a value is cut into pieces of at most [`PIECE`] bytes. Nobody else
//! writes a value that is not small and of fixed size, but the journal, whose chunks are below [`PIECE`] by their own bound.
//!
//! The value `key` lies under `key ‖ 0u16`, `key ‖ 1u16` …; the first piece begins with the length of the whole.

use super::StoreError;
use super::sum::Batch;

/// sled's segment: 2 MiB.
pub(super) const SEGMENT: usize = 2 << 20;

/// Bytes of one piece at most: 20 of them are below a quarter of a segment.
pub(super) const PIECE: usize = 24 << 10;

/// Bytes of one value at most. Far above the largest envelope, far below what the piece's number can count.
pub(super) const LARGEST: usize = 32 << 20;

const LENGTH: usize = 4;

/// Puts the value under a key. `before`: the length of the value that it replaces (see [`length`]), so that no
/// piece of that one stays.
pub(super) fn put(batch: &mut Batch, key: &[u8], value: &[u8], before: Option<usize>) {
    let mut whole = Vec::with_capacity(LENGTH + value.len());
    whole.extend_from_slice(&(value.len() as u32).to_be_bytes());
    whole.extend_from_slice(value);
    for (number, piece) in whole.chunks(PIECE).enumerate() {
        batch.insert(piece_key(key, number), piece);
    }
    for number in count(value.len())..before.map_or(0, count) {
        batch.remove(piece_key(key, number));
    }
}

/// Removes a value of this length; returns how many keys that takes.
pub(super) fn remove(batch: &mut Batch, key: &[u8], length: usize) -> usize {
    for number in 0..count(length) {
        batch.remove(piece_key(key, number));
    }
    count(length)
}

/// The value; `None` where there is none.
pub(super) fn get(tree: &sled::Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(head) = tree.get(piece_key(key, 0)).map_err(StoreError::read)? else { return Ok(None) };
    let length = length_of(&head)?;
    let mut value = Vec::with_capacity(length);
    value.extend_from_slice(&head[LENGTH..]);
    for number in 1..count(length) {
        let piece = tree.get(piece_key(key, number)).map_err(StoreError::read)?;
        value.extend_from_slice(&piece.ok_or_else(|| StoreError::damaged("a piece of a value is missing"))?);
    }
    if value.len() != length {
        return Err(StoreError::damaged("the pieces of a value do not make its length"));
    }
    Ok(Some(value))
}

/// The length of a value and its first bytes (all of them where it has one piece), without reading the rest.
pub(super) fn head(tree: &sled::Tree, key: &[u8]) -> Result<Option<(usize, sled::IVec)>, StoreError> {
    let Some(head) = tree.get(piece_key(key, 0)).map_err(StoreError::read)? else { return Ok(None) };
    let length = length_of(&head)?;
    Ok(Some((length, head.subslice(LENGTH, head.len() - LENGTH))))
}

/// The length of a value, for [`put`].
pub(super) fn length(tree: &sled::Tree, key: &[u8]) -> Result<Option<usize>, StoreError> {
    Ok(head(tree, key)?.map(|(length, _)| length))
}

fn length_of(head: &[u8]) -> Result<usize, StoreError> {
    let bytes = head.first_chunk::<LENGTH>().ok_or_else(|| StoreError::damaged("a value has no length"))?;
    let length = u32::from_be_bytes(*bytes) as usize;
    if length > LARGEST {
        return Err(StoreError::damaged("a value has an impossible length"));
    }
    Ok(length)
}

fn count(length: usize) -> usize {
    (LENGTH + length).div_ceil(PIECE)
}

fn piece_key(key: &[u8], number: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(key.len() + 2);
    bytes.extend_from_slice(key);
    // LARGEST / PIECE is below 2^16.
    bytes.extend_from_slice(&(number as u16).to_be_bytes());
    bytes
}
