//! The Traffic Light Protocol 2.0, as a mark on an envelope.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A TLP 2.0 label. Ordered from the least to the most restrictive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tlp {
    /// For everybody (TLP 1: WHITE).
    Clear,
    /// For the community.
    Green,
    /// For the recipient's organisation and its clients.
    Amber,
    /// For the recipient's organisation only.
    AmberStrict,
    /// For the named recipients only.
    Red,
}

/// Why a text is no [`Tlp`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no TLP label: CLEAR (or WHITE), GREEN, AMBER, AMBER+STRICT or RED is allowed")]
pub struct TlpError(String);

impl Tlp {
    /// All of them.
    pub(super) const ALL: [Tlp; 5] = [Tlp::Clear, Tlp::Green, Tlp::Amber, Tlp::AmberStrict, Tlp::Red];

    /// The label without its `TLP:` prefix.
    pub fn as_str(self) -> &'static str {
        match self {
            Tlp::Clear => "CLEAR",
            Tlp::Green => "GREEN",
            Tlp::Amber => "AMBER",
            Tlp::AmberStrict => "AMBER+STRICT",
            Tlp::Red => "RED",
        }
    }
}

impl FromStr for Tlp {
    type Err = TlpError;

    /// In any case, with or without `TLP:`, TLP 1 names and IntelMQ's YELLOW included.
    fn from_str(text: &str) -> Result<Tlp, TlpError> {
        let label = text.trim().to_ascii_uppercase();
        match label.strip_prefix("TLP:").unwrap_or(&label).trim() {
            "CLEAR" | "WHITE" => Ok(Tlp::Clear),
            "GREEN" => Ok(Tlp::Green),
            "AMBER" | "YELLOW" => Ok(Tlp::Amber),
            "AMBER+STRICT" => Ok(Tlp::AmberStrict),
            "RED" => Ok(Tlp::Red),
            _ => Err(TlpError(text.chars().take(32).collect())),
        }
    }
}

impl fmt::Display for Tlp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Tlp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Tlp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Tlp, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_old_and_new_names_in_any_case() {
        for (text, tlp) in [
            ("white", Tlp::Clear),
            ("TLP:CLEAR", Tlp::Clear),
            ("tlp: green", Tlp::Green),
            ("Yellow", Tlp::Amber),
            ("AMBER+STRICT", Tlp::AmberStrict),
            ("RED", Tlp::Red),
        ] {
            assert_eq!(text.parse(), Ok(tlp), "{text}");
        }
        assert!("".parse::<Tlp>().is_err());
        assert!("TLP:PURPLE".parse::<Tlp>().is_err());
    }
}
