//! Limits of a peer: each within its bounds, and none without effect.

use super::super::{Config, Rate};
use super::Found;
use super::numbers::within;

const DAY: u64 = 86_400;

pub(super) fn check(config: &Config, found: &mut Found) {
    for (i, peer) in config.peers.iter().enumerate() {
        one(&peer.rate, &format!("peer.{i}.rate"), found);
    }
}

fn one(rate: &Rate, place: &str, found: &mut Found) {
    let before = found.0.len();
    within(found, &format!("{place}.burst_seconds"), rate.burst_seconds, 1..=DAY);
    let limits = [
        ("events_per_second", rate.events_per_second, 1_000_000_000),
        ("events_per_day", rate.events_per_day, 1_000_000_000_000),
        ("bytes_per_second", rate.bytes_per_second, 1 << 40),
        ("bytes_per_day", rate.bytes_per_day, 1 << 60),
    ];
    for (key, limit, most) in limits {
        let Some(limit) = limit else { continue };
        if limit == 0 {
            found.add(
                format!("{place}.{key}"),
                format!("with {key} = 0 nothing would ever come, and everything would wait for ever"),
                "write take = \"none\" to take nothing, or leave the key out for no limit",
            );
        } else {
            within(found, &format!("{place}.{key}"), limit, 1..=most);
        }
    }
    // A number that is out of range contradicts others too, mostly: one thing at a time.
    if found.0.len() > before {
        return;
    }
    day_without_effect(place, "events", rate.events_per_second, rate.events_per_day, found);
    day_without_effect(place, "bytes", rate.bytes_per_second, rate.bytes_per_day, found);
    if rate.burst_seconds != Rate::default().burst_seconds
        && rate.events_per_second.is_none()
        && rate.bytes_per_second.is_none()
    {
        found.add(
            format!("{place}.burst_seconds"),
            "burst_seconds without a limit per second limits nothing",
            "add events_per_second or bytes_per_second, or remove it",
        );
    }
}

fn day_without_effect(place: &str, what: &str, second: Option<u64>, day: Option<u64>, found: &mut Found) {
    if let (Some(second), Some(day)) = (second, day)
        && day >= second.saturating_mul(DAY)
    {
        found.add(
            format!("{place}.{what}_per_day"),
            format!("{what}_per_day = {day} is never reached with {what}_per_second = {second}"),
            format!("make it less than {}, or remove one of the two", second.saturating_mul(DAY)),
        );
    }
}
