//! Properties of the whole: what is sealed opens, what is changed does not, what is hidden is gone.

use std::collections::HashSet;

use bytes::Bytes;
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

use super::*;

fn secret(n: u8) -> Secret {
    Secret::from_seed(&[n; 32])
}

fn header(id: u128) -> Header {
    Header {
        v: VERSION,
        id: uuid::Uuid::from_u128(id),
        origin: "cert-at".parse().unwrap(),
        key: secret(1).key(),
        org: None,
        instance: None,
        time: 1_795_514_400_000,
        kind: Kind::Event,
        format: "intelmq".into(),
        tlp: Some(Tlp::Green),
        to: vec![],
        keys: vec![],
        tags: vec!["a tag".into()],
        links: Links::default(),
        ext: [("x-ticket".to_owned(), "\"RT#1\"".to_owned())].into(),
        content: None,
        n: 0,
    }
}

fn fields(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn event() -> Vec<(String, String)> {
    fields(&[("source.ip", "\"192.0.2.1\""), ("source.port", "80"), ("extra.score", "1.0"), ("raw", "\"eHl6enk=\"")])
}

fn sealed(batch: Vec<Vec<(String, String)>>) -> Vec<Sealed> {
    let drafts = batch.into_iter().zip(1..);
    let drafts = drafts.map(|(fields, id)| Draft::new(header(id), fields, &Bounds::default()).unwrap()).collect();
    seal(&secret(1), drafts, &mut ChaCha20Rng::seed_from_u64(7))
}

#[test]
fn a_batch_among_noise_shows_neither_its_size_nor_its_order() {
    let mut rng = ChaCha20Rng::seed_from_u64(7);
    let drafts = |count| (1..=count).map(|id| Draft::new(header(id), event(), &Bounds::default()).unwrap()).collect();
    for count in [1, 3, 64] {
        let batch = seal_among(64, &secret(1), drafts(count), &mut rng);
        let places: Vec<u32> = batch.iter().map(|sealed| sealed.seal().index).collect();
        assert!(batch.iter().all(|sealed| open(sealed.bytes()).is_ok() && sealed.seal().count == 64));
        assert_eq!(places.iter().collect::<HashSet<_>>().len(), batch.len());
        assert_ne!(places, (0..batch.len() as u32).collect::<Vec<_>>());
    }
    // Noise is no constant, which a sibling's proof would show.
    let [one, two] = [0, 1].map(|_| seal_among(2, &secret(1), drafts(1), &mut rng).remove(0).seal().proof.clone());
    assert_ne!(one, two);
}

fn decode(bytes: &[u8]) -> Result<Envelope, Malformed> {
    Envelope::decode(Bytes::copy_from_slice(bytes), &Bounds::default())
}

fn open(bytes: &[u8]) -> Result<Sealed, String> {
    let envelope = decode(bytes).map_err(|e| e.to_string())?;
    Verifier::new(8).open(envelope).map_err(|e| e.to_string())
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn any_changed_byte_is_noticed() {
    let sealed = &sealed(vec![event(), event(), event()])[1];
    let path_at = sealed.bytes().len() - "cert-at".len() - 2;
    for at in 0..path_at {
        for bit in [1, 0x80] {
            let mut bytes = sealed.bytes().to_vec();
            bytes[at] ^= bit;
            assert!(open(&bytes).is_err(), "byte {at} of {path_at} changed by {bit:#x}");
        }
    }
    for cut in 0..sealed.bytes().len() {
        assert!(open(&sealed.bytes()[..cut]).is_err(), "cut to {cut}");
    }
    let mut longer = sealed.bytes().to_vec();
    longer.push(0);
    assert!(open(&longer).is_err());
}

#[test]
fn a_hop_changes_the_path_and_nothing_else() {
    let before = &sealed(vec![event()])[0];
    let after = before.with_hop(&"cert-ee".parse().unwrap()).with_hop(&"cert-pl".parse().unwrap());
    let opened = open(after.bytes()).unwrap();
    let path: Vec<&str> = opened.path().iter().map(Name::as_str).collect();
    assert_eq!(path, ["cert-at", "cert-ee", "cert-pl"]);
    assert_eq!(opened.header(), before.header());
    assert!(opened.fields().eq(before.fields()));
}

#[test]
fn what_a_hop_would_break_is_no_envelope() {
    let whole = sealed(vec![event()])[0].bytes().to_vec();
    // Index 0, count 1, an empty proof, and the head of the signature.
    let seal = [0x84, 0, 1, 0x80, 0x58, 64];
    let at = whole.windows(seal.len()).position(|w| w == seal).unwrap();
    let end = at + seal.len() + 64;
    let open_ended =
        |from: usize, to: usize| [&whole[..from], &[0x9f], &whole[from + 1..to], &[0xff], &whole[to..]].concat();
    for bytes in [open_ended(0, whole.len()), open_ended(at, end), open_ended(end, whole.len())] {
        assert!(open(&bytes).is_err(), "its path is not what stands at the end");
    }
}

#[test]
fn the_verifier_remembers_a_root_with_its_signature() {
    let sealed = sealed(vec![event(), event()]);
    let verifier = Verifier::new(1);
    verifier.open(decode(sealed[0].bytes()).unwrap()).unwrap();
    let signature = sealed[1].seal().signature;
    let at = sealed[1].bytes().windows(64).position(|w| w == signature).unwrap();
    let mut forged = sealed[1].bytes().to_vec();
    forged[at + 3] ^= 1;
    assert_eq!(verifier.open(decode(&forged).unwrap()).unwrap_err(), BadSeal::Signature);
    verifier.open(decode(sealed[1].bytes()).unwrap()).unwrap();
}

#[test]
fn another_key_in_the_header_does_not_verify() {
    let drafts = vec![Draft::new(header(1), event(), &Bounds::default()).unwrap()];
    let stranger = seal(&secret(2), drafts, &mut ChaCha20Rng::seed_from_u64(1)).remove(0);
    // Its own key is in its header: a valid seal of somebody else. Accept compares the key with the origin's.
    assert_eq!(open(stranger.bytes()).unwrap().header().key, secret(2).key());
    let at = stranger.bytes().windows(32).position(|w| w == secret(2).key().as_bytes()).unwrap();
    let mut claimed = stranger.bytes().to_vec();
    claimed[at..at + 32].copy_from_slice(secret(1).key().as_bytes());
    assert!(open(&claimed).is_err());
}

#[test]
fn content_ids_are_recomputed_where_they_can_be() {
    let draft = |fields| {
        let header = Header { content: Some(vec!["feed.url".into()]), ..header(0) };
        Draft::new(header, fields, &Bounds::default()).unwrap()
    };
    let (one, same) = (draft(event()), draft(event().into_iter().rev().collect()));
    assert_eq!(one.header().id, same.header().id);
    let one = seal(&secret(1), vec![one], &mut ChaCha20Rng::seed_from_u64(1)).remove(0);
    let other = seal(&secret(2), vec![same], &mut ChaCha20Rng::seed_from_u64(2)).remove(0);
    assert_eq!(one.seen_keys().insert, other.seen_keys().insert, "one event from two origins is one");
    let hidden = one.hide(|key| key == "source.port");
    assert_ne!(hidden.seen_keys().insert, other.seen_keys().insert, "nobody can check an id with hidden fields");
    assert_eq!(hidden.seen_keys().also, Some(other.seen_keys().insert));

    // An origin that gives its event a content id of another event.
    let mut lie = Header { content: Some(vec![]), ..header(0) };
    lie.id = one.header().id;
    let lie = seal::tests_only_seal_as_is(&secret(1), lie, fields(&[("source.port", "1")]));
    assert_eq!(open(&lie).unwrap_err(), BadSeal::ContentId.to_string());
}

#[test]
fn a_content_id_leaves_out_no_more_than_the_feed() {
    let header = |without: &str| Header { content: Some(vec![without.into()]), ..header(0) };
    for without in ["source.ip", "extra.feed.", ""] {
        let refused = Draft::new(header(without), event(), &Bounds::default()).unwrap_err();
        assert_eq!(refused, Malformed::Header("a content id may leave out fields of the feed only"));
        let lie = seal::tests_only_seal_as_is(&secret(1), header(without), event());
        assert_eq!(open(&lie).unwrap_err(), refused.to_string());
    }
}

#[test]
fn there_is_one_form_of_a_header() {
    let plain = Header { links: Links { parent: Some("RT#1".into()), ..Links::default() }, ..header(1) };
    assert_eq!(Header::decode(&plain.encode()), Ok(plain.clone()));
    // Numbers in the place of keys, which serde_cbor would write and read.
    let packed = serde_cbor::ser::to_vec_packed(&plain).unwrap();
    assert!(Header::decode(&packed).is_err());
    // The same map in another order, which any other decoder would read.
    let sorted = serde_cbor::to_vec(&serde_cbor::value::to_value(&plain).unwrap()).unwrap();
    assert_eq!(sorted.len(), plain.encode().len());
    assert!(Header::decode(&sorted).is_err());
    // What is empty is absent; a general decoder takes null for it too, or an empty list.
    let full = Header { tags: vec!["a".into()], org: Some(uuid::Uuid::from_u128(7)), ..plain };
    let org = [&[0x50][..], uuid::Uuid::from_u128(7).as_bytes()].concat();
    let links: &[u8] = b"\xa1\x66parent\x64RT#1";
    for (key, value, nothing) in
        [(&b"\x64tags"[..], &b"\x81\x61a"[..], b"\x80"), (b"\x65links", links, b"\xa0"), (b"\x63org", &org, b"\xf6")]
    {
        let bytes = full.encode();
        assert_eq!(Header::decode(&bytes), Ok(full.clone()));
        let lie = patched(&bytes, &[key, value].concat(), &[key, nothing].concat());
        let key = String::from_utf8_lossy(&key[1..]);
        assert!(Header::decode(&lie).is_err(), "{key}");
    }
}

/// The bytes with one part of them replaced.
fn patched(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let at = bytes.windows(old.len()).position(|part| part == old).unwrap();
    [&bytes[..at], new, &bytes[at + old.len()..]].concat()
}

#[test]
fn a_seal_holds_for_its_place_and_its_count_only() {
    let batch = sealed(vec![event(); 5]);
    let whole = batch[0].bytes();
    // 5 to 8 leaves have proofs of one length for the first of them.
    let of = |index: u8, count: u8| [&[0x84, index, count, 0x83][..]].concat();
    for (index, count) in [(0, 6), (0, 8), (1, 5), (2, 5)] {
        let moved = patched(whole, &of(0, 5), &of(index, count));
        assert!(decode(&moved).is_ok(), "of the right shape");
        assert_eq!(open(&moved).unwrap_err(), BadSeal::Signature.to_string(), "{index} of {count}");
    }
    // The proof of a neighbour.
    let mut stolen = batch[0].seal().clone();
    stolen.proof.clone_from(&batch[1].seal().proof);
    let fields: Vec<Field<'_>> = batch[0].fields().collect();
    let bytes = Envelope::encode(batch[0].header_bytes(), &fields, batch[0].seed(), &stolen, &batch[0].wire_path());
    assert_eq!(open(&bytes).unwrap_err(), BadSeal::Signature.to_string());
}

#[test]
fn what_is_signed_as_something_else_is_no_seal() {
    let one = &sealed(vec![event()])[0];
    // Of a batch of one, the root is the leaf: here, as whoever verifies computes it.
    let signed = seal::tests_only_signed(one);
    for domain in [&b"intelmq-relay/1 roster"[..], b"intelmq-relay/1 envelope", b"noise-libp2p-static-key:", b""] {
        let foreign = secret(1).sign(&[domain, &signed].concat());
        let bytes = patched(one.bytes(), &one.seal().signature, &foreign);
        assert_eq!(open(&bytes).unwrap_err(), BadSeal::Signature.to_string(), "{}", domain.escape_ascii());
    }
}

#[test]
fn a_seal_has_one_signature_and_no_key_of_small_order_has_any() {
    let one = &sealed(vec![event()])[0];
    // S plus the order of the group: the same to whoever does not look whether it is reduced.
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut malleable = one.seal().signature;
    let mut carry = 0;
    for (byte, order) in malleable[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
    assert_eq!(carry, 0);
    assert!(open(&patched(one.bytes(), &one.seal().signature, &malleable)).is_err());

    // The point of order 4, and R = 1, S = 0: for every fourth content, the equation holds.
    let mut nothing = [0; 64];
    nothing[0] = 1;
    for id in 0..32 {
        let weak = Header { key: Key::default(), ..header(id) };
        let bytes = seal::tests_only_seal_as_is(&secret(1), weak, event());
        let signature = decode(&bytes).unwrap().seal().signature;
        let bytes = patched(&bytes, &signature, &nothing);
        assert_eq!(open(&bytes).unwrap_err(), BadSeal::Signature.to_string(), "{id}");
    }
}

#[test]
fn a_key_does_not_reach_into_its_value() {
    let one = sealed(vec![fields(&[("count", "12")])]).remove(0);
    let shifted = patched(one.bytes(), b"\x65count\x6212", b"\x66count1\x612");
    assert_eq!(decode(&shifted).unwrap().field("count1"), Some("2"));
    assert_eq!(open(&shifted).unwrap_err(), BadSeal::Signature.to_string());
}

#[test]
fn a_value_does_not_reach_out_of_its_field() {
    let one = sealed(vec![fields(&[("count", "12")])]).remove(0);
    for value in ["1}", "1,\"extra.relay.origin\":\"cert-ee\"", "1 2", "\"a\\u00", "NaNs"] {
        let head = if value.len() < 24 { vec![0x60 + value.len() as u8] } else { vec![0x78, value.len() as u8] };
        let injected = patched(one.bytes(), b"\x6212", &[&head, value.as_bytes()].concat());
        let refused = Malformed::Field { index: 0, what: "its value is not JSON" };
        assert_eq!(decode(&injected).unwrap_err(), refused, "{value}");
    }
}

#[test]
fn equal_values_have_digests_that_tell_nothing() {
    let whole = sealed(vec![event(), event()]);
    let mut seen = HashSet::new();
    for sealed in &whole {
        for field in sealed.hide(|_| true).fields() {
            let Field::Hidden { digest } = field else { panic!("{field:?} is open") };
            assert!(seen.insert(digest), "nobody finds a value by its digest in another event");
        }
    }
    // Whoever has all fields but one, with their salts, has nothing of that one's.
    let mut salts = HashSet::new();
    for sealed in &whole {
        for field in sealed.hide(|key| key == "source.ip").fields() {
            if let Field::Open { salt, .. } = field {
                assert!(salts.insert(salt.unwrap()));
            }
        }
    }
    assert_eq!((seen.len(), salts.len()), (8, 6));
}

#[test]
fn hiding_twice_is_hiding_both() {
    let whole = &sealed(vec![event(), event()])[1];
    let twice = whole.hide(|key| key == "raw").hide(|key| key == "source.ip");
    let once = whole.hide(|key| key == "raw" || key == "source.ip");
    assert_eq!(twice.bytes(), once.bytes());
    assert_eq!(open(twice.bytes()).unwrap().hidden(), 2);
    assert_eq!(whole.hide(|key| key == "no such").bytes(), whole.bytes());
}

#[test]
fn drafts_are_refused_for_what_a_receiver_would_refuse() {
    let bounds = Bounds { bytes: 2000, fields: 4, path: 3 };
    let refuse = |header, fields| Draft::new(header, fields, &bounds).unwrap_err();
    assert!(matches!(refuse(header(1), fields(&[("a", "1"); 5])), Malformed::TooBig { what: "fields", .. }));
    let big = format!("\"{}\"", "x".repeat(2000));
    assert!(matches!(refuse(header(1), fields(&[("a", &big)])), Malformed::TooBig { what: "envelope_bytes", .. }));
    let tags = vec!["t".into(); 300];
    assert!(matches!(refuse(Header { tags, ..header(1) }, vec![]), Malformed::Header(_)));
}

fn keys() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-z]{1,8}(\\.[a-z_]{1,8}){0,2}", 1 => any::<String>()]
}

fn values() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<f64>().prop_map(|n| serde_json::to_string(&n).unwrap()),
        any::<String>().prop_map(|s| serde_json::to_string(&s).unwrap()),
        Just("NaN".to_owned()),
        Just("\"\\ud800\"".to_owned()),
        Just("1.0".to_owned()),
        Just("123456789012345678901234567890".to_owned()),
        Just("{\"a\": [1,\t{}] }".to_owned()),
    ]
}

