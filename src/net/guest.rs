//! A guest at this node: what it says, as far as the host asks, and the answer.
//!
//! Messages are bounded before they are read, and whoever drives a guest bounds the time. It decides nothing: whether a
//! guest becomes a peer is the node's.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::join::Talk;
use crate::envelope::Key;
use crate::invite::{Asked, MAX_MESSAGE, Message, Nonce, Unreadable, commitment};

/// A guest, let in for one exchange.
pub struct Guest {
    /// The identity that its invitation gave it.
    pub ticket: Key,
    pub(super) talk: Talk,
}

/// Why nothing came of a guest.
#[derive(Debug, thiserror::Error)]
pub enum GuestEnd {
    /// It went away.
    #[error("it went away: {0}")]
    Closed(#[from] io::Error),
    /// It said what has no place there.
    #[error("{0}")]
    Unreadable(#[from] Unreadable),
    /// It tried to choose the words.
    #[error("its number is not the one that it was bound to")]
    Unbound,
    /// It said something else.
    #[error("it said something out of place")]
    OutOfPlace,
}

impl Guest {
    /// Who it is.
    pub async fn asked(&mut self, host: &Key) -> Result<Asked, GuestEnd> {
        Ok(receive(&mut self.talk).await?.asked(&self.ticket, host)?)
    }

    /// Shows it our nonce, and then it shows its own, to which it is bound.
    pub async fn nonce(&mut self, ours: Nonce, asked: &Asked) -> Result<Nonce, GuestEnd> {
        send(&mut self.talk, &Message::Nonce(ours)).await?;
        match receive(&mut self.talk).await? {
            Message::Nonce(theirs) if commitment(&theirs) == *asked.commitment => Ok(theirs),
            Message::Nonce(_) => Err(GuestEnd::Unbound),
            _ => Err(GuestEnd::OutOfPlace),
        }
    }

    /// The last word. Returns when the guest has it, or is gone.
    pub async fn answer(mut self, answer: &Message) -> Result<(), GuestEnd> {
        send(&mut self.talk, answer).await?;
        self.talk.shutdown().await?;
        // A stream that is dropped takes what was not sent with it.
        let mut rest = [0; 64];
        while self.talk.read(&mut rest).await.is_ok_and(|n| n > 0) {}
        Ok(())
    }
}

/// `u16(length) ‖ message`.
pub(super) async fn send<S: AsyncWrite + Unpin>(stream: &mut S, message: &Message) -> io::Result<()> {
    let bytes = message.encode();
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat()).await?;
    stream.flush().await
}

pub(super) async fn receive<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Message, GuestEnd> {
    let length = usize::from(stream.read_u16().await?);
    // Nothing is reserved for what is too long.
    let mut bytes = vec![0; length.min(MAX_MESSAGE + 1)];
    if length <= MAX_MESSAGE {
        stream.read_exact(&mut bytes).await?;
    }
    Ok(Message::decode(&bytes)?)
}
