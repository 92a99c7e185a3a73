//! Networks with random rules, and who may have what in them, computed another way than the program does: every copy of
//! an event that can be anywhere, step by step, by rules that are evaluated as an operator would read them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use intelmq_relay::config::Config;
use intelmq_relay::envelope::{Envelope, Field};
use intelmq_relay::policy::Terms;
use rand::RngExt;
use rand_chacha::ChaCha20Rng;

use super::graph::Graph;
use super::node::{name, secret};
use super::world::Event;

/// The fields of an event here, in their order.
pub const FIELDS: [&str; 5] = ["classification.type", "source.ip", "extra.n", "extra.secret", "raw"];
const CLASSES: [&str; 4] = ["phishing", "scanner", "c2-server", "other"];
/// What an event is, beside what [`Event`] says: drawn from its number.
#[derive(Clone, Copy)]
pub struct Content {
    class: &'static str,
    net: u8,
    n: u32,
}

pub fn content(number: usize) -> Content {
    let draw = (number as u32).wrapping_mul(2_654_435_761) >> 8;
    Content { class: CLASSES[draw as usize % 4], net: (draw >> 4) as u8 % 4, n: (draw >> 8) % 10 }
}

pub fn text(number: usize) -> String {
    let Content { class, net, n } = content(number);
    format!(
        "{{\"classification.type\": \"{class}\", \"source.ip\": \"198.51.{net}.{}\", \"extra.n\": {n}, \
         \"extra.secret\": \"s{number}\", \"raw\": \"QUJD\"}}",
        number % 250
    )
}

/// Which fields are hidden, a bit for each of [`FIELDS`].
type Mask = u8;

pub fn mask(envelope: &Envelope) -> Mask {
    let hidden = envelope.fields().map(|field| u8::from(matches!(field, Field::Hidden { .. })));
    hidden.zip(0..).map(|(hidden, bit)| hidden << bit).sum()
}

/// A rule as an operator writes it. `None`: does not matter.
#[derive(Debug, Clone)]
struct Rule {
    act: &'static str,
    class: Option<Vec<&'static str>>,
    net: Option<u8>,
    n: Option<(u32, u32)>,
    secret_present: Option<bool>,
    origin: Option<Vec<usize>>,
    from: Option<usize>,
    tlp: Option<Vec<&'static str>>,
    hops: Option<(usize, usize)>,
    hide: Mask,
}

impl Rule {
    fn matches(&self, event: &Event, number: usize, copy: &Copy) -> bool {
        let Content { class, net, n } = content(number);
        let open = |field: usize| !event.encrypted && copy.hidden & 1 << field == 0;
        let label = if event.tlp == "none" { "AMBER" } else { event.tlp };
        self.class.as_ref().is_none_or(|classes| open(0) && classes.contains(&class))
            && self.net.is_none_or(|is| open(1) && is == net)
            && self.n.is_none_or(|(low, high)| open(2) && low <= n && n <= high)
            && self.secret_present.is_none_or(|present| present == open(3))
            && self.origin.as_ref().is_none_or(|origins| origins.contains(&event.origin))
            && self.from.is_none_or(|from| copy.from == Some(from))
            && self.tlp.as_ref().is_none_or(|labels| labels.contains(&label))
            && self.hops.is_none_or(|(low, high)| low <= copy.passed && copy.passed <= high)
    }

    fn write(&self, set: &str, text: &mut String) {
        writeln!(text, "[[rules.{set}]]\ndo = \"{}\"", self.act).unwrap();
        if let Some(origins) = &self.origin {
            let names: Vec<String> = origins.iter().map(|node| name(*node).to_string()).collect();
            writeln!(text, "origin = {names:?}").unwrap();
        }
        if let Some(from) = self.from {
            writeln!(text, "from = \"{}\"", name(from)).unwrap();
        }
        if let Some(tlp) = &self.tlp {
            writeln!(text, "tlp = {tlp:?}").unwrap();
        }
        if let Some((low, high)) = self.hops {
            writeln!(text, "hops = [{low}, {high}]").unwrap();
        }
        if self.hide > 0 {
            let fields: Vec<&str> = (0..5).filter(|bit| self.hide & 1 << bit > 0).map(|bit| FIELDS[bit]).collect();
            writeln!(text, "hide = {fields:?}").unwrap();
        }
        writeln!(text, "[rules.{set}.fields]").unwrap();
        if let Some(classes) = &self.class {
            writeln!(text, "\"classification.type\" = {classes:?}").unwrap();
        }
        if let Some(net) = self.net {
            writeln!(text, "\"source.ip\" = {{ cidr = \"198.51.{net}.0/24\" }}").unwrap();
        }
        if let Some((low, high)) = self.n {
            writeln!(text, "\"extra.n\" = {{ range = [{low}, {high}] }}").unwrap();
        }
        if let Some(present) = self.secret_present {
            writeln!(text, "\"extra.secret\" = {{ present = {present} }}").unwrap();
        }
    }
}

