//! The loop around the links, as `net` has it: the log is read, policy asked, the gate asked, and frames are moved.

use std::hash::Hash;

use bytes::{Bytes, BytesMut};
use intelmq_relay::envelope::Envelope;
use intelmq_relay::link::{Answer, Frame, From, Outgoing, Submission, Violation, decode_length};
use intelmq_relay::store::Entry;
use rand::RngExt;

use super::graph::{Share, edge};
use super::node::{Manner, Node, Pending};
use super::world::{Action, World};

/// Entries that are read of the log at once.
const READ: u64 = 50;

impl World {
    pub(super) fn receive(&mut self, from: usize, to: usize, bytes: &[u8]) {
        self.pipes.get_mut(&(from, to)).expect("every edge has its pipes").bytes -= bytes.len();
        let mut buffer = BytesMut::from(bytes);
        let length = decode_length(&mut buffer, self.settings.frame).unwrap().expect("frames are delivered whole");
        assert_eq!(length, buffer.len());
        let frame = Frame::decode(&buffer).unwrap();
        let peer = self.nodes[from].name.clone();
        let Node { keep, sessions, claims, rules, .. } = &mut self.nodes[to];
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
        let (head, first) = (keep.head(), keep.first());
        let position = |from| if from == From::Now { head } else { first - 1 };
        let known = intelmq_relay::accept::Acquaintance::new(&*keep, rules.clone(), &peer);
        let handled = session.link.handle(frame, position, &known, claims, self.now);
        match handled {
            Ok(submission) => self.submit(to, from, submission),
            Err(violation) => return self.violated(to, from, violation),
        }
        self.pump_one(to, from);
    }

    /// Hands over to the gate, which judges now; some milliseconds later it is durable.
    fn submit(&mut self, node: usize, peer: usize, submission: Option<Submission>) {
        let Some(Submission { slots, envelopes, cursor }) = submission else { return };
        let link = self.nodes[node].sessions[&peer].id;
        let event = |bytes: &Bytes| Envelope::named(bytes).and_then(|named| self.ids.get(&named).copied());
        let slots = slots.into_iter().zip(envelopes.iter().map(event)).collect();
        let bringer = self.nodes[peer].as_bringer();
        let Node { keep, rules, verifier, .. } = &mut self.nodes[node];
        let wall = super::node::wall(self.graph.skew[node], self.now);
        let waiting = keep.take(rules, bringer, envelopes, cursor, verifier, wall);
        self.queue_commit(node, Pending { peer: Some(peer), link, slots, waiting });
    }

    /// Everything that a node can do now: read its log for each peer, send, look again; and when it is due next.
    pub(super) fn pump(&mut self, me: usize) {
        let peers: Vec<usize> = self.nodes[me].sessions.keys().copied().collect();
        for peer in peers {
            if let Err(violation) = self.pump_link(me, peer) {
                self.violated(me, peer, violation);
            }
        }
        self.wake(me);
    }

    /// The same for one link: only there has something changed.
    fn pump_one(&mut self, me: usize, peer: usize) {
        if let Err(violation) = self.pump_link(me, peer) {
            self.violated(me, peer, violation);
        }
        self.wake(me);
    }

    fn wake(&mut self, me: usize) {
        let due = self.nodes[me].sessions.values().map(|session| session.link.deadline()).min();
        let node = &mut self.nodes[me];
        if let Some(due) = due.filter(|&due| due != u64::MAX && node.wake.is_none_or(|wake| due < wake)) {
            let at = due.max(self.now);
            node.wake = Some(at);
            self.at(at, Action::Wake { node: me, at });
        }
    }

    fn pump_link(&mut self, me: usize, peer: usize) -> Result<(), Violation> {
        let share = self.graph.shares[&(me, peer)];
        loop {
            let node = &mut self.nodes[me];
            let Some(session) = node.sessions.get_mut(&peer) else { return Ok(()) };
            let head = node.keep.head() + session.invented;
            let after = session.link.push.needs(head, self.now);
            if let Some(after) = after {
                self.read_on(me, peer, share, after, head);
            }
            self.read_again_for(me, peer, share);
            let (name, now) = (self.nodes[peer].name.clone(), self.now);
            let Node { keep, sessions, claims, rules, .. } = &mut self.nodes[me];
            let session = sessions.get_mut(&peer).expect("it was there above");
            let known = intelmq_relay::accept::Acquaintance::new(&*keep, rules.clone(), &name);
            let submission = session.link.tick(&known, claims, &mut self.rng, now)?;
            self.submit(me, peer, submission);
            self.hear(me, peer);
            self.send_all(me, peer);
            if after.is_none() {
                break;
            }
        }
        let due = self.nodes[me].sessions[&peer].link.deadline();
        assert!(due > self.now, "node {me} has nothing left to do for {peer} now, and still wants to be woken at once");
        self.check_link(me, peer);
        Ok(())
    }

    /// Reads the log behind this number, and decides what of it the peer may have.
    fn read_on(&mut self, me: usize, peer: usize, share: Share, after: u64, head: u64) {
        let read = self.nodes[me].keep.read(after, READ as usize);
        let mut entries: Vec<_> = read.iter().map(|entry| (entry.seq, self.decide(me, peer, share, entry))).collect();
        // None: all of it has expired, or was never there.
        let through = read.last().map_or(head, |entry| entry.seq);
        let end = self.nodes[me].keep.head();
        if read.is_empty() && head > end {
            entries = (after.max(end) + 1..=head).map(|seq| (seq, Some(self.invention()))).collect();
        }
        let session = self.nodes[me].sessions.get_mut(&peer).expect("only open links read");
        session.link.push.entries(entries, through);
    }

