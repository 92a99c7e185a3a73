//! A key is followed by another, revoked, stolen or lost: through the program, with nodes that are away meanwhile.

#![allow(clippy::unwrap_used)] // A test that fails may panic, in what it calls too.

#[path = "support/hand.rs"]
#[allow(dead_code)] // Other tests use the rest of it.
mod hand;
#[path = "support/relay.rs"]
#[allow(dead_code)]
mod relay;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use hand::{Hand, by, sealed, secret, within};
use intelmq_relay::envelope::{Key, Secret};
use intelmq_relay::link::{Frame, From, Verdict};
use intelmq_relay::trust::{Member, MemberKey, Notice, Roster, Signed, SignedNotice, VERSION};
use relay::{Relay, wait_for, wait_until};
use rustix::process::Signal;
use serde_bytes::ByteBuf;
use serde_json::{Value, json};

const HOUR: u64 = 3600 * 1000;

fn source(node: &Relay) {
    fs::create_dir(node.path("in")).ok();
    node.and("[[take.files]]\nname = \"from-intelmq\"\ndirectory = \"in\"\n[take.files.seal]\ntlp = \"CLEAR\"");
}

fn door(node: &Relay) {
    fs::create_dir(node.path("out")).ok();
    node.and(
        "[[give.files]]\nname = \"to-intelmq\"\ndirectory = \"out\"\n[give.files.events]\nshape = \"extra\"\n\
         harmonization = \"builtin\"",
    );
}

fn origin(node: &Relay, of: &Relay) {
    node.and(&format!("[[origin]]\nname = \"{}\"\nkey = \"{}\"", of.name, of.key));
}

fn link(a: &Relay, b: &Relay) {
    a.peer(b, "community");
    b.peer(a, "community");
}

fn drop_in(node: &Relay, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let event = json!({
            "source.ip": "192.0.2.1", "classification.type": "spam", "feed.name": "test",
            "time.source": "2026-11-24T10:00:00+00:00", "extra.number": number,
        });
        let hidden = node.path(&format!("in/.{number}"));
        fs::write(&hidden, format!("{event}\n")).unwrap();
        fs::rename(hidden, node.path(&format!("in/{number}.jsonl"))).unwrap();
    }
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The numbers that a node's IntelMQ was given, in order.
fn given(node: &Relay) -> Vec<u64> {
    let text = fs::read_to_string(node.path("out/events.jsonl")).unwrap_or_default();
    // The last line may be being written.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let mut numbers: Vec<u64> = lines(whole).iter().filter_map(|event| event["extra.number"].as_u64()).collect();
    numbers.sort_unstable();
    numbers
}

#[track_caller]
fn has_all(node: &Relay, through: u64) {
    wait_until(&format!("{} has {through}", node.name), || given(node).len() as u64 >= through);
    assert_eq!(given(node), (0..through).collect::<Vec<_>>(), "{}", node.name);
}

fn id_of(node: &Relay, number: u64) -> String {
    wait_for("it is in the log", || {
        let all = lines(&node.expect(0, &["export"]));
        let found = all.iter().find(|message| message["payload"]["extra.number"] == number)?;
        Some(found["meta"]["uuid"].as_str().unwrap().to_owned())
    })
}

/// What `check` finds, whatever it thinks of that.
fn checked(node: &Relay) -> String {
    String::from_utf8(node.command(&["check"]).stdout).unwrap()
}

/// The key that the key file of a node has.
fn key(node: &Relay) -> String {
    let id = node.expect(0, &["id"]);
    id.split_whitespace().find(|word| word.starts_with("12D3KooW")).unwrap().to_owned()
}

/// Waits until the node has gone over to another key, and runs again.
#[track_caller]
fn has_turned(node: &Relay) -> String {
    wait_until("it has another key", || key(node) != node.key);
    node.says("this node has another key from now on");
    let restarted = || node.log_text().matches("\"running\"").count() > 1;
    wait_until("it runs again", restarted);
    node.status_when("no rotation is under way", |status| status["rotation"].is_null());
    key(node)
}

