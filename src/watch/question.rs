//! The questions, and how the log answers them.

use std::io;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use uuid::Uuid;

use super::{Report, line};
use crate::envelope::{Kind, Name, Shape};
use crate::store::{Entry, ReadLimit, Store};

const STEP: ReadLimit = ReadLimit { entries: 512, bytes: 1 << 20 };

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// What.
    pub ask: Ask,
    /// In which form the answer is.
    #[serde(default)]
    pub form: Form,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ask {
    /// Entries of the log.
    Log {
        /// The number after which to begin; none: at the oldest.
        after: Option<u64>,
        /// Begin this many entries before the end instead.
        last: Option<u64>,
        /// Go on with what comes.
        follow: bool,
        #[allow(missing_docs)]
        filter: Filter,
    },
    /// What could not be read as an event, after this number.
    Quarantine(u64),
    /// How the node stands.
    Status,
}

/// Which entries; every part that is there must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    /// The message's id.
    pub id: Option<Uuid>,
    /// The peer that brought it.
    pub peer: Option<Name>,
    /// The node that sealed it.
    pub origin: Option<Name>,
    /// What it carries.
    pub kind: Option<Kind>,
}

/// How an entry is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// One line for a person, without payload.
    #[default]
    Line,
    /// Everything, for a person.
    Full,
    /// JSON in this shape.
    Json(Shape),
}

impl Filter {
    fn admits(&self, entry: &Entry) -> bool {
        let header = entry.envelope.header();
        self.id.is_none_or(|id| id == header.id)
            && self.peer.as_ref().is_none_or(|peer| entry.from.as_ref() == Some(peer))
            && self.origin.as_ref().is_none_or(|origin| *origin == header.origin)
            && self.kind.is_none_or(|kind| kind == header.kind)
    }
}

/// Writes the answer. An error is the reader's going away.
pub(super) async fn answer<W: AsyncWrite + Unpin>(
    question: &Question,
    store: &Store,
    report: Option<&dyn Report>,
    out: &mut W,
) -> io::Result<()> {
    match &question.ask {
        Ask::Log { after, last, follow, filter } => {
            let start = last.map(|last| store.head().saturating_sub(last)).or(*after).unwrap_or(0);
            log(start, *follow, filter, question.form, store, out).await
        }
        Ask::Quarantine(after) => quarantine(*after, question.form, store, out).await,
        Ask::Status => match report {
            Some(report) => say(out, '=', &report.report().to_string()).await,
            None => say(out, '!', "the node is not running: start it with `intelmq-relay run`").await,
        },
    }
}

async fn log<W: AsyncWrite + Unpin>(
    start: u64,
    follow: bool,
    filter: &Filter,
    form: Form,
    store: &Store,
    out: &mut W,
) -> io::Result<()> {
    let mut head = store.watch_head();
    // Without follow, what is there now: the log may grow faster than it is read.
    let (first, end) = (start.max(store.first() - 1), store.head());
    let mut at = first;
    while follow || at < end {
        let entries = match store.read(at, STEP).await {
            Ok(entries) => entries,
            Err(error) => return say(out, '!', &error.to_string()).await,
        };
        let Some(last) = entries.last().map(|entry| entry.seq) else {
            out.flush().await?;
            if !follow || head.changed().await.is_err() {
                break;
            }
            continue;
        };
        for entry in entries.iter().filter(|entry| follow || entry.seq <= end).filter(|entry| filter.admits(entry)) {
            for line in line::entry(entry, form) {
                say(out, '=', &line).await?;
            }
        }
        at = last;
        if !follow {
            say(out, '%', &format!("{}/{}", at.min(end) - first, end - first)).await?;
        }
    }
    Ok(())
}

async fn quarantine<W: AsyncWrite + Unpin>(mut after: u64, form: Form, store: &Store, out: &mut W) -> io::Result<()> {
    loop {
        let items = match store.quarantined(after, 64).await {
            Ok(items) => items,
            Err(error) => return say(out, '!', &error.to_string()).await,
        };
        let Some((last, _)) = items.last() else { return Ok(()) };
        after = *last;
        for (number, item) in &items {
            for line in line::quarantined(*number, item, form) {
                say(out, '=', &line).await?;
            }
        }
    }
}

async fn say<W: AsyncWrite + Unpin>(out: &mut W, mark: char, text: &str) -> io::Result<()> {
    // An answer's lines are ours; a value's line ends were taken out where it was written.
    out.write_all(format!("{mark}{text}\n").as_bytes()).await
}
