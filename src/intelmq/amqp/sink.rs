//! Into IntelMQ: publishes to a bot's queue, and waits until the broker has confirmed every message.
//!
//! The broker keeps no mark. A batch whose confirms came is noted by deliver; one that was cut off is given again, from
//! the first message on that was not confirmed. So it is at least once: after kill -9, one batch may come twice.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures::future::maybe_done;
use futures::poll;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation, Error};
use tokio::time::timeout;

use super::super::{DoorError, Mark, Sink};
use super::{Link, Server};
use crate::config;

/// First and longest pause between two looks at a queue that is too long.
const PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Longer than a broker usually takes to confirm a batch.
const SLOW: Duration = Duration::from_secs(5);

/// Gives to a bot's queue.
pub struct AmqpSink {
    server: Server,
    high_water: u64,
    /// `None` while a step is under way, too: what was broken off leaves confirms behind that are nobody's.
    link: Option<Link>,
    /// Messages of the last step that are confirmed, counted from its first.
    confirmed: usize,
}

/// How giving a batch ended.
enum Given {
    All,
    /// There is no such queue, the broker says.
    Returned,
    /// The broker could not take a message.
    Refused,
}

impl AmqpSink {
    /// Connects to nothing yet.
    pub fn new(config: &config::GiveAmqp) -> AmqpSink {
        AmqpSink {
            server: Server::new(&config.server, &config.queue),
            // At 0 nothing could ever be given.
            high_water: config.high_water.max(1),
            link: None,
            confirmed: 0,
        }
    }

    async fn open(&self) -> Result<Link, DoorError> {
        let link = self.server.open().await?;
        let confirms = link.channel.confirm_select(ConfirmSelectOptions::default()).await;
        confirms.map_err(|e| self.server.failed(&e))?;
        Ok(link)
    }

    async fn length(&self, channel: &Channel) -> Result<u64, DoorError> {
        let queue = self.server.inspect(channel).await.map_err(|e| self.server.failed(&e))?;
        Ok(queue.message_count().into())
    }

    /// Waits until the queue is shorter than the high-water mark.
    async fn drained(&self, channel: &Channel) -> Result<(), DoorError> {
        let (place, high_water) = (&self.server.place, self.high_water);
        let mut length = self.length(channel).await?;
        if length < high_water {
            return Ok(());
        }
        tracing::info!(length, high_water, "{place}: the bot behind it is slower than what comes: waiting");
        let mut pause = PAUSE;
        while length >= high_water {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            length = self.length(channel).await?;
        }
        tracing::info!(length, high_water, "{place}: going on");
        Ok(())
    }
}

impl Sink for AmqpSink {
    const KEEPS_MARK: bool = false;

    async fn mark(&mut self) -> Result<Option<Mark>, DoorError> {
        // What was wrong is over when the broker answers.
        let link = match self.link.take() {
            Some(link) => link,
            None => self.open().await?,
        };
        self.length(&link.channel).await?;
        self.link = Some(link);
        Ok(None)
    }

    async fn give(&mut self, items: &[Bytes], _: Mark) -> Result<(), DoorError> {
        self.confirmed = 0;
        if items.is_empty() {
            return Ok(());
        }
        let link = match self.link.take() {
            Some(link) => link,
            None => self.open().await?,
        };
        self.drained(&link.channel).await?;
        let given = {
            let (server, confirmed) = (&self.server, &mut self.confirmed);
            let mut giving = pin!(give(&link.channel, &server.queue, items, confirmed));
            match timeout(SLOW, &mut giving).await {
                Ok(given) => given,
                Err(_) => {
                    let alarm = link.connection.status().blocked();
                    tracing::warn!(
                        alarm,
                        "{}: it confirms nothing, low on memory or disk perhaps: waiting",
                        server.place
                    );
                    let given = giving.await;
                    tracing::info!("{}: going on", server.place);
                    given
                }
            }
        };
        let place = &self.server.place;
        match given.map_err(|e| self.server.failed(&e))? {
            Given::All => {
                self.link = Some(link);
                Ok(())
            }
            Given::Returned => {
                // Which of them were returned, the crate does not tell for certain.
                self.confirmed = 0;
                Err(DoorError::Retry(format!("{place}: the queue was removed: declaring it anew")))
            }
            Given::Refused => Err(DoorError::Retry(format!(
                "{place}: it refuses a message: the queue is full (`x-max-length`), or the broker lacks room: waiting"
            ))),
        }
    }

    fn confirmed(&self) -> usize {
        self.confirmed
    }
}

/// Publishes all, then awaits what the broker says to each, in order.
async fn give(channel: &Channel, queue: &str, items: &[Bytes], confirmed: &mut usize) -> Result<Given, Error> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    // Written to disk before it is confirmed.
    let persistent = BasicProperties::default().with_delivery_mode(2);
    let publish = |item| channel.basic_publish("".into(), queue.into(), options, item, persistent.clone());
    let mut published = Vec::with_capacity(items.len());
    for item in items {
        // The first poll puts the message in its place; awaiting each would be a turn of the connection per message.
        let mut message = Box::pin(maybe_done(publish(&item[..])));
        let _ = poll!(message.as_mut());
        published.push(message);
    }
    let mut confirms = Vec::with_capacity(items.len());
    for mut message in published {
        message.as_mut().await;
        confirms.extend(message.as_mut().take_output().transpose()?);
    }
    for confirm in confirms {
        match confirm.await? {
            Confirmation::Ack(None) => *confirmed += 1,
            Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)) => return Ok(Given::Returned),
            Confirmation::Nack(None) | Confirmation::NotRequested => return Ok(Given::Refused),
        }
    }
    Ok(Given::All)
}
