//! The first words on a stream: who is there, and what it can take.
//!
//! The opener speaks; until the other side has answered, nothing else is sent, since a stream that was opened may
//! still be dropped at the far end.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::drive::{Exchange, LinkEnd};
use super::partner::Partner;
use crate::config::Limits;
use crate::envelope::Name;
use crate::link::{Frame, Hello, decode_length};

/// How long the other side may take to say hello.
const PATIENCE: Duration = Duration::from_secs(5);
/// Largest hello.
const MOST: usize = 4096;

/// Says hello in the right order and returns theirs. What came behind it stays in `buffer`, but for the first frame: it
/// shows the side that answers that the opener has not turned it away.
pub(super) async fn exchange<S>(
    stream: &mut S,
    buffer: &mut BytesMut,
    node: &Exchange,
    opens: bool,
    partner: &Partner,
) -> Result<(Hello, Option<Frame>), LinkEnd>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let peer = &partner.bringer.name;
    let ours = Hello {
        node: node.gate.rules().me.clone(),
        software: super::SOFTWARE.into(),
        log: node.gate.store().log_id(),
        envelope_bytes: node.settings.envelope as u64,
        frame_bytes: node.settings.frame as u64,
        test: partner.terms.borrow().test,
    };
    let both = async {
        if opens {
            send(stream, &Frame::Hello(ours)).await?;
            let Frame::HelloAck(theirs) = receive(stream, buffer).await? else { return Err(no_hello()) };
            refuse_unless_fits(stream, &theirs, peer).await?;
            Ok((theirs, None))
        } else {
            let Frame::Hello(theirs) = receive(stream, buffer).await? else { return Err(no_hello()) };
            refuse_unless_fits(stream, &theirs, peer).await?;
            send(stream, &Frame::HelloAck(ours)).await?;
            let first = receive(stream, buffer).await?;
            Ok((theirs, Some(first)))
        }
    };
    let late = |_| LinkEnd::Hello("the peer did not say hello in time".into());
    tokio::time::timeout(PATIENCE, both).await.map_err(late)?
}

fn no_hello() -> LinkEnd {
    LinkEnd::Hello("the peer's first frame is no hello".into())
}

/// Tells the peer why there is no link: its operator may be the one who can mend it.
async fn refuse_unless_fits<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    theirs: &Hello,
    peer: &Name,
) -> Result<(), LinkEnd> {
    let Err(reason) = fits(theirs, peer) else { return Ok(()) };
    send(stream, &Frame::Refuse(reason.clone())).await?;
    stream.shutdown().await.map_err(LinkEnd::Closed)?;
    // Until it has read that, or gone: a stream that is dropped takes what was not sent with it.
    let mut rest = [0; 256];
    while stream.read(&mut rest).await.is_ok_and(|n| n > 0) {}
    Err(LinkEnd::Hello(reason))
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
pub(super) fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, frame: &Frame) -> Result<(), LinkEnd> {
    stream.write_all(&frame.encode()).await.map_err(LinkEnd::Closed)?;
    stream.flush().await.map_err(LinkEnd::Closed)
}

/// The next frame; a refusal is an error.
async fn receive<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut BytesMut) -> Result<Frame, LinkEnd> {
    loop {
        if let Some(length) = decode_length(buffer, MOST)? {
            let frame = Frame::decode(&buffer[..length])?;
            buffer.advance(length);
            if let Frame::Refuse(reason) = frame {
                return Err(LinkEnd::Hello(format!("the peer refuses the link: {}", short(&reason))));
            }
            return Ok(frame);
        }
        if stream.read_buf(buffer).await.map_err(LinkEnd::Closed)? == 0 {
            return Err(LinkEnd::Closed(std::io::ErrorKind::UnexpectedEof.into()));
        }
    }
}
