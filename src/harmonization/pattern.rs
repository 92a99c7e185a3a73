//! The patterns of a format: written for Python's `re`, run by `regex`.
//!
//! IntelMQ searches (`re.search`) in `str(value)`. `regex` knows no look-around and no back-references, so that no value
//! of a peer can make it run long; a pattern with one is refused when the format is read. What both write in the same
//! way and mean differently is translated.

use regex::{Regex, RegexBuilder};

/// Bytes that one pattern may take, compiled. `regex` tells only whether one is within a size: the smallest is tried
/// first. Nearly all patterns fit into it; `\w{1,63}`, letters of every script, takes megabytes.
const SIZES: [usize; 5] = [64 << 10, 512 << 10, 2 << 20, 4 << 20, 8 << 20];

/// Bytes of a pattern as it is written: taking it apart costs hundreds for each.
const LONGEST: usize = 4096;

/// What is left for the patterns of one format: a few characters can make a pattern of megabytes.
pub(super) struct Room(usize);

impl Room {
    /// For all patterns of a format.
    pub(super) fn new() -> Room {
        Room(96 << 20)
    }

    /// Compiles a Python pattern.
    pub(super) fn compile(&mut self, python: &str, ignore_case: bool) -> Result<Regex, String> {
        if python.len() > LONGEST {
            return Err("it is too long".into());
        }
        let pattern = translate(python);
        for size in SIZES {
            let Some(left) = self.0.checked_sub(size) else {
                return Err("the patterns of this format are too large together".into());
            };
            match RegexBuilder::new(&pattern).case_insensitive(ignore_case).size_limit(size).build() {
                Ok(regex) => {
                    self.0 = left;
                    return Ok(regex);
                }
                Err(regex::Error::CompiledTooBig(_)) => {}
                // The last line says what is wrong, those before it draw an arrow under the pattern.
                Err(error) => {
                    let text = error.to_string();
                    return Err(text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned());
                }
            }
        }
        Err("it is too large".into())
    }
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

    fn compile(python: &str, ignore_case: bool) -> Result<Regex, String> {
        Room::new().compile(python, ignore_case)
    }

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
    fn patterns_are_bounded_each_and_together() {
        assert!(compile(r"^\w{1,63}$", true).is_ok(), "a label in any script");
        assert_eq!(compile(r"\w{1000}{1000}", false).unwrap_err(), "it is too large");
        assert_eq!(compile(&"(".repeat(LONGEST + 1), false).unwrap_err(), "it is too long");
        let mut room = Room::new();
        let kept: Vec<_> = (0..10_000).map_while(|_| room.compile(r"^[\w.-]{1,63}$", false).ok()).collect();
        assert!((8..64).contains(&kept.len()), "{} of them", kept.len());
        assert!(room.compile("^a$", false).unwrap_err().contains("together"));
        let mut room = Room::new();
        assert!((0..500).all(|_| room.compile("^[ -~]+$", false).is_ok()), "as many as a format has fields");
    }

    #[test]
    fn what_cannot_be_had_is_refused() {
        for pattern in ["(?=a)b", r"(a)\1", "(", "a{2", "[a"] {
            assert!(compile(pattern, false).is_err(), "{pattern}");
        }
    }
}
