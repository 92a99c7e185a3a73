//! Two halves against each other, without a network: what the exchange promises, step by step.

#[cfg(test)]
mod slow;

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use serde_bytes::ByteBuf;
use uuid::Uuid;

use super::*;
use crate::envelope::{Bounds, Draft, Envelope, Key, Message, Name, Secret, SeenKeys, seal};

/// A node that has every id of `seen`; every origin is known, under one key.
#[derive(Default)]
struct Node {
    seen: BTreeMap<[u8; 16], u16>,
}

impl Known for Node {
    fn keys(&self, offer: &Offer) -> Option<SeenKeys> {
        (offer.1.as_str() != "nobody").then(|| SeenKeys::of_offer(&Key::default(), offer.2, offer.4))
    }

    fn standing(&self, keys: &SeenKeys, _: &Offer) -> Standing {
        match self.seen.get(&keys.insert.0) {
            Some(&hidden) if hidden <= keys.hidden => Standing::Known,
            _ => Standing::New,
        }
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn entry(n: u64, own: bool) -> (u64, Option<Outgoing>) {
    let (id, origin) = (Uuid::from_u128(n.into()), name("far"));
    let key = SeenKeys::of_offer(&Key::default(), id, 0).insert;
    let bytes = Bytes::from(format!("envelope {n} {}", "x".repeat(1000)));
    (n, Some(Outgoing { at: 0, own, key, origin, id, hidden: 0, bytes }))
}

struct Side {
    link: Link,
    node: Node,
    claims: Claims,
    log: u64,
    own: bool,
    got: Vec<Bytes>,
    cursor: Option<Vec<u8>>,
    submitted: Vec<Submission>,
}

fn side(own: bool, log: u64, resume: From) -> Side {
    let key = TokenKey::derive(&[7; 32]);
    Side {
        link: Link::new(1, Settings::default(), key, Uuid::from_u128(5), resume, 0),
        node: Node::default(),
        claims: Claims::default(),
        log,
        own,
        got: Vec::new(),
        cursor: None,
        submitted: Vec::new(),
    }
}

impl Side {
    /// Everything this side can do at `now`; frames come in, frames go out.
    fn step(&mut self, frames: Vec<Frame>, now: u64) -> Result<Vec<Frame>, Violation> {
        let log = self.log;
        for frame in frames {
            let bytes = frame.encode();
            let frame = Frame::decode(&bytes[bytes.len() - length(&bytes)..]).unwrap();
            let position = |from| if from == From::Now { log } else { 0 };
            self.submitted.extend(self.link.handle(frame, position, &self.node, &self.claims, now)?);
        }
        while let Some(after) = self.link.push.needs(self.log, now) {
            let through = (after + 700).min(self.log);
            self.link.push.entries((after + 1..=through).map(|n| entry(n, self.own)), through);
            self.tick(now)?;
        }
        let asked: Vec<u64> = self.link.push.missing().collect();
        let forms = asked.into_iter().map(|n| entry(n, self.own).1);
        self.link.push.supply(forms, &mut self.link.out);
        self.tick(now)?;
        Ok(std::mem::take(&mut self.link.out))
    }

    fn tick(&mut self, now: u64) -> Result<(), Violation> {
        let mut rng = ChaCha20Rng::seed_from_u64(now);
        self.submitted.extend(self.link.tick(&self.node, &self.claims, &mut rng, now)?);
        Ok(())
    }

    fn commit(&mut self) {
        for submission in std::mem::take(&mut self.submitted) {
            let mut verdicts = Vec::new();
            for (slot, body) in submission.slots.into_iter().zip(submission.envelopes) {
                let n: u128 = String::from_utf8_lossy(&body).split(' ').nth(1).unwrap().parse().unwrap();
                let key = SeenKeys::of_offer(&Key::default(), Uuid::from_u128(n), 0).insert;
                let new = self.node.seen.insert(key.0, 0).is_none();
                self.got.extend(new.then_some(body));
                verdicts.push((slot, if new { Verdict::Accepted } else { Verdict::Duplicate }));
            }
            self.cursor = submission.cursor.or(self.cursor.take());
            self.link.pull.decided(verdicts, &self.claims, &mut self.link.out);
        }
    }
}

fn length(bytes: &[u8]) -> usize {
    unsigned_varint::decode::usize(bytes).unwrap().0
}

/// Runs both until nobody says anything, committing as it goes; counts the frames of each kind.
fn settle(a: &mut Side, b: &mut Side, now: u64) -> BTreeMap<&'static str, usize> {
    let (mut to_a, mut to_b, mut seen) = (Vec::new(), Vec::new(), BTreeMap::new());
    loop {
        to_b.extend(a.step(std::mem::take(&mut to_a), now).unwrap());
        count(&to_b, &mut seen);
        to_a.extend(b.step(std::mem::take(&mut to_b), now).unwrap());
        b.commit();
        a.commit();
        to_a.append(&mut b.link.out);
        count(&to_a, &mut seen);
        if to_a.is_empty() && a.link.out.is_empty() {
            return seen;
        }
    }
}

fn count(frames: &[Frame], seen: &mut BTreeMap<&'static str, usize>) {
    for frame in frames {
        *seen.entry(kind(frame)).or_default() += 1;
    }
}

fn kind(frame: &Frame) -> &'static str {
    match frame {
        Frame::Hello(_) | Frame::HelloAck(_) | Frame::Refuse(_) => "hello",
        Frame::Pull(_) => "pull",
        Frame::Batch(_) => "batch",
        Frame::Want(_) => "want",
        Frame::Bodies(_) => "bodies",
        Frame::Done(_) => "done",
        Frame::Beat(_) => "beat",
        Frame::Have(_) | Frame::Roster(_) | Frame::Notices(_) => "roster",
    }
}

