//! Networks of nodes with one clock and no network: the real links, claims, gate, policy, seals and stores, over pipes that
//! are cut, beside nodes that crash, fall silent or lie. `network/` has them; `examples/simulate` runs larger ones.
//!
//! `SEED=n cargo nextest run --test simulation` runs other networks than the fixed ones; `INTELMQ_RELAY_TESTS=long` more
//! and larger ones.

#![allow(clippy::unwrap_used)] // A test that panics says what it found.

mod mixed;
mod network;
mod rate;

use std::ops::{Range, RangeInclusive};

use intelmq_relay::link::{Settings, Violation};
use network::faults::disturb;
use network::graph::{ALL, Graph, Share};
use network::node::Manner;
use network::report::Numbers;
use network::rules::{Kind, Rules};
use network::scenario::{self, originate};
use network::world::{Action, Event, World};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

/// When the last fault is healed, ms; and when everything must be quiet.
const HEALED: u64 = 90_000;
const SETTLED: u64 = HEALED + 60_000;

fn is_long() -> bool {
    std::env::var("INTELMQ_RELAY_TESTS").is_ok_and(|length| length == "long")
}

/// `SEED`, or the fixed ones: of them the first `short`, unless it may take long.
fn seeds(fixed: Range<u64>, short: usize) -> Vec<u64> {
    let seeds: Vec<u64> = match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().expect("SEED is a number")],
        Err(_) => fixed.take(if is_long() { usize::MAX } else { short }).collect(),
    };
    println!("seeds: {seeds:?}");
    seeds
}

/// A connected graph of random size.
fn graph(rng: &mut ChaCha20Rng, nodes: RangeInclusive<usize>) -> Graph {
    let nodes = rng.random_range(nodes);
    Graph::random(rng, nodes, 4)
}

fn event(origin: usize, tlp: &'static str) -> Event {
    Event::new(origin, tlp)
}

fn some_network(seed: u64, nodes: RangeInclusive<usize>, manners: &[Manner]) -> World {
    println!("seed {seed}");
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let mut graph = graph(&mut rng, nodes);
    let nodes = graph.nodes;
    graph.restrict(&mut rng);
    let events = scenario::events(&mut rng, nodes, 40 + 2 * nodes, false);
    // A small window, so that it closes.
    let settings = Settings { window: 4 << 10, ..Settings::default() };
    let mut world = World::new(graph, events, settings, seed);
    originate(&mut world, &mut rng, HEALED - 10_000);
    for &manner in manners {
        let node = rng.random_range(0..nodes);
        world.become_a(node, manner);
        if manner == Manner::Zombie {
            world.at(HEALED, Action::Crash { node });
            world.at(HEALED, Action::Become { node, manner: Manner::Honest });
        }
    }
    disturb(&mut world, &mut rng, HEALED);
    world
}

fn settles(mut world: World) {
    world.run(SETTLED);
    world.check_settled();
}

#[test]
fn small_networks_settle_after_faults() {
    for seed in seeds(0..40, 8) {
        settles(some_network(seed, 3..=8, &[]));
    }
}

#[test]
fn large_networks_settle_after_faults() {
    for seed in seeds(100..103, 1) {
        settles(some_network(seed, 20..=30, &[]));
    }
}

#[test]
fn networks_with_a_zombie_settle() {
    for seed in seeds(200..220, 4) {
        settles(some_network(seed, 4..=12, &[Manner::Zombie]));
    }
}

#[test]
fn networks_with_a_liar_settle() {
    for seed in seeds(300..330, 5) {
        settles(some_network(seed, 4..=12, &[Manner::Liar]));
    }
}

