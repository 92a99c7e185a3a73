//! Out of IntelMQ: whatever IntelMQ's TCP outputs send, from many connections at once.
//!
//! An `Ok` is an answer to a frame that is durable here, so the frames of all connections go into one batch after the
//! other, and are answered when it is committed. In between nothing is read: the system's buffers, and then the
//! senders, wait. So there is no task and no channel, memory is bounded by the connections, and what a dropped call
//! leaves is found by the next one.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep};

use super::super::{DoorError, Source, TakeLimit, Taken};
use super::connection::Connection;
use super::frame::{Framing, LENGTH};
use super::{listen, settle};
use crate::config;
use crate::envelope::Name;

/// A sender that had no answer for this long may have gone (IntelMQ's output waits 15 seconds).
const HELD_UP: Duration = Duration::from_secs(10);
/// The pause when the system has no room for a connection.
const NO_ROOM: Duration = Duration::from_millis(500);
/// Callers that are let in at one look.
const CALLERS: usize = 64;
/// A complaint about an address is repeated after this long. So many of them are remembered.
const AGAIN: (Duration, usize) = (Duration::from_secs(600), 256);
/// There is no place in the stream that a sender could be told: nothing to know after a restart.
const POSITION: &[u8] = b"tcp";

/// Listens for IntelMQ's TCP outputs.
pub struct TcpSource {
    door: Name,
    listen: Vec<SocketAddr>,
    allow: Vec<IpNet>,
    framing: Framing,
    /// Bytes of one frame, at most.
    most: usize,
    max_connections: usize,
    listeners: Vec<TcpListener>,
    connections: Vec<Connection>,
    /// Whose turn it is to be the first of a batch.
    first: usize,
    /// When the connections were looked at last.
    looked: Instant,
    /// The relay was held up, and there may be callers from that time whom it has not seen yet.
    catching_up: bool,
    /// Until then nobody is let in.
    no_room: Option<Instant>,
    /// Wakes for the next deadline.
    alarm: Option<Pin<Box<Sleep>>>,
    said: HashMap<(IpAddr, &'static str), Instant>,
}

impl TcpSource {
    /// Takes texts of `most` bytes at most. Listens nowhere yet.
    pub fn new(config: &config::TakeTcp, most: usize) -> TcpSource {
        let separator = config.separator.as_ref().filter(|separator| !separator.is_empty());
        TcpSource {
            door: config.name.clone(),
            listen: config.listen.clone(),
            allow: config.allow.clone(),
            framing: separator.map_or(Framing::Length, |text| Framing::Separator(Bytes::from(text.clone()))),
            // What is longer than a length can say is not sent.
            most: most.min(u32::MAX as usize - LENGTH),
            max_connections: config.max_connections.max(1),
            listeners: Vec::new(),
            connections: Vec::new(),
            first: 0,
            looked: Instant::now(),
            catching_up: false,
            no_room: None,
            alarm: None,
            said: HashMap::new(),
        }
    }

    fn open(&mut self) -> Result<(), DoorError> {
        if self.listeners.is_empty() {
            // All or none: half a door would look open.
            self.listeners = self.listen.iter().map(|address| listen(*address)).collect::<Result<_, _>>()?;
        }
        Ok(())
    }

