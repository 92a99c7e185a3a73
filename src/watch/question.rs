//! The questions, and how the log answers them.

use std::io;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use uuid::Uuid;

use super::way::Known;
use super::why::{self, Why};
use super::{Node, line};
use crate::envelope::{Key, Kind, Name, Recipient, Shape};
use crate::store::{Cursor, Entry, ReadLimit, Reader, Store, StoreError};

pub(super) const NOT_RUNNING: &str = "the node is not running: start it with `intelmq-relay run`";
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
    /// What is in quarantine, after this number.
    Quarantine(u64),
    /// Something is to be done with items in quarantine.
    Settle {
        /// Their numbers; none: all.
        numbers: Vec<u64>,
        /// What.
        act: Act,
    },
    /// How the node stands.
    Status,
    /// A peer is to be given again what it may have.
    Resend {
        /// The peer.
        peer: Name,
        /// From what was stored at this time on, ms since 1970.
        since: u64,
    },
    /// The roster that is kept here: one line, base64; none where there is none.
    Roster,
    /// A signed roster, in base64, is to hold.
    Publish(String),
    /// What a key says about itself.
    Notice {
        /// Signed, in base64.
        notice: String,
        /// This node's own next key is to be used without waiting for anybody.
        at_once: bool,
    },
    /// An event of our own no longer holds.
    Recall(Recall),
    /// Something about invitations.
    Invite(Invite),
    /// The configuration is to be read again.
    Reload,
    /// What became of an event for each peer and door.
    Why {
        /// Its id.
        id: Uuid,
        /// Only for the peer or door of this name.
        peer: Option<Name>,
        /// The configuration file, as it is named in answers.
        file: String,
    },
}

/// What is done about invitations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Invite {
    /// One is opened. The answer: who this node is and where it listens, a line of JSON ([`Host`](super::Host)).
    Open {
        /// Whom it is for.
        name: Name,
        /// The identity that its secret makes. The secret itself is nobody's but the guest's.
        ticket: Key,
        /// For how long, ms.
        valid: u64,
        /// Whether the peer is given what a community has; else nothing.
        community: bool,
    },
    /// All are shown, a line of JSON each ([`Invited`](super::Invited)).
    List,
    /// The open one for this name is withdrawn.
    Cancel(Name),
    /// The one of this identity is waited for, until it is not open any more; then it is shown.
    Wait(Key),
}

/// What is done with an item in quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Act {
    /// Try it again: seal it, or deliver it.
    Retry,
    /// Throw it away.
    Drop,
}

/// What is done with an event that no longer holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recall {
    /// It is withdrawn.
    Withdraw {
        /// Its id.
        id: Uuid,
        /// Why, for those who have it.
        reason: String,
    },
    /// Its fields leave the log.
    Purge(Uuid),
    /// Another takes its place.
    Replace {
        /// Its id.
        id: Uuid,
        /// The new one, as a door would take it.
        event: String,
        /// The door whose seal holds for it; none: the only one there is.
        door: Option<Name>,
    },
}

/// Which entries; every part that is there must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    /// The message's id, or that of a message which it withdraws or replaces.
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
    /// The envelope itself, to ask policy about: see [`Seen`].
    Sealed,
}

/// An entry of the log as [`Form::Sealed`] writes it, one JSON object a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// Its number.
    pub seq: u64,
    /// The peer that brought it; none: sealed here.
    pub from: Option<Name>,
    /// The envelope's bytes, in base64.
    pub envelope: String,
}

impl Filter {
    fn admits(&self, entry: &Entry) -> bool {
        let header = entry.envelope.header();
        // With an event goes what says of it that it no longer holds.
        let links = [entry.envelope.withdraws(), header.links.replaces];
        self.id.is_none_or(|id| id == header.id || links.contains(&Some(id)))
            && self.peer.as_ref().is_none_or(|peer| entry.from.as_ref() == Some(peer))
            && self.origin.as_ref().is_none_or(|origin| *origin == header.origin)
            && self.kind.is_none_or(|kind| kind == header.kind)
    }
}

/// What answers where no node runs.
pub(super) struct AtRest {
    /// Who reads the log.
    pub(super) readers: Vec<Reader>,
    /// The node as a recipient, if its key can be had.
    pub(super) recipient: Option<Recipient>,
    /// Whose keys are known.
    pub(super) known: Known,
}

