//! From bytes to frames, bounded before anything is kept. Pure.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};

/// How texts are told apart in a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Framing {
    /// A length before each.
    Length,
    /// A separator after each: the `separator` of IntelMQ's TCP output. Never empty.
    Separator(Bytes),
}

/// Why a stream cannot go on: what its sender does, and what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// A text of this length, or with no end up to there,
    TooLong(u64),
    /// where a length was expected, text,
    Text,
    /// where text was expected, a length,
    Length,
    /// and a length of zero: no event.
    Empty,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::TooLong(bytes) => write!(
                f,
                "it sends an event of {bytes} bytes or more, more than limits.envelope_bytes: shorten it there (its raw \
                 field?), or raise the limit here and at the peers; until then it sends it again and again"
            ),
            Broken::Text => f.write_str(
                "it sends text without lengths: if it is a TCP output with a separator, set the same `separator` here",
            ),
            Broken::Length => {
                f.write_str("it sends lengths: remove `separator` of this door, or set the same one in its TCP output")
            }
            Broken::Empty => f.write_str("it sends a length of 0, which no TCP output does: look what it is"),
        }
    }
}

/// Bytes of a length.
pub(super) const LENGTH: usize = 4;

/// What came and is no whole frame yet.
#[derive(Debug, Default)]
pub struct Partial {
    /// What comes is appended here.
    pub buffer: BytesMut,
    /// Up to here there is no separator.
    looked: usize,
}

impl Partial {
    /// The next whole frame, of `most` bytes at most. `None`: more must come.
    pub fn next(&mut self, framing: &Framing, most: usize) -> Result<Option<Bytes>, Broken> {
        match framing {
            Framing::Length => self.by_length(most),
            Framing::Separator(separator) => self.by_separator(separator, most),
        }
    }

    fn by_length(&mut self, most: usize) -> Result<Option<Bytes>, Broken> {
        let Some(first) = self.buffer.first_chunk::<LENGTH>() else { return Ok(None) };
        let length = u32::from_be_bytes(*first) as usize;
        if length == 0 {
            return Err(Broken::Empty);
        }
        if length > most {
            // JSON that begins in the place of a length is one of half a gigabyte and more.
            let text = first.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
            return Err(if text { Broken::Text } else { Broken::TooLong(length as u64) });
        }
        if self.buffer.len() < LENGTH + length {
            return Ok(None);
        }
        self.buffer.advance(LENGTH);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    fn by_separator(&mut self, separator: &[u8], most: usize) -> Result<Option<Bytes>, Broken> {
        loop {
            if self.buffer.first() == Some(&0) {
                return Err(Broken::Length);
            }
            let from = self.looked.saturating_sub(separator.len() - 1);
            let found = self.buffer[from..].windows(separator.len()).position(|window| window == separator);
            let Some(end) = found.map(|at| from + at) else {
                self.looked = self.buffer.len();
                // What is beyond may be the first bytes of a separator.
                return if self.looked > most + separator.len() - 1 {
                    Err(Broken::TooLong(self.looked as u64))
                } else {
                    Ok(None)
                };
            };
            if end > most {
                return Err(Broken::TooLong(end as u64));
            }
            self.looked = 0;
            let frame = self.buffer.split_to(end).freeze();
            self.buffer.advance(separator.len());
            // An empty line is no event.
            if !frame.is_empty() {
                return Ok(Some(frame));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 16;

    /// All frames of a stream that comes in pieces of `step` bytes.
    fn frames(stream: &[u8], step: usize, framing: &Framing) -> Result<Vec<Bytes>, Broken> {
        let (mut partial, mut frames) = (Partial::default(), Vec::new());
        for piece in stream.chunks(step) {
            partial.buffer.extend_from_slice(piece);
            while let Some(frame) = partial.next(framing, MOST)? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    #[test]
    fn frames_come_whole_however_they_are_cut() {
        let separated = |separator: &'static [u8]| Framing::Separator(Bytes::from_static(separator));
        for step in 1..30 {
            let stream = b"\0\0\0\x03one\0\0\0\x10sixteen bytes...\0\0\0\x01x\0\0";
            assert_eq!(frames(stream, step, &Framing::Length).unwrap(), ["one", "sixteen bytes...", "x"]);
            let stream = b"one\n\n\nsixteen bytes...\nhalf";
            assert_eq!(frames(stream, step, &separated(b"\n")).unwrap(), ["one", "sixteen bytes..."]);
            assert_eq!(frames(b"a-b--c---d--", step, &separated(b"--")).unwrap(), ["a-b", "c", "-d"]);
            let stream = b"sixteen bytes...-+-and more";
            assert_eq!(frames(stream, step, &separated(b"-+-")).unwrap(), ["sixteen bytes..."]);
            assert!(frames(b"seventeen bytes..-+-", step, &separated(b"-+-")).is_err());
        }
    }

    #[test]
    fn what_cannot_be_a_frame_is_told_at_once() {
        let separated = Framing::Separator(Bytes::from_static(b"\n"));
        for (stream, framing, broken) in [
            (&b"\0\0\0\x11"[..], &Framing::Length, Broken::TooLong(17)),
            (b"\xff\xff\xff\xff", &Framing::Length, Broken::TooLong(u32::MAX.into())),
            (b"\0\0\0\0", &Framing::Length, Broken::Empty),
            (b"{\"fe", &Framing::Length, Broken::Text),
            (b"{\n  \"", &Framing::Length, Broken::Text),
            (b"seventeen bytes..", &separated, Broken::TooLong(17)),
            (b"\0", &separated, Broken::Length),
        ] {
            for step in [1, 100] {
                assert_eq!(frames(stream, step, framing), Err(broken), "{stream:?}");
            }
        }
        assert_eq!(frames(b"seventeen bytes..\n", 100, &separated), Err(Broken::TooLong(17)));
    }
}
