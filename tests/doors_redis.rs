//! The Redis door against real servers that crash, fill up, are flushed, refuse, or are used by somebody else.

#![allow(clippy::unwrap_used)] // A test that fails may panic, in what it calls too.

#[path = "support/redis.rs"]
#[allow(dead_code)] // Other tests use the rest of it.
mod redis_server;

use std::time::Duration;

use bytes::Bytes;
use intelmq_relay::config::{self, Events, GiveRedis, TakeRedis};
use intelmq_relay::intelmq::{DoorError, Mark, RedisSink, RedisSource, Sink, Source, TakeLimit};
use redis_server::Redis;
use uuid::Uuid;

const ALL: TakeLimit = TakeLimit { items: 1000, bytes: 100 << 20 };
const QUEUE: &str = "relay-out-queue";
const INTERNAL: &str = "relay-out-queue-internal";
const BOT: &str = "bot-queue";
/// Every write is on disk before it is answered.
const KEEPS: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

fn source(server: config::Redis, position: Option<Vec<u8>>) -> RedisSource {
    let (name, seal) = ("out".parse().unwrap(), Default::default());
    RedisSource::new(&TakeRedis { name, queue: QUEUE.into(), server, seal }, position)
}

fn sink_with(server: config::Redis, high_water: u64) -> RedisSink {
    let (name, queue) = ("in".parse().unwrap(), BOT.into());
    let config = GiveRedis { name, queue, server, high_water, events: Events::default() };
    RedisSink::new(&config, &"cert-at".parse().unwrap())
}

fn sink(server: config::Redis) -> RedisSink {
    sink_with(server, 1_000_000)
}

fn items(range: std::ops::Range<u64>) -> Vec<Bytes> {
    range.map(|n| Bytes::from(format!("{{\"n\":{n}}}"))).collect()
}

fn mark(seq: u64) -> Mark {
    Mark { log: Uuid::from_u128(7), seq, again: 0 }
}

/// Sends a command as somebody else.
fn run<T: redis::FromRedisValue>(redis: &Redis, words: &[&str]) -> T {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]).query(&mut redis.connect()).unwrap()
}

fn push(redis: &Redis, queue: &str, items: &[Bytes]) {
    let mut command = redis::cmd("LPUSH");
    command.arg(queue);
    for item in items {
        command.arg(&item[..]);
    }
    command.exec(&mut redis.connect()).unwrap();
}

/// A list, the oldest first.
fn list(redis: &Redis, key: &str) -> Vec<Bytes> {
    let mut items: Vec<Bytes> = run(redis, &["LRANGE", key, "0", "-1"]);
    items.reverse();
    items
}

#[track_caller]
fn retry<T: std::fmt::Debug>(result: Result<T, DoorError>) -> String {
    match result {
        Err(DoorError::Retry(text)) => text,
        other => panic!("not to be tried again: {other:?}"),
    }
}

#[track_caller]
fn operator<T: std::fmt::Debug>(result: Result<T, DoorError>) -> String {
    match result {
        Err(DoorError::Operator(text)) => text,
        other => panic!("not for the operator: {other:?}"),
    }
}

#[tokio::test]
async fn taken_items_wait_in_the_internal_list_until_they_are_committed() {
    let redis = Redis::start();
    // What a bot left behind when it crashed comes first.
    push(&redis, INTERNAL, &items(0..1));
    push(&redis, QUEUE, &items(1..5));
    let mut source = source(redis.config(), None);
    assert_eq!(source.take(TakeLimit { items: 3, ..ALL }).await.unwrap().items, items(0..3));
    assert_eq!(list(&redis, INTERNAL), items(0..3));
    assert_eq!(list(&redis, QUEUE), items(3..5));
    source.committed().await.unwrap();
    assert!(list(&redis, INTERNAL).is_empty());
    assert_eq!(list(&redis, QUEUE), items(3..5));
}

