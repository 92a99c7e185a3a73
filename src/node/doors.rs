//! One task per door.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::desk::{Hand, Hands};
use super::status::Board;
use super::{Core, Running, lock};
use crate::config::{self, Config};
use crate::envelope::{Name, Shape};
use crate::intelmq::{
    AmqpSink, AmqpSource, Deliver, FilesSink, FilesSource, Fit, HeldBack, Ingest, Intake, Outlet, RedisSink,
    RedisSource, Sink, Source, Step, TakenCounts, TcpSink, TcpSource,
};
use crate::net::now;
use crate::policy::{PseudonymKey, Sealing};
use crate::store::{Cursor, StoreError};

/// A source's configuration, of whatever kind.
#[derive(Debug, Clone, PartialEq)]
enum Take {
    Redis(config::TakeRedis),
    Files(config::TakeFiles),
    /// With the longest text that is taken.
    Tcp(config::TakeTcp, usize),
    Amqp(config::TakeAmqp),
}

#[derive(Debug, Clone, PartialEq)]
enum Give {
    Redis(config::GiveRedis),
    Files(config::GiveFiles),
    Tcp(config::GiveTcp),
    Amqp(config::GiveAmqp),
}

/// The doors that are open.
pub(super) struct Doors {
    hands: Hands,
    sources: BTreeMap<Name, Running<Take>>,
    sinks: BTreeMap<Name, Running<Give>>,
}

impl Doors {
    pub(super) fn new(hands: Hands) -> Doors {
        Doors { hands, sources: BTreeMap::new(), sinks: BTreeMap::new() }
    }

    /// Opens, closes and re-opens doors until they are as configured.
    pub(super) async fn apply(&mut self, core: &Arc<Core>, board: &Board, config: &Config) -> Result<(), StoreError> {
        let redis = config.take.redis.iter().map(|door| (door.name.clone(), Take::Redis(door.clone())));
        let files = config.take.files.iter().map(|door| (door.name.clone(), Take::Files(door.clone())));
        let most = config.limits.envelope_bytes;
        let tcp = config.take.tcp.iter().map(|door| (door.name.clone(), Take::Tcp(door.clone(), most)));
        let amqp = config.take.amqp.iter().map(|door| (door.name.clone(), Take::Amqp(door.clone())));
        let takes: BTreeMap<Name, Take> = redis.chain(files).chain(tcp).chain(amqp).collect();
        let redis = config.give.redis.iter().map(|door| (door.name.clone(), Give::Redis(door.clone())));
        let files = config.give.files.iter().map(|door| (door.name.clone(), Give::Files(door.clone())));
        let tcp = config.give.tcp.iter().map(|door| (door.name.clone(), Give::Tcp(door.clone())));
        let amqp = config.give.amqp.iter().map(|door| (door.name.clone(), Give::Amqp(door.clone())));
        let gives: BTreeMap<Name, Give> = redis.chain(files).chain(tcp).chain(amqp).collect();
        for gone in close_others(&mut self.sources, &takes).await {
            board.forget_source(&gone);
            self.hands.remove(&gone);
        }
        for gone in close_others(&mut self.sinks, &gives).await {
            board.forget_sink(&gone);
            self.hands.remove(&gone);
        }
        // A source that was closed may have handed in what it took: opened again before that is stored, it would take
        // it again.
        core.gate.settled().await?;
        for (name, take) in takes {
            if let Entry::Vacant(place) = self.sources.entry(name) {
                let name = place.key().clone();
                let position = core.gate.store().cursor(&Cursor::Source(name.clone())).await?;
                place.insert(open_source(core, board, &self.hands, name, take, position));
            }
        }
        for (name, give) in gives {
            self.sinks.entry(name.clone()).or_insert_with(|| open_sink(core, board, &self.hands, name, give));
        }
        Ok(())
    }

    pub(super) async fn stop_sources(&mut self) {
        // All at once: each may finish what it has taken.
        futures::future::join_all(std::mem::take(&mut self.sources).into_values().map(Running::stop)).await;
    }

    pub(super) async fn stop_sinks(&mut self) {
        for (_, running) in std::mem::take(&mut self.sinks) {
            running.stop().await;
        }
    }
}

/// Closes the doors that are not configured so any more; says which.
async fn close_others<C: PartialEq>(running: &mut BTreeMap<Name, Running<C>>, wanted: &BTreeMap<Name, C>) -> Vec<Name> {
    let gone: Vec<Name> =
        running.iter().filter(|(name, door)| wanted.get(*name) != Some(&door.config)).map(|(n, _)| n.clone()).collect();
    for name in &gone {
        if let Some(door) = running.remove(name) {
            door.stop().await;
            tracing::info!(door = %name, "closed");
        }
    }
    gone
}

