//! The first words on a stream: who is there, and what it can take.
//!
//! The opener speaks; until the other side has answered, nothing else is sent, since a stream that was opened may
//! still be dropped at the far end.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::drive::{Exchange, LinkEnd};
use crate::config::Limits;
use crate::envelope::Name;
use crate::link::{Frame, Hello, decode_length};

/// How long the other side may take to say hello.
const PATIENCE: Duration = Duration::from_secs(5);
/// Largest hello.
const MOST: usize = 4096;

/// Says hello in the right order and returns theirs. What came behind it stays in `buffer`.
pub(super) async fn exchange<S>(
    stream: &mut S,
    buffer: &mut BytesMut,
    node: &Exchange,
    opens: bool,
    peer: &Name,
) -> Result<Hello, LinkEnd>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let ours = Hello {
        node: node.gate.rules().me.clone(),
        software: concat!("intelmq-relay ", env!("CARGO_PKG_VERSION")).into(),
        log: node.gate.store().log_id(),
        envelope_bytes: node.settings.envelope as u64,
        frame_bytes: node.settings.frame as u64,
    };
    let both = async {
        if opens {
            send(stream, &Frame::Hello(ours)).await?;
            match receive(stream, buffer).await? {
                Frame::HelloAck(theirs) => fits(&theirs, peer).map(|()| theirs).map_err(LinkEnd::Hello),
                Frame::Refuse(reason) => Err(LinkEnd::Hello(format!("the peer refuses the link: {}", short(&reason)))),
                _ => Err(LinkEnd::Hello("the peer's first frame is no hello".into())),
            }
        } else {
            let Frame::Hello(theirs) = receive(stream, buffer).await? else {
                return Err(LinkEnd::Hello("the peer's first frame is no hello".into()));
            };
            if let Err(reason) = fits(&theirs, peer) {
                send(stream, &Frame::Refuse(reason.clone())).await?;
                return Err(LinkEnd::Hello(reason));
            }
            send(stream, &Frame::HelloAck(ours)).await?;
            Ok(theirs)
        }
    };
    let late = |_| LinkEnd::Hello("the peer did not say hello in time".into());
    tokio::time::timeout(PATIENCE, both).await.map_err(late)?
}

fn fits(theirs: &Hello, peer: &Name) -> Result<(), String> {
    if theirs.node != *peer {
        return Err(format!(
            "the node with this key calls itself {}, and is configured as {peer}: one of the two must change",
            theirs.node
        ));
    }
    if theirs.frame_bytes < theirs.envelope_bytes.saturating_add(Limits::FRAME_OVERHEAD as u64) {
        return Err(format!(
            "the frames of {} bytes that {peer} accepts do not hold its envelopes of {}: its limits.frame_bytes must grow",
            theirs.frame_bytes, theirs.envelope_bytes
        ));
    }
    Ok(())
}

/// The peer's text, fit for a log line.
fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, frame: &Frame) -> Result<(), LinkEnd> {
    stream.write_all(&frame.encode()).await.map_err(LinkEnd::Closed)?;
    stream.flush().await.map_err(LinkEnd::Closed)
}

async fn receive<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut BytesMut) -> Result<Frame, LinkEnd> {
    loop {
        if let Some(length) = decode_length(buffer, MOST)? {
            let frame = Frame::decode(&buffer[..length])?;
            buffer.advance(length);
            return Ok(frame);
        }
        if stream.read_buf(buffer).await.map_err(LinkEnd::Closed)? == 0 {
            return Err(LinkEnd::Closed(std::io::ErrorKind::UnexpectedEof.into()));
        }
    }
}
