//! `withdraw`, `replace`, `purge`: an event of our own no longer holds.

use std::path::PathBuf;
use std::process::ExitCode;
use std::{fs, io};

use super::log::{id, put};
use super::{CliError, Options};
use crate::envelope::Name;
use crate::watch::{Ask, Form, Question, Recall};

#[derive(Debug, clap::Args)]
pub(super) struct Withdraw {
    /// The event's id, as UUID or as `publisher:project:UUID`
    #[arg(value_name = "UUID")]
    id: String,
    /// Why: everybody who is told of it reads this
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

pub(super) fn withdraw(options: &Options, withdraw: Withdraw) -> Result<ExitCode, CliError> {
    ask(options, Recall::Withdraw { id: id(&withdraw.id)?, reason: withdraw.reason })
}

#[derive(Debug, clap::Args)]
pub(super) struct Purge {
    /// The event's id, as UUID or as `publisher:project:UUID`
    #[arg(value_name = "UUID")]
    id: String,
}

pub(super) fn purge(options: &Options, purge: &Purge) -> Result<ExitCode, CliError> {
    ask(options, Recall::Purge(id(&purge.id)?))
}

#[derive(Debug, clap::Args)]
pub(super) struct Replace {
    /// The event's id, as UUID or as `publisher:project:UUID`
    #[arg(value_name = "UUID")]
    id: String,
    /// The event that takes its place: JSON, as a door takes it; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The door whose seal holds for it, where there are several
    #[arg(long, value_name = "NAME")]
    door: Option<Name>,
}

pub(super) fn replace(options: &Options, replace: Replace) -> Result<ExitCode, CliError> {
    let Replace { id: text, file, door } = replace;
    let read = if file.as_os_str() == "-" { io::read_to_string(io::stdin()) } else { fs::read_to_string(&file) };
    let event = read.map_err(|error| CliError::Usage {
        what: format!("cannot read {}: {error}", file.display()),
        remedy: "name a file that holds one event as JSON".into(),
    })?;
    ask(options, Recall::Replace { id: id(&text)?, event, door })
}

fn ask(options: &Options, recall: Recall) -> Result<ExitCode, CliError> {
    let question = Question { ask: Ask::Recall(recall), form: Form::Line };
    put(options, question, None, usize::MAX)?;
    Ok(ExitCode::SUCCESS)
}
