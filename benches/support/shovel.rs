//! RabbitMQ as one would use it for the same: two brokers, and a shovel that moves a durable queue's persistent messages
//! from one to the other, each acknowledged when the other broker has confirmed it. Without signatures or encryption.

use std::path::Path;
use std::time::{Duration, Instant};

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel};
use serde_json::json;

use crate::measured::Round;
use crate::nodes::process::{self, Disk};
use crate::rabbitmq::Rabbit;

/// Events that are published before the broker is asked whether it has them.
const AT_ONCE: usize = 1000;
/// How often the broker is asked how many it has.
const LOOK: Duration = Duration::from_millis(50);
/// How long all of a round may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// How AMQP says that a message is to be kept on disk.
const PERSISTENT: u8 = 2;

/// Whether it is installed.
pub fn is_there() -> bool {
    Path::new("/usr/lib/rabbitmq/bin/rabbitmq-server").exists()
}

/// Two brokers.
pub struct Brokers {
    from: Rabbit,
    to: Rabbit,
}

impl Brokers {
    pub async fn start() -> Brokers {
        Brokers { from: Rabbit::start().await, to: Rabbit::start_with(&["rabbitmq_shovel"]).await }
    }

    /// From the moment when the command that declares the shovel has ended: it would be measured too. By then a part of
    /// the events has arrived, which does not count.
    pub async fn round(&self, events: impl Iterator<Item = String>) -> Round {
        let [from, to] = [self.from.connect().await, self.to.connect().await];
        let [from, to] = [from.create_channel().await.unwrap(), to.create_channel().await.unwrap()];
        let all = fill(&from, events).await;
        declare(&to).await;
        let shovel = json!({
            "src-uri": format!("amqp://127.0.0.1:{}", self.from.config().port), "src-queue": "events",
            "dest-uri": "amqp://", "dest-queue": "events", "ack-mode": "on-confirm",
        });
        self.to.control(&["set_parameter", "shovel", "events", &shovel.to_string()]).await;
        let groups = [self.from.group(), self.to.group()];
        let cpu = || groups.map(process::cpu_seconds_of_group).iter().sum::<f64>();
        let (already, before, begun) = (declare(&to).await, cpu(), Instant::now());
        while declare(&to).await < all {
            assert!(begun.elapsed() < PATIENCE, "the shovel has not moved all");
            tokio::time::sleep(LOOK).await;
        }
        let (span, cpu) = (begun.elapsed(), cpu() - before);
        let counted = f64::from(all - already);
        assert!(counted > 0.0, "all events had arrived before it was measured: more are needed");
        let memory = groups.map(process::memory_of_group).iter().map(|memory| memory.most).sum::<u64>();
        let disk = Disk::of(self.to.folder()).blocks;
        self.to.control(&["clear_parameter", "shovel", "events"]).await;
        for channel in [&from, &to] {
            channel.queue_delete("events".into(), QueueDeleteOptions::default()).await.unwrap();
        }
        Round {
            rate: counted / span.as_secs_f64(),
            cpu: cpu * 1e6 / counted,
            disk: disk as f64 / f64::from(all),
            memory: memory as f64,
        }
    }
}

/// Puts all events into the queue, and returns how many there are.
async fn fill(channel: &Channel, events: impl Iterator<Item = String>) -> u32 {
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    declare(channel).await;
    let (mut count, mut unconfirmed) = (0, Vec::new());
    for event in events {
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let properties = properties.with_delivery_mode(PERSISTENT);
        let confirm = channel.basic_publish("".into(), "events".into(), options, event.as_bytes(), properties).await;
        unconfirmed.push(confirm.unwrap());
        count += 1;
        if unconfirmed.len() == AT_ONCE {
            futures::future::try_join_all(unconfirmed.drain(..)).await.unwrap();
        }
    }
    futures::future::try_join_all(unconfirmed).await.unwrap();
    count
}

/// Makes the queue where it is not there, and returns how many messages wait in it.
async fn declare(channel: &Channel) -> u32 {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare("events".into(), options, FieldTable::default()).await.unwrap().message_count()
}
