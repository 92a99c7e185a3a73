//! What a key file holds: comments, then 64 hexadecimal digits of the seed, or an age file. One comment names the
//! public key, so that it can be told without a passphrase.

use std::io::{self, Read};

use zeroize::Zeroizing;

use crate::envelope::Key;

/// No key file is longer, whoever wrote it.
pub(super) const MAX: usize = 4096;

const DIGITS: usize = 64;
const PUBLIC: &str = "# public key: ";

/// A key file's text, taken apart.
pub(super) struct Text<'a> {
    /// What the comment says that the public key is.
    pub(super) public: Option<Key>,
    pub(super) body: Body<'a>,
}

pub(super) enum Body<'a> {
    Seed(Zeroizing<[u8; 32]>),
    /// To be read by age.
    Age(&'a [u8]),
}

/// `None`: it is no key file's text.
pub(super) fn read(text: &[u8]) -> Option<Text<'_>> {
    let (mut public, mut rest) = (None, text);
    while rest.starts_with(b"#") {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        if let Some(key) = rest[..end].strip_prefix(PUBLIC.as_bytes()) {
            let key = std::str::from_utf8(key).ok()?.trim_end().parse().ok()?;
            if public.replace(key).is_some() {
                return None;
            }
        }
        rest = &rest[end + 1..];
    }
    let armoured = rest.starts_with(b"-----BEGIN AGE ENCRYPTED FILE-----");
    let body =
        if armoured || rest.starts_with(b"age-encryption.org/") { Body::Age(rest) } else { Body::Seed(seed(rest)?) };
    Some(Text { public, body })
}

/// The text of an encrypted key.
pub(super) fn encrypted(public: &Key, armoured: &str) -> String {
    format!("# The key of an intelmq-relay, encrypted with a passphrase in age's format.\n{PUBLIC}{public}\n{armoured}")
}

/// The text of a key that is not encrypted.
pub(super) fn plain(seed: &[u8; 32]) -> Zeroizing<[u8; DIGITS + 1]> {
    let mut text = Zeroizing::new([b'\n'; DIGITS + 1]);
    for (pair, byte) in text.chunks_exact_mut(2).zip(seed) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    text
}

/// 64 digits, and a newline perhaps.
pub(super) fn seed(text: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let digits = text.strip_suffix(b"\n").unwrap_or(text);
    if digits.len() != DIGITS {
        return None;
    }
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let mut seed = Zeroizing::new([0; 32]);
    for (byte, pair) in seed.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(seed)
}

/// All that there is, into one buffer that never moves: one that did would leave a copy behind. `None`: it is more
/// than `MAX` bytes; how much more is not asked.
pub(super) fn read_all(mut source: impl Read) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut buffer = Zeroizing::new(vec![0; MAX + 1]);
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => {
                buffer.truncate(filled);
                return Ok(Some(buffer));
            }
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
