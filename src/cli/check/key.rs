//! The key: whether it can be had, and whose it is.

use std::os::unix::net::UnixStream;

use super::Finding;
use crate::cli::{CliError, Options, passphrase};
use crate::config::{Config, StoredKey};
use crate::envelope::Secret;
use crate::watch::socket;

/// Of whom relay.toml has an old key, as the running node says, and how far its own rotation is.
pub(super) fn outdated(status: &serde_json::Value) -> Vec<Finding> {
    let keys = |what: &str| status[what].as_object().cloned().unwrap_or_default();
    let mut found: Vec<Finding> = keys("outdated")
        .iter()
        .map(|(name, key)| {
            let key = key.as_str().unwrap_or_default();
            let text = format!("relay.toml has an old key of it; it works, since this node was told of the next\n  write there: key = \"{key}\"; and as its encryption, if it has one there, what `intelmq-relay id` prints at the peer");
            Finding::note(format!("key of {name}"), text)
        })
        .collect();
    found.extend(keys("outdated_encryption").iter().map(|(name, key)| {
        let key = key.as_str().unwrap_or_default();
        let text = format!("relay.toml has the encryption key of an older key of it: whoever has that one reads what is encrypted to it\n  write there what `intelmq-relay id` prints at the peer: encryption = \"{key}\"");
        Finding::note(format!("encryption key of {name}"), text)
    }));
    if let Some(next) = status["rotation"]["next"].as_str() {
        let waits: Vec<&str> =
            status["rotation"]["waits_for"].as_array().into_iter().flatten().filter_map(|name| name.as_str()).collect();
        let text =
            format!("{next} is to follow, and is used when all peers know of it\n  waiting for: {}", waits.join(", "));
        found.push(Finding::note("rotation of this node's key", text));
    }
    found
}

/// Says what there is to say; returns the secret if it can be had. Nobody is asked for a passphrase unless peers must be
/// called, since no node runs that could tell how their links stand.
pub(super) fn look(options: &Options, config: &Config, findings: &mut Vec<Finding>) -> Option<Secret> {
    let source = config.node.key_source();
    let what = source.to_string();
    let stored = match StoredKey::read(source) {
        Ok(stored) => stored,
        Err(error) => {
            findings.push(Finding::problem(what, error.to_string()));
            return None;
        }
    };
    let (encrypted, said) = (stored.is_encrypted(), stored.key());
    let named = passphrase::file(options).is_some();
    let runs = || UnixStream::connect(socket(&config.node.data)).is_ok();
    if encrypted && !named && (config.peers.is_empty() || runs()) {
        let key = said.map_or_else(|| "its public key stands in no comment".to_owned(), |key| key.to_string());
        findings.push(Finding::ok(format!("{what}: {key}, encrypted")));
        return None;
    }
    match stored.open::<CliError>(|| passphrase::known(options, source)) {
        Ok(secret) => {
            let mark = if encrypted { ", encrypted; the passphrase opens it" } else { "" };
            findings.push(Finding::ok(format!("{what}: {}{mark}", secret.key())));
            Some(secret)
        }
        // The key may be well: nobody could be asked.
        Err(error @ CliError::Usage { .. }) => {
            findings.push(Finding::note(what, format!("the peers are not called: {error}")));
            None
        }
        Err(error) => {
            findings.push(Finding::problem(what, error.to_string()));
            None
        }
    }
}
