//! The program from one IntelMQ's queue to another's: two nodes as processes, real Redis servers, and everything that
//! may be killed, stopped, restarted or full in between. Nothing may be lost or come twice.

#![allow(clippy::unwrap_used)] // A test that fails may panic, in what it calls too.

#[path = "support/events.rs"]
#[allow(dead_code)] // Other tests use the rest of it.
mod events;
#[path = "support/redis.rs"]
#[allow(dead_code)]
mod redis_server;
#[path = "support/relay.rs"]
#[allow(dead_code)]
mod relay;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use events::{assert_once_each, event, event_with, events};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use redis_server::Redis;
use relay::{PATIENCE, Relay, command, wait_until};

const OUT: &str = "relay-out-queue";
const OUT_INTERNAL: &str = "relay-out-queue-internal";
const IN: &str = "bot-queue";

/// A takes from its Redis, B gives to its own.
struct Way {
    from: Redis,
    to: Redis,
    a: Relay,
    b: Relay,
}

impl Way {
    fn new() -> Way {
        Way::with(Redis::start(), "")
    }

    /// `door` are further lines of the door out.
    fn with(to: Redis, door: &str) -> Way {
        let (from, a, b) = (Redis::start(), Relay::init("cert-a"), Relay::init("cert-b"));
        a.takes(&from.config(), OUT, "");
        b.gives(&to.config(), IN, door);
        a.peer(&b, "community");
        b.peer(&a, "none");
        Way { from, to, a, b }
    }

    fn start(&mut self) {
        self.a.start();
        self.b.start();
    }

    /// Waits until everything that was pushed is at the far end, and checks that it is there once, byte for byte.
    fn arrived(&mut self, expected: &[String]) {
        wait_until_longer("everything arrives", || self.to.length(IN) >= expected.len());
        // The door lets go when it is in the log: what would be sealed twice is there by then.
        wait_until("what was taken is forgotten there", || {
            (self.from.length(OUT), self.from.length(OUT_INTERNAL)) == (0, 0)
        });
        self.settled();
        assert_once_each(expected, &self.to.items(IN));
    }

    /// Waits until nothing is under way: what would come twice has come.
    fn settled(&self) {
        let a = self.a.status_when("A has given everything", |a| {
            let b = &a["peers"]["cert-b"];
            b["linked"] == true && b["behind"] == 0 && b["unanswered"] == 0
        });
        self.b.status_when("B has delivered everything", |b| {
            b["head"].as_u64() >= a["head"].as_u64() && b["sinks"][format!("to-{IN}")]["seq"] == b["head"]
        });
    }
}