/// Who is asked.
#[derive(Clone, Copy)]
pub(super) enum Asked<'a> {
    #[allow(missing_docs)]
    Running(&'a dyn Node),
    /// The store alone, with what no node could say.
    AtRest(&'a AtRest),
}

impl<'a> Asked<'a> {
    fn node(self) -> Option<&'a dyn Node> {
        match self {
            Asked::Running(node) => Some(node),
            Asked::AtRest(_) => None,
        }
    }

    fn readers(self) -> &'a [Reader] {
        match self {
            Asked::Running(_) => &[],
            Asked::AtRest(rest) => &rest.readers,
        }
    }

    /// How it shows entries in this form. A running node may know more after a while.
    fn view(self, form: Form) -> View<'a> {
        match self {
            Asked::Running(node) => View { form, recipient: Some(node.recipient()), known: node.known() },
            Asked::AtRest(rest) => View { form, recipient: rest.recipient.as_ref(), known: rest.known.clone() },
        }
    }
}

/// How entries are shown.
pub(super) struct View<'a> {
    pub(super) form: Form,
    pub(super) recipient: Option<&'a Recipient>,
    /// By whose keys hops are verified, and events are void.
    pub(super) known: Known,
}

/// Writes the answer. An error is the reader's going away.
pub(super) async fn answer<W: AsyncWrite + Unpin>(
    question: &Question,
    store: &Store,
    asked: Asked<'_>,
    out: &mut W,
) -> io::Result<()> {
    let node = asked.node();
    match &question.ask {
        Ask::Log { after, last, follow, filter } => {
            let start = last.map(|last| store.head().saturating_sub(last)).or(*after).unwrap_or(0);
            log(start, *follow, filter, question.form, store, asked, out).await
        }
        Ask::Quarantine(after) => quarantine(*after, &asked.view(question.form), store, out).await,
        Ask::Settle { numbers, act } => match node {
            Some(node) => settle(numbers, *act, store, node, out).await,
            None => say(out, '!', NOT_RUNNING).await,
        },
        Ask::Status => match node {
            Some(node) => say(out, '=', &node.report().to_string()).await,
            None => say(out, '!', NOT_RUNNING).await,
        },
        Ask::Resend { peer, since } => match node.map(|node| node.resend(peer, *since)) {
            Some(Ok(done)) => say(out, '=', &done).await,
            Some(Err(reason)) => say(out, '!', &reason).await,
            None => say(out, '!', NOT_RUNNING).await,
        },
        Ask::Roster => match store.cursor(&Cursor::Roster).await {
            Ok(Some(roster)) => say(out, '=', &BASE64.encode(roster)).await,
            Ok(None) => Ok(()),
            Err(error) => say(out, '!', &error.to_string()).await,
        },
        Ask::Publish(roster) => {
            let Some(node) = node else { return say(out, '!', NOT_RUNNING).await };
            let Ok(roster) = BASE64.decode(roster) else { return say(out, '!', "the roster is not base64").await };
            tell(node.publish(roster).await, out).await
        }
        Ask::Notice { notice, at_once } => {
            let Some(node) = node else { return say(out, '!', NOT_RUNNING).await };
            let Ok(notice) = BASE64.decode(notice) else { return say(out, '!', "the notice is not base64").await };
            tell(node.notice(notice, *at_once).await, out).await
        }
        Ask::Recall(recall) => match node {
            Some(node) => {
                tell(node.recall(recall).await.map(|done| done.lines().map(str::to_owned).collect()), out).await
            }
            None => say(out, '!', NOT_RUNNING).await,
        },
        Ask::Invite(invite) => match node {
            Some(node) => tell(node.invite(invite).await, out).await,
            None => say(out, '!', NOT_RUNNING).await,
        },
        Ask::Reload => match node {
            Some(node) => tell(node.reload().await.map(|()| Vec::new()), out).await,
            None => say(out, '!', NOT_RUNNING).await,
        },
        Ask::Why { id, peer, file } => {
            let view = asked.view(question.form);
            let readers = asked.readers();
            let why = Why { id: *id, only: peer.as_ref(), file, store, node, readers, known: view.known };
            explain(&why, question.form, out).await
        }
    }
}

