//! The store: the log, the seen set and the cursors, durable in one place.
//!
//! Owns sled (nobody else imports it), the files beside it that the bulk of the log lies in, the numbering of the log, and what
//! "durable" means: per commit, first those files, then one atomic `sled::Batch`, one flush and one `fdatasync` of the same inode. Only [`crate::accept`] commits; everybody reads.
//! Public methods are `async`, so that another engine could take this place.
//!
//! It must never decide whether an event is good, and never recreate or repair what it does not understand: a
//! damaged, foreign or newer store is refused by name.

mod disk;
mod error;
mod journal;
mod keys;
mod lock;
mod log;
mod open;
mod pieces;
mod plan;
mod purge;
mod quarantine;
mod recent;
mod retention;
mod seen;
mod shared;
mod shelf;
mod sum;
mod witness;
mod writer;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use tokio::sync::watch;
use uuid::Uuid;

pub use self::error::{OpenError, StoreError};
pub use self::journal::{Fate, IdNote, Note, Outcome, Part, Reader, decode_chunk as decode_journal_chunk, short};
pub use self::log::decode as decode_log_chunk;
pub use self::retention::Expired;

use self::lock::Lock;
use self::shared::Shared;
use self::writer::{Queue, Writer};
use crate::config;
use crate::envelope::{Key, Name, Sealed, SeenKeys};

/// An open store. Cheap to clone; the last clone closes it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    queue: Queue,
    /// What [`Inner::close`] takes: the writer's thread, and the lock that goes last.
    running: Mutex<Option<(JoinHandle<()>, Lock)>>,
}

impl Store {
    /// Largest value that a commit may hold (an envelope, a cursor, an item in quarantine), in bytes.
    pub const LARGEST: usize = pieces::LARGEST / 2;

    /// Opens the store in this folder; makes the folder (0700) and an empty store where there is none.
    ///
    /// Not cancellation safe in one respect: dropped halfway, it still opens and then closes.
    pub async fn open(dir: &Path, config: &config::Store) -> Result<Store, OpenError> {
        let (dir, config) = (dir.to_owned(), config.clone());
        let at = dir.clone();
        blocking(move || start(&dir, config))
            .await
            // sled asserts where a file is not as it left it.
            .unwrap_or_else(|error| Err(OpenError::Damaged { dir: at, reason: format!("it cannot be read: {error}") }))
    }

    /// The log's id: random, made with the store. Numbers mean something only together with it.
    pub fn log_id(&self) -> Uuid {
        self.inner.shared.id
    }

    /// The number of the newest entry; 0: there was none yet.
    pub fn head(&self) -> u64 {
        self.inner.shared.head()
    }

    /// The head, to wait for. It moves when the entries are durable and can be read.
    pub fn watch_head(&self) -> watch::Receiver<u64> {
        self.inner.shared.head.subscribe()
    }

    /// The number of the oldest entry that is kept; `head + 1`: none is.
    pub fn first(&self) -> u64 {
        self.inner.shared.first()
    }

    /// Stores a commit; returns when it is durable, with what became of its entries, in order. Whoever called first
    /// is stored first. Commits that wait go to the disk together.
    ///
    /// Errors: [`StoreError::Full`] and [`StoreError::TooLarge`] change nothing; after [`StoreError::Broken`] it may
    /// or may not be stored, which shows when the store is opened again.
    ///
    /// Cancellation: dropped while it waits for its turn, nothing happens; dropped later, it is stored all the same.
    pub async fn commit(&self, commit: Commit) -> Result<Vec<Appended>, StoreError> {
        if let Some(bytes) = commit.largest().filter(|bytes| *bytes > Store::LARGEST) {
            return Err(StoreError::TooLarge { bytes, most: Store::LARGEST });
        }
        self.inner.queue.commit(commit).await
    }