/// One direction of an edge: what the giver gives, and what the taker takes.
#[derive(Debug, Clone)]
struct Way {
    community: bool,
    /// What the giver has written about the taker, both ways.
    carries: bool,
    give: Sets,
    take: Sets,
}

#[derive(Debug, Clone)]
struct Sets {
    sets: Vec<Vec<Rule>>,
    /// Behind them stands the word that allows everything.
    everything: bool,
}

impl Sets {
    /// Whether an encrypted event may pass, for which whom it names, or who carries it, counts as the last rule that allows.
    fn let_pass(&self, event: &Event, number: usize, copy: &Copy) -> bool {
        let mut denied = false;
        for set in &self.sets {
            let decides = |rule: &&Rule| rule.act != "hide" && rule.matches(event, number, copy);
            match set.iter().find(decides).map(|rule| rule.act) {
                Some("poison") => return false,
                Some("allow") => return true,
                Some(_) => denied = true,
                None => {}
            }
        }
        self.everything || !denied
    }

    /// What is hidden of a copy that may pass; `None`: it may not.
    fn allow(&self, event: &Event, number: usize, copy: &Copy) -> Option<Mask> {
        let mut hide = 0;
        'sets: for set in &self.sets {
            for rule in set {
                if !rule.matches(event, number, copy) {
                    continue;
                }
                match rule.act {
                    "poison" => return None,
                    "deny" => continue 'sets,
                    "hide" => hide |= rule.hide,
                    "allow" => return Some(hide | rule.hide),
                    other => unreachable!("{other}"),
                }
            }
        }
        self.everything.then_some(hide)
    }

    fn write(&self, key: &str, word: &str, prefix: &str, text: &mut String, sets: &mut String) {
        let mut names = Vec::new();
        for (i, set) in self.sets.iter().enumerate() {
            let name = format!("{prefix}-{i}");
            set.iter().for_each(|rule| rule.write(&name, sets));
            names.push(name);
        }
        if self.everything {
            names.push(word.to_owned());
        }
        writeln!(text, "{key} = {names:?}").unwrap();
    }
}

/// A copy of an event at a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Copy {
    node: usize,
    from: Option<usize>,
    /// Nodes before this one.
    passed: usize,
    hidden: Mask,
}

/// How much the rules may depend on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// On what is the same in every copy, and hiding by levels: then what everybody must have does not depend on which
    /// copy comes first.
    Exact,
    /// On everything, and hiding anything: what nobody may have is still known.
    Wild,
}

/// Fields that are hidden together, more and more.
const LEVELS: [Mask; 4] = [0, 0b10000, 0b11000, 0b11100];

pub struct Rules {
    kind: Kind,
    ways: BTreeMap<(usize, usize), Way>,
    pub hops: usize,
    /// By event: every copy that can be anywhere,
    copies: Vec<BTreeSet<Copy>>,
    /// and every one that a giver may show to a taker, who may refuse it.
    shown: Vec<BTreeSet<Copy>>,
}

impl Rules {
    pub fn new(kind: Kind, graph: &Graph, events: &[Event], rng: &mut ChaCha20Rng) -> Rules {
        let ways = graph.shares.keys().map(|&way| (way, Way::new(kind, way, graph, rng))).collect();
        let hops = if kind == Kind::Exact { 60 } else { rng.random_range(1..5) };
        let mut rules = Rules { kind, ways, hops, copies: Vec::new(), shown: Vec::new() };
        for (number, event) in events.iter().enumerate() {
            let (copies, shown) = rules.spread(event, number);
            rules.copies.push(copies);
            rules.shown.push(shown);
        }
        rules
    }

