//! The giving half of a link: our log to the peer.
//!
//! Owns the place up to which the log was read for this peer, the batches that are unanswered, and the window that
//! bounds them. It is handed what policy permits, and decides in which form it goes.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use rand::CryptoRng;
use serde_bytes::ByteBuf;
use uuid::Uuid;

use super::frame::{Answer, Batch, Beat, Bodies, Done, Frame, From, Mode, Offer, Want};
use super::given::{Given, Told};
use super::outgoing::{Open, Outgoing};
use super::packing::{ends, pack};
use super::recent::Recent;
use super::slow::LINGER;
use super::token::TokenKey;
use super::{MAX_BATCHES, MAX_ENTRIES, Settings, Violation};
use crate::config::Limits;
use crate::envelope::{Name, SeenKey};

/// Bytes of bodies in one frame.
const BODIES_BYTES: usize = 256 << 10;

/// Bytes of envelopes in one batch, offered ones too.
const BATCH_BYTES: usize = 1 << 20;

/// Our own event goes whole for so long after it was stored, ms; later it is offered, as is what was stored before the
/// link began: others may have given it meanwhile to a peer that was away.
const FRESH: u64 = 2_000;

/// While the peer slows us and more batches than this are open, the next one waits until it would have so many entries,
/// or for so long, ms.
const FEW: usize = 32;
const GATHERED: u64 = 128;
const GATHER: u64 = 500;

/// Entries that the peer may put off before nothing more is shown to it. Of most only what was offered is in memory, about
/// 150 bytes each.
const MAX_SLOWED: usize = 64 << 10;

/// The giving half.
pub struct Push {
    settings: Settings,
    token_key: TokenKey,
    log: Uuid,
    /// The peer said where to begin.
    pulling: bool,
    /// Every entry up to here was read for this peer,
    read: u64,
    /// and up to here sent or withheld.
    sent: u64,
    /// Read, and not yet sent. What is withheld leaves no trace here: what is sent must be the same as if it were not
    /// in the log.
    ready: VecDeque<(u64, Outgoing)>,
    ready_bytes: usize,
    head: u64,
    /// The head when the link began.
    old: Option<u64>,
    open: BTreeMap<u64, Open>,
    in_flight: usize,
    /// Bytes that are held of what the peer put off, and how many entries that is.
    held: usize,
    slowed: usize,
    /// Asked for and not held any more: batch, slot and number of each.
    missing: VecDeque<(u64, u16, u64)>,
    /// When the peer does not count as slowing us any more.
    slow: Option<u64>,
    /// When the last batch went.
    batched: u64,
    next: u64,
    mode: Mode,
    theirs: Recent,
    spoke: u64,
    given: Given,
    told: Vec<Told>,
}

impl Push {
    pub(super) fn new(settings: Settings, token_key: TokenKey, log: Uuid, now: u64) -> Push {
        Push {
            settings,
            token_key,
            log,
            pulling: false,
            read: 0,
            sent: 0,
            ready: VecDeque::new(),
            ready_bytes: 0,
            head: 0,
            old: None,
            open: BTreeMap::new(),
            in_flight: 0,
            held: 0,
            slowed: 0,
            missing: VecDeque::new(),
            slow: None,
            batched: 0,
            next: 1,
            mode: Mode::Offer,
            theirs: Recent::default(),
            spoke: now,
            given: Given::default(),
            told: Vec::new(),
        }
    }

    /// The peer says where to begin; `position` resolves what only the log knows (`All`, `Now`, a time). A token that is
    /// not ours, or of another log, begins at the start: duplicates cost an offer.
    pub(super) fn pull(&mut self, from: From, position: impl FnOnce(From) -> u64, now: u64) -> Result<(), Violation> {
        if self.pulling {
            return Err(Violation::Unexpected("a second Pull"));
        }
        self.sent = match &from {
            From::Token(token) => match self.token_key.open(token) {
                Some((log, seq)) if log == self.log => seq,
                _ => position(From::All),
            },
            _ => position(from.clone()),
        };
        self.read = self.sent;
        self.pulling = true;
        // One that has no place yet is told of its own at once: what comes while it is away is not before the first
        // contact.
        self.spoke = if matches!(from, From::Token(_)) { now } else { now.saturating_sub(self.settings.beat) };
        Ok(())
    }

