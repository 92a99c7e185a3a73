//! Truncation: of an address, only the network goes out.
//!
//! Owns what comes of a value that is to be truncated. What is neither address nor network has no prefix, and nothing
//! tells what it gives away: it goes.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::envelope::json;

/// Fields with an address of IntelMQ's that has a field for its network beside it.
const NETWORK_OF: [(&str, &str); 2] = [("source.ip", "source.network"), ("destination.ip", "destination.network")];

/// Bits that are left of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lengths {
    pub(super) ipv4: u8,
    pub(super) ipv6: u8,
}

impl Lengths {
    /// What is left where both have taken away theirs.
    pub(super) fn shorter(self, other: Lengths) -> Lengths {
        Lengths { ipv4: self.ipv4.min(other.ipv4), ipv6: self.ipv6.min(other.ipv6) }
    }

    fn widen(self, network: IpNet) -> IpNet {
        let length = match network {
            IpNet::V4(_) => self.ipv4,
            IpNet::V6(_) => self.ipv6,
        };
        // A shorter prefix than the network's own is always a prefix.
        IpNet::new(network.addr(), length.min(network.prefix_len())).map_or(network, |network| network.trunc())
    }
}

/// What comes of a field.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Truncated {
    /// This value in its place.
    Value(String),
    /// This network, for another field.
    Network(&'static str, IpNet),
    /// Nothing.
    Gone,
}

/// Truncates a field's value, a JSON text.
pub(super) fn truncate(key: &str, value: &str, lengths: Lengths) -> Truncated {
    let Some((network, is_address)) = read(value) else { return Truncated::Gone };
    let network = lengths.widen(network);
    if let Some((_, field)) = NETWORK_OF.iter().find(|(address, _)| *address == key) {
        return Truncated::Network(field, network);
    }
    let as_network = !is_address || NETWORK_OF.iter().any(|(_, field)| *field == key);
    match network.addr() {
        // IntelMQ takes 0.0.0.0 for no address.
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) if !as_network => Truncated::Gone,
        address if !as_network => Truncated::Value(quoted(address)),
        _ => Truncated::Value(quoted(network)),
    }
}

/// The network field's value where it had one already, and an address gave this network too: the wider of both. What
/// it had is truncated as the address was; of two that are not of one kind, the address' own stays.
pub(super) fn wider(had: Option<&str>, network: IpNet, lengths: Lengths) -> String {
    let had = had.and_then(read).map(|(had, _)| lengths.widen(had));
    let same_kind = |had: &IpNet| had.addr().is_ipv4() == network.addr().is_ipv4();
    quoted(had.filter(|had| same_kind(had) && had.prefix_len() < network.prefix_len()).unwrap_or(network))
}

/// The network in a value, and whether it was written as an address. Addresses of IPv4 that are written as IPv6 are
/// those of IPv4: else a prefix would leave nothing of them.
fn read(value: &str) -> Option<(IpNet, bool)> {
    let text = json::string(value.trim())?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some((address.to_canonical().into(), true));
    }
    let network: IpNet = text.parse().ok()?;
    if let IpNet::V6(six) = network
        && let Some(four) = six.addr().to_ipv4_mapped()
        && let Some(length) = six.prefix_len().checked_sub(96)
    {
        return Some((Ipv4Net::new(four, length).ok()?.into(), false));
    }
    Some((network, false))
}

