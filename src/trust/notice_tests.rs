//! Which notices count, whatever comes in whatever order, and what follows.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::envelope::{EncryptionSecret, Secret};

const OVERLAP: u64 = 1000;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn secret(n: u8) -> Secret {
    Secret::from_seed(&[n; 32])
}

fn key(n: u8) -> Key {
    secret(n).key()
}

fn succession(origin: &str, old: u8, next: u8, until: u64) -> SignedNotice {
    let notice = Notice::succession(&name(origin), key(old), key(next), until, 500);
    SignedNotice::sign(notice, &secret(old), Some(&secret(next))).unwrap()
}

fn revocation(origin: &str, old: u8, from: u64, next: Option<u8>) -> SignedNotice {
    let notice = Notice::revocation(&name(origin), key(old), from, next.map(key), 500);
    SignedNotice::sign(notice, &secret(old), next.map(secret).as_ref()).unwrap()
}

/// cert-at is configured with 1, cert-ee with 11; we are "me", with 21.
fn origins() -> Origins {
    let configured = [(name("cert-at"), key(1)), (name("cert-ee"), key(11))];
    Origins::new(configured.into_iter(), Some(trusted())).of(name("me"), key(21))
}

fn trusted() -> Trusted {
    Trusted { authorities: vec![key(101)], threshold: 1 }
}

fn hear(origins: &mut Origins, notice: &SignedNotice) -> Result<bool, NoticeRefused> {
    match origins.hear(notice.bytes())? {
        Heard::New(_, notices) => {
            *origins = origins.clone().noticing(notices);
            Ok(true)
        }
        Heard::Same => Ok(false),
        Heard::Stranger => panic!("a stranger's"),
    }
}

fn member(text: &str, keys: &[(u8, Option<u64>)]) -> Member {
    let held =
        |(n, revoked): &(u8, Option<u64>)| MemberKey { key: key(*n), from: None, until: None, revoked: *revoked };
    let keys = keys.iter().map(held).collect();
    Member { name: name(text), keys, org: None, rdns: None, contact: None, encryption: None }
}

fn roster(members: Vec<Member>) -> Arc<Held> {
    let roster = Roster {
        v: VERSION,
        network: name("certs"),
        number: 1,
        issued: 0,
        authorities: vec![key(101)],
        threshold: 1,
        members,
    };
    let mut signed = Signed::unsigned(&roster).unwrap();
    signed.sign(&secret(101));
    Held::open(signed, &trusted()).unwrap().into()
}

use KeyStanding::{Good, NotThen, Other, Revoked};

#[test]
fn the_next_key_is_the_origins_and_the_old_one_ends() {
    let mut origins = origins();
    assert_eq!(hear(&mut origins, &succession("cert-at", 1, 2, OVERLAP)), Ok(true));
    assert_eq!(hear(&mut origins, &succession("cert-at", 1, 2, OVERLAP)), Ok(false));
    let at = name("cert-at");
    for (n, time, expected) in
        [(1, 999, Good), (1, 1000, NotThen), (2, 0, Good), (2, 5000, Good), (3, 0, Other(key(1)))]
    {
        assert_eq!(origins.ask(&at, &key(n), time), expected, "{n} at {time}");
    }
    assert_eq!(origins.keys(&at).collect::<Vec<_>>(), [&key(1), &key(2)]);
    assert_eq!(origins.identities(&at, 0), [key(2), key(1)]);
    assert_eq!(origins.identities(&at, 1000), [key(2)]);
    // On and on.
    assert_eq!(hear(&mut origins, &succession("cert-at", 2, 3, 2 * OVERLAP)), Ok(true));
    assert_eq!(origins.identities(&at, 0), [key(3), key(2), key(1)]);
    assert_eq!(origins.ancestors(&key(3)).collect::<Vec<_>>(), [key(2), key(1)]);
    assert_eq!(origins.outdated(), [(at.clone(), key(1), key(3))]);
    assert!(origins.all_keys().any(|known| *known == key(3)));
}