fn wait_until_longer(what: &str, so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < 4 * PATIENCE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The seed of what is random in a test: `SEED`, or this one.
fn seed() -> u64 {
    let seed = std::env::var("SEED").map_or(20_261_124, |seed| seed.parse().unwrap());
    eprintln!("SEED={seed}");
    seed
}

/// `rounds` times a part of `all` comes, and one of the nodes is killed meanwhile, at any moment of its life.
fn killed(rounds: usize, all: &[String], longest: u64) {
    let mut rng = ChaCha20Rng::seed_from_u64(seed());
    let mut way = Way::new();
    way.start();
    let mut under_way = 0;
    for (round, part) in all.chunks(all.len().div_ceil(rounds)).enumerate() {
        way.from.push(OUT, part);
        // The moment is what is tried here; nothing is waited for.
        std::thread::sleep(Duration::from_millis(rng.random_range(0..longest)));
        let pushed = (round + 1) * part.len();
        under_way += usize::from(way.to.length(IN) < pushed.min(all.len()));
        let victim = if round % 2 == 0 { &mut way.a } else { &mut way.b };
        victim.kill9();
        // Sometimes the next kill finds it still starting.
        if rng.random_bool(0.3) { victim.launch() } else { victim.start() }
    }
    assert!(
        under_way > rounds / 3,
        "only {under_way} of {rounds} kills found something under way: the test is no test"
    );
    eprintln!("{under_way} of {rounds} kills found something under way");
    way.arrived(all);
}

#[test]
fn twenty_kills_lose_nothing_and_repeat_nothing() {
    // What comes twice from IntelMQ, byte for byte, are two events.
    let mut all = events(0..20_000);
    for number in (0..all.len()).step_by(7) {
        all[number] = event(number % 3);
    }
    killed(20, &all, 900);
}

/// Prints how long it took; with `--release` that means something.
#[test]
fn a_hundred_thousand_events_and_two_kills() {
    let begun = Instant::now();
    killed(2, &events(0..100_000), 1_500);
    eprintln!("{:?} for 100,000 events", begun.elapsed());
}

#[test]
fn stopped_in_the_middle_of_traffic() {
    let mut way = Way::new();
    way.start();
    way.b.linked("cert-a");
    let all = events(0..6_000);
    for (round, part) in all.chunks(1_000).enumerate() {
        way.from.push(OUT, part);
        wait_until("it flows", || way.to.length(IN) > round * 1_000);
        let node = if round % 2 == 0 { &mut way.a } else { &mut way.b };
        let took = node.terminate();
        eprintln!("stopped in {took:?}");
        // On a busy machine that takes too long, and is cut off: what counts is that nothing is lost by it.
        assert!(node.logged("stopped").or(node.logged("cut off")).is_some(), "{}", node.log_text());
        assert!(!node.path("data/control.sock").exists());
        node.start();
    }
    way.arrived(&all);
}

#[test]
fn a_node_that_cannot_reach_its_redis_stops_in_time_too() {
    let mut way = Way::new();
    way.start();
    way.b.linked("cert-a");
    way.to.freeze();
    way.from.push(OUT, &events(0..10));
    way.b.status_when("B has them", |b| b["head"] == 10);
    way.b.terminate();
    way.to.thaw();
    way.from.kill();
    way.a.says("trying again");
    way.a.terminate();
    way.b.start();
    wait_until("they are delivered", || way.to.length(IN) == 10);
}

/// The Redis behind the sink goes away and comes back, with what it had.
#[test]
fn the_redis_behind_the_sink_restarts() {
    let mut way = Way::with(Redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"]), "");
    way.start();
    let all = events(0..3_000);
    for (round, part) in all.chunks(1_000).enumerate() {
        way.from.push(OUT, part);
        wait_until("it flows", || way.to.length(IN) > round * 1_000);
        way.to.kill();
        way.b.status_when("B takes meanwhile", |b| b["head"] == (round + 1) * 1_000);
        way.to.start_again();
        wait_until("it goes on", || way.to.length(IN) == (round + 1) * 1_000);
    }
    way.arrived(&all);
}

#[test]
fn the_redis_behind_the_sink_is_full_for_a_while() {
    let mut way = Way::with(Redis::start_with(&["--maxmemory", "2mb", "--maxmemory-policy", "noeviction"]), "");
    way.start();
    let all = events(0..4_000);
    way.from.push(OUT, &all);
    let said = way.b.says("trying again");
    assert!(said.to_string().contains("memory"), "{said}");
    way.b.status_when("B takes meanwhile", |b| b["head"] == 4_000);
    assert!(way.to.length(IN) < 4_000);
    let mut connection = way.to.connect();
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("0").exec(&mut connection).unwrap();
    way.arrived(&all);
    assert!(way.b.logged("the door is open again").is_some(), "{}", way.b.log_text());
}

#[test]
fn a_queue_over_its_high_water_mark_is_waited_for() {
    let mut way = Way::with(Redis::start(), "high_water = 500\n");
    way.start();
    let all = events(0..5_000);
    way.from.push(OUT, &all);
    way.b.status_when("B takes meanwhile", |b| b["head"] == 5_000);
    let (mut connection, mut got, mut longest) = (way.to.connect(), Vec::new(), 0);
    // The bot works the queue off, slower than the node could fill it.
    wait_until("the bot gets everything", || {
        longest = longest.max(way.to.length(IN));
        let some: Vec<String> = redis::cmd("RPOP").arg(IN).arg(200).query(&mut connection).unwrap_or_default();
        got.extend(some);
        got.len() >= all.len()
    });
    way.settled();
    got.extend(way.to.items(IN));
    assert_once_each(&all, &got);
    // What is given in one step comes on top of the mark.
    assert!(longest <= 500 + 1_024, "{longest} in the queue");
}

/// As root: `cargo nextest run --run-ignored only full_disk`, which `tests/all` does.
#[test]
#[ignore = "mounts a file system, for which it must be root"]
fn a_full_disk_at_the_receiver_loses_nothing() {
    let mut way = Way::new();
    let data = way.b.path("data");
    let mounted = Mounted::new(&data, "size=200m");
    way.start();
    way.b.linked("cert-a");
    // Room for small commits, not for large ones.
    let stat = rustix::fs::statvfs(&data).unwrap();
    let free = stat.f_bavail * stat.f_frsize;
    fs::write(data.join("filler"), vec![1; (free - RESERVE - (2 << 20)) as usize]).unwrap();
    let mut all = Vec::new();
    for round in 0..40 {
        all.push(event_with(round, &format!("\"output\": \"{}\", ", "x".repeat(900_000))));
        all.extend((0..50).map(|n| event(40 + 50 * round + n)));
    }
    way.from.push(OUT, &all);
    way.b.says("nothing is taken until there is room");
    assert!(way.to.length(IN) < all.len());
    way.b.kill9();
    way.b.start();
    way.b.says("nothing is taken until there is room");
    way.b.terminate();
    fs::remove_file(data.join("filler")).unwrap();
    way.b.start();
    way.arrived(&all);
    way.b.terminate();
    drop(mounted);
}

/// What the store leaves free.
const RESERVE: u64 = 64 << 20;

/// A file system in memory; unmounted with the value.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn new(at: &std::path::Path, options: &str) -> Mounted {
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).status().unwrap();
        assert!(status.success(), "mount: {status}");
        Mounted(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn events_of_every_size_pass() {
    let mut way = Way::new();
    way.start();
    let mut all = vec!["{\"__type\": \"Event\"}".to_owned(), "{\"\": \"\", \"__type\": \"Event\"}".to_owned()];
    all.extend((0..20).map(|power| event_with(power, &format!("\"event_hash\": \"{}\", ", "a".repeat(1 << power)))));
    all.extend((0..30).map(|n| event_with(n, &format!("\"output\": \"{}\", ", "x\\n".repeat(300_000 + n)))));
    all.push(event_with(1, &(0..4_000).map(|n| format!("\"extra.k{n}\": {n}, ")).collect::<String>()));
    way.from.push(OUT, &all);
    way.arrived(&all);
}

#[test]
fn a_data_folder_that_is_lost_is_begun_anew() {
    let mut way = Way::new();
    way.start();
    let (first, second) = (events(0..1_000), events(1_000..2_000));
    way.from.push(OUT, &first);
    way.arrived(&first);
    // A's log is another one now, which begins at 1 again.
    way.a.terminate();
    fs::rename(way.a.path("data"), way.a.path("lost")).unwrap();
    way.a.start();
    way.from.push(OUT, &second);
    way.arrived(&[first, second.clone()].concat());
    // B has forgotten all, and gets what A still has. Its IntelMQ gets that again, which is said.
    way.b.terminate();
    fs::rename(way.b.path("data"), way.b.path("lost")).unwrap();
    redis::cmd("DEL").arg(IN).exec(&mut way.to.connect()).unwrap();
    way.b.start();
    way.arrived(&second);
    let said = way.b.says("another log");
    assert_eq!(said["level"], "WARN", "{said}");
}

#[test]
fn a_reload_opens_and_closes_doors() {
    let mut way = Way::new();
    way.start();
    way.b.linked("cert-a");
    way.from.push(OUT, &events(0..10));
    wait_until("they arrive", || way.to.length(IN) == 10);
    let before = way.a.configuration();
    // One door more, and one of the old ones is said to be another.
    way.a.takes(&way.from.config(), "second", "");
    way.b.configure(&way.b.configuration().replace("queue = \"bot-queue\"", "queue = \"other-queue\""));
    for node in [&way.a, &way.b] {
        node.signal(rustix::process::Signal::HUP);
        assert_eq!(node.says("configuration read again")["span"]["node"], *node.name, "whose line it is");
    }
    way.from.push("second", &events(10..20));
    way.from.push(OUT, &events(20..30));
    wait_until("they arrive", || way.to.length("other-queue") == 20);
    assert_eq!(way.to.length(IN), 10, "the new queue goes on where the old one ended");
    way.a.reload(&way.a.configuration(), &before);
    way.from.push("second", &events(30..31));
    way.from.push(OUT, &events(31..32));
    wait_until("it arrives", || way.to.length("other-queue") == 21);
    assert_eq!(way.from.length("second"), 1);
    assert!(way.a.status()["sources"].get("from-second").is_none());
}

#[test]
fn run_in_an_empty_folder_makes_a_node() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = command(folder.path(), &["run"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    // The address of a new node is a fixed one: if it is taken here, the node must say so.
    let mut stderr = process.stderr.take().unwrap();
    let socket = folder.path().join("data/control.sock");
    let mut ended = None;
    wait_until("it runs, or has ended", || {
        ended = process.try_wait().unwrap();
        ended.is_some() || socket.exists()
    });
    if ended.is_none() {
        let pid = rustix::process::Pid::from_raw(process.id().try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = process.wait().unwrap();
        assert!(status.success(), "{status}");
    }
    let mut text = String::new();
    std::io::Read::read_to_string(&mut stderr, &mut text).unwrap();
    assert!(ended.is_none() || text.contains("cannot listen on"), "{text}");
    for made in ["relay.toml", "node.key", "in", "out", "data"] {
        assert!(folder.path().join(made).exists(), "{made}");
    }
}

#[test]
fn what_must_not_start_does_not() {
    let mut node = Relay::init("cert-a");
    node.start();
    let refused = node.expect(1, &["run"]);
    assert!(refused.contains(&format!("in use by process {}", node.pid())), "{refused}");
    node.terminate();

    let key = node.path("node.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = node.expect(2, &["run"]);
    assert!(refused.contains("node.key") && refused.contains("chmod"), "{refused}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();

    fs::rename(node.path("data"), node.path("ours")).unwrap();
    fs::create_dir(node.path("data")).unwrap();
    let foreign = sled::open(node.path("data")).unwrap();
    foreign.insert("somebody", "else's").unwrap();
    foreign.flush().unwrap();
    drop(foreign);
    let refused = node.expect(1, &["run"]);
    assert!(refused.contains("holds a database that is not ours"), "{refused}");
    fs::rename(node.path("data"), node.path("theirs")).unwrap();
    fs::rename(node.path("ours"), node.path("data")).unwrap();
    node.start();
    node.terminate();
}
