//! An event being written: the pipeline's JSON, and beside it the line of the report that it is parsed from.

use std::fmt::{Display, Write};

use super::dice::{Dice, Time};

/// 2026-01-01. Feeds bring one event every few seconds from then on.
const BEGIN: u64 = 1_767_225_600;

pub(super) struct Draft {
    pub(super) dice: Dice,
    /// When the feed was read, seconds since 1970.
    pub(super) read_at: u64,
    json: String,
    /// The report's CSV: names of its columns, and the row.
    columns: String,
    row: String,
    scratch: String,
}

impl Draft {
    pub(super) fn new(dice: Dice, serial: u64) -> Draft {
        // 30 years of events, and then again.
        let read_at = BEGIN + serial.wrapping_mul(3) % 946_080_000;
        let (json, columns, row) =
            (String::with_capacity(2048), String::with_capacity(512), String::with_capacity(512));
        Draft { dice, read_at, json, columns, row, scratch: String::new() }
    }

    /// A text, as in no report.
    pub(super) fn text(&mut self, key: &str, value: impl Display) {
        self.write(key, "", value, true);
    }

    /// A JSON value that is no text, as in no report: it must be written as `json.dumps` does.
    pub(super) fn json(&mut self, key: &str, value: impl Display) {
        self.write(key, "", value, false);
    }

    /// A text that stands in the report under `column`.
    pub(super) fn cell(&mut self, key: &str, column: &str, value: impl Display) {
        self.write(key, column, value, true);
    }

    /// A number that stands in the report under `column`.
    pub(super) fn number(&mut self, key: &str, column: &str, value: impl Display) {
        self.write(key, column, value, false);
    }

    pub(super) fn time(&mut self, key: &str, column: &str, seconds: u64) {
        self.cell(key, column, Time(seconds));
    }

    fn write(&mut self, key: &str, column: &str, value: impl Display, quoted: bool) {
        self.json.push_str(if self.json.is_empty() { "{\"" } else { ", \"" });
        self.json.push_str(key);
        self.json.push_str("\": ");
        self.scratch.clear();
        // Writing into a String does not fail.
        let _ = write!(self.scratch, "{value}");
        if quoted {
            push_text(&mut self.json, &self.scratch);
        } else {
            self.json.push_str(&self.scratch);
        }
        if !column.is_empty() {
            let comma = if self.columns.is_empty() { "" } else { "," };
            let _ = write!(self.columns, "{comma}\"{column}\"");
            let _ = write!(self.row, "{comma}\"{}\"", self.scratch);
        }
    }

    /// A column that the parser does not take over.
    pub(super) fn unread(&mut self, column: &str, value: impl Display) {
        let _ = write!(self.columns, ",\"{column}\"");
        let _ = write!(self.row, ",\"{value}\"");
    }

    /// The report so far as `raw`: a parser keeps the names of the columns and the row.
    pub(super) fn raw(&mut self) {
        self.columns.push('\n');
        self.columns.push_str(&self.row);
        self.json.push_str(", \"raw\": \"");
        push_base64(&mut self.json, self.columns.as_bytes());
        self.json.push('"');
    }

    pub(super) fn finish(mut self) -> String {
        self.text("__type", "Event");
        self.json.push('}');
        self.json
    }
}

/// A text as `json.dumps` writes it.
fn push_text(out: &mut String, text: &str) {
    out.push('"');
    if text.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\') {
        out.push_str(text);
    } else {
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                ' '..='~' => out.push(c),
                _ => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                }
            }
        }
    }
    out.push('"');
}

fn push_base64(out: &mut String, bytes: &[u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = (byte(0) << 16) | (byte(1) << 8) | byte(2);
        for i in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * i)) as usize & 63];
            out.push(if i > chunk.len() { '=' } else { char::from(digit) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_written_as_python_does() {
        let mut out = String::new();
        push_text(&mut out, "a\"\\\n\u{7f}ü🔥");
        assert_eq!(out, r#""a\"\\\n\u007f\u00fc\ud83d\udd25""#);
    }

    #[test]
    fn base64_is_that_of_the_standard() {
        for (bytes, expected) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            let mut out = String::new();
            push_base64(&mut out, bytes.as_bytes());
            assert_eq!(out, expected);
        }
    }
}
