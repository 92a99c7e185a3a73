//! What is on a disk after a power cut, as far as the calls and POSIX allow.
//!
//! Durable is what had been written when an `fsync` or `fdatasync` of that file began and that call has ended;
//! `sync_file_range` makes nothing durable. Of everything else any part may be there: each call, or each block of one,
//! or none. A file's length may be the old one or the new one, with zeros where nothing arrived. A name is durable after
//! an `fsync` of its folder. A block is whole: 512 bytes are written or not (what a drive promises), and never hold what another
//! file had there (what ext4, xfs and btrfs promise).

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Component, Path};
use std::sync::Arc;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::trace::{Call, Event};

/// What a drive writes wholly or not at all.
const SECTOR: u64 = 512;

#[derive(Debug, Clone)]
pub struct Disk {
    nodes: Vec<Node>,
    /// Calls that are under way, and what of them a sync covers.
    syncs: HashMap<usize, (usize, Vec<usize>)>,
}

#[derive(Debug, Clone)]
enum Node {
    File { durable: Arc<Vec<u8>>, pending: Vec<Change> },
    Folder { durable: BTreeMap<String, usize>, pending: Vec<Naming>, now: BTreeMap<String, usize> },
}

#[derive(Debug, Clone)]
struct Change {
    number: usize,
    ended: bool,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Write { offset: u64, data: Arc<[u8]> },
    SetLen(u64),
}

#[derive(Debug, Clone)]
struct Naming {
    number: usize,
    /// Names that are gone, and one that is there: a rename is one change.
    gone: Option<String>,
    there: Option<(String, usize)>,
}

/// Which part of what is not durable has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it, as when the process is killed.
    All,
    /// Nothing.
    Nothing,
    /// Everything up to some moment, the call of that moment cut somewhere.
    Prefix,
    /// Some calls, others not.
    Calls,
    /// Some sectors, others not; lengths old or new; names up to some moment, folder by folder.
    Sectors,
    /// As before, and names in any order; but nothing is removed before what was renamed before it. The journals of ext4 and xfs
    /// keep that order, and sled needs it: it removes its last `snap.…` behind the new one's rename without a sync.
    Names,
}

pub const PARTS: [Part; 6] = [Part::All, Part::Nothing, Part::Prefix, Part::Calls, Part::Sectors, Part::Names];

impl Disk {
    /// What is in this folder, durable.
    pub fn of(dir: &Path) -> Disk {
        let mut disk = Disk { nodes: Vec::new(), syncs: HashMap::new() };
        disk.take(dir);
        disk
    }

    fn take(&mut self, path: &Path) -> usize {
        let number = self.nodes.len();
        if path.is_dir() {
            self.nodes.push(Node::Folder { durable: BTreeMap::new(), pending: vec![], now: BTreeMap::new() });
            let names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let names: BTreeMap<String, usize> =
                names.map(|name| (name.clone(), self.take(&path.join(name)))).collect();
            self.nodes[number] = Node::Folder { durable: names.clone(), pending: vec![], now: names };
        } else {
            self.nodes.push(Node::File { durable: Arc::new(fs::read(path).unwrap()), pending: vec![] });
        }
        number
    }

    /// The process has gone: what it had begun is done, though not durable.
    fn end_process(&mut self) {
        for node in &mut self.nodes {
            let Node::File { pending, .. } = node else { continue };
            pending.iter_mut().for_each(|one| one.ended = true);
        }
    }

