//! The TCP doors' sections: `[[take.tcp]]` and `[[give.tcp]]`.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer};

use super::{Events, Seal};
use crate::envelope::Name;

/// `[[take.tcp]]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TakeTcp {
    /// The door's name.
    pub name: Name,
    /// Where IntelMQ's TCP outputs connect to: one address with its port, or several.
    #[serde(default = "default_listen", deserialize_with = "addresses")]
    pub listen: Vec<SocketAddr>,
    /// Networks that they connect from. The frames have no password: whoever may connect is believed.
    #[serde(default = "default_allow", deserialize_with = "networks")]
    pub allow: Vec<IpNet>,
    /// Connections at a time, at most. Each holds two events and a bit.
    #[serde(default = "default_max_connections")]
    pub max_connections: usize,
    /// What the output bot has as `separator`; none: it sends lengths.
    pub separator: Option<String>,
    /// What is said about its events.
    #[serde(default)]
    pub seal: Seal,
}

fn default_listen() -> Vec<SocketAddr> {
    vec![SocketAddr::from(([127, 0, 0, 1], 5000))]
}

/// This machine.
fn default_allow() -> Vec<IpNet> {
    // Lengths of prefixes that the addresses have.
    ["127.0.0.0/8", "::1/128"].iter().filter_map(|network| network.parse().ok()).collect()
}

/// More than bots that one CERT has.
fn default_max_connections() -> usize {
    64
}

/// `[[give.tcp]]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GiveTcp {
    /// The door's name.
    pub name: Name,
    /// Where IntelMQ's TCP collector listens: host and port.
    pub address: String,
    /// An event that has no answer after this long is sent again, seconds. Twice what IntelMQ's own output waits, as
    /// many events are under way.
    #[serde(default = "default_answer_seconds")]
    pub answer_seconds: f64,
    /// Which events, and how they are written. Default shape: `extra`.
    #[serde(default)]
    pub events: Events,
}

fn default_answer_seconds() -> f64 {
    30.0
}

/// One text, or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Texts {
    One(String),
    Many(Vec<String>),
}

impl Texts {
    fn parse<T, E: serde::de::Error>(self, what: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, E> {
        let texts = match self {
            Texts::One(text) => vec![text],
            Texts::Many(texts) => texts,
        };
        texts.iter().map(|text| parse(text).ok_or_else(|| E::custom(format_args!("{text:?} is no {what}")))).collect()
    }
}

fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    let what = "address to listen on: write it as \"127.0.0.1:5000\" or \"[::1]:5000\"";
    Texts::deserialize(deserializer)?.parse(what, |text| text.parse().ok())
}

fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let network = |text: &str| text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let what = "network: write it as \"192.0.2.0/24\" or \"2001:db8::/32\"";
    Texts::deserialize(deserializer)?.parse(what, network)
}
