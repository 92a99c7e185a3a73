//! Accept: the one gate. Nothing reaches the log except through here.
//!
//! Owns the order in which an envelope is judged (cheapest first, no signature spent on duplicates), who the known
//! origins are, and that verdicts are outcomes, not errors. It must never look at who would like the event next: that
//! is policy's, when it is asked for.
//!
//! ```text
//! size and shape → already seen? → not our own → way → age → origin and key → withdrawn? → seal → policy admits → commit
//! ```

mod identity;
mod journal;
mod judge;
mod notice;
mod roster;
mod storeless;
mod strangers;
mod withdrawal;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use uuid::Uuid;

use crate::envelope::{Bounds, Key, Name, Sealed, Secret, SeenKeys, Verifier, attest};
use crate::link::{Known, Offer, Standing, Verdict};
use crate::policy::{Policy, Terms};
use crate::store::{
    Appended, Commit, Cursor, Draft, Fate, IdNote, Note, Outcome, Quarantined, Reader, Remember, Store, StoreError,
};
use crate::trust::Origins;

use journal::{Journal, Unwritten};
use judge::{Judged, NOT_HERE, Stranger};
use strangers::Strangers;

pub(crate) use notice::kept_notices;
pub use notice::{NoticeError, Noticed, Rotation};
pub use roster::{Published, RosterError};
pub use storeless::{Judgement, Seen, judge};
pub use withdrawal::Event;

/// How long to wait before a full store is tried again.
const FULL_PAUSE: Duration = Duration::from_secs(2);

/// What the gate judges by; replaced as a whole when the configuration is read again.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Ourselves.
    pub me: Name,
    #[allow(missing_docs)]
    pub key: Key,
    /// Whose seals we accept.
    pub origins: Arc<Origins>,
    /// What holds for all peers,
    pub policy: Policy,
    /// and for each.
    pub terms: HashMap<Name, Arc<Terms>>,
    /// What an envelope may measure.
    pub bounds: Bounds,
    /// Envelopes older than this are refused, ms.
    pub age: u64,
    /// How far an origin's clock may be ahead of ours, ms.
    pub future: u64,
}

/// Who brings an envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bringer {
    /// Its name, which must be the last of the path.
    pub name: Name,
    /// Its key: whose cursor moves.
    pub key: Key,
}

/// What a peer brought, judged.
#[derive(Debug)]
pub struct Brought {
    bringer: Bringer,
    judged: Vec<Judged>,
    cursor: Option<Vec<u8>>,
    at: u64,
}

/// The gate. Cheap to clone.
#[derive(Clone)]
pub struct Gate {
    store: Store,
    rules: Arc<RwLock<Arc<Rules>>>,
    /// Those who wait for room on the disk, in the order in which they were refused.
    line: Arc<tokio::sync::RwLock<()>>,
    strangers: Arc<Strangers>,
    /// One roster after the other, and one notice.
    roster_turn: Arc<tokio::sync::Mutex<()>>,
    /// Moves when another roster holds, or when what makes one hold has changed; and with notices.
    roster_changed: Arc<watch::Sender<()>>,
    /// Who was told of our own.
    told: Arc<notice::Told>,
    /// Counts commits, for those who wait for what another link claimed.
    decided: Arc<watch::Sender<u64>>,
    journal: Arc<Journal>,
    places: Arc<withdrawal::Places>,
    /// With what it signs what it takes; none: it does not.
    attests: Option<Arc<Secret>>,
}

impl Gate {
    /// A gate before this store.
    pub fn new(store: Store, rules: Rules) -> Gate {
        Gate {
            store,
            rules: Arc::new(RwLock::new(Arc::new(rules))),
            line: Arc::default(),
            strangers: Arc::default(),
            roster_turn: Arc::default(),
            roster_changed: Arc::new(watch::Sender::new(())),
            told: Arc::default(),
            decided: Arc::new(watch::Sender::new(0)),
            journal: Arc::default(),
            places: Arc::default(),
            attests: None,
        }
    }

    /// The same gate, which signs with this key that it took what it takes, from whom and when.
    #[must_use]
    pub fn attesting(self, secret: Arc<Secret>) -> Gate {
        Gate { attests: Some(secret), ..self }
    }

    /// The store behind the gate; to read.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Today's rules.
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on, these rules; the roster stays, if it is signed as they ask for.
    pub fn set_rules(&self, mut rules: Rules) {
        let mut now = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        roster::carry_over(&now, &mut rules);
        *now = Arc::new(rules);
        self.roster_changed.send_replace(());
    }

