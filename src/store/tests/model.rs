//! Random work on the store, compared with a model so simple that it is right.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Commit {
        entries: Vec<(u8, u16)>,
        remember: Vec<u8>,
        cursors: Vec<(u8, u16)>,
        quarantine: Vec<u16>,
        notes: Vec<(u8, u8, u8, u8)>,
    },
    /// Of the items in quarantine, about this one.
    Release(u8),
    Reopen,
    Expire {
        days: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    use proptest::collection::vec;
    // Few ids, so that there are duplicates; sizes around what a chunk and a piece hold.
    let size = prop_oneof![6 => 8u16..300, 2 => 20_000u16..30_000, 1 => 60_000u16..];
    let commit = (
        vec((any::<u8>(), size.clone()), 0..40),
        vec(any::<u8>(), 0..4),
        vec((0u8..3, size.clone()), 0..3),
        vec(size, 0..3),
        vec(any::<(u8, u8, u8, u8)>(), 0..20),
    );
    let commit = commit.prop_map(|(entries, remember, cursors, quarantine, notes)| Step::Commit {
        entries,
        remember,
        cursors,
        quarantine,
        notes,
    });
    let step = prop_oneof![
        8 => commit,
        2 => any::<u8>().prop_map(Step::Release),
        1 => Just(Step::Reopen),
        1 => (0u64..6).prop_map(|days| Step::Expire { days }),
    ];
    vec(step, 1..25)
}

/// Chunks go as a whole, so the model knows only the order of the log; what is gone is asked from the store.
#[derive(Default)]
struct Model {
    now: u64,
    log: Vec<(u64, u64, usize)>,
    /// By envelope; the day that it was seen.
    seen: HashMap<(u64, usize), u64>,
    cursors: BTreeMap<u8, Vec<u8>>,
    quarantine: BTreeMap<u64, Bytes>,
    ever_quarantined: u64,
    notes: Vec<Note>,
}

fn cursor(number: u8) -> Cursor {
    Cursor::Source(format!("source-{number}").parse().unwrap())
}

impl Model {
    async fn apply(&mut self, store: Store, step: Step, dir: &TempDir) -> Store {
        match step {
            Step::Commit { entries, remember, cursors, quarantine, notes } => {
                self.note(&store, &notes).await;
                self.commit(&store, entries, remember, cursors, quarantine).await;
                store
            }
            Step::Release(which) => {
                // One that is there, and one that is not any more, or not yet.
                let number = self.quarantine.keys().nth(usize::from(which) % self.quarantine.len().max(1)).copied();
                let release = vec![number.unwrap_or(1), number.unwrap_or(1), u64::from(which)];
                store.commit(Commit { release, ..Commit::default() }).await.unwrap();
                self.quarantine.remove(&number.unwrap_or(1));
                self.quarantine.remove(&u64::from(which));
                store
            }
            Step::Reopen => reopen(store, dir).await,
            Step::Expire { days } => {
                self.now += days * DAY;
                store.expire(self.now).await.unwrap();
                let (log, seen) = (self.now - 7 * DAY, (self.now - 12 * DAY) / DAY);
                self.seen.retain(|_, day| *day >= seen);
                assert!(store.first() <= store.head() + 1);
                let gone = self.log.iter().take_while(|(seq, ..)| *seq < store.first());
                assert!(gone.clone().all(|(_, at, _)| *at < log), "only what is old goes");
                let kept = self.log.iter().filter(|(_, at, _)| *at >= log).map(|(seq, ..)| *seq).min();
                let last = kept.unwrap_or(store.head() + 1);
                assert!(store.first() + log::CHUNK_ENTRIES as u64 > last, "what is old goes, but for its chunk");
                let first = store.first();
                self.log.retain(|(seq, ..)| *seq >= first);
                store
            }
        }
    }

