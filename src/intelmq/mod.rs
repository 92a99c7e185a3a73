//! The doors: ways into and out of the local IntelMQ, each foreign system in its own file.
//!
//! A [`Source`] takes events out of IntelMQ, a [`Sink`] gives events to it. A door moves texts and never looks into
//! them: what an event is, is decided by [`crate::envelope`]; what may be delivered, by policy.
//!
//! Both directions are exactly once over kill -9 of either side, by the same means: *the position travels with the
//! data*. A source says where it stands after a batch, and that position is committed with the batch's events; a sink
//! writes the position beside the data, in one atomic step. TCP has no place for a position: there, both are at least
//! once; AMQP has none for a sink's.

mod amqp;
mod botnet;
mod deliver;
mod files;
mod fit;
mod ingest;
mod opened;
mod recall;
mod redis;
mod secrecy;
pub mod tcp;
mod told;
mod trouble;

pub use amqp::{AmqpProbe, AmqpSink, AmqpSource, probe as probe_amqp};
pub use botnet::{Botnet, Reader};
pub use deliver::{Again, Deliver, Outlet, Step};
pub use files::{FilesSink, FilesSource};
pub use fit::{Fit, probe_format};
pub use ingest::{Ingest, Intake, Sealer, Taken as TakenCounts};
pub use recall::withdraw;
pub use redis::{Keeps, Probe, RedisSink, RedisSource, probe as probe_redis};
pub use tcp::{TcpSink, TcpSource, probe_collector, probe_listen};
pub use trouble::HeldBack;

use bytes::Bytes;
use uuid::Uuid;

/// How much a source may take at once.
#[derive(Debug, Clone, Copy)]
pub struct TakeLimit {
    /// Items, at most.
    pub items: usize,
    /// Bytes, at most (one item may be larger; it then comes alone).
    pub bytes: usize,
}

/// What a source took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The texts, oldest first, byte for byte. May be empty (only the position moved).
    pub items: Vec<Bytes>,
    /// Where the source stands when these items are committed. Opaque to everybody else; committed in one step with
    /// the items' events and handed back to the door's constructor after a restart.
    pub position: Vec<u8>,
}

/// A point in the log that a sink has reached: every entry up to and including `seq` of log `log` is delivered (or
/// was not for this door).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The store's random id: a wiped or restored log has another.
    pub log: Uuid,
    /// Sequence number in that log.
    pub seq: u64,
    /// The number of the event that was last delivered out of quarantine; 0: none was.
    pub again: u64,
}

/// What went wrong at a door, by who must act.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// The other side is away, full or restarting: nothing is lost, try again after a pause. The text names the place
    /// and what an operator could do.
    #[error("{0}")]
    Retry(String),
    /// It will not get better by itself (wrong type of key, no permission, no such directory): the door stays closed
    /// until the operator acts; the node goes on. The text names the place and the remedy.
    #[error("{0}")]
    Operator(String),
}

/// A way out of IntelMQ.
pub trait Source: Send {
    /// Waits until there is something to take, and takes it. What was taken and not [`committed`](Source::committed)
    /// (a crash, an error since) is taken again, but never what a position that was handed to the constructor, or
    /// confirmed by `committed`, already covers.
    ///
    /// Cancellation safe: what was moved inside the foreign system comes again with the next call.
    fn take(&mut self, limit: TakeLimit) -> impl Future<Output = Result<Taken, DoorError>> + Send;

    /// The events of the last [`take`](Source::take) and its position are durable: the other side may forget them.
    /// After an error the next `take` finishes the job.
    fn committed(&mut self) -> impl Future<Output = Result<(), DoorError>> + Send;
}

/// A way into IntelMQ.
pub trait Sink: Send {
    /// Whether the other side keeps the mark. Where it does not, the store's copy is all there is: it follows every
    /// step, and what was given and not yet noted there comes twice after a crash.
    const KEEPS_MARK: bool = true;

    /// Where the other side says we stand; `None` when it has no record (first use, or its data were lost).
    fn mark(&mut self) -> impl Future<Output = Result<Option<Mark>, DoorError>> + Send;

    /// Gives the texts, oldest first, and moves the mark, both or neither. Waits while the other side is above its
    /// high-water mark. `items` may be empty: then only the mark moves.
    ///
    /// After an error, or when the future was dropped, it is unknown whether the step was done: ask
    /// [`mark`](Sink::mark) again.
    fn give(&mut self, items: &[Bytes], mark: Mark) -> impl Future<Output = Result<(), DoorError>> + Send;

    /// How many items of the last [`give`](Sink::give), which failed, the other side has confirmed all the same, where
    /// it keeps no mark: these need not be given again.
    fn confirmed(&self) -> usize {
        0
    }
}