#[test]
fn whoever_has_the_new_key_configured_knows_the_old_one_too() {
    let notice = succession("cert-at", 1, 2, OVERLAP);
    let configured = [(name("cert-at"), key(2))];
    let mut origins = Origins::new(configured.into_iter(), None);
    assert_eq!(hear(&mut origins, &notice), Ok(true));
    let at = name("cert-at");
    assert_eq!((origins.ask(&at, &key(1), 999), origins.ask(&at, &key(1), 1000)), (Good, NotThen));
    assert_eq!(origins.outdated(), []);
    // The configuration is asked first: what another one held before does not stand in its way.
    let mut thief = self::origins();
    assert_eq!(hear(&mut thief, &succession("cert-at", 1, 66, OVERLAP)), Ok(true));
    let corrected = [(name("cert-at"), key(2))];
    let mut origins = Origins::new(corrected.into_iter(), None).noticing(thief.notices().clone());
    assert_eq!(origins.ask(&at, &key(66), 0), Other(key(2)));
    assert_eq!(hear(&mut origins, &notice), Ok(true));
    assert_eq!((origins.ask(&at, &key(66), 0), origins.ask(&at, &key(1), 0)), (Other(key(2)), Good));
}

#[test]
fn our_own_line_is_known() {
    let notice = succession("me", 20, 21, OVERLAP);
    let mut after = origins();
    assert_eq!(hear(&mut after, &notice), Ok(true));
    assert_eq!(after.ancestors(&key(21)).collect::<Vec<_>>(), [key(20)]);
    let mut before = Origins::default().of(name("me"), key(20));
    assert_eq!(hear(&mut before, &notice), Ok(true));
    assert_eq!(before.successor(&key(20)), Some(Successor { key: key(21), until: Some(OVERLAP), encryption: None }));
}

#[test]
fn the_first_successor_is_the_only_one() {
    let (one, other) = (succession("cert-at", 1, 2, OVERLAP), succession("cert-at", 1, 66, OVERLAP));
    let mut origins = origins();
    assert_eq!(hear(&mut origins, &one), Ok(true));
    let refused = hear(&mut origins, &other).unwrap_err();
    let split = NoticeRefused::Split { origin: name("cert-at"), key: key(1), held: key(2), other: key(66) };
    assert_eq!(refused, split);
    let said = refused.to_string();
    assert!(said.contains(&key(2).to_string()) && said.contains(&key(66).to_string()), "{said}");
    // Nor by a revocation that names another, which makes it void all the same.
    assert_eq!(hear(&mut origins, &revocation("cert-at", 1, 300, Some(66))), Ok(true));
    let at = name("cert-at");
    let stands = |n, time| origins.ask(&at, &key(n), time);
    assert_eq!(
        (stands(1, 299), stands(1, 300), stands(2, 300), stands(66, 0)),
        (Good, Revoked(300), Good, Other(key(1)))
    );
}

#[test]
fn of_a_revoked_key_no_other_follows_but_the_one_that_it_names() {
    let at = name("cert-at");
    let next = succession("cert-at", 1, 2, OVERLAP);
    let mut origins = self::origins();
    assert_eq!(hear(&mut origins, &revocation("cert-at", 1, 300, None)), Ok(true));
    assert!(matches!(hear(&mut origins, &next), Err(NoticeRefused::Void { .. })));
    // Not either by saying it again, and earlier.
    assert_eq!(hear(&mut origins, &revocation("cert-at", 1, 200, Some(66))), Ok(true));
    assert_eq!((origins.ask(&at, &key(1), 200), origins.ask(&at, &key(66), 0)), (Revoked(200), Other(key(1))));
    // It is never taken back.
    assert_eq!(hear(&mut origins, &revocation("cert-at", 1, 400, None)), Ok(false));
    assert_eq!(origins.ask(&at, &key(1), 250), Revoked(200));

    for order in [[0, 1], [1, 0]] {
        let both = [revocation("cert-at", 1, 300, Some(2)), next.clone()];
        let mut origins = self::origins();
        for i in order {
            assert!(hear(&mut origins, &both[i]).is_ok());
        }
        assert_eq!((origins.ask(&at, &key(1), 300), origins.ask(&at, &key(2), 300)), (Revoked(300), Good));
        assert_eq!(origins.identities(&at, 300), [key(2)]);
    }
}

