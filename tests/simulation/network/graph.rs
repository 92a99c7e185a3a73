//! Who is connected with whom, how far apart, and what is given over each edge.

use std::collections::BTreeMap;

use intelmq_relay::config::Rate;
use rand::RngExt;
use rand_chacha::ChaCha20Rng;

/// What the giver of an edge gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share {
    pub give: bool,
    pub redact: bool,
}

pub const ALL: Share = Share { give: true, redact: false };

/// Both directions of each edge: (giver, taker).
pub type Ways = BTreeMap<(usize, usize), Share>;

pub struct Graph {
    pub nodes: usize,
    pub shares: Ways,
    /// One way over each direction, ms.
    pub latency: BTreeMap<(usize, usize), u64>,
    /// What the taker of an edge takes, at most.
    pub rates: BTreeMap<(usize, usize), Rate>,
    /// How far each node's clock is ahead, ms.
    pub skew: Vec<i64>,
}

impl Graph {
    pub fn new(nodes: usize) -> Graph {
        let (shares, latency, rates) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Graph { nodes, shares, latency, rates, skew: vec![0; nodes] }
    }

    pub fn join(&mut self, a: usize, b: usize, latency: u64) {
        for way in [(a, b), (b, a)] {
            self.shares.insert(way, ALL);
            self.latency.insert(way, latency);
        }
    }

    pub fn edges(&self) -> Vec<(usize, usize)> {
        self.shares.keys().filter(|(a, b)| a < b).copied().collect()
    }

    pub fn peers(&self, node: usize) -> Vec<usize> {
        self.shares.range((node, 0)..(node + 1, 0)).map(|((_, peer), _)| *peer).collect()
    }

    /// A connected graph: a random tree, and edges until the nodes have so many on average.
    pub fn random(rng: &mut ChaCha20Rng, nodes: usize, degree: usize) -> Graph {
        let mut graph = Graph::new(nodes);
        for node in 1..nodes {
            graph.join(rng.random_range(0..node), node, rng.random_range(10..60));
        }
        let more = (nodes * degree / 2).saturating_sub(nodes - 1);
        for _ in 0..more {
            let (a, b) = (rng.random_range(0..nodes), rng.random_range(0..nodes));
            if a != b && !graph.shares.contains_key(&(a, b)) {
                graph.join(a, b, rng.random_range(10..60));
            }
        }
        graph
    }

    /// Some give nothing one way, and one node hides fields from some of its peers.
    pub fn restrict(&mut self, rng: &mut ChaCha20Rng) {
        let redacting = rng.random_range(0..self.nodes);
        for (&(giver, _), share) in &mut self.shares {
            if rng.random_bool(0.05) {
                share.give = false;
            }
            share.redact = giver == redacting && rng.random_bool(0.6);
        }
    }
}

/// Both directions of an edge have it in common.
pub fn edge(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}