#[tokio::test]
async fn a_server_that_crashes_between_take_and_acknowledgement_costs_nothing() {
    let mut redis = Redis::start_with(KEEPS);
    push(&redis, QUEUE, &items(0..10));
    let mut door = source(redis.config(), None);
    let some = TakeLimit { items: 4, ..ALL };
    assert_eq!(door.take(some).await.unwrap().items, items(0..4));
    redis.kill();
    let text = retry(door.committed().await);
    assert!(text.contains("redis.sock, db 2, queue relay-out-queue"), "{text}");
    retry(door.take(some).await);
    redis.start_again();
    assert_eq!(list(&redis, INTERNAL), items(0..4));
    let taken = door.take(some).await.unwrap();
    assert_eq!(taken.items, items(4..8));
    // The relay crashes as well.
    redis.kill();
    redis.start_again();
    let mut door = source(redis.config(), Some(taken.position));
    assert_eq!(door.take(ALL).await.unwrap().items, items(8..10));
    door.committed().await.unwrap();
    assert_eq!(run::<u64>(&redis, &["EXISTS", QUEUE, INTERNAL]), 0);
}

#[tokio::test]
async fn a_server_that_forgets_everything_stops_nothing() {
    let mut redis = Redis::start();
    push(&redis, QUEUE, &items(0..4));
    let (mut source, mut sink) = (source(redis.config(), None), sink(redis.config()));
    source.take(ALL).await.unwrap();
    assert_eq!(sink.mark().await.unwrap(), None);
    sink.give(&items(0..2), mark(2)).await.unwrap();
    redis.kill();
    redis.start_again();
    // The connection broke once; what Redis forgot is durable here.
    retry(source.committed().await);
    push(&redis, QUEUE, &items(4..6));
    assert_eq!(source.take(ALL).await.unwrap().items, items(4..6));
    source.committed().await.unwrap();
    retry(sink.give(&items(2..4), mark(4)).await);
    assert_eq!(sink.mark().await.unwrap(), None);
    sink.give(&items(0..4), mark(4)).await.unwrap();
    assert_eq!(list(&redis, BOT), items(0..4));
}

#[tokio::test]
async fn flushing_stops_nothing() {
    let redis = Redis::start();
    push(&redis, QUEUE, &items(0..4));
    let (mut source, mut sink) = (source(redis.config(), None), sink(redis.config()));
    source.take(ALL).await.unwrap();
    sink.give(&items(0..2), mark(2)).await.unwrap();
    run::<()>(&redis, &["FLUSHALL"]);
    source.committed().await.unwrap();
    push(&redis, QUEUE, &items(4..6));
    assert_eq!(source.take(ALL).await.unwrap().items, items(4..6));
    source.committed().await.unwrap();
    // The mark is gone: whoever gives must be told, or there would be a hole.
    let text = retry(sink.give(&items(2..4), mark(4)).await);
    assert!(text.contains("relay:cert-at:in:mark"), "{text}");
    assert!(list(&redis, BOT).is_empty());
    assert_eq!(sink.mark().await.unwrap(), None);
    sink.give(&items(0..4), mark(4)).await.unwrap();
    assert_eq!(list(&redis, BOT), items(0..4));
}

#[tokio::test]
async fn a_full_server_takes_nothing_in_and_still_gives_out() {
    let redis = Redis::start_with(&["--maxmemory", "6mb"]);
    let large: Vec<_> = (0..8_u8).map(|n| Bytes::from(vec![b'a' + n; 100_000])).collect();
    let mut sink = sink(redis.config());
    sink.mark().await.unwrap();
    let (mut given, mut seq) = (Vec::new(), 0);
    let text = loop {
        match sink.give(&large, mark(seq + 1)).await {
            Ok(()) => given.extend_from_slice(&large),
            full => break retry(full),
        }
        seq += 1;
        assert!(seq < 100);
    };
    assert!(text.contains("full"), "{text}");
    // Nothing half done.
    assert_eq!(sink.mark().await.unwrap(), (seq > 0).then(|| mark(seq)));
    assert!(list(&redis, BOT) == given && seq > 0);
    // Full because of this queue: taking it away must work, or nothing ever would again.
    run::<()>(&redis, &["RENAME", BOT, QUEUE]);
    run::<()>(&redis, &["CONFIG", "SET", "maxmemory", "1"]);
    let mut source = source(redis.config(), None);
    let mut taken = Vec::new();
    while taken.len() < given.len() {
        taken.extend(source.take(TakeLimit { items: 5, ..ALL }).await.unwrap().items);
        source.committed().await.unwrap();
    }
    assert!(taken == given);
    // Room again.
    run::<()>(&redis, &["CONFIG", "SET", "maxmemory", "6mb"]);
    sink.give(&large, mark(seq + 1)).await.unwrap();
    assert!(list(&redis, BOT) == large);
}

