//! Purge: what is withdrawn leaves the log, its header, id and seal stay.
//!
//! Owns rewriting entries with every field hidden: on disk, in the chunk that is being filled, and in what readers have
//! in memory. It must never change a number, a time or a seal. Whatever chunk it was, it is complete and on the shelf
//! afterwards, and its old bytes there are made zero. What lay in sled, as parts do, sled frees: until something else is
//! written there, the old bytes are in its file.

use std::sync::Arc;

use super::disk::Disk;
use super::log::{self, Open};
use super::plan::Ends;
use super::sum::Batch;
use super::{Entry, StoreError, keys};

/// A planned purge.
pub(super) struct Purge {
    /// What to write.
    pub(super) batch: Batch,
    /// The entries as they are afterwards.
    pub(super) entries: Vec<Arc<Entry>>,
}

/// Plans hiding all fields of the entries with these numbers. As with [`super::plan`], the ends are ahead of the disk
/// until it is written.
pub(super) fn plan(disk: &Disk, ends: &mut Ends, seqs: &[u64]) -> Result<Purge, StoreError> {
    let mut purge = Purge { batch: Batch::default(), entries: Vec::new() };
    let mut done = 0;
    let mut seqs: Vec<u64> = seqs.to_vec();
    seqs.sort_unstable();
    for seq in &seqs {
        let is_there = (ends.state.first..ends.state.next).contains(seq);
        if *seq <= done || !is_there {
            continue;
        }
        let (chunk, replaces) = if *seq >= ends.log.first {
            // Complete as it is: what is in memory of it has the fields.
            let next = Open::new(ends.state.next);
            let log = std::mem::replace(&mut ends.log, next);
            (log.entries()?, log.replaces)
        } else {
            let chunk = log::load(disk, *seq)?;
            let first = chunk.first().map_or(0, |entry| entry.seq);
            (chunk, vec![(first, log::head(disk.tree(), first)?.1)])
        };
        let Some(first) = chunk.first().map(|entry| entry.seq) else { continue };
        done = chunk.last().map_or(*seq, |entry| entry.seq);
        let mut open = Open::new(first);
        open.replaces = replaces;
        for entry in chunk {
            let hide = seqs.binary_search(&entry.seq).is_ok();
            let entry = if hide { Arc::new(hidden(&entry)) } else { entry };
            open.push(&entry);
            if hide {
                purge.entries.push(entry);
            }
        }
        ends.shelve(&mut purge.batch, &open)?;
    }
    purge.batch.insert(keys::STATE, ends.state.encode());
    Ok(purge)
}

fn hidden(entry: &Entry) -> Entry {
    let Entry { seq, at, from, completes, envelope } = entry;
    Entry { seq: *seq, at: *at, from: from.clone(), completes: *completes, envelope: envelope.hide(|_| true) }
}
