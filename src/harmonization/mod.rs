//! IntelMQ's data format: makes a message valid for a local IntelMQ, or says why it cannot be.
//!
//! Pure: no I/O, no clock, no randomness; where the text of a `harmonization.conf` comes from is somebody else's. What
//! stops a bot must never pass, with everything queued behind it: an unknown key, Base64 cut short, `a..b` for a host.
//! And nothing may be lost: a value is kept, mended as IntelMQ itself would mend it, moved to `extra`, or the whole
//! message is a [`Misfit`]. A reason never quotes a value, which may be confidential.
//!
//! `tests/harmonization.rs` holds this room against IntelMQ, value by value, and has every difference with its reason.

mod address;
mod builtin;
mod conf;
mod host;
mod keys;
mod pattern;
mod time;
mod types;
mod value;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

use crate::envelope::Kind;
use crate::envelope::json::{self, Member};
use types::{Rule, Type};
use value::Value;

type Section = HashMap<Box<str>, Rule>;

/// The fields that an IntelMQ knows.
#[derive(Debug)]
pub struct Format {
    event: Section,
    report: Section,
}

/// What is wrong with a format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct FormatError {
    /// `event: source.ip`, the name of a section, or empty for the whole.
    pub field: String,
    /// What is wrong there.
    pub reason: String,
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.field {
            "" => f.write_str(&self.reason),
            field => write!(f, "{field}: {}", self.reason),
        }
    }
}

/// Why a message cannot be made valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Misfit {
    /// The field; empty for the message as a whole.
    pub key: String,
    /// For a person, without the value.
    pub reason: String,
}

/// Longest key in a reason, in characters.
const KEY_SHOWN: usize = 64;

impl Misfit {
    fn new(key: &str, reason: impl Into<String>) -> Misfit {
        Misfit { key: key.chars().take(KEY_SHOWN).collect(), reason: reason.into() }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.key {
            "" => f.write_str(&self.reason),
            // Control characters and the like are shown, not sent to a terminal.
            key => write!(f, "{}: {}", key.escape_debug(), self.reason),
        }
    }
}

/// A field of the result.
type Fitted<'a> = (Cow<'a, str>, Cow<'a, str>);

impl Format {
    /// The format of IntelMQ 3.5.0.
    pub fn builtin() -> &'static Format {
        static BUILTIN: LazyLock<Format> = LazyLock::new(Format::of_builtin);
        &BUILTIN
    }

    /// Whether an event or a report can have this field.
    pub fn has(&self, field: &str) -> bool {
        field.starts_with("extra.") || self.event.contains_key(field) || self.report.contains_key(field)
    }

    /// Makes a message of this kind valid, or says why it cannot be. `fields` are keys and JSON texts, as in a
    /// [`Message`](crate::envelope::Message); each text must be one well-formed value.
    ///
    /// The result is in the same order, but that `extra.a` comes behind `extra.a.b`. Values that are valid keep their text to the byte. What IntelMQ drops on reading
    /// (`null`, `""`, `"-"`, `"N/A"`) is left out.
    pub fn fit<'a>(
        &self,
        kind: Kind,
        fields: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Vec<Fitted<'a>>, Misfit> {
        let section = match kind {
            Kind::Event => &self.event,
            Kind::Report => &self.report,
            Kind::Withdrawal => return Err(Misfit::new("", "IntelMQ knows no withdrawals")),
        };
        let mut fitting = Fitting { section, done: Vec::with_capacity(fields.size_hint().0.max(16)) };
        for (key, value) in fields {
            fitting.field(key, value)?;
        }
        let mut done = fitting.done;
        if done.is_empty() {
            return Err(Misfit::new("", "no field has a value"));
        }
        if let Some(key) = keys::twice(done.iter().map(|(key, _)| &**key)) {
            return Err(Misfit::new(key, "two fields of the message have this key in IntelMQ"));
        }
        keys::outer_ones_last(&mut done, |(key, _)| key);
        Ok(done)
    }
}

struct Fitting<'f, 'a> {
    section: &'f Section,
    done: Vec<Fitted<'a>>,
}

impl<'f, 'a> Fitting<'f, 'a> {
    fn field(&mut self, key: &'a str, value: &'a str) -> Result<(), Misfit> {
        if is_ignored(value) {
            return Ok(());
        }
        if let Some(rule) = self.section.get(key) {
            return match rule.kind {
                Type::JsonDict => self.spread(key, rule, value),
                Type::Tlp => self.label(key, rule, value),
                _ => self.plain(key, rule, value),
            };
        }
        match self.dictionary_of(key) {
            Some(rule) => self.inside(rule, legal(key, Cow::Borrowed(key))?, value.into()),
            None => self.moved(key, key, value),
        }
    }

    fn plain(&mut self, key: &'a str, rule: &Rule, value: &'a str) -> Result<(), Misfit> {
        match rule.fit(value).map_err(|reason| Misfit::new(key, reason))? {
            None => self.done.push((key.into(), value.into())),
            // What became nothing by mending is nothing to the next bot.
            Some(fixed) if is_ignored(&fixed) => {}
            Some(fixed) => self.done.push((key.into(), fixed.into())),
        }
        Ok(())
    }

