//! What an invitation, its messages, its words and the book promise.

use serde_bytes::ByteArray;
use zeroize::Zeroizing;

use super::line::tests_only_line_of;
use super::*;
use crate::envelope::{EncryptionKey, EncryptionSecret, Key, Name, Secret};

const HOUR: u64 = 3_600_000;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn secret(seed: u8) -> Secret {
    Secret::from_seed(&[seed; 32])
}

fn key(seed: u8) -> Key {
    secret(seed).key()
}

fn ticket(seed: u8) -> Ticket {
    Ticket::new(Zeroizing::new([seed; 16]))
}

fn invitation() -> Invitation {
    Invitation {
        host: name("cert-at"),
        key: key(1),
        addresses: vec!["/dns/relay.cert.at.example/tcp/4747".into(), "/ip4/192.0.2.1/tcp/4747".into()],
        ticket: ticket(7),
        expires: 1_800_000_000_000,
        guest: name("cert-ee"),
    }
}

fn reason(text: &str) -> String {
    Invitation::read(text).err().map_or_else(|| "read".into(), |damaged| damaged.to_string())
}

#[test]
fn a_line_says_what_was_written_into_it() {
    let line = invitation().line();
    let read = Invitation::read(&line).ok().unwrap();
    let ours = invitation();
    assert_eq!((read.host, read.key, read.addresses), (ours.host, ours.key, ours.addresses));
    assert_eq!((read.expires, read.guest), (ours.expires, ours.guest));
    assert_eq!(read.ticket.guest().key(), ours.ticket.guest().key());
    // As a mail program may break it.
    let broken: String = line
        .chars()
        .enumerate()
        .flat_map(|(i, c)| {
            (i % 40 == 39).then_some("\r\n ").into_iter().flat_map(str::chars).chain([c]).collect::<Vec<_>>()
        })
        .collect();
    assert!(Invitation::read(&format!("  {broken}\n")).is_ok());
}

#[test]
fn a_changed_line_is_never_read() {
    let line = invitation().line();
    for at in 0..line.len() {
        for other in
            (0..=127_u8).map(char::from).filter(|c| *c != char::from(line.as_bytes()[at]) && !c.is_whitespace())
        {
            let changed = format!("{}{other}{}", &line[..at], &line[at + 1..]);
            assert!(reason(&changed).starts_with("the invitation is damaged: "), "{changed}: {}", reason(&changed));
        }
        assert!(reason(&line[..at]).starts_with("the invitation is damaged: "), "cut at {at}");
        let without = format!("{}{}", &line[..at], &line[at + 1..]);
        assert!(reason(&without).starts_with("the invitation is damaged: "), "without {at}");
    }
    assert!(reason(&format!("{}A", *line)).contains("damaged"));
    assert!(reason(&"relay-invite:".repeat(1000)).contains("longer"));
}

#[test]
fn a_line_has_one_form_and_a_version() {
    // 0x86: an array of six.
    let content = |bytes: &[u8]| tests_only_line_of(&[&[1], bytes].concat());
    assert_eq!(
        reason(&tests_only_line_of(&[2, 0x86])),
        "the invitation is of version 2, and this relay reads version 1"
    );
    for wrong in [&[0x86][..], &[], &[0xff; 40], &[0x80]] {
        assert!(reason(&content(wrong)).contains("none of an invitation"), "{wrong:?}");
    }
    let good = |addresses: Vec<&str>, key: [u8; 32], more: &[u8]| {
        let parts = ("cert-at", ByteArray::new(key), addresses, ByteArray::new([7_u8; 16]), 5_u64, "cert-ee");
        content(&[&serde_cbor::to_vec(&parts).unwrap(), more].concat())
    };
    let address = "/ip4/192.0.2.1/tcp/1";
    assert_eq!(reason(&good(vec![address], *key(1).as_bytes(), &[])), "read");
    assert!(reason(&good(vec![address], *key(1).as_bytes(), &[0])).contains("none of an invitation"));
    assert!(reason(&good(vec![address], [0; 32], &[])).contains("none of an invitation"));
    assert!(reason(&good(vec![], *key(1).as_bytes(), &[])).contains("none of an invitation"));
    assert!(reason(&good(vec![address; 9], *key(1).as_bytes(), &[])).contains("none of an invitation"));
    assert!(reason(&good(vec!["/ip4/\u{1b}[2J/tcp/1"], *key(1).as_bytes(), &[])).contains("none of an invitation"));
    // The number 5 in two bytes.
    let Some(line) = good(vec![address], *key(1).as_bytes(), &[]).strip_prefix("relay-invite:").map(str::to_owned)
    else {
        panic!()
    };
    use base64::Engine;
    let bytes = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(line).unwrap();
    let at = bytes.windows(2).position(|two| two == [5, 0x67]).unwrap();
    let longer = [&bytes[..at], &[0x18], &bytes[at..bytes.len() - 4]].concat();
    assert!(reason(&tests_only_line_of(&longer)).contains("one form"));
}