/// Nobody has refused anything, and nobody was given what it has refused.
#[track_caller]
fn nothing_was_refused(node: &Relay) {
    let status = node.status();
    for (peer, of) in status["peers"].as_object().unwrap() {
        for (verdict, count) in of["taken"].as_object().unwrap() {
            assert!(
                ["accepted", "completed", "duplicate"].contains(&&**verdict),
                "{}: {peer}: {verdict} {count}",
                node.name
            );
        }
    }
}

/// A — B — D — E, A — C — E: A rotates while C and E are away.
#[test]
fn a_key_is_rotated_while_half_of_the_network_is_down() {
    let mut nodes = ["cert-a", "cert-b", "cert-c", "cert-d", "cert-e"].map(Relay::init);
    {
        let [a, b, c, d, e] = &nodes;
        source(a);
        for (one, other) in [(a, b), (a, c), (b, d), (c, e), (d, e)] {
            link(one, other);
        }
        for node in [b, c, d, e] {
            door(node);
        }
        for node in [d, e] {
            origin(node, a);
        }
        for node in [b, c] {
            node.and("[policy]\nhops = 16");
        }
    }
    for at in [0, 1, 3] {
        nodes[at].start();
    }
    nodes[0].linked("cert-b");
    nodes[1].linked("cert-d");
    drop_in(&nodes[0], 0..10);
    for at in [1, 3] {
        has_all(&nodes[at], 10);
    }
    let before = id_of(&nodes[0], 3);

    let said = nodes[0].expect(0, &["key", "rotate"]);
    assert!(said.contains("when these peers know of it:") && said.contains("cert-c"), "{said}");
    let next = nodes[0].path("node.key.next");
    assert_eq!(fs::metadata(&next).unwrap().permissions().mode() & 0o777, 0o600);
    let waiting = nodes[0].status_when("B knows", |status| status["rotation"]["waits_for"] == json!(["cert-c"]));
    let new = waiting["rotation"]["next"].as_str().unwrap().to_owned();
    let again = nodes[0].expect(0, &["key", "rotate"]);
    assert!(again.contains("It is known already") && again.contains(&new), "{again}");
    assert!(checked(&nodes[0]).contains("is to follow"), "check does not tell of it");
    drop_in(&nodes[0], 10..20);
    for at in [1, 3] {
        has_all(&nodes[at], 20);
    }
    assert_eq!(key(&nodes[0]), nodes[0].key, "the old key stays until all know");

    // Killed at any time, it goes on.
    nodes[0].kill9();
    nodes[0].start();
    nodes[0].status_when("still", |status| status["rotation"]["waits_for"] == json!(["cert-c"]));

    nodes[2].start();
    assert_eq!(has_turned(&nodes[0]), new);
    assert_eq!(fs::metadata(nodes[0].path("node.key.1")).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!next.exists());
    drop_in(&nodes[0], 20..30);
    for at in [1, 2, 3] {
        has_all(&nodes[at], 30);
    }
    for peer in ["cert-b", "cert-c"] {
        nodes[0].linked(peer);
    }
    let stale = nodes[1].status();
    assert_eq!(stale["outdated"]["cert-a"], new, "{stale:#}");
    assert!(checked(&nodes[1]).contains(&format!("write there: key = \"{new}\"")));

    assert!(nodes[1].logged("is configured for").is_none(), "an error line about a peer that has only another key");

    // E has never heard of it, and is told before anything that the new key has sealed.
    nodes[4].start();
    has_all(&nodes[4], 30);
    for at in [0, 1, 4] {
        nodes[at].kill9();
    }
    nodes[0].start();
    drop_in(&nodes[0], 30..40);
    nodes[4].start();
    nodes[1].start();
    for node in &nodes[1..] {
        has_all(node, 40);
        nothing_was_refused(node);
    }

    // Its operator corrects relay.toml: nothing begins anew.
    let (old, b) = (nodes[0].key.clone(), &nodes[1]);
    b.reload(&old, &new);
    b.linked("cert-a");
    assert_eq!(b.status()["outdated"], json!({}));
    drop_in(&nodes[0], 40..50);
    for node in &nodes[1..] {
        has_all(node, 50);
        nothing_was_refused(node);
    }
    let shown =
        b.status()["peers"]["cert-a"]["taken"].as_object().unwrap().values().filter_map(Value::as_u64).sum::<u64>();
    assert!(shown <= 20, "B was shown {shown} entries, and had 40 of 50");

    // What the old key has sealed, the new one withdraws.
    let said = nodes[0].expect(0, &["withdraw", &before, "--reason", "wrong"]);
    assert!(said.contains("is withdrawn"), "{said}");
    for node in &nodes[1..] {
        wait_until("it is withdrawn", || node.expect(0, &["show", &before]).contains("withdrawn"));
    }
    // And again: a line of three.
    nodes[0].expect(0, &["key", "rotate"]);
    wait_until("a third key", || key(&nodes[0]) != new);
    nodes[0].says("going over to it");
    drop_in(&nodes[0], 50..60);
    for node in &nodes[1..] {
        has_all(node, 60);
        nothing_was_refused(node);
    }
}

