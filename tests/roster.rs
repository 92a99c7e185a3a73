//! The roster through the program: made, signed, checked and published as an operator does it, in a node that runs and
//! in one that does not; and what follows for events, at once.

#![allow(clippy::unwrap_used)] // A test that fails may panic, in what it calls too.

#[path = "support/hand.rs"]
#[allow(dead_code)]
mod hand;
#[path = "support/relay.rs"]
#[allow(dead_code)] // Other tests use the rest of it.
mod relay;

use std::fmt::Write;

use hand::{Hand, by, sealed, secret};
use intelmq_relay::envelope::{Bounds, attest, rfc3339};
use intelmq_relay::link::{Frame, Verdict};
use relay::{Relay, wait_until};
use rustix::process::Signal;
use serde_bytes::ByteBuf;

const HOUR: u64 = 3600 * 1000;

/// A node whose [roster] trusts the authorities x, y and z, two of which must sign; with their key files.
fn node_with_authorities() -> Relay {
    trusting("cert-c")
}

fn trusting(name: &str) -> Relay {
    let node = Relay::init(name);
    for name in ["x", "y", "z"] {
        key_file(&node, name);
    }
    node.and(&format!("[roster]\nauthorities = {}\nthreshold = 2", authorities()));
    node
}

fn key_file(node: &Relay, name: &str) {
    use std::os::unix::fs::OpenOptionsExt;
    let seed: String = secret(name).expose_seed().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(node.path(&format!("{name}.key"))).unwrap();
    std::io::Write::write_all(&mut file, seed.as_bytes()).unwrap();
}

fn authorities() -> String {
    format!("{:?}", ["x", "y", "z"].map(|name| secret(name).key().to_string()))
}

/// Describes, makes and signs a roster; `members` are names and what stands beside the key.
fn make(node: &Relay, file: &str, number: u64, members: &[(&str, &str)], signers: &[&str]) {
    let mut text = format!("network = \"certs\"\nnumber = {number}\nauthorities = {}\nthreshold = 2\n", authorities());
    for (name, more) in members {
        write!(text, "[[member]]\nname = \"{name}\"\nkeys = [{{ key = \"{}\"{more} }}]\n", secret(name).key()).unwrap();
    }
    let description = format!("{file}.toml");
    std::fs::write(node.path(&description), text).unwrap();
    node.expect(0, &["roster", "new", &description, file]);
    for signer in signers {
        node.expect(0, &["roster", "sign", file, "--key", &format!("{signer}.key")]);
    }
}

