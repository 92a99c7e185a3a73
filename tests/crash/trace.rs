//! What a program asked of the file system, call by call, from strace.
//!
//! A call has a beginning and an end: threads run side by side, and an `fsync` covers only what had ended when it began.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Everything that can change a file, a name, or what is durable of them; `lseek` for where `write` writes.
const CALLS: &str = "trace=open,openat,creat,write,pwrite64,writev,pwritev,ftruncate,truncate,fallocate,fsync,fdatasync,\
                     sync_file_range,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,link,linkat,lseek,msync,syncfs,\
                     copy_file_range,sendfile";

/// One moment of a trace.
#[derive(Debug, Clone)]
pub enum Event {
    /// A call begins: what it writes may from now on be on the disk.
    Begins(usize, Call),
    /// It has ended.
    Ends(usize),
    /// The program said this.
    Said(Word),
    /// It has gone: closed, or killed.
    Gone,
}

/// A call, with paths below the traced folder.
#[derive(Debug, Clone)]
pub enum Call {
    Write { path: PathBuf, offset: u64, data: Arc<[u8]> },
    SetLen { path: PathBuf, length: u64 },
    Sync { path: PathBuf },
    Create { path: PathBuf },
    MakeDir { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf },
    Remove { path: PathBuf },
}

impl Event {
    /// Whether something in this folder goes.
    pub fn removes(&self, folder: &Path) -> bool {
        matches!(self, Event::Begins(_, Call::Remove { path }) if path.starts_with(folder))
    }
}

impl Call {
    /// Whether it changes something in this folder.
    pub fn changes(&self, folder: &Path) -> bool {
        match self {
            Call::Sync { .. } => false,
            Call::Write { path, .. } | Call::SetLen { path, .. } | Call::Create { path } => path.starts_with(folder),
            Call::MakeDir { path } | Call::Rename { to: path, .. } | Call::Remove { path } => path.starts_with(folder),
        }
    }
}

/// What a traced program says on its standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// The store is open, and holds this step.
    Opened(u64),
    /// This step is acknowledged.
    Acknowledged(u64),
    /// The store is closed.
    Closed,
}

impl Word {
    /// As it is written.
    pub fn text(self) -> String {
        match self {
            Word::Opened(step) => format!("opened {step}\n"),
            Word::Acknowledged(step) => format!("acknowledged {step}\n"),
            Word::Closed => "closed 0\n".into(),
        }
    }

    fn parse(text: &[u8]) -> Option<Word> {
        let (word, step) = std::str::from_utf8(text).ok()?.trim_end().split_once(' ')?;
        let step = step.parse().ok()?;
        match word {
            "opened" => Some(Word::Opened(step)),
            "acknowledged" => Some(Word::Acknowledged(step)),
            "closed" => Some(Word::Closed),
            _ => None,
        }
    }
}

/// Runs this command under strace; returns what it did below `root`.
pub fn record(command: &Command, root: &Path, scratch: &Path) -> Vec<Event> {
    let file = scratch.join("trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-xx", "--seccomp-bpf", "-s", "67108864", "-e", CALLS, "-e", "signal=none", "-o"]);
    strace.arg(&file).arg("--").arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        strace.env(key, value.unwrap_or_default());
    }
    let output = strace.stdout(Stdio::null()).stderr(Stdio::piped()).output();
    let output = output.unwrap_or_else(|error| panic!("strace cannot be run ({error}): install it (tests/all does)"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("PTRACE") && !said.contains("ptrace"), "strace may not trace here: {said}");
    let mut events = parse(&file, root);
    assert!(events.iter().any(|event| matches!(event, Event::Said(_))), "the traced program said nothing: {said}");
    std::fs::remove_file(file).unwrap();
    events.push(Event::Gone);
    events
}

/// Reads a trace.
fn parse(file: &Path, root: &Path) -> Vec<Event> {
    let mut reader =
        Reader { root: root.to_owned(), positions: HashMap::new(), begun: HashMap::new(), events: Vec::new() };
    for line in BufReader::with_capacity(1 << 20, File::open(file).unwrap()).split(b'\n') {
        reader.line(&line.unwrap());
    }
    reader.events
}

struct Reader {
    root: PathBuf,
    /// Where `write` writes next, by descriptor.
    positions: HashMap<u32, u64>,
    /// Calls that have not ended: by thread, the text of the beginning, and its event.
    begun: HashMap<u32, (Vec<u8>, Option<usize>)>,
    events: Vec<Event>,
}

impl Reader {
    fn line(&mut self, line: &[u8]) {
        let space = line.iter().position(|byte| *byte == b' ').unwrap();
        let thread: u32 = std::str::from_utf8(&line[..space]).unwrap().parse().unwrap();
        let text = line[space..].trim_ascii();
        if let Some(begin) = text.strip_suffix(b" <unfinished ...>") {
            let number = self.begins(begin);
            self.begun.insert(thread, (begin.to_vec(), number));
        } else if text.starts_with(b"<... ") {
            let (begin, number) = self.begun.remove(&thread).unwrap();
            let rest = text.windows(8).position(|some| some == b"resumed>").unwrap() + 8;
            self.ends(&begin, &text[rest..], number);
        } else if text.contains(&b'(') {
            let end = text.iter().rposition(|byte| *byte == b'=').unwrap_or(text.len());
            // The result is behind the last `=`; nothing that is not hexadecimal holds one behind it.
            let number = self.begins(&text[..end]);
            let begin = text[..end].to_vec();
            self.ends(&begin, &text[end..], number);
        }
    }

