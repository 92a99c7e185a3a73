//! Where other nodes reach this one, as far as it can be told from here.

use super::CliError;
use super::id::{self, LOOPBACK};
use crate::config::{Config, check_peer_address};
use crate::envelope::Key;
use crate::invite::MAX_ADDRESSES;

/// Of the addresses that are found here, at most so many are said: each makes a line longer.
const MOST: usize = 4;

/// The addresses that the operator has given, checked, or else those that the node listens on: what names an interface
/// as it is; for all interfaces, the host's name, or else each of `listening`. Loopback only where there is nothing else.
pub(super) fn addresses(
    given: &[String],
    config: &Config,
    key: &Key,
    listening: &[String],
) -> Result<Vec<String>, CliError> {
    for address in given {
        check_peer_address(address, key).map_err(|reason| CliError::Usage {
            what: format!("{address:?} is no address of a node: {reason}"),
            remedy: "write it as /dns/relay.example.org/tcp/4747 or /ip4/192.0.2.1/tcp/4747".into(),
        })?;
    }
    if given.len() > MAX_ADDRESSES {
        return Err(CliError::Usage {
            what: format!("{} addresses are too many", given.len()),
            remedy: format!("name at most {MAX_ADDRESSES}, those that are most likely reached"),
        });
    }
    if !given.is_empty() {
        return Ok(given.to_vec());
    }
    let bound: Vec<&str> = listening.iter().map(|address| address.split("/p2p/").next().unwrap_or(address)).collect();
    Ok(told(&config.net.listen, &bound, id::known_host().as_deref()))
}

fn told(configured: &[String], bound: &[&str], host: Option<&str>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for listen in configured {
        let mut parts = listen.splitn(5, '/').skip(1);
        let (Some(kind), Some(ip), Some(over), Some(port)) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let (any, any_port) = (matches!(ip, "0.0.0.0" | "::"), port == "0" || port.starts_with("0/"));
        let fits = |address: &&&str| {
            let mut parts = address.splitn(5, '/').skip(1);
            let (same_kind, its_ip) = (parts.next() == Some(kind), parts.next());
            let (same_over, its_port) = (parts.next() == Some(over), parts.next());
            same_kind && same_over && (any || its_ip == Some(ip)) && (any_port || its_port == Some(port))
        };
        match host.filter(|_| any && !any_port) {
            Some(host) => found.push(format!("/dns/{host}/{over}/{port}")),
            None if any || any_port => found.extend(bound.iter().filter(fits).map(|address| (*address).to_owned())),
            None => found.push(listen.clone()),
        }
    }
    let local = |address: &String| address.starts_with("/ip6/fe80:");
    found.retain(|address| !local(address));
    if !found.iter().all(|address| is_loopback(address)) {
        found.retain(|address| !is_loopback(address));
    }
    let mut seen = std::collections::HashSet::new();
    found.retain(|address| seen.insert(address.clone()));
    found.truncate(MOST);
    found
}

/// Whether only this machine reaches it.
pub(super) fn is_loopback(address: &str) -> bool {
    LOOPBACK.iter().any(|start| address.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_can_dial_is_told() {
        let told = |configured: &[&str], bound: &[&str], host| {
            told(&configured.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>(), bound, host)
        };
        let bound = ["/ip4/127.0.0.1/tcp/4747", "/ip4/192.0.2.7/tcp/4747", "/ip6/fe80::1/tcp/4747"];
        // All interfaces: by name where there is one, else each, but for what nobody else reaches.
        let all = ["/ip4/0.0.0.0/tcp/4747", "/ip6/::/tcp/4747"];
        assert_eq!(told(&all, &bound, Some("relay.cert.example")), ["/dns/relay.cert.example/tcp/4747"]);
        assert_eq!(told(&all, &bound, None), ["/ip4/192.0.2.7/tcp/4747"]);
        assert_eq!(told(&all[..1], &bound[..1], None), ["/ip4/127.0.0.1/tcp/4747"]);
        assert_eq!(told(&all, &[], None), [""; 0]);
        // One interface, as it stands; a port that the system chose, as it is bound.
        assert_eq!(told(&["/ip4/192.0.2.9/tcp/1"], &[], Some("x.example")), ["/ip4/192.0.2.9/tcp/1"]);
        assert_eq!(told(&["/ip4/127.0.0.1/tcp/0"], &["/ip4/127.0.0.1/tcp/33"], None), ["/ip4/127.0.0.1/tcp/33"]);
        assert_eq!(told(&["/ip4/127.0.0.1/tcp/1", "/ip4/192.0.2.9/tcp/1"], &[], None), ["/ip4/192.0.2.9/tcp/1"]);
    }
}
