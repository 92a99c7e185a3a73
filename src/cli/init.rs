//! `init`: makes what is missing, and only that.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::process::ExitCode;

use rand::Rng;
use zeroize::Zeroizing;

use super::{CliError, Options, id, passphrase};
use crate::config::{Config, KeyFileError, KeySource, Node, Passphrase, StoredKey, make_key_file};
use crate::envelope::Name;

/// Loopback: to listen for the world is the operator's decision.
const LISTEN: &str = "/ip4/127.0.0.1/tcp/4747";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The node's name, as cert-at [default: from the host name]
    #[arg(long)]
    name: Option<Name>,
    /// Where peers reach the node, as /ip4/0.0.0.0/tcp/4747; give it several times for several addresses
    #[arg(long, value_name = "MULTIADDR", default_value = LISTEN, conflicts_with = "dial_only")]
    listen: Vec<String>,
    /// Listen nowhere: this node dials its peers
    #[arg(long)]
    dial_only: bool,
    /// Encrypt the new key with a passphrase: that in the passphrase file, or one that is asked for
    #[arg(long)]
    passphrase: bool,
}

impl Default for Arguments {
    fn default() -> Arguments {
        Arguments { name: None, listen: vec![LISTEN.into()], dial_only: false, passphrase: false }
    }
}

pub(super) fn run(options: &Options, arguments: Arguments) -> Result<ExitCode, CliError> {
    let mut out = io::stdout().lock();
    let file = &options.config;
    // Asked for before anything is made, so that nothing is left behind when there is none.
    let passphrase = if arguments.passphrase { new_passphrase(options)? } else { None };
    if fs::exists(file).map_err(|source| CliError::Make { path: file.clone(), source })? {
        writeln!(out, "kept  {}", file.display())?;
    } else {
        make_configuration(file, &arguments)?;
        writeln!(out, "made  {}", file.display())?;
    }
    let config = Config::read(file)?;
    if let Some(name) = arguments.name.filter(|name| *name != config.node.name) {
        return Err(CliError::Usage {
            what: format!("the node in {} is called {}, not {name}", file.display(), config.node.name),
            remedy: "leave --name away; to rename the node, edit the file and tell its peers".into(),
        });
    }

    match config.node.key_source() {
        // There was one already, or the passphrase would have been asked for.
        source @ KeySource::File(key_file) if arguments.passphrase && passphrase.is_none() => {
            writeln!(out, "kept  {}", key_file.display())?;
            if !StoredKey::read(source)?.is_encrypted() {
                writeln!(out, "      It is not encrypted. To change that: intelmq-relay key encrypt")?;
            }
        }
        KeySource::File(key_file) => make_key(&mut out, key_file, passphrase.as_ref())?,
        command @ KeySource::Command(_) => writeln!(out, "kept  the key that the {command} holds")?,
    }

    // Events are nobody else's business; the doors' folders are shared with IntelMQ, so there the umask holds.
    folder(&mut out, &config.node.data, 0o700)?;
    let taken = config.take.files.iter().flat_map(|door| [Some(&door.directory), door.taken.as_ref()]).flatten();
    for path in taken.chain(config.give.files.iter().map(|door| &door.directory)) {
        folder(&mut out, path, 0o777)?;
    }

    writeln!(out)?;
    id::tell(&mut out, options, &config)?;
    Ok(ExitCode::SUCCESS)
}

/// For a key that is about to be made; where there is one already, nobody is asked.
fn new_passphrase(options: &Options) -> Result<Option<Passphrase>, CliError> {
    let file = &options.config;
    let key_file = match Config::read(file) {
        Ok(config) => match config.node.key_source() {
            KeySource::File(key_file) => key_file.to_owned(),
            command @ KeySource::Command(_) => {
                return Err(CliError::Usage {
                    what: format!("the key is held by the {command}"),
                    remedy: "leave --passphrase away: no key file is made".into(),
                });
            }
        },
        // A file with a mistake is named in a moment.
        Err(_) => file.with_file_name(Node::KEY),
    };
    let missing = fs::exists(key_file).is_ok_and(|exists| !exists);
    missing.then(|| passphrase::new(options)).transpose()
}

