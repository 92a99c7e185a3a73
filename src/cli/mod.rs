//! The command line: one file per command, each with `run`.
//!
//! Owns what an operator types and reads: arguments, results on standard output, logs and errors on standard error,
//! exit codes. Decides nothing about events, peers or the store; it asks the rooms below.

mod check;
mod demo;
mod id;
mod init;
mod invite;
mod join;
mod key;
mod log;
mod logs;
mod passphrase;
mod peer;
mod policy;
mod reach;
mod recall;
mod roster;
mod rotate;
mod run;
mod terminal;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{ConfigError, EditError, KeyFileError, PassphraseError};

/// Relays security events between the IntelMQ instances of CERTs.
#[derive(Debug, Parser)]
#[command(name = "intelmq-relay", version, about, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
struct Options {
    /// The configuration file
    #[arg(long, short, global = true, value_name = "FILE", default_value = "relay.toml")]
    config: PathBuf,
    /// How logs are written: `auto` is the journal under systemd, else text
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value_t)]
    log_format: logs::Format,
    /// What is logged: error, warn, info, debug or trace, also per module [default: $RELAY_LOG, else info]
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    /// The file that holds the key's passphrase, in one line [default: $RELAY_PASSPHRASE_FILE, else it is asked for]
    #[arg(long, global = true, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make what is missing: configuration, key, folders
    Init(init::Arguments),
    /// Run the node (and make what is missing, where there is no configuration)
    Run,
    /// Show this node's name and key, and the line that peers type
    Id,
    /// Encrypt or decrypt the key file; have another key follow this node's, or say that one is void
    #[command(subcommand)]
    Key(key::Command),
    /// Print a line by which another node becomes a peer, once; list or withdraw such invitations
    Invite(invite::Arguments),
    /// Become a peer of the node that has printed an invitation
    Join(join::Arguments),
    /// Have the running node read its configuration again
    Reload,
    /// Add, remove or list peers
    #[command(subcommand)]
    Peer(peer::Command),
    /// Make, sign, check, show and publish the roster: the members that authorities of a network name
    #[command(subcommand)]
    Roster(roster::Command),
    /// Look for what would keep the node from working; changes nothing
    Check,
    /// Follow the log: one line per envelope
    Tail(log::Tail),
    /// Show what is in the log under an id
    Show(log::Show),
    /// Explain what became of an event here, for each peer and door: who got it, who did not, and by which rule
    Why(log::Why),
    /// Write the log to standard output, as JSON lines
    Export(log::Export),
    /// Show, try again or drop what a door could not pass on: no event, or nothing that fits IntelMQ
    #[command(subcommand)]
    Quarantine(log::Quarantine),
    /// Withdraw an event that this node has sealed: who has it is told, and nobody else gets it
    Withdraw(recall::Withdraw),
    /// Seal an event in the place of one that this node has sealed, which is withdrawn
    Replace(recall::Replace),
    /// Take the fields of a withdrawn event out of the log; its id, header and seal stay
    Purge(recall::Purge),
    /// Try what the rules do to events, or what other rules would change
    #[command(subcommand)]
    Policy(policy::Command),
    /// Give a peer again what it may have of the log; what it has already it declines
    Resend(log::Resend),
    /// Show how a running node stands, as JSON
    Status,
    /// Show three nodes in this process that exchange events, while one goes away and comes back
    Demo(demo::Arguments),
}

/// Why a command did not do it. The text says what happened and what to do, in this order.
#[derive(Debug, thiserror::Error)]
enum CliError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The configuration was not changed.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// The key file cannot be used.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The passphrase file cannot be used.
    #[error(transparent)]
    Passphrase(#[from] PassphraseError),
    /// The command cannot be meant so.
    #[error("{what}\n  {remedy}")]
    Usage {
        /// What is wrong.
        what: String,
        /// What to type instead.
        remedy: String,
    },
    /// A file or folder cannot be made.
    #[error("cannot make {}: {source}\n  the user that runs this command must be allowed to write there", path.display())]
    Make {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The node does not start, cannot go on, or gives no answer.
    #[error("{0}")]
    Node(String),
    /// The result cannot be printed.
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
}

/// Runs the command that the arguments name. 0: done; 1: it failed, or what was checked is not well; 2: the command
/// or the configuration is wrong.
pub fn main() -> ExitCode {
    let Cli { options, command } = Cli::parse();
    // What the nodes of the demonstration log would drown what it shows, and check tells in its own words.
    let quiet = matches!(command, Command::Demo(_) | Command::Check);
    match logs::start(options.log_format, options.log_level.as_deref(), quiet).and_then(|()| run(&options, command)) {
        Ok(code) => code,
        // `… | head` has read enough.
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(options: &Options, command: Command) -> Result<ExitCode, CliError> {
    match command {
        Command::Init(arguments) => init::run(options, arguments),
        Command::Id => id::run(options),
        Command::Key(command) => key::run(options, &command),
        Command::Invite(arguments) => invite::run(options, arguments),
        Command::Join(arguments) => join::run(options, arguments),
        Command::Reload => log::reload(options),
        Command::Peer(command) => peer::run(options, command),
        Command::Roster(command) => roster::run(options, command),
        Command::Run => run::run(options),
        Command::Check => check::run(options),
        Command::Tail(arguments) => log::tail(options, arguments),
        Command::Show(arguments) => log::show(options, arguments),
        Command::Why(arguments) => log::why(options, arguments),
        Command::Export(arguments) => log::export(options, arguments),
        Command::Quarantine(command) => log::quarantine(options, command),
        Command::Withdraw(arguments) => recall::withdraw(options, arguments),
        Command::Purge(arguments) => recall::purge(options, &arguments),
        Command::Replace(arguments) => recall::replace(options, arguments),
        Command::Policy(command) => policy::run(options, command),
        Command::Resend(arguments) => log::resend(options, arguments),
        Command::Status => log::status(options),
        Command::Demo(arguments) => demo::run(&arguments),
    }
}

/// What commands that wait for something run on.
fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    tokio::runtime::Runtime::new().map_err(|error| CliError::Node(format!("cannot start threads: {error}")))
}

impl CliError {
    fn exit_code(&self) -> u8 {
        match self {
            CliError::Config(_) | CliError::Key(_) | CliError::Passphrase(_) | CliError::Usage { .. } => 2,
            CliError::Edit(EditError::Io { .. }) => 1,
            CliError::Edit(_) => 2,
            CliError::Make { .. } | CliError::Node(_) | CliError::Output(_) => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_fit_together() {
        Cli::command().debug_assert();
    }
}
