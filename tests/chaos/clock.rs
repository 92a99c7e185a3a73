//! Clocks that are wrong: `libfaketime` before a node's process, which reads a file every second.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// The library, where it is there and works.
pub struct Faketime(PathBuf);

impl Faketime {
    /// Finds it; or why not.
    pub fn find() -> Result<Faketime, String> {
        let folders = std::fs::read_dir("/usr/lib").map_err(|e| e.to_string())?;
        let places = folders.flatten().map(|folder| folder.path().join("faketime/libfaketime.so.1"));
        let library = places.into_iter().find(|file| file.exists());
        let library = library.ok_or("no libfaketime: apt-get install faketime")?;
        let mut date = Command::new("date");
        date.arg("+%s").env("LD_PRELOAD", &library).env("FAKETIME", "+86400s");
        let output = date.output().map_err(|e| format!("date: {e}"))?;
        let shown: u64 = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or(0);
        if shown > now() + 80_000 { Ok(Faketime(library)) } else { Err("libfaketime does not work here".into()) }
    }

    /// Words before a process whose clock this file sets.
    pub fn around(&self, file: &Path) -> Vec<String> {
        set(file, 0);
        let set = |name: &str, value: &str| format!("{name}={value}");
        vec![
            "env".into(),
            set("LD_PRELOAD", self.0.to_str().unwrap()),
            set("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap()),
            set("FAKETIME_CACHE_DURATION", "1"),
            // What a node measures is not what is wrong.
            set("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]
    }
}

/// The clock of this file is so many seconds ahead. In one step, since it is read at any time.
pub fn set(file: &Path, seconds: i64) {
    let new = file.with_extension("new");
    std::fs::write(&new, format!("{seconds:+}s\n")).unwrap();
    std::fs::rename(new, file).unwrap();
}

/// What the library leaves of a process that was killed: without that, one that gets its number would not start.
pub fn forget(shared: &Path, process: u32) {
    for name in [format!("faketime_shm_{process}"), format!("sem.faketime_sem_{process}")] {
        let _ = std::fs::remove_file(shared.join(name));
    }
}

/// Seconds since 1970, by the right clock.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}
