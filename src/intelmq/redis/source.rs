//! Out of IntelMQ: many items at a time from a queue, by way of `<queue>-internal`.
//!
//! Two lists and a note lie in Redis. (`intelmqctl check` calls what no bot owns orphaned, unless
//! `intelmqctl_check_orphaned_queues_ignore` lists it; likewise the sink's mark.) `<queue>-internal` holds what was taken and is not yet known to be durable
//! here, the oldest at its tail. `<queue>-relay` names the last batch that was removed from there, and is written in
//! the same step as the removal. A position names its batch, so after any crash the two say whether the batch's items
//! still lie in `-internal` and only need to be removed.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::time::Duration;

use ::redis::cmd;

use super::super::{DoorError, Source, TakeLimit, Taken};
use super::Server;
use crate::config;

/// Returns the oldest items: what `-internal` holds, then what the queue does, which is moved there.
///
/// The first line changes nothing, but Redis lets a script that has begun to write go on when memory is full. The
/// item that crosses the bound of bytes stays in `-internal`, and is the first of the next batch.
const TAKE: &str = "\
redis.call('LTRIM', KEYS[2], 0, -1)
local items, bytes = {}, 0
local most, room = tonumber(ARGV[1]), tonumber(ARGV[2])
local held = redis.call('LLEN', KEYS[2])
while #items < most do
  local item
  if #items < held then
    item = redis.call('LINDEX', KEYS[2], -1 - #items)
  else
    item = redis.call('RPOPLPUSH', KEYS[1], KEYS[2])
  end
  if not item then break end
  bytes = bytes + #item
  if #items > 0 and bytes > room then break end
  items[#items + 1] = item
end
return items";

/// Removes a batch from the tail of `-internal` and notes it, if it is there: -1. Otherwise the length of the list.
const ACKNOWLEDGE: &str = "\
if redis.call('GET', KEYS[2]) == ARGV[3] then return -1 end
local count, length = tonumber(ARGV[1]), redis.call('LLEN', KEYS[1])
if length < count or redis.call('LINDEX', KEYS[1], -1) ~= ARGV[2] then return length end
redis.call('LTRIM', KEYS[1], 0, -1 - count)
redis.call('SET', KEYS[2], ARGV[3])
return -1";

/// How long one blocking command waits for an item, seconds (whole ones, for old servers).
const WAIT: u64 = 1;
/// The pause instead, when the server is too full to let us wait.
const FULL: Duration = Duration::from_millis(500);

/// Takes from a queue of IntelMQ's. It is the queue's one consumer.
pub struct RedisSource {
    server: Server,
    queue: String,
    internal: String,
    note: String,
    /// The last batch known to be durable here.
    durable: Batch,
    /// That batch may still lie in `-internal`.
    owed: bool,
    /// The batch under way.
    last: Option<Last>,
}

struct Last {
    batch: Batch,
    oldest: Bytes,
    /// [`Server::connects`] when it was taken.
    connects: u64,
}

impl RedisSource {
    /// `position`: the last one that was committed with its items; `None`: the first start. Connects to nothing yet.
    pub fn new(config: &config::TakeRedis, position: Option<Vec<u8>>) -> RedisSource {
        let known = position.as_deref().map(Batch::decode);
        if let Some(None) = known {
            tracing::warn!(door = %config.name, "the stored position is not of a Redis door: starting without");
        }
        let durable = known.flatten();
        RedisSource {
            server: Server::new(&config.server, &config.queue),
            queue: config.queue.clone(),
            internal: format!("{}-internal", config.queue),
            note: format!("{}-relay", config.queue),
            owed: durable.is_some(),
            durable: durable.unwrap_or_default(),
            last: None,
        }
    }

    /// Finishes an acknowledgement that did not get through, or finds that it did.
    async fn settle(&mut self) -> Result<(), DoorError> {
        let batch = self.durable;
        let mut look = cmd("LRANGE");
        look.arg(&self.internal).arg(-i64::from(batch.count)).arg(-1);
        let mut held: Vec<Bytes> = self.server.ask(&look).await?;
        held.reverse();
        // Equal items may have come since: the note, which the step looks at, knows.
        if Batch::of(batch.before, &held) == batch {
            self.acknowledge(batch, &held[0]).await?;
        }
        self.owed = false;
        Ok(())
    }

    /// -1: removed (now or before), otherwise what `-internal` holds instead.
    async fn acknowledge(&mut self, batch: Batch, oldest: &Bytes) -> Result<i64, DoorError> {
        let mut step = cmd("EVAL");
        step.arg(ACKNOWLEDGE).arg(2).arg(&self.internal).arg(&self.note);
        step.arg(batch.count).arg(&oldest[..]).arg(batch.name());
        self.server.ask(&step).await
    }

    /// Waits until the queue has an item (which the server moves to `-internal`), or a moment.
    async fn wait(&mut self) -> Result<(), DoorError> {
        let mut step = cmd("BRPOPLPUSH");
        step.arg(&self.queue).arg(&self.internal).arg(WAIT);
        match self.server.ask::<Option<Bytes>>(&step).await {
            // The queue was empty a moment ago: nothing is kept back, and nobody can push.
            Err(DoorError::Retry(text)) if text.contains("OOM") => {
                tokio::time::sleep(FULL).await;
                Ok(())
            }
            answer => answer.map(drop),
        }
    }
}

impl Source for RedisSource {
    async fn take(&mut self, limit: TakeLimit) -> Result<Taken, DoorError> {
        self.last = None;
        if self.owed {
            self.settle().await?;
        }
        let mut step = cmd("EVAL");
        step.arg(TAKE).arg(2).arg(&self.queue).arg(&self.internal).arg(limit.items.max(1)).arg(limit.bytes);
        loop {
            let items: Vec<Bytes> = self.server.ask(&step).await?;
            let Some(oldest) = items.first() else {
                self.wait().await?;
                continue;
            };
            let batch = Batch::of(self.durable.chain, &items);
            self.last = Some(Last { batch, oldest: oldest.clone(), connects: self.server.connects });
            return Ok(Taken { position: batch.encode(), items });
        }
    }

    async fn committed(&mut self) -> Result<(), DoorError> {
        let Some(Last { batch, oldest, connects }) = self.last.take() else { return Ok(()) };
        self.durable = batch;
        self.owed = true;
        let left = self.acknowledge(batch, &oldest).await?;
        self.owed = false;
        match left {
            -1 => Ok(()),
            // What it forgot, we have. What it fell back to (an older snapshot) is taken again.
            _ if left == 0 || connects != self.server.connects => {
                tracing::warn!(
                    items = batch.count,
                    "{}: the items taken are no longer there: Redis was flushed, or restarted without its last data",
                    self.server.place
                );
                Ok(())
            }
            _ => Err(DoorError::Operator(format!(
                "{}: somebody else takes from this queue or from {}: the relay must be its only consumer; \
                 stop the other one (a bot with this source queue, another relay)",
                self.server.place, self.internal
            ))),
        }
    }
}

/// What a position holds: which batch, after which one, and of how many items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Batch {
    before: [u8; 16],
    /// Names the batch: a digest of the batch before and the items, so that equal batches have different names.
    chain: [u8; 16],
    count: u32,
}

impl Batch {
    const FORM: u8 = 1;
    const SIZE: usize = 1 + 16 + 16 + 4;

    fn of(before: [u8; 16], items: &[Bytes]) -> Batch {
        let mut hash = Sha256::new();
        hash.update(before);
        for item in items {
            hash.update((item.len() as u64).to_be_bytes());
            hash.update(item);
        }
        let mut chain = [0; 16];
        chain.copy_from_slice(&hash.finalize()[..16]);
        Batch { before, chain, count: items.len() as u32 }
    }

    /// As written in the note.
    fn name(&self) -> Vec<u8> {
        self.chain.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Batch::SIZE);
        bytes.push(Batch::FORM);
        bytes.extend_from_slice(&self.before);
        bytes.extend_from_slice(&self.chain);
        bytes.extend_from_slice(&self.count.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Batch> {
        let (&form, rest) = bytes.split_first()?;
        let (before, rest) = rest.split_first_chunk()?;
        let (chain, rest) = rest.split_first_chunk()?;
        let count = u32::from_be_bytes(rest.try_into().ok()?);
        (form == Batch::FORM && count > 0).then_some(Batch { before: *before, chain: *chain, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_batches_have_different_names() {
        let items = [Bytes::from_static(b"x")];
        let first = Batch::of([0; 16], &items);
        let second = Batch::of(first.chain, &items);
        assert_ne!(first.name(), second.name());
        assert_eq!(second.before, first.chain);
    }

    #[test]
    fn items_do_not_run_into_each_other() {
        let (ab_c, a_bc) = ([&b"ab"[..], b"c"], [&b"a"[..], b"bc"]);
        let of = |items: [&'static [u8]; 2]| Batch::of([0; 16], &items.map(Bytes::from_static));
        assert_ne!(of(ab_c), of(a_bc));
    }

    #[test]
    fn a_position_reads_back_and_nothing_else_does() {
        let batch = Batch::of([7; 16], &[Bytes::from_static(b"x")]);
        let bytes = batch.encode();
        assert_eq!(bytes.len(), Batch::SIZE);
        assert_eq!(Batch::decode(&bytes), Some(batch));
        for cut in 0..bytes.len() {
            assert_eq!(Batch::decode(&bytes[..cut]), None);
        }
        assert_eq!(Batch::decode(b"{\"file\":\"a.jsonl\",\"inode\":12345,\"offset\":1}"), None);
    }
}
