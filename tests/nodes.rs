//! Several nodes as processes: who gets what, from whom, after which absence, and what a reload changes.

#![allow(clippy::unwrap_used)] // A test that fails may panic, in what it calls too.

#[path = "support/events.rs"]
#[allow(dead_code)] // Other tests use the rest of it.
mod events;
#[path = "support/redis.rs"]
#[allow(dead_code)]
mod redis_server;
#[path = "support/relay.rs"]
#[allow(dead_code)]
mod relay;

use std::time::Duration;

use events::{assert_once_each, event_with, events};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use redis_server::Redis;
use relay::{Relay, wait_until};
use rustix::process::Signal;
use serde_json::Value;

const GREEN: &str = "\"tlp\": \"GREEN\", ";

/// Nodes that share one Redis: each takes `<name>-out` and gives to `<name>-in`.
struct Community {
    redis: Redis,
    nodes: Vec<Relay>,
}

impl Community {
    /// Nodes of these names, in which everybody accepts everybody's seals.
    fn new(names: &[&str]) -> Community {
        let (redis, nodes) = (Redis::start(), names.iter().map(|name| Relay::init(name)).collect::<Vec<_>>());
        for node in &nodes {
            node.takes(&redis.config(), &format!("{}-out", node.name), "");
            node.gives(&redis.config(), &format!("{}-in", node.name), "");
        }
        Community { redis, nodes }
    }

    /// Peers, both ways.
    fn link(&self, a: usize, b: usize) {
        self.nodes[a].peer(&self.nodes[b], "community");
        self.nodes[b].peer(&self.nodes[a], "community");
    }

    /// `at` accepts the seals of `origin`, which is no peer of it.
    fn trust(&self, at: usize, origin: usize) {
        self.nodes[at].knows(&self.nodes[origin]);
    }

    fn push(&self, node: usize, items: &[String]) {
        self.redis.push(&format!("{}-out", self.nodes[node].name), items);
    }

    fn got(&self, node: usize) -> Vec<String> {
        self.redis.items(&format!("{}-in", self.nodes[node].name))
    }

    #[track_caller]
    fn arrive(&self, node: usize, count: usize) {
        let queue = format!("{}-in", self.nodes[node].name);
        wait_until(&format!("{count} events in {queue}"), || self.redis.length(&queue) >= count);
    }

    /// Waits until no node has anything left for another, or for its own IntelMQ.
    #[track_caller]
    fn settled(&self) {
        for node in &self.nodes {
            node.status_when("nothing is under way", |status| {
                let mut peers = status["peers"].as_object().unwrap().values();
                let idle = peers.all(|peer| {
                    let settled = peer["behind"] == 0 && peer["unanswered"] == 0 && peer["taking"] == false;
                    peer["linked"] == false || settled
                });
                let mut sinks = status["sinks"].as_object().unwrap().values();
                idle && sinks.all(|sink| sink["seq"] == status["head"])
            });
        }
    }
}

fn green(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| event_with(number, GREEN)).collect()
}

#[test]
fn who_was_away_catches_up_and_who_has_two_ways_gets_nothing_twice() {
    let mut all = Community::new(&["cert-a", "cert-b", "cert-c"]);
    for (a, b) in [(0, 1), (1, 2), (0, 2)] {
        all.link(a, b);
    }
    let sent = green(0..5_000);
    all.nodes[0].start();
    all.nodes[2].start();
    all.nodes[0].linked("cert-c");
    all.push(0, &sent[..3_000]);
    all.arrive(2, 3_000);
    assert_eq!(all.got(1).len(), 0);

    all.nodes[1].start();
    all.push(0, &sent[3_000..]);
    all.arrive(1, 5_000);
    all.arrive(2, 5_000);
    all.settled();
    for node in [1, 2] {
        assert_once_each(&sent, &all.got(node));
    }
    assert_eq!(all.got(0).len(), 0, "what is A's does not come back to A");
    // B had two givers for one log: what came from the second was not sent again.
    let b = all.nodes[1].status();
    let accepted = |peer: &str| b["peers"][peer]["taken"]["accepted"].as_u64().unwrap_or(0);
    assert_eq!(accepted("cert-a") + accepted("cert-c"), 5_000, "{b:#}");

    // After a restart it goes on at its cursor.
    all.nodes[1].terminate();
    let more = green(5_000..6_000);
    all.push(0, &more);
    all.arrive(2, 6_000);
    all.nodes[1].start();
    all.arrive(1, 6_000);
    all.settled();
    assert_once_each(&[sent, more].concat(), &all.got(1));
    let b = all.nodes[1].status();
    let shown: u64 = ["cert-a", "cert-c"]
        .iter()
        .flat_map(|peer| b["peers"][peer]["taken"].as_object().unwrap().values())
        .map(|count| count.as_u64().unwrap())
        .sum();
    assert!(shown <= 2_000, "B was shown {shown} entries again, after it had all but 1,000: {b:#}");
}