    /// The number after which the log should be read now; `None`: nothing is needed. `head` is the log's newest.
    pub fn needs(&mut self, head: u64, now: u64) -> Option<u64> {
        self.head = head;
        self.old.get_or_insert(head);
        if head < self.read {
            // The peer's token is of a time that this log has forgotten: it was restored from a backup. Begin anew, or
            // everything up to that number would be kept from the peer; duplicates cost an offer.
            (self.read, self.sent) = (0, 0);
        }
        (self.is_behind() && (head - self.read >= GATHERED || self.gathered() <= now)).then_some(self.read)
    }

    /// The number up to which the log was read for this peer.
    pub fn has_read(&self) -> u64 {
        self.read
    }

    /// Whether a whole batch is ready.
    fn is_full(&self) -> bool {
        self.ready.len() >= MAX_ENTRIES || self.ready_bytes >= BATCH_BYTES
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        let held = self.open.values().flat_map(|open| open.offered.values().flatten());
        held.map(|entry| entry.bytes.len()).sum()
    }

    /// What is put off does not fill the window, so that a quiet origin's event is shown behind a flood.
    fn has_room(&self) -> bool {
        self.in_flight < self.settings.window && self.slowed < MAX_SLOWED && self.open.len() < MAX_BATCHES / 2
    }

    /// Whether the log should be read as soon as there is enough of it.
    fn is_behind(&self) -> bool {
        self.pulling && !self.is_full() && self.head > self.read && self.has_room()
    }

    /// When less than a batch is read for the next one: with many open, of a peer that slows us, a trickle must not use them up.
    fn gathered(&self) -> u64 {
        if self.slow.is_some() && self.open.len() >= FEW { self.batched + GATHER } else { 0 }
    }

    /// What was read after [`Push::needs`]: each entry's number, with its form where policy permits it. `through` is
    /// the last number that was read.
    pub fn entries(&mut self, entries: impl IntoIterator<Item = (u64, Option<Outgoing>)>, through: u64) {
        for (seq, entry) in entries.into_iter().filter_map(|(seq, entry)| Some((seq, entry?))) {
            self.ready_bytes += entry.bytes.len();
            self.ready.push_back((seq, entry));
        }
        self.read = self.read.max(through);
        if self.ready.is_empty() {
            self.sent = self.read;
        }
    }

    /// Policy changed: what was read by the old rules and not sent is read again.
    pub fn forget_unsent(&mut self) {
        self.clear_ready();
        self.read = self.sent;
    }

    fn clear_ready(&mut self) {
        self.ready.clear();
        self.ready_bytes = 0;
    }

    /// What was offered and may still be asked for: batch and slot, and the entry's number. What is not held is not among
    /// it: it is decided anew when it is read again.
    pub fn offered(&self) -> Vec<((u64, u16), u64)> {
        let held = |outgoing: &Option<Outgoing>| outgoing.as_ref().is_none_or(Outgoing::is_held);
        let places = self.open.iter().flat_map(|(&no, open)| {
            let slots = open.offered.iter().filter(move |(_, outgoing)| held(outgoing));
            slots.map(move |(&slot, _)| ((no, slot), open.slots[usize::from(slot)]))
        });
        places.collect()
    }

    /// Policy changed: what was offered there goes in this form from now on; `None`: not at all.
    pub fn reconsider(&mut self, (no, slot): (u64, u16), form: Option<Outgoing>) {
        let offered = self.open.get_mut(&no).and_then(|open| open.offered.get_mut(&slot));
        if let Some(offered) = offered.filter(|offered| offered.as_ref().is_none_or(Outgoing::is_held)) {
            *offered = form;
        }
    }

