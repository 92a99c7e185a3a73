//! What a process holds: descriptors, threads, memory, as the kernel counts them; and its tasks, as it does itself.

use std::fmt;
use std::fs;

/// A moment of a process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Vitals {
    pub descriptors: usize,
    pub threads: usize,
    /// Resident and of its own, in KiB.
    pub memory: usize,
}

impl Vitals {
    /// Of a process that runs.
    pub fn of(process: u32) -> Option<Vitals> {
        let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let number = |key: &str| -> Option<usize> {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let descriptors = fs::read_dir(format!("/proc/{process}/fd")).ok()?.count();
        Some(Vitals { descriptors, threads: number("Threads:")?, memory: number("RssAnon:")? })
    }
}

impl fmt::Display for Vitals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} descriptors, {} threads, {} MiB", self.descriptors, self.threads, self.memory >> 10)
    }
}

/// The memory of one process over time.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    process: u32,
    /// KiB, evenly in time.
    pub samples: Vec<usize>,
}

impl Memory {
    /// A further sample; a new process begins anew.
    pub fn add(&mut self, process: u32) {
        if self.process != process {
            *self = Memory { process, samples: Vec::new() };
        }
        self.samples.extend(Vitals::of(process).map(|vitals| vitals.memory));
    }

    /// The median of this part of the time, in hundredths.
    pub fn median(&self, part: std::ops::Range<usize>) -> usize {
        let at = |hundredth| self.samples.len() * hundredth / 100;
        let mut some = self.samples[at(part.start)..at(part.end)].to_vec();
        some.sort_unstable();
        some.get(some.len() / 2).copied().unwrap_or(0)
    }
}
