//! Who may have what, computed another way than the program does: no envelope, no link, only a table and a fixpoint.

use std::collections::BTreeMap;

use super::graph::{Share, Ways};
use super::world::Event;

/// How full a copy a node may have. `None`: nothing; the ids neither.
pub type Reach = Vec<Option<Copy>>;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Copy {
    Full,
    Redacted,
}

/// How far an origin's clock may be ahead of a taker's, ms.
pub const FUTURE: i64 = 600_000;

/// The best copy that each node gets of `event` when the nodes of `mute` give nothing.
pub fn reach(ways: &Ways, skew: &[i64], event: &Event, mute: &[usize]) -> Reach {
    let mut reach: Reach = vec![None; skew.len()];
    reach[event.origin] = Some(Copy::Full);
    loop {
        let mut changed = false;
        for (&(giver, taker), share) in ways {
            let Some(has) = reach[giver] else { continue };
            let clocks = skew[event.origin] - skew[taker] <= FUTURE;
            if mute.contains(&giver) || !share.give || !clocks || !lets(event, giver, taker) {
                continue;
            }
            let gets = if share.redact { Copy::Redacted } else { has };
            if reach[taker].is_none_or(|has| gets < has) {
                reach[taker] = Some(gets);
                changed = true;
            }
        }
        if !changed {
            return reach;
        }
    }
}

/// What is given over each edge at all of several times; or, with `any`, at one of them at least.
pub fn over_time<'a>(times: impl IntoIterator<Item = &'a Ways>, any: bool) -> Ways {
    let mut all: Ways = BTreeMap::new();
    for (way, share) in times.into_iter().flatten() {
        let both = all.entry(*way).or_insert(*share);
        *both = if any {
            Share { give: both.give || share.give, redact: both.redact && share.redact }
        } else {
            Share { give: both.give && share.give, redact: both.redact || share.redact }
        };
    }
    all
}

/// The table of TLP 2.0 and the recipients.
pub fn lets(event: &Event, giver: usize, taker: usize) -> bool {
    let direct = giver == event.origin;
    let named = event.to.contains(&taker);
    let recipients = event.to.is_empty() || named;
    taker != event.origin
        && recipients
        && match event.tlp {
            "CLEAR" | "GREEN" => true,
            "AMBER" | "none" => direct || named,
            "AMBER+STRICT" => direct,
            "RED" => direct && named,
            other => unreachable!("{other}"),
        }
}