#[test]
fn own_events_go_whole_and_others_are_offered_first() {
    let (mut a, mut b) = (side(true, 0, From::All), side(true, 0, From::All));
    settle(&mut a, &mut b, 1000);
    a.log = 100;
    let frames = settle(&mut a, &mut b, 1000);
    assert_eq!(b.got.len(), 100);
    assert_eq!(frames.get("want"), None);

    // What was there before the link, or a while ago, may have come by another way.
    let (mut c, mut d) = (side(true, 100, From::All), side(true, 0, From::All));
    assert_eq!(settle(&mut c, &mut d, 1000)["want"], 1);
    a.log = 200;
    assert_eq!(settle(&mut a, &mut b, 5000)["want"], 1);

    let (mut a, mut b) = (side(false, 1000, From::All), side(false, 0, From::All));
    let frames = settle(&mut a, &mut b, 1000);
    assert_eq!(b.got.len(), 1000);
    assert_eq!((frames["batch"], frames["want"], frames["done"]), (2, 2, 2));
    let given = a.link.push.take_counts();
    assert_eq!(given.offered, 1000);
    assert_eq!(given.verdicts, [(Verdict::Accepted, 1000)].into());
    assert_eq!(b.link.pull.take_counts(), given.verdicts);
    assert_eq!(a.link.push.backlog(), (0, 0));
}

#[test]
fn what_is_known_is_not_sent() {
    let (mut a, mut b) = (side(false, 10, From::All), side(false, 0, From::All));
    for n in 3..=10 {
        let key = SeenKeys::of_offer(&Key::default(), Uuid::from_u128(n), 0).insert;
        b.node.seen.insert(key.0, 0);
    }
    settle(&mut a, &mut b, 1000);
    assert_eq!(b.got.len(), 2);
    let given = a.link.push.take_counts();
    assert_eq!(given.sent, 2);
    assert_eq!(given.verdicts[&Verdict::Duplicate], 8);
}

