//! CBOR (RFC 8949) in its one form, read piece by piece, and its heads as they are written: lengths definite, numbers and
//! lengths as short as they can be, no tags.
//!
//! A general decoder reads more than others might: an envelope that one node takes and another refuses would split a
//! network. So this one takes what it is asked for, in one form, and nothing else; and never makes room for what is only
//! said to be there.

use super::Malformed;

/// Major types.
pub(super) const UINT: u8 = 0;
pub(super) const BYTES: u8 = 2;
pub(super) const TEXT: u8 = 3;
pub(super) const LIST: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const NULL: u8 = 0xf6;

/// What is left to be read.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    /// How much was read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn uint(&mut self) -> Result<u64, Malformed> {
        self.head(UINT, "a number")
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.uint()?).map_err(|_| self.not("a number of 32 bits"))
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.head(BYTES, "bytes")?;
        self.take(length)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.bytes()?.try_into().map_err(|_| self.not("bytes of another length"))
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Malformed> {
        let length = self.head(TEXT, "a text")?;
        std::str::from_utf8(self.take(length)?).map_err(|_| self.not("a text in UTF-8"))
    }

    /// How many elements follow. Each has at least a byte.
    pub(super) fn list(&mut self) -> Result<usize, Malformed> {
        let length = self.head(LIST, "a list")?;
        usize::try_from(length)
            .ok()
            .filter(|length| *length <= self.bytes.len())
            .ok_or_else(|| self.not("more elements"))
    }

    /// A list of so many.
    pub(super) fn list_of(&mut self, length: usize) -> Result<(), Malformed> {
        if self.list()? == length { Ok(()) } else { Err(self.not("a list of another length")) }
    }

    /// A map of texts to anything, of which the keys are read one after the other. `keys`: those that it may have.
    pub(super) fn map(&mut self, keys: &'static [&'static str]) -> Result<Map<'_, 'a>, Malformed> {
        let left = self.head(MAP, "a map")?;
        Ok(Map { reader: self, keys, left, next: None, last: None })
    }

    /// Whether a list comes next.
    pub(super) fn is_list(&self) -> bool {
        self.bytes.get(self.at).is_some_and(|head| head >> 5 == LIST)
    }

    /// Whether bytes come next.
    pub(super) fn is_bytes(&self) -> bool {
        self.bytes.get(self.at).is_some_and(|head| head >> 5 == BYTES)
    }

    /// Bytes, or null.
    pub(super) fn optional<const N: usize>(&mut self) -> Result<Option<[u8; N]>, Malformed> {
        if self.bytes.get(self.at) == Some(&NULL) {
            self.at += 1;
            return Ok(None);
        }
        self.array().map(Some)
    }

    /// Nothing may follow.
    pub(super) fn end(&self) -> Result<(), Malformed> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.not("its end")) }
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Malformed> {
        let rest = &self.bytes[self.at..];
        let length = usize::try_from(length).ok().filter(|length| *length <= rest.len());
        let length = length.ok_or_else(|| self.not("more bytes"))?;
        self.at += length;
        Ok(&rest[..length])
    }

    fn head(&mut self, major: u8, what: &str) -> Result<u64, Malformed> {
        let head = *self.bytes.get(self.at).ok_or_else(|| self.not(what))?;
        if head >> 5 == TAG {
            return Err(FORM);
        }
        if head >> 5 != major {
            return Err(self.not(what));
        }
        self.at += 1;
        let (length, least) = match head & 0x1f {
            value @ 0..=23 => return Ok(value.into()),
            24 => (1, 24),
            25 => (2, 1 << 8),
            26 => (4, 1 << 16),
            27 => (8, 1 << 32),
            // Of a length that is not said; or of no meaning.
            _ => return Err(FORM),
        };
        let value = self.take(length)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        if value < least { Err(FORM) } else { Ok(value) }
    }

    fn not(&self, what: &str) -> Malformed {
        Malformed::Cbor(format!("expected {what} at byte {}", self.at))
    }
}

/// What is left of a map whose keys have an order.
pub(super) struct Map<'r, 'a> {
    reader: &'r mut Reader<'a>,
    keys: &'static [&'static str],
    /// Pairs whose key was not read.
    left: u64,
    /// A key that was read, and its value not.
    next: Option<&'a str>,
    /// The key of the value that was read last.
    last: Option<&'a str>,
}

