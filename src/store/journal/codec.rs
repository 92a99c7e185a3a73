//! A chunk of the journal: notes one after the other, each as the difference to the one before.
//!
//! Owns the form. A chunk only grows at its end. Readers, rules and fates are written once, at their first use, and
//! meant by number from then on: so a usual note takes five bytes before compression.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use super::{Fate, IdNote, Note, Outcome, Part, Reader, TEXT};
use crate::envelope::Name;
use crate::link::Verdict;
use crate::policy::{Reason, RuleId};

/// Bytes that one note may add, with all that it names for the first time.
pub(super) const LARGEST: usize = 1536;

const READER: u8 = 0;
const RULE: u8 = 1;
const FATE: u8 = 2;
const NOTE: u8 = 3;
const ID_NOTE: u8 = 4;

/// A chunk that is being filled.
#[derive(Default)]
pub(super) struct Chunk {
    bytes: Vec<u8>,
    readers: HashMap<Reader, u64>,
    rules: HashMap<(String, usize), u64>,
    /// By their written form.
    fates: HashMap<Vec<u8>, u64>,
    /// The number after the last note's last entry.
    next: u64,
    at: u64,
    range: Option<(u64, u64)>,
    newest: u64,
}

impl Chunk {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn low(&self) -> u64 {
        self.range.map_or(u64::MAX, |(low, _)| low)
    }

    pub(super) fn high(&self) -> u64 {
        self.range.map_or(0, |(_, high)| high)
    }

    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    pub(super) fn note(&mut self, note: &Note) {
        let (reader, fate) = (self.reader(&note.reader), self.fate(&note.fate));
        let end = note.first.saturating_add(note.count.max(1));
        self.bytes.push(NOTE);
        number(&mut self.bytes, reader);
        number(&mut self.bytes, fate);
        difference(&mut self.bytes, self.at, note.at);
        difference(&mut self.bytes, self.next, note.first);
        number(&mut self.bytes, end - note.first);
        (self.at, self.next) = (note.at, end);
        let (low, high) = self.range.unwrap_or((note.first, end - 1));
        self.range = Some((low.min(note.first), high.max(end - 1)));
        self.newest = self.newest.max(note.at);
    }

    pub(super) fn id_note(&mut self, note: &IdNote) {
        let reader = self.reader(&note.reader);
        let (tag, verdict, rule) = match &note.outcome {
            Outcome::Refused(verdict, rule) => (0, verdict.to_string(), self.rule(rule.as_deref())),
            Outcome::Delivered => (1, String::new(), 0),
            Outcome::Dropped => (2, String::new(), 0),
        };
        self.bytes.push(ID_NOTE);
        number(&mut self.bytes, reader);
        difference(&mut self.bytes, self.at, note.at);
        text(&mut self.bytes, note.origin.as_str());
        self.bytes.extend_from_slice(note.id.as_bytes());
        self.bytes.push(tag);
        text(&mut self.bytes, &verdict);
        number(&mut self.bytes, rule);
        self.at = note.at;
        self.newest = self.newest.max(note.at);
    }

    fn reader(&mut self, reader: &Reader) -> u64 {
        if let Some(known) = self.readers.get(reader) {
            return *known;
        }
        self.bytes.extend_from_slice(&[READER, u8::from(matches!(reader, Reader::Door(_)))]);
        text(&mut self.bytes, reader.name().as_str());
        let next = self.readers.len() as u64;
        self.readers.insert(reader.clone(), next);
        next
    }

    /// 0 where there is none.
    fn rule(&mut self, rule: Option<&RuleId>) -> u64 {
        let Some(RuleId { label, line }) = rule else { return 0 };
        let key = (label.clone(), *line);
        if let Some(known) = self.rules.get(&key) {
            return *known;
        }
        self.bytes.push(RULE);
        text(&mut self.bytes, label);
        number(&mut self.bytes, *line as u64);
        let next = 1 + self.rules.len() as u64;
        self.rules.insert(key, next);
        next
    }

    fn fate(&mut self, fate: &Fate) -> u64 {
        let rule = match fate {
            Fate::Granted { by, .. } => self.rule(by.as_deref()),
            Fate::Withheld(reason) => self.rule(reason.rule()),
            _ => 0,
        };
        let mut bytes = Vec::new();
        let mut write = |tag: u8, word: &str, hidden: u64| {
            bytes.push(tag);
            number(&mut bytes, rule);
            number(&mut bytes, hidden);
            text(&mut bytes, word);
        };
        match fate {
            Fate::Granted { hidden, .. } => write(0, "", (*hidden).into()),
            Fate::Withheld(reason) => write(1, &reason.word(), 0),
            Fate::Told(verdict) => write(2, &verdict.to_string(), 0),
            Fate::Had => write(3, "", 0),
            Fate::Before => write(4, "", 0),
            Fate::Delivered => write(5, "", 0),
            Fate::NotFor(part) => write(6, "", *part as u64),
            Fate::Unfit => write(7, "", 0),
            Fate::Quarantined(reason) => write(8, reason, 0),
        }
        if let Some(known) = self.fates.get(&bytes) {
            return *known;
        }
        self.bytes.push(FATE);
        self.bytes.extend_from_slice(&bytes);
        let next = self.fates.len() as u64;
        self.fates.insert(bytes, next);
        next
    }
}