#[test]
fn what_the_roster_revokes_has_no_say() {
    let (at, next) = (name("cert-at"), succession("cert-at", 1, 66, OVERLAP));
    // The thief's notice comes before or after the roster: nobody goes by it.
    let lost = roster(vec![member("cert-at", &[(2, None), (1, Some(0))])]);
    let mut before = origins();
    assert_eq!(hear(&mut before, &next), Ok(true));
    assert_eq!(before.ask(&at, &key(66), 0), Good);
    let before = before.with(&lost).unwrap();
    let after = origins().with(&lost).unwrap();
    assert_eq!(after.hear(next.bytes()), Ok(Heard::Stranger));
    for origins in [&before, &after] {
        let stands = |n| origins.ask(&at, &key(n), 0);
        assert_eq!((stands(1), stands(2), stands(66)), (Revoked(0), Good, Other(key(1))));
        assert_eq!(origins.identities(&at, 0), [key(2)]);
    }
    // But for what the roster says itself: then it tells of the line.
    let mut named = origins().with(&lost).unwrap();
    assert_eq!(hear(&mut named, &succession("cert-at", 1, 2, OVERLAP)), Ok(true));
    assert_eq!(named.ancestors(&key(2)).collect::<Vec<_>>(), [key(1)]);
}

#[test]
fn a_key_that_the_roster_has_put_aside_names_nobody() {
    let at = name("cert-at");
    let aside = |keys: &[u8]| {
        let mut member = member("cert-at", &keys.iter().map(|n| (*n, None)).collect::<Vec<_>>());
        let old = member.keys.iter_mut().find(|held| held.key == key(1)).unwrap();
        old.until = Some(OVERLAP);
        roster(vec![member])
    };
    let thief = succession("cert-at", 1, 66, u64::MAX);
    let origins = origins().with(&aside(&[2, 1])).unwrap();
    assert_eq!(origins.hear(thief.bytes()), Ok(Heard::Stranger));
    // What the roster itself names.
    let mut named = origins.clone();
    assert_eq!(hear(&mut named, &succession("cert-at", 1, 2, OVERLAP)), Ok(true));
    // The key in use may have an end, and names the next one before.
    let mut in_use = self::origins().with(&aside(&[1])).unwrap();
    assert_eq!(hear(&mut in_use, &succession("cert-at", 1, 2, OVERLAP)), Ok(true));
    assert_eq!(in_use.ask(&at, &key(2), OVERLAP), Good);
}

#[test]
fn of_members_of_the_roster_too() {
    let listed = roster(vec![member("cert-fi", &[(31, None)]), member("cert-gr", &[(41, None)])]);
    let mut origins = origins();
    let fi = succession("cert-fi", 31, 32, OVERLAP);
    assert_eq!(origins.hear(fi.bytes()), Ok(Heard::Stranger));
    origins = origins.with(&listed).unwrap();
    assert_eq!(hear(&mut origins, &fi), Ok(true));
    assert_eq!(origins.identities(&name("cert-fi"), 0), [key(32), key(31)]);
    // Somebody else's key is nobody's next, though it has signed.
    for (origin, old, next) in [("cert-gr", 41, 32), ("cert-gr", 41, 11), ("cert-gr", 41, 21), ("cert-gr", 41, 31)] {
        assert_eq!(origins.hear(succession(origin, old, next, OVERLAP).bytes()), Ok(Heard::Stranger), "{next}");
    }
}

#[test]
fn what_is_not_signed_as_it_must_be_is_refused() {
    let origins = origins();
    let notice = Notice::succession(&name("cert-at"), key(1), key(2), OVERLAP, 0);
    assert!(SignedNotice::sign(notice.clone(), &secret(1), None).is_err());
    assert!(SignedNotice::sign(notice.clone(), &secret(1), Some(&secret(3))).is_err());
    assert!(SignedNotice::sign(notice, &secret(3), Some(&secret(2))).is_err());
    let good = succession("cert-at", 1, 2, OVERLAP);
    let bytes = good.bytes();
    assert_eq!(SignedNotice::open(bytes, |_| true), Ok(Some(good.clone())));
    assert_eq!(SignedNotice::open(bytes, |_| false), Ok(None));
    // Both signatures, over these bytes: of 1 and of 2.
    for at in [bytes.len() - 64, bytes.len() - 2 * 64 - 2] {
        let mut other = bytes.to_vec();
        other[at] ^= 1;
        assert!(matches!(origins.hear(&other), Err(NoticeRefused::Bad(BadNotice::Signature(_)))));
    }
    let without = [&bytes[..bytes.len() - 66], &[0xf6]].concat();
    assert!(matches!(origins.hear(&without), Err(NoticeRefused::Bad(BadNotice::Shape(_)))));
    assert!(matches!(origins.hear(&[0; MAX_NOTICE + 1]), Err(NoticeRefused::Bad(BadNotice::TooBig(_)))));
    assert!(good.bytes().len() < MAX_NOTICE / 2);
}

