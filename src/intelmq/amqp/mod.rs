//! The AMQP door: IntelMQ's queues in RabbitMQ, read and written by IntelMQ's own contract.
//!
//! A queue is reached by the default exchange and its name. It is durable and lazy, as IntelMQ declares it; a queue
//! that is already there is used as it is, whatever its arguments. [`source`] takes many messages and acknowledges
//! them together, [`sink`] is one more producer, with confirms.
//!
//! The broker has no place for a note that changes in one step with a queue. So the source recognises what comes back
//! after a crash by its own memory and by the broker's word that it was delivered before; and what the sink gave and
//! did not yet note comes twice after a crash.
//!
//! This file owns the connection and the sorting of errors. Nobody else imports the `lapin` crate.

mod probe;
mod sink;
mod source;

pub use probe::{AmqpProbe, probe};
pub use sink::AmqpSink;
pub use source::AmqpSource;

use std::time::Duration;

use futures::FutureExt;
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Channel, Connection, ConnectionProperties, Error, ErrorKind, Queue};
use tokio::time::timeout;

use super::DoorError;
use crate::config;

/// How long connecting may take, until the queue is known.
const CONNECT: Duration = Duration::from_secs(10);
/// Seconds between two signs of life, as IntelMQ's bots have it. A silence of twice as long ends the connection.
const HEARTBEAT: u16 = 10;

/// One queue of one broker.
struct Server {
    uri: AMQPUri,
    queue: String,
    /// For texts: "RabbitMQ at 127.0.0.1:5672, vhost /, queue relay-out-queue".
    place: String,
}

/// A connection, and a channel on which the queue was seen. Dropping it closes both.
struct Link {
    connection: Connection,
    channel: Channel,
}

impl Drop for Link {
    fn drop(&mut self) {
        // A consumer whose start was broken off would keep the connection, and with it the queue. The first poll says
        // that it ends; nobody waits for the answer.
        let _ = self.connection.close(200, "".into()).now_or_never();
    }
}

