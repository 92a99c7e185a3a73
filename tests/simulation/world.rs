//! The network of the simulation: one clock, pipes that keep order, faults, and what must hold at every step.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};

use bytes::{Bytes, BytesMut};
use intelmq_relay::config::Rate;
use intelmq_relay::envelope::{Draft, Envelope, Key, Message, Name, Sealed, encrypt, seal};
use intelmq_relay::link::{
    Allowance, Answer, Bodies, Frame, From, Link, LinkId, MAX_BATCHES, Settings, Submission, Violation, decode_length,
    pack,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use serde_bytes::ByteBuf;
use uuid::Uuid;

use super::node::{Acquaintance, BOUNDS, Manner, Node, Pending, Session, name, secret};
use super::reference::{self, Copy, Reach};
use super::rules::{self, Rules};

/// What the giver of an edge gives.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    pub give: bool,
    pub redact: bool,
}

pub const ALL: Share = Share { give: true, redact: false };

pub struct Graph {
    pub nodes: usize,
    /// Both directions of each edge: (giver, taker).
    pub shares: BTreeMap<(usize, usize), Share>,
    /// One way over each direction, ms.
    pub latency: BTreeMap<(usize, usize), u64>,
    /// What the taker of an edge takes, at most.
    pub rates: BTreeMap<(usize, usize), Rate>,
}

impl Graph {
    pub fn new(nodes: usize) -> Graph {
        Graph { nodes, shares: BTreeMap::new(), latency: BTreeMap::new(), rates: BTreeMap::new() }
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
}

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
}

/// One direction of one edge.
#[derive(Default)]
struct Pipe {
    /// When the last frame arrives: none overtakes it.
    last: u64,
    /// Arrived at a node that does not read.
    unread: VecDeque<Bytes>,
    bytes: usize,
}

pub struct World {
    pub now: u64,
    pub graph: Graph,
    pub nodes: Vec<Node>,
    pub events: Vec<Event>,
    pub settings: Settings,
    keys: HashMap<Name, Key>,
    ids: HashMap<(Name, Uuid), usize>,
    /// Who may have each event, whatever happens.
    may: Vec<Reach>,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    actions: BTreeMap<u64, Action>,
    next: u64,
    pipes: BTreeMap<(usize, usize), Pipe>,
    /// How often an edge was opened or closed.
    epochs: BTreeMap<(usize, usize), u64>,
    cut: BTreeSet<(usize, usize)>,
    rng: ChaCha20Rng,
    /// Envelopes that came in, bad ones and duplicates too, by node and event.
    pub bodies: BTreeMap<(usize, usize), u32>,
    pub violations: Vec<(u64, usize, usize, Violation)>,
    /// When an event was first durable at a node.
    pub arrivals: BTreeMap<(usize, usize), u64>,
    links: LinkId,
    replay: Vec<Bytes>,
    /// What everybody's rules are, where they are more than [`Share`].
    rules: Option<Rules>,
}

