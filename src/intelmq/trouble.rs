//! What is said of a door that does not do what it should, and how often.
//!
//! Owns the pauses before a door is tried again, and that neither a door that is away nor somebody who sends nothing
//! but poison fills the log.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::DoorError;
use crate::envelope::Name;
use crate::store::Quarantined;

/// A door that does not open: waits, and says so once, and once when it is over.
pub(super) struct Trouble {
    door: Name,
    said: Option<String>,
    pause: Duration,
}

/// First and longest pause before a door is tried again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// The pause where only the operator can help.
const OPERATOR_PAUSE: Duration = Duration::from_secs(30);

impl Trouble {
    pub(super) fn new(door: Name) -> Trouble {
        Trouble { door, said: None, pause: PAUSE.0 }
    }

    pub(super) async fn wait(&mut self, error: &DoorError) {
        let text = error.to_string();
        let pause = match error {
            DoorError::Retry(_) => {
                let pause = self.pause;
                self.pause = (pause * 2).min(PAUSE.1);
                pause
            }
            DoorError::Operator(_) => OPERATOR_PAUSE,
        };
        if self.said.as_ref() != Some(&text) {
            match error {
                DoorError::Retry(_) => warn!(door = %self.door, "{text}; trying again"),
                DoorError::Operator(_) => error!(door = %self.door, "{text}"),
            }
            self.said = Some(text);
        }
        tokio::time::sleep(pause).await;
    }

    pub(super) fn over(&mut self) {
        self.pause = PAUSE.0;
        if self.said.take().is_some() {
            info!(door = %self.door, "the door is open again");
        }
    }
}

/// How often a door says that it puts things into quarantine; how many there are is in its counters.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Items of a door that go into quarantine.
#[derive(Debug, Default)]
pub struct HeldBack(Mutex<Option<Instant>>);

impl HeldBack {
    /// Says so, if there are any and it was not said just before.
    pub(super) fn tell(&self, door: &Name, items: &[Quarantined]) {
        let Some(Quarantined { reason, .. }) = items.first() else { return };
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|said| said.elapsed() >= TELL_EVERY) {
            *said = Some(Instant::now());
            warn!(
                %door, items = items.len(), first = reason,
                "kept in quarantine (what follows within a minute is only counted: see `quarantine list`)"
            );
        }
    }
}
