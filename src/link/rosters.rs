//! The roster along a link: each side says which one it has, and whoever has the newer one sends it, once.
//!
//! Says nothing about whether a roster holds. A side that has none and asks for none says nothing, and gets none.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

use crate::envelope::Name;

/// Which roster a side has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Have {
    /// Its number; 0: it has none, and takes one.
    pub number: u64,
    /// The network's name,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Name>,
    /// and the SHA-256 of what is signed, so that two contents under one number are noticed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<ByteArray<32>>,
}

impl Have {
    /// Whether a side that has this should see the other, which is newer, or of the same number and not the same.
    fn lacks(&self, other: &Have) -> bool {
        let comparable = self.network.is_none() || self.network == other.network;
        let split = self.number == other.number && self.digest != other.digest;
        comparable && other.number > 0 && (self.number < other.number || split)
    }
}

/// What is to be said now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Say {
    /// Which one we have.
    Have(Have),
    /// The roster that we have.
    Roster,
}

/// What both sides know of each other's rosters.
#[derive(Debug, Clone, Default)]
pub struct Rosters {
    said: Option<Have>,
    theirs: Option<Have>,
    /// What was sent is not sent again, whatever they say.
    sent: Option<Have>,
}

impl Rosters {
    /// The other side says which one it has.
    pub(super) fn hear(&mut self, theirs: Have) {
        self.theirs = Some(theirs);
    }

    /// What it sent holds here, or held before: it has what we have.
    pub fn is_level(&mut self, ours: &Have) {
        self.theirs = Some(ours.clone());
    }

    /// What is due, where this is what we have; `None`: rosters are not for us.
    pub fn step(&mut self, ours: Option<&Have>) -> Option<Say> {
        let ours = ours?;
        if self.said.as_ref() != Some(ours) {
            // First of all, so that the other side can tell a split view, whoever sends first.
            self.said = Some(ours.clone());
            return Some(Say::Have(ours.clone()));
        }
        let due = self.sent.as_ref() != Some(ours) && self.theirs.as_ref().is_some_and(|theirs| theirs.lacks(ours));
        due.then(|| {
            self.sent = Some(ours.clone());
            Say::Roster
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn have(number: u64, content: u8) -> Have {
        if number == 0 {
            return Have::default();
        }
        Have { number, network: Some("certs".parse().unwrap()), digest: Some([content; 32].into()) }
    }

    /// Lets both speak until nothing is left to say; how many rosters went each way.
    fn settle(sides: &mut [(Rosters, Have); 2]) -> (u32, u32) {
        let mut sent = [0, 0];
        for turn in 0..20 {
            let [from, to] = [turn % 2, 1 - turn % 2];
            let ours = sides[from].1.clone();
            while let Some(say) = sides[from].0.step(Some(&ours)) {
                let (rosters, theirs) = &mut sides[to];
                match say {
                    Say::Have(have) => rosters.hear(have),
                    Say::Roster => {
                        sent[from] += 1;
                        if theirs.number < ours.number {
                            *theirs = ours.clone();
                            rosters.is_level(theirs);
                        }
                    }
                }
            }
        }
        (sent[0], sent[1])
    }

    fn sides(a: Have, b: Have) -> [(Rosters, Have); 2] {
        [(Rosters::default(), a), (Rosters::default(), b)]
    }

    #[test]
    fn the_newer_one_goes_over_once_and_not_back() {
        let mut pair = sides(have(0, 0), have(8, 1));
        assert_eq!(settle(&mut pair), (0, 1));
        assert_eq!(pair[0].1, have(8, 1));
        pair[0].1 = have(9, 2);
        assert_eq!(settle(&mut pair), (1, 0));
        assert_eq!(settle(&mut pair), (0, 0));
        assert_eq!(settle(&mut sides(have(8, 1), have(8, 1))), (0, 0));
        assert_eq!(settle(&mut sides(have(0, 0), have(0, 0))), (0, 0));
    }

    #[test]
    fn of_a_split_view_both_are_shown_the_other_one() {
        assert_eq!(settle(&mut sides(have(8, 1), have(8, 2))), (1, 1));
    }

    #[test]
    fn another_network_gets_nothing_and_neither_does_who_asks_for_none() {
        let other = Have { network: Some("banks".parse().unwrap()), ..have(9, 1) };
        assert_eq!(settle(&mut sides(have(8, 1), other)), (0, 0));
        let mut rosters = Rosters::default();
        assert_eq!(rosters.step(Some(&have(8, 1))), Some(Say::Have(have(8, 1))));
        assert_eq!(rosters.step(Some(&have(8, 1))), None);
        rosters.hear(have(3, 1));
        assert_eq!(rosters.step(None), None);
    }

    #[test]
    fn whoever_says_again_and_again_that_it_has_none_gets_it_once() {
        let mut rosters = Rosters::default();
        let ours = have(8, 1);
        let sent = (0..100).flat_map(|_| {
            rosters.hear(Have::default());
            std::iter::from_fn(|| rosters.step(Some(&ours))).take(9).collect::<Vec<_>>()
        });
        assert_eq!(sent.collect::<Vec<_>>(), [Say::Have(ours.clone()), Say::Roster]);
    }
}
