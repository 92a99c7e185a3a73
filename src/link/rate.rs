//! What a peer may bring: buckets of tokens that outlive its links.
//!
//! Owns the arithmetic, exact in whole numbers, so that a limit holds over any stretch of time. It must never be made
//! anew with a link: a peer that reconnects would have its burst again. What happens to an event that has no tokens is
//! `pull`'s.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::config::Rate;

const SECOND: u64 = 1_000;
const DAY: u64 = 24 * 3600 * SECOND;

/// The smallest envelope is about so large: as many events may come uncalled for as bytes of this size.
const SMALLEST: u64 = 256;

/// The limits of one peer and what it has used of them. Without limits it lets everything pass.
#[derive(Debug, Default)]
pub struct Allowance(Mutex<Buckets>);

/// By second and by day: events, then bytes.
#[derive(Debug, Default)]
struct Buckets {
    events: [Option<Bucket>; 2],
    bytes: [Option<Bucket>; 2],
}

impl Allowance {
    /// The limits are these from now on. What was used stays used, as far as a limit has had a predecessor.
    pub fn set(&self, rate: &Rate, now: u64) {
        let buckets = &mut *self.lock();
        let second = |limit: Option<u64>| limit.map(|limit| (limit, limit.saturating_mul(rate.burst_seconds)));
        let day = |limit: Option<u64>| limit.map(|limit| (limit, limit));
        change(&mut buckets.events[0], second(rate.events_per_second), SECOND, now);
        change(&mut buckets.events[1], day(rate.events_per_day), DAY, now);
        change(&mut buckets.bytes[0], second(rate.bytes_per_second), SECOND, now);
        change(&mut buckets.bytes[1], day(rate.bytes_per_day), DAY, now);
    }

    /// Whether there is any limit.
    pub fn is_limited(&self) -> bool {
        let Buckets { events, bytes } = &*self.lock();
        events.iter().chain(bytes).any(Option::is_some)
    }

    /// When one event of this size may come, if nothing else does: at most `now` when it may come now.
    pub(super) fn ready(&self, size: u64, now: u64) -> u64 {
        self.lock().costs(1, size).map(|(bucket, cost)| bucket.ready(cost, now)).max().unwrap_or(now)
    }

    /// Events came, or are asked for. What is not there is owed.
    pub(super) fn charge(&self, events: u64, size: u64, now: u64) {
        self.lock().costs(events, size).for_each(|(bucket, cost)| bucket.add(-i128::from(cost), now));
    }

    /// Events that were asked for did not come, or not of that size.
    pub(super) fn refund(&self, events: u64, size: u64, now: u64) {
        self.lock().costs(events, size).for_each(|(bucket, cost)| bucket.add(cost.into(), now));
    }

    /// Whether more came than was allowed.
    pub(super) fn is_owed(&self, now: u64) -> bool {
        self.lock().costs(0, 0).any(|(bucket, _)| bucket.level(now) < 0)
    }

    /// Whether far more came than was allowed: more than a peer that was told can have had under way.
    pub(super) fn is_overdrawn(&self, window: usize, now: u64) -> bool {
        let window = window as u64;
        self.lock().costs(window / SMALLEST, window).any(|(bucket, owed)| bucket.level(now) < -bucket.tokens(owed))
    }

    fn lock(&self) -> MutexGuard<'_, Buckets> {
        // Numbers that are changed one by one: a panic elsewhere leaves them whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buckets {
    /// Each bucket with what so many events of so many bytes cost in it.
    fn costs(&mut self, events: u64, bytes: u64) -> impl Iterator<Item = (&mut Bucket, u64)> {
        let of_events = self.events.iter_mut().flatten().map(move |bucket| (bucket, events));
        of_events.chain(self.bytes.iter_mut().flatten().map(move |bucket| (bucket, bytes)))
    }
}

/// Tokens that come at an even pace, up to a number. Levels are in parts of a token, as many as a period has
/// milliseconds: then nothing is ever rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bucket {
    /// Tokens that come in a period,
    rate: u64,
    /// of so many milliseconds;
    period: u64,
    /// tokens that there are, at most.
    size: u64,
    level: i128,
    /// As of when.
    at: u64,
}

impl Bucket {
    fn full(rate: u64, size: u64, period: u64, now: u64) -> Bucket {
        Bucket { rate, period, size, level: i128::from(size) * i128::from(period), at: now }
    }

    fn tokens(&self, tokens: u64) -> i128 {
        i128::from(tokens) * i128::from(self.period)
    }

    fn level(&self, now: u64) -> i128 {
        let came = i128::from(self.rate).saturating_mul(now.saturating_sub(self.at).into());
        self.level.saturating_add(came).min(self.tokens(self.size))
    }

    fn add(&mut self, tokens: i128, now: u64) {
        let level = self.level(now) + tokens * i128::from(self.period);
        self.level = level.min(self.tokens(self.size));
        self.at = self.at.max(now);
    }

    /// When so many tokens are there. What costs more than there can ever be waits until the bucket is full, and is then
    /// owed.
    fn ready(&self, tokens: u64, now: u64) -> u64 {
        let missing = self.tokens(tokens.min(self.size)) - self.level(now);
        if missing <= 0 {
            return now;
        }
        let rate = i128::from(self.rate.max(1));
        now.saturating_add(u64::try_from((missing + rate - 1) / rate).unwrap_or(u64::MAX))
    }
}