/// C is away, and has only the old key; it hears of the new one from B.
#[test]
fn who_does_not_wait_is_followed_by_those_who_hear_of_it_from_others() {
    let [mut a, mut b, mut c] = ["cert-a", "cert-b", "cert-c"].map(Relay::init);
    source(&a);
    for (one, other) in [(&a, &b), (&a, &c), (&b, &c)] {
        link(one, other);
    }
    door(&b);
    door(&c);
    for node in [&mut a, &mut b, &mut c] {
        node.start();
    }
    a.linked("cert-c");
    a.linked("cert-b");
    drop_in(&a, 0..5);
    has_all(&c, 5);
    c.kill9();
    let said = a.expect(0, &["key", "rotate", "--now"]);
    assert!(said.contains("goes over to") && said.contains("cert-c"), "{said}");
    let new = has_turned(&a);
    drop_in(&a, 5..10);
    has_all(&b, 10);
    c.start();
    has_all(&c, 10);
    a.linked("cert-c");
    nothing_was_refused(&c);
    // By now, the old key is none that A may show itself with.
    assert_eq!(c.status()["outdated"]["cert-a"], new);
}

/// B knows A only, and was away: its operator must write the new key.
#[test]
fn who_hears_of_it_from_nobody_is_told_by_its_operator() {
    let [mut a, mut b] = ["cert-a", "cert-b"].map(Relay::init);
    source(&a);
    link(&a, &b);
    door(&b);
    a.start();
    b.start();
    a.linked("cert-b");
    drop_in(&a, 0..5);
    has_all(&b, 5);
    b.kill9();
    drop_in(&a, 5..10);
    a.terminate();
    let said = a.expect(0, &["key", "rotate", "--now"]);
    assert!(said.contains("cert-b") && said.contains("the old one is kept in"), "{said}");
    let new = key(&a);
    assert_ne!(new, a.key);
    a.start();
    drop_in(&a, 10..15);
    b.start();
    b.says("is configured for cert-a");
    assert_eq!(b.status()["peers"]["cert-a"]["linked"], false);
    b.reload(&a.key, &new);
    // Sealed with the old key, and with the new one; behind what it had.
    has_all(&b, 15);
    nothing_was_refused(&b);
    // The doors may have them before they are counted.
    let status = b.status_when("all are counted", |b| b["peers"]["cert-a"]["taken"]["accepted"] == 10);
    let taken = &status["peers"]["cert-a"]["taken"];
    assert!(taken["duplicate"].is_null(), "it was shown again what it had: {taken}");
}

fn notice(origin: &str, by: &Secret, from: u64, next: Option<&Secret>) -> Frame {
    let notice = Notice::revocation(&origin.parse().unwrap(), by.key(), from, next.map(Secret::key), from);
    Frame::Notices(vec![ByteBuf::from(SignedNotice::sign(notice, by, next).unwrap().bytes())])
}

/// A roster with these members, whose keys are revoked then.
fn revoking(number: u64, members: &[(String, u64)]) -> Vec<u8> {
    let mut members: Vec<Member> = members.iter().map(|(name, from)| revoked_member(name, *from)).collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    let (network, authorities) = ("certs".parse().unwrap(), vec![secret("x").key()]);
    let roster = Roster { v: VERSION, network, number, issued: 0, authorities, threshold: 1, members };
    let mut signed = Signed::unsigned(&roster).unwrap();
    signed.sign(&secret("x"));
    signed.encode()
}

