//! Three CERTs, each with an IntelMQ and a relay, in a triangle: every event has two ways to each of the others.

use super::instance::{IN, Intelmq, OUT, Pipeline};
use super::relay::{PATIENCE, Relay};
use std::time::{Duration, Instant};

/// a, b and c. b's pipeline brings what it received back to the relay. c's file output bot leaves `raw` out, as is
/// IntelMQ's default.
pub struct Triangle {
    pub relays: [Relay; 3],
    pub intelmqs: [Intelmq; 3],
}

impl Triangle {
    /// Starts the IntelMQs, and configures the relays. `lacks`: fields that c's format lacks, as an older IntelMQ's does.
    pub fn new(lacks: impl Fn(&str) -> bool) -> Triangle {
        let intelmqs = [
            Intelmq::start("a", Pipeline { keeps_raw: true, loops: false }, |_| false),
            Intelmq::start("b", Pipeline { keeps_raw: true, loops: true }, |_| false),
            Intelmq::start("c", Pipeline::default(), lacks),
        ];
        let relays = ["cert-a", "cert-b", "cert-c"].map(Relay::init);
        for (relay, intelmq) in relays.iter().zip(&intelmqs) {
            relay.takes(&intelmq.redis.config(), OUT, "tlp = \"GREEN\"");
            let format = intelmq.harmonization();
            relay.gives(&intelmq.redis.config(), IN, &format!("events = {{ harmonization = {format:?} }}"));
        }
        for one in 0..3 {
            for other in (0..3).filter(|other| *other != one) {
                relays[one].peer(&relays[other], "community");
            }
        }
        Triangle { relays, intelmqs }
    }

    /// Starts the relays, and waits for their links.
    #[track_caller]
    pub fn start(&mut self) {
        self.relays.iter_mut().for_each(Relay::start);
        for relay in &self.relays {
            for peer in ["cert-a", "cert-b", "cert-c"].into_iter().filter(|peer| *peer != relay.name) {
                relay.linked(peer);
            }
        }
    }

    /// Waits until at least so many events came out at a, b and c, and nothing is under way any more. Fails at once
    /// when a bot stops, dumps a message or complains.
    #[track_caller]
    pub fn settled(&mut self, expected: [usize; 3]) {
        let begun = Instant::now();
        loop {
            self.assert_well();
            let got = self.intelmqs.each_ref().map(|intelmq| intelmq.output().len());
            let enough = got.iter().zip(expected).all(|(got, expected)| *got >= expected);
            if enough && self.is_quiet() {
                break;
            }
            assert!(
                begun.elapsed() < 3 * PATIENCE,
                "in vain: {expected:?} events come out; there are {got:?}; in quarantine:\n{}",
                self.relays.each_ref().map(|relay| relay.expect(0, &["quarantine", "list"])).join("")
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        self.assert_well();
    }

    #[track_caller]
    fn assert_well(&mut self) {
        let complaints: Vec<_> = self.intelmqs.iter_mut().flat_map(Intelmq::complaints).collect();
        assert!(complaints.is_empty(), "{complaints:#?}");
    }

    /// Whether every relay has given everything to peers and IntelMQ, and every bot's queue is empty.
    fn is_quiet(&self) -> bool {
        if self.intelmqs.iter().any(|intelmq| !intelmq.waiting().is_empty()) {
            return false;
        }
        let is_done = |relay: &Relay| {
            let status = relay.status();
            let given = |peer: &serde_json::Value| peer["behind"] == 0 && peer["unanswered"] == 0;
            status["peers"].as_object().unwrap().values().all(given)
                && status["sinks"][format!("to-{IN}")]["seq"] == status["head"]
        };
        // Twice: one that was asked first may have been given something by one that was asked later.
        let quiet = (0..2).all(|_| self.relays.iter().all(is_done));
        // What was given last may have reached a bot's queue since.
        quiet && self.intelmqs.iter().all(|intelmq| intelmq.waiting().is_empty())
    }
}
