//! When to try again, and when to say so again. Pure: time and chance are arguments.

use std::time::Duration;

use tokio::time::Instant;

/// Growing waits between tries, with jitter so that many nodes do not return at once.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    least: Duration,
    most: Duration,
    ceiling: Duration,
}

impl Backoff {
    /// Waits of about `least` at first, never above `most`.
    pub(super) fn new(least: Duration, most: Duration) -> Backoff {
        Backoff { least, most: most.max(least), ceiling: least }
    }

    /// The next wait; `chance` is in 0..1. Anything from half of the least wait up to a ceiling that doubles.
    pub(super) fn next(&mut self, chance: f64) -> Duration {
        let floor = self.least / 2;
        let wait = floor + (self.ceiling - floor).mul_f64(chance.clamp(0.0, 1.0));
        self.ceiling = (self.ceiling * 2).min(self.most);
        wait
    }

    /// Begin anew: the last try was a success.
    pub(super) fn reset(&mut self) {
        self.ceiling = self.least;
    }
}

/// Lets a complaint through at once, then ever more rarely while it goes on.
#[derive(Debug, Clone, Default)]
pub(super) struct Quiet {
    until: Option<Instant>,
    silence: Duration,
}

impl Quiet {
    const FIRST: Duration = Duration::from_secs(60);
    const LONGEST: Duration = Duration::from_secs(3600);

    /// Whether to speak now.
    pub(super) fn speaks(&mut self, now: Instant) -> bool {
        if self.until.is_some_and(|until| now < until) {
            return false;
        }
        self.silence = (self.silence * 2).clamp(Quiet::FIRST, Quiet::LONGEST);
        self.until = Some(now + self.silence);
        true
    }

    /// All is well again: the next complaint is news.
    pub(super) fn reset(&mut self) {
        *self = Quiet::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew() {
        let seconds = Duration::from_secs;
        let mut backoff = Backoff::new(seconds(1), seconds(5));
        let waits: Vec<Duration> = (0..5).map(|_| backoff.next(1.0)).collect();
        assert_eq!(waits, [1, 2, 4, 5, 5].map(seconds));
        assert_eq!(backoff.next(0.0), seconds(1) / 2);
        backoff.reset();
        assert_eq!(backoff.next(1.0), seconds(1));
    }

    #[test]
    fn complaints_become_rare_and_are_news_again_after_a_success() {
        let start = Instant::now();
        let mut quiet = Quiet::default();
        let spoken: Vec<u64> =
            (0..600).filter(|minute| quiet.speaks(start + Duration::from_secs(minute * 60))).collect();
        assert_eq!(spoken[..8], [0, 1, 3, 7, 15, 31, 63, 123]);
        quiet.reset();
        assert!(quiet.speaks(start));
    }
}
