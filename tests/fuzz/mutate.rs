//! New inputs from those that are known: by bits, by pieces of themselves and of each other, by the numbers and heads that
//! decoders are known to trip over. Deterministic: a seed makes the same inputs again.

use rand::{Rng, RngExt};

/// Bytes of an input, at most.
pub const LONGEST: usize = 64 << 10;

/// What decoders stumble over: lengths that lie, nesting, ends.
const PIECES: &[&[u8]] = &[
    b"\0",
    b"\xff",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\0\0\0\0",
    // CBOR: heads of bytes, texts, lists, maps and tags that are long, of no said length, or in no shortest form.
    b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"\x7a\xff\xff\xff\xff",
    b"\x9a\0\x10\0\0",
    b"\x9f",
    b"\xbf",
    b"\x5f\x41\x61\xff",
    b"\xc2\x41\x01",
    b"\xf6",
    b"\xf7",
    b"\xfb\x7f\xf8\0\0\0\0\0\0",
    b"\x18\x01",
    b"\x81",
    b"\x80",
    b"\xa0",
    b"\xa1",
    b"\x1b\xff\xff\xff\xff\xff\xff\xff\xff",
    // JSON, YAML, TOML, patterns.
    b"[",
    b"]",
    b"{\"a\":",
    b"}",
    b"\"",
    b"\\",
    b"\\ud800",
    b"\\u0000",
    b"null",
    b"NaN",
    b"-Infinity",
    b"1e999999999",
    b"18446744073709551616",
    b"-1",
    b",",
    b": ",
    b"\n",
    b"\n- ",
    b"&a ",
    b"*a",
    b"<<: *a",
    b"!!binary ",
    b"[[",
    b"]]",
    b"'''",
    b"\"\"\"",
    b"{1000}",
    b"(?:",
    b"\\w",
    b"|",
    b"\xc3\xa9",
    b"\xe2\x80\xae",
    b"\xf0\x9f\x98\x80",
];

/// An input made of `corpus[at]`, with up to eight changes.
pub fn mutated(corpus: &[Vec<u8>], rng: &mut impl Rng) -> Vec<u8> {
    let mut input = one_of(corpus, rng).clone();
    for _ in 0..=rng.random_range(0..8) {
        change(&mut input, corpus, rng);
        input.truncate(LONGEST);
    }
    input
}

fn one_of<'a, T>(list: &'a [T], rng: &mut impl Rng) -> &'a T {
    &list[rng.random_range(0..list.len())]
}

/// A part of `0..length`: short in most cases.
fn part(length: usize, rng: &mut impl Rng) -> std::ops::Range<usize> {
    let from = rng.random_range(0..=length);
    let most = if rng.random_ratio(3, 4) { 16 } else { length };
    from..length.min(from + rng.random_range(0..=most))
}

fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], rng: &mut impl Rng) {
    let length = input.len();
    match rng.random_range(0..10) {
        0 if length > 0 => input[rng.random_range(0..length)] ^= 1 << rng.random_range(0..8),
        1 if length > 0 => input[rng.random_range(0..length)] = rng.random(),
        2 if length > 0 => {
            let at = rng.random_range(0..length);
            input[at] = input[at].wrapping_add(*one_of(&[1, 255, 2, 254, 16], rng));
        }
        3 => drop(input.drain(part(length, rng))),
        4 => input.truncate(rng.random_range(0..=length)),
        5 => {
            let at = rng.random_range(0..=length);
            drop(input.splice(at..at, one_of(PIECES, rng).iter().copied()));
        }
        6 => {
            let (piece, at) = (one_of(PIECES, rng), rng.random_range(0..=length));
            drop(input.splice(at..length.min(at + piece.len()), piece.iter().copied()));
        }
        // Of another, or of itself, to another place.
        7 | 8 => {
            let other = one_of(corpus, rng);
            let piece = other[part(other.len(), rng)].to_vec();
            let into = part(length, rng);
            let into = if rng.random() { into } else { into.start..into.start };
            drop(input.splice(into, piece));
        }
        // Again and again: nesting, and many of one kind.
        _ => {
            let piece = part(length, rng);
            let (at, piece) = (piece.end, input[piece].to_vec());
            let times = (1_usize << rng.random_range(1..12)).min(LONGEST / piece.len().max(1));
            drop(input.splice(at..at, piece.repeat(times)));
        }
    }
}
