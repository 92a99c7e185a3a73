//! Addresses as an operator writes them: `/ip4/192.0.2.1/tcp/4747`, `/dns/relay.example.org/tcp/4747`.
//!
//! Owns which forms are allowed, and turns names into IP addresses: with the system's resolver, so that
//! `/etc/hosts` and whatever else the operator set up hold here as everywhere.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

/// A checked address: a host and how to connect to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    host: Host,
    port: u16,
    quic: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Ip(IpAddr),
    Name(String, Family),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Any,
    V4,
    V6,
}

impl Address {
    /// Reads the address of the peer with this id; an id within the address must be the same. The error says what is
    /// wrong.
    pub(super) fn parse(text: &str, peer: &PeerId) -> Result<Address, String> {
        let address: Multiaddr = text
            .parse()
            .map_err(|error| format!("{error}; expected a form such as /dns/relay.example.org/tcp/4747"))?;
        let mut parts = address.iter();
        let host = match parts.next() {
            Some(Protocol::Ip4(ip)) => Host::Ip(ip.into()),
            Some(Protocol::Ip6(ip)) => Host::Ip(ip.into()),
            Some(Protocol::Dns(name)) => Host::Name(name.into_owned(), Family::Any),
            Some(Protocol::Dns4(name)) => Host::Name(name.into_owned(), Family::V4),
            Some(Protocol::Dns6(name)) => Host::Name(name.into_owned(), Family::V6),
            _ => return Err("it has to begin with /ip4/, /ip6/, /dns/, /dns4/ or /dns6/".into()),
        };
        let (port, quic) = match parts.next() {
            Some(Protocol::Tcp(port)) => (port, false),
            Some(Protocol::Udp(port)) if parts.next() == Some(Protocol::QuicV1) => (port, true),
            _ => return Err("after the host it has to go on with /tcp/<port> or /udp/<port>/quic-v1".into()),
        };
        if quic && cfg!(not(feature = "quic")) {
            return Err(
                "this relay was built without QUIC: use a /tcp/ address, or build it with `--features quic`".into()
            );
        }
        match parts.next() {
            None => {}
            Some(Protocol::P2p(id)) if id == *peer => {}
            Some(Protocol::P2p(id)) => return Err(format!("it ends in the key {id}, but {peer} is configured")),
            Some(other) => return Err(format!("'{other}' has no place here")),
        }
        match parts.next() {
            None => Ok(Address { host, port, quic }),
            Some(other) => Err(format!("'{other}' has no place here")),
        }
    }

    /// The socket to bind; none for a host name.
    pub(super) fn socket(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Ip(ip) => Some(SocketAddr::new(ip, self.port)),
            Host::Name(..) => None,
        }
    }

    /// Whether it is QUIC, over UDP.
    pub(super) fn is_quic(&self) -> bool {
        self.quic
    }

    /// The address as libp2p dials it, at this IP address.
    fn at(&self, ip: IpAddr) -> Multiaddr {
        let address = Multiaddr::from(ip);
        if self.quic {
            address.with(Protocol::Udp(self.port)).with(Protocol::QuicV1)
        } else {
            address.with(Protocol::Tcp(self.port))
        }
    }

    /// The address as libp2p listens on it; none for a host name.
    pub(super) fn listening(&self) -> Option<Multiaddr> {
        self.socket().map(|socket| self.at(socket.ip()))
    }
}

/// Addresses of which the names are resolved.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    /// What can be dialled.
    pub(super) dialable: Vec<Multiaddr>,
    /// The IP addresses in it.
    pub(super) ips: HashSet<IpAddr>,
    /// What could not be resolved, and why.
    pub(super) failed: Option<String>,
}

/// At most so many of the IP addresses of one name are used: what DNS says comes from outside.
const IPS_OF_A_NAME: usize = 16;

