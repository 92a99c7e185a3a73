//! Values as Python sees them: IntelMQ checks and mends what `json.loads` made of a message, so "is it empty", "how long
//! is it" and "what number is this text" are answered here as Python answers them.
//!
//! What no IntelMQ should be given at all is refused on reading, whatever the field: half a surrogate pair (outputs
//! cannot encode it), `NaN` and `Infinity` (no JSON: strict readers and PostgreSQL refuse the whole event; a number
//! like `1e999` becomes one), and integers longer than Python reads.

use std::borrow::Cow;

use crate::envelope::json::{self, Token, push_string};

/// Most digits of an integer that Python reads from a text.
const MAX_DIGITS: usize = 4300;

pub(super) const SURROGATE: &str = "half of a surrogate pair stands in it, which outputs cannot write";
const NOT_FINITE: &str = "NaN and Infinity are no JSON, and databases refuse them";
const TOO_LONG: &str = "an integer has more digits than Python reads";

/// One value of a message. Arrays and objects keep their text.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'a> {
    Text(Cow<'a, str>),
    /// Decimal digits, as Python writes the number.
    Int(Cow<'a, str>),
    Float(f64),
    Bool(bool),
    Nested(&'a str),
}

impl<'a> Value<'a> {
    /// `json` is a well-formed value and not `null`.
    pub(super) fn read(json: &'a str) -> Result<Value<'a>, &'static str> {
        match json.as_bytes().first() {
            Some(b'"') => json::string(json).map(Value::Text).ok_or(SURROGATE),
            Some(b'{' | b'[') => Ok(Value::Nested(json)),
            Some(b't' | b'f') => Ok(Value::Bool(json == "true")),
            _ => number(json),
        }
    }

    /// `str(value)`.
    pub(super) fn text(&self) -> Cow<'_, str> {
        match self {
            Value::Text(text) | Value::Int(text) => Cow::Borrowed(text),
            Value::Float(float) => Cow::Owned(float_text(*float)),
            Value::Bool(true) => Cow::Borrowed("True"),
            Value::Bool(false) => Cow::Borrowed("False"),
            Value::Nested(text) => Cow::Borrowed(text),
        }
    }

    /// As JSON, in Python's notation.
    pub(super) fn json(&self) -> String {
        match self {
            Value::Text(text) => {
                let mut out = String::with_capacity(text.len() + 2);
                push_string(&mut out, text);
                out
            }
            Value::Bool(true) => "true".into(),
            Value::Bool(false) => "false".into(),
            other => other.text().into_owned(),
        }
    }

    /// For a person: what kind of value it is, and never the value itself.
    pub(super) fn kind(&self) -> String {
        match self {
            Value::Text(text) => format!("a text of {} characters", text.chars().count()),
            Value::Int(digits) => format!("an integer of {} digits", digits.trim_start_matches('-').len()),
            Value::Float(_) => "a number with a fraction".into(),
            Value::Bool(_) => "true or false".into(),
            Value::Nested(text) if text.starts_with('[') => "a list".into(),
            Value::Nested(_) => "an object".into(),
        }
    }
}

fn number(json: &str) -> Result<Value<'_>, &'static str> {
    if json.ends_with(['N', 'y']) {
        return Err(NOT_FINITE);
    }
    if json.contains(['.', 'e', 'E']) {
        return json.parse().ok().filter(|float: &f64| float.is_finite()).map(Value::Float).ok_or(NOT_FINITE);
    }
    match json {
        "-0" => Ok(Value::Int("0".into())),
        _ if json.len() > MAX_DIGITS => Err(TOO_LONG),
        _ => Ok(Value::Int(json.into())),
    }
}

/// Whether nothing in a well-formed value is refused on reading.
pub(super) fn check(json: &str) -> Result<(), &'static str> {
    json::tokens(json).try_for_each(|token| match token {
        Err(_) => Err(SURROGATE),
        Ok(Token::Number(text)) => number(text).map(|_| ()),
        Ok(Token::Word("null" | "true" | "false")) => Ok(()),
        Ok(Token::Word(_)) => Err(NOT_FINITE),
        Ok(_) => Ok(()),
    })
}

/// `json.dumps(value, sort_keys=True)` of a well-formed value.
pub(super) fn dumps(json: &str) -> Result<String, &'static str> {
    let mut out = String::with_capacity(json.len());
    let mut tokens = json::tokens(json).map(|token| token.map_err(|_| SURROGATE));
    match tokens.next() {
        Some(first) => dump(first?, &mut tokens, &mut out)?,
        None => return Err("there is no value"),
    }
    Ok(out)
}