#[test]
fn a_link_resumes_at_the_committed_cursor_in_the_same_log_only() {
    let (mut a, mut b) = (side(true, 500, From::All), side(true, 0, From::All));
    settle(&mut a, &mut b, 1000);
    let token = b.cursor.clone().expect("committed with the envelopes");

    let (mut a, mut c) = (side(true, 510, From::All), side(true, 0, From::Token(ByteBuf::from(token.clone()))));
    settle(&mut a, &mut c, 1000);
    assert_eq!(c.got.len(), 10);

    let (mut a, mut d) = (side(true, 510, From::All), side(true, 0, From::Token(ByteBuf::from(token))));
    a.link.push = Push::new(Settings::default(), TokenKey::derive(&[7; 32]), Uuid::from_u128(6), 0);
    settle(&mut a, &mut d, 1000);
    assert_eq!(d.got.len(), 510, "another log: from the start");
}

#[test]
fn a_log_that_was_restored_to_an_earlier_state_is_given_from_the_start() {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let token = TokenKey::derive(&[7; 32]).seal(Uuid::from_u128(5), 500, &mut rng);
    let (mut a, mut b) = (side(true, 490, From::All), side(true, 0, From::Token(ByteBuf::from(token))));
    settle(&mut a, &mut b, 1000);
    assert_eq!(b.got.len(), 490);
    let (_, seq) = TokenKey::derive(&[7; 32]).open(&b.cursor.expect("committed with the envelopes")).unwrap();
    assert_eq!(seq, 490);
}

#[test]
fn the_cursor_does_not_pass_what_is_not_submitted() {
    let (mut a, mut b) = (side(false, 600, From::All), side(false, 0, From::All));
    // Another link of b has claimed the first id.
    let first = SeenKeys::of_offer(&Key::default(), Uuid::from_u128(1), 0).insert;
    b.claims.claim(first, 99, 1000, 5000);
    settle(&mut a, &mut b, 1000);
    assert_eq!(b.got.len(), 599);
    assert_eq!(b.cursor, None);
    assert!(b.link.pull.waits());
    // The claim expires: it is wanted here, and the cursor moves over everything.
    settle(&mut a, &mut b, 6000);
    assert_eq!(b.got.len(), 600);
    let (_, seq) = TokenKey::derive(&[7; 32]).open(&b.cursor.unwrap()).unwrap();
    assert_eq!(seq, 600);
    assert_eq!(a.link.push.backlog(), (0, 0));
}

#[test]
fn the_window_bounds_what_is_unanswered() {
    let (mut a, mut b) = (side(true, 50_000, From::All), side(true, 0, From::All));
    a.link.push =
        Push::new(Settings { window: 1 << 20, ..Settings::default() }, TokenKey::derive(&[7; 32]), Uuid::nil(), 0);
    let pull = b.step(Vec::new(), 1000).unwrap();
    let batches = a.step(pull, 1000).unwrap();
    assert!((2..40).contains(&batches.len()), "{} frames", batches.len());
    // Nothing comes back: the link ends.
    assert_eq!(a.step(Vec::new(), 31_000).unwrap_err(), Violation::Unanswered("a batch"));
}

#[test]
fn what_was_wanted_and_never_comes_ends_the_link() {
    let (mut a, mut b) = (side(false, 10, From::All), side(false, 0, From::All));
    let pull = b.step(Vec::new(), 1000).unwrap();
    let offers = a.step(pull, 1000).unwrap();
    b.step(offers, 1000).unwrap();
    assert_eq!(b.step(Vec::new(), 31_000).unwrap_err(), Violation::Unanswered("what we wanted"));
}