    /// Goes on by one moment.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Begins(number, call) => self.begin(*number, call),
            Event::Ends(number) => self.end(*number),
            Event::Said(_) => {}
            Event::Gone => self.end_process(),
        }
    }

    fn begin(&mut self, number: usize, call: &Call) {
        match call {
            Call::Write { path, offset, data } => {
                self.change(path, number, What::Write { offset: *offset, data: data.clone() });
            }
            Call::SetLen { path, length } => self.change(path, number, What::SetLen(*length)),
            Call::Sync { path } => {
                let node = self.find(path).unwrap();
                let covered = match &self.nodes[node] {
                    Node::File { pending, .. } => {
                        pending.iter().filter(|one| one.ended).map(|one| one.number).collect()
                    }
                    Node::Folder { pending, .. } => pending.iter().map(|one| one.number).collect(),
                };
                self.syncs.insert(number, (node, covered));
            }
            Call::Create { path } if self.find(path).is_some() => {}
            Call::Create { path } => self.make(path, number, Node::File { durable: Arc::default(), pending: vec![] }),
            Call::MakeDir { path } => {
                let folder = Node::Folder { durable: BTreeMap::new(), pending: vec![], now: BTreeMap::new() };
                self.make(path, number, folder);
            }
            Call::Rename { from, to } => {
                assert_eq!(from.parent(), to.parent(), "renames between folders are not in the model");
                let node = self.find(from).unwrap();
                self.name(from, Naming { number, gone: Some(last(from)), there: Some((last(to), node)) });
            }
            Call::Remove { path } => self.name(path, Naming { number, gone: Some(last(path)), there: None }),
        }
    }

    fn end(&mut self, number: usize) {
        let Some((node, covered)) = self.syncs.remove(&number) else {
            for node in &mut self.nodes {
                let Node::File { pending, .. } = node else { continue };
                pending.iter_mut().filter(|one| one.number == number).for_each(|one| one.ended = true);
            }
            return;
        };
        match &mut self.nodes[node] {
            Node::File { durable, pending } => {
                let bytes = Arc::make_mut(durable);
                pending.retain(|one| {
                    let covered = covered.contains(&one.number);
                    if covered {
                        one.what.apply(bytes);
                    }
                    !covered
                });
            }
            Node::Folder { durable, pending, .. } => pending.retain(|one| {
                let covered = covered.contains(&one.number);
                if covered {
                    one.apply(durable);
                }
                !covered
            }),
        }
    }

    fn find(&self, path: &Path) -> Option<usize> {
        path.components().try_fold(0, |node, part| {
            let Component::Normal(name) = part else { panic!("{}", path.display()) };
            match &self.nodes[node] {
                Node::Folder { now, .. } => now.get(name.to_str().unwrap()).copied(),
                Node::File { .. } => None,
            }
        })
    }

    fn change(&mut self, path: &Path, number: usize, what: What) {
        let node = self.find(path).unwrap_or_else(|| panic!("{} was never made", path.display()));
        let Node::File { pending, .. } = &mut self.nodes[node] else { panic!("{} is a folder", path.display()) };
        pending.push(Change { number, ended: false, what });
    }

    fn make(&mut self, path: &Path, number: usize, node: Node) {
        self.nodes.push(node);
        let there = Some((last(path), self.nodes.len() - 1));
        self.name(path, Naming { number, gone: None, there });
    }

    fn name(&mut self, path: &Path, naming: Naming) {
        let folder = self.find(path.parent().unwrap()).unwrap();
        let Node::Folder { pending, now, .. } = &mut self.nodes[folder] else { panic!("{}", path.display()) };
        naming.apply(now);
        pending.push(naming);
    }

    /// Writes what is there after a power cut into this empty folder.
    pub fn write(&self, part: Part, rng: &mut ChaCha8Rng, dir: &Path) {
        let numbers = self.nodes.iter().flat_map(|node| match node {
            Node::File { pending, .. } => pending.iter().map(|one| one.number).collect::<Vec<_>>(),
            Node::Folder { pending, .. } => pending.iter().map(|one| one.number).collect(),
        });
        let mut numbers: Vec<usize> = numbers.collect();
        numbers.sort_unstable();
        let cut = if numbers.is_empty() { 0 } else { numbers[rng.random_range(0..numbers.len())] };
        self.write_node(0, &mut Choice { part, cut, rng }, dir);
    }

    fn write_node(&self, node: usize, choice: &mut Choice<'_>, path: &Path) {
        match &self.nodes[node] {
            Node::File { durable, pending } => {
                let mut bytes = Vec::clone(durable);
                choice.changes(pending, &mut bytes);
                write_sparse(path, &bytes);
            }
            Node::Folder { durable, pending, .. } => {
                if !path.exists() {
                    fs::create_dir(path).unwrap();
                }
                let mut names = durable.clone();
                choice.names(pending, &mut names);
                for (name, node) in names {
                    self.write_node(node, choice, &path.join(name));
                }
            }
        }
    }
}

struct Choice<'a> {
    part: Part,
    cut: usize,
    rng: &'a mut ChaCha8Rng,
}

