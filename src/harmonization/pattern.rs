//! The patterns of a format: written for Python's `re`, run by `regex`.
//!
//! IntelMQ searches (`re.search`) in `str(value)`. `regex` knows no look-around and no back-references, so that no value
//! of a peer can make it run long; a pattern with one is refused when the format is read. What both write in the same
//! way and mean differently is translated.

use regex::{Regex, RegexBuilder};

/// Compiles a Python pattern.
pub(super) fn compile(python: &str, ignore_case: bool) -> Result<Regex, String> {
    RegexBuilder::new(&translate(python)).case_insensitive(ignore_case).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "it is too large".into(),
        // The last line says what is wrong, those before it draw an arrow under the pattern.
        error => error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    })
}

fn translate(python: &str) -> String {
    let mut out = String::with_capacity(python.len() + 16);
    let mut chars = python.chars().peekable();
    let mut class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('Z') if !class => out.push_str(r"\z"),
                // `\<` is the begin of a word in `regex`.
                Some(c @ ('<' | '>')) => out.push(c),
                Some(c) => out.extend(['\\', c]),
                None => out.push('\\'),
            },
            // Before a line end at the end, too.
            '$' if !class => out.push_str(r"(?:\n?\z)"),
            '[' if !class => {
                class = true;
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                // A bracket that closes nothing stands for itself.
                if chars.next_if_eq(&']').is_some() {
                    out.push_str(r"\]");
                }
            }
            ']' if class => {
                class = false;
                out.push(']');
            }
            // Sets within sets, their intersection and difference are `regex`'s alone.
            '[' | '&' | '~' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_and_we_find_the_same() {
        let found = |pattern: &str, text: &str| compile(pattern, false).unwrap().is_match(text);
        assert!(found("b", "abc"));
        assert!(found("^[ -~]+$", "abc\n") && !found("^[ -~]+$", "abc\n\n") && !found("^[ -~]+$", "abc\nabc"));
        assert!(found(r"^a\Z", "a") && !found(r"^a\Z", "a\n"));
        assert!(found(r"^[[&~]+$", "[&~") && found(r"^[^]a]$", "b") && !found(r"^[^]a]$", "]"));
        assert!(found(r"^\<$", "<") && found(r"^[a-z$]+$", "a$"));
        assert!(compile("^(TCP|udp)$", true).unwrap().is_match("tcp"));
    }

    #[test]
    fn what_cannot_be_had_is_refused() {
        for pattern in ["(?=a)b", r"(a)\1", "(", "a{2", "[a"] {
            assert!(compile(pattern, false).is_err(), "{pattern}");
        }
    }
}
