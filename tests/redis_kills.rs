//! Relays and the Redis servers at both ends, killed again and again while events pass, with both ways in which Redis
//! keeps its data (`appendfsync`).
//!
//! A Redis that flushes always has forgotten nothing: every event comes once. One that flushes each second may forget the
//! last of what it was told. Beside each push a witness is written in the same step, so that what Redis itself lost is
//! known: that is all that may be missing, and only then may anything come twice.

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

use std::collections::HashSet;
use std::time::Duration;

use events::{assert_once_each, events};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use redis_server::Redis;
use relay::{Relay, wait_until};

const OUT: &str = "relay-queue";
const IN: &str = "bot-queue";
const WITNESS: &str = "witness";
const ROUNDS: usize = 30;
const EVENTS: usize = 300;

struct Way {
    from: Redis,
    to: Redis,
    a: Relay,
    b: Relay,
    /// Whether a Redis has shown that it forgot something.
    forgot: bool,
}

impl Way {
    fn with(flush: &str) -> Way {
        let redis = || Redis::start_with(&["--appendonly", "yes", "--appendfsync", flush]);
        let (from, to, mut a, mut b) = (redis(), redis(), Relay::init("cert-a"), Relay::init("cert-b"));
        a.takes(&from.config(), OUT, "");
        b.gives(&to.config(), IN, "");
        a.peer(&b, "community");
        b.peer(&a, "none");
        a.start();
        b.start();
        Way { from, to, a, b, forgot: false }
    }

    /// Pushes events, each with its witness, in one step.
    fn push(&self, events: &[String]) {
        let mut step = redis::pipe();
        step.atomic().cmd("LPUSH").arg(OUT).arg(events).cmd("RPUSH").arg(WITNESS).arg(events);
        step.exec(&mut self.from.connect()).unwrap();
    }

    /// Kills one of the four and starts it again.
    fn kill(&mut self, which: usize) {
        match which {
            0 => {
                self.a.kill9();
                self.a.start();
            }
            1 => {
                self.b.kill9();
                self.b.start();
            }
            2 => {
                self.from.kill();
                self.from.start_again();
            }
            _ => {
                self.to.kill();
                self.to.start_again();
            }
        }
    }

    /// What Redis lost of the pushes is pushed again.
    fn mend(&mut self, pushed: &[String]) {
        let witness: HashSet<String> = self.from.items(WITNESS).into_iter().collect();
        let lost: Vec<String> = pushed.iter().filter(|event| !witness.contains(*event)).cloned().collect();
        if !lost.is_empty() {
            eprintln!("Redis has forgotten {} events", lost.len());
            self.forgot = true;
            self.push(&lost);
        }
    }
}

fn killed(flush: &str) {
    let seed = std::env::var("SEED").map_or(20_261_125, |seed| seed.parse().unwrap());
    eprintln!("SEED={seed}");
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let mut way = Way::with(flush);
    let all = events(0..ROUNDS * EVENTS);
    let mut under_way = 0;
    for (round, part) in all.chunks(EVENTS).enumerate() {
        way.push(part);
        // The moment is what is tried here; nothing is waited for.
        std::thread::sleep(Duration::from_millis(rng.random_range(0..60)));
        under_way += usize::from(way.to.length(IN) < (round + 1) * EVENTS);
        way.kill(rng.random_range(0..4));
        way.mend(&all[..(round + 1) * EVENTS]);
    }
    eprintln!("{under_way} of {ROUNDS} kills found something under way");
    assert!(under_way > 0, "no kill hit anything: this test has shown nothing");
    wait_until("everything arrives", || way.to.items(IN).into_iter().collect::<HashSet<_>>().len() >= all.len());
    // The door lets go when it is in the log: what would be sealed twice is there by then.
    wait_until("A lets go of everything", || way.from.length(OUT) + way.from.length(&format!("{OUT}-internal")) == 0);
    let head = way.a.status_when("A has given everything", |a| {
        let b = &a["peers"]["cert-b"];
        b["linked"] == true && b["behind"] == 0 && b["unanswered"] == 0
    });
    way.b.status_when("B has delivered everything", |b| {
        b["head"].as_u64() >= head["head"].as_u64() && b["sinks"]["to-bot-queue"]["seq"] == b["head"]
    });
    let mut got = way.to.items(IN);
    if way.forgot {
        got.sort_unstable();
        got.dedup();
    }
    assert_once_each(&all, &got);
    assert!(flush != "always" || !way.forgot, "Redis forgot what it had flushed");
}

#[test]
fn with_a_redis_that_flushes_always() {
    killed("always");
}

#[test]
fn with_a_redis_that_flushes_every_second() {
    killed("everysec");
}
