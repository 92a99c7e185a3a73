//! `check`, at RabbitMQ: whether the doors' queues are there, whether bots of IntelMQ's could use them too, and whether
//! they do.

use futures::future::join_all;

use super::Finding;
use super::intelmq::{unreadable, wiring};
use crate::config::{self, Config};
use crate::intelmq::{AmqpProbe, Botnet, DoorError, probe_amqp};

/// A door and its queue.
struct Door<'a> {
    name: &'a str,
    queue: &'a str,
    server: &'a config::Amqp,
    takes: bool,
}

/// The AMQP doors, all at once.
pub(super) async fn amqp(config: &Config) -> Vec<Finding> {
    let take = config.take.amqp.iter();
    let take =
        take.map(|door| Door { name: door.name.as_str(), queue: &door.queue, server: &door.server, takes: true });
    let give = config.give.amqp.iter();
    let give =
        give.map(|door| Door { name: door.name.as_str(), queue: &door.queue, server: &door.server, takes: false });
    let doors: Vec<Door<'_>> = take.chain(give).collect();
    let mut findings: Vec<Finding> = join_all(doors.iter().map(look)).await.into_iter().flatten().collect();
    if let Some((file, botnet)) = Botnet::find().filter(|_| !doors.is_empty()) {
        let file = file.display().to_string();
        match botnet {
            Ok(botnet) => {
                let wired = |door: &Door<'_>| wiring(door.name, door.queue, door.takes, &botnet, &file);
                findings.extend(doors.iter().map(wired));
            }
            // Said already, where there are Redis doors too.
            Err(error) if config.take.redis.is_empty() && config.give.redis.is_empty() => {
                findings.push(unreadable(&file, &error));
            }
            Err(_) => {}
        }
    }
    findings
}

async fn look(door: &Door<'_>) -> Vec<Finding> {
    let Door { name, queue, server, takes } = door;
    let what = format!("door {name}");
    match probe_amqp(server, queue).await {
        Ok(None) => vec![Finding::ok(format!("{what}: RabbitMQ, queue {queue} will be declared"))],
        Ok(Some(AmqpProbe { length, consumers, as_intelmq })) => {
            let is = format!("{what}: RabbitMQ, queue {queue} with {length} items, {consumers} consumers");
            let mut findings = vec![Finding::ok(is)];
            // The relay itself is no consumer while it stores what it took; a bot always is one.
            if !takes && length > 0 && consumers == 0 {
                findings.push(Finding::note(
                    format!("{what}: nobody takes from {queue}"),
                    format!("{length} items wait\n  it is for a bot: does it run? (intelmqctl status)"),
                ));
            }
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
