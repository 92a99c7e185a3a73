//! The ten nodes, and the time in which things fail.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand_chacha::ChaCha20Rng;
use rustix::process::Signal;
use serde_json::Value;

use super::clock;
use super::faults::{Fault, Faults, Kind, Part};
use super::ground::Ground;
use super::relay::{PATIENCE, wait_until};
use super::site::{Life, Site};
use super::vitals::{Memory, Vitals};

pub const NODES: usize = 10;
/// What a node leaves free.
const RESERVE: u64 = 64 << 20;
/// Events each second, on the average.
const RATE: f64 = 30.0;
const TICK: Duration = Duration::from_millis(100);
const SAMPLE: Duration = Duration::from_secs(1);
/// In which a process that has ended is seen to have; a node whose store has failed takes some seconds to end.
const NOTICED: Duration = Duration::from_secs(20);
/// For everything to arrive after all is mended.
const HEALED: Duration = Duration::from_secs(120);

/// Everything of a run.
pub struct Chaos {
    // Dropped in this order: what runs in a space goes before the space.
    pub sites: Vec<Site>,
    pub ground: Ground,
    pub rng: ChaCha20Rng,
    pub faults: Faults,
    /// The one whose clock may be wrong by a day.
    pub wrong: usize,
    /// When it was behind, by the right clock.
    pub behind: Vec<(u64, u64)>,
    pub elders: Vec<usize>,
    /// Before anything failed.
    pub before: Vec<(Vitals, usize)>,
    pub memory: Vec<Memory>,
    pub starts: Vec<usize>,
    /// Since when a node's disk has a byte again.
    pub brim: Vec<Option<Instant>>,
    /// How often a node ended by itself, on a disk without a byte.
    pub gave_up: usize,
    pub healed: Duration,
}

impl Chaos {
    /// Starts all, and lets some events pass; what the processes hold then is what they are to hold in the end.
    pub fn start(&mut self) {
        for node in 0..NODES {
            self.launch(node);
        }
        wait_until("all run", || {
            self.supervise();
            self.sites.iter().all(|site| matches!(site.life, Life::Running))
        });
        for site in &mut self.sites {
            site.push(20);
        }
        self.await_quiet();
        self.before = self.vitals();
        println!("all run, and are linked by {} cables", self.ground.cables());
    }

    /// Lets things fail for so long, while events pass.
    pub fn rage(&mut self, time: Duration) {
        let begun = Instant::now();
        let (mut last, mut sampled, mut said) = (begun, begun, begun);
        while begun.elapsed() < time {
            let tick = Instant::now();
            for fault in self.faults.over(tick, false) {
                self.mend(fault);
            }
            if let Some(fault) = self.faults.deal(&mut self.rng, tick) {
                println!("{:>7.1} s: {fault}", begun.elapsed().as_secs_f64());
                self.hit(fault);
            }
            self.flap();
            self.supervise();
            // On a machine that is busy with others, fewer events.
            self.pass_events(last.elapsed().min(TICK));
            last = tick;
            if sampled.elapsed() >= SAMPLE {
                sampled = Instant::now();
                self.sample();
            }
            if said.elapsed() >= Duration::from_secs(30) {
                said = Instant::now();
                self.say(begun.elapsed());
            }
            std::thread::sleep(TICK.saturating_sub(tick.elapsed()));
        }
    }

    /// Mends all, and waits until everything has arrived.
    pub fn settle(&mut self) {
        let begun = Instant::now();
        for fault in self.faults.over(begun, true) {
            self.mend(fault);
        }
        self.await_quiet();
        self.healed = begun.elapsed();
    }

    /// As many events as are due into some nodes, and what has come out is taken; not where Redis is away.
    fn pass_events(&mut self, since: Duration) {
        let reachable: Vec<usize> = (0..NODES).filter(|node| self.faults.at(Part::Redis, *node).is_none()).collect();
        let mut due = (since.as_secs_f64() * self.rng.random_range(0.0..2.0 * RATE)).ceil() as usize;
        if self.rng.random_bool(0.01) {
            due += 100;
        }
        while due > 0 && !reachable.is_empty() {
            let some = self.rng.random_range(1..=due);
            due -= some;
            self.sites[reachable[self.rng.random_range(0..reachable.len())]].push(some);
        }
        let beyond = self.faults.at(Part::Clock, self.wrong).is_some_and(|fault| fault.kind == Kind::ClockBeyond);
        if beyond && reachable.contains(&self.wrong) {
            self.sites[self.wrong].push(1);
        }
        for node in reachable {
            if self.rng.random_bool(0.3) {
                self.sites[node].collect();
            }
        }
    }

