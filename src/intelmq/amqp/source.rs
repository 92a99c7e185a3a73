//! Out of IntelMQ: many messages at a time, acknowledged together when they are durable here.
//!
//! A message that was not acknowledged when a connection ends comes back, at its old place in the queue, marked as
//! redelivered. So after a crash between commit and acknowledgement the whole last batch is what comes first, and the
//! position that was committed with it knows it: a digest of each of its items, in their order. Three things keep new
//! items that are equal to old ones from being taken for them:
//!
//! - only what the broker marks as redelivered is looked at,
//! - and only as long as it is the batch's items from the first on, in their order;
//! - nothing is requested ahead: what lies behind a batch is delivered only when that batch is acknowledged, so what
//!   is marked is, after any crash, the last batch or what was taken next.
//!
//! What remains: killed with a batch taken and not stored, or sent to a connection that was ending, which begins with the
//! very items of the stored one before it (then those count as come back). And a broker that forgets acknowledgements (killed before they were on its disk)
//! may give more than the last batch again: that is taken again.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Acker, Consumer, Error};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, timeout_at};

use super::super::{DoorError, Source, TakeLimit, Taken};
use super::{Link, Server};
use crate::config;

/// How long more is awaited when something has come: what is on its way makes one commit.
const LINGER: Duration = Duration::from_millis(10);
/// The consumer's name at the broker. There is one at a time on a channel.
const TAG: &str = "intelmq-relay";

/// Takes from a queue of IntelMQ's. It is the queue's one consumer.
pub struct AmqpSource {
    server: Server,
    link: Option<Link>,
    /// Running: messages come. Between two takes there is none.
    consumer: Option<Consumer>,
    /// The consumer was told to stop, or was about to be.
    stopping: bool,
    /// What came and is not acknowledged, the oldest first,
    held: VecDeque<Item>,
    /// and how many bytes that is.
    bytes: usize,
    /// The digests of what the last take returned, which is the beginning of `held`.
    taken: Vec<Digest>,
    /// What is durable here, and perhaps still in the queue.
    owed: Vec<Digest>,
    /// What of `owed` may be the next to come back.
    expected: VecDeque<Digest>,
    /// The last of what must be acknowledged.
    acker: Option<Acker>,
    /// All that is `owed` is acknowledged on this connection.
    acknowledged: bool,
}

/// A message.
struct Item {
    text: Bytes,
    acker: Acker,
}

impl AmqpSource {
    /// `position`: the last one that was committed with its items; `None`: the first start. Connects to nothing yet.
    pub fn new(config: &config::TakeAmqp, position: Option<Vec<u8>>) -> AmqpSource {
        let known = position.as_deref().map(decode);
        if let Some(None) = known {
            tracing::warn!(door = %config.name, "the stored position is not of an AMQP door: starting without");
        }
        AmqpSource {
            server: Server::new(&config.server, &config.queue),
            link: None,
            consumer: None,
            stopping: false,
            held: VecDeque::new(),
            bytes: 0,
            taken: Vec::new(),
            owed: known.flatten().unwrap_or_default(),
            expected: VecDeque::new(),
            acker: None,
            acknowledged: false,
        }
    }

    /// The connection is gone, and everything that was not acknowledged on it comes again.
    fn forget(&mut self) {
        self.consumer = None;
        self.link = None;
        self.stopping = false;
        self.held.clear();
        self.bytes = 0;
        self.taken.clear();
        self.expected = self.owed.iter().copied().collect();
        self.acker = None;
        self.acknowledged = false;
    }

    fn failed(&mut self, error: &Error) -> DoorError {
        self.forget();
        self.server.failed(error)
    }

    async fn link(&mut self) -> Result<&Link, DoorError> {
        if self.link.is_none() {
            self.forget();
            self.link = Some(self.server.open().await?);
        }
        self.link.as_ref().ok_or_else(|| DoorError::Retry(format!("{}: no connection", self.server.place)))
    }

    /// Acknowledges up to `acker`. Done twice, when the first future was dropped, it is done once.
    async fn acknowledge(&mut self) -> Result<(), DoorError> {
        let Some(acker) = self.acker.clone() else { return Ok(()) };
        acker.ack(BasicAckOptions { multiple: true }).await.map_err(|e| self.failed(&e))?;
        if acker.poisoned() {
            self.forget();
            return Err(DoorError::Retry(format!("{}: the connection ended", self.server.place)));
        }
        self.acker = None;
        self.acknowledged = true;
        Ok(())
    }

