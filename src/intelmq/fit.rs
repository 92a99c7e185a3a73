//! Fit: which events a sink gives, and how each is written so that no bot chokes on it.
//!
//! Owns the choice of the data format, and that nothing leaves for an IntelMQ which does not fit it.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use tracing::info;

use super::DoorError;
use crate::config::{Events, Harmonization, Withdrawals};
use crate::envelope::{Envelope, Kind, Name, Shape, rfc3339};
use crate::harmonization::Format;
use crate::store::{Entry, Part};

/// Which events a sink gives, and how.
pub struct Fit {
    events: Events,
    shape: Shape,
    format: Option<Local>,
}

/// Why an event is not given.
pub(super) enum Unfit {
    /// A message that IntelMQ's pipeline has no form for.
    NoForm,
    /// It does not fit the data format, for this reason.
    Misfit(String),
}

impl Fit {
    /// `usual`: the shape where none is configured.
    pub fn new(events: &Events, usual: Shape) -> Fit {
        let shape = events.shape.unwrap_or(usual);
        let flat = matches!(shape, Shape::Typed | Shape::Extra | Shape::Bare);
        let format = (flat && events.harmonization != Harmonization::None).then(Local::default);
        Fit { events: events.clone(), shape, format }
    }

    /// Reads the data format where it is new or has changed: who adds a field to it need not restart the relay.
    pub(super) fn refresh(&mut self, door: &Name) -> Result<(), DoorError> {
        match &mut self.format {
            Some(local) => local.refresh(&self.events.harmonization, door),
            None => Ok(()),
        }
    }

    /// Why the entry is not for this sink; `None`: it is. What our own IntelMQ gave us does not go back to it. `envelope` is
    /// the entry's, opened if need be.
    pub(super) fn not_for_it(&self, entry: &Entry, envelope: &Envelope) -> Option<Part> {
        let (events, header) = (&self.events, envelope.header());
        let tagged = || events.tags.is_empty() || header.tags.iter().any(|tag| events.tags.contains(tag));
        if entry.from.is_none() {
            Some(Part::Own)
        } else if entry.envelope.withdraws().is_some() {
            // For whoever was given the event: the lists have been asked then.
            (events.withdrawals == Withdrawals::None).then_some(Part::Withdrawals)
        } else if entry.completes && !events.completions {
            Some(Part::Completions)
        } else if !among(&events.types, &header.kind) {
            Some(Part::Types)
        } else if !among(&events.origins, &header.origin) {
            Some(Part::Origins)
        } else if !among(&events.formats, &header.format) {
            Some(Part::Formats)
        } else {
            (!tagged()).then_some(Part::Tags)
        }
    }

    /// The text of an event; [`Fit::refresh`] was called before.
    pub(super) fn text(&self, envelope: &Envelope) -> Result<Bytes, Unfit> {
        let header = envelope.header();
        if header.kind == Kind::Withdrawal {
            return self.withdrawal(envelope);
        }
        let intelmq = header.format == "intelmq";
        // On IntelMQ's pipeline, a message of another format stops the bot that reads it, with everything behind it. So
        // does a report where an event is expected: an expert adds what reports have not.
        let report = header.kind == Kind::Report && self.events.types.is_empty();
        if (!intelmq || report) && matches!(self.shape, Shape::Typed | Shape::Extra) {
            return Err(Unfit::NoForm);
        }
        let Some(local) = self.format.as_ref().filter(|_| intelmq) else {
            return Ok(envelope.write(self.shape).into());
        };
        self.fitted(local.format(), envelope, header.kind, envelope.payload_fields())
    }

    fn fitted<'a>(
        &self,
        format: &Format,
        envelope: &Envelope,
        kind: Kind,
        fields: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Bytes, Unfit> {
        let fields = format.fit(kind, fields).map_err(|misfit| Unfit::Misfit(misfit.to_string()))?;
        Ok(envelope.write_fitted(self.shape, fields.iter().map(|(key, value)| (&**key, &**value))).into())
    }

