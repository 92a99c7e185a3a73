//! A peer that is over its rate is slowed: its offers wait here and are asked for by and by.
//!
//! Owns which of them is asked for next, and when. What waits is not claimed, so another link may bring it meanwhile;
//! nothing is ever dropped. What came whole cannot wait: it is owed. Memory is that of the batches that are open.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Settings;
use super::claims::{Claimed, Claims, LinkId};
use super::frame::{Answer, Offer};
use super::incoming::{Incoming, Slot};
use super::pull::{Known, Standing};
use super::rate::Allowance;
use super::turns::Turns;
use super::verdict::Verdict;
use crate::envelope::SeenKeys;

/// A peer counts as slowed for so long after it last was, ms: it goes on offering, and nobody is told of each pause.
pub(super) const LINGER: u64 = 10_000;

/// Tokens that came within so long are given out together, ms: one frame instead of many.
const PACE: u64 = 20;

/// Each batch in which something waits is looked through about so often, ms, for what another link has brought.
const LOOK: u64 = 1_000;

/// Answers to slots, by batch.
pub(super) type Answers = BTreeMap<u64, Vec<(u16, Answer)>>;

/// What waits on one link, and the allowance of its peer.
pub(super) struct Slowing {
    id: LinkId,
    settings: Settings,
    pub(super) allowance: Arc<Allowance>,
    turns: Turns,
    /// When there are tokens for the next one.
    next: Option<u64>,
    /// Bytes that were asked for and have not come. The limit may be lifted at once; memory is not.
    wanted: usize,
    /// When the peer does not count as slowed any more.
    ends: Option<u64>,
    /// When to look for what is known meanwhile, and from which batch on.
    look: (u64, u64),
    /// When to look whether what is owed is bearable again.
    held: Option<u64>,
}

impl Slowing {
    pub(super) fn new(id: LinkId, settings: Settings) -> Slowing {
        Slowing {
            id,
            settings,
            allowance: Arc::default(),
            turns: Turns::default(),
            next: None,
            wanted: 0,
            ends: None,
            look: (0, 0),
            held: None,
        }
    }

    /// An offer that is new here waits its turn.
    pub(super) fn wait(&mut self, offer: &Offer, no: u64) {
        self.turns.push(&offer.1, (no, offer.0));
    }

    /// Bodies came whole. Whether the peer must be told to offer instead.
    pub(super) fn came(&mut self, events: usize, bytes: usize, now: u64) -> bool {
        self.allowance.charge(events as u64, bytes as u64, now);
        self.note(now)
    }

    /// A body is asked for.
    pub(super) fn want(&mut self, offer: &Offer) {
        self.wanted += offer.3 as usize;
    }

    /// A body that was asked for came, or is not given any more.
    pub(super) fn arrived(&mut self, offer: &Offer, bytes: usize, now: u64) {
        self.wanted -= offer.3 as usize;
        let (said, bytes) = (u64::from(offer.3), bytes as u64);
        match bytes {
            0 => self.allowance.refund(1, said, now),
            _ if bytes > said => self.allowance.charge(0, bytes - said, now),
            _ => self.allowance.refund(0, said - bytes, now),
        }
    }

    /// Time passed, or something came: what may be asked for now, and what is known meanwhile.
    pub(super) fn tick<K: Known>(
        &mut self,
        open: &mut BTreeMap<u64, Incoming>,
        known: &K,
        claims: &Claims,
        now: u64,
    ) -> Answers {
        let mut answers = Answers::new();
        self.look_again(open, known, now, &mut answers);
        self.admit(open, known, claims, now, &mut answers);
        for no in answers.keys() {
            open.get_mut(no).into_iter().for_each(|batch| batch.look(self.settings.answer));
        }
        self.note(now);
        self.ends = self.ends.filter(|ends| now < *ends);
        self.held = self.is_overdrawn(now).then_some(now + LOOK / 10);
        answers
    }

