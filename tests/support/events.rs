//! Events as IntelMQ has them in its queues, each with a number, and what came of them at the far end.

use std::collections::HashMap;

/// Event `number`: Python's JSON, with values that a parser might not keep as they are.
pub fn event(number: usize) -> String {
    event_with(number, "")
}

/// The same with further members, as `"tlp": "GREEN", `.
pub fn event_with(number: usize, more: &str) -> String {
    let odd = match number % 8 {
        0 => "1.0",
        1 => "NaN",
        2 => "\"\\ud800\"",
        3 => "123456789012345678901234567890",
        4 => "-0",
        5 => "1e400",
        6 => "\"\\u00fc \u{fc} \\\"\\/ \\u0000\"",
        _ => "-Infinity",
    };
    format!(
        "{{{more}\"classification.type\": \"infected-system\", \"feed.name\": \"Drone {number}\", \
         \"time.source\": \"2026-11-24T10:00:00+00:00\", \"source.ip\": \"192.0.2.{}\", \"source.port\": {}, \
         \"extra.number\": {number}, \"extra.odd\": {odd}, \"raw\": \"{:064x}\", \"__type\": \"Event\"}}",
        number % 256,
        number % 65536,
        (number as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
    )
}

/// The events of these numbers.
pub fn events(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(event).collect()
}

/// Fails unless every one of `expected` is in `got` exactly once, byte for byte, and nothing else is.
#[track_caller]
pub fn assert_once_each(expected: &[String], got: &[String]) {
    let mut counts: HashMap<&str, i64> = HashMap::new();
    for item in expected {
        *counts.entry(item).or_default() += 1;
    }
    for item in got {
        *counts.entry(item).or_default() -= 1;
    }
    let missing: Vec<_> = counts.iter().filter(|(_, count)| **count > 0).collect();
    let extra: Vec<_> = counts.iter().filter(|(_, count)| **count < 0).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "of {} expected, with {} there, {} are missing, as {:?}, and {} are too many, as {:?}",
        expected.len(),
        got.len(),
        missing.len(),
        missing.first(),
        extra.len(),
        extra.first()
    );
}
