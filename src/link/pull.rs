//! The taking half of a link: the peer's log to us.
//!
//! Owns the batches that are not decided, what was wanted of them, and the cursor: it moves over the batches that are
//! decided without a gap before them, and is committed together with the envelopes that complete them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_bytes::ByteBuf;
use uuid::Uuid;

use super::claims::{Claimed, Claims, LinkId};
use super::frame::{Answer, Batch, Beat, Bodies, Done, Frame, Mode, Offer, Want};
use super::incoming::{Incoming, Slot};
use super::packing::unpack;
use super::rate::Allowance;
use super::slow::{Answers, Slowing};
use super::verdict::Verdict;
use super::{MAX_BATCHES, MAX_ENTRIES, MAX_TOKEN, Settings, Violation};
use crate::envelope::{Envelope, Name, SeenKeys};

/// How long a cursor that moved without new envelopes waits for some to be committed with, ms: while batches are open,
/// and when none is.
const CURSOR_BUSY: u64 = 1_000;
const CURSOR_IDLE: u64 = 200;

/// Of this many slots in a row,
const MODE_SAMPLE: u32 = 512;
/// so many per cent new: send whole; and fewer than this many: offer again.
const MODE_WHOLE: u32 = 95;
const MODE_OFFER: u32 = 85;

/// How an offered id stands here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Not known: wanted.
    New,
    /// Known, as full or fuller.
    Known,
    /// Would be refused.
    Refuse(Verdict),
}

/// What a link must know of the node: the seen set and the origins.
pub trait Known {
    /// The keys of an offered id; `None`: its origin is nobody we know.
    fn keys(&self, offer: &Offer) -> Option<SeenKeys>;

    /// How the id stands.
    fn standing(&self, keys: &SeenKeys, offer: &Offer) -> Standing;
}

/// Envelopes to be decided and committed, in the order of the submissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// Batch and slot of each.
    pub slots: Vec<(u64, u16)>,
    /// The envelopes, unverified.
    pub envelopes: Vec<Bytes>,
    /// The cursor, when it moves: committed together with the envelopes, and after everything submitted before.
    pub cursor: Option<Vec<u8>>,
}

/// The taking half.
pub struct Pull {
    id: LinkId,
    settings: Settings,
    open: BTreeMap<u64, Incoming>,
    next: u64,
    /// Every batch before this one is submitted, or decided without.
    gapless: u64,
    /// A cursor that moved and is not committed, since when.
    cursor: Option<(Vec<u8>, u64)>,
    mode: Mode,
    /// No other link of this node stands: nobody else could give us the same.
    alone: bool,
    sampled: u32,
    sampled_new: u32,
    /// When the peer's log was last known to end where we stand.
    current: Option<u64>,
    taken: BTreeMap<Verdict, u64>,
    refused: Vec<(Name, Uuid, Verdict)>,
    slow: Slowing,
}

impl Pull {
    pub(super) fn new(id: LinkId, settings: Settings) -> Pull {
        Pull {
            id,
            settings,
            open: BTreeMap::new(),
            next: 1,
            gapless: 1,
            cursor: None,
            mode: Mode::Offer,
            alone: false,
            sampled: 0,
            sampled_new: 0,
            current: None,
            taken: BTreeMap::new(),
            refused: Vec::new(),
            slow: Slowing::new(id, settings),
        }
    }

    /// The peer may bring so much. Without it, it is not limited.
    pub fn keep_to(&mut self, allowance: Arc<Allowance>) {
        self.slow.allowance = allowance;
    }

