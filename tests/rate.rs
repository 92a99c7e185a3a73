//! A peer that brings more than it may, as processes: it is late, both sides say so, and nothing is lost.

#![allow(clippy::unwrap_used)] // A test that fails may panic, in what it calls too.

#[path = "support/events.rs"]
#[allow(dead_code)] // Other tests use the rest of it.
mod events;
#[path = "support/hand.rs"]
#[allow(dead_code)]
mod hand;
#[path = "support/redis.rs"]
#[allow(dead_code)]
mod redis_server;
#[path = "support/relay.rs"]
#[allow(dead_code)]
mod relay;

use std::time::{Duration, Instant};

use bytes::Bytes;

use events::{assert_once_each, event_with};
use hand::{Hand, by, sealed, secret};
use intelmq_relay::link::Verdict;
use redis_server::Redis;
use relay::{Relay, wait_until};
use rustix::process::Signal;

fn green(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| event_with(number, "\"tlp\": \"GREEN\", ")).collect()
}

/// A node that takes `<name>-out` and gives to `<name>-in`.
fn node(redis: &Redis, name: &str) -> Relay {
    let node = Relay::init(name);
    node.takes(&redis.config(), &format!("{name}-out"), "");
    node.gives(&redis.config(), &format!("{name}-in"), "");
    node
}

fn peers(a: &Relay, b: &Relay) {
    a.peer(b, "community");
    b.peer(a, "community");
}

/// The only peer of `node` is limited by these lines; and is not limited any more.
fn limit(node: &Relay, lines: &str) {
    let text = node.configuration();
    node.configure(&text.replace("give = \"community\"", &format!("give = \"community\"\n[peer.rate]\n{lines}\n")));
}

fn lift(node: &Relay, lines: &str) {
    node.configure(&node.configuration().replace(&format!("[peer.rate]\n{lines}\n"), ""));
}

#[test]
fn a_peer_over_its_rate_is_late_and_nothing_is_lost() {
    const RATE: &str = "events_per_second = 100\nburst_seconds = 4";
    let redis = Redis::start();
    let [mut a, mut b, mut c] = ["cert-a", "cert-b", "cert-c"].map(|name| node(&redis, name));
    peers(&a, &b);
    peers(&a, &c);
    limit(&b, RATE);
    // Of what waits at A, next to nothing is in memory.
    a.configure(&a.configuration().replace("[net]", "[net]\nwindow_bytes = \"256 KiB\""));
    a.and("[limits]\nenvelope_bytes = \"64 KiB\"\nframe_bytes = \"256 KiB\"");
    let sent = green(0..6_000);
    a.start();
    redis.push("cert-a-out", &sent);
    a.status_when("all is sealed", |a| a["head"] == 6_000);
    c.start();
    b.launch();
    let begun = Instant::now();
    // C is not slowed by B's limit.
    wait_until("C has it all", || redis.length("cert-c-in") == 6_000);
    let status = b.status_when("B slows A", |b| b["peers"]["cert-a"]["slowed"]["waiting"].as_u64() > Some(0));
    assert_eq!(status["peers"]["cert-a"]["slowed"]["ours"], true, "{status:#}");
    let status = a.status_when("A is told", |a| a["peers"]["cert-b"]["slowed"]["theirs"] == true);
    assert!(status["peers"]["cert-b"]["given"]["slowed"].as_u64() > Some(0), "{status:#}");
    assert_eq!(status["peers"]["cert-c"]["given"]["slowed"], 0, "{status:#}");
    assert_eq!(b.says("brings more than its [peer.rate] allows")["level"], "INFO");
    assert_eq!(a.says("we are slowed")["level"], "INFO");

    // A comes back, and comes back, and has no fresh burst; what was under way counts once.
    for _ in 0..4 {
        a.kill9();
        a.start();
        a.status_when("A is told again", |a| a["peers"]["cert-b"]["slowed"]["theirs"] == true);
    }
    wait_until("more comes", || redis.length("cert-b-in") > 1_000);
    let came = redis.length("cert-b-in");
    let most = 400 + 100 * (1 + begun.elapsed().as_secs() as usize);
    assert!(came <= most && came < 6_000, "{came} of {most}");

    // The limit is lifted: the rest comes at once, on the link that stands.
    let links = b.status()["peers"]["cert-a"]["links"].clone();
    lift(&b, RATE);
    let lifted = Instant::now();
    b.signal(Signal::HUP);
    b.says("how much it may bring has changed");
    let left = 6_000 - redis.length("cert-b-in");
    wait_until("B has it all", || redis.length("cert-b-in") >= 6_000);
    assert!(lifted.elapsed().as_secs() < (left / 100).max(10) as u64, "{left} in {:?}", lifted.elapsed());
    let status = b.status_when("nobody is slowed", |b| b["peers"]["cert-a"]["slowed"]["ours"] == false);
    assert_eq!((&status["peers"]["cert-a"]["links"], &status["head"]), (&links, &6_000.into()), "{status:#}");
    a.status_when("A is told no more", |a| {
        let b = &a["peers"]["cert-b"];
        b["slowed"]["theirs"] == false && b["behind"] == 0 && b["unanswered"] == 0
    });
    b.says("keeps to its [peer.rate] again");
    a.says("does not slow us any more");
    assert_once_each(&sent, &redis.items("cert-b-in"));
    assert_once_each(&sent, &redis.items("cert-c-in"));
}

