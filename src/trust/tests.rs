//! What is accepted as a roster, and what never is.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::envelope::{Bounds, Draft, EncryptionSecret, Message, Secret, seal};

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn secret(n: u8) -> Secret {
    Secret::from_seed(&[n; 32])
}

fn key(n: u8) -> Key {
    secret(n).key()
}

fn held(n: u8) -> MemberKey {
    MemberKey { key: key(n), from: None, until: None, revoked: None }
}

fn member(text: &str, keys: Vec<MemberKey>) -> Member {
    Member { name: name(text), keys, org: None, rdns: None, contact: None, encryption: None }
}

fn roster(number: u64) -> Roster {
    Roster {
        v: VERSION,
        network: name("certs"),
        number,
        issued: 1_795_514_400_000,
        authorities: vec![key(1), key(2), key(3)],
        threshold: 2,
        members: vec![member("cert-at", vec![held(11)]), member("cert-ee", vec![held(12), held(13)])],
    }
}

fn trusted() -> Trusted {
    Trusted { authorities: vec![key(1), key(2), key(3)], threshold: 2 }
}

fn signed(roster: &Roster, by: &[u8]) -> Signed {
    let mut signed = Signed::unsigned(roster).unwrap();
    by.iter().for_each(|n| signed.sign(&secret(*n)));
    signed
}

fn open(roster: &Roster, by: &[u8]) -> Held {
    Held::open(signed(roster, by), &trusted()).unwrap()
}

#[test]
fn enough_authorities_of_the_configuration_make_it_hold() {
    let roster = roster(1);
    for by in [&[1, 2][..], &[3, 1], &[1, 2, 3]] {
        let signed = signed(&roster, by);
        let read = Signed::decode(&signed.encode()).unwrap();
        assert_eq!((&read, read.open(&trusted())), (&signed, Ok(roster.clone())));
    }
    for by in [&[][..], &[1]] {
        let few = Unfit::TooFew { by: by.len(), needed: 2, of: 3 };
        assert_eq!(signed(&roster, by).open(&trusted()), Err(few));
    }
    // What it says itself of its authorities and its threshold counts for nothing.
    let own = Roster { authorities: vec![key(7), key(8)], threshold: 1, ..roster.clone() };
    assert_eq!(signed(&own, &[7, 8]).open(&trusted()), Err(Unfit::TooFew { by: 0, needed: 2, of: 3 }));
    // And a configuration that asks for nothing asks for one.
    let none = Trusted { threshold: 0, ..trusted() };
    assert!(matches!(signed(&roster, &[]).open(&none), Err(Unfit::TooFew { needed: 1, .. })));
}

#[test]
fn an_authority_counts_once() {
    let mut twice = signed(&roster(1), &[1]).encode();
    // The list of one signature becomes one of two.
    let at = twice.len() - (1 + 2 + 32 + 2 + 64) - 1;
    assert_eq!(twice[at], 0x81);
    twice[at] = 0x82;
    let pair = twice[at + 1..].to_vec();
    twice.extend(pair);
    assert_eq!(Signed::decode(&twice), Err(Unfit::Twice(key(1))));
    // To sign again replaces.
    assert_eq!(signed(&roster(1), &[1, 1]).signers().count(), 1);
}

#[test]
fn a_signature_holds_for_these_bytes_and_as_this_only() {
    let good = signed(&roster(1), &[1, 2]);
    let other = Signed::unsigned(&roster(2)).unwrap();
    let bytes = good.encode();
    let at = bytes.windows(good.bytes().len()).position(|part| part == good.bytes()).unwrap();
    let moved = [&bytes[..at], other.bytes(), &bytes[at + good.bytes().len()..]].concat();
    let moved = Signed::decode(&moved).unwrap();
    assert_eq!(moved.open(&trusted()), Err(Unfit::Signature(key(1))));

    // The seal of an envelope by the same key, over whatever it was: another domain.
    let message = Message::read(b"{\"source.ip\": \"192.0.2.1\"}").unwrap();
    let header = message.header(&name("cert-at"), uuid::Uuid::nil(), 0);
    let draft = Draft::new(header, message.fields, &Bounds::default()).unwrap();
    let sealed = seal(&secret(1), vec![draft], &mut <rand_chacha::ChaCha20Rng as rand::SeedableRng>::seed_from_u64(1));
    let mut bytes = signed(&roster(1), &[1]).encode();
    let end = bytes.len() - 64;
    bytes[end..].copy_from_slice(&sealed[0].seal().signature);
    let one = Trusted { threshold: 1, ..trusted() };
    assert_eq!(Signed::decode(&bytes).unwrap().open(&one), Err(Unfit::Signature(key(1))));
    let plain = secret(1).sign_as(b"", good.bytes());
    bytes[end..].copy_from_slice(&plain);
    assert_eq!(Signed::decode(&bytes).unwrap().open(&one), Err(Unfit::Signature(key(1))));
}

