//! Notes for the store's journal, gathered until they are written.
//!
//! Owns how they are gathered without cost to those who note, and the bounds: a note is a few comparisons and mostly
//! makes the last one longer; nobody waits; what a peer chooses (its verdicts' words, the ids that it brings) is
//! bounded by peer. What does not fit is counted and said once. What is not yet written goes with a crash: the last
//! second.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::link::Verdict;
use crate::store::{Commit, Cursor, Fate, IdNote, Note, Reader};

/// Notes that are kept until they are written, at most: about 8 MiB.
const MOST: usize = 64 << 10;
/// From so many on, they are written at once.
const MANY: usize = 16 << 10;
/// Notes by id of one peer between two writings, at most.
const MOST_BY_ID: usize = 1024;
/// Different words of one peer's refusals, at most: its rules' names are its own to choose.
const MOST_WORDS: usize = 256;
/// Notes of this much time, ms, are one.
const TOGETHER: u64 = 1000;

/// What is noted and not yet written.
#[derive(Default)]
pub(super) struct Journal {
    gathered: Mutex<Gathered>,
    /// There is much of it.
    many: Notify,
    /// Held while it is written.
    pub(super) turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Gathered {
    notes: Vec<Note>,
    id_notes: Vec<IdNote>,
    by_id: HashMap<Reader, usize>,
    /// The last note of each reader, our decisions and its answers apart.
    last: HashMap<(Reader, bool), usize>,
    /// How far each has read.
    places: HashMap<Reader, u64>,
    places_changed: BTreeSet<Reader>,
    words: HashMap<Reader, BTreeSet<String>>,
    lost: u64,
    said: bool,
}

impl Journal {
    /// Notes what became of entries, in the order of their numbers.
    pub(super) fn note(&self, reader: &Reader, notes: impl IntoIterator<Item = (u64, Fate)>, now: u64) {
        let mut gathered = self.lock();
        let had = gathered.notes.len();
        let mut last: [Option<usize>; 2] =
            [false, true].map(|answer| gathered.last.get(&(reader.clone(), answer)).copied());
        let mut place = None;
        for (seq, fate) in notes {
            let answer = fate.is_answer();
            place = if answer { place } else { place.max(Some(seq)) };
            gathered.add(reader, &mut last, seq, fate, now);
        }
        for (answer, last) in [false, true].into_iter().zip(last) {
            if let Some(last) = last {
                gathered.last.insert((reader.clone(), answer), last);
            }
        }
        if let Some(place) = place {
            let before = gathered.places.get(reader).copied();
            gathered.place(reader, before.max(Some(place)).unwrap_or(place));
        }
        self.ask(had, gathered);
    }

    /// The reader begins behind this entry: what was noted of it before does not say so any more.
    pub(super) fn begin(&self, reader: &Reader, seq: u64) {
        self.lock().place(reader, seq);
    }

    /// Notes what became of entries from `first` on, of which there are `count`.
    pub(super) fn note_run(&self, note: Note) {
        let mut gathered = self.lock();
        if note.count > 0 && gathered.has_room() {
            gathered.last.remove(&(note.reader.clone(), note.fate.is_answer()));
            gathered.notes.push(note);
        }
    }

    /// Notes what became of what has no number.
    pub(super) fn note_id(&self, note: IdNote) {
        let mut gathered = self.lock();
        let count = gathered.by_id.entry(note.reader.clone()).or_default();
        if *count >= MOST_BY_ID {
            gathered.lost += 1;
            return;
        }
        *count += 1;
        let had = gathered.id_notes.len();
        // The same over and over, as a peer without a place brings it, is told once.
        if gathered.id_notes.last().is_none_or(|last| (&last.reader, last.id) != (&note.reader, note.id)) {
            gathered.id_notes.push(note);
        }
        self.ask(had, gathered);
    }

    /// Waits until there is much to write.
    pub(super) async fn many(&self) {
        self.many.notified().await;
    }

    /// What there is to write; `None`: nothing.
    pub(super) fn take(&self) -> Option<Commit> {
        let mut gathered = self.lock();
        if gathered.lost > 0 && !std::mem::replace(&mut gathered.said, true) {
            tracing::warn!(
                notes = gathered.lost,
                "more happens than the journal can note: `why` says `not-recorded` of some events; said once"
            );
        }
        gathered.lost = 0;
        gathered.last.clear();
        gathered.by_id.clear();
        let (notes, id_notes) = (std::mem::take(&mut gathered.notes), std::mem::take(&mut gathered.id_notes));
        let changed = std::mem::take(&mut gathered.places_changed);
        let place = |reader: Reader| {
            let place = gathered.places.get(&reader)?.to_be_bytes().to_vec();
            Some((Cursor::Noted(reader), place))
        };
        let cursors: Vec<_> = changed.into_iter().filter_map(place).collect();
        let nothing = notes.is_empty() && id_notes.is_empty() && cursors.is_empty();
        (!nothing).then(|| Commit { notes, id_notes, cursors, ..Commit::default() })
    }

