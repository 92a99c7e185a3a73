//! One task per peer: it keeps one link to it, for ever.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::RngExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, warn};

use super::{Core, Running, keys, settings};
use crate::accept::Bringer;
use crate::config::{self, Config, FirstContact};
use crate::envelope::Name;
use crate::link::{Allowance, From, Violation};
use crate::net::{LinkEnd, Partner, PeerLink, Test, Traffic};

/// The pause before a link that ended is opened again; random within, so that two nodes do not keep step.
const AGAIN: (u64, u64) = (50, 2_000);

/// A link that lasted less than this is followed by that pause on the accepting side too.
const SHORT: Duration = Duration::from_secs(1);

/// A peer's task, and what is counted about it.
pub(super) struct Peer {
    pub(super) partner: Arc<Partner>,
    pub(super) running: Running<config::Peer>,
}

/// Makes the running peers those of the list. The net knows the list already.
pub(super) async fn apply(core: &Arc<Core>, running: &mut BTreeMap<Name, Peer>, config: &Config) {
    let list = &config.peers;
    let gone: Vec<Name> = running
        .iter()
        .filter(|(_, peer)| !list.iter().any(|new| is_same(&peer.running.config, new)))
        .map(|(name, _)| name.clone())
        .collect();
    for name in gone {
        if let Some(peer) = running.remove(&name) {
            peer.running.stop().await;
            if list.iter().any(|new| new.name == name) {
                info!(peer = %name, "its key, its first contact or its test mode has changed: the link begins anew");
            } else {
                info!(peer = %name, "no longer a peer");
            }
        }
    }
    for new in list {
        match running.get_mut(&new.name) {
            Some(peer) => {
                // Also when its own lines did not change: what was decided by the old policy and is not sent is decided
                // again.
                // Before the terms, which wake the link.
                peer.partner.allowance.set(&new.rate, core.exchange.clock());
                peer.partner.terms.send_replace(settings::terms(new, config));
                if peer.running.config.rate != new.rate {
                    info!(peer = %new.name, "how much it may bring has changed");
                }
                if peer.running.config.give != new.give {
                    info!(peer = %new.name, give = %new.give, "what it is given has changed");
                }
                peer.running.config = new.clone();
            }
            None => {
                if let Some(peer) = start(core, new, config) {
                    running.insert(new.name.clone(), peer);
                }
            }
        }
    }
}

/// Whether the running link can go on. Where to begin matters to a link that begins, and test mode is said then.
fn is_same(old: &config::Peer, new: &config::Peer) -> bool {
    (&old.name, old.key, old.first_contact, old.test) == (&new.name, new.key, new.first_contact, new.test)
}

fn start(core: &Arc<Core>, peer: &config::Peer, config: &Config) -> Option<Peer> {
    let link = core.net.link(&peer.key)?;
    let allowance = Arc::<Allowance>::default();
    allowance.set(&peer.rate, core.exchange.clock());
    let partner = Arc::new(Partner {
        bringer: Bringer { name: peer.name.clone(), key: peer.key },
        id: core.links.fetch_add(1, Ordering::Relaxed),
        terms: watch::Sender::new(settings::terms(peer, config)),
        allowance,
        first_contact: first_contact(peer.first_contact),
        resend: watch::Sender::new(None),
        traffic: Mutex::new(Traffic { test: Test { ours: peer.test, theirs: false }, ..Traffic::default() }),
    });
    let cancel = CancellationToken::new();
    let (cancelled, work) = (cancel.clone(), keep(core.clone(), partner.clone(), link).in_current_span());
    let task = tokio::spawn(async move {
        // Cancelled or ended with the net: the same to whoever waits.
        let _ = cancelled.run_until_cancelled(work).await;
    });
    Some(Peer { partner, running: Running { config: peer.clone(), cancel, task } })
}

fn first_contact(first: FirstContact) -> From {
    match first {
        FirstContact::All => From::All,
        FirstContact::Now => From::Now,
        FirstContact::Since(time) => From::Time(u64::try_from(time.as_millisecond()).unwrap_or(0)),
    }
}

async fn keep(core: Arc<Core>, partner: Arc<Partner>, mut link: PeerLink) {
    let peer = partner.bringer.name.clone();
    let mut said = None;
    while let Some(stream) = link.next().await {
        if let Err(error) = keys::meet(&core, &peer, stream.identity()).await {
            let _ = core.failed.try_send(error);
            return;
        }
        let opens = stream.is_opened_here();
        let (before, begun) = (partner.traffic().links, Instant::now());
        let end = tokio::select! {
            end = core.exchange.run(stream, opens, &partner) => Some(end),
            () = link.superseded() => None,
        };
        core.progress.send_replace(());
        match end {
            None => info!(%peer, "a newer link takes this one's place"),
            Some(LinkEnd::Store(error)) => {
                // Full when another was faster: one reason is enough.
                let _ = core.failed.try_send(error);
                return;
            }
            Some(end) => {
                let text = end.to_string();
                if partner.traffic().links > before {
                    info!(%peer, reason = text, "link down");
                } else if said.as_ref() != Some(&text) {
                    warn!(%peer, reason = text, "no link");
                    said = Some(text);
                }
                if let LinkEnd::Violation(Violation::Unanswered(_)) = end {
                    // It answers pings and nothing else: a new connection may help, the old one holds memory.
                    link.close().await;
                }
                if partner.traffic().links > before {
                    said = None;
                }
            }
        }
        let pause = rand::rng().random_range(AGAIN.0..AGAIN.1);
        // A peer that opens and ends links without end would have two lines of our log for each.
        if opens || begun.elapsed() < SHORT {
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }
}
