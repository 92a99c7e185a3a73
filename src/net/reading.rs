//! The log, read for a peer without holding its link up.
//!
//! Owns the one read that is under way: what is no longer in memory comes from the disk, and meanwhile the link goes on. It
//! must never decide whether what was read is still wanted.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::store::{Entry, ReadLimit, Store, StoreError};

/// What is read at once.
const STEP: ReadLimit = ReadLimit { entries: 512, bytes: 512 << 10 };

/// A part of the log.
pub(super) struct Part {
    /// It follows this number,
    pub(super) after: u64,
    /// and goes so far.
    pub(super) through: u64,
    pub(super) entries: Vec<Arc<Entry>>,
}

/// What is read.
pub(super) struct Reading {
    store: Store,
    under_way: Option<BoxFuture<'static, Result<Part, StoreError>>>,
}

impl Reading {
    pub(super) fn new(store: Store) -> Reading {
        Reading { store, under_way: None }
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Begins to read after this number, below the head; returns what is in memory at once. Nothing else may be under way.
    pub(super) fn begin(&mut self, after: u64, head: u64) -> Result<Option<Part>, StoreError> {
        let store = self.store.clone();
        let mut read = async move {
            let entries = store.read(after, STEP).await?;
            // None, up to a head that is behind it: all of that has expired.
            let through = entries.last().map_or(head, |entry| entry.seq);
            Ok(Part { after, through, entries })
        }
        .boxed();
        match (&mut read).now_or_never() {
            Some(part) => part.map(Some),
            None => {
                self.under_way = Some(read);
                Ok(None)
            }
        }
    }

    /// What was read; never while nothing is under way. Cancelled, it goes on when it is called again.
    pub(super) async fn done(&mut self) -> Result<Part, StoreError> {
        let Some(read) = &mut self.under_way else { return std::future::pending().await };
        let part = read.await;
        self.under_way = None;
        part
    }
}
