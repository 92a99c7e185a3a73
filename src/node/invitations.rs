//! Invitations of a running node: the book, on disk and in force, and the guests that come.
//!
//! A guest costs a place and some seconds, and gets a word of answer. It becomes a peer only by whoever has the
//! configuration file ([`super::Change`]).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore, mpsc, oneshot, watch};
use tracing::{Instrument, debug, error, info, warn};

use super::Core;
use super::newcomer::{Change, Newcomer};
use crate::envelope::{Key, Name, rfc3339};
use crate::invite::{Asked, Book, LONGEST, Message, OPEN, Parties, Record, Refusal, State, Welcome, host_nonce};
use crate::net::{Guest, GuestEnd, SOFTWARE, now};
use crate::store::{Commit, Cursor, StoreError};
use crate::watch::{Host, Invite, Invited};

/// How long a guest may take, with what we do for it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Guests that are heard at once.
const AT_ONCE: usize = 8;
/// How often what is over is forgotten.
const PRUNE_EVERY: Duration = Duration::from_secs(600);

/// The book, and who must hear of it.
pub(super) struct Invitations {
    core: Arc<Core>,
    book: Mutex<Book>,
    /// Moves when the book has changed.
    moved: watch::Sender<()>,
    changes: mpsc::Sender<Change>,
}

impl Invitations {
    /// As they stand in the store. Their guests are let in from now on.
    pub(super) async fn open(core: Arc<Core>, changes: mpsc::Sender<Change>) -> Result<Arc<Invitations>, StoreError> {
        let book = match core.gate.store().cursor(&Cursor::Invitations).await? {
            Some(bytes) => serde_cbor::from_slice(&bytes).unwrap_or_else(|reason| {
                error!(%reason, "the invitations in the store cannot be read: none is open");
                Book::default()
            }),
            None => Book::default(),
        };
        let (book, moved) = (Mutex::new(book), watch::Sender::new(()));
        let invitations = Arc::new(Invitations { core, book, moved, changes });
        invitations.let_in(&*invitations.book.lock().await).await;
        Ok(invitations)
    }

    /// Hears guests, as long as the network runs.
    pub(super) async fn serve(self: Arc<Self>) {
        let Some(mut guests) = self.core.net.guests() else { return };
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let mut prune = tokio::time::interval(PRUNE_EVERY);
        loop {
            tokio::select! {
                guest = guests.recv() => {
                    let Some(guest) = guest else { return };
                    // Too many: it is told by its connection's end, and may come again.
                    let Ok(place) = places.clone().try_acquire_owned() else { continue };
                    let this = self.clone();
                    let hearing = async move {
                        this.hear(guest).await;
                        drop(place);
                    };
                    tokio::spawn(hearing.in_current_span());
                }
                _ = prune.tick() => if let Err(reason) = self.change(|book| book.prune(now())).await {
                    warn!(reason, "old invitations were not forgotten");
                },
            }
        }
    }

    async fn hear(self: Arc<Self>, guest: Guest) {
        match tokio::time::timeout(PATIENCE, self.answer(guest)).await {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => debug!(%reason, "nothing came of a guest"),
            Err(_) => debug!("nothing came of a guest: it took too long"),
        }
    }

    async fn answer(self: &Arc<Self>, mut guest: Guest) -> Result<(), GuestEnd> {
        let (ticket, me, host) = (guest.ticket, self.core.gate.rules().me.clone(), self.core.net.key());
        let asked = match guest.asked(host).await {
            Ok(asked) => asked,
            Err(GuestEnd::Unreadable(reason)) => {
                warn!(%reason, "a guest is refused");
                return guest.answer(&Message::Refused(Refusal::Malformed)).await;
            }
            Err(end) => return Err(end),
        };
        // Before it learns anything; and again when it is made a peer.
        if let Err(refusal) = self.admits(&ticket, &asked.node, &asked.key).await {
            warn!(guest = %asked.node, key = %asked.key, reason = %refusal, "a guest has not joined");
            return guest.answer(&Message::Refused(refusal)).await;
        }
        let ours = host_nonce(&self.core.sealer.secret, &ticket, &asked.key, &asked.commitment);
        let theirs = guest.nonce(ours, &asked).await?;
        let parties = Parties { host: (&me, host), guest: (&asked.node, &asked.key), ticket: &ticket };
        let answer = match self.admit(ticket, asked.clone(), parties.words(&ours, &theirs)).await {
            Ok(()) => {
                let encryption = self.core.sealer.encryption;
                Message::Welcome(Welcome { node: me.clone(), encryption, software: SOFTWARE.into() })
            }
            Err(refusal) => Message::Refused(refusal),
        };
        guest.answer(&answer).await
    }

    async fn admit(self: &Arc<Self>, ticket: Key, asked: Asked, words: String) -> Result<(), Refusal> {
        let (answer, answered) = oneshot::channel();
        let newcomer = Newcomer { invitations: self.clone(), ticket, asked, words, answer };
        // Nobody has the file, or its holder has just gone.
        self.changes.try_send(Change::Admit(newcomer.into())).map_err(|_| Refusal::NotNow)?;
        answered.await.unwrap_or(Err(Refusal::NotNow))
    }

