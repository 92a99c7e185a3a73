//! `policy`: what the rules do to events (`test`), and what other rules would change (`diff`). Nothing is sent.
//!
//! Both ask the same [`Policy`] that decides in a running node.

mod imagine;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use self::imagine::Imagination;
use super::log::read;
use super::{CliError, Options};
use crate::config::Config;
use crate::envelope::{Bounds, CyCat, Envelope, Name};
use crate::policy::{Decision, Policy, Reason, RuleId, Terms};
use crate::watch::{Ask, Filter, Form, Question, Seen};
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde_json::{Map, Value, json};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Say for each event whether a peer would be given it, and by which rule
    ///
    /// The events are those of a file of JSON lines, or the newest of the log. Ends with exit code 1 if a line cannot be
    /// read as an event.
    Test(Test),
    /// Say what peers would be given and are not now, or the other way round, under another configuration
    Diff {
        /// The configuration as it is
        old: PathBuf,
        /// The configuration as it would be
        new: PathBuf,
        /// Look at so many of the log's newest entries
        #[arg(long, short = 'n', value_name = "N", default_value_t = 10_000)]
        last: u64,
        /// Every event for which something changes, one JSON object each
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Test {
    /// Events, one a line, in any form that the doors read; - is the standard input. Default: the log
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The peer
    #[arg(long, value_name = "NAME")]
    peer: Name,
    /// As if the events had come from this peer, who sealed them unless a line says otherwise. Default: ours
    #[arg(long, value_name = "NAME", requires = "file", conflicts_with = "door")]
    from: Option<Name>,
    /// As if the events had come in by this door, with what it does before they are sealed
    #[arg(long, value_name = "NAME", requires = "file")]
    door: Option<Name>,
    /// So many of the log's newest entries
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1000, conflicts_with = "file")]
    last: u64,
    /// One JSON object per event
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options, command: Command) -> Result<ExitCode, CliError> {
    match command {
        Command::Test(arguments) => test(options, arguments),
        Command::Diff { old, new, last, json } => diff(options, &old, &new, last, json),
    }
}

fn test(options: &Options, arguments: Test) -> Result<ExitCode, CliError> {
    let Test { file, peer, from, door, last, json } = arguments;
    let config = Config::read(&options.config)?;
    let Some(terms) = terms(&config, &peer) else {
        return Err(CliError::Usage {
            what: format!("there is no peer {peer}"),
            remedy: "`intelmq-relay peer list` shows those there are".into(),
        });
    };
    let imagination = Imagination::new(&config, from.as_ref(), door.as_ref())?;
    let policy = Policy::new(&config);
    let mut trial = Trial { options, json, out: io::BufWriter::new(io::stdout().lock()), given: 0, withheld: 0 };
    let mut unreadable = 0;
    let mut decide = |number: u64, envelope: &Envelope, from: Option<&Name>| {
        trial.tell(number, envelope, &policy.shares(envelope, from, &peer, &terms))
    };
    match file {
        None => entries(&config, last, |seen, envelope| decide(seen.seq, &envelope, seen.from.as_ref()))?,
        Some(file) => {
            for (line, number) in lines(&file)?.split(|byte| *byte == b'\n').zip(1..) {
                if line.trim_ascii().is_empty() {
                    continue;
                }
                match imagination.envelope(line) {
                    Ok(envelope) => decide(number, &envelope, from.as_ref())?,
                    Err(reason) => {
                        unreadable += 1;
                        eprintln!("line {number}: {reason}");
                    }
                }
            }
        }
    }
    let Trial { mut out, given, withheld, .. } = trial;
    if !json {
        writeln!(out, "{given} given to {peer}, {withheld} withheld")?;
    }
    out.flush()?;
    Ok(if unreadable > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The lines of `test`.
struct Trial<'a, W> {
    options: &'a Options,
    json: bool,
    out: W,
    given: u64,
    withheld: u64,
}

impl<W: Write> Trial<'_, W> {
    fn tell(&mut self, number: u64, envelope: &Envelope, decision: &Decision) -> io::Result<()> {
        match decision {
            Decision::Give(_) => self.given += 1,
            Decision::Withhold(_) => self.withheld += 1,
        }
        let told = Told::of(decision, envelope);
        if self.json {
            let header = envelope.header();
            let mut object = json!({ "number": number, "id": header.id, "origin": header.origin });
            // An object, as it stands above.
            if let Some(members) = object.as_object_mut() {
                members.extend(told.members());
            }
            return writeln!(self.out, "{object}");
        }
        let (kind, address) = (plain(envelope, "classification.type"), plain(envelope, "source.ip"));
        let tlp = envelope.header().tlp.map_or("-", |tlp| tlp.as_str());
        let rule = told.rule.map(|rule| format!("{} ({}:{})", rule.label, self.options.config.display(), rule.line));
        let what = match (decision, rule) {
            (Decision::Give(_), None) => "given".into(),
            (Decision::Give(_), Some(rule)) => format!("given by {rule}"),
            (Decision::Withhold(Reason::Rule(_)), Some(rule)) => format!("withheld by {rule}"),
            (Decision::Withhold(reason), None) => format!("withheld: {reason}"),
            (Decision::Withhold(reason), Some(rule)) => format!("withheld: {reason}; else given by {rule}"),
        };
        let without =
            if told.hidden.is_empty() { String::new() } else { format!(", without {}", told.hidden.join(" ")) };
        writeln!(self.out, "{number:6}  {kind:20} {address:15} {tlp:12} {what}{without}")
    }
}

