//! What must hold: at every step, and when everything is healed and quiet. These are the invariants of the architecture
//! as far as a network shows them.

use std::borrow::Cow;
use std::collections::HashMap;

use intelmq_relay::accept::Seen;
use intelmq_relay::envelope::{Envelope, Sealed, Verifier};
use intelmq_relay::link::{Batch, Beat, Frame, MAX_BATCHES};

use super::graph::Ways;
use super::lies::bodies;
use super::node::{BOUNDS, Manner, Node, name};
use super::reference::{self, Copy};
use super::rules;
use super::world::World;

impl World {
    /// Bounds that hold at every moment.
    pub(super) fn check_link(&mut self, me: usize, peer: usize) {
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
    pub(super) fn check_frame(&mut self, me: usize, peer: usize, frame: &Frame) {
        if self.nodes[me].manner.lies() {
            return;
        }
        self.check_token(me, peer, frame);
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
            if body.is_empty() {
                // Policy has changed since it was offered.
                continue;
            }
            let envelope = Envelope::decode(body, &BOUNDS).unwrap();
            shown.push((envelope.header().origin.clone(), envelope.header().id, envelope.hidden(), Some(envelope)));
        }
        for (origin, id, hidden, envelope) in shown {
            let event = self.ids[&(origin, id)];
            self.check_shown(me, peer, event, hidden, envelope.as_ref());
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

    /// A token speaks of nothing that was not shown or withheld: who resumes there gets all the rest.
    fn check_token(&self, me: usize, peer: usize, frame: &Frame) {
        let (Frame::Batch(Batch { token, .. }) | Frame::Beat(Beat { token })) = frame else { return };
        let (node, push) = (&self.nodes[me], &self.nodes[me].sessions[&peer].link.push);
        let (_, seq) = node.tokens_of(&self.nodes[peer].key).open(token).expect("its own token");
        assert!(
            seq <= push.place(),
            "{} tells {peer} to resume behind {seq}, and stands at {}",
            node.name,
            push.place()
        );
    }

    fn check_shown(&self, me: usize, peer: usize, event: usize, hidden: u16, envelope: Option<&Envelope>) {
        let what = || format!("event {event}, {hidden} hidden, shown by {me} to {peer} at {}", self.now);
        if let Some(rules) = &self.rules {
            rules.check_shown(event, me, peer, hidden, envelope);
        } else {
            let copy = self.may[event][peer];
            // A clock that is wrong keeps the taker from it, and not the giver from showing it.
            let clocks = self.graph.skew[self.events[event].origin] - self.graph.skew[peer] <= reference::FUTURE;
            assert!(copy.is_some() || !clocks, "{}", what());
            assert!(copy != Some(Copy::Redacted) || hidden > 0, "{} in full", what());
            // By the rules of now, not of when it was stored.
            let share = self.graph.shares[&(me, peer)];
            assert!(share.give && reference::lets(&self.events[event], me, peer), "{}", what());
            assert!(!share.redact || hidden > 0, "{} in full", what());
        }
        assert_ne!(self.events[event].origin, peer, "{}: back to its origin", what());
        // An offer may be of an older copy that came another way; what is sent may not.
        let copies = self.seen.copies.get(&(me, event)).into_iter().flatten();
        let mut from = copies.filter(|(_, mine)| *mine <= hidden).map(|(from, _)| *from == Some(peer)).peekable();
        assert!(from.peek().is_some(), "{}: it is not in its log", what());
        let back = if envelope.is_none() { from.all(|is| is) } else { from.any(|is| is) };
        assert!(!back, "{}: back to where it came from", what());
    }

    /// What a node finds that was killed: no entry without its id, no event twice.
    pub(super) fn check_started(&self, node: usize) {
        let node = &self.nodes[node];
        let mut best = HashMap::new();
        for entry in node.keep.read(node.keep.first() - 1, usize::MAX) {
            let (keys, header) = (entry.envelope.seen_keys(), entry.envelope.header());
            // Chunks of the log expire as a whole, so what came before a quiet time may outlive its id. It is too old then for
            // anybody to take it again.
            let known = node.keep.seen(&keys).is_some_and(|hidden| hidden <= keys.hidden);
            let too_old = header.time + node.rules.age < node.wall(self.now);
            assert!(known || too_old, "{}: an entry without its id", node.name);
            let before = best.insert((header.origin.clone(), header.id), keys.hidden);
            assert!(before.is_none_or(|before| keys.hidden < before), "{}: {} twice", node.name, header.id);
        }
    }

    /// What has been given over the edges since then: always, or with `any`, at some time.
    fn ways_since(&self, born: u64, any: bool) -> Cow<'_, Ways> {
        let before: Vec<&Ways> = self.before.iter().filter(|(until, _)| *until >= born).map(|(_, ways)| ways).collect();
        if before.is_empty() {
            return Cow::Borrowed(&self.graph.shares);
        }
        Cow::Owned(reference::over_time(before.into_iter().chain([&self.graph.shares]), any))
    }

    /// What was given over the edges all the time.
    pub fn ways_at_all_times(&self) -> Cow<'_, Ways> {
        self.ways_since(0, false)
    }

    /// What must hold when everything is healed and quiet.
    pub fn check_settled(&self) {
        self.check_outcome(|_, _| false);
    }

