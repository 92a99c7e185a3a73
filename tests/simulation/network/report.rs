//! What is seen of a network from outside: what came where and how, what was refused and withheld, what it cost.

use std::collections::{BTreeMap, HashMap};

use intelmq_relay::envelope::Envelope;
use intelmq_relay::link::{Frame, Verdict};
use intelmq_relay::policy::Reason;

use super::lies::bodies;
use super::world::Event;

/// A copy that a node has taken: from whom, and how many of its fields are hidden.
pub type Copy = (Option<usize>, u16);

#[derive(Default)]
pub struct Seen {
    /// When an event was first durable at a node, and how many nodes it had passed.
    pub arrivals: BTreeMap<(usize, usize), (u64, usize)>,
    /// The copies that a node has taken of an event, in order, whether it still has them or not.
    pub copies: HashMap<(usize, usize), Vec<Copy>>,
    /// Why an event was not given, by giver, taker and event; or why it was not taken.
    pub reasons: HashMap<(usize, usize, usize), String>,
    /// Verdicts of all gates, in their word.
    pub verdicts: BTreeMap<String, u64>,
    /// What went wrong, and how often.
    pub faults: BTreeMap<&'static str, u64>,
    /// Envelopes that were sent, bad ones and duplicates too.
    pub bodies: u64,
    pub frames: u64,
    pub bytes: u64,
    /// Of them what is said while there is nothing to say.
    pub idle_bytes: u64,
}

impl Seen {
    pub fn fault(&mut self, what: &'static str) {
        self.faults(what, 1);
    }

    pub fn faults(&mut self, what: &'static str, count: u64) {
        if count > 0 {
            *self.faults.entry(what).or_default() += count;
        }
    }

    pub(super) fn arrival(&mut self, at: usize, event: usize, from: Option<usize>, envelope: &Envelope, now: u64) {
        self.arrivals.entry((at, event)).or_insert_with(|| (now, envelope.path().len() - 1));
        self.copies.entry((at, event)).or_default().push((from, envelope.hidden()));
    }

    /// A gate has decided, or a link on what was offered.
    pub(super) fn verdict(&mut self, event: Option<usize>, from: Option<usize>, at: usize, verdict: &Verdict) {
        *self.verdicts.entry(verdict.word().into()).or_default() += 1;
        if let (Some(event), Some(from), false) = (event, from, verdict.is_new()) {
            self.told(from, at, event, verdict);
        }
    }

    pub(super) fn told(&mut self, giver: usize, taker: usize, event: usize, verdict: &Verdict) {
        if !matches!(verdict, Verdict::Duplicate | Verdict::Loop | Verdict::Later) {
            self.reasons.insert((giver, taker, event), verdict.to_string());
        }
    }

    pub(super) fn withheld(&mut self, giver: usize, taker: usize, event: usize, reason: &Reason) {
        if !matches!(reason, Reason::CameFrom | Reason::ItsOrigin) {
            self.reasons.insert((giver, taker, event), reason.to_string());
        }
    }

    pub(super) fn frame(&mut self, frame: &Frame, bytes: usize) {
        self.frames += 1;
        self.bytes += bytes as u64;
        match frame {
            Frame::Beat(_) | Frame::Pull(_) => self.idle_bytes += bytes as u64,
            Frame::Batch(batch) if batch.whole.is_empty() => {}
            Frame::Batch(_) | Frame::Bodies(_) => self.bodies += bodies(frame).len() as u64,
            _ => {}
        }
    }
}

/// The numbers of one or of many runs.
#[derive(Default, Clone)]
pub struct Numbers {
    pub runs: u64,
    pub events: u64,
    /// Arrivals at other nodes than the origin: what had to be moved.
    pub moved: u64,
    pub bodies: u64,
    pub frames: u64,
    pub bytes: u64,
    pub idle_bytes: u64,
    pub payload: u64,
    /// Of what was moved: bytes of the texts.
    pub payload_moved: u64,
    pub hops: BTreeMap<u64, u64>,
    pub latency: BTreeMap<u64, u64>,
    pub faults: BTreeMap<&'static str, u64>,
    pub verdicts: BTreeMap<String, u64>,
}

impl Numbers {
    pub fn of(seen: &Seen, events: &[Event]) -> Numbers {
        let born = |event: &&Event| event.born.is_some();
        let mut numbers = Numbers {
            runs: 1,
            events: events.iter().filter(born).count() as u64,
            bodies: seen.bodies,
            frames: seen.frames,
            bytes: seen.bytes,
            idle_bytes: seen.idle_bytes,
            payload: events.iter().filter(born).map(|event| event.payload as u64).sum(),
            faults: seen.faults.clone(),
            verdicts: seen.verdicts.clone(),
            ..Numbers::default()
        };
        for (&(node, number), &(at, hops)) in &seen.arrivals {
            let event = &events[number];
            let Some(born) = event.born.filter(|_| event.origin != node) else { continue };
            numbers.moved += 1;
            numbers.payload_moved += event.payload as u64;
            *numbers.hops.entry(hops as u64).or_default() += 1;
            *numbers.latency.entry(at.saturating_sub(born)).or_default() += 1;
        }
        numbers
    }

    pub fn add(&mut self, other: &Numbers) {
        self.runs += other.runs;
        self.events += other.events;
        self.moved += other.moved;
        self.bodies += other.bodies;
        self.frames += other.frames;
        self.bytes += other.bytes;
        self.idle_bytes += other.idle_bytes;
        self.payload += other.payload;
        self.payload_moved += other.payload_moved;
        for (sum, counts) in [(&mut self.hops, &other.hops), (&mut self.latency, &other.latency)] {
            counts.iter().for_each(|(value, count)| *sum.entry(*value).or_default() += count);
        }
        other.faults.iter().for_each(|(what, count)| *self.faults.entry(what).or_default() += count);
        other.verdicts.iter().for_each(|(word, count)| *self.verdicts.entry(word.clone()).or_default() += count);
    }

    /// Bodies sent for each event that a node came to have.
    pub fn copies(&self) -> f64 {
        self.bodies as f64 / self.moved.max(1) as f64
    }

    /// Bytes on the wire for each event that a node came to have, without what is said when there is nothing to say.
    pub fn bytes_moved(&self) -> f64 {
        (self.bytes - self.idle_bytes) as f64 / self.moved.max(1) as f64
    }

    /// Bytes of the text of an event that was moved.
    pub fn payload_mean(&self) -> f64 {
        self.payload_moved as f64 / self.moved.max(1) as f64
    }
}

/// The value that so many of a thousand do not exceed.
pub fn percentile(counts: &BTreeMap<u64, u64>, of_thousand: u64) -> u64 {
    let all: u64 = counts.values().sum();
    let rank = (all * of_thousand).div_ceil(1000).max(1);
    let mut below = 0;
    for (value, count) in counts {
        below += count;
        if below >= rank {
            return *value;
        }
    }
    0
}
