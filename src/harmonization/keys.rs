//! Keys: which ones IntelMQ reads, and which ones get in each other's way.

/// `^[a-z_][a-z_0-9]+(\.[a-z_0-9]+)*$`, without the line end that Python's `$` lets pass.
pub(super) fn is_legal(key: &str) -> bool {
    let mut segments = key.split('.');
    let first = segments.next().unwrap_or_default();
    let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    first.len() > 1
        && !first.starts_with(|c: char| c.is_ascii_digit())
        && first.bytes().all(letters)
        && segments.all(|segment| !segment.is_empty() && segment.bytes().all(letters))
}

/// The first key that has no place of its own where bots make objects of dotted keys (`hierarchical_output`, and
/// everything that asks for `extra` as a whole).
///
/// There `extra.a` with `extra.a.b` is an error that ends in a dump, or loses one of the two, by their order. And the
/// walk down ends at the first part that is *called* like the last one: `extra.a.b.a` lies where `extra.a` lies.
pub(super) fn in_the_way<'a>(keys: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut places: Vec<&str> = keys.map(place).collect();
    // Dots sort before everything else that is legal in a key, so what is inside of a place follows it.
    places.sort_unstable();
    let inside = |place: &str, outer: &str| {
        place.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    places.windows(2).find(|pair| inside(pair[1], pair[0])).map(|pair| pair[1])
}

fn place(key: &str) -> &str {
    let Some((before, last)) = key.rsplit_once('.') else { return key };
    let mut end = 0;
    for segment in before.split('.') {
        if segment == last {
            return &key[..end + segment.len()];
        }
        end += segment.len() + 1;
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_intelmq() {
        for key in ["extra", "extra.a", "extra._x", "extra.1", "ab.c.d", "__type", "_a"] {
            assert!(is_legal(key), "{key}");
        }
        for key in
            ["", "a", "extra.", ".a", "extra..a", "extra.A", "extra.a-b", "extra.a b", "extra.ä", "1a", "extra.a\n"]
        {
            assert!(!is_legal(key), "{key}");
        }
    }

    #[test]
    fn places_of_keys() {
        let in_the_way = |keys: &[&'static str]| super::in_the_way(keys.iter().copied());
        assert_eq!(in_the_way(&["extra.b", "extra.a_b", "extra.a.c", "extra.a.b", "extra.ab", "source.ip"]), None);
        assert_eq!(in_the_way(&["extra.a.b", "extra.a0", "extra.a"]), Some("extra.a.b"));
        assert_eq!(in_the_way(&["extra.x", "raw", "extra.x"]), Some("extra.x"));
        assert!(in_the_way(&["extra.a.b.a", "extra.a.c"]).is_some());
        assert!(in_the_way(&["extra.extra", "extra.b"]).is_some());
    }
}
