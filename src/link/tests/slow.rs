//! What a link does with a peer that brings more than it may.

use std::sync::Arc;

use super::*;
use crate::config::Rate;

fn allowance(rate: Rate) -> Arc<Allowance> {
    let allowance = Arc::<Allowance>::default();
    allowance.set(&rate, 0);
    allowance
}

fn per_second(events: u64, burst: u64) -> Arc<Allowance> {
    allowance(Rate { events_per_second: Some(events), burst_seconds: burst, ..Rate::default() })
}

/// A receiver that lets its peer bring so much.
fn limited(allowance: &Arc<Allowance>) -> Side {
    let mut side = side(false, 0, From::All);
    side.link.pull.keep_to(allowance.clone());
    side
}

fn run(a: &mut Side, b: &mut Side, times: std::ops::RangeInclusive<u64>) -> BTreeMap<&'static str, usize> {
    let mut seen = BTreeMap::new();
    for now in times.step_by(100) {
        for (kind, count) in settle(a, b, now) {
            *seen.entry(kind).or_default() += count;
        }
        for link in [&a.link, &b.link] {
            assert!(link.deadline() > now, "nothing is left to do now");
        }
    }
    seen
}

fn offers(no: u64, origin: &str, ids: std::ops::Range<u128>) -> Frame {
    let offers = ids.zip(0..).map(|(id, slot)| Offer(slot, name(origin), Uuid::from_u128(id), 100, 0)).collect();
    Frame::Batch(Batch { no, offers, whole: Bytes::new(), token: ByteBuf::new() })
}

/// What is asked for, in order.
fn wanted(frames: &[Frame]) -> Vec<(u64, u16)> {
    let wants = frames.iter().filter_map(|frame| if let Frame::Want(want) = frame { Some(want) } else { None });
    let slots = wants.flat_map(|want| want.answers.iter().map(|answer| (want.no, answer)));
    slots.filter(|(_, (_, answer))| *answer == Answer::Want).map(|(no, (slot, _))| (no, *slot)).collect()
}

#[test]
fn what_is_over_the_rate_comes_later_and_all_of_it() {
    // Longer than a batch may be unanswered.
    let (mut a, mut b) = (side(false, 60, From::All), limited(&per_second(1, 10)));
    run(&mut a, &mut b, 1_000..=1_000);
    assert_eq!((b.got.len(), b.link.pull.slowed(), a.link.push.is_slowed()), (10, (true, 50), true));
    assert!(b.claims.is_empty(), "another link may bring what waits");
    assert_eq!(b.cursor, None);
    run(&mut a, &mut b, 1_100..=41_000);
    assert_eq!(b.got.len(), 50);
    run(&mut a, &mut b, 41_100..=51_000);
    assert_eq!((b.got.len(), b.link.pull.slowed().1), (60, 0));
    let given = a.link.push.take_counts();
    assert_eq!((given.offered, given.sent, given.slowed), (60, 60, 50));
    let (_, seq) = TokenKey::derive(&[7; 32]).open(&b.cursor.clone().unwrap()).unwrap();
    assert_eq!(seq, 60);
    // It is over on both sides, some seconds later.
    run(&mut a, &mut b, 51_100..=62_000);
    assert_eq!((b.link.pull.slowed(), a.link.push.is_slowed()), ((false, 0), false));
}

#[test]
fn a_flood_does_not_keep_a_quiet_origin_waiting() {
    let mut b = limited(&per_second(10, 1));
    let answers = b.step(vec![offers(1, "far", 0..512), offers(2, "far", 600..1_112)], 1_000).unwrap();
    assert_eq!(wanted(&answers).len(), 10);
    b.step(vec![offers(3, "near", 2_000..2_003)], 1_100).unwrap();
    let turns: Vec<_> = (12..18).flat_map(|tenth| wanted(&b.step(vec![], tenth * 100).unwrap())).collect();
    assert_eq!(turns, [(3, 0), (1, 11), (3, 1), (1, 12), (3, 2), (1, 13)]);
    // In one batch too, the burst is everybody's.
    let mut b = limited(&per_second(4, 1));
    let Frame::Batch(mut both) = offers(1, "far", 0..10) else { unreachable!() };
    both.offers[9].1 = name("near");
    assert_eq!(wanted(&b.step(vec![Frame::Batch(both)], 1_000).unwrap()), [(1, 0), (1, 1), (1, 2), (1, 9)]);
}

