//! The frames: unsigned-varint length, one byte of kind, CBOR. Bounded and strict.

use bytes::{Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use uuid::Uuid;

use super::few::{self, Few};
use super::packing::{pack, unpack};
use super::pull::Known;
use super::rosters::Have;
use super::verdict::Verdict;
use crate::envelope::{Name, SeenKey};

/// Everything that travels on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The opener's first.
    Hello(Hello),
    /// The other side's first: the link stands.
    HelloAck(Hello),
    /// Instead of `HelloAck`: why not.
    Refuse(String),
    /// The receiver's first: begin here.
    Pull(From),
    /// Entries of the log.
    Batch(Batch),
    /// What of them is wanted.
    Want(Want),
    /// What was wanted.
    Bodies(Bodies),
    /// Everything in a batch is durably decided.
    Done(Done),
    /// The log ends here.
    Beat(Beat),
    /// Which roster the sender has.
    Have(Have),
    /// A signed roster.
    Roster(ByteBuf),
    /// Signed notices.
    Notices(Vec<ByteBuf>),
}

/// Who speaks, and what it can take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// The node's name; must be the one that the other side has for its key.
    pub node: Name,
    /// Program and version, for the log.
    pub software: String,
    /// The id of its log.
    pub log: Uuid,
    /// Largest envelope that it accepts, bytes.
    pub envelope_bytes: u64,
    /// Largest frame that it accepts, bytes.
    pub frame_bytes: u64,
    /// For this peer, it is in test mode: only events of the classification type `test` are to be given to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub test: bool,
}

/// Where to begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum From {
    /// Behind everything that is there.
    Now,
    /// At the oldest entry.
    All,
    /// At the first entry that was stored at this time or later, ms since 1970.
    Time(u64),
    /// Where this token says.
    Token(ByteBuf),
}

/// A part of the sender's log, what policy withholds left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Counts up from 1 on each link.
    pub no: u64,
    /// What is offered.
    #[serde(deserialize_with = "few::deserialize")]
    pub offers: Vec<Offer>,
    /// What is sent whole: see [`pack`]. Slots of offers and bodies are distinct, and together 0 to n-1.
    #[serde(with = "packed")]
    pub whole: Bytes,
    /// Where to resume when this batch and all before it are decided.
    pub token: ByteBuf,
}

/// An id that the sender has: slot, origin, id, size in bytes, number of hidden fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer(pub u16, pub Name, pub Uuid, pub u32, pub u16);

/// The receiver's answers, by slot. Those that are `Later` or `Slow` are answered again. None at all: still at work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Want {
    /// The batch.
    pub no: u64,
    /// Per slot.
    #[serde(deserialize_with = "few::deserialize")]
    pub answers: Vec<(u16, Answer)>,
}

/// What the receiver says to an offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// Send it.
    Want,
    /// I have it.
    Have,
    /// Somebody else is about to give it to me.
    Later,
    /// You bring more than you may: I ask for it later. Of what came whole: it is taken; offer what follows.
    Slow,
    /// I will not take it.
    Refuse(Verdict),
}

/// Envelopes that were wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bodies {
    /// The batch.
    pub no: u64,
    /// See [`pack`].
    #[serde(with = "packed")]
    pub packed: Bytes,
}

/// A batch is decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Done {
    /// The batch.
    pub no: u64,
    /// Per slot, in order.
    #[serde(deserialize_with = "few::deserialize")]
    pub verdicts: Vec<Verdict>,
    /// How the receiver would like the next ones.
    pub mode: Mode,
}

/// How entries that are passed on are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// By id first.
    #[default]
    Offer,
    /// Whole: nearly all of them are new here.
    Whole,
}

/// Where the log ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Beat {
    /// As in [`Batch::token`].
    pub token: ByteBuf,
}

