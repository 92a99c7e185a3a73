//! Drives a link over a stream: bytes in, bytes out, the log read, the gate asked.
//!
//! Straight-line async around the pure [`Link`]. It must never wait for one thing while another could go on: a peer
//! that stops reading, or a disk that is slow, delays its own link only, and what is held for it is bounded by the
//! link's window.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::watch;

use super::beginning::{Beginning, position};
use super::giving::Giving;
use super::hello;
use super::notices::Noticing;
use super::outbox::Outbox;
use super::partner::{Partner, Test};
use super::slowed::Slowed;
use crate::accept::Gate;
use crate::envelope::{Name, Verifier};
use crate::link::{
    Claims, Frame, FrameError, From, Link, Outgoing, Settings, Submission, TokenKey, Verdict, Violation, decode_length,
};
use crate::policy::{Reason, Terms};
use crate::store::{Entry, Fate, ReadLimit, StoreError};

/// What one step reads of the log.
const READ: ReadLimit = ReadLimit { entries: 512, bytes: 512 << 10 };
/// What is read of it at once for a peer that had put it off.
const AGAIN: ReadLimit = ReadLimit { entries: 64, bytes: 256 << 10 };
/// Bytes that are read from the stream at once.
const CHUNK: usize = 64 << 10;
/// Roots of batches that a link's verifier remembers.
const ROOTS: usize = 1024;

/// Why a link ended. Only [`LinkEnd::Store`] concerns more than this link.
#[derive(Debug, thiserror::Error)]
pub enum LinkEnd {
    /// The peer closed it, or the connection broke.
    #[error("the connection ended: {0}")]
    Closed(std::io::Error),
    /// No hello within the time, or one that does not fit.
    #[error("{0}")]
    Hello(String),
    /// Bytes that are no frames.
    #[error("the peer sent {0}")]
    Frame(#[from] FrameError),
    /// Frames out of place, or silence.
    #[error("{0}")]
    Violation(#[from] Violation),
    /// A notice tells where we stood in the peer's log, and we had begun as if never met.
    #[error("the peer has told of the key that it had before: going on where we stood then")]
    KnownAfterAll,
    /// Our own store cannot go on: the node must stop.
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// What every link of a node needs.
pub struct Exchange {
    /// Where envelopes go, and the log to read.
    pub gate: Gate,
    /// How links behave.
    pub settings: Settings,
    /// The key of our resume tokens.
    pub token_key: TokenKey,
    /// What is wanted on which link.
    pub claims: Claims,
    /// Where the links' clock began.
    pub started: Instant,
    /// Moves with every step of a link.
    pub progress: watch::Sender<()>,
}

impl Exchange {
    /// Milliseconds of a clock that never goes back. It begins high: what is older than the process has a time too.
    pub fn clock(&self) -> u64 {
        (1 << 40) + self.started.elapsed().as_millis() as u64
    }

    /// Runs one link until it ends. `opens`: we speak first. Cancelling it loses nothing that was acknowledged.
    pub async fn run<S>(&self, stream: S, opens: bool, partner: &Partner) -> LinkEnd
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let _forget = Forget { exchange: self, partner };
        match self.drive(stream, opens, partner).await {
            Ok(never) => never,
            Err(end) => end,
        }
    }

    async fn drive<S>(&self, mut stream: S, opens: bool, partner: &Partner) -> Result<LinkEnd, LinkEnd>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let store = self.gate.store();
        let peer = &partner.bringer.name;
        let mut buffer = BytesMut::with_capacity(CHUNK);
        let (theirs, first) = hello::exchange(&mut stream, &mut buffer, self, opens, partner).await?;
        let cursor = self.cursor_of(partner).await?;
        let is_new = cursor.is_none();
        let resume = cursor.map_or(partner.first_contact.clone(), |token| From::Token(token.into()));
        let settings = Settings {
            envelope: self.settings.envelope.min(usize::try_from(theirs.envelope_bytes).unwrap_or(usize::MAX)),
            frame: self.settings.frame.min(usize::try_from(theirs.frame_bytes).unwrap_or(usize::MAX)),
            ..self.settings
        };
        let token_key = self.tokens_of(partner);
        let mut link = Link::new(partner.id, settings, token_key, store.log_id(), resume, self.clock());
        link.pull.keep_to(partner.allowance.clone());
        {
            let mut traffic = partner.traffic();
            traffic.links += 1;
            (traffic.linked, traffic.place) = (true, 0);
            traffic.test = Test { ours: partner.terms.borrow().test, theirs: theirs.test };
        }
        tracing::info!(%peer, software = theirs.software, "link up");
        let (reader, writer) = tokio::io::split(stream);
        let mut session = Session {
            exchange: self,
            partner,
            link,
            verifier: Verifier::new(ROOTS),
            out: Outbox::default(),
            undecided: 0,
            most: settings.envelope,
            most_frame: settings.frame,
            refused_rosters: 0,
            noticing: Noticing::new(is_new),
            tests_only: theirs.test,
            again: None,
            terms: partner.terms.subscribe(),
            withdrawals: store.watch_withdrawals(),
            trust: self.gate.watch_roster(),
        };
        session.run(reader, writer, buffer, first).await
    }
}

/// Frees what the link had claimed, however it ends.
struct Forget<'a> {
    exchange: &'a Exchange,
    partner: &'a Partner,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.exchange.claims.forget(self.partner.id);
        let mut traffic = self.partner.traffic();
        (traffic.linked, traffic.slowed) = (false, Slowed::default());
    }
}

