//! What the system says of processes and folders: CPU, memory, disk.

#![allow(dead_code)] // No benchmark uses all of it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// User and system time so far, of all threads of a process.
pub fn cpu_seconds(process: u32) -> f64 {
    let stat = Stat::of(process).expect("the process runs");
    stat.cpu_seconds
}

/// The same of all processes of a group.
pub fn cpu_seconds_of_group(group: u32) -> f64 {
    in_group(group).map(|(_, stat)| stat.cpu_seconds).sum()
}

/// Bytes of memory that are resident now, and that were at most.
pub fn memory(process: u32) -> Memory {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    };
    Memory { now: bytes("VmRSS:"), most: bytes("VmHWM:") }
}

/// The same of all processes of a group.
pub fn memory_of_group(group: u32) -> Memory {
    in_group(group).map(|(process, _)| memory(process)).fold(Memory::default(), |a, b| a + b)
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    pub now: u64,
    pub most: u64,
}

impl std::ops::Add for Memory {
    type Output = Memory;

    fn add(self, other: Memory) -> Memory {
        Memory { now: self.now + other.now, most: self.most + other.most }
    }
}

/// What a folder takes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk {
    /// Bytes of the blocks that the file system gave its files.
    pub blocks: u64,
    /// Bytes that its files are long.
    pub length: u64,
}

impl Disk {
    pub fn of(folder: &Path) -> Disk {
        let mut sum = Disk::default();
        // A server may remove a file meanwhile.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                let inner = Disk::of(&entry.path());
                sum = Disk { blocks: sum.blocks + inner.blocks, length: sum.length + inner.length };
            } else {
                sum = Disk { blocks: sum.blocks + meta.blocks() * 512, length: sum.length + meta.len() };
            }
        }
        sum
    }
}

struct Stat {
    group: u32,
    cpu_seconds: f64,
}

impl Stat {
    /// `None`: it has ended.
    fn of(process: u32) -> Option<Stat> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // After the name, which stands in brackets: state is field 3, the group 5, utime 14, stime 15.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        let cpu_seconds = ticks / rustix::param::clock_ticks_per_second() as f64;
        Some(Stat { group: fields[2].parse().unwrap(), cpu_seconds })
    }
}

fn in_group(group: u32) -> impl Iterator<Item = (u32, Stat)> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter_map(|number| Some((number, Stat::of(number)?))).filter(move |(_, stat)| stat.group == group)
}
