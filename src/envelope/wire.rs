//! The envelope's bytes: encoding, strict decoding, and an index over them.
//!
//! An [`Envelope`] *is* the bytes that came; everything else about it is a view into them. So what is passed on is
//! what was signed, and passing on costs a copy and no encoding. Decoding accepts nothing that it does not
//! understand, and says nothing about who signed: that is [`super::Verifier`]'s.

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::ser::SerializeTuple;
use serde::{Serialize, Serializer};
use serde_bytes::ByteArray;
use uuid::Uuid;

use super::cbor::{self, Reader};
use super::hop::{self, Hop, WireHop};
use super::merkle::Hash;
use super::{Header, Name, SeenKeys, crypt, json};

mod made;

/// Largest batch that one signature may cover.
pub const MAX_BATCH: u32 = 1024;
/// Hashes of a proof in a batch of that size.
const MAX_PROOF: usize = MAX_BATCH.ilog2() as usize;

/// What an envelope may measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes, encoded.
    pub bytes: usize,
    /// Fields.
    pub fields: usize,
    /// Names in the path.
    pub path: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { bytes: 1 << 20, fields: 4096, path: 32 }
    }
}

const UNBOUNDED: Bounds = Bounds { bytes: usize::MAX, fields: usize::MAX, path: usize::MAX };

/// Why bytes are no envelope. The sender's doing; nothing else is affected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not the CBOR that an envelope is made of.
    #[error("not an envelope's CBOR: {0}")]
    Cbor(String),
    /// Made by a newer program.
    #[error("envelope version {0}; this program knows version 1: update it")]
    Version(u64),
    /// A header that no node may write.
    #[error("header: {0}")]
    Header(&'static str),
    /// Fields that no node may write.
    #[error("field {index}: {what}")]
    Field {
        /// Which, from 0.
        index: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// The parts do not fit together.
    #[error("{0}")]
    Shape(&'static str),
    /// Over a limit of the configuration.
    #[error("{what}: {is}, at most {most} are allowed (limits.{what})")]
    TooBig {
        /// Which limit.
        what: &'static str,
        /// The value,
        is: usize,
        /// and the limit.
        most: usize,
    },
}

impl From<serde_cbor::Error> for Malformed {
    fn from(error: serde_cbor::Error) -> Malformed {
        // The text can quote the input: bounded, as it may end in a log line.
        Malformed::Cbor(error.to_string().chars().take(120).collect())
    }
}

/// A part of an envelope's bytes.
#[derive(Debug, Clone, Copy)]
struct Span {
    from: u32,
    to: u32,
}

impl Span {
    /// The place of `part` within `whole`, of which it is a slice.
    fn of(whole: &[u8], part: &[u8]) -> Span {
        let from = part.as_ptr() as usize - whole.as_ptr() as usize;
        // Envelopes are bounded far below 4 GiB before they are decoded.
        Span { from: from as u32, to: (from + part.len()) as u32 }
    }

    fn within(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.from as usize..self.to as usize]
    }

    fn text(self, bytes: &[u8]) -> &str {
        std::str::from_utf8(self.within(bytes)).expect("decoding checked that this is UTF-8")
    }
}

#[derive(Debug, Clone, Copy)]
enum FieldSpan {
    Open { key: Span, value: Span, salt: Option<[u8; 16]> },
    Hidden { digest: Hash },
}

/// One field of an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field<'a> {
    /// To be read.
    Open {
        /// The key, `source.ip`.
        key: &'a str,
        /// The value, as JSON text.
        value: &'a str,
        /// Its salt, when another field is hidden.
        salt: Option<[u8; 16]>,
    },
    /// Only its digest is here.
    Hidden {
        /// As the origin computed it.
        digest: Hash,
    },
}

/// A signature over a batch, and the envelope's place in it: the origin's, or that of a node which attests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// Which leaf,
    pub index: u32,
    /// of how many.
    pub count: u32,
    /// From the leaf to the root.
    pub proof: Vec<Hash>,
    /// Ed25519 over the root and the count.
    pub signature: [u8; 64],
}

/// A decoded envelope of which nobody has verified the seal. Cheap to clone.
#[derive(Clone)]
pub struct Envelope {
    bytes: Bytes,
    index: Arc<Index>,
    path: Vec<Name>,
    /// Its payload came encrypted, and this is what was in it.
    opened: bool,
}