    /// Has the configuration read again.
    pub(super) async fn reload(&self) -> Result<(), String> {
        let gone = || String::from("nobody here has a configuration file to read");
        let (answer, answered) = oneshot::channel();
        self.changes.try_send(Change::Reload(answer)).map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }

    /// The record by which this node may join.
    pub(super) async fn admits(&self, ticket: &Key, name: &Name, key: &Key) -> Result<Record, Refusal> {
        self.book.lock().await.admits(ticket, name, key, now()).cloned()
    }

    /// The invitation is used; durable when this returns.
    pub(super) async fn take(&self, ticket: &Key, key: Key, words: &str, done: bool) -> Result<(), String> {
        self.change(|book| {
            book.take(ticket, key, words.into(), done, now());
            true
        })
        .await
        .map(|_| ())
    }

    /// Answers an operator.
    pub(super) async fn tend(&self, invite: &Invite) -> Result<Vec<String>, String> {
        match invite {
            Invite::Open { name, ticket, valid, community } => self.invite(name, *ticket, *valid, *community).await,
            Invite::List => {
                let book = self.book.lock().await;
                Ok(book.records().iter().map(|record| json(&invited(record))).collect())
            }
            Invite::Cancel(name) => {
                if !self.change(|book| book.cancel(name, now())).await? {
                    return Err(format!("no invitation for {name} is open: `intelmq-relay invite list` shows all"));
                }
                info!(guest = %name, "the invitation is withdrawn");
                Ok(Vec::new())
            }
            Invite::Wait(ticket) => self.wait(ticket).await,
        }
    }

    async fn invite(&self, name: &Name, ticket: Key, valid: u64, community: bool) -> Result<Vec<String>, String> {
        let rules = self.core.gate.rules();
        if *name == rules.me {
            return Err(format!("{name} is this node: name the one that is to join"));
        }
        if rules.terms.contains_key(name) {
            return Err(format!(
                "{name} is a peer already: for a new key, remove it first (`intelmq-relay peer remove`)"
            ));
        }
        let expires = now() + valid.min(LONGEST);
        let mut opened = None;
        let record = Record { name: name.clone(), ticket, expires, community, state: State::Open };
        self.change(|book| {
            opened = book.open(record, now());
            opened.is_some()
        })
        .await?;
        let too_many = || format!("{OPEN} invitations are open: withdraw one (`intelmq-relay invite cancel`)");
        let instead = opened.ok_or_else(too_many)?;
        info!(guest = %name, expires = rfc3339(expires), "invited");
        let listening = self.core.net.listening();
        Ok(vec![json(&Host { name: rules.me.clone(), key: *self.core.net.key(), listening, expires, instead })])
    }

    async fn wait(&self, ticket: &Key) -> Result<Vec<String>, String> {
        let mut moved = self.moved.subscribe();
        loop {
            moved.mark_unchanged();
            let expires = {
                let book = self.book.lock().await;
                let record = book.find(ticket).ok_or("the invitation is forgotten")?;
                match &record.state {
                    State::Open if record.is_open(now()) => {}
                    State::Used { done: false, .. } => {}
                    State::Open | State::Cancelled(_) | State::Used { .. } => return Ok(vec![json(&invited(record))]),
                }
                record.expires
            };
            let rest = Duration::from_millis(expires.saturating_sub(now()).max(10));
            let _ = tokio::time::timeout(rest, moved.changed()).await;
        }
    }

    /// Changes the book, if `change` says that there is something to; durable, and in force, when this returns.
    async fn change(&self, change: impl FnOnce(&mut Book) -> bool) -> Result<bool, String> {
        let mut book = self.book.lock().await;
        let mut next = book.clone();
        if !change(&mut next) {
            return Ok(false);
        }
        // Plain data into memory.
        let bytes = serde_cbor::to_vec(&next).map_err(|error| error.to_string())?;
        let cursors = vec![(Cursor::Invitations, bytes)];
        let stored = self.core.gate.store().commit(Commit { cursors, ..Commit::default() }).await;
        if let Err(error) = stored {
            let text = error.to_string();
            if !matches!(error, StoreError::Full { .. }) {
                // As every task that finds the store broken.
                let _ = self.core.failed.try_send(error);
            }
            return Err(text);
        }
        *book = next;
        self.let_in(&book).await;
        self.moved.send_replace(());
        Ok(true)
    }

    /// Those of the book are guests: also what is over, to be told so.
    async fn let_in(&self, book: &Book) {
        // An error is the network's end.
        let _ = self.core.net.set_guests(book.records().iter().map(|record| record.ticket)).await;
    }
}

fn invited(record: &Record) -> Invited {
    let (state, key, words) = match &record.state {
        State::Open if record.is_open(now()) => ("open", None, None),
        State::Open => ("expired", None, None),
        State::Cancelled(_) => ("cancelled", None, None),
        State::Used { key, words, .. } => ("used", Some(*key), Some(words.clone())),
    };
    Invited { name: record.name.clone(), state: state.into(), expires: rfc3339(record.expires), key, words }
}

fn json(what: &impl serde::Serialize) -> String {
    // Plain data: it has no form that fails.
    serde_json::to_string(what).unwrap_or_default()
}
