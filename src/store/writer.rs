//! The writer: the one thread that changes the store.
//!
//! Owns the order of commits, which of them go to the disk together, and what everybody may know afterwards. It must
//! never answer before the disk has it, never write again after an error, and never let a commit overtake one that was
//! refused for want of room: the cursor of the later one would stand behind the entries of the earlier one.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::unconstrained;

use super::plan::{Ends, Plan};
use super::purge;
use super::retention::{self, Expired};
use super::{Appended, Commit, Shared, StoreError};

/// KiB of commits that may wait or be under way. Beyond it, callers wait.
const PENDING_KIB: usize = 64 << 10;
/// What a commit counts at least, so that the number of waiting commits is bounded too.
const LEAST_KIB: usize = 16;
/// Bytes of commits that go to the disk together, unless one alone has more.
const GROUP_BYTES: usize = 8 << 20;
/// How many times its size a group may take on disk: sled writes a page anew when it has ten changes.
const AMPLIFICATION: u64 = 4;

/// The way to the writer.
pub(super) struct Queue {
    /// Tokio's mutex is fair: whoever asked first is served first, also when many are woken at once.
    turn: tokio::sync::Mutex<()>,
    room: Arc<Semaphore>,
    jobs: Mutex<Option<SyncSender<Job>>>,
    refusals: Arc<Mutex<u64>>,
}

struct Job {
    work: Work,
    room: OwnedSemaphorePermit,
    /// How many refusals for want of room there had been when it was handed in.
    after: u64,
}

enum Work {
    Commit(Commit, oneshot::Sender<Result<Vec<Appended>, StoreError>>),
    Purge(Vec<u64>, oneshot::Sender<Result<u64, StoreError>>),
    Expire(u64, oneshot::Sender<Result<Expired, StoreError>>),
}

impl Queue {
    /// The queue, and the other end for [`Writer::new`].
    pub(super) fn new() -> (Queue, Jobs) {
        let (jobs, receiver) = sync_channel(PENDING_KIB / LEAST_KIB);
        let queue = Queue {
            turn: tokio::sync::Mutex::new(()),
            room: Arc::new(Semaphore::new(PENDING_KIB)),
            jobs: Mutex::new(Some(jobs)),
            refusals: Arc::default(),
        };
        let refusals = queue.refusals.clone();
        (queue, Jobs { receiver, refusals })
    }

    /// Hands in a commit and waits for the answer.
    pub(super) async fn commit(&self, commit: Commit) -> Result<Vec<Appended>, StoreError> {
        let bytes = commit.bytes();
        self.ask(bytes, |reply| Work::Commit(commit, reply)).await
    }

    /// Hands in one step of expiry and waits for the answer.
    pub(super) async fn expire(&self, now: u64) -> Result<Expired, StoreError> {
        self.ask(0, |reply| Work::Expire(now, reply)).await
    }

    /// Hands in a purge and waits for the answer.
    pub(super) async fn purge(&self, seqs: Vec<u64>) -> Result<u64, StoreError> {
        self.ask(0, |reply| Work::Purge(seqs, reply)).await
    }

    /// No job comes after this; the writer ends when it has done those that wait.
    pub(super) fn close(&self) {
        lock(&self.jobs).take();
    }

    async fn ask<T>(
        &self,
        bytes: usize,
        work: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Work,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        {
            // Unconstrained: a caller whose task has used up tokio's budget must queue all the same, or who asks
            // next comes first.
            let _turn = unconstrained(self.turn.lock()).await;
            let kib = bytes.div_ceil(1024).clamp(LEAST_KIB, PENDING_KIB) as u32;
            let room = unconstrained(self.room.clone().acquire_many_owned(kib)).await;
            let room = room.map_err(|_| StoreError::Closed)?;
            let jobs = lock(&self.jobs);
            let jobs = jobs.as_ref().ok_or(StoreError::Closed)?;
            // Never full: the channel holds as many jobs as there can be permits. So an error means: no writer.
            let refusals = lock(&self.refusals);
            jobs.try_send(Job { work: work(reply), room, after: *refusals }).map_err(|_| ended())?;
        }
        answer.await.unwrap_or_else(|_| Err(ended()))
    }
}

fn ended() -> StoreError {
    StoreError::broken("the writer has ended")
}

/// The writer's end of the queue.
pub(super) struct Jobs {
    receiver: Receiver<Job>,
    refusals: Arc<Mutex<u64>>,
}

/// The thread's state.
pub(super) struct Writer {
    shared: Arc<Shared>,
    jobs: Receiver<Job>,
    refusals: Arc<Mutex<u64>>,
    /// The last one, for those that were handed in before it.
    refusal: Option<StoreError>,
    ends: Ends,
    /// Taken from the queue, but not for the group that was being gathered.
    held: Option<Job>,
    /// Callers in the last group.
    expected: usize,
}