    /// These events, by origin and id, are not given any more: neither what was read and not sent, nor what was offered.
    /// Returns the numbers of those that would have been.
    pub fn retract(&mut self, gone: impl Fn(&Name, Uuid) -> bool) -> Vec<u64> {
        let is_gone = |entry: &Outgoing| gone(&entry.origin, entry.id);
        let mut retracted: Vec<u64> =
            self.ready.iter().filter(|(_, entry)| is_gone(entry)).map(|(seq, _)| *seq).collect();
        self.ready.retain(|(_, entry)| !is_gone(entry));
        self.ready_bytes = self.ready.iter().map(|(_, entry)| entry.bytes.len()).sum();
        if self.ready.is_empty() {
            self.sent = self.sent.max(self.read);
        }
        for open in self.open.values_mut() {
            // What is not held is decided anew when it is read again.
            let held = |entry: &&mut Option<Outgoing>| entry.as_ref().is_some_and(Outgoing::is_held);
            for (slot, entry) in open.offered.iter_mut().filter(|(_, entry)| held(entry)) {
                if entry.take_if(|entry| is_gone(entry)).is_some() {
                    retracted.push(open.slots[usize::from(*slot)]);
                }
            }
        }
        retracted.sort_unstable();
        retracted
    }

    /// The numbers of entries that the peer asked for and that are to be read again, in the order of its asking.
    pub fn missing(&self) -> impl Iterator<Item = u64> {
        self.missing.iter().map(|(_, _, seq)| *seq)
    }

    /// The first of [`Push::missing`], in the form in which the peer may have them now; `None`: not at all.
    pub fn supply(&mut self, forms: impl IntoIterator<Item = Option<Outgoing>>, out: &mut Vec<Frame>) {
        let mut bodies: BTreeMap<u64, Vec<(u16, Bytes)>> = BTreeMap::new();
        for form in forms {
            let Some((no, slot, _)) = self.missing.pop_front() else { break };
            bodies.entry(no).or_default().push((slot, form.map(|form| form.bytes).unwrap_or_default()));
        }
        bodies.into_iter().for_each(|(no, bodies)| self.send(no, bodies, out));
    }

    /// Nothing in the place of a body says that it is not given any more.
    fn send(&mut self, no: u64, bodies: Vec<(u16, Bytes)>, out: &mut Vec<Frame>) {
        let most = BODIES_BYTES.min(self.room_in_frame());
        let mut part = Vec::new();
        let mut size = 0;
        for (slot, body) in bodies {
            self.given.sent += u64::from(!body.is_empty());
            self.given.bytes += body.len() as u64;
            if !part.is_empty() && size + body.len() > most {
                out.push(bodies_frame(no, &part));
                part.clear();
                size = 0;
            }
            size += body.len();
            part.push((slot, body));
        }
        if !part.is_empty() {
            out.push(bodies_frame(no, &part));
        }
    }

    /// The slots and numbers of the entries that a frame of ours carries.
    pub fn carried(&self, frame: &Frame) -> Vec<(u16, u64)> {
        let Some((no, slots)) = frame.carries() else { return Vec::new() };
        let Some(open) = self.open.get(&no) else { return Vec::new() };
        slots.into_iter().filter_map(|slot| Some((slot, *open.slots.get(usize::from(slot))?))).collect()
    }

    /// Nothing of the peer's is read for now: that it says nothing about open batches is no silence of its own.
    pub fn excuse(&mut self, now: u64) {
        self.open.values_mut().for_each(|open| open.heard = now);
    }

    /// Whether the peer has said where to begin.
    pub fn is_pulling(&self) -> bool {
        self.pulling
    }

    /// The number of the last entry that is sent or withheld.
    pub fn place(&self) -> u64 {
        self.sent
    }

    /// Gives everything after this number again, where policy permits; what the peer has costs an offer.
    pub fn rewind(&mut self, seq: u64) {
        if self.pulling && seq < self.sent {
            self.clear_ready();
            (self.read, self.sent) = (seq, seq);
        }
    }

    pub(super) fn note_theirs(&mut self, key: SeenKey, hidden: u16) {
        self.theirs.note(key, hidden);
    }

    /// Sends what may go now: full batches at once, the rest when the log has no more and nothing of it is held back. A
    /// batch that is not full would tell how much was withheld around it.
    fn flush(&mut self, rng: &mut impl CryptoRng, now: u64, out: &mut Vec<Frame>) {
        while self.has_room() && (self.is_full() || self.read >= self.head) && self.ripe(now) {
            let Some(batch) = self.next_batch(rng, now) else { continue };
            (self.spoke, self.batched) = (now, now);
            out.push(Frame::Batch(batch));
        }
    }