    /// IntelMQ has no word for a withdrawal: in a flat shape it is an event that says so, and names the withdrawn one.
    fn withdrawal(&self, envelope: &Envelope) -> Result<Bytes, Unfit> {
        let header = envelope.header();
        if matches!(self.shape, Shape::Iep04 | Shape::Proposed) {
            return Ok(envelope.write(self.shape).into());
        }
        let Some(id) = header.links.withdraws.filter(|_| header.format == "intelmq") else {
            return Err(Unfit::NoForm);
        };
        let text = |text: &str| serde_json::Value::from(text).to_string();
        let observed = text(&rfc3339(header.time));
        let (id, origin) = (text(&id.to_string()), text(header.origin.as_str()));
        let reason = envelope.field("reason").unwrap_or("\"\"");
        let fields = [
            ("classification.type", "\"other\""),
            ("classification.identifier", "\"withdrawn\""),
            ("time.observation", &observed),
            ("event_description.text", reason),
            // The shape that has meta data writes them itself.
            ("extra.relay.withdraws", &id),
            ("extra.relay.origin", &origin),
        ];
        let fields = || fields.iter().map(|(key, value)| (*key, *value)).filter(|(_, value)| *value != "\"\"");
        match &self.format {
            Some(local) => self.fitted(local.format(), envelope, Kind::Event, fields()),
            None => Ok(envelope.write_fitted(self.shape, fields()).into()),
        }
    }
}

/// Whether the data format that a sink's events are made to fit can be read: what keeps the door closed, if not.
pub fn probe_format(events: &Events, usual: Shape, door: &Name) -> Result<(), DoorError> {
    Fit::new(events, usual).refresh(door)
}

fn among<T: PartialEq>(list: &[T], one: &T) -> bool {
    list.is_empty() || list.contains(one)
}

/// The local IntelMQ's data format, as it was when it was last looked at.
#[derive(Default)]
struct Local {
    /// `None`: the built-in one.
    file: Option<(PathBuf, Stamp)>,
    read: Option<Format>,
    said: bool,
}

/// What tells a file from a changed one.
type Stamp = (u64, u64, Option<SystemTime>);

fn stamp(metadata: &Metadata) -> Stamp {
    (metadata.ino(), metadata.len(), metadata.modified().ok())
}

impl Local {
    fn format(&self) -> &Format {
        self.read.as_ref().unwrap_or_else(|| Format::builtin())
    }

    fn refresh(&mut self, choice: &Harmonization, door: &Name) -> Result<(), DoorError> {
        let found = match choice {
            Harmonization::File(path) => Some(look(path).map_err(|error| unreadable(path, &error))?),
            Harmonization::Auto => intelmq_files("harmonization.conf").iter().find_map(|path| look(path).ok()),
            Harmonization::Builtin | Harmonization::None => None,
        };
        if found == self.file && self.said {
            return Ok(());
        }
        self.read = match &found {
            None => {
                info!(%door, "events are made to fit the data format of IntelMQ 3.5.0");
                None
            }
            Some((path, _)) => {
                let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
                let format = Format::parse(&text).map_err(|error| {
                    DoorError::Operator(format!(
                        "the data format {}: {error}; correct it, or set `harmonization` in the door's events to \
                         another one; nothing is given until then",
                        path.display()
                    ))
                })?;
                info!(%door, file = %path.display(), "events are made to fit this data format");
                Some(format)
            }
        };
        (self.file, self.said) = (found, true);
        Ok(())
    }
}

fn look(path: &Path) -> io::Result<(PathBuf, Stamp)> {
    Ok((path.to_owned(), stamp(&std::fs::metadata(path)?)))
}

fn unreadable(path: &Path, error: &io::Error) -> DoorError {
    DoorError::Operator(format!(
        "cannot read the data format {}: {error}; correct `harmonization` in the door's events, or let the relay's user \
         read it; nothing is given until then",
        path.display()
    ))
}

