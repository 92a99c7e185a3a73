//! `key rotate`, `key revoke`, `key publish`: another key for this node, and the word that one is void.
//!
//! Every step may be the last one: typed again, the command goes on where it was.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use rand::Rng;
use zeroize::Zeroizing;

use super::id::encryption_of;
use super::{CliError, Options, passphrase};
use crate::config::{
    Config, KeyFileError, KeySource, Passphrase, StoredKey, former_key_files, has_next_key, make_next_key_file,
    next_key_file, succeed_key_file,
};
use crate::envelope::{Key, Secret, rfc3339};
use crate::node::notice_at_rest;
use crate::trust::{MAX_NOTICE, Notice, SignedNotice};
use crate::watch::{Ask, Form, Question, is_running};

const DAY: u64 = 24 * 3600 * 1000;

#[derive(Debug, clap::Args)]
pub(super) struct Rotate {
    /// Do not wait until every peer knows: use the next key at once
    #[arg(long)]
    now: bool,
    /// How long the old key holds, for what it has sealed by then
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=365))]
    overlap: u16,
}

#[derive(Debug, clap::Args)]
pub(super) struct Revoke {
    /// The key: this node's own if none is named; else one of those beside its key file, or a key file
    key: Option<String>,
    /// From when on: what it sealed then or later is refused [default: now]
    #[arg(long, value_name = "TIME")]
    from: Option<jiff::Timestamp>,
    /// The only key that may follow it: one of those beside the key file, or a key file
    #[arg(long, value_name = "KEY")]
    next: Option<String>,
    /// Write it into a file and tell nobody: for a day on which the key is stolen; `key publish FILE` tells
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Publish {
    /// The notice
    file: PathBuf,
}

pub(super) fn rotate(options: &Options, rotate: &Rotate) -> Result<ExitCode, CliError> {
    let config = Config::read(&options.config)?;
    let file = key_file(&config)?;
    let (secret, passphrase) = passphrase::secret_and_passphrase(options, KeySource::File(file))?;
    let mut out = io::stdout().lock();
    let failed = |source| KeyFileError::Io { file: next_key_file(file), source };
    if !has_next_key(file).map_err(failed)? {
        let mut seed = Zeroizing::new([0; 32]);
        rand::rng().fill_bytes(&mut seed[..]);
        make_next_key_file(file, &seed, passphrase.as_ref())?;
        writeln!(out, "made  {} (the next secret: keep a backup of it, too)", next_key_file(file).display())?;
    }
    let next = open(&next_key_file(file), passphrase.as_ref(), options)?;
    let time = now();
    let until = time.saturating_add(u64::from(rotate.overlap) * DAY);
    let notice = Notice::succession(&config.node.name, secret.key(), next.key(), until, time);
    let notice = notice.encrypting(Some(encryption_of(&next)));
    let signed = SignedNotice::sign(notice, &secret, Some(&next)).map_err(|error| wrong(&error))?;
    let over = tell(&mut out, &config, secret.key(), signed.bytes(), rotate.now)?;
    if let Some(key) = over {
        let kept = succeed_key_file(file, &key)?;
        writeln!(out, "{} has the key {key} now; the old one is kept in {}.", file.display(), kept.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn revoke(options: &Options, revoke: &Revoke) -> Result<ExitCode, CliError> {
    let config = Config::read(&options.config)?;
    let file = key_file(&config)?;
    let passphrase = passphrase_of(options, file)?;
    let find = |named: &str| find(options, file, named, passphrase.as_ref());
    let secret = match &revoke.key {
        Some(named) => find(named)?,
        None => open(file, passphrase.as_ref(), options)?,
    };
    let next = revoke.next.as_deref().map(find).transpose()?;
    let from = match revoke.from {
        Some(from) => u64::try_from(from.as_millisecond()).unwrap_or(0),
        None => now(),
    };
    let notice = Notice::revocation(&config.node.name, secret.key(), from, next.as_ref().map(Secret::key), now());
    let notice = notice.encrypting(next.as_ref().map(encryption_of));
    let signed = SignedNotice::sign(notice, &secret, next.as_ref()).map_err(|error| wrong(&error))?;
    let mut out = io::stdout().lock();
    let Some(output) = &revoke.output else {
        let ours = super::id::public(options, &config)?;
        tell(&mut out, &config, ours, signed.bytes(), false)?;
        return Ok(ExitCode::SUCCESS);
    };
    let made = OpenOptions::new().write(true).create_new(true).open(output);
    let made = made.and_then(|mut made| made.write_all(signed.bytes()).and_then(|()| made.sync_all()));
    made.map_err(|source| CliError::Make { path: output.clone(), source })?;
    let (key, from) = (secret.key(), rfc3339(from));
    writeln!(out, "{}: that {key} is void for what it seals from {from} on.", output.display())?;
    writeln!(
        out,
        "Nobody has been told. Whoever has this file can tell: intelmq-relay key publish {}",
        output.display()
    )?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn publish(options: &Options, publish: &Publish) -> Result<ExitCode, CliError> {
    let config = Config::read(&options.config)?;
    let file = &publish.file;
    let unreadable = |reason: &dyn std::fmt::Display| CliError::Usage {
        what: format!("cannot read {}: {reason}", file.display()),
        remedy: "name a file that `intelmq-relay key revoke --output` has written".into(),
    };
    let mut bytes = Vec::new();
    // One byte more than there may be, so that a larger file is noticed.
    let opened = std::fs::File::open(file);
    let read =
        opened.and_then(|opened| io::Read::read_to_end(&mut io::Read::take(opened, MAX_NOTICE as u64 + 1), &mut bytes));
    read.map_err(|error| unreadable(&error))?;
    SignedNotice::open(&bytes, |_| true).map_err(|error| unreadable(&error))?;
    let ours = super::id::public(options, &config)?;
    tell(&mut io::stdout().lock(), &config, ours, &bytes, false)?;
    Ok(ExitCode::SUCCESS)
}

/// Gives a notice to the running node, or into the store; the key that this node, which does not run, is to go over to.
fn tell(
    out: &mut impl Write,
    config: &Config,
    ours: Key,
    notice: &[u8],
    at_once: bool,
) -> Result<Option<Key>, CliError> {
    if is_running(&config.node.data) {
        let question = Question { ask: Ask::Notice { notice: BASE64.encode(notice), at_once }, form: Form::Line };
        super::log::read(config, &question, None, |line| writeln!(out, "{line}").map(|()| true))?;
        return Ok(None);
    }
    let taken = super::runtime()?.block_on(notice_at_rest(config, &ours, notice, at_once));
    let (lines, over) = taken.map_err(|error| CliError::Node(error.to_string()))?;
    for line in lines {
        writeln!(out, "{line}")?;
    }
    Ok(over)
}

fn key_file(config: &Config) -> Result<&Path, CliError> {
    match config.node.key_source() {
        KeySource::File(file) => Ok(file),
        source @ KeySource::Command(_) => Err(CliError::Usage {
            what: format!("there is no key file: the key is held by the {source}"),
            remedy: "for the time of this command, have the key in a file (node.key in relay.toml, mode 0600), with the node \
                     stopped; then put it, and the one that follows, where the command has it from"
                .into(),
        }),
    }
}

/// The passphrase of the key file, if it has one: those beside it have the same.
fn passphrase_of(options: &Options, file: &Path) -> Result<Option<Passphrase>, CliError> {
    let source = KeySource::File(file);
    if StoredKey::read(source)?.is_encrypted() { passphrase::known(options, source).map(Some) } else { Ok(None) }
}

fn open(file: &Path, known: Option<&Passphrase>, options: &Options) -> Result<Secret, CliError> {
    let source = KeySource::File(file);
    StoredKey::read(source)?.open(|| match known {
        Some(passphrase) => Ok(passphrase.again()),
        None => passphrase::known(options, source),
    })
}

/// The secret of the key that is named: of one beside the key file, or in a file.
fn find(options: &Options, file: &Path, named: &str, known: Option<&Passphrase>) -> Result<Secret, CliError> {
    let Ok(key) = named.parse::<Key>() else { return open(Path::new(named), known, options) };
    let beside = [file.to_owned(), next_key_file(file)].into_iter().chain(former_key_files(file));
    for candidate in beside.filter(|candidate| candidate.exists()) {
        let stored = StoredKey::read(KeySource::File(&candidate))?;
        if stored.key() == Some(key) {
            return open(&candidate, known, options);
        }
    }
    Err(CliError::Usage {
        what: format!("no secret of {key} lies beside {}", file.display()),
        remedy:
            "name the file that holds it: only a key itself says that it is void. Without it, the authorities of the \
                 roster revoke it, or each peer's operator takes it out of relay.toml"
                .into(),
    })
}

fn wrong(reason: &dyn std::fmt::Display) -> CliError {
    CliError::Usage { what: format!("cannot make the notice: {reason}"), remedy: "take another key".into() }
}

fn now() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}