    /// Asks for as many as there are tokens for, one of each origin at a time.
    fn admit<K: Known>(
        &mut self,
        open: &mut BTreeMap<u64, Incoming>,
        known: &K,
        claims: &Claims,
        now: u64,
        answers: &mut Answers,
    ) {
        self.next = None;
        while let Some((no, slot)) = self.turns.next() {
            let place = open.get_mut(&no).and_then(|batch| batch.slots.get_mut(usize::from(slot)));
            let Some((place, (offer, keys))) = place.and_then(|place| waiting(place).map(|waits| (place, waits)))
            else {
                self.turns.pop(false);
                continue;
            };
            let size = u64::from(offer.3);
            let (state, answer) = match known.standing(&keys, &offer) {
                Standing::New if self.wanted > 0 && self.wanted + offer.3 as usize > self.settings.window => return,
                Standing::New => {
                    let ready = self.allowance.ready(size, now);
                    if ready > now {
                        self.next = Some(ready.max(now + PACE));
                        return;
                    }
                    match claims.claim(keys.insert, self.id, now, self.settings.claim) {
                        Claimed::Here => {
                            self.allowance.charge(1, size, now);
                            self.want(&offer);
                            (Slot::Wanted(offer, Some(keys.insert), now), Answer::Want)
                        }
                        Claimed::Elsewhere(until) => (Slot::Later(offer, keys, until), Answer::Later),
                    }
                }
                other => decided(other),
            };
            self.turns.pop(answer == Answer::Want);
            *place = state;
            answers.entry(no).or_default().push((slot, answer));
        }
    }

    /// Looks through one batch for what another link has brought: without tokens, nothing else would find it.
    fn look_again<K: Known>(&mut self, open: &mut BTreeMap<u64, Incoming>, known: &K, now: u64, answers: &mut Answers) {
        let (due, from) = self.look;
        if self.turns.is_empty() || now < due {
            return;
        }
        self.look.0 = now + LOOK;
        let behind = open.range(from..).find(|(_, batch)| batch.slowed);
        let Some(no) = behind.or_else(|| open.iter().find(|(_, batch)| batch.slowed)).map(|(no, _)| *no) else {
            return;
        };
        let batches = open.len() as u64;
        let Some(batch) = open.get_mut(&no) else { return };
        for (slot, place) in (0..).zip(&mut batch.slots) {
            let Slot::Slowed(offer, keys) = place else { continue };
            let standing = known.standing(keys, offer);
            if standing != Standing::New {
                let (state, answer) = decided(standing);
                *place = state;
                answers.entry(no).or_default().push((slot, answer));
            }
        }
        if !answers.is_empty() {
            let slot = |(no, slot): (u64, u16)| open.get(&no)?.slots.get(usize::from(slot));
            self.turns.retain(|place| matches!(slot(place), Some(Slot::Slowed(..))));
        }
        self.look = (now + (LOOK / batches).max(PACE), no + 1);
    }

    /// Whether the peer is over its rate now.
    fn note(&mut self, now: u64) -> bool {
        let over = !self.turns.is_empty() || self.allowance.is_owed(now);
        if over {
            self.ends = Some(now + LINGER);
        }
        over
    }

    /// So much came that nothing more is to be read until some of it is paid off.
    pub(super) fn is_overdrawn(&self, now: u64) -> bool {
        self.allowance.is_overdrawn(self.settings.window, now)
    }

    pub(super) fn is_slowed(&self) -> bool {
        self.ends.is_some()
    }

    /// Events that wait.
    pub(super) fn waiting(&self) -> usize {
        self.turns.len()
    }

    pub(super) fn deadline(&self) -> Option<u64> {
        let look = (!self.turns.is_empty()).then_some(self.look.0);
        [self.next, look, self.ends, self.held].into_iter().flatten().min()
    }
}

fn waiting(place: &Slot) -> Option<(Offer, SeenKeys)> {
    if let Slot::Slowed(offer, keys) = place { Some((offer.clone(), *keys)) } else { None }
}

/// What need not be asked for.
fn decided(standing: Standing) -> (Slot, Answer) {
    match standing {
        Standing::Refuse(verdict) => (Slot::Decided(verdict.clone()), Answer::Refuse(verdict)),
        Standing::Known | Standing::New => (Slot::Decided(Verdict::Duplicate), Answer::Have),
    }
}