    fn ripe(&self, now: u64) -> bool {
        self.ready.front().is_some_and(|(_, entry)| self.ripe_at(entry) <= now)
    }

    /// Whether everything goes whole.
    fn goes_whole(&self) -> bool {
        self.mode == Mode::Whole && self.slow.is_none()
    }

    /// When an entry may go.
    fn ripe_at(&self, entry: &Outgoing) -> u64 {
        if entry.own || self.goes_whole() { 0 } else { entry.at.saturating_add(self.settings.hold) }
    }

    /// Takes the next batch off `ready`; `None` when the peer has all that was taken.
    fn next_batch(&mut self, rng: &mut impl CryptoRng, now: u64) -> Option<Batch> {
        let mut offered = BTreeMap::new();
        let mut offers = Vec::new();
        let mut whole: Vec<(u16, Bytes)> = Vec::new();
        let mut slots = Vec::new();
        let (mut slot, mut bytes, mut whole_bytes) = (0, 0, 0);
        let mut full = false;
        while !full && (slot as usize) < MAX_ENTRIES && bytes < BATCH_BYTES && self.ripe(now) {
            let next = self.ready.front().map_or(0, |(_, entry)| entry.bytes.len());
            if whole_bytes > 0 && whole_bytes + next > self.room_in_frame() {
                break;
            }
            let Some((seq, entry)) = self.ready.pop_front() else { break };
            self.sent = seq;
            self.ready_bytes -= entry.bytes.len();
            if self.theirs.has(&entry.key, entry.hidden) {
                self.told.push(Told { seq, verdict: None });
                continue;
            }
            slots.push(seq);
            bytes += entry.bytes.len();
            let news = self.old.is_some_and(|old| seq > old) && now.saturating_sub(entry.at) <= FRESH;
            if self.goes_whole() || (entry.own && news && self.slow.is_none()) {
                whole_bytes += entry.bytes.len();
                full = ends(whole_bytes, &entry.key);
                whole.push((slot, entry.bytes));
            } else {
                let size = u32::try_from(entry.bytes.len()).unwrap_or(u32::MAX);
                offers.push(Offer(slot, entry.origin.clone(), entry.id, size, entry.hidden));
                offered.insert(slot, Some(entry));
            }
            slot += 1;
        }
        if self.ready.is_empty() {
            self.sent = self.read;
        }
        if slot == 0 {
            return None;
        }
        let no = self.next;
        self.next += 1;
        self.given.sent += whole.len() as u64;
        self.given.bytes += whole_bytes as u64;
        self.given.offered += offers.len() as u64;
        self.in_flight += bytes;
        self.open.insert(no, Open { offered, slots, bytes, slowed: BTreeMap::new(), heard: now });
        let whole = pack(&whole);
        Some(Batch { no, offers, whole, token: self.token(rng) })
    }

    /// Bytes of envelopes that fit into a frame. A single envelope fits always.
    fn room_in_frame(&self) -> usize {
        self.settings.frame.saturating_sub(Limits::FRAME_OVERHEAD)
    }

    fn token(&self, rng: &mut impl CryptoRng) -> ByteBuf {
        ByteBuf::from(self.token_key.seal(self.log, self.sent, rng))
    }

