//! The ids that a peer showed us lately: what it has need not be offered to it.

use std::collections::HashMap;

use crate::envelope::SeenKey;

/// Ids of one generation; two are kept.
const GENERATION: usize = 32 * 1024;

/// A bounded memory of ids with the fewest fields hidden in a copy of theirs. Forgetting costs an offer.
#[derive(Default)]
pub(super) struct Recent {
    new: HashMap<SeenKey, u16>,
    old: HashMap<SeenKey, u16>,
}

impl Recent {
    pub(super) fn note(&mut self, key: SeenKey, hidden: u16) {
        if self.new.len() >= GENERATION {
            self.old = std::mem::take(&mut self.new);
        }
        let best = self.new.entry(key).or_insert(hidden);
        *best = hidden.min(*best);
    }

    /// Whether they have a copy with at most `hidden` fields hidden.
    pub(super) fn has(&self, key: &SeenKey, hidden: u16) -> bool {
        [&self.new, &self.old].iter().any(|ids| ids.get(key).is_some_and(|&theirs| theirs <= hidden))
    }
}
