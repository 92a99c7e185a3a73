//! JSON as IntelMQ writes and reads it, taken apart without touching the values.
//!
//! IntelMQ's JSON is Python's: `NaN` and `Infinity`, integers of any size, `1.0` that must not become `1`, lone
//! surrogates as escapes, duplicate keys of which the last wins. A value is therefore a span of text here, checked
//! to be one complete value, never a number or a string.

use std::borrow::Cow;

/// Deepest nesting of arrays and objects. Python's own limit is near 1,000; no event comes near this one.
const MAX_DEPTH: usize = 128;

/// Why a text is not JSON (of IntelMQ's dialect).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not JSON at byte {at}: {what}")]
pub struct JsonError {
    /// Offset in the text.
    pub at: usize,
    /// What is wrong there.
    pub what: &'static str,
}

/// A member of the top-level object: its key, decoded, and its value as written.
pub type Member<'a> = (Cow<'a, str>, &'a str);

/// What [`JsonError`] says of a text that is JSON but for its depth.
pub const TOO_DEEP: &str = "nested too deeply";

/// Whether `text` is one complete value. Keys and strings are not decoded: lone surrogates pass.
/// It may be as deep as a member's value in [`members`].
pub fn complete(text: &str) -> Result<(), JsonError> {
    let mut scan = Scan { text: text.as_bytes(), at: 0 };
    scan.white();
    scan.value(MAX_DEPTH)?;
    scan.end()
}

/// The members of the object that `text` is, in order, with duplicates resolved as Python does: the last value at the
/// first one's place. `Ok(None)`: one complete JSON value, but no object.
pub fn members(text: &str) -> Result<Option<Vec<Member<'_>>>, JsonError> {
    members_within(text, MAX_DEPTH)
}

/// The members of an object that holds such objects: an IEP04 message has values within `payload`, and extensions within
/// `meta`.
pub fn outer_members(text: &str) -> Result<Option<Vec<Member<'_>>>, JsonError> {
    members_within(text, MAX_DEPTH + 1)
}

fn members_within(text: &str, depth: usize) -> Result<Option<Vec<Member<'_>>>, JsonError> {
    let mut scan = Scan { text: text.as_bytes(), at: 0 };
    scan.white();
    if scan.peek() != Some(b'{') {
        return complete(text).map(|()| None);
    }
    scan.at += 1;
    let mut members: Vec<Member<'_>> = Vec::with_capacity(16);
    scan.white();
    if !scan.eat(b'}') {
        loop {
            scan.white();
            let key = scan.key(text)?;
            scan.white();
            scan.expect(b':', "a colon is missing")?;
            scan.white();
            let from = scan.at;
            scan.value(depth)?;
            members.push((key, &text[from..scan.at]));
            scan.white();
            if scan.eat(b'}') {
                break;
            }
            scan.expect(b',', "a comma or the end of the object is missing")?;
        }
    }
    scan.end()?;
    last_wins(&mut members);
    Ok(Some(members))
}

fn last_wins(members: &mut Vec<Member<'_>>) {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by(|&a, &b| members[a].0.cmp(&members[b].0).then(a.cmp(&b)));
    let same = |&a: &usize, &b: &usize| members[a].0 == members[b].0;
    let runs: Vec<&[usize]> = order.chunk_by(same).filter(|run| run.len() > 1).collect();
    if runs.is_empty() {
        return;
    }
    let mut drop: Vec<usize> = runs.iter().flat_map(|run| &run[1..]).copied().collect();
    drop.sort_unstable();
    let last: Vec<(usize, &str)> = runs.iter().map(|run| (run[0], members[run[run.len() - 1]].1)).collect();
    for (first, value) in last {
        members[first].1 = value;
    }
    let mut index = 0..;
    members.retain(|_| index.next().is_some_and(|i| drop.binary_search(&i).is_err()));
}

/// The text of a JSON string; `None` when `value` is another kind of value or holds a lone surrogate.
pub fn string(value: &str) -> Option<Cow<'_, str>> {
    let mut scan = Scan { text: value.as_bytes(), at: 0 };
    if scan.peek() != Some(b'"') {
        return None;
    }
    scan.key(value).ok()
}

