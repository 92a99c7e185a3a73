//! What a door's seal makes of events, as the configuration spells it; and that what is taken out is nowhere in what
//! is sealed.

use std::path::Path;

use proptest::prelude::*;
use rand::SeedableRng;

use super::*;
use crate::config::Config;
use crate::envelope::{Bounds, Draft, Sealed, Secret, seal};

/// The seal of these lines; the first of them is line 7.
fn sealing(lines: &str) -> Sealing {
    let text = format!("[node]\nname = \"us\"\n[[take.redis]]\nname = \"in\"\nqueue = \"q\"\nserver = {{}}\n{lines}");
    let config = Config::parse(&text, Path::new("/")).unwrap_or_else(|mistakes| panic!("{text}\n{mistakes}"));
    let (door, _, seal) = config.take.seals().next().unwrap();
    Sealing::new(door, seal, PseudonymKey::derive(&[1; 32]))
}

/// The seal's lines and its rules.
fn seal_of(seal: &str, rules: &[&str]) -> Sealing {
    let rules: String = rules.iter().map(|rule| format!("[[take.redis.seal.rules]]\n{rule}\n")).collect();
    sealing(&format!("[take.redis.seal]\n{seal}\n{rules}"))
}

fn event(text: &str) -> Message {
    Message::read(text.as_bytes()).unwrap()
}

fn named(names: &[&str]) -> Vec<Name> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn fields(prepared: &Prepared) -> Vec<String> {
    prepared.message.fields.iter().map(|(key, value)| format!("{key}={value}")).collect()
}

const OF_A: &str = "when.fields = { \"feed.name\" = \"a\" }";

