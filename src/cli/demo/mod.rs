//! `demo`: three nodes in this process walk through IEP04's peer-to-peer scenario, and prove that nothing is lost.
//!
//! Owns the story and what is printed of it. The nodes are real: each has its folder, its key and its store, and they
//! speak over TCP on the loopback. A step is printed when it is seen to have happened, and not before.

mod check;
mod fleet;
mod table;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use tokio::signal::unix::{SignalKind, signal};
use uuid::Uuid;

use self::check::Checked;
use self::fleet::{Fleet, is_linked, sealed, verdicts};
use super::{CliError, log};
use crate::config::Share;
use crate::envelope::{CyCat, Tlp};
use crate::link::Verdict;
use crate::sample::Events;

/// The nodes.
const NAMES: [&str; 3] = ["cert-a", "cert-b", "cert-c"];
const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

/// Events of the first part.
const FEW: u64 = 3;
/// How long all may take: so long, and longer for more events than this.
const LONGEST: Duration = Duration::from_secs(60);
const EVENTS_PER_SECOND: u64 = 500;
/// What a shell says of a program that was interrupted.
const INTERRUPTED: u8 = 130;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// How many events cert-a has
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(30..=1_000_000))]
    events: u64,
    /// What the events are made up from: the same number gives the same events
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Leave the nodes' folders, for a look at them with tail, show or export
    #[arg(long)]
    keep: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, CliError> {
    // Before the runtime, so that it goes after it: by then nobody writes into it.
    let folder = Folder::new(arguments.keep)?;
    let events = Events::new(arguments.seed).labelled(Tlp::Green);
    super::runtime()?.block_on(async {
        let mut fleet = Fleet::start(&folder.path).await?;
        let interrupted = interrupted()?;
        let longest = LONGEST + Duration::from_secs(arguments.events / EVENTS_PER_SECOND);
        let mut story = Story { fleet: &mut fleet, events: &events, count: arguments.events, begun: Instant::now() };
        let told = tokio::select! {
            told = tokio::time::timeout(longest, story.tell()) => told,
            () = interrupted => {
                fleet.kill().await;
                return Ok(ExitCode::from(INTERRUPTED));
            }
        };
        if let Ok(told) = &told {
            told.as_ref().map_err(|error| CliError::Node(error.to_string()))?;
        }
        let totals = fleet.stop().await;
        let checked = [B, C].map(|node| (NAMES[node], Checked::read(&fleet.out(node), &events, arguments.events)));
        if told.is_err() {
            say(format_args!("After {} s not all that should happen had happened.", longest.as_secs()))?;
        }
        table::print(&totals, &checked, arguments.events)?;
        let well = conclude(&checked)? && told.is_ok();
        if arguments.keep {
            say(format_args!(
                "\nThe folders stay: intelmq-relay --config {}/cert-c/relay.toml tail",
                folder.path.display()
            ))?;
        }
        Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// Says what is wrong, if anything is.
fn conclude(checked: &[(&'static str, Checked); 2]) -> io::Result<bool> {
    for (name, checked) in checked {
        checked.complaints().iter().try_for_each(|complaint| say(format_args!("{name}: {complaint}")))?;
    }
    let [(_, b), (_, c)] = checked;
    let same_ids = b.ids() == c.ids();
    if !same_ids {
        say(format_args!("The same event has not the same UUID at cert-b and cert-c."))?;
    }
    Ok(same_ids && checked.iter().all(|(_, checked)| checked.is_well()))
}

/// The six steps, and then many events while a node is away.
struct Story<'a> {
    fleet: &'a mut Fleet,
    events: &'a Events,
    count: u64,
    begun: Instant,
}

impl Story<'_> {
    async fn tell(&mut self) -> Result<(), CliError> {
        say(format_args!("Three nodes in this process, each linked with the two others over the loopback:"))?;
        // In the first part only cert-b passes on: else cert-c might be faster, and cert-b would not offer.
        self.fleet.introduce(|giver, _| if giver == C { Share::None } else { Share::Community }).await?;
        self.fleet.until(|fleet| fleet.status().iter().all(is_linked)).await;
        for node in [A, B, C] {
            say(format_args!("  {} {}", NAMES[node], self.fleet.address(node)))?;
        }
        say(format_args!(""))?;
        self.six_steps().await?;
        self.fleet.introduce(|_, _| Share::Community).await?;
        say(format_args!("\nNow {} events at cert-a, and cert-b goes away meanwhile:", self.count))?;
        let bar = log::progress("received by cert-b and cert-c");
        bar.set_length(2 * (self.count - FEW));
        let many = self.many(&bar).await;
        bar.finish_and_clear();
        many
    }

    async fn six_steps(&mut self) -> Result<(), CliError> {
        self.fleet.put("first", self.events, 0..FEW)?;
        say(format_args!("1  cert-a has {FEW} events for cert-b and cert-c, and is not sure who should get them"))?;
        self.fleet.until(|fleet| sealed(&fleet.status()[A]) == FEW).await;
        say(format_args!("2  cert-a makes sure that all have a UUID:"))?;
        let ids = self.ids_at(A).await?;
        for (_, text) in &ids {
            say(format_args!("     {text}"))?;
        }
        self.fleet
            .until(|fleet| fleet.running(B).store().head() == FEW && fleet.running(C).store().head() == FEW)
            .await;
        say(format_args!("3  cert-a sends them to cert-b and to cert-c"))?;
        self.fleet.until(|fleet| fleet.peer(B, C).traffic.given.offered == FEW).await;
        say(format_args!("4  cert-b finds that they are for cert-c too, and offers them by their UUIDs"))?;
        let seen = |fleet: &Fleet, from: usize, verdict: Verdict| verdicts(&fleet.peer(C, from), &verdict);
        let answered =
            |fleet: &Fleet, from| seen(fleet, from, Verdict::Accepted) + seen(fleet, from, Verdict::Duplicate);
        self.fleet.until(|fleet| answered(fleet, A) == FEW && answered(fleet, B) == FEW).await;
        say(format_args!("5  cert-c receives them from cert-a and from cert-b"))?;
        let dropped = |from| seen(self.fleet, from, Verdict::Duplicate);
        if self.ids_at(C).await? != ids || dropped(A) + dropped(B) != FEW {
            return Err(CliError::Node("cert-c has not each event once under the UUID that cert-a gave it".into()));
        }
        say(format_args!("6  cert-c sees the same UUIDs, and drops {} copies from cert-b", dropped(B)))?;
        if dropped(A) > 0 {
            // On a machine that is very busy, cert-b's offer may come before what cert-a sends.
            say(format_args!("   and {} from cert-a, which was the slower one this time", dropped(A)))?;
        }
        Ok(())
    }

    async fn ids_at(&self, node: usize) -> Result<Vec<(Uuid, String)>, CliError> {
        let entries = self.fleet.running(node).store().read(0, crate::store::ReadLimit { entries: 16, bytes: 1 << 20 });
        let entries = entries.await.map_err(|error| CliError::Node(error.to_string()))?;
        let mut ids: Vec<_> = entries
            .iter()
            .map(|entry| (entry.envelope.header().id, CyCat(entry.envelope.header()).to_string()))
            .collect();
        ids.sort();
        Ok(ids)
    }

    async fn many(&mut self, bar: &ProgressBar) -> Result<(), CliError> {
        let (count, events, begun) = (self.count, self.events, self.begun);
        let a_third = FEW + (count - FEW) / 3;
        let say = |text: String| bar.suspend(|| say(format_args!("  {:5.2} s  {text}", begun.elapsed().as_secs_f64())));
        // Every move of a node is a look at how far all are.
        let show = |fleet: &Fleet| bar.set_position((fleet.head(B) + fleet.head(C)).saturating_sub(2 * FEW));

        self.fleet.put("second", events, FEW..a_third)?;
        self.fleet.until(|fleet| (show(fleet), fleet.head(B) > FEW).1).await;
        self.fleet.stop_one(B).await;
        say(format!("cert-b has stopped, with {} of {count} events in its log", self.fleet.head(B)))?;
        self.fleet.put("third", events, a_third..count)?;
        let two_thirds = count - (count - FEW) / 3;
        self.fleet.until(|fleet| (show(fleet), fleet.head(C) >= two_thirds).1).await;
        say(format!("cert-c has {} of them meanwhile", self.fleet.head(C)))?;
        self.fleet.start_one(B).await?;
        self.fleet.introduce(|_, _| Share::Community).await?;
        say("cert-b is back, with its store as it was, and catches up".to_owned())?;
        let delivered = |fleet: &Fleet, node| fleet.head(node) >= count && fleet.is_delivered(node);
        self.fleet.until(|fleet| (show(fleet), delivered(fleet, B) && delivered(fleet, C)).1).await;
        say("cert-b and cert-c have handed all events to their IntelMQ (a file here)".to_owned())?;
        Ok(())
    }
}

/// One line on standard output.
fn say(line: std::fmt::Arguments<'_>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    // Each step when it happens, also into a pipe.
    if out.is_terminal() { Ok(()) } else { out.flush() }
}

/// Ends when somebody wants us to.
fn interrupted() -> Result<impl Future<Output = ()>, CliError> {
    let listen = |kind| signal(kind).map_err(|error| CliError::Node(format!("cannot listen for signals: {error}")));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// The folder of all nodes. It goes when this is dropped.
struct Folder {
    path: PathBuf,
    keep: bool,
}

impl Folder {
    fn new(keep: bool) -> Result<Folder, CliError> {
        let path = std::env::temp_dir().join(format!("intelmq-relay-demo-{}", Uuid::new_v4().simple()));
        std::fs::create_dir(&path).map_err(|source| CliError::Make { path: path.clone(), source })?;
        Ok(Folder { path, keep })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            eprintln!("cannot remove {}: {error}", self.path.display());
        }
    }
}