/// What the node has done, a line each, or why not.
async fn tell<W: AsyncWrite + Unpin>(done: Result<Vec<String>, String>, out: &mut W) -> io::Result<()> {
    match done {
        Ok(lines) => {
            for line in lines {
                say(out, '=', &line::clean(&line)).await?;
            }
            Ok(())
        }
        Err(reason) => say(out, '!', &line::clean(&reason)).await,
    }
}

async fn log<W: AsyncWrite + Unpin>(
    start: u64,
    follow: bool,
    filter: &Filter,
    form: Form,
    store: &Store,
    asked: Asked<'_>,
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
        let view = asked.view(form);
        for entry in entries.iter().filter(|entry| follow || entry.seq <= end).filter(|entry| filter.admits(entry)) {
            let header = entry.envelope.header();
            for line in line::entry(entry, &view, store.is_withdrawn(&header.key, header.id)) {
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

async fn explain<W: AsyncWrite + Unpin>(why: &Why<'_>, form: Form, out: &mut W) -> io::Result<()> {
    let mut entries = Vec::new();
    let (first, end) = (why.store.first() - 1, why.store.head());
    let mut at = first;
    while at < end && entries.len() < why::MOST {
        let step = match why.store.read(at, STEP).await {
            Ok(step) => step,
            Err(error) => return say(out, '!', &StoreError::to_string(&error)).await,
        };
        let Some(last) = step.last().map(|entry| entry.seq) else { break };
        let has_id = |entry: &Arc<Entry>| entry.envelope.header().id == why.id;
        entries.extend(step.into_iter().filter(has_id).take(why::MOST - entries.len()));
        at = last;
        say(out, '%', &format!("{}/{}", at.min(end) - first, end - first)).await?;
    }
    let answers = match why.answers(&entries).await {
        Ok(answers) => answers,
        Err(error) => return say(out, '!', &line::clean(&error)).await,
    };
    for (headline, answers) in answers {
        if let Form::Json(_) = form {
            for answer in &answers {
                say(out, '=', &answer.json()).await?;
            }
        } else if !answers.is_empty() {
            say(out, '=', headline.as_deref().unwrap_or("brought by peers, and not taken:")).await?;
            for answer in &answers {
                say(out, '=', &answer.text()).await?;
            }
        }
    }
    Ok(())
}

async fn quarantine<W: AsyncWrite + Unpin>(
    mut after: u64,
    view: &View<'_>,
    store: &Store,
    out: &mut W,
) -> io::Result<()> {
    loop {
        let items = match store.quarantined(after, 64).await {
            Ok(items) => items,
            Err(error) => return say(out, '!', &error.to_string()).await,
        };
        let Some((last, _)) = items.last() else { return Ok(()) };
        after = *last;
        for (number, item) in &items {
            for line in line::quarantined(*number, item, view.form, view.recipient) {
                say(out, '=', &line).await?;
            }
        }
    }
}

/// One line for each item that it was done with; an error, after them, when there were others.
async fn settle<W: AsyncWrite + Unpin>(
    numbers: &[u64],
    act: Act,
    store: &Store,
    node: &dyn Node,
    out: &mut W,
) -> io::Result<()> {
    let (mut after, mut refused) = (0, 0_u64);
    // What comes into quarantine meanwhile is not meant.
    let mut left = store.usage().quarantined;
    let mut next = numbers.iter();
    loop {
        let number = if numbers.is_empty() {
            match store.quarantined(after, 1).await {
                Ok(items) => items.first().filter(|_| left > 0).map(|(number, _)| *number),
                Err(error) => return say(out, '!', &error.to_string()).await,
            }
        } else {
            next.next().copied()
        };
        let Some(number) = number else { break };
        (after, left) = (number, left.saturating_sub(1));
        match node.quarantine(number, act).await {
            Ok(done) => say(out, '=', &format!("{number} {done}")).await?,
            Err(reason) => {
                refused += 1;
                say(out, '=', &format!("{number} {}", line::clean(&reason))).await?;
            }
        }
        out.flush().await?;
    }
    if refused > 0 { say(out, '!', &format!("{refused} not done, as said above")).await } else { Ok(()) }
}

async fn say<W: AsyncWrite + Unpin>(out: &mut W, mark: char, text: &str) -> io::Result<()> {
    // An answer's lines are ours; a value's line ends were taken out where it was written.
    out.write_all(format!("{mark}{text}\n").as_bytes()).await
}