/// It is told, and goes on sending whole: no more of it is read than it may bring.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_listen_comes_no_further() {
    let mut node = Relay::init("cert-c");
    let mut hand = Hand::listed_by(&node, "cert-m");
    limit(&node, "bytes_per_second = \"16 KiB\"\nburst_seconds = 1");
    node.configure(&node.configuration().replace("[net]", "[net]\nwindow_bytes = \"128 KiB\""));
    node.and("[limits]\nenvelope_bytes = \"4 KiB\"\nframe_bytes = \"128 KiB\"");
    node.start();
    hand.link(&node).await;
    let key = secret("cert-m");
    let events: Vec<Bytes> = (0..3_000).map(|number| by(&sealed(&key, "cert-m", number, |_| {}), &[])).collect();
    let (begun, mut came, mut batches) = (Instant::now(), 0, events.chunks(80));
    while begun.elapsed() < Duration::from_secs(3) {
        let batch = batches.next().expect("it is slowed long before");
        assert!(hand.give(batch).await.iter().all(|verdict| *verdict == Verdict::Accepted));
        came += batch.iter().map(Bytes::len).sum::<usize>();
    }
    // The burst, a window that is owed, the batch that was one too many, and what the time is good for.
    let most = (16 + 128 + 80 + 16 * (1 + begun.elapsed().as_secs() as usize)) << 10;
    assert!(came < most, "{came} of {most} bytes in {:?}", begun.elapsed());
    let status = node.status();
    let peer = &status["peers"]["cert-m"];
    assert_eq!((&peer["slowed"]["ours"], &peer["links"]), (&true.into(), &1.into()), "{status:#}");
}

/// What A seals while it is linked goes whole, until it is told.
#[test]
fn a_quota_that_is_used_up_holds_back_fresh_events_too_and_no_stop() {
    let redis = Redis::start();
    let [mut a, mut b] = ["cert-a", "cert-b"].map(|name| node(&redis, name));
    peers(&a, &b);
    limit(&b, "events_per_day = 100");
    a.start();
    b.start();
    a.linked("cert-b");
    b.linked("cert-a");
    let sent = green(0..400);
    redis.push("cert-a-out", &sent[..200]);
    a.status_when("A is told", |a| a["peers"]["cert-b"]["slowed"]["theirs"] == true);
    redis.push("cert-a-out", &sent[200..]);
    let status = b.status_when("they wait", |b| {
        let waiting = b["peers"]["cert-a"]["slowed"]["waiting"].as_u64().unwrap();
        waiting > 0 && waiting + b["head"].as_u64().unwrap() == 400
    });
    let waiting = status["peers"]["cert-a"]["slowed"]["waiting"].as_u64().unwrap();
    assert!((200..=300).contains(&waiting), "{status:#}");
    // What B seals goes to A meanwhile.
    let of_b = green(1_000..1_050);
    redis.push("cert-b-out", &of_b);
    wait_until("A has what B sealed", || redis.length("cert-a-in") == 50);
    // Both end in time, and what waited comes after the next start, which forgets what was used.
    b.terminate();
    a.terminate();
    b.configure(&b.configuration().replace("events_per_day = 100", "events_per_day = 1000"));
    a.start();
    b.start();
    wait_until("B has it all", || redis.length("cert-b-in") >= 400);
    assert_once_each(&sent, &redis.items("cert-b-in"));
    assert_once_each(&of_b, &redis.items("cert-a-in"));
}