fn revoked_member(name: &str, from: u64) -> Member {
    let keys = vec![MemberKey { key: secret(name).key(), from: None, until: None, revoked: Some(from) }];
    Member { name: name.parse().unwrap(), keys, org: None, rdns: None, contact: None, encryption: None }
}

/// The events of each origin, sealed before and after it was revoked, and the revocation, by its own notice or by the roster,
/// come in every order; and then all once more by another way.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_revoked_key_seals_is_accepted_nowhere_in_whatever_order() {
    let mut node = Relay::init("cert-n");
    door(&node);
    authority(&node);
    let [mut hand, mut other, mut reader] = ["cert-m", "cert-q", "cert-r"].map(|name| Hand::listed_by(&node, name));
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let names: Vec<String> = (0..2 * orders.len()).map(|n| format!("cert-o{n}")).collect();
    for name in &names {
        node.and(&format!("[[origin]]\nname = \"{name}\"\nkey = \"{}\"", secret(name).key()));
    }
    node.start();
    hand.link(&node).await;
    other.link(&node).await;
    let refused = || Verdict::Refused("key-revoked".into());
    let (mut kept, mut void, mut members) = (Vec::new(), Vec::new(), Vec::new());
    for (n, (name, order)) in names.iter().zip([orders, orders].concat()).enumerate() {
        let secret = secret(name);
        let (old, new) = (sealed(&secret, name, 0, |header| header.time -= 2 * HOUR), sealed(&secret, name, 1, |_| {}));
        let revoked = new.header().time - HOUR;
        let mut told = false;
        for what in order {
            match what {
                0 => assert_eq!(hand.give(&[by(&old, &["cert-m"])]).await, [Verdict::Accepted], "{name}"),
                1 => {
                    let expected = if told { refused() } else { Verdict::Accepted };
                    assert_eq!(hand.give(&[by(&new, &["cert-m"])]).await, [expected], "{name}");
                    if !told {
                        void.push(new.header().id.to_string());
                    }
                }
                _ => {
                    if n < orders.len() {
                        hand.send(notice(name, &secret, revoked, None)).await;
                    } else {
                        members.push((name.clone(), revoked));
                        let roster = revoking(members.len() as u64, &members);
                        hand.send(Frame::Roster(ByteBuf::from(roster))).await;
                    }
                    // It is handled when what follows is.
                    let nobody = sealed(&secret, "nobody", 0, |_| {});
                    assert_eq!(hand.give(&[by(&nobody, &["cert-m"])]).await, [Verdict::UnknownOrigin]);
                    told = true;
                }
            }
        }
        let known = if void.last() == Some(&new.header().id.to_string()) { Verdict::Duplicate } else { refused() };
        let more = sealed(&secret, name, 2, |_| {});
        let again = [&old, &new, &more].map(|event| by(event, &["cert-q"]));
        assert_eq!(other.give(&again).await, [Verdict::Duplicate, known, refused()], "{name}");
        kept.push(old.header().id);
    }
    assert_eq!(void.len(), 6);
    node.says("a key is revoked, by its own word");

    // Over a restart, too: what is kept of before, everybody may have; nothing else.
    node.kill9();
    for id in &void {
        assert!(node.expect(0, &["show", id]).contains("key-revoked"), "at rest, too");
    }
    node.start();
    reader.link_from(&node, From::All).await;
    let mut offered = Vec::new();
    while offered.len() < kept.len() {
        match reader.receive().await {
            Some(Frame::Batch(batch)) => offered.extend(batch.offers.iter().map(|offer| offer.2)),
            Some(_) => {}
            None => panic!("it hung up"),
        }
    }
    offered.sort();
    kept.sort();
    assert_eq!(offered, kept);
    for id in &void {
        let why = lines(&node.expect(0, &["why", "--json", id, "--peer", "cert-r"]));
        assert!(why.iter().all(|answer| answer["reason"] == "key-revoked" && answer["key_revoked"] == true), "{why:?}");
        assert!(node.expect(0, &["show", id]).contains("key-revoked"));
    }
    // No word of a void key makes another one its origin's.
    let next = secret("thief");
    hand.link(&node).await;
    for name in [&names[0], &names[orders.len()]] {
        hand.send(notice(name, &secret(name), 1, Some(&next))).await;
        let forged = by(&sealed(&next, name, 3, |_| {}), &["cert-m"]);
        assert_eq!(hand.give(&[forged]).await, [Verdict::Refused("other-key".into())]);
    }
}

