//! A CERT: a relay and the Redis of its IntelMQ, into which events go and out of which they come, each with a number.
//!
//! What is put in and what is taken out is counted in Redis in the same step. So also where a Redis is killed between the
//! two, this side knows what it has done, and every event that comes twice was given twice.

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use redis::RedisResult;

use super::events::event_with;
use super::redis_server::Redis;
use super::relay::Relay;

const OUT: &str = "relay-queue";
/// Where the relay has what it has taken and not yet sealed.
const OUT_INTERNAL: &str = "relay-queue-internal";
const IN: &str = "bot-queue";
const PUSHED: &str = "pushed";
const TAKEN: &str = "taken";
/// Numbers of each site.
pub const EACH: usize = 10_000_000;
const AT_ONCE: isize = 500;

/// Whether its process runs.
#[derive(Debug, Clone, Copy)]
pub enum Life {
    /// It has been started.
    Starting(Instant),
    /// It has said that it runs.
    Running,
    /// It is to be started again.
    Down,
}

/// A relay and its Redis.
pub struct Site {
    pub relay: Relay,
    pub redis: Redis,
    pub life: Life,
    number: usize,
    connection: Option<redis::Connection>,
    /// Events put in.
    pushed: usize,
    /// Whether a step may have been done or not.
    unsure: bool,
    taken: usize,
    /// What is being taken out.
    taking: Vec<String>,
    /// How often each came out.
    got: HashMap<usize, u32>,
}

impl Site {
    /// With a Redis that forgets nothing.
    pub fn new(number: usize) -> Site {
        let redis = Redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
        let relay = Relay::init(&format!("cert-{number}"));
        let (connection, taking, got) = (None, Vec::new(), HashMap::new());
        Site { relay, redis, life: Life::Down, number, connection, pushed: 0, unsure: false, taken: 0, taking, got }
    }

    /// The doors of its relay.
    pub fn open_doors(&self) {
        self.relay.takes(&self.redis.config(), OUT, "tlp = \"GREEN\"");
        self.relay.gives(&self.redis.config(), IN, "");
    }

    /// The numbers that were put in here.
    pub fn numbers(&self) -> Range<usize> {
        let first = self.number * EACH;
        first..first + self.pushed
    }

    /// How often this number came out here.
    pub fn got(&self, number: usize) -> u32 {
        self.got.get(&number).copied().unwrap_or(0)
    }

    /// How many came out here.
    pub fn got_all(&self) -> usize {
        self.taken
    }

    /// At least so many entries are in its log.
    pub fn entries(&self) -> usize {
        self.pushed + self.taken
    }

    /// Puts in so many; none where Redis does not answer.
    pub fn push(&mut self, count: usize) {
        // An error is a Redis that was killed: it is asked again when it is there.
        let _ = self.step(|site, connection| {
            let (from, to) = (site.numbers().end, site.pushed + count);
            let mut step = redis::pipe();
            step.atomic()
                .cmd("LPUSH")
                .arg(OUT)
                .arg((from..from + count).map(sized).collect::<Vec<_>>())
                .cmd("SET")
                .arg(PUSHED)
                .arg(to);
            step.exec(connection)?;
            site.pushed = to;
            Ok(())
        });
    }

    /// Takes out what is there; false where Redis does not answer.
    pub fn collect(&mut self) -> bool {
        let mut more = true;
        while more {
            let done = self.step(|site, connection| {
                site.taking = redis::cmd("LRANGE").arg(IN).arg(-AT_ONCE).arg(-1).query(connection)?;
                let count = site.taking.len();
                if count > 0 {
                    let left = -1 - count as isize;
                    let mut step = redis::pipe();
                    step.atomic().cmd("LTRIM").arg(IN).arg(0).arg(left);
                    step.cmd("SET").arg(TAKEN).arg(site.taken + count).exec(connection)?;
                    site.take();
                }
                more = count as isize == AT_ONCE;
                Ok(())
            });
            if done.is_err() {
                return false;
            }
        }
        true
    }

    /// Whether nothing waits in its queues.
    pub fn is_empty(&mut self) -> bool {
        let waiting = self.step(|_, connection| {
            let mut lengths = redis::pipe();
            lengths.cmd("LLEN").arg(OUT).cmd("LLEN").arg(OUT_INTERNAL).cmd("LLEN").arg(IN);
            lengths.query::<[usize; 3]>(connection)
        });
        waiting.is_ok_and(|waiting| waiting == [0; 3])
    }

    /// What was being taken out is out.
    fn take(&mut self) {
        let items = std::mem::take(&mut self.taking);
        self.taken += items.len();
        items.iter().for_each(|item| self.record(item));
    }

    fn record(&mut self, item: &str) {
        let number = number_of(item).unwrap_or_else(|| panic!("{}: no event of ours: {item}", self.relay.name));
        assert_eq!(item, sized(number), "{}: not as it went in", self.relay.name);
        let count = self.got.entry(number).or_default();
        *count += 1;
        let own = number / EACH == self.number;
        let what = if own { "its own came back" } else { "came twice" };
        assert!(*count == 1 && !own, "{}: {number}: {what}", self.relay.name);
    }

    /// Does something with Redis. Where the last one had no answer, first looks whether it was done.
    fn step<T>(&mut self, act: impl FnOnce(&mut Site, &mut redis::Connection) -> RedisResult<T>) -> RedisResult<T> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        if std::mem::replace(&mut self.unsure, true) {
            let pushed: Option<usize> = redis::cmd("GET").arg(PUSHED).query(&mut connection)?;
            let taken: Option<usize> = redis::cmd("GET").arg(TAKEN).query(&mut connection)?;
            self.pushed = pushed.unwrap_or(0);
            if taken.unwrap_or(0) > self.taken {
                self.take();
            }
            assert_eq!(taken.unwrap_or(0), self.taken, "this test takes out in steps");
        }
        let done = act(self, &mut connection)?;
        (self.unsure, self.connection) = (false, Some(connection));
        Ok(done)
    }

    fn connect(&self) -> RedisResult<redis::Connection> {
        let connection = self.redis.try_connect()?;
        let patience = Some(Duration::from_secs(5));
        connection.set_read_timeout(patience)?;
        connection.set_write_timeout(patience)?;
        Ok(connection)
    }
}

/// Events are of different sizes: of some 3 KB on the average.
fn sized(number: usize) -> String {
    event_with(number, &format!("\"output\": \"{}\", ", "x".repeat(number * number % 4_999)))
}

/// The number of an event, in whatever shape.
pub fn number_of(line: &str) -> Option<usize> {
    text_after(line, "\"extra.number\":")?.parse().ok()
}

/// What stands behind this key, without quotes.
pub fn text_after<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(key)?;
    let rest = rest.trim_start();
    match rest.strip_prefix('"') {
        Some(text) => text.split('"').next(),
        None => rest.split([',', '}', ' ']).next(),
    }
}
