//! Everything that goes wrong in a network, each switchable, and when it does. At the end all of it is healed.

use intelmq_relay::config;
use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha20Rng;

use super::graph::Share;
use super::node::Manner;
use super::world::{Action, World};

const DAY: u64 = 24 * 3600 * 1000;

/// How often a quiet side says so in a network that takes days, ms.
pub const BEAT: u64 = 3_600_000;

/// What goes wrong. See [`Fault`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults(u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Single links are cut, and healed.
    Cuts,
    /// The network falls into two halves for a while.
    Partitions,
    /// Nodes are killed, half of them while something is not yet durable.
    Crashes,
    /// Nodes take long for everything.
    Slow,
    /// Nodes stop reading.
    Deaf,
    /// Nodes offer and never serve.
    Zombies,
    /// Nodes offer wrong ids, and replay and forge what they pass on.
    Liars,
    /// Nodes offer without end what there is not.
    Floods,
    /// Clocks differ, within what is allowed.
    Skew,
    /// One clock is an hour wrong.
    WrongClock,
    /// Operators change what they give.
    Reloads,
    /// A node is away for longer than logs are kept.
    Retention,
}

impl Fault {
    pub const ALL: [(Fault, &'static str); 12] = [
        (Fault::Cuts, "cuts"),
        (Fault::Partitions, "partitions"),
        (Fault::Crashes, "crashes"),
        (Fault::Slow, "slow"),
        (Fault::Deaf, "deaf"),
        (Fault::Zombies, "zombies"),
        (Fault::Liars, "liars"),
        (Fault::Floods, "floods"),
        (Fault::Skew, "skew"),
        (Fault::WrongClock, "wrong-clock"),
        (Fault::Reloads, "reloads"),
        (Fault::Retention, "retention"),
    ];
}

impl Faults {
    pub fn none() -> Faults {
        Faults(0)
    }

    /// All that fit into minutes: retention takes days.
    pub fn all() -> Faults {
        Fault::ALL
            .iter()
            .filter(|(fault, _)| *fault != Fault::Retention)
            .fold(Faults(0), |all, (fault, _)| all.with(*fault))
    }

    pub fn of(faults: &[Fault]) -> Faults {
        faults.iter().fold(Faults(0), |all, fault| all.with(*fault))
    }

    #[must_use]
    pub fn with(self, fault: Fault) -> Faults {
        Faults(self.0 | 1 << fault as u32)
    }

    pub fn has(self, fault: Fault) -> bool {
        self.0 & 1 << fault as u32 != 0
    }

    /// `all`, `none`, or names with commas between them.
    pub fn read(text: &str) -> Result<Faults, String> {
        match text {
            "all" => return Ok(Faults::all()),
            "none" => return Ok(Faults::none()),
            _ => {}
        }
        text.split(',').try_fold(Faults(0), |all, word| {
            let found = Fault::ALL.iter().find(|(_, name)| *name == word.trim());
            let names: Vec<&str> = Fault::ALL.iter().map(|(_, name)| *name).collect();
            let (fault, _) =
                found.ok_or_else(|| format!("no fault is called {word:?}; there are: {}", names.join(", ")))?;
            Ok(all.with(*fault))
        })
    }

    pub fn write(self) -> String {
        if self == Faults::none() {
            return "none".into();
        }
        let names = Fault::ALL.iter().filter(|(fault, _)| self.has(*fault)).map(|(_, name)| *name);
        names.collect::<Vec<_>>().join(",")
    }

    /// When the last fault is healed.
    pub fn healed(self) -> u64 {
        match self {
            _ if self.has(Fault::Retention) => 5 * DAY,
            _ if self == Faults::none() => 20_000,
            _ => 90_000,
        }
    }

    /// When everything must be quiet. A cursor may move with the next beat only.
    pub fn settled(self) -> u64 {
        match self {
            _ if self.has(Fault::Retention) => self.healed() + 2 * BEAT,
            _ if self == Faults::none() => self.healed() + 20_000,
            _ => self.healed() + 60_000,
        }
    }

    /// How long logs and ids are kept.
    pub fn days(self) -> config::Store {
        let kept = config::Store { cache_bytes: 1 << 20, ..config::Store::default() };
        if self.has(Fault::Retention) { config::Store { log_days: 1, age_days: 2, seen_days: 3, ..kept } } else { kept }
    }
}

/// Of a node that is away for longer than logs are kept: which, since when and until when.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    pub node: usize,
    pub from: u64,
    pub until: u64,
}

/// Clocks, before the network is made.
pub fn skew(faults: Faults, rng: &mut ChaCha20Rng, nodes: usize) -> Vec<i64> {
    let mut skew = vec![0; nodes];
    if faults.has(Fault::Skew) {
        skew.fill_with(|| rng.random_range(-250_000..250_000));
    }
    // Beside an outage of days, an hour is no difference.
    if faults.has(Fault::WrongClock) && !faults.has(Fault::Retention) {
        skew[rng.random_range(0..nodes)] = if rng.random_bool(0.5) { 3_600_000 } else { -3_600_000 };
    }
    skew
}

/// Cuts, crashes, and nodes that stop reading; all over when it is healed.
pub fn disturb(world: &mut World, rng: &mut ChaCha20Rng, healed: u64) {
    cut(world, rng, healed);
    crash(world, rng, healed);
    deafen(world, rng, healed);
    start_all(world, healed);
}

/// A node that stopped reading may have crashed since, and the other way round.
fn start_all(world: &mut World, healed: u64) {
    for node in 0..world.nodes.len() {
        world.at(healed, Action::Start { node });
    }
}

