//! The TCP door: the frames of IntelMQ's TCP output and TCP collector.
//!
//! A frame is a length (four bytes, the highest first) and a text; the receiver answers each with `Ok`. `source` is
//! the receiver for IntelMQ's output bots, `sink` the sender towards IntelMQ's collector. No place in the stream
//! is known to both sides, and an `Ok` that is under way when a connection ends says nothing to anybody: so both
//! directions are *at least once*. What had its `Ok` is never sent again, and never lost; what had none is sent again.
//!
//! A memory of texts whose `Ok` may not have arrived would not make more of it. Only the client knows whether it did:
//! if it did, the same text once more is a second event that must not be dropped; if not, it is the first one again.
//! Where the operator wants equal events to be one, `id = "content"` says so.
//!
//! This file owns the sorting of errors and the questions that `check` puts.

mod connection;
mod frame;
mod sink;
mod source;

pub use frame::{Broken, Framing, Partial};
pub use sink::TcpSink;
pub use source::TcpSource;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::DoorError;

/// What a receiver answers to a frame that it has.
const OK: &[u8; 2] = b"Ok";
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// Callers that the system keeps until we look at them.
const BACKLOG: u32 = 128;
/// A connection on which nothing happens is asked for a sign of life by the system after this long, and then at this
/// pace; three without an answer end it. Bots stay connected for days without a word, so silence is no reason.
const ALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(15));

fn listen(address: SocketAddr) -> Result<TcpListener, DoorError> {
    bind(address).and_then(|socket| socket.listen(BACKLOG)).map_err(|error| unbound(address, &error))
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    if address.is_ipv6() {
        // Else [::] would take the port of 0.0.0.0 too, or not, as the system is set up.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    socket.bind(address)?;
    Ok(socket)
}

fn unbound(address: SocketAddr, error: &io::Error) -> DoorError {
    match error.kind() {
        io::ErrorKind::AddrInUse => DoorError::Retry(format!(
            "TCP at {address}: something listens there already (a collector of IntelMQ's, another relay): stop it, or \
             choose another port in `listen` of the door ({error})"
        )),
        io::ErrorKind::PermissionDenied => DoorError::Operator(format!(
            "TCP at {address}: the relay's user may not listen there: choose a port from 1024 up in `listen` of the \
             door ({error})"
        )),
        _ => DoorError::Retry(format!(
            "TCP at {address}: this machine does not listen there; is it an address of its own? ({error})"
        )),
    }
}

/// Connects, and makes the connection fit for short answers and long silence.
async fn connect(address: &str) -> io::Result<TcpStream> {
    let stream = match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
        Ok(connected) => connected?,
        Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {CONNECT:?}"))),
    };
    settle(&stream)?;
    Ok(stream)
}

fn settle(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, ALIVE.0)?;
    sockopt::set_tcp_keepintvl(stream, ALIVE.1)?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    Ok(())
}

/// Why the address of a collector cannot be reached, with what to do.
fn unreached(address: &str, error: &io::Error) -> DoorError {
    DoorError::Retry(format!(
        "TCP at {address}: no collector can be reached: start IntelMQ's TCP collector, or correct `address` of the door \
         ({error})"
    ))
}

/// Looks whether a source could listen there: `false` when something does already. Listens to nobody.
pub fn probe_listen(address: SocketAddr) -> Result<bool, DoorError> {
    match bind(address).and_then(|socket| socket.listen(1)) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(false),
        Err(error) => Err(unbound(address, &error)),
    }
}

/// Looks whether a collector can be reached. Sends nothing.
pub async fn probe_collector(address: &str) -> Result<(), DoorError> {
    connect(address).await.map(drop).map_err(|error| unreached(address, &error))
}