    pub(super) fn batch<K: Known>(
        &mut self,
        batch: Batch,
        known: &K,
        claims: &Claims,
        now: u64,
        out: &mut Vec<Frame>,
    ) -> Result<Option<Submission>, Violation> {
        if batch.no != self.next {
            return Err(Violation::Unexpected("a batch out of turn"));
        }
        let token = short(batch.token)?;
        let whole = unpack(&batch.whole, self.settings.frame).map_err(|_| Violation::Unexpected("a broken batch"))?;
        if self.open.len() >= MAX_BATCHES {
            return Err(Violation::Unexpected("more batches than may be open"));
        }
        self.next += 1;
        let mut slots = vec![None; batch.offers.len() + whole.len()];
        if slots.is_empty() || slots.len() > MAX_ENTRIES {
            return Err(Violation::Unexpected("a batch of no or too many entries"));
        }
        let mut submission = Submission { slots: Vec::new(), envelopes: Vec::new(), cursor: None };
        for (slot, body) in whole {
            if body.is_empty() {
                // Its policy changed before it was sent.
                place(&mut slots, slot, Slot::Decided(Verdict::Later))?;
                continue;
            }
            place(&mut slots, slot, Slot::Submitted(None))?;
            submission.slots.push((batch.no, slot));
            submission.envelopes.push(body);
        }
        let mut answers = BTreeMap::new();
        let bytes = submission.envelopes.iter().map(Bytes::len).sum();
        if let Some(&(_, slot)) = submission.slots.first()
            && self.slow.came(submission.slots.len(), bytes, now)
        {
            // It is taken; what follows is to be offered.
            answers.insert(slot, Answer::Slow);
        }
        for offer in batch.offers {
            let slot = offer.0;
            let (state, answer) = self.judge(batch.no, offer, known, claims, now);
            place(&mut slots, slot, state)?;
            answers.insert(slot, answer);
        }
        // Every place was filled once: there are as many as slots.
        let slots = slots.into_iter().flatten().collect();
        self.open.insert(batch.no, Incoming::new(slots, token, now, self.settings.answer));
        let mut asked = self.slow.tick(&mut self.open, known, claims, now);
        answers.extend(asked.remove(&batch.no).unwrap_or_default());
        if !answers.is_empty() {
            out.push(Frame::Want(Want { no: batch.no, answers: answers.into_iter().collect() }));
        }
        self.tell(asked, now, out);
        Ok(self.submit(submission, now, out))
    }

    fn tell(&mut self, answers: Answers, now: u64, out: &mut Vec<Frame>) {
        for (no, answers) in answers {
            self.open.get_mut(&no).into_iter().for_each(|batch| batch.told = now);
            out.push(Frame::Want(Want { no, answers }));
        }
    }

    fn judge<K: Known>(&mut self, no: u64, offer: Offer, known: &K, claims: &Claims, now: u64) -> (Slot, Answer) {
        if offer.3 as usize > self.settings.envelope {
            return self.refuse(&offer, Verdict::TooBig);
        }
        let Some(keys) = known.keys(&offer) else {
            return self.refuse(&offer, Verdict::UnknownOrigin);
        };
        self.judge_known(no, offer, keys, known, claims, now)
    }

    fn refuse(&mut self, offer: &Offer, verdict: Verdict) -> (Slot, Answer) {
        // Asked for between two batches; a batch has no more.
        if self.refused.len() < MAX_ENTRIES {
            self.refused.push((offer.1.clone(), offer.2, verdict.clone()));
        }
        (Slot::Decided(verdict.clone()), Answer::Refuse(verdict))
    }

    fn judge_known<K: Known>(
        &mut self,
        no: u64,
        offer: Offer,
        keys: SeenKeys,
        known: &K,
        claims: &Claims,
        now: u64,
    ) -> (Slot, Answer) {
        match known.standing(&keys, &offer) {
            Standing::Known => (Slot::Decided(Verdict::Duplicate), Answer::Have),
            Standing::Refuse(verdict) => (Slot::Decided(verdict.clone()), Answer::Refuse(verdict)),
            Standing::New if self.slow.allowance.is_limited() => {
                // Its turn may come at once: of all that is there, not of what came first.
                self.slow.wait(&offer, no);
                (Slot::Slowed(offer, keys), Answer::Slow)
            }
            Standing::New => match claims.claim(keys.insert, self.id, now, self.settings.claim) {
                Claimed::Here => {
                    self.slow.want(&offer);
                    (Slot::Wanted(offer, Some(keys.insert), now), Answer::Want)
                }
                Claimed::Elsewhere(until) => (Slot::Later(offer, keys, until), Answer::Later),
            },
        }
    }

    pub(super) fn bodies(
        &mut self,
        bodies: Bodies,
        claims: &Claims,
        now: u64,
        out: &mut Vec<Frame>,
    ) -> Result<Option<Submission>, Violation> {
        let list = unpack(&bodies.packed, self.settings.frame).map_err(|_| Violation::Unexpected("broken bodies"))?;
        let batch = self.open.get_mut(&bodies.no).ok_or(Violation::Unexpected("bodies of no open batch"))?;
        let mut submission = Submission { slots: Vec::new(), envelopes: Vec::new(), cursor: None };
        for (slot, body) in list {
            let place = batch.slots.get_mut(slot as usize);
            let Some(Slot::Wanted(offer, key, _)) = place.as_deref() else {
                return Err(Violation::Unexpected("a body that was not asked for"));
            };
            let other = Envelope::named(&body).is_some_and(|(origin, id)| (&origin, id) != (&offer.1, offer.2));
            self.slow.arrived(offer, body.len(), now);
            let key = *key;
            // Nothing: its policy changed meanwhile, which is no fault of the link's. But whoever offers an id and serves
            // anything else that is valid would hold the claim again and again.
            let decided = match (body.is_empty(), other) {
                (true, _) => Some((Verdict::Later, true)),
                (false, true) => Some((Verdict::Malformed, false)),
                (false, false) => None,
            };
            // Checked by the pattern above.
            if let Some(place) = place {
                *place = decided.clone().map_or(Slot::Submitted(key), |(verdict, _)| Slot::Decided(verdict));
            }
            if let Some((_, honest)) = decided {
                key.iter().for_each(|key| claims.release(key, self.id, honest));
                continue;
            }
            submission.slots.push((bodies.no, slot));
            submission.envelopes.push(body);
        }
        batch.look(self.settings.answer);
        Ok(self.submit(submission, now, out))
    }