#[tokio::test]
async fn a_source_waits_at_a_full_server() {
    let redis = Redis::start();
    let mut source = source(redis.config(), None);
    run::<()>(&redis, &["CONFIG", "SET", "maxmemory", "1"]);
    let waiting = tokio::spawn(async move { source.take(ALL).await });
    // Past the first look, which found it full.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!waiting.is_finished());
    run::<()>(&redis, &["CONFIG", "SET", "maxmemory", "0"]);
    push(&redis, QUEUE, &items(0..1));
    assert_eq!(waiting.await.unwrap().unwrap().items, items(0..1));
}

#[tokio::test]
async fn giving_waits_above_the_high_water_mark() {
    let redis = Redis::start();
    let mut sink = sink_with(redis.config(), 5);
    sink.give(&items(0..4), mark(4)).await.unwrap();
    sink.give(&items(4..8), mark(8)).await.unwrap();
    let waiting = tokio::spawn(async move {
        // Nothing to push: nothing to wait for.
        sink.give(&[], mark(10)).await.unwrap();
        sink.give(&items(8..9), mark(20)).await.unwrap();
        sink.mark().await.unwrap()
    });
    let moved = async {
        while run::<String>(&redis, &["GET", "relay:cert-at:in:mark"]) != format!("{} 10", mark(0).log) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), moved).await.expect("what brings nothing does not wait");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished());
    assert_eq!(list(&redis, BOT), items(0..8));
    // The bot works.
    for _ in 0..4 {
        run::<String>(&redis, &["RPOP", BOT]);
    }
    assert_eq!(tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap(), Some(mark(20)));
    assert_eq!(list(&redis, BOT), items(4..9));
}

#[tokio::test]
async fn a_step_that_arrives_late_is_refused() {
    let redis = Redis::start();
    let (mut ours, mut late) = (sink(redis.config()), sink(redis.config()));
    ours.give(&items(0..1), mark(1)).await.unwrap();
    assert_eq!(late.mark().await.unwrap(), Some(mark(1)));
    ours.give(&items(1..2), mark(2)).await.unwrap();
    retry(late.give(&items(1..2), mark(2)).await);
    assert_eq!(late.mark().await.unwrap(), Some(mark(2)));
    assert_eq!(list(&redis, BOT), items(0..2));
}

#[tokio::test]
async fn an_acknowledgement_that_arrives_late_removes_nothing_else() {
    let redis = Redis::start();
    let same = [Bytes::from_static(b"{}")];
    push(&redis, QUEUE, &same);
    let mut late = source(redis.config(), None);
    late.take(ALL).await.unwrap();
    // Its acknowledgement hangs somewhere; the relay goes on without it, and an equal event comes.
    let mut ours = source(redis.config(), None);
    let position = ours.take(ALL).await.unwrap().position;
    ours.committed().await.unwrap();
    push(&redis, QUEUE, &same);
    let mut ours = source(redis.config(), Some(position));
    assert_eq!(ours.take(ALL).await.unwrap().items, same);
    late.committed().await.unwrap();
    assert_eq!(list(&redis, INTERNAL), same);
    ours.committed().await.unwrap();
    assert!(list(&redis, INTERNAL).is_empty());
}

#[tokio::test]
async fn a_frozen_server_is_given_up_and_what_it_does_later_counts_once() {
    let redis = Redis::start();
    let (mut source, mut sink) = (source(redis.config(), None), sink(redis.config()));
    push(&redis, QUEUE, &items(0..4));
    let some = TakeLimit { items: 2, ..ALL };
    assert_eq!(source.take(some).await.unwrap().items, items(0..2));
    sink.give(&items(0..2), mark(2)).await.unwrap();
    redis.freeze();
    let next = items(2..4);
    let (committed, given) = tokio::join!(source.committed(), sink.give(&next, mark(4)));
    retry(committed);
    retry(given);
    redis.thaw();
    // The steps that it had got already and those on new connections, in whatever order.
    assert_eq!(source.take(ALL).await.unwrap().items, items(2..4));
    source.committed().await.unwrap();
    assert_eq!(run::<u64>(&redis, &["EXISTS", QUEUE, INTERNAL]), 0);
    while sink.mark().await.unwrap() != Some(mark(4)) {
        if let Err(error) = sink.give(&items(2..4), mark(4)).await {
            retry::<()>(Err(error));
        }
    }
    assert_eq!(list(&redis, BOT), items(0..4));
}