    /// Links that come and go.
    fn flap(&mut self) {
        for fault in self.faults.holding.iter().filter(|fault| fault.kind == Kind::LinkFlaps) {
            if self.rng.random_bool(0.3) {
                self.ground.break_cable(fault.at, fault.how.unwrap(), self.rng.random_bool(0.5));
            }
        }
    }

    fn hit(&mut self, fault: Fault) {
        let Fault { kind, at, seconds, .. } = fault;
        if let Some(how) = fault.how {
            return self.ground.break_cable(at, how, true);
        }
        if matches!(kind, Kind::Kill | Kind::RedisKill) {
            self.busy_for_a_moment(at);
        }
        let site = &mut self.sites[at];
        match kind {
            Kind::Kill => self.kill(at),
            Kind::Freeze if matches!(site.life, Life::Down) => {}
            Kind::Freeze => site.relay.signal(Signal::STOP),
            Kind::RedisKill => site.redis.kill(),
            Kind::RedisFreeze => site.redis.freeze(),
            Kind::DiskFull | Kind::DiskBrim => self.fill(at, if kind == Kind::DiskBrim { 0 } else { RESERVE / 2 }),
            _ => {
                clock::set(&site.relay.path("clock"), seconds);
                if kind == Kind::ClockBeyond && seconds < 0 {
                    self.behind.push((clock::now(), u64::MAX));
                }
            }
        }
    }

    /// So that a crash hits something: of what is put in now, some is being taken, some is on its way, some is answered.
    fn busy_for_a_moment(&mut self, node: usize) {
        let mut others = self.faults.holding.iter().rev().skip(1);
        let away = |fault: &Fault| fault.kind.part() == Part::Redis && fault.at == node;
        if !others.any(away) {
            for _ in 0..5 {
                let count = self.rng.random_range(1..=10);
                self.sites[node].push(count);
                std::thread::sleep(Duration::from_micros(self.rng.random_range(0..15_000)));
            }
        }
    }

    fn mend(&mut self, fault: Fault) {
        let Fault { kind, at, .. } = fault;
        if let Some(how) = fault.how {
            return self.ground.break_cable(at, how, false);
        }
        let site = &mut self.sites[at];
        match kind {
            Kind::Kill => self.launch(at),
            Kind::Freeze if matches!(site.life, Life::Down) => {}
            Kind::Freeze => site.relay.signal(Signal::CONT),
            Kind::RedisKill => site.redis.start_again(),
            Kind::RedisFreeze => site.redis.thaw(),
            Kind::DiskFull => fs::remove_file(self.filler(at)).unwrap(),
            Kind::DiskBrim => {
                fs::remove_file(self.filler(at)).unwrap();
                self.brim[at] = Some(Instant::now());
            }
            _ => {
                clock::set(&site.relay.path("clock"), 0);
                if let Some((_, until)) = self.behind.last_mut().filter(|_| kind == Kind::ClockBeyond) {
                    // The file is read every second.
                    *until = (*until).min(clock::now() + 2);
                }
            }
        }
    }

    fn launch(&mut self, node: usize) {
        let site = &mut self.sites[node];
        if matches!(site.life, Life::Down) {
            site.relay.launch();
            site.life = Life::Starting(Instant::now());
            self.starts[node] += 1;
        }
    }

    fn kill(&mut self, node: usize) {
        let site = &mut self.sites[node];
        if !matches!(site.life, Life::Down) {
            let process = site.relay.pid();
            site.relay.kill9();
            site.life = Life::Down;
            clock::forget(&self.ground.seen(node, "/dev/shm".as_ref()), process);
        }
    }

