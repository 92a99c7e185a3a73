//! `roster`: the list of members that a network's authorities sign. `new` and `sign` need no node.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde_bytes::ByteArray;

use super::{CliError, Options, passphrase};
use crate::config::{Config, Described, DescribedKey, DescribedMember, KeySource};
use crate::envelope::{Key, rfc3339};
use crate::node::publish_at_rest;
use crate::trust::{MAX_SIGNED, Member, MemberKey, Roster, Signed, Trusted, VERSION, changes};
use crate::watch::{Ask, Form, Question, is_running};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make a roster that nobody has signed yet, of a description in TOML
    New {
        /// The description
        description: PathBuf,
        /// Where the roster is written
        #[arg(value_name = "FILE")]
        to: PathBuf,
    },
    /// Add a signature: this node's, or that of another key
    Sign {
        /// The roster; the signature is added in it
        file: PathBuf,
        /// Sign with the key of this file instead of the node's
        #[arg(long, value_name = "KEYFILE")]
        key: Option<PathBuf>,
    },
    /// Check a roster's signatures against the authorities in the configuration
    Verify {
        /// The roster
        file: PathBuf,
    },
    /// Show a roster, and what it would change here; without a file, the one that is kept here
    Show {
        /// The roster
        file: Option<PathBuf>,
    },
    /// Make a roster hold here, at once; it must be signed as the configuration asks for, and newer than the one there is
    Publish {
        /// The roster
        file: PathBuf,
    },
}

pub(super) fn run(options: &Options, command: Command) -> Result<ExitCode, CliError> {
    let mut out = io::stdout().lock();
    match command {
        Command::New { description, to } => new(&mut out, &description, &to)?,
        Command::Sign { file, key } => sign(&mut out, options, &file, key.as_deref())?,
        Command::Verify { file } => return verify(&mut out, options, &file),
        Command::Show { file } => show(&mut out, options, file.as_deref())?,
        Command::Publish { file } => publish(&mut out, options, &file)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn new(out: &mut impl Write, description: &Path, to: &Path) -> Result<(), CliError> {
    let wrong = |reason: &dyn std::fmt::Display| CliError::Usage {
        what: format!("cannot make a roster of {}: {reason}", description.display()),
        remedy: "correct the description; docs/operating.md has an example".into(),
    };
    let Described { network, number, authorities, threshold, members } =
        Described::read(description).map_err(|error| wrong(&error))?;
    let issued = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
    let mut members: Vec<Member> = members.into_iter().map(member).collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    let roster = Roster { v: VERSION, network, number, issued, authorities, threshold, members };
    let signed = Signed::unsigned(&roster).map_err(|error| wrong(&error))?;
    let made = OpenOptions::new().write(true).create_new(true).open(to).and_then(|mut file| {
        file.write_all(&signed.encode())?;
        file.sync_all()
    });
    made.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => CliError::Usage {
            what: format!("there is a file {} already, and it stays as it is", to.display()),
            remedy: "choose another name".into(),
        },
        _ => CliError::Make { path: to.into(), source: error },
    })?;
    writeln!(out, "{}: {}", to.display(), which(&roster))?;
    let (needed, of) = (roster.threshold, roster.authorities.len());
    writeln!(out, "{needed} of its {of} authorities must sign it: intelmq-relay roster sign {}", to.display())?;
    Ok(())
}

fn member(described: DescribedMember) -> Member {
    let DescribedMember { name, keys, organisation, rdns, contact, encryption } = described;
    let encryption = encryption.map(|key| ByteArray::new(*key.as_bytes()));
    let keys = keys.into_iter().map(|DescribedKey { key, from, until, revoked }| {
        let [from, until, revoked] = [from, until, revoked].map(|time| time.map(|time| time.0));
        MemberKey { key, from, until, revoked }
    });
    Member { name, keys: keys.collect(), org: organisation, rdns, contact, encryption }
}

fn sign(out: &mut impl Write, options: &Options, file: &Path, key: Option<&Path>) -> Result<(), CliError> {
    let (mut signed, roster) = read(file)?;
    let secret = match key {
        Some(file) => passphrase::secret_of(options, KeySource::File(file))?,
        None => passphrase::secret(options, &Config::read(&options.config)?)?,
    };
    let key = secret.key();
    if !roster.authorities.contains(&key) {
        return Err(CliError::Usage {
            what: format!("{key} is none of the authorities that this roster names"),
            remedy: "sign with the key of one that it names (--key FILE), or make a roster that names this one".into(),
        });
    }
    signed.sign(&secret);
    replace(file, &signed.encode()).map_err(|source| CliError::Make { path: file.into(), source })?;
    writeln!(out, "{}: {}", file.display(), which(&roster))?;
    let (by, needed) = (signed.signers().len(), roster.threshold as usize);
    writeln!(out, "signed by {key}: {by} of the {needed} signatures that it asks for")?;
    if by >= needed {
        writeln!(out, "Nodes take it with: intelmq-relay roster publish {}", file.display())?;
    }
    Ok(())
}

