//! The files door: JSON lines, one item a line.
//!
//! [`source`] takes the files that are renamed into a directory, [`sink`] appends to one file and rotates it. All work
//! on files runs on tokio's blocking threads; a call whose future was dropped finishes there, and the next call
//! waits for it, so nothing is ever half done in memory. This file owns that, the lock that keeps others out of a door's
//! directory, and the sorting of errors.

mod sink;
mod source;

pub use sink::FilesSink;
pub use source::FilesSource;

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::DoorError;

/// State that one blocking call at a time works on, in the order of the calls.
struct Blocking<T> {
    state: Arc<Mutex<T>>,
    /// The last call, perhaps dropped and still at work, or not even begun.
    running: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Blocking<T> {
    fn new(state: T) -> Blocking<T> {
        Blocking { state: Arc::new(Mutex::new(state)), running: None }
    }

    /// Runs `work` on a blocking thread, after whatever a dropped call has left running.
    async fn run<R: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut T) -> Result<R, DoorError> + Send + 'static,
    ) -> Result<R, DoorError> {
        if let Some(running) = &mut self.running {
            // How it ended is not our matter: each call begins from what lies on disk.
            let _ = running.await;
            self.running = None;
        }
        let (answer, answered) = oneshot::channel();
        let state = Arc::clone(&self.state);
        self.running = Some(tokio::task::spawn_blocking(move || {
            let result = work(&mut state.lock().unwrap_or_else(PoisonError::into_inner));
            // Before the answer: a door that is dropped after it must be gone, its lock too.
            drop(state);
            // Nobody listens when the call was dropped.
            let _ = answer.send(result);
        }));
        answered.await.unwrap_or_else(|_| Err(DoorError::Retry("work on files was broken off; trying again".into())))
    }
}

/// A door's directory, locked as long as the door's state lives, so also while a dropped call of a dropped door is
/// still at work: neither that nor another relay comes in between.
#[derive(Default)]
struct Lock(Option<File>);

impl Lock {
    fn hold(&mut self, directory: &Path) -> Result<(), DoorError> {
        if self.0.is_some() {
            return Ok(());
        }
        let file = File::open(directory).map_err(|e| sort("opening", directory, &e))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Err(DoorError::Retry(format!(
                "{}: another door or relay uses this directory: each needs its own",
                directory.display()
            ))),
            // Some network file systems lock no directories: then it must do without.
            Ok(()) | Err(TryLockError::Error(_)) => {
                self.0 = Some(file);
                Ok(())
            }
        }
    }
}

/// Says what failed, where, and who must act.
fn sort(doing: &str, path: &Path, error: &io::Error) -> DoorError {
    use io::ErrorKind::*;
    let path = path.display();
    match error.kind() {
        NotFound => DoorError::Operator(format!("{doing} {path}: it is not there: create it ({error})")),
        PermissionDenied => DoorError::Operator(format!(
            "{doing} {path}: the relay's user may not: it needs read, write and search permission there ({error})"
        )),
        NotADirectory | IsADirectory | ReadOnlyFilesystem | InvalidFilename => {
            DoorError::Operator(format!("{doing} {path}: {error}: correct the door's directory"))
        }
        CrossesDevices => {
            DoorError::Operator(format!("{doing} {path}: {error}: both directories must be on one file system"))
        }
        StorageFull | QuotaExceeded => {
            DoorError::Retry(format!("{doing} {path}: the disk is full: waiting for room ({error})"))
        }
        _ => DoorError::Retry(format!("{doing} {path}: {error}; trying again")),
    }
}

/// Makes renames and removals in a directory durable.
fn sync_directory(directory: &Path) -> Result<(), DoorError> {
    File::open(directory).and_then(|dir| dir.sync_all()).map_err(|e| sort("syncing", directory, &e))
}
