//! `invite`: a line by which another node becomes a peer. The secret in it is made here, and printed, and nowhere else.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use rand::Rng;
use zeroize::Zeroizing;

use super::peer::Give;
use super::{CliError, Options, reach};
use crate::config::Config;
use crate::envelope::{Name, rfc3339};
use crate::invite::{Invitation, LONGEST, Ticket};
use crate::watch::{Ask, Form, Host, Invite, Invited, Question};

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Arguments {
    /// The node that is to join, by the name that it calls itself, as cert-ee
    #[arg(required = true)]
    name: Option<Name>,
    /// Where that node reaches this one, as /dns/relay.example.org/tcp/4747; several times for several [default: where
    /// this node listens]
    #[arg(long = "address", value_name = "ADDRESS")]
    addresses: Vec<String>,
    /// For how long the invitation is open: 10m, 1h, 2d; at most 7d
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = valid)]
    valid: u64,
    /// What the new peer will be given of the events here, once both sides have ended test mode
    #[arg(long, value_enum, default_value_t)]
    give: Give,
    /// Show the QR code also where this is no terminal
    #[arg(long)]
    qr: bool,
    /// Stay until somebody has joined, also where this is no terminal
    #[arg(long)]
    wait: bool,
    /// Do not stay until somebody has joined
    #[arg(long, conflicts_with = "wait")]
    no_wait: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show the invitations, what became of them, and the words to compare
    List {
        /// JSON lines
        #[arg(long)]
        json: bool,
    },
    /// Withdraw the open invitation for a node
    Cancel {
        /// Its name
        name: Name,
    },
}

/// Milliseconds.
fn valid(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no time from 1s to 7d, as 10m, 1h or 2d");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(seconds * 1000).filter(|millis| (1..=LONGEST).contains(millis)).ok_or_else(wrong)
}

