//! `tail`, `show`, `why`, `export`, `quarantine`, `resend`, `status`: questions to the log, of a running node or of its
//! store.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use uuid::Uuid;

use super::{CliError, Options};
use crate::config::Config;
use crate::envelope::{Kind, Name, Shape, parse_id};
use crate::watch::{Act, Ask, Filter, Form, Piece, Question, ask};

/// Which entries.
#[derive(Debug, clap::Args)]
pub(super) struct Which {
    /// Only what this peer brought
    #[arg(long, value_name = "NAME")]
    peer: Option<Name>,
    /// Only what this node sealed
    #[arg(long, value_name = "NAME")]
    origin: Option<Name>,
    /// Only messages of this type
    #[arg(long = "type", value_name = "TYPE", value_parser = kind)]
    kind: Option<Kind>,
}

impl Which {
    fn filter(self) -> Filter {
        Filter { id: None, peer: self.peer, origin: self.origin, kind: self.kind }
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct Tail {
    #[command(flatten)]
    which: Which,
    /// JSON lines (IEP04) instead of one line for people
    #[arg(long)]
    json: bool,
    /// Begin with so many entries that are there
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10)]
    lines: u64,
    /// End when all that is there is shown; this needs no running node
    #[arg(long)]
    no_follow: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// The message's id, as UUID or as `publisher:project:UUID`
    #[arg(value_name = "UUID")]
    id: String,
    /// JSON lines (IEP04) instead of a text for people
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Why {
    /// The message's id, as UUID or as `publisher:project:UUID`
    #[arg(value_name = "UUID")]
    id: String,
    /// Only for this peer or door
    #[arg(long, value_name = "NAME")]
    peer: Option<Name>,
    /// JSON lines, one for each entry of the log and each peer or door
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Export {
    #[command(flatten)]
    which: Which,
    /// The form of the lines: iep04, proposed, typed, bare or extra
    #[arg(long, value_name = "SHAPE", default_value = "iep04", value_parser = shape)]
    shape: Shape,
    /// Begin after the entry with this number (the first column of tail)
    #[arg(long, value_name = "NUMBER")]
    after: Option<u64>,
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum Quarantine {
    /// One line per item
    List {
        /// JSON lines, with the items
        #[arg(long)]
        json: bool,
    },
    /// An item, whole
    Show {
        /// Its number in the list
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        number: u64,
    },
    /// Try items again: what came in is sealed, what goes to IntelMQ is delivered, if it fits by now
    Retry(Items),
    /// Throw items away
    Drop(Items),
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Items {
    /// Their numbers in the list
    #[arg(value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    numbers: Vec<u64>,
    /// All that are there
    #[arg(long)]
    all: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Resend {
    /// The peer
    #[arg(long, value_name = "NAME")]
    peer: Name,
    /// From what was stored here at this time on, as 2026-01-31T00:00:00Z
    #[arg(long, value_name = "TIME")]
    since: jiff::Timestamp,
}

fn kind(text: &str) -> Result<Kind, String> {
    let kinds = [Kind::Event, Kind::Report, Kind::Withdrawal];
    kinds.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| "event, report or withdrawal".into())
}

fn shape(text: &str) -> Result<Shape, String> {
    let shapes = [
        ("iep04", Shape::Iep04),
        ("proposed", Shape::Proposed),
        ("typed", Shape::Typed),
        ("bare", Shape::Bare),
        ("extra", Shape::Extra),
    ];
    let found = shapes.into_iter().find(|(name, _)| *name == text);
    found.map(|(_, shape)| shape).ok_or_else(|| "iep04, proposed, typed, bare or extra".into())
}

pub(super) fn tail(options: &Options, tail: Tail) -> Result<ExitCode, CliError> {
    let form = if tail.json { Form::Json(Shape::Iep04) } else { Form::Line };
    let follow = !tail.no_follow;
    let ask = Ask::Log { after: None, last: Some(tail.lines), follow, filter: tail.which.filter() };
    let lines = put(options, Question { ask, form }, None, usize::MAX)?;
    if follow {
        return Err(CliError::Node(format!(
            "the node has stopped, or was not running, after {lines} lines\n  \
             start it, then tail again; --no-follow shows what is there without a node"
        )));
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn show(options: &Options, show: Show) -> Result<ExitCode, CliError> {
    let id = id(&show.id)?;
    let form = if show.json { Form::Json(Shape::Iep04) } else { Form::Full };
    let filter = Filter { id: Some(id), ..Filter::default() };
    let ask = Ask::Log { after: None, last: None, follow: false, filter };
    let lines = put(options, Question { ask, form }, Some("looking through the log"), usize::MAX)?;
    if lines == 0 {
        eprintln!("{id} is not in the log: it never came, was refused, or is older than store.log_days");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn id(text: &str) -> Result<Uuid, CliError> {
    parse_id(text).ok_or_else(|| CliError::Usage {
        what: format!("{text:?} is no id"),
        remedy: "give the UUID, or the form that tail prints, as cert-at:intelmq:72ddb00c-2d0a-4eea-b7ac-ae122b8e6c3b"
            .into(),
    })
}

pub(super) fn why(options: &Options, why: Why) -> Result<ExitCode, CliError> {
    let id = id(&why.id)?;
    let form = if why.json { Form::Json(Shape::Iep04) } else { Form::Full };
    // Lines of the file are named with it, and it is the command that knows its name.
    let ask = Ask::Why { id, peer: why.peer.clone(), file: options.config.display().to_string() };
    let lines = put(options, Question { ask, form }, Some("looking through the log"), usize::MAX)?;
    if lines == 0 {
        let who = why.peer.map_or(String::new(), |peer| format!(", or {peer} has nothing to do with it"));
        eprintln!(
            "this node has never been shown {id}, it is older than store.log_days, or it was no envelope{who}: ask \
             `why` where it was sealed"
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn export(options: &Options, export: Export) -> Result<ExitCode, CliError> {
    let ask = Ask::Log { after: export.after, last: None, follow: false, filter: export.which.filter() };
    put(options, Question { ask, form: Form::Json(export.shape) }, Some("exporting"), usize::MAX)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn quarantine(options: &Options, command: Quarantine) -> Result<ExitCode, CliError> {
    let one = matches!(command, Quarantine::Show { .. });
    let (after, form, most) = match command {
        Quarantine::List { json } => (0, if json { Form::Json(Shape::Bare) } else { Form::Line }, usize::MAX),
        Quarantine::Show { number } => {
            // Its six lines, and not those of the next one.
            (number - 1, Form::Full, 6)
        }
        Quarantine::Retry(items) => return settle(options, items, Act::Retry),
        Quarantine::Drop(items) => return settle(options, items, Act::Drop),
    };
    let lines = put(options, Question { ask: Ask::Quarantine(after), form }, None, most)?;
    if lines == 0 {
        eprintln!("nothing is in quarantine{}", if one { " under this number" } else { "" });
    }
    Ok(if one && lines == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn settle(options: &Options, items: Items, act: Act) -> Result<ExitCode, CliError> {
    let ask = Ask::Settle { numbers: items.numbers, act };
    put(options, Question { ask, form: Form::Line }, None, usize::MAX)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn resend(options: &Options, resend: Resend) -> Result<ExitCode, CliError> {
    let since = u64::try_from(resend.since.as_millisecond()).unwrap_or(0);
    let ask = Ask::Resend { peer: resend.peer, since };
    put(options, Question { ask, form: Form::Line }, None, usize::MAX)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn reload(options: &Options) -> Result<ExitCode, CliError> {
    put(options, Question { ask: Ask::Reload, form: Form::Line }, None, usize::MAX)?;
    println!("The node has read {} again.", options.config.display());
    Ok(ExitCode::SUCCESS)
}

pub(super) fn status(options: &Options) -> Result<ExitCode, CliError> {
    put(options, Question { ask: Ask::Status, form: Form::Line }, None, usize::MAX)?;
    Ok(ExitCode::SUCCESS)
}

/// Puts the question and prints the answer's first `most` lines; with a bar on a terminal where it may take long.
pub(super) fn put(
    options: &Options,
    question: Question,
    work: Option<&'static str>,
    most: usize,
) -> Result<usize, CliError> {
    let config = Config::read(&options.config)?;
    let work = work.filter(|_| !io::stdout().is_terminal());
    let mut out = io::BufWriter::new(io::stdout().lock());
    let follow = matches!(question.ask, Ask::Log { follow: true, .. });
    let mut lines = 0;
    let printed = read(&config, &question, work, |line| {
        lines += 1;
        writeln!(out, "{line}").and_then(|()| if follow { out.flush() } else { Ok(()) })?;
        Ok(lines < most)
    });
    out.flush()?;
    printed.map(|()| lines)
}

/// Puts the question and hands over each line of the answer, until `line` returns false; with a bar on a terminal where
/// it may take long.
pub(super) fn read(
    config: &Config,
    question: &Question,
    work: Option<&'static str>,
    mut line: impl FnMut(&str) -> io::Result<bool>,
) -> Result<(), CliError> {
    let bar = work.filter(|_| io::stderr().is_terminal()).map(progress);
    let (mut failed, mut broken, mut more) = (None, None, true);
    let asked = super::runtime()?.block_on(ask(config, question, |piece| {
        match piece {
            Piece::Line(text) => match line(&text) {
                Ok(on) => more = on,
                Err(error) => broken = Some(error),
            },
            Piece::Progress(done, all) => {
                if let Some(bar) = &bar {
                    bar.set_length(all);
                    bar.set_position(done);
                }
            }
            Piece::Error(error) => failed = Some(error),
        }
        broken.is_none() && failed.is_none() && more
    }));
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    if let Some(error) = broken {
        return Err(error.into());
    }
    asked.map_err(CliError::Node)?;
    failed.map_or(Ok(()), |error| Err(CliError::Node(error)))
}

pub(super) fn progress(what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}");
    // The template is ours, and tested by every use.
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())).with_message(what)
}
