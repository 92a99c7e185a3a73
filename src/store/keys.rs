//! Keys: how the one tree is divided.
//!
//! Owns the first byte of every key and the form of what follows. Numbers are big-endian, so that the tree's order
//! is theirs. A value that may be large lies in [`super::pieces`], whose number is appended to these keys.

use super::{Cursor, Reader};

/// The marker of a store of ours. See [`super::open`].
pub(super) const MARKER: &[u8] = b"\0intelmq-relay";
/// The counters. See [`super::shared::State`].
pub(super) const STATE: &[u8] = b"\0state";

/// The number of the last batch, and the sum after it. See [`super::disk`].
pub(super) const BATCH: &[u8] = b"\0batch";

/// How much the journal holds. See [`super::journal`].
pub(super) const JOURNAL: &[u8] = b"\0journal";

const CURSOR: u8 = b'c';
/// The chunks of the log.
pub(super) const LOG: u8 = b'l';
const QUARANTINE: u8 = b'q';
/// The journal's chunks about entries,
pub(super) const NOTES: u8 = b'j';
/// and those by id.
pub(super) const ID_NOTES: u8 = b'r';
/// The chunks of ids.
pub(super) const SEEN: u8 = b's';

/// What is to be made zero on the shelf.
pub(super) const VOID: u8 = b'z';

/// What [`super::sum`] covers: all that is read when a store opens.
pub(super) const SUMMED: [u8; 3] = [CURSOR, QUARANTINE, SEEN];

/// The chunk of the log that begins with this number.
pub(super) fn log(first: u64) -> Vec<u8> {
    numbered(LOG, first)
}

/// The number in a key (with or without a piece's number) of [`log`].
pub(super) fn log_first(key: &[u8]) -> Option<u64> {
    let number = key.strip_prefix(&[LOG])?.first_chunk::<8>()?;
    Some(u64::from_be_bytes(*number))
}

/// A chunk of ids of a day.
pub(super) fn seen(day: u16, number: u64) -> Vec<u8> {
    let mut key = seen_day(day);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// Where the chunks of a day begin.
pub(super) fn seen_day(day: u16) -> Vec<u8> {
    let [high, low] = day.to_be_bytes();
    vec![SEEN, high, low]
}

/// The day in a key of [`seen`].
pub(super) fn day_of(key: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(*key.strip_prefix(&[SEEN])?.first_chunk::<2>()?))
}

/// The number in a key of [`seen`].
pub(super) fn seen_number(key: &[u8]) -> Option<u64> {
    let number = key.strip_prefix(&[SEEN])?.get(2..)?;
    Some(u64::from_be_bytes(number.try_into().ok()?))
}

/// An item in quarantine.
pub(super) fn quarantine(number: u64) -> Vec<u8> {
    numbered(QUARANTINE, number)
}

/// The number in a key (with or without a piece's number) of [`quarantine`].
pub(super) fn quarantine_number(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(*key.strip_prefix(&[QUARANTINE])?.first_chunk::<8>()?))
}

/// After every key of [`quarantine`].
pub(super) fn quarantine_end() -> Vec<u8> {
    vec![QUARANTINE + 1]
}

/// A cursor. A name is at most 63 bytes; its length goes first, so that no key is the beginning of another.
pub(super) fn cursor(cursor: &Cursor) -> Vec<u8> {
    let (kind, bytes): (u8, &[u8]) = match cursor {
        Cursor::Peer(key) => (b'p', key.as_bytes()),
        Cursor::Source(name) => (b'i', name.as_str().as_bytes()),
        Cursor::Sink(name) => (b'o', name.as_str().as_bytes()),
        Cursor::Noted(Reader::Peer(name)) => (b'n', name.as_str().as_bytes()),
        Cursor::Noted(Reader::Door(name)) => (b'd', name.as_str().as_bytes()),
        Cursor::Roster => (b'm', &[]),
        Cursor::Invitations => (b'v', &[]),
        Cursor::Notices => (b'k', &[]),
        Cursor::Rotation => (b'r', &[]),
        Cursor::Tokens => (b't', &[]),
        Cursor::Identity(name) => (b'w', name.as_str().as_bytes()),
    };
    let mut key = vec![CURSOR, kind, bytes.len() as u8];
    key.extend_from_slice(bytes);
    key
}

/// A place on the shelf, encoded, that is to be made zero.
pub(super) fn void(place: &[u8]) -> Vec<u8> {
    [&[VOID], place].concat()
}

/// The place in a key of [`void`].
pub(super) fn void_place(key: &[u8]) -> Option<&[u8]> {
    key.strip_prefix(&[VOID])
}

/// A chunk of the journal, of one kind: what the log's head was when it was begun, and its number.
pub(super) fn chunk(kind: u8, head: u64, number: u64) -> Vec<u8> {
    let mut key = numbered(kind, head);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// The head and the number in a key of [`chunk`].
pub(super) fn chunk_place(kind: u8, key: &[u8]) -> Option<(u64, u64)> {
    let ([head, number], []) = key.strip_prefix(&[kind])?.as_chunks::<8>() else { return None };
    Some((u64::from_be_bytes(*head), u64::from_be_bytes(*number)))
}

fn numbered(kind: u8, number: u64) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend_from_slice(&number.to_be_bytes());
    key
}