#[test]
fn nothing_is_offered_that_the_peer_offered_us() {
    let (mut a, mut b) = (side(false, 300, From::All), side(false, 300, From::All));
    for n in 1..=300 {
        let key = SeenKeys::of_offer(&Key::default(), Uuid::from_u128(n), 0).insert;
        a.node.seen.insert(key.0, 0);
        b.node.seen.insert(key.0, 0);
    }
    // b hears a's offers before it sends its own.
    let pull = b.step(Vec::new(), 1000).unwrap();
    let mut offers = a.step(pull, 1000).unwrap();
    offers.rotate_left(1);
    let answers = b.step(offers, 1000).unwrap();
    assert!(answers.iter().all(|frame| kind(frame) != "batch"), "{answers:?}");
    assert_eq!(b.link.push.take_counts().offered, 0);
}

#[test]
fn an_offer_shows_an_id_of_its_origin_and_not_a_content() {
    let id = uuid::Builder::from_custom_bytes([5; 16]).into_uuid();
    let batch =
        Batch { no: 1, offers: vec![Offer(0, name("far"), id, 9, 2)], whole: Bytes::new(), token: ByteBuf::new() };
    let keys = SeenKeys::of_offer(&Key::default(), id, 2);
    assert!(keys.also.is_some());
    assert_eq!(batch.keys(&Node::default()), [(keys.insert, 2)]);
}

#[test]
fn a_quiet_log_says_where_it_ends_and_withheld_entries_do_not_show() {
    let (mut a, mut b) = (side(true, 0, From::All), side(true, 0, From::All));
    settle(&mut a, &mut b, 1000);
    a.log = 50;
    let after = a.link.push.needs(50, 2000).unwrap();
    a.link.push.entries((after + 1..=50).map(|n| (n, None)), 50);
    assert!(a.step(Vec::new(), 2000).unwrap().is_empty());
    settle(&mut a, &mut b, 12_000);
    settle(&mut a, &mut b, 13_500);
    let (_, seq) = TokenKey::derive(&[7; 32]).open(&b.cursor.clone().unwrap()).unwrap();
    assert_eq!(seq, 50);
    assert!(b.link.pull.current().is_some());
}

#[test]
fn who_begins_now_is_told_at_once_where_that_is() {
    let (mut a, mut b) = (side(true, 50, From::All), side(true, 0, From::Now));
    settle(&mut a, &mut b, 20_000);
    settle(&mut a, &mut b, 20_300);
    // The link ends, and something comes meanwhile.
    let token = b.cursor.clone().expect("a place, before anything has come");
    let (mut a, mut b) = (side(true, 52, From::All), side(true, 0, From::Token(ByteBuf::from(token))));
    settle(&mut a, &mut b, 21_000);
    assert_eq!(numbers(&b), [51, 52]);
}

fn numbers(side: &Side) -> Vec<u128> {
    let number = |body: &Bytes| String::from_utf8_lossy(body).split(' ').nth(1).unwrap().parse().unwrap();
    side.got.iter().map(number).collect()
}

/// The frames in which these entries go, tokens aside; `every` is how many of the log are withheld around each of them.
fn shown(entries: u128, own: bool, every: u64, step: u64) -> Vec<Frame> {
    let settings = Settings { window: usize::MAX, ..Settings::default() };
    let mut link = Link::new(1, settings, TokenKey::derive(&[7; 32]), Uuid::nil(), From::All, 1000);
    link.push.pull(From::All, |_| 0, 1000).unwrap();
    let head = entries as u64 * every;
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    // All of it comes after the link began, so that own events are news.
    assert_eq!(link.push.needs(0, 1500), None);
    while let Some(after) = link.push.needs(head, 1500) {
        let through = (after + step).min(head);
        let permitted = |n: u64| n.is_multiple_of(every).then(|| entry(n / every, own).1).flatten();
        link.push.entries((after + 1..=through).map(|n| (n, permitted(n))), through);
        link.push.tick(&mut rng, 1500, &mut link.out).unwrap();
    }
    let frames = std::mem::take(&mut link.out).into_iter().skip(1);
    let without_token = |frame| match frame {
        Frame::Batch(batch) => {
            assert_eq!(batch.token.len(), 64);
            Frame::Batch(Batch { token: ByteBuf::new(), ..batch })
        }
        other => other,
    };
    frames.map(without_token).collect()
}

