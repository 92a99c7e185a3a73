//! A whole run from one seed: the network, what is said in it, what goes wrong, and the judgement at the end.

use intelmq_relay::link::Settings;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

use super::faults::{self, Fault, Faults, Outage};
use super::graph::Graph;
use super::reference;
use super::world::{Action, Event, Setup, World};

const DAY: u64 = 24 * 3600 * 1000;

#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    pub seed: u64,
    pub nodes: usize,
    /// Peers of a node, on average.
    pub degree: usize,
    pub events: usize,
    pub faults: Faults,
    /// The real store, in a folder for each node; else a stand-in in memory.
    pub disk: bool,
}

impl Scenario {
    /// A small network in which some things go wrong, and others in the next.
    pub fn any(seed: u64) -> Scenario {
        let mut rng = ChaCha20Rng::seed_from_u64(seed ^ 0x5eed);
        let nodes = rng.random_range(3..=10);
        let some = Fault::ALL.iter().filter(|(fault, _)| {
            // Days take longer to run, and wrong clocks keep much from happening.
            rng.random_bool(if matches!(fault, Fault::Retention | Fault::WrongClock) { 0.15 } else { 0.4 })
        });
        let faults = some.fold(Faults::none(), |all, (fault, _)| all.with(*fault));
        Scenario { seed, nodes, degree: rng.random_range(2..=4), events: 40, faults, disk: false }
    }

    /// What runs it again.
    pub fn command(&self) -> String {
        let Scenario { seed, nodes, degree, events, .. } = self;
        let (faults, store) = (self.faults.write(), if self.disk { "disk" } else { "memory" });
        format!(
            "cargo run --release --example simulate -- --nodes {nodes} --degree {degree} --events {events} \
             --faults {faults} --store {store} --seed {seed}"
        )
    }

    /// Runs it and checks everything; the network as it is then.
    pub fn run(&self) -> World {
        let (mut world, outage) = self.world();
        world.run(self.faults.settled());
        match outage {
            None => world.check_settled(),
            Some(outage) => self.check_after(&mut world, outage),
        }
        world
    }

    fn world(&self) -> (World, Option<Outage>) {
        let mut rng = ChaCha20Rng::seed_from_u64(self.seed);
        let mut graph = Graph::random(&mut rng, self.nodes, self.degree);
        if self.faults != Faults::none() {
            graph.restrict(&mut rng);
        }
        graph.skew = faults::skew(self.faults, &mut rng, self.nodes);
        let small = self.nodes <= 30;
        let events = events(&mut rng, self.nodes, self.events, self.faults == Faults::none());
        // A small window, so that it closes.
        let mut settings = Settings { window: if small { 4 << 10 } else { 64 << 10 }, ..Settings::default() };
        if self.faults.has(Fault::Retention) {
            // Nothing is said for most of the time.
            settings.beat = faults::BEAT;
        }
        let setup = Setup { disk: self.disk, days: self.faults.days(), samples: !small };
        let mut world = World::with(graph, events, settings, self.seed, setup);
        originate(&mut world, &mut rng, self.faults.healed() - 10_000);
        let outage = faults::schedule(self.faults, &mut world, &mut rng);
        (world, outage)
    }

    /// What has expired while a node was away may be missing at it, and where there is no way but through it; only that.
    fn check_after(&self, world: &mut World, outage: Outage) {
        let ways = world.ways_at_all_times();
        let without = |nodes: &[usize]| {
            let mute: Vec<usize> = world.mute.iter().chain(nodes).copied().collect();
            let reach = |event| reference::reach(&ways, &world.graph.skew, event, &mute);
            world.events.iter().map(reach).collect::<Vec<_>>()
        };
        let (all, others) = (without(&[]), without(&[outage.node]));
        let away = |event: usize| {
            // An hour for the clocks, and for what was under way when it went.
            let born = world.events[event].born.unwrap_or(0);
            outage.from < born + 3_600_000 && born + DAY < outage.until + 3_600_000
        };
        let through_it = |node: usize, event: usize| all[event][node] != others[event][node];
        let excused = |node, event| away(event) && (node == outage.node || through_it(node, event));
        world.check_outcome(excused);
        let missed = (0..world.events.len())
            .filter(|event| away(*event) && !world.seen.copies.contains_key(&(outage.node, *event)))
            .count();
        world.seen.faults("events missed while away", missed as u64);
    }
}

/// Labels, recipients and origins drawn from `rng`; or all of them for everybody.
pub fn events(rng: &mut ChaCha20Rng, nodes: usize, count: usize, clear: bool) -> Vec<Event> {
    const TLP: [&str; 8] = ["CLEAR", "CLEAR", "GREEN", "GREEN", "none", "AMBER", "AMBER+STRICT", "RED"];
    let one = |_| {
        if clear {
            return Event::new(rng.random_range(0..nodes), "CLEAR");
        }
        let mut event = Event::new(rng.random_range(0..nodes), TLP[rng.random_range(0..TLP.len())]);
        if event.tlp == "RED" || rng.random_bool(0.2) {
            event.to = (0..nodes).filter(|_| rng.random_bool(0.5)).take(64).collect();
        }
        event.content = rng.random_bool(0.3);
        event
    };
    (0..count).map(one).collect()
}

/// Events of one origin that are sealed together, spread over `0..until`.
pub fn originate(world: &mut World, rng: &mut ChaCha20Rng, until: u64) {
    let mut of_origin: Vec<Vec<usize>> = vec![Vec::new(); world.nodes.len()];
    for (number, event) in world.events.iter().enumerate() {
        of_origin[event.origin].push(number);
    }
    for mut events in of_origin {
        while !events.is_empty() {
            let batch = events.split_off(events.len().saturating_sub(rng.random_range(1..6)));
            world.at(rng.random_range(0..until), Action::Originate { events: batch });
        }
    }
}