fn make_key(out: &mut impl Write, file: &Path, passphrase: Option<&Passphrase>) -> Result<(), CliError> {
    make_folder_of(file)?;
    let mut seed = Zeroizing::new([0; 32]);
    rand::rng().fill_bytes(&mut seed[..]);
    match make_key_file(file, &seed, passphrase) {
        Ok(()) if passphrase.is_some() => {
            writeln!(
                out,
                "made  {} (the node's secret, encrypted: keep a backup, and the passphrase)",
                file.display()
            )?;
        }
        Ok(()) => writeln!(out, "made  {} (the node's secret: keep a backup, show it to nobody)", file.display())?,
        Err(KeyFileError::Exists(_)) => writeln!(out, "kept  {}", file.display())?,
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

fn make_configuration(file: &Path, arguments: &Arguments) -> Result<(), CliError> {
    let name = match &arguments.name {
        Some(name) => name.clone(),
        None => host_name().as_deref().and_then(node_name).ok_or_else(|| CliError::Usage {
            what: "the host name makes no node name".into(),
            remedy: "name the node with --name, as --name cert-at".into(),
        })?,
    };
    let listen = if arguments.dial_only { &[] } else { &arguments.listen[..] };
    let text = configuration(&name, listen);
    let folder = file.parent().unwrap_or(Path::new(""));
    // Wrong arguments must leave no file behind that every later command stumbles over.
    Config::parse(&text, folder).map_err(|mistakes| CliError::Usage {
        what: mistakes.0.iter().map(|mistake| &*mistake.reason).collect::<Vec<_>>().join("\n"),
        remedy: mistakes.0.iter().map(|mistake| &*mistake.remedy).collect::<Vec<_>>().join("\n  "),
    })?;
    make_folder_of(file)?;
    // Readable for the group at most: it may come to hold a password.
    let created = OpenOptions::new().write(true).create_new(true).mode(0o640).open(file);
    created
        .and_then(|mut created| created.write_all(text.as_bytes()).and_then(|()| created.sync_all()))
        .map_err(|source| CliError::Make { path: file.to_owned(), source })
}

fn configuration(name: &Name, listen: &[String]) -> String {
    let listen: Vec<String> = listen.iter().map(|address| format!("{address:?}")).collect();
    format!(
        r#"# The configuration of intelmq-relay. examples/relay.toml shows every key with its default.

[node]
name = "{name}"

[net]
# Where peers reach this node: loopback only, until you write /ip4/0.0.0.0/tcp/4747 or an address of this machine.
# Only the peers below are talked to.
listen = [{}]

# Files of JSON lines that are renamed into in/ as *.jsonl are taken, and removed. What is written there in place
# is taken too early, and partly lost.
[[take.files]]
name = "in"
directory = "in"

# What peers send is appended to out/events.jsonl. This node's own events do not come out here.
[[give.files]]
name = "out"
directory = "out"

# Peers: `intelmq-relay invite NAME` here and `join` there, or the other way round, or by hand `peer add`. Each with
# --give community; without, a peer is given nothing.
"#,
        listen.join(", ")
    )
}

fn make_folder_of(file: &Path) -> Result<(), CliError> {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => {
            fs::create_dir_all(folder).map_err(|source| CliError::Make { path: folder.to_owned(), source })
        }
        _ => Ok(()),
    }
}

fn folder(out: &mut impl Write, path: &Path, mode: u32) -> Result<(), CliError> {
    if path.is_dir() {
        writeln!(out, "kept  {}/", path.display())?;
        return Ok(());
    }
    let made = DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|source| CliError::Make { path: path.to_owned(), source })?;
    writeln!(out, "made  {}/", path.display())?;
    Ok(())
}

/// This machine's name, as the kernel has it.
pub(super) fn host_name() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// The nearest legal name.
fn node_name(host: &str) -> Option<Name> {
    let legal = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = host.chars().take(Name::MAX).map(legal).collect();
    name.trim_matches('-').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_hosts() {
        let name = |host: &str| node_name(host).map(|name| name.to_string());
        assert_eq!(name("Relay_1.cert.AT").as_deref(), Some("relay-1-cert-at"));
        assert_eq!(name("-ümläut-").as_deref(), Some("ml-ut"));
        assert_eq!(name(&"a".repeat(80)), Some("a".repeat(63)));
        assert_eq!(name("---"), None);
    }
}