/// A and B are linked by C only.
#[test]
fn tlp_and_recipients_decide_how_far_an_event_goes() {
    let mut all = Community::new(&["cert-a", "cert-b", "cert-c"]);
    all.link(0, 2);
    all.link(1, 2);
    all.trust(0, 1);
    all.trust(1, 0);
    let a = &all.nodes[0];
    a.takes(&all.redis.config(), "named", "to = [\"cert-b\", \"cert-c\"]\nencrypt = \"red\"");
    a.takes(&all.redis.config(), "for-b", "to = [\"cert-b\"]\ntlp = \"GREEN\"\nencrypt = \"red\"");
    a.takes(&all.redis.config(), "labelled", "tlp = \"GREEN\"");
    for node in &mut all.nodes {
        node.start();
    }
    all.nodes[2].linked("cert-a");
    all.nodes[2].linked("cert-b");

    let label = |number, tlp: &str| event_with(number, &format!("\"tlp\": \"{tlp}\", "));
    let near = [events(0..5), vec![label(6, "AMBER"), label(7, "AMBER+STRICT")]].concat();
    let far = vec![label(10, "GREEN"), label(11, "CLEAR"), label(12, "WHITE")];
    let nowhere = vec![label(20, "RED")];
    all.push(0, &[near.clone(), far.clone(), nowhere].concat());
    // AMBER without a label, passed on to whom it names; and an event labelled by its door.
    let named = events(30..33);
    all.redis.push("named", &named);
    let labelled = events(40..43);
    all.redis.push("labelled", &labelled);
    // For B only: C is not named, so C gets nothing, and no way to B is left.
    all.redis.push("for-b", &events(50..53));
    // RED, named: encrypted to both, so C may pass it on.
    let red = vec![label(60, "RED")];
    all.redis.push("named", &red);

    let at_b = [far.clone(), named.clone(), labelled.clone(), red.clone()].concat();
    let at_c = [near, far, named, labelled, red].concat();
    all.arrive(1, at_b.len());
    all.arrive(2, at_c.len());
    all.settled();
    assert_once_each(&at_b, &all.got(1));
    assert_once_each(&at_c, &all.got(2));
    all.nodes[0].status_when("what C may not have is withheld", |a| {
        let withheld = &a["peers"]["cert-c"]["withheld"];
        withheld["tlp-red"] == 1 && withheld["not-named"] == 3
    });
    let c = all.nodes[2].status_when("what goes no further is withheld", |c| {
        let withheld = &c["peers"]["cert-b"]["withheld"];
        withheld["tlp-amber"] == 6 && withheld["tlp-amber+strict"] == 1
    });
    assert_eq!(c["peers"]["cert-b"]["withheld"]["tlp-red"], Value::Null, "{c:#}");
}

#[test]
fn hops_bound_how_far_an_event_goes() {
    let mut all = Community::new(&["cert-a", "cert-b", "cert-c"]);
    all.link(0, 1);
    all.link(1, 2);
    all.trust(2, 0);
    // A and B pass on their own events only.
    for node in [0, 1] {
        all.nodes[node].and("[policy]\nhops = 0");
    }
    for node in &mut all.nodes {
        node.start();
    }
    let (of_a, of_b) = (green(0..10), green(10..20));
    all.push(0, &of_a);
    all.push(1, &of_b);
    all.arrive(1, 10);
    all.arrive(2, 10);
    all.settled();
    assert_once_each(&of_a, &all.got(1));
    assert_once_each(&of_b, &all.got(2));
    all.nodes[1].status_when("A's go no further", |b| b["peers"]["cert-c"]["withheld"]["hops"] == 10);
}

