//! `run`: the node, until it is told to stop.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{Instrument, error, info, info_span, warn};

use super::{CliError, Options, init, passphrase};
use crate::config::Config;
use crate::node::{Change, Node, ReloadError};

/// Longest time that stopping may take.
const STOP: Duration = Duration::from_millis(4500);

pub(super) fn run(options: &Options) -> Result<ExitCode, CliError> {
    let missing = |file: &Path| file.try_exists().is_ok_and(|exists| !exists);
    // A key that is gone is not made anew beside an old configuration: the peers know the old one.
    if missing(&options.config) {
        init::run(options, init::Arguments::default())?;
    }
    let config = Config::read(&options.config)?;
    let secret = passphrase::secret(options, &config)?;
    // Every line of the log stands alone, also where several nodes write into one journal.
    let span = info_span!("node", node = %config.node.name);
    super::runtime()?.block_on(async {
        let mut signals = Signals::new()?;
        let node = Node::start(config, secret).await.map_err(|error| CliError::Node(error.to_string()))?;
        follow(node, options, &mut signals).instrument(span).await
    })
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> Result<Signals, CliError> {
        let listen = |kind| signal(kind).map_err(|error| CliError::Node(format!("cannot listen for signals: {error}")));
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }
}

async fn follow(mut node: Node, options: &Options, signals: &mut Signals) -> Result<ExitCode, CliError> {
    let mut changes = node.changes();
    loop {
        let asked = async {
            match &mut changes {
                Some(changes) => changes.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            // An error is in the log.
            _ = signals.hang_up.recv() => drop(reload(&mut node, options).await),
            Some(change) = asked => match change {
                // Who asked may have gone.
                Change::Reload(answer) => drop(answer.send(reload(&mut node, options).await)),
                Change::Admit(newcomer) => newcomer.admit(&mut node, &options.config).await,
            },
            reason = node.failed() => {
                error!(%reason, "the node cannot go on");
                // What it holds in memory is lost, what it acknowledged is not.
                let _ = tokio::time::timeout(STOP, node.kill()).await;
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    info!("stopping");
    if tokio::time::timeout(STOP, node.stop()).await.is_err() {
        warn!("stopping took too long and was cut off; nothing that was acknowledged is lost");
    }
    Ok(ExitCode::SUCCESS)
}

/// A configuration with a mistake changes nothing; the error is in the log already.
async fn reload(node: &mut Node, options: &Options) -> Result<(), String> {
    let config = match Config::read(&options.config) {
        Ok(config) => config,
        Err(reason) => {
            // A mistake and its remedy are two lines on a terminal; a line of the log stands alone.
            let reason = reason.to_string().replace("\n  ", "; ").replace('\n', "; ");
            error!("the old configuration stays: {reason}");
            return Err(format!("the old configuration stays: {reason}"));
        }
    };
    match node.reload(config).await {
        Ok(()) => {
            info!(file = %options.config.display(), "configuration read again");
            Ok(())
        }
        Err(reason @ (ReloadError::Restart(_) | ReloadError::Net(_))) => {
            error!("the old configuration stays: {reason}");
            Err(format!("the old configuration stays: {reason}"))
        }
    }
}
