//! Into IntelMQ by files: `events.jsonl` is appended to and rotated; whoever wants may take the rotated files.
//!
//! A record beside the file, `.<door>.mark`, says how much of the file is given and up to which entry of the log. A
//! file is named in the record, by its inode, before anything is written to it; then data are synced before the
//! record names them. So what lies beyond the record's length is of a step that was broken off, and is cut off; and
//! what lies in a file that the record does not name is somebody else's, and is only set aside.
//!
//! It never removes or overwrites a file, except its own record.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use uuid::Uuid;

use super::super::{DoorError, Mark, Sink};
use super::{Blocking, Lock, sort, sync_directory};
use crate::config;

/// Appends to `events.jsonl` in a directory.
///
/// Rotation, by size or age, happens when something is given: a file stays open as long as nothing comes.
pub struct FilesSink {
    state: Blocking<State>,
}

impl FilesSink {
    /// Opens nothing yet.
    pub fn new(config: &config::GiveFiles) -> FilesSink {
        let state = State {
            directory: config.directory.clone(),
            current: config.directory.join("events.jsonl"),
            record: config.directory.join(format!(".{}.mark", config.name)),
            rotate_bytes: config.rotate_bytes,
            rotate_seconds: config.rotate_seconds,
            lock: Lock::default(),
            open: None,
        };
        FilesSink { state: Blocking::new(state) }
    }
}

impl Sink for FilesSink {
    async fn mark(&mut self) -> Result<Option<Mark>, DoorError> {
        self.state.run(|state| Ok(state.opened()?.record.mark.map(Mark::from))).await
    }

    async fn give(&mut self, items: &[Bytes], mark: Mark) -> Result<(), DoorError> {
        debug_assert!(items.iter().all(|item| !item.contains(&b'\n')), "an item is one line");
        let mut lines = Vec::with_capacity(items.iter().map(|item| item.len() + 1).sum());
        for item in items {
            lines.extend_from_slice(item);
            lines.push(b'\n');
        }
        self.state.run(move |state| state.give(&lines, mark)).await
    }
}

/// What `.<door>.mark` holds, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    mark: Option<Place>,
    /// The file that is appended to, and how much of it is given.
    inode: u64,
    length: u64,
    /// No event in it has a lower number.
    first: u64,
    /// When it was begun, seconds since 1970.
    begun: u64,
}

/// A [`Mark`], in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    log: Uuid,
    seq: u64,
    #[serde(default)]
    again: u64,
}

impl From<Place> for Mark {
    fn from(Place { log, seq, again }: Place) -> Mark {
        Mark { log, seq, again }
    }
}

struct State {
    directory: PathBuf,
    current: PathBuf,
    record: PathBuf,
    rotate_bytes: u64,
    rotate_seconds: u64,
    lock: Lock,
    open: Option<Open>,
}

/// The file and its record, which agree.
struct Open {
    file: File,
    record: Record,
}

impl State {
    fn give(&mut self, lines: &[u8], mark: Mark) -> Result<(), DoorError> {
        self.rotate_if_due(lines.len() as u64)?;
        self.opened()?;
        // Taken: whatever fails from here, the next call opens the file anew and cuts off what is not in the record.
        let Some(mut open) = self.open.take() else { return Ok(()) };
        if !lines.is_empty() {
            let written = open.file.write_all(lines).and_then(|()| open.file.sync_data());
            written.map_err(|e| sort("writing", &self.current, &e))?;
        }
        open.record.length += lines.len() as u64;
        open.record.mark = Some(Place { log: mark.log, seq: mark.seq, again: mark.again });
        self.write_record(&open.record)?;
        self.open = Some(open);
        Ok(())
    }

    /// The open file, if it is still the one of that name and as long as the record says; else opened anew.
    fn opened(&mut self) -> Result<&mut Open, DoorError> {
        self.lock.hold(&self.directory)?;
        let kept = self.open.take().filter(|open| {
            fs::symlink_metadata(&self.current)
                .is_ok_and(|there| there.ino() == open.record.inode && there.len() == open.record.length)
        });
        let open = match kept {
            Some(open) => open,
            None => self.reopen()?,
        };
        Ok(self.open.insert(open))
    }