#[test]
fn a_peer_is_shown_the_same_whatever_is_withheld_around_it() {
    for own in [false, true] {
        let alone = shown(2000, own, 1, 512);
        assert_eq!(alone.len(), if own { 36 } else { 4 });
        for (every, step) in [(1, 100), (2, 512), (3, 7), (50, 512), (1000, 512)] {
            assert_eq!(shown(2000, own, every, step), alone, "one in {every}, read by {step}");
        }
    }
}

#[test]
fn what_is_no_longer_permitted_is_not_sent_though_it_was_offered() {
    let (mut a, mut b) = (side(false, 0, From::All), side(false, 0, From::All));
    settle(&mut a, &mut b, 1000);
    a.log = 4;
    let offers = a.step(Vec::new(), 3000).unwrap();
    let places: Vec<_> = (0..4).map(|slot| ((1, slot), u64::from(slot) + 1)).collect();
    assert_eq!(a.link.push.offered(), places);
    a.link.push.reconsider((1, 1), None);
    let redacted = Outgoing { bytes: Bytes::from_static(b"3 3 redacted"), ..entry(3, false).1.unwrap() };
    a.link.push.reconsider((1, 2), Some(redacted));
    let wants = b.step(offers, 3000).unwrap();
    let bodies = a.step(wants, 3000).unwrap();
    b.step(bodies, 3000).unwrap();
    b.commit();
    let done = b.step(Vec::new(), 3000).unwrap();
    assert_eq!(numbers(&b), [1, 3, 4]);
    assert!(b.claims.is_empty());
    a.step(done, 3000).unwrap();
    let verdicts: Vec<_> = a.link.push.take_told().into_iter().map(|told| (told.seq, told.verdict)).collect();
    let accepted = |seq| (seq, Some(Verdict::Accepted));
    assert_eq!(verdicts, [accepted(1), (2, Some(Verdict::Later)), accepted(3), accepted(4)]);
    assert_eq!(a.link.push.take_counts().sent, 3);
    // It is permitted again, and wanted by an operator.
    a.link.push.rewind(1);
    settle(&mut a, &mut b, 5000);
    assert_eq!(numbers(&b), [1, 3, 4, 2]);
}

#[test]
fn what_is_withdrawn_is_neither_offered_nor_sent_though_it_was_offered() {
    let (mut a, mut b) = (side(false, 0, From::All), side(false, 0, From::All));
    settle(&mut a, &mut b, 1000);
    let gone = |number: u128| move |_: &Name, id: Uuid| id == Uuid::from_u128(number);
    a.log = 4;
    let offers = a.step(Vec::new(), 3000).unwrap();
    assert_eq!(a.link.push.retract(gone(2)), [2]);
    let wants = b.step(offers, 3000).unwrap();
    let bodies = a.step(wants, 3000).unwrap();
    b.step(bodies, 3000).unwrap();
    // Read, and not yet sent.
    a.log = 6;
    assert_eq!(a.link.push.needs(6, 3000), Some(4));
    a.link.push.entries((5..=6).map(|n| entry(n, false)), 6);
    assert_eq!(a.link.push.retract(gone(5)), [5]);
    b.commit();
    settle(&mut a, &mut b, 3000);
    assert_eq!(numbers(&b), [1, 3, 4, 6]);
}

#[test]
fn nearly_all_new_is_sent_whole() {
    let (mut a, mut b) = (side(false, 3000, From::All), side(false, 0, From::All));
    settle(&mut a, &mut b, 1000);
    a.log = 3100;
    let frames = settle(&mut a, &mut b, 2000);
    assert_eq!(frames.get("want"), None, "{frames:?}");
    assert_eq!(b.got.len(), 3100);
}