/// Resolves all names. Safe to cancel.
pub(super) async fn resolve(addresses: Vec<Address>) -> Resolved {
    let mut resolved = Resolved::default();
    for address in addresses {
        let ips = match &address.host {
            Host::Ip(ip) => vec![*ip],
            Host::Name(name, family) => match tokio::net::lookup_host((name.as_str(), address.port)).await {
                Ok(found) => {
                    let ips = found.map(|socket| socket.ip()).filter(|ip| family.includes(ip)).take(IPS_OF_A_NAME);
                    let ips: Vec<IpAddr> = ips.collect();
                    if ips.is_empty() {
                        resolved.failed = Some(format!("{name} has no address of the wanted kind"));
                    }
                    ips
                }
                Err(error) => {
                    resolved.failed = Some(format!("cannot resolve {name}: {error}"));
                    continue;
                }
            },
        };
        resolved.dialable.extend(ips.iter().map(|ip| address.at(*ip)));
        resolved.ips.extend(ips.iter().map(IpAddr::to_canonical));
    }
    resolved
}

impl Family {
    fn includes(self, ip: &IpAddr) -> bool {
        match self {
            Family::Any => true,
            Family::V4 => ip.is_ipv4(),
            Family::V6 => ip.is_ipv6(),
        }
    }
}

/// The IP address that an address of libp2p's begins with.
pub(super) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => Some(ip.into()),
        Some(Protocol::Ip6(ip)) => Some(IpAddr::from(ip).to_canonical()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_documented_forms_are_read() {
        let peer = PeerId::random();
        let read = |text: &str| Address::parse(text, &peer);
        assert!(read("/ip4/192.0.2.1/tcp/4747").is_ok());
        assert!(read("/ip6/2001:db8::1/tcp/4747").is_ok());
        assert!(read("/dns/relay.example.org/tcp/4747").is_ok());
        assert!(read(&format!("/dns4/relay.example.org/tcp/4747/p2p/{peer}")).is_ok());
        for (text, says) in [
            ("relay.example.org:4747", "/dns/relay.example.org"),
            ("", "has to begin"),
            ("/tcp/4747", "has to begin"),
            ("/dnsaddr/example.org/tcp/4747", "has to begin"),
            ("/ip4/192.0.2.1", "/tcp/<port>"),
            ("/ip4/192.0.2.1/udp/4747", "/tcp/<port>"),
            ("/ip4/192.0.2.1/tcp/4747/ws", "no place"),
            (&format!("/ip4/192.0.2.1/tcp/4747/p2p/{peer}/p2p-circuit"), "no place"),
            (&format!("/ip4/192.0.2.1/tcp/4747/p2p/{}", PeerId::random()), "is configured"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        let quic = read("/ip4/192.0.2.1/udp/4747/quic-v1");
        if cfg!(feature = "quic") {
            assert!(quic.unwrap().is_quic());
        } else {
            assert!(quic.unwrap_err().contains("--features quic"));
        }
    }

    #[tokio::test]
    async fn names_become_ip_addresses_of_the_wanted_kind() {
        let peer = PeerId::random();
        let read = |text: &str| Address::parse(text, &peer).unwrap();
        let resolved = resolve(vec![read("/dns4/localhost/tcp/1"), read("/ip4/192.0.2.1/tcp/2")]).await;
        assert_eq!(resolved.failed, None);
        let texts: Vec<String> = resolved.dialable.iter().map(Multiaddr::to_string).collect();
        assert_eq!(texts, ["/ip4/127.0.0.1/tcp/1", "/ip4/192.0.2.1/tcp/2"]);
        // What resolves stays usable beside what does not (.invalid never does, RFC 2606).
        let resolved = resolve(vec![read("/dns/nowhere.invalid/tcp/1"), read("/ip4/192.0.2.1/tcp/2")]).await;
        assert_eq!(resolved.dialable.len(), 1);
        assert!(resolved.failed.unwrap().contains("nowhere.invalid"));
    }
}