    fn spread(&self, event: &Event, number: usize) -> (BTreeSet<Copy>, BTreeSet<Copy>) {
        let mut all_shown = BTreeSet::new();
        let first = Copy { node: event.origin, from: None, passed: 0, hidden: 0 };
        let (mut found, mut next) = (BTreeSet::from([first]), vec![first]);
        while let Some(copy) = next.pop() {
            for (&(giver, taker), way) in self.ways.range((copy.node, 0)..(copy.node + 1, 0)) {
                let Some(hidden) = self.gives(event, number, &copy, taker, way) else { continue };
                let shown = Copy { node: taker, from: Some(giver), hidden, ..copy };
                all_shown.insert(shown);
                let taken = if event.encrypted {
                    // What the taker has written about the giver.
                    let carried = event.to.contains(&taker) || self.ways[&(taker, giver)].carries;
                    carried && way.take.let_pass(event, number, &shown)
                } else {
                    way.take.allow(event, number, &shown).is_some()
                };
                if !taken {
                    continue;
                }
                let copy = Copy { passed: copy.passed + 1, ..shown };
                if found.insert(copy) {
                    next.push(copy);
                }
            }
        }
        (found, all_shown)
    }

    /// What is hidden of a copy that the giver may give.
    fn gives(&self, event: &Event, number: usize, copy: &Copy, taker: usize, way: &Way) -> Option<Mask> {
        let giver = copy.node;
        if event.encrypted {
            let way_is_open = taker != event.origin && copy.from != Some(taker) && copy.passed <= self.hops;
            let given = way_is_open && (event.to.contains(&taker) || way.carries);
            return (given && way.give.let_pass(event, number, copy)).then_some(0);
        }
        let fixed = super::reference::lets(event, giver, taker)
            && copy.from != Some(taker)
            && copy.passed <= self.hops
            && (event.tlp != "GREEN" || way.community);
        if !fixed {
            return None;
        }
        Some(copy.hidden | way.give.allow(event, number, copy)?)
    }

    /// What `node` has written about its peers.
    pub fn terms(&self, node: usize, graph: &Graph) -> BTreeMap<usize, Terms> {
        let mut peers = Vec::new();
        let (mut text, mut sets) = (format!("[node]\nname = \"{}\"\n", name(node)), String::new());
        for (&(_, peer), give) in self.ways.range((node, 0)..(node + 1, 0)) {
            let (take, key) = (&self.ways[&(peer, node)], secret(peer).key());
            let Way { community, carries, .. } = give;
            writeln!(text, "[[peer]]\nname = \"{}\"\nkey = \"{key}\"\ncommunity = {community}", name(peer)).unwrap();
            writeln!(text, "carries = {carries}").unwrap();
            give.give.write("give", "community", &format!("give-{peer}"), &mut text, &mut sets);
            take.take.write("take", "all", &format!("take-{peer}"), &mut text, &mut sets);
            peers.push(peer);
        }
        for other in (0..graph.nodes).filter(|other| *other != node && !peers.contains(other)) {
            writeln!(text, "[[origin]]\nname = \"{}\"\nkey = \"{}\"", name(other), secret(other).key()).unwrap();
        }
        let text = text + &sets;
        let config = Config::parse(&text, Path::new("/")).unwrap_or_else(|mistakes| panic!("{text}\n{mistakes}"));
        peers.into_iter().zip(config.peers.iter().map(|peer| Terms::new(peer, &config.rules))).collect()
    }

    /// A copy may be at `node`, where `from` brought it.
    #[track_caller]
    pub fn check_copy(&self, number: usize, node: usize, from: Option<usize>, envelope: &Envelope) {
        // The node itself is at the end of the path.
        let passed = envelope.path().len() - 1;
        let copy = Copy { node, from, passed, hidden: mask(envelope) };
        assert!(self.copies[number].contains(&copy), "event {number} is no {copy:?}: {:?}", self.copies[number]);
    }

    /// What `giver` shows to `taker` may be shown to it.
    #[track_caller]
    pub fn check_shown(&self, number: usize, giver: usize, taker: usize, hidden: u16, envelope: Option<&Envelope>) {
        let could = |copy: &&Copy| {
            (copy.node, copy.from) == (taker, Some(giver))
                && copy.hidden.count_ones() == u32::from(hidden)
                && envelope
                    .is_none_or(|envelope| (copy.passed + 1, copy.hidden) == (envelope.path().len(), mask(envelope)))
        };
        let what = format!("event {number}, {hidden} hidden, shown by {giver} to {taker}");
        assert!(self.shown[number].iter().any(|copy| could(&copy)), "{what}");
    }