    /// Changes whenever something was decided.
    pub fn watch_decided(&self) -> watch::Receiver<u64> {
        self.decided.subscribe()
    }

    /// Something that another link may wait for is decided, or its claim released.
    pub fn announce(&self) {
        self.decided.send_modify(|count| *count += 1);
    }

    /// What a link with this peer must know, under the rules of this moment.
    pub fn known(&self, peer: &Name) -> Acquaintance {
        let rules = self.rules();
        let terms = rules.terms.get(peer).cloned().unwrap_or_default();
        Acquaintance { seen: self.store.clone(), rules, terms, strangers: self.strangers.clone() }
    }

    /// Judges envelopes that a peer brings. `cursor`: where it stands in its log after them. That is most of what an
    /// event costs here, and several threads may do it at once; nothing has happened before it is taken.
    pub fn judge(
        &self,
        bringer: &Bringer,
        envelopes: Vec<Bytes>,
        cursor: Option<Vec<u8>>,
        verifier: &Verifier,
        now: u64,
    ) -> Brought {
        let rules = self.rules();
        let known = |keys: &SeenKeys| self.store.seen(keys);
        let stranger = |stranger: &Stranger<'_>| self.strangers.say(bringer, stranger);
        let judge = |bytes| judge::judge(bytes, bringer, &rules, known, stranger, verifier, now);
        let mut judged: Vec<Judged> = envelopes.into_iter().map(judge).collect();
        self.add_hops(&mut judged, &rules, now);
        self.note_refusals(bringer, &judged, now);
        Brought { bringer: bringer.clone(), judged, cursor, at: now }
    }

    /// Our name at the end of each path; signed together, where we attest.
    fn add_hops(&self, judged: &mut [Judged], rules: &Rules, now: u64) {
        let mut good: Vec<&mut Sealed> = judged.iter_mut().filter_map(Judged::good_mut).collect();
        match &self.attests {
            Some(secret) => attest(secret, &rules.me, now, &rules.bounds, &mut good, &mut rand::rng()),
            None => good.into_iter().for_each(|envelope| *envelope = envelope.with_hop(&rules.me)),
        }
    }

    /// Commits what is good of what a peer brought, together with the cursor; returns the verdicts when they are durable.
    /// What is polled in order is committed in order, and a cursor must not overtake what came before it.
    ///
    /// A full disk is waited for: nothing is refused that could be taken later. Any error means that the node must stop.
    pub async fn take(&self, brought: Brought) -> Result<Vec<Verdict>, StoreError> {
        let Brought { bringer, judged, cursor, at: now } = brought;
        let cursors: Vec<_> = cursor.into_iter().map(|cursor| (Cursor::Peer(bringer.key), cursor)).collect();
        let also = self.also_withdrawn(judged.iter().filter_map(Judged::good), now);
        let draft = |envelope: &Sealed| Draft { at: now, from: Some(bringer.name.clone()), envelope: envelope.clone() };
        let appended = self
            .commit(|| Commit {
                entries: judged.iter().filter_map(Judged::good).map(draft).collect(),
                remember: judged
                    .iter()
                    .filter_map(Judged::remember)
                    .map(|keys| Remember { at: now, keys })
                    .chain(also.iter().cloned())
                    .collect(),
                cursors: cursors.clone(),
                ..Commit::default()
            })
            .await?;
        let mut appended = appended.into_iter();
        let verdicts = judged.into_iter().map(|judged| match judged {
            // One outcome per entry, in order.
            Judged::Good(envelope) => {
                let verdict = appended.next().map_or(Verdict::Later, verdict);
                if verdict == Verdict::Withdrawn {
                    // Its withdrawal was faster by so little that it was not yet known.
                    let (origin, id) = (envelope.header().origin.clone(), envelope.header().id);
                    let outcome = Outcome::Refused(Verdict::Withdrawn, None);
                    self.note_id(IdNote { at: now, reader: Reader::Peer(bringer.name.clone()), origin, id, outcome });
                }
                verdict
            }
            Judged::Bad(verdict, ..) => verdict,
        });
        Ok(verdicts.collect())
    }

    /// Whether the event of this origin with this id is in the seen set.
    pub fn knows(&self, origin: &Name, id: Uuid) -> bool {
        let rules = self.rules();
        let own = (*origin == rules.me).then_some(&rules.key);
        own.into_iter().chain(rules.origins.keys(origin)).any(|key| {
            let keys = SeenKeys::of_offer(key, id, 0);
            self.store.seen(&keys).is_some()
        })
    }