    /// The entries after this number, in order; empty: there are none yet. Where the oldest are gone, it begins with
    /// [`Store::first`]. It may return fewer than the limit allows, but never none while there are some.
    pub async fn read(&self, after: u64, limit: ReadLimit) -> Result<Vec<Arc<Entry>>, StoreError> {
        loop {
            let after = after.max(self.first() - 1);
            if after >= self.head() {
                return Ok(Vec::new());
            }
            if let Some(entries) = self.inner.shared.read_recent(after, limit) {
                return Ok(entries);
            }
            let shared = self.inner.shared.clone();
            let entries = block(move || shared.read_disk(after, limit)).await?;
            // None: all of them expired meanwhile, or they have just come into memory. Look again.
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
    }

    /// How full our best copy of an envelope with these keys is: the fewest hidden fields known under either key.
    /// `Some(0)` for refusals that are remembered. In memory, from any thread; only the writer has the last word.
    pub fn seen(&self, keys: &SeenKeys) -> Option<u16> {
        self.inner.shared.index.known(keys)
    }

    /// Whether the origin with this key has withdrawn this id, as far back as the seen set reaches. Like [`Store::seen`].
    pub fn is_withdrawn(&self, origin: &Key, id: Uuid) -> bool {
        self.seen(&SeenKeys::of_withdrawn(origin, id)).is_some()
    }

    /// Changes when a withdrawal has come into the log.
    pub fn watch_withdrawals(&self) -> watch::Receiver<u64> {
        self.inner.shared.withdrawals.subscribe()
    }

    /// The value of a cursor.
    pub async fn cursor(&self, cursor: &Cursor) -> Result<Option<Vec<u8>>, StoreError> {
        let (shared, key) = (self.inner.shared.clone(), keys::cursor(cursor));
        block(move || shared.with_disk(|disk| pieces::get(disk.tree(), &key))).await
    }

    /// At most `limit` items in quarantine with numbers above this one, in order. Numbers begin with 1 and have gaps.
    pub async fn quarantined(&self, after: u64, limit: usize) -> Result<Vec<(u64, Quarantined)>, StoreError> {
        let shared = self.inner.shared.clone();
        block(move || shared.read_quarantine(after, limit)).await
    }

    /// What is noted of these entries, oldest first. Notes reach back as far as the journal is kept, at most as the log.
    pub async fn notes(&self, seqs: impl IntoIterator<Item = u64>) -> Result<Vec<Note>, StoreError> {
        let (shared, seqs) = (self.inner.shared.clone(), seqs.into_iter().collect());
        block(move || shared.with_disk(|disk| journal::read(disk.tree(), &seqs))).await
    }

    /// What is noted under this id without a number: refusals, and what left the quarantine. Oldest first.
    pub async fn id_notes(&self, id: Uuid) -> Result<Vec<IdNote>, StoreError> {
        let shared = self.inner.shared.clone();
        block(move || shared.with_disk(|disk| journal::read_id(disk.tree(), id))).await
    }

    /// Removes what is older than the configuration says at this time (ms since 1970), in steps between commits.
    ///
    /// Cancellation: what has been removed stays so, the rest goes the next time.
    pub async fn expire(&self, now: u64) -> Result<Expired, StoreError> {
        let mut all = Expired::default();
        loop {
            let step = self.inner.queue.expire(now).await?;
            all.entries += step.entries;
            all.log_bytes += step.log_bytes;
            all.ids += step.ids;
            if !step.more {
                return Ok(all);
            }
        }
    }

    /// Hides every field of the entries with these numbers, where they are; returns how many there were. What a reader
    /// has taken before, it has.
    ///
    /// Cancellation: dropped while it waits for its turn, nothing happens; dropped later, it is done all the same.
    pub async fn purge(&self, seqs: Vec<u64>) -> Result<u64, StoreError> {
        self.inner.queue.purge(seqs).await
    }

    /// How much is in here.
    pub fn usage(&self) -> Usage {
        let shared = &self.inner.shared;
        Usage {
            entries: (shared.head() + 1).saturating_sub(shared.first()),
            log_bytes: shared.log_bytes(),
            ids: shared.index.len() as u64,
            quarantined: shared.quarantined(),
            journal_bytes: shared.journal_bytes(),
        }
    }

    /// Waits for the commits that were handed in, closes the store and gives the lock back. Every later call that
    /// needs the disk fails with [`StoreError::Closed`].
    pub async fn close(&self) {
        let inner = self.inner.clone();
        // An error here is a panic of sled's while it closes: everything that was acknowledged is durable already.
        let _ = blocking(move || inner.close()).await;
    }
}

impl Inner {
    /// Blocks until everything that was handed in is answered.
    fn close(&self) {
        self.queue.close();
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((writer, lock)) = running {
            // A writer that panicked has answered nobody, and has nothing more to write.
            let _ = writer.join();
            self.shared.close();
            drop(lock);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

/// See [`Store::usage`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Entries that are kept.
    pub entries: u64,
    /// Bytes of them, as stored (compressed).
    pub log_bytes: u64,
    /// Ids in the seen set.
    pub ids: u64,
    /// Items in quarantine.
    pub quarantined: u64,
    /// Bytes of the journal, as stored.
    pub journal_bytes: u64,
}

fn start(dir: &Path, config: config::Store) -> Result<Store, OpenError> {
    let opened = open::open(dir, config.cache_bytes)?;
    let io = |error| OpenError::Io { dir: dir.into(), error };
    let ends = plan::Ends::new(opened.state, opened.stock, opened.ward, opened.journal).map_err(io)?;
    let shared = Arc::new(Shared::new(dir, opened.id, config, opened.disk, &ends, opened.index));
    // It has just been opened.
    let _ = shared.with_disk(|disk| {
        shared.testify(disk);
        Ok(())
    });
    let (queue, jobs) = Queue::new();
    let writer = Writer::new(shared.clone(), jobs, ends);
    let thread = std::thread::Builder::new().name("store".into()).spawn(move || writer.run()).map_err(io)?;
    let running = Mutex::new(Some((thread, opened.lock)));
    Ok(Store { inner: Arc::new(Inner { shared, queue, running }) })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, tokio::task::JoinError> {
    tokio::task::spawn_blocking(work).await
}

async fn block<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    blocking(work).await.unwrap_or_else(|error| Err(StoreError::broken(format!("reading failed: {error}"))))
}

/// An envelope in the log.
#[derive(Debug)]
pub struct Entry {
    /// Its number: from 1, without gaps, never used twice in one log.
    pub seq: u64,
    /// When it was committed, ms since 1970.
    pub at: u64,
    /// The peer it came from; `None`: our own IntelMQ.
    pub from: Option<Name>,
    /// It is a fuller copy of what was known before.
    pub completes: bool,
    /// The envelope.
    pub envelope: Sealed,
}

/// What one commit may hold; everything in it becomes durable in one step or not at all.
#[derive(Default)]
pub struct Commit {
    /// Envelopes for the log, in order.
    pub entries: Vec<Draft>,
    /// Ids to remember without an entry: refusals that would be the same whoever brought them.
    pub remember: Vec<Remember>,
    /// Cursors to set.
    pub cursors: Vec<(Cursor, Vec<u8>)>,
    /// What a door could not pass on: kept, so that nothing is lost.
    pub quarantine: Vec<Quarantined>,
    /// Numbers of items to take out of quarantine.
    pub release: Vec<u64>,
    /// What became of entries.
    pub notes: Vec<Note>,
    /// What became of what has no number.
    pub id_notes: Vec<IdNote>,
}

impl Commit {
    /// What a commit counts in its group.
    fn events(&self) -> usize {
        self.entries.len() + self.remember.len() + self.quarantine.len() + self.release.len()
    }

    /// Bytes that it takes, about.
    fn bytes(&self) -> usize {
        self.sizes().sum::<usize>() + 64 * self.events() + 32 * (self.notes.len() + self.id_notes.len())
    }

    fn largest(&self) -> Option<usize> {
        self.sizes().max()
    }

    fn sizes(&self) -> impl Iterator<Item = usize> {
        let envelopes = self.entries.iter().map(|draft| draft.envelope.bytes().len());
        let cursors = self.cursors.iter().map(|(_, value)| value.len());
        envelopes.chain(cursors).chain(self.quarantine.iter().map(|item| item.held.bytes().len() + item.reason.len()))
    }
}

/// An envelope that accept wants in the log.
pub struct Draft {
    /// As [`Entry::at`].
    pub at: u64,
    /// As [`Entry::from`].
    pub from: Option<Name>,
    /// The envelope, our own name already at the end of its path.
    pub envelope: Sealed,
}

/// An id to remember. See [`SeenKeys`].
#[derive(Debug, Clone, Copy)]
pub struct Remember {
    /// Day bucket of the memory, as [`Entry::at`].
    pub at: u64,
    /// Under which keys.
    pub keys: SeenKeys,
}

/// What a door could not pass on.
#[derive(Debug, Clone)]
pub struct Quarantined {
    /// When, ms since 1970.
    pub at: u64,
    /// The door.
    pub door: Name,
    /// Why, for a person.
    pub reason: String,
    /// It.
    pub held: Held,
}

/// What is kept of it.
#[derive(Debug, Clone)]
pub enum Held {
    /// What a source gave and is no event, byte for byte.
    Item(Bytes),
    /// What a sink's IntelMQ could not take.
    Envelope(Box<Sealed>),
}

impl Held {
    /// As they came.
    pub fn bytes(&self) -> &Bytes {
        match self {
            Held::Item(item) => item,
            Held::Envelope(envelope) => envelope.bytes(),
        }
    }
}

/// What became of a [`Draft`], in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// In the log, under this number.
    New(u64),
    /// A fuller copy of what we had; in the log, under this number.
    Completed(u64),
    /// We had it, as full or fuller: not stored again.
    Duplicate,
    /// Its origin has withdrawn it: not stored.
    Withdrawn,
}

/// Whose place a cursor marks. Its bytes mean something only to its owner.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Cursor {
    /// How far we have read a peer's log (its resume token).
    Peer(Key),
    /// Where a source stands.
    Source(Name),
    /// Where a sink stands.
    Sink(Name),
    /// How far somebody has read the log, as far as it is noted in the journal.
    Noted(Reader),
    /// No place, but as small and as lasting: the roster that holds,
    Roster,
    /// the notices,
    Notices,
    /// how far the rotation of our own key is,
    Rotation,
    /// the keys that our resume tokens were made with,
    Tokens,
    /// the key that a peer was last met with,
    Identity(Name),
    /// and whom an operator has invited.
    Invitations,
}

/// How much [`Store::read`] returns at most.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimit {
    /// Entries.
    pub entries: usize,
    /// Bytes of envelopes (at least one entry is returned).
    pub bytes: usize,
}
