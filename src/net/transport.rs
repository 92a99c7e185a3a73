//! How bytes get from node to node: TCP + Noise + Yamux, and QUIC where it is built in.
//!
//! Owns the transport's tuning, and one promise that libp2p does not give: closing a connection comes to an end.
//! Names are resolved before they come here ([`super::address`]).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::PeerId;
use libp2p::core::Transport as _;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent, StreamMuxerExt as _};
use libp2p::core::transport::Boxed;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use tokio::time::Sleep;

/// From the first packet to the agreed multiplexer.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long the other side may take to accept our last bytes when a connection is closed.
const CLOSING: Duration = Duration::from_secs(1);

/// Streams of one connection: the link, its successor, two for pings, and some that are being closed.
const STREAMS: usize = 16;

/// QUIC: what a peer may send ahead of our reading. The defaults (10 and 15 MB) would be memory per peer.
#[cfg(feature = "quic")]
const QUIC_WINDOW: u32 = 2 << 20;

/// The transport of the node with this key.
pub(super) fn build(keypair: &Keypair) -> io::Result<Boxed<(PeerId, StreamMuxerBox)>> {
    let noise = libp2p::noise::Config::new(keypair).map_err(io::Error::other)?;
    let mut yamux = libp2p::yamux::Config::default();
    yamux.set_max_num_streams(STREAMS);
    let tcp = libp2p::tcp::tokio::Transport::new(libp2p::tcp::Config::new().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(Closing::new(muxer))));
    #[cfg(feature = "quic")]
    let tcp = {
        let mut config = libp2p::quic::Config::new(keypair);
        config.max_stream_data = QUIC_WINDOW;
        config.max_connection_data = QUIC_WINDOW;
        config.max_concurrent_stream_limit = STREAMS as u32;
        let quic = libp2p::quic::tokio::Transport::new(config)
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(Closing::new(muxer))));
        tcp.or_transport(quic).map(|either, _| either.into_inner())
    };
    Ok(TransportTimeout::new(tcp, HANDSHAKE).boxed())
}

/// A connection that can be closed although the peer takes no more bytes. libp2p waits for the last ones to be sent,
/// which on a frozen peer's TCP connection lasts until the kernel gives up (some 15 minutes); so long the connection
/// would count against the peer's two.
struct Closing<M> {
    muxer: M,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<M> Closing<M> {
    fn new(muxer: M) -> Closing<M> {
        Closing { muxer, deadline: None }
    }
}

impl<M> StreamMuxer for Closing<M>
where
    M: StreamMuxer + Unpin,
    M::Error: Send + Sync + 'static,
{
    type Substream = M::Substream;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<M::Substream>> {
        self.muxer.poll_inbound_unpin(cx).map_err(io::Error::other)
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<M::Substream>> {
        self.muxer.poll_outbound_unpin(cx).map_err(io::Error::other)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        self.muxer.poll_unpin(cx).map_err(io::Error::other)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(closed) = self.muxer.poll_close_unpin(cx) {
            return Poll::Ready(closed.map_err(io::Error::other));
        }
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(CLOSING)));
        deadline.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The muxer of a frozen peer.
    struct Frozen;

    impl StreamMuxer for Frozen {
        type Substream = libp2p::core::muxing::SubstreamBox;
        type Error = io::Error;

        fn poll_inbound(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<Self::Substream>> {
            Poll::Pending
        }

        fn poll_outbound(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<Self::Substream>> {
            Poll::Pending
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn closing_a_frozen_connection_comes_to_an_end() {
        let error = Closing::new(Frozen).close().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
