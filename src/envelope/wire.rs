//! The envelope's bytes: encoding, strict decoding, and an index over them.
//!
//! An [`Envelope`] *is* the bytes that came; everything else about it is a view into them. So what is passed on is
//! what was signed, and passing on costs a copy and no encoding. Decoding accepts nothing that it does not
//! understand, and says nothing about who signed: that is [`super::Verifier`]'s.

use std::fmt;

use bytes::Bytes;
use serde::ser::SerializeTuple;
use serde::{Deserialize, Serialize, Serializer};
use serde_bytes::ByteArray;
use uuid::Uuid;

use super::cbor::{self, Reader};
use super::hop::{self, Hop, WireHop};
use super::merkle::Hash;
use super::{Header, Name, crypt, json};

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

/// A decoded envelope of which nobody has verified the seal.
#[derive(Clone)]
pub struct Envelope {
    bytes: Bytes,
    header: Header,
    header_at: Span,
    fields: Vec<FieldSpan>,
    seed: Option<[u8; 32]>,
    seal: Seal,
    path: Vec<Name>,
    /// Where the path begins, the last part of the bytes.
    path_at: usize,
    /// Its payload came encrypted, and this is what was in it.
    opened: bool,
}

impl Envelope {
    /// Decodes an envelope, all of `bytes`. The bytes are kept, not copied.
    pub fn decode(bytes: Bytes, bounds: &Bounds) -> Result<Envelope, Malformed> {
        within("envelope_bytes", bytes.len(), bounds.bytes)?;
        let whole = bytes.clone();
        let mut reader = Reader::new(&whole);
        reader.list_of(5)?;
        let header_bytes = reader.bytes()?;
        let wire_fields = read_fields(&mut reader, bounds)?;
        let seed = reader.optional()?;
        let seal = WireSeal::read(&mut reader)?.checked()?;
        let path_at = reader.at();
        let wire_path = hop::read(&mut reader, bounds)?;
        reader.end()?;
        let header = Header::decode(header_bytes)?;
        check_fields(&wire_fields, seed.is_some(), &header)?;
        let fields = wire_fields.iter().map(|field| field.span(&bytes)).collect();
        let header_at = Span::of(&bytes, header_bytes);
        let path = hop::check(&wire_path)?;
        Ok(Envelope { header, header_at, fields, seed, seal, path, path_at, bytes, opened: false })
    }

    /// The origin and the id that these bytes name, if they begin as an envelope does: to tell what was sent in the
    /// place of what, before it is worth decoding. What [`Envelope::decode`] reads is named the same here.
    pub fn named(bytes: &[u8]) -> Option<(Name, Uuid)> {
        #[derive(Deserialize)]
        struct Named {
            origin: Name,
            id: Uuid,
        }
        let mut reader = Reader::new(bytes);
        let header = reader.list_of(5).and_then(|()| reader.bytes()).ok()?;
        let Named { origin, id } = serde_cbor::from_slice(header).ok()?;
        Some((origin, id))
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
        &self.header
    }

    pub(super) fn header_bytes(&self) -> &[u8] {
        self.header_at.within(&self.bytes)
    }

