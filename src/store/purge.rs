//! Purge: what is withdrawn leaves the log, its header, id and seal stay.
//!
//! Owns rewriting entries in their place with every field hidden: on disk, in the chunk that is being filled, and in
//! what readers have in memory. It must never change a number, a time or a seal. sled writes the new value elsewhere and
//! frees the old place: until something else is written there, the old bytes are in the file.

use std::sync::Arc;

use super::log::{self, Open};
use super::plan::Ends;
use super::sum::Batch;
use super::{Entry, StoreError, keys, pieces};

/// A planned purge.
pub(super) struct Purge {
    /// What to write.
    pub(super) batch: Batch,
    /// The entries as they are afterwards.
    pub(super) entries: Vec<Arc<Entry>>,
}

/// Plans hiding all fields of the entries with these numbers. As with [`super::plan`], the ends are ahead of the disk
/// until it is written.
pub(super) fn plan(tree: &sled::Tree, ends: &mut Ends, seqs: &[u64]) -> Result<Purge, StoreError> {
    let mut purge = Purge { batch: Batch::default(), entries: Vec::new() };
    let mut done = 0;
    let mut seqs: Vec<u64> = seqs.to_vec();
    seqs.sort_unstable();
    for seq in &seqs {
        let is_there = (ends.state.first..ends.state.next).contains(seq);
        if *seq <= done || !is_there {
            continue;
        }
        let chunk = log::load(tree, *seq)?;
        let Some(first) = chunk.first().map(|entry| entry.seq) else { continue };
        done = chunk.last().map_or(*seq, |entry| entry.seq);
        let mut open = Open::new(first);
        for entry in chunk {
            let hide = seqs.binary_search(&entry.seq).is_ok();
            let entry = if hide { Arc::new(hidden(&entry)) } else { entry };
            open.push(&entry);
            if hide {
                purge.entries.push(entry);
            }
        }
        let bytes = open.encode(&mut ends.compressor)?;
        let before = pieces::length(tree, &keys::log(first))?;
        pieces::put(&mut purge.batch, &keys::log(first), &bytes, before);
        ends.state.log_bytes = (ends.state.log_bytes + bytes.len() as u64).saturating_sub(before.unwrap_or(0) as u64);
        if first == ends.log.first && ends.log_stored.is_some() {
            (ends.log, ends.log_stored) = (open, Some(bytes.len()));
        }
    }
    purge.batch.insert(keys::STATE, ends.state.encode());
    Ok(purge)
}

fn hidden(entry: &Entry) -> Entry {
    let Entry { seq, at, from, completes, envelope } = entry;
    Entry { seq: *seq, at: *at, from: from.clone(), completes: *completes, envelope: envelope.hide(|_| true) }
}
