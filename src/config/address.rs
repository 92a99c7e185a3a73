//! Addresses of nodes: which multiaddrs the configuration admits.
//!
//! Says only whether a text can be an address of a node. Whether anybody answers there is for the network to find out.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::envelope::Key;

/// What an address is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// To listen on: an address of this machine; port 0 lets the system choose.
    Listen,
    /// To reach a peer at; a key at its end must be this one.
    Dial(Key),
}

/// Why `text` is no address for that use; the reason is one clause.
pub(super) fn check(text: &str, purpose: Use) -> Result<(), String> {
    let mut parts = text.split('/');
    if parts.next() != Some("") {
        return Err("it does not begin with '/'".into());
    }
    host(parts.next().unwrap_or(""), parts.next().unwrap_or(""), purpose)?;
    match (parts.next(), parts.next()) {
        (Some("tcp"), Some(number)) => port(number, purpose)?,
        (Some("udp"), Some(number)) => {
            port(number, purpose)?;
            if parts.next() != Some("quic-v1") {
                return Err("after /udp/PORT comes /quic-v1".into());
            }
            if cfg!(not(feature = "quic")) {
                return Err("this relay was built without QUIC (`--features quic`)".into());
            }
        }
        _ => return Err("after the host comes /tcp/PORT or /udp/PORT/quic-v1".into()),
    }
    match (parts.next(), parts.next(), purpose) {
        (None, ..) => {}
        (Some("p2p"), Some(id), Use::Dial(key)) => {
            let named: Key = id.parse().map_err(|error| format!("{id:?} is {error}"))?;
            if named != key {
                return Err("the key after /p2p/ is not the peer's key".into());
            }
        }
        (Some("p2p"), _, Use::Listen) => return Err("an address to listen on ends after the port".into()),
        (Some(more), ..) => return Err(format!("nothing is known about \"/{more}\" at its end")),
    }
    if parts.next().is_some() {
        return Err("there is something after the key".into());
    }
    Ok(())
}

/// Why `text` is no address that the node with this key could be reached at.
pub fn check_peer_address(text: &str, key: &Key) -> Result<(), String> {
    check(text, Use::Dial(*key))
}

fn host(kind: &str, value: &str, purpose: Use) -> Result<(), String> {
    match kind {
        "ip4" => value.parse::<Ipv4Addr>().map(drop).map_err(|_| format!("{value:?} is no IPv4 address")),
        "ip6" => value.parse::<Ipv6Addr>().map(drop).map_err(|_| format!("{value:?} is no IPv6 address")),
        "dns" | "dns4" | "dns6" if purpose == Use::Listen => {
            Err("listening needs an address of this machine, not a host name".into())
        }
        "dns" | "dns4" | "dns6" => {
            let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
            let plausible = (1..=253).contains(&value.len()) && value.bytes().all(legal);
            if plausible { Ok(()) } else { Err(format!("{value:?} is no host name")) }
        }
        _ => Err("it begins with none of /ip4/, /ip6/, /dns/, /dns4/ and /dns6/".into()),
    }
}

fn port(text: &str, purpose: Use) -> Result<(), String> {
    match text.parse::<u16>() {
        Ok(0) if purpose != Use::Listen => Err("nobody can be reached at port 0".into()),
        Ok(_) => Ok(()),
        Err(_) => Err(format!("{text:?} is no port: 1 to 65535")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::Secret;

    #[test]
    fn addresses() {
        let key = Secret::from_seed(&[1; 32]).key();
        let other = Secret::from_seed(&[2; 32]).key();
        let with_key = format!("/ip6/2001:db8::1/tcp/4747/p2p/{key}");
        for good in ["/ip4/192.0.2.1/tcp/4747", "/dns/relay.example.org/tcp/4747", &with_key] {
            assert_eq!(check(good, Use::Dial(key)), Ok(()), "{good}");
        }
        let quic = check("/dns/relay.example.org/udp/4747/quic-v1", Use::Dial(key));
        assert_eq!(quic.is_ok(), cfg!(feature = "quic"), "{quic:?}");
        assert_eq!(check("/ip4/0.0.0.0/tcp/0", Use::Listen), Ok(()));
        for (bad, purpose, reason) in [
            ("relay.example.org:4747", Use::Dial(key), "begin with '/'"),
            ("/relay.example.org/tcp/4747", Use::Dial(key), "none of /ip4/"),
            ("/ip4/192.0.2.300/tcp/4747", Use::Dial(key), "no IPv4"),
            ("/ip6/192.0.2.1/tcp/4747", Use::Dial(key), "no IPv6"),
            ("/dns/relay example/tcp/4747", Use::Dial(key), "no host name"),
            ("/dns//tcp/4747", Use::Dial(key), "no host name"),
            ("/ip4/192.0.2.1", Use::Dial(key), "/tcp/PORT"),
            ("/ip4/192.0.2.1/tcp", Use::Dial(key), "/tcp/PORT"),
            ("/ip4/192.0.2.1/tcp/65536", Use::Dial(key), "no port"),
            ("/ip4/192.0.2.1/tcp/0", Use::Dial(key), "port 0"),
            ("/ip4/192.0.2.1/udp/4747", Use::Dial(key), "/quic-v1"),
            ("/ip4/192.0.2.1/tcp/4747/ws", Use::Dial(key), "\"/ws\""),
            ("/ip4/192.0.2.1/tcp/4747/p2p/12D3", Use::Dial(key), "PeerId"),
            (&with_key, Use::Dial(other), "not the peer's key"),
            (&format!("{with_key}/p2p-circuit"), Use::Dial(key), "after the key"),
            (&with_key, Use::Listen, "ends after the port"),
            ("/dns/relay.example.org/tcp/4747", Use::Listen, "not a host name"),
        ] {
            let error = check(bad, purpose).expect_err(bad);
            assert!(error.contains(reason), "{bad}: {error}");
        }
    }
}
