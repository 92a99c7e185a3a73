//! What goes wrong, when, and for how long: dealt from a seed, so that each kind has its turn.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use rand::seq::SliceRandom;
use rand::{Rng, RngExt};

use super::ground::Break;

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    LinkDown,
    LinkFlaps,
    LinkSilent,
    LinkSlow,
    Kill,
    Freeze,
    RedisKill,
    RedisFreeze,
    DiskFull,
    DiskBrim,
    ClockWithin,
    ClockBeyond,
}

impl Kind {
    pub const ALL: [Kind; 12] = [
        Kind::LinkDown,
        Kind::LinkFlaps,
        Kind::LinkSilent,
        Kind::LinkSlow,
        Kind::Kill,
        Kind::Freeze,
        Kind::RedisKill,
        Kind::RedisFreeze,
        Kind::DiskFull,
        Kind::DiskBrim,
        Kind::ClockWithin,
        Kind::ClockBeyond,
    ];

    /// How many a round has of it.
    fn often(self) -> usize {
        match self {
            Kind::LinkDown | Kind::Kill => 4,
            Kind::LinkSilent | Kind::LinkSlow | Kind::Freeze | Kind::RedisKill => 2,
            _ => 1,
        }
    }

    /// The shortest and the longest that it lasts, in seconds.
    fn lasts(self) -> (f64, f64) {
        match self {
            Kind::Kill | Kind::RedisKill | Kind::RedisFreeze => (0.1, 4.0),
            Kind::DiskFull | Kind::DiskBrim => (0.5, 4.0),
            // The clock's file is read every second.
            Kind::ClockWithin | Kind::ClockBeyond => (2.5, 8.0),
            _ => (0.2, 8.0),
        }
    }

    /// What it hits can have one such fault at a time.
    pub fn part(self) -> Part {
        match self {
            Kind::LinkDown | Kind::LinkFlaps | Kind::LinkSilent | Kind::LinkSlow => Part::Cable,
            Kind::Kill | Kind::Freeze => Part::Process,
            Kind::RedisKill | Kind::RedisFreeze => Part::Redis,
            Kind::DiskFull | Kind::DiskBrim => Part::Disk,
            Kind::ClockWithin | Kind::ClockBeyond => Part::Clock,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { kind, at, how, seconds, .. } = self;
        write!(f, "{kind}, at {at}, for {:.1} s", (self.until - self.since).as_secs_f64())?;
        match kind.part() {
            Part::Cable => write!(f, ", {how:?}"),
            Part::Clock => write!(f, ", by {seconds} s"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Kind::LinkDown => "link down",
            Kind::LinkFlaps => "link flaps",
            Kind::LinkSilent => "link silent",
            Kind::LinkSlow => "link slow, lossy",
            Kind::Kill => "relay killed",
            Kind::Freeze => "relay frozen",
            Kind::RedisKill => "Redis killed",
            Kind::RedisFreeze => "Redis frozen",
            Kind::DiskFull => "disk full",
            Kind::DiskBrim => "disk full to the brim",
            Kind::ClockWithin => "clock wrong, tolerably",
            Kind::ClockBeyond => "clock wrong by a day",
        })
    }
}

/// What of a node, or of the ground, is hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Cable,
    Process,
    Redis,
    Disk,
    Clock,
}

/// A fault that holds.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    pub kind: Kind,
    /// The number of the cable or site.
    pub at: usize,
    pub how: Option<Break>,
    /// By how many seconds a clock is wrong.
    pub seconds: i64,
    pub since: Instant,
    pub until: Instant,
}

/// The faults of one kind.
#[derive(Debug, Clone, Copy, Default)]
pub struct Were {
    pub count: usize,
    /// Together.
    pub time: Duration,
}

/// Who can be hit, by kind; a kind without anybody is not dealt.
pub type Targets = BTreeMap<Kind, Vec<usize>>;

/// Deals faults, and knows which hold.
pub struct Faults {
    targets: Targets,
    deck: Vec<Kind>,
    next: Instant,
    pub holding: Vec<Fault>,
    pub were: BTreeMap<Kind, Were>,
}

impl Faults {
    pub fn new(targets: Targets) -> Faults {
        let (deck, holding, were) = (Vec::new(), Vec::new(), BTreeMap::new());
        Faults { targets, deck, next: Instant::now(), holding, were }
    }

    /// The next fault, if its time has come and what it would hit is whole.
    pub fn deal(&mut self, rng: &mut impl Rng, now: Instant) -> Option<Fault> {
        if now < self.next {
            return None;
        }
        self.next = now + Duration::from_secs_f64(rng.random_range(0.1..1.2));
        if self.deck.is_empty() {
            let all = self.targets.iter().filter(|(_, targets)| !targets.is_empty());
            self.deck = all.flat_map(|(kind, _)| std::iter::repeat_n(*kind, kind.often())).collect();
            self.deck.shuffle(rng);
        }
        let kind = self.deck.pop()?;
        let targets = &self.targets[&kind];
        let at = targets[rng.random_range(0..targets.len())];
        if self.at(kind.part(), at).is_some() {
            // Later: something else is wrong with it.
            self.deck.insert(0, kind);
            return None;
        }
        // Short ones more often than long ones.
        let (least, most) = kind.lasts();
        let lasts = least + (most - least) * rng.random_range(0.0..1.0f64).powi(2);
        let (end, both) = (rng.random_range(0..2), rng.random_bool(0.5));
        let how = match kind {
            Kind::LinkDown | Kind::LinkFlaps => Some(Break::Down { end }),
            Kind::LinkSilent => Some(Break::Silent { end, both }),
            Kind::LinkSlow => Some(Break::Slow),
            _ => None,
        };
        let sign = if rng.random_bool(0.5) { 1 } else { -1 };
        let seconds = sign * if kind == Kind::ClockBeyond { DAY } else { rng.random_range(1..WITHIN) };
        let fault = Fault { kind, at, how, seconds, since: now, until: now + Duration::from_secs_f64(lasts) };
        self.holding.push(fault);
        Some(fault)
    }

    /// The fault that this has now.
    pub fn at(&self, part: Part, at: usize) -> Option<&Fault> {
        self.holding.iter().find(|fault| fault.kind.part() == part && fault.at == at)
    }

    /// Those whose time is over; `all`: all of them.
    pub fn over(&mut self, now: Instant, all: bool) -> Vec<Fault> {
        let over: Vec<_> = self.holding.extract_if(.., |fault| all || fault.until <= now).collect();
        for fault in &over {
            let were = self.were.entry(fault.kind).or_default();
            were.count += 1;
            were.time += now - fault.since;
        }
        over
    }
}

/// Far more than peers tolerate.
pub const DAY: i64 = 86_400;
/// Two clocks that are wrong both ways are apart by less than `future_seconds`.
const WITHIN: i64 = 270;
