//! Ids: random, made of the content, or kept; how they are shown, and how they are remembered.

use std::fmt;

use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid, Version};

use super::wire::{Envelope, Field};
use super::{Header, Key, Kind};

/// Fields that never count: the same event seen twice differs in them.
const WITHOUT: [&str; 2] = ["raw", "time.observation"];

/// The id of an event by its content: a UUIDv8 of SHA-256 over the sorted fields, each as 32-bit big-endian length
/// and bytes of key and of JSON text, without `raw`, `time.observation` and the fields of `without`.
pub fn of_content<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>, without: &[String]) -> Uuid {
    let mut fields: Vec<_> = fields.filter(|(key, _)| counts(key, without)).collect();
    fields.sort_unstable();
    let mut hash = Sha256::new_with_prefix(b"intelmq-relay/1 content id");
    for part in fields.into_iter().flat_map(|(key, value)| [key, value]) {
        hash.update((part.len() as u32).to_be_bytes());
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    Builder::from_custom_bytes(id).into_uuid()
}

/// Whether a field is part of a content id that leaves out `without`. The id is a hash without a salt: whoever has it, and
/// all other fields, can try values for one that is hidden.
pub fn counts(key: &str, without: &[String]) -> bool {
    !WITHOUT.contains(&key) && !without.iter().any(|out| out == key)
}

pub(super) fn open_fields(envelope: &Envelope) -> impl Iterator<Item = (&str, &str)> {
    envelope.fields().filter_map(|field| match field {
        Field::Open { key, value, .. } => Some((key, value)),
        Field::Hidden { .. } => None,
    })
}

/// The UUID in an id as people write it: alone, or in CyCAT's form `publisher:project:UUID`.
pub fn parse(text: &str) -> Option<Uuid> {
    let uuid = text.rsplit(':').next()?;
    // Only the plain form: the crate also reads braces and URNs.
    (uuid.len() == 36).then(|| uuid.parse().ok()).flatten()
}

/// An id in CyCAT's form, `cert-at:intelmq:<uuid>`: how ids are shown to people.
pub struct CyCat<'a>(pub &'a Header);

impl fmt::Display for CyCat<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.0.origin, self.0.format, self.0.id)
    }
}

/// A short, collision-resistant name of an id in the seen set.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SeenKey(pub [u8; 16]);

impl SeenKey {
    fn of_origin(origin: &Key, id: Uuid) -> SeenKey {
        SeenKey::hash(&[b"o", origin.as_bytes(), id.as_bytes()])
    }

    fn of_content(id: Uuid) -> SeenKey {
        SeenKey::hash(&[b"c", id.as_bytes()])
    }

    fn hash(parts: &[&[u8]]) -> SeenKey {
        let digest: [u8; 32] = parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize().into();
        let mut key = [0; 16];
        key.copy_from_slice(&digest[..16]);
        SeenKey(key)
    }
}

/// Under which keys an envelope is remembered: by (origin's key, id), content ids by the id alone. Otherwise a
/// hostile node could send a known id first and have the real event dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SeenKeys {
    /// The key that is inserted.
    pub insert: SeenKey,
    /// A second key that is looked up too: the envelope is known if either is.
    pub also: Option<SeenKey>,
    /// How many fields are hidden in this copy; a copy with fewer than the best so far is a completion.
    pub hidden: u16,
}

impl SeenKeys {
    /// The keys by what an offer tells.
    pub fn of_offer(origin: &Key, id: Uuid, hidden: u16) -> SeenKeys {
        let also = (id.get_version() == Some(Version::Custom)).then(|| SeenKey::of_content(id));
        SeenKeys { insert: SeenKey::of_origin(origin, id), also, hidden }
    }

    /// The keys of an envelope. An id counts as the content's only where nothing is hidden: elsewhere nobody could have
    /// checked it.
    pub(super) fn of(envelope: &Envelope) -> SeenKeys {
        let Header { key, id, content, .. } = envelope.header();
        let keys = SeenKeys::of_offer(key, *id, envelope.hidden());
        match (content, keys.also) {
            (Some(_), Some(by_content)) if keys.hidden == 0 => {
                SeenKeys { insert: by_content, also: Some(keys.insert), ..keys }
            }
            _ => keys,
        }
    }

    /// The key under which it is remembered that this origin has withdrawn this id. By the origin's key: nobody's word
    /// is about anybody else's event.
    pub fn of_withdrawn(origin: &Key, id: Uuid) -> SeenKeys {
        let insert = SeenKey::hash(&[b"w", origin.as_bytes(), id.as_bytes()]);
        SeenKeys { insert, also: None, hidden: 0 }
    }
}

impl Envelope {
    /// What this envelope withdraws, if it is a withdrawal.
    pub fn withdraws(&self) -> Option<Uuid> {
        let Header { kind, links, .. } = self.header();
        links.withdraws.filter(|_| *kind == Kind::Withdrawal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_its_origins() {
        let (one, other, id) = (Key::default(), crate::envelope::Secret::from_seed(&[1; 32]).key(), Uuid::from_u128(1));
        assert_ne!(SeenKeys::of_offer(&one, id, 0).insert, SeenKeys::of_offer(&other, id, 0).insert);
        assert_ne!(SeenKeys::of_withdrawn(&one, id), SeenKeys::of_withdrawn(&other, id));
        assert_ne!(SeenKeys::of_withdrawn(&one, id).insert, SeenKeys::of_offer(&one, id, 0).insert);
    }

    #[test]
    fn cycat_ids_are_read_and_plain_ones_too() {
        let uuid = "72ddb00c-2d0a-4eea-b7ac-ae122b8e6c3b";
        assert_eq!(parse(uuid), uuid.parse().ok());
        assert_eq!(parse(&format!("cert-at:intelmq:{uuid}")), uuid.parse().ok());
        for text in ["", "cert-at:intelmq:", "RT#1234", "urn:uuid:{72ddb00c}", "72ddb00c2d0a4eeab7acae122b8e6c3b"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn content_ids_ignore_order_and_what_differs_between_two_views() {
        let without = ["feed.url".to_owned()];
        let id = |fields: &[(&str, &str)]| of_content(fields.iter().copied(), &without);
        let one = id(&[("source.ip", "\"192.0.2.1\""), ("raw", "\"eA==\""), ("feed.url", "\"x\"")]);
        assert_eq!(one, id(&[("time.observation", "\"2026\""), ("source.ip", "\"192.0.2.1\"")]));
        assert_eq!(one.get_version(), Some(Version::Custom));
        assert_ne!(one, id(&[("source.ip", "\"192.0.2.2\"")]));
        // Lengths are part of the hash: no two lists of fields run together.
        assert_ne!(id(&[("ab", "1")]), id(&[("a", "b1")]));
    }
}
