//! What outlives a crash, in memory or on disk, and what does not: what was handed in and is not yet durable.

use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use intelmq_relay::accept::{self, Bringer, Gate, Judgement, Own, Rules, Seen};
use intelmq_relay::config;
use intelmq_relay::envelope::{Key, Sealed, SeenKeys, Verifier};
use intelmq_relay::link::Verdict;
use intelmq_relay::store::{Cursor, Entry, ReadLimit, Store, StoreError};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::memory::{Held, Memory};

/// Where a node keeps its log.
pub enum Keep {
    Memory(Memory),
    Disk(Disk),
}

/// What was handed in and judged, and is not durable. Dropped, it is lost.
pub enum Waiting {
    Memory(Held),
    Disk(Pin<Box<dyn Future<Output = Result<Vec<Verdict>, StoreError>>>>),
}

/// The real gate before the real store, in a folder of its own.
pub struct Disk {
    gate: Gate,
    folder: TempDir,
    days: config::Store,
    runtime: Rc<Runtime>,
}

impl Disk {
    pub fn open(folder: TempDir, days: config::Store, rules: Rules, runtime: Rc<Runtime>) -> Disk {
        let store = runtime.block_on(Store::open(folder.path(), &days)).unwrap();
        Disk { gate: Gate::new(store, rules), folder, days, runtime }
    }

    /// What a `kill -9` leaves: the files as they are now, under a store that was never closed.
    fn killed(&self) -> Disk {
        let folder = tempfile::tempdir().unwrap();
        copy(self.folder.path(), folder.path());
        let rules = Rules::clone(&self.gate.rules());
        Disk::open(folder, self.days.clone(), rules, self.runtime.clone())
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, copied) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            std::fs::create_dir(&copied).unwrap();
            copy(&path, &copied);
        } else {
            std::fs::copy(&path, &copied).unwrap();
        }
    }
}

impl Keep {
    pub fn log_id(&self) -> Uuid {
        match self {
            Keep::Memory(memory) => memory.log_id,
            Keep::Disk(disk) => disk.gate.store().log_id(),
        }
    }

    pub fn head(&self) -> u64 {
        match self {
            Keep::Memory(memory) => memory.head(),
            Keep::Disk(disk) => disk.gate.store().head(),
        }
    }

    pub fn first(&self) -> u64 {
        match self {
            Keep::Memory(memory) => memory.first(),
            Keep::Disk(disk) => disk.gate.store().first(),
        }
    }

    pub fn cursor(&self, peer: &Key) -> Option<Vec<u8>> {
        match self {
            Keep::Memory(memory) => memory.cursor(peer),
            Keep::Disk(disk) => disk.runtime.block_on(disk.gate.store().cursor(&Cursor::Peer(*peer))).unwrap(),
        }
    }

    /// The entries after this number that are kept: so many, or up to the head.
    pub fn read(&self, after: u64, most: usize) -> Vec<Arc<Entry>> {
        let disk = match self {
            Keep::Memory(memory) => return memory.read(after, most),
            Keep::Disk(disk) => disk,
        };
        let mut entries: Vec<Arc<Entry>> = Vec::new();
        while entries.len() < most {
            let after = entries.last().map_or(after, |entry| entry.seq);
            let limit = ReadLimit { entries: most - entries.len(), bytes: usize::MAX };
            let more = disk.runtime.block_on(disk.gate.store().read(after, limit)).unwrap();
            if more.is_empty() {
                break;
            }
            entries.extend(more);
        }
        entries
    }

    /// Judges now; what is good is durable when it is committed, together with the cursor.
    pub fn take(
        &self,
        rules: &Rules,
        bringer: Bringer,
        envelopes: Vec<Bytes>,
        cursor: Option<Vec<u8>>,
        verifier: &Verifier,
        now: u64,
    ) -> Waiting {
        match self {
            Keep::Memory(_) => {
                let judge = |bytes| accept::judge(bytes, &bringer, rules, self, verifier, now);
                let judged = envelopes.into_iter().map(judge).collect();
                let cursor = cursor.map(|cursor| (bringer.key, cursor));
                Waiting::Memory(Held { judged, from: Some(bringer.name), cursor, at: now })
            }
            Keep::Disk(disk) => {
                let gate = disk.gate.clone();
                let brought = gate.judge(&bringer, envelopes, cursor, verifier, now);
                Waiting::Disk(Box::pin(async move { gate.take(brought).await }))
            }
        }
    }

    /// The same for what the node sealed itself.
    pub fn own(&self, sealed: Vec<Sealed>, now: u64) -> Waiting {
        match self {
            Keep::Memory(_) => {
                let judged = sealed.into_iter().map(|envelope| Judgement::Good(envelope.into())).collect();
                Waiting::Memory(Held { judged, from: None, cursor: None, at: now })
            }
            Keep::Disk(disk) => {
                let gate = disk.gate.clone();
                Waiting::Disk(Box::pin(async move { gate.own(Own { sealed, ..Own::default() }, now).await }))
            }
        }
    }

    pub fn commit(&mut self, waiting: Waiting) -> Vec<Verdict> {
        match (self, waiting) {
            (Keep::Memory(memory), Waiting::Memory(held)) => memory.commit(held),
            (Keep::Disk(disk), Waiting::Disk(commit)) => disk.runtime.block_on(commit).unwrap(),
            _ => unreachable!("a node keeps its log in one way"),
        }
    }

    pub fn expire(&mut self, now: u64) {
        match self {
            Keep::Memory(memory) => memory.expire(now),
            Keep::Disk(disk) => drop(disk.runtime.block_on(disk.gate.store().expire(now)).unwrap()),
        }
    }

    pub fn set_rules(&self, rules: &Rules) {
        if let Keep::Disk(disk) = self {
            disk.gate.set_rules(rules.clone());
        }
    }

    /// The node was killed: what was committed is there, and nothing else.
    pub fn crash(&mut self) {
        match self {
            Keep::Memory(memory) => memory.restart(),
            Keep::Disk(disk) => *disk = disk.killed(),
        }
    }
}

impl Seen for Keep {
    fn seen(&self, keys: &SeenKeys) -> Option<u16> {
        match self {
            Keep::Memory(memory) => memory.known(keys),
            Keep::Disk(disk) => disk.gate.store().seen(keys),
        }
    }
}
