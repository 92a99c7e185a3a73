//! Payloads that only their recipients can read.
//!
//! Owns how an event's fields, and what of its header nobody on the way needs, become one field that says nothing, and
//! back. Digests, seal and ids are those of every envelope: to whoever passes it on, it is one with a single field.
//!
//! ```text
//! plain   = u32(length of inner) ‖ inner ‖ 0…, up to one of few sizes      inner: CBOR
//! field   = "" → base64(ChaCha20-Poly1305(content key, nonce 0, plain, aad = "intelmq-relay/1 payload" ‖ origin's key ‖ id))
//! keys[i] = HPKE base mode, to to[i], info = "intelmq-relay/1 recipient" ‖ origin's key ‖ id: enc(32) ‖ sealed content key(48)
//! ```
//!
//! It must never say anything about a payload that it could not open, nor make more of one than an open envelope may be.

mod key;

pub use key::{EncryptionKey, EncryptionKeyError, EncryptionSecret};

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Nonce, Tag};
use hpke::aead::{AeadTag, ChaCha20Poly1305 as KeyAead};
use hpke::inout::InOutBuf;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256 as Kem;
use hpke::{Deserializable, OpModeR, OpModeS, Serializable};
use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::header::{Header, Links};
use super::json;
use super::wire::{Bounds, Envelope, Field, Malformed, within};
use super::{Key, Name};

const PAYLOAD: &[u8] = b"intelmq-relay/1 payload";
const RECIPIENT: &[u8] = b"intelmq-relay/1 recipient";

/// Bytes of a recipient's slot: the encapsulated key, the content key, a tag.
pub const SLOT: usize = 32 + 32 + TAG;
const TAG: usize = 16;
/// Least size of what is encrypted, in bytes.
const LEAST: usize = 1024;

/// A recipient's slot in a header.
pub type Slot = ByteArray<SLOT>;

/// What is encrypted: the fields, and the header's parts that are for recipients only. Absent when empty, but for the
/// fields.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Inner<'a> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    org: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    instance: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    links: Links,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    ext: BTreeMap<String, String>,
    #[serde(borrow)]
    fields: Vec<(&'a str, &'a str)>,
}

fn is_default(links: &Links) -> bool {
    *links == Links::default()
}

impl Header {
    /// Whether the payload can be read by its recipients only.
    pub fn is_encrypted(&self) -> bool {
        !self.keys.is_empty()
    }

    /// What the header of an encrypted payload must not say, and must.
    pub(super) fn check_encrypted(&self) -> Result<(), Malformed> {
        let open = Links { withdraws: None, ..self.links.clone() };
        let told = self.org.is_some() || self.instance.is_some() || !self.tags.is_empty() || !self.ext.is_empty();
        match () {
            // Else somebody could be made to try many keys for one payload.
            () if self.to.iter().collect::<HashSet<_>>().len() != self.to.len() => {
                Err(Malformed::Header("an encrypted payload has a recipient twice"))
            }
            () if self.keys.len() != self.to.len() => {
                Err(Malformed::Header("it has not as many keys as recipients, for an encrypted payload"))
            }
            () if told || open != Links::default() || self.content.is_some() => {
                Err(Malformed::Header("it tells more than is needed on the way of an encrypted payload"))
            }
            () if self.n != 1 => Err(Malformed::Header("an encrypted payload is one field")),
            () => Ok(()),
        }
    }
}

/// Header and fields of an event, encrypted to `header.to`, with one key for each in that order. `None`: its key is not
/// known, and it will not be able to read. `header.key` is the one that seals, `header.id` the final one.
///
/// A content id would tell what is in it: whoever calls this has a random one. `rng` gives the content key and those of
/// the slots.
pub fn encrypt(
    mut header: Header,
    fields: &[(String, String)],
    to: &[Option<EncryptionKey>],
    bounds: &Bounds,
    rng: &mut impl CryptoRng,
) -> Result<(Header, Vec<(String, String)>), Malformed> {
    within("fields", fields.len(), bounds.fields)?;
    header.check()?;
    if header.content.is_some() || to.len() != header.to.len() || to.is_empty() {
        return Err(Malformed::Header("it cannot be encrypted: it has a content id, or not a key for each recipient"));
    }
    let withdraws = header.links.withdraws.take();
    let inner = Inner {
        org: header.org.take(),
        instance: header.instance.take(),
        tags: std::mem::take(&mut header.tags),
        links: std::mem::take(&mut header.links),
        ext: std::mem::take(&mut header.ext),
        fields: fields.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
    };
    // Encoding plain data into memory cannot fail.
    let mut plain = pad(&serde_cbor::to_vec(&inner).expect("fields are plain data"));
    header.links.withdraws = withdraws;
    let mut content_key = Zeroizing::new([0; 32]);
    rng.fill_bytes(&mut content_key[..]);
    let bound = bound(PAYLOAD, &header.key, header.id);
    let cipher = ChaCha20Poly1305::new((&*content_key).into());
    let tag = cipher.encrypt_inout_detached(&Nonce::default(), &bound, plain.as_mut_slice().into());
    plain.extend_from_slice(&tag.expect("an envelope is far below the cipher's limit"));
    header.keys = to.iter().map(|to| slot(to.as_ref(), &content_key, &header, rng)).collect();
    Ok((header, vec![(String::new(), format!("\"{}\"", BASE64.encode(&plain)))]))
}

