//! The network: one clock, pipes that keep order, and what happens in it.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use intelmq_relay::config;
use intelmq_relay::envelope::{Draft, Message, Name, encrypt, seal};
use intelmq_relay::link::{Allowance, From, Link, LinkId, Settings, Violation};
use intelmq_relay::sample;
use intelmq_relay::trust::Origins;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use serde_bytes::ByteBuf;
use uuid::Uuid;

use super::graph::{ALL, Graph, Share, Ways, edge};
use super::keep::{Disk, Keep};
use super::memory::Memory;
use super::node::{self, BOUNDS, Manner, Node, Pending, SECRET, Session, name, secret};
use super::reference::{self, Reach};
use super::report::Seen;
use super::rules::{self, Rules};

pub struct Event {
    pub origin: usize,
    pub tlp: &'static str,
    pub to: Vec<usize>,
    /// Nobody else can read it.
    pub encrypted: bool,
    /// The id is made of the content.
    pub content: bool,
    /// It takes the id of this event.
    pub steals: Option<usize>,
    pub id: Uuid,
    /// When the origin had it durable.
    pub born: Option<u64>,
    /// Bytes of its text.
    pub payload: usize,
}

impl Event {
    pub fn new(origin: usize, tlp: &'static str) -> Event {
        let (to, id) = (Vec::new(), Uuid::nil());
        Event { origin, tlp, to, encrypted: false, content: false, steals: None, id, born: None, payload: 0 }
    }
}

#[derive(Debug, Clone)]
pub enum Action {
    /// Bytes arrive at the end of a pipe, unless it was cut since.
    Deliver {
        from: usize,
        to: usize,
        epoch: u64,
        bytes: Bytes,
    },
    /// The first of what waits at a node becomes durable.
    Commit {
        node: usize,
        life: u64,
    },
    Wake {
        node: usize,
        at: u64,
    },
    Open {
        a: usize,
        b: usize,
    },
    Originate {
        events: Vec<usize>,
    },
    Cut {
        a: usize,
        b: usize,
    },
    Heal {
        a: usize,
        b: usize,
    },
    Crash {
        node: usize,
    },
    /// It crashes as soon as it has something to lose, for so long.
    Doom {
        node: usize,
        down: u64,
    },
    Start {
        node: usize,
    },
    StopReading {
        node: usize,
    },
    ReadAgain {
        node: usize,
    },
    Become {
        node: usize,
        manner: Manner,
    },
    /// One who offers without end has invented more.
    Invent {
        node: usize,
        more: u64,
    },
    /// The giver's operator changes what is given over these edges.
    Reload {
        shares: Vec<((usize, usize), Share)>,
    },
    /// Every node lets go of what is too old.
    Expire,
}

struct Due {
    at: (u64, u64),
    action: Action,
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        self.at == other.at
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Due) -> Ordering {
        self.at.cmp(&other.at)
    }
}

/// One direction of one edge.
#[derive(Default)]
pub struct Pipe {
    /// When the last frame arrives: none overtakes it.
    pub last: u64,
    /// Arrived at a node that does not read.
    pub unread: VecDeque<Bytes>,
    pub bytes: usize,
}

/// How the nodes keep their logs, and what their events look like.
#[derive(Debug, Clone)]
pub struct Setup {
    pub disk: bool,
    pub days: config::Store,
    /// Events as real feeds have them, instead of very small ones.
    pub samples: bool,
}

impl Default for Setup {
    fn default() -> Setup {
        // No page cache worth mentioning: there are many stores.
        let days = config::Store { cache_bytes: 1 << 20, ..config::Store::default() };
        Setup { disk: false, days, samples: false }
    }
}