#[test]
fn a_stranger_gets_nothing() {
    let mut all = Community::new(&["cert-a", "cert-b", "stranger"]);
    all.link(0, 1);
    all.nodes[2].peer(&all.nodes[0], "community");
    for node in &mut all.nodes {
        node.start();
    }
    all.push(0, &green(0..100));
    all.push(2, &green(100..200));
    all.arrive(1, 100);
    let said = all.nodes[2].says("peer list");
    assert_eq!(said["level"], "WARN", "{said}");
    let stranger = all.nodes[2].status();
    assert_eq!(stranger["peers"]["cert-a"]["linked"], false);
    assert!(stranger["peers"]["cert-a"]["error"].as_str().unwrap().contains("peer list"), "{stranger:#}");
    let a = all.nodes[0].status();
    assert_eq!(a["peers"].as_object().unwrap().keys().collect::<Vec<_>>(), ["cert-b"], "{a:#}");
    assert_eq!((&a["head"], all.got(2).len(), all.got(1).len()), (&Value::from(100), 0, 100));
}

#[test]
fn a_name_that_does_not_fit_is_said_on_both_sides() {
    let (mut a, mut b) = (Relay::init("cert-a"), Relay::init("cert-b"));
    a.expect(0, &["peer", "add", "cert-x", &b.key, &b.address]);
    b.peer(&a, "none");
    a.start();
    b.start();
    for node in [&a, &b] {
        let said = node.says("calls itself cert-b, and is configured as cert-x");
        assert_eq!(said["level"], "WARN", "{said}");
    }
    assert_eq!(a.status()["peers"]["cert-x"]["linked"], false);
    // Mended on one side, they find each other.
    a.expect(0, &["peer", "remove", "cert-x"]);
    a.peer(&b, "none");
    a.signal(Signal::HUP);
    a.linked("cert-b");
    b.linked("cert-a");
}

#[test]
fn a_reload_changes_what_was_changed_and_nothing_else() {
    let mut all = Community::new(&["cert-a", "cert-b", "cert-c"]);
    all.link(0, 1);
    for node in &mut all.nodes {
        node.start();
    }
    all.nodes[0].linked("cert-b");
    let before = all.nodes[0].status()["peers"]["cert-b"]["links"].clone();
    let reload = |node: &Relay, said: &str| {
        node.signal(Signal::HUP);
        node.says(said)
    };
    let first = green(0..100);
    all.push(0, &first);
    all.arrive(1, 100);

    // A peer more, which is given nothing.
    let [a, _, c] = &all.nodes[..] else { panic!() };
    a.peer(c, "none");
    c.peer(a, "none");
    reload(a, "configuration read again");
    reload(c, "configuration read again");
    a.linked("cert-c");
    let second = green(100..200);
    all.push(0, &second);
    all.arrive(1, 200);
    a.status_when("all is withheld from C", |a| a["peers"]["cert-c"]["withheld"]["nothing-given"] == 200);

    // It is given what it may have: from now on.
    a.configure(&a.configuration().replace("give = \"none\"", "give = \"community\""));
    reload(a, "what it is given has changed");
    let third = green(200..300);
    all.push(0, &third);
    all.arrive(2, 100);
    all.settled();
    assert_once_each(&third, &all.got(2));

    // A mistake changes nothing, and is told with its line.
    let good = a.configuration();
    a.configure(&format!("{good}\n[nett]\n"));
    let line = good.lines().count() + 2;
    let said = reload(a, "the old configuration stays");
    assert_eq!(said["level"], "ERROR");
    assert!(said["message"].as_str().unwrap().contains(&format!("relay.toml:{line}")), "line {line}: {said}");
    // So does what needs a restart.
    a.configure(&good.replace("ping_seconds = 2.0", "ping_seconds = 3.0"));
    reload(a, "[net] changed: restart for that");
    assert_eq!(a.status()["peers"]["cert-b"]["links"], before, "the link to B stayed up through it all");

    // A peer less.
    a.configure(&good);
    a.expect(0, &["peer", "remove", "cert-c"]);
    reload(a, "no longer a peer");
    c.status_when("the link ends", |c| c["peers"]["cert-a"]["linked"] == false);
    wait_until("it is gone", || a.status()["peers"].get("cert-c").is_none());
    all.push(0, &green(300..400));
    all.arrive(1, 400);
    assert_eq!((all.got(2).len(), &a.status()["peers"]["cert-b"]["links"]), (100, &before));
}