#[test]
fn who_is_none_of_its_authorities_has_no_business_to_sign() {
    assert_eq!(signed(&roster(1), &[1, 2, 9]).open(&trusted()), Err(Unfit::Stranger(key(9))));
    // An authority to come, whom the configuration does not know yet: neither counts nor harms.
    let more = Roster { authorities: vec![key(1), key(2), key(4)], ..roster(1) };
    assert!(signed(&more, &[1, 2, 4]).open(&trusted()).is_ok());
    assert!(signed(&more, &[1, 4]).open(&trusted()).is_err());
}

#[test]
fn the_number_decides_and_never_goes_back() {
    let now = open(&roster(5), &[1, 2]);
    assert_eq!(open(&roster(6), &[2, 3]).follows(now.signed()), Ok(true));
    assert_eq!(open(&roster(5), &[2, 3]).follows(now.signed()), Ok(false), "the same, signed by others");
    assert_eq!(open(&roster(4), &[1, 2, 3]).follows(now.signed()), Err(Refused::Older { ours: 5, theirs: 4 }));
    let split = Roster { issued: 7, ..roster(5) };
    let refused = open(&split, &[1, 3]).follows(now.signed()).unwrap_err();
    assert_eq!(refused, Refused::Split { number: 5, by: vec![key(1), key(3)] });
    assert!(refused.to_string().contains(&key(3).to_string()), "{refused}");
    let elsewhere = Roster { network: name("banks"), ..roster(6) };
    assert!(matches!(open(&elsewhere, &[1, 2]).follows(now.signed()), Err(Refused::Network { .. })));
}