    /// What the peer had put off, and asks for now.
    fn read_again_for(&mut self, me: usize, peer: usize, share: Share) {
        let asked: Vec<u64> = self.nodes[me].sessions[&peer].link.push.missing().collect();
        if asked.is_empty() {
            return;
        }
        let forms: Vec<_> = asked.into_iter().map(|seq| self.decide_again(me, peer, share, seq)).collect();
        let session = self.nodes[me].sessions.get_mut(&peer).expect("only open links read");
        session.link.push.supply(forms, &mut session.link.out);
    }

    fn decide_again(&mut self, me: usize, peer: usize, share: Share, seq: u64) -> Option<Outgoing> {
        let read = self.nodes[me].keep.read(seq - 1, 1);
        let entry = read.first().filter(|entry| entry.seq == seq)?;
        self.decide(me, peer, share, entry)
    }

    fn decide(&mut self, me: usize, peer: usize, share: Share, entry: &Entry) -> Option<Outgoing> {
        match self.nodes[me].outgoing(entry, &self.nodes[peer], share, self.now) {
            Ok(outgoing) => Some(outgoing),
            Err(reason) => {
                let header = entry.envelope.header();
                let event = self.ids[&(header.origin.clone(), header.id)];
                self.seen.withheld(me, peer, event, &reason);
                None
            }
        }
    }

    /// Policy has changed for this peer: what is not sent yet is decided anew, what was offered and not asked for too.
    pub(super) fn reconsider(&mut self, me: usize, peer: usize) {
        let share = self.graph.shares[&(me, peer)];
        let Some(session) = self.nodes[me].sessions.get_mut(&peer) else { return };
        session.link.push.forget_unsent();
        for (place, seq) in session.link.push.offered() {
            let form = self.decide_again(me, peer, share, seq);
            let session = self.nodes[me].sessions.get_mut(&peer).expect("it was there above");
            session.link.push.reconsider(place, form);
        }
    }

    /// What the peer has said of ours, and what of its was refused when it was offered.
    fn hear(&mut self, me: usize, peer: usize) {
        let session = self.nodes[me].sessions.get_mut(&peer).expect("only open links hear");
        let (told, refused) = (session.link.push.take_told(), session.link.pull.take_refused());
        session.link.push.take_counts();
        session.link.pull.take_counts();
        for (origin, id, verdict) in refused {
            let event = self.ids.get(&(origin, id)).copied();
            self.seen.verdict(event, Some(peer), me, &verdict);
        }
        if self.nodes[me].manner.lies() {
            return;
        }
        for told in told {
            let Some(verdict) = told.verdict else { continue };
            let read = self.nodes[me].keep.read(told.seq - 1, 1);
            if let Some(entry) = read.first().filter(|entry| entry.seq == told.seq) {
                let header = entry.envelope.header();
                let event = self.ids[&(header.origin.clone(), header.id)];
                if verdict.is_new() {
                    let has = self.seen.copies.contains_key(&(peer, event));
                    assert!(has, "node {peer} calls event {event} of {me}'s {verdict}, and it is not durable there");
                } else {
                    self.seen.told(me, peer, event, &verdict);
                }
            }
        }
    }

    fn send_all(&mut self, me: usize, peer: usize) {
        let session = self.nodes[me].sessions.get_mut(&peer).expect("only open links send");
        for frame in std::mem::take(&mut session.link.out) {
            let frame = match self.nodes[me].manner {
                Manner::Honest => frame,
                Manner::Zombie | Manner::Flooder if matches!(frame, Frame::Bodies(_)) => {
                    self.seen.fault("wants not served");
                    continue;
                }
                Manner::Zombie | Manner::Flooder => frame,
                Manner::Liar | Manner::Poisoner(_) => self.lie(me, frame),
            };
            self.check_frame(me, peer, &frame);
            let bytes = Bytes::from(frame.encode());
            self.seen.frame(&frame, bytes.len());
            self.trace_frame(me, peer, &frame, bytes.len());
            let latency = self.graph.latency[&(me, peer)] + self.rng.random_range(0..5) + self.nodes[peer].slow;
            let pipe = self.pipes.get_mut(&(me, peer)).expect("every edge has its pipes");
            pipe.last = pipe.last.max(self.now + latency);
            pipe.bytes += bytes.len();
            let (time, epoch) = (pipe.last, self.epochs[&edge(me, peer)]);
            self.at(time, Action::Deliver { from: me, to: peer, epoch, bytes });
        }
    }

    /// Everything but tokens: in them is the log's id, which a store on disk draws for itself.
    fn trace_frame(&mut self, me: usize, peer: usize, frame: &Frame, length: usize) {
        (self.now, me, peer, length).hash(&mut self.trace);
        match frame {
            Frame::Batch(batch) => {
                for offer in &batch.offers {
                    (offer.0, &offer.1, offer.2, offer.3, offer.4).hash(&mut self.trace);
                }
                batch.whole.hash(&mut self.trace);
            }
            Frame::Bodies(bodies) => bodies.packed.hash(&mut self.trace),
            Frame::Want(_) | Frame::Done(_) => frame.encode().hash(&mut self.trace),
            _ => {}
        }
    }
}
