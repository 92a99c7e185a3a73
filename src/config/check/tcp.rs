//! TCP doors: what listens beyond this machine says to whom, and no port is asked for twice.

use std::net::{IpAddr, SocketAddr};

use super::super::{Config, TakeTcp};
use super::{Found, Unique};

pub(super) fn check(config: &Config, found: &mut Found) {
    let mut listening = Unique::new();
    for (i, door) in config.take.tcp.iter().enumerate() {
        listen(i, door, &mut listening, found);
        allow(i, door, found);
        if door.separator.as_ref().is_some_and(String::is_empty) {
            found.add(
                format!("take.tcp.{i}.separator"),
                "an empty separator separates nothing",
                "write what the output bot has as separator, as \"\\n\"; remove the key if it has none",
            );
        }
    }
    for (i, door) in config.give.tcp.iter().enumerate() {
        if !is_address(&door.address) {
            found.add(
                format!("give.tcp.{i}.address"),
                format!("{:?} is no address of a collector", door.address),
                "write host and port, as \"127.0.0.1:5000\", \"[::1]:5000\" or \"intelmq.example.org:5000\"",
            );
        } else if config.take.tcp.iter().any(|take| take.listen.iter().any(|own| own.to_string() == door.address)) {
            found.add(
                format!("give.tcp.{i}.address"),
                format!("this node itself takes at {}: events would go in circles", door.address),
                "write the address of IntelMQ's TCP collector",
            );
        }
    }
}

fn listen(i: usize, door: &TakeTcp, listening: &mut Unique<SocketAddr>, found: &mut Found) {
    let place = format!("take.tcp.{i}.listen take.tcp.{i}");
    if door.listen.is_empty() {
        found.add(place.clone(), "this door listens nowhere", "write an address, as \"127.0.0.1:5000\"");
    }
    for address in &door.listen {
        if address.port() == 0 {
            found.add(
                place.clone(),
                format!("nobody can know the port of {address}"),
                "choose one from 1024 to 65535, and write the same one into IntelMQ's TCP output",
            );
        }
        if let Some(first) = listening.claim(*address, door.name.as_str()) {
            let who = if first == door.name.as_str() { "twice".into() } else { format!("as {first} does") };
            found.add(
                place.clone(),
                format!("the door {} listens at {address} {who}", door.name),
                "give each door its own address or port",
            );
        }
    }
}

/// Beyond this machine, whoever connects is believed: the operator must have said who that may be.
fn allow(i: usize, door: &TakeTcp, found: &mut Found) {
    let beyond = door.listen.iter().find(|address| !address.ip().to_canonical().is_loopback());
    let others = door.allow.iter().any(|network| !is_loopback(network.addr()));
    if let Some(address) = beyond.filter(|_| !others) {
        found.add(
            format!("take.tcp.{i}.allow take.tcp.{i}.listen"),
            format!("{address} can be reached from other machines, but none of them is allowed"),
            "write the networks of your IntelMQ hosts, as allow = [\"192.0.2.0/24\"], or listen on 127.0.0.1",
        );
    }
    if door.allow.is_empty() && beyond.is_none() {
        found.add(
            format!("take.tcp.{i}.allow"),
            "nobody is allowed to connect",
            "write networks, or remove the key: then this machine may",
        );
    }
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// `host:port`, the host a name or an address, IPv6 in brackets.
fn is_address(text: &str) -> bool {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return address.port() != 0;
    }
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    (1..=253).contains(&host.len()) && host.bytes().all(legal) && port.parse::<u16>().is_ok_and(|port| port != 0)
}

#[cfg(test)]
mod tests {
    use super::is_address;

    #[test]
    fn addresses_of_collectors() {
        for good in ["127.0.0.1:5000", "[::1]:5000", "intelmq.example.org:5000", "localhost:1"] {
            assert!(is_address(good), "{good}");
        }
        for bad in ["", "127.0.0.1", "::1:5000", "host", "host:", ":5000", "host:0", "host:65536", "a b:1", "[::1]:0"] {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
