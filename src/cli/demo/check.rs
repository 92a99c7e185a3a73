//! Whether what a node delivered is what was given: every event once, and byte for byte the same values.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use uuid::Uuid;

use crate::envelope::Message;
use crate::sample::Events;

/// Numbers that a complaint names.
const NAMED: usize = 10;

/// What was found in a node's directory of delivered events.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// By `extra.serial`: how often the event is there, and the UUID that it has.
    found: Vec<(u32, Option<Uuid>)>,
    /// Those whose content is not what was given.
    changed: Vec<u64>,
    /// Lines that are no event of ours, and what is wrong with the first.
    strange: u64,
    first: Option<String>,
}

impl Checked {
    /// Reads all that is there, and compares it with the first `count` events.
    pub(super) fn read(directory: &Path, events: &Events, count: u64) -> Checked {
        let mut checked = Checked { found: vec![(0, None); count as usize], ..Checked::default() };
        if let Err(error) = checked.read_files(directory, events) {
            checked.note_strange(format!("{}: {error}", directory.display()));
        }
        checked
    }

    fn read_files(&mut self, directory: &Path, events: &Events) -> io::Result<()> {
        for file in fs::read_dir(directory)? {
            let path = file?.path();
            if path.extension().is_none_or(|extension| extension != "jsonl") {
                continue;
            }
            for line in BufReader::new(File::open(path)?).lines() {
                if let Err(why) = self.line(&line?, events) {
                    self.note_strange(why);
                }
            }
        }
        Ok(())
    }

    fn line(&mut self, line: &str, events: &Events) -> Result<(), String> {
        let message = Message::read(line.as_bytes()).map_err(|error| error.to_string())?;
        let serial = message.fields.iter().find(|(key, _)| key == "extra.serial");
        let serial: u64 = serial.and_then(|(_, value)| value.parse().ok()).ok_or("an event without a number")?;
        let found = usize::try_from(serial).ok().and_then(|serial| self.found.get_mut(serial));
        let (times, id) = found.ok_or_else(|| format!("event {serial} was never given"))?;
        *times += 1;
        *id = message.id;
        // The fields' JSON texts, so that 1.0 is not 1, and numbers beyond 64 bits are compared to the last digit.
        let given = Message::read(events.event(serial).as_bytes()).map_err(|error| error.to_string())?;
        if fields(message) != fields(given) {
            self.changed.push(serial);
        }
        Ok(())
    }

    fn note_strange(&mut self, why: String) {
        self.strange += 1;
        self.first.get_or_insert(why);
    }

    /// Events that are there, each as often as it is.
    pub(super) fn delivered(&self) -> u64 {
        self.found.iter().map(|(times, _)| u64::from(*times)).sum()
    }

    /// Events that are there once, as they were given.
    pub(super) fn exact(&self) -> u64 {
        (self.serials(|times| times == 1).len() - self.changed_once()) as u64
    }

    fn changed_once(&self) -> usize {
        self.changed.iter().filter(|serial| self.found[**serial as usize].0 == 1).count()
    }

    /// The UUID of each event.
    pub(super) fn ids(&self) -> Vec<Option<Uuid>> {
        self.found.iter().map(|(_, id)| *id).collect()
    }

    pub(super) fn is_well(&self) -> bool {
        self.complaints().is_empty()
    }

    /// What is wrong.
    pub(super) fn complaints(&self) -> Vec<String> {
        let all = [
            ("missing", self.serials(|times| times == 0)),
            ("there more than once", self.serials(|times| times > 1)),
            ("changed on the way", self.changed.clone()),
            ("without a UUID", self.without_id()),
        ];
        let wrong = all.iter().filter(|(_, serials)| !serials.is_empty());
        let mut complaints: Vec<String> =
            wrong.map(|(what, serials)| format!("{} events are {what}: {}", serials.len(), named(serials))).collect();
        if let Some(first) = &self.first {
            complaints.push(format!("{} lines are no event of this demonstration: {first}", self.strange));
        }
        complaints
    }

    fn without_id(&self) -> Vec<u64> {
        (0..).zip(&self.found).filter(|(_, (times, id))| *times > 0 && id.is_none()).map(|(serial, _)| serial).collect()
    }

    fn serials(&self, holds: impl Fn(u32) -> bool) -> Vec<u64> {
        (0..).zip(&self.found).filter(|(_, (times, _))| holds(*times)).map(|(serial, _)| serial).collect()
    }
}

fn fields(message: Message) -> BTreeMap<String, String> {
    message.fields.into_iter().collect()
}

fn named(serials: &[u64]) -> String {
    let named: Vec<String> = serials.iter().take(NAMED).map(|serial| format!("#{serial}")).collect();
    let more = if serials.len() > NAMED { ", …" } else { "" };
    format!("{}{more}", named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "72ddb00c-2d0a-4eea-b7ac-ae122b8e6c3b";

    fn check(lines: &[String]) -> Checked {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("events.jsonl"), lines.join("\n")).unwrap();
        Checked::read(folder.path(), &Events::new(1), 3)
    }

    fn delivered(event: &str) -> String {
        let payload = event.replace(", \"__type\": \"Event\"", "");
        format!(
            r#"{{"format": "intelmq", "version": 1, "type": "event", "meta": {{"uuid": "{ID}"}}, "payload": {payload}}}"#
        )
    }

    #[test]
    fn what_was_given_is_well_and_everything_else_is_named() {
        let events = Events::new(1);
        let all: Vec<String> = (0..3).map(|serial| delivered(&events.event(serial))).collect();
        let checked = check(&all);
        assert!(checked.is_well(), "{:?}", checked.complaints());
        assert_eq!(checked.exact(), 3);

        let one_changed = all[1].replacen("100.0", "100", 1).replacen("80.0", "80", 1).replacen("95.5", "95", 1);
        assert_ne!(one_changed, all[1]);
        let wrong = [all[0].clone(), all[0].clone(), one_changed, "[]".to_owned(), delivered(&events.event(3))];
        let checked = check(&wrong);
        assert_eq!(checked.exact(), 0);
        assert_eq!(
            checked.complaints(),
            [
                "1 events are missing: #2",
                "1 events are there more than once: #0",
                "1 events are changed on the way: #1",
                "2 lines are no event of this demonstration: a JSON value, but no object: an event is {\"key\": value, …}",
            ]
        );
    }
}