    /// The copies in a node's log, when everything is quiet: one, or fuller and fuller ones up to the fullest there is.
    #[track_caller]
    pub fn check_settled(&self, number: usize, node: usize, born: bool, copies: &[Mask]) {
        let here = self.copies[number].iter().filter(|copy| copy.node == node).map(|copy| copy.hidden);
        let what = format!("event {number} at {node}: {copies:?}");
        assert!(copies.windows(2).all(|pair| pair[1].count_ones() < pair[0].count_ones()), "{what}");
        if !born {
            assert!(copies.is_empty(), "{what}");
        } else if self.kind == Kind::Exact {
            assert_eq!(copies.last().copied(), here.min_by_key(|hidden| hidden.count_ones()), "{what}");
        }
    }

    /// Events that somebody may not have, and copies of which something is hidden: else nothing was tried.
    pub fn restrictions(&self, nodes: usize) -> (usize, usize) {
        let reached = |copies: &BTreeSet<Copy>| copies.iter().map(|copy| copy.node).collect::<BTreeSet<_>>().len();
        let withheld = self.copies.iter().filter(|copies| reached(copies) < nodes).count();
        (withheld, self.copies.iter().flatten().filter(|copy| copy.hidden > 0).count())
    }
}

impl Way {
    fn new(kind: Kind, (giver, taker): (usize, usize), graph: &Graph, rng: &mut ChaCha20Rng) -> Way {
        let mut sets = |hides, owner: usize| {
            let count = rng.random_range(0..3);
            let peers: Vec<usize> =
                graph.shares.range((owner, 0)..(owner + 1, 0)).map(|((_, peer), _)| *peer).collect();
            let mut rule = || rule(kind, hides, &peers, graph.nodes, rng);
            let mut set = || (0..3).map(|_| rule()).collect();
            let sets = (0..count).map(|_| set()).collect();
            // Mostly: else nothing gets far.
            Sets { sets, everything: count == 0 || rng.random_bool(0.8) }
        };
        let (give, take) = (sets(true, giver), sets(false, taker));
        let community = rng.random_bool(0.8);
        // Of the two ends and not of chance: what else is drawn stays as it was.
        Way { community, carries: !(giver + 2 * taker).is_multiple_of(3), give, take }
    }
}

/// A rule that names something: else those behind it would be a mistake of the configuration.
fn rule(kind: Kind, hides: bool, peers: &[usize], nodes: usize, rng: &mut ChaCha20Rng) -> Rule {
    let acts: &[&str] = if hides { &["allow", "allow", "hide", "hide", "deny", "poison"] } else { &["allow", "deny"] };
    let act = acts[rng.random_range(0..acts.len())];
    let wild = kind == Kind::Wild;
    let mut rule = Rule {
        act,
        class: None,
        net: None,
        n: None,
        secret_present: None,
        origin: None,
        from: None,
        tlp: None,
        hops: None,
        hide: 0,
    };
    for _ in 0..rng.random_range(1..3) {
        match rng.random_range(0..if wild { 8 } else { 4 }) {
            0 => rule.class = Some((0..2).map(|_| CLASSES[rng.random_range(0..4)]).collect()),
            1 => rule.net = Some(rng.random_range(0..4)),
            2 => rule.origin = Some((0..nodes.div_ceil(3)).map(|_| rng.random_range(0..nodes)).collect()),
            3 => rule.tlp = Some(vec![["CLEAR", "GREEN", "AMBER"][rng.random_range(0..3)], "RED"]),
            4 => rule.n = Some((rng.random_range(0..5), rng.random_range(5..10))),
            5 => rule.secret_present = Some(rng.random_bool(0.5)),
            6 => rule.hops = Some((rng.random_range(0..2), rng.random_range(2..4))),
            _ => rule.from = Some(peers[rng.random_range(0..peers.len())]),
        }
    }
    if act == "hide" || act == "allow" && hides && rng.random_bool(0.3) {
        rule.hide = match kind {
            Kind::Exact => LEVELS[rng.random_range(1..4)],
            Kind::Wild => rng.random_range(1..16) << 1,
        };
    }
    rule
}