/// As deep as the value is nested, and the scanner bounds that.
fn dump<'a>(
    first: Token<'a>,
    rest: &mut impl Iterator<Item = Result<Token<'a>, &'static str>>,
    out: &mut String,
) -> Result<(), &'static str> {
    match first {
        Token::Text(text) => push_string(out, &text),
        Token::Number(text) => out.push_str(&number(text)?.text()),
        Token::Word(word @ ("null" | "true" | "false")) => out.push_str(word),
        Token::Word(_) => return Err(NOT_FINITE),
        Token::Close => return Err("brackets do not match"),
        Token::Open(b'[') => {
            out.push('[');
            let mut separator = "";
            while let Some(token) = rest.next().transpose()?.filter(|token| *token != Token::Close) {
                out.push_str(separator);
                dump(token, rest, out)?;
                separator = ", ";
            }
            out.push(']');
        }
        Token::Open(_) => {
            let mut members = std::collections::BTreeMap::new();
            while let Some(Token::Text(key)) = rest.next().transpose()? {
                let mut value = String::new();
                dump(rest.next().transpose()?.ok_or("a value is missing")?, rest, &mut value)?;
                members.insert(key, value);
            }
            out.push('{');
            let mut separator = "";
            for (key, value) in &members {
                out.push_str(separator);
                push_string(out, key);
                out.push_str(": ");
                out.push_str(value);
                separator = ", ";
            }
            out.push('}');
        }
    }
    Ok(())
}

/// `repr(float)`.
fn float_text(float: f64) -> String {
    // Shortest digits that read back as the same number, in both languages; only the layout differs.
    let scientific = format!("{float:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = format!("{float}");
        if plain.contains('.') { plain } else { plain + ".0" }
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{digits}e{sign}{:02}", exponent.abs())
    }
}

/// What `str.strip()` takes away.
pub(super) fn is_white(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

pub(super) fn strip(text: &str) -> &str {
    text.trim_matches(is_white)
}

/// What `int` and `float` take away: of ASCII texts, what C calls blanks.
fn strip_number(text: &str) -> &str {
    let blank = |c| matches!(c, ' ' | '\t'..='\r');
    if text.is_ascii() { text.trim_matches(blank) } else { strip(text) }
}

/// `int(text)`, for ASCII digits; as Python writes it.
pub(super) fn int(text: &str) -> Option<String> {
    let text = strip_number(text);
    let (minus, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = without_underscores(digits)?;
    if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = digits.trim_start_matches('0');
    Some(if digits.is_empty() { "0".into() } else { format!("{minus}{digits}") })
}

/// `float(text)`, where it is a number.
pub(super) fn float(text: &str) -> Option<f64> {
    without_underscores(strip_number(text))?.parse().ok().filter(|float: &f64| float.is_finite())
}

/// Python lets one underscore stand between two digits.
fn without_underscores(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('_') {
        return Some(Cow::Borrowed(text));
    }
    let bytes = text.as_bytes();
    let digit = |i: Option<usize>| i.and_then(|i| bytes.get(i)).is_some_and(u8::is_ascii_digit);
    let between = |i: usize| digit(i.checked_sub(1)) && digit(Some(i + 1));
    let fine = bytes.iter().enumerate().all(|(i, b)| *b != b'_' || between(i));
    fine.then(|| Cow::Owned(text.replace('_', "")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_look_like_pythons() {
        for (float, text) in [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e-5, "1.5e-05"),
            (1e-4, "0.0001"),
            (1e300, "1e+300"),
        ] {
            assert_eq!(float_text(float), text);
        }
    }

    #[test]
    fn numbers_are_read_as_python_reads_them() {
        for (text, number) in
            [(" 80\n", "80"), ("\u{a0}8\x1f", "8"), ("+0080", "80"), ("-0", "0"), ("1_000", "1000"), ("-5", "-5")]
        {
            assert_eq!(int(text).as_deref(), Some(number), "{text:?}");
        }
        for text in ["", "-", "\x1f8", "80.0", "_1", "1_", "1__0", "0x10", "+-1", "1 0"] {
            assert_eq!(int(text), None, "{text:?}");
        }
        assert_eq!(float(" 1_0.5e1 "), Some(105.0));
        assert_eq!([float("inf"), float("nan"), float("1e999"), float("1_.5"), float("")], [None; 5]);
    }

    #[test]
    fn objects_are_written_sorted() {
        let json = r#"{"b":[1.0,{"z":null}],"a":"\u00e9","b" : [10E2,{ }]}"#;
        assert_eq!(dumps(json).unwrap(), r#"{"a": "\u00e9", "b": [1000.0, {}]}"#);
        for json in [r#"[NaN]"#, r#"{"a":-Infinity}"#, r#"{"\ud800":1}"#, r#"["\udc00"]"#, "[1e999]"] {
            assert!(dumps(json).is_err() && check(json).is_err(), "{json}");
        }
    }
}