    /// The fields, in the origin's order.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = Field<'_>> {
        self.fields.iter().map(|field| match *field {
            FieldSpan::Open { key, value, salt } => {
                Field::Open { key: key.text(&self.bytes), value: value.text(&self.bytes), salt }
            }
            FieldSpan::Hidden { digest } => Field::Hidden { digest },
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
        let hidden = self.fields.iter().filter(|field| matches!(field, FieldSpan::Hidden { .. })).count();
        u16::try_from(hidden).unwrap_or(u16::MAX)
    }

    pub(super) fn opened(self) -> Envelope {
        Envelope { opened: true, ..self }
    }

    /// Whether its payload came encrypted, and stands here as it was before.
    pub fn was_encrypted(&self) -> bool {
        self.opened
    }

    pub(super) fn seed(&self) -> Option<&[u8; 32]> {
        self.seed.as_ref()
    }

    /// The seal, verified or not.
    pub fn seal(&self) -> &Seal {
        &self.seal
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
        let unbounded = Bounds { bytes: usize::MAX, fields: usize::MAX, path: usize::MAX };
        hop::read(&mut Reader::new(&self.bytes[self.path_at..]), &unbounded)
            .expect("decoding checked that this is a path")
    }

    /// The same envelope with `node` at the end of its path.
    #[must_use]
    pub fn with_hop(&self, node: &Name) -> Envelope {
        self.with_entry(node, WireHop::Claimed(node.as_str()))
    }

    /// The same with this entry of `node`'s at the end.
    pub(super) fn with_entry(&self, node: &Name, entry: WireHop<'_>) -> Envelope {
        let (before, after) = self.bytes[self.path_at..].split_at(cbor::list_head(self.path.len()).len());
        debug_assert_eq!(before, cbor::list_head(self.path.len()));
        let mut path = self.path.clone();
        path.push(node.clone());
        let bytes = [&self.bytes[..self.path_at], &cbor::list_head(path.len()), after, &hop::encode(entry)].concat();
        Envelope { bytes: bytes.into(), path, ..self.clone() }
    }

    /// The same with names alone in its path.
    #[must_use]
    pub(super) fn without_attestations(&self) -> Envelope {
        let names: Vec<_> = self.path.iter().map(|name| WireHop::Claimed(name.as_str())).collect();
        let bytes = [&self.bytes[..self.path_at], &hop::encode(names)].concat();
        Envelope { bytes: bytes.into(), ..self.clone() }
    }
}

impl fmt::Debug for Envelope {
    /// Who and which, never the payload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Envelope({} {}, {}b)", self.header.origin, self.header.id, self.bytes.len())
    }
}

pub(super) fn within(what: &'static str, is: usize, most: usize) -> Result<(), Malformed> {
    if is > most { Err(Malformed::TooBig { what, is, most }) } else { Ok(()) }
}

fn check_fields(fields: &[WireField<'_>], seeded: bool, header: &Header) -> Result<(), Malformed> {
    if fields.len() != header.n as usize {
        return Err(Malformed::Shape("the header names another number of fields"));
    }
    let mut keys = Vec::with_capacity(fields.len());
    let mut hidden = false;
    for (index, field) in fields.iter().enumerate() {
        let fault = |what| Malformed::Field { index, what };
        match field {
            WireField::Open { key, value, salt } => {
                if salt.is_some() == seeded {
                    return Err(fault("it has a salt of its own exactly when no seed travels"));
                }
                json::complete(value).map_err(|_| fault("its value is not JSON"))?;
                if header.is_encrypted() && !key.is_empty() {
                    return Err(Malformed::Shape("the one field of an encrypted payload has no name"));
                }
                if header.is_encrypted() && !crypt::is_ciphertext(value) {
                    return Err(fault("its value is no base64, and the payload is encrypted"));
                }
                keys.push(*key);
            }
            WireField::Hidden(_) => hidden = true,
        }
    }
    if hidden == seeded {
        return Err(Malformed::Shape("the seed travels exactly when no field is hidden"));
    }
    keys.sort_unstable();
    if keys.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Malformed::Shape("two fields have the same key"));
    }
    Ok(())
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

enum WireField<'a> {
    Open { key: &'a str, value: &'a str, salt: Option<[u8; 16]> },
    Hidden(Hash),
}

impl WireField<'_> {
    fn span(&self, whole: &[u8]) -> FieldSpan {
        match self {
            WireField::Open { key, value, salt } => FieldSpan::Open {
                key: Span::of(whole, key.as_bytes()),
                value: Span::of(whole, value.as_bytes()),
                salt: *salt,
            },
            WireField::Hidden(digest) => FieldSpan::Hidden { digest: *digest },
        }
    }
}

fn read_fields<'a>(reader: &mut Reader<'a>, bounds: &Bounds) -> Result<Vec<WireField<'a>>, Malformed> {
    let length = reader.list()?;
    within("fields", length, bounds.fields)?;
    let mut fields = Vec::with_capacity(length);
    for _ in 0..length {
        if reader.is_bytes() {
            fields.push(WireField::Hidden(reader.array()?));
            continue;
        }
        let parts = reader.list()?;
        let (key, value) = (reader.text()?, reader.text()?);
        let salt = match parts {
            2 => None,
            3 => Some(reader.array()?),
            _ => return Err(Malformed::Cbor("a field is [key, value], [key, value, salt] or a digest".into())),
        };
        fields.push(WireField::Open { key, value, salt });
    }
    Ok(fields)
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