#[test]
fn the_largest_invitation_has_a_line() {
    let largest: Name = "x".repeat(Name::MAX).parse().unwrap();
    let address = format!("/dns/{}/tcp/65535/p2p/{}", "x".repeat(253), key(1));
    assert!(address.len() <= 340);
    let addresses = vec![format!("{address:x<340}"); MAX_ADDRESSES];
    let ours = Invitation { host: largest.clone(), addresses, expires: u64::MAX, guest: largest, ..invitation() };
    assert!(Invitation::read(&ours.line()).is_ok());
    let asked = Asked {
        node: ours.guest.clone(),
        key: key(2),
        encryption: encryption(2),
        addresses: ours.addresses.clone(),
        software: "x".repeat(200),
        commitment: ByteArray::new([1; 32]),
    };
    let said = Message::ask(&asked, &secret(2), &key(3), &key(1)).encode();
    assert!(Message::decode(&said).is_ok_and(|said| said.asked(&key(3), &key(1)).is_ok()));
}

#[test]
fn a_guest_proves_its_key_to_one_host_for_one_invitation() {
    let (guest, ours, theirs) = (secret(2), ticket(7).guest().key(), ticket(8).guest().key());
    let asked = Asked {
        node: name("cert-ee"),
        key: guest.key(),
        encryption: encryption(2),
        addresses: vec![],
        software: "by hand".into(),
        commitment: ByteArray::new([1; 32]),
    };
    let said = Message::decode(&Message::ask(&asked, &guest, &ours, &key(1)).encode()).unwrap();
    assert_eq!(said.asked(&ours, &key(1)).as_ref(), Ok(&asked));
    let refused = |message: &Message, ticket: &Key, host: &Key| message.asked(ticket, host).unwrap_err().to_string();
    assert!(refused(&said, &theirs, &key(1)).contains("has not the key"));
    assert!(refused(&said, &ours, &key(3)).contains("has not the key"));
    // Somebody else's key.
    let stolen = Asked { key: key(4), ..asked.clone() };
    assert!(refused(&Message::ask(&stolen, &guest, &ours, &key(1)), &ours, &key(1)).contains("has not the key"));
    for wrong in [
        Asked { software: "a\nb".into(), ..asked.clone() },
        Asked { software: "x".repeat(201), ..asked.clone() },
        Asked { addresses: vec!["/x".into(); 9], ..asked.clone() },
        Asked { addresses: vec!["/x\n".into()], ..asked },
    ] {
        assert!(refused(&Message::ask(&wrong, &guest, &ours, &key(1)), &ours, &key(1)).contains("too long"));
    }
    assert!(refused(&Message::Nonce(ByteArray::new([0; 16])), &ours, &key(1)).contains("not who it is"));
    assert!(Message::decode(&[0; MAX_MESSAGE + 1]).is_err() && Message::decode(&[]).is_err());
    let trailing = [&said.encode()[..], &[0]].concat();
    assert!(Message::decode(&trailing).is_err());
    // Other forms of the same.
    assert!(Message::decode(b"\xa1\x67refused\x64used").is_ok());
    for other in [&b"\xb8\x01\x67refused\x64used"[..], b"\xa1\x67refused\x01", b"\xc1\xa1\x67refused\x64used"] {
        assert!(Message::decode(other).is_err(), "{other:x?}");
    }
    let welcome = |software: &str| {
        let welcome = Welcome { node: name("a"), encryption: encryption(1), software: software.into() };
        Message::decode(&Message::Welcome(welcome).encode())
    };
    assert!(welcome(&"x".repeat(200)).is_ok() && welcome(&"x".repeat(201)).is_err() && welcome("a\x1bb").is_err());
}