pub struct World {
    pub now: u64,
    pub graph: Graph,
    pub nodes: Vec<Node>,
    pub events: Vec<Event>,
    pub settings: Settings,
    pub(super) setup: Setup,
    pub(super) ids: HashMap<(Name, Uuid), usize>,
    /// Who may have each event, whatever happens.
    pub(super) may: Vec<Reach>,
    /// What was given over the edges until when; today's is in the graph.
    pub(super) before: Vec<(u64, Ways)>,
    queue: BinaryHeap<Reverse<Due>>,
    next: u64,
    pub(super) pipes: BTreeMap<(usize, usize), Pipe>,
    /// How often an edge was opened or closed.
    pub(super) epochs: BTreeMap<(usize, usize), u64>,
    cut: BTreeSet<(usize, usize)>,
    pub(super) rng: ChaCha20Rng,
    pub violations: Vec<(u64, usize, usize, Violation)>,
    /// Nodes that some time gave their peers a reason to end a link.
    pub(super) odd: BTreeSet<usize>,
    /// Nodes that give what they like: nobody may depend on them.
    pub(super) mute: BTreeSet<usize>,
    links: LinkId,
    pub(super) replay: Vec<Bytes>,
    /// What everybody's rules are, where they are more than [`Share`].
    pub(super) rules: Option<Rules>,
    /// What was seen of it from outside.
    pub seen: Seen,
    /// Everything that was sent and stored, in order.
    pub(super) trace: DefaultHasher,
}

impl World {
    pub fn new(graph: Graph, events: Vec<Event>, settings: Settings, seed: u64) -> World {
        World::with(graph, events, settings, seed, Setup::default())
    }

    pub fn with(graph: Graph, events: Vec<Event>, settings: Settings, seed: u64, setup: Setup) -> World {
        let origins = (0..graph.nodes).map(|node| (name(node), secret(node).key()));
        let origins = Arc::new(Origins::new(origins, None));
        let runtime = Rc::new(tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap());
        let node = |me| {
            let rules = node::rules(me, &graph, &origins, &setup.days);
            let keep = if setup.disk {
                let folder = tempfile::tempdir().unwrap();
                Keep::Disk(Disk::open(folder, setup.days.clone(), rules.clone(), runtime.clone()))
            } else {
                Keep::Memory(Memory::new(Uuid::from_u128(me as u128 + 1000), setup.days.clone()))
            };
            Node::new(me, &graph, rules, keep)
        };
        let nodes: Vec<Node> = (0..graph.nodes).map(node).collect();
        let mut world = World {
            now: 0,
            nodes,
            events,
            settings,
            setup,
            ids: HashMap::new(),
            may: Vec::new(),
            before: Vec::new(),
            queue: BinaryHeap::new(),
            next: 0,
            pipes: graph.shares.keys().map(|&way| (way, Pipe::default())).collect(),
            epochs: BTreeMap::new(),
            cut: BTreeSet::new(),
            rng: ChaCha20Rng::seed_from_u64(seed),
            violations: Vec::new(),
            odd: BTreeSet::new(),
            mute: BTreeSet::new(),
            links: 0,
            replay: Vec::new(),
            rules: None,
            seen: Seen::default(),
            trace: DefaultHasher::new(),
            graph,
        };
        world.ask_reference();
        for (a, b) in world.graph.edges() {
            world.at(0, Action::Open { a, b });
        }
        world
    }

    fn ask_reference(&mut self) {
        let ways = reference::over_time(self.before.iter().map(|(_, ways)| ways).chain([&self.graph.shares]), true);
        let reach = |event| reference::reach(&ways, &self.graph.skew, event, &[]);
        self.may = self.events.iter().map(reach).collect();
    }

    /// The same world, whose nodes have these rules.
    pub fn with_rules(mut self, rules: Rules) -> World {
        for node in &mut self.nodes {
            node.terms =
                rules.terms(node.me, &self.graph).into_iter().map(|(peer, terms)| (peer, terms.into())).collect();
            let gate = Arc::make_mut(&mut node.rules);
            gate.policy.hops = rules.hops;
            gate.terms = node.terms.iter().map(|(peer, terms)| (name(*peer), terms.clone())).collect();
            node.keep.set_rules(&node.rules);
        }
        self.rules = Some(rules);
        self
    }

