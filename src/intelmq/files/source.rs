//! Out of IntelMQ by files: whatever is renamed into a directory as `*.jsonl`, the oldest first.
//!
//! A file is taken as it is when it appears: write it elsewhere on the same file system (or under a name that
//! begins with a dot), then rename it. When all of it is durable here, it is removed, or moved to `taken`.
//!
//! A line longer than [`LONGEST_LINE`] is cut there and the rest of it skipped: such an item is no JSON text any
//! more, and who takes it will find that. Empty lines are no items; a last line without an end is one.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::{BinaryHeap, VecDeque};
use std::fs::{self, File, Metadata};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::super::{DoorError, Source, TakeLimit, Taken};
use super::{Blocking, Lock, sort, sync_directory};
use crate::config;

/// Bytes of one item, at most.
pub(super) const LONGEST_LINE: usize = 16 << 20;
/// How often an empty directory is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Files that one look at the directory remembers.
const LISTED: usize = 1024;

/// Takes the files of a directory. One batch never spans two files.
pub struct FilesSource {
    state: Blocking<State>,
}

impl FilesSource {
    /// `position`: the last one that was committed with its items; `None`: the first start. Opens nothing yet.
    pub fn new(config: &config::TakeFiles, position: Option<Vec<u8>>) -> FilesSource {
        let place = position.and_then(|bytes| {
            serde_json::from_slice(&bytes)
                .map_err(|_| tracing::warn!(door = %config.name, "the stored position is not of a files door: starting without"))
                .ok()
        });
        let state = State {
            directory: config.directory.clone(),
            taken: config.taken.clone(),
            place,
            lock: Lock::default(),
            open: None,
            last: None,
            listed: VecDeque::new(),
        };
        FilesSource { state: Blocking::new(state) }
    }
}