/// A decision, to be told.
struct Told<'a> {
    given: bool,
    reason: Option<String>,
    rule: Option<&'a RuleId>,
    /// Fields that the peer would not see.
    hidden: Vec<&'a str>,
}

impl<'a> Told<'a> {
    fn of(decision: &'a Decision, envelope: &'a Envelope) -> Told<'a> {
        match decision {
            Decision::Give(grant) => {
                Told { given: true, reason: None, rule: grant.by.as_deref(), hidden: grant.hidden(envelope) }
            }
            Decision::Withhold(reason) => {
                Told { given: false, reason: Some(reason.to_string()), rule: reason.rule(), hidden: Vec::new() }
            }
        }
    }

    /// The same for programs.
    fn members(&self) -> Map<String, Value> {
        let rule = |part: fn(&RuleId) -> Value| self.rule.map_or(Value::Null, part);
        let members = [
            ("given", json!(self.given)),
            ("reason", json!(self.reason)),
            ("rule", rule(|rule| json!(rule.label))),
            ("line", rule(|rule| json!(rule.line))),
            ("hidden", json!(self.hidden)),
        ];
        members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

/// A field's value for a table, `-` where there is none.
fn plain(envelope: &Envelope, field: &str) -> String {
    let value = envelope.field(field).map_or("-", |value| value.trim_matches('"'));
    value.chars().filter(|c| !c.is_control()).take(40).collect()
}

fn terms(config: &Config, peer: &Name) -> Option<Terms> {
    let peer = config.peers.iter().find(|one| one.name == *peer)?;
    Some(Terms::new(peer, &config.rules))
}

fn lines(file: &Path) -> Result<Vec<u8>, CliError> {
    let mut text = Vec::new();
    let result = if file.as_os_str() == "-" {
        io::stdin().lock().read_to_end(&mut text).map(|_| ())
    } else {
        fs::read(file).map(|read| text = read)
    };
    result.map(|()| text).map_err(|error| CliError::Usage {
        what: format!("cannot read {}: {error}", file.display()),
        remedy: "give a file of events, one a line, or - for the standard input".into(),
    })
}

/// The newest entries of the log, of the running node or of its store.
fn entries(
    config: &Config,
    last: u64,
    mut entry: impl FnMut(&Seen, Envelope) -> io::Result<()>,
) -> Result<(), CliError> {
    let ask = Ask::Log { after: None, last: Some(last), follow: false, filter: Filter::default() };
    let unbounded = Bounds { bytes: usize::MAX, fields: usize::MAX, path: usize::MAX };
    read(config, &Question { ask, form: Form::Sealed }, Some("reading the log"), |line| {
        let seen: Seen = serde_json::from_str(line)?;
        let bytes = BASE64.decode(&seen.envelope).map_err(io::Error::other)?;
        let envelope = Envelope::decode(bytes.into(), &unbounded).map_err(io::Error::other)?;
        // A withdrawal goes where its event has gone.
        if envelope.withdraws().is_some() { Ok(true) } else { entry(&seen, envelope).map(|()| true) }
    })
}

/// One configuration of two.
struct Side {
    policy: Policy,
    terms: Option<Terms>,
}

impl Side {
    fn new(config: &Config, peer: &Name) -> Side {
        Side { policy: Policy::new(config), terms: terms(config, peer) }
    }

    /// `None`: there is no such peer.
    fn ask(&self, seen: &Seen, envelope: &Envelope, peer: &Name) -> Option<Decision> {
        Some(self.policy.shares(envelope, seen.from.as_ref(), peer, self.terms.as_ref()?))
    }
}

/// What one peer would be given by the one configuration and by the other.
struct Change {
    peer: Name,
    old: Side,
    new: Side,
    more: u64,
    fewer: u64,
    otherwise: u64,
}

impl Change {
    /// Counts what changes for an event, and tells it.
    fn look(&mut self, seen: &Seen, envelope: &Envelope) -> Option<Value> {
        let decisions = [&self.old, &self.new].map(|side| side.ask(seen, envelope, &self.peer));
        let [old, new] = &decisions;
        let [old, new] = [old, new].map(|decision| decision.as_ref().map(|decision| Told::of(decision, envelope)));
        match (form(&old), form(&new)) {
            (old, new) if old == new => return None,
            (None, Some(_)) => self.more += 1,
            (Some(_), None) => self.fewer += 1,
            _ => self.otherwise += 1,
        }
        let id = CyCat(envelope.header()).to_string();
        Some(json!({ "number": seen.seq, "id": id, "peer": self.peer, "old": side(old), "new": side(new) }))
    }
}

/// What is hidden, where something is given.
fn form<'a>(told: &'a Option<Told<'_>>) -> Option<&'a [&'a str]> {
    told.as_ref().filter(|told| told.given).map(|told| told.hidden.as_slice())
}

fn side(told: Option<Told<'_>>) -> Value {
    match told {
        None => json!({ "given": false, "reason": "no-peer" }),
        Some(told) => Value::Object(told.members()),
    }
}

fn diff(options: &Options, old: &Path, new: &Path, last: u64, json: bool) -> Result<ExitCode, CliError> {
    let config = Config::read(&options.config)?;
    let (old, new) = (Config::read(old)?, Config::read(new)?);
    let names: BTreeSet<&Name> = old.peers.iter().chain(&new.peers).map(|peer| &peer.name).collect();
    let change = |peer: &Name| {
        let (old, new) = (Side::new(&old, peer), Side::new(&new, peer));
        Change { peer: peer.clone(), old, new, more: 0, fewer: 0, otherwise: 0 }
    };
    let mut changes: Vec<Change> = names.into_iter().map(change).collect();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut looked = 0;
    entries(&config, last, |seen, envelope| {
        looked += 1;
        let told = changes.iter_mut().filter_map(|change| change.look(seen, &envelope));
        told.filter(|_| json).try_for_each(|told| writeln!(out, "{told}"))
    })?;
    if !json {
        for Change { peer, more, fewer, otherwise, .. } in &changes {
            writeln!(
                out,
                "{peer}: of {looked} events, {more} more would be given, {fewer} no longer, {otherwise} with other \
                 fields hidden"
            )?;
        }
        if changes.is_empty() {
            writeln!(out, "neither configuration has peers")?;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
