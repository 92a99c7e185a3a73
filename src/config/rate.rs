//! `[peer.rate]`: what one peer may bring.
//!
//! Owns the keys and their defaults. How a limit is kept is the link's.

use serde::{Deserialize, Deserializer};

use super::size;

/// Limits on what is taken from a peer; none: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rate {
    /// Events per second, on the average,
    pub events_per_second: Option<u64>,
    /// and bytes.
    #[serde(deserialize_with = "bytes")]
    pub bytes_per_second: Option<u64>,
    /// As much as comes in so many seconds at that pace may come at once after a quiet time. Ten: what a feed brings every
    /// few minutes is not stretched for long, and a flood is one soon.
    pub burst_seconds: u64,
    /// Events in 24 hours,
    pub events_per_day: Option<u64>,
    /// and bytes.
    #[serde(deserialize_with = "bytes")]
    pub bytes_per_day: Option<u64>,
}

impl Default for Rate {
    fn default() -> Rate {
        Rate {
            events_per_second: None,
            bytes_per_second: None,
            burst_seconds: 10,
            events_per_day: None,
            bytes_per_day: None,
        }
    }
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    size::bytes(deserializer).map(Some)
}