    fn reopen(&self) -> Result<Open, DoorError> {
        let record = self.read_record()?;
        let mark = record.as_ref().and_then(|record| record.mark);
        let file = match OpenOptions::new().append(true).open(&self.current) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return self.begin(mark),
            Err(e) => return Err(sort("opening", &self.current, &e)),
        };
        let failed = |e: io::Error| sort("opening", &self.current, &e);
        let there = file.metadata().map_err(failed)?;
        match record {
            Some(mut record) if record.inode == there.ino() => {
                if there.len() > record.length {
                    file.set_len(record.length).and_then(|()| file.sync_all()).map_err(failed)?;
                } else if there.len() < record.length {
                    tracing::warn!(
                        "{}: it is shorter than what was given: somebody cut it off",
                        self.current.display()
                    );
                    record.length = there.len();
                }
                Ok(Open { file, record })
            }
            // Ours, begun and not yet recorded; or somebody's, as empty.
            _ if there.len() == 0 => self.adopt(file, mark),
            _ => {
                tracing::warn!("{}: this file is not from this door: it is set aside", self.current.display());
                self.set_aside(0)?;
                self.begin(mark)
            }
        }
    }

    fn begin(&self, mark: Option<Place>) -> Result<Open, DoorError> {
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(&self.current)
            .map_err(|e| sort("creating", &self.current, &e))?;
        self.adopt(file, mark)
    }

    /// Records an empty file as the one that is appended to.
    fn adopt(&self, file: File, mark: Option<Place>) -> Result<Open, DoorError> {
        let inode = file.metadata().map_err(|e| sort("opening", &self.current, &e))?.ino();
        let first = mark.map_or(1, |mark| mark.seq.saturating_add(1));
        let record = Record { mark, inode, length: 0, first, begun: now() };
        self.write_record(&record)?;
        Ok(Open { file, record })
    }

    fn rotate_if_due(&mut self, more: u64) -> Result<(), DoorError> {
        let (bytes, seconds) = (self.rotate_bytes, self.rotate_seconds);
        let Record { length, first, begun, mark, .. } = self.opened()?.record;
        let full = length.saturating_add(more) > bytes;
        let old = now().saturating_sub(begun) >= seconds;
        if length == 0 || !(full || old) {
            return Ok(());
        }
        self.open = None;
        self.set_aside(first)?;
        self.open = Some(self.begin(mark)?);
        Ok(())
    }

    /// Renames the file to a name that is free. Twelve digits, so that names sort as numbers do.
    fn set_aside(&self, first: u64) -> Result<(), DoorError> {
        let mut target = self.directory.join(format!("events-{first:012}.jsonl"));
        for n in 2_u64.. {
            if !target.exists() {
                break;
            }
            target = self.directory.join(format!("events-{first:012}-{n}.jsonl"));
        }
        fs::rename(&self.current, &target).map_err(|e| sort("rotating to", &target, &e))?;
        sync_directory(&self.directory)
    }

    fn read_record(&self) -> Result<Option<Record>, DoorError> {
        match fs::read(&self.record) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| {
                DoorError::Operator(format!(
                    "{}: this record of what was given cannot be read ({e}): restore it, or remove it to start over",
                    self.record.display()
                ))
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(sort("reading", &self.record, &e)),
        }
    }

    fn write_record(&self, record: &Record) -> Result<(), DoorError> {
        // Numbers and a UUID: cannot fail.
        let bytes = serde_json::to_vec(record).expect("a record is JSON");
        let next = self.record.with_extension("mark-next");
        write_synced(&next, &bytes)
            .and_then(|()| fs::rename(&next, &self.record))
            .map_err(|e| sort("writing", &self.record, &e))?;
        sync_directory(&self.directory)
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_data()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_waited_for_and_leaves_nothing_half_written() {
        let directory = tempfile::tempdir().unwrap();
        let mut state = State {
            directory: directory.path().to_owned(),
            current: directory.path().join("events.jsonl"),
            record: directory.path().join(".in.mark"),
            rotate_bytes: 1000,
            rotate_seconds: 1000,
            lock: Lock::default(),
            open: None,
        };
        let mark = |seq| Mark { log: Uuid::from_u128(1), seq, again: 0 };
        state.give(b"one\n", mark(1)).unwrap();
        // What a full disk says, and what it had room for.
        fs::OpenOptions::new().append(true).open(&state.current).unwrap().write_all(b"tw").unwrap();
        let open = state.open.as_mut().unwrap();
        open.file = OpenOptions::new().append(true).open("/dev/full").unwrap();
        open.record.length += 2;
        let error = state.give(b"two\n", mark(2)).unwrap_err();
        assert!(matches!(&error, DoorError::Retry(text) if text.contains("disk is full")), "{error}");
        state.give(b"two\n", mark(2)).unwrap();
        assert_eq!(fs::read(&state.current).unwrap(), b"one\ntwo\n");
        assert_eq!(state.opened().unwrap().record.mark.map(Mark::from), Some(mark(2)));
    }
}