/// A network in which everybody has rules of their own, for what is given and what is taken.
fn network_with_rules(seed: u64, kind: Kind, nodes: RangeInclusive<usize>) -> (usize, usize) {
    println!("seed {seed}");
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let graph = graph(&mut rng, nodes);
    let nodes = graph.nodes;
    let mut events = scenario::events(&mut rng, nodes, 30 + nodes, false);
    // With content ids one copy can keep another from being looked at: what everybody must have would depend on it.
    events.iter_mut().for_each(|event| event.content = false);
    // What names recipients is encrypted to them, half of the time. With many nodes, their slots would make events so large
    // that the network has little time for anything else.
    if nodes <= 12 {
        events.iter_mut().step_by(2).for_each(|event| event.encrypted = !event.to.is_empty());
    }
    let rules = Rules::new(kind, &graph, &events, &mut rng);
    let restrictions = rules.restrictions(nodes);
    let settings = Settings { window: 8 << 10, ..Settings::default() };
    let mut world = World::new(graph, events, settings, seed).with_rules(rules);
    originate(&mut world, &mut rng, HEALED - 10_000);
    disturb(&mut world, &mut rng, HEALED);
    settles(world);
    restrictions
}

fn networks_with_rules(seeds: Vec<u64>, kind: Kind, nodes: RangeInclusive<usize>) {
    let all = seeds.into_iter().map(|seed| network_with_rules(seed, kind, nodes.clone()));
    let (withheld, redacted) = all.fold((0, 0), |sum, (w, r)| (sum.0 + w, sum.1 + r));
    println!("{withheld} events were not for everybody, {redacted} copies had something hidden");
    assert!(withheld > 0 && redacted > 0);
}

#[test]
fn rules_hold_and_keep_nothing_else_in_small_networks() {
    networks_with_rules(seeds(1000..1060, 15), Kind::Exact, 5..=12);
}

#[test]
fn rules_hold_and_keep_nothing_else_in_middle_networks() {
    networks_with_rules(seeds(1100..1140, 5), Kind::Exact, 12..=30);
}

#[test]
fn rules_hold_and_keep_nothing_else_in_large_networks() {
    networks_with_rules(seeds(1200..1220, 1), Kind::Exact, 30..=60);
}

#[test]
fn rules_about_way_and_hidden_fields_hold_in_every_order() {
    networks_with_rules(seeds(1300..1380, 12), Kind::Wild, 5..=25);
}

/// Node 4 comes late, and catches up from three peers at once: none of them is nearly always first, so all must keep
/// offering.
#[test]
fn catching_up_from_several_peers_brings_each_body_once() {
    let mut graph = Graph::new(5);
    for middle in 1..4 {
        graph.join(0, middle, 20);
        graph.join(middle, 4, 20);
    }
    let events = (0..2400).map(|_| event(0, "CLEAR")).collect();
    let mut world = World::new(graph, events, Settings { window: 64 << 10, ..Settings::default() }, 1);
    originate(&mut world, &mut ChaCha20Rng::seed_from_u64(1), 20_000);
    world.at(0, Action::Crash { node: 4 });
    world.at(21_000, Action::Start { node: 4 });
    world.run(50_000);
    world.check_settled();
    let copies = world.seen.bodies - 3 * 2400;
    println!("{copies} bodies for 2400 events");
    assert!(copies <= 2500, "{copies}");
}

/// Node 1 is quicker than node 4, and says that node 3 was passed already; node 3 hears from node 2 alone.
#[test]
fn a_forged_path_keeps_nothing_from_anybody() {
    let mut graph = Graph::new(5);
    for (a, b, latency) in [(0, 1, 10), (1, 2, 10), (0, 4, 200), (4, 2, 200), (2, 3, 10)] {
        graph.join(a, b, latency);
    }
    let mut world = World::new(graph, (0..20).map(|_| event(0, "CLEAR")).collect(), Settings::default(), 1);
    world.become_a(1, Manner::Poisoner(3));
    originate(&mut world, &mut ChaCha20Rng::seed_from_u64(1), 10_000);
    world.run(40_000);
    world.check_settled();
}

