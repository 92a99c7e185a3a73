//! IP addresses and networks, as Python's `ipaddress` reads and writes them.
//!
//! Scopes (`%eth0`) are refused in networks too: IntelMQ refuses them in addresses only, but one means nothing on
//! another machine, and PostgreSQL takes neither.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A text that IntelMQ takes for an address as it is. `0.0.0.0` is none.
pub(super) fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok_and(|ip| ip != IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

/// The address in a text that is one with a scope, or a network of one address.
pub(super) fn address_in(text: &str) -> Option<String> {
    let text = text.split('%').next()?;
    let network = Network::parse(text)?;
    (network.length == network.bits() && network.is_strict()).then(|| network.address_text())
}

/// The address with this number.
pub(super) fn address_of(number: &str) -> Option<String> {
    let number: u128 = number.parse().ok()?;
    Some(match u32::try_from(number) {
        Ok(number) => Ipv4Addr::from(number).to_string(),
        Err(_) => v6_text(Ipv6Addr::from(number)),
    })
}

/// A text that IntelMQ takes for a network as it is: no bit of the host is set.
pub(super) fn is_network(text: &str) -> bool {
    Network::parse(text).is_some_and(|network| network.is_strict())
}

/// The network in a text, whatever bits of the host are set.
pub(super) fn network_in(text: &str) -> Option<String> {
    let network = Network::parse(text)?;
    let masked = Network { number: network.number & !network.host_mask(), ..network };
    Some(format!("{}/{}", masked.address_text(), masked.length))
}

#[derive(Clone, Copy)]
struct Network {
    number: u128,
    v6: bool,
    length: u32,
}

impl Network {
    fn parse(text: &str) -> Option<Network> {
        let (address, mask) = match text.split_once('/') {
            Some((address, mask)) => (address, Some(mask)),
            None => (text, None),
        };
        let (number, v6) = match address.parse().ok()? {
            IpAddr::V4(ip) => (u128::from(u32::from(ip)), false),
            IpAddr::V6(ip) => (u128::from(ip), true),
        };
        let bits = if v6 { 128 } else { 32 };
        let length = match mask {
            None => bits,
            Some(mask) if !mask.is_empty() && mask.bytes().all(|b| b.is_ascii_digit()) => {
                mask.parse().ok().filter(|length| *length <= bits)?
            }
            Some(mask) if !v6 => length_of(mask.parse().ok()?)?,
            Some(_) => return None,
        };
        Some(Network { number, v6, length })
    }

    fn bits(self) -> u32 {
        if self.v6 { 128 } else { 32 }
    }

    fn host_mask(self) -> u128 {
        // Shifting by all of the bits is undefined: a network of everything masks everything.
        (self.bits() - self.length)
            .checked_sub(128)
            .map_or_else(|| (1 << (self.bits() - self.length)) - 1, |_| u128::MAX)
    }

    fn is_strict(self) -> bool {
        self.number & self.host_mask() == 0
    }

    fn address_text(self) -> String {
        match u32::try_from(self.number) {
            Ok(number) if !self.v6 => Ipv4Addr::from(number).to_string(),
            _ => v6_text(Ipv6Addr::from(self.number)),
        }
    }
}

/// How long a prefix a net mask is, or a host mask where it is no net mask.
fn length_of(mask: Ipv4Addr) -> Option<u32> {
    let mask = u32::from(mask);
    let prefix = |mask: u32| (mask.leading_ones() == 32 - mask.trailing_zeros().min(32)).then(|| mask.leading_ones());
    prefix(mask).or_else(|| prefix(!mask))
}

/// Without the dotted form that Rust gives to mapped addresses, and Python from 3.13 on.
fn v6_text(ip: Ipv6Addr) -> String {
    let groups = ip.segments();
    let (mut best, mut from) = (0..0, 0);
    while from < 8 {
        let zeros = groups[from..].iter().take_while(|group| **group == 0).count();
        if zeros > 1 && zeros > best.len() {
            best = from..from + zeros;
        }
        from += zeros.max(1);
    }
    let mut text = String::with_capacity(39);
    for (i, group) in groups.iter().enumerate() {
        if best.contains(&i) {
            if i == best.start {
                text.push_str("::");
            }
            continue;
        }
        if i > 0 && i != best.end {
            text.push(':');
        }
        // Writing to a String cannot fail.
        let _ = write!(text, "{group:x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for text in ["192.0.2.1", "2001:DB8::1", "::", "::ffff:192.0.2.1", "1:2:3:4:5:6:7::"] {
            assert!(is_address(text), "{text}");
        }
        for text in
            ["0.0.0.0", "192.0.2.01", "192.0.2", "fe80::1%eth0", "192.0.2.1/32", " 192.0.2.1", "1::2:3:4:5:6:7:8"]
        {
            assert!(!is_address(text), "{text}");
        }
        for (text, address) in [
            ("fe80::1%eth0", "fe80::1"),
            ("192.0.2.1/32", "192.0.2.1"),
            ("192.0.2.1/255.255.255.255", "192.0.2.1"),
            ("2001:0DB8:0:0:1:0:0:1/128", "2001:db8::1:0:0:1"),
            ("::ffff:192.0.2.1/128", "::ffff:c000:201"),
        ] {
            assert_eq!(address_in(text).as_deref(), Some(address));
        }
        assert_eq!([address_in("192.0.2.0/31"), address_in("192.0.2.1/31"), address_in("")], [None, None, None]);
        assert_eq!(address_of("3221225985").as_deref(), Some("192.0.2.1"));
        assert_eq!(address_of("4294967296").as_deref(), Some("::1:0:0"));
        assert_eq!(address_of("-1"), None);
    }

    #[test]
    fn networks() {
        for text in ["192.0.2.0/24", "192.0.2.1", "2001:db8::/32", "::/0", "192.0.2.0/0.0.0.255", "0.0.0.0/0.0.0.0"] {
            assert!(is_network(text), "{text}");
        }
        for (text, network) in [
            ("192.0.2.1/24", Some("192.0.2.0/24")),
            ("192.0.2.1/255.255.0.0", Some("192.0.0.0/16")),
            ("2001:db8::1/64", Some("2001:db8::/64")),
            ("1::1/0", Some("::/0")),
            ("192.0.2.1/024", Some("192.0.2.0/24")),
            ("192.0.2.1/33", None),
            ("192.0.2.1/255.0.255.0", None),
            ("2001:db8::/ffff::", None),
            ("192.0.2.1/", None),
            ("192.0.2.1/24/24", None),
        ] {
            assert_eq!(network_in(text).as_deref(), network, "{text}");
        }
    }
}
