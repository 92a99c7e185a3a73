//! What a process holds: descriptors, threads, memory, as the kernel counts them; and its tasks, as it does itself.

use std::fmt;
use std::fs;
use std::path::PathBuf;

/// A moment of a process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Vitals {
    /// Descriptors of connections, and of what listens for them.
    pub sockets: usize,
    /// All other descriptors.
    pub files: usize,
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
        let open = fs::read_dir(format!("/proc/{process}/fd")).ok()?.flatten();
        let is_socket = |what: &PathBuf| what.to_string_lossy().starts_with("socket:");
        // One may be closed while this looks.
        let (sockets, files): (Vec<_>, Vec<_>) = open.flat_map(|one| fs::read_link(one.path())).partition(is_socket);
        Some(Vitals {
            sockets: sockets.len(),
            files: files.len(),
            threads: number("Threads:")?,
            memory: number("RssAnon:")?,
        })
    }
}

impl fmt::Display for Vitals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Vitals { sockets, files, threads, memory } = self;
        write!(f, "{sockets} sockets, {files} files, {threads} threads, {} MiB", memory >> 10)
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