#[test]
fn the_words_are_those_of_both_nodes_and_this_exchange() {
    let (at, ee, other) = (name("cert-at"), name("cert-ee"), name("cert-x"));
    let (one, two, three) = (key(1), key(2), key(3));
    let words = |host, guest, ticket: &Key, a: u8, b: u8| {
        Parties { host, guest, ticket }.words(&ByteArray::new([a; 16]), &ByteArray::new([b; 16]))
    };
    let ours = words((&at, &one), (&ee, &two), &three, 1, 2);
    assert_eq!(ours.split(' ').count(), 6);
    for others in [
        words((&other, &one), (&ee, &two), &three, 1, 2),
        words((&at, &three), (&ee, &two), &three, 1, 2),
        words((&at, &one), (&other, &two), &three, 1, 2),
        words((&at, &one), (&ee, &three), &three, 1, 2),
        words((&at, &one), (&ee, &two), &one, 1, 2),
        words((&at, &one), (&ee, &two), &three, 9, 2),
        words((&at, &one), (&ee, &two), &three, 1, 9),
        words((&ee, &two), (&at, &one), &three, 2, 1),
    ] {
        assert_ne!(ours, others);
    }
    // For another implementation: as docs/protocol.md has it.
    assert_eq!(ours, "ocean tourist purse wire club unknown");
}

#[test]
fn a_nonce_is_only_its_makers_to_tell_and_the_same_again() {
    let (host, guest, ticket) = (secret(1), secret(2), key(3));
    let (first, second) = (commitment(&ByteArray::new([1; 16])), commitment(&ByteArray::new([2; 16])));
    assert_ne!(first, second);
    let ours = host_nonce(&host, &ticket, &guest.key(), &first);
    assert_eq!(ours, host_nonce(&host, &ticket, &guest.key(), &first));
    // Who asks again with another number meets another of ours.
    assert_ne!(ours, host_nonce(&host, &ticket, &guest.key(), &second));
    assert_ne!(ours, host_nonce(&guest, &ticket, &guest.key(), &first));
    assert_ne!(ours, host_nonce(&host, &ticket, &key(4), &first));
    let theirs = guest_nonce(&guest, &ticket, &host.key());
    assert_eq!(theirs, guest_nonce(&guest, &ticket, &host.key()));
    assert_ne!(theirs, guest_nonce(&guest, &key(4), &host.key()));
    assert_ne!(theirs, guest_nonce(&guest, &ticket, &key(4)));
}

fn record(to: &str, seed: u8, expires: u64) -> Record {
    Record { name: name(to), ticket: key(seed), expires, community: false, state: State::Open }
}

#[test]
fn an_invitation_works_once_and_says_why_not() {
    let mut book = Book::default();
    assert_eq!(book.open(record("cert-ee", 10, HOUR), 0), Some(false));
    let admits = |book: &Book, who: &str, by: u8, at: u64| book.admits(&key(10), &name(who), &key(by), at).err();
    assert_eq!(admits(&book, "cert-ee", 2, HOUR - 1), None);
    assert_eq!(admits(&book, "cert-fi", 2, 0), Some(Refusal::OtherName));
    assert_eq!(admits(&book, "cert-ee", 2, HOUR), Some(Refusal::Expired));
    assert_eq!(book.admits(&key(11), &name("cert-ee"), &key(2), 0).err(), Some(Refusal::Expired));

    book.take(&key(10), key(2), "a b".into(), false, 5);
    assert_eq!(admits(&book, "cert-ee", 3, 5), Some(Refusal::Used));
    assert_eq!(admits(&book, "cert-fi", 2, 5), Some(Refusal::OtherName));
    // The same node, which did not get its answer; its time does not run out on the way.
    assert_eq!(admits(&book, "cert-ee", 2, HOUR + 1), None);
    book.take(&key(10), key(2), "a b".into(), true, 9);
    let State::Used { at: 5, done: true, .. } = book.records()[0].state else { panic!("{book:?}") };
    // What is over cannot be taken back.
    assert!(!book.cancel(&name("cert-ee"), 10));
}

