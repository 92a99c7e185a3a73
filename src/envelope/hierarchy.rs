//! Hierarchical events: what IntelMQ's output bots write with `hierarchical_output`, back as flat ones.
//!
//! IntelMQ itself reads flat events only: its JSON parser refuses `{"source": {"ip": …}}` as an invalid key. One
//! nested member it knows, `extra`, and takes apart by one level; what lies deeper there is a value. So a nested member
//! is taken apart here to its end, and `extra` by one level, which is what IntelMQ would have made of it. Where the
//! sender had `extra.a.b`, the hierarchy does not tell it from an `extra.a` that is an object: it becomes that.
//! Values keep their text.

use super::json;
use super::read::{Message, Unreadable};
use super::wire::Bounds;

/// Names in a key, at most; IntelMQ's own have three. What is nested deeper is a value.
const DEEPEST: usize = 8;
/// Fields whose value may be an object.
const VALUES: [&str; 1] = ["output"];

impl Message {
    /// Turns nested members of an event of IntelMQ's into flat ones. Bounded as what comes out of it is.
    pub fn flatten(&mut self, bounds: &Bounds) -> Result<(), Unreadable> {
        let nested = |(key, value): &(String, String)| is_nested(key, value);
        if self.format != "intelmq" || !self.fields.iter().any(nested) {
            return Ok(());
        }
        let mut flat = Flat { fields: Vec::with_capacity(self.fields.len()), bytes: 0, bounds };
        for field in std::mem::take(&mut self.fields) {
            if nested(&field) {
                let depth = if field.0 == "extra" { 1 } else { DEEPEST - 1 };
                flat.take_apart(&field.0, &field.1, depth)?;
            } else {
                flat.add(field.0, &field.1)?;
            }
        }
        self.fields = flat.fields;
        let mut keys: Vec<&str> = self.fields.iter().map(|(key, _)| key.as_str()).collect();
        keys.sort_unstable();
        match keys.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(Unreadable::Meta {
                key: pair[0].chars().take(64).collect(),
                what: "it is there twice, nested and by its dotted name",
            }),
            None => Ok(()),
        }
    }
}

/// An object with something in it, where IntelMQ has none: keys with a dot, as `extra.a`, may have any value.
fn is_nested(key: &str, value: &str) -> bool {
    value.starts_with('{')
        && !key.is_empty()
        && !key.contains('.')
        && !VALUES.contains(&key)
        && !value[1..].trim_start().starts_with('}')
}

struct Flat<'a> {
    fields: Vec<(String, String)>,
    bytes: usize,
    bounds: &'a Bounds,
}

impl Flat<'_> {
    fn take_apart(&mut self, prefix: &str, value: &str, depth: usize) -> Result<(), Unreadable> {
        let Some(members) = json::members(value)? else { return self.add(prefix.to_owned(), value) };
        if members.is_empty() {
            return self.add(prefix.to_owned(), value);
        }
        for (key, value) in members {
            // Before it is made: a long name over many members would become long many times.
            self.room(prefix.len() + 1 + key.len() + value.len())?;
            let name = format!("{prefix}.{key}");
            if depth > 1 && value.starts_with('{') {
                self.take_apart(&name, value, depth - 1)?;
            } else {
                self.add(name, value)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, key: String, value: &str) -> Result<(), Unreadable> {
        self.room(key.len() + value.len())?;
        self.bytes += key.len() + value.len();
        self.fields.push((key, value.to_owned()));
        Ok(())
    }

    fn room(&self, more: usize) -> Result<(), Unreadable> {
        if self.bytes + more <= self.bounds.bytes && self.fields.len() < self.bounds.fields {
            return Ok(());
        }
        Err(Unreadable::Meta {
            key: "nested members".into(),
            what: "taken apart, they are more than limits.fields or limits.envelope_bytes",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { bytes: 1 << 16, fields: 100, path: 32 };

    fn flat(text: &str) -> Result<Vec<(String, String)>, Unreadable> {
        let mut message = Message::read(text.as_bytes()).unwrap();
        message.flatten(&BOUNDS).map(|()| message.fields)
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn nested_members_become_flat_and_keep_their_text() {
        let text = r#"{"classification": {"type": "c2-server"}, "source": {"geolocation": {"cc": "AT"}, "ip": "192.0.2.1", "port": 1.0},
            "extra": {"a": {"b": 1e5}, "c": NaN, "d": [ 1,{} ]}, "output": {"x": 1}, "raw": "eA=="}"#;
        let expected = [
            ("classification.type", r#""c2-server""#),
            ("source.geolocation.cc", r#""AT""#),
            ("source.ip", r#""192.0.2.1""#),
            ("source.port", "1.0"),
            ("extra.a", r#"{"b": 1e5}"#),
            ("extra.c", "NaN"),
            ("extra.d", "[ 1,{} ]"),
            ("output", r#"{"x": 1}"#),
            ("raw", r#""eA==""#),
        ];
        assert_eq!(flat(text).unwrap(), pairs(&expected));
    }

    #[test]
    fn flat_events_stay_as_they_are() {
        for text in [
            r#"{"source.ip": "192.0.2.1", "extra.a": {"b": 1}}"#,
            r#"{"extra": {}, "source": { }}"#,
            r#"{"extra": "{\"a\": 1}", "": {"a": 1}}"#,
            r#"{"format": "n6", "payload": {"address": {"ip": "192.0.2.1"}}, "meta": {}, "version": 1}"#,
        ] {
            let message = Message::read(text.as_bytes()).unwrap();
            let mut flat = message.clone();
            flat.flatten(&BOUNDS).unwrap();
            assert_eq!(flat, message, "{text}");
        }
        assert_eq!(flat(r#"{"source": {"x": {}}}"#).unwrap(), pairs(&[("source.x", "{}")]));
    }

    #[test]
    fn a_field_that_is_there_twice_is_refused() {
        let error = flat(r#"{"source.ip": "192.0.2.1", "source": {"ip": "192.0.2.2"}}"#).unwrap_err().to_string();
        assert!(error.starts_with("source.ip: it is there twice"), "{error}");
    }

    #[test]
    fn what_grows_is_bounded() {
        let long = "k".repeat(1000);
        let members: Vec<String> = (0..90).map(|n| format!("\"{n}\": 1")).collect();
        assert!(flat(&format!("{{\"{long}\": {{{}}}}}", members.join(", "))).is_err());
        let many: Vec<String> = (0..101).map(|n| format!("\"{n}\": 1")).collect();
        assert!(flat(&format!("{{\"a\": {{{}}}}}", many.join(", "))).is_err());
        // Deeper than any key: a value.
        let deep = format!("{}1{}", "{\"a\": ".repeat(20), "}".repeat(20));
        let fields = flat(&deep).unwrap();
        assert_eq!((fields.len(), fields[0].0.as_str()), (1, "a.a.a.a.a.a.a.a"));
    }
}
