//! Retention: what goes, and when.
//!
//! Owns the rules: chunks of the log whose newest entry is too old, or that are beyond the log's size; days of the
//! seen set; with the log, the journal. In steps of bounded size, so that commits go on between them. It must never touch the counters' future:
//! numbers are not used twice, even when the log is emptied.

use super::plan::Ends;
use super::sum::Batch;
use super::{StoreError, keys, log, pieces, seen};
use crate::config;

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expired {
    /// Entries of the log.
    pub entries: u64,
    /// Their bytes, as stored.
    pub log_bytes: u64,
    /// Ids of the seen set.
    pub ids: u64,
    /// Whether more is to be removed now. Always false from [`super::Store::expire`].
    pub(super) more: bool,
}

/// A planned step.
pub(super) struct Step {
    /// What to write; `None`: nothing expires.
    pub(super) batch: Option<Batch>,
    pub(super) expired: Expired,
    /// Ids of days below this one can be forgotten once the step is written.
    pub(super) days_below: Option<u16>,
}

/// Keys that one step removes, about.
const KEYS: usize = 1024;
const DAY: u64 = 24 * 60 * 60 * 1000;
/// Days that ids stay beyond the configured ones. An envelope may be sealed so far ahead of our clock at most
/// (`limits.future_seconds`), and is young enough to be taken for so much longer.
const AHEAD: u64 = 1;

/// Plans the next step. As with [`super::plan`], the ends are ahead of the disk until it is written.
pub(super) fn plan(tree: &sled::Tree, ends: &mut Ends, config: &config::Store, now: u64) -> Result<Step, StoreError> {
    let mut step = Step { batch: None, expired: Expired::default(), days_below: None };
    let mut batch = Batch::default();
    let mut keys = 0;
    let oldest = now.saturating_sub(u64::from(config.log_days) * DAY);
    let state = &mut ends.state;
    while keys < KEYS && state.first < state.next {
        let (head, lying) = log::head(tree, state.first)?;
        // The size rule leaves the chunk that is being filled: a log of nothing would serve nobody.
        let is_open = state.first >= ends.log.first;
        if head.newest >= oldest && (is_open || state.log_bytes <= config.log_bytes) {
            break;
        }
        keys += pieces::remove(&mut batch, &keys::log(state.first), lying.value);
        if let Some(place) = lying.place {
            ends.stock.release(&mut batch.shelf, place);
        }
        state.first += u64::from(head.count);
        state.log_bytes = state.log_bytes.saturating_sub(lying.bytes());
        step.expired.entries += u64::from(head.count);
        step.expired.log_bytes += lying.bytes();
    }
    if ends.log.first < ends.state.first {
        ends.begin_chunk();
    }

    keys += ends.journal.expire(tree, &mut batch.writes, ends.state.first, oldest, KEYS.saturating_sub(keys))?;

    // A bucket goes when its whole day is out: what is remembered is remembered for the full time.
    let day = seen::day(now.saturating_sub((u64::from(config.seen_days) + AHEAD) * DAY));
    let mut days = tree.range(keys::seen_day(0)..keys::seen_day(day));
    while keys < KEYS {
        let Some(entry) = days.next() else {
            step.days_below = Some(day);
            break;
        };
        let (key, _) = entry.map_err(StoreError::read)?;
        batch.remove(key);
        keys += 1;
    }
    ends.forget_days_below(day);

    step.expired.more = step.days_below.is_none();
    if keys > 0 {
        batch.insert(keys::STATE, ends.state.encode());
        step.batch = Some(batch);
    }
    Ok(step)
}
