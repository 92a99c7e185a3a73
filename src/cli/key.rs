//! `key`: a passphrase onto the key file, and off it. Rotation and revocation are `rotate`'s.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use super::{CliError, Options, passphrase, rotate};
use crate::config::{
    Config, KeyFileError, KeySource, StoredKey, decrypt_key_file, encrypt_key_file, former_key_files, next_key_file,
};
use crate::envelope::Key;

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
    let beside = [next_key_file(file)].into_iter().chain(former_key_files(file)).filter(|file| file.exists());
    // The key of now goes last: interrupted, the same command goes on.
    match command {
        Command::Encrypt => {
            let mut known = None;
            if !StoredKey::read(source)?.is_encrypted() {
                let passphrase = known.insert(passphrase::new(options)?);
                for other in beside {
                    let done = encrypt_key_file::<KeyFileError>(&other, || Ok(passphrase.again()));
                    tell_other(&mut out, &other, done, "is encrypted now, too")?;
                }
            }
            let key =
                encrypt_key_file(file, || known.ok_or_else(|| CliError::from(KeyFileError::Encrypted(file.into()))))?;
            writeln!(out, "The {source} is encrypted now; the key is still {key}.")?;
            writeln!(out, "Keep the passphrase with a backup of the file: one without the other is worth nothing.")?;
            writeln!(out, "Older copies of the file, as in backups, are not encrypted by this.")?;
        }
        _ => {
            let mut known = None;
            if StoredKey::read(source)?.is_encrypted() {
                let passphrase = known.insert(passphrase::known(options, source)?);
                // With a wrong one, nothing is done.
                StoredKey::read(source)?.open(|| Ok::<_, KeyFileError>(passphrase.again()))?;
                for other in beside {
                    let done = decrypt_key_file::<KeyFileError>(&other, || Ok(passphrase.again()));
                    tell_other(&mut out, &other, done, "is not encrypted any more, either")?;
                }
            }
            let key = decrypt_key_file(file, || known.ok_or_else(|| CliError::from(KeyFileError::Plain(file.into()))))?;
            writeln!(out, "The {source} is not encrypted any more; the key is still {key}.")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What became of a key file beside the one of now: the node opens them with one passphrase.
fn tell_other(out: &mut impl Write, file: &Path, done: Result<Key, KeyFileError>, what: &str) -> Result<(), CliError> {
    match done {
        Ok(_) => writeln!(out, "The key file {} {what}.", file.display())?,
        // As it was to be, unless its passphrase is another one: the log of the next start says so.
        Err(KeyFileError::Encrypted(_) | KeyFileError::Plain(_)) => {}
        Err(error) => writeln!(out, "THE KEY FILE {} STAYS AS IT IS: {error}", file.display())?,
    }
    Ok(())
}