    /// Moves the cursor as far as it goes, and attaches it to what is submitted now. Submissions are committed in
    /// order, so "submitted before" is enough.
    fn submit(&mut self, mut submission: Submission, now: u64, out: &mut Vec<Frame>) -> Option<Submission> {
        while let Some(batch) = self.open.get(&self.gapless).filter(|batch| batch.is_submitted()) {
            let since = self.cursor.take().map_or(now, |(_, since)| since);
            self.cursor = Some((batch.token.clone(), since));
            self.gapless += 1;
        }
        self.finish(out);
        if submission.envelopes.is_empty() {
            return None;
        }
        submission.cursor = self.cursor.take().map(|(token, _)| token);
        Some(submission)
    }

    /// What was submitted is durably decided.
    pub fn decided(
        &mut self,
        decided: impl IntoIterator<Item = ((u64, u16), Verdict)>,
        claims: &Claims,
        out: &mut Vec<Frame>,
    ) {
        for ((no, slot), verdict) in decided {
            // Gone when the peer's next batches made no sense and the link is about to end.
            let Some(place) = self.open.get_mut(&no).and_then(|batch| batch.slots.get_mut(slot as usize)) else {
                continue;
            };
            if let Slot::Submitted(Some(key)) = place {
                let honest = !matches!(verdict, Verdict::BadSignature | Verdict::Malformed | Verdict::TooBig);
                claims.release(key, self.id, honest);
            }
            *place = Slot::Decided(verdict);
        }
        self.finish(out);
    }

    /// Says `Done` for every batch that is decided and behind the gapless place.
    fn finish(&mut self, out: &mut Vec<Frame>) {
        let ready: Vec<(u64, Vec<Verdict>)> =
            self.open.range(..self.gapless).filter_map(|(&no, batch)| Some((no, batch.verdicts()?))).collect();
        for (no, verdicts) in ready {
            self.open.remove(&no);
            for verdict in &verdicts {
                *self.taken.entry(verdict.clone()).or_default() += 1;
                // What was known when it was offered counts too: of what is wanted, nearly all is new on every link.
                self.sampled += 1;
                self.sampled_new += u32::from(verdict.is_new());
            }
            self.choose_mode();
            out.push(Frame::Done(Done { no, verdicts, mode: self.mode }));
        }
    }

    fn choose_mode(&mut self) {
        if self.sampled >= MODE_SAMPLE {
            let new = 100 * self.sampled_new / self.sampled;
            self.mode = match self.mode {
                Mode::Offer if new > MODE_WHOLE && self.alone => Mode::Whole,
                Mode::Whole if new < MODE_OFFER || !self.alone => Mode::Offer,
                same => same,
            };
            (self.sampled, self.sampled_new) = (0, 0);
        }
    }

    pub(super) fn beat(&mut self, beat: Beat, now: u64) -> Result<(), Violation> {
        let token = short(beat.token)?;
        if self.open.is_empty() {
            self.current = Some(now);
            self.cursor.get_or_insert((Vec::new(), now)).0 = token;
        }
        Ok(())
    }

    pub(super) fn tick<K: Known>(
        &mut self,
        known: &K,
        claims: &Claims,
        now: u64,
        out: &mut Vec<Frame>,
    ) -> Result<Option<Submission>, Violation> {
        self.alone = claims.attend(self.id);
        self.look_again(known, claims, now, out)?;
        let answers = self.slow.tick(&mut self.open, known, claims, now);
        self.tell(answers, now, out);
        for (&no, batch) in &mut self.open {
            if now.saturating_sub(batch.told) >= self.settings.answer / 3 {
                batch.told = now;
                out.push(Frame::Want(Want { no, answers: Vec::new() }));
            }
        }
        let none = Submission { slots: Vec::new(), envelopes: Vec::new(), cursor: None };
        self.submit(none, now, out);
        if self.cursor_due().is_some_and(|due| due <= now) {
            let cursor = self.cursor.take().map(|(token, _)| token);
            return Ok(Some(Submission { slots: Vec::new(), envelopes: Vec::new(), cursor }));
        }
        Ok(None)
    }

