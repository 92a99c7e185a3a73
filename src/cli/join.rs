//! `join`: becomes a peer of the node that has printed an invitation, and has it as a peer.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use zeroize::Zeroizing;

use super::peer::Give;
use super::{CliError, Options, invite, passphrase, reach};
use crate::config::{Config, Peer, Share, add_joined_peer, check_peer_address, edit_file};
use crate::envelope::rfc3339;
use crate::invite::{Damaged, Invitation};
use crate::net::{JoinError, Joiner, now};
use crate::watch::{Ask, Form, Question, is_running};

/// What is read of standard input.
const MAX_INPUT: u64 = 16 << 10;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The line that `intelmq-relay invite` has printed there; `-` reads it from standard input
    #[arg(value_name = "LINE", required = true)]
    line: Vec<String>,
    /// Where the other node reaches this one, as /dns/relay.example.org/tcp/4747; several times for several [default:
    /// where this node listens; one of the two needs an address]
    #[arg(long = "address", value_name = "ADDRESS")]
    addresses: Vec<String>,
    /// What the other node will be given of the events here, once both sides have ended test mode
    #[arg(long, value_enum, default_value_t)]
    give: Give,
}

pub(super) fn run(options: &Options, arguments: Arguments) -> Result<ExitCode, CliError> {
    let invitation = read(&arguments.line)?;
    let config = config(options, &invitation)?;
    let before = check(&config, &invitation)?;
    let secret = passphrase::secret(options, &config)?;
    let key = secret.key();
    if key == invitation.key {
        return Err(refused("the invitation is of this node itself", "type it at the node that is to join"));
    }
    let mut addresses = reach::addresses(&arguments.addresses, &config, &key, &[])?;
    // What only this machine reaches is of use only where both are on it.
    if arguments.addresses.is_empty() && !invitation.addresses.iter().all(|address| reach::is_loopback(address)) {
        addresses.retain(|address| !reach::is_loopback(address));
    }
    let joiner = Joiner { name: &config.node.name, secret: &secret, addresses };
    let joined = super::runtime()?.block_on(crate::net::join(&invitation, &joiner)).map_err(failed)?;

    let (host, mut community) = (&invitation.host, arguments.give == Give::Community);
    let mut out = io::stdout().lock();
    let (software, file) = (&joined.software, options.config.display());
    if let Some(peer) = before {
        community = peer.give == Share::Community;
        writeln!(out, "{host} ({software}) has this node as a peer; {host} stays in {file} as it is.")?;
    } else {
        let give = if community { Share::Community } else { Share::None };
        let (addresses, words) = (&invitation.addresses, &joined.words);
        edit_file(&options.config, |text| {
            add_joined_peer(text, host, &invitation.key, addresses, &give, &joined.encryption, words)
        })?;
        writeln!(out, "{host} ({software}) has taken this node as a peer, and {file} has {host}: both in test mode.")?;
    }
    if is_running(&config.node.data) {
        let reload = Question { ask: Ask::Reload, form: Form::Line };
        match super::log::read(&config, &reload, None, |_| Ok(true)) {
            Ok(()) => writeln!(out, "The running node has read it.")?,
            Err(error) => writeln!(out, "THE RUNNING NODE HAS NOT TAKEN IT: {error}")?,
        }
    } else {
        writeln!(out, "Start the node now: intelmq-relay run")?;
    }
    invite::compare(&mut out, host, &joined.words, community)?;
    Ok(ExitCode::SUCCESS)
}

fn read(line: &[String]) -> Result<Invitation, CliError> {
    let mut text = Zeroizing::new(line.concat());
    if *text == "-" {
        text.clear();
        io::stdin().lock().take(MAX_INPUT).read_to_string(&mut text)?;
    }
    Invitation::read(&text).map_err(|reason| CliError::Usage {
        remedy: match reason {
            Damaged::Text(_) => "paste the whole line again, as it was printed; or ask for it on another way".into(),
            Damaged::Newer(_) => "update this relay".into(),
        },
        what: reason.to_string(),
    })
}

/// Somebody who begins with an invitation is told how to begin.
fn config(options: &Options, invitation: &Invitation) -> Result<Config, CliError> {
    let (file, guest) = (&options.config, &invitation.guest);
    if file.try_exists().is_ok_and(|exists| !exists) {
        return Err(CliError::Usage {
            what: format!("there is no node here yet: {} does not exist", file.display()),
            remedy: format!("make one: intelmq-relay init --name {guest}; then join with the same line"),
        });
    }
    Ok(Config::read(file)?)
}

/// What would keep it from succeeding, before anybody is called; the host, where it is a peer already.
fn check<'a>(config: &'a Config, invitation: &Invitation) -> Result<Option<&'a Peer>, CliError> {
    let Invitation { host, key, guest, expires, .. } = invitation;
    let us = &config.node.name;
    if guest != us {
        return Err(refused(
            &format!("the invitation is for {guest}, and this node is {us}"),
            &format!("ask the operator of {host} for one for {us}"),
        ));
    }
    for address in &invitation.addresses {
        let wrong = |reason| {
            refused(&format!("{address:?} in the invitation is no address of a node: {reason}"), "ask for a new one")
        };
        check_peer_address(address, key).map_err(wrong)?;
    }
    let same_name = |peer: &&Peer| peer.name == *host;
    let before = match (config.peers.iter().find(same_name), config.peers.iter().find(|peer| peer.key == *key)) {
        (None, None) => None,
        (Some(peer), _) if peer.key == *key => Some(peer),
        (Some(_), _) => {
            return Err(refused(
                &format!("there is a peer {host} already, with another key"),
                &format!("ask its operator; if the key has changed: intelmq-relay peer remove {host}, and join again"),
            ));
        }
        (None, Some(peer)) => {
            return Err(refused(
                &format!("the peer {} has the key of the node that invites, {host}", peer.name),
                "ask its operator for its name, and correct the file",
            ));
        }
    };
    // Who has joined and was interrupted goes on: the host knows.
    if *expires <= now() && before.is_none() {
        return Err(refused(
            &format!("the invitation has expired, at {}", rfc3339(*expires)),
            &format!("ask the operator of {host} for a new one; if the time is wrong, look at both clocks"),
        ));
    }
    Ok(before)
}

fn refused(what: &str, remedy: &str) -> CliError {
    CliError::Usage { what: what.into(), remedy: remedy.into() }
}

fn failed(error: JoinError) -> CliError {
    let remedy = match &error {
        JoinError::OtherKey { .. } => {
            "ask its operator: if its key was changed since, an invitation from before works no more, and a new one does; else \
             another node is at that address"
        }
        JoinError::Unreachable { .. } => {
            "is that node running, and its port open to this machine? Its operator can give another address with \
             `intelmq-relay invite --address`"
        }
        JoinError::TurnedAway(_) => "ask its operator for a new invitation",
        JoinError::Address { .. } | JoinError::OtherName { .. } => "ask its operator for a new invitation",
        // The reason says it.
        JoinError::Refused { .. } | JoinError::Broken { .. } | JoinError::Transport(_) => {
            return CliError::Node(format!("this node has not joined: {error}"));
        }
    };
    CliError::Node(format!("this node has not joined: {error}\n  {remedy}"))
}