#[test]
fn what_is_half_known_is_offered() {
    let (mut a, mut b) = (side(false, 2000, From::All), side(false, 0, From::All));
    for n in (1..=2100).step_by(2) {
        let key = SeenKeys::of_offer(&Key::default(), Uuid::from_u128(n), 0).insert;
        b.node.seen.insert(key.0, 0);
    }
    settle(&mut a, &mut b, 1000);
    assert_eq!(b.got.len(), 1000);
    a.log = 2100;
    settle(&mut a, &mut b, 2000);
    assert_eq!(b.got.len(), 1050);
    assert_eq!(a.link.push.take_counts().sent, 1050, "nothing is sent that is known");
}

#[test]
fn frames_out_of_place_end_the_link() {
    let refused = |frame: Frame| {
        let mut b = side(true, 0, From::All);
        b.step(vec![frame], 0).unwrap_err()
    };
    let batch = |no, offers, whole: &[u8]| {
        let whole = Bytes::copy_from_slice(whole);
        Frame::Batch(Batch { no, offers, whole, token: ByteBuf::new() })
    };
    let offer = |slot| Offer(slot, name("far"), Uuid::nil(), 10, 0);
    for frame in [
        Frame::Refuse("late".into()),
        batch(2, vec![offer(0)], &[]),
        batch(1, vec![], &[]),
        batch(1, vec![offer(1)], &[]),
        batch(1, vec![offer(0), offer(0)], &[]),
        batch(1, vec![offer(0)], &[1, 2, 3]),
        batch(1, (0..512).map(offer).collect(), &pack(&[(512, Bytes::from_static(b"one more"))])),
        Frame::Bodies(Bodies { no: 1, packed: Bytes::new() }),
        Frame::Want(Want { no: 1, answers: vec![] }),
        Frame::Done(Done { no: 1, verdicts: vec![], mode: Mode::Offer }),
    ] {
        assert!(matches!(refused(frame.clone()), Violation::Unexpected(_)), "{frame:?}");
    }
}

/// Whoever serves something valid in the place of what it had offered would be as good as one that serves it: it could
/// claim the id again at once, and again, and keep it from coming on another link.
#[test]
fn something_else_in_the_place_of_what_was_offered_is_malformed_and_costs_the_right_to_claim() {
    let sealed = |origin: &str, id| {
        let message = Message::read(b"{\"source.ip\": \"192.0.2.1\"}").unwrap();
        let header = message.header(&name(origin), Uuid::from_u128(id), 0);
        let draft = Draft::new(header, message.fields, &Bounds::default()).unwrap();
        seal(&Secret::from_seed(&[1; 32]), vec![draft], &mut ChaCha20Rng::seed_from_u64(1)).remove(0)
    };
    // What is submitted, and whether the link may still keep others waiting.
    let serve = |body: &Bytes| {
        let mut b = side(true, 0, From::All);
        let offers = vec![Offer(0, name("far"), Uuid::from_u128(1), 900, 0)];
        b.step(vec![Frame::Batch(Batch { no: 1, offers, whole: Bytes::new(), token: ByteBuf::new() })], 0).unwrap();
        let bodies = Bodies { no: 1, packed: pack(&[(0, body.clone())]) };
        let out = b.step(vec![Frame::Bodies(bodies)], 0).unwrap();
        let done = Frame::Done(Done { no: 1, verdicts: vec![Verdict::Malformed], mode: Mode::Offer });
        assert_eq!(out.contains(&done), b.submitted.is_empty());
        let key = SeenKeys::of_offer(&Key::default(), Uuid::from_u128(7), 0).insert;
        b.claims.claim(key, 1, 1, 5000);
        let envelopes: Vec<Bytes> = b.submitted.into_iter().flat_map(|submission| submission.envelopes).collect();
        (envelopes, b.claims.claim(key, 2, 2, 5000) != Claimed::Here)
    };
    let offered = sealed("far", 1);
    for good in [offered.bytes().clone(), offered.hide(|_| true).with_hop(&name("b")).bytes().clone()] {
        assert_eq!(serve(&good), (vec![good], true));
    }
    for bad in [sealed("far", 2).bytes().clone(), sealed("near", 1).bytes().clone()] {
        assert!(Envelope::decode(bad.clone(), &Bounds::default()).is_ok());
        assert_eq!(serve(&bad), (vec![], false));
    }
    // What is no envelope is the gate's to refuse.
    assert_eq!(serve(&Bytes::from_static(b"garbage")).0.len(), 1);
}

