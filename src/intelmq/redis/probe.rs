//! What an operator should know of a queue and its server before trusting events to them. Changes nothing.

use std::time::Duration;

use ::redis::cmd;
use bytes::Bytes;

use super::Server;
use crate::config;
use crate::intelmq::DoorError;

/// Between two looks at a queue: far longer than a bot takes for an event.
const LOOK: Duration = Duration::from_millis(1500);

/// A queue and its server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Items in the queue,
    pub length: u64,
    /// and how many more there were a moment later.
    pub growth: i64,
    /// Whether somebody has taken the oldest item meanwhile. `None`: there was none.
    pub read: Option<bool>,
    /// The policy by which the server throws keys away when it is full, if a queue may be one of them.
    pub evicts: Option<String>,
    /// How the server keeps its data over a restart.
    pub keeps: Keeps,
}

/// How a server keeps its data over a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    /// Not at all.
    Nothing,
    /// From time to time: a crash loses what came since.
    Snapshots,
    /// In an append-only file, flushed every second or when the system likes.
    Soon,
    /// In an append-only file, flushed before the answer.
    Everything,
    /// It does not tell.
    Unknown,
}

/// Looks at a door's queue, twice.
pub async fn probe(server: &config::Redis, queue: &str) -> Result<Probe, DoorError> {
    let mut server = Server::new(server, queue);
    let (before, oldest) = look(&mut server, queue).await?;
    // A server need not tell its configuration: then nothing is known, which is no fault.
    let policy = setting(&mut server, "maxmemory-policy").await;
    let bounded = setting(&mut server, "maxmemory").await.is_some_and(|bytes| bytes != "0");
    let keeps = keeps(&mut server).await;
    // The moment is the measurement.
    tokio::time::sleep(LOOK).await;
    let (after, then) = look(&mut server, queue).await?;
    Ok(Probe {
        length: after,
        growth: after.cast_signed() - before.cast_signed(),
        read: oldest.map(|oldest| then.as_ref() != Some(&oldest)),
        evicts: policy.filter(|policy| bounded && policy.starts_with("allkeys")),
        keeps,
    })
}

async fn look(server: &mut Server, queue: &str) -> Result<(u64, Option<Bytes>), DoorError> {
    // Of another type it fails, and of nothing is 0: as the doors will find it.
    let length = server.ask(cmd("LLEN").arg(queue)).await?;
    Ok((length, server.ask(cmd("LINDEX").arg(queue).arg(-1)).await?))
}

async fn keeps(server: &mut Server) -> Keeps {
    match (setting(server, "appendonly").await.as_deref(), setting(server, "appendfsync").await.as_deref()) {
        (Some("yes"), Some("always")) => Keeps::Everything,
        (Some("yes"), _) => Keeps::Soon,
        (Some(_), _) => match setting(server, "save").await.as_deref() {
            Some("") => Keeps::Nothing,
            Some(_) => Keeps::Snapshots,
            None => Keeps::Unknown,
        },
        (None, _) => Keeps::Unknown,
    }
}

async fn setting(server: &mut Server, name: &str) -> Option<String> {
    let answer: Vec<String> = server.ask(cmd("CONFIG").arg("GET").arg(name)).await.ok()?;
    answer.into_iter().nth(1)
}