#[test]
fn what_came_whole_is_owed_and_what_follows_is_offered() {
    let (mut a, mut b) = (side(true, 0, From::All), limited(&per_second(10, 1)));
    settle(&mut a, &mut b, 0);
    a.log = 50;
    let frames = settle(&mut a, &mut b, 0);
    assert_eq!((b.got.len(), frames["want"]), (50, 1), "it is told");
    assert!(a.link.push.is_slowed() && b.link.pull.slowed().0);
    assert_eq!(a.link.push.take_counts().slowed, 0, "nothing waits");
    a.log = 60;
    settle(&mut a, &mut b, 100);
    assert_eq!((b.got.len(), b.link.pull.slowed().1), (50, 10));
    run(&mut a, &mut b, 200..=4_900);
    assert_eq!(b.got.len(), 59);
    run(&mut a, &mut b, 5_000..=16_000);
    assert_eq!((b.got.len(), b.link.pull.slowed(), a.link.push.is_slowed()), (60, (false, 0), false));
    // Whole again: nothing need be asked for.
    a.log = 61;
    a.own = true;
    let (seq, Some(entry)) = entry(61, true) else { unreachable!() };
    a.link.push.needs(61, 16_000);
    a.link.push.entries([(seq, Some(Outgoing { at: 16_000, ..entry }))], 61);
    assert_eq!(settle(&mut a, &mut b, 16_000).get("want"), None);
}

#[test]
fn bytes_and_days_are_limits_too() {
    let (mut a, mut b) =
        (side(false, 100, From::All), limited(&allowance(Rate { bytes_per_day: Some(20 << 10), ..Rate::default() })));
    settle(&mut a, &mut b, 1_000);
    assert_eq!(b.got.len(), 20);
    // A day, in which both say that they are at work.
    (0..=8_640).for_each(|step| drop(settle(&mut a, &mut b, 1_000 + step * 10_000)));
    assert_eq!(b.got.len(), 40);
}

#[test]
fn much_may_wait_and_a_window_of_it_is_in_memory() {
    let allowance = per_second(1, 1);
    let (mut a, mut b) = (side(false, 100_000, From::All), limited(&allowance));
    let settings = Settings { window: 256 << 10, ..Settings::default() };
    a.link.push = Push::new(settings, TokenKey::derive(&[7; 32]), Uuid::nil(), 0);
    settle(&mut a, &mut b, 1_000);
    let shown = a.link.push.take_counts().offered;
    assert!((65_536..66_500).contains(&shown), "{shown} are shown");
    assert_eq!(b.link.pull.slowed().1 as u64, shown - 1);
    assert!(a.link.push.held() < (256 << 10) + 2_000, "{} bytes are held", a.link.push.held());
    // Policy changes: what is held goes in the new form, what is not is decided when it is asked for.
    let held = a.link.push.offered();
    assert!((200..300).contains(&held.len()), "{}", held.len());
    a.link.push.reconsider(held[0].0, None);
    let last = (1 + (shown - 1) / 512, ((shown - 1) % 512) as u16);
    a.link.push.reconsider(last, entry(shown, false).1);
    assert!(a.link.push.held() < (256 << 10) + 2_000, "{} bytes are held", a.link.push.held());
    // The limit is lifted: all of it comes, at once, a window at a time.
    allowance.set(&Rate::default(), 1_000);
    settle(&mut a, &mut b, 1_000);
    run(&mut a, &mut b, 1_100..=30_000);
    assert_eq!((b.got.len(), a.link.push.backlog(), a.link.push.held()), (99_999, (0, 0), 0));
    assert_eq!(a.link.push.take_counts().verdicts[&Verdict::Later], 1, "what is not given any more");
}

#[test]
fn no_more_than_a_window_is_asked_for_when_the_limit_is_lifted() {
    let allowance = per_second(1, 1);
    let mut b = limited(&allowance);
    let settings = Settings { window: 1_000, ..Settings::default() };
    b.link.pull = Pull::new(1, settings);
    b.link.pull.keep_to(allowance.clone());
    b.step(vec![offers(1, "far", 0..100)], 0).unwrap();
    allowance.set(&Rate::default(), 0);
    assert_eq!(wanted(&b.step(vec![], 0).unwrap()).len(), 9, "with the one before, ten of 100 bytes");
}

#[test]
fn a_trickle_does_not_use_up_the_batches() {
    let (mut a, mut b) = (side(false, 0, From::All), limited(&per_second(1, 1)));
    for now in (1_000..61_000).step_by(50) {
        a.log += 1;
        settle(&mut a, &mut b, now);
    }
    let (batches, behind) = a.link.push.backlog();
    assert!(batches < 160 && behind < 40, "{batches} batches, {behind} not shown");
}

#[test]
fn what_another_link_brings_is_not_asked_for() {
    let mut b = limited(&per_second(1, 1));
    let answers = b.step(vec![offers(1, "far", 0..10)], 0).unwrap();
    assert_eq!(wanted(&answers).len(), 1);
    for id in 5..10 {
        b.node.seen.insert(SeenKeys::of_offer(&Key::default(), Uuid::from_u128(id), 0).insert.0, 0);
    }
    // There are no tokens, and still it is noticed.
    let answers = [b.step(vec![], 900).unwrap(), b.step(vec![], 999).unwrap(), b.step(vec![], 1_000).unwrap()].concat();
    let had = answers.iter().filter_map(|frame| if let Frame::Want(want) = frame { Some(&want.answers) } else { None });
    assert_eq!(had.flatten().filter(|(_, answer)| *answer == Answer::Have).count(), 5);
    assert_eq!(b.link.pull.slowed().1, 3);
    // Somebody else has claimed the next one: it costs nothing, and waits for the claim.
    b.claims.claim(SeenKeys::of_offer(&Key::default(), Uuid::from_u128(2), 0).insert, 99, 1_000, 5_000);
    assert_eq!(wanted(&b.step(vec![], 2_000).unwrap()), [(1, 3)]);
    assert!(b.step(vec![], 2_001).unwrap().is_empty(), "it does not change its answer with each look");
    assert_eq!(wanted(&b.step(vec![], 6_000).unwrap()), [(1, 4)]);
    assert_eq!(wanted(&b.step(vec![], 7_000).unwrap()), [(1, 2)]);
}