#[test]
fn a_new_invitation_takes_the_place_of_an_open_one_and_a_withdrawn_one_says_so() {
    let mut book = Book::default();
    book.open(record("cert-ee", 10, HOUR), 0);
    assert_eq!(book.open(record("cert-ee", 11, HOUR), 1), Some(true));
    assert_eq!(book.admits(&key(10), &name("cert-ee"), &key(2), 2).err(), Some(Refusal::Cancelled));
    assert!(book.admits(&key(11), &name("cert-ee"), &key(2), 2).is_ok());
    assert!(book.cancel(&name("cert-ee"), 3) && !book.cancel(&name("cert-ee"), 3));
    assert_eq!(book.admits(&key(11), &name("cert-ee"), &key(2), 4).err(), Some(Refusal::Cancelled));
}

#[test]
fn the_book_is_bounded() {
    let mut book = Book::default();
    for n in 0..OPEN as u8 {
        assert_eq!(book.open(record(&format!("cert-{n}"), n, HOUR), 0), Some(false));
    }
    assert_eq!(book.open(record("cert-x", 200, HOUR), 0), None);
    // All of these expire; as many more come, are withdrawn, and push out the oldest.
    for n in 100..100 + OPEN as u8 {
        assert_eq!(book.open(record(&format!("cert-{n}"), n, 3 * HOUR), 2 * HOUR), Some(false));
        assert!(book.cancel(&name(&format!("cert-{n}")), 2 * HOUR));
    }
    book.prune(2 * HOUR);
    assert_eq!(book.records().len(), CLOSED);
    assert!(book.find(&key(0)).is_none() && book.find(&key(163)).is_some());
    assert!(book.prune(2 * HOUR + KEPT) && book.records().is_empty());
    assert!(!book.prune(2 * HOUR + KEPT));
}

fn encryption(seed: u8) -> EncryptionKey {
    EncryptionSecret::derive(&[seed; 32]).key()
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One exchange, for another implementation.
#[test]
fn the_vector_is_what_is_said() {
    let (host, guest, ours) = (secret(1), secret(2), invitation());
    let ticket = ours.ticket.guest();
    let theirs = guest_nonce(&guest, &ticket.key(), &host.key());
    let bound = commitment(&theirs);
    let asked = Asked {
        node: ours.guest.clone(),
        key: guest.key(),
        encryption: encryption(2),
        addresses: vec!["/dns/relay.cert.ee.example/tcp/4747".into()],
        software: "vector".into(),
        commitment: ByteArray::new(bound),
    };
    let answer = host_nonce(&host, &ticket.key(), &guest.key(), &bound);
    let parties =
        Parties { host: (&ours.host, &host.key()), guest: (&ours.guest, &guest.key()), ticket: &ticket.key() };
    let number = |word| bip39::Language::English.word_list().iter().position(|listed| *listed == word);
    let welcome =
        Message::Welcome(Welcome { node: ours.host.clone(), encryption: encryption(1), software: "vector".into() });
    let vector = serde_json::json!({
        "host": {"name": ours.host, "seed": hex([1; 32]), "key": hex(host.key().as_bytes())},
        "guest": {"name": ours.guest, "seed": hex([2; 32]), "key": hex(guest.key().as_bytes())},
        "addresses": ours.addresses, "expires": ours.expires, "secret": hex([7; 16]),
        "line": *ours.line(),
        "ticket": {"seed": hex(ticket.expose_seed()), "key": hex(ticket.key().as_bytes())},
        "ask": hex(Message::ask(&asked, &guest, &ticket.key(), &host.key()).encode()),
        "host_nonce": hex(&answer[..]), "guest_nonce": hex(&theirs[..]), "commitment": hex(bound),
        "nonce_message": hex(Message::Nonce(answer).encode()),
        "welcome": hex(welcome.encode()),
        "refused": hex(Message::Refused(Refusal::OtherName).encode()),
        "numbers": parties.words(&answer, &theirs).split(' ').map(number).collect::<Vec<_>>(),
        "words": parties.words(&answer, &theirs),
    });
    let written: serde_json::Value = serde_json::from_str(include_str!("../../tests/vectors/join.json")).unwrap();
    assert_eq!(written, vector, "{vector:#}");
}