    /// IntelMQ has the names of TLP 1. CLEAR is WHITE under another name. AMBER+STRICT has none: AMBER is the strictest
    /// label that is not false, and the exact one is kept in `extra.tlp`, for whoever passes the event on.
    fn label(&mut self, key: &'a str, rule: &Rule, value: &'a str) -> Result<(), Misfit> {
        let label = json::string(value).and_then(|text| types::tlp_label(&text));
        match label.as_deref() {
            Some("CLEAR") => self.done.push((key.into(), "\"WHITE\"".into())),
            Some("AMBER+STRICT") => {
                self.done.push((key.into(), "\"AMBER\"".into()));
                self.moved(key, "tlp", "\"AMBER+STRICT\"")?;
            }
            _ => self.plain(key, rule, value)?,
        }
        Ok(())
    }

    /// A field that the local format lacks, where IntelMQ itself puts such fields.
    fn moved(&mut self, from: &str, key: &str, value: &'a str) -> Result<(), Misfit> {
        let extra = self.section.get("extra").filter(|rule| rule.kind == Type::JsonDict);
        let rule = extra.ok_or_else(|| Misfit::new(from, "the local format has neither this field nor extra"))?;
        let moved = legal(from, Cow::Owned(format!("extra.{key}")))?;
        self.inside(rule, moved, value.into())
    }

    /// The rule of the dictionary that a key lies in.
    fn dictionary_of(&self, key: &str) -> Option<&'f Rule> {
        let (root, _) = key.split_once('.')?;
        self.section.get(root).filter(|rule| rule.kind == Type::JsonDict)
    }

    /// A member of a dictionary: any JSON.
    fn inside(&mut self, rule: &Rule, key: Cow<'a, str>, value: Cow<'a, str>) -> Result<(), Misfit> {
        let fits = value::check(&value).map_err(str::to_owned).and_then(|()| {
            if !rule.has_limits() {
                return Ok(());
            }
            match Value::read(&value)? {
                // Its `str()` is Python's own notation, which is not made here.
                Value::Nested(_) => {
                    Err("the local format limits its length or form, and this is no plain value".into())
                }
                plain => rule.limits(&plain),
            }
        });
        fits.map_err(|reason: String| Misfit::new(&key, reason))?;
        self.done.push((key, value));
        Ok(())
    }

    /// A whole dictionary, as an object or as a text that is one: each member becomes a field.
    fn spread(&mut self, key: &'a str, rule: &Rule, value: &'a str) -> Result<(), Misfit> {
        let fail = |reason: &str| Misfit::new(key, reason);
        const EXPECTED: &str = "an object with members is expected";
        let text = if value.starts_with('"') {
            let text = json::string(value).ok_or_else(|| fail(value::SURROGATE))?;
            Cow::Owned(value::strip(&text).to_owned())
        } else {
            Cow::Borrowed(value)
        };
        let members = json::members(&text).ok().flatten().filter(|members| !members.is_empty());
        let members: Vec<Member<'_>> = members.ok_or_else(|| fail(EXPECTED))?;
        if rule.has_limits() {
            let whole = if value.starts_with('"') { text.to_string() } else { value::dumps(&text).map_err(fail)? };
            rule.limits(&whole.into()).map_err(|reason| fail(&reason))?;
        }
        for (member, value) in members {
            // IntelMQ keeps empty values in `extra` alone, and the next bot drops all of them but lists and objects.
            if is_ignored(value) || key != "extra" && is_empty(value) {
                continue;
            }
            let inner = legal(key, Cow::Owned(format!("{key}.{member}")))?;
            self.inside(rule, inner, Cow::Owned(value.to_owned()))?;
        }
        Ok(())
    }
}

/// A key as IntelMQ reads it. Upper case becomes lower case: where that makes two keys one, the message is a misfit, so
/// nothing is mixed up; and who looks for `extra.Foo` finds it. Other characters have no such obvious other form.
fn legal<'k>(from: &str, mut key: Cow<'k, str>) -> Result<Cow<'k, str>, Misfit> {
    if key.bytes().any(|b| b.is_ascii_uppercase()) {
        key = Cow::Owned(key.to_ascii_lowercase());
    }
    match keys::is_legal(&key) {
        true => Ok(key),
        false => Err(Misfit::new(from, "IntelMQ takes no key like this one: a-z, 0-9 and _, with dots between")),
    }
}

/// Values that IntelMQ drops on reading.
fn is_ignored(value: &str) -> bool {
    match value {
        "null" | "\"\"" | "\"-\"" | "\"N/A\"" => true,
        // The same with escapes; three of them at most.
        _ if value.len() <= 20 && value.contains('\\') => {
            json::string(value).is_some_and(|text| ["-", "N/A"].contains(&&*text))
        }
        _ => false,
    }
}

fn is_empty(value: &str) -> bool {
    value.starts_with(['[', '{']) && value[1..value.len() - 1].bytes().all(|b| b.is_ascii_whitespace())
}

#[cfg(test)]
mod tests;
