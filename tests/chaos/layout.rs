//! Who is linked with whom, what can befall whom, and how each is configured.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha20Rng;

use super::chaos::{Chaos, NODES};
use super::clock::Faketime;
use super::faults::{Faults, Kind, Targets};
use super::ground::{Ground, LISTEN};
use super::site::Site;
use super::vitals::Memory;

/// Beside the ring that goes through all of them.
const CHORDS: usize = 7;
/// Never killed, so that what leaks can gather.
const ELDERS: usize = 3;
const CLOCKS: usize = 4;
const DISKS: usize = 3;
const DISK: u64 = 224 << 20;
/// Further room for each second of faults.
const DISK_EACH: u64 = 128 << 10;

impl Chaos {
    /// Nodes in a random network, none of which is needed for the others to reach each other.
    /// `time`: in which things are to fail.
    pub fn new(mut rng: ChaCha20Rng, time: Duration) -> Chaos {
        let cables = cables(&mut rng);
        let sites: Vec<_> = (0..NODES).map(Site::new).collect();
        let ground = ground(&sites, &cables);
        let mut order: Vec<usize> = (0..NODES).collect();
        order.shuffle(&mut rng);
        let (elders, killed) = order.split_at(ELDERS);
        let clocks = &order[NODES - CLOCKS..];
        let faketime = Faketime::find().inspect_err(|why| println!("SKIPPED, wrong clocks: {why}")).ok();
        let with_clock = if faketime.is_some() { clocks } else { &[] };
        let disks = small_disks(&ground, &sites, &killed[..DISKS], DISK + DISK_EACH * time.as_secs());
        if !ground.slows {
            println!("SKIPPED, slow links: there is no netem here");
        }
        let targets = |kind| match kind {
            Kind::LinkSlow if !ground.slows => Vec::new(),
            Kind::LinkDown | Kind::LinkFlaps | Kind::LinkSilent | Kind::LinkSlow => (0..cables.len()).collect(),
            Kind::Kill => killed.to_vec(),
            Kind::Freeze | Kind::RedisKill | Kind::RedisFreeze => order.clone(),
            Kind::DiskFull | Kind::DiskBrim => disks.clone(),
            Kind::ClockWithin => with_clock.to_vec(),
            Kind::ClockBeyond => with_clock.iter().take(1).copied().collect(),
        };
        let faults = Faults::new(Targets::from_iter(Kind::ALL.map(|kind| (kind, targets(kind)))));
        let mut chaos = Chaos {
            sites,
            ground,
            rng,
            faults,
            wrong: clocks[0],
            behind: Vec::new(),
            elders: elders.to_vec(),
            before: Vec::new(),
            memory: vec![Memory::default(); NODES],
            starts: vec![0; NODES],
            brim: vec![None; NODES],
            gave_up: 0,
            healed: Duration::ZERO,
        };
        for node in 0..NODES {
            chaos.configure(node, faketime.as_ref().filter(|_| clocks.contains(&node)));
        }
        chaos
    }

    fn configure(&mut self, node: usize, faketime: Option<&Faketime>) {
        let relay = &mut self.sites[node].relay;
        relay.around = self.ground.around(node, &relay.path(""));
        relay.around_run = faketime.map_or(Vec::new(), |faketime| faketime.around(&relay.path("clock")));
        let relay = &self.sites[node].relay;
        let listen = if self.ground.has_spaces() { LISTEN } else { &relay.address };
        let net = "dial_min_seconds = 0.1\ndial_max_seconds = 1.0\nping_seconds = 1.5\nanswer_seconds = 10.0";
        relay.configure(&format!(
            "[node]\nname = \"{}\"\n[net]\nlisten = [\"{listen}\"]\n{net}\n[store]\ncache_bytes = \"1 MiB\"",
            relay.name
        ));
        self.sites[node].open_doors();
        let peers = self.ground.peers(node);
        for (peer, address) in &peers {
            let peer = &self.sites[*peer].relay;
            let give = format!("addresses = [\"{address}\"]\ngive = \"community\"");
            relay.and(&format!("[[peer]]\nname = \"{}\"\nkey = \"{}\"\n{give}", peer.name, peer.key));
        }
        let known: BTreeSet<usize> = peers.iter().map(|(peer, _)| *peer).chain([node]).collect();
        for origin in (0..NODES).filter(|origin| !known.contains(origin)) {
            relay.knows(&self.sites[origin].relay);
        }
    }
}

/// A ring through all in random order, and chords: whoever is away, the others are connected.
fn cables(rng: &mut ChaCha20Rng) -> Vec<(usize, usize)> {
    let mut order: Vec<usize> = (0..NODES).collect();
    order.shuffle(rng);
    let ordered = |a: usize, b: usize| (a.min(b), a.max(b));
    let mut cables: BTreeSet<_> = (0..NODES).map(|at| ordered(order[at], order[(at + 1) % NODES])).collect();
    while cables.len() < NODES + CHORDS {
        let (a, b) = (rng.random_range(0..NODES), rng.random_range(0..NODES));
        if a != b {
            cables.insert(ordered(a, b));
        }
    }
    cables.into_iter().collect()
}

fn ground(sites: &[Site], cables: &[(usize, usize)]) -> Ground {
    let wanted = std::env::var("INTELMQ_RELAY_CHAOS_NET").unwrap_or_default();
    let spaces = if wanted == "loopback" { Err("not wanted".into()) } else { Ground::spaces(NODES, cables) };
    spaces.unwrap_or_else(|why| {
        println!("SKIPPED, namespaces: {why}; on the loopback network instead");
        let addresses: Vec<_> = sites.iter().map(|site| site.relay.address.clone()).collect();
        Ground::loopback(&addresses, cables)
    })
}

/// Gives these nodes disks of this size; nobody, where that is not permitted.
fn small_disks(ground: &Ground, sites: &[Site], nodes: &[usize], bytes: u64) -> Vec<usize> {
    let mounted = nodes.iter().try_for_each(|node| ground.small_disk(*node, &sites[*node].relay.path("data"), bytes));
    match mounted {
        Ok(()) => nodes.to_vec(),
        Err(why) => {
            println!("SKIPPED, full disks: {why}");
            Vec::new()
        }
    }
}
