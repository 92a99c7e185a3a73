//! Keys: which ones IntelMQ reads, and which ones get in each other's way.

use std::cmp::Reverse;

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

/// The first key that is there twice.
pub(super) fn twice<'k>(keys: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let mut keys: Vec<&str> = keys.collect();
    keys.sort_unstable();
    keys.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

/// Puts keys that others lie inside of (`extra.a` with `extra.a.b`) behind those.
///
/// Bots make objects of dotted keys for `hierarchical_output`, and whenever they ask for `extra` as a whole. An outer key
/// that comes first is an error there, and the event ends in a dump; one that comes last takes the place of the inner
/// ones, in that view alone. Parsers of IntelMQ make such events, so refusing them would lose real ones.
pub(super) fn outer_ones_last<T>(fields: &mut [T], key: impl Fn(&T) -> &str) {
    let mut places: Vec<&str> = fields.iter().map(|field| place(key(field))).collect();
    // Dots sort before everything else that is legal in a key, so what is inside of a place follows it.
    places.sort_unstable();
    places.dedup();
    let inside = |place: &str, outer: &str| place.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'));
    let outer: Vec<String> =
        places.windows(2).filter(|pair| inside(pair[1], pair[0])).map(|pair| pair[0].to_owned()).collect();
    if outer.is_empty() {
        return;
    }
    // Keys that are outer to outer ones come last of all: fewer dots, later.
    fields.sort_by_key(|field| {
        let place = place(key(field));
        outer.binary_search_by(|outer| (**outer).cmp(place)).ok().map(|_| Reverse(place.matches('.').count()))
    });
}

/// Where such a bot puts a key. Its walk down ends at the first part that is called like the last one: `extra.a.b.a`
/// comes to lie where `extra.a` lies.
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
    fn keys_inside_of_others_come_first() {
        let ordered = |keys: &[&'static str]| {
            let mut keys = keys.to_vec();
            outer_ones_last(&mut keys, |key| key);
            keys.join(" ")
        };
        let fine = ["extra.b", "extra.a_b", "extra.a.c", "extra.a.b", "extra.ab", "source.ip"];
        assert_eq!(ordered(&fine), fine.join(" "));
        assert_eq!(
            ordered(&["extra.a", "extra.a0", "extra.a.b.c", "extra.a.b"]),
            "extra.a0 extra.a.b.c extra.a.b extra.a"
        );
        assert_eq!(ordered(&["extra.a.b.a", "extra.a.c"]), "extra.a.c extra.a.b.a");
        assert_eq!(ordered(&["extra.extra", "extra.b"]), "extra.b extra.extra");
        assert_eq!(twice(["raw", "extra.x", "extra.x", "a"].into_iter()), Some("extra.x"));
        assert_eq!(twice(fine.into_iter()), None);
    }
}