#[test]
fn a_body_that_was_not_asked_for_ends_the_link() {
    let mut b = side(true, 0, From::All);
    let offer = |slot: u16| Offer(slot, name("far"), Uuid::from_u128(slot.into()), 900, 0);
    b.node.seen.insert(SeenKeys::of_offer(&Key::default(), Uuid::from_u128(1), 0).insert.0, 0);
    b.step(
        vec![Frame::Batch(Batch {
            no: 1,
            offers: vec![offer(0), offer(1)],
            whole: Bytes::new(),
            token: ByteBuf::new(),
        })],
        0,
    )
    .unwrap();
    let body = Bytes::from_static(b"envelope 1");
    for slot in [1, 2] {
        let bodies = Bodies { no: 1, packed: pack(&[(slot, body.clone())]) };
        assert_eq!(b.step(vec![Frame::Bodies(bodies)], 0), Err(Violation::Unexpected("a body that was not asked for")));
    }
}

#[test]
fn more_batches_than_may_be_open_end_the_link() {
    let mut b = side(true, 0, From::All);
    let mut next = |no: u64| {
        let offers = vec![Offer(0, name("far"), Uuid::from_u128(no.into()), 900, 0)];
        b.step(vec![Frame::Batch(Batch { no, offers, whole: Bytes::new(), token: ByteBuf::new() })], 0)
    };
    (1..=MAX_BATCHES as u64).for_each(|no| drop(next(no).unwrap()));
    assert_eq!(next(MAX_BATCHES as u64 + 1), Err(Violation::Unexpected("more batches than may be open")));
}

#[test]
fn no_more_batches_are_sent_than_may_be_open() {
    let (mut a, mut b) = (side(true, 0, From::All), side(true, 0, From::All));
    let pull = b.step(Vec::new(), 1000).unwrap();
    a.step(pull, 1000).unwrap();
    // One event at a time, and nobody answers.
    for n in 1..=1000 {
        a.log = n;
        a.step(Vec::new(), 1000 + n).unwrap();
    }
    assert_eq!(a.link.push.backlog().0, MAX_BATCHES / 2);
}

#[test]
fn a_beat_moves_no_cursor_over_what_is_not_decided() {
    let (mut a, mut b) = (side(false, 10, From::All), side(false, 0, From::All));
    let pull = b.step(Vec::new(), 1000).unwrap();
    let mut frames = a.step(pull, 1000).unwrap();
    frames.push(Frame::Beat(Beat { token: ByteBuf::from([1; 64]) }));
    b.step(frames, 1000).unwrap();
    b.step(Vec::new(), 5000).unwrap();
    assert_eq!(b.submitted, []);
}

#[test]
fn strangers_origins_are_refused_by_name() {
    let mut b = side(true, 0, From::All);
    let offers = vec![Offer(0, name("nobody"), Uuid::nil(), 10, 0), Offer(1, name("far"), Uuid::nil(), 2 << 20, 0)];
    let frames =
        b.step(vec![Frame::Batch(Batch { no: 1, offers, whole: Bytes::new(), token: ByteBuf::new() })], 0).unwrap();
    let answers = vec![(0, Answer::Refuse(Verdict::UnknownOrigin)), (1, Answer::Refuse(Verdict::TooBig))];
    assert!(frames.contains(&Frame::Want(Want { no: 1, answers })), "{frames:?}");
    let verdicts = vec![Verdict::UnknownOrigin, Verdict::TooBig];
    assert!(frames.contains(&Frame::Done(Done { no: 1, verdicts, mode: Mode::Offer })), "{frames:?}");
}