#[tokio::test]
async fn a_password_over_tcp() {
    let redis = Redis::start_tcp("s3cret pass");
    push(&redis, QUEUE, &items(0..2));
    assert_eq!(source(redis.config(), None).take(ALL).await.unwrap().items, items(0..2));
    sink(redis.config()).give(&items(0..2), mark(2)).await.unwrap();
    assert_eq!(list(&redis, BOT), items(0..2));

    let wrong = config::Redis { password: Some(config::Password("other".into())), ..redis.config() };
    let none = config::Redis { password: None, ..redis.config() };
    for server in [wrong, none] {
        let text = operator(source(server.clone(), None).take(ALL).await);
        assert!(text.contains(&format!("127.0.0.1:{}, db 2", redis.config().port)), "{text}");
        assert!(text.contains("password") && !text.contains("other"), "{text}");
        operator(sink(server.clone()).mark().await);
        operator(sink(server).give(&items(0..1), mark(1)).await);
    }
    let nowhere = config::Redis { db: 99, ..redis.config() };
    assert!(operator(sink(nowhere).mark().await).contains("`db`"));
}

#[tokio::test]
async fn a_password_that_the_server_does_not_want() {
    let redis = Redis::start();
    let server = config::Redis { password: Some(config::Password("x".into())), ..redis.config() };
    assert!(operator(sink(server).mark().await).contains("it has no password"));
}

#[tokio::test]
async fn keys_of_another_type_are_left_alone() {
    let redis = Redis::start();
    for key in [QUEUE, BOT] {
        run::<()>(&redis, &["SET", key, "something"]);
    }
    let mut source = source(redis.config(), None);
    assert!(operator(source.take(ALL).await).contains("`queue`"));
    let mut sink = sink(redis.config());
    assert!(operator(sink.give(&items(0..1), mark(1)).await).contains("`queue`"));
    // The mark did not move without the data.
    assert_eq!(sink.mark().await.unwrap(), None);
    assert_eq!(run::<String>(&redis, &["GET", BOT]), "something");
    // The operator acts.
    run::<()>(&redis, &["DEL", QUEUE, BOT]);
    push(&redis, QUEUE, &items(0..1));
    assert_eq!(source.take(ALL).await.unwrap().items, items(0..1));
    sink.give(&items(0..1), mark(1)).await.unwrap();
    run::<()>(&redis, &["SET", "relay:cert-at:in:mark", "nonsense"]);
    assert!(operator(sink.mark().await).contains("relay:cert-at:in:mark"));
}

#[tokio::test]
async fn no_server_is_waited_for() {
    let mut redis = Redis::start();
    redis.kill();
    let (mut source, mut sink) = (source(redis.config(), None), sink(redis.config()));
    let text = retry(source.take(ALL).await);
    assert!(text.contains("redis.sock, db 2, queue relay-out-queue"), "{text}");
    retry(sink.mark().await);
    retry(sink.give(&items(0..1), mark(1)).await);
    redis.start_again();
    push(&redis, QUEUE, &items(0..1));
    assert_eq!(source.take(ALL).await.unwrap().items, items(0..1));
    assert_eq!(sink.mark().await.unwrap(), None);
}

#[tokio::test]
async fn another_consumer_is_noticed() {
    let redis = Redis::start();
    push(&redis, QUEUE, &items(0..6));
    let mut door = source(redis.config(), None);
    door.take(TakeLimit { items: 3, ..ALL }).await.unwrap();
    // A bot on the same queue: takes one, and acknowledges ours.
    run::<Bytes>(&redis, &["RPOPLPUSH", QUEUE, INTERNAL]);
    run::<Bytes>(&redis, &["RPOP", INTERNAL]);
    let text = operator(door.committed().await);
    assert!(text.contains("only consumer"), "{text}");
    // Nothing but what the bot acknowledged is gone.
    assert_eq!(list(&redis, INTERNAL), items(1..4));
    assert_eq!(list(&redis, QUEUE), items(4..6));
}

#[tokio::test]
async fn a_position_of_another_door_is_no_position() {
    let redis = Redis::start();
    push(&redis, QUEUE, &items(0..2));
    let position = Some(br#"{"file":"a.jsonl","inode":1,"changed":[0,0],"offset":3}"#.to_vec());
    assert_eq!(source(redis.config(), position).take(ALL).await.unwrap().items, items(0..2));
}
