//! What the journal keeps, against a list of notes.

use proptest::prelude::*;

use super::*;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn rule(number: usize) -> Arc<RuleId> {
    Arc::new(RuleId { label: format!("set/{number}"), line: number * 7 })
}

pub(in crate::store) fn reader(number: u8) -> Reader {
    if number.is_multiple_of(3) { Reader::Door(name("door")) } else { Reader::Peer(name(&format!("peer-{number}"))) }
}

pub(in crate::store) fn fate(number: u8) -> Fate {
    let plain = [
        Fate::Had,
        Fate::Before,
        Fate::Delivered,
        Fate::Unfit,
        Fate::NotFor(Part::Own),
        Fate::NotFor(Part::Tags),
        Fate::Withheld(Reason::NoRule),
        Fate::Told(Verdict::Accepted),
        Fate::Granted { by: None, hidden: 0 },
    ];
    let few = usize::from(number % 5);
    match number {
        0..100 => plain[usize::from(number) % plain.len()].clone(),
        100..140 => Fate::Granted { by: Some(rule(few)), hidden: number.into() },
        140..170 => Fate::Withheld(Reason::Rule(rule(few))),
        170..200 => Fate::Withheld(Reason::TestMode(Some(rule(few)))),
        200..230 => Fate::Told(Verdict::Refused(format!("rule-{few}"))),
        _ => Fate::Quarantined(short(&format!("ü{}", "long ".repeat(usize::from(number))))),
    }
}

fn notes() -> impl Strategy<Value = Vec<Note>> {
    let number = prop_oneof![Just(1u64), 1u64..50, any::<u32>().prop_map(u64::from)];
    let note = (any::<u8>(), any::<u8>(), number.clone(), number, any::<u64>());
    let note = note.prop_map(|(by, what, first, count, at)| Note {
        reader: reader(by % 9),
        first,
        count,
        at,
        fate: fate(what),
    });
    proptest::collection::vec(note, 0..60)
}

fn refusal(number: u64) -> IdNote {
    let outcome = match number % 4 {
        0 => Outcome::Refused(Verdict::UnknownOrigin, None),
        1 => Outcome::Refused(Verdict::Refused("rule-set/1".into()), Some(rule(1))),
        2 => Outcome::Delivered,
        _ => Outcome::Dropped,
    };
    IdNote { at: 1000 * number, reader: reader(1), origin: name("far"), id: id(number), outcome }
}

/// Ids hardly compress.
fn id(number: u64) -> Uuid {
    let random = |odd: u64| (number + 1).wrapping_mul(odd).rotate_left(29).wrapping_mul(odd);
    Uuid::from_u64_pair(random(0x9e37_79b9_7f4a_7c15), random(0xd6e8_feb8_6659_fd93))
}

proptest! {
    #[test]
    fn what_a_chunk_is_written_from_is_read_from_it(notes in notes()) {
        let mut chunk = Chunk::default();
        for note in &notes {
            let before = chunk.bytes().len();
            chunk.note(note);
            prop_assert!(chunk.bytes().len() - before <= codec::LARGEST);
        }
        for number in 0..8 {
            chunk.id_note(&refusal(number));
        }
        let (read, by_id) = codec::decode(chunk.bytes()).unwrap();
        prop_assert_eq!(&read, &notes);
        prop_assert_eq!(by_id, (0..8).map(refusal).collect::<Vec<_>>());
        let ends = |end: fn(&Note) -> u64| notes.iter().map(end).collect::<Vec<_>>();
        prop_assert_eq!(chunk.low(), ends(|note| note.first).into_iter().min().unwrap_or(u64::MAX));
        prop_assert_eq!(chunk.high(), ends(|note| note.first + note.count - 1).into_iter().max().unwrap_or(0));
    }

    #[test]
    fn bytes_of_any_kind_are_a_chunk_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = codec::decode(&bytes);
    }
}