/// Node 1 gives an event of its own the content id of one of node 0's, which only node 3 hears from node 0.
#[test]
fn a_stolen_content_id_keeps_nothing_from_anybody() {
    let mut graph = Graph::new(4);
    for (a, b) in [(1, 2), (2, 3), (3, 0)] {
        graph.join(a, b, 20);
    }
    let thief = Event { steals: Some(0), ..event(1, "CLEAR") };
    let events = vec![Event { content: true, ..event(0, "CLEAR") }, thief];
    let mut world = World::new(graph, events, Settings::default(), 1);
    world.at(20_000, Action::Originate { events: vec![1] });
    world.at(25_000, Action::Originate { events: vec![0] });
    world.run(60_000);
    world.check_settled();
    assert_eq!(world.seen.arrivals.len(), 8, "both events at all four");
}

/// Node 1 takes back what it gives to node 2: of what is held, since its origin may be about to send it, and of what is offered
/// and not asked for yet.
#[test]
fn what_an_operator_takes_back_is_not_given_from_that_moment_on() {
    let mut graph = Graph::new(3);
    graph.join(0, 1, 20);
    graph.join(1, 2, 20);
    let events = (0..30).map(|_| event(0, "CLEAR")).collect();
    let mut world = World::new(graph, events, Settings::default(), 1);
    for number in 0..30 {
        let at = 10_000 + 2_000 * number as u64;
        world.at(at, Action::Originate { events: vec![number] });
        let Some(after) = [Some(50), Some(100), None][number % 3] else { continue };
        for (after, give) in [(after, false), (1_000, true)] {
            world.at(at + after, Action::Reload { shares: vec![((1, 2), Share { give, ..ALL })] });
        }
    }
    world.run(100_000);
    world.check_settled();
    let came = |node, event| world.seen.arrivals.contains_key(&(node, event));
    assert!((0..30).all(|event| came(1, event) && came(2, event) == (event % 3 == 2)));
}

#[test]
fn without_faults_a_body_comes_once() {
    for seed in seeds(400..403, 2) {
        println!("seed {seed}");
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut graph = graph(&mut rng, 8..=8);
        for (a, b) in [(0, 7), (1, 6), (2, 5), (3, 7), (0, 5)] {
            if !graph.shares.contains_key(&(a, b)) {
                graph.join(a, b, rng.random_range(10..60));
            }
        }
        let events = (0..600).map(|_| event(rng.random_range(0..8), "CLEAR")).collect();
        let mut world = World::new(graph, events, Settings::default(), seed);
        originate(&mut world, &mut rng, 60_000);
        world.run(90_000);
        world.check_settled();
        let copies = Numbers::of(&world.seen, &world.events).copies();
        println!("{copies:.3} copies of each body per node");
        assert!(copies <= 1.2, "{copies}");
        assert_eq!(world.violations, []);
    }
}

/// A ring of six, with node 0 as the odd one: all the others can do without it.
fn ring() -> (Graph, Vec<Event>) {
    let mut graph = Graph::new(6);
    for node in 0..6 {
        graph.join(node, (node + 1) % 6, 20);
    }
    graph.join(5, 1, 60);
    (graph, (0..200).map(|n| event(1 + n % 5, "CLEAR")).collect())
}

/// The longest that any event took to any node but node 0.
fn slowest(world: &World) -> u64 {
    let born = |event: usize| world.events[event].born.expect("everything is born here");
    let times = world.seen.arrivals.iter().filter(|((node, _), _)| *node != 0);
    times.map(|(&(_, event), (at, _))| at - born(event)).max().unwrap_or(0)
}

