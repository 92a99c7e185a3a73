//! Into IntelMQ: events pushed to a bot's queue, with the mark beside them.
//!
//! Data and mark change in one script, and only if the mark is what this side read last. So a step that arrives late
//! (its answer was lost, its connection given up) is either found by [`Sink::mark`] or refused by the server.

use bytes::Bytes;
use std::time::Duration;

use ::redis::{Cmd, cmd};

use super::super::{DoorError, Mark, Sink};
use super::Server;
use crate::config;
use crate::envelope::Name;

/// Answers -1: done; -2: the mark is another one; otherwise the length of the queue, which is too long.
///
/// Only the first push can fail (no list, memory full), and then nothing was changed.
const GIVE: &str = "\
local mark = redis.call('GET', KEYS[2])
if (mark or '') ~= ARGV[1] then return -2 end
if #ARGV > 3 then
  local length = redis.call('LLEN', KEYS[1])
  if length >= tonumber(ARGV[3]) then return length end
end
for i = 4, #ARGV, 1000 do
  redis.call('LPUSH', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV)))
end
redis.call('SET', KEYS[2], ARGV[2])
return -1";

/// First and longest pause between two looks at a queue that is too long.
const PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Gives to a bot's queue.
pub struct RedisSink {
    server: Server,
    queue: String,
    /// The key of the mark, `relay:<node>:<door>:mark`.
    key: String,
    high_water: u64,
    /// The mark's text as the server has it ("": none); `None` when a step may be under way.
    known: Option<String>,
}

impl RedisSink {
    /// Connects to nothing yet.
    pub fn new(config: &config::GiveRedis, node: &Name) -> RedisSink {
        RedisSink {
            server: Server::new(&config.server, &config.queue),
            queue: config.queue.clone(),
            key: format!("relay:{node}:{}:mark", config.name),
            // At 0 nothing could ever be given.
            high_water: config.high_water.max(1),
            known: None,
        }
    }

    async fn read(&mut self) -> Result<String, DoorError> {
        let text: Option<Bytes> = self.server.ask(cmd("GET").arg(&self.key)).await?;
        Ok(String::from_utf8_lossy(&text.unwrap_or_default()).into_owned())
    }

    fn step(&self, known: &str, wanted: &str, items: &[Bytes]) -> Cmd {
        // In one piece: grown step by step, megabytes would be copied again and again.
        let bytes: usize = items.iter().map(Bytes::len).sum();
        let mut step = Cmd::with_capacity(items.len() + 8, bytes + GIVE.len() + 512);
        step.arg("EVAL").arg(GIVE).arg(2).arg(&self.queue).arg(&self.key).arg(known).arg(wanted).arg(self.high_water);
        for item in items {
            step.arg(&item[..]);
        }
        step
    }

    /// Waits until the queue is shorter than the high-water mark.
    async fn drained(&mut self, mut length: u64) -> Result<(), DoorError> {
        let (place, high_water) = (self.server.place.clone(), self.high_water);
        tracing::info!(length, high_water, "{place}: the bot behind it is slower than what comes: waiting");
        let mut pause = PAUSE;
        while length >= high_water {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            length = self.server.ask(cmd("LLEN").arg(&self.queue)).await?;
        }
        tracing::info!(length, high_water, "{place}: going on");
        Ok(())
    }
}

impl Sink for RedisSink {
    async fn mark(&mut self) -> Result<Option<Mark>, DoorError> {
        let text = self.read().await?;
        let mark = match text.as_str() {
            "" => None,
            text => Some(parse(text).ok_or_else(|| {
                DoorError::Operator(format!(
                    "{}: the key {} holds no mark of a relay's: if nobody else uses it, remove it",
                    self.server.place, self.key
                ))
            })?),
        };
        self.known = Some(text);
        Ok(mark)
    }

    async fn give(&mut self, items: &[Bytes], mark: Mark) -> Result<(), DoorError> {
        let wanted = text(mark);
        // Taken, not read: if this future is dropped, the next one must ask the server.
        let known = match self.known.take() {
            Some(known) => known,
            None => self.read().await?,
        };
        if known == wanted {
            // A step of ours whose answer got lost.
            self.known = Some(known);
            return Ok(());
        }
        let step = self.step(&known, &wanted, items);
        loop {
            match self.server.ask::<i64>(&step).await? {
                -1 => break,
                -2 => {
                    return Err(DoorError::Retry(format!(
                        "{}: the mark {} is not what it was (a step of ours arrived late, Redis was flushed, or \
                         another relay gives by this door's name): reading it again",
                        self.server.place, self.key
                    )));
                }
                length => self.drained(length.unsigned_abs()).await?,
            }
        }
        self.known = Some(wanted);
        Ok(())
    }
}

/// The log, the number, and the number of what came out of quarantine last, where something did.
fn text(Mark { log, seq, again }: Mark) -> String {
    if again == 0 { format!("{log} {seq}") } else { format!("{log} {seq} {again}") }
}

fn parse(text: &str) -> Option<Mark> {
    let (log, seq) = text.split_once(' ')?;
    let (seq, again) = seq.split_once(' ').unwrap_or((seq, "0"));
    Some(Mark { log: log.parse().ok()?, seq: seq.parse().ok()?, again: again.parse().ok()? })
}
