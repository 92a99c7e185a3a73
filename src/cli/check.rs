//! `check`: what would keep the node from working, and what to do about it.
//!
//! Changes nothing, not even to try whether it could.

mod amqp;
mod intelmq;
mod key;
mod rules;

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;

use std::time::Duration;

use futures::future::join_all;
use rustix::fs::Access;
use tokio::net::UnixStream;

use super::{CliError, Options};
use crate::config::{self, Config};
use crate::envelope::{Secret, Shape};
use crate::intelmq::{probe_collector, probe_format, probe_listen};
use crate::net::Net;
use crate::node::identities_at_rest;
use crate::watch::{Ask, Form, Piece, Question, ask, socket};

/// How long a peer may take to answer.
const PATIENCE: Duration = Duration::from_secs(6);

/// One thing that was looked at.
struct Finding {
    what: String,
    /// What is wrong, and below it what to do.
    problem: Option<String>,
    /// It works all the same.
    minor: bool,
}

pub(super) fn run(options: &Options) -> Result<ExitCode, CliError> {
    let mut findings = Vec::new();
    match Config::read(&options.config) {
        Ok(config) => {
            findings.push(Finding::ok(format!("configuration {}", options.config.display())));
            findings.extend(rules::look(&config));
            on_this_machine(&options.config, &config, &mut findings);
            // Asked for before anything waits for an answer.
            let secret = key::look(options, &config, &mut findings);
            super::runtime()?.block_on(elsewhere(&config, secret, &mut findings));
        }
        Err(error) => findings.push(Finding::problem("configuration", error.to_string())),
    }

    let mut out = io::stdout().lock();
    for finding in &findings {
        writeln!(out, "{finding}")?;
    }
    let problems = findings.iter().filter(|finding| finding.problem.is_some() && !finding.minor).count();
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
    findings.push(data_folder(&config.node.data));
    for door in &config.take.files {
        // Taken files are renamed or removed, which is writing to the directory.
        findings.push(directory(&format!("door {}", door.name), &door.directory));
        findings.extend(door.taken.iter().map(|taken| directory(&format!("door {}, taken files", door.name), taken)));
    }
    findings.extend(config.give.files.iter().map(|door| directory(&format!("door {}", door.name), &door.directory)));
    findings.extend(formats(config));
}

/// The data formats that doors cannot use: such a door gives nothing.
fn formats(config: &Config) -> Vec<Finding> {
    let give = &config.give;
    let files = give.files.iter().map(|door| (&door.name, &door.events, Shape::Iep04));
    let redis = give.redis.iter().map(|door| (&door.name, &door.events, Shape::Extra));
    let tcp = give.tcp.iter().map(|door| (&door.name, &door.events, Shape::Extra));
    let amqp = give.amqp.iter().map(|door| (&door.name, &door.events, Shape::Extra));
    let doors = files.chain(redis).chain(tcp).chain(amqp);
    let bad = doors.filter_map(|(name, events, usual)| Some((name, probe_format(events, usual, name).err()?)));
    bad.map(|(name, error)| Finding::problem(format!("door {name}"), error.to_string())).collect()
}

/// Servers, bots and peers, all at once.
async fn elsewhere(config: &Config, secret: Option<Secret>, findings: &mut Vec<Finding>) {
    let (redis, amqp, tcp, peers) =
        tokio::join!(intelmq::redis(config), amqp::amqp(config), tcp(config), peers(config, secret));
    findings.extend(redis);
    findings.extend(amqp);
    findings.extend(tcp);
    findings.extend(peers);
}

/// Where IntelMQ's TCP bots meet the relay.
async fn tcp(config: &Config) -> Vec<Finding> {
    // Then the doors' addresses are in use, and should be.
    let runs = UnixStream::connect(socket(&config.node.data)).await.is_ok();
    let mut findings = Vec::new();
    for door in &config.take.tcp {
        let what = format!("door {}", door.name);
        for address in &door.listen {
            findings.push(match probe_listen(*address) {
                Ok(true) if runs => Finding::problem(
                    what.clone(),
                    format!(
                        "the running node does not listen at {address}\n  reload it, or look into its log: it says why"
                    ),
                ),
                Ok(true) => Finding::ok(format!("{what}: TCP, {address} is free")),
                Ok(false) if runs => Finding::ok(format!("{what}: TCP, {address} is in use, as the node runs")),
                Ok(false) => Finding::problem(
                    what.clone(),
                    format!(
                        "something else listens at {address}\n  stop it (a collector of IntelMQ's, another relay), or \
                         choose another port in listen of the door"
                    ),
                ),
                Err(error) => Finding::problem(what.clone(), error.to_string()),
            });
        }
    }
    findings.extend(
        join_all(config.give.tcp.iter().map(|door| async move {
            match probe_collector(&door.address).await {
                Ok(()) => Finding::ok(format!("door {}: TCP, a collector at {}", door.name, door.address)),
                Err(error) => Finding::problem(format!("door {}", door.name), error.to_string()),
            }
        }))
        .await,
    );
    findings
}

