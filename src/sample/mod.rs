//! Events to try the relay with, as varied as those of real feeds and made up from a seed.
//!
//! Texts are as IntelMQ's pipeline has them (Python's `json.dumps`: ASCII, `", "` and `": "`, `__type` last), with the
//! fields, types and sizes of Shadowserver's and other reports. No event is real: addresses and names are made of
//! chance. Pure: the same seed and number give the same event, on every machine and in every version of the libraries.

mod dice;
mod draft;
mod feeds;

use crate::envelope::Tlp;
use dice::Dice;
use draft::Draft;

/// Events without end, each with its own `extra.serial`, counted from 0.
#[derive(Debug, Clone)]
pub struct Events {
    seed: u64,
    tlp: Option<Tlp>,
    serial: u64,
}

impl Events {
    /// The events of this seed. Labels are mixed: most are GREEN or CLEAR, some AMBER, some have none.
    pub fn new(seed: u64) -> Events {
        Events { seed, tlp: None, serial: 0 }
    }

    /// The same events, all with this label.
    #[must_use]
    pub fn labelled(self, tlp: Tlp) -> Events {
        Events { tlp: Some(tlp), ..self }
    }

    /// The event with this number; independent of what was taken from the iterator.
    pub fn event(&self, serial: u64) -> String {
        let mut draft = Draft::new(Dice::new(self.seed, serial), serial);
        feeds::describe(&mut draft);
        let label = match self.tlp {
            Some(tlp) => Some(tlp),
            None => mixed(&mut draft.dice),
        };
        // IntelMQ knows the names of TLP 1 only.
        match label {
            Some(Tlp::Clear) => draft.text("tlp", "WHITE"),
            Some(label) => draft.text("tlp", label.as_str()),
            None => {}
        }
        draft.json("extra.serial", serial);
        draft.finish()
    }
}

fn mixed(dice: &mut Dice) -> Option<Tlp> {
    match dice.below(100) {
        0..60 => Some(Tlp::Green),
        60..85 => Some(Tlp::Clear),
        85..92 => Some(Tlp::Amber),
        _ => None,
    }
}

impl Iterator for Events {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let event = self.event(self.serial);
        self.serial += 1;
        Some(event)
    }

    /// Skips at no cost.
    fn nth(&mut self, n: usize) -> Option<String> {
        self.serial = self.serial.saturating_add(n as u64);
        self.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::Message;
    use std::collections::{HashMap, HashSet};

    const SEED: u64 = 7;
    const COUNT: usize = 5000;

    fn events() -> Vec<String> {
        Events::new(SEED).take(COUNT).collect()
    }

    #[test]
    fn every_event_is_one_that_the_relay_takes() {
        let mut serials = HashSet::new();
        for text in events() {
            let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
            assert!(text.is_ascii() && !text.contains('\n') && text.ends_with(r#", "__type": "Event"}"#), "{text}");
            let message = Message::read(text.as_bytes()).unwrap_or_else(|e| panic!("{e}: {text}"));
            assert_eq!(message.fields.len() + 1, json.as_object().unwrap().len(), "a key twice: {text}");
            assert!(serials.insert(json["extra.serial"].as_u64().unwrap()));
            for (key, value) in &message.fields {
                let well = key.split('.').all(|part| {
                    part.starts_with(|c: char| c.is_ascii_lowercase())
                        && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
                });
                assert!(well, "IntelMQ refuses the key {key}");
                assert!(
                    !["\"\"", "\"-\"", "\"N/A\"", "null"].contains(&value.as_str()),
                    "IntelMQ drops {key}: {value}"
                );
            }
        }
    }

    #[test]
    fn sizes_and_fields_are_those_of_real_feeds() {
        let events = events();
        let sizes: Vec<usize> = events.iter().map(String::len).collect();
        let mean = sizes.iter().sum::<usize>() / COUNT;
        assert!((1200..1600).contains(&mean), "mean {mean} bytes");
        let (least, most) = (*sizes.iter().min().unwrap(), *sizes.iter().max().unwrap());
        assert!((200..400).contains(&least) && (6000..12_000).contains(&most), "from {least} to {most} bytes");
        let fields: usize = events.iter().map(|text| Message::read(text.as_bytes()).unwrap().fields.len()).sum();
        let fields = fields as f64 / COUNT as f64;
        assert!((17.0..20.0).contains(&fields), "mean {fields} fields");
        println!("{mean} bytes and {fields} fields in the mean");
    }

    #[test]
    fn there_is_something_of_everything() {
        let events = events().join("\n");
        let kinds = [
            "scanner",
            "infected-system",
            "phishing",
            "vulnerable-system",
            "ddos",
            "brute-force",
            "blacklist",
            "data-leak",
            "c2-server",
        ];
        for kind in kinds {
            assert!(events.contains(&format!(r#""classification.type": "{kind}""#)), "{kind}");
        }
        let pieces = [
            "source.fqdn",
            "source.url",
            "source.asn",
            "malware.name",
            r#""raw": ""#,
            r"\ud83d",
            r"\u00fc",
            r#"": 100.0"#,
            r#": {"#,
            r#": [""#,
            "2001:db8:",
            r#""tlp": "WHITE""#,
        ];
        for piece in pieces {
            assert!(events.contains(piece), "{piece}");
        }
        let big = |run: &str| run.len() > 20 && run.parse::<u64>().is_err();
        assert!(events.split(|c: char| !c.is_ascii_digit()).any(big), "an integer beyond 64 bits");
    }

    #[test]
    fn a_seed_gives_the_same_events_on_every_machine() {
        let events = Events::new(SEED);
        let mut skipped = events.clone();
        assert_eq!(skipped.nth(41), Some(events.event(41)));
        assert_eq!(skipped.next(), Some(events.event(42)));
        assert_ne!(Events::new(SEED + 1).event(0), events.event(0));
        let mut count = HashMap::new();
        for text in events.labelled(Tlp::Green).take(200) {
            *count.entry(Message::read(text.as_bytes()).unwrap().tlp).or_insert(0) += 1;
        }
        assert_eq!(count, HashMap::from([(Some(Tlp::Green), 200)]));
    }
}
