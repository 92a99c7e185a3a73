//! What each target does with bytes, and what must hold then.

use std::path::Path;
use std::sync::LazyLock;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use bytes::{Buf, Bytes, BytesMut};
use intelmq_relay::config::{Config, Described, StoredKey};
use intelmq_relay::envelope::{
    Bounds, Draft, EncryptionSecret, Envelope, Key, Message, Name, Recipient, Secret, SeenKeys, Shape, Unreadable,
    Verifier, parse_id, read_decrypted, seal,
};
use intelmq_relay::harmonization::Format;
use intelmq_relay::intelmq::Botnet;
use intelmq_relay::intelmq::tcp::{Broken, Framing, Partial};
use intelmq_relay::invite::{self, Invitation};
use intelmq_relay::link::{
    Claims, Frame, From, Known, Link, Offer, Settings, Standing, TokenKey, decode_length, pack, unpack,
};
use intelmq_relay::store::{decode_journal_chunk, decode_log_chunk};
use intelmq_relay::trust::{Roster, Signed, SignedNotice};
use intelmq_relay::watch::Question;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::targets::words;

const NOW: u64 = 1_795_514_400_000;
const SHAPES: [Shape; 5] = [Shape::Iep04, Shape::Proposed, Shape::Typed, Shape::Bare, Shape::Extra];
/// Bytes of a frame, at most.
pub const FRAME: usize = 1 << 20;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn secret(n: u8) -> Secret {
    Secret::from_seed(&[n; 32])
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

// ---- The envelope ---------------------------------------------------------------------------------------------------

pub fn envelope(bytes: &[u8]) -> String {
    let bounds = Bounds::default();
    let bytes = Bytes::copy_from_slice(bytes);
    let envelope = match Envelope::decode(bytes.clone(), &bounds) {
        Ok(envelope) => envelope,
        Err(reason) => return words(reason),
    };
    assert!(is_one_form(&bytes), "an envelope is taken in another form than its one");
    let header = envelope.header();
    assert_eq!(Envelope::named(&bytes), Some((header.origin.clone(), header.id)));
    assert_eq!((envelope.bytes(), envelope.fields().len()), (&bytes, header.n as usize));
    passed_on(&envelope);
    written(&envelope);
    let recipient = Recipient::new(name("cert-ee"), EncryptionSecret::derive(&[2; 32]), Vec::new());
    let closed = match recipient.open(&envelope, &bounds) {
        Ok(opened) => {
            written(&opened);
            "open".to_owned()
        }
        Err(closed) => words(closed),
    };
    match Verifier::new(1).open(envelope) {
        Ok(sealed) => {
            let hidden = sealed.hide(|_| true);
            let again = Envelope::decode(hidden.bytes().clone(), &bounds).expect("what is hidden is an envelope");
            assert!(Verifier::new(1).open(again).is_ok(), "the seal does not hold over hidden fields");
            format!("sealed {closed}")
        }
        Err(reason) => format!("{} {closed}", words(reason)),
    }
}

/// One more name changes the path alone.
fn passed_on(envelope: &Envelope) {
    let on = envelope.with_hop(&name("cert-zz"));
    let longer = Bounds { bytes: usize::MAX, path: usize::MAX, ..Bounds::default() };
    let again = Envelope::decode(on.bytes().clone(), &longer).expect("what is passed on is an envelope");
    assert_eq!((again.header(), again.path()), (envelope.header(), on.path()));
    assert!(again.fields().eq(envelope.fields()) && again.hops()[..envelope.path().len()] == envelope.hops());
}

/// What is written is JSON that is read again, and says what the envelope says: not what its origin would like a relay to
/// have said.
fn written(envelope: &Envelope) {
    let header = envelope.header();
    // Of another format, the payload is all its own; of a closed one there is none.
    let intelmq = header.format == "intelmq" && !header.is_encrypted();
    // Nobody tells such a flat event from a message of IEP04; no data format of IntelMQ's has these fields.
    let flat = intelmq && ["meta", "payload"].iter().all(|key| envelope.field(key).is_none());
    for shape in SHAPES {
        let text = envelope.write(shape);
        let iep04 = matches!(shape, Shape::Iep04 | Shape::Proposed);
        match Message::read(text.as_bytes()) {
            Ok(read) if iep04 => {
                assert_eq!(read, meant(envelope, shape, &read), "{shape:?}: {text}");
                assert!(read.tlp >= header.tlp, "{shape:?} widens: {text}");
                marks(envelope, &text);
            }
            Ok(read) if flat => {
                let marked = shape == Shape::Extra;
                assert_eq!(read.origin, marked.then(|| header.origin.clone()), "{shape:?}: {text}");
                assert_eq!(read.id, marked.then_some(header.id), "{shape:?}: {text}");
                assert_eq!(read.links.withdraws, header.links.withdraws.filter(|_| marked), "{shape:?}: {text}");
                assert_eq!(read.links.replaces, header.links.replaces.filter(|_| marked), "{shape:?}: {text}");
                assert!(read.to.is_empty() && payload(envelope).eq(read.fields), "{shape:?}: {text}");
            }
            Err(Unreadable::NoObject) if iep04 && header.is_encrypted() => {}
            // Labels are read strictly, and may be any value in an envelope.
            Err(Unreadable::Meta { key, .. }) if key == "tlp" => {}
            Err(reason @ (Unreadable::Json(_) | Unreadable::Utf8(_))) => panic!("{shape:?}: {reason}: {text}"),
            Err(reason) => assert!(!iep04 && !flat, "{shape:?}: {reason}: {text}"),
            Ok(_) => {}
        }
    }
}

/// The open fields, without those that are marks.
fn payload(envelope: &Envelope) -> impl Iterator<Item = (String, String)> {
    let fields = envelope.open_fields().filter(|(key, _)| *key != "__type" && !key.starts_with("extra.relay."));
    fields.map(|(key, value)| (key.to_owned(), line(value)))
}

/// A value as a part of a line. White space around it is not read.
fn line(value: &str) -> String {
    value.replace(['\n', '\r'], " ").trim_matches([' ', '\t']).to_owned()
}

/// What must be read of an envelope in IEP04.
fn meant(envelope: &Envelope, shape: Shape, read: &Message) -> Message {
    let header = envelope.header().clone();
    let ours = ["intelmq:parent", "intelmq:related", "intelmq:group", "intelmq:alternate"];
    let mut ext = header.ext;
    ext.retain(|key, _| !key.starts_with("relay:") && !ours.contains(&&**key));
    ext.values_mut().for_each(|value| *value = line(value));
    let mut links = header.links;
    links.parent = links.parent.filter(|parent| shape == Shape::Iep04 || parse_id(parent) != Some(header.id));
    // What has no payload, or none that is open, reads as an update of tags.
    let update = read.fields.is_empty();
    if update {
        links.parent.get_or_insert_with(|| header.id.to_string());
    }
    // A payload of another format may be an object, and is read as its members.
    let whole = header.format != "intelmq";
    let fields = if whole { read.fields.clone() } else { payload(envelope).collect() };
    Message {
        id: (!update).then_some(header.id),
        origin: Some(header.origin),
        kind: header.kind,
        format: header.format,
        org: header.org,
        instance: header.instance,
        tlp: read.tlp,
        to: header.to,
        tags: header.tags,
        links,
        ext,
        fields,
    }
}

/// The meta data have the marks of a relay that are true, and no others.
fn marks(envelope: &Envelope, text: &str) {
    // What Python alone reads is left out.
    let Ok(message) = serde_json::from_str::<Value>(text) else { return };
    let header = envelope.header();
    let there = [
        ("relay:replaces", header.links.replaces.is_some()),
        ("relay:withdraws", header.links.withdraws.is_some()),
        ("relay:origin", true),
        ("relay:time", true),
        ("relay:tlp", header.tlp.is_some()),
        ("relay:to", !header.to.is_empty()),
        ("relay:path", true),
        ("relay:hidden", envelope.hidden() > 0),
        ("relay:encrypted", envelope.was_encrypted() || header.is_encrypted()),
    ];
    let there = there.iter().filter(|(_, there)| *there).map(|(key, _)| *key);
    let meta = message["meta"].as_object().expect("there are meta data");
    assert!(there.eq(meta.keys().filter(|key| key.starts_with("relay:"))), "{text}");
}

/// CBOR with numbers and lengths as short as they can be, all of them said, without tags; and nothing behind it.
fn is_one_form(bytes: &[u8]) -> bool {
    let (mut rest, mut due) = (bytes, 1);
    while due > 0 {
        due -= 1;
        let Some((&head, behind)) = rest.split_first() else { return false };
        let (major, short) = (head >> 5, head & 0x1f);
        let width = match short {
            0..24 => 0,
            24..28 => 1 << (short - 24),
            _ => return false,
        };
        let Some((said, behind)) = behind.split_at_checked(width) else { return false };
        let said = said.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        let value = if width == 0 { u64::from(short) } else { said };
        let least = [0, 24, 1 << 8, 1 << 16, 1 << 32][(width as u32 + 1).next_power_of_two().ilog2() as usize];
        if value < least || major == 6 {
            return false;
        }
        rest = behind;
        match major {
            2 | 3 => match rest.split_at_checked(value as usize) {
                Some((_, behind)) => rest = behind,
                None => return false,
            },
            4 => due += value,
            5 => due += 2 * value,
            _ => {}
        }
    }
    rest.is_empty()
}

/// The bytes as an envelope's header: in its place in an envelope that is good otherwise.
pub fn header(bytes: &[u8]) -> String {
    let head = (serde_bytes::Bytes::new(bytes), [("source.ip", "\"192.0.2.1\"")], serde_bytes::Bytes::new(&[7; 32]));
    let seal = (0, 1, [0; 0], serde_bytes::Bytes::new(&[7; 64]));
    envelope(&serde_cbor::to_vec(&(head.0, head.1, head.2, seal, ["cert-at"])).unwrap())
}

/// The bytes as what an origin has encrypted to us.
pub fn decrypted(bytes: &[u8]) -> String {
    static OUTER: LazyLock<Envelope> = LazyLock::new(|| {
        let bytes = super::seeds::vectors("encrypted", "envelope").remove(0);
        Envelope::decode(bytes.into(), &Bounds::default()).unwrap()
    });
    match read_decrypted(&OUTER, bytes, &Bounds::default()) {
        Ok(inner) => {
            assert!(is_one_form(bytes), "what was encrypted is taken in another form than its one");
            written(&inner);
            "read".into()
        }
        Err(reason) => words(reason),
    }
}

// ---- The link -------------------------------------------------------------------------------------------------------

pub fn frame(bytes: &[u8]) -> String {
    let mut buffer = BytesMut::from(bytes);
    let length = match decode_length(&mut buffer, FRAME) {
        Ok(Some(length)) => length,
        Ok(None) => return "more".into(),
        Err(reason) => return words(reason),
    };
    let frame = match Frame::decode(&buffer[..length]) {
        Ok(frame) => frame,
        Err(reason) => return words(reason),
    };
    assert!(frame.weight() <= 96 * bytes.len(), "a frame weighs more than it can");
    let again = frame.encode();
    let mut buffer = BytesMut::from(&again[..]);
    let length = decode_length(&mut buffer, usize::MAX).unwrap().unwrap();
    assert_eq!(Frame::decode(&buffer[..length]).as_ref(), Ok(&frame));
    format!("{:?}", std::mem::discriminant(&frame))
}

/// What is packed in a frame; the first byte says whether the rest has still to be packed.
pub fn bodies(bytes: &[u8]) -> String {
    let Some((packed, bytes)) = bytes.split_first() else { return "nothing".into() };
    let bodies = match *packed {
        0 => unpack(bytes, FRAME),
        _ => unpack(&zstd::bulk::compress(bytes, 1).unwrap(), FRAME),
    };
    match bodies {
        Ok(bodies) => {
            assert!(bodies.iter().map(|(_, body)| body.len()).sum::<usize>() <= FRAME && bodies.len() <= 512);
            let again = unpack(&pack(&bodies), usize::MAX);
            assert_eq!(again.as_ref(), Ok(&bodies));
            "bodies".into()
        }
        Err(reason) => words(reason),
    }
}

/// A node that knows every origin, and has nothing.
struct Open;

impl Known for Open {
    fn keys(&self, offer: &Offer) -> Option<SeenKeys> {
        static KEY: LazyLock<Key> = LazyLock::new(|| secret(1).key());
        Some(SeenKeys::of_offer(&KEY, offer.2, offer.4))
    }

    fn standing(&self, _: &SeenKeys, _: &Offer) -> Standing {
        Standing::New
    }
}

/// Everything that a peer says on a link, one frame after the other.
pub fn link(bytes: &[u8]) -> String {
    let settings = Settings { window: FRAME, frame: FRAME, ..Settings::default() };
    let (claims, mut rng) = (Claims::default(), ChaCha20Rng::seed_from_u64(1));
    let mut link = Link::new(1, settings, TokenKey::derive(&[1; 32]), Uuid::nil(), From::All, 0);
    let mut buffer = BytesMut::from(bytes);
    for number in 0.. {
        let length = match decode_length(&mut buffer, FRAME) {
            Ok(Some(length)) => length,
            Ok(None) => return format!("{} frames", number.min(4)),
            Err(reason) => return words(reason),
        };
        let frame = match Frame::decode(&buffer[..length]) {
            Ok(frame) => frame,
            Err(reason) => return words(reason),
        };
        buffer.advance(length);
        let now = number * 100;
        let handled = link.handle(frame, |_| 0, &Open, &claims, now);
        let ticked = handled.and_then(|_| link.tick(&Open, &claims, &mut rng, now));
        if let Err(violation) = ticked {
            return words(violation);
        }
        // What was said is sent.
        link.out.clear();
    }
    unreachable!("the loop ends with the bytes")
}

pub fn token(bytes: &[u8]) -> String {
    match TokenKey::derive(&[1; 32]).open(bytes) {
        Some(_) => "ours".into(),
        None => "none".into(),
    }
}

// ---- Events and formats of IntelMQ ----------------------------------------------------------------------------------

/// From a door to a seal, and into an IntelMQ.
pub fn event(bytes: &[u8]) -> String {
    let bounds = Bounds::default();
    let mut message = match Message::read(bytes) {
        Ok(message) => message,
        Err(reason) => return words(reason),
    };
    if let Err(reason) = message.flatten(&bounds) {
        return words(reason);
    }
    let header = message.header(&name("cert-at"), Uuid::from_u128(1), NOW);
    let draft = match Draft::new(header, message.fields.clone(), &bounds) {
        Ok(draft) => draft,
        Err(reason) => return words(reason),
    };
    let sealed = seal(&secret(1), vec![draft], &mut ChaCha20Rng::seed_from_u64(1)).remove(0);
    let envelope = Envelope::decode(sealed.bytes().clone(), &bounds).expect("what we seal, others read");
    assert!(envelope.open_fields().eq(message.fields.iter().map(|(key, value)| (&**key, &**value))));
    written(&envelope);
    fitted(Format::builtin(), &message)
}

/// What fits, fits again, and is the same.
fn fitted(format: &Format, message: &Message) -> String {
    let fields = message.fields.iter().map(|(key, value)| (&**key, &**value));
    match format.fit(message.kind, fields) {
        Ok(fit) => {
            let again = format.fit(message.kind, fit.iter().map(|(key, value)| (&**key, &**value)));
            assert_eq!(again.as_ref(), Ok(&fit), "what fits changes when it is fitted again");
            "fits".into()
        }
        Err(misfit) => words(misfit.reason),
    }
}

pub fn harmonization(bytes: &[u8]) -> String {
    let format = match Format::parse(&text(bytes)) {
        Ok(format) => format,
        Err(reason) => return words(reason),
    };
    let event = br#"{"source.ip": "192.0.2.7", "feed.name": "x", "extra.a": {"b": [1]}, "time.source": "2026-01-01"}"#;
    let message = Message::read(event).unwrap();
    match format.fit(message.kind, message.fields.iter().map(|(key, value)| (&**key, &**value))) {
        Ok(_) => "fits".into(),
        Err(misfit) => words(misfit.reason),
    }
}

/// The first byte says how texts are told apart, the second in which pieces they come.
pub fn tcp(bytes: &[u8]) -> String {
    const MOST: usize = 4096;
    let [how, step, stream @ ..] = bytes else { return "nothing".into() };
    let framing = match how % 3 {
        0 => Framing::Length,
        1 => Framing::Separator(Bytes::from_static(b"\n")),
        _ => Framing::Separator(Bytes::from_static(b"--\n")),
    };
    let frames = |step: usize| -> Result<Vec<Bytes>, (Vec<Bytes>, Broken)> {
        let (mut partial, mut frames) = (Partial::default(), Vec::new());
        for piece in stream.chunks(step) {
            partial.buffer.extend_from_slice(piece);
            loop {
                match partial.next(&framing, MOST) {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(broken) => return Err((frames, broken)),
                }
            }
        }
        Ok(frames)
    };
    let (whole, pieces) = (frames(stream.len().max(1)), frames(usize::from(*step).max(1)));
    let of = |result: &Result<Vec<Bytes>, (Vec<Bytes>, Broken)>| match result {
        Ok(frames) => (frames.clone(), false),
        Err((frames, _)) => (frames.clone(), true),
    };
    assert_eq!(of(&whole), of(&pieces), "frames depend on how they are cut");
    assert!(of(&whole).0.iter().all(|frame| (1..=MOST).contains(&frame.len())));
    match whole {
        Ok(frames) => format!("{} frames", frames.len().min(4)),
        Err((_, broken)) => words(broken),
    }
}

pub fn runtime(bytes: &[u8]) -> String {
    match Botnet::parse(&text(bytes)) {
        Ok(botnet) => {
            let found = (botnet.reader("relay-queue").is_some(), botnet.writers("relay-queue").len().min(2));
            format!("{found:?}")
        }
        Err(reason) => words(reason),
    }
}

// ---- Trust, and how one comes to it ---------------------------------------------------------------------------------

/// The bytes as a signed roster, and as what is signed.
pub fn roster(bytes: &[u8]) -> String {
    if let Ok(roster) = Roster::decode(bytes) {
        assert_eq!(roster.encode().as_deref(), Ok(bytes), "a roster is taken in another form than its one");
        return "roster".into();
    }
    match Signed::decode(bytes) {
        Ok(signed) => {
            assert!(signed.encode() == bytes && is_one_form(bytes), "a roster is taken in another form than its one");
            match signed.unverified() {
                Ok(_) => "signed".into(),
                Err(reason) => words(reason),
            }
        }
        Err(reason) => words(reason),
    }
}

/// The bytes as a signed notice; or as what it says, with signatures that do not hold.
pub fn notice(bytes: &[u8]) -> String {
    let signature = serde_bytes::Bytes::new(&[7; 64]);
    let wrapped = serde_cbor::to_vec(&(serde_bytes::Bytes::new(bytes), signature, signature)).unwrap();
    if let Ok(asked) = SignedNotice::open(&wrapped, |_| false) {
        assert!(asked.is_none() && is_one_form(bytes), "a notice is taken in another form than its one");
        return "content".into();
    }
    match SignedNotice::open(bytes, |_| true) {
        Ok(opened) => {
            assert_eq!(opened.expect("it was asked for").bytes(), bytes);
            "notice".into()
        }
        Err(reason) => words(reason),
    }
}

/// The bytes as a line, or as what a line says.
pub fn invitation(bytes: &[u8]) -> String {
    let line = text(bytes);
    let read = Invitation::read(&line).or_else(|damaged| {
        let content = [&[1], bytes].concat();
        let sum: [u8; 32] =
            Sha256::new().chain_update(b"intelmq-relay/1 invitation").chain_update(&content).finalize().into();
        let line = format!("relay-invite:{}", BASE64.encode([&content, &sum[..4]].concat()));
        Invitation::read(&line).map_err(|within| format!("{damaged} {within}"))
    });
    match read {
        Ok(invitation) => {
            let again = invitation.line();
            assert!(Invitation::read(&again).is_ok_and(|read| *read.line() == *again));
            "invitation".into()
        }
        Err(reason) => words(reason),
    }
}

pub fn join(bytes: &[u8]) -> String {
    let message = match invite::Message::decode(bytes) {
        Ok(message) => message,
        Err(reason) => return words(reason),
    };
    assert!(message.encode() == bytes && is_one_form(bytes), "a message is taken in another form than its one");
    // The keys of tests/vectors/join.json.
    static TICKET: LazyLock<Key> = LazyLock::new(super::seeds::ticket);
    match message.asked(&TICKET, &secret(1).key()) {
        Ok(_) => "asked".into(),
        Err(reason) => words(reason),
    }
}

// ---- What is the operator's own -------------------------------------------------------------------------------------

/// The bytes as `relay.toml`, and as the description of a roster.
pub fn config(bytes: &[u8]) -> String {
    let text = text(bytes);
    let described = Described::parse(&text).is_ok();
    match Config::parse(&text, Path::new("/etc/intelmq-relay")) {
        Ok(_) => "config".into(),
        Err(mistakes) => {
            let first = mistakes.0.first().expect("mistakes are never none");
            assert!((1..=text.lines().count() + 1).contains(&first.line), "{mistakes}");
            format!("{} {described}", words(&first.reason))
        }
    }
}

pub fn question(bytes: &[u8]) -> String {
    match serde_json::from_slice::<Question>(bytes) {
        Ok(question) => {
            let again = serde_json::to_string(&question).unwrap();
            assert_eq!(serde_json::from_str::<Question>(&again).unwrap(), question);
            words(again.split('{').nth(1).unwrap_or_default())
        }
        Err(reason) => words(reason),
    }
}

pub fn key_file(bytes: &[u8]) -> String {
    match StoredKey::of_text("a file".into(), bytes) {
        Ok(stored) => format!("{} {}", stored.is_encrypted(), stored.key().is_some()),
        Err(reason) => words(reason),
    }
}

// ---- What a damaged disk could bring --------------------------------------------------------------------------------

/// The number of its first entry, then a chunk of the log; the first byte says whether that has still to be packed.
pub fn log_chunk(bytes: &[u8]) -> String {
    let [packed, bytes @ ..] = bytes else { return "nothing".into() };
    let Some((first, bytes)) = bytes.split_first_chunk::<8>() else { return "nothing".into() };
    let chunk = match (*packed, bytes.split_at_checked(16)) {
        (1.., Some((head, raw))) => [head, &zstd::bulk::compress(raw, 1).unwrap()].concat(),
        _ => bytes.to_vec(),
    };
    match decode_log_chunk(u64::from_be_bytes(*first), &chunk) {
        Ok(entries) => format!("{} entries", entries.len().min(4)),
        Err(reason) => words(reason),
    }
}

pub fn journal_chunk(bytes: &[u8]) -> String {
    match decode_journal_chunk(bytes) {
        Some((notes, by_id)) => format!("{} {}", notes.len().min(4), by_id.len().min(4)),
        None => "no chunk".into(),
    }
}
