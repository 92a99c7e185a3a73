//! `key`: a passphrase onto the key file, and off it.

use std::io::{self, Write};
use std::process::ExitCode;

use super::{CliError, Options, passphrase};
use crate::config::{Config, KeySource, decrypt_key_file, encrypt_key_file};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Encrypt the key file with a passphrase, in its place; the key stays the same
    Encrypt,
    /// Take the passphrase off the key file, in its place; the key stays the same
    Decrypt,
}

pub(super) fn run(options: &Options, command: &Command) -> Result<ExitCode, CliError> {
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
        Command::Decrypt => {
            let key = decrypt_key_file(file, || passphrase::known(options, source))?;
            writeln!(out, "The {source} is not encrypted any more; the key is still {key}.")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
