//! Who may have what, computed another way than the program does: no envelope, no link, only a table and a fixpoint.

use super::world::{Event, Graph};

/// How full a copy a node may have. `None`: nothing; the ids neither.
pub type Reach = Vec<Option<Copy>>;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Copy {
    Full,
    Redacted,
}

/// The best copy that each node gets of `event` when the nodes of `mute` give nothing.
pub fn reach(graph: &Graph, event: &Event, mute: &[usize]) -> Reach {
    let mut reach: Reach = vec![None; graph.nodes];
    reach[event.origin] = Some(Copy::Full);
    loop {
        let mut changed = false;
        for (&(giver, taker), share) in &graph.shares {
            let Some(has) = reach[giver] else { continue };
            if mute.contains(&giver) || !share.give || !lets(event, giver, taker) {
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