    /// Sets how many messages may come, and waits for the answer: then the acknowledgements before it have arrived.
    async fn settle(&mut self, window: usize) -> Result<(), DoorError> {
        self.acknowledge().await?;
        let window = window.clamp(1, usize::from(u16::MAX)) as u16;
        let answer = self.link().await?.channel.basic_qos(window, BasicQosOptions::default()).await;
        answer.map_err(|e| self.failed(&e))?;
        if self.acknowledged {
            self.owed.clear();
            self.expected.clear();
            self.acknowledged = false;
        }
        Ok(())
    }

    async fn start(&mut self) -> Result<(), DoorError> {
        let queue = self.server.queue.as_str().into();
        // The broker refuses whoever else would take.
        let options = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
        let channel = &self.link().await?.channel;
        let consumer = channel.basic_consume(queue, TAG.into(), options, FieldTable::default()).await;
        self.consumer = Some(consumer.map_err(|e| self.failed(&e))?);
        Ok(())
    }

    /// Stops the consumer, and takes in what it still brought.
    async fn stop(&mut self) -> Result<(), DoorError> {
        if self.consumer.is_none() {
            return Ok(());
        }
        self.stopping = true;
        let stopped = self.link().await?.channel.basic_cancel(TAG.into(), BasicCancelOptions::default()).await;
        stopped.map_err(|e| self.failed(&e))?;
        while self.receive().await? {}
        self.consumer = None;
        self.stopping = false;
        Ok(())
    }

    /// Waits for one message, and takes it in; false: the consumer has stopped.
    async fn receive(&mut self) -> Result<bool, DoorError> {
        let Some(consumer) = &mut self.consumer else { return Ok(false) };
        match consumer.next().await {
            Some(Ok(delivery)) => {
                self.admit(delivery);
                Ok(true)
            }
            Some(Err(error)) => Err(self.failed(&error)),
            None if self.stopping => Ok(false),
            None => {
                self.forget();
                Err(DoorError::Retry(format!("{}: the queue was removed: declaring it anew", self.server.place)))
            }
        }
    }

    fn admit(&mut self, delivery: Delivery) {
        if let Some(next) = self.expected.front() {
            if delivery.redelivered && digest(&delivery.data) == *next {
                self.expected.pop_front();
                self.acker = Some(delivery.acker);
                return;
            }
            self.expected.clear();
        }
        self.bytes += delivery.data.len();
        self.held.push_back(Item { text: delivery.data.into(), acker: delivery.acker });
    }

    fn is_full(&self, limit: TakeLimit) -> bool {
        self.held.len() >= limit.items || self.bytes > limit.bytes
    }

    /// Takes in what comes, until there is something to return and nothing more on its way.
    async fn gather(&mut self, limit: TakeLimit) -> Result<(), DoorError> {
        let mut until = None;
        while !self.is_full(limit) {
            if self.acker.is_some() && self.expected.is_empty() {
                // Before anything new is returned: its position will not know these any more.
                self.stop().await?;
                return Ok(());
            }
            if self.held.is_empty() {
                self.receive().await?;
            } else {
                let until = *until.get_or_insert_with(|| Instant::now() + LINGER);
                match timeout_at(until, self.receive()).await {
                    Ok(more) => drop(more?),
                    Err(_) => break,
                }
            }
        }
        self.stop().await
    }

    /// How many of those held are a batch: one, or as many as the limit permits.
    fn batch(&self, limit: TakeLimit) -> usize {
        let mut bytes = 0;
        let fits = |item: &&Item| {
            bytes += item.text.len();
            bytes <= limit.bytes
        };
        self.held.iter().take(limit.items).take_while(fits).count().max(1).min(self.held.len())
    }
}