fn slot(to: Option<&EncryptionKey>, content_key: &[u8; 32], header: &Header, rng: &mut impl CryptoRng) -> Slot {
    let mut slot = [0; SLOT];
    let Some(to) = to else {
        rng.fill_bytes(&mut slot);
        return Slot::new(slot);
    };
    let (enc, rest) = slot.split_at_mut(32);
    let (sealed, tag_at) = rest.split_at_mut(32);
    sealed.copy_from_slice(content_key);
    let info = bound(RECIPIENT, &header.key, header.id);
    let wrapped = hpke::single_shot_seal_inout_detached_with_rng::<KeyAead, HkdfSha256, Kem>(
        &OpModeS::Base,
        &to.point(),
        &info,
        InOutBuf::from(sealed),
        &[],
        rng,
    );
    // Keys of small order are refused where they are read; another failure there is none.
    let (encapsulated, tag) = wrapped.expect("a checked key is good to encrypt to");
    encapsulated.write_exact(enc);
    tag.write_exact(tag_at);
    Slot::new(slot)
}

/// Whether a field's value can be a ciphertext: a JSON string of base64, without escapes.
pub(super) fn is_ciphertext(value: &[u8]) -> bool {
    let text = value.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\""));
    text.is_some_and(|text| BASE64.decode(text).is_ok())
}

/// What slots and ciphertext are bound to: in another envelope they open nothing.
fn bound(domain: &[u8], origin: &Key, id: Uuid) -> Vec<u8> {
    [domain, origin.as_bytes(), id.as_bytes()].concat()
}

/// One of four sizes between a power of two and the next, from [`LEAST`] on: at most a quarter more.
fn padded(length: usize) -> usize {
    let length = length.max(LEAST);
    length.next_multiple_of(length.next_power_of_two() / 8)
}

fn pad(inner: &[u8]) -> Vec<u8> {
    let size = padded(4 + inner.len());
    let mut plain = Vec::with_capacity(size + TAG);
    plain.extend_from_slice(&(inner.len() as u32).to_be_bytes());
    plain.extend_from_slice(inner);
    plain.resize(size, 0);
    plain
}

fn unpad(plain: &[u8]) -> Option<&[u8]> {
    let (length, rest) = plain.split_first_chunk::<4>()?;
    let (inner, padding) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    // One size for each length, and nothing in the padding: else it would carry what nobody signed for.
    (padded(4 + inner.len()) == plain.len() && padding.iter().all(|byte| *byte == 0)).then_some(inner)
}

/// Why a payload stays closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    /// It is for others.
    #[error("it is encrypted to {}", .0.iter().map(Name::as_str).collect::<Vec<_>>().join(" "))]
    ForOthers(Vec<Name>),
    /// It is for us, and none of our keys opens it.
    #[error(
        "it is encrypted to this node, but not to a key that it has: its origin has another `encryption` for this node in \
         its relay.toml or roster than `intelmq-relay id` prints here, or an old one, whose file beside node.key cannot be \
         opened, or is gone: put that back, start again, and retry"
    )]
    NoKey,
    /// The ciphertext is no longer there.
    #[error("its encrypted payload was taken out on the way, or purged")]
    Gone,
    /// The key fits, and the content does not.
    #[error("its encrypted payload is damaged: its origin has sealed it so")]
    Damaged,
    /// What is in it, no envelope may have.
    #[error("its encrypted payload is none that an event may have: {0}")]
    Unfit(#[from] Malformed),
}

/// A node as one that payloads are encrypted to.
pub struct Recipient {
    name: Name,
    /// The current one first.
    secrets: Vec<EncryptionSecret>,
}