#[test]
fn a_usual_note_takes_few_bytes() {
    let mut chunk = Chunk::default();
    for first in 0..1000 {
        let fate = if first % 2 == 0 { Fate::Granted { by: Some(rule(1)), hidden: 2 } } else { fate(140) };
        chunk.note(&Note { reader: reader(1), first, count: 1, at: 1_795_514_400_000, fate });
    }
    assert!(chunk.bytes().len() < 6200, "{}", chunk.bytes().len());
}

#[test]
fn the_largest_chunk_is_one_piece() {
    let mut chunk = Chunk::default();
    let mut next = 0;
    while chunk.bytes().len() + codec::LARGEST <= CHUNK {
        next += 1;
        chunk.id_note(&IdNote { id: id(next), ..refusal(1) });
    }
    let packed = Compressor::new().unwrap().compress(chunk.bytes()).unwrap();
    assert!(Head::LENGTH + packed.len() < pieces::PIECE, "{}", packed.len());
    assert!(chunk.bytes().len() + codec::LARGEST < pieces::PIECE);
}

struct Shelves {
    tree: sled::Db,
    journal: Journal,
    compressor: Compressor,
}

impl Shelves {
    fn new(most: u64) -> Shelves {
        let tree = sled::Config::new().temporary(true).open().unwrap();
        let mut journal = Journal::open(&tree).unwrap();
        (journal.entries.most, journal.ids.most) = (most, most);
        Shelves { tree, journal, compressor: Compressor::new().unwrap() }
    }

    fn add(&mut self, head: u64, notes: &[Note], by_id: &[IdNote]) {
        let mut batch = sled::Batch::default();
        self.journal.add(&self.tree, &mut batch, &mut self.compressor, head, notes, by_id).unwrap();
        self.journal.finish(&mut batch, &mut self.compressor).unwrap();
        self.tree.apply_batch(batch).unwrap();
        assert_eq!(self.journal.bytes(), self.stored(), "what is counted is what is there");
    }

    fn stored(&self) -> u64 {
        let chunks = |kind| self.tree.scan_prefix([kind]).map(|chunk| chunk.unwrap().1.len() as u64);
        chunks(keys::NOTES).chain(chunks(keys::ID_NOTES)).sum()
    }

    fn reopen(&mut self) {
        let most = self.journal.entries.most;
        let bytes = self.journal.bytes();
        self.journal = Journal::open(&self.tree).unwrap();
        assert_eq!(self.journal.bytes(), bytes);
        (self.journal.entries.most, self.journal.ids.most) = (most, most);
    }

    fn of(&self, seq: u64) -> Vec<Note> {
        read(&self.tree, &HashSet::from([seq])).unwrap()
    }
}

