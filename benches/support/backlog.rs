//! Two relays with a backlog between them, and no IntelMQ at either end.

#![allow(dead_code)] // No benchmark uses all of it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use intelmq_relay::envelope::Tlp;
use intelmq_relay::sample::Events;
use serde_json::Value;

use crate::nodes::process::{Disk, Memory};
use crate::nodes::{Place, Relay};

/// Events of one file that a door takes.
const FILE: u64 = 10_000;
/// Files that wait for the door at a time, so that a million events need not lie there.
const FILES: usize = 4;
/// How often a node is asked how far it is: often enough for a span of seconds, and it costs the node nothing to speak of.
const LOOK: Duration = Duration::from_millis(20);
/// How long all may take without one more event.
const STANDSTILL: Duration = Duration::from_secs(60);

/// The events of all that is compared.
pub fn events(serials: Range<u64>) -> impl Iterator<Item = String> {
    let events = Events::new(1).labelled(Tlp::Green);
    serials.map(move |serial| events.event(serial))
}

/// Where two nodes are: `cert-a`, which has the backlog, and `cert-b`, which dials it.
pub struct Pair {
    pub a: Place,
    pub b: Place,
}

impl Pair {
    pub fn new(folder: &Path) -> Pair {
        let [a, b] = ["cert-a", "cert-b"].map(|name| Place::new(folder.join(name)));
        fs::create_dir(a.folder.join("in")).unwrap();
        Pair { a, b }
    }

    /// Starts `cert-a`; with a door it takes what is put into `in`.
    pub fn start_a(&self, door: bool) -> Relay {
        let door = if door { "[[take.files]]\nname = \"in\"\ndirectory = \"in\"\n" } else { "" };
        self.a.configure("cert-a", door, &self.b.key, "cert-b", "");
        let relay = Relay::start(&self.a);
        relay.listening();
        relay
    }

    /// Starts `cert-b`, which has no door and gives nothing.
    pub fn start_b(&self, a: &Relay) -> Relay {
        let address = format!("addresses = [\"{}\"]", a.listening());
        self.b.configure("cert-b", "", &self.a.key, "cert-a", &address);
        Relay::start(&self.b)
    }

    /// Makes `cert-b` a node that has never seen anybody.
    pub fn forget_b(&self) {
        fs::remove_dir_all(self.b.folder.join("data")).unwrap();
    }

    /// Lets `cert-a` take the events from its log's head to `count`, and waits for them. Returns the bytes of their JSON.
    pub fn fill(&self, a: &Relay, count: u64) -> u64 {
        let (folder, mut bytes) = (self.a.folder.join("in"), 0);
        let mut waiting = Waiting::begin();
        let mut from = head(&self.a);
        while from < count {
            let to = count.min(from + FILE);
            let mut text = String::new();
            for event in events(from..to) {
                text += &event;
                text.push('\n');
            }
            bytes += text.len() as u64 - (to - from);
            let (hidden, name) = (folder.join(".next"), folder.join(format!("{from:09}.jsonl")));
            fs::write(&hidden, text).unwrap();
            while fs::read_dir(&folder).unwrap().count() > FILES {
                waiting.look(a, head(&self.a));
            }
            fs::rename(hidden, name).unwrap();
            from = to;
        }
        while waiting.look(a, head(&self.a)) < count {}
        bytes
    }

    /// Waits until `cert-b` has `count` events, and `cert-a` knows it; returns when `cert-b` had them.
    pub fn arrived(&self, [a, b]: [&Relay; 2], count: u64) -> Instant {
        let mut waiting = Waiting::begin();
        while waiting.look(b, head(&self.b)) < count {}
        let all = Instant::now();
        let settled = || {
            let traffic = status(&self.a)["peers"]["cert-b"].take();
            traffic["behind"] == 0 && traffic["unanswered"] == 0
        };
        while !settled() {
            waiting.look(a, 0);
        }
        all
    }

    /// Waits until `cert-b` has a link, and says how many events it has by then.
    pub fn linked(&self, b: &Relay) -> (Instant, u64) {
        let mut waiting = Waiting::begin();
        loop {
            let status = status(&self.b);
            let head = status["head"].as_u64().unwrap_or(0);
            if head > 0 || status["peers"]["cert-a"]["linked"] == true {
                return (Instant::now(), head);
            }
            waiting.look_after(b, head, Duration::from_millis(1));
        }
    }
}

/// Waiting for a node that gets on.
struct Waiting {
    head: u64,
    moved: Instant,
}

impl Waiting {
    fn begin() -> Waiting {
        Waiting { head: 0, moved: Instant::now() }
    }

    fn look(&mut self, relay: &Relay, head: u64) -> u64 {
        self.look_after(relay, head, LOOK)
    }

    fn look_after(&mut self, relay: &Relay, head: u64, pause: Duration) -> u64 {
        if head > self.head {
            (self.head, self.moved) = (head, Instant::now());
        }
        assert!(self.moved.elapsed() < STANDSTILL, "{head} events, and no more:\n{}", relay.log());
        std::thread::sleep(pause);
        head
    }
}

/// The newest entry's number; 0 where the node does not answer yet.
pub fn head(place: &Place) -> u64 {
    status(place)["head"].as_u64().unwrap_or(0)
}

/// What a node says of itself over its control socket; null where it does not answer yet.
pub fn status(place: &Place) -> Value {
    let ask = || -> std::io::Result<Value> {
        let mut socket = UnixStream::connect(place.folder.join("data/control.sock"))?;
        socket.write_all(b"{\"ask\":\"status\"}\n")?;
        let lines: Vec<String> = BufReader::new(socket).lines().collect::<Result<_, _>>()?;
        let text: String = lines.iter().filter_map(|line| line.strip_prefix('=')).collect();
        Ok(serde_json::from_str(&text)?)
    };
    ask().unwrap_or(Value::Null)
}

/// What a node's log, ids and cursors take on disk.
pub fn disk(place: &Place) -> Disk {
    Disk::of(&place.folder.join("data"))
}

/// What both nodes take of memory, at most.
pub fn most_memory(relays: [&Relay; 2]) -> [u64; 2] {
    relays.map(|relay| relay.memory().most)
}

pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.0} MiB resident ({:.0} at most)", mib(self.now), mib(self.most))
    }
}
