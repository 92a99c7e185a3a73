//! What an operator should know of a queue and its broker before trusting events to them. Changes nothing.

use super::{PRECONDITION_FAILED, Server, code};
use crate::config;
use crate::intelmq::DoorError;

/// A queue of a broker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AmqpProbe {
    /// Messages in the queue that nobody holds.
    pub length: u32,
    /// Consumers of the queue.
    pub consumers: u32,
    /// Whether it has the arguments with which IntelMQ's bots declare it; bots cannot use another one. `None`: the
    /// broker does not tell this user.
    pub as_intelmq: Option<bool>,
}

/// Looks at a door's queue; `None`: there is no such queue.
pub async fn probe(server: &config::Amqp, queue: &str) -> Result<Option<AmqpProbe>, DoorError> {
    let server = Server::new(server, queue);
    let look = async {
        let connection = server.connect().await?;
        let Some((channel, queue)) = server.look(&connection).await? else { return Ok(None) };
        // The broker compares, and tells; a queue that is there stays as it is.
        let as_intelmq = match server.declare(&channel).await {
            Ok(_) => Some(true),
            Err(error) if code(&error) == Some(PRECONDITION_FAILED) => Some(false),
            Err(_) => None,
        };
        Ok(Some(AmqpProbe { length: queue.message_count(), consumers: queue.consumer_count(), as_intelmq }))
    };
    server.in_time(look).await
}