fn single(seq: u64, number: u64) -> Note {
    // A new reason each, so that chunks fill.
    let reason = short(&format!("reason {number} {}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    Note { reader: reader(1), first: seq, count: 1, at: number, fate: Fate::Quarantined(reason) }
}

#[test]
fn the_oldest_go_where_there_is_too_much() {
    let mut shelves = Shelves::new(60_000);
    for seq in 1..=10_000 {
        shelves.add(seq, &[single(seq, seq)], &[refusal(seq)]);
        assert!(shelves.journal.bytes() < 2 * 60_000 + 2 * pieces::PIECE as u64);
        if seq % 997 == 0 {
            shelves.reopen();
        }
    }
    let kept: Vec<u64> = (1..=10_000).filter(|seq| !shelves.of(*seq).is_empty()).collect();
    assert!(kept.len() > 1000 && kept.len() < 9000, "{}", kept.len());
    assert!(kept.iter().copied().eq(10_001 - kept.len() as u64..=10_000), "the newest, without a gap");
    let by_id = |number: u64| read_id(&shelves.tree, id(number)).unwrap();
    assert_eq!(by_id(10_000), [refusal(10_000)]);
    assert!(by_id(1).is_empty());
    // In one step: what is too much of it goes with the next.
    let all: Vec<Note> = (1..=20_000).map(|number| single(10_000, number)).collect();
    shelves.add(10_000, &all, &[]);
    shelves.add(10_000, &[single(10_000, 0)], &[]);
    assert!(shelves.journal.entries.bytes < 60_000 + pieces::PIECE as u64);
}

#[test]
fn a_flood_of_one_peers_refusals_pushes_out_its_own_only() {
    let mut shelves = Shelves::new(60_000);
    let of = |peer: u8, number: u64| IdNote { reader: reader(peer), ..refusal(number) };
    let known = |shelves: &Shelves, number: u64| read_id(&shelves.tree, id(number)).unwrap().len();
    // Two that refuse little, before, among and after what a third brings.
    let mut quiet = Vec::new();
    for step in 0..200 {
        let mut notes: Vec<IdNote> = (0..100).map(|n| of(1, 100 * step + n)).collect();
        if step % 10 == 0 {
            notes.extend([of(2, 1_000_000 + step), of(4, 2_000_000 + step)]);
            quiet.extend([1_000_000 + step, 2_000_000 + step]);
        }
        shelves.add(step, &[], &notes);
        if step % 49 == 0 {
            shelves.reopen();
        }
    }
    assert!(shelves.journal.bytes() < 60_000 + 3 * pieces::PIECE as u64, "{}", shelves.journal.bytes());
    assert!(quiet.iter().all(|number| known(&shelves, *number) == 1));
    let flood = [10, 10_000, 19_900, 19_999].map(|number| known(&shelves, number));
    assert_eq!(flood, [0, 0, 1, 1], "the newest of the flood are kept");
    // Whoever has the most now is another one.
    for step in 0..200 {
        let notes: Vec<IdNote> = (0..100).map(|n| of(2, 3_000_000 + 100 * step + n)).collect();
        shelves.add(200, &[], &notes);
    }
    assert!(quiet.iter().all(|number| *number < 2_000_000 || known(&shelves, *number) == 1));
    assert_eq!(known(&shelves, 19_999), 1, "nobody loses more than what is above an equal share");
}

#[test]
fn notes_go_with_their_entries_and_refusals_with_their_time() {
    let mut shelves = Shelves::new(u64::MAX);
    for seq in 1..=5_000 {
        shelves.add(seq, &[single(seq, seq)], &[refusal(seq)]);
    }
    // Late word on an early entry.
    shelves.add(5_000, &[single(7, 9)], &[]);
    assert_eq!(shelves.of(7).len(), 2);
    let mut steps = 0;
    loop {
        let mut batch = sled::Batch::default();
        let gone = shelves.journal.expire(&shelves.tree, &mut batch, 2_500, 3_000_000, 2).unwrap();
        assert!(gone <= 2);
        shelves.tree.apply_batch(batch).unwrap();
        assert_eq!(shelves.journal.bytes(), shelves.stored());
        if gone == 0 {
            break;
        }
        steps += 1;
    }
    assert!(steps > 2, "{steps}");
    assert!(shelves.of(100).is_empty() && shelves.of(2_500).len() == 1);
    assert_eq!(shelves.of(7).len(), 1, "the chunk is needed for others");
    assert!(read_id(&shelves.tree, id(100)).unwrap().is_empty());
    assert_eq!(read_id(&shelves.tree, id(3_000)).unwrap().len(), 1);
    let mut batch = sled::Batch::default();
    shelves.journal.expire(&shelves.tree, &mut batch, 5_001, u64::MAX, usize::MAX).unwrap();
    shelves.tree.apply_batch(batch).unwrap();
    assert_eq!((shelves.stored(), shelves.journal.bytes()), (0, 0));
    shelves.add(5_001, &[single(5_001, 1)], &[refusal(1)]);
    shelves.reopen();
    assert_eq!(shelves.of(5_001).len(), 1);
}