struct Asked {
    commit: Commit,
    after: u64,
    reply: oneshot::Sender<Result<Vec<Appended>, StoreError>>,
    /// Given back when the caller has its answer.
    _room: OwnedSemaphorePermit,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, jobs: Jobs, ends: Ends) -> Writer {
        let Jobs { receiver, refusals } = jobs;
        Writer { shared, jobs: receiver, refusals, refusal: None, ends, held: None, expected: 1 }
    }

    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self) {
        while let Some(job) = self.held.take().or_else(|| self.jobs.recv().ok()) {
            match job.work {
                Work::Expire(now, reply) => {
                    // Whoever asked may have gone; what is done is done.
                    let _ = reply.send(self.expire(now));
                }
                Work::Purge(seqs, reply) => {
                    let _ = reply.send(self.purge(&seqs));
                }
                Work::Commit(commit, reply) => {
                    let group = self.gather(Asked { commit, after: job.after, reply, _room: job.room });
                    self.commit(group);
                }
            }
        }
    }

    /// Takes what waits. Waits for more only while fewer callers are here than last time: they were just answered
    /// and are likely about to ask again, and one flush for all of them is cheaper than one now and one for the rest.
    fn gather(&mut self, first: Asked) -> Vec<Asked> {
        let config = &self.shared.config;
        let deadline = Instant::now() + Duration::from_millis(config.commit_millis);
        let (mut events, mut bytes) = (first.commit.events(), first.commit.bytes());
        let mut group = vec![first];
        while events < config.commit_events && bytes < GROUP_BYTES {
            let job = match self.jobs.try_recv() {
                Ok(job) => job,
                Err(TryRecvError::Empty) if group.len() < self.expected => {
                    let Ok(job) = self.jobs.recv_timeout(deadline.saturating_duration_since(Instant::now())) else {
                        break;
                    };
                    job
                }
                Err(_) => break,
            };
            let Work::Commit(commit, reply) = job.work else {
                self.held = Some(job);
                break;
            };
            if events + commit.events() > config.commit_events || bytes + commit.bytes() > GROUP_BYTES {
                self.held = Some(Job { work: Work::Commit(commit, reply), ..job });
                break;
            }
            events += commit.events();
            bytes += commit.bytes();
            group.push(Asked { commit, after: job.after, reply, _room: job.room });
        }
        self.expected = group.len();
        group
    }

    fn commit(&mut self, mut group: Vec<Asked>) {
        if let Some(refusal) = self.refusal.clone() {
            let refusals = *lock(&self.refusals);
            let late: Vec<Asked>;
            (late, group) = group.into_iter().partition(|asked| asked.after < refusals);
            for asked in late {
                let _ = asked.reply.send(Err(refusal.clone()));
            }
            if group.is_empty() {
                return;
            }
        }
        let commits = group.iter_mut().map(|asked| std::mem::take(&mut asked.commit)).collect();
        match self.write(commits) {
            Ok(answers) => {
                for (asked, answer) in group.into_iter().zip(answers) {
                    // Whoever asked may have gone; the commit stays.
                    let _ = asked.reply.send(Ok(answer));
                }
            }
            Err(error) => {
                // Nothing is handed in meanwhile: what was handed in before is refused too, and whoever hands in
                // something after it can know of the refusal.
                let mut refusals = lock(&self.refusals);
                if matches!(error, StoreError::Full { .. }) {
                    *refusals += 1;
                    self.refusal = Some(error.clone());
                }
                for asked in group {
                    let _ = asked.reply.send(Err(error.clone()));
                }
            }
        }
    }

    fn write(&mut self, commits: Vec<Commit>) -> Result<Vec<Vec<Appended>>, StoreError> {
        let shared = self.shared.clone();
        shared.usable()?;
        let bytes: usize = commits.iter().map(Commit::bytes).sum();
        shared.with_disk(|disk| {
            // Before planning: a full disk changes nothing, not even here.
            shared.room(disk, AMPLIFICATION * bytes as u64)?;
            shared.stop_on_error((|| {
                let mut plan = Plan::new(disk.tree(), &shared.index, &mut self.ends, shared.config.quarantine_bytes);
                let answers = commits.into_iter().map(|commit| plan.add(commit)).collect::<Result<_, _>>()?;
                let planned = plan.finish()?;
                if let Some(batch) = planned.batch {
                    disk.write(batch)?;
                }
                if planned.crowded_out > 0 {
                    tracing::warn!(
                        items = planned.crowded_out,
                        "the quarantine is full: its oldest items are gone; look at `quarantine list`, or raise \
                         store.quarantine_bytes"
                    );
                }
                shared.publish(planned.ids, planned.entries, &self.ends);
                Ok(answers)
            })())
        })
    }

    fn purge(&mut self, seqs: &[u64]) -> Result<u64, StoreError> {
        let shared = self.shared.clone();
        shared.usable()?;
        // Nobody else reads meanwhile: who has half of a chunk would meet the other half of another.
        shared.with_disk_alone(|disk| {
            shared.room(disk, 0)?;
            shared.stop_on_error((|| {
                let purge = purge::plan(disk, &mut self.ends, seqs)?;
                disk.write(purge.batch)?;
                shared.rewrite(&purge.entries, &self.ends);
                Ok(purge.entries.len() as u64)
            })())
        })
    }

    fn expire(&mut self, now: u64) -> Result<Expired, StoreError> {
        let shared = self.shared.clone();
        shared.usable()?;
        shared.with_disk(|disk| {
            shared.stop_on_error((|| {
                let step = retention::plan(disk.tree(), &mut self.ends, &shared.config, now)?;
                // Readers first: from here on they take what is missing for expired, not for damaged.
                shared.forget_below(&self.ends);
                if let Some(batch) = step.batch {
                    disk.write(batch)?;
                }
                let mut expired = step.expired;
                if let Some(day) = step.days_below {
                    expired.ids += shared.index.forget_below(day) as u64;
                    shared.testify(disk);
                }
                Ok(expired)
            })())
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