impl Choice<'_> {
    fn changes(&mut self, pending: &[Change], bytes: &mut Vec<u8>) {
        let before = bytes.len();
        let chance = [0.1, 0.5, 0.9][self.rng.random_range(0..3)];
        for Change { number, what, .. } in pending {
            match self.part {
                Part::All => what.apply(bytes),
                Part::Nothing => {}
                Part::Prefix if *number < self.cut => what.apply(bytes),
                Part::Prefix if *number == self.cut => {
                    let sectors = what.sectors();
                    let end = self.rng.random_range(0..=sectors);
                    what.apply_some(bytes, |sector| sector < end);
                }
                Part::Prefix => {}
                Part::Calls if self.rng.random_bool(0.5) => what.apply(bytes),
                Part::Calls => {}
                Part::Sectors | Part::Names => {
                    // In runs, as drives have it: 4 KiB.
                    let run = if self.rng.random_bool(0.5) { 8 } else { 1 };
                    let kept: Vec<bool> = (0..=what.sectors() / run).map(|_| self.rng.random_bool(chance)).collect();
                    what.apply_some(bytes, |sector| kept[(sector / run) as usize]);
                }
            }
        }
        if matches!(self.part, Part::Sectors | Part::Names | Part::Calls) && self.rng.random_bool(0.5) {
            // The new length has not arrived, or it has and nothing else.
            let after = pending.iter().map(|one| one.what.end()).max().unwrap_or(0).max(before as u64);
            let length = if self.rng.random_bool(0.5) { before } else { after as usize };
            bytes.resize(length, 0);
        }
    }

    fn names(&mut self, pending: &[Naming], names: &mut BTreeMap<String, usize>) {
        let some = self.rng.random_range(0..=pending.len());
        let mut renamed = true;
        for (place, naming) in pending.iter().enumerate() {
            let there = match self.part {
                Part::All => true,
                Part::Nothing => false,
                Part::Prefix => naming.number < self.cut,
                Part::Calls | Part::Sectors => place < some,
                Part::Names => self.rng.random_bool(0.5) && (renamed || naming.there.is_some()),
            };
            if there {
                naming.apply(names);
            } else if naming.gone.is_some() && naming.there.is_some() {
                renamed = false;
            }
        }
    }
}

impl What {
    fn apply(&self, bytes: &mut Vec<u8>) {
        self.apply_some(bytes, |_| true);
    }

    /// Applies the sectors that are wanted, counted from the first that the call touches.
    fn apply_some(&self, bytes: &mut Vec<u8>, wanted: impl Fn(u64) -> bool) {
        match self {
            What::SetLen(length) => {
                if wanted(0) {
                    bytes.resize(*length as usize, 0);
                }
            }
            What::Write { offset, data } => {
                let end = offset + data.len() as u64;
                for (number, sector) in (offset / SECTOR..end.div_ceil(SECTOR)).enumerate() {
                    if !wanted(number as u64) {
                        continue;
                    }
                    let (from, to) = ((sector * SECTOR).max(*offset), ((sector + 1) * SECTOR).min(end));
                    if bytes.len() < to as usize {
                        bytes.resize(to as usize, 0);
                    }
                    bytes[from as usize..to as usize]
                        .copy_from_slice(&data[(from - offset) as usize..(to - offset) as usize]);
                }
            }
        }
    }

    fn sectors(&self) -> u64 {
        match self {
            What::SetLen(_) => 1,
            What::Write { offset, data } => (offset + data.len() as u64).div_ceil(SECTOR) - offset / SECTOR,
        }
    }

    fn end(&self) -> u64 {
        match self {
            What::SetLen(length) => *length,
            What::Write { offset, data } => offset + data.len() as u64,
        }
    }
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        if let Some(name) = &self.gone {
            names.remove(name);
        }
        if let Some((name, node)) = &self.there {
            names.insert(name.clone(), *node);
        }
    }
}

fn last(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// Holes where there are only zeros: most of a new segment.
fn write_sparse(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    let file = fs::File::create(path).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    const RUN: usize = 64 << 10;
    static ZEROS: [u8; RUN] = [0; RUN];
    for (place, run) in bytes.chunks(RUN).enumerate() {
        if run != &ZEROS[..run.len()] {
            file.write_all_at(run, (place * RUN) as u64).unwrap();
        }
    }
}
