//! `key`: a passphrase onto the key file, and off it. Rotation and revocation are `rotate`'s.

use std::io::{self, Write};
use std::process::ExitCode;

use super::{CliError, Options, passphrase, rotate};
use crate::config::{Config, KeySource, decrypt_key_file, encrypt_key_file};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Encrypt the key file with a passphrase, in its place; the key stays the same
    Encrypt,
    /// Take the passphrase off the key file, in its place; the key stays the same
    Decrypt,
    /// Have another key follow this node's: peers are told, and it is used when all of them know; again: how far that is
    Rotate(rotate::Rotate),
    /// Say that a key of this node is void: what it seals from a time on is refused everywhere
    Revoke(rotate::Revoke),
    /// Take a notice that `key revoke --output` has written, and tell the peers
    Publish(rotate::Publish),
}

pub(super) fn run(options: &Options, command: &Command) -> Result<ExitCode, CliError> {
    match command {
        Command::Encrypt | Command::Decrypt => recrypt(options, command),
        Command::Rotate(rotate) => rotate::rotate(options, rotate),
        Command::Revoke(revoke) => rotate::revoke(options, revoke),
        Command::Publish(publish) => rotate::publish(options, publish),
    }
}

fn recrypt(options: &Options, command: &Command) -> Result<ExitCode, CliError> {
    let config = Config::read(&options.config)?;
    let source = config.node.key_source();
    let KeySource::File(file) = source else {
        return Err(CliError::Usage {
            what: format!("there is no key file: the key is held by the {source}"),
            remedy: "encrypt or decrypt it where that command has it from".into(),
        });
    };
    let mut out = io::stdout().lock();
    match command {
        Command::Encrypt => {
            let key = encrypt_key_file(file, || passphrase::new(options))?;
            writeln!(out, "The {source} is encrypted now; the key is still {key}.")?;
            writeln!(out, "Keep the passphrase with a backup of the file: one without the other is worth nothing.")?;
            writeln!(out, "Older copies of the file, as in backups, are not encrypted by this.")?;
        }
        _ => {
            let key = decrypt_key_file(file, || passphrase::known(options, source))?;
            writeln!(out, "The {source} is not encrypted any more; the key is still {key}.")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
