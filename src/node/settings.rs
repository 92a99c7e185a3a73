//! From the configuration to what each room asks for.

use std::sync::Arc;

use crate::accept::Rules;
use crate::config::{Config, Peer};
use crate::envelope::{Bounds, Key};
use crate::link::Settings;
use crate::policy::{Policy, Terms};
use crate::trust::Origins;

const DAY: u64 = 24 * 3600 * 1000;

/// What the gate judges by.
pub(super) fn rules(config: &Config, key: &Key) -> Rules {
    let peers = config.peers.iter().map(|peer| (peer.name.clone(), peer.key));
    let origins = config.origins.iter().map(|origin| (origin.name.clone(), origin.key));
    let of_peers = config.peers.iter().filter_map(|peer| Some((peer.name.clone(), peer.encryption?)));
    let of_origins = config.origins.iter().filter_map(|origin| Some((origin.name.clone(), origin.encryption?)));
    let origins = Origins::new(peers.chain(origins), config.roster.as_ref().map(Into::into));
    Rules {
        me: config.node.name.clone(),
        key: *key,
        origins: origins.encrypting(of_peers.chain(of_origins)).into(),
        policy: Policy::new(config),
        terms: config.peers.iter().map(|peer| (peer.name.clone(), terms(peer, config))).collect(),
        bounds: Bounds { bytes: config.limits.envelope_bytes, fields: config.limits.fields, path: config.limits.path },
        age: u64::from(config.store.age_days) * DAY,
        future: config.limits.future_seconds * 1000,
    }
}

/// What holds for one peer.
pub(super) fn terms(peer: &Peer, config: &Config) -> Arc<Terms> {
    Arc::new(Terms::new(peer, &config.rules))
}

/// How links behave.
pub(super) fn links(config: &Config) -> Settings {
    Settings {
        window: config.net.window_bytes,
        frame: config.limits.frame_bytes,
        envelope: config.limits.envelope_bytes,
        answer: (config.net.answer_seconds * 1000.0) as u64,
        ..Settings::default()
    }
}

/// The sections that differ and cannot be changed in a running node.
pub(super) fn needs_restart(old: &Config, new: &Config) -> Option<String> {
    let sections = [
        ("[node]", old.node != new.node),
        ("[net]", old.net != new.net),
        ("[store]", old.store != new.store),
        ("limits.frame_bytes or limits.envelope_bytes", {
            (old.limits.frame_bytes, old.limits.envelope_bytes) != (new.limits.frame_bytes, new.limits.envelope_bytes)
        }),
    ];
    let changed: Vec<&str> = sections.iter().filter(|(_, differs)| *differs).map(|(section, _)| *section).collect();
    (!changed.is_empty()).then(|| changed.join(" and "))
}
