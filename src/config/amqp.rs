//! The AMQP doors' sections: `[[take.amqp]]` and `[[give.amqp]]`.

use serde::Deserialize;

use super::{Events, Password, Seal};
use crate::envelope::Name;

/// How to reach a RabbitMQ broker: as IntelMQ's `*_pipeline_{host,port,username,password,amqp_virtual_host}`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Amqp {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Virtual host.
    pub vhost: String,
    /// User,
    pub user: String,
    /// and password.
    pub password: Password,
}

impl Amqp {
    /// User and password of a broker that is as it was installed; no secret.
    pub const GUEST: &str = "guest";
}

impl Default for Amqp {
    fn default() -> Amqp {
        Amqp {
            host: "127.0.0.1".into(),
            port: 5672,
            vhost: "/".into(),
            user: Amqp::GUEST.into(),
            password: Password(Amqp::GUEST.into()),
        }
    }
}

/// `[[take.amqp]]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TakeAmqp {
    /// The door's name.
    pub name: Name,
    /// The queue that a bot's `destination_queues` names; the relay is its one consumer.
    pub queue: String,
    /// The broker.
    pub server: Amqp,
    /// What is said about its events.
    #[serde(default)]
    pub seal: Seal,
}

/// `[[give.amqp]]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GiveAmqp {
    /// The door's name.
    pub name: Name,
    /// The bot's source queue, `<bot-id>-queue`.
    pub queue: String,
    /// The broker.
    pub server: Amqp,
    /// Above this length of the queue, deliver waits.
    #[serde(default = "default_high_water")]
    pub high_water: u64,
    /// Which events, and how they are written. Default shape: `extra`.
    #[serde(default)]
    pub events: Events,
}

fn default_high_water() -> u64 {
    100_000
}
