//! Drives a link over a stream: bytes in, bytes out, the log read, the gate asked.
//!
//! Straight-line async around the pure [`Link`]. It must never wait for one thing while another could go on: a peer
//! that stops reading, or a disk that is slow, delays its own link only, and what is held for it is bounded by the
//! link's window.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::watch;

use super::beginning::{Beginning, position};
use super::giving::Giving;
use super::hello;
use super::notices::Noticing;
use super::outbox::Outbox;
use super::partner::{Partner, Test};
use super::reading::{Part, Reading};
use super::slowed::Slowed;
use super::taking::{Taking, Verdicts};
use crate::accept::Gate;
use crate::link::{Claims, Frame, FrameError, From, Link, Settings, Submission, TokenKey, Violation, decode_length};
use crate::policy::Terms;
use crate::store::{Entry, ReadLimit, StoreError};

/// What is read of the log at once for a peer that had put it off.
const AGAIN: ReadLimit = ReadLimit { entries: 64, bytes: 256 << 10 };
/// Bytes that are read from the stream at once.
const CHUNK: usize = 64 << 10;

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
            out: Outbox::default(),
            taking: Taking::new(self.gate.clone(), partner.bringer.clone()),
            reading: Reading::new(store.clone()),
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

pub(super) struct Session<'a> {
    pub(super) exchange: &'a Exchange,
    pub(super) partner: &'a Partner,
    pub(super) link: Link,
    pub(super) out: Outbox,
    /// What came and is not decided: above our window nothing more is read.
    taking: Taking,
    reading: Reading,
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
    pub(super) terms: watch::Receiver<Arc<Terms>>,
    /// What was withdrawn, as far as that was looked at.
    pub(super) withdrawals: watch::Receiver<u64>,
    /// Whose word counts, as far as that was looked at.
    pub(super) trust: watch::Receiver<()>,
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
        let mut unflushed = false;
        if let Some(frame) = first {
            self.frame(frame).await?;
        }
        loop {
            // Everything that came is handled before anything is waited for.
            while self.has_room()
                && let Some(length) = decode_length(&mut buffer, self.exchange.settings.frame)?
            {
                let frame = Frame::decode(&buffer[..length])?;
                buffer.advance(length);
                self.frame(frame).await?;
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
            self.pump().await?;
            self.post()?;
            self.count();
            let due = Duration::from_millis(self.link.deadline().saturating_sub(self.exchange.clock()).min(60_000));
            // More of the log is due: on with it, but not before what came meanwhile.
            let more = self.wants_more().is_some() || self.reads_again();
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
                verdicts = self.taking.decided() => self.decided(verdicts?),
                part = self.reading.done() => self.give(part?).await?,
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

    fn decided(&mut self, verdicts: Verdicts) {
        let all_new = verdicts.iter().all(|(_, verdict)| verdict.is_new());
        self.link.pull.decided(verdicts, &self.exchange.claims, &mut self.link.out);
        if !all_new {
            // The commit told the others of what is new; only now may they have what was bad here.
            self.exchange.gate.announce();
        }
    }

    /// Whether more is read of the peer.
    fn has_room(&self) -> bool {
        self.taking.bytes() < self.exchange.settings.window && !self.link.pull.is_overdrawn(self.exchange.clock())
    }

    async fn frame(&mut self, frame: Frame) -> Result<(), LinkEnd> {
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
        self.submit(submission);
        Ok(())
    }

    /// After which number the log is to be read now.
    fn wants_more(&mut self) -> Option<u64> {
        if self.reading.is_under_way() {
            return None;
        }
        self.link.push.needs(self.exchange.gate.store().head(), self.exchange.clock())
    }

    /// Decides about a part of the log, if that is where the peer stands: it may have been sent back meanwhile.
    async fn give(&mut self, part: Part) -> Result<(), StoreError> {
        let Part { after, through, entries } = part;
        if self.link.push.has_read() != after {
            return Ok(());
        }
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
        Ok(())
    }

    /// Reads on in the log by one step, if the window allows, and lets the link do what is due. One step: a peer that is
    /// far behind, and may have next to nothing of it, must not wait for its answers until all of it was read.
    async fn pump(&mut self) -> Result<(), LinkEnd> {
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
        if let Some(after) = self.wants_more()
            && let Some(part) = self.reading.begin(after, head)?
        {
            self.give(part).await?;
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

    /// Decides about these entries.
    pub(super) fn giving(
        &self,
        entries: &[Arc<Entry>],
    ) -> impl Future<Output = Result<Giving<'a>, StoreError>> + use<'a> {
        Giving::prepare(self.exchange, self.partner, self.most, self.tests_only, entries)
    }

    fn tick(&mut self) -> Result<(), LinkEnd> {
        let known = self.exchange.gate.known(&self.partner.bringer.name);
        let submission = self.link.tick(&known, &self.exchange.claims, &mut rand::rng(), self.exchange.clock())?;
        self.submit(submission);
        Ok(())
    }

    fn submit(&mut self, submission: Option<Submission>) {
        if let Some(submission) = submission {
            self.taking.submit(submission);
        }
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

    fn count(&mut self) {
        self.note_answers();
        let (given, taken) = (self.link.push.take_counts(), self.link.pull.take_counts());
        let mut traffic = self.partner.traffic();
        (traffic.unanswered, traffic.behind) = self.link.push.backlog();
        traffic.place = self.link.push.place();
        self.again = self.again.filter(|_| (traffic.unanswered, traffic.behind) != (0, 0));
        traffic.taking = !self.link.pull.is_settled() || !self.taking.is_empty();
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