/// Everybody with everybody, everybody gives, and somebody is always being killed.
#[test]
fn a_mesh_in_which_nodes_are_killed_gives_everything_to_everybody_once() {
    let seed = std::env::var("SEED").map_or(7, |seed| seed.parse().unwrap());
    eprintln!("SEED={seed}");
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let mut all = Community::new(&["cert-a", "cert-b", "cert-c", "cert-d"]);
    for (a, b) in [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)] {
        all.link(a, b);
    }
    for node in &mut all.nodes {
        node.start();
    }
    const EACH: usize = 2_000;
    let sent: Vec<Vec<String>> = (0..4).map(|node| green(node * EACH..(node + 1) * EACH)).collect();
    for round in 0..10 {
        for (node, events) in sent.iter().enumerate() {
            all.push(node, &events[round * EACH / 10..(round + 1) * EACH / 10]);
        }
        // The moment is what is tried here; nothing is waited for.
        std::thread::sleep(Duration::from_millis(rng.random_range(0..700)));
        let victim = &mut all.nodes[rng.random_range(0..4)];
        victim.kill9();
        victim.start();
    }
    for node in 0..4 {
        all.arrive(node, 3 * EACH);
    }
    all.settled();
    for node in 0..4 {
        let others: Vec<Vec<String>> = (0..4).filter(|other| *other != node).map(|other| sent[other].clone()).collect();
        assert_once_each(&others.concat(), &all.got(node));
        assert_eq!(all.nodes[node].status()["head"], 4 * EACH, "once in the log of each");
    }
}

#[test]
fn a_peer_that_freezes_is_left_and_catches_up_when_it_thaws() {
    let mut all = Community::new(&["cert-a", "cert-b", "cert-c"]);
    all.link(0, 1);
    all.link(0, 2);
    for node in &mut all.nodes {
        node.configure(&node.configuration().replace("ping_seconds = 2.0", "ping_seconds = 1.0\nanswer_seconds = 2.0"));
        node.start();
    }
    all.nodes[0].linked("cert-b");
    all.nodes[0].linked("cert-c");
    all.nodes[1].signal(Signal::STOP);
    let sent = green(0..5_000);
    all.push(0, &sent);
    all.arrive(2, 5_000);
    all.nodes[0].status_when("A gives up on B", |a| a["peers"]["cert-b"]["linked"] == false);
    all.nodes[1].signal(Signal::CONT);
    all.arrive(1, 5_000);
    all.settled();
    assert_once_each(&sent, &all.got(1));
    assert_once_each(&sent, &all.got(2));
}

/// The same event from two sources has one id.
#[test]
fn what_two_nodes_saw_is_one_event_where_ids_are_made_of_the_content() {
    let mut all = Community::new(&["cert-a", "cert-b", "cert-c"]);
    all.link(0, 2);
    all.link(1, 2);
    for node in [0, 1] {
        let seal = "id = \"content\"\nid_without = [\"feed.name\"]\ntlp = \"GREEN\"";
        all.nodes[node].takes(&all.redis.config(), &format!("seen-by-{node}"), seal);
    }
    for node in &mut all.nodes {
        node.start();
    }
    let seen = |feed: &str| -> Vec<String> {
        let event = |number| {
            format!(
                "{{\"source.ip\": \"192.0.2.1\", \"source.port\": {number}, \"feed.name\": \"{feed}\", \"__type\": \"Event\"}}"
            )
        };
        (0..200).map(event).collect()
    };
    all.redis.push("seen-by-0", &seen("one"));
    all.arrive(2, 200);
    all.redis.push("seen-by-1", &seen("two"));
    all.nodes[1].status_when("B has sealed its own, or had them", |b| {
        let door = &b["sources"]["from-seen-by-1"];
        door["sealed"].as_u64().unwrap_or(0) + door["duplicates"].as_u64().unwrap_or(0) == 200
    });
    all.settled();
    assert_once_each(&seen("one"), &all.got(2));
}

#[cfg(feature = "quic")]
#[test]
fn two_nodes_are_linked_by_quic() {
    let mut all = Community::new(&["cert-a", "cert-b"]);
    for node in &mut all.nodes {
        let quic = node.address.replace("/tcp/4747", "/udp/4747/quic-v1");
        node.configure(&node.configuration().replace(&node.address, &quic));
        node.address = quic;
    }
    all.link(0, 1);
    for node in &mut all.nodes {
        node.start();
    }
    all.nodes[0].linked("cert-b");
    let sent = events(0..1_000);
    all.push(0, &sent);
    all.arrive(1, 1_000);
    all.settled();
    assert_once_each(&sent, &all.got(1));
    assert!(all.nodes[0].status()["peers"]["cert-b"]["connected"].as_str().unwrap().contains("quic-v1"));
    // One of them dies without a word, and comes back.
    all.nodes[0].kill9();
    all.nodes[0].start();
    all.push(0, &events(1_000..1_100));
    all.arrive(1, 1_100);
}
