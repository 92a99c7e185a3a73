//! `withdraw`: an event of our own no longer holds.

use std::process::ExitCode;

use super::log::{id, put};
use super::{CliError, Options};
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

fn ask(options: &Options, recall: Recall) -> Result<ExitCode, CliError> {
    let question = Question { ask: Ask::Recall(recall), form: Form::Line };
    put(options, question, None, usize::MAX)?;
    Ok(ExitCode::SUCCESS)
}