/// Where an IntelMQ on this machine keeps a configuration file: as its own programs look for it, and as its packages
/// install it.
pub(super) fn intelmq_files(name: &str) -> Vec<PathBuf> {
    let root = std::env::var_os("INTELMQ_ROOT_DIR").map(|root| Path::new(&root).join("etc"));
    let usual = ["/opt/intelmq/etc", "/etc/intelmq"].map(PathBuf::from);
    root.into_iter().chain(usual).map(|folder| folder.join(name)).collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;
    use crate::envelope::{Bounds, Draft, Message, Sealed, Secret, seal};

    fn withdrawal(format: &str, reason: &str) -> Sealed {
        let origin: Name = "cert-at".parse().unwrap();
        let mut event = Message::read(b"{}").unwrap().header(&origin, Uuid::nil(), 0);
        event.format = format.into();
        let fields = vec![("reason".into(), json!(reason).to_string())];
        let draft = Draft::new(event.withdrawal(Uuid::max(), 0), fields, &Bounds::default()).unwrap();
        seal(&Secret::from_seed(&[1; 32]), vec![draft], &mut rand_chacha::ChaCha20Rng::seed_from_u64(1)).remove(0)
    }

    #[test]
    fn a_withdrawal_is_an_event_that_tells_of_it() {
        let events = |harmonization| Events { withdrawals: Withdrawals::Event, harmonization, ..Events::default() };
        for harmonization in [Harmonization::Builtin, Harmonization::None] {
            for shape in [Shape::Extra, Shape::Typed, Shape::Bare] {
                let fit = Fit::new(&events(harmonization.clone()), shape);
                let text = fit.text(&withdrawal("intelmq", "wrong")).ok().unwrap();
                let event: Value = serde_json::from_slice(&text).unwrap();
                assert_eq!(event["classification.type"], "other", "{shape:?}");
                assert_eq!(event["classification.identifier"], "withdrawn");
                assert_eq!(event["event_description.text"], "wrong");
                assert_eq!(event["extra.relay.withdraws"], Uuid::nil().to_string());
                assert_eq!(event["extra.relay.origin"], "cert-at");
                assert_eq!(event.get("__type"), (shape != Shape::Bare).then(|| json!("Event")).as_ref());
                assert!(matches!(fit.text(&withdrawal("n6", "wrong")), Err(Unfit::NoForm)));
                let silent = fit.text(&withdrawal("intelmq", "")).ok().unwrap();
                assert!(!String::from_utf8_lossy(&silent).contains("event_description"), "no empty value");
            }
        }
        let fit = Fit::new(&events(Harmonization::Builtin), Shape::Iep04);
        assert!(fit.text(&withdrawal("n6", "wrong")).is_ok());
        let message: Value = serde_json::from_slice(&fit.text(&withdrawal("intelmq", "wrong")).ok().unwrap()).unwrap();
        assert_eq!(message["type"], "withdrawal");
        assert_eq!(message["meta"]["relay:withdraws"], Uuid::nil().to_string());
    }

    #[test]
    fn what_is_moved_to_fit_does_not_speak_as_a_relay() {
        let origin: Name = "cert-at".parse().unwrap();
        let header = Message::read(b"{}").unwrap().header(&origin, Uuid::nil(), 0);
        let fields = [("relay.withdraws", "\"x\""), ("relay.origin", "\"cert-zz\""), ("source.ip", "\"192.0.2.1\"")];
        let fields = fields.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
        let draft = Draft::new(header, fields, &Bounds::default()).unwrap();
        let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
        let sealed = seal(&Secret::from_seed(&[1; 32]), vec![draft], &mut rng).remove(0);
        let events = Events { harmonization: Harmonization::Builtin, ..Events::default() };
        for shape in [Shape::Extra, Shape::Typed, Shape::Bare] {
            let event: Value = serde_json::from_slice(&Fit::new(&events, shape).text(&sealed).ok().unwrap()).unwrap();
            assert_eq!(event["source.ip"], "192.0.2.1");
            assert_eq!(event.get("extra.relay.withdraws"), None, "{shape:?}");
            assert_ne!(event.get("extra.relay.origin"), Some(&json!("cert-zz")), "{shape:?}");
        }
    }
}