    /// Takes back what was not written, before what came meanwhile.
    fn take_back(&self, unwritten: &mut Unwritten<'_>) {
        let Unwritten { notes, id_notes, readers, .. } = unwritten;
        let mut gathered = self.lock();
        gathered.places_changed.extend(readers.drain(..));
        gathered.last.clear();
        notes.append(&mut gathered.notes);
        id_notes.append(&mut gathered.id_notes);
        gathered.lost += (notes.len().saturating_sub(MOST) + id_notes.len().saturating_sub(MOST)) as u64;
        notes.truncate(MOST);
        id_notes.truncate(MOST);
        (gathered.notes, gathered.id_notes) = (std::mem::take(notes), std::mem::take(id_notes));
    }

    fn ask(&self, had: usize, gathered: MutexGuard<'_, Gathered>) {
        let has = gathered.notes.len().max(gathered.id_notes.len());
        drop(gathered);
        if had < MANY && has >= MANY {
            self.many.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is being written; taken back where it comes to nothing.
pub(super) struct Unwritten<'a> {
    journal: &'a Journal,
    notes: Vec<Note>,
    id_notes: Vec<IdNote>,
    readers: Vec<Reader>,
    written: bool,
}

impl Unwritten<'_> {
    pub(super) fn new<'a>(journal: &'a Journal, commit: &Commit) -> Unwritten<'a> {
        let readers = commit.cursors.iter().filter_map(|(cursor, _)| match cursor {
            Cursor::Noted(reader) => Some(reader.clone()),
            _ => None,
        });
        let (notes, id_notes, readers) = (commit.notes.clone(), commit.id_notes.clone(), readers.collect());
        Unwritten { journal, notes, id_notes, readers, written: false }
    }

    pub(super) fn are_written(mut self) {
        self.written = true;
    }
}

impl Drop for Unwritten<'_> {
    fn drop(&mut self) {
        if !self.written {
            // Written all the same, it is there twice, and says the same.
            let journal = self.journal;
            journal.take_back(self);
        }
    }
}

impl Gathered {
    fn has_room(&mut self) -> bool {
        let room = self.notes.len() < MOST;
        self.lost += u64::from(!room);
        room
    }

    fn place(&mut self, reader: &Reader, seq: u64) {
        if self.places.get(reader) != Some(&seq) {
            self.places.insert(reader.clone(), seq);
            self.places_changed.insert(reader.clone());
        }
    }

    fn add(&mut self, reader: &Reader, last: &mut [Option<usize>; 2], seq: u64, fate: Fate, now: u64) {
        let [decision, answer] = *last;
        // An answer stands behind the decision that it is about.
        let run = if fate.is_answer() { answer.filter(|_| answer > decision) } else { decision };
        let last = &mut last[usize::from(fate.is_answer())];
        if let Some(run) = run.and_then(|last| self.notes.get_mut(last))
            && (seq == run.first + run.count && fate == run.fate && now.saturating_sub(run.at) < TOGETHER)
        {
            run.count += 1;
            return;
        }
        if !self.has_room() {
            return;
        }
        let fate = self.bounded(reader, fate);
        *last = Some(self.notes.len());
        self.notes.push(Note { reader: reader.clone(), first: seq, count: 1, at: now, fate });
    }

    /// One of the first words that this peer has used, or one for all others.
    fn bounded(&mut self, reader: &Reader, fate: Fate) -> Fate {
        let Fate::Told(Verdict::Refused(word)) = fate else { return fate };
        let words = self.words.entry(reader.clone()).or_default();
        let known = words.contains(&word) || (words.len() < MOST_WORDS && words.insert(word.clone()));
        Fate::Told(Verdict::Refused(if known { word } else { "…".into() }))
    }
}