fn number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Small where the two are near each other, in both directions; exact wherever they are.
fn difference(bytes: &mut Vec<u8>, from: u64, to: u64) {
    let difference = to.wrapping_sub(from) as i64;
    number(bytes, (difference << 1 ^ difference >> 63) as u64);
}

/// Longer ones are cut, so that [`LARGEST`] holds.
fn text(bytes: &mut Vec<u8>, text: &str) {
    let end = (0..=TEXT.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    number(bytes, end as u64);
    bytes.extend_from_slice(&text.as_bytes()[..end]);
}

/// What a chunk holds, in order; `None`: it is no chunk.
pub fn decode(bytes: &[u8]) -> Option<(Vec<Note>, Vec<IdNote>)> {
    let mut input = Input { bytes, next: 0, at: 0 };
    let (mut readers, mut rules, mut fates) = (Vec::new(), Vec::new(), Vec::new());
    let (mut notes, mut by_id) = (Vec::new(), Vec::new());
    let rule = |rules: &[Arc<RuleId>], number: u64| match number.checked_sub(1) {
        Some(index) => rules.get(usize::try_from(index).ok()?).cloned().map(Some),
        None => Some(None),
    };
    while !input.bytes.is_empty() {
        match input.byte()? {
            READER => readers.push(input.reader()?),
            RULE => rules.push(Arc::new(RuleId { label: input.text()?.into(), line: input.index()? })),
            FATE => {
                let (tag, by) = (input.byte()?, input.number()?);
                let by = rule(&rules, by)?;
                fates.push(input.fate(tag, by)?);
            }
            NOTE => {
                let (reader, fate) = (readers.get(input.index()?)?, fates.get(input.index()?)?);
                let (reader, fate): (Reader, Fate) = (Reader::clone(reader), Fate::clone(fate));
                let (at, first, count) = (input.at()?, input.first()?, input.number()?);
                input.next = first.checked_add(count)?;
                notes.push(Note { reader, first, count, at, fate });
            }
            ID_NOTE => {
                let reader = Reader::clone(readers.get(input.index()?)?);
                let (at, origin, id) = (input.at()?, input.text()?.parse().ok()?, input.id()?);
                let (tag, verdict, by) = (input.byte()?, input.text()?, input.number()?);
                let outcome = match tag {
                    0 => Outcome::Refused(Verdict::read(verdict)?, rule(&rules, by)?),
                    1 => Outcome::Delivered,
                    2 => Outcome::Dropped,
                    _ => return None,
                };
                by_id.push(IdNote { at, reader, origin, id, outcome });
            }
            _ => return None,
        }
    }
    Some((notes, by_id))
}

struct Input<'a> {
    bytes: &'a [u8],
    next: u64,
    at: u64,
}

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*byte)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn index(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }

    fn difference(&mut self, from: u64) -> Option<u64> {
        let number = self.number()?;
        Some(from.wrapping_add((number >> 1) ^ (number & 1).wrapping_neg()))
    }

    fn at(&mut self) -> Option<u64> {
        self.at = self.difference(self.at)?;
        Some(self.at)
    }

    fn first(&mut self) -> Option<u64> {
        self.difference(self.next)
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = self.index()?;
        let (text, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        std::str::from_utf8(text).ok()
    }

    fn id(&mut self) -> Option<Uuid> {
        let (id, rest) = self.bytes.split_at_checked(16)?;
        self.bytes = rest;
        Uuid::from_slice(id).ok()
    }

    fn reader(&mut self) -> Option<Reader> {
        let (kind, name) = (self.byte()?, self.text()?);
        let name: Name = name.parse().ok()?;
        match kind {
            0 => Some(Reader::Peer(name)),
            1 => Some(Reader::Door(name)),
            _ => None,
        }
    }

    fn fate(&mut self, tag: u8, rule: Option<Arc<RuleId>>) -> Option<Fate> {
        let (number, word) = (self.number()?, self.text()?);
        let parts = [
            Part::Own,
            Part::Completions,
            Part::Types,
            Part::Origins,
            Part::Formats,
            Part::Tags,
            Part::Withdrawals,
            Part::NotGiven,
            Part::Withdrawn,
            Part::KeyRevoked,
            Part::ForOthers,
        ];
        Some(match tag {
            0 => Fate::Granted { by: rule, hidden: number.try_into().ok()? },
            1 => Fate::Withheld(Reason::read(word, rule)?),
            2 => Fate::Told(Verdict::read(word)?),
            3 => Fate::Had,
            4 => Fate::Before,
            5 => Fate::Delivered,
            6 => Fate::NotFor(*parts.get(usize::try_from(number).ok()?)?),
            7 => Fate::Unfit,
            8 => Fate::Quarantined(word.into()),
            _ => return None,
        })
    }
}