    /// What shows when a call begins. Names are made when it ends: only then is it known that they were.
    fn begins(&mut self, text: &[u8]) -> Option<usize> {
        let (name, arguments) = split(text);
        let root = self.root.clone();
        let path = |place: usize| below(&root, &arguments, place);
        let number = |place: usize| arguments.get(place).and_then(|text| number(text)).unwrap();
        let call = match name {
            b"pwrite64" => Call::Write { path: path(0)?, offset: number(3), data: bytes(arguments[1]).into() },
            b"write" => {
                let data = bytes(arguments[1]);
                if descriptor(arguments[0]) == 2 {
                    self.events.extend(Word::parse(&data).map(Event::Said));
                    return None;
                }
                let position = self.positions.entry(descriptor(arguments[0])).or_default();
                let offset = *position;
                *position += data.len() as u64;
                Call::Write { path: path(0)?, offset, data: data.into() }
            }
            b"ftruncate" => Call::SetLen { path: path(0)?, length: number(1) },
            b"fsync" | b"fdatasync" => Call::Sync { path: path(0)? },
            b"writev" | b"pwritev" | b"truncate" | b"fallocate" | b"link" | b"linkat" | b"msync" | b"syncfs"
            | b"copy_file_range" | b"sendfile" => {
                assert!(path(0).is_none(), "{} is not in the model", String::from_utf8_lossy(name));
                return None;
            }
            _ => return None,
        };
        Some(self.add(call))
    }

    fn ends(&mut self, begin: &[u8], result: &[u8], number: Option<usize>) {
        let Some(result) = result.iter().rposition(|byte| *byte == b'=').map(|at| result[at + 1..].trim_ascii()) else {
            // Killed in it.
            return;
        };
        if let Some(number) = number {
            // One that failed, or was cut off by a kill, may have done a part, and has made nothing durable.
            if result.first().is_some_and(u8::is_ascii_digit) {
                self.events.push(Event::Ends(number));
            }
            return;
        }
        if result.starts_with(b"-") {
            return;
        }
        let (name, arguments) = split(begin);
        let named = |place: usize| -> Option<PathBuf> {
            let path = PathBuf::from(<OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&bytes(arguments[place])));
            Some(path.strip_prefix(&self.root).ok()?.to_owned())
        };
        let calls = match name {
            b"openat" | b"open" | b"creat" => {
                self.positions.insert(descriptor(result), 0);
                let (path, flags) = if name == b"openat" { (1, arguments[2]) } else { (0, arguments[1]) };
                let has = |flag: &[u8]| flags.split(|byte| *byte == b'|').any(|one| one == flag);
                let Some(path) = named(path) else { return };
                let create = has(b"O_CREAT").then(|| Call::Create { path: path.clone() });
                let empty = has(b"O_TRUNC").then_some(Call::SetLen { path, length: 0 });
                create.into_iter().chain(empty).collect()
            }
            b"lseek" => {
                self.positions.insert(descriptor(arguments[0]), crate::trace::number(result).unwrap());
                vec![]
            }
            b"mkdir" => named(0).map(|path| Call::MakeDir { path }).into_iter().collect(),
            b"rename" => named(0).zip(named(1)).map(|(from, to)| Call::Rename { from, to }).into_iter().collect(),
            b"unlink" | b"rmdir" => named(0).map(|path| Call::Remove { path }).into_iter().collect(),
            b"unlinkat" => {
                // By the folder's descriptor, as `remove_dir_all` does.
                let folder = below(&self.root, &arguments, 0);
                let name = bytes(arguments[1]);
                let name = <OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&name);
                folder.map(|folder| Call::Remove { path: folder.join(name) }).into_iter().collect::<Vec<_>>()
            }
            b"renameat" | b"renameat2" | b"mkdirat" => {
                panic!("{} is not in the model", String::from_utf8_lossy(name))
            }
            _ => vec![],
        };
        for call in calls {
            let number = self.add(call);
            self.events.push(Event::Ends(number));
        }
    }

    fn add(&mut self, call: Call) -> usize {
        // One after the other over all traces of a run, so that a later call has a higher number.
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.events.push(Event::Begins(number, call));
        number
    }
}

/// The path of the descriptor in this place, below the root.
fn below(root: &Path, arguments: &[&[u8]], place: usize) -> Option<PathBuf> {
    let text = arguments.get(place)?;
    let open = text.iter().position(|byte| *byte == b'<')?;
    let path = unescape(&text[open + 1..text.len() - 1]);
    let path = Path::new(<OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&path));
    Some(path.strip_prefix(root).ok()?.to_owned())
}

/// The name of a call and its arguments. Strings and paths are hexadecimal, so that no comma is in one.
fn split(text: &[u8]) -> (&[u8], Vec<&[u8]>) {
    let open = text.iter().position(|byte| *byte == b'(').unwrap();
    let arguments = text[open + 1..].trim_ascii();
    let arguments = arguments.strip_suffix(b")").unwrap_or(arguments);
    (&text[..open], arguments.split(|byte| *byte == b',').map(|one| one.trim_ascii()).collect())
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn descriptor(text: &[u8]) -> u32 {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&text[..digits]).unwrap().parse().unwrap_or(u32::MAX)
}

fn bytes(text: &[u8]) -> Vec<u8> {
    assert!(text.ends_with(b"\""), "strace has cut a value");
    unescape(&text[1..text.len() - 1])
}

/// `\x41\x42`.
fn unescape(text: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| if byte < b'a' { byte.wrapping_sub(b'0') } else { byte - b'a' + 10 };
    text.as_chunks::<4>().0.iter().map(|[_, _, high, low]| digit(*high) << 4 | digit(*low)).collect()
}