/// Why bytes are no frame; the link ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Over the limit.
    #[error("a frame of {0} bytes, more than limits.frame_bytes")]
    TooLong(u64),
    /// The length is no varint.
    #[error("a frame whose length is no varint")]
    Length,
    /// No such kind.
    #[error("a frame of unknown kind {0}")]
    Kind(u8),
    /// The content does not fit the kind.
    #[error("a frame that does not decode: {0}")]
    Content(String),
}

impl std::convert::From<serde_cbor::Error> for FrameError {
    fn from(error: serde_cbor::Error) -> FrameError {
        FrameError::Content(error.to_string().chars().take(120).collect())
    }
}

impl Frame {
    /// The frame's bytes, length first.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        self.encode_into(&mut bytes);
        bytes.into()
    }

    /// As [`Frame::encode`], behind what is there.
    pub fn encode_into(&self, out: &mut BytesMut) {
        let (kind, body) = match self {
            Frame::Hello(body) => (0, cbor(body)),
            Frame::HelloAck(body) => (1, cbor(body)),
            Frame::Refuse(body) => (2, cbor(body)),
            Frame::Pull(body) => (3, cbor(body)),
            Frame::Batch(body) => (4, cbor(body)),
            Frame::Want(body) => (5, cbor(body)),
            Frame::Bodies(body) => (6, cbor(body)),
            Frame::Done(body) => (7, cbor(body)),
            Frame::Beat(body) => (8, cbor(body)),
            Frame::Have(body) => (9, cbor(body)),
            Frame::Roster(body) => (10, cbor(body)),
            Frame::Notices(body) => (11, cbor(body)),
        };
        let mut length = unsigned_varint::encode::usize_buffer();
        let length = unsigned_varint::encode::usize(body.len() + 1, &mut length);
        out.reserve(length.len() + 1 + body.len());
        out.extend_from_slice(length);
        out.extend_from_slice(&[kind]);
        out.extend_from_slice(&body);
    }

    /// Bytes of envelopes in it, packed, and of what else may be large.
    pub fn weight(&self) -> usize {
        match self {
            Frame::Batch(batch) => batch.whole.len() + 96 * batch.offers.len(),
            Frame::Bodies(bodies) => bodies.packed.len(),
            Frame::Want(want) => 16 * want.answers.len(),
            Frame::Done(done) => 16 * done.verdicts.len(),
            Frame::Notices(notices) => notices.iter().map(|notice| notice.len()).sum(),
            _ => 0,
        }
    }

    /// Puts other envelopes into the places of those that it carries: another form, or nothing where one is not given
    /// any more.
    pub fn revise(&mut self, forms: Vec<(u16, Option<Bytes>)>) {
        let forms: Vec<(u16, Bytes)> = forms.into_iter().map(|(slot, form)| (slot, form.unwrap_or_default())).collect();
        let packed = pack(&forms);
        match self {
            Frame::Batch(batch) if !batch.whole.is_empty() => batch.whole = packed,
            Frame::Bodies(bodies) => bodies.packed = packed,
            _ => {}
        }
    }

    /// The batch whose envelopes it carries, and their slots. What is no longer given is not among them: it stays so.
    pub(super) fn carries(&self) -> Option<(u64, Vec<u16>)> {
        let (no, packed) = match self {
            Frame::Batch(batch) => (batch.no, &batch.whole),
            Frame::Bodies(bodies) => (bodies.no, &bodies.packed),
            _ => return None,
        };
        // Ours: it unpacks.
        let list = unpack(packed, usize::MAX).unwrap_or_default();
        Some((no, list.into_iter().map(|(slot, _)| slot).collect()))
    }

    /// Decodes what follows the length.
    pub fn decode(bytes: &[u8]) -> Result<Frame, FrameError> {
        let (&kind, body) = bytes.split_first().ok_or(FrameError::Length)?;
        Ok(match kind {
            0 => Frame::Hello(of_cbor(body)?),
            1 => Frame::HelloAck(of_cbor(body)?),
            2 => Frame::Refuse(of_cbor(body)?),
            3 => Frame::Pull(of_cbor(body)?),
            4 => Frame::Batch(of_cbor(body)?),
            5 => Frame::Want(of_cbor(body)?),
            6 => Frame::Bodies(of_cbor(body)?),
            7 => Frame::Done(of_cbor(body)?),
            8 => Frame::Beat(of_cbor(body)?),
            9 => Frame::Have(of_cbor(body)?),
            10 => Frame::Roster(of_cbor(body)?),
            11 => Frame::Notices(of_cbor::<Few<ByteBuf>>(body)?.0),
            other => return Err(FrameError::Kind(other)),
        })
    }
}

