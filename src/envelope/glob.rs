//! Names of fields with stars, as operators write them: `raw`, `extra.*`, `*.abuse_contact`.

/// Whether `name` is what `pattern` names. A star stands for any text, none and dots included.
pub fn glob(pattern: &str, name: &str) -> bool {
    let Some((beginning, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(beginning) else { return false };
    let mut parts = rest.split('*');
    // There is always one: what follows the last star.
    let end = parts.next_back().unwrap_or_default();
    for part in parts {
        let Some(at) = name.find(part) else { return false };
        name = &name[at + part.len()..];
    }
    name.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_text() {
        for (pattern, name, expected) in [
            ("raw", "raw", true),
            ("raw", "raw2", false),
            ("extra.*", "extra.a.b", true),
            ("extra.*", "extra", false),
            ("*.abuse_contact", "source.abuse_contact", true),
            ("*.abuse_contact", "source.abuse_contact_2", false),
            ("*", "", true),
            ("*", "anything.at.all", true),
            ("a*b*c", "a.b.c", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("ab*ba", "aba", false),
            ("*.*", "source.ip", true),
        ] {
            assert_eq!(glob(pattern, name), expected, "{pattern} {name}");
        }
    }
}
