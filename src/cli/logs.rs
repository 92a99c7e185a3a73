//! Logs: where they go and in which form.
//!
//! Always standard error or the journal, so that standard output is the result and nothing else.

use std::io::{self, IsTerminal};

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use super::CliError;

/// The form of the logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(super) enum Format {
    /// The journal under systemd, else text
    #[default]
    Auto,
    /// Lines for people, coloured on a terminal
    Text,
    /// One JSON object per line
    Json,
}

/// Others' lines, at whatever level ours are: libp2p's repeat ours, and lapin's have payloads in them. Who names a
/// module gets it.
const OTHERS: &str = "libp2p_swarm=warn,lapin=off";
const LEVEL: &str = "info";

/// Starts logging. `level` is a tracing filter; without one, `RELAY_LOG` has it, else it is `info`. `quiet` is for
/// commands that say everything themselves: then nothing is logged where no level is given.
pub(super) fn start(format: Format, level: Option<&str>, quiet: bool) -> Result<(), CliError> {
    let from_environment = std::env::var("RELAY_LOG").ok().filter(|level| !level.is_empty() && !quiet);
    let given = level.or(from_environment.as_deref());
    let level = given.unwrap_or(LEVEL);
    let filter = match given {
        None if quiet => Ok(EnvFilter::new("off")),
        // What comes later holds, so a module that is named has its own level.
        _ => EnvFilter::try_new(format!("{OTHERS},{level}")),
    };
    let filter = filter.map_err(|error| CliError::Usage {
        what: format!("{level:?} is no log level: {error}"),
        remedy: "write error, warn, info, debug or trace, or per module as \"info,intelmq_relay::net=debug\"".into(),
    })?;

    let text = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let form = match format {
        Format::Json => text.json().flatten_event(true).with_span_list(false).boxed(),
        Format::Auto if stderr_is_the_journal() => match tracing_journald::layer() {
            Ok(journal) => journal.with_field_prefix(None).boxed(),
            // The journal still gets the lines, through standard error.
            Err(_) => text.with_ansi(false).without_time().boxed(),
        },
        Format::Auto | Format::Text => text.with_ansi(colour()).with_target(false).boxed(),
    };
    // Fails only where this process has logs already, as in tests: those stay.
    let _ = tracing_subscriber::registry().with(filter).with(form).try_init();
    Ok(())
}

fn colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn stderr_is_the_journal() -> bool {
    // systemd names the stream that it connected; a redirected standard error is another file.
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(io::stderr()).is_ok_and(|stderr| stream == format!("{}:{}", stderr.st_dev, stderr.st_ino))
}