    pub(super) fn want(&mut self, want: Want, now: u64, out: &mut Vec<Frame>) -> Result<(), Violation> {
        let open = self.open.get_mut(&want.no).ok_or(Violation::Unexpected("a Want for no open batch"))?;
        open.heard = now;
        let mut bodies: Vec<(u16, Bytes)> = Vec::new();
        for (slot, answer) in want.answers {
            if answer == Answer::Later {
                continue;
            }
            if answer == Answer::Slow {
                self.slow = Some(now + LINGER);
                if let Some((size, held)) = open.put_off(slot, self.settings.window - self.held) {
                    self.in_flight -= size;
                    (self.held, self.slowed) = (self.held + held, self.slowed + 1);
                    self.given.slowed += 1;
                }
                continue;
            }
            // It comes when the peer will have it: the peer sees to it that this is not too much at once.
            if let Some(held) = open.slowed.remove(&slot) {
                (self.held, self.slowed) = (self.held - held, self.slowed - 1);
            }
            let entry = open.offered.remove(&slot).ok_or(Violation::Unexpected("an answer to what was not offered"))?;
            if answer != Answer::Want {
                continue;
            }
            if entry.as_ref().is_some_and(|entry| !entry.is_held()) {
                self.missing.push_back((want.no, slot, open.slots[usize::from(slot)]));
                continue;
            }
            bodies.push((slot, entry.map(|entry| entry.bytes).unwrap_or_default()));
        }
        self.send(want.no, bodies, out);
        Ok(())
    }

    pub(super) fn done(&mut self, done: &Done, now: u64) -> Result<(), Violation> {
        let open = self.open.remove(&done.no).ok_or(Violation::Unexpected("a Done for no open batch"))?;
        if done.verdicts.len() != open.slots.len() {
            return Err(Violation::Unexpected("a Done with another number of verdicts"));
        }
        self.in_flight -= open.bytes;
        self.held -= open.slowed.values().sum::<usize>();
        self.slowed -= open.slowed.len();
        if !self.missing.is_empty() {
            // A peer may say that a batch is done before it has all that it asked for.
            self.missing.retain(|(no, ..)| *no != done.no);
        }
        self.mode = done.mode;
        self.spoke = self.spoke.max(now.saturating_sub(self.settings.beat));
        for (seq, verdict) in open.slots.iter().zip(&done.verdicts) {
            let verdict = verdict.clone().bounded();
            self.given.count(verdict.clone(), 1);
            self.told.push(Told { seq: *seq, verdict: Some(verdict) });
        }
        Ok(())
    }

    pub(super) fn tick(&mut self, rng: &mut impl CryptoRng, now: u64, out: &mut Vec<Frame>) -> Result<(), Violation> {
        if self.open.values().any(|open| now.saturating_sub(open.heard) >= self.settings.answer) {
            return Err(Violation::Unanswered("a batch"));
        }
        if self.slowed > 0 {
            self.slow = Some(now + LINGER);
        }
        self.slow = self.slow.filter(|ends| now < *ends);
        self.flush(rng, now, out);
        if self.is_quiet() && now.saturating_sub(self.spoke) >= self.settings.beat {
            self.spoke = now;
            out.push(Frame::Beat(Beat { token: self.token(rng) }));
        }
        Ok(())
    }

    /// Whether the peer has everything that it may have.
    fn is_quiet(&self) -> bool {
        self.pulling && self.open.is_empty() && self.sent >= self.head
    }

    pub(super) fn deadline(&self) -> u64 {
        let unanswered = self.open.values().map(|open| open.heard + self.settings.answer).min();
        let ripe = self.ready.front().filter(|_| self.has_room() && (self.is_full() || self.read >= self.head));
        let ripe = ripe.map(|(_, entry)| self.ripe_at(entry));
        let gathered = (self.is_behind() && self.gathered() > 0).then(|| self.gathered());
        let beat = self.is_quiet().then_some(self.spoke + self.settings.beat);
        [unanswered, ripe, gathered, beat, self.slow].into_iter().flatten().min().unwrap_or(u64::MAX)
    }

    /// Batches that are unanswered, and entries that are not sent yet: 0 and 0 when the peer is up to date.
    pub fn backlog(&self) -> (usize, u64) {
        (self.open.len(), self.head.saturating_sub(self.sent))
    }

    /// Whether the peer puts off what we have for it, or lately did.
    pub fn is_slowed(&self) -> bool {
        self.slow.is_some()
    }

    /// What the peer said since it was last asked for, in order.
    pub fn take_told(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.told)
    }

    /// What was given since it was last asked for.
    pub fn take_counts(&mut self) -> Given {
        std::mem::take(&mut self.given)
    }
}

fn bodies_frame(no: u64, bodies: &[(u16, Bytes)]) -> Frame {
    Frame::Bodies(Bodies { no, packed: pack(bodies) })
}
