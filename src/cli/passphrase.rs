//! Where passphrases come from: a file for services, or the terminal, without echo. Never an argument: every user of a
//! machine can read those.

use std::io;
use std::path::PathBuf;

use super::{CliError, Options, terminal};
use crate::config::{Config, KeySource, Passphrase, StoredKey};
use crate::envelope::Secret;

const VARIABLE: &str = "RELAY_PASSPHRASE_FILE";

/// The node's secret, with its passphrase if it has one.
pub(super) fn secret(options: &Options, config: &Config) -> Result<Secret, CliError> {
    secret_of(options, config.node.key_source())
}

/// The same, with the passphrase that opened it.
pub(super) fn secret_and_passphrase(
    options: &Options,
    source: KeySource<'_>,
) -> Result<(Secret, Option<Passphrase>), CliError> {
    let mut kept = None;
    let secret = StoredKey::read(source)?.open(|| {
        let passphrase = known(options, source)?;
        kept = Some(passphrase.again());
        Ok::<_, CliError>(passphrase)
    })?;
    Ok((secret, kept))
}

/// The secret of any key.
pub(super) fn secret_of(options: &Options, source: KeySource<'_>) -> Result<Secret, CliError> {
    StoredKey::read(source)?.open(|| known(options, source))
}

/// The passphrase of a key that there is.
pub(super) fn known(options: &Options, source: KeySource<'_>) -> Result<Passphrase, CliError> {
    match file(options) {
        Some(file) => Ok(Passphrase::read(&file)?),
        None => ask(&format!("Passphrase of the {source}: ")),
    }
}

/// The passphrase that a key is to have.
pub(super) fn new(options: &Options) -> Result<Passphrase, CliError> {
    let file = file(options);
    let passphrase = match &file {
        Some(file) => Passphrase::read(file)?,
        None => ask("New passphrase: ")?,
    };
    if passphrase.is_short() {
        return Err(CliError::Usage {
            what: format!("the passphrase is shorter than {} characters", Passphrase::LEAST),
            remedy: "take a longer one, as some words by chance: who has the file can try without end".into(),
        });
    }
    if file.is_none() && !passphrase.is(&ask("The same again: ")?) {
        return Err(CliError::Usage { what: "these were two passphrases".into(), remedy: "try again".into() });
    }
    Ok(passphrase)
}

/// The file that the operator named, if any.
pub(super) fn file(options: &Options) -> Option<PathBuf> {
    let named = || std::env::var_os(VARIABLE).filter(|file| !file.is_empty()).map(PathBuf::from);
    options.passphrase_file.clone().or_else(named)
}

fn ask(prompt: &str) -> Result<Passphrase, CliError> {
    let typed = terminal::ask(prompt).map_err(|error| CliError::Usage {
        what: match error.kind() {
            io::ErrorKind::Interrupted => "no passphrase was typed".into(),
            _ => format!("the key needs a passphrase, and there is no terminal to ask for it: {error}"),
        },
        remedy: format!("type it on a terminal, or name a file that holds it: --passphrase-file, or ${VARIABLE}"),
    })?;
    Ok(Passphrase::new(&typed))
}
