//! The giving half of a link: our log to the peer.
//!
//! Owns the place up to which the log was read for this peer, the batches that are unanswered, and the window that
//! bounds them. It is handed what policy permits, and decides in which form it goes.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use rand::CryptoRng;
use serde::Serialize;
use serde_bytes::ByteBuf;
use uuid::Uuid;

use super::frame::{Answer, Batch, Beat, Bodies, Done, Frame, From, Mode, Offer, Want, pack};
use super::recent::Recent;
use super::slow::LINGER;
use super::token::TokenKey;
use super::verdict::{Verdict, by_word};
use super::{MAX_BATCHES, MAX_ENTRIES, Settings, Violation};
use crate::config::Limits;
use crate::envelope::{Name, SeenKey};

/// Bytes of whole envelopes in one batch, and of bodies in one frame. Writes of this size cost the least.
const WHOLE_BYTES: usize = 64 << 10;
const BODIES_BYTES: usize = 256 << 10;

/// Our own event goes whole for so long after it was stored, ms; later it is offered, as is what was stored before the
/// link began: others may have given it meanwhile to a peer that was away.
const FRESH: u64 = 2_000;

/// While the peer slows us and more batches than this are open, the next one waits until it would have so many entries,
/// or for so long, ms.
const FEW: usize = 32;
const GATHERED: u64 = 128;
const GATHER: u64 = 500;

/// An entry that the peer may have, in the form in which it may have it.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// When it was stored, by the link's clock.
    pub at: u64,
    /// We sealed it.
    pub own: bool,
    /// Its key by origin and id, as of an offer of it (`SeenKeys::of_offer(…).insert`), never the content's.
    pub key: SeenKey,
    /// Who sealed it,
    pub origin: Name,
    /// as what.
    pub id: Uuid,
    /// Fields hidden in this form.
    pub hidden: u16,
    /// The envelope.
    pub bytes: Bytes,
}

/// Counters of what was given; verdicts by what the peer answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Given {
    /// Envelopes sent, whole or as bodies, and their bytes.
    pub sent: u64,
    #[allow(missing_docs)]
    pub bytes: u64,
    /// Envelopes offered by id,
    pub offered: u64,
    /// and those of them that the peer put off, because it takes no more of us for now.
    pub slowed: u64,
    /// The peer's verdicts.
    #[serde(serialize_with = "by_word")]
    pub verdicts: BTreeMap<Verdict, u64>,
}

/// Different verdicts that are counted, at most: the rules' names are the peer's to choose.
const MAX_VERDICTS: usize = 64;

impl Given {
    /// Adds what was given since.
    pub fn add(&mut self, since: Given) {
        self.sent += since.sent;
        self.bytes += since.bytes;
        self.offered += since.offered;
        self.slowed += since.slowed;
        since.verdicts.into_iter().for_each(|(verdict, count)| self.count(verdict, count));
    }

    fn count(&mut self, verdict: Verdict, count: u64) {
        if self.verdicts.len() < MAX_VERDICTS || self.verdicts.contains_key(&verdict) {
            *self.verdicts.entry(verdict).or_default() += count;
        }
    }
}

/// What a peer said about an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The entry's number.
    pub seq: u64,
    /// Its verdict; `None`: it had shown us the same before, and nothing was sent.
    pub verdict: Option<Verdict>,
}