/// What stands in the bytes before the path: the same in every copy that passes on.
struct Index {
    header: Header,
    header_at: Span,
    fields: Vec<FieldSpan>,
    hidden: u16,
    seed: Option<[u8; 32]>,
    seal: Seal,
    /// Where the path begins, the last part of the bytes.
    path_at: usize,
    seen: OnceLock<SeenKeys>,
}

/// A field as bytes, which is enough for its digest.
pub(super) enum RawField<'a> {
    Open { key: &'a [u8], value: &'a [u8], salt: Option<[u8; 16]> },
    Hidden { digest: Hash },
}

impl Envelope {
    /// Decodes an envelope, all of `bytes`. The bytes are kept, not copied.
    pub fn decode(bytes: Bytes, bounds: &Bounds) -> Result<Envelope, Malformed> {
        within("envelope_bytes", bytes.len(), bounds.bytes)?;
        let envelope = Envelope::read(bytes, bounds, Header::decode, strictly)?;
        envelope.check()?;
        Ok(envelope)
    }

    /// Decodes what [`Envelope::decode`] has read before, and a store kept: what is in the fields is not looked at again.
    pub(super) fn reopen(bytes: Bytes) -> Result<Envelope, Malformed> {
        // Spans are 32 bits.
        within("envelope_bytes", bytes.len(), u32::MAX as usize)?;
        Envelope::read(bytes, &UNBOUNDED, Header::reopen, |_, _| Ok(()))
    }

    /// `value` looks at the value of each field that is open.
    fn read(
        bytes: Bytes,
        bounds: &Bounds,
        header: impl Fn(&[u8]) -> Result<Header, Malformed>,
        value: impl Fn(usize, &str) -> Result<(), Malformed>,
    ) -> Result<Envelope, Malformed> {
        let mut reader = Reader::new(&bytes);
        reader.list_of(5)?;
        let header_bytes = reader.bytes()?;
        let header_at = Span::of(&bytes, header_bytes);
        let header = header(header_bytes)?;
        let (fields, hidden) = read_fields(&mut reader, &bytes, bounds, value)?;
        let seed = reader.optional()?;
        let seal = WireSeal::read(&mut reader)?.checked()?;
        let path_at = reader.at();
        let path = hop::check(&hop::read(&mut reader, bounds)?)?;
        reader.end()?;
        let index = Index { header, header_at, fields, hidden, seed, seal, path_at, seen: OnceLock::new() };
        Ok(Envelope { index: Arc::new(index), path, bytes, opened: false })
    }

