//! One sender: what it has sent and is not durable yet, and the answers that it is owed.
//!
//! Nothing here waits: a connection is looked at, reads and writes what goes without waiting, and is woken. It reads no
//! more while it holds a frame's worth that was not taken, or while its sender does not read its answers: so it holds
//! two frames at most, and a read's worth.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::OK;
use super::frame::{Broken, Framing, Partial};

/// Bytes that are read at once, and from one connection at one look.
const READ: usize = 64 << 10;
/// Bytes of frames that one connection may hold, beside the one that is under way.
const HELD: usize = 256 << 10;
/// What a frame takes beside its text: a connection of frames with a byte each holds no more than another.
const FRAME: usize = size_of::<Bytes>();
/// A frame that has begun must be whole after this long.
const HALF: Duration = Duration::from_secs(60);
/// A sender that leaves its answers unread for this long does not wait for any (`counterpart_is_intelmq: false`), and
/// gets no more. Shorter than the 15 seconds after which IntelMQ's output gives a connection up.
const UNREAD: Duration = Duration::from_secs(5);

/// Reads of a connection that is closed, at most.
const SCRAPS: usize = 256;
/// How long after it was held up the relay counts what it finds as having waited.
const LATE: Duration = Duration::from_secs(2);

/// Answers, in a row, as many as are written at once.
static ANSWERS: [u8; 1024] = {
    let mut answers = [0; 1024];
    let mut i = 0;
    while i < answers.len() {
        answers[i] = OK[i % 2];
        i += 1;
    }
    answers
};

pub(super) struct Connection {
    stream: TcpStream,
    pub(super) peer: SocketAddr,
    partial: Partial,
    /// Whole frames that are not known to be durable, the oldest first, and their bytes.
    frames: VecDeque<Bytes>,
    held: usize,
    /// So many of them are in the batch under way.
    taken: usize,
    /// Bytes of answers that are not written yet; odd after half an `Ok`.
    owed: usize,
    /// Answers are not written any more.
    mute: bool,
    /// Nothing more comes.
    ended: bool,
    /// Until then, what came may have come long ago: the relay was held up before it looked.
    late: Option<Instant>,
    /// When the frame began that is under way,
    half: Option<Instant>,
    /// when an answer could not be written,
    unread: Option<Instant>,
    /// and when the last frame came.
    pub(super) active: Instant,
}

/// Answers that are on their way must arrive: the system takes them back when a connection is closed over something
/// unread. What is thrown away here had no answer.
impl Drop for Connection {
    fn drop(&mut self) {
        let mut scrap = [0; READ / 4];
        for _ in 0..SCRAPS {
            if !matches!(self.stream.try_read(&mut scrap), Ok(1..)) {
                return;
            }
        }
    }
}