fn events() -> impl Strategy<Value = Vec<(String, String)>> {
    proptest::collection::btree_map(keys(), values(), 0..24).prop_map(|map| map.into_iter().collect())
}

proptest! {
    #[test]
    fn what_is_sealed_opens_and_reads_the_same(batch in proptest::collection::vec(events(), 1..9)) {
        let verifier = Verifier::new(2);
        for (envelope, event) in sealed(batch.clone()).iter().zip(&batch) {
            let opened = verifier.open(decode(envelope.bytes()).unwrap()).unwrap();
            let fields: Vec<(String, String)> = id::open_fields(&opened).map(|(k, v)| (k.into(), v.into())).collect();
            prop_assert_eq!(&fields, event);
        }
    }

    #[test]
    fn hidden_fields_are_gone_and_the_seal_holds(event in events(), mask in any::<u32>()) {
        let marked: Vec<(String, String)> = event.iter().enumerate()
            .map(|(i, (k, v))| (format!("{k}.key-{i}-mark"), format!("[{v}, \"value-{i}-mark\"]"))).collect();
        let whole = &sealed(vec![marked.clone(), marked.clone()])[1];
        let hides = |i: usize| mask >> i & 1 == 1;
        let index = |key: &str| marked.iter().position(|(k, _)| k == key).unwrap();
        let cut = whole.hide(|key| hides(index(key)));
        let opened = open(cut.bytes()).map_err(TestCaseError::fail)?;
        let hidden = (0..marked.len()).filter(|&i| hides(i)).count();
        prop_assert_eq!(opened.hidden() as usize, hidden);
        for i in 0..marked.len() {
            prop_assert_eq!(contains(cut.bytes(), format!("key-{i}-mark").as_bytes()), !hides(i));
            prop_assert_eq!(contains(cut.bytes(), format!("value-{i}-mark").as_bytes()), !hides(i));
        }
        if hidden > 0 {
            prop_assert!(!contains(cut.bytes(), whole.seed().unwrap()));
        }
    }

    #[test]
    fn every_shape_reads_back(event in events()) {
        let event: Vec<(String, String)> = event.into_iter()
            .filter(|(key, _)| !matches!(key.as_str(), "__type" | "meta" | "format" | "tlp")).collect();
        prop_assume!(!event.is_empty());
        let envelope = &sealed(vec![event.clone()])[0];
        for shape in [Shape::Iep04, Shape::Proposed, Shape::Typed, Shape::Bare] {
            let text = envelope.write(shape);
            let message = Message::read(text.as_bytes()).map_err(|e| TestCaseError::fail(format!("{e}: {text}")))?;
            prop_assert_eq!(&message.fields, &event);
            prop_assert_eq!(message.kind, Kind::Event);
            if matches!(shape, Shape::Iep04 | Shape::Proposed) {
                prop_assert_eq!(message.id, Some(envelope.header().id));
                prop_assert_eq!(&message.tags, &envelope.header().tags);
                prop_assert_eq!(&message.ext, &envelope.header().ext);
                prop_assert_eq!(message.tlp, Some(Tlp::Green));
                prop_assert_eq!(&message.links, &envelope.header().links);
            }
        }
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = open(&bytes);
        let _ = Message::read(&bytes);
    }
}