#[test]
fn the_strictest_label_holds() {
    let amber = format!("{OF_A}\ntlp = \"AMBER\"");
    let clear = format!("{OF_A}\ntlp = \"CLEAR\"");
    let red = "when.tags = \"secret\"\ntlp = \"RED\"";
    for (seal, rules, event_text, expected) in [
        ("", &[&*amber][..], r#"{"feed.name": "a"}"#, Some(Tlp::Amber)),
        ("", &[&amber], r#"{"feed.name": "b"}"#, None),
        ("", &[&amber], r#"{"feed.name": "a", "tlp": "RED"}"#, Some(Tlp::Red)),
        ("", &[&amber], r#"{"feed.name": "a", "tlp": "GREEN"}"#, Some(Tlp::Amber)),
        ("", &[&clear, &amber], r#"{"feed.name": "a"}"#, Some(Tlp::Amber)),
        ("", &[&amber, &clear], r#"{"feed.name": "a"}"#, Some(Tlp::Amber)),
        ("tlp = \"GREEN\"", &[&amber], r#"{"feed.name": "b"}"#, Some(Tlp::Green)),
        ("tlp = \"RED\"", &[&amber], r#"{"feed.name": "a"}"#, Some(Tlp::Amber)),
        ("tlp = \"RED\"", &[&amber], r#"{"feed.name": "b", "tlp": "CLEAR"}"#, Some(Tlp::Clear)),
        // The seal's own tags come to it only now.
        ("tags = [\"secret\"]", &[red], r#"{"feed.name": "a"}"#, None),
        (
            "",
            &[red],
            r#"{"format": "intelmq", "meta": {"tags": ["x", "secret"]}, "payload": {"a": 1}}"#,
            Some(Tlp::Red),
        ),
        // Without a condition, a rule is the least that holds for all.
        ("", &["tlp = \"AMBER\""], r#"{"tlp": "CLEAR"}"#, Some(Tlp::Amber)),
    ] {
        let got = seal_of(seal, rules).prepare(event(event_text), Tlp::Amber).unwrap();
        assert_eq!(got.message.tlp, expected, "{seal} {rules:?} {event_text}");
    }
}

#[test]
fn a_stricter_label_is_said_in_the_event_too() {
    let strict = seal_of("", &["tlp = \"AMBER+STRICT\""]);
    let got = strict.prepare(event(r#"{"a": 1, "tlp": "white", "extra.tlp": "GREEN"}"#), Tlp::Amber).unwrap();
    assert_eq!(fields(&got), ["a=1", "tlp=\"AMBER+STRICT\""]);
    let same = strict.prepare(event(r#"{"tlp": "red", "extra.tlp": "GREEN"}"#), Tlp::Amber).unwrap();
    assert_eq!(fields(&same), ["tlp=\"red\"", "extra.tlp=\"GREEN\""]);
    assert_eq!(
        fields(&strict.prepare(event(r#"{"a": 1, "extra.tlp": "green"}"#), Tlp::Amber).unwrap()),
        ["a=1"],
        "in the header"
    );
    let other = strict.prepare(event(r#"{"tlp": "GREEN", "extra.tlp": "no label"}"#), Tlp::Amber).unwrap();
    assert_eq!(fields(&other), ["tlp=\"AMBER+STRICT\"", "extra.tlp=\"no label\""]);
}

#[test]
fn recipients_only_become_fewer() {
    let (ab, bc, d) = ("to = [\"a\", \"b\"]", "to = [\"b\", \"c\"]", "to = \"d\"");
    let own = r#"{"meta": {"relay:to": ["b", "x"]}, "payload": {"a": 1}}"#;
    let none = r#"{"a": 1}"#;
    for (seal, rules, event_text, expected) in [
        ("", &[][..], none, Some(&[][..])),
        (d, &[], none, Some(&["d"])),
        (d, &[], own, Some(&["b", "x"])),
        (d, &[ab], none, Some(&["a", "b"])),
        ("", &[ab, bc], none, Some(&["b"])),
        ("", &[ab], own, Some(&["b"])),
        ("", &["when.type = \"report\"\nto = \"d\""], own, Some(&["b", "x"])),
        ("", &[d], own, None),
        (d, &[ab, d], none, None),
    ] {
        let got = seal_of(seal, rules).prepare(event(event_text), Tlp::Amber);
        assert_eq!(got.map(|got| got.message.to).ok(), expected.map(named), "{seal} {rules:?} {event_text}");
    }
    let said = seal_of("", &[ab, d]).prepare(event(none), Tlp::Amber).unwrap_err().to_string();
    assert!(said.contains("the rule in/2 of the door"), "{said}");
}

#[test]
fn conditions_look_at_the_event_as_it_came_in() {
    let both = seal_of(
        "drop = [\"feed.name\", \"raw\"]\ntags = \"all\"",
        &[
            &format!("name = \"of-a\"\n{OF_A}\ntags = [\"a\", \"all\"]\ndrop = \"source.*\""),
            "when.fields.\"source.ip\".cidr = \"192.0.2.0/24\"\ntags = \"ours\"\ntruncate.fields = \"source.ip\"",
            "when.format = \"n6\"\ntags = \"n6\"",
            "when.fields.\"source.ip\".present = false\ntags = \"gone\"",
        ],
    );
    let got = both.prepare(event(r#"{"feed.name": "a", "source.ip": "192.0.2.77", "b": 1}"#), Tlp::Amber).unwrap();
    assert_eq!(got.rules.iter().map(|rule| &*rule.label).collect::<Vec<_>>(), ["in/of-a", "in/2"]);
    assert_eq!(got.message.tags, ["all", "a", "ours"], "each once");
    assert_eq!(fields(&got), ["b=1"]);
    let other = both.prepare(event(r#"{"format": "n6", "payload": {"b": 1}}"#), Tlp::Amber).unwrap();
    assert_eq!(other.message.tags, ["all", "n6", "gone"]);
}

#[test]
fn fields_go_are_hidden_truncated_or_named_anew() {
    let truncate = "drop = \"raw\"\ntruncate = { fields = [\"*.ip\", \"*.local_ip\"] }";
    let hashed = |value: &str| PseudonymKey::derive(&[1; 32]).of(value);
    for (seal, rules, event_text, expected, hidden) in [
        ("drop = \"*.url\"", &[][..], r#"{"source.url": 1, "a": 2}"#, &["a=2"][..], &[][..]),
        ("hide = \"*.url\"", &[], r#"{"source.url": 1, "a": 2}"#, &["source.url=1", "a=2"], &["source.url"]),
        (
            truncate,
            &[],
            r#"{"source.ip": "192.0.2.77", "source.network": "192.0.2.64/26", "source.local_ip": "10.0.0.9", "raw": "x"}"#,
            &["source.network=\"192.0.2.0/24\"", "source.local_ip=\"10.0.0.0\""],
            &[],
        ),
        (
            truncate,
            &["truncate = { fields = [\"source.ip\"], ipv4 = 16 }"],
            r#"{"source.ip": "192.0.2.77", "destination.ip": "2001:db8:1:2::3"}"#,
            &["source.network=\"192.0.0.0/16\"", "destination.network=\"2001:db8:1::/48\""],
            &[],
        ),
        // What is said of the address holds for its network, and the other way round.
        (
            truncate,
            &["hide = \"source.ip\""],
            r#"{"source.ip": "192.0.2.77"}"#,
            &["source.network=\"192.0.2.0/24\""],
            &["source.network"],
        ),
        (
            truncate,
            &["hide = \"*.network\""],
            r#"{"source.ip": "192.0.2.77"}"#,
            &["source.network=\"192.0.2.0/24\""],
            &["source.network"],
        ),
        (truncate, &["drop = \"*.network\""], r#"{"source.ip": "192.0.2.77", "a": 1}"#, &["a=1"], &[]),
        (truncate, &[], r#"{"source.ip": ["192.0.2.77"], "a": 1}"#, &["a=1"], &[]),
        (
            "hide = \"raw\"\npseudonym = [\"*.account\", \"extra.user\"]",
            &[],
            r#"{"source.account": "alice", "extra.user": "alice", "raw": "YQ=="}"#,
            &[
                &format!("source.account={}", hashed("\"alice\"")),
                &format!("extra.user={}", hashed("\"alice\"")),
                "raw=\"YQ==\"",
            ],
            &["raw"],
        ),
        // Where both are said, more is taken away.
        (
            "drop = \"raw\"\npseudonym = \"extra.*\"\ntruncate.fields = \"extra.*\"",
            &[],
            r#"{"extra.host": "192.0.2.77"}"#,
            &[&format!("extra.host={}", hashed("\"192.0.2.77\""))],
            &[],
        ),
    ] {
        let got = seal_of(seal, rules).prepare(event(event_text), Tlp::Amber).unwrap();
        assert_eq!(fields(&got), expected, "{seal} {rules:?} {event_text}");
        assert_eq!(got.hide, hidden, "{seal} {rules:?} {event_text}");
    }
}

#[test]
fn an_event_of_which_nothing_is_left_is_not_sealed() {
    let all = seal_of("drop = [\"rtir_id\", \"raw\"]\ntruncate.fields = \"extra.*\"", &[]);
    assert_eq!(all.prepare(event(r#"{"rtir_id": 1}"#), Tlp::Amber), Err(Unsealable::NoField));
    assert_eq!(all.prepare(event(r#"{"extra.host": "no address", "raw": "x"}"#), Tlp::Amber), Err(Unsealable::NoField));
    // An update of tags never had any.
    assert!(all.prepare(event(r#"{"format": "intelmq", "meta": {"tags": ["x"]}, "payload": {}}"#), Tlp::Amber).is_ok());
    let said = Unsealable::NoField.to_string();
    assert!(said.starts_with("no field is left"), "{said}");
}

#[test]
fn ids_of_the_content_are_those_of_what_is_left() {
    let content = seal_of("id = \"content\"\nid_without = [\"feed.name\"]\ndrop = [\"raw\", \"a\"]", &[]);
    let got = content.prepare(event(r#"{"a": 1, "b": 2}"#), Tlp::Amber).unwrap();
    assert_eq!(got.content, Some(vec!["feed.name".to_owned()]));
    let with_id = r#"{"meta": {"uuid": "72ddb00c-2d0a-4eea-b7ac-ae122b8e6c3b"}, "payload": {"b": 2}}"#;
    assert_eq!(content.prepare(event(with_id), Tlp::Amber).unwrap().content, None);
    assert_eq!(seal_of("", &[]).prepare(event(r#"{"a": 1}"#), Tlp::Amber).unwrap().content, None);
}

#[test]
fn what_names_recipients_is_encrypted_and_then_nothing_in_it_is_hidden_or_guessable() {
    let to = r#"{"meta": {"relay:to": ["b"]}, "payload": {"a": 1, "raw": "x"}}"#;
    let label = |tlp: &str| to.replace("\"relay:to\"", &format!("\"relay:tlp\": \"{tlp}\", \"relay:to\""));
    let plain = r#"{"a": 1, "tlp": "RED"}"#;
    for (seal, event_text, default, expected) in [
        ("", to, Tlp::Amber, true),
        ("", plain, Tlp::Amber, false),
        ("to = \"b\"", plain, Tlp::Amber, true),
        ("", r#"{"a": 1, "extra.relay.to": "b"}"#, Tlp::Amber, true),
        ("", r#"{"a": 1, "extra.relay.to": ["b", "c"]}"#, Tlp::Amber, true),
        ("encrypt = \"red\"", to, Tlp::Amber, false),
        ("encrypt = \"red\"", to, Tlp::Red, true),
        ("encrypt = \"red\"", &label("AMBER+STRICT"), Tlp::Red, false),
        ("encrypt = \"red\"", &label("RED"), Tlp::Amber, true),
        ("encrypt = \"red\"\ntlp = \"RED\"", to, Tlp::Amber, true),
    ] {
        let got = seal_of(seal, &[]).prepare(event(event_text), default).unwrap();
        assert_eq!(got.encrypt, expected, "{seal} {event_text} {default}");
        assert!(got.message.fields.iter().all(|(key, _)| !key.starts_with("extra.relay")));
    }
    let both = seal_of("id = \"content\"\nhide = \"raw\"", &[]);
    let got = both.prepare(event(to), Tlp::Amber).unwrap();
    assert_eq!((fields(&got), got.hide, got.content), (vec!["a=1".to_owned()], vec![], None));
    let open = both.prepare(event(r#"{"a": 1, "raw": "x"}"#), Tlp::Amber).unwrap();
    assert_eq!((open.hide, open.content), (vec!["raw".to_owned()], Some(vec![])));
    let nothing = r#"{"meta": {"relay:to": ["b"]}, "payload": {"raw": "x"}}"#;
    assert_eq!(both.prepare(event(nothing), Tlp::Amber), Err(Unsealable::NoField));
    assert!(Message::read(br#"{"a": 1, "extra.relay.to": "No Name"}"#).is_err());
}

/// As a node seals it.
fn sealed(prepared: Prepared) -> Sealed {
    let header = prepared.message.header(&"us".parse().unwrap(), uuid::Uuid::nil(), 0);
    let draft = Draft::new(header, prepared.message.fields, &Bounds::default()).unwrap();
    let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
    let event = seal(&Secret::from_seed(&[1; 32]), vec![draft], &mut rng).remove(0);
    event.hide(|key| prepared.hide.iter().any(|name| name == key))
}

proptest! {
    #[test]
    fn nothing_that_was_taken_out_is_in_what_is_sealed(
        secrets in proptest::collection::vec("[g-z]{8,20}", 4), host in 100u8..255, tail in 0x1000u16..,
        random in any::<[bool; 4]>(),
    ) {
        let all = seal_of(
            "drop = [\"raw\", \"extra.internal.*\"]\nhide = \"*.url\"\npseudonym = \"*.account\"",
            &["truncate.fields = [\"*.ip\", \"*.network\", \"extra.peer\"]"],
        );
        let (four, six) = (format!("192.0.2.{host}"), format!("2001:db8:1::{tail:x}"));
        let [a, b, c, d] = &*secrets else { unreachable!() };
        let mut members = vec![
            format!("\"extra.internal.{a}\": \"{b}\""),
            format!("\"source.url\": \"https://{c}.example/\""),
            format!("\"source.account\": \"{d}\""),
            format!("\"source.ip\": \"{four}\""),
            format!("\"source.network\": \"{four}/32\""),
            format!("\"destination.ip\": \"{six}\""),
            format!("\"extra.peer\": \"{six}\""),
            format!("\"raw\": \"{a}{b}{c}{d}\""),
            "\"classification.type\": \"spam\"".to_owned(),
        ];
        for (at, swap) in random.into_iter().enumerate() {
            if swap {
                members.swap(at, 7 - at);
            }
        }
        let event = sealed(all.prepare(event(&format!("{{{}}}", members.join(", "))), Tlp::Amber).unwrap());
        prop_assert_eq!(event.hidden(), 1);
        let bytes = event.bytes();
        for gone in [a, b, c, d, &four, &six, &format!(".{host}"), &format!("{tail:x}\""), &"source.url".to_owned()] {
            prop_assert!(!bytes.windows(gone.len()).any(|window| window == gone.as_bytes()), "{gone}");
        }
        prop_assert_eq!(event.field("source.network"), Some("\"192.0.2.0/24\""));
        prop_assert_eq!(event.field("destination.network"), Some("\"2001:db8:1::/48\""));
        prop_assert_eq!(event.field("extra.peer"), Some("\"2001:db8:1::\""));
    }
}
