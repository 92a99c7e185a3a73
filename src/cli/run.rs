//! `run`: the node, until it is told to stop.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use tracing::{Instrument, error, info, info_span, warn};

use super::{CliError, Options, init, passphrase};
use crate::config::{
    Config, KeyFileError, KeySource, Passphrase, StoredKey, former_secrets, next_key_file, one_line, succeed_key_file,
};
use crate::envelope::{EncryptionSecret, Key, Secret};
use crate::node::{Change, Node, ReloadError};

/// When to try again to go over to the next key, where the first try failed.
const SUCCEED_AGAIN: Duration = Duration::from_secs(60);
/// Longest time that stopping may take.
const STOP: Duration = Duration::from_millis(4500);

pub(super) fn run(options: &Options) -> Result<ExitCode, CliError> {
    let missing = |file: &Path| file.try_exists().is_ok_and(|exists| !exists);
    // A key that is gone is not made anew beside an old configuration: the peers know the old one.
    if missing(&options.config) {
        init::run(options, init::Arguments::default())?;
    }
    let config = Config::read(&options.config)?;
    let (mut secret, passphrase) = passphrase::secret_and_passphrase(options, config.node.key_source())?;
    let mut config = config;
    // Every line of the log stands alone, also where several nodes write into one journal.
    let span = info_span!("node", node = %config.node.name);
    super::runtime()?.block_on(async {
        let mut signals = Signals::new()?;
        loop {
            let former = former(&config, passphrase.as_ref());
            let node = Node::start(config, secret, former).await.map_err(|error| CliError::Node(error.to_string()))?;
            match follow(node, options, &mut signals, passphrase.as_ref()).instrument(span.clone()).await? {
                End::Over(code) => return Ok(code),
                End::Succeeds(next) => (config, secret) = *next,
            }
        }
    })
}

/// What opens what was encrypted to this node when it had other keys.
fn former(config: &Config, passphrase: Option<&Passphrase>) -> Vec<EncryptionSecret> {
    let KeySource::File(file) = config.node.key_source() else { return Vec::new() };
    let (secrets, failed) = former_secrets(file, passphrase);
    for reason in failed {
        let reason = one_line(&reason);
        warn!(reason, "a key of the past cannot be opened: what is still encrypted to it goes into quarantine");
    }
    secrets.iter().map(|secret| EncryptionSecret::derive(secret.expose_seed())).collect()
}

/// How a node comes to its end.
enum End {
    Over(ExitCode),
    /// It goes on with its next key.
    Succeeds(Box<(Config, Secret)>),
}

/// The next key takes the place of the key of now: from here on it is this node's.
fn succeed(config: &Config, key: &Key, passphrase: Option<&Passphrase>) -> Result<Secret, String> {
    let KeySource::File(file) = config.node.key_source() else {
        return Err("the key is not in a file: put the next one where the key command has it from, and restart".into());
    };
    let next = next_key_file(file);
    let text = |error: KeyFileError| one_line(&error);
    let stored = StoredKey::read(KeySource::File(&next)).map_err(text)?;
    let open = || passphrase.map(Passphrase::again).ok_or(KeyFileError::Wrong(next.display().to_string()));
    let secret = stored.open(open).map_err(text)?;
    let kept = succeed_key_file(file, key).map_err(text)?;
    if secret.key() != *key {
        return Err(format!("{} holds another key than the one that follows", next.display()));
    }
    info!(%key, kept = %kept.display(), "this node has another key from now on, the one that it has told of: starting anew with it");
    Ok(secret)
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

async fn follow(
    mut node: Node,
    options: &Options,
    signals: &mut Signals,
    passphrase: Option<&Passphrase>,
) -> Result<End, CliError> {
    let mut changes = node.changes();
    // When to try again to go over to the next key.
    let mut succession = Instant::now();
    let successor = node.successor();
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
                return Ok(End::Over(ExitCode::FAILURE));
            }
            key = async {
                tokio::time::sleep_until(succession).await;
                successor.wait().await
            } => {
                match succeed(node.config(), &key, passphrase) {
                    Ok(secret) => {
                        let config = node.config().clone();
                        stop(node).await;
                        return Ok(End::Succeeds(Box::new((config, secret))));
                    }
                    Err(reason) => {
                        error!(
                            reason,
                            "this node cannot go over to its next key, and keeps the old one: mend that, or stop the node and \
                             run `intelmq-relay key rotate --now` as a user who may write beside the key file"
                        );
                        succession = Instant::now() + SUCCEED_AGAIN;
                    }
                }
            }
        }
    }
    info!("stopping");
    stop(node).await;
    Ok(End::Over(ExitCode::SUCCESS))
}

async fn stop(node: Node) {
    if tokio::time::timeout(STOP, node.stop()).await.is_err() {
        warn!("stopping took too long and was cut off; nothing that was acknowledged is lost");
    }
}

/// A configuration with a mistake changes nothing; the error is in the log already.
async fn reload(node: &mut Node, options: &Options) -> Result<(), String> {
    let config = match Config::read(&options.config) {
        Ok(config) => config,
        Err(reason) => {
            let reason = one_line(&reason);
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