/// Its own statement, prepared long before; and a key that is void is none to come in with.
#[test]
fn a_stolen_key_is_revoked_by_itself() {
    let [mut a, mut b] = ["cert-a", "cert-b"].map(Relay::init);
    source(&a);
    // B dials, and finds another key where it had met the old one.
    a.expect(0, &["peer", "add", "cert-b", &b.key, "--give", "community"]);
    b.peer(&a, "community");
    door(&b);
    let said = a.expect(0, &["key", "revoke", "--output", "in-the-safe"]);
    assert!(said.contains("Nobody has been told"), "{said}");
    a.start();
    b.start();
    a.linked("cert-b");
    drop_in(&a, 0..5);
    has_all(&b, 5);
    a.expect(0, &["key", "rotate"]);
    let new = has_turned(&a);
    let old = a.key.clone();
    fs::copy(a.path("node.key.1"), a.path("stolen.key")).unwrap();

    let said = a.expect(0, &["key", "publish", "in-the-safe"]);
    assert!(said.contains(&format!("The key {old} of cert-a is revoked")), "{said}");
    drop_in(&a, 5..10);
    has_all(&b, 10);
    b.says("a key is revoked, by its own word");
    // The first five are sealed after the time that the statement has.
    let id = id_of(&b, 0);
    assert!(b.expect(0, &["show", &id]).contains("key-revoked"));
    // A statement about our own key tells what follows.
    let said = a.expect(0, &["key", "revoke", &old, "--from", "2026-01-01T00:00:00Z", "--next", &new]);
    assert!(said.contains("is revoked, from 2026-01-01"), "{said}");
    let said = a.expect(0, &["key", "revoke"]);
    assert!(said.contains("This is the key that this node has"), "{said}");
    let unknown = secret("nobody").key().to_string();
    assert!(a.expect(2, &["key", "revoke", &unknown]).contains("no secret of"));
}