#[test]
fn a_peer_that_stops_reading_disturbs_nobody() {
    let (graph, events) = ring();
    let mut world = World::new(graph, events, Settings { window: 4 << 10, ..Settings::default() }, 1);
    originate(&mut world, &mut ChaCha20Rng::seed_from_u64(1), 60_000);
    world.at(5_000, Action::StopReading { node: 0 });
    world.run(61_000);
    assert_eq!(world.seen.arrivals.keys().filter(|(node, _)| *node != 0).count(), 5 * 200);
    let slowest = slowest(&world);
    println!("slowest: {slowest} ms");
    assert!(slowest < 1_000, "{slowest} ms");
    // Its neighbours gave it up after half a minute; it may have done so itself.
    let closed: Vec<_> = world.violations.iter().filter(|(_, a, b, _)| *a == 0 || *b == 0).collect();
    assert_eq!(closed.len(), 2, "{closed:?}");
    assert!(closed.iter().all(|(at, ..)| (35_000..38_000).contains(at)), "{closed:?}");
    world.at(61_000, Action::ReadAgain { node: 0 });
    world.run(100_000);
    world.check_settled();
}

#[test]
fn a_peer_that_offers_and_never_serves_delays_nobody_for_long() {
    let (mut graph, events) = ring();
    // It is quicker than everybody.
    for (way, latency) in &mut graph.latency {
        *latency = if way.0 == 0 || way.1 == 0 { 1 } else { 60 };
    }
    let mut world = World::new(graph, events, Settings::default(), 2);
    world.become_a(0, Manner::Zombie);
    originate(&mut world, &mut ChaCha20Rng::seed_from_u64(2), 120_000);
    world.run(130_000);
    let slowest = slowest(&world);
    let born = |event: usize| world.events[event].born.unwrap();
    let late = world.seen.arrivals.iter().filter(|((node, event), (at, _))| *node != 0 && at - born(*event) > 1_000);
    let late = late.count();
    println!("slowest: {slowest} ms; {late} of {} took more than a second", 5 * 200);
    assert_eq!(world.seen.arrivals.keys().filter(|(node, _)| *node != 0).count(), 5 * 200);
    assert!(slowest < 6_000, "one claim's time: {slowest} ms");
    assert!(late < 150, "{late}");
    let unanswered = |(_, _, peer, violation): &(u64, usize, usize, Violation)| {
        *peer == 0 && matches!(violation, Violation::Unanswered(_))
    };
    assert!(!world.violations.is_empty() && world.violations.iter().all(unanswered), "{:?}", world.violations);
    world.at(130_000, Action::Crash { node: 0 });
    world.at(130_000, Action::Become { node: 0, manner: Manner::Honest });
    world.at(130_100, Action::Start { node: 0 });
    world.run(180_000);
    world.check_settled();
}

/// `0 → 1 → 3` in full and `0 → 2 → 3` redacted, then `3 → 4`: whichever comes first, everybody ends with the full copy.
#[test]
fn the_fuller_copy_wins_in_every_order_of_arrival() {
    let mut orders = std::collections::BTreeSet::new();
    for slow in [5, 40, 60, 70, 75, 80, 90, 200, 6_000] {
        for content in [false, true] {
            let mut graph = Graph::new(5);
            for (a, b, latency) in [(0, 1, slow), (0, 2, 20), (1, 3, 20), (2, 3, 60), (3, 4, 10)] {
                graph.join(a, b, latency);
            }
            graph.shares.insert((2, 3), Share { redact: true, ..ALL });
            let events = (0..5).map(|_| Event { content, ..event(0, "GREEN") }).collect();
            let mut world = World::new(graph, events, Settings::default(), slow);
            world.at(20_000, Action::Originate { events: vec![0, 1, 2, 3, 4] });
            world.run(60_000);
            world.check_settled();
            let log = |node: usize| world.nodes[node].keep.read(0, usize::MAX).into_iter();
            let copies = |node| log(node).map(|entry| entry.envelope.hidden());
            orders.insert(copies(3).collect::<Vec<_>>());
            assert_eq!(copies(3).collect::<Vec<_>>(), copies(4).collect::<Vec<_>>());
        }
    }
    assert!(orders.contains(&vec![0; 5]), "{orders:?}");
    assert!(orders.contains(&vec![2, 2, 2, 2, 2, 0, 0, 0, 0, 0]), "{orders:?}");
}