fn quoted(text: impl std::fmt::Display) -> String {
    // Neither addresses nor networks have anything to escape.
    format!("\"{text}\"")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LENGTHS: Lengths = Lengths { ipv4: 24, ipv6: 48 };

    #[test]
    fn what_comes_of_a_value() {
        let value = |text: &str| Truncated::Value(format!("\"{text}\""));
        let network = |field, text: &str| Truncated::Network(field, text.parse().unwrap());
        for (key, text, expected) in [
            ("source.ip", "\"192.0.2.77\"", network("source.network", "192.0.2.0/24")),
            ("destination.ip", "\"2001:db8:1:2::3\"", network("destination.network", "2001:db8:1::/48")),
            ("source.ip", "\"::ffff:192.0.2.77\"", network("source.network", "192.0.2.0/24")),
            ("source.ip", "\"192.0.0.0/16\"", network("source.network", "192.0.0.0/16")),
            ("source.ip", "\"192.0.2.77\\u0020\"", Truncated::Gone),
            ("source.ip", "\"fe80::1%eth0\"", Truncated::Gone),
            ("source.ip", "3221225985", Truncated::Gone),
            ("source.network", "\"192.0.2.77\"", value("192.0.2.0/24")),
            ("source.network", "\"192.0.2.64/26\"", value("192.0.2.0/24")),
            ("source.network", "\"192.0.2.77/16\"", value("192.0.0.0/16")),
            ("source.network", "\"::ffff:192.0.2.64/122\"", value("192.0.2.0/24")),
            ("source.network", "\"::/0\"", value("::/0")),
            ("source.local_ip", "\"10.1.2.3\"", value("10.1.2.0")),
            ("source.local_ip", "\"0.0.0.9\"", Truncated::Gone),
            ("extra.nets", "\"10.1.2.128/25\"", value("10.1.2.0/24")),
            ("extra.other", "\"10.1.\\u0032.3\"", value("10.1.2.0")),
            ("extra.other", "\"::1\"", value("::")),
            ("extra.other", "\"host.example\"", Truncated::Gone),
            ("extra.other", "[\"192.0.2.77\"]", Truncated::Gone),
            ("source.port", "80", Truncated::Gone),
        ] {
            assert_eq!(truncate(key, text, LENGTHS), expected, "{key} {text}");
        }
    }

    #[test]
    fn the_wider_network_stays() {
        let ours: IpNet = "192.0.2.0/24".parse().unwrap();
        for (had, expected) in [
            (None, "192.0.2.0/24"),
            (Some("\"192.0.0.0/16\""), "192.0.0.0/16"),
            (Some("\"192.0.2.64/26\""), "192.0.2.0/24"),
            (Some("\"192.0.2.77\""), "192.0.2.0/24"),
            (Some("\"2001:db8::/32\""), "192.0.2.0/24"),
            (Some("\"a text\""), "192.0.2.0/24"),
            (Some("null"), "192.0.2.0/24"),
        ] {
            assert_eq!(wider(had, ours, LENGTHS), format!("\"{expected}\""), "{had:?}");
        }
    }

    /// The number in an address or network, and the bits of it that are the prefix' own.
    fn bits(text: &str) -> (u128, bool) {
        let address = text.split('/').next().unwrap();
        match address.parse().unwrap() {
            IpAddr::V4(address) => (u128::from(u32::from(address)), false),
            IpAddr::V6(address) => (u128::from(address), true),
        }
    }

    proptest! {
        #[test]
        fn no_bit_behind_the_prefix_is_left(
            four in any::<u32>(), six in any::<u128>(), ipv4 in 1u8..32, ipv6 in 1u8..128, own in 0u8..=128,
            key in prop_oneof![Just("source.ip"), Just("source.network"), Just("extra.x")],
        ) {
            let lengths = Lengths { ipv4, ipv6 };
            let four_net = format!("{}/{}", Ipv4Addr::from(four), own.min(32));
            let six_net = format!("{}/{own}", std::net::Ipv6Addr::from(six));
            let addresses = [Ipv4Addr::from(four).to_string(), std::net::Ipv6Addr::from(six).to_string()];
            for text in addresses.into_iter().chain([four_net, six_net]) {
                let left = match truncate(key, &quoted(&text), lengths) {
                    Truncated::Value(value) => json::string(&value).unwrap().into_owned(),
                    Truncated::Network(_, network) => {
                        let value = wider(Some(&quoted(&text)), network, lengths);
                        json::string(&value).unwrap().into_owned()
                    }
                    Truncated::Gone => continue,
                };
                let (number, is_six) = bits(&left);
                let host = if is_six { u128::MAX >> ipv6 } else { u128::from(u32::MAX >> ipv4) };
                prop_assert_eq!(number & host, 0, "{} {}", text, left);
                prop_assert_eq!(number, bits(&text).0 & number, "of its own bits: {} {}", text, left);
                if let Some((_, length)) = left.split_once('/') {
                    let most = if is_six { ipv6 } else { ipv4 };
                    prop_assert!(length.parse::<u8>().unwrap() <= most);
                }
            }
        }
    }
}
