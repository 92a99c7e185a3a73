//! Ten relays as processes in a random network, and everything that goes wrong on real machines: links that go down, fall
//! silent or lose packets, relays and Redis servers killed and frozen, disks that fill up, clocks that are wrong. Events
//! are put in and taken out all the time, at every node. Then all is mended, and within a bounded time every event has come
//! out exactly once at every other node, is once in every log, can be explained, and no process holds more than before.
//!
//! Everything is dealt from a seed, which is printed; times are the machine's, so a seed repeats what is tried, and not the
//! moment. Where the machine does not permit something (namespaces and disks need root, wrong clocks need `faketime`), it
//! is left out, and that is said.
//!
//! | variable | what it sets |
//! |---|---|
//! | `INTELMQ_RELAY_TESTS=long` | faults for 300 seconds instead of 20 |
//! | `INTELMQ_RELAY_CHAOS_SECONDS` | for so many, as 3600 for a night |
//! | `INTELMQ_RELAY_CHAOS_SEED` | what is dealt |
//! | `INTELMQ_RELAY_CHAOS_NET=loopback` | no namespaces, although they were permitted |

#![allow(clippy::unwrap_used)] // A test that fails may panic, in what it calls too.

mod chaos;
mod clock;
mod faults;
mod ground;
mod layout;
mod outcome;
mod site;
mod vitals;
mod wire;

#[path = "../support/events.rs"]
#[allow(dead_code)] // Other tests use the rest of it.
mod events;
#[path = "../support/redis.rs"]
#[allow(dead_code)]
mod redis_server;
#[path = "../support/relay.rs"]
#[allow(dead_code)]
mod relay;

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

use chaos::Chaos;

#[test]
fn whatever_fails_everything_arrives_exactly_once() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let long = std::env::var("INTELMQ_RELAY_TESTS").is_ok_and(|tests| tests == "long");
    let seconds = number("INTELMQ_RELAY_CHAOS_SECONDS").unwrap_or(if long { 300 } else { 20 });
    let seed = number("INTELMQ_RELAY_CHAOS_SEED").unwrap_or_else(|| rand::rng().random());
    println!("INTELMQ_RELAY_CHAOS_SEED={seed}, faults for {seconds} seconds");
    let time = Duration::from_secs(seconds);
    let mut chaos = Chaos::new(ChaCha20Rng::seed_from_u64(seed), time);
    chaos.start();
    chaos.rage(time);
    chaos.settle();
    chaos.judge();
}