/// A running node says how its links stand; without one, each peer is called.
async fn peers(config: &Config, secret: Option<Secret>) -> Vec<Finding> {
    if config.peers.is_empty() {
        return vec![Finding::ok("no peers yet: add them with intelmq-relay invite, join, or peer add")];
    }
    let mut status = None;
    let question = Question { ask: Ask::Status, form: Form::Line };
    // Only the running node is asked: the store has nothing to say about peers.
    if UnixStream::connect(socket(&config.node.data)).await.is_ok() {
        let _ = ask(config, &question, |piece| {
            if let Piece::Line(line) = piece {
                status = serde_json::from_str::<serde_json::Value>(&line).ok();
            }
            true
        })
        .await;
    }
    match status {
        Some(status) => {
            let linked = config.peers.iter().map(|peer| as_linked(peer, &status["peers"][peer.name.as_str()]));
            linked.chain(key::outdated(&status)).collect()
        }
        None => call(config, secret).await,
    }
}

fn as_linked(peer: &config::Peer, status: &serde_json::Value) -> Finding {
    let what = format!("peer {}", peer.name);
    if status["linked"] == true {
        return Finding::ok(format!(
            "{what}: linked at {}{}",
            status["connected"].as_str().unwrap_or("an unknown place"),
            given(peer)
        ));
    }
    if status.is_null() {
        return Finding::problem(
            what,
            "the running node does not know it yet\n  reload it: systemctl reload, or SIGHUP",
        );
    }
    if let (Some(remote), None) = (status["connected"].as_str(), status["error"].as_str()) {
        return Finding::problem(
            what,
            format!("connected at {remote}, but there is no link\n  look for `no link` in the node's log: it says why"),
        );
    }
    Finding::problem(what, unreached(peer, status["error"].as_str()))
}

async fn call(config: &Config, secret: Option<Secret>) -> Vec<Finding> {
    let quiet = config::Net { listen: Vec::new(), dial_max_seconds: 1.0, ..config.net.clone() };
    let peers = config.peers.iter().map(Into::into).collect();
    // Without it, why was said already.
    let Some(secret) = secret else { return Vec::new() };
    // What the store says of keys that have followed. Where there is none yet, none is made.
    let has_store = fs::read_dir(&config.node.data).is_ok_and(|mut folder| folder.next().is_some());
    let identities = match has_store {
        true => identities_at_rest(config, &secret.key()).await.unwrap_or_default(),
        false => Vec::new(),
    };
    let net = match Net::start_with(&quiet, &secret, peers, identities).await {
        Ok(net) => net,
        Err(error) => return vec![Finding::problem("peers", error.to_string())],
    };
    let calls = config.peers.iter().map(|peer| {
        let link = net.link(&peer.key);
        async move {
            let what = format!("peer {}", peer.name);
            let Some(mut link) = link else { return Finding::problem(what, "it cannot be called") };
            if peer.addresses.is_empty() {
                return Finding::ok(format!("{what}: has no address, it calls us{}", given(peer)));
            }
            match tokio::time::timeout(PATIENCE, link.next()).await {
                Ok(Some(_)) => Finding::ok(format!("{what}: answers{}", given(peer))),
                _ => Finding::problem(what, unreached(peer, link.state().error.as_deref())),
            }
        }
    });
    let findings = join_all(calls).await;
    net.shutdown().await;
    findings
}

/// No problem, but easily forgotten.
fn given(peer: &config::Peer) -> &'static str {
    match peer.give {
        config::Share::None => "; it is given nothing",
        config::Share::Community | config::Share::Sets(_) => "",
    }
}

fn unreached(peer: &config::Peer, error: Option<&str>) -> String {
    let reason = error.unwrap_or("no answer yet");
    let remedy = if peer.addresses.is_empty() {
        "it must call us: ask its operator whether it runs, and has our address and key"
    } else {
        "ask its operator whether it runs, and has our key; look for a firewall between"
    };
    format!("{reason}\n  {remedy}")
}

fn passwords(file: &Path, config: &Config) -> Option<Finding> {
    let take = config.take.redis.iter().map(|door| &door.server);
    let mut servers = take.chain(config.give.redis.iter().map(|door| &door.server));
    let amqp = config.take.amqp.iter().map(|door| &door.server);
    let mut brokers = amqp.chain(config.give.amqp.iter().map(|door| &door.server));
    let secret = servers.any(|server| server.password.is_some())
        || brokers.any(|broker| broker.password.0 != config::Amqp::GUEST);
    if !secret {
        return None;
    }
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
            problem => Finding { what, problem, minor: false },
        },
        _ => Finding { problem: usable(path), what, minor: false },
    }
}

fn directory(owner: &str, path: &Path) -> Finding {
    Finding { what: format!("{owner}: {}", path.display()), problem: usable(path), minor: false }
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
        Finding { what: what.into(), problem: None, minor: false }
    }

    fn problem(what: impl Into<String>, problem: impl Into<String>) -> Finding {
        Finding { what: what.into(), problem: Some(problem.into()), minor: false }
    }

    fn note(what: impl Into<String>, note: impl Into<String>) -> Finding {
        Finding { minor: true, ..Finding::problem(what, note) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            None => write!(f, "ok       {}", self.what),
            Some(problem) => {
                let mark = if self.minor { "note   " } else { "PROBLEM" };
                write!(f, "{mark}  {}\n         {}", self.what, problem.replace('\n', "\n         "))
            }
        }
    }
}
