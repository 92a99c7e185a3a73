//! `id`: who this node is, in the form that others need.

use std::io::{self, Write};
use std::process::ExitCode;

use super::{CliError, Options, passphrase};
use crate::config::{Config, StoredKey};
use crate::envelope::{EncryptionKey, EncryptionSecret, Key, Secret};

pub(super) fn run(options: &Options) -> Result<ExitCode, CliError> {
    tell(&mut io::stdout().lock(), options, &Config::read(&options.config)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Who this node is, as far as it can be told without asking anybody for a passphrase.
pub(super) fn tell(out: &mut impl Write, options: &Options, config: &Config) -> Result<(), CliError> {
    let source = config.node.key_source();
    let stored = StoredKey::read(source)?;
    let told = stored.key().filter(|_| stored.is_encrypted() && passphrase::file(options).is_none());
    if let Some(key) = told {
        introduce(out, config, &key, None)?;
        writeln!(out, "\n{LOCKED}")?;
    } else {
        let secret = stored.open::<CliError>(|| passphrase::known(options, source))?;
        introduce(out, config, &secret.key(), Some(&encryption_of(&secret)))?;
    }
    Ok(())
}

/// What others encrypt to.
pub(super) fn encryption_of(secret: &Secret) -> EncryptionKey {
    EncryptionSecret::derive(secret.expose_seed()).key()
}

/// Our public key. The passphrase is asked for only where the file does not tell.
pub(super) fn public(options: &Options, config: &Config) -> Result<Key, CliError> {
    let source = config.node.key_source();
    let stored = StoredKey::read(source)?;
    match stored.key() {
        Some(key) => Ok(key),
        None => Ok(stored.open::<CliError>(|| passphrase::known(options, source))?.key()),
    }
}

/// Prints the name, the key, and the command that a peer's operator types.
fn introduce(out: &mut impl Write, config: &Config, key: &Key, encryption: Option<&EncryptionKey>) -> io::Result<()> {
    let name = &config.node.name;
    writeln!(out, "name        {name}\nkey         {key}")?;
    if let Some(encryption) = encryption {
        writeln!(out, "encryption  {encryption}")?;
    }
    writeln!(
        out,
        "\nTo connect with another node: intelmq-relay invite ITS-NAME, or join with the line that it prints."
    )?;
    writeln!(out, "By hand:\n")?;
    let encryption = encryption.map_or_else(String::new, |key| format!(" --encryption {key}"));
    let addresses: Vec<String> = config.net.listen.iter().map(|listen| public_address(listen)).collect();
    if addresses.is_empty() {
        writeln!(out, "This node listens nowhere and dials its peers. They add it with:")?;
        writeln!(out, "  intelmq-relay peer add {name} {key}{encryption}")?;
        return writeln!(out, "{GIVE}");
    }
    writeln!(
        out,
        "Peers add this node with:\n  intelmq-relay peer add {name} {key} {}{encryption}",
        addresses.join(" ")
    )?;
    if addresses.iter().any(|address| address.contains(PLACEHOLDER)) {
        writeln!(out, "where {PLACEHOLDER} stands for the host name that they reach it at.")?;
    }
    if addresses.iter().any(|address| LOOPBACK.iter().any(|start| address.starts_with(start))) {
        writeln!(out, "Only this machine reaches a loopback address. For others, change listen in [net].")?;
    }
    writeln!(out, "{GIVE}")
}

/// Easily forgotten, and nothing comes then.
const GIVE: &str = "With --give community they also give it events; without, nothing.";
/// The encryption key is derived from the secret one.
const LOCKED: &str = "What others encrypt to (encryption) can be told only with the passphrase: name its file with \
                      --passphrase-file.";
pub(super) const LOOPBACK: [&str; 2] = ["/ip4/127.", "/ip6/::1/"];
const PLACEHOLDER: &str = "YOUR-HOST-NAME";

/// This machine's name, if it has a dot: such a one others may know too.
pub(super) fn known_host() -> Option<String> {
    super::init::host_name().filter(|host| host.contains('.'))
}

/// What others dial, as far as it can be told from here.
fn public_address(listen: &str) -> String {
    for any in ["/ip4/0.0.0.0/", "/ip6/::/"] {
        if let Some(port) = listen.strip_prefix(any) {
            return format!("/dns/{}/{port}", known_host().as_deref().unwrap_or(PLACEHOLDER));
        }
    }
    listen.to_owned()
}