impl Source for AmqpSource {
    async fn take(&mut self, limit: TakeLimit) -> Result<Taken, DoorError> {
        let limit = TakeLimit { items: limit.items.max(1), ..limit };
        self.taken.clear();
        if self.stopping {
            // A take was dropped at that point.
            self.stop().await?;
        }
        loop {
            if self.consumer.is_none() {
                self.link().await?;
                // What is expected back must fit whole: it is acknowledged as one.
                let window = limit.items.saturating_sub(self.held.len()).max(self.expected.len());
                self.settle(window).await?;
                if !self.is_full(limit) {
                    self.start().await?;
                }
            }
            self.gather(limit).await?;
            if self.acker.is_none() && !self.held.is_empty() {
                break;
            }
        }
        let count = self.batch(limit);
        let items: Vec<Bytes> = self.held.iter().take(count).map(|item| item.text.clone()).collect();
        self.taken = items.iter().map(|item| digest(item)).collect();
        Ok(Taken { position: encode(&self.taken), items })
    }

    async fn committed(&mut self) -> Result<(), DoorError> {
        let count = self.taken.len();
        if count == 0 {
            return Ok(());
        }
        self.owed = std::mem::take(&mut self.taken);
        self.expected.clear();
        self.acknowledged = false;
        for item in self.held.drain(..count) {
            self.bytes -= item.text.len();
            self.acker = Some(item.acker);
        }
        self.acknowledge().await
    }
}

type Digest = [u8; 16];

fn digest(item: &[u8]) -> Digest {
    let mut digest = [0; 16];
    digest.copy_from_slice(&Sha256::digest(item)[..16]);
    digest
}

/// The first byte of a position, which tells it from that of another kind of door.
const FORM: u8 = 2;

fn encode(batch: &[Digest]) -> Vec<u8> {
    std::iter::once(FORM).chain(batch.iter().flatten().copied()).collect()
}

fn decode(position: &[u8]) -> Option<Vec<Digest>> {
    let (&form, rest) = position.split_first()?;
    let (digests, []) = rest.as_chunks::<16>() else { return None };
    (form == FORM).then(|| digests.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(known: &[&str]) -> AmqpSource {
        let config = config::TakeAmqp {
            name: "in".parse().unwrap(),
            queue: "q".into(),
            server: config::Amqp::default(),
            seal: config::Seal::default(),
        };
        let digests: Vec<_> = known.iter().map(|item| digest(item.as_bytes())).collect();
        let mut source = AmqpSource::new(&config, Some(encode(&digests)));
        source.forget();
        source
    }

    /// What is left to take when these come, `*` in front of what the broker marks as redelivered.
    fn left(known: &[&str], come: &[&str]) -> Vec<String> {
        let mut source = source(known);
        for (n, item) in come.iter().enumerate() {
            let text = item.trim_start_matches('*');
            let data = text.as_bytes().to_vec();
            source.admit(Delivery::mock(n as u64 + 1, "".into(), "q".into(), text != *item, data));
        }
        source.held.iter().map(|item| String::from_utf8(item.text.to_vec()).unwrap()).collect()
    }

    #[test]
    fn only_the_last_batch_come_back_is_known() {
        assert_eq!(left(&["a", "b"], &["*a", "*b", "*c", "d"]), ["c", "d"]);
        // It was acknowledged; what had been taken next came back.
        assert_eq!(left(&["a", "b"], &["*c", "*a", "*b"]), ["c", "a", "b"]);
        // New ones that are equal.
        assert_eq!(left(&["a", "b"], &["a", "b"]), ["a", "b"]);
        assert_eq!(left(&["a", "a"], &["*a", "*a", "*a", "a"]), ["a", "a"]);
        assert_eq!(left(&["a", "b"], &["*a", "b", "*b"]), ["b", "b"]);
        // Another order is another consumer's doing: rather twice than never.
        assert_eq!(left(&["a", "b"], &["*b", "*a"]), ["b", "a"]);
        assert_eq!(left(&[], &["*a"]), ["a"]);
    }

    #[test]
    fn a_position_reads_back_and_nothing_else_does() {
        let batch = [digest(b"a"), digest(b"b")];
        assert_eq!(decode(&encode(&batch)), Some(batch.to_vec()));
        assert_eq!(decode(&encode(&[])), Some(Vec::new()));
        assert_eq!(decode(&encode(&batch)[..20]), None);
        assert_eq!(decode(b""), None);
        assert_eq!(decode(b"{\"file\":\"a.jsonl\",\"inode\":12345,\"offset\":1}"), None);
    }
}
