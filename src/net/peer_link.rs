//! One peer as the rest of the node sees it: the next stream, and how it stands.
//!
//! Between the swarm's task and its users there is one place per peer that holds one stream, the newest. So a peer
//! that opens streams without end fills nothing, and many peers at once lose nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use libp2p::PeerId;
use tokio::sync::{mpsc, watch};

use super::streams::Stream;
use super::task::Command;

/// How a peer stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerState {
    /// Where the peer is connected from or to; none: not connected. A connection counts from its first stream on:
    /// before that the peer may still turn us away.
    pub connected: Option<String>,
    /// Why the last try to reach it failed; none after a success.
    pub error: Option<String>,
}

/// The link to one configured peer; for one user at a time.
#[derive(Debug)]
pub struct PeerLink {
    id: PeerId,
    slot: Arc<Slot>,
    state: watch::Receiver<SlotState>,
    /// Weak: links do not keep the net running.
    commands: mpsc::WeakSender<Command>,
}

impl PeerLink {
    pub(super) fn new(id: PeerId, slot: Arc<Slot>, commands: mpsc::WeakSender<Command>) -> PeerLink {
        PeerLink { id, state: slot.state.subscribe(), slot, commands }
    }

    /// The next stream to this peer, whoever dialled. Of the two nodes the one with the lower key opens it (over the
    /// newest connection, as soon as there is one), the other one accepts (the newest). None: the net has ended, or the
    /// peer was removed from it.
    ///
    /// Drop the stream before first. One user at a time. Safe to cancel.
    pub async fn next(&mut self) -> Option<Stream> {
        let _until_given_up = Unwant(&self.slot);
        loop {
            if self.state.borrow_and_update().ended {
                return None;
            }
            match self.slot.take_or_want() {
                Ok(stream) => return Some(stream),
                Err(Wish::New) => {
                    // It opens one if that is for us to do. Without a task, the state will say that it has ended.
                    if let Some(commands) = self.commands.upgrade() {
                        let _ = commands.send(Command::Open(self.id)).await;
                    }
                }
                Err(Wish::Known) => {}
            }
            self.state.changed().await.ok()?;
        }
    }

    /// Resolves when the peer has opened a newer stream than the last that [`PeerLink::next`] gave: that one is dead or
    /// stale. Where we are the one that opens, none comes before it is asked for. Safe to cancel.
    pub async fn superseded(&mut self) {
        loop {
            self.state.mark_unchanged();
            if self.slot.holds() {
                return;
            }
            if self.state.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// How the peer stands.
    pub fn state(&self) -> PeerState {
        self.state.borrow().peer.clone()
    }

    /// Waits until the peer stands so. None: the net has ended, or the peer was removed from it. Safe to cancel.
    pub async fn state_when(&mut self, mut so: impl FnMut(&PeerState) -> bool) -> Option<PeerState> {
        let state = self.state.wait_for(|state| state.ended || so(&state.peer)).await.ok()?;
        (!state.ended).then(|| state.peer.clone())
    }

    /// Closes every connection of this peer; its streams end at once, and it is dialled again. For a peer that
    /// answers pings but not us.
    pub async fn close(&self) {
        if let Some(commands) = self.commands.upgrade() {
            let _ = commands.send(Command::Close(self.id)).await;
        }
    }
}

/// Where a peer's newest stream waits for its user.
#[derive(Debug)]
pub(super) struct Slot {
    place: Mutex<Place>,
    state: watch::Sender<SlotState>,
}

#[derive(Debug, Default)]
struct Place {
    stream: Option<Stream>,
    /// A user waits for a stream.
    wanted: bool,
}

#[derive(Debug, Clone, Default)]
struct SlotState {
    peer: PeerState,
    ended: bool,
}

impl Slot {
    pub(super) fn new() -> Slot {
        Slot { place: Mutex::default(), state: watch::Sender::new(SlotState::default()) }
    }

    /// Whether a user waits for a stream.
    pub(super) fn wants(&self) -> bool {
        self.lock().wanted
    }

    /// The newest stream; the one before, if nobody took it, is dropped. No more is wanted for now.
    pub(super) fn put(&self, stream: Stream) {
        let older = std::mem::replace(&mut *self.lock(), Place { stream: Some(stream), wanted: false });
        drop(older);
        self.state.send_modify(|_| {});
    }

    /// Changes what users see.
    pub(super) fn show(&self, change: impl FnOnce(&mut PeerState)) {
        self.state.send_modify(|state| change(&mut state.peer));
    }

    /// No more streams, ever.
    pub(super) fn end(&self) {
        *self.lock() = Place::default();
        self.state.send_modify(|state| *state = SlotState { ended: true, ..SlotState::default() });
    }

    /// The stream, if its connection still lives; else one is wanted. In one step, so that the task, which answers a
    /// wish once, never opens two.
    fn take_or_want(&self) -> Result<Stream, Wish> {
        let mut place = self.lock();
        match place.stream.take().filter(Stream::lives) {
            Some(stream) => Ok(stream),
            None if std::mem::replace(&mut place.wanted, true) => Err(Wish::Known),
            None => Err(Wish::New),
        }
    }

    fn holds(&self) -> bool {
        self.lock().stream.as_ref().is_some_and(Stream::lives)
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        // It is replaced in one step: a panic elsewhere leaves it whole.
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the task has been told of it.
enum Wish {
    New,
    Known,
}

/// Takes the wish back when its user gives up.
struct Unwant<'a>(&'a Slot);

impl Drop for Unwant<'_> {
    fn drop(&mut self) {
        self.0.lock().wanted = false;
    }
}