/// Waits until the node has turned somebody away; who must not come in.
async fn is_turned_away(node: &Relay, hand: &mut Hand) {
    let refused = async {
        while node.logged("refused a call").is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = hand.link(node) => panic!("it was let in"),
        () = within(refused) => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_met_with_the_next_key_is_not_met_with_the_old_one() {
    let mut node = Relay::init("cert-n");
    let mut hand = Hand::listed_by(&node, "cert-m");
    node.start();
    hand.link(&node).await;
    let (old, next) = (secret("cert-m"), secret("next"));
    let at = "cert-m".parse().unwrap();
    let notice =
        Notice::succession(&at, old.key(), next.key(), sealed(&old, "cert-m", 0, |_| {}).header().time + HOUR, 0);
    let notice = SignedNotice::sign(notice, &old, Some(&next)).unwrap();
    hand.send(Frame::Notices(vec![ByteBuf::from(notice.bytes())])).await;
    let event = |by_key: &Secret, number| by(&sealed(by_key, "cert-m", number, |_| {}), &[]);
    assert_eq!(hand.give(&[event(&next, 1), event(&old, 2)]).await, [Verdict::Accepted, Verdict::Accepted]);
    drop(hand);

    // Both may come in, until the next one has.
    let mut hand = Hand::known("cert-m");
    hand.link(&node).await;
    drop(hand);
    let mut hand = Hand::known("cert-m");
    hand.secret = secret("next");
    hand.link(&node).await;
    assert_eq!(hand.give(&[event(&next, 3)]).await, [Verdict::Accepted]);
    assert!(node.logged("refused a call").is_none());
    is_turned_away(&node, &mut Hand::known("cert-m")).await;
    node.kill9();
    node.start();
    is_turned_away(&node, &mut Hand::known("cert-m")).await;
    hand.link(&node).await;
    assert_eq!(
        hand.give(&[event(&old, 4)]).await,
        [Verdict::Accepted],
        "what the old key seals is good until its time"
    );

    // A flood of words that do not count ends the link.
    for n in 0..=64 {
        let forged = Notice::succession(&at, old.key(), secret(&format!("t{n}")).key(), 1, n);
        let forged = SignedNotice::sign(forged, &old, Some(&secret(&format!("t{n}")))).unwrap();
        hand.send(Frame::Notices(vec![ByteBuf::from(forged.bytes())])).await;
    }
    hand.hung_up().await;
    assert!(node.says("link down")["reason"].as_str().unwrap().contains("too many notices"));
    assert_eq!(node.says("TWO SUCCESSORS")["level"], "ERROR");
}

fn authority(node: &Relay) {
    node.and(&format!("[roster]\nauthorities = [\"{}\"]\nthreshold = 1", secret("x").key()));
}

/// The key file is gone, and there is no other copy: the authorities name the new key, and relay.toml of the peer still has the
/// old one.
#[test]
fn a_lost_key_is_recovered_by_the_authorities() {
    let [mut a, mut b] = ["cert-a", "cert-b"].map(Relay::init);
    source(&a);
    link(&a, &b);
    door(&b);
    authority(&a);
    authority(&b);
    a.start();
    b.start();
    a.linked("cert-b");
    drop_in(&a, 0..5);
    has_all(&b, 5);
    a.terminate();
    fs::remove_file(a.path("node.key")).unwrap();
    a.expect(0, &["init"]);
    let (new, old) = (key(&a), a.key.clone());
    assert_ne!(new, old);
    let (b_key, x) = (&b.key, secret("x").key());
    let stolen = intelmq_relay::envelope::rfc3339(intelmq_relay::net::now());
    fs::write(
        b.path("roster.toml"),
        format!(
            "network = \"certs\"\nnumber = 1\nauthorities = [\"{x}\"]\nthreshold = 1\n[[member]]\nname = \"cert-a\"\n\
             keys = [{{ key = \"{new}\" }}, {{ key = \"{old}\", revoked = \"{stolen}\" }}]\n\
             [[member]]\nname = \"cert-b\"\nkeys = [{{ key = \"{b_key}\" }}]\n"
        ),
    )
    .unwrap();
    let seed: String = secret("x").expose_seed().iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(b.path("x.key"), seed).unwrap();
    fs::set_permissions(b.path("x.key"), fs::Permissions::from_mode(0o600)).unwrap();
    b.expect(0, &["roster", "new", "roster.toml", "roster"]);
    b.expect(0, &["roster", "sign", "roster", "--key", "x.key"]);
    a.start();
    drop_in(&a, 5..10);
    b.status_when("it is somebody else", |status| {
        status["peers"]["cert-a"]["error"].as_str().is_some_and(|error| error.contains("is configured for cert-a"))
    });
    b.expect(0, &["roster", "publish", "roster"]);
    b.linked("cert-a");
    has_all(&b, 10);
    nothing_was_refused(&b);
    // And once more over a restart.
    b.kill9();
    drop_in(&a, 10..15);
    b.start();
    has_all(&b, 15);
}

#[test]
fn a_next_key_that_cannot_be_used_leaves_the_old_one() {
    let mut a = Relay::init("cert-a");
    source(&a);
    let stranger = secret("cert-b").key().to_string();
    a.expect(0, &["peer", "add", "cert-b", &stranger]);
    a.start();
    a.expect(0, &["key", "rotate"]);
    fs::rename(a.path("node.key.next"), a.path("elsewhere")).unwrap();
    a.expect(2, &["key", "rotate", "--overlap", "0"]);
    // Nothing is made anew that would be another one than the peers were told of.
    let said = a.expect(1, &["key", "rotate", "--now"]);
    assert!(said.contains("has named two successors"), "{said}");
    fs::rename(a.path("elsewhere"), a.path("node.key.next")).unwrap();
    fs::set_permissions(a.path("node.key.next"), fs::Permissions::from_mode(0o640)).unwrap();
    assert!(a.expect(2, &["key", "rotate", "--now"]).contains("chmod 600"));
    fs::set_permissions(a.path("node.key.next"), fs::Permissions::from_mode(0o600)).unwrap();
    // Interrupted between the two steps in which the files are exchanged.
    fs::hard_link(a.path("node.key"), a.path("node.key.1")).unwrap();
    a.expect(0, &["key", "rotate", "--now"]);
    has_turned(&a);
    assert!(!a.path("node.key.2").exists());
    a.signal(Signal::TERM);
    assert!(a.ended().success());
    let parsed: Key = key(&a).parse().unwrap();
    assert_ne!(parsed.to_string(), a.key);
}

/// A busy link needs a moment to tell: whoever was not told would let the node in no more.
#[test]
fn who_does_not_wait_tells_those_who_are_linked_first() {
    let [mut a, mut b] = ["cert-a", "cert-b"].map(Relay::init);
    source(&a);
    link(&a, &b);
    door(&b);
    a.start();
    b.start();
    a.linked("cert-b");
    let before = key(&a);
    let number = |at: u64| json!({"source.ip": "192.0.2.1", "classification.type": "spam", "feed.name": "test", "extra.number": at});
    let events: String = (0..5_000).map(|at| format!("{}\n", number(at))).collect();
    fs::write(a.path("in/.many"), events).unwrap();
    fs::rename(a.path("in/.many"), a.path("in/many.jsonl")).unwrap();
    wait_until("some are there", || a.status()["head"].as_u64() > Some(0));
    a.expect(0, &["key", "rotate", "--now"]);
    a.says("every peer knows this node's next key");
    assert_ne!(has_turned(&a), before);
    b.says("an origin has another key");
    a.linked("cert-b");
    for some in (1_000..=5_000).step_by(1_000) {
        wait_until(&format!("{some} are there"), || given(&b).len() >= some);
    }
    assert_eq!(given(&b).len(), 5_000);
}

/// Who signed, and which key followed, stands in the store: a look at rest accuses nobody, and the next start does not either.
#[test]
fn a_node_at_rest_and_one_that_starts_know_who_followed() {
    let [mut a, mut b, mut c] = ["cert-a", "cert-b", "cert-c"].map(Relay::init);
    source(&a);
    link(&a, &b);
    link(&b, &c);
    origin(&c, &a);
    door(&c);
    b.configure(&b.configuration().replacen("[node]", "[node]\nattest = true", 1));
    for node in [&mut a, &mut b, &mut c] {
        node.start();
    }
    for (node, peer) in [(&a, "cert-b"), (&b, "cert-c")] {
        node.linked(peer);
    }
    b.expect(0, &["key", "rotate"]);
    let new = has_turned(&b);
    drop_in(&a, 0..1);
    has_all(&c, 1);
    let id = id_of(&c, 0);
    let running = c.expect(0, &["show", &id]);
    assert!(running.contains("  !!cert-b  verified"), "{running}");
    c.terminate();
    a.terminate();
    assert_eq!(c.expect(0, &["show", &id]), running);
    assert!(c.expect(0, &["tail", "--no-follow"]).contains("!!cert-a!!cert-b!cert-c"));
    // relay.toml there still has the old key.
    assert!(checked(&a).contains("peer cert-b: answers"), "{}", checked(&a));
    a.start();
    a.linked("cert-b");
    let log = a.log_text();
    assert!(!log.contains("is configured for") && !log.contains("refused a call"), "{new}: {log}");
}

/// The key was corrected, and the encryption key forgotten: the one that a thief may have.
#[test]
fn half_a_correction_is_said() {
    let [mut a, mut b] = ["cert-a", "cert-b"].map(Relay::init);
    let encryption = |node: &Relay| {
        let id = node.expect(0, &["id"]);
        id.split_whitespace().find(|word| word.starts_with("X25")).unwrap().to_owned()
    };
    link(&a, &b);
    a.start();
    b.start();
    a.linked("cert-b");
    b.expect(0, &["key", "rotate"]);
    let new = has_turned(&b);
    assert!(checked(&a).contains(&format!("key = \"{new}\"")));
    assert_eq!(a.status()["outdated_encryption"], json!({}));
    a.reload(&b.key, &new);
    let right = encryption(&b);
    assert_eq!(a.status()["outdated_encryption"]["cert-b"], right);
    assert!(checked(&a).contains(&format!("encryption = \"{right}\"")));
    a.reload(&b.encryption, &right);
    a.linked("cert-b");
    assert!(!checked(&a).contains("encryption"), "{}", checked(&a));
}