#[test]
fn no_frame_is_larger_than_the_peer_takes() {
    let (mut a, mut b) = (side(false, 2000, From::All), side(false, 0, From::All));
    let settings = Settings { frame: (64 << 10) + 3000, envelope: 3000, ..Settings::default() };
    a.link.push = Push::new(settings, TokenKey::derive(&[7; 32]), Uuid::nil(), 0);
    b.link.pull = Pull::new(1, settings);
    settle(&mut a, &mut b, 1000);
    assert_eq!(b.got.len(), 2000, "unpacked, every batch and all bodies are within the frame");
}

#[test]
fn what_a_peer_calls_its_rules_is_bounded() {
    let mut all = Given::default();
    for n in 0..1000 {
        let mut a = side(true, 1, From::All);
        let out = a.step(vec![Frame::Pull(From::All)], 0).unwrap();
        assert!(out.iter().any(|frame| matches!(frame, Frame::Batch(_))));
        let rule = format!("{n}\n{}", "x".repeat(10_000));
        let done = Done { no: 1, verdicts: vec![Verdict::Refused(rule)], mode: Mode::Offer };
        a.step(vec![Frame::Done(done)], 0).unwrap();
        all.add(a.link.push.take_counts());
    }
    assert_eq!(all.offered, 1000);
    assert!(all.verdicts.len() < 100, "{} verdicts", all.verdicts.len());
    let fit = |text: &str| text.len() < 100 && !text.contains('\n');
    assert!(all.verdicts.keys().all(|verdict| fit(&verdict.to_string())));
}

#[test]
fn a_token_of_any_size_ends_the_link() {
    let token = ByteBuf::from(vec![0; 5000]);
    let batch = Batch {
        no: 1,
        offers: vec![Offer(0, name("far"), Uuid::from_u128(1), 100, 0)],
        whole: Bytes::new(),
        token: token.clone(),
    };
    for frame in [Frame::Batch(batch), Frame::Beat(Beat { token })] {
        let mut b = side(true, 0, From::All);
        assert_eq!(b.step(vec![frame], 0), Err(Violation::Unexpected("a token of more than 1 KiB")));
    }
}

#[test]
fn what_is_open_costs_nothing_where_nothing_is_due() {
    let offer =
        |no: u64, slot: u16| Offer(slot, name("far"), Uuid::from_u128((no << 16 | u64::from(slot)).into()), 9, 0);
    let mut b = side(true, 0, From::All);
    for no in 1..=MAX_BATCHES as u64 {
        let offers = (0..MAX_ENTRIES as u16).map(|slot| offer(no, slot)).collect();
        b.link.out.clear();
        b.step(vec![Frame::Batch(Batch { no, offers, whole: Bytes::new(), token: ByteBuf::new() })], 0).unwrap();
    }
    // 262,144 slots: to look through them 600 times takes many times as long.
    let time = |b: &mut Side| {
        let begun = std::time::Instant::now();
        for _ in 0..200 {
            b.tick(0).unwrap();
            assert!(!b.link.pull.waits() && b.link.deadline() > 0);
        }
        begun.elapsed()
    };
    // The best of five: the machine may have other things to do.
    let best = (0..5).map(|_| time(&mut b)).min().unwrap();
    assert!(best < std::time::Duration::from_millis(200), "{best:?} for 200 ticks");
    let answer = Settings::default().answer;
    assert_eq!(b.step(vec![], answer), Err(Violation::Unanswered("what we wanted")));
}