/// Byte strings that several frames may share.
mod packed {
    use bytes::Bytes;
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        serde_bytes::deserialize::<Vec<u8>, D>(deserializer).map(Bytes::from)
    }
}

pub(super) fn cbor<T: Serialize>(body: &T) -> Vec<u8> {
    // Encoding plain data into memory cannot fail.
    serde_cbor::to_vec(body).expect("a frame is plain data")
}

fn of_cbor<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    // Not serde_cbor's own dialects: numbers in the place of keys, and arrays in that of enums.
    let mut input = serde_cbor::Deserializer::from_slice(body).disable_packed_format().disable_legacy_enums();
    let frame = T::deserialize(&mut input)?;
    input.end()?;
    Ok(frame)
}

/// Takes the length of the next frame off `buffer`, when all of it is there: `None` means that more bytes are needed.
pub fn decode_length(buffer: &mut BytesMut, most: usize) -> Result<Option<usize>, FrameError> {
    match unsigned_varint::decode::u64(buffer) {
        Ok((length, _)) if length > most as u64 => Err(FrameError::TooLong(length)),
        Ok((length, rest)) => {
            let used = buffer.len() - rest.len();
            if rest.len() < length as usize {
                return Ok(None);
            }
            let _ = buffer.split_to(used);
            Ok(Some(length as usize))
        }
        Err(unsigned_varint::decode::Error::Insufficient) => Ok(None),
        Err(_) => Err(FrameError::Length),
    }
}

impl Batch {
    /// The ids that the batch shows the sender to have, where they can be told without opening anything: by origin and
    /// id. That an id is made of the content is the origin's word until the envelope is opened; believed here, a stolen
    /// content id would keep the real event from the peer.
    pub(super) fn keys<K: Known>(&self, known: &K) -> Vec<(SeenKey, u16)> {
        let keys = self.offers.iter().filter_map(|offer| known.keys(offer));
        keys.map(|keys| (keys.insert, keys.hidden)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8], most: usize) -> Result<Option<Frame>, FrameError> {
        let mut buffer = BytesMut::from(bytes);
        let Some(length) = decode_length(&mut buffer, most)? else { return Ok(None) };
        Frame::decode(&buffer[..length]).map(Some)
    }

    fn frames() -> Vec<Frame> {
        let name: Name = "cert-at".parse().unwrap();
        let hello = Hello {
            node: name.clone(),
            software: "intelmq-relay 0.1.0".into(),
            log: Uuid::from_u128(5),
            envelope_bytes: 1 << 20,
            frame_bytes: 4 << 20,
            test: true,
        };
        let body = Bytes::from_static(b"envelope");
        vec![
            Frame::Hello(hello.clone()),
            Frame::HelloAck(hello),
            Frame::Refuse("who are you?".into()),
            Frame::Pull(From::Now),
            Frame::Pull(From::All),
            Frame::Pull(From::Time(7)),
            Frame::Pull(From::Token(ByteBuf::from([1; 64]))),
            Frame::Batch(Batch {
                no: 1,
                offers: vec![Offer(0, name, Uuid::from_u128(6), 1400, 2)],
                whole: pack(&[(1, body.clone())]),
                token: ByteBuf::from([2; 64]),
            }),
            Frame::Want(Want {
                no: 1,
                answers: vec![(0, Answer::Want), (1, Answer::Refuse(Verdict::Refused("tlp-red".into())))],
            }),
            Frame::Bodies(Bodies { no: 1, packed: pack(&[(0, body.clone())]) }),
            Frame::Done(Done { no: 1, verdicts: vec![Verdict::Accepted, Verdict::TooOld], mode: Mode::Whole }),
            Frame::Beat(Beat { token: ByteBuf::from([3; 64]) }),
            Frame::Have(Have::default()),
            Frame::Have(Have { number: 8, network: "certs".parse().ok(), digest: Some([4; 32].into()) }),
            Frame::Roster(ByteBuf::from([5; 64])),
        ]
    }