#[test]
fn there_is_a_bound_and_what_is_long_over_makes_room() {
    let (mut origins, day) = (origins(), 24 * 3600 * 1000);
    let rotated = |old: u8, time: u64| {
        let notice = Notice::succession(&name("cert-at"), key(old), key(old + 25), time + 30 * day, time);
        let next = secret(old + 25);
        SignedNotice::sign(notice, &secret(old), Some(&next)).unwrap()
    };
    // 1, 26, 51 … as far as there is room.
    let keys: Vec<u8> = (0..10).map(|n| (1 + 25 * n) as u8).collect();
    let year = 365 * day;
    for (n, old) in keys.iter().enumerate().take(MAX_OF_ORIGIN) {
        assert_eq!(hear(&mut origins, &rotated(*old, n as u64 * year)), Ok(true), "{n}");
    }
    let ninth = rotated(keys[MAX_OF_ORIGIN], MAX_OF_ORIGIN as u64 * year);
    assert!(matches!(hear(&mut origins, &ninth), Err(NoticeRefused::TooMany { .. })), "relay.toml has the first key");
    let configured = [(name("cert-at"), key(keys[4]))];
    let mut corrected = Origins::new(configured.into_iter(), None).noticing(origins.notices().clone());
    assert_eq!(hear(&mut corrected, &ninth), Ok(true));
    assert_eq!(corrected.identities(&name("cert-at"), 9 * year)[0], key(keys[9]));
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = SignedNotice::open(&bytes, |_| true);
        let _ = origins().hear(&bytes);
    }

    /// Whatever one byte becomes: it is refused, or it is the same notice.
    #[test]
    fn no_change_of_a_byte_passes(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let good = succession("cert-at", 1, 2, OVERLAP);
        let mut bytes = good.bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(Heard::New(..)) = origins().hear(&bytes) {
            prop_assert_eq!(&bytes[..], good.bytes());
        }
    }

    /// Whatever is heard in whatever order: a revocation stays, a successor stays, and a key that is revoked by anybody is
    /// never good afterwards.
    #[test]
    fn whatever_comes_nothing_is_taken_back(order in proptest::collection::vec(0usize..6, 1..20)) {
        let all = [
            succession("cert-at", 1, 2, OVERLAP),
            succession("cert-at", 1, 66, OVERLAP),
            succession("cert-at", 2, 3, OVERLAP),
            revocation("cert-at", 1, 300, None),
            revocation("cert-at", 1, 200, Some(66)),
            revocation("cert-at", 2, 300, Some(3)),
        ];
        let (mut origins, mut heard) = (origins(), [false; 6]);
        for i in order {
            let (next, revoked) = (origins.successor(&key(1)), origins.revoked(&key(1)));
            if let Ok(Heard::New(_, notices)) = origins.hear(all[i].bytes()) {
                origins = origins.noticing(notices);
            }
            heard[i] = true;
            prop_assert!(next.is_none_or(|next| origins.successor(&key(1)).map(|now| now.key) == Some(next.key)));
            prop_assert!(revoked.is_none_or(|from| origins.revoked(&key(1)).is_some_and(|now| now <= from)));
            prop_assert!(origins.notices().len() <= 6);
            if heard[3] || heard[4] {
                prop_assert!(matches!(origins.ask(&name("cert-at"), &key(1), 300), Revoked(_)));
            }
        }
    }
}