/// What was used stays used: a limit that is raised gives what it is raised by, at once. One that is lowered makes no
/// debt.
fn change(bucket: &mut Option<Bucket>, limit: Option<(u64, u64)>, period: u64, now: u64) {
    *bucket = limit.map(|(rate, size)| {
        let mut new = Bucket::full(rate, size, period, now);
        if let Some(old) = *bucket {
            let level = old.level(now);
            let used = old.tokens(old.size) - level;
            new.level = (new.level - used).max(level.min(0));
        }
        new
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn per_second(events: u64, burst: u64) -> Rate {
        Rate { events_per_second: Some(events), burst_seconds: burst, ..Rate::default() }
    }

    fn allowance(rate: &Rate) -> Allowance {
        let allowance = Allowance::default();
        allowance.set(rate, 0);
        allowance
    }

    /// How many events of this size come at once.
    fn at_once(allowance: &Allowance, size: u64, now: u64) -> u64 {
        let mut events = 0;
        while allowance.ready(size, now) <= now && events < 1_000_000 {
            allowance.charge(1, size, now);
            events += 1;
        }
        events
    }

    #[test]
    fn a_burst_and_then_the_pace() {
        let limited = allowance(&per_second(10, 3));
        assert_eq!(at_once(&limited, 99, 0), 30);
        assert_eq!(limited.ready(99, 0), 100);
        assert_eq!(at_once(&limited, 99, 99), 0);
        assert_eq!(at_once(&limited, 99, 1_000), 10);
        assert_eq!(at_once(&limited, 99, 1_000_000), 30, "what is not used is kept up to the burst");
        assert!(!allowance(&Rate::default()).is_limited());
    }

    #[test]
    fn what_came_uncalled_for_is_owed_and_paid_off() {
        let limited = allowance(&per_second(10, 1));
        limited.charge(60, 0, 0);
        assert!(limited.is_owed(0) && limited.is_owed(4_999) && !limited.is_owed(5_000));
        assert_eq!(limited.ready(0, 0), 5_100);
        assert!(!limited.is_overdrawn(50 * 256, 0) && limited.is_overdrawn(49 * 256, 0));
        limited.refund(1_000, 0, 0);
        assert_eq!(at_once(&limited, 0, 0), 10, "never more than the burst");
    }

    #[test]
    fn one_larger_than_the_burst_comes_and_is_paid_for() {
        let limited = allowance(&Rate { bytes_per_second: Some(100), burst_seconds: 2, ..Rate::default() });
        assert_eq!(at_once(&limited, 1_000, 0), 1);
        assert_eq!(limited.ready(1, 0), 8_010);
        assert_eq!(limited.ready(1_000, 0), 10_000);
    }

    #[test]
    fn a_changed_limit_remembers_what_was_used() {
        let limited = allowance(&Rate { events_per_day: Some(100), ..Rate::default() });
        assert_eq!(at_once(&limited, 0, 0), 100);
        limited.set(&Rate { events_per_day: Some(100), ..Rate::default() }, 0);
        assert_eq!(at_once(&limited, 0, 0), 0);
        limited.set(&Rate { events_per_day: Some(500), ..Rate::default() }, 0);
        assert_eq!(at_once(&limited, 0, 0), 400);
        limited.set(&Rate { events_per_day: Some(50), ..Rate::default() }, 0);
        assert!(!limited.is_owed(0));
        assert_eq!(at_once(&limited, 0, DAY / 50), 1);
        limited.set(&Rate::default(), 0);
        assert!(!limited.is_limited());
        assert_eq!(at_once(&limited, 0, 0), 1_000_000);
    }

    #[test]
    fn the_largest_limits_do_not_overflow() {
        let most = Some(u64::MAX);
        let limited =
            allowance(&Rate { events_per_day: most, bytes_per_day: most, burst_seconds: 1, ..Rate::default() });
        limited.charge(u64::MAX, u64::MAX, 0);
        limited.charge(u64::MAX, u64::MAX, u64::MAX);
        limited.refund(1, 1, u64::MAX);
        assert_eq!(limited.ready(u64::MAX, u64::MAX), u64::MAX);
    }

    proptest! {
        /// Over any stretch of time, at most `rate × time + burst`; and nobody who asks often enough gets less than the
        /// rate.
        #[test]
        fn never_more_than_the_pace_and_the_burst(
            rate in 1u64..50,
            burst in 1u64..5,
            steps in proptest::collection::vec((0u64..3_000, 1u64..400), 1..60),
        ) {
            let limit = Rate { bytes_per_second: Some(rate * 100), burst_seconds: burst, ..Rate::default() };
            let limited = allowance(&limit);
            let (mut now, mut came) = (0, Vec::new());
            for (pause, size) in steps {
                now += pause;
                let ready = limited.ready(size, now);
                if ready <= now {
                    limited.charge(1, size, now);
                    came.push((now, size));
                } else {
                    prop_assert!(limited.ready(size, ready - 1) > ready - 1, "no later than it must");
                }
            }
            for (first, &(from, _)) in came.iter().enumerate() {
                let mut bytes = 0;
                for &(until, size) in &came[first..] {
                    bytes += size;
                    let most = rate * 100 * (until - from) / 1_000 + (rate * 100 * burst).max(400);
                    prop_assert!(bytes <= most, "{bytes} of {most} from {from} to {until}");
                }
            }
        }
    }
}