/// Whether a verdict on what a peer brings is one to note: the others are what is in the log anyway.
pub(super) fn is_refusal(verdict: &Verdict) -> bool {
    use Verdict::{Accepted, Completed, Duplicate, Later, Loop};
    !matches!(verdict, Accepted | Completed | Duplicate | Loop | Later)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Reason;

    fn peer(name: &str) -> Reader {
        Reader::Peer(name.parse().unwrap())
    }

    fn granted() -> Fate {
        Fate::Granted { by: None, hidden: 0 }
    }

    #[test]
    fn what_follows_without_a_gap_is_one_note() {
        let journal = Journal::default();
        let (a, b) = (peer("a"), peer("b"));
        for batch in 0..100 {
            let seqs = || (10 * batch + 1)..=(10 * batch + 10);
            journal.note(&a, seqs().map(|seq| (seq, granted())), 5);
            journal.note(&b, seqs().map(|seq| (seq, Fate::Withheld(Reason::Hops))), 5);
            journal.note(&a, seqs().map(|seq| (seq, Fate::Told(Verdict::Accepted))), 5);
        }
        // A gap, another fate, and much later.
        journal.note(&a, [(1002, granted()), (1003, Fate::Withheld(Reason::Hops))], 5);
        journal.note(&b, [(1001, Fate::Withheld(Reason::Hops))], 2000);
        let commit = journal.take().unwrap();
        let shape = |note: &Note| (note.reader.name().to_string(), note.first, note.count, note.at);
        let shapes: Vec<_> = commit.notes.iter().map(shape).collect();
        let a = |first, count| ("a".to_owned(), first, count, 5);
        let b = |first, count, at| ("b".to_owned(), first, count, at);
        assert_eq!(shapes, [a(1, 1000), b(1, 1000, 5), a(1, 1000), a(1002, 1), a(1003, 1), b(1001, 1, 2000)]);
        let place = |seq: u64| seq.to_be_bytes().to_vec();
        let cursors = [(Cursor::Noted(peer("a")), place(1003)), (Cursor::Noted(peer("b")), place(1001))];
        assert_eq!(commit.cursors, cursors);
        assert!(journal.take().is_none());
        // What was written is not made longer.
        journal.note(&peer("a"), [(1004, Fate::Withheld(Reason::Hops))], 5);
        assert_eq!(journal.take().unwrap().notes.len(), 1);
    }

    #[test]
    fn an_answer_stands_behind_its_decision() {
        let (journal, a) = (Journal::default(), peer("a"));
        let refused = || Fate::Told(Verdict::Refused("rule".into()));
        journal.note(&a, [(1, granted()), (2, granted())], 0);
        journal.note(&a, [(1, refused())], 0);
        journal.note(&a, [(3, Fate::Withheld(Reason::Hops)), (4, granted())], 0);
        journal.note(&a, [(2, refused()), (3, refused()), (4, refused())], 0);
        let notes = journal.take().unwrap().notes;
        let place =
            |seq, answer| notes.iter().rposition(|note| note.is_about(seq) && note.fate.is_answer() == answer).unwrap();
        assert!((1..=4).all(|seq| place(seq, false) < place(seq, true)), "{notes:?}");
    }

    #[test]
    fn nothing_grows_without_a_bound_and_a_peer_does_not_take_the_words_of_another() {
        let journal = Journal::default();
        let refused = |n: u64| (2 * n, Fate::Told(Verdict::Refused(format!("word-{n}"))));
        journal.note(&peer("hostile"), (0..2 * MOST as u64).map(refused), 0);
        for n in 0..5000 {
            let (origin, id) = ("far".parse().unwrap(), uuid::Uuid::from_u128(n));
            let outcome = crate::store::Outcome::Refused(Verdict::UnknownOrigin, None);
            journal.note_id(IdNote { at: 0, reader: peer("hostile"), origin, id, outcome });
        }
        let commit = journal.take().unwrap();
        assert_eq!((commit.notes.len(), commit.id_notes.len()), (MOST, MOST_BY_ID));
        let words: BTreeSet<String> = commit.notes.iter().map(|note| format!("{:?}", note.fate)).collect();
        assert_eq!(words.len(), MOST_WORDS + 1);
        journal.note(&peer("honest"), [refused(7)], 0);
        assert_eq!(journal.take().unwrap().notes[0].fate, refused(7).1);
    }

    #[test]
    fn what_was_not_written_is_there_the_next_time_before_what_came_meanwhile() {
        let journal = Journal::default();
        journal.note(&peer("a"), [(1, granted())], 0);
        let commit = journal.take().unwrap();
        let unwritten = Unwritten::new(&journal, &commit);
        journal.note(&peer("a"), [(2, granted())], 0);
        drop(unwritten);
        let again = journal.take().unwrap();
        assert_eq!(again.notes.iter().map(|note| note.first).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(again.cursors, [(Cursor::Noted(peer("a")), 2_u64.to_be_bytes().to_vec())]);
        Unwritten::new(&journal, &again).are_written();
        assert!(journal.take().is_none());
    }
}