#[test]
fn what_is_encrypted_to_a_key_is_so_until_it_is_over_or_void() {
    let of = |n: u8| EncryptionSecret::derive(&[n; 32]).key();
    let at = name("cert-at");
    let follows = |old: u8, next: u8, until| {
        let notice = Notice::succession(&at, key(old), key(next), until, 500).encrypting(Some(of(next)));
        SignedNotice::sign(notice, &secret(old), Some(&secret(next))).unwrap()
    };
    let mut origins = origins().encrypting([(at.clone(), of(1))].into_iter());
    let ask = |origins: &Origins, time| origins.encryption(&at, time);
    assert_eq!(hear(&mut origins, &follows(1, 2, OVERLAP)), Ok(true));
    assert_eq!(hear(&mut origins, &follows(2, 3, 2 * OVERLAP)), Ok(true));
    let expected = [(OVERLAP - 1, 1), (OVERLAP, 2), (2 * OVERLAP - 1, 2), (2 * OVERLAP, 3), (u64::MAX, 3)];
    for (time, n) in expected {
        assert_eq!(ask(&origins, time), Some(of(n)), "at {time}");
    }
    // Stolen: nothing more is encrypted to it.
    assert_eq!(hear(&mut origins, &revocation("cert-at", 1, 300, None)), Ok(true));
    assert_eq!((ask(&origins, 299), ask(&origins, 300)), (Some(of(1)), Some(of(2))));
    assert_eq!(origins.encryption(&name("cert-ee"), 0), None);
}

#[test]
fn nothing_is_encrypted_to_what_goes_with_a_void_key() {
    let of = |n: u8| EncryptionSecret::derive(&[n; 32]).key();
    let at = name("cert-at");
    let encrypting = || origins().encrypting([(at.clone(), of(1))].into_iter());
    // Nobody follows; or one of whom nobody says what is encrypted to it.
    for next in [None, Some(2)] {
        let mut origins = encrypting();
        assert_eq!(hear(&mut origins, &revocation("cert-at", 1, 300, next)), Ok(true));
        assert_eq!((origins.encryption(&at, 299), origins.encryption(&at, 300)), (Some(of(1)), None), "{next:?}");
    }
    // Of one that is only over, the secret is still there.
    let mut origins = encrypting();
    assert_eq!(hear(&mut origins, &succession("cert-at", 1, 2, OVERLAP)), Ok(true));
    assert_eq!(origins.encryption(&at, OVERLAP), Some(of(1)));
    // Void by the roster, which has another one.
    let mut us = member("cert-at", &[(2, None), (1, Some(300))]);
    us.encryption = Some((*of(2).as_bytes()).into());
    let origins = encrypting().with(&roster(vec![us])).unwrap();
    assert_eq!((origins.encryption(&at, 299), origins.encryption(&at, 300)), (Some(of(1)), Some(of(2))));
}

#[test]
fn an_encryption_key_in_a_notice_is_checked_and_signed() {
    let notice = |encryption: [u8; 32]| {
        let notice = Notice::succession(&name("cert-at"), key(1), key(2), OVERLAP, 0);
        SignedNotice::sign(Notice { encryption: Some(encryption.into()), ..notice }, &secret(1), Some(&secret(2)))
    };
    let good = *EncryptionSecret::derive(&[2; 32]).key().as_bytes();
    let bytes = notice(good).unwrap().bytes().to_vec();
    for wrong in [[0; 32], [0xff; 32]] {
        assert!(matches!(notice(wrong), Err(BadNotice::Shape(_))), "{wrong:?}");
    }
    let at = bytes.windows(32).position(|window| window == good).unwrap();
    let other = EncryptionSecret::derive(&[66; 32]).key();
    let changed = [&bytes[..at], other.as_bytes(), &bytes[at + 32..]].concat();
    assert!(matches!(origins().hear(&changed), Err(NoticeRefused::Bad(BadNotice::Signature(_)))));
}