/// A piece of a JSON text: see [`tokens`].
#[derive(Debug, Clone, PartialEq)]
pub enum Token<'a> {
    /// `{` or `[`.
    Open(u8),
    /// `}` or `]`.
    Close,
    /// A string, or the key of a member.
    Text(Cow<'a, str>),
    /// A number, as written.
    Number(&'a str),
    /// `null`, `true`, `false`, `NaN`, `Infinity` or `-Infinity`.
    Word(&'a str),
}

/// The pieces of a value that [`members`] found well-formed, one after the other, without commas and colons. The error
/// left is a lone surrogate.
pub fn tokens(value: &str) -> impl Iterator<Item = Result<Token<'_>, JsonError>> {
    let mut scan = Scan { text: value.as_bytes(), at: 0 };
    std::iter::from_fn(move || {
        while matches!(scan.peek(), Some(b' ' | b'\t' | b'\n' | b'\r' | b',' | b':')) {
            scan.at += 1;
        }
        scan.peek().map(|first| scan.token(first, value))
    })
    .fuse()
}

/// Appends `text` as a JSON string in ASCII, as Python's `json.dumps` writes it.
pub fn push_string(out: &mut String, text: &str) {
    use std::fmt::Write;
    out.push('"');
    // As nearly every key is.
    if text.bytes().all(|b| matches!(b, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~')) {
        out.push_str(text);
        out.push('"');
        return;
    }
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a String cannot fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

/// How many bytes stand at the begin of `text` before the first quote, backslash or control character. Eight at a time:
/// most of an event is in strings, and each is looked at again by whoever takes the event.
fn plain(text: &[u8]) -> usize {
    let (words, rest) = text.as_chunks();
    for (word, at) in words.iter().zip((0..).step_by(8)) {
        let marks = marks(u64::from_le_bytes(*word));
        if marks != 0 {
            return at + marks.trailing_zeros() as usize / 8;
        }
    }
    text.len() - rest.len() + rest.iter().take_while(|b| !matches!(b, b'"' | b'\\' | 0..0x20)).count()
}

/// The top bit of each byte that is a quote, a backslash or a control character. Bytes above the first such one may be
/// marked wrongly, as the subtraction borrows from them.
fn marks(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    let below = |word: u64, least: u64| word.wrapping_sub(ONES * least) & !word;
    let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    (is(b'"') | is(b'\\') | below(word, 0x20)) & (ONES << 7)
}

struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn fail<T>(&self, what: &'static str) -> Result<T, JsonError> {
        Err(JsonError { at: self.at, what })
    }

    fn white(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), JsonError> {
        if self.eat(byte) { Ok(()) } else { self.fail(what) }
    }

    fn end(&mut self) -> Result<(), JsonError> {
        self.white();
        if self.at == self.text.len() { Ok(()) } else { self.fail("there is more after the value") }
    }

    fn value(&mut self, depth: usize) -> Result<(), JsonError> {
        match self.peek() {
            None => self.fail("a value is missing"),
            Some(b'"') => self.string().map(|_| ()),
            Some(b'{') => self.nested(depth, b'}', true),
            Some(b'[') => self.nested(depth, b']', false),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => self.word(&[b"null", b"true", b"false", b"NaN", b"Infinity"]),
        }
    }

    fn nested(&mut self, depth: usize, close: u8, object: bool) -> Result<(), JsonError> {
        if depth == 0 {
            return self.fail(TOO_DEEP);
        }
        self.at += 1;
        self.white();
        if self.eat(close) {
            return Ok(());
        }
        loop {
            if object {
                self.white();
                self.string()?;
                self.white();
                self.expect(b':', "a colon is missing")?;
            }
            self.white();
            self.value(depth - 1)?;
            self.white();
            if self.eat(close) {
                return Ok(());
            }
            self.expect(b',', "a comma or a closing bracket is missing")?;
        }
    }

    fn token<'t>(&mut self, first: u8, text: &'t str) -> Result<Token<'t>, JsonError> {
        let from = self.at;
        match first {
            b'{' | b'[' => {
                self.at += 1;
                Ok(Token::Open(first))
            }
            b'}' | b']' => {
                self.at += 1;
                Ok(Token::Close)
            }
            b'"' => self.key(text).map(Token::Text),
            _ => {
                // Depth counts for what is nested only.
                self.value(0)?;
                let span = &text[from..self.at];
                Ok(if span.ends_with(|c: char| c.is_ascii_digit()) { Token::Number(span) } else { Token::Word(span) })
            }
        }
    }

    fn word(&mut self, words: &[&[u8]]) -> Result<(), JsonError> {
        match words.iter().find(|word| self.text[self.at..].starts_with(word)) {
            Some(word) => {
                self.at += word.len();
                Ok(())
            }
            None => self.fail("no JSON value begins here"),
        }
    }

    fn number(&mut self) -> Result<(), JsonError> {
        if self.eat(b'-') && self.peek() == Some(b'I') {
            return self.word(&[b"Infinity"]);
        }
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        if !self.peek().is_some_and(|b| b.is_ascii_digit()) {
            return self.fail("a digit is missing");
        }
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    /// Passes over a string; tells whether it holds escapes.
    fn string(&mut self) -> Result<bool, JsonError> {
        self.expect(b'"', "a string is missing")?;
        let mut escapes = false;
        loop {
            self.at += plain(&self.text[self.at..]);
            match self.peek() {
                None => return self.fail("a string does not end"),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escapes);
                }
                Some(b'\\') => {
                    escapes = true;
                    self.at += 1;
                    self.escape()?;
                }
                Some(_) => return self.fail("a control character stands in a string unescaped"),
            }
        }
    }

    fn escape(&mut self) -> Result<Option<u16>, JsonError> {
        let Some(kind) = self.peek() else { return self.fail("a string does not end") };
        match kind {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {
                self.at += 1;
                Ok(None)
            }
            b'u' => {
                let digits = self.text.get(self.at + 1..self.at + 5).filter(|d| d.iter().all(u8::is_ascii_hexdigit));
                let Some(digits) = digits else { return self.fail("\\u needs four hexadecimal digits") };
                let unit = digits.iter().fold(0, |unit, &d| unit << 4 | (d as char).to_digit(16).unwrap_or(0) as u16);
                self.at += 5;
                Ok(Some(unit))
            }
            _ => self.fail("no escape begins so"),
        }
    }

    /// Reads a string that must be Unicode text: borrowed where it has no escapes.
    fn key<'t>(&mut self, text: &'t str) -> Result<Cow<'t, str>, JsonError> {
        let from = self.at + 1;
        if !self.string()? {
            return Ok(Cow::Borrowed(&text[from..self.at - 1]));
        }
        let end = self.at - 1;
        let mut decoded = String::with_capacity(end - from);
        let mut inner = Scan { text: &self.text[..end], at: from };
        let mut plain = from;
        while inner.at < end {
            if inner.peek() != Some(b'\\') {
                inner.at += 1;
                continue;
            }
            decoded.push_str(&text[plain..inner.at]);
            inner.at += 1;
            let kind = inner.peek();
            match (inner.escape()?, kind) {
                (Some(high @ 0xd800..0xdc00), _) => {
                    let low = if inner.eat(b'\\') { inner.escape()? } else { None };
                    let pair = low.and_then(|low| char::decode_utf16([high, low]).next()?.ok());
                    let Some(c) = pair else { return inner.fail("half of a surrogate pair stands alone") };
                    decoded.push(c);
                }
                (Some(unit), _) => match char::from_u32(unit.into()) {
                    Some(c) => decoded.push(c),
                    None => return inner.fail("half of a surrogate pair stands alone"),
                },
                (None, Some(b'b')) => decoded.push('\u{8}'),
                (None, Some(b'f')) => decoded.push('\u{c}'),
                (None, Some(b'n')) => decoded.push('\n'),
                (None, Some(b'r')) => decoded.push('\r'),
                (None, Some(b't')) => decoded.push('\t'),
                (None, same) => decoded.push(same.unwrap_or(b'?') as char),
            }
            plain = inner.at;
        }
        decoded.push_str(&text[plain..end]);
        Ok(Cow::Owned(decoded))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let members = members(text).unwrap().expect("an object");
        members.into_iter().map(|(k, v)| (k.into_owned(), v.to_owned())).collect()
    }

    #[test]
    fn values_keep_their_text() {
        let text = r#" { "a" : 1.0 , "b":[1, {"c": "}]"}],"extra.x":NaN,"y":-Infinity,"z":123456789012345678901234567890,
            "s":"\ud800 \u00e9","n":null,"e":{}, "f": 1e5 } "#;
        let got = pairs(text);
        assert_eq!(got[0], ("a".into(), "1.0".into()));
        assert_eq!(got[1], ("b".into(), r#"[1, {"c": "}]"}]"#.into()));
        assert_eq!(got[2].1, "NaN");
        assert_eq!(got[3].1, "-Infinity");
        assert_eq!(got[4].1, "123456789012345678901234567890");
        assert_eq!(got[5].1, r#""\ud800 \u00e9""#);
        assert_eq!(got.len(), 9);
    }

    #[test]
    fn the_last_duplicate_wins_at_the_first_ones_place() {
        assert_eq!(pairs(r#"{"a":1,"b":2,"a":3}"#), [("a".into(), "3".into()), ("b".into(), "2".into())]);
        assert_eq!(pairs(r#"{"a":1,"\u0061":3}"#), [("a".into(), "3".into())]);
    }

    #[test]
    fn keys_are_decoded() {
        assert_eq!(pairs(r#"{"\u00e9\n\"\\\/\ud83d\ude00x":1}"#)[0].0, "é\n\"\\/😀x");
        assert!(members(r#"{"\ud800":1}"#).is_err());
        assert!(members(r#"{"\ud800\u0041":1}"#).is_err());
        assert!(members(r#"{"\udc00":1}"#).is_err());
    }

    /// Else what was read could not be sealed.
    #[test]
    fn a_members_value_is_complete() {
        let deep = format!("{{\"a\":{}}}", "[".repeat(MAX_DEPTH) + &"]".repeat(MAX_DEPTH));
        for text in [r#"{"a":{"\ud800":1,"\ud800":{"b":NaN}}}"#, &deep] {
            for (_, value) in members(text).unwrap().unwrap() {
                assert_eq!(complete(value), Ok(()), "{value}");
            }
        }
        for text in ["", "{", "1 2", "{\"a\":1}, \"b\": 2"] {
            assert!(complete(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_end_of_a_string_is_found_wherever_it_is() {
        for special in ['"', '\\', '\u{1f}', '\0'] {
            for at in 0..20 {
                // Behind it there may be anything; before it, what differs from it by a bit, and all that is not ASCII.
                for before in ['a', ' ', '!', '#', '[', ']', '\u{7f}', 'é', '\u{a2}', '\u{dc}', '😀'] {
                    let plain_text = before.to_string().repeat(at);
                    for after in ["", "\"", "\\ ", "\u{1}#\"\\abcdefgh"] {
                        let text = format!("{plain_text}{special}{after}");
                        assert_eq!(plain(text.as_bytes()), plain_text.len(), "{text:?}");
                    }
                    assert_eq!(plain(plain_text.as_bytes()), plain_text.len());
                }
            }
        }
    }

    #[test]
    fn what_is_no_object_is_told_from_what_is_no_json() {
        for text in ["[1,2]", "\"x\"", "NaN", " 0 ", "-1.5e-7"] {
            assert_eq!(members(text), Ok(None), "{text}");
        }
        for text in [
            "",
            " ",
            "{",
            "{}x",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{,}",
            "{a:1}",
            "{'a':1}",
            "01",
            "1.",
            "-",
            "+1",
            "1e",
            "nul",
            "\"\n\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\\u12",
            "\"abc",
            "[1 2]",
            "[1,]",
            "{\"a\":1 \"b\":2}",
            "\u{feff}{}",
            "{\"a\":.5}",
            "{\"a\":-NaN}",
            "truex",
        ] {
            assert!(members(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |n: usize| format!("{{\"a\":{}{}}}", "[".repeat(n), "]".repeat(n));
        assert!(members(&nested(MAX_DEPTH)).is_ok());
        assert!(members(&nested(MAX_DEPTH + 1)).is_err());
        assert!(members(&"[".repeat(1_000_000)).is_err());
    }

    #[test]
    fn a_value_is_taken_apart() {
        use Token::{Close, Number, Open, Text, Word};
        let all: Result<Vec<_>, _> = tokens(r#"{"a\n": [1.0, -Infinity, null],"b":"x"} "#).collect();
        let text = |text: &'static str| Text(text.into());
        let expected =
            [Open(b'{'), text("a\n"), Open(b'['), Number("1.0"), Word("-Infinity"), Word("null"), Close, text("b")];
        assert_eq!(all.unwrap(), [&expected[..], &[text("x"), Close]].concat());
        assert!(tokens(r#"["\ud800"]"#).any(|token| token.is_err()));
    }

    #[test]
    fn strings_are_written_as_python_writes_them() {
        let mut out = String::new();
        push_string(&mut out, "a\"\\\n\u{1}é😀\u{7f}");
        assert_eq!(out, r#""a\"\\\n\u0001\u00e9\ud83d\ude00\u007f""#);
        assert_eq!(string(&out).unwrap(), "a\"\\\n\u{1}é😀\u{7f}");
        assert_eq!(string("1"), None);
    }
}
