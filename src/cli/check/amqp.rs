//! `check`, at RabbitMQ: whether the doors' queues are there, and whether bots of IntelMQ's could use them too.

use futures::future::join_all;

use super::Finding;
use crate::config::{self, Config};
use crate::intelmq::{AmqpProbe, DoorError, probe_amqp};

/// The AMQP doors, all at once.
pub(super) async fn amqp(config: &Config) -> Vec<Finding> {
    let take = config.take.amqp.iter().map(|door| (door.name.as_str(), &door.queue, &door.server));
    let give = config.give.amqp.iter().map(|door| (door.name.as_str(), &door.queue, &door.server));
    let looks = take.chain(give).map(|(name, queue, server)| look(name, queue, server));
    join_all(looks).await.into_iter().flatten().collect()
}

async fn look(name: &str, queue: &str, server: &config::Amqp) -> Vec<Finding> {
    let what = format!("door {name}");
    match probe_amqp(server, queue).await {
        Ok(None) => vec![Finding::ok(format!("{what}: RabbitMQ, queue {queue} will be declared"))],
        Ok(Some(AmqpProbe { length, consumers, as_intelmq })) => {
            let is = format!("{what}: RabbitMQ, queue {queue} with {length} items, {consumers} consumers");
            let mut findings = vec![Finding::ok(is)];
            if as_intelmq == Some(false) {
                findings.push(Finding::problem(
                    format!("{what}: no bot of IntelMQ can use {queue}"),
                    "it has not the arguments that IntelMQ declares (durable, x-queue-mode: lazy), so bots stop at it\n  \
                     remove the queue when it is empty: bots and the relay declare it anew",
                ));
            }
            findings
        }
        Err(DoorError::Retry(error)) => {
            let remedy = "start that RabbitMQ, or correct host and port of the door's server";
            vec![Finding::problem(what, format!("{error}\n  {remedy}"))]
        }
        Err(error) => vec![Finding::problem(what, error.to_string())],
    }
}
