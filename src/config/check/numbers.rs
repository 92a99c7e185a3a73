//! Numbers: each within its bounds, and in order with the others.

use std::fmt::Display;
use std::ops::RangeInclusive;

use super::super::{Config, Limits};
use super::Found;

pub(super) fn check(config: &Config, found: &mut Found) {
    bounds(config, found);
    door_bounds(config, found);
    // A number that is out of range is out of order too, mostly: one thing at a time.
    if found.0.is_empty() {
        orders(config, found);
    }
}

const DAYS: RangeInclusive<u32> = 1..=36_500;
const SECONDS: RangeInclusive<f64> = 0.01..=86_400.0;
/// No frame and no envelope is larger than this, whatever the file says: a peer could make us hold as much per link.
const LARGEST_FRAME: usize = 256 << 20;
/// The store takes no larger one, and a node that cannot store what it accepts cannot go on.
const LARGEST_ENVELOPE: usize = 15 << 20;

fn bounds(config: &Config, found: &mut Found) {
    let (net, store, limits) = (&config.net, &config.store, &config.limits);
    within(found, "net.max_pending", net.max_pending, 1..=65_536);
    within(found, "net.dial_min_seconds", net.dial_min_seconds, SECONDS);
    within(found, "net.dial_max_seconds", net.dial_max_seconds, SECONDS);
    within(found, "net.ping_seconds", net.ping_seconds, SECONDS);
    within(found, "net.window_bytes", net.window_bytes, 1 << 16..=1 << 30);
    within(found, "net.answer_seconds", net.answer_seconds, SECONDS);
    within(found, "store.log_days", store.log_days, DAYS);
    within(found, "store.age_days", store.age_days, DAYS);
    within(found, "store.seen_days", store.seen_days, DAYS);
    within(found, "store.log_bytes", store.log_bytes, 1 << 20..=1 << 50);
    within(found, "store.quarantine_bytes", store.quarantine_bytes, 1 << 20..=1 << 40);
    within(found, "store.commit_events", store.commit_events, 1..=65_536);
    within(found, "store.commit_millis", store.commit_millis, 0..=1_000);
    within(found, "store.cache_bytes", store.cache_bytes, 1 << 20..=1 << 40);
    within(found, "limits.envelope_bytes", limits.envelope_bytes, 1 << 10..=LARGEST_ENVELOPE);
    within(found, "limits.fields", limits.fields, 1..=65_535);
    within(found, "limits.frame_bytes", limits.frame_bytes, 1 << 10..=LARGEST_FRAME);
    within(found, "limits.path", limits.path, 1..=1_024);
    within(found, "limits.future_seconds", limits.future_seconds, 0..=86_400);
    within(found, "policy.hops", config.policy.hops, 0..=1_024);
}

fn door_bounds(config: &Config, found: &mut Found) {
    let take = config.take.redis.iter().enumerate().map(|(i, door)| (format!("take.redis.{i}"), &door.server));
    let give = config.give.redis.iter().enumerate().map(|(i, door)| (format!("give.redis.{i}"), &door.server));
    for (place, server) in take.chain(give) {
        within(found, &format!("{place}.server.port"), server.port, 1..=65_535);
        within(found, &format!("{place}.server.db"), server.db, 0..=i64::from(u16::MAX));
    }
    for (i, door) in config.give.redis.iter().enumerate() {
        within(found, &format!("give.redis.{i}.high_water"), door.high_water, 1..=u64::from(u32::MAX));
    }
    for (i, door) in config.take.tcp.iter().enumerate() {
        within(found, &format!("take.tcp.{i}.max_connections"), door.max_connections, 1..=4_096);
    }
    for (i, door) in config.give.tcp.iter().enumerate() {
        within(found, &format!("give.tcp.{i}.answer_seconds"), door.answer_seconds, SECONDS);
    }
    for (i, door) in config.give.amqp.iter().enumerate() {
        within(found, &format!("give.amqp.{i}.high_water"), door.high_water, 1..=u64::from(u32::MAX));
    }
    for (i, door) in config.give.files.iter().enumerate() {
        within(found, &format!("give.files.{i}.rotate_bytes"), door.rotate_bytes, 1..=1 << 50);
        within(found, &format!("give.files.{i}.rotate_seconds"), door.rotate_seconds, 1..=366 * 86_400);
    }
}

fn orders(config: &Config, found: &mut Found) {
    let (net, store, limits) = (&config.net, &config.store, &config.limits);
    if store.log_days > store.age_days {
        found.add(
            "store.log_days store.age_days",
            format!(
                "the log keeps {} days, but peers refuse what is older than age_days = {}",
                store.log_days, store.age_days
            ),
            "make log_days smaller, or age_days (and seen_days) larger: log_days <= age_days <= seen_days",
        );
    }
    if store.age_days > store.seen_days {
        found.add(
            "store.age_days store.seen_days",
            format!(
                "events of {} days are accepted, but their ids are forgotten after seen_days = {}: they could loop",
                store.age_days, store.seen_days
            ),
            "make age_days smaller, or seen_days larger: log_days <= age_days <= seen_days",
        );
    }
    if limits.frame_bytes < limits.envelope_bytes.saturating_add(Limits::FRAME_OVERHEAD) {
        found.add(
            "limits.frame_bytes limits.envelope_bytes",
            format!("a frame of {} bytes cannot carry an envelope of {}", limits.frame_bytes, limits.envelope_bytes),
            "make frame_bytes larger than envelope_bytes by 64 KiB at least; 4 times is usual",
        );
    }
    if net.window_bytes < limits.frame_bytes {
        found.add(
            "net.window_bytes limits.frame_bytes",
            format!("a window of {} bytes is smaller than one frame of {}", net.window_bytes, limits.frame_bytes),
            "make window_bytes at least limits.frame_bytes; twice that is usual",
        );
    }
    if net.dial_min_seconds > net.dial_max_seconds {
        found.add(
            "net.dial_min_seconds net.dial_max_seconds",
            format!("the first wait ({}) is longer than the longest ({})", net.dial_min_seconds, net.dial_max_seconds),
            "make dial_min_seconds at most dial_max_seconds",
        );
    }
    // We add our own name to the nodes that it has passed.
    if config.policy.hops >= limits.path {
        found.add(
            "policy.hops limits.path",
            format!("{} hops make a path longer than limits.path = {}", config.policy.hops, limits.path),
            "make hops less than limits.path",
        );
    }
}

/// Also refuses what is no number (`nan`), as it is within no range.
pub(super) fn within<N: PartialOrd + Display>(found: &mut Found, place: &str, value: N, range: RangeInclusive<N>) {
    if !range.contains(&value) {
        let key = place.rsplit('.').next().unwrap_or(place);
        let (least, most) = range.into_inner();
        found.add(place, format!("{key} = {value} is out of range"), format!("choose from {least} to {most}"));
    }
}