    /// A node that ends by itself has failed, unless its disk has not a byte left: it says so then, and is started again
    /// when there is room.
    fn supervise(&mut self) {
        for node in 0..NODES {
            let brim = self.faults.at(Part::Disk, node).is_some_and(|fault| fault.kind == Kind::DiskBrim);
            let was_brim = brim || self.brim[node].is_some_and(|until| until.elapsed() < NOTICED);
            let killed = self.faults.at(Part::Process, node).is_some_and(|fault| fault.kind == Kind::Kill);
            let site = &mut self.sites[node];
            match site.life {
                Life::Down if !brim && !killed => self.launch(node),
                Life::Down => {}
                Life::Starting(_) | Life::Running if site.relay.has_ended() => {
                    assert!(was_brim, "{} ended by itself", site.relay.name);
                    println!("{} gave up on a disk without a byte:\n{}", site.relay.name, last(&site.relay.log_text()));
                    self.gave_up += 1;
                    self.kill(node);
                }
                Life::Starting(_) if site.relay.logged("running").is_some() => site.life = Life::Running,
                Life::Starting(since) => {
                    let frozen = self.faults.at(Part::Process, node).is_some();
                    assert!(frozen || since.elapsed() < PATIENCE, "{} does not start", site.relay.name);
                }
                Life::Running => {}
            }
        }
    }

    fn filler(&self, node: usize) -> PathBuf {
        self.ground.seen(node, &self.sites[node].relay.path("data/filler"))
    }

    /// Leaves so many bytes free on a node's disk.
    fn fill(&self, node: usize, leave: u64) {
        let filler = self.filler(node);
        let stat = rustix::fs::statvfs(filler.parent().unwrap()).unwrap();
        let free = stat.f_bavail * stat.f_frsize;
        let file = fs::File::create(&filler).unwrap();
        let take = free.saturating_sub(leave);
        // To the brim: what the node writes meanwhile may leave less than that.
        if rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, take).is_err() {
            let _ = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, take.saturating_sub(1 << 20));
        }
    }

    fn sample(&mut self) {
        for (site, memory) in self.sites.iter().zip(&mut self.memory) {
            if !matches!(site.life, Life::Down) {
                memory.add(site.relay.pid(), site.entries());
            }
        }
    }

    fn say(&self, elapsed: Duration) {
        let [pushed, got] = self.counts();
        println!("{:>7.1} s: {pushed} events put in, {got} came out", elapsed.as_secs_f64());
    }

    /// How many peers a node has.
    pub fn peers(&self, node: usize) -> usize {
        self.ground.peers(node).len()
    }

    /// Events put in, and those that came out, over all nodes.
    pub fn counts(&self) -> [usize; 2] {
        [self.sites.iter().map(|site| site.numbers().len()).sum(), self.sites.iter().map(Site::got_all).sum()]
    }

    /// What every process holds, and its tasks.
    pub fn vitals(&self) -> Vec<(Vitals, usize)> {
        let tasks = |site: &Site| site.relay.status()["tasks"].as_u64().unwrap() as usize;
        self.sites.iter().map(|site| (Vitals::of(site.relay.pid()).unwrap(), tasks(site))).collect()
    }

    /// Waits until every link stands and nothing is under way.
    fn await_quiet(&mut self) {
        let begun = Instant::now();
        let mut last = None;
        loop {
            self.supervise();
            let busy = self.busy();
            let counts = self.counts();
            // Twice, and nothing came in between.
            if busy.is_none() && last == Some(counts) {
                return;
            }
            last = busy.is_none().then_some(counts);
            if begun.elapsed() > HEALED {
                panic!("not settled after {HEALED:?}: {busy:?}, {counts:?}");
            }
            std::thread::sleep(TICK);
        }
    }

    /// Somebody who is not done, and with what.
    fn busy(&mut self) -> Option<String> {
        for site in &mut self.sites {
            let name = site.relay.name.clone();
            if !matches!(site.life, Life::Running) {
                return Some(format!("{name} does not run yet"));
            }
            if !site.collect() || !site.is_empty() {
                return Some(format!("the queues of {name}"));
            }
        }
        for site in &self.sites {
            let name = &site.relay.name;
            let status = site.relay.status();
            let peers = status["peers"].as_object().unwrap();
            let done = |peer: &Value| {
                peer["linked"] == true && peer["behind"] == 0 && peer["unanswered"] == 0 && peer["taking"] == false
            };
            if let Some((peer, state)) = peers.iter().find(|(_, peer)| !done(peer)) {
                return Some(format!("{name} with {peer}: {state}"));
            }
            let head = &status["head"];
            if let Some(sink) = status["sinks"].as_object().unwrap().values().find(|sink| sink["seq"] != *head) {
                return Some(format!("{name} delivers: head {head}, {sink}"));
            }
        }
        None
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        (0..NODES).for_each(|node| self.kill(node));
    }
}

fn last(text: &str) -> &str {
    text.lines().next_back().unwrap_or_default()
}