fn cut(world: &mut World, rng: &mut ChaCha20Rng, healed: u64) {
    let edges = world.graph.edges();
    for _ in 0..world.nodes.len() {
        let (a, b) = edges[rng.random_range(0..edges.len())];
        let from = rng.random_range(0..healed);
        world.at(from, Action::Cut { a, b });
        world.at((from + rng.random_range(100..20_000)).min(healed), Action::Heal { a, b });
    }
}

fn crash(world: &mut World, rng: &mut ChaCha20Rng, healed: u64) {
    for _ in 0..world.nodes.len().div_ceil(2) {
        let node = rng.random_range(0..world.nodes.len());
        let from = rng.random_range(0..healed);
        world.at(from, Action::Crash { node });
        world.at((from + rng.random_range(10..15_000)).min(healed), Action::Start { node });
    }
}

/// Killed at the worst moment: judged, and not durable.
fn doom(world: &mut World, rng: &mut ChaCha20Rng, healed: u64) {
    for _ in 0..world.nodes.len().div_ceil(2) {
        let (node, down) = (rng.random_range(0..world.nodes.len()), rng.random_range(10..5_000));
        world.at(rng.random_range(0..healed), Action::Doom { node, down });
    }
}

fn deafen(world: &mut World, rng: &mut ChaCha20Rng, healed: u64) {
    for _ in 0..world.nodes.len().div_ceil(8) {
        let node = rng.random_range(0..world.nodes.len());
        let from = rng.random_range(0..healed);
        world.at(from, Action::StopReading { node });
        world.at((from + rng.random_range(1_000..60_000)).min(healed), Action::ReadAgain { node });
    }
}

fn part(world: &mut World, rng: &mut ChaCha20Rng, healed: u64) {
    world.seen.fault("partitions");
    let side: Vec<bool> = (0..world.nodes.len()).map(|_| rng.random_bool(0.5)).collect();
    let from = rng.random_range(0..healed);
    let until = (from + rng.random_range(5_000..30_000)).min(healed);
    for (a, b) in world.graph.edges().into_iter().filter(|(a, b)| side[*a] != side[*b]) {
        world.at(from, Action::Cut { a, b });
        world.at(until, Action::Heal { a, b });
    }
}

fn reload(world: &mut World, rng: &mut ChaCha20Rng, healed: u64) {
    let mut shares = world.graph.shares.clone();
    let mut times: Vec<u64> = (0..3).map(|_| rng.random_range(0..healed)).collect();
    times.sort_unstable();
    for at in times {
        let redacting = rng.random_range(0..world.nodes.len());
        let mut changed = Vec::new();
        for (way, share) in &mut shares {
            if rng.random_bool(0.1) || way.0 == redacting {
                *share = Share { give: rng.random_bool(0.7), redact: way.0 == redacting && rng.random_bool(0.5) };
                changed.push((*way, *share));
            }
        }
        world.at(at, Action::Reload { shares: changed });
    }
}

/// All of `faults`, drawn from `rng`. Of `Retention`, the outage.
pub fn schedule(faults: Faults, world: &mut World, rng: &mut ChaCha20Rng) -> Option<Outage> {
    let (healed, nodes) = (faults.healed(), world.nodes.len());
    let mut others: Vec<usize> = (0..nodes).collect();
    // Each node has one manner.
    let mut one = |rng: &mut ChaCha20Rng| {
        let chosen = *others.choose(rng).unwrap_or(&0);
        others.retain(|node| *node != chosen);
        chosen
    };
    let few = 1 + nodes / 50;
    let outage = faults.has(Fault::Retention).then(|| {
        let (node, from) = (one(rng), rng.random_range(DAY / 2..DAY));
        Outage { node, from, until: from + rng.random_range(3 * DAY / 2..2 * DAY) }
    });
    if let Some(Outage { node, from, until }) = outage {
        world.seen.fault("outages longer than retention");
        world.at(from, Action::Crash { node });
        world.at(until, Action::Start { node });
        (1..healed / 3_600_000).for_each(|hour| world.at(hour * 3_600_000, Action::Expire));
    }
    // What keeps a network busy has less time where others take days.
    let busy = healed.saturating_sub(90_000);
    for (fault, manner) in
        [(Fault::Liars, Manner::Liar), (Fault::Zombies, Manner::Zombie), (Fault::Floods, Manner::Flooder)]
    {
        for _ in 0..if faults.has(fault) { few } else { 0 } {
            let node = one(rng);
            world.at(if manner == Manner::Liar { 0 } else { busy }, Action::Become { node, manner });
            if manner != Manner::Liar {
                world.at(healed, Action::Crash { node });
                world.at(healed, Action::Become { node, manner: Manner::Honest });
            }
            if manner == Manner::Flooder {
                (busy..healed).step_by(2_000).for_each(|at| world.at(at, Action::Invent { node, more: 30 }));
            }
        }
    }
    if faults.has(Fault::Slow) {
        (0..nodes.div_ceil(8)).for_each(|_| {
            world.seen.fault("slow nodes");
            world.nodes[rng.random_range(0..nodes)].slow = rng.random_range(200..1_500);
        });
    }
    let mut with = |fault, apply: fn(&mut World, &mut ChaCha20Rng, u64)| {
        if faults.has(fault) {
            apply(world, rng, healed);
        }
    };
    with(Fault::Cuts, cut);
    with(Fault::Partitions, part);
    with(Fault::Crashes, crash);
    with(Fault::Crashes, doom);
    with(Fault::Deaf, deafen);
    with(Fault::Reloads, reload);
    if outage.is_none() || faults.has(Fault::Crashes) || faults.has(Fault::Zombies) || faults.has(Fault::Floods) {
        start_all(world, healed);
    }
    outage
}