struct Open {
    /// What may still be asked for, by slot; `None`: not given any more.
    offered: BTreeMap<u16, Option<Outgoing>>,
    /// The entries' numbers, by slot.
    slots: Vec<u64>,
    /// What of the window it takes.
    bytes: usize,
    /// What the peer put off, with its bytes: it takes nothing of the window.
    slowed: BTreeMap<u16, usize>,
    /// When the peer last said something about it.
    heard: u64,
}

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
    /// Read, and not yet sent; `None` stands for what is withheld.
    ready: VecDeque<(u64, Option<Outgoing>)>,
    head: u64,
    /// The head when the link began.
    old: Option<u64>,
    open: BTreeMap<u64, Open>,
    in_flight: usize,
    /// Bytes of what the peer put off.
    slowed: usize,
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
            head: 0,
            old: None,
            open: BTreeMap::new(),
            in_flight: 0,
            slowed: 0,
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
            _ => position(from),
        };
        self.read = self.sent;
        self.pulling = true;
        self.spoke = now;
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

    /// What is put off does not fill the window, so that a quiet origin's event is shown behind a flood; but it is in
    /// memory, so there is a second window for it.
    fn has_room(&self) -> bool {
        let Settings { window, .. } = self.settings;
        self.in_flight < window && self.slowed < window && self.open.len() < MAX_BATCHES / 2
    }

    /// Whether the log should be read as soon as there is enough of it.
    fn is_behind(&self) -> bool {
        self.pulling && self.ready.is_empty() && self.head > self.read && self.has_room()
    }

    /// When less than a batch is read for the next one: with many open, of a peer that slows us, a trickle must not use them up.
    fn gathered(&self) -> u64 {
        if self.slow.is_some() && self.open.len() >= FEW { self.batched + GATHER } else { 0 }
    }

    /// What was read after [`Push::needs`]: each entry's number, with its form where policy permits it. `through` is
    /// the last number that was read.
    pub fn entries(&mut self, entries: impl IntoIterator<Item = (u64, Option<Outgoing>)>, through: u64) {
        self.ready.extend(entries);
        self.read = self.read.max(through);
        if self.ready.is_empty() {
            self.sent = self.read;
        }
    }

    /// Policy changed: what was read by the old rules and not sent is read again.
    pub fn forget_unsent(&mut self) {
        self.ready.clear();
        self.read = self.sent;
    }

    /// The numbers of the entries that were offered and may still be asked for.
    pub fn offered(&self) -> Vec<u64> {
        let seqs = self.open.values().flat_map(|open| open.offered.keys().map(|slot| open.slots[usize::from(*slot)]));
        seqs.collect()
    }

    /// Policy changed: what was offered and may be asked for goes in this form from now on; `None`: not at all.
    pub fn reconsider(&mut self, seq: u64, form: Option<&Outgoing>) {
        for open in self.open.values_mut() {
            for (slot, outgoing) in &mut open.offered {
                if open.slots[usize::from(*slot)] == seq {
                    *outgoing = form.cloned();
                }
            }
        }
    }

    /// Whether the peer has said where to begin.
    pub fn is_pulling(&self) -> bool {
        self.pulling
    }

    /// Gives everything after this number again, where policy permits; what the peer has costs an offer.
    pub fn rewind(&mut self, seq: u64) {
        if self.pulling && seq < self.sent {
            self.ready.clear();
            (self.read, self.sent) = (seq, seq);
        }
    }

    pub(super) fn note_theirs(&mut self, key: SeenKey, hidden: u16) {
        self.theirs.note(key, hidden);
    }

    /// Sends what may go now: full batches at once, the rest as soon as nothing of it is held back.
    fn flush(&mut self, rng: &mut impl CryptoRng, now: u64, out: &mut Vec<Frame>) {
        while self.has_room() && self.ripe(now) {
            let Some(batch) = self.next_batch(rng, now) else { continue };
            (self.spoke, self.batched) = (now, now);
            out.push(Frame::Batch(batch));
        }
    }

    fn ripe(&self, now: u64) -> bool {
        self.ready.front().is_some_and(|(_, entry)| entry.as_ref().is_none_or(|entry| self.ripe_at(entry) <= now))
    }

    /// Whether everything goes whole.
    fn goes_whole(&self) -> bool {
        self.mode == Mode::Whole && self.slow.is_none()
    }

    /// When an entry may go.
    fn ripe_at(&self, entry: &Outgoing) -> u64 {
        if entry.own || self.goes_whole() { 0 } else { entry.at.saturating_add(self.settings.hold) }
    }

    /// Takes the next batch off `ready`; `None` when all that was taken is withheld.
    fn next_batch(&mut self, rng: &mut impl CryptoRng, now: u64) -> Option<Batch> {
        let mut offered = BTreeMap::new();
        let mut offers = Vec::new();
        let mut whole: Vec<(u16, Bytes)> = Vec::new();
        let mut slots = Vec::new();
        let (mut slot, mut bytes, mut whole_bytes) = (0, 0, 0);
        while (slot as usize) < MAX_ENTRIES && whole_bytes < WHOLE_BYTES && self.ripe(now) {
            let next = self.ready.front().and_then(|(_, entry)| entry.as_ref()).map_or(0, |entry| entry.bytes.len());
            if whole_bytes > 0 && whole_bytes + next > self.room_in_frame() {
                break;
            }
            let Some((seq, entry)) = self.ready.pop_front() else { break };
            self.sent = seq;
            let Some(entry) = entry else { continue };
            if self.theirs.has(&entry.key, entry.hidden) {
                self.told.push(Told { seq, verdict: None });
                continue;
            }
            slots.push(seq);
            bytes += entry.bytes.len();
            let news = self.old.is_some_and(|old| seq > old) && now.saturating_sub(entry.at) <= FRESH;
            if self.goes_whole() || (entry.own && news && self.slow.is_none()) {
                whole_bytes += entry.bytes.len();
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
        let whole = pack(whole.iter().map(|(slot, body)| (*slot, body)));
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
        let most = BODIES_BYTES.min(self.room_in_frame());
        let open = self.open.get_mut(&want.no).ok_or(Violation::Unexpected("a Want for no open batch"))?;
        open.heard = now;
        let mut bodies: Vec<(u16, Bytes)> = Vec::new();
        let mut size = 0;
        for (slot, answer) in want.answers {
            if answer == Answer::Later {
                continue;
            }
            if answer == Answer::Slow {
                self.slow = Some(now + LINGER);
                // Nothing of what went whole is put off.
                if let Some(Some(entry)) = open.offered.get(&slot)
                    && let Entry::Vacant(place) = open.slowed.entry(slot)
                {
                    let size = entry.bytes.len().min(open.bytes);
                    place.insert(size);
                    (open.bytes, self.in_flight) = (open.bytes - size, self.in_flight - size);
                    self.slowed += size;
                    self.given.slowed += 1;
                }
                continue;
            }
            // It comes when the peer will have it: the peer sees to it that this is not too much at once.
            self.slowed -= open.slowed.remove(&slot).unwrap_or(0);
            let entry = open.offered.remove(&slot).ok_or(Violation::Unexpected("an answer to what was not offered"))?;
            if answer != Answer::Want {
                continue;
            }
            // Nothing in its place says that it is not given any more.
            let body = entry.map(|entry| entry.bytes).unwrap_or_default();
            self.given.sent += u64::from(!body.is_empty());
            self.given.bytes += body.len() as u64;
            if !bodies.is_empty() && size + body.len() > most {
                out.push(bodies_frame(want.no, &bodies));
                bodies.clear();
                size = 0;
            }
            size += body.len();
            bodies.push((slot, body));
        }
        if !bodies.is_empty() {
            out.push(bodies_frame(want.no, &bodies));
        }
        Ok(())
    }

    pub(super) fn done(&mut self, done: &Done, now: u64) -> Result<(), Violation> {
        let open = self.open.remove(&done.no).ok_or(Violation::Unexpected("a Done for no open batch"))?;
        if done.verdicts.len() != open.slots.len() {
            return Err(Violation::Unexpected("a Done with another number of verdicts"));
        }
        self.in_flight -= open.bytes;
        self.slowed -= open.slowed.values().sum::<usize>();
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
        if self.pulling && self.open.is_empty() && now.saturating_sub(self.spoke) >= self.settings.beat {
            self.spoke = now;
            out.push(Frame::Beat(Beat { token: self.token(rng) }));
        }
        Ok(())
    }

    pub(super) fn deadline(&self) -> u64 {
        let unanswered = self.open.values().map(|open| open.heard + self.settings.answer).min();
        let ripe = self.ready.front().filter(|_| self.has_room());
        let ripe = ripe.map(|(_, entry)| entry.as_ref().map_or(0, |entry| self.ripe_at(entry)));
        let gathered = (self.is_behind() && self.gathered() > 0).then(|| self.gathered());
        let beat = (self.pulling && self.open.is_empty()).then_some(self.spoke + self.settings.beat);
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
    Frame::Bodies(Bodies { no, packed: pack(bodies.iter().map(|(slot, body)| (*slot, body))) })
}
