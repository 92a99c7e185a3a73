//! What went wrong, in words that tell an operator what to do.

use std::error::Error;
use std::io;
use std::net::TcpListener;

use libp2p::core::transport::TransportError;
use libp2p::swarm::{DialError, ListenError};

use super::NetError;
use super::address::Address;
use super::peer::Configured;

/// Fails where another program has the port. libp2p would not notice a second relay of the same user: it binds with
/// SO_REUSEPORT, and the kernel then deals out the calls between the two.
pub(super) fn probe(address: &Address) -> io::Result<()> {
    match address.socket() {
        Some(socket) if !address.is_quic() => TcpListener::bind(socket).map(drop),
        _ => Ok(()),
    }
}

/// Why there is no listener.
pub(super) fn cannot_listen(address: &str, source: io::Error) -> NetError {
    let remedy = match source.kind() {
        io::ErrorKind::AddrInUse => {
            "another program, perhaps another relay, has this port: stop it, or take another port"
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address: `ip address` shows those that it has",
        io::ErrorKind::PermissionDenied => "take a port above 1023, or give the relay CAP_NET_BIND_SERVICE",
        _ => "mend that, or take another address",
    };
    NetError::Listen { address: address.into(), source, remedy }
}

/// Why a dial failed.
pub(super) fn dialling(error: &DialError, peer: &Configured) -> String {
    match error {
        DialError::WrongPeerId { obtained, address } => format!(
            "the node at {address} has the key {obtained}, but {} is configured for {}: correct the key of this peer, \
             or its address",
            peer.id, peer.name
        ),
        DialError::LocalPeerId { address } => {
            format!("{address} is this node itself: correct the address of {}", peer.name)
        }
        DialError::NoAddresses => "its addresses are those that this node listens on: correct them".into(),
        DialError::Transport(errors) => {
            let text = |(address, error): &(_, TransportError<io::Error>)| match error {
                TransportError::MultiaddrNotSupported(_) => format!("{address}: cannot be dialled"),
                TransportError::Other(error) => format!("{address}: {}", innermost(error)),
            };
            errors.iter().map(text).collect::<Vec<_>>().join("; ")
        }
        DialError::Denied { cause } => innermost(cause),
        DialError::Aborted | DialError::DialPeerConditionFalse(_) => error.to_string(),
    }
}

/// Why a call was refused.
pub(super) fn calling(error: &ListenError) -> String {
    match error {
        ListenError::Denied { .. } | ListenError::Transport(_) => innermost(error),
        ListenError::Aborted | ListenError::WrongPeerId { .. } | ListenError::LocalPeerId { .. } => error.to_string(),
    }
}

/// The error at the bottom: those above it only say where it passed through.
fn innermost(mut error: &(dyn Error + 'static)) -> String {
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
