//! A key that a command holds: what the command prints is a key file's text.
//!
//! Without a shell. Bounded in time and in what it prints; what it says on its standard error is shown when it fails,
//! and what it prints never.

use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::text;

/// Long enough to type a PIN.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// What is shown of its standard error, bytes.
const SHOWN: usize = 1024;
/// How often it is asked whether a command has ended that closed its output.
const TICK: Duration = Duration::from_millis(5);

/// Why a command gave no key. The name is that of its program; arguments are not shown, for one might be a secret.
#[derive(Debug, thiserror::Error)]
pub enum KeyCommandError {
    /// It cannot be started.
    #[error(
        "cannot run the key command {program}: {source}\n  correct node.key_command: the program, then its arguments, each as a text of its own; no shell reads them"
    )]
    Start {
        /// Its program.
        program: String,
        /// What the system says.
        source: io::Error,
    },
    /// It says itself that it failed.
    #[error(
        "the key command {program} failed ({status}){said}\n  run it as the user that runs the relay, and mend what it says"
    )]
    Failed {
        /// Its program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of its standard error.
        said: String,
    },
    /// It took too long.
    #[error("the key command {program} did not end within {} seconds, and was stopped{said}\n  it may wait for somebody to type: unlock what holds the key before", after.as_secs())]
    Late {
        /// Its program.
        program: String,
        /// How long it had.
        after: Duration,
        /// The end of its standard error.
        said: String,
    },
    /// It printed too much.
    #[error("the key command {0} prints more than a key\n  it should print what a key file holds, and nothing else")]
    Long(String),
}

/// What it prints.
pub(super) fn run(command: &[String], patience: Duration) -> Result<Zeroizing<Vec<u8>>, KeyCommandError> {
    let program = || command.first().cloned().unwrap_or_default();
    let start = |source| KeyCommandError::Start { program: program(), source };
    let deadline = Instant::now() + patience;
    let mut child = Command::new(program())
        .args(command.get(1..).unwrap_or_default())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(start(io::ErrorKind::BrokenPipe.into()));
    };
    let said = in_thread(move || tail(stderr));
    let printed = in_thread(move || text::read_all(stdout));
    let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());

    let printed = printed.recv_timeout(left(deadline));
    let ended = match &printed {
        Ok(Ok(Some(_))) => wait(&mut child, deadline),
        _ => None,
    };
    if ended.is_none() {
        // Only itself: what it started may be an agent that others use.
        let _ = child.kill();
        let _ = child.wait();
    }
    // What it started may still hold its standard error open.
    let said = || shown(&said.recv_timeout(Duration::from_millis(200)).unwrap_or_default());
    match (printed, ended) {
        (Ok(Ok(Some(text))), Some(status)) if status.success() => Ok(text),
        (Ok(Ok(Some(_))), Some(status)) => Err(KeyCommandError::Failed { program: program(), status, said: said() }),
        (Ok(Ok(None)), _) => Err(KeyCommandError::Long(program())),
        (Ok(Err(source)), _) => Err(start(source)),
        (Err(RecvTimeoutError::Disconnected), _) => Err(start(io::ErrorKind::BrokenPipe.into())),
        (Ok(Ok(Some(_))) | Err(RecvTimeoutError::Timeout), _) => {
            Err(KeyCommandError::Late { program: program(), after: patience, said: said() })
        }
    }
}

/// A pipe that a grandchild holds open must not hold us: then the thread is left behind.
fn in_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (give, take) = sync_channel(1);
    thread::spawn(move || {
        let _ = give.send(work());
    });
    take
}

fn wait(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => thread::sleep(TICK),
            _ => return None,
        }
    }
}

/// The last of what comes; all is read, so that the command is not held up.
fn tail(mut source: impl Read) -> Vec<u8> {
    let (mut kept, mut piece) = (Vec::new(), [0; SHOWN]);
    while let Ok(read @ 1..) = source.read(&mut piece) {
        kept.extend_from_slice(&piece[..read]);
        kept.drain(..kept.len().saturating_sub(SHOWN));
    }
    kept
}

/// As lines of an error, without what a terminal would act upon.
fn shown(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let lines = text.lines().map(|line| line.chars().filter(|c| !c.is_control()).collect::<String>());
    lines.filter(|line| !line.trim().is_empty()).map(|line| format!("\n  it says: {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, patience: Duration) -> Result<Zeroizing<Vec<u8>>, KeyCommandError> {
        run(&["sh".into(), "-c".into(), script.into()], patience)
    }

    #[test]
    fn what_it_prints_is_returned() {
        assert_eq!(&sh("echo key; echo hint >&2", PATIENCE).unwrap()[..], b"key\n");
        // No shell reads the arguments.
        let command = ["printf".into(), "%s".into(), "$HOME; *".into()];
        assert_eq!(&run(&command, PATIENCE).unwrap()[..], b"$HOME; *");
    }

    #[test]
    fn a_failure_shows_what_it_says_and_never_what_it_printed() {
        let error = sh("echo SECRET; echo 'no \u{1b}[31mcard' >&2; exit 3", PATIENCE).unwrap_err().to_string();
        assert!(error.contains("sh failed (exit status: 3)\n  it says: no [31mcard\n"), "{error}");
        assert!(!error.contains("SECRET"), "{error}");
        let error = run(&["/no/such/program".into()], PATIENCE).unwrap_err().to_string();
        assert!(error.contains("cannot run the key command /no/such/program") && error.contains("no shell"), "{error}");
        let much = sh("yes no | head -c 200000 >&2; echo the end >&2; exit 1", PATIENCE).unwrap_err().to_string();
        assert!(much.contains("the end") && much.len() < 20_000, "{much}");
    }

    #[test]
    fn it_is_bounded_in_time_and_length() {
        // What it starts holds its pipes open, and holds up nobody.
        let begun = Instant::now();
        for script in ["echo PIN? >&2; exec sleep 600", "sleep 2 & exit 0", "exec >&-; exec sleep 600"] {
            let error = sh(script, Duration::from_millis(200)).unwrap_err();
            assert!(matches!(error, KeyCommandError::Late { .. }), "{script}: {error}");
        }
        assert!(begun.elapsed() < Duration::from_secs(60));
        assert!(matches!(sh("head -c 5000 /dev/zero", PATIENCE), Err(KeyCommandError::Long(_))));
        assert!(matches!(sh("yes", PATIENCE), Err(KeyCommandError::Long(_))));
    }
}