fn time(ms: u64) -> String {
    intelmq_relay::envelope::rfc3339(ms)
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_known_at_once_and_revoked_keys_are_not() {
    let mut node = node_with_authorities();
    let mut hand = Hand::listed_by(&node, "cert-m");
    let member = secret("cert-o");
    node.start();
    hand.link(&node).await;
    let refused = |rule: &str| Verdict::Refused(rule.into());
    let event = |number, age: u64| by(&sealed(&member, "cert-o", number, |header| header.time -= age), &["cert-m"]);
    assert_eq!(hand.give(&[event(1, 0)]).await, [Verdict::UnknownOrigin]);

    make(&node, "one", 1, &[("cert-o", "")], &["x", "y"]);
    let said = node.expect(0, &["roster", "publish", "one"]);
    assert!(said.contains("number 1 of certs, 1 members") && said.contains("member cert-o added"), "{said}");
    assert_eq!(hand.give(&[event(2, 0), event(3, 2 * HOUR)]).await, [Verdict::Accepted, Verdict::Accepted]);
    let status = node.status();
    assert_eq!((&status["roster"]["number"], &status["roster"]["members"]), (&1.into(), &1.into()), "{status:#}");

    // Revoked from an hour ago: what was sealed before stays acceptable, though it comes now.
    let revoked = time(sealed(&member, "cert-o", 0, |_| {}).header().time - HOUR);
    make(&node, "two", 2, &[("cert-n", ""), ("cert-o", &format!(", revoked = \"{revoked}\""))], &["x", "z"]);
    let shown = node.expect(0, &["roster", "show", "two"]);
    assert!(
        shown.contains("2 changes") && shown.contains("REVOKED from") && shown.contains("of cert-o revoked"),
        "{shown}"
    );
    node.expect(0, &["roster", "publish", "two"]);
    assert_eq!(hand.give(&[event(4, 0), event(5, 2 * HOUR)]).await, [refused("key-revoked"), Verdict::Accepted]);
    assert_eq!(node.says("their key is revoked")["sealed_with"], member.key().to_string());
    wait_until("it says so", || node.logged("the roster has changed").is_some_and(|said| said["number"] == 2));

    // Over a restart, and with a configuration that is read again.
    node.kill9();
    node.start();
    hand.link(&node).await;
    assert_eq!(hand.give(&[event(6, 0), event(7, 2 * HOUR)]).await, [refused("key-revoked"), Verdict::Accepted]);
    node.and("[limits]\nfields = 99");
    node.signal(Signal::HUP);
    node.says("configuration read again");
    assert_eq!(node.status()["roster"]["number"], 2);

    // A member that is gone is a stranger.
    make(&node, "three", 3, &[("cert-n", "")], &["y", "z"]);
    node.expect(0, &["roster", "publish", "three"]);
    assert_eq!(hand.give(&[event(8, 2 * HOUR)]).await, [Verdict::UnknownOrigin]);

    // One that ends has its time, and another's key is another's.
    make(&node, "four", 4, &[("cert-o", &format!(", until = \"{revoked}\""))], &["y", "z"]);
    node.expect(0, &["roster", "publish", "four"]);
    assert_eq!(hand.give(&[event(9, 0), event(10, 2 * HOUR)]).await, [refused("key-not-valid"), Verdict::Accepted]);
    let forged = by(&sealed(&secret("cert-m"), "cert-o", 11, |_| {}), &["cert-m"]);
    assert_eq!(hand.give(&[forged]).await, [refused("other-key")]);
    assert_eq!(node.says("another key than the one known")["known_key"], member.key().to_string());

    // Who asks for more signatures than it has keeps none; who takes that back has it again.
    let configuration = node.configuration();
    node.configure(&configuration.replace("threshold = 2", "threshold = 3"));
    node.signal(Signal::HUP);
    node.says("the roster does not hold any more");
    node.status_when("no roster", |status| status["roster"].is_null());
    node.configure(&configuration);
    node.signal(Signal::HUP);
    node.status_when("it is there again", |status| status["roster"]["number"] == 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn hops_are_verified_by_the_roster_whether_the_node_runs_or_not() {
    let mut node = node_with_authorities();
    let mut hand = Hand::listed_by(&node, "cert-m");
    make(&node, "one", 1, &[("cert-o", ""), ("cert-k", "")], &["x", "y"]);
    node.expect(0, &["roster", "publish", "one"]);
    node.start();
    hand.link(&node).await;
    let mut event = sealed(&secret("cert-o"), "cert-o", 0, |_| {});
    let (id, time) = (event.header().id.to_string(), event.header().time);
    let (name, bounds) = ("cert-k".parse().unwrap(), Bounds::default());
    attest(&secret("cert-k"), &name, time, &bounds, &mut [&mut event], &mut rand::rng());
    assert_eq!(hand.give(&[by(&event, &["cert-m"])]).await, [Verdict::Accepted]);
    let shows = |node: &Relay, way: &str, text: &str| {
        let show = node.expect(0, &["show", &id]);
        assert!(show.contains(&format!("way       !!cert-o{way}!cert-m!cert-c\n")) && show.contains(text), "{show}");
    };
    shows(&node, "!!cert-k", "verified: it signed that it took it from cert-o at ");
    for (file, number, more, text) in [
        ("two", 2, format!(", until = \"{}\"", rfc3339(time)), "was not its key at"),
        ("three", 3, format!(", revoked = \"{}\"", rfc3339(time - HOUR)), "revoked from"),
    ] {
        make(&node, file, number, &[("cert-o", ""), ("cert-k", &more)], &["x", "y"]);
        node.expect(0, &["roster", "publish", file]);
        shows(&node, "!?cert-k", text);
    }
    make(
        &node,
        "four",
        4,
        &[("cert-o", ""), ("cert-k", &format!(", revoked = \"{}\"", rfc3339(time + 1)))],
        &["x", "y"],
    );
    node.expect(0, &["roster", "publish", "four"]);
    shows(&node, "!!cert-k", "verified: it signed");
    node.terminate();
    shows(&node, "!!cert-k", "verified: it signed");
    node.configure(&node.configuration().replace("threshold = 2", "threshold = 3"));
    shows(&node, "!cert-k", "knows no key of it");
}

#[test]
fn a_roster_is_newer_and_signed_or_it_is_refused() {
    let mut node = node_with_authorities();
    make(&node, "five", 5, &[("cert-o", "")], &["x", "y"]);
    make(&node, "few", 6, &[("cert-o", "")], &["x"]);
    make(&node, "four", 4, &[], &["x", "y", "z"]);
    make(&node, "split", 5, &[("cert-p", "")], &["y", "z"]);
    // Without a running node, it is put into the store.
    assert!(node.expect(0, &["roster", "show"]).contains("No roster"), "the folder is there since init");
    node.expect(0, &["roster", "publish", "five"]);
    assert!(node.expect(0, &["roster", "publish", "five"]).contains("holds already: number 5"));
    let refuses = |node: &Relay| {
        for (file, part) in [
            ("few", "signed by 1 of the 3 authorities in [roster], which asks for 2"),
            ("four", "it has number 4, and 5 holds here: a roster never goes back"),
            ("split", "there are two rosters of number 5"),
        ] {
            let said = node.expect(1, &["roster", "publish", file]);
            assert!(said.contains(part), "{file}: {said}");
        }
        assert!(node.expect(0, &["roster", "show"]).contains("roster 5 of certs"));
    };
    refuses(&node);
    node.start();
    assert_eq!(node.status()["roster"]["number"], 5);
    refuses(&node);
    assert_eq!(node.says("A SPLIT ROSTER")["level"], "ERROR");
    // Not even by other authorities: what held once is not gone back behind.
    let configuration = node.configuration();
    node.configure(&configuration.replace("threshold = 2", "threshold = 3"));
    node.signal(Signal::HUP);
    node.says("the roster does not hold any more");
    assert!(node.expect(1, &["roster", "publish", "four"]).contains("never goes back"));
}

#[test]
fn what_an_operator_may_get_wrong_is_told() {
    let node = node_with_authorities();
    make(&node, "one", 1, &[("cert-o", "")], &["x", "y"]);
    let verified = node.expect(0, &["roster", "verify", "one"]);
    assert!(verified.contains("It may hold here.") && verified.matches("(counts)").count() == 2, "{verified}");
    make(&node, "few", 1, &[("cert-o", "")], &["z"]);
    let few = node.command(&["roster", "verify", "few"]);
    let text = String::from_utf8(few.stdout).unwrap();
    assert!(few.status.code() == Some(1) && text.contains("signed by 1 of the 3"), "{text}");
    let wrong = |arguments: &[&str], part: &str| {
        let said = node.expect(2, arguments);
        assert!(said.contains(part), "{arguments:?}: {said}");
    };
    wrong(&["roster", "sign", "one"], "none of the authorities");
    wrong(&["roster", "new", "one.toml", "one"], "stays as it is");
    wrong(&["roster", "publish", "relay.toml"], "no roster");
    wrong(&["roster", "show", "nowhere"], "cannot read nowhere");
    let describe = |text: &str| std::fs::write(node.path("d.toml"), text).unwrap();
    describe("network = \"certs\"\nnumber = 1\nauthorities = []\n");
    wrong(&["roster", "new", "d.toml", "d"], "its threshold asks for");
    describe("network = \"certs\"\nnumber = 1\nauthorities = []\nmembers = []\n");
    wrong(&["roster", "new", "d.toml", "d"], "line 4, column 1: unknown field `members`");
    describe(&format!(
        "network = \"certs\"\nnumber = 1\nauthorities = {}\n[[member]]\nname = \"a\"\nkeys = [{{ key = {:?}, until = \"soon\" }}]",
        authorities(),
        secret("a").key().to_string()
    ));
    wrong(&["roster", "new", "d.toml", "d"], "write it as \"2026-01-31T00:00:00Z\"");
    node.configure(&node.configuration().replace("[roster]", "[roster-]"));
    let without: String = node.configuration().split("[roster-]").next().unwrap().into();
    node.configure(&without);
    wrong(&["roster", "verify", "one"], "the configuration has no [roster]");
    wrong(&["roster", "publish", "one"], "the configuration has no [roster]");
}

#[test]
fn where_configuration_and_roster_differ_the_operator_is_told() {
    let node = node_with_authorities();
    make(&node, "one", 1, &[("cert-o", ""), ("cert-c", "")], &["x", "y"]);
    node.and(&format!("[[origin]]\nname = \"cert-o\"\nkey = \"{}\"", secret("other").key()));
    let said = node.expect(0, &["roster", "publish", "one"]);
    let (roster, ours) = (secret("cert-o").key().to_string(), secret("other").key().to_string());
    assert!(
        said.contains("the roster knows cert-o with the key") && said.contains(&roster) && said.contains(&ours),
        "{said}"
    );
    assert!(said.contains("the roster knows this node with another key") && said.contains(&node.key), "{said}");
}

fn number(node: &Relay, number: u64) {
    node.status_when(&format!("roster {number}"), |status| status["roster"]["number"] == number);
}

#[test]
fn the_newest_goes_along_the_links_also_to_who_was_away_and_to_nobody_who_wants_none() {
    let mut line = ["cert-a", "cert-b", "cert-d"].map(trusting);
    let mut without = Relay::init("cert-w");
    let [a, b, d] = &mut line;
    a.peer(b, "community");
    b.peer(a, "community");
    b.peer(d, "community");
    d.peer(b, "community");
    b.peer(&without, "community");
    without.peer(b, "community");
    for node in [&mut *a, &mut *b, &mut *d] {
        node.start();
    }
    without.start();
    a.linked("cert-b");
    b.linked("cert-d");
    b.linked("cert-w");
    // Who is encrypted to by it with another's key says so when it hears of that.
    let wrong = format!(" }}]\nencryption = \"{}\" #", a.encryption);
    make(a, "one", 1, &[("cert-d", &wrong), ("cert-o", "")], &["x", "y"]);
    a.expect(0, &["roster", "publish", "one"]);
    number(d, 1);
    d.says("has another encryption key for this node");
    assert!(d.expect(0, &["roster", "show"]).contains("cert-o"));

    // Who was away has it when it is back; what comes from the other end goes the other way.
    d.kill9();
    make(a, "two", 2, &[("cert-o", ""), ("cert-p", "")], &["x", "z"]);
    a.expect(0, &["roster", "publish", "two"]);
    number(b, 2);
    d.start();
    number(d, 2);
    make(d, "three", 3, &[], &["y", "z"]);
    d.expect(0, &["roster", "publish", "three"]);
    number(a, 3);
    without.linked("cert-b");
    assert!(without.status()["roster"].is_null());
    assert!(without.expect(0, &["roster", "show"]).contains("No roster"));
    assert_eq!(without.status()["peers"]["cert-b"]["links"], 1, "and no frame that it does not know");
}

#[test]
fn a_split_view_is_noticed_at_both_ends_of_a_link_and_a_weak_roster_goes_no_further() {
    let (mut a, mut b) = (trusting("cert-a"), trusting("cert-b"));
    a.peer(&b, "community");
    b.peer(&a, "community");
    make(&a, "one", 1, &[("cert-o", "")], &["x", "y"]);
    make(&b, "other", 1, &[("cert-p", "")], &["y", "z"]);
    a.expect(0, &["roster", "publish", "one"]);
    b.expect(0, &["roster", "publish", "other"]);
    a.start();
    b.start();
    for (node, peer) in [(&a, "cert-b"), (&b, "cert-a")] {
        let said = node.says("the peer's roster is refused");
        assert_eq!(said["peer"], peer, "{said}");
        assert_eq!(node.says("A SPLIT ROSTER")["level"], "ERROR");
        number(node, 1);
    }
    // A higher number mends it, on the links that stand.
    make(&a, "two", 2, &[("cert-o", "")], &["x", "z"]);
    a.expect(0, &["roster", "publish", "two"]);
    number(&b, 2);

    // One of the two nodes asks for more: what the other believes, it does not.
    b.configure(&b.configuration().replace("threshold = 2", "threshold = 3"));
    b.signal(Signal::HUP);
    b.says("does not hold any more");
    make(&a, "three", 3, &[("cert-q", "")], &["x", "z"]);
    a.expect(0, &["roster", "publish", "three"]);
    wait_until("it is refused", || b.logged("signed by 2 of the 3").is_some_and(|said| said["peer"] == "cert-a"));
    assert!(b.status()["roster"].is_null());
    assert_eq!(a.status()["peers"]["cert-b"]["links"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_brings_a_roster_it_is_judged_alone_and_a_flood_of_them_ends_the_link() {
    let mut node = node_with_authorities();
    let mut hand = Hand::listed_by(&node, "cert-m");
    make(&node, "one", 1, &[("cert-o", "")], &["x", "y"]);
    make(&node, "few", 2, &[("cert-m", "")], &["x"]);
    node.start();
    hand.link(&node).await;
    let frame = |file: &str| Frame::Roster(ByteBuf::from(std::fs::read(node.path(file)).unwrap()));
    let event = |number| by(&sealed(&secret("cert-o"), "cert-o", number, |_| {}), &["cert-m"]);
    hand.send(frame("few")).await;
    assert_eq!(hand.give(&[event(1)]).await, [Verdict::UnknownOrigin]);
    for _ in 0..100 {
        hand.send(frame("one")).await;
    }
    assert_eq!(hand.give(&[event(2)]).await, [Verdict::Accepted], "the same one again and again is no fault");
    // One was refused before.
    for _ in 1..64 {
        hand.send(Frame::Roster(ByteBuf::from(b"none".to_vec()))).await;
    }
    assert_eq!(hand.give(&[event(3)]).await, [Verdict::Accepted]);
    hand.send(frame("few")).await;
    hand.hung_up().await;
    assert!(node.says("link down")["reason"].as_str().unwrap().contains("too many rosters"));
    assert_eq!(node.status()["roster"]["number"], 1);
    hand.link(&node).await;
    assert_eq!(hand.give(&[event(4)]).await, [Verdict::Accepted]);
}
