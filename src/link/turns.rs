//! Whose turn it is: what waits because the peer is over its rate, fair between the origins behind it.
//!
//! Owns an order and nothing else: one event of each origin that waits, then the next of each. So an origin that floods
//! makes a quiet one wait for as many events as there are origins waiting, and not for the flood.

use std::collections::{HashMap, VecDeque};

use crate::envelope::Name;

/// Batch and slot.
pub(super) type Place = (u64, u16);

/// Places in the order of their turns.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// In the order in which they came, by origin. Never an empty one.
    waiting: HashMap<Name, VecDeque<Place>>,
    /// The origins that wait, the next one first.
    ring: VecDeque<Name>,
    len: usize,
}

impl Turns {
    /// Waits behind what waits of this origin.
    pub(super) fn push(&mut self, origin: &Name, place: Place) {
        self.len += 1;
        match self.waiting.get_mut(origin) {
            Some(places) => places.push_back(place),
            None => {
                self.waiting.insert(origin.clone(), [place].into());
                self.ring.push_back(origin.clone());
            }
        }
    }

    /// The next one.
    pub(super) fn next(&self) -> Option<Place> {
        self.waiting.get(self.ring.front()?)?.front().copied()
    }

    /// The next one has had its turn: now it is another origin's. `counts`: it took something; else its origin has the
    /// next turn too.
    pub(super) fn pop(&mut self, counts: bool) {
        let Some(origin) = self.ring.pop_front() else { return };
        let Some(places) = self.waiting.get_mut(&origin) else { return };
        self.len -= usize::from(places.pop_front().is_some());
        match (places.is_empty(), counts) {
            (true, _) => drop(self.waiting.remove(&origin)),
            (false, true) => self.ring.push_back(origin),
            (false, false) => self.ring.push_front(origin),
        }
    }

    /// Forgets what does not wait any more.
    pub(super) fn retain(&mut self, waits: impl Fn(Place) -> bool) {
        self.waiting.retain(|_, places| {
            places.retain(|place| waits(*place));
            !places.is_empty()
        });
        self.ring.retain(|origin| self.waiting.contains_key(origin));
        self.len = self.waiting.values().map(VecDeque::len).sum();
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn name(origin: usize) -> Name {
        format!("n{origin}").parse().unwrap()
    }

    fn take(turns: &mut Turns) -> Option<Place> {
        let next = turns.next();
        turns.pop(true);
        next
    }

    #[test]
    fn a_flood_makes_a_quiet_origin_wait_for_one_event() {
        let mut turns = Turns::default();
        (0..1000).for_each(|no| turns.push(&name(1), (no, 1)));
        turns.push(&name(2), (1000, 2));
        turns.push(&name(2), (1000, 3));
        let order: Vec<_> = (0..5).map_while(|_| take(&mut turns)).collect();
        assert_eq!(order, [(0, 1), (1000, 2), (1, 1), (1000, 3), (2, 1)]);
        assert_eq!(turns.len(), 997);
        // What took nothing does not cost its origin the turn.
        turns.push(&name(2), (1001, 2));
        turns.pop(false);
        assert_eq!(turns.next(), Some((4, 1)));
    }

    #[test]
    fn what_does_not_wait_any_more_is_forgotten() {
        let mut turns = Turns::default();
        (0..6).for_each(|no| turns.push(&name(no % 2), (no as u64, 0)));
        turns.retain(|(no, _)| no % 2 == 1);
        assert_eq!((turns.len(), turns.ring.len(), turns.waiting.len()), (3, 1, 1));
        turns.retain(|_| false);
        assert!(turns.is_empty() && turns.next().is_none() && turns.ring.is_empty());
        turns.pop(true);
    }

    proptest! {
        /// Whatever comes and goes, everything has its turn once, in order within its origin, and between two turns of
        /// one origin no other has two.
        #[test]
        fn nobody_waits_for_more_than_one_turn_of_each(steps in proptest::collection::vec(prop::option::of(0usize..5), 1..200)) {
            let (mut turns, mut pushed, mut taken) = (Turns::default(), 0u64, Vec::new());
            let mut of = Vec::new();
            // For each origin that waits: whose turns there were since its own last, or since it came.
            let mut since: HashMap<usize, BTreeSet<usize>> = HashMap::new();
            for step in steps.into_iter().chain(std::iter::repeat_n(None, 200)) {
                if let Some(origin) = step {
                    turns.push(&name(origin), (pushed, 0));
                    of.push(origin);
                    since.entry(origin).or_default();
                    pushed += 1;
                } else if let Some((no, _)) = take(&mut turns) {
                    let origin = of[no as usize];
                    for (_, others) in since.iter_mut().filter(|(waiting, _)| **waiting != origin) {
                        prop_assert!(others.insert(origin), "n{origin} twice while another waits");
                    }
                    taken.push(no);
                    let more = (0..pushed).any(|no| of[no as usize] == origin && !taken.contains(&no));
                    since.remove(&origin);
                    if more {
                        since.insert(origin, BTreeSet::new());
                    }
                }
            }
            prop_assert_eq!(taken.len(), of.len());
            for origin in 0..5 {
                let own: Vec<_> = taken.iter().filter(|no| of[**no as usize] == origin).collect();
                prop_assert!(own.is_sorted());
            }
        }
    }
}
