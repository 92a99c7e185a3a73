//! `check`: what would keep the node from working, and what to do about it.
//!
//! Changes nothing, not even to try whether it could.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;

use rustix::fs::Access;

use super::{CliError, Options};
use crate::config::{Config, read_key_file};

/// One thing that was looked at.
struct Finding {
    what: String,
    /// What is wrong, and below it what to do.
    problem: Option<String>,
}

pub(super) fn run(options: &Options) -> Result<ExitCode, CliError> {
    let mut findings = Vec::new();
    match Config::read(&options.config) {
        Ok(config) => {
            findings.push(Finding::ok(format!("configuration {}", options.config.display())));
            on_this_machine(&options.config, &config, &mut findings);
        }
        Err(error) => findings.push(Finding::problem("configuration", error.to_string())),
    }

    let mut out = io::stdout().lock();
    for finding in &findings {
        writeln!(out, "{finding}")?;
    }
    let problems = findings.iter().filter(|finding| finding.problem.is_some()).count();
    match problems {
        0 => writeln!(out, "\nAll is well.")?,
        1 => writeln!(out, "\nThere is 1 problem.")?,
        _ => writeln!(out, "\nThere are {problems} problems.")?,
    }
    Ok(if problems == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What can be told without talking to anybody.
fn on_this_machine(file: &Path, config: &Config, findings: &mut Vec<Finding>) {
    findings.extend(passwords(file, config));
    let key = format!("key file {}", config.node.key.display());
    findings.push(match read_key_file(&config.node.key) {
        Ok(secret) => Finding::ok(format!("{key}: {}", secret.key())),
        Err(error) => Finding::problem(key, error.to_string()),
    });
    findings.push(data_folder(&config.node.data));
    for door in &config.take.files {
        // Taken files are renamed or removed, which is writing to the directory.
        findings.push(directory(&format!("door {}", door.name), &door.directory));
        findings.extend(door.taken.iter().map(|taken| directory(&format!("door {}, taken files", door.name), taken)));
    }
    findings.extend(config.give.files.iter().map(|door| directory(&format!("door {}", door.name), &door.directory)));
}

fn passwords(file: &Path, config: &Config) -> Option<Finding> {
    let take = config.take.redis.iter().map(|door| &door.server);
    let mut servers = take.chain(config.give.redis.iter().map(|door| &door.server));
    servers.find(|server| server.password.is_some())?;
    let mode = fs::metadata(file).ok()?.permissions().mode();
    let what = format!("passwords in {}", file.display());
    Some(if mode & 0o007 == 0 {
        Finding::ok(what)
    } else {
        Finding::problem(what, format!("everybody on this machine can read them\n  run: chmod o= {}", file.display()))
    })
}

fn data_folder(path: &Path) -> Finding {
    let what = format!("data folder {}", path.display());
    match (fs::exists(path), path.parent()) {
        // Made when the node starts.
        (Ok(false), Some(parent)) => match usable(parent) {
            None => Finding::ok(format!("{what}: will be made")),
            problem => Finding { what, problem },
        },
        _ => Finding { problem: usable(path), what },
    }
}

fn directory(owner: &str, path: &Path) -> Finding {
    Finding { what: format!("{owner}: {}", path.display()), problem: usable(path) }
}

/// Why the directory cannot be read and written by this user.
fn usable(path: &Path) -> Option<String> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Some(format!(
                "there is no {}\n  run: intelmq-relay init, or mkdir {}",
                path.display(),
                path.display()
            ));
        }
        Err(error) => {
            return Some(format!("cannot look at {}: {error}\n  correct the permissions above it", path.display()));
        }
        Ok(metadata) if !metadata.is_dir() => {
            return Some(format!("{} is no directory\n  name a directory in the configuration", path.display()));
        }
        Ok(_) => {}
    }
    match rustix::fs::access(path, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => None,
        Err(error) => Some(format!(
            "this user cannot use {}: {error}\n  run check as the user that runs the relay; chown it to that user",
            path.display()
        )),
    }
}

impl Finding {
    fn ok(what: impl Into<String>) -> Finding {
        Finding { what: what.into(), problem: None }
    }

    fn problem(what: impl Into<String>, problem: impl Into<String>) -> Finding {
        Finding { what: what.into(), problem: Some(problem.into()) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            None => write!(f, "ok       {}", self.what),
            Some(problem) => write!(f, "PROBLEM  {}\n         {}", self.what, problem.replace('\n', "\n         ")),
        }
    }
}