pub(super) fn run(options: &Options, arguments: Arguments) -> Result<ExitCode, CliError> {
    let config = Config::read(&options.config)?;
    match (&arguments.command, &arguments.name) {
        (Some(Command::List { json }), _) => list(&config, *json)?,
        (Some(Command::Cancel { name }), _) => {
            ask(&config, Invite::Cancel(name.clone()))?;
            writeln!(io::stdout(), "The invitation for {name} is withdrawn.")?;
        }
        (None, Some(name)) => return invite(&config, name, &arguments),
        // The argument is required.
        (None, None) => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn invite(config: &Config, name: &Name, arguments: &Arguments) -> Result<ExitCode, CliError> {
    refuse_in_vain(config, arguments)?;
    let mut secret = Zeroizing::new([0; 16]);
    rand::rng().fill_bytes(&mut secret[..]);
    let ticket = Ticket::new(secret);
    let guest = ticket.guest().key();
    let community = arguments.give == Give::Community;
    let open = Invite::Open { name: name.clone(), ticket: guest, valid: arguments.valid, community };
    let host: Host = first(&ask(config, open)?)?;
    let addresses = reach::addresses(&arguments.addresses, config, &host.key, &host.listening);
    let addresses = addresses.and_then(|addresses| if addresses.is_empty() { Err(nowhere()) } else { Ok(addresses) });
    let addresses = match addresses {
        Ok(addresses) => addresses,
        Err(error) => {
            // Nobody has its line.
            ask(config, Invite::Cancel(name.clone()))?;
            return Err(error);
        }
    };
    let here_only = addresses.iter().all(|address| reach::is_loopback(address));
    let invitation =
        Invitation { host: host.name, key: host.key, addresses, ticket, expires: host.expires, guest: name.clone() };
    let line = invitation.line();

    // What is to be handed over, and nothing else, is standard output.
    let (mut out, mut notes) = (io::stdout().lock(), io::stderr().lock());
    if host.instead {
        writeln!(notes, "The invitation for {name} that was open is withdrawn: this one takes its place.")?;
    }
    writeln!(notes, "Until {}, whoever has this line can join once, as {name}:\n", rfc3339(host.expires))?;
    writeln!(out, "{}", *line)?;
    if arguments.qr || out.is_terminal() {
        show_code(&mut out, &line, arguments.qr)?;
    }
    out.flush()?;
    writeln!(notes, "\nThere: intelmq-relay join 'relay-invite:…'")?;
    writeln!(notes, "It says that this node is reached at {}.", invitation.addresses.join(" and "))?;
    if here_only {
        writeln!(notes, "WARNING: that is a loopback address: THE INVITATION WORKS ON THIS MACHINE ONLY.")?;
        writeln!(
            notes,
            "For others, set listen = [\"/ip4/0.0.0.0/tcp/4747\"] in [net], restart the node, and invite again."
        )?;
    } else if arguments.addresses.is_empty() {
        writeln!(notes, "If others reach it by another address, invite again with --address.")?;
    }
    if arguments.wait || out.is_terminal() && !arguments.no_wait {
        drop((out, notes));
        return wait(config, guest, community);
    }
    writeln!(notes, "When it has joined, `intelmq-relay invite list` shows the words to compare.")?;
    Ok(ExitCode::SUCCESS)
}

/// Before anything is opened.
fn refuse_in_vain(config: &Config, arguments: &Arguments) -> Result<(), CliError> {
    if config.net.only_peer_addresses {
        return Err(CliError::Usage {
            what: "net.only_peer_addresses keeps everybody out who is no peer yet: nobody could join".into(),
            remedy: "let the other node invite this one, or set it to false and restart the node".into(),
        });
    }
    if config.net.listen.is_empty() && arguments.addresses.is_empty() {
        return Err(nowhere());
    }
    Ok(())
}

fn nowhere() -> CliError {
    CliError::Usage {
        what: "this node has no address that another one could reach it at".into(),
        remedy: "let the other node invite this one, set listen in [net] and restart, or name one with --address"
            .into(),
    }
}

/// Black on white whatever the terminal's colours are: not every telephone reads the inverse.
fn show_code(out: &mut impl Write, line: &str, asked: bool) -> Result<(), CliError> {
    let Ok(code) = QrCode::with_error_correction_level(line, EcLevel::L) else {
        writeln!(io::stderr(), "The line is too long for a QR code.")?;
        return Ok(());
    };
    let image = code.render::<Dense1x2>().build();
    let width = image.lines().next().map_or(0, |row| row.chars().count());
    let columns = rustix::termios::tcgetwinsize(io::stdout()).map_or(0, |size| usize::from(size.ws_col));
    if !asked && (1..width).contains(&columns) {
        writeln!(io::stderr(), "(The QR code needs a terminal of {width} columns.)")?;
        return Ok(());
    }
    writeln!(out)?;
    for row in image.lines() {
        writeln!(out, "\x1b[30;107m{row}\x1b[0m")?;
    }
    Ok(())
}

fn wait(config: &Config, ticket: crate::envelope::Key, community: bool) -> Result<ExitCode, CliError> {
    writeln!(io::stderr(), "\nWaiting for it to join. Ctrl-C ends the waiting, and not the invitation.")?;
    let invited: Invited = first(&ask(config, Invite::Wait(ticket))?)?;
    let Some(words) = invited.words else {
        return Err(CliError::Node(format!("nobody has joined: the invitation is {}", invited.state)));
    };
    let mut out = io::stdout().lock();
    writeln!(out, "\n{} has joined, and is a peer in test mode.", invited.name)?;
    compare(&mut out, &invited.name, &words, community)?;
    Ok(ExitCode::SUCCESS)
}

/// What both operators do now.
pub(super) fn compare(out: &mut impl Write, peer: &Name, words: &str, community: bool) -> io::Result<()> {
    writeln!(out, "\nCompare these words with its operator, by voice:\n\n    {words}\n")?;
    writeln!(out, "The same: both of you write test = false in the [[peer]], and run `intelmq-relay reload`.")?;
    writeln!(out, "Others:   somebody sits between you. Run `intelmq-relay peer remove {peer}`, and invite anew.")?;
    if community {
        writeln!(out, "Until then only tests pass; then {peer} is given what TLP lets a member of the community have.")
    } else {
        writeln!(
            out,
            "Until then only tests pass. {peer} is given nothing: for that, write give = \"community\" there."
        )
    }
}

fn list(config: &Config, json: bool) -> Result<(), CliError> {
    let lines = ask(config, Invite::List)?;
    let mut out = io::stdout().lock();
    for line in &lines {
        if json {
            writeln!(out, "{line}")?;
            continue;
        }
        let Invited { name, state, expires, key, words } = parse(line)?;
        let until = if state == "open" { format!(" until {expires}") } else { String::new() };
        writeln!(out, "{name}  {state}{until}")?;
        if let (Some(key), Some(words)) = (key, words) {
            writeln!(out, "  by     {key}\n  words  {words}")?;
        }
    }
    if lines.is_empty() && !json {
        writeln!(out, "There are no invitations. `intelmq-relay invite NAME` makes one.")?;
    }
    Ok(())
}

fn ask(config: &Config, invite: Invite) -> Result<Vec<String>, CliError> {
    let mut lines = Vec::new();
    super::log::read(config, &Question { ask: Ask::Invite(invite), form: Form::Line }, None, |line| {
        lines.push(line.to_owned());
        Ok(true)
    })?;
    Ok(lines)
}

fn first<T: serde::de::DeserializeOwned>(lines: &[String]) -> Result<T, CliError> {
    parse(lines.first().map_or("", String::as_str))
}

fn parse<T: serde::de::DeserializeOwned>(line: &str) -> Result<T, CliError> {
    serde_json::from_str(line).map_err(|error| CliError::Node(format!("the node is of another version: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_bounded() {
        assert_eq!(valid("10m"), Ok(600_000));
        assert_eq!(valid("7d"), Ok(LONGEST));
        for wrong in ["", "m", "8d", "0s", "1.5h", "1w", "-1h", "1 h", "18446744073709551615d", "1ß"] {
            assert!(valid(wrong).is_err(), "{wrong}");
        }
    }
}