#[test]
fn a_thief_cannot_say_so_much_that_there_is_no_room_to_end_its_key() {
    let at = name("cert-at");
    let mut origins = origins();
    for n in 0..MAX_OF_ORIGIN as u8 {
        let old = if n == 0 { 1 } else { 200 + n };
        assert_eq!(hear(&mut origins, &succession("cert-at", old, 201 + n, u64::MAX)), Ok(true), "{n}");
    }
    let more = succession("cert-at", 200 + MAX_OF_ORIGIN as u8, 250, u64::MAX);
    assert!(matches!(hear(&mut origins, &more), Err(NoticeRefused::TooMany { .. })));
    // It is void from a time that is far away on; again, and again.
    for from in 0..20 {
        assert_eq!(hear(&mut origins, &revocation("cert-at", 1, u64::MAX - from, None)), Ok(true));
    }
    let held = origins.notices().len();
    // Its owner's word, also where it names one that comes too late.
    assert_eq!(hear(&mut origins, &revocation("cert-at", 1, 300, Some(2))), Ok(true));
    assert_eq!((origins.ask(&at, &key(1), 300), held), (Revoked(300), MAX_OF_ORIGIN + 1));
    assert_eq!(hear(&mut origins, &revocation("cert-at", 1, 200, None)), Ok(true));
    assert_eq!((origins.ask(&at, &key(1), 200), origins.notices().len()), (Revoked(200), held));
    // A later one says nothing.
    assert_eq!(hear(&mut origins, &revocation("cert-at", 1, 250, None)), Ok(false));
}

#[test]
fn what_is_signed_as_something_else_is_no_notice() {
    let good = revocation("cert-at", 1, 300, None);
    let content = serde_cbor::to_vec(good.notice()).unwrap();
    // The signature, and that there is no second one.
    let before = &good.bytes()[..good.bytes().len() - 65];
    for (domain, expected) in [
        (&b"intelmq-relay/1 notice"[..], true),
        (b"intelmq-relay/1 seal", false),
        (b"intelmq-relay/1 roster", false),
        (b"intelmq-relay/1 hops", false),
        (b"intelmq-relay/1 possession", false),
    ] {
        let signature = secret(1).sign_as(domain, &content);
        let bytes = [before, &signature, &[0xf6]].concat();
        assert_eq!(SignedNotice::open(&bytes, |_| true).is_ok(), expected, "{domain:?}");
    }
}

#[test]
fn a_revocation_keeps_its_place_before_what_came_after_it() {
    let at = name("cert-at");
    let mut origins = origins();
    assert_eq!(hear(&mut origins, &revocation("cert-at", 1, 300, None)), Ok(true));
    assert_eq!(hear(&mut origins, &revocation("cert-at", 1, 200, None)), Ok(true));
    assert_eq!(origins.notices().len(), 1);
    assert!(matches!(hear(&mut origins, &succession("cert-at", 1, 66, OVERLAP)), Err(NoticeRefused::Void { .. })));
    assert_eq!((origins.ask(&at, &key(1), 200), origins.ask(&at, &key(66), 0)), (Revoked(200), Other(key(1))));
}

/// The authorities list the key of today alone, and relay.toml still has the one before: that is the same node.
#[test]
fn a_roster_with_the_next_key_alone_speaks_of_the_same_node() {
    let at = name("cert-at");
    let told = |known: &[(u8, Option<u64>)]| {
        let mut origins = origins().with(&roster(vec![member("cert-at", known)])).unwrap();
        assert_eq!(hear(&mut origins, &succession("cert-at", 1, 2, OVERLAP)), Ok(true));
        origins
    };
    let origins = told(&[(2, None)]);
    assert_eq!(origins.contradictions(&name("us"), &key(99)), Vec::<String>::new());
    assert_eq!(origins.outdated(), [(at.clone(), key(1), key(2))]);
    assert_eq!((origins.ask(&at, &key(1), 0), origins.ask(&at, &key(2), 0)), (Good, Good));
    // So its word counts: that key is void, and another one is listed.
    let origins = told(&[(3, None), (2, Some(500))]);
    assert_eq!((origins.ask(&at, &key(2), 499), origins.ask(&at, &key(2), 500)), (Good, Revoked(500)));
    assert_eq!(origins.ask(&at, &key(3), 500), Good);
    // And nobody is told to write a void key.
    assert_eq!(origins.outdated(), []);
    // One that lists another key speaks of somebody else, as ever.
    let origins = told(&[(3, None)]);
    assert_eq!(origins.ask(&at, &key(3), 0), Other(key(1)));
    assert!(origins.contradictions(&name("us"), &key(99))[0].contains("which holds"));
}