    /// That its parts fit together.
    fn check(&self) -> Result<(), Malformed> {
        let Index { header, fields, seed, hidden, .. } = &*self.index;
        if fields.len() != header.n as usize {
            return Err(Malformed::Shape("the header names another number of fields"));
        }
        let mut keys = Vec::with_capacity(fields.len());
        for (index, field) in self.raw_fields().enumerate() {
            let fault = |what| Malformed::Field { index, what };
            let RawField::Open { key, value, salt } = field else { continue };
            if salt.is_some() == seed.is_some() {
                return Err(fault("it has a salt of its own exactly when no seed travels"));
            }
            if header.is_encrypted() && !key.is_empty() {
                return Err(Malformed::Shape("the one field of an encrypted payload has no name"));
            }
            if header.is_encrypted() && !crypt::is_ciphertext(value) {
                return Err(fault("its value is no base64, and the payload is encrypted"));
            }
            keys.push((last(key), key));
        }
        if (*hidden > 0) == seed.is_some() {
            return Err(Malformed::Shape("the seed travels exactly when no field is hidden"));
        }
        keys.sort_unstable();
        if keys.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Malformed::Shape("two fields have the same key"));
        }
        Ok(())
    }

    /// The origin and the id that these bytes name, if they begin as an envelope does: to tell what was sent in the
    /// place of what, before it is worth decoding. What [`Envelope::decode`] reads is named the same here.
    pub fn named(bytes: &[u8]) -> Option<(Name, Uuid)> {
        let mut reader = Reader::new(bytes);
        let header = reader.list_of(5).and_then(|()| reader.bytes()).ok()?;
        Header::named(header).ok()
    }

    pub(super) fn encode(
        header: &[u8],
        fields: &[Field<'_>],
        seed: Option<&[u8; 32]>,
        seal: &Seal,
        path: &[WireHop<'_>],
    ) -> Vec<u8> {
        let proof: Vec<ByteArray<32>> = seal.proof.iter().map(|&hash| ByteArray::new(hash)).collect();
        let proof = (seal.index, seal.count, proof, ByteArray::new(seal.signature));
        let seed = seed.map(|&seed| ByteArray::new(seed));
        let wire = (serde_bytes::Bytes::new(header), fields, seed, proof, path);
        // Encoding plain data into memory cannot fail.
        serde_cbor::to_vec(&wire).expect("an envelope is plain data")
    }

    /// The bytes, as they travel and are stored.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.index.header
    }

    pub(super) fn header_bytes(&self) -> &[u8] {
        self.index.header_at.within(&self.bytes)
    }

    /// The fields, in the origin's order.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = Field<'_>> {
        self.index.fields.iter().map(|field| match *field {
            FieldSpan::Open { key, value, salt } => {
                Field::Open { key: key.text(&self.bytes), value: value.text(&self.bytes), salt }
            }
            FieldSpan::Hidden { digest } => Field::Hidden { digest },
        })
    }

    pub(super) fn raw_fields(&self) -> impl Iterator<Item = RawField<'_>> {
        self.index.fields.iter().map(|field| match *field {
            FieldSpan::Open { key, value, salt } => {
                RawField::Open { key: key.within(&self.bytes), value: value.within(&self.bytes), salt }
            }
            FieldSpan::Hidden { digest } => RawField::Hidden { digest },
        })
    }

    /// The value of a field that is open.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields().find_map(|field| match field {
            Field::Open { key, value, .. } if key == name => Some(value),
            _ => None,
        })
    }

    /// How many fields are hidden.
    pub fn hidden(&self) -> u16 {
        self.index.hidden
    }

    /// Under which keys it is remembered.
    pub fn seen_keys(&self) -> SeenKeys {
        *self.index.seen.get_or_init(|| SeenKeys::of(self))
    }

    pub(super) fn opened(self) -> Envelope {
        Envelope { opened: true, ..self }
    }

    /// Whether its payload came encrypted, and stands here as it was before.
    pub fn was_encrypted(&self) -> bool {
        self.opened
    }

    pub(super) fn seed(&self) -> Option<&[u8; 32]> {
        self.index.seed.as_ref()
    }

    /// The seal, verified or not.
    pub fn seal(&self) -> &Seal {
        &self.index.seal
    }

    /// The nodes that the envelope passed, the origin first. Not signed, but for what [`Envelope::hops`] tells.
    pub fn path(&self) -> &[Name] {
        &self.path
    }

    /// The path with what its nodes have signed, and whether that holds: up to a signature to verify for each.
    pub fn hops(&self) -> Vec<Hop> {
        let leaf = self.leaf();
        let before = std::iter::once(None).chain(self.path.iter().map(Some));
        let hops = self.wire_path().into_iter().zip(&self.path).zip(before);
        hops.map(|((hop, name), from)| Hop { name: name.clone(), attestation: hop.read(from, &leaf) }).collect()
    }

    pub(super) fn wire_path(&self) -> Vec<WireHop<'_>> {
        hop::read(&mut Reader::new(&self.bytes[self.index.path_at..]), &UNBOUNDED)
            .expect("decoding checked that this is a path")
    }

    /// The same envelope with `node` at the end of its path.
    #[must_use]
    pub fn with_hop(&self, node: &Name) -> Envelope {
        self.with_entry(node, WireHop::Claimed(node.as_str()))
    }

    /// The same with this entry of `node`'s at the end.
    pub(super) fn with_entry(&self, node: &Name, entry: WireHop<'_>) -> Envelope {
        let (before, after) = self.bytes[self.index.path_at..].split_at(cbor::list_head(self.path.len()).len());
        debug_assert_eq!(before, cbor::list_head(self.path.len()));
        let path = [&self.path[..], std::slice::from_ref(node)].concat();
        let head = cbor::list_head(path.len());
        let bytes = [&self.bytes[..self.index.path_at], &head, after, &hop::encode(entry)].concat();
        Envelope { bytes: bytes.into(), index: self.index.clone(), path, opened: self.opened }
    }

    /// The same with names alone in its path.
    #[must_use]
    pub(super) fn without_attestations(&self) -> Envelope {
        let names: Vec<_> = self.path.iter().map(|name| WireHop::Claimed(name.as_str())).collect();
        let bytes = [&self.bytes[..self.index.path_at], &hop::encode(names)].concat();
        Envelope { bytes: bytes.into(), ..self.clone() }
    }
}