/// All at once, so that nobody reads half of it.
fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = file.with_file_name(name);
    let written = OpenOptions::new().write(true).create_new(true).open(&temporary).and_then(|mut new| {
        new.write_all(bytes)?;
        new.sync_all()?;
        fs::rename(&temporary, file)
    });
    if written.is_err() {
        // Ours, and of no use to anybody.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn verify(out: &mut impl Write, options: &Options, file: &Path) -> Result<ExitCode, CliError> {
    let trusted = trusted(&Config::read(&options.config)?)?;
    let (signed, roster) = read(file)?;
    writeln!(out, "{}: {}", file.display(), which(&roster))?;
    for key in signed.signers() {
        let counts = if trusted.authorities.contains(key) { "counts" } else { "does not count: not in [roster]" };
        writeln!(out, "signed by  {key}  ({counts})")?;
    }
    match signed.open(&trusted) {
        Ok(_) => {
            writeln!(out, "It may hold here.")?;
            Ok(ExitCode::SUCCESS)
        }
        Err(reason) => {
            writeln!(out, "It may not hold here: {reason}.")?;
            Ok(ExitCode::FAILURE)
        }
    }
}

fn trusted(config: &Config) -> Result<Trusted, CliError> {
    config.roster.as_ref().map(Trusted::from).ok_or_else(|| CliError::Usage {
        what: "the configuration has no [roster]".into(),
        remedy: "write the keys of its authorities there; examples/relay.toml shows how".into(),
    })
}

fn show(out: &mut impl Write, options: &Options, file: Option<&Path>) -> Result<(), CliError> {
    let Some(file) = file else {
        let Some(kept) = kept(&Config::read(&options.config)?)? else {
            writeln!(out, "No roster is kept here. `intelmq-relay roster publish FILE` takes one.")?;
            return Ok(());
        };
        return print(out, &kept.0, &kept.1);
    };
    let (signed, roster) = read(file)?;
    print(out, &signed, &roster)?;
    // Without a configuration, or a node that has ever run, there is nothing that it would change.
    let kept = Config::read(&options.config).ok().and_then(|config| kept(&config).ok().flatten());
    if let Some((_, kept)) = kept {
        let changed = changes(Some(&kept), &roster);
        writeln!(out, "\nagainst number {} that is kept here: {} changes", kept.number, changed.len())?;
        for change in changed {
            writeln!(out, "  {change}")?;
        }
    }
    Ok(())
}

fn print(out: &mut impl Write, signed: &Signed, roster: &Roster) -> Result<(), CliError> {
    writeln!(out, "{}, issued {}", which(roster), rfc3339(roster.issued))?;
    writeln!(out, "{} of these authorities must sign it:", roster.threshold)?;
    let signers: Vec<&Key> = signed.signers().collect();
    for key in &roster.authorities {
        writeln!(out, "  {key}{}", if signers.contains(&key) { "  has signed (see verify)" } else { "" })?;
    }
    for member in &roster.members {
        let org = member.org.map(|org| org.to_string());
        let details: Vec<&str> =
            [org.as_deref(), member.rdns.as_deref(), member.contact.as_deref()].into_iter().flatten().collect();
        writeln!(out, "{}  {}", member.name, details.join("  "))?;
        for held in &member.keys {
            let time = |word: &str, time: Option<u64>| time.map(|time| format!("  {word} {}", rfc3339(time)));
            let times = [time("from", held.from), time("until", held.until), time("REVOKED from", held.revoked)];
            writeln!(out, "  {}{}", held.key, times.into_iter().flatten().collect::<String>())?;
        }
    }
    Ok(())
}

fn publish(out: &mut impl Write, options: &Options, file: &Path) -> Result<(), CliError> {
    let config = Config::read(&options.config)?;
    trusted(&config)?;
    let (signed, _) = read(file)?;
    if is_running(&config.node.data) {
        let question = Question { ask: Ask::Publish(BASE64.encode(signed.encode())), form: Form::Line };
        return super::log::read(&config, &question, None, |line| writeln!(out, "{line}").map(|()| true));
    }
    let key = super::id::public(options, &config)?;
    let bytes = signed.encode();
    let published = super::runtime()?.block_on(publish_at_rest(&config, &key, &bytes));
    for line in published.map_err(|error| CliError::Node(error.to_string()))? {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// The roster in a file, whoever signed it.
fn read(file: &Path) -> Result<(Signed, Roster), CliError> {
    let wrong = |reason: &dyn std::fmt::Display| CliError::Usage {
        what: format!("cannot read {}: {reason}", file.display()),
        remedy: "name a file that `intelmq-relay roster new` or `roster sign` has written".into(),
    };
    let mut bytes = Vec::new();
    // One byte more than there may be, so that a larger file is noticed.
    let opened = File::open(file).and_then(|opened| opened.take(MAX_SIGNED as u64 + 1).read_to_end(&mut bytes));
    opened.map_err(|error| wrong(&error))?;
    let signed = Signed::decode(&bytes).map_err(|error| wrong(&error))?;
    let roster = signed.unverified().map_err(|error| wrong(&error))?;
    Ok((signed, roster))
}

/// What the node, or its store, keeps.
fn kept(config: &Config) -> Result<Option<(Signed, Roster)>, CliError> {
    let mut kept = None;
    super::log::read(config, &Question { ask: Ask::Roster, form: Form::Line }, None, |line| {
        kept = BASE64.decode(line).ok().and_then(|bytes| Signed::decode(&bytes).ok());
        Ok(false)
    })?;
    Ok(kept.and_then(|signed| signed.unverified().ok().map(|roster| (signed, roster))))
}

fn which(roster: &Roster) -> String {
    format!("roster {} of {}, {} members", roster.number, roster.network, roster.members.len())
}
