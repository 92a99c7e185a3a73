//! How deep the brackets of a text are nested, before it is parsed.
//!
//! The parser calls itself for each one that opens, and after a mistake goes on without a bound: a file of some hundred KiB
//! would end the process, which has rules that it should keep when it is asked to read others.

use toml_parser::Source;
use toml_parser::lexer::TokenKind::{LeftCurlyBracket, LeftSquareBracket, RightCurlyBracket, RightSquareBracket};

use super::Mistake;

/// Far more than any key takes.
const MOST: usize = 32;

/// Refuses what is nested deeper.
pub(super) fn check(text: &str) -> Result<(), Mistake> {
    let mut open = Vec::new();
    for token in Source::new(text).lex() {
        let opened = match token.kind() {
            kind @ (LeftSquareBracket | LeftCurlyBracket) => {
                if open.len() == MOST {
                    let reason = format!("{MOST} brackets are open here, and there is one more");
                    let remedy = "look for one that is not closed, here or above".into();
                    return Err(Mistake::at(text, token.span().start(), reason, remedy));
                }
                open.push(kind);
                continue;
            }
            RightSquareBracket => LeftSquareBracket,
            RightCurlyBracket => LeftCurlyBracket,
            _ => continue,
        };
        // The wrong one closes nothing: so no fewer count as open here than for the parser, whatever it makes of it.
        open.pop_if(|last| *last == opened);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, Described};

    #[test]
    fn what_is_open_is_counted_as_toml_reads_it() {
        let deep = |count: usize| format!("a = {}{}", "[".repeat(count), "]".repeat(count));
        assert!(check(&deep(MOST)).is_ok());
        let mistake = check(&format!("# one\n{}", deep(MOST + 1))).unwrap_err();
        assert_eq!((mistake.line, mistake.column), (2, 5 + MOST));
        assert!(check(&"[[a]]\nb = [{ c = [1] }]\n".repeat(1000)).is_ok());
        // Not those in strings and comments.
        assert!(check(&"a = \"[[[[\" # {{{{\nb = '{{{{'\nc = \"\"\"[[[[\n[[[[\"\"\"\n".repeat(100)).is_ok());
        assert!(check(&"a = [{ ]".repeat(MOST)).is_err(), "the wrong one closes nothing");
    }

    /// With the first the parser alone overflows its stack.
    #[test]
    fn what_opens_without_end_is_a_mistake_and_not_the_end_of_the_process() {
        for part in ["a(= [{ b c = ['A']\n[[d]]\ne = 'f'\n", "a = [{a=[", "[{a = [{", "a = {b = {"] {
            let text = part.repeat(100_000 / part.len());
            let config = Config::parse(&text, Path::new("/etc/intelmq-relay")).unwrap_err();
            assert!(config.0[0].reason.contains("brackets are open"), "{config}");
            assert!(Described::parse(&text).is_err());
        }
    }
}
