//! `peer`: the peers in the configuration file.

use std::io::{self, Write};
use std::process::ExitCode;

use super::{CliError, Options};
use crate::config::{Config, Share, StoredKey, add_peer, edit_file, remove_peer};
use crate::envelope::{EncryptionKey, Key, Name};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Add a peer, with what `intelmq-relay id` prints there
    Add {
        /// Its name, as cert-at
        name: Name,
        /// Its key, as 12D3KooW…
        key: Key,
        /// Where to dial it, as /dns/relay.example.org/tcp/4747; none if it dials us
        #[arg(value_name = "ADDRESS")]
        addresses: Vec<String>,
        /// What it is given of the events here; what it sends is taken in any case
        #[arg(long, value_enum, default_value_t)]
        give: Give,
        /// What is encrypted to it, as X25…; without, nothing is, unless the roster has it
        #[arg(long, value_name = "KEY")]
        encryption: Option<EncryptionKey>,
    },
    /// Remove a peer
    Remove {
        /// Its name
        name: Name,
    },
    /// List the peers
    List,
}

/// What a peer may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Give {
    /// Nothing
    #[default]
    None,
    /// What TLP lets a member of the community have
    Community,
}

pub(super) fn run(options: &Options, command: Command) -> Result<ExitCode, CliError> {
    let mut out = io::stdout().lock();
    match command {
        Command::Add { name, key, addresses, give, encryption } => {
            let share = match give {
                Give::None => Share::None,
                Give::Community => Share::Community,
            };
            // A key that cannot be read is `check`'s and `run`'s to say.
            let ours = Config::read(&options.config).ok();
            let ours = ours.and_then(|config| StoredKey::read(config.node.key_source()).ok()?.key());
            if ours == Some(key) {
                return Err(CliError::Usage {
                    what: format!("{key} is the key of this node"),
                    remedy: "give the key that `intelmq-relay id` prints at the peer".into(),
                });
            }
            edit_file(&options.config, |text| add_peer(text, &name, &key, &addresses, &share, encryption.as_ref()))?;
            writeln!(out, "{name} is a peer.")?;
            if share == Share::None {
                writeln!(out, "It is given nothing. To change that, write give = \"community\" in its [[peer]].")?;
            }
            say_how_to_reload(&mut out)?;
        }
        Command::Remove { name } => {
            edit_file(&options.config, |text| remove_peer(text, &name))?;
            writeln!(out, "{name} is no peer any more.")?;
            say_how_to_reload(&mut out)?;
        }
        Command::List => list(&mut out, &Config::read(&options.config)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn say_how_to_reload(out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "A running node takes it with `intelmq-relay reload`, `systemctl reload intelmq-relay`, or a SIGHUP.")
}

fn list(out: &mut impl Write, config: &Config) -> io::Result<()> {
    let width = config.peers.iter().map(|peer| peer.name.as_str().len()).max().unwrap_or(0);
    for peer in &config.peers {
        let (name, give) = (peer.name.as_str(), peer.give.to_string());
        let addresses = if peer.addresses.is_empty() { "dials us".to_owned() } else { peer.addresses.join(" ") };
        let test = if peer.test { "  in test mode" } else { "" };
        writeln!(out, "{name:width$}  {}  {give:9}  {addresses}{test}", peer.key)?;
    }
    if config.peers.is_empty() {
        writeln!(out, "There are no peers. Add one with `intelmq-relay peer add NAME KEY ADDRESS`.")?;
    }
    Ok(())
}