    #[test]
    fn frames_read_back_and_no_part_of_one_is_one() {
        for frame in frames() {
            let bytes = frame.encode();
            assert_eq!(read(&bytes, 4096).unwrap(), Some(frame.clone()));
            for cut in 0..bytes.len() {
                assert_eq!(read(&bytes[..cut], 4096), Ok(None), "{frame:?} cut to {cut}");
            }
            assert!(matches!(read(&bytes, Frame::decode_len(&bytes) - 1), Err(FrameError::TooLong(_))));
            let mut longer = bytes[bytes.len() - Frame::decode_len(&bytes)..].to_vec();
            longer.push(0);
            assert!(Frame::decode(&longer).is_err(), "{frame:?} with a byte more");
        }
    }

    #[test]
    fn there_is_one_dialect_of_a_frame() {
        let beat = Beat { token: ByteBuf::from([3; 64]) };
        let packed = serde_cbor::ser::to_vec_packed(&beat).unwrap();
        assert!(serde_cbor::from_slice::<Beat>(&packed).is_ok());
        assert!(Frame::decode(&[&[8], &packed[..]].concat()).is_err());
    }

    impl Frame {
        fn decode_len(bytes: &[u8]) -> usize {
            unsigned_varint::decode::usize(bytes).unwrap().0
        }
    }

    #[test]
    fn a_count_bomb_is_refused_before_it_takes_memory() {
        // A million empty envelopes, each 40 bytes in memory: some hundred bytes when compressed.
        let mut tiny = [&[0x9a, 0, 0x10, 0, 0][..], &[0x82, 0, 0x40].repeat(1 << 20)].concat();
        let packed = zstd::bulk::compress(&tiny, 1).unwrap();
        assert!(packed.len() < 1000, "{}", packed.len());
        let refused = |result: Result<(), FrameError>| result.unwrap_err().to_string();
        assert!(refused(unpack(&packed, 4 << 20).map(drop)).contains("more than 512 entries"));
        // So many of them, and as many as there can be none, are said and not there.
        tiny.truncate(5);
        assert!(unpack(&zstd::bulk::compress(&tiny, 1).unwrap(), 4 << 20).is_err());
        let most: &[u8] = &[0x9b, 0x0f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert!(unpack(&zstd::bulk::compress(most, 1).unwrap(), 4 << 20).is_err());
        for list in [&b"\x67answers"[..], b"\x68verdicts", b"\x66offers"] {
            let body = [&[0xa1], list, most].concat();
            for kind in [4, 5, 7] {
                assert!(Frame::decode(&[&[kind], &body[..]].concat()).is_err());
            }
        }
        let verdicts = vec![Verdict::Loop; 513];
        let done = Frame::Done(Done { no: 1, verdicts, mode: Mode::Offer }).encode();
        assert!(refused(read(&done, 1 << 20).map(drop)).contains("more than 512 entries"));
        let notices = Frame::Notices(vec![ByteBuf::new(); 513]).encode();
        assert!(refused(read(&notices, 1 << 20).map(drop)).contains("more than 512 entries"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes, 4096);
            let _ = Frame::decode(&bytes);
            let _ = unpack(&bytes, 4096);
        }

        #[test]
        fn changed_frames_never_panic(which in 0usize..15, at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = frames()[which].encode();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = read(&bytes, 4096);
        }
    }
}