fn edge(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

impl World {
    pub fn new(graph: Graph, events: Vec<Event>, settings: Settings, seed: u64) -> World {
        let nodes: Vec<Node> = (0..graph.nodes).map(Node::new).collect();
        let keys = nodes.iter().map(|node| (node.name.clone(), node.secret.key())).collect();
        let may = events.iter().map(|event| reference::reach(&graph, event, &[])).collect();
        let mut world = World {
            now: 0,
            nodes,
            events,
            settings,
            keys,
            ids: HashMap::new(),
            may,
            queue: BinaryHeap::new(),
            actions: BTreeMap::new(),
            next: 0,
            pipes: graph.shares.keys().map(|&way| (way, Pipe::default())).collect(),
            epochs: BTreeMap::new(),
            cut: BTreeSet::new(),
            rng: ChaCha20Rng::seed_from_u64(seed),
            bodies: BTreeMap::new(),
            violations: Vec::new(),
            arrivals: BTreeMap::new(),
            links: 0,
            replay: Vec::new(),
            rules: None,
            graph,
        };
        for (a, b) in world.graph.edges() {
            world.at(0, Action::Open { a, b });
        }
        world
    }

    /// The same world, whose nodes have these rules.
    pub fn with_rules(mut self, rules: Rules) -> World {
        for node in &mut self.nodes {
            node.policy.hops = rules.hops;
            node.terms = rules.terms(node.me, &self.graph);
        }
        self.rules = Some(rules);
        self
    }

    pub fn at(&mut self, time: u64, action: Action) {
        self.queue.push(Reverse((time.max(self.now), self.next)));
        self.actions.insert(self.next, action);
        self.next += 1;
    }

    pub fn run(&mut self, until: u64) {
        while let Some(&Reverse((time, number))) = self.queue.peek().filter(|Reverse((time, _))| *time <= until) {
            self.queue.pop();
            self.now = time;
            let action = self.actions.remove(&number).expect("every number was queued with its action");
            self.act(action);
        }
        self.now = until;
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
                self.cut.insert(edge(a, b));
                self.close(a, b);
            }
            Action::Heal { a, b } => {
                self.cut.remove(&edge(a, b));
                self.open(a, b);
            }
            Action::Crash { node } => self.crash(node),
            Action::Start { node } => {
                self.nodes[node].up = true;
                self.open_all(node);
            }
            Action::StopReading { node } => self.nodes[node].reads = false,
            Action::ReadAgain { node } => self.read_again(node),
            Action::Become { node, manner } => self.become_a(node, manner),
        }
    }

    pub fn become_a(&mut self, node: usize, manner: Manner) {
        self.nodes[node].manner = manner;
        if manner == Manner::Liar {
            // It keeps to no rule of its own; those of its peers hold.
            for (_, share) in self.graph.shares.iter_mut().filter(|((giver, _), _)| *giver == node) {
                *share = ALL;
            }
            self.may = self.events.iter().map(|event| reference::reach(&self.graph, event, &[])).collect();
        }
    }

    fn peers(&self, node: usize) -> Vec<usize> {
        self.graph.shares.keys().filter(|(giver, _)| *giver == node).map(|&(_, taker)| taker).collect()
    }

    fn crash(&mut self, node: usize) {
        for peer in self.peers(node) {
            self.close(node, peer);
        }
        self.nodes[node].crash();
    }

    fn open_all(&mut self, node: usize) {
        for peer in self.peers(node) {
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
            let node = &mut self.nodes[me];
            let resume = node.durable.cursors.get(&peer).cloned();
            let resume = resume.map_or(From::All, |token| From::Token(ByteBuf::from(token)));
            let (key, log) = (node.token_key(), node.durable.log_id);
            let mut link = Link::new(self.links, self.settings, key, log, resume, self.now);
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
            let session = Session { id: self.links, link, in_flight, put_off, silent: None };
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
            if let Some(session) = node.sessions.remove(&peer) {
                node.claims.forget(session.id);
            }
        }
    }

    fn violated(&mut self, me: usize, peer: usize, violation: Violation) {
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
        for peer in self.peers(node) {
            while let Some(bytes) = self.pipes.get_mut(&(peer, node)).and_then(|pipe| pipe.unread.pop_front()) {
                self.receive(peer, node, &bytes);
            }
        }
        self.open_all(node);
    }

    fn receive(&mut self, from: usize, to: usize, bytes: &[u8]) {
        self.pipes.get_mut(&(from, to)).expect("every edge has its pipes").bytes -= bytes.len();
        let mut buffer = BytesMut::from(bytes);
        let length = decode_length(&mut buffer, self.settings.frame).unwrap().expect("frames are delivered whole");
        assert_eq!(length, buffer.len());
        let frame = Frame::decode(&buffer).unwrap();
        self.count_bodies(to, &frame);
        let Node { name, durable, sessions, claims, .. } = &mut self.nodes[to];
        let Some(session) = sessions.get_mut(&from) else { return };
        session.silent = None;
        match &frame {
            Frame::Done(done) => {
                session.in_flight.retain(|(no, _), _| *no != done.no);
                session.put_off.retain(|(no, _), _| *no != done.no);
            }
            Frame::Want(want) => {
                for (slot, answer) in &want.answers {
                    let place = (want.no, *slot);
                    match answer {
                        Answer::Slow => session.put_off.extend(session.in_flight.remove_entry(&place)),
                        Answer::Later => {}
                        _ => drop(session.put_off.remove(&place)),
                    }
                }
            }
            _ => {}
        }
        let head = durable.log.len() as u64;
        let position = |from| if from == From::Now { head } else { 0 };
        let known = Acquaintance { me: name, keys: &self.keys, durable };
        match session.link.handle(frame, position, &known, claims, self.now) {
            Ok(submission) => self.submit(to, from, submission),
            Err(violation) => return self.violated(to, from, violation),
        }
        self.pump(to);
    }

    /// Hands over to the gate; some milliseconds later it is durable.
    fn submit(&mut self, node: usize, peer: usize, submission: Option<Submission>) {
        let Some(submission) = submission else { return };
        let link = self.nodes[node].sessions[&peer].id;
        let mut judged = Vec::new();
        for (slot, bytes) in submission.slots.into_iter().zip(submission.envelopes) {
            judged.push((slot, self.nodes[node].judge(bytes, peer, &self.keys)));
        }
        self.queue_commit(node, Pending { peer: Some(peer), link, judged, cursor: submission.cursor });
    }

    fn queue_commit(&mut self, at: usize, pending: Pending) {
        let node = &mut self.nodes[at];
        node.pending.push_back(pending);
        node.durable_at = node.durable_at.max(self.now) + self.rng.random_range(1..6);
        let (time, life) = (node.durable_at, node.life);
        self.at(time, Action::Commit { node: at, life });
    }

    fn commit(&mut self, at: usize, life: u64) {
        if self.nodes[at].life != life {
            return;
        }
        let before = self.nodes[at].durable.log.len();
        self.nodes[at].commit(self.now);
        let new: Vec<(Option<usize>, Sealed)> =
            self.nodes[at].durable.log[before..].iter().map(|entry| (entry.from, entry.sealed.clone())).collect();
        for (from, sealed) in new {
            let event = self.ids[&(sealed.header().origin.clone(), sealed.header().id)];
            self.arrivals.entry((at, event)).or_insert(self.now);
            if self.events[event].origin == at {
                self.events[event].born = Some(self.now);
            }
            match &self.rules {
                Some(rules) => rules.check_copy(event, at, from, &sealed),
                None => assert!(self.may[event][at].is_some(), "node {at} stored event {event}, which is not for it"),
            }
            if self.nodes[at].manner == Manner::Liar {
                self.replay.push(sealed.bytes().clone());
            }
        }
        self.pump(at);
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
        let judged = sealed.into_iter().map(|sealed| ((0, 0), Ok(sealed))).collect();
        self.queue_commit(origin, Pending { peer: None, link: 0, judged, cursor: None });
    }

    fn draft(&self, number: usize) -> Draft {
        let event = &self.events[number];
        let text = match &self.rules {
            Some(_) => rules::text(number),
            None => format!(
                r#"{{"source.ip": "192.0.2.{}", "extra.secret": "s{number}", "extra.n": {number}}}"#,
                number % 250
            ),
        };
        let message = Message::read(text.as_bytes()).unwrap();
        let mut header = message.header(&name(event.origin), Uuid::from_u128(number as u128 + 1), self.now);
        header.tlp = (event.tlp != "none").then(|| event.tlp.parse().unwrap());
        header.to = event.to.iter().map(|&to| name(to)).collect();
        header.content = event.content.then(Vec::new);
        if let Some(other) = event.steals {
            header.id = self.draft(other).header().id;
        }
        if event.encrypted {
            // Nobody opens it here.
            let keys = vec![None; header.to.len()];
            let mut rng = ChaCha20Rng::seed_from_u64(number as u64);
            let (header, fields) = encrypt(header, &message.fields, &keys, &BOUNDS, &mut rng).unwrap();
            return Draft::new(header, fields, &BOUNDS).unwrap();
        }
        Draft::new(header, message.fields, &BOUNDS).unwrap()
    }

    /// Everything that a node can do now: read its log for each peer, send, look again; and when it is due next.
    fn pump(&mut self, me: usize) {
        let peers: Vec<usize> = self.nodes[me].sessions.keys().copied().collect();
        for peer in peers {
            if let Err(violation) = self.pump_link(me, peer) {
                self.violated(me, peer, violation);
            }
        }
        let due = self.nodes[me].sessions.values().map(|session| session.link.deadline()).min();
        let node = &mut self.nodes[me];
        if let Some(due) = due.filter(|&due| due != u64::MAX && node.wake.is_none_or(|wake| due < wake)) {
            assert!(due > self.now, "node {me} has nothing left to do now, and still wants to be woken at once");
            node.wake = Some(due);
            self.at(due, Action::Wake { node: me, at: due });
        }
    }

    fn pump_link(&mut self, me: usize, peer: usize) -> Result<(), Violation> {
        let share = self.graph.shares[&(me, peer)];
        loop {
            let node = &mut self.nodes[me];
            let head = node.durable.log.len() as u64;
            let Some(session) = node.sessions.get_mut(&peer) else { return Ok(()) };
            let after = session.link.push.needs(head, self.now);
            if let Some(after) = after {
                let through = (after + 50).min(head);
                let entries: Vec<_> = (after..through)
                    .map(|at| (at + 1, self.nodes[me].outgoing(&self.nodes[me].durable.log[at as usize], peer, share)))
                    .collect();
                let session = self.nodes[me].sessions.get_mut(&peer).expect("it was there above");
                session.link.push.entries(entries, through);
            }
            let asked: Vec<u64> = self.nodes[me].sessions[&peer].link.push.missing().collect();
            let node = &self.nodes[me];
            let form = |seq: u64| node.outgoing(&node.durable.log[seq as usize - 1], peer, share);
            let forms: Vec<_> = asked.into_iter().map(form).collect();
            let Node { name, durable, sessions, claims, .. } = &mut self.nodes[me];
            let session = sessions.get_mut(&peer).expect("it was there above");
            session.link.push.supply(forms, &mut session.link.out);
            let known = Acquaintance { me: name, keys: &self.keys, durable };
            let submission = session.link.tick(&known, claims, &mut self.rng, self.now)?;
            self.submit(me, peer, submission);
            self.send_all(me, peer);
            if after.is_none() {
                break;
            }
        }
        self.check_link(me, peer);
        Ok(())
    }

    fn send_all(&mut self, me: usize, peer: usize) {
        let session = self.nodes[me].sessions.get_mut(&peer).expect("only open links send");
        for frame in std::mem::take(&mut session.link.out) {
            let frame = match self.nodes[me].manner {
                Manner::Honest => frame,
                Manner::Zombie if matches!(frame, Frame::Bodies(_)) => continue,
                Manner::Zombie => frame,
                Manner::Liar | Manner::Poisoner(_) => self.lie(me, frame),
            };
            self.check_frame(me, peer, &frame);
            let bytes = Bytes::from(frame.encode());
            let latency = self.graph.latency[&(me, peer)] + self.rng.random_range(0..5);
            let pipe = self.pipes.get_mut(&(me, peer)).expect("every edge has its pipes");
            pipe.last = pipe.last.max(self.now + latency);
            pipe.bytes += bytes.len();
            let (time, epoch) = (pipe.last, self.epochs[&edge(me, peer)]);
            self.at(time, Action::Deliver { from: me, to: peer, epoch, bytes });
        }
    }

    /// Bounds that hold at every moment.
    fn check_link(&mut self, me: usize, peer: usize) {
        let Some(session) = self.nodes[me].sessions.get_mut(&peer) else { return };
        let (open, _) = session.link.push.backlog();
        assert!(open <= MAX_BATCHES && session.link.pull.open() <= MAX_BATCHES, "{open} batches are open");
        if open == 0 {
            session.silent = None;
        } else {
            let since = *session.silent.get_or_insert(self.now);
            assert!(self.now - since <= self.settings.answer, "node {me} waits for {peer} since {since}");
        }
        // A peer that reads nothing holds up one window, and what one batch exceeds it by.
        let bytes = self.pipes[&(me, peer)].bytes;
        assert!(bytes < 2 * self.settings.window + (256 << 10), "{bytes} bytes lie in the pipe {me} -> {peer}");
    }

    /// What leaves must be for whom it goes to.
    fn check_frame(&mut self, me: usize, peer: usize, frame: &Frame) {
        if matches!(self.nodes[me].manner, Manner::Liar | Manner::Poisoner(_)) {
            return;
        }
        let (no, mut shown, mut sizes) = match frame {
            Frame::Batch(batch) => {
                let offers = batch.offers.iter().map(|offer| (offer.1.clone(), offer.2, offer.4, None)).collect();
                let sizes: Vec<_> = batch.offers.iter().map(|offer| (offer.0, offer.3 as usize)).collect();
                (Some(batch.no), offers, sizes)
            }
            Frame::Bodies(_) => (None, Vec::new(), Vec::new()),
            _ => return,
        };
        for (slot, body) in bodies(frame) {
            sizes.push((slot, body.len()));
            let envelope = Envelope::decode(body, &BOUNDS).unwrap();
            shown.push((envelope.header().origin.clone(), envelope.header().id, envelope.hidden(), Some(envelope)));
        }
        for (origin, id, hidden, envelope) in shown {
            let event = self.ids[&(origin.clone(), id)];
            if let Some(rules) = &self.rules {
                rules.check_shown(event, me, peer, hidden, envelope.as_ref());
            } else {
                let copy = self.may[event][peer].unwrap_or_else(|| panic!("event {event} shown to {peer} by {me}"));
                assert!(copy == Copy::Full || hidden > 0, "event {event} shown in full to {peer}");
            }
            assert_ne!(self.events[event].origin, peer, "event {event} back to its origin");
            // An offer may be of an older copy that came another way; what is sent may not.
            let copies = self.nodes[me].durable.copies.get(&(origin, id)).into_iter().flatten();
            let mut from = copies.filter(|(_, mine)| *mine <= hidden).map(|(from, _)| *from == Some(peer));
            let back = if envelope.is_none() { from.all(|is| is) } else { from.any(|is| is) };
            assert!(!back, "event {event} back from {me} to {peer}");
        }
        let session = self.nodes[me].sessions.get_mut(&peer).expect("only open links send");
        if let Some(no) = no {
            let before: usize = session.in_flight.values().sum();
            assert!(before < self.settings.window, "a batch although {before} bytes are unanswered");
            let before = session.put_off.len();
            assert!(before < 64 << 10, "a batch although {before} entries are put off");
            session.in_flight.extend(sizes.into_iter().map(|(slot, size)| ((no, slot), size)));
        }
    }

    fn count_bodies(&mut self, node: usize, frame: &Frame) {
        for (_, body) in bodies(frame) {
            if let Ok(envelope) = Envelope::decode(body, &BOUNDS)
                && let Some(&event) = self.ids.get(&(envelope.header().origin.clone(), envelope.header().id))
            {
                *self.bodies.entry((node, event)).or_default() += 1;
            }
        }
    }

    /// What a liar makes of a frame: other ids offered, bodies changed, forged or replayed.
    fn lie(&mut self, me: usize, frame: Frame) -> Frame {
        let forged: Vec<(u16, Bytes)> =
            bodies(&frame).into_iter().map(|(slot, body)| (slot, self.forge(me, body))).collect();
        let packed = pack(&forged);
        match frame {
            Frame::Batch(mut batch) => {
                let lies = self.nodes[me].manner == Manner::Liar;
                for offer in batch.offers.iter_mut().filter(|_| lies) {
                    if self.rng.random_bool(0.2) {
                        offer.2 = Uuid::from_u128(self.rng.random());
                    }
                    if self.rng.random_bool(0.2) {
                        offer.4 = 0;
                    }
                }
                Frame::Batch(intelmq_relay::link::Batch { whole: packed, ..batch })
            }
            Frame::Bodies(bodies) => Frame::Bodies(Bodies { packed, ..bodies }),
            other => other,
        }
    }

    fn forge(&mut self, me: usize, body: Bytes) -> Bytes {
        if let Manner::Poisoner(victim) = self.nodes[me].manner {
            return self.forge_path(me, &body, &[victim]);
        }
        match self.rng.random_range(0..6) {
            0 => {
                let mut changed = body.to_vec();
                let at = self.rng.random_range(0..changed.len());
                changed[at] ^= 1 << self.rng.random_range(0..8);
                changed.into()
            }
            1 => {
                let others = [0; 3].map(|_| self.rng.random_range(0..self.graph.nodes));
                self.forge_path(me, &body, &others)
            }
            2 if !self.replay.is_empty() => self.replay[self.rng.random_range(0..self.replay.len())].clone(),
            3 => {
                // Another's event under its id, sealed by us; of ours, a second one under the same id.
                let envelope = Envelope::decode(body, &BOUNDS).unwrap();
                let message = Message::read(br#"{"source.ip": "::1", "extra.secret": 0}"#).unwrap();
                let mut header = message.header(&envelope.header().origin, envelope.header().id, self.now);
                (header.tlp, header.to) = (envelope.header().tlp, envelope.header().to.clone());
                let draft = Draft::new(header, message.fields, &BOUNDS).unwrap();
                seal(&secret(me), vec![draft], &mut self.rng).remove(0).with_hop(&name(me)).bytes().clone()
            }
            _ => body,
        }
    }

    /// Names of others put into the path, between its true ends.
    fn forge_path(&self, me: usize, body: &[u8], others: &[usize]) -> Bytes {
        let text = |node| serde_cbor::Value::Text(name(node).as_str().to_owned());
        let serde_cbor::Value::Array(mut parts) = serde_cbor::from_slice(body).unwrap() else { unreachable!() };
        let Some(serde_cbor::Value::Array(path)) = parts.last_mut() else { unreachable!() };
        path.splice(1..1, others.iter().map(|&other| text(other)));
        if path.last() != Some(&text(me)) {
            path.push(text(me));
        }
        serde_cbor::to_vec(&parts).unwrap().into()
    }

    /// What must hold when everything is healed and quiet.
    pub fn check_settled(&self) {
        let liars: Vec<usize> =
            self.nodes.iter().filter(|node| node.manner == Manner::Liar).map(|node| node.me).collect();
        for (number, event) in self.events.iter().enumerate() {
            let must = match event.born {
                Some(_) => reference::reach(&self.graph, event, &liars),
                None => vec![None; self.graph.nodes],
            };
            for (node, must) in self.nodes.iter().zip(must).filter(|(node, _)| node.manner == Manner::Honest) {
                if let Some(rules) = &self.rules {
                    let of_event = |sealed: &Sealed| {
                        let header = sealed.header();
                        (&header.origin, header.id) == (&name(event.origin), event.id)
                    };
                    let copies = node.durable.log.iter().filter(|entry| of_event(&entry.sealed));
                    let copies: Vec<u8> = copies.map(|entry| rules::mask(&entry.sealed)).collect();
                    rules.check_settled(number, node.me, event.born.is_some(), &copies);
                    continue;
                }
                self.check_copies(node, number, must, self.may[number][node.me]);
            }
        }
        for node in &self.nodes {
            for (&peer, session) in &node.sessions {
                assert_eq!(session.link.push.backlog(), (0, 0), "{} has more for {peer}", node.name);
                let head = (node.durable.log_id, node.durable.log.len() as u64);
                let cursor = self.nodes[peer].durable.cursors.get(&node.me);
                let cursor = cursor.and_then(|token| node.token_key().open(token));
                assert_eq!(cursor, Some(head), "{peer}'s place in the log of {}", node.name);
            }
            assert_eq!(node.sessions.len(), self.peers(node.me).len(), "all links of {} stand", node.name);
            assert!(node.claims.is_empty(), "{} still claims {} ids", node.name, node.claims.len());
        }
    }

    /// Exactly one copy, or fuller and fuller ones, the last as full as there is a way for.
    fn check_copies(&self, node: &Node, number: usize, must: Option<Copy>, may: Option<Copy>) {
        let event = &self.events[number];
        let copies: Vec<u16> = node
            .durable
            .log
            .iter()
            .filter(|entry| entry.sealed.header().id == event.id && entry.sealed.header().origin == name(event.origin))
            .map(|entry| entry.sealed.hidden())
            .collect();
        let what = format!("event {number} at {}: copies {copies:?}, must {must:?}, may {may:?}", node.name);
        assert!(copies.windows(2).all(|pair| pair[1] < pair[0]), "{what}");
        assert!(copies.is_empty() || may.is_some() && event.born.is_some(), "{what}");
        match must {
            None => {}
            Some(Copy::Full) => assert_eq!(copies.last(), Some(&0), "{what}"),
            Some(Copy::Redacted) => assert!(!copies.is_empty(), "{what}"),
        }
        assert!(copies.is_empty() || may == Some(Copy::Full) || copies == [2], "{what}");
    }
}

/// The envelopes in a frame, with their slots.
fn bodies(frame: &Frame) -> Vec<(u16, Bytes)> {
    let packed = match frame {
        Frame::Batch(batch) => &batch.whole,
        Frame::Bodies(bodies) => &bodies.packed,
        _ => return Vec::new(),
    };
    if packed.is_empty() {
        return Vec::new();
    }
    let plain = zstd::stream::decode_all(&packed[..]).unwrap();
    let bodies: Vec<(u16, ByteBuf)> = serde_cbor::from_slice(&plain).unwrap();
    bodies.into_iter().map(|(slot, body)| (slot, Bytes::from(body.into_vec()))).collect()
}