    /// Notes on entries that are there; also on those that expired meanwhile, as a slow peer's answers are.
    async fn note(&mut self, store: &Store, notes: &[(u8, u8, u8, u8)]) {
        let head = store.head();
        let made = notes.iter().filter(|_| head > 0).map(|(by, back, count, what)| {
            let first = head.saturating_sub(u64::from(*back)).max(1);
            let count = u64::from(*count).clamp(1, head + 1 - first);
            let (reader, fate) = (journal::tests::reader(by % 4), journal::tests::fate(*what));
            Note { reader, first, count, at: self.now, fate }
        });
        let made: Vec<Note> = made.collect();
        self.notes.extend(made.iter().cloned());
        let id_notes = made.iter().map(|note| IdNote {
            at: self.now,
            reader: note.reader.clone(),
            origin: "far".parse().unwrap(),
            id: Uuid::from_u128(note.first.into()),
            outcome: Outcome::Dropped,
        });
        let id_notes = id_notes.collect();
        store.commit(Commit { notes: made, id_notes, ..Commit::default() }).await.unwrap();
    }

    async fn commit(
        &mut self,
        store: &Store,
        entries: Vec<(u8, u16)>,
        remember: Vec<u8>,
        cursors: Vec<(u8, u16)>,
        quarantine: Vec<u16>,
    ) {
        let mut next = store.head() + 1;
        let (mut commit, mut expected) = (Commit::default(), Vec::new());
        for (id, size) in entries {
            let (id, size) = (u64::from(id), usize::from(size));
            commit.entries.push(Draft { at: self.now, from: None, envelope: sealed(id, size) });
            if self.seen.contains_key(&(id, size)) {
                expected.push(Appended::Duplicate);
                continue;
            }
            self.seen.insert((id, size), self.now / DAY);
            self.log.push((next, self.now, size));
            expected.push(Appended::New(next));
            next += 1;
        }
        for id in remember {
            commit.remember.push(Remember { at: self.now, keys: sealed(id.into(), 9).seen_keys() });
            self.seen.entry((id.into(), 9)).or_insert(self.now / DAY);
        }
        for (number, size) in cursors {
            let value = vec![number; size.into()];
            commit.cursors.push((cursor(number), value.clone()));
            self.cursors.insert(number, value);
        }
        for size in quarantine {
            let item = sealed(1, size.into());
            let door = "door".parse().unwrap();
            commit.quarantine.push(Quarantined {
                at: self.now,
                door,
                reason: "why".into(),
                held: Held::Envelope(item.clone().into()),
            });
            self.ever_quarantined += 1;
            self.quarantine.insert(self.ever_quarantined, item.bytes().clone());
        }
        assert_eq!(store.commit(commit).await.unwrap(), expected);
    }

    async fn check(&self, store: &Store) {
        let log = read_all(store, 0, ReadLimit { entries: 13, bytes: 100_000 }).await;
        let found = log.iter().map(|entry| (entry.seq, entry.at, made_of(&entry.envelope).1));
        assert!(found.eq(self.log.iter().copied()));
        for entry in &log {
            let (number, size) = made_of(&entry.envelope);
            assert_eq!(entry.envelope.bytes(), sealed(number, size).bytes());
        }
        assert_eq!(store.usage().ids, self.seen.len() as u64);
        for (id, size) in self.seen.keys() {
            assert_eq!(store.seen(&sealed(*id, *size).seen_keys()), Some(0));
        }
        for number in 0..3 {
            assert_eq!(store.cursor(&cursor(number)).await.unwrap().as_ref(), self.cursors.get(&number));
        }
        for (seq, ..) in self.log.iter().rev().step_by(7) {
            let about = |note: &&Note| note.is_about(*seq);
            let expected: Vec<Note> = self.notes.iter().filter(about).cloned().collect();
            assert_eq!(store.notes([*seq]).await.unwrap(), expected);
            let fresh = |note: &&Note| note.first == *seq && note.at >= self.now - 7 * DAY;
            let by_id = store.id_notes(Uuid::from_u128((*seq).into())).await.unwrap();
            assert!(by_id.len() >= self.notes.iter().filter(fresh).count());
        }
        let items = store.quarantined(0, usize::MAX).await.unwrap();
        assert!(items.iter().map(|(number, item)| (number, item.held.bytes())).eq(&self.quarantine));
        assert_eq!(store.usage().quarantined, self.quarantine.len() as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]
    #[test]
    fn the_store_is_what_the_model_says(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = TempDir::new().unwrap();
            let mut store = open(&dir).await;
            let mut model = Model { now: DAY0 + DAY / 3, ..Model::default() };
            for step in steps {
                store = model.apply(store, step, &dir).await;
                model.check(&store).await;
            }
            store = reopen(store, &dir).await;
            model.check(&store).await;
        });
    }
}
