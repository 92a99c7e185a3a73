//! Links that are limited: what is over the rate is late, and nothing else is.

use intelmq_relay::config::Rate;
use intelmq_relay::link::Settings;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

use super::network::graph::Graph;
use super::network::world::{Action, World};
use super::{HEALED, SETTLED, event, seeds, some_network};

const RATE: Rate = Rate {
    events_per_second: Some(20),
    bytes_per_second: None,
    burst_seconds: 5,
    events_per_day: None,
    bytes_per_day: None,
};

/// Node 0 floods and node 3 is quiet; both reach node 2 through node 1, of which node 2 takes 20 a second.
fn flood(seed: u64) -> World {
    let mut graph = Graph::new(4);
    for (a, b) in [(0, 1), (3, 1), (1, 2)] {
        graph.join(a, b, 20);
    }
    graph.rates.insert((1, 2), RATE);
    let flood = (0..3000).map(|_| event(0, "CLEAR"));
    let events = flood.chain((0..40).map(|_| event(3, "CLEAR"))).collect();
    // A window that the flood fills thirty times.
    let settings = Settings { window: 64 << 10, ..Settings::default() };
    let mut world = World::new(graph, events, settings, seed);
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    for number in 0..1500 {
        world.at(rng.random_range(1_000..11_000), Action::Originate { events: vec![2 * number, 2 * number + 1] });
    }
    for quiet in 0..40 {
        world.at(2_000 + 2_000 * quiet as u64, Action::Originate { events: vec![3000 + quiet] });
    }
    world
}

/// When events came to node 2, in order.
fn came(world: &World) -> Vec<u64> {
    let mut came: Vec<u64> =
        world.seen.arrivals.iter().filter(|((node, _), _)| *node == 2).map(|(_, (at, _))| *at).collect();
    came.sort_unstable();
    came
}

/// Over no stretch of time more than the rate and the burst. What was asked for at one time comes within 100 ms.
fn assert_limited(world: &World) {
    let came = came(world);
    let (rate, burst) = (RATE.events_per_second.unwrap(), RATE.events_per_second.unwrap() * RATE.burst_seconds);
    for (first, from) in came.iter().enumerate().step_by(7) {
        for (count, until) in (1..).zip(&came[first..]) {
            let most = burst + rate * (until - from + 100) / 1000;
            assert!(count <= most, "{count} from {from} to {until}");
        }
    }
}

#[test]
fn a_flood_is_slowed_and_a_quiet_origin_behind_the_same_link_is_not() {
    for seed in seeds(500..502, 1) {
        let mut world = flood(seed);
        world.run(100_000);
        assert_limited(&world);
        let late = |node: usize, events: std::ops::Range<usize>| {
            events.map(|event| world.seen.arrivals[&(node, event)].0 - world.events[event].born.unwrap()).max().unwrap()
        };
        let (quiet, others) = (late(2, 3000..3040), late(3, 0..3000));
        println!("the quiet origin's events took {quiet} ms at most; the flood on other links {others} ms");
        assert!(quiet < 1_500, "{quiet} ms");
        assert!(others < 1_000, "{others} ms");
        assert!(came(&world).len() < 2100 + 40, "the flood is not there yet");
        world.run(200_000);
        world.check_settled();
        assert_eq!((came(&world).len(), &*world.violations), (3040, &[][..]));
    }
}

#[test]
fn who_reconnects_has_no_fresh_burst() {
    let mut world = flood(510);
    for second in 5..60 {
        world.at(second * 1_000, Action::Cut { a: 1, b: 2 });
        world.at(second * 1_000 + 100, Action::Heal { a: 1, b: 2 });
    }
    world.run(100_000);
    assert_limited(&world);
    // Nor is it worse off, but for what was under way when it was cut.
    assert!(came(&world).len() > 1700, "{}", came(&world).len());
    world.run(200_000);
    world.check_settled();
    assert_eq!(came(&world).len(), 3040);
}

#[test]
fn networks_with_limited_links_settle_after_faults() {
    for seed in seeds(520..530, 4) {
        let mut world = some_network(seed, 3..=8, &[]);
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        for way in world.graph.shares.keys().copied().collect::<Vec<_>>() {
            let mut rate = Rate { burst_seconds: rng.random_range(1..4), ..Rate::default() };
            match rng.random_range(0..4) {
                0 => rate.events_per_second = Some(rng.random_range(2..6)),
                1 => rate.bytes_per_second = Some(rng.random_range(1_000..5_000)),
                2 => (rate.events_per_second, rate.events_per_day) = (Some(3), Some(100_000)),
                _ => continue,
            }
            world.graph.rates.insert(way, rate);
        }
        world.run(SETTLED + HEALED);
        world.check_settled();
    }
}
