//! What is encrypted is opened by its recipients as it was, and by nobody else; and what a recipient is sent cannot harm it.

use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

use super::*;
use crate::envelope::{Draft, Kind, Message, Sealed, Secret, Shape, Tlp, seal};

const EVENT: &str = r#"{"format": "intelmq", "version": 1, "type": "event", "meta": {"uuid": "72ddb00c-2d0a-4eea-b7ac-ae122b8e6c3b",
    "tags": ["secret-tag"], "intelmq:parent": "RT#1234", "uuid_org": "72ddb00c-2d0a-4eea-b7ac-ae122b8e6c3c", "x-case": "secret-case",
    "relay:tlp": "RED"}, "payload": {"source.ip": "192.0.2.1", "extra.score": 1.0, "raw": "c2VjcmV0"}}"#;

fn rng() -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(7)
}

fn origin() -> Secret {
    Secret::from_seed(&[1; 32])
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn secret(node: &str) -> EncryptionSecret {
    EncryptionSecret::derive(&[node.as_bytes()[0]; 32])
}

fn recipient(node: &str) -> Recipient {
    Recipient::new(name(node), secret(node), vec![])
}

fn header(to: &[&str]) -> Header {
    let mut header = Message::read(EVENT.as_bytes()).unwrap().header(&name("cert-at"), Uuid::nil(), 0);
    header.key = origin().key();
    header.to = to.iter().map(|to| name(to)).collect();
    header
}

fn sealed(header: Header, fields: Vec<(String, String)>) -> Sealed {
    let draft = Draft::new(header, fields, &Bounds::default()).unwrap();
    seal(&origin(), vec![draft], &mut rng()).remove(0)
}

fn encrypted(to: &[&str], fields: &[(String, String)]) -> Sealed {
    let keys: Vec<_> = to.iter().map(|to| Some(secret(to).key())).collect();
    let (header, fields) = encrypt(header(to), fields, &keys, &Bounds::default(), &mut rng()).unwrap();
    sealed(header, fields)
}

fn fields() -> Vec<(String, String)> {
    Message::read(EVENT.as_bytes()).unwrap().fields
}

fn closed(node: &Recipient, envelope: &Envelope) -> Closed {
    node.open(envelope, &Bounds::default()).expect_err("it opens")
}

#[test]
fn recipients_have_it_as_it_was_and_others_have_nothing() {
    let envelope = encrypted(&["a", "b"], &fields());
    let open = sealed(header(&["a", "b"]), fields());
    for node in ["a", "b"] {
        let opened = recipient(node).open(&envelope, &Bounds::default()).unwrap().into_owned();
        assert!(opened.was_encrypted());
        let expected = open.write(Shape::Iep04).replace("}, \"payload\"", ", \"relay:encrypted\": true}, \"payload\"");
        assert_eq!(opened.write(Shape::Iep04), expected);
        assert_eq!(opened.write(Shape::Bare), open.write(Shape::Bare));
        assert!(opened.write(Shape::Extra).contains("\"extra.relay.encrypted\": true, \"__type\""));
        assert!(matches!(recipient(node).open(&opened, &Bounds::default()), Ok(Cow::Borrowed(_))), "it is open");
    }
    assert!(matches!(recipient("a").open(&open, &Bounds::default()), Ok(Cow::Borrowed(_))), "it never was closed");
    assert_eq!(closed(&recipient("c"), &envelope), Closed::ForOthers(vec![name("a"), name("b")]));
    let wrong = Recipient::new(name("a"), secret("c"), vec![secret("d")]);
    assert_eq!(closed(&wrong, &envelope), Closed::NoKey);
    let before = Recipient::new(name("a"), secret("c"), vec![secret("d"), secret("a")]);
    assert!(before.open(&envelope, &Bounds::default()).is_ok(), "with a key that it had");
    // A slot is its recipient's: b's does not open to a's name, even with b's key.
    let other = Recipient::new(name("a"), secret("b"), vec![]);
    assert_eq!(closed(&other, &envelope), Closed::NoKey);
    assert_eq!(closed(&recipient("a"), &envelope.hide(|_| true)), Closed::Gone);
}

#[test]
fn the_header_tells_what_is_needed_on_the_way_and_nothing_else() {
    let envelope = encrypted(&["a", "b"], &fields());
    let header: serde_cbor::Value = serde_cbor::from_slice(envelope.header_bytes()).unwrap();
    let serde_cbor::Value::Map(header) = header else { panic!("{header:?}") };
    let keys: Vec<_> =
        header.keys().map(|key| if let serde_cbor::Value::Text(key) = key { &**key } else { "?" }).collect();
    assert_eq!(keys, ["n", "v", "id", "to", "key", "tlp", "keys", "time", "type", "format", "origin"]);
    for secret in ["secret", "RT#", "192.0.2", "score", "raw", "c2VjcmV0"] {
        assert!(!envelope.bytes().windows(secret.len()).any(|bytes| bytes == secret.as_bytes()), "{secret}");
    }
    let json = envelope.write(Shape::Iep04);
    assert!(json.contains("\"relay:encrypted\": true}, \"payload\": \""), "{json}");
    assert!(Message::read(json.as_bytes()).is_err(), "nobody seals a ciphertext as an event");
    for open in [
        Header { tags: vec!["x".into()], ..envelope.header().clone() },
        Header { org: Some(Uuid::nil()), ..envelope.header().clone() },
        Header { instance: Some(Uuid::nil()), ..envelope.header().clone() },
        Header { links: Links { replaces: Some(Uuid::nil()), ..Links::default() }, ..envelope.header().clone() },
        Header { ext: [("x-a".to_owned(), "1".to_owned())].into(), ..envelope.header().clone() },
        Header { content: Some(vec![]), ..envelope.header().clone() },
        Header { to: vec![name("a")], ..envelope.header().clone() },
        Header { n: 2, ..envelope.header().clone() },
        Header { to: vec![name("a"), name("a")], ..envelope.header().clone() },
    ] {
        assert!(matches!(open.check(), Err(Malformed::Header(_))), "{open:?}");
    }
    let named = vec![("a".to_owned(), "1".to_owned())];
    let bytes = crate::envelope::seal::tests_only_seal_as_is(&origin(), envelope.header().clone(), named);
    assert!(matches!(Envelope::decode(bytes.into(), &Bounds::default()), Err(Malformed::Shape(_))));
}

#[test]
fn slots_and_ciphertext_open_nothing_elsewhere() {
    let (one, two) = (encrypted(&["a"], &fields()), encrypted(&["a"], &[("other".into(), "1".into())]));
    let text = |envelope: &Sealed| vec![(String::new(), envelope.field("").unwrap().to_owned())];
    // Everything of it, under another id; or sealed by another.
    let moved = Header { id: Uuid::max(), ..one.header().clone() };
    assert_eq!(closed(&recipient("a"), &sealed(moved, text(&one))), Closed::NoKey);
    let thief = Secret::from_seed(&[2; 32]);
    let draft = Draft::new(one.header().clone(), text(&one), &Bounds::default()).unwrap();
    let stolen = seal(&thief, vec![draft], &mut rng()).remove(0);
    assert_eq!(closed(&recipient("a"), &stolen), Closed::NoKey);
    // The payload of the one under the header of the other: both are of one origin.
    let id = |envelope: &Sealed| Header { id: Uuid::max(), ..envelope.header().clone() };
    let (header, fields) =
        encrypt(id(&two), &fields(), &[Some(secret("a").key())], &Bounds::default(), &mut rng()).unwrap();
    let _ = header;
    assert_eq!(closed(&recipient("a"), &sealed(two.header().clone(), fields)), Closed::Damaged);
    // For others, under our name.
    let renamed = Header { to: vec![name("b")], ..one.header().clone() };
    assert_eq!(closed(&recipient("b"), &sealed(renamed, text(&one))), Closed::NoKey);
}

#[test]
fn a_withdrawal_says_in_the_clear_what_it_withdraws() {
    let event = encrypted(&["a", "b"], &fields());
    let withdrawal = Header { key: origin().key(), ..event.header().withdrawal(Uuid::max(), 1) };
    assert!(!withdrawal.is_encrypted());
    let reason = [("reason".to_owned(), "\"wrong\"".to_owned())];
    // The key of b is not known any more.
    let keys = [Some(secret("a").key()), None];
    let (header, fields) = encrypt(withdrawal, &reason, &keys, &Bounds::default(), &mut rng()).unwrap();
    let withdrawal = sealed(header, fields);
    assert_eq!(withdrawal.withdraws(), Some(event.header().id));
    assert_eq!(withdrawal.header().kind, Kind::Withdrawal);
    let opened = recipient("a").open(&withdrawal, &Bounds::default()).unwrap().into_owned();
    assert_eq!((opened.field("reason"), opened.withdraws()), (Some("\"wrong\""), Some(event.header().id)));
    assert_eq!(closed(&recipient("b"), &withdrawal), Closed::NoKey);
}

#[test]
fn sizes_are_few() {
    assert_eq!(
        [0, 1, 1024, 1025, 1280, 1281, 2048, 2049].map(padded),
        [1024, 1024, 1024, 1280, 1280, 1536, 2048, 2560]
    );
    let sizes: std::collections::BTreeSet<usize> = (1..1 << 20).map(padded).collect();
    assert_eq!(sizes.len(), 1 + 4 * 10);
    let length = |text: usize| encrypted(&["a"], &[("raw".into(), format!("\"{}\"", "x".repeat(text)))]).bytes().len();
    assert_eq!(length(0), length(700));
    assert_eq!(length(1300), length(1350));
    assert!(length(700) < length(1300));
}

/// As a liar encrypts: any plain text.
fn lied(plain: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Sealed {
    let (key, header) = ([3; 32], header(&["a"]));
    let mut plain = plain.to_vec();
    let bound = bound(PAYLOAD, &header.key, header.id);
    let cipher = ChaCha20Poly1305::new((&key).into());
    let tag = cipher.encrypt_inout_detached(&Nonce::default(), &bound, plain.as_mut_slice().into()).unwrap();
    plain.extend_from_slice(&tag);
    change(&mut plain);
    let keys = vec![slot(Some(&secret("a").key()), &key, &header, &mut rng())];
    let links = Links::default();
    let header = Header { keys, org: None, tags: vec![], ext: BTreeMap::new(), links, ..header };
    sealed(header, vec![(String::new(), format!("\"{}\"", BASE64.encode(&plain)))])
}

#[test]
fn what_an_origin_may_not_seal_it_may_not_encrypt() {
    let inner = |inner: &Inner<'_>| pad(&serde_cbor::to_vec(inner).unwrap());
    let plain = || Inner {
        org: None,
        instance: None,
        tags: vec![],
        links: Links::default(),
        ext: BTreeMap::new(),
        fields: vec![("a", "1")],
    };
    let a = recipient("a");
    assert!(a.open(&lied(&inner(&plain()), |_| {}), &Bounds::default()).is_ok());
    let deep = "[".repeat(200) + &"]".repeat(200);
    let many: Vec<String> = (0..5000).map(|n| n.to_string()).collect();
    for (what, wrong) in [
        ("not JSON", inner(&Inner { fields: vec![("a", "{")], ..plain() })),
        ("not JSON", inner(&Inner { fields: vec![("a", &deep)], ..plain() })),
        ("same key", inner(&Inner { fields: vec![("a", "1"), ("a", "1")], ..plain() })),
        ("limits.fields", inner(&Inner { fields: many.iter().map(|key| (&**key, "1")).collect(), ..plain() })),
        ("too many", inner(&Inner { tags: vec!["x".into(); 300], ..plain() })),
        ("control", inner(&Inner { tags: vec!["\n".into()], ..plain() })),
        (
            "in the clear",
            inner(&Inner { links: Links { withdraws: Some(Uuid::nil()), ..Links::default() }, ..plain() }),
        ),
        ("CBOR", pad(b"no CBOR")),
        ("CBOR", pad(&serde_cbor::to_vec(&[("fields", Vec::<u8>::new(), 1)]).unwrap())),
    ] {
        let reason = closed(&a, &lied(&wrong, |_| {}));
        assert!(matches!(&reason, Closed::Unfit(unfit) if unfit.to_string().contains(what)), "{what}: {reason}");
    }
    let good = inner(&plain());
    let mut noise = good.clone();
    *noise.last_mut().unwrap() = 1;
    let mut long = good.clone();
    long[..4].copy_from_slice(&u32::MAX.to_be_bytes());
    for wrong in [vec![], vec![0; 3], noise, long, good[..512].to_vec(), [&good[..], &[0; 256]].concat()] {
        assert_eq!(closed(&a, &lied(&wrong, |_| {})), Closed::Damaged, "{} bytes", wrong.len());
    }
    assert_eq!(closed(&a, &lied(&good, |bytes| bytes[0] ^= 1)), Closed::Damaged);
    assert_eq!(closed(&a, &lied(&good, |bytes| bytes.truncate(5))), Closed::Damaged);
    let header = encrypted(&["a"], &fields()).header().clone();
    for value in ["\"\"", "\"AAAA\""] {
        assert_eq!(
            closed(&a, &sealed(header.clone(), vec![(String::new(), value.into())])),
            Closed::Damaged,
            "{value}"
        );
    }
    // What is no base64 is no envelope.
    assert!(is_ciphertext(b"\"\"") && is_ciphertext(b"\"AA==\""));
    for value in ["1", "{}", "\"", "\"?\"", "\"AAA\"", "\"AB==\"", "\"\\ud800\"", " \"AAAA\""] {
        assert!(!is_ciphertext(value.as_bytes()), "{value}");
    }
}

#[test]
fn what_cannot_be_encrypted_is_said() {
    let keys = [Some(secret("a").key())];
    let ask = |header: Header, bounds: &Bounds| encrypt(header, &fields(), &keys, bounds, &mut rng()).map(drop);
    assert_eq!(ask(header(&["a"]), &Bounds::default()), Ok(()));
    assert!(matches!(ask(header(&["a", "b"]), &Bounds::default()), Err(Malformed::Header(_))));
    assert!(matches!(ask(header(&[]), &Bounds::default()), Err(Malformed::Header(_))));
    assert!(matches!(
        ask(Header { content: Some(vec![]), ..header(&["a"]) }, &Bounds::default()),
        Err(Malformed::Header(_))
    ));
    let few = Bounds { fields: 2, ..Bounds::default() };
    assert!(matches!(ask(header(&["a"]), &few), Err(Malformed::TooBig { what: "fields", .. })));
}

/// RFC 9180, A.2.1: base mode with this suite, the first message. That the library does what the RFC says is what a second
/// implementation goes by.
#[test]
fn the_library_is_held_to_the_rfc() {
    let hex = |text: &str| -> Vec<u8> {
        text.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    };
    let ikm = hex("1ac01f181fdf9f352797655161c58b75c656a6cc2716dcb66372da835542e1df");
    let (secret, public) = <Kem as hpke::Kem>::derive_keypair(&ikm);
    assert_eq!(public.to_bytes().to_vec(), hex("4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a"));
    let mut text = hex("1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28");
    let tag = text.split_off(text.len() - 16);
    hpke::single_shot_open_inout_detached::<KeyAead, HkdfSha256, Kem>(
        &OpModeR::Base,
        &secret,
        &Deserializable::from_bytes(&hex("1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a")).unwrap(),
        &hex("4f6465206f6e2061204772656369616e2055726e"),
        InOutBuf::from(text.as_mut_slice()),
        &hex("436f756e742d30"),
        &AeadTag::from_bytes(&tag).unwrap(),
    )
    .unwrap();
    assert_eq!(text, b"Beauty is truth, truth beauty");
}

proptest! {
    #[test]
    fn whatever_is_encrypted_comes_out_again(
        event in proptest::collection::btree_map("[a-z.]{0,20}", "\"[ -!#-\\[\\]-~]{0,300}\"", 1..12), label in any::<bool>(),
    ) {
        let fields: Vec<_> = event.into_iter().collect();
        let header = Header { tlp: label.then_some(Tlp::Amber), ..header(&["a"]) };
        let keys = [Some(secret("a").key())];
        let (header, outer) = encrypt(header, &fields, &keys, &Bounds::default(), &mut rng()).unwrap();
        let envelope = sealed(header, outer);
        let opened = recipient("a").open(&envelope, &Bounds::default()).unwrap().into_owned();
        let got: Vec<_> = opened.open_fields().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        prop_assert_eq!(got, fields);
    }

    #[test]
    fn a_changed_byte_opens_nothing(at in 0usize..1000, bit in 0u8..8) {
        let envelope = encrypted(&["a"], &fields());
        let text = envelope.field("").unwrap();
        let mut bytes = BASE64.decode(text.trim_matches('"')).unwrap();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let changed = vec![(String::new(), format!("\"{}\"", BASE64.encode(&bytes)))];
        prop_assert_eq!(closed(&recipient("a"), &sealed(envelope.header().clone(), changed)), Closed::Damaged);
        let mut slots = envelope.header().keys.clone();
        slots[0][at % SLOT] ^= 1 << bit;
        let changed = vec![(String::new(), text.to_owned())];
        let header = Header { keys: slots, ..envelope.header().clone() };
        prop_assert_eq!(closed(&recipient("a"), &sealed(header, changed)), Closed::NoKey);
    }
}