#[test]
fn an_origin_does_not_speak_as_a_relay() {
    let ext = [("relay:withdrawn", "true"), ("relay:to", "[\"cert-zz\"]"), ("intelmq:parent", "\"a parent\"")];
    let ext = ext.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let id = "\"72ddb00c-2d0a-4eea-b7ac-ae122b8e6c3b\"";
    let marks =
        fields(&[("extra.relay.withdraws", id), ("extra.relay.origin", "\"cert-zz\""), ("__type", "\"Report\"")]);
    let draft = Draft::new(Header { ext, ..header(1) }, [marks, event()].concat(), &Bounds::default()).unwrap();
    let envelope = seal(&secret(1), vec![draft], &mut ChaCha20Rng::seed_from_u64(7)).remove(0);
    for shape in [Shape::Iep04, Shape::Proposed, Shape::Typed, Shape::Bare, Shape::Extra] {
        let text = envelope.write(shape);
        let read = Message::read(text.as_bytes()).unwrap();
        assert!(!["withdraw", "Report", "a parent", "cert-zz"].iter().any(|mark| text.contains(mark)), "{text}");
        assert_eq!((read.fields, read.kind, read.to, read.links), (event(), Kind::Event, vec![], Links::default()));
    }
    // Nor is it sealed so when it is told so.
    let told = format!(
        r#"{{"meta": {{"relay:withdrawn": true, "relay:x": 1}}, "payload": {{"a": 1, "extra.relay.withdraws": {id}}}}}"#
    );
    let told = Message::read(told.as_bytes()).unwrap();
    assert_eq!((told.fields, told.ext), (fields(&[("a", "1")]), Default::default()));
}

#[test]
fn a_label_that_a_pipeline_cannot_name_does_not_widen() {
    for (text, label) in [
        (r#"{"tlp": "AMBER", "extra.tlp": "AMBER+STRICT"}"#, Some(Tlp::AmberStrict)),
        (r#"{"tlp": "RED", "extra.tlp": "AMBER+STRICT"}"#, Some(Tlp::Red)),
        (r#"{"tlp": "GREEN", "extra.tlp": "about the weather"}"#, Some(Tlp::Green)),
        (r#"{"extra.tlp": "AMBER+STRICT"}"#, Some(Tlp::AmberStrict)),
    ] {
        assert_eq!(Message::read(text.as_bytes()).unwrap().tlp, label, "{text}");
    }
}