/// What a look found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// There may be more to read at once.
    pub(super) more: bool,
    /// The connection is closed for this, when what was whole before is answered.
    pub(super) broken: Option<Broken>,
    /// It is closed because a frame does not come to its end.
    pub(super) halted: bool,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, peer: SocketAddr, now: Instant) -> Connection {
        Connection {
            stream,
            peer,
            partial: Partial::default(),
            frames: VecDeque::new(),
            held: 0,
            taken: 0,
            owed: 0,
            mute: false,
            ended: false,
            late: None,
            half: None,
            unread: None,
            active: now,
        }
    }

    /// Writes and reads what goes without waiting.
    pub(super) fn look(&mut self, cx: &mut Context<'_>, framing: &Framing, most: usize, now: Instant) -> Look {
        let mut look = Look::default();
        self.write(Some(cx), now);
        if self.unread.is_none() && !self.ended && self.held < HELD {
            match self.read(cx, framing, most, now) {
                Ok(more) => look.more = more,
                Err(broken) => {
                    look.broken = Some(broken);
                    self.end();
                }
            }
        }
        if self.half.is_some_and(|since| now.duration_since(since) >= HALF) {
            look.halted = true;
            self.end();
        }
        look
    }

    fn end(&mut self) {
        self.ended = true;
        self.partial = Partial::default();
        self.half = None;
    }

    /// `true`: there may be more.
    fn read(&mut self, cx: &mut Context<'_>, framing: &Framing, most: usize, now: Instant) -> Result<bool, Broken> {
        let mut budget = READ;
        while self.stream.poll_read_ready(cx).is_ready() {
            if budget == 0 {
                return Ok(true);
            }
            // Grows with what comes, not with what a length announces.
            self.partial.buffer.reserve(READ / 4);
            match self.stream.try_read_buf(&mut self.partial.buffer) {
                Ok(0) => {
                    self.frames_of(framing, most, now)?;
                    self.end();
                    return Ok(false);
                }
                Ok(read) => budget = budget.saturating_sub(read),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => {
                    tracing::debug!(peer = %self.peer, %error, "connection lost");
                    self.mute = true;
                    self.end();
                    return Ok(false);
                }
            }
            self.frames_of(framing, most, now)?;
            if self.held >= HELD {
                return Ok(false);
            }
        }
        if budget < READ {
            // Somebody is still there, and waits.
            self.late = None;
        }
        Ok(false)
    }

    fn frames_of(&mut self, framing: &Framing, most: usize, now: Instant) -> Result<(), Broken> {
        while let Some(frame) = self.partial.next(framing, most)? {
            self.held += FRAME + frame.len();
            self.frames.push_back(frame);
            self.active = now;
            self.half = None;
        }
        if self.partial.buffer.is_empty() {
            self.half = None;
        } else {
            self.half.get_or_insert(now);
        }
        Ok(())
    }

    /// Writes answers; with a context, is woken when more can be written.
    fn write(&mut self, mut cx: Option<&mut Context<'_>>, now: Instant) {
        while self.owed > 0 && !self.mute {
            if let Some(cx) = &mut cx
                && self.stream.poll_write_ready(cx).is_pending()
            {
                break;
            }
            // The first byte is that of a whole answer, or the rest of a half one.
            let from = self.owed % 2;
            let length = self.owed.min(ANSWERS.len() - from);
            match self.stream.try_write(&ANSWERS[from..from + length]) {
                Ok(written) => {
                    self.owed -= written;
                    self.unread = None;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && cx.is_some() => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    tracing::debug!(peer = %self.peer, %error, unanswered = self.owed.div_ceil(2), "connection lost");
                    self.mute = true;
                }
            }
        }
        if self.owed == 0 || self.mute {
            self.unread = None;
        } else if now.duration_since(*self.unread.get_or_insert(now)) >= UNREAD {
            tracing::info!(peer = %self.peer, "it does not read its answers: it gets no more of them");
            (self.mute, self.unread) = (true, None);
        }
    }

    /// The next frame for the batch under way, if there is one.
    pub(super) fn next(&self) -> Option<&Bytes> {
        self.frames.get(self.taken)
    }

    /// That frame is in the batch.
    pub(super) fn take(&mut self) {
        self.taken += 1;
    }

    /// There is no batch any more: what was in it comes again.
    pub(super) fn untake(&mut self) {
        self.taken = 0;
    }

    /// What is in the batch is durable: its sender may know.
    pub(super) fn committed(&mut self, now: Instant) {
        for frame in self.frames.drain(..self.taken) {
            self.held -= FRAME + frame.len();
            self.owed += OK.len();
        }
        self.taken = 0;
        self.write(None, now);
    }

    /// The relay was held up: what is found at the next looks may have come long ago.
    pub(super) fn is_late(&mut self, now: Instant) {
        self.late = Some(now + LATE);
    }

    /// Frames that came while the relay was held up, and whose sender has gone: it waited in vain, and sends them
    /// again (or has long since). Each would be one more copy. Returns how many were dropped.
    pub(super) fn abandon(&mut self, now: Instant) -> usize {
        if !(self.ended && self.late.is_some_and(|until| now < until)) {
            return 0;
        }
        self.held = 0;
        std::mem::take(&mut self.frames).len()
    }

    /// Nothing is left to do on it.
    pub(super) fn is_over(&self) -> bool {
        self.ended && self.frames.is_empty() && (self.owed == 0 || self.mute)
    }

    /// Holds nothing that anybody would miss: it may be closed for another.
    pub(super) fn is_idle(&self) -> bool {
        self.frames.is_empty() && self.owed == 0
    }

    /// When it must be looked at, if nothing happens until then.
    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.half.map(|since| since + HALF), self.unread.map(|since| since + UNREAD)].into_iter().flatten().min()
    }
}