impl<'a> Map<'_, 'a> {
    /// The next key, which stays the next until its value is read.
    pub(super) fn next(&mut self) -> Result<Option<&'a str>, Malformed> {
        if self.next.is_none() && self.left > 0 {
            self.next = Some(self.reader.text()?);
            self.left -= 1;
        }
        Ok(self.next)
    }

    /// The value of the next key.
    pub(super) fn value(&mut self) -> &mut Reader<'a> {
        self.last = self.next.take();
        self.reader
    }

    /// Where this key is the next, its value comes.
    pub(super) fn maybe<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        if self.next()? == Some(key) { read(self.value()).map(Some) } else { Ok(None) }
    }

    /// This key must be the next.
    pub(super) fn must<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T, Malformed>,
    ) -> Result<T, Malformed> {
        self.maybe(key, read)?.ok_or_else(|| self.fault(key))
    }

    /// No key may follow.
    pub(super) fn end(mut self) -> Result<(), Malformed> {
        if self.next()?.is_none() { Ok(()) } else { Err(self.fault("end")) }
    }

    /// Why `key` does not come next.
    fn fault(&self, key: &str) -> Malformed {
        let at = self.reader.at;
        Malformed::Cbor(match self.next {
            Some(next) if !self.keys.contains(&next) => format!("unknown field before byte {at}"),
            Some(next) if self.last == Some(next) => format!("duplicate field {next:?} before byte {at}"),
            _ => format!("missing field {key:?} before byte {at}, or the keys are not in the order of the one form"),
        })
    }
}

const FORM: Malformed = Malformed::Shape("its bytes are not in the one form that an envelope has");

/// Writes the head of something of so many bytes or elements, or a number, as [`Reader`] reads it.
pub(super) fn push_head(out: &mut Vec<u8>, major: u8, value: usize) {
    let major = major << 5;
    match value {
        0..=23 => out.push(major | value as u8),
        24..=0xff => out.extend([major | 24, value as u8]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend((value as u16).to_be_bytes());
        }
        // Envelopes are bounded far below 4 GiB.
        _ => {
            out.push(major | 26);
            out.extend((value as u32).to_be_bytes());
        }
    }
}

/// The head of a list of so many elements.
pub(super) fn list_head(length: usize) -> Vec<u8> {
    let mut head = Vec::new();
    push_head(&mut head, LIST, length);
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form_of_each_and_what_is_asked_for_is_read() {
        let forms = [
            (0, vec![0x00]),
            (23, vec![0x17]),
            (24, vec![0x18, 24]),
            (255, vec![0x18, 255]),
            (256, vec![0x19, 1, 0]),
            (65_535, vec![0x19, 255, 255]),
            (65_536, vec![0x1a, 0, 1, 0, 0]),
            (u64::from(u32::MAX), vec![0x1a, 255, 255, 255, 255]),
            (1 << 32, vec![0x1b, 0, 0, 0, 1, 0, 0, 0, 0]),
            (u64::MAX, [&[0x1b][..], &[255; 8]].concat()),
        ];
        for (value, bytes) in &forms {
            let mut reader = Reader::new(bytes);
            assert_eq!((reader.uint(), reader.end()), (Ok(*value), Ok(())), "{bytes:?}");
            for cut in 0..bytes.len() {
                assert!(Reader::new(&bytes[..cut]).uint().is_err());
            }
        }
        for longer in
            [&[0x18, 23][..], &[0x19, 0, 255], &[0x1a, 0, 0, 255, 255], &[0x1b, 0, 0, 0, 0, 255, 255, 255, 255]]
        {
            assert_eq!(Reader::new(longer).uint(), Err(FORM), "{longer:?}");
        }
        for reserved in 0x1c..=0x1f {
            assert_eq!(Reader::new(&[reserved]).uint(), Err(FORM));
        }
        assert_eq!(Reader::new(&[0xc2, 0x41, 1]).bytes(), Err(FORM));
        assert_eq!(Reader::new(&[0x5f, 0x41, 1, 0xff]).bytes(), Err(FORM));
        assert!(Reader::new(b"\x41a").text().is_err() && Reader::new(b"\x61a").bytes().is_err());
        assert!(Reader::new(b"\x61\xff").text().is_err());
        assert_eq!(Reader::new(b"\x61a").text(), Ok("a"));
        assert_eq!(
            (Reader::new(&[NULL]).optional::<1>(), Reader::new(&[0x41, 7]).optional()),
            (Ok(None), Ok(Some([7])))
        );
    }

    #[test]
    fn what_is_only_said_to_be_there_is_not_read() {
        let said = |major: u8| [&[major << 5 | 27][..], &[255; 8]].concat();
        assert!(Reader::new(&said(BYTES)).bytes().is_err());
        assert!(Reader::new(&said(TEXT)).text().is_err());
        assert!(Reader::new(&said(LIST)).list().is_err());
    }

    #[test]
    fn heads_are_written_as_they_are_read() {
        for length in [0, 1, 23, 24, 255, 256, 4096] {
            let bytes = [list_head(length), vec![0; length]].concat();
            let mut reader = Reader::new(&bytes);
            assert_eq!((reader.list(), reader.at()), (Ok(length), list_head(length).len()));
        }
    }
}