#[test]
fn a_new_link_has_no_fresh_burst_and_owes_nothing_for_what_did_not_come() {
    let allowance = per_second(10, 10);
    let (mut a, mut b) = (side(false, 500, From::All), limited(&allowance));
    settle(&mut a, &mut b, 1_000);
    assert_eq!(b.got.len(), 100);
    let (mut a, mut c) = (side(false, 500, From::All), limited(&allowance));
    settle(&mut a, &mut c, 2_000);
    assert_eq!(c.got.len(), 10);
    // The link ends before the bodies come.
    let mut d = limited(&allowance);
    assert_eq!(wanted(&d.step(vec![offers(1, "far", 0..512)], 3_000).unwrap()).len(), 10);
    drop(d);
    let mut e = limited(&allowance);
    assert_eq!(wanted(&e.step(vec![offers(1, "far", 0..512)], 3_000).unwrap()).len(), 10);
}

#[test]
fn who_goes_on_sending_whole_is_not_read() {
    let allowance = allowance(Rate { bytes_per_second: Some(1 << 20), burst_seconds: 1, ..Rate::default() });
    let mut b = limited(&allowance);
    let body = Bytes::from(vec![b'x'; 1 << 20]);
    for no in 1..=9 {
        let batch = Batch { no, offers: vec![], whole: pack(&[(0, body.clone())]), token: ByteBuf::new() };
        let answers = b.step(vec![Frame::Batch(batch)], 0).unwrap();
        let told = answers.contains(&Frame::Want(Want { no, answers: vec![(0, Answer::Slow)] }));
        assert_eq!((told, b.link.pull.is_overdrawn(0)), (no > 1, false), "{no}");
    }
    let batch = Batch { no: 10, offers: vec![], whole: pack(&[(0, body.clone())]), token: ByteBuf::new() };
    b.step(vec![Frame::Batch(batch)], 0).unwrap();
    assert!(b.link.pull.is_overdrawn(0) && !b.link.pull.is_overdrawn(1_000));
    assert!(b.link.deadline() <= 100, "it is looked at again");
}

#[test]
fn a_peer_that_puts_off_what_it_likes_breaks_no_bound() {
    let mut a = side(false, 2_000, From::All);
    let slow = |no, slots: Vec<u16>| {
        Frame::Want(Want { no, answers: slots.into_iter().map(|slot| (slot, Answer::Slow)).collect() })
    };
    a.step(vec![Frame::Pull(From::All)], 1_000).unwrap();
    a.step(vec![slow(1, vec![0, 0, 1, 600]), slow(1, vec![1])], 1_000).unwrap();
    assert_eq!(a.link.push.take_counts().slowed, 2);
    // What was put off and what was not may be asked for, once.
    let want = |slot| Frame::Want(Want { no: 1, answers: vec![(slot, Answer::Want)] });
    assert_eq!(a.step(vec![want(0), want(2)], 1_000).unwrap().len(), 2);
    assert!(a.step(vec![want(0)], 1_000).is_err());
    // What is not held, and asked for, of a batch that is then said to be done.
    let mut a = side(false, 100, From::All);
    let settings = Settings { window: 50 << 10, ..Settings::default() };
    a.link.push = Push::new(settings, TokenKey::derive(&[7; 32]), Uuid::nil(), 0);
    a.step(vec![Frame::Pull(From::All)], 1_000).unwrap();
    a.step(vec![slow(1, (0..100).collect())], 1_000).unwrap();
    let (mut out, last) = (Vec::new(), Want { no: 1, answers: vec![(99, Answer::Want)] });
    a.link.push.want(last, 1_000, &mut out).unwrap();
    assert_eq!((out.len(), a.link.push.missing().collect::<Vec<_>>()), (0, vec![100]));
    let done = Done { no: 1, verdicts: vec![Verdict::Duplicate; 100], mode: Mode::Whole };
    a.link.push.done(&done, 1_000).unwrap();
    assert_eq!((a.link.push.missing().count(), a.link.push.held(), a.link.push.backlog()), (0, 0, (0, 0)));
    a.log = 110;
    let out = a.step(vec![], 1_000).unwrap();
    assert!(out.iter().any(|frame| matches!(frame, Frame::Batch(batch) if batch.whole.is_empty())), "slowed: {out:?}");
    assert_eq!(a.step(vec![], 40_000).unwrap_err(), Violation::Unanswered("a batch"), "it must say that it is at work");
}
