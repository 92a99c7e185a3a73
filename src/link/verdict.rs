//! What became of an envelope at the gate: an outcome, not an error. It travels back to the sender, is counted, and
//! answers "why".

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// Longest name of a peer's rule that is kept, in characters.
const MAX_RULE: usize = 64;

/// The decision on one envelope.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// New; in the log.
    Accepted,
    /// A fuller copy of what was known; in the log.
    Completed,
    /// Known, as full or fuller.
    Duplicate,
    /// Our own event, or one that passed us already.
    Loop,
    /// Older than the age window.
    TooOld,
    /// Sealed later than our clock allows.
    FromTheFuture,
    /// Its origin is nobody we know, or has another key.
    UnknownOrigin,
    /// Its seal does not hold.
    BadSignature,
    /// Over a limit.
    TooBig,
    /// No envelope.
    Malformed,
    /// Its origin has withdrawn it.
    Withdrawn,
    /// A rule of ours says no; which one.
    Refused(String),
    /// Not now: offer it again.
    Later,
}

impl Verdict {
    /// The word without the rule: what counters count.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Accepted => "accepted",
            Verdict::Completed => "completed",
            Verdict::Duplicate => "duplicate",
            Verdict::Loop => "loop",
            Verdict::TooOld => "too-old",
            Verdict::FromTheFuture => "from-the-future",
            Verdict::UnknownOrigin => "unknown-origin",
            Verdict::BadSignature => "bad-signature",
            Verdict::TooBig => "too-big",
            Verdict::Malformed => "malformed",
            Verdict::Withdrawn => "withdrawn",
            Verdict::Refused(_) => "refused",
            Verdict::Later => "later",
        }
    }

    /// The verdict that is written so.
    pub fn read(text: &str) -> Option<Verdict> {
        use Verdict::{
            Accepted, BadSignature, Completed, Duplicate, FromTheFuture, Later, Loop, Malformed, TooBig, TooOld,
            UnknownOrigin, Withdrawn,
        };
        if let Some(rule) = text.strip_prefix("refused:") {
            return Some(Verdict::Refused(rule.into()));
        }
        let plain = [
            Accepted,
            Completed,
            Duplicate,
            Loop,
            TooOld,
            FromTheFuture,
            UnknownOrigin,
            BadSignature,
            TooBig,
            Malformed,
            Withdrawn,
            Later,
        ];
        plain.into_iter().find(|verdict| verdict.word() == text)
    }

    /// A peer's verdict, its rule's name fit for a log line and for a counter.
    pub(super) fn bounded(self) -> Verdict {
        match self {
            Verdict::Refused(rule) => {
                Verdict::Refused(rule.chars().filter(|c| !c.is_control()).take(MAX_RULE).collect())
            }
            plain => plain,
        }
    }

    /// Whether something new came into the log.
    pub fn is_new(&self) -> bool {
        matches!(self, Verdict::Accepted | Verdict::Completed)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Refused(rule) => write!(f, "refused:{rule}"),
            plain => f.write_str(plain.word()),
        }
    }
}

/// Serialises counters by what they count, as a map from its words.
pub fn by_word<W: fmt::Display, S: Serializer>(counts: &BTreeMap<W, u64>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(counts.iter().map(|(word, count)| (word.to_string(), count)))
}