/// Bytes that were submitted, and the verdicts by batch and slot.
type Decided = (usize, Vec<((u64, u16), Verdict)>);

pub(super) struct Session<'a> {
    pub(super) exchange: &'a Exchange,
    pub(super) partner: &'a Partner,
    pub(super) link: Link,
    verifier: Verifier,
    out: Outbox,
    /// Bytes of envelopes that came and are not decided: above our window nothing more is read.
    undecided: usize,
    /// Largest envelope that the peer accepts.
    most: usize,
    /// Largest frame that it accepts.
    pub(super) most_frame: usize,
    /// Rosters of its that were refused.
    pub(super) refused_rosters: u64,
    /// What was said to it of keys, and by it.
    pub(super) noticing: Noticing,
    /// It has said that it is in test mode.
    tests_only: bool,
    /// Since when it is given the log again, until it has all of it.
    again: Option<u64>,
    /// What it may have, as far as that was looked at.
    terms: watch::Receiver<Arc<Terms>>,
    /// What was withdrawn, as far as that was looked at.
    withdrawals: watch::Receiver<u64>,
    /// Whose word counts, as far as that was looked at.
    trust: watch::Receiver<()>,
}

impl<'a> Session<'a> {
    async fn run<R, W>(
        &mut self,
        mut reader: R,
        mut writer: W,
        mut buffer: BytesMut,
        first: Option<Frame>,
    ) -> Result<LinkEnd, LinkEnd>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let gate = &self.exchange.gate;
        let (mut head, mut decided) = (gate.store().watch_head(), gate.watch_decided());
        // Of the two that wait for new terms and for withdrawals these wake; the session's see to it that they hold.
        let (mut terms, mut withdrawals) = (self.terms.clone(), self.withdrawals.clone());
        let (mut resend, mut rosters) = (self.partner.resend.subscribe(), gate.watch_roster());
        let mut commits = FuturesOrdered::new();
        let mut unflushed = false;
        if let Some(frame) = first {
            commits.extend(self.frame(frame).await?.map(|submission| self.submit(submission)));
        }
        loop {
            // Everything that came is handled before anything is waited for.
            while self.has_room()
                && let Some(length) = decode_length(&mut buffer, self.exchange.settings.frame)?
            {
                let frame = Frame::decode(&buffer[..length])?;
                buffer.advance(length);
                commits.extend(self.frame(frame).await?.map(|submission| self.submit(submission)));
            }
            if !self.has_room() {
                // What it answers meanwhile, nobody reads: it is not silent.
                self.link.push.excuse(self.exchange.clock());
            }
            head.mark_unchanged();
            let claims_elsewhere = self.link.pull.waits();
            if claims_elsewhere {
                decided.mark_unchanged();
            }
            commits.extend(self.pump().await?.map(|submission| self.submit(submission)));
            self.post()?;
            self.count(!commits.is_empty());
            let due = Duration::from_millis(self.link.deadline().saturating_sub(self.exchange.clock()).min(60_000));
            // More of the log is due: on with it, but not before what came meanwhile.
            let more = self.link.push.needs(gate.store().head(), self.exchange.clock()).is_some() || self.reads_again();
            let mut pause = pin!(tokio::time::sleep(due));
            let writing = !self.out.is_empty();
            tokio::select! {
                read = reader.read_buf(&mut buffer), if self.has_room() => {
                    if read.map_err(LinkEnd::Closed)? == 0 {
                        return Err(LinkEnd::Closed(std::io::ErrorKind::UnexpectedEof.into()));
                    }
                }
                written = self.out.write_or_flush(&mut writer), if writing || unflushed => {
                    written.map_err(LinkEnd::Closed)?;
                    unflushed = writing;
                }
                Some(decided) = commits.next() => {
                    self.decided(decided?);
                }
                _ = head.changed() => {}
                _ = decided.changed(), if claims_elsewhere => {}
                _ = resend.changed() => {}
                _ = rosters.changed() => {}
                _ = terms.changed() => {}
                _ = withdrawals.changed() => {}
                () = tokio::task::yield_now(), if more => {}
                () = &mut pause => {}
            }
        }
    }

    fn decided(&mut self, (bytes, verdicts): Decided) {
        self.undecided -= bytes;
        let all_new = verdicts.iter().all(|(_, verdict)| verdict.is_new());
        self.link.pull.decided(verdicts, &self.exchange.claims, &mut self.link.out);
        if !all_new {
            // The commit told the others of what is new; only now may they have what was bad here.
            self.exchange.gate.announce();
        }
    }

    /// Whether more is read of the peer.
    fn has_room(&self) -> bool {
        self.undecided < self.exchange.settings.window && !self.link.pull.is_overdrawn(self.exchange.clock())
    }

    async fn frame(&mut self, frame: Frame) -> Result<Option<Submission>, LinkEnd> {
        self.keep_to_terms().await?;
        let begins = match &frame {
            Frame::Pull(from) => Some(Beginning::new(self.exchange, self.partner, from).await?),
            _ => None,
        };
        match &frame {
            Frame::Roster(roster) => self.take_roster(roster).await?,
            Frame::Notices(notices) => self.take_notices(notices).await?,
            Frame::Batch(_) | Frame::Beat(_) => self.noticing.begins(),
            _ => {}
        }
        let start = begins.as_ref().map_or(0, |begins| begins.after);
        let known = self.exchange.gate.known(&self.partner.bringer.name);
        let submission = self.link.handle(frame, |_| start, &known, &self.exchange.claims, self.exchange.clock())?;
        if let Some(begins) = begins {
            self.note_beginning(begins.first_contact);
        }
        Ok(submission)
    }

    /// Reads on in the log by one step, if the window allows, and lets the link do what is due. One step: a peer that is
    /// far behind, and may have next to nothing of it, must not wait for its answers until all of it was read.
    async fn pump(&mut self) -> Result<Option<Submission>, LinkEnd> {
        let store = self.exchange.gate.store();
        if self.link.push.is_pulling() && self.partner.resend.borrow().is_some() {
            // What comes meanwhile is asked for anew.
            if let Some(time) = self.partner.resend.send_replace(None) {
                self.again = self.again.map_or(Some(time), |again| Some(again.min(time)));
                let position = position(store, &From::Time(time)).await?;
                self.link.push.rewind(position);
            }
        }
        let head = store.head();
        if let Some(after) = self.link.push.needs(head, self.exchange.clock()) {
            let entries = store.read(after, READ).await?;
            // None, up to a head that is behind it: all of that has expired.
            let through = entries.last().map_or(head, |entry| entry.seq);
            let giving = self.giving(&entries).await?;
            let mut notes = Vec::with_capacity(entries.len());
            let outgoing = entries.iter().map(|entry| {
                let (fate, form) = giving.decide(entry);
                notes.push((entry.seq, fate));
                (entry.seq, form)
            });
            let outgoing: Vec<_> = outgoing.collect();
            self.note(notes);
            // After the log was read: what is in it by a new key came behind that key's notice.
            self.say_notices();
            self.link.push.entries(outgoing, through);
        }
        self.read_again().await?;
        self.say_notices();
        self.say_roster();
        self.keep_to_terms().await?;
        self.tick()
    }

    /// Whether the peer asked for something that is not in memory, and has read what we wrote before.
    fn reads_again(&self) -> bool {
        self.out.len() < self.exchange.settings.window && self.link.push.missing().next().is_some()
    }

    /// What a peer that slows us had put off and now asks for.
    async fn read_again(&mut self) -> Result<(), StoreError> {
        let asked: Vec<u64> = self.link.push.missing().take(AGAIN.entries).collect();
        let Some(&first) = asked.first().filter(|_| self.reads_again()) else { return Ok(()) };
        let entries = self.exchange.gate.store().read(first - 1, AGAIN).await?;
        // What was not read this time is asked for again; what has expired is not given.
        let read = first..=entries.last().map_or(first, |entry| entry.seq.max(first));
        let giving = self.giving(&entries).await?;
        let mut notes = Vec::new();
        let form = |seq: &u64| {
            let (fate, form) = giving.decide(entries.iter().find(|entry| entry.seq == *seq)?);
            notes.push((*seq, fate));
            form
        };
        let forms: Vec<_> = asked.iter().take_while(|seq| read.contains(seq)).map(form).collect();
        self.note(notes);
        self.link.push.supply(forms, &mut self.link.out);
        Ok(())
    }

    /// Before anything is sent or answered: where policy has changed, or something was withdrawn, what is not sent yet is
    /// decided anew, what was offered and not asked for too.
    async fn keep_to_terms(&mut self) -> Result<(), LinkEnd> {
        if self.trust.has_changed().unwrap_or(false) {
            self.trust.mark_unchanged();
            self.look_at_keys_again().await?;
        }
        while self.terms.has_changed().unwrap_or(false) {
            self.terms.mark_unchanged();
            self.reconsider().await?;
        }
        if self.withdrawals.has_changed().unwrap_or(false) {
            self.withdrawals.mark_unchanged();
            self.retract().await?;
        }
        Ok(())
    }

    pub(super) async fn reconsider(&mut self) -> Result<(), StoreError> {
        self.link.push.forget_unsent();
        for (place, seq) in self.link.push.offered() {
            let form = self.decide_again(seq).await?;
            self.link.push.reconsider(place, form);
        }
        self.revise_waiting().await
    }

    /// Decides anew about what is to be written: but for the few bytes that are encoded, it has not been sent.
    async fn revise_waiting(&mut self) -> Result<(), StoreError> {
        let mut waiting = std::mem::take(self.out.waiting());
        for frame in &mut waiting {
            let mut forms = Vec::new();
            for (slot, seq) in self.link.push.carried(frame) {
                forms.push((slot, self.decide_again(seq).await?.map(|form| form.bytes)));
            }
            frame.revise(forms);
        }
        *self.out.waiting() = waiting;
        Ok(())
    }

    /// What becomes of an entry by the terms of now; what has expired meanwhile is not given any more.
    async fn decide_again(&self, seq: u64) -> Result<Option<Outgoing>, StoreError> {
        let entries = self.exchange.gate.store().read(seq - 1, ReadLimit { entries: 1, bytes: 1 }).await?;
        let giving = self.giving(&entries).await?;
        let decided = entries.first().filter(|entry| entry.seq == seq).map(|entry| giving.decide(entry));
        let (fate, form) = decided.unzip();
        self.note(fate.map(|fate| (seq, fate)));
        Ok(form.flatten())
    }

    /// Decides about these entries.
    fn giving(&self, entries: &[Arc<Entry>]) -> impl Future<Output = Result<Giving<'a>, StoreError>> + use<'a> {
        Giving::prepare(self.exchange, self.partner, self.most, self.tests_only, entries)
    }

    /// Something was withdrawn: what of it waits or is offered is not given any more.
    async fn retract(&mut self) -> Result<(), StoreError> {
        let (gate, rules) = (&self.exchange.gate, self.exchange.gate.rules());
        let gone = |origin: &Name, id| {
            let own = (*origin == rules.me).then_some(&rules.key);
            own.into_iter().chain(rules.origins.keys(origin)).any(|key| gate.store().is_withdrawn(key, id))
        };
        let seqs = self.link.push.retract(gone);
        self.note(seqs.into_iter().map(|seq| (seq, Fate::Withheld(Reason::Withdrawn))));
        self.revise_waiting().await
    }

    fn tick(&mut self) -> Result<Option<Submission>, LinkEnd> {
        let known = self.exchange.gate.known(&self.partner.bringer.name);
        Ok(self.link.tick(&known, &self.exchange.claims, &mut rand::rng(), self.exchange.clock())?)
    }

    fn submit(&mut self, submission: Submission) -> impl Future<Output = Result<Decided, StoreError>> + Send + use<> {
        let Submission { slots, envelopes, cursor } = submission;
        let bytes = envelopes.iter().map(Bytes::len).sum();
        self.undecided += bytes;
        let verdicts = self.exchange.gate.take(&self.partner.bringer, envelopes, cursor, &mut self.verifier, now());
        async move { Ok((bytes, slots.into_iter().zip(verdicts.await?).collect())) }
    }

    /// What the link has to say goes into the outbox.
    fn post(&mut self) -> Result<(), LinkEnd> {
        self.out.extend(self.link.out.drain(..));
        // Our batches and bodies are within the window. More than that are answers to a peer that asks and asks, and
        // does not read.
        let Settings { window, frame, .. } = self.exchange.settings;
        if self.out.len() > window + 2 * frame {
            return Err(Violation::Unanswered("what we wrote").into());
        }
        Ok(())
    }

    /// `undecided`: something is being committed.
    fn count(&mut self, undecided: bool) {
        self.note_answers();
        let (given, taken) = (self.link.push.take_counts(), self.link.pull.take_counts());
        let mut traffic = self.partner.traffic();
        (traffic.unanswered, traffic.behind) = self.link.push.backlog();
        traffic.place = self.link.push.place();
        self.again = self.again.filter(|_| (traffic.unanswered, traffic.behind) != (0, 0));
        traffic.taking = !self.link.pull.is_settled() || undecided;
        traffic.given.add(given);
        let (ours, waiting) = self.link.pull.slowed();
        let slowed = Slowed { ours, theirs: self.link.push.is_slowed(), waiting };
        slowed.say(&traffic.slowed, &self.partner.bringer.name);
        traffic.slowed = slowed;
        for (verdict, count) in taken {
            *traffic.taken.entry(verdict).or_default() += count;
        }
        drop(traffic);
        self.exchange.progress.send_replace(());
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        // However the link ends, what the peer has said by then is not forgotten, nor what it is still to be given again.
        self.note_answers();
        if let Some(time) = self.again.filter(|_| self.link.push.backlog() != (0, 0)) {
            self.partner.resend.send_modify(|since| *since = Some(since.map_or(time, |since| since.min(time))));
        }
    }
}

/// The time of day, ms since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests;
