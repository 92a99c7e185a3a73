//! What a link has to write: frames in order, encoded as late as possible, since policy may change before they go.

use std::collections::VecDeque;

use bytes::BytesMut;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::link::Frame;

/// Bytes that are encoded ahead: one write.
const CHUNK: usize = 64 << 10;

/// Frames that are to be written.
#[derive(Default)]
pub(super) struct Outbox {
    encoded: BytesMut,
    waiting: VecDeque<Frame>,
}

impl Outbox {
    /// Adds frames at the end.
    pub(super) fn extend(&mut self, frames: impl IntoIterator<Item = Frame>) {
        self.waiting.extend(frames);
        self.encode();
    }

    fn encode(&mut self) {
        while self.encoded.len() < CHUNK
            && let Some(frame) = self.waiting.pop_front()
        {
            frame.encode_into(&mut self.encoded);
        }
    }

    /// Bytes, about.
    pub(super) fn len(&self) -> usize {
        self.encoded.len() + self.waiting.iter().map(Frame::weight).sum::<usize>()
    }

    /// Whether everything is written.
    pub(super) fn is_empty(&self) -> bool {
        self.encoded.is_empty() && self.waiting.is_empty()
    }

    /// The frames that can still be changed.
    pub(super) fn waiting(&mut self) -> &mut VecDeque<Frame> {
        &mut self.waiting
    }

    /// Writes some of what is there, or flushes when nothing is. Cancelled, it has written nothing or is called again.
    pub(super) async fn write_or_flush<W: AsyncWrite + Unpin>(&mut self, writer: &mut W) -> std::io::Result<()> {
        self.encode();
        if self.encoded.is_empty() {
            return writer.flush().await;
        }
        match writer.write_buf(&mut self.encoded).await? {
            0 => Err(std::io::ErrorKind::WriteZero.into()),
            _ => Ok(()),
        }
    }
}