    pub fn at(&mut self, time: u64, action: Action) {
        self.queue.push(Reverse(Due { at: (time.max(self.now), self.next), action }));
        self.next += 1;
    }

    pub fn run(&mut self, until: u64) {
        while self.queue.peek().is_some_and(|Reverse(due)| due.at.0 <= until) {
            let Some(Reverse(due)) = self.queue.pop() else { break };
            self.now = due.at.0;
            self.act(due.action);
        }
        self.now = until;
    }

    /// The same for two runs in which the same was sent and stored at the same times.
    pub fn trace(&self) -> u64 {
        self.trace.finish()
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Deliver { from, to, epoch, bytes } => {
                if self.epochs.get(&edge(from, to)) != Some(&epoch) {
                    return;
                }
                if self.nodes[to].reads { self.receive(from, to, &bytes) } else { self.pile_up(from, to, bytes) }
            }
            Action::Commit { node, life } => self.commit(node, life),
            Action::Wake { node, at } => {
                if self.nodes[node].wake == Some(at) {
                    self.nodes[node].wake = None;
                    self.pump(node);
                }
            }
            Action::Open { a, b } => self.open(a, b),
            Action::Originate { events } => self.originate(&events),
            Action::Cut { a, b } => {
                self.seen.fault("links cut");
                self.cut.insert(edge(a, b));
                self.close(a, b);
            }
            Action::Heal { a, b } => {
                self.cut.remove(&edge(a, b));
                self.open(a, b);
            }
            Action::Crash { node } => self.crash(node),
            Action::Doom { node, down } => {
                self.nodes[node].doomed = Some(down).filter(|_| self.nodes[node].up);
            }
            Action::Start { node } => self.start(node),
            Action::StopReading { node } => {
                self.seen.fault("nodes that stopped reading");
                self.odd.insert(node);
                self.nodes[node].reads = false;
            }
            Action::ReadAgain { node } => self.read_again(node),
            Action::Become { node, manner } => self.become_a(node, manner),
            Action::Invent { node, more } => self.invent(node, more),
            Action::Reload { shares } => self.reload(shares),
            Action::Expire => {
                for node in &mut self.nodes {
                    let before = node.keep.first();
                    node.keep.expire(node.wall(self.now));
                    self.seen.faults("entries expired", node.keep.first() - before);
                }
            }
        }
    }

    pub fn become_a(&mut self, node: usize, manner: Manner) {
        self.nodes[node].manner = manner;
        if manner != Manner::Honest {
            self.odd.insert(node);
        }
        if matches!(manner, Manner::Liar | Manner::Flooder) {
            self.mute.insert(node);
        }
        if manner.lies() {
            // It keeps to no rule of its own; those of its peers hold.
            for (_, share) in self.graph.shares.range_mut((node, 0)..(node + 1, 0)) {
                *share = ALL;
            }
            self.ask_reference();
        }
    }

    fn reload(&mut self, shares: Vec<((usize, usize), Share)>) {
        self.seen.fault("policy reloads");
        self.before.push((self.now, self.graph.shares.clone()));
        for &((giver, taker), share) in &shares {
            if self.nodes[giver].manner.lies() || self.graph.shares.insert((giver, taker), share) == Some(share) {
                continue;
            }
            self.reconsider(giver, taker);
        }
        self.ask_reference();
        let mut givers: Vec<usize> = shares.iter().map(|((giver, _), _)| *giver).collect();
        givers.dedup();
        givers.into_iter().for_each(|giver| self.pump(giver));
    }

    fn crash(&mut self, node: usize) {
        if !self.nodes[node].up {
            return;
        }
        for peer in self.graph.peers(node) {
            self.close(node, peer);
        }
        let lost = self.nodes[node].crash();
        self.seen.fault("crashes");
        self.seen.faults("envelopes lost unflushed", lost as u64);
    }

    fn start(&mut self, node: usize) {
        if !std::mem::replace(&mut self.nodes[node].up, true) {
            self.check_started(node);
        }
        self.open_all(node);
    }

    fn open_all(&mut self, node: usize) {
        for peer in self.graph.peers(node) {
            self.open(node, peer);
        }
    }

    fn open(&mut self, a: usize, b: usize) {
        let ready = |node: &Node| node.up && node.reads;
        let open = self.nodes[a].sessions.contains_key(&b);
        if open || self.cut.contains(&edge(a, b)) || !ready(&self.nodes[a]) || !ready(&self.nodes[b]) {
            return;
        }
        *self.epochs.entry(edge(a, b)).or_default() += 1;
        for (me, peer) in [(a, b), (b, a)] {
            self.links += 1;
            self.pipes.insert((me, peer), Pipe::default());
            let peer_key = self.nodes[peer].key;
            let node = &mut self.nodes[me];
            let resume = node.keep.cursor(&peer_key);
            let resume = resume.map_or(From::All, |token| From::Token(ByteBuf::from(token)));
            let (tokens, log) = (node.tokens_of(&peer_key), node.keep.log_id());
            // One of a node's peers is one for its claims, whatever links there were before.
            let mut link = Link::new(peer as LinkId, self.settings, tokens, log, resume, self.now);
            if let Some(rate) = self.graph.rates.get(&(peer, me)) {
                let now = self.now;
                let made = || {
                    let allowance = Allowance::default();
                    allowance.set(rate, now);
                    allowance.into()
                };
                link.pull.keep_to(node.allowances.entry(peer).or_insert_with(made).clone());
            }
            let (in_flight, put_off) = (BTreeMap::new(), BTreeMap::new());
            let session = Session { id: self.links, link, in_flight, put_off, silent: None, invented: 0 };
            node.sessions.insert(peer, session);
        }
        self.pump(a);
        self.pump(b);
    }

    /// Both ends notice at once; what is under way is lost.
    fn close(&mut self, a: usize, b: usize) {
        *self.epochs.entry(edge(a, b)).or_default() += 1;
        for (me, peer) in [(a, b), (b, a)] {
            self.pipes.insert((me, peer), Pipe::default());
            let node = &mut self.nodes[me];
            if node.sessions.remove(&peer).is_some() {
                node.claims.forget(peer as LinkId);
            }
        }
    }

    pub(super) fn violated(&mut self, me: usize, peer: usize, violation: Violation) {
        self.violations.push((self.now, me, peer, violation));
        self.close(me, peer);
        let again = self.now + self.rng.random_range(500..2500);
        self.at(again, Action::Open { a: me, b: peer });
    }

    fn pile_up(&mut self, from: usize, to: usize, bytes: Bytes) {
        let pipe = self.pipes.get_mut(&(from, to)).expect("every edge has its pipes");
        pipe.unread.push_back(bytes);
    }

    fn read_again(&mut self, node: usize) {
        self.nodes[node].reads = true;
        for peer in self.graph.peers(node) {
            while let Some(bytes) = self.pipes.get_mut(&(peer, node)).and_then(|pipe| pipe.unread.pop_front()) {
                self.receive(peer, node, &bytes);
            }
        }
        self.open_all(node);
    }

    /// What was handed over is durable some milliseconds later, in order.
    pub(super) fn queue_commit(&mut self, at: usize, pending: Pending) {
        let takes = self.rng.random_range(1..6);
        let node = &mut self.nodes[at];
        let loses = !pending.slots.is_empty();
        node.pending.push_back(pending);
        node.durable_at = node.durable_at.max(self.now) + takes + node.slow / 4;
        let (time, life) = (node.durable_at, node.life);
        if let Some(down) = node.doomed.take_if(|_| loses) {
            self.at(self.now, Action::Crash { node: at });
            self.at(self.now + down, Action::Start { node: at });
        }
        self.at(time, Action::Commit { node: at, life });
    }

    fn commit(&mut self, at: usize, life: u64) {
        let node = &mut self.nodes[at];
        if node.life != life {
            return;
        }
        let Some(Pending { peer, link, slots, waiting }) = node.pending.pop_front() else { return };
        let before = node.keep.head();
        let verdicts = node.keep.commit(waiting);
        let decided: Vec<_> = slots.iter().map(|(slot, _)| *slot).zip(verdicts.iter().cloned()).collect();
        if let Some(peer) = peer
            && let Some(session) = node.sessions.get_mut(&peer).filter(|session| session.id == link)
        {
            session.link.pull.decided(decided, &node.claims, &mut session.link.out);
        }
        for ((_, event), verdict) in slots.iter().zip(&verdicts) {
            self.seen.verdict(*event, peer, at, verdict);
            (at, event, verdict).hash(&mut self.trace);
        }
        self.look_at_new(at, before);
        self.pump(at);
    }

    /// What has come into a log.
    fn look_at_new(&mut self, at: usize, before: u64) {
        for entry in self.nodes[at].keep.read(before, usize::MAX) {
            let envelope = &entry.envelope;
            let event = self.ids[&(envelope.header().origin.clone(), envelope.header().id)];
            let from = entry.from.as_ref().map(node::number);
            self.seen.arrival(at, event, from, envelope, self.now);
            (self.now, at, event, envelope.hidden(), entry.seq).hash(&mut self.trace);
            if self.events[event].origin == at {
                self.events[event].born = Some(self.now);
            }
            match &self.rules {
                Some(rules) => rules.check_copy(event, at, from, envelope),
                None => assert!(self.may[event][at].is_some(), "node {at} stored event {event}, which is not for it"),
            }
            if self.nodes[at].manner == Manner::Liar {
                self.replay.push(envelope.bytes().clone());
            }
        }
    }

    fn originate(&mut self, events: &[usize]) {
        let origin = self.events[events[0]].origin;
        if !self.nodes[origin].up {
            return;
        }
        let drafts = events.iter().map(|&event| self.draft(event)).collect();
        let sealed = seal(&self.nodes[origin].secret, drafts, &mut self.rng);
        for (&event, sealed) in events.iter().zip(&sealed) {
            self.events[event].id = sealed.header().id;
            self.ids.insert((sealed.header().origin.clone(), sealed.header().id), event);
        }
        let slots = events.iter().map(|event| ((0, 0), Some(*event))).collect();
        let node = &self.nodes[origin];
        let waiting = node.keep.own(sealed, node.wall(self.now));
        self.queue_commit(origin, Pending { peer: None, link: 0, slots, waiting });
    }

    fn draft(&mut self, number: usize) -> Draft {
        let text = match &self.rules {
            Some(_) => rules::text(number),
            None if self.setup.samples => sample::Events::new(1).event(number as u64),
            None => format!(
                r#"{{"source.ip": "192.0.2.{}", "extra.secret": "s{number}", "extra.n": {number}}}"#,
                number % 250
            ),
        };
        self.events[number].payload = text.len();
        let mut message = Message::read(text.as_bytes()).unwrap();
        if self.setup.samples {
            message.fields.retain(|(key, _)| !SECRET.contains(&&**key));
            message.fields.extend(SECRET.map(|key| (key.to_owned(), format!("\"192.0.2.{}\"", number % 250))));
        }
        let stolen = self.events[number].steals.map(|other| self.draft(other).header().id);
        let event = &self.events[number];
        let time = self.nodes[event.origin].wall(self.now);
        let mut header = message.header(&name(event.origin), Uuid::from_u128(number as u128 + 1), time);
        header.tlp = (event.tlp != "none").then(|| event.tlp.parse().unwrap());
        header.to = event.to.iter().map(|&to| name(to)).collect();
        header.content = event.content.then(Vec::new);
        header.id = stolen.unwrap_or(header.id);
        if event.encrypted {
            // Nobody opens it here.
            let keys = vec![None; header.to.len()];
            let mut rng = ChaCha20Rng::seed_from_u64(number as u64);
            let (header, fields) = encrypt(header, &message.fields, &keys, &BOUNDS, &mut rng).unwrap();
            return Draft::new(header, fields, &BOUNDS).unwrap();
        }
        Draft::new(header, message.fields, &BOUNDS).unwrap()
    }
}