    /// Commits what a source handed in; the verdicts on its events.
    pub async fn own(&self, own: Own, now: u64) -> Result<Vec<Verdict>, StoreError> {
        let Own { sealed, position, quarantine, release } = own;
        let cursors: Vec<_> = position.into_iter().map(|(door, position)| (Cursor::Source(door), position)).collect();
        let draft = |envelope: &Sealed| Draft { at: now, from: None, envelope: envelope.clone() };
        let also = self.also_withdrawn(&sealed, now);
        let appended = self
            .commit(|| Commit {
                entries: sealed.iter().map(draft).collect(),
                remember: also.clone(),
                cursors: cursors.clone(),
                quarantine: quarantine.clone(),
                release: release.clone(),
                ..Commit::default()
            })
            .await?;
        Ok(appended.into_iter().map(verdict).collect())
    }

    /// What the keys before that of a withdrawal have sealed is withdrawn as well.
    fn also_withdrawn<'a>(&self, envelopes: impl IntoIterator<Item = &'a Sealed>, at: u64) -> Vec<Remember> {
        let rules = self.rules();
        let withdrawals =
            envelopes.into_iter().filter_map(|envelope| Some((&envelope.header().key, envelope.withdraws()?)));
        let marks = |(key, id)| rules.origins.ancestors(key).map(move |key| SeenKeys::of_withdrawn(&key, id));
        withdrawals.flat_map(marks).map(|keys| Remember { at, keys }).collect()
    }

    /// Notes where a sink stands, beside the sink's own record, with what its IntelMQ cannot take.
    pub async fn note_sink(
        &self,
        door: &Name,
        position: Vec<u8>,
        quarantine: Vec<Quarantined>,
    ) -> Result<(), StoreError> {
        let cursors = vec![(Cursor::Sink(door.clone()), position)];
        self.commit(|| Commit { cursors: cursors.clone(), quarantine: quarantine.clone(), ..Commit::default() })
            .await
            .map(|_| ())
    }

    /// Takes items out of quarantine: they are delivered, or nobody wants them any more.
    pub async fn release(&self, release: Vec<u64>) -> Result<(), StoreError> {
        self.commit(|| Commit { release: release.clone(), ..Commit::default() }).await.map(|_| ())
    }

    /// Notes what became of these entries for a reader of the log, in the order of their numbers. Costs next to nothing,
    /// and is written later: see [`Gate::write_notes`].
    pub fn note(&self, reader: &Reader, notes: impl IntoIterator<Item = (u64, Fate)>, now: u64) {
        self.journal.note(reader, notes, now);
    }

    /// Notes one thing that became of many entries.
    pub fn note_run(&self, note: Note) {
        self.journal.note_run(note);
    }

    /// Notes what became of what has no number.
    pub fn note_id(&self, note: IdNote) {
        self.journal.note_id(note);
    }

    /// Notes that a reader goes on behind this entry, whatever it had before.
    pub fn note_place(&self, reader: &Reader, seq: u64) {
        self.journal.begin(reader, seq);
    }

    /// Waits until there are so many notes that they should be written now.
    pub async fn many_notes(&self) {
        self.journal.many().await;
    }

    /// Writes what was noted. What a full disk has no room for is kept for the next time, as far as memory is bounded.
    pub async fn write_notes(&self) -> Result<(), StoreError> {
        let _turn = self.journal.turn.lock().await;
        let Some(commit) = self.journal.take() else { return Ok(()) };
        // Given up while it waits, or without room on the disk: they are written the next time.
        let unwritten = Unwritten::new(&self.journal, &commit);
        match self.store.commit(commit).await {
            Err(StoreError::Full { .. }) => Ok(()),
            result => {
                unwritten.are_written();
                result.map(|_| ())
            }
        }
    }

    fn note_refusals(&self, bringer: &Bringer, judged: &[Judged], now: u64) {
        for judged in judged {
            if let Judged::Bad(verdict, _, Some(about)) = judged
                && journal::is_refusal(verdict)
            {
                let (origin, id, rule) = (about.origin.clone(), about.id, about.rule.clone());
                let outcome = Outcome::Refused(verdict.clone(), rule);
                self.note_id(IdNote { at: now, reader: Reader::Peer(bringer.name.clone()), origin, id, outcome });
            }
        }
    }

    /// Waits for what was handed in before, though whoever handed it in may have gone: cursors can be read then.
    pub async fn settled(&self) -> Result<(), StoreError> {
        match self.store.commit(Commit::default()).await {
            // Then there is no room for what was handed in before either.
            Ok(_) | Err(StoreError::Full { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Commits, and waits while the disk is full: takers then stop taking, and everything else goes on. Nothing
    /// overtakes what waits, or a link's cursor would stand behind envelopes that are not stored.
    async fn commit(&self, commit: impl Fn() -> Commit) -> Result<Vec<Appended>, StoreError> {
        // Tried, not held: while there is room, many commits are under way at once. To read: two that look at the same
        // moment are not in each other's way.
        let result = if self.line.try_read().is_ok() { Some(self.store.commit(commit()).await) } else { None };
        let result = match result {
            None | Some(Err(StoreError::Full { .. })) => self.commit_in_line(commit).await,
            Some(result) => result,
        };
        self.announce();
        result
    }

    async fn commit_in_line(&self, commit: impl Fn() -> Commit) -> Result<Vec<Appended>, StoreError> {
        // Unconstrained: a caller whose task has used up tokio's budget must stand in line all the same.
        let _first = tokio::task::unconstrained(self.line.write()).await;
        let mut said = false;
        loop {
            match self.store.commit(commit()).await {
                Err(error @ StoreError::Full { .. }) => {
                    if !std::mem::replace(&mut said, true) {
                        tracing::error!("nothing is taken until there is room: {error}");
                    }
                    tokio::time::sleep(FULL_PAUSE).await;
                }
                result => {
                    if said && result.is_ok() {
                        tracing::info!("there is room again: taking goes on");
                    }
                    return result;
                }
            }
        }
    }
}

fn verdict(appended: Appended) -> Verdict {
    match appended {
        Appended::New(_) => Verdict::Accepted,
        Appended::Completed(_) => Verdict::Completed,
        Appended::Duplicate => Verdict::Duplicate,
        Appended::Withdrawn => Verdict::Withdrawn,
    }
}

/// What a source hands in, committed in one step.
#[derive(Debug, Clone, Default)]
pub struct Own {
    /// Our own sealed events.
    pub sealed: Vec<Sealed>,
    /// The door, and where it stands after them.
    pub position: Option<(Name, Vec<u8>)>,
    /// What could not be read as an event.
    pub quarantine: Vec<Quarantined>,
    /// Items of the quarantine that `sealed` were made of.
    pub release: Vec<u64>,
}

/// The node as a link sees it: the seen set and the origins.
pub struct Acquaintance<S = Store> {
    seen: S,
    rules: Arc<Rules>,
    terms: Arc<Terms>,
    strangers: Arc<Strangers>,
}

impl<S: Seen> Acquaintance<S> {
    fn is_withdrawn(&self, offer: &Offer) -> bool {
        let mut keys = self.rules.origins.keys(&offer.1);
        keys.any(|key| self.seen.seen(&SeenKeys::of_withdrawn(key, offer.2)).is_some())
    }
}

impl<S: Seen> Known for Acquaintance<S> {
    fn keys(&self, offer: &Offer) -> Option<SeenKeys> {
        // An offer does not name the key: that of today stands for all that its origin has.
        let origins = &self.rules.origins;
        let mine = (offer.1 == self.rules.me).then_some(&self.rules.key);
        let key = mine.or_else(|| origins.keys(&offer.1).next());
        if key.is_none() {
            self.strangers.meet(&offer.1);
        }
        let key = key?;
        Some(SeenKeys::of_offer(&origins.newest(key), offer.2, offer.4))
    }

    fn standing(&self, keys: &SeenKeys, offer: &Offer) -> Standing {
        if offer.1 == self.rules.me {
            return Standing::Refuse(Verdict::Loop);
        }
        let mut others = self.rules.origins.keys(&offer.1).map(|key| SeenKeys::of_offer(key, offer.2, offer.4));
        let seen = |keys: &SeenKeys| self.seen.seen(keys).is_some_and(|hidden| hidden <= keys.hidden);
        if seen(keys) || others.any(|keys| seen(&keys)) {
            Standing::Known
        } else if self.is_withdrawn(offer) {
            Standing::Refuse(Verdict::Withdrawn)
        } else if self.terms.brings(&offer.1) {
            Standing::New
        } else {
            Standing::Refuse(Verdict::Refused(NOT_HERE.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;
    use crate::envelope::{self, Message, Secret, Tlp, seal};
    use crate::{config, policy};

    async fn gate(data: &std::path::Path) -> Gate {
        let me: Name = "me".parse().unwrap();
        let policy = Policy { me: me.clone(), default_tlp: Tlp::Amber, hops: 16 };
        let (key, bounds) = (Secret::from_seed(&[9; 32]).key(), Bounds::default());
        let (origins, terms) = (Arc::default(), HashMap::new());
        let rules = Rules { me, key, origins, policy, terms, bounds, age: 1, future: 1 };
        Gate::new(Store::open(data, &config::Store::default()).await.unwrap(), rules)
    }

    #[tokio::test]
    async fn who_looks_whether_there_is_a_line_makes_none() {
        let data = tempfile::tempdir().unwrap();
        let gate = gate(data.path()).await;
        let _looks = gate.line.try_read().unwrap();
        let door: Name = "out".parse().unwrap();
        let commit = gate.note_sink(&door, vec![1], Vec::new());
        tokio::time::timeout(Duration::from_secs(20), commit).await.expect("it stood in line").unwrap();
    }

    fn sealed(origin: &Name, n: u8) -> Bytes {
        let message = Message::read(br#"{"source.ip": "192.0.2.1"}"#).unwrap();
        let mut header = message.header(origin, Uuid::from_u128(n.into()), 1);
        header.tlp = Some(Tlp::Clear);
        let draft = envelope::Draft::new(header, message.fields, &Bounds::default()).unwrap();
        seal(&Secret::from_seed(&[1; 32]), vec![draft], &mut rand::rng()).remove(0).bytes().clone()
    }

    /// The gate, and the one peer that it takes something from.
    async fn gate_and_peer(data: &std::path::Path) -> (Gate, Bringer) {
        let gate = gate(data).await;
        let bringer = Bringer { name: "far".parse().unwrap(), key: Secret::from_seed(&[1; 32]).key() };
        let take = policy::Rules::taken(&config::Admit::All, &config::RuleSets::new());
        let terms = [(bringer.name.clone(), Arc::new(Terms { take, ..Terms::default() }))].into();
        let origins = Origins::new([(bringer.name.clone(), bringer.key)].into_iter(), None).into();
        gate.set_rules(Rules { origins, terms, ..Rules::clone(&gate.rules()) });
        (gate, bringer)
    }

    #[tokio::test]
    async fn what_would_be_refused_is_not_asked_for() {
        let data = tempfile::tempdir().unwrap();
        let (gate, Bringer { name: far, key }) = gate_and_peer(data.path()).await;
        let id = Uuid::from_u128;
        let remember = [SeenKeys::of_offer(&key, id(1), 0), SeenKeys::of_withdrawn(&key, id(2))];
        let remember = remember.map(|keys| Remember { at: 1, keys }).into();
        gate.store().commit(Commit { remember, ..Commit::default() }).await.unwrap();
        let known = gate.known(&far);
        let ask = |origin: &Name, number| {
            let offer = Offer(0, origin.clone(), id(number), 9, 0);
            known.standing(&known.keys(&offer).unwrap(), &offer)
        };
        assert_eq!(
            [1, 2, 3].map(|number| ask(&far, number)),
            [Standing::Known, Standing::Refuse(Verdict::Withdrawn), Standing::New]
        );
        // Even if the store has lost it.
        assert_eq!(ask(&gate.rules().me, 3), Standing::Refuse(Verdict::Loop));
    }

    #[tokio::test]
    async fn a_cursor_is_stored_in_one_step_with_what_came_before_it() {
        let data = tempfile::tempdir().unwrap();
        let (gate, bringer) = gate_and_peer(data.path()).await;
        for n in 1..=20u8 {
            {
                // Given up as soon as it is handed in: what is under way then is all of it.
                let envelopes = vec![sealed(&bringer.name, n)];
                let brought = gate.judge(&bringer, envelopes, Some(vec![n]), &Verifier::new(8), 1);
                let commit = pin!(gate.take(brought));
                let _ = commit.poll(&mut Context::from_waker(Waker::noop()));
            }
            gate.settled().await.unwrap();
            assert_eq!(gate.store().cursor(&Cursor::Peer(bringer.key)).await.unwrap(), Some(vec![n]));
            assert_eq!(gate.store().head(), u64::from(n));
        }
    }

    #[tokio::test]
    async fn what_was_handed_in_and_given_up_is_settled() {
        let data = tempfile::tempdir().unwrap();
        let gate = gate(data.path()).await;
        let door: Name = "in".parse().unwrap();
        for n in 0..20u8 {
            {
                let commit = pin!(gate.own(Own { position: Some((door.clone(), vec![n])), ..Own::default() }, 1));
                let _ = commit.poll(&mut Context::from_waker(Waker::noop()));
            }
            gate.settled().await.unwrap();
            assert_eq!(gate.store().cursor(&Cursor::Source(door.clone())).await.unwrap(), Some(vec![n]));
        }
    }
}
