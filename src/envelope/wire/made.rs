//! Envelopes that are sealed here: written in one go, and known without being decoded.
//!
//! Owns that such an envelope is, byte for byte and in all that is known of it, what decoding its bytes would give.

use super::cbor::{BYTES, LIST, TEXT, UINT, push_head};
use super::*;

/// A field's head and the heads of its key and value, at most; and so much of everything beside header, fields and proof.
const FIELD_BYTES: usize = 11;
const REST_BYTES: usize = 256;

impl Envelope {
    /// The envelope with this header, of which `header_bytes` are the encoding, that begins its way at its origin. What a
    /// [`Draft`](super::super::Draft) promises holds for header and fields.
    pub(in crate::envelope) fn made(
        header: Header,
        header_bytes: &[u8],
        fields: &[(String, String)],
        seed: [u8; 32],
        seal: Seal,
    ) -> Envelope {
        let size: usize = fields.iter().map(|(key, value)| key.len() + value.len() + FIELD_BYTES).sum();
        let mut out = Vec::with_capacity(header_bytes.len() + size + 34 * seal.proof.len() + REST_BYTES);
        push_head(&mut out, LIST, 5);
        let header_at = part(&mut out, BYTES, header_bytes);
        push_head(&mut out, LIST, fields.len());
        let spans = fields.iter().map(|(key, value)| {
            push_head(&mut out, LIST, 2);
            let key = part(&mut out, TEXT, key.as_bytes());
            FieldSpan::Open { key, value: part(&mut out, TEXT, value.as_bytes()), salt: None }
        });
        let fields = spans.collect();
        part(&mut out, BYTES, &seed);
        push_head(&mut out, LIST, 4);
        push_head(&mut out, UINT, seal.index as usize);
        push_head(&mut out, UINT, seal.count as usize);
        push_head(&mut out, LIST, seal.proof.len());
        for hash in &seal.proof {
            part(&mut out, BYTES, hash);
        }
        part(&mut out, BYTES, &seal.signature);
        let path_at = out.len();
        push_head(&mut out, LIST, 1);
        part(&mut out, TEXT, header.origin.as_str().as_bytes());
        let (path, bytes) = (vec![header.origin.clone()], out.into());
        let seen = OnceLock::new();
        let index = Index { header, header_at, fields, hidden: 0, seed: Some(seed), seal, path_at, seen };
        Envelope { bytes, index: Arc::new(index), path, opened: false }
    }
}

/// Bytes or a text; where it is.
fn part(out: &mut Vec<u8>, major: u8, bytes: &[u8]) -> Span {
    push_head(out, major, bytes.len());
    let from = out.len() as u32;
    out.extend_from_slice(bytes);
    Span { from, to: out.len() as u32 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::envelope::{Message, Secret};

    proptest! {
        /// Lengths on both sides of each of CBOR's steps.
        #[test]
        fn what_is_made_is_what_decoding_gives(
            values in prop::collection::vec((0..70_000usize, 0..300usize), 0..30),
            (index, proof) in (0..1024u32, 0..=10usize),
            seed: [u8; 32],
        ) {
            let fields: Vec<_> = values.iter().zip(0..).map(|((value, key), n)| {
                (format!("{n}.{}", "k".repeat(*key)), format!("\"{}\"", "v".repeat(*value)))
            }).collect();
            let mut header = Message::read(b"{}").unwrap().header(&"cert-at".parse().unwrap(), Uuid::nil(), 1);
            (header.key, header.n) = (Secret::from_seed(&seed).key(), fields.len() as u32);
            let seal = Seal { index, count: 1024, proof: vec![seed; proof], signature: [7; 64] };
            let made = Envelope::made(header.clone(), &header.encode(), &fields, seed, seal);
            let bounds = Bounds { bytes: usize::MAX, fields: usize::MAX, path: 1 };
            let decoded = Envelope::decode(made.bytes.clone(), &bounds).unwrap();
            prop_assert_eq!(made.header(), decoded.header());
            prop_assert_eq!(made.header_bytes(), decoded.header_bytes());
            prop_assert_eq!(made.fields().collect::<Vec<_>>(), decoded.fields().collect::<Vec<_>>());
            prop_assert_eq!((made.seed(), made.seal(), made.path()), (decoded.seed(), decoded.seal(), decoded.path()));
            prop_assert_eq!((made.index.path_at, made.opened), (decoded.index.path_at, decoded.opened));
            prop_assert_eq!(made.hidden(), decoded.hidden());
            let written = decoded.fields().collect::<Vec<_>>();
            let again = Envelope::encode(made.header_bytes(), &written, Some(&seed), made.seal(), &made.wire_path());
            prop_assert_eq!(&again[..], &made.bytes[..]);
        }
    }
}