impl Source for FilesSource {
    async fn take(&mut self, limit: TakeLimit) -> Result<Taken, DoorError> {
        loop {
            if let Some(taken) = self.state.run(move |state| state.take(limit)).await? {
                return Ok(taken);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn committed(&mut self) -> Result<(), DoorError> {
        self.state.run(State::committed).await
    }
}

/// How far a file is durable here: the position. The change time tells a file from a later one of the same name that
/// got the same inode; a file whose owner or mode is changed between a crash and the restart counts as another one
/// too (rather twice than never).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    file: String,
    inode: u64,
    changed: (i64, i64),
    offset: u64,
}

impl Place {
    fn is(&self, name: &str, metadata: &Metadata) -> bool {
        self.file == name && self.inode == metadata.ino() && self.changed == changed(metadata)
    }
}

fn changed(metadata: &Metadata) -> (i64, i64) {
    (metadata.ctime(), metadata.ctime_nsec())
}

struct State {
    directory: PathBuf,
    taken: Option<PathBuf>,
    /// From the constructor, until its file is open or found gone.
    place: Option<Place>,
    lock: Lock,
    open: Option<Open>,
    /// The batch under way ends here, and whether the file does.
    last: Option<(u64, bool)>,
    /// Names that the last look found, the oldest first.
    listed: VecDeque<String>,
}

/// The file under way. It stays open, so that it is the same one whatever happens to its name.
struct Open {
    name: String,
    file: File,
    /// Up to here it is durable.
    offset: u64,
}

impl State {
    /// `None`: there is nothing to take.
    fn take(&mut self, limit: TakeLimit) -> Result<Option<Taken>, DoorError> {
        self.last = None;
        self.lock.hold(&self.directory)?;
        loop {
            self.open_next()?;
            let Some(open) = &self.open else { return Ok(None) };
            let path = self.directory.join(&open.name);
            let failed = |e: io::Error| sort("reading", &path, &e);
            let (items, end, whole) = read(&open.file, open.offset, limit).map_err(failed)?;
            if items.is_empty() && whole {
                self.finish()?;
                continue;
            }
            let metadata = open.file.metadata().map_err(failed)?;
            let place =
                Place { file: open.name.clone(), inode: metadata.ino(), changed: changed(&metadata), offset: end };
            self.last = Some((end, whole));
            // Plain numbers and a text: cannot fail.
            let position = serde_json::to_vec(&place).expect("a place is JSON");
            return Ok(Some(Taken { items, position }));
        }
    }

    fn committed(&mut self) -> Result<(), DoorError> {
        let (Some((end, whole)), Some(open)) = (self.last.take(), &mut self.open) else { return Ok(()) };
        open.offset = end;
        if whole { self.finish() } else { Ok(()) }
    }

    /// Opens the next file, unless one is under way or there is none.
    fn open_next(&mut self) -> Result<(), DoorError> {
        if self.open.is_none()
            && let Some(place) = self.place.clone()
        {
            self.open = self.try_open(&place.file)?;
            self.place = None;
            match &mut self.open {
                Some(open) if place.is(&open.name, &metadata(&self.directory, open)?) => open.offset = place.offset,
                // It was finished and removed, or is another one: its turn comes by age.
                _ => self.open = None,
            }
        }
        while self.open.is_none() {
            if self.listed.is_empty() {
                self.listed = list(&self.directory).map_err(|e| sort("looking into", &self.directory, &e))?;
            }
            let Some(name) = self.listed.pop_front() else { return Ok(()) };
            self.open = self.try_open(&name)?;
        }
        Ok(())
    }

    /// `None`: it is gone.
    fn try_open(&self, name: &str) -> Result<Option<Open>, DoorError> {
        let path = self.directory.join(name);
        match File::open(&path) {
            Ok(file) => Ok(Some(Open { name: name.to_owned(), file, offset: 0 })),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(sort("opening", &path, &e)),
        }
    }

    /// The file under way is durable here: away with it. If it cannot be removed, the next `take` tries again.
    fn finish(&mut self) -> Result<(), DoorError> {
        let Some(open) = &self.open else { return Ok(()) };
        let path = self.directory.join(&open.name);
        // Somebody may have put another file in its place: that one is not ours to remove.
        if metadata(&self.directory, open)?.len() > open.offset {
            tracing::warn!(
                file = %path.display(),
                "the file grows while it is taken: write it elsewhere and rename it in, or what is written later is lost"
            );
            return Ok(());
        }
        let ours = match fs::symlink_metadata(&path) {
            Ok(there) => there.ino() == metadata(&self.directory, open)?.ino(),
            Err(_) => false,
        };
        if ours {
            match &self.taken {
                Some(taken) => keep(&path, &open.name, taken)?,
                None => fs::remove_file(&path).map_err(|e| sort("removing", &path, &e))?,
            }
            // Before the next file's first batch: after a power cut only the position's own file may be back.
            sync_directory(&self.directory)?;
        }
        self.open = None;
        Ok(())
    }
}

fn metadata(directory: &Path, open: &Open) -> Result<Metadata, DoorError> {
    open.file.metadata().map_err(|e| sort("reading", &directory.join(&open.name), &e))
}

/// Moves a file to `taken`, under a name that is free there.
fn keep(path: &Path, name: &str, taken: &Path) -> Result<(), DoorError> {
    fs::create_dir_all(taken).map_err(|e| sort("creating", taken, &e))?;
    let mut target = taken.join(name);
    for n in 2_u64.. {
        if !target.exists() {
            break;
        }
        target = taken.join(format!("{name}.{n}"));
    }
    fs::rename(path, &target).map_err(|e| sort("moving a taken file to", &target, &e))?;
    sync_directory(taken)
}

/// A file that was written to within this time may not be complete: somebody writes it in place.
const QUIET: Duration = Duration::from_secs(1);

/// The oldest files of the directory, by their times of modification, then by name.
fn list(directory: &Path) -> io::Result<VecDeque<String>> {
    let mut oldest: BinaryHeap<(SystemTime, String)> = BinaryHeap::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with('.') || !name.ends_with(".jsonl") {
            continue;
        }
        // Gone since, or no plain file: not for us.
        let Ok(metadata) = entry.metadata() else { continue };
        let modified = metadata.modified()?;
        // A time to come is a clock that was set back: not a reason to wait for it.
        let busy = modified.elapsed().is_ok_and(|since| since < QUIET);
        if metadata.is_file() && !busy {
            oldest.push((modified, name));
            if oldest.len() > LISTED {
                oldest.pop();
            }
        }
    }
    Ok(oldest.into_sorted_vec().into_iter().map(|(_, name)| name).collect())
}

/// Reads lines from `offset`: the items, where they end, and whether the file ends there too.
fn read(file: &File, offset: u64, limit: TakeLimit) -> io::Result<(Vec<Bytes>, u64, bool)> {
    let mut reader = BufReader::with_capacity(64 << 10, file);
    reader.seek(SeekFrom::Start(offset))?;
    let (mut items, mut bytes, mut end) = (Vec::new(), 0, offset);
    while items.len() < limit.items.max(1) {
        let mut line = Vec::new();
        let mut length = reader.by_ref().take(LONGEST_LINE as u64).read_until(b'\n', &mut line)? as u64;
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if line.len() == LONGEST_LINE {
            length += reader.skip_until(b'\n')? as u64;
        }
        if length == 0 {
            break;
        }
        if !line.is_empty() {
            bytes += line.len();
            if !items.is_empty() && bytes > limit.bytes {
                return Ok((items, end, false));
            }
            items.push(Bytes::from(line));
        }
        end += length;
    }
    let whole = reader.fill_buf()?.is_empty();
    Ok((items, end, whole))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const ALL: TakeLimit = TakeLimit { items: 100, bytes: usize::MAX };

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    #[test]
    fn lines_are_items_and_empty_ones_are_not() {
        let (items, end, whole) = read(&file(b"\n{\"a\":1}\n\n\nb\r\nlast"), 0, ALL).unwrap();
        assert_eq!(items, [&b"{\"a\":1}"[..], b"b\r", b"last"]);
        assert_eq!((end, whole), (18, true));
        assert_eq!(read(&file(b""), 0, ALL).unwrap(), (vec![], 0, true));
        assert_eq!(read(&file(b"ab\n"), 3, ALL).unwrap(), (vec![], 3, true));
        assert_eq!(read(&file(b"ab\n"), 99, ALL).unwrap(), (vec![], 99, true));
    }

    #[test]
    fn bounds_hold_and_a_large_line_comes_alone() {
        let file = file(b"aa\nbbbb\ncc\n");
        let limit = |items, bytes| TakeLimit { items, bytes };
        assert_eq!(read(&file, 0, limit(9, 3)).unwrap(), (vec![Bytes::from("aa")], 3, false));
        assert_eq!(read(&file, 3, limit(9, 3)).unwrap(), (vec![Bytes::from("bbbb")], 8, false));
        assert_eq!(read(&file, 0, limit(2, 99)).unwrap().1, 8);
        assert_eq!(read(&file, 8, limit(1, 99)).unwrap(), (vec![Bytes::from("cc")], 11, true));
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let mut content = vec![b'x'; LONGEST_LINE + 70_000];
        content.extend_from_slice(b"\nnext\n");
        let (items, end, whole) = read(&file(&content), 0, ALL).unwrap();
        assert_eq!(items.len(), 2);
        assert_eq!(items[0].len(), LONGEST_LINE);
        assert_eq!(items[1], "next");
        assert_eq!((end, whole), (content.len() as u64, true));
    }

    #[test]
    fn exactly_the_longest_line_is_whole() {
        let mut content = vec![b'x'; LONGEST_LINE];
        content.extend_from_slice(b"\nnext\n");
        let (items, end, _) = read(&file(&content), 0, ALL).unwrap();
        assert_eq!((items.len(), items[0].len(), end), (2, LONGEST_LINE, content.len() as u64));
    }
}