fn open_source(
    core: &Arc<Core>,
    board: &Board,
    hands: &Hands,
    door: Name,
    take: Take,
    position: Option<Vec<u8>>,
) -> Running<Take> {
    let seal = match &take {
        Take::Redis(config) => &config.seal,
        Take::Files(config) => &config.seal,
        Take::Tcp(config, _) => &config.seal,
        Take::Amqp(config) => &config.seal,
    };
    let (sealer, gate) = (core.sealer.clone(), core.gate.clone());
    let sealing = Sealing::new(&door, seal, PseudonymKey::derive(sealer.secret.expose_seed()));
    let intake = Arc::new(Intake { door: door.clone(), sealing, sealer, gate, now, held_back: HeldBack::default() });
    hands.put(door.clone(), Hand::Source(intake.clone()));
    let counts = board.source(&door);
    match &take {
        Take::Redis(config) => ingest(core, counts, RedisSource::new(config, position), intake, take.clone()),
        Take::Files(config) => ingest(core, counts, FilesSource::new(config, position), intake, take.clone()),
        Take::Tcp(config, most) => ingest(core, counts, TcpSource::new(config, *most), intake, take.clone()),
        Take::Amqp(config) => ingest(core, counts, AmqpSource::new(config, position), intake, take.clone()),
    }
}

fn ingest<S: Source + 'static>(
    core: &Core,
    counts: Arc<Mutex<TakenCounts>>,
    source: S,
    intake: Arc<Intake>,
    config: Take,
) -> Running<Take> {
    let progress = core.progress.clone();
    let count = Box::new(move |step: TakenCounts| {
        let mut counts = lock(&counts);
        counts.sealed += step.sealed;
        counts.duplicates += step.duplicates;
        counts.quarantined += step.quarantined;
        progress.send_replace(());
    });
    run(core, config, |stop| Ingest { source, intake, count }.run(stop))
}

/// Events of the quarantine that wait for a sink to try them again, at most.
const AGAIN: usize = 4;

fn open_sink(core: &Arc<Core>, board: &Board, hands: &Hands, door: Name, give: Give) -> Running<Give> {
    let fit = match &give {
        Give::Redis(config) => Fit::new(&config.events, Shape::Extra),
        Give::Files(config) => Fit::new(&config.events, Shape::Iep04),
        Give::Tcp(config) => Fit::new(&config.events, Shape::Extra),
        Give::Amqp(config) => Fit::new(&config.events, Shape::Extra),
    };
    let (again, asked) = mpsc::channel(AGAIN);
    hands.put(door.clone(), Hand::Sink(again));
    let (counts, progress) = (board.sink(&door), core.progress.clone());
    let count = Box::new(move |step: Step| {
        let mut counts = lock(&counts);
        counts.given += step.given;
        counts.unfit += step.unfit;
        counts.quarantined += step.quarantined;
        counts.seq = step.seq;
        progress.send_replace(());
    });
    let (recipient, gate) = (core.recipient.clone(), core.gate.clone());
    let outlet = Outlet { door, fit, recipient, gate, again: asked, now, count };
    match &give {
        Give::Redis(config) => deliver(core, RedisSink::new(config, &core.sealer.name), outlet, give.clone()),
        Give::Files(config) => deliver(core, FilesSink::new(config), outlet, give.clone()),
        Give::Tcp(config) => deliver(core, TcpSink::new(config), outlet, give.clone()),
        Give::Amqp(config) => deliver(core, AmqpSink::new(config), outlet, give.clone()),
    }
}

fn deliver<K: Sink + 'static>(core: &Core, sink: K, outlet: Outlet, config: Give) -> Running<Give> {
    run(core, config, |stop| async move { stop.run_until_cancelled(Deliver { sink, outlet }.run()).await })
}

/// Runs a door's work until it is stopped, or until the store cannot go on.
fn run<C, W>(core: &Core, config: C, work: impl FnOnce(CancellationToken) -> W) -> Running<C>
where
    W: Future<Output = Option<StoreError>> + Send + 'static,
{
    let cancel = CancellationToken::new();
    let (work, failed) = (work(cancel.clone()), core.failed.clone());
    let work = async move {
        if let Some(error) = work.await {
            // Full when another was faster: one reason is enough.
            let _ = failed.try_send(error);
        }
    };
    let task = tokio::spawn(work.in_current_span());
    Running { config, cancel, task }
}