    /// Lets callers in, reads what has come, and makes a batch of it; or is woken when something happens.
    fn look(&mut self, cx: &mut Context<'_>, limit: TakeLimit) -> Poll<Vec<Bytes>> {
        let now = Instant::now();
        self.looked = now;
        let mut more = self.callers(cx, now);
        for i in 0..self.connections.len() {
            let connection = &mut self.connections[i];
            let look = connection.look(cx, &self.framing, self.most, now);
            more |= look.more;
            let peer = connection.peer;
            if let Some(broken) = look.broken {
                self.complain(peer, "broken", now, |door| {
                    tracing::warn!(%door, %peer, "connection closed: {broken}");
                });
            } else if look.halted {
                self.complain(peer, "half", now, |door| {
                    tracing::warn!(%door, %peer, "connection closed: an event had not come to its end after a minute");
                });
            }
        }
        let abandoned: usize = self.connections.iter_mut().map(|connection| connection.abandon(now)).sum();
        if abandoned > 0 {
            tracing::info!(door = %self.door, events = abandoned, "not taken: their senders waited in vain and send them again");
        }
        self.connections.retain(|connection| !connection.is_over());
        let items = self.batch(limit);
        if !items.is_empty() {
            return Poll::Ready(items);
        }
        if more || self.alarm_is_due(cx) {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Takes one frame after the other from each connection in turn, so that nobody's many keep out another's one.
    fn batch(&mut self, limit: TakeLimit) -> Vec<Bytes> {
        let (mut items, mut bytes) = (Vec::new(), 0);
        let count = self.connections.len();
        self.first = (self.first + 1).checked_rem(count).unwrap_or(0);
        loop {
            let before = items.len();
            for i in 0..count {
                let connection = &mut self.connections[(self.first + i) % count];
                let Some(frame) = connection.next() else { continue };
                bytes += frame.len();
                if items.len() >= limit.items.max(1) || (!items.is_empty() && bytes > limit.bytes) {
                    return items;
                }
                items.push(frame.clone());
                connection.take();
            }
            if items.len() == before {
                return items;
            }
        }
    }

    /// `true`: there may be more of them.
    fn callers(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        if self.no_room.is_some_and(|until| now < until) {
            return false;
        }
        self.no_room = None;
        let mut more = false;
        for i in 0..self.listeners.len() {
            for n in 0.. {
                if n == CALLERS {
                    more = true;
                    break;
                }
                match self.listeners[i].poll_accept(cx) {
                    Poll::Pending => break,
                    Poll::Ready(Ok((stream, peer))) => self.let_in(stream, peer, now),
                    // The caller has gone again.
                    Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Poll::Ready(Err(error)) => {
                        self.complain(self.listen[i], "no room", now, |door| {
                            tracing::warn!(%door, %error, "cannot let anybody in: raise the limit of open files");
                        });
                        self.no_room = Some(now + NO_ROOM);
                        return false;
                    }
                }
            }
        }
        // Who called meanwhile is in now, or will be at the next look.
        self.catching_up &= more;
        more
    }

    fn let_in(&mut self, stream: TcpStream, peer: SocketAddr, now: Instant) {
        // An IPv4 caller at an IPv6 address is still that caller.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        if !self.allow.iter().any(|network| network.contains(&peer.ip())) {
            self.complain(peer, "stranger", now, |door| {
                tracing::warn!(%door, %peer, "refused: its address is not in `allow` of this door: add it, if it is yours");
            });
            return;
        }
        if self.connections.len() >= self.max_connections && !self.make_room(peer.ip()) {
            self.complain(peer, "full", now, |door| {
                tracing::warn!(%door, %peer, "refused: max_connections is reached: raise it, or look who holds them");
            });
            return;
        }
        if let Err(error) = settle(&stream) {
            // It has gone already.
            tracing::debug!(door = %self.door, %peer, %error, "connection lost");
            return;
        }
        tracing::debug!(door = %self.door, %peer, "connected");
        let mut connection = Connection::new(stream, peer, now);
        if self.catching_up {
            connection.is_late(now);
        }
        self.connections.push(connection);
    }

    /// Closes the connection that has been idle for longest, of the address that has the most of them; unless that is
    /// the caller's own. So nobody can keep others out. Bots that are closed connect again.
    fn make_room(&mut self, caller: IpAddr) -> bool {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for connection in &self.connections {
            *counts.entry(connection.peer.ip()).or_default() += 1;
        }
        let most = counts.values().copied().max().unwrap_or(0);
        if counts.get(&caller).is_some_and(|own| *own >= most) {
            return false;
        }
        let idle = self.connections.iter().enumerate().filter(|(_, connection)| {
            connection.is_idle() && counts.get(&connection.peer.ip()).is_some_and(|count| *count == most)
        });
        let Some((longest, _)) = idle.min_by_key(|(_, connection)| connection.active) else { return false };
        self.connections.swap_remove(longest);
        true
    }

    /// Says something about an address, unless it was said a short time ago: who is refused comes again at once.
    fn complain(&mut self, peer: SocketAddr, what: &'static str, now: Instant, say: impl FnOnce(&Name)) {
        self.said.retain(|_, when| now.duration_since(*when) < AGAIN.0);
        if self.said.len() < AGAIN.1 && !self.said.contains_key(&(peer.ip(), what)) {
            self.said.insert((peer.ip(), what), now);
            say(&self.door);
        }
    }

    /// Sets the alarm to the next deadline; `true` when that is now.
    fn alarm_is_due(&mut self, cx: &mut Context<'_>) -> bool {
        let deadlines = self.connections.iter().filter_map(Connection::deadline);
        let Some(next) = deadlines.chain(self.no_room).min() else {
            self.alarm = None;
            return false;
        };
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(next)));
        if alarm.deadline() != next {
            alarm.as_mut().reset(next);
        }
        alarm.as_mut().poll(cx).is_ready()
    }
}

impl Source for TcpSource {
    async fn take(&mut self, limit: TakeLimit) -> Result<Taken, DoorError> {
        self.open()?;
        let now = Instant::now();
        let held_up = now.duration_since(self.looked) >= HELD_UP;
        self.catching_up |= held_up;
        for connection in &mut self.connections {
            connection.untake();
            if held_up {
                connection.is_late(now);
            }
        }
        // It bounds what it reads at once by itself; the runtime's budget would end a look in the middle, always at the
        // same connection.
        let items = tokio::task::unconstrained(poll_fn(|cx| self.look(cx, limit))).await;
        Ok(Taken { items, position: POSITION.to_vec() })
    }

    async fn committed(&mut self) -> Result<(), DoorError> {
        let now = Instant::now();
        for connection in &mut self.connections {
            connection.committed(now);
        }
        Ok(())
    }
}
