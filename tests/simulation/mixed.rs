//! Networks in which anything goes wrong, on both stores; fixed ones, and fresh ones with each run.
//!
//! A failure names its seed and the command that runs it again. `SEED=n` runs one network instead of the fresh ones,
//! `SIMULATION_SEEDS=n` so many.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::is_long;
use super::network::faults::{Fault, Faults};
use super::network::report::Numbers;
use super::network::scenario::Scenario;
use super::network::world::World;

/// Says how to run it again, if it fails.
fn run(scenario: Scenario) -> World {
    catch_unwind(AssertUnwindSafe(|| scenario.run())).unwrap_or_else(|panic| {
        println!("seed {} fails; again: {}", scenario.seed, scenario.command());
        resume_unwind(panic)
    })
}

fn with(seed: u64, faults: &[Fault]) -> Scenario {
    Scenario { faults: Faults::of(faults), ..Scenario::any(seed) }
}

/// In all of them together, everything goes wrong that can.
#[test]
fn whatever_goes_wrong_networks_settle() {
    let mut all = Numbers::default();
    for seed in 0..if is_long() { 300 } else { 24 } {
        let world = run(Scenario::any(seed));
        all.add(&Numbers::of(&world.seen, &world.events));
    }
    println!("{:?}\n{:?}", all.faults, all.verdicts);
    for what in [
        "bits turned over",
        "bringers denied",
        "crashes",
        "entries expired",
        "envelopes lost unflushed",
        "events invented",
        "hidden fields denied",
        "ids of others sealed",
        "links cut",
        "nodes that stopped reading",
        "outages longer than retention",
        "partitions",
        "paths changed",
        "policy reloads",
        "replays",
        "slow nodes",
        "wants not served",
        "wrong ids offered",
    ] {
        assert!(all.faults.contains_key(what), "no {what}");
    }
    for verdict in ["accepted", "completed", "duplicate", "malformed", "bad-signature", "from-the-future"] {
        assert!(all.verdicts.contains_key(verdict), "nothing was {verdict}");
    }
}

#[test]
fn fresh_networks_settle() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds: Vec<u64> = match number("SEED") {
        Some(seed) => vec![seed],
        None => (0..number("SIMULATION_SEEDS").unwrap_or(50)).map(|_| rand::random::<u64>() >> 12).collect(),
    };
    println!("fresh seeds (SEED=… runs one again): {seeds:?}");
    for seed in seeds {
        run(Scenario::any(seed));
    }
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let mut stories = BTreeMap::new();
    for seed in 0..6 {
        let [one, two] = [(); 2].map(|()| run(Scenario::any(seed)).trace());
        assert_eq!(one, two, "seed {seed}");
        stories.insert(one, seed);
    }
    assert_eq!(stories.len(), 6, "{stories:?}");
}

/// The store in memory that large networks have is as good as the real one.
#[test]
fn both_stores_tell_the_same_story() {
    let scenarios = (600..if is_long() { 640 } else { 604 }).map(Scenario::any);
    let crashes = with(640, &[Fault::Crashes, Fault::Cuts, Fault::Liars]);
    let days = with(641, &[Fault::Retention, Fault::Crashes]);
    for memory in scenarios.chain([crashes, days]) {
        let disk = Scenario { disk: true, ..memory };
        let (memory, disk) = (run(memory), run(disk));
        assert_eq!(memory.seen.arrivals, disk.seen.arrivals);
        assert_eq!(memory.seen.verdicts, disk.seen.verdicts);
        assert_eq!(memory.seen.faults, disk.seen.faults);
        assert_eq!(memory.trace(), disk.trace());
    }
}

/// One clock is wrong: what is refused is refused by that name, and everything else arrives (the reference knows).
#[test]
fn a_wrong_clock_is_called_by_its_name() {
    let mut named = 0;
    for seed in 700..706 {
        let world = run(with(seed, &[Fault::WrongClock, Fault::Skew]));
        let wrong = |node: &usize| world.graph.skew[*node].abs() > 1_000_000;
        for ((_, taker, event), reason) in &world.seen.reasons {
            if reason == "from-the-future" {
                let origin = world.events[*event].origin;
                assert!(wrong(&origin) || wrong(taker), "event {event} of {origin} at {taker}");
                named += 1;
            }
        }
    }
    assert!(named > 0);
}

#[test]
fn who_is_away_for_longer_than_logs_are_kept_misses_what_expired_and_nothing_else() {
    let mut all = BTreeMap::new();
    for seed in 710..if is_long() { 740 } else { 714 } {
        let world = run(with(seed, &[Fault::Retention, Fault::Liars]));
        for (what, count) in &world.seen.faults {
            *all.entry(*what).or_insert(0) += count;
        }
    }
    println!("{all:?}");
    assert!(all["events missed while away"] > 0 && all["entries expired"] > 0, "{all:?}");
}

#[test]
fn what_operators_change_holds_from_then_on() {
    for seed in 720..if is_long() { 780 } else { 728 } {
        let world = run(with(seed, &[Fault::Reloads, Fault::Cuts, Fault::Slow]));
        assert!(world.seen.reasons.values().any(|reason| reason == "nothing-given"));
    }
}

/// Takes minutes: `INTELMQ_RELAY_TESTS=long`.
#[test]
fn large_networks_settle_whatever_goes_wrong() {
    if is_long() {
        for seed in 800..803 {
            run(Scenario { nodes: 300, degree: 6, events: 100, faults: Faults::all(), ..Scenario::any(seed) });
        }
    }
}
