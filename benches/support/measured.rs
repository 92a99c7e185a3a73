//! What a round brought, and tables of medians.

#![allow(dead_code)] // No benchmark uses all of it.

/// One way of getting events from one log into another, measured once.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    /// Events per second.
    pub rate: f64,
    /// Microseconds of CPU per event, both ends together.
    pub cpu: f64,
    /// Bytes of disk per event at the end that takes, in blocks of the file system.
    pub disk: f64,
    /// Bytes of memory at most, both ends together.
    pub memory: f64,
}

/// The middle of some numbers, and how far they spread.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Spread {
    pub fn of(mut numbers: Vec<f64>) -> Spread {
        numbers.sort_by(f64::total_cmp);
        Spread { median: numbers[numbers.len() / 2], least: numbers[0], most: numbers[numbers.len() - 1] }
    }
}

/// Rounds of one name.
pub struct Rounds {
    pub name: &'static str,
    pub rounds: Vec<Round>,
}

impl Rounds {
    pub fn new(name: &'static str) -> Rounds {
        Rounds { name, rounds: Vec::new() }
    }

    /// Adds a round, and tells it.
    pub fn add(&mut self, round: Round) {
        self.rounds.push(round);
        let Round { rate, cpu, .. } = round;
        eprintln!("{}, round {}: {rate:.0} events/s, {cpu:.2} µs of CPU per event", self.name, self.rounds.len());
    }

    fn spread(&self, of: fn(&Round) -> f64) -> Spread {
        Spread::of(self.rounds.iter().map(of).collect())
    }
}

/// Prints the medians of all, with least and most; and how the first stands to each other one.
pub fn print(all: &[Rounds]) {
    let all: Vec<&Rounds> = all.iter().filter(|rounds| !rounds.rounds.is_empty()).collect();
    println!("{:<18}{:>28}{:>26}{:>14}{:>12}", "", "events/s", "µs of CPU per event", "disk B/event", "memory MiB");
    for rounds in &all {
        let (rate, cpu) = (rounds.spread(|round| round.rate), rounds.spread(|round| round.cpu));
        let (disk, memory) = (rounds.spread(|round| round.disk), rounds.spread(|round| round.memory));
        println!(
            "{:<18}{:>28}{:>26}{:>14.0}{:>12.0}",
            rounds.name,
            format!("{:.0} ({:.0}–{:.0})", rate.median, rate.least, rate.most),
            format!("{:.1} ({:.1}–{:.1})", cpu.median, cpu.least, cpu.most),
            disk.median,
            memory.median / f64::from(1 << 20),
        );
    }
    let Some((first, others)) = all.split_first() else { return };
    for other in others {
        let ratio = |of: fn(&Round) -> f64| first.spread(of).median / other.spread(of).median;
        println!(
            "{} / {}: {:.2} of the events per second, {:.2} of the CPU per event, {:.2} of the disk",
            first.name,
            other.name,
            ratio(|round| round.rate),
            ratio(|round| round.cpu),
            ratio(|round| round.disk),
        );
    }
}