#[test]
fn what_no_roster_may_say() {
    let with = |change: &dyn Fn(&mut Roster)| {
        let mut roster = roster(1);
        change(&mut roster);
        roster.encode().map(drop).map_err(|error| error.to_string())
    };
    type Change<'a> = &'a dyn Fn(&mut Roster);
    let cases: &[(Change<'_>, &str)] = &[
        (&|r| r.v = 2, "version 2"),
        (&|r| r.number = 0, "count from 1"),
        (&|r| r.threshold = 0, "threshold"),
        (&|r| r.threshold = 4, "threshold"),
        (&|r| r.authorities[1] = r.authorities[0], "twice"),
        (&|r| r.authorities[1] = Key::default(), "an authority is not a canonical"),
        (&|r| r.authorities = (1..=33).map(key).collect(), "33 authorities"),
        (&|r| r.members.reverse(), "order of names"),
        (&|r| r.members[1].name = r.members[0].name.clone(), "twice"),
        (&|r| r.members[0].keys.clear(), "has no key"),
        (&|r| r.members[0].keys = (0..17).map(held).collect(), "17 keys of one member"),
        (&|r| r.members[0].keys[0].key = Key::default(), "cert-at is not a canonical"),
        (&|r| r.members[1].keys[0].key = key(11), "of the member cert-ee stands in it twice"),
        (&|r| (r.members[0].keys[0].from, r.members[0].keys[0].until) = (Some(5), Some(5)), "ends before"),
        (&|r| r.members[0].contact = Some(String::new()), "is empty"),
        (&|r| r.members[0].contact = Some("a\nb".into()), "control characters"),
        (&|r| r.members[0].contact = Some("a".repeat(257)), "too long"),
        (&|r| r.members[0].rdns = Some("at..cert".into()), "reversed name"),
        (&|r| r.members[0].encryption = Some([0; 32].into()), "X25519"),
        (&|r| r.members[0].encryption = Some([0xff; 32].into()), "X25519"),
        (&|r| r.members = (0..10_001).map(|n| member(&format!("m{n:05}"), vec![held(1)])).collect(), "10001 members"),
    ];
    for (change, part) in cases {
        let error = with(change).expect_err(part);
        assert!(error.contains(part), "{part}: {error}");
    }
    let all = |r: &mut Roster| {
        let at = &mut r.members[0];
        (at.org, at.rdns) = (Some(uuid::Uuid::max()), Some("at.cert".into()));
        (at.contact, at.encryption) = (Some("+43 1 00000".into()), Some([9; 32].into()));
        at.keys[0] = MemberKey { from: Some(1), until: Some(9), revoked: Some(0), ..held(11) };
    };
    assert_eq!(with(&all), Ok(()));
}

#[test]
fn there_is_one_form_of_it() {
    let good = roster(1).encode().unwrap();
    assert_eq!(Roster::decode(&good), Ok(roster(1)));
    assert!(Roster::decode(&[&good[..], b"\0"].concat()).is_err(), "something behind it");
    for cut in 0..good.len() {
        assert!(Roster::decode(&good[..cut]).is_err(), "{cut}");
    }
    // The number 1 in two bytes, which CBOR reads all the same.
    let at = good.windows(7).position(|part| part == b"\x66number").unwrap() + 7;
    assert_eq!(good[at], 1);
    let longer = [&good[..at], &[0x18, 1], &good[at + 1..]].concat();
    assert!(Roster::decode(&longer).unwrap_err().to_string().contains("one form"));
    let whole = signed(&roster(1), &[1, 2]).encode();
    assert!(Signed::decode(&[&whole[..], b"\0"].concat()).is_err());
    assert!(Signed::decode(&vec![0; MAX_SIGNED + 1]).is_err());
}

#[test]
fn what_changes_is_told() {
    let old = roster(1);
    let mut new = roster(2);
    new.members[1].keys[0].revoked = Some(1_795_514_400_000);
    new.members[1].keys[1] = held(14);
    new.members.push(member("cert-fi", vec![MemberKey { revoked: Some(0), ..held(15) }]));
    new.members.remove(0);
    let (ee, fi) = (name("cert-ee"), name("cert-fi"));
    let expected = vec![
        Change::KeyRevoked(ee.clone(), key(12), 1_795_514_400_000),
        Change::KeyAdded(ee.clone(), key(14)),
        Change::KeyRemoved(ee.clone(), key(13)),
        Change::Added(fi.clone()),
        Change::KeyRevoked(fi, key(15), 0),
        Change::Removed(name("cert-at")),
    ];
    assert_eq!(changes(Some(&old), &new), expected);
    assert!(expected[0].to_string().ends_with("revoked from 2026-11-24T10:00:00.000Z on"), "{}", expected[0]);
    assert_eq!(changes(Some(&new), &new), []);
    assert_eq!(changes(None, &old), [Change::Added(name("cert-at")), Change::Added(ee.clone())]);
    new.members[0].keys[0].revoked = None;
    new.members[0].keys[0].until = Some(9);
    new.threshold = 1;
    let back = changes(Some(&Roster { threshold: 2, ..new.clone() }), &new);
    assert_eq!(back, [Change::Authorities]);
}

/// One row per rule: who, the key's number, when, and how it stands.
#[test]
fn origins_are_known_by_configuration_and_roster() {
    let mut roster = roster(1);
    // cert-at: configured with 11. cert-ee: in the roster only, 12 until 500, 13 from 400, 14 revoked from 300.
    roster.members[1].keys = vec![
        MemberKey { from: Some(400), ..held(13) },
        MemberKey { until: Some(500), ..held(12) },
        MemberKey { revoked: Some(300), ..held(14) },
    ];
    roster.members[0].keys.push(held(21));
    // Configured with another key than the roster's; and one that has a configured node's key.
    roster.members.push(member("cert-fi", vec![held(15)]));
    roster.members.push(member("cert-gr", vec![held(17), held(16)]));
    roster.members.push(member("cert-hu", vec![MemberKey { revoked: Some(300), ..held(18) }]));
    let configured = [("cert-at", 11), ("cert-fi", 25), ("cert-it", 16), ("cert-hu", 18)];
    let configured = || configured.iter().map(|(origin, n)| (name(origin), key(*n)));
    let without = Origins::new(configured(), Some(trusted()));
    let origins = without.clone().with(&open(&roster, &[1, 2]).into()).unwrap();
    use KeyStanding::{Good, NotThen, Other, Revoked, Unknown};
    for (origin, n, time, expected) in [
        ("cert-at", 11, 0, Good),
        ("cert-at", 21, 0, Good),
        ("cert-at", 12, 0, Other(key(11))),
        ("cert-ee", 12, 499, Good),
        ("cert-ee", 12, 500, NotThen),
        ("cert-ee", 13, 399, NotThen),
        ("cert-ee", 13, 400, Good),
        ("cert-ee", 14, 299, Good),
        ("cert-ee", 14, 300, Revoked(300)),
        ("cert-ee", 11, 0, Other(key(13))),
        ("cert-fi", 25, 0, Good),
        ("cert-fi", 15, 0, Other(key(25))),
        ("cert-gr", 17, 0, Good),
        ("cert-gr", 16, 0, Other(key(17))),
        ("cert-it", 16, 0, Good),
        ("cert-hu", 18, 299, Good),
        ("cert-hu", 18, 300, Revoked(300)),
        ("cert-xx", 11, 0, Unknown),
    ] {
        assert_eq!(origins.ask(&name(origin), &key(n), time), expected, "{origin} {n} at {time}");
    }
    assert_eq!(without.ask(&name("cert-ee"), &key(12), 0), Unknown);
    assert_eq!(origins.keys(&name("cert-at")).collect::<Vec<_>>(), [&key(11), &key(21)]);
    assert_eq!(origins.keys(&name("cert-gr")).collect::<Vec<_>>(), [&key(17)]);
    let said = origins.contradictions(&name("cert-ee"), &key(14)).join("\n");
    for part in
        ["knows cert-fi with the key", "that of cert-it in relay.toml", "revoked the key", "revoked this node's key"]
    {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
    assert_eq!(said.lines().count(), 4, "{said}");
}

#[test]
fn what_is_encrypted_to_is_configured_or_else_in_the_roster() {
    let of = |n: u8| EncryptionSecret::derive(&[n; 32]).key();
    let mut roster = roster(1);
    for (member, n) in [(0, 1), (1, 2)] {
        roster.members[member].encryption = Some((*of(n).as_bytes()).into());
    }
    let mut other = member("cert-fi", vec![held(15)]);
    other.encryption = Some((*of(3).as_bytes()).into());
    roster.members.push(other);
    let configured = [("cert-at", 11), ("cert-fi", 25), ("cert-it", 16)];
    let origins = Origins::new(configured.iter().map(|(origin, n)| (name(origin), key(*n))), Some(trusted()));
    let encryption = [("cert-at", 7), ("cert-it", 8)].map(|(origin, n)| (name(origin), of(n)));
    let origins = origins.encrypting(encryption.into_iter()).with(&open(&roster, &[1, 2]).into()).unwrap();
    for (origin, expected) in [
        // Configured, and another in the roster.
        ("cert-at", Some(7)),
        ("cert-ee", Some(2)),
        // The roster speaks of another node of that name.
        ("cert-fi", None),
        ("cert-it", Some(8)),
        ("cert-xx", None),
    ] {
        assert_eq!(origins.encryption(&name(origin), 0), expected.map(of), "{origin}");
    }
    let said = origins.contradictions(&name("me"), &key(99));
    let about: Vec<_> = said.iter().filter(|text| text.contains("encryption key")).collect();
    assert!(about.len() == 1 && about[0].contains("cert-at") && about[0].contains(&of(7).to_string()), "{said:?}");
    let us = |n| origins.encryption_of_us(&name("cert-ee"), &of(n));
    assert!(us(2).is_none() && us(5).unwrap().contains(&of(5).to_string()));
    assert!(origins.encryption_of_us(&name("cert-xx"), &of(5)).is_none());
}

#[test]
fn who_asks_for_more_signatures_keeps_no_roster_with_fewer() {
    let roster = Arc::new(open(&roster(1), &[1, 2]));
    let with =
        |trusted| Origins::new(std::iter::empty(), trusted).with(&roster).map(|origins| origins.roster().is_some());
    assert_eq!(with(Some(trusted())), Ok(true));
    assert_eq!(with(Some(Trusted { threshold: 1, ..trusted() })), Ok(true));
    assert_eq!(with(Some(Trusted { threshold: 3, ..trusted() })), Err(Unfit::TooFew { by: 2, needed: 3, of: 3 }));
    let others = Trusted { authorities: vec![key(3)], threshold: 1 };
    assert_eq!(with(Some(others)), Err(Unfit::TooFew { by: 0, needed: 1, of: 1 }));
    assert_eq!(with(None), Ok(false));
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Signed::decode(&bytes);
        let _ = Roster::decode(&bytes);
    }

    /// Whatever one byte of a signed roster becomes: it is refused, or it is the same roster.
    #[test]
    fn no_change_of_a_byte_passes(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let good = signed(&roster(1), &[1, 2]).encode();
        let mut bytes = good.clone();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let opened = Signed::decode(&bytes).and_then(|signed| signed.open(&trusted()));
        prop_assert!(opened.is_err() || bytes == good);
    }

    /// Whatever comes in whatever order, the number only grows, and one number has one content.
    #[test]
    fn whatever_comes_the_number_only_grows(numbers in proptest::collection::vec((1u64..6, 0u64..2), 1..20)) {
        let mut now = open(&roster(1), &[1, 2]);
        for (number, issued) in numbers {
            let next = open(&Roster { issued, ..roster(number) }, &[1, 3]);
            match next.follows(now.signed()) {
                Ok(true) => {
                    prop_assert!(number > now.roster().number);
                    now = next;
                }
                Ok(false) => prop_assert_eq!(next.roster(), now.roster()),
                Err(_) => prop_assert!(number <= now.roster().number),
            }
        }
    }
}
