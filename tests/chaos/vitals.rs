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

/// The memory of one process over time, in KiB, and how many entries were in its log.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    process: u32,
    samples: Vec<(usize, usize)>,
}

impl Memory {
    /// A further sample; a new process begins anew.
    pub fn add(&mut self, process: u32, entries: usize) {
        if self.process != process {
            *self = Memory { process, samples: Vec::new() };
        }
        self.samples.extend(Vitals::of(process).map(|vitals| (entries, vitals.memory)));
    }

    /// Medians of so many parts of the time in which there were at least so many entries, oldest first.
    pub fn parts(&self, parts: usize, entries: usize) -> Vec<usize> {
        let begin = self.samples.partition_point(|(there, _)| *there < entries);
        let since = &self.samples[begin..];
        let part = |part: usize| {
            let some = &since[since.len() * part / parts..since.len() * (part + 1) / parts];
            let mut some: Vec<_> = some.iter().map(|(_, memory)| *memory).collect();
            some.sort_unstable();
            some.get(some.len() / 2).copied()
        };
        (0..parts).map_while(part).collect()
    }
}
