//! Reading a format: a `harmonization.conf`, or the built-in table.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::builtin;
use super::keys;
use super::pattern::Room;
use super::types::{Rule, Type};
use super::{Format, FormatError, Section};

impl FormatError {
    fn new(field: &str, reason: impl Into<String>) -> FormatError {
        FormatError { field: field.to_owned(), reason: reason.into() }
    }
}

impl Format {
    /// Reads the text of a `harmonization.conf`.
    ///
    /// Patterns with look-around or back-references are refused: nothing that a peer sends may make a pattern run long.
    /// Rewrite such a pattern, or leave it out of the file that the relay is given.
    pub fn parse(text: &str) -> Result<Format, FormatError> {
        let conf: Value = serde_json::from_str(text).map_err(|e| FormatError::new("", format!("not JSON: {e}")))?;
        let mut room = Room::new();
        let mut section = |name: &str| {
            let fields = conf.get(name).and_then(Value::as_object);
            let fields =
                fields.ok_or_else(|| FormatError::new(name, "the object with the fields of this kind is missing"))?;
            let rules: Result<Section, _> = fields
                .iter()
                .map(|(field, says)| Ok((field.as_str().into(), rule(name, field, says, &mut room)?)))
                .collect();
            rules
        };
        Ok(Format { event: section("event")?, report: section("report")? })
    }

    pub(super) fn of_builtin() -> Format {
        let mut room = Room::new();
        let mut section = |fields: &[builtin::Field]| -> Section {
            fields
                .iter()
                .map(|field| {
                    let rule = Type::named(field.kind).ok_or_else(|| "no type".to_owned()).and_then(|kind| {
                        Ok(Rule {
                            kind,
                            length: field.length,
                            patterns: patterns(field.regex, field.iregex, &mut room)?,
                        })
                    });
                    // A constant, and read by a test.
                    (field.name.into(), rule.expect("the built-in table is right"))
                })
                .collect::<HashMap<_, _>>()
        };
        Format { event: section(builtin::EVENT), report: section(builtin::REPORT) }
    }
}

fn rule(section: &str, field: &str, says: &Value, room: &mut Room) -> Result<Rule, FormatError> {
    let fail = |reason: String| FormatError::new(&format!("{section}: {field}"), reason);
    if !keys::is_legal(field) {
        return Err(fail("IntelMQ takes no key like this one: a-z, 0-9 and _, with dots between".into()));
    }
    let says = says.as_object().ok_or_else(|| fail("an object with its type is expected".into()))?;
    let name = text(says, "type").map_err(fail)?.ok_or_else(|| fail("its type is missing".into()))?;
    let mut kind = Type::named(name).ok_or_else(|| fail(format!("there is no type {name:?}")))?;
    if (section, field, kind) == ("event", "extra", Type::Json) {
        // IntelMQ reads formats of its first versions so.
        kind = Type::JsonDict;
    }
    let length = match says.get("length") {
        None => None,
        Some(length) => {
            let length = length.as_u64().ok_or_else(|| fail("length: a whole number is expected".into()))?;
            Some(usize::try_from(length).unwrap_or(usize::MAX))
        }
    };
    let [regex, iregex] = [text(says, "regex").map_err(fail)?, text(says, "iregex").map_err(fail)?];
    Ok(Rule { kind, length, patterns: patterns(regex, iregex, room).map_err(fail)? })
}

fn text<'a>(says: &'a Map<String, Value>, key: &str) -> Result<Option<&'a str>, String> {
    match says.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{key}: a text is expected")),
    }
}

fn patterns(regex: Option<&str>, iregex: Option<&str>, room: &mut Room) -> Result<Vec<regex::Regex>, String> {
    let given = [("regex", regex, false), ("iregex", iregex, true)];
    let given = given.into_iter().filter_map(|(key, pattern, ignore_case)| Some((key, pattern?, ignore_case)));
    given
        .map(|(key, pattern, ignore_case)| {
            room.compile(pattern, ignore_case)
                .map_err(|why| format!("{key}: the relay cannot use this pattern ({why})"))
        })
        .collect()
}