impl fmt::Debug for Envelope {
    /// Who and which, never the payload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Envelope({} {}, {}b)", self.header().origin, self.header().id, self.bytes.len())
    }
}

pub(super) fn within(what: &'static str, is: usize, most: usize) -> Result<(), Malformed> {
    if is > most { Err(Malformed::TooBig { what, is, most }) } else { Ok(()) }
}

/// Index, count, proof, signature. The signature is last: the path, which grows, begins where it ends.
#[derive(Serialize)]
pub(super) struct WireSeal<'a>(
    pub(super) u32,
    pub(super) u32,
    pub(super) Vec<ByteArray<32>>,
    #[serde(with = "serde_bytes")] pub(super) &'a [u8],
);

impl<'a> WireSeal<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<WireSeal<'a>, Malformed> {
        reader.list_of(4)?;
        let (index, count, length) = (reader.u32()?, reader.u32()?, reader.list()?);
        if length > MAX_PROOF {
            return Err(Malformed::Shape("a proof is longer than that of any batch"));
        }
        let proof = (0..length).map(|_| reader.array().map(ByteArray::new)).collect::<Result<_, _>>()?;
        Ok(WireSeal(index, count, proof, reader.bytes()?))
    }

    pub(super) fn checked(&self) -> Result<Seal, Malformed> {
        let WireSeal(index, count, ref proof, signature) = *self;
        let signature = signature.try_into().map_err(|_| Malformed::Shape("a signature has 64 bytes"))?;
        if count == 0 || count > MAX_BATCH || index >= count {
            return Err(Malformed::Shape("the seal's place in its batch is impossible"));
        }
        let proof = proof.iter().map(|hash| hash.into_array()).collect();
        Ok(Seal { index, count, proof, signature })
    }
}

/// The fields, and how many of them are hidden.
fn read_fields(
    reader: &mut Reader<'_>,
    whole: &[u8],
    bounds: &Bounds,
    check: impl Fn(usize, &str) -> Result<(), Malformed>,
) -> Result<(Vec<FieldSpan>, u16), Malformed> {
    let length = reader.list()?;
    within("fields", length, bounds.fields)?;
    let (mut fields, mut hidden) = (Vec::with_capacity(length), 0u16);
    for index in 0..length {
        if reader.is_bytes() {
            fields.push(FieldSpan::Hidden { digest: reader.array()? });
            hidden = hidden.saturating_add(1);
            continue;
        }
        let parts = reader.list()?;
        let (key, value) = (reader.text()?, reader.text()?);
        check(index, value)?;
        let salt = match parts {
            2 => None,
            3 => Some(reader.array()?),
            _ => return Err(Malformed::Cbor("a field is [key, value], [key, value, salt] or a digest".into())),
        };
        let span = |text: &str| Span::of(whole, text.as_bytes());
        fields.push(FieldSpan::Open { key: span(key), value: span(value), salt });
    }
    Ok((fields, hidden))
}

/// A value is one complete JSON value.
fn strictly(index: usize, value: &str) -> Result<(), Malformed> {
    json::complete(value).map_err(|_| Malformed::Field { index, what: "its value is not JSON" })
}

/// The end of a key as a number: keys are alike at their beginnings, and rarely there.
fn last(key: &[u8]) -> u64 {
    key.iter().rev().take(8).fold(0, |word, byte| word << 8 | u64::from(*byte))
}

impl Serialize for Field<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Field::Open { key, value, salt } => {
                let mut tuple = serializer.serialize_tuple(2 + usize::from(salt.is_some()))?;
                tuple.serialize_element(key)?;
                tuple.serialize_element(value)?;
                if let Some(salt) = salt {
                    tuple.serialize_element(&ByteArray::new(*salt))?;
                }
                tuple.end()
            }
            Field::Hidden { digest } => serializer.serialize_bytes(digest),
        }
    }
}