impl Recipient {
    /// The node of this name, with its secret of today, and those that it had.
    pub fn new(name: Name, current: EncryptionSecret, past: Vec<EncryptionSecret>) -> Recipient {
        Recipient { name, secrets: std::iter::once(current).chain(past).collect() }
    }

    /// What others encrypt to.
    pub fn key(&self) -> EncryptionKey {
        self.secrets[0].key()
    }

    /// The envelope as it was before it was encrypted; as it is, where it never was. The result is to be read, and its
    /// seal is not over it.
    pub fn open<'a>(&self, envelope: &'a Envelope, bounds: &Bounds) -> Result<Cow<'a, Envelope>, Closed> {
        let header = envelope.header();
        if !header.is_encrypted() || envelope.was_encrypted() {
            return Ok(Cow::Borrowed(envelope));
        }
        if !header.to.contains(&self.name) {
            return Err(Closed::ForOthers(header.to.clone()));
        }
        let text = envelope.field("").ok_or(Closed::Gone)?;
        let text = json::string(text).ok_or(Closed::Damaged)?;
        let mut plain = BASE64.decode(text.as_bytes()).map_err(|_| Closed::Damaged)?;
        let content_key = self.content_key(header).ok_or(Closed::NoKey)?;
        let (ciphertext, tag) = plain.split_last_chunk_mut::<TAG>().ok_or(Closed::Damaged)?;
        let (tag, bound) = (Tag::from(*tag), bound(PAYLOAD, &header.key, header.id));
        let cipher = ChaCha20Poly1305::new((&*content_key).into());
        let opened = cipher.decrypt_inout_detached(&Nonce::default(), &bound, ciphertext.into(), &tag);
        opened.map_err(|_| Closed::Damaged)?;
        let inner = plain.len().checked_sub(TAG).and_then(|end| unpad(&plain[..end])).ok_or(Closed::Damaged)?;
        Ok(Cow::Owned(read(envelope, inner, bounds)?))
    }

    fn content_key(&self, header: &Header) -> Option<Zeroizing<[u8; 32]>> {
        let info = bound(RECIPIENT, &header.key, header.id);
        let (_, slot) = header.to.iter().zip(&header.keys).find(|(name, _)| **name == self.name)?;
        let (enc, rest) = slot.split_at(32);
        let (sealed, tag) = rest.split_at(32);
        self.secrets.iter().find_map(|secret| {
            let mut content_key = Zeroizing::new([0; 32]);
            content_key.copy_from_slice(sealed);
            hpke::single_shot_open_inout_detached::<KeyAead, HkdfSha256, Kem>(
                &OpModeR::Base,
                &secret.0,
                &Deserializable::from_bytes(enc).ok()?,
                &info,
                InOutBuf::from(&mut content_key[..]),
                &[],
                &AeadTag::from_bytes(tag).ok()?,
            )
            .ok()?;
            Some(content_key)
        })
    }
}

/// The envelope with what was encrypted in it, taken off its padding. The same checks as of every envelope: an origin may
/// encrypt what it could not send in the open.
pub fn read(outer: &Envelope, inner: &[u8], bounds: &Bounds) -> Result<Envelope, Malformed> {
    let read: Inner<'_> = serde_cbor::from_slice(inner)?;
    // Encoding plain data into memory cannot fail.
    if serde_cbor::to_vec(&read).expect("fields are plain data") != inner {
        return Err(Malformed::Header("what is encrypted is not in the one form that it has"));
    }
    let Inner { org, instance, tags, links, ext, fields } = read;
    if links.withdraws.is_some() {
        return Err(Malformed::Header("what it withdraws stands in the clear"));
    }
    let links = Links { withdraws: outer.header().links.withdraws, ..links };
    let n = u32::try_from(fields.len()).unwrap_or(u32::MAX);
    let header = Header { org, instance, tags, links, ext, n, keys: Vec::new(), ..outer.header().clone() };
    let fields: Vec<Field<'_>> =
        fields.into_iter().map(|(key, value)| Field::Open { key, value, salt: None }).collect();
    let bytes = Envelope::encode(&header.encode(), &fields, Some(&[0; 32]), outer.seal(), &outer.wire_path());
    // It was within the bounds before: path and bytes are a little longer by what has been added since.
    let bounds = Bounds { bytes: usize::MAX, path: usize::MAX, ..*bounds };
    Ok(Envelope::decode(bytes.into(), &bounds)?.opened())
}

#[cfg(test)]
mod tests;