    /// What another link had claimed may be here by now, or be nobody's.
    fn look_again<K: Known>(
        &mut self,
        known: &K,
        claims: &Claims,
        now: u64,
        out: &mut Vec<Frame>,
    ) -> Result<(), Violation> {
        let mut open = std::mem::take(&mut self.open);
        let mut silent = false;
        for (&no, batch) in open.iter_mut().filter(|(_, batch)| batch.later || batch.due <= now) {
            let mut answers = Vec::new();
            for place in &mut batch.slots {
                match place {
                    Slot::Wanted(_, _, since) => silent |= now.saturating_sub(*since) >= self.settings.answer,
                    Slot::Later(offer, keys, until) => {
                        let slot = offer.0;
                        let limited = self.slow.allowance.is_limited();
                        if limited && now < *until && known.standing(keys, offer) == Standing::New {
                            // It would change between `Later` and `Slow` with each look.
                            continue;
                        }
                        let (state, answer) = self.judge_known(no, offer.clone(), *keys, known, claims, now);
                        *place = state;
                        if answer != Answer::Later {
                            answers.push((slot, answer));
                        }
                    }
                    Slot::Slowed(..) | Slot::Submitted(_) | Slot::Decided(_) => {}
                }
            }
            batch.look(self.settings.answer);
            if !answers.is_empty() {
                batch.told = now;
                out.push(Frame::Want(Want { no, answers }));
            }
        }
        self.open = open;
        if silent { Err(Violation::Unanswered("what we wanted")) } else { Ok(()) }
    }

    fn cursor_due(&self) -> Option<u64> {
        let wait = if self.open.is_empty() { CURSOR_IDLE } else { CURSOR_BUSY };
        self.cursor.as_ref().map(|(_, since)| since + wait)
    }

    /// Whether everything that the peer showed us is decided, and the cursor handed over to be committed.
    pub fn is_settled(&self) -> bool {
        self.open.is_empty() && self.cursor.is_none()
    }

    /// Whether something waits for another link's claim: then decisions elsewhere matter here.
    pub fn waits(&self) -> bool {
        self.open.values().any(|batch| batch.later)
    }

    pub(super) fn deadline(&self) -> u64 {
        let answer = self.settings.answer;
        let batches = self.open.values().map(|batch| batch.due.min(batch.told + answer / 3));
        batches.chain(self.cursor_due()).chain(self.slow.deadline()).min().unwrap_or(u64::MAX)
    }

    /// Whether the peer is, or lately was, over its rate; and how many of its events wait for that.
    pub fn slowed(&self) -> (bool, usize) {
        (self.slow.is_slowed(), self.slow.waiting())
    }

    /// The peer sends whole what it was told to offer: nothing more is to be read of it for now.
    pub fn is_overdrawn(&self, now: u64) -> bool {
        self.slow.is_overdrawn(now)
    }

    /// When the peer last said that we have all it may give us; `None`: not yet, or there is more.
    pub fn current(&self) -> Option<u64> {
        self.current.filter(|_| self.open.is_empty())
    }

    /// Our verdicts on what the peer showed us, since they were last asked for.
    pub fn take_counts(&mut self) -> BTreeMap<Verdict, u64> {
        std::mem::take(&mut self.taken)
    }

    /// What was refused when it was offered, since it was last asked for: origin, id and verdict.
    pub fn take_refused(&mut self) -> Vec<(Name, Uuid, Verdict)> {
        std::mem::take(&mut self.refused)
    }

    /// Batches that are not decided.
    pub fn open(&self) -> usize {
        self.open.len()
    }
}

/// What was asked for and will not come on this link is not counted against the peer.
impl Drop for Pull {
    fn drop(&mut self) {
        for slot in self.open.values().flat_map(|batch| &batch.slots) {
            if let Slot::Wanted(offer, ..) = slot {
                self.slow.allowance.refund(1, offer.3.into(), 0);
            }
        }
    }
}

fn short(token: ByteBuf) -> Result<Vec<u8>, Violation> {
    if token.len() > MAX_TOKEN {
        return Err(Violation::Unexpected("a token of more than 1 KiB"));
    }
    Ok(token.into_vec())
}

fn place(slots: &mut [Option<Slot>], slot: u16, state: Slot) -> Result<(), Violation> {
    match slots.get_mut(slot as usize) {
        Some(place @ None) => {
            *place = Some(state);
            Ok(())
        }
        _ => Err(Violation::Unexpected("a batch whose slots do not count from 0")),
    }
}