impl Server {
    fn new(config: &config::Amqp, queue: &str) -> Server {
        let config::Amqp { host, port, vhost, user, password } = config;
        let uri = AMQPUri {
            scheme: AMQPScheme::AMQP,
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo { username: user.clone(), password: password.0.clone() },
                host: host.clone(),
                port: *port,
            },
            vhost: vhost.clone(),
            query: AMQPQueryString { heartbeat: Some(HEARTBEAT), ..AMQPQueryString::default() },
        };
        let place = format!("RabbitMQ at {host}:{port}, vhost {vhost}, queue {queue}");
        Server { uri, queue: queue.to_owned(), place }
    }

    /// Connects, and declares the queue as IntelMQ does if it is absent.
    async fn open(&self) -> Result<Link, DoorError> {
        self.in_time(async {
            let connection = self.connect().await?;
            let channel = match self.look(&connection).await? {
                Some((channel, _)) => channel,
                None => {
                    let channel = connection.create_channel().await?;
                    self.declare(&channel).await?;
                    channel
                }
            };
            Ok(Link { connection, channel })
        })
        .await
    }

    /// What a broker that is frozen or no broker does not answer is given up.
    async fn in_time<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, DoorError> {
        match timeout(CONNECT, work).await {
            Ok(done) => done.map_err(|e| self.failed(&e)),
            Err(_) => Err(DoorError::Retry(format!("{}: no answer in {} s", self.place, CONNECT.as_secs()))),
        }
    }

    async fn connect(&self) -> Result<Connection, Error> {
        let properties = ConnectionProperties::default().with_connection_name("intelmq-relay".into());
        Connection::connect_uri(self.uri.clone(), properties).await
    }

    /// The queue, and a channel that is still good; `None` if there is no such queue.
    async fn look(&self, connection: &Connection) -> Result<Option<(Channel, Queue)>, Error> {
        let channel = connection.create_channel().await?;
        match self.inspect(&channel).await {
            Ok(queue) => Ok(Some((channel, queue))),
            // With the answer, the broker has closed the channel.
            Err(error) if code(&error) == Some(NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn inspect(&self, channel: &Channel) -> Result<Queue, Error> {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(self.queue.as_str().into(), passive, FieldTable::default()).await
    }

    /// As IntelMQ does: its bots could not use a queue with other arguments.
    async fn declare(&self, channel: &Channel) -> Result<Queue, Error> {
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-mode".into(), AMQPValue::LongString("lazy".into()));
        channel.queue_declare(self.queue.as_str().into(), durable, arguments).await
    }

    fn failed(&self, error: &Error) -> DoorError {
        sort(&self.place, code(error), &error.to_string())
    }
}

const ACCESS_REFUSED: u16 = 403;
const NOT_FOUND: u16 = 404;
const RESOURCE_LOCKED: u16 = 405;
const PRECONDITION_FAILED: u16 = 406;
const NOT_ALLOWED: u16 = 530;
const NOT_IMPLEMENTED: u16 = 540;

/// What the broker itself said, by its number.
fn code(error: &Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}

/// What an operator must mend: the broker's number, part of its words, and the remedy. Everything else passes by
/// itself (away, restarting, a queue that was removed, a consumer that was not yet given up) and is tried again.
const OPERATOR: &[(u16, &str, &str)] = &[
    (
        ACCESS_REFUSED,
        "ogin was refused",
        "it refuses user and password: correct `user` and `password` of the door's \
      server (the user guest may come from the broker's own machine only)",
    ),
    (
        ACCESS_REFUSED,
        "access to",
        "the user lacks a permission: grant it configure, write and read on the queue and \
      write on the exchange amq.default (`rabbitmqctl set_permissions`)",
    ),
    (
        NOT_ALLOWED,
        "not found",
        "there is no such vhost: correct `vhost` of the door's server, or add it \
      (`rabbitmqctl add_vhost`)",
    ),
    (
        NOT_ALLOWED,
        "refused for user",
        "the user may not enter the vhost: correct `vhost` of the door's server, or let \
      the user in (`rabbitmqctl set_permissions`)",
    ),
    (RESOURCE_LOCKED, "", "the queue belongs to somebody else's connection alone: correct `queue` of the door"),
    (PRECONDITION_FAILED, "larger than", "an event is larger than it takes: raise its `max_message_size`"),
    (NOT_IMPLEMENTED, "", "it cannot do what the door needs: use a RabbitMQ of version 3.8 or later"),
];

fn sort(place: &str, code: Option<u16>, answer: &str) -> DoorError {
    if code == Some(ACCESS_REFUSED) && answer.contains("exclusive") {
        return DoorError::Retry(format!(
            "{place}: somebody else takes from this queue, and the relay must be its only consumer: stop the other one (a \
             bot with this source queue, another relay); after a crash, it may be our own old connection, and passes \
             ({answer})"
        ));
    }
    let known = OPERATOR.iter().find(|(number, mark, _)| code == Some(*number) && answer.contains(mark));
    match known {
        Some((_, _, remedy)) => DoorError::Operator(format!("{place}: {remedy} ({answer})")),
        None => DoorError::Retry(format!("{place}: {answer}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stays_wrong_is_the_operators() {
        for (code, passing) in [
            (None, "IO error: Connection refused (os error 111)"),
            (Some(320), "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"),
            (Some(NOT_FOUND), "NOT_FOUND - no queue 'q' in vhost '/'"),
            (Some(ACCESS_REFUSED), "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use"),
            (Some(PRECONDITION_FAILED), "PRECONDITION_FAILED - inequivalent arg 'x-queue-mode' for queue 'q'"),
            (Some(541), "INTERNAL_ERROR"),
        ] {
            assert!(matches!(sort("here", code, passing), DoorError::Retry(_)), "{passing}");
        }
        for (code, staying) in [
            (ACCESS_REFUSED, "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN."),
            (ACCESS_REFUSED, "ACCESS_REFUSED - access to queue 'q' in vhost '/' refused for user 'x'"),
            (NOT_ALLOWED, "NOT_ALLOWED - vhost nowhere not found"),
            (NOT_ALLOWED, "NOT_ALLOWED - access to vhost '/' refused for user 'x'"),
            (RESOURCE_LOCKED, "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'"),
            (PRECONDITION_FAILED, "PRECONDITION_FAILED - message size 99 is larger than configured max size 9"),
        ] {
            assert!(matches!(sort("here", Some(code), staying), DoorError::Operator(_)), "{staying}");
        }
    }

    #[test]
    fn the_password_is_in_no_text() {
        let password = config::Password("hunter2".into());
        let config = config::Amqp { password, ..config::Amqp::default() };
        assert_eq!(Server::new(&config, "q").place, "RabbitMQ at 127.0.0.1:5672, vhost /, queue q");
    }
}
