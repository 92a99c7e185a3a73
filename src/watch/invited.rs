//! What a node says about invitations, as JSON: for the commands that ask, and for `--json`.

use serde::{Deserialize, Serialize};

use crate::envelope::{Key, Name};

/// The node that invites.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its name.
    pub name: Name,
    /// Its key.
    pub key: Key,
    /// Where it listens now.
    pub listening: Vec<String>,
    /// When the invitation ends, ms since 1970.
    pub expires: u64,
    /// An open one for the same name was withdrawn.
    pub instead: bool,
}

/// An invitation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invited {
    /// Whom it is for.
    pub name: Name,
    /// `open`, `expired`, `cancelled` or `used`.
    pub state: String,
    /// When it ends, or would have.
    pub expires: String,
    /// Who has joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    /// The words to compare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<String>,
}