    /// The same, where events are missing at nodes for which it says that they may be.
    pub fn check_outcome(&self, excused: impl Fn(usize, usize) -> bool) {
        let mute: Vec<usize> = self.mute.iter().copied().collect();
        for (number, event) in self.events.iter().enumerate() {
            if let Some(rules) = &self.rules {
                self.check_by_rules(rules, number);
                continue;
            }
            let born = event.born.unwrap_or(self.now);
            let reach = |ways: &Ways, mute: &[usize]| reference::reach(ways, &self.graph.skew, event, mute);
            let must = reach(&self.ways_since(born, false), &mute);
            let may = reach(&self.ways_since(born, true), &[]);
            for node in self.nodes.iter().filter(|node| node.manner == Manner::Honest) {
                let must = must[node.me].filter(|_| event.born.is_some() && !excused(node.me, number));
                self.check_copies(node, number, must, may[node.me]);
                if must.is_none() && !excused(node.me, number) {
                    self.check_reason(node, number);
                }
            }
        }
        self.check_logs();
        self.check_links();
    }

    fn check_by_rules(&self, rules: &rules::Rules, number: usize) {
        let event = &self.events[number];
        for node in self.nodes.iter().filter(|node| node.manner == Manner::Honest) {
            let of_event = |sealed: &Sealed| {
                let header = sealed.header();
                (&header.origin, header.id) == (&name(event.origin), event.id)
            };
            let log = node.keep.read(node.keep.first() - 1, usize::MAX);
            let copies = log.iter().filter(|entry| of_event(&entry.envelope));
            let copies: Vec<u8> = copies.map(|entry| rules::mask(&entry.envelope)).collect();
            rules.check_settled(number, node.me, event.born.is_some(), &copies);
        }
    }

    /// Exactly one copy, or fuller and fuller ones, the last as full as there is a way for.
    fn check_copies(&self, node: &Node, number: usize, must: Option<Copy>, may: Option<Copy>) {
        let copies = self.seen.copies.get(&(node.me, number)).into_iter().flatten();
        let copies: Vec<u16> = copies.map(|(_, hidden)| *hidden).collect();
        let what = || format!("event {number} at {}: copies {copies:?}, must {must:?}, may {may:?}", node.name);
        assert!(copies.windows(2).all(|pair| pair[1] < pair[0]), "{}", what());
        assert!(copies.is_empty() || may.is_some() && self.events[number].born.is_some(), "{}", what());
        match must {
            None => {}
            Some(Copy::Full) => assert_eq!(copies.last(), Some(&0), "{}", what()),
            Some(Copy::Redacted) => assert!(!copies.is_empty(), "{}", what()),
        }
        assert!(copies.is_empty() || may == Some(Copy::Full) || copies == [2], "{}", what());
    }

    /// Of an event that a node has not: each of its peers that has it knows why, or the node does.
    fn check_reason(&self, node: &Node, number: usize) {
        if self.events[number].born.is_none() || self.seen.copies.contains_key(&(node.me, number)) {
            return;
        }
        for giver in self.graph.peers(node.me) {
            let has = self.nodes[giver].manner == Manner::Honest && self.seen.copies.contains_key(&(giver, number));
            let reason = self.seen.reasons.get(&(giver, node.me, number));
            assert!(
                !has || reason.is_some(),
                "nobody can say why event {number} did not go from {giver} to {}",
                node.name
            );
        }
    }

    /// Everything in a log is sealed by whom it names, and by nobody else.
    fn check_logs(&self) {
        for node in self.nodes.iter().take(MOST_LOGS) {
            let verifier = Verifier::new(1024);
            for entry in node.keep.read(node.keep.first() - 1, usize::MAX) {
                let envelope = Envelope::decode(entry.envelope.bytes().clone(), &BOUNDS).unwrap();
                let origin = super::node::number(&envelope.header().origin);
                assert_eq!(envelope.header().key, self.nodes[origin].key, "{}: entry {}", node.name, entry.seq);
                // Whatever its path says of others: it begins with the origin, and ends with who brought it, and the node itself.
                let came: Vec<_> = entry.from.iter().chain([&node.name]).collect();
                let path = envelope.path();
                assert_eq!(path.first(), Some(&envelope.header().origin), "{}: entry {}", node.name, entry.seq);
                let end: Vec<_> = path.iter().skip(path.len().saturating_sub(came.len())).collect();
                assert_eq!(end, came, "{}: entry {}", node.name, entry.seq);
                verifier.open(envelope).unwrap_or_else(|error| panic!("{}: entry {}: {error}", node.name, entry.seq));
            }
            self.check_started(node.me);
        }
    }

    fn check_links(&self) {
        for node in &self.nodes {
            for (&peer, session) in &node.sessions {
                assert_eq!(session.link.push.backlog(), (0, 0), "{} has more for {peer}", node.name);
                let head = (node.keep.log_id(), node.keep.head());
                let cursor = self.nodes[peer].keep.cursor(&node.key);
                let cursor = cursor.and_then(|token| node.tokens_of(&self.nodes[peer].key).open(&token));
                assert_eq!(cursor, Some(head), "{peer}'s place in the log of {}", node.name);
            }
            assert_eq!(node.sessions.len(), self.graph.peers(node.me).len(), "all links of {} stand", node.name);
            assert!(node.claims.is_empty(), "{} still claims {} ids", node.name, node.claims.len());
        }
        // Who lies, or does not read, ends its own links and nobody else's.
        let odd = |a: &usize, b: &usize| self.odd.contains(a) || self.odd.contains(b);
        let others: Vec<_> = self.violations.iter().filter(|(_, a, b, _)| !odd(a, b)).collect();
        assert!(others.is_empty(), "links between honest nodes have ended: {others:?}; odd are {:?}", self.odd);
    }
}

/// Logs whose seals are all verified again: in a large network it would take as long as the run.
const MOST_LOGS: usize = 64;
