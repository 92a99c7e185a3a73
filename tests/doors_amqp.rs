//! The AMQP door against a real RabbitMQ: what every door must do where the protocol permits, and a broker that
//! crashes, refuses, is full, or is used by somebody else.
//!
//! One test, since a broker takes seconds to start; each case has a queue of its own.

#![allow(clippy::unwrap_used)] // A test that fails may panic, in what it calls too.

#[path = "support/events.rs"]
mod events;
#[path = "support/intelmq.rs"]
mod intelmq;
#[path = "support/rabbitmq.rs"]
#[allow(dead_code)] // A benchmark uses the rest of it.
mod rabbitmq;
#[path = "support/relay.rs"]
#[allow(dead_code)] // Other tests use the rest of it.
mod relay;

use std::future::poll_fn;
use std::io::Write;
use std::ops::Range;
use std::pin::pin;
use std::process::{Command, Stdio};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use events::{assert_once_each, events};
use intelmq_relay::config::{self, Events, GiveAmqp, Password, TakeAmqp};
use intelmq_relay::intelmq::{
    AmqpProbe, AmqpSink, AmqpSource, DoorError, Mark, Sink, Source, TakeLimit, Taken, probe_amqp,
};
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection};
use rabbitmq::Rabbit;
use relay::{PATIENCE, Relay};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

const ALL: TakeLimit = TakeLimit { items: 1000, bytes: 100 << 20 };

fn items(range: Range<usize>) -> Vec<Bytes> {
    // With what a door may be tempted to touch: quotes, spaces at the ends, UTF-8, bytes that are not, a NUL.
    range.map(|n| Bytes::from([format!(" {{\"n\":{n},\"ü\":\"\\n\"}}\0").as_bytes(), b"\xff "].concat())).collect()
}

fn mark(seq: usize) -> Mark {
    Mark { log: Uuid::from_u128(7), seq: seq as u64, again: 0 }
}

fn source_of(server: config::Amqp, queue: &str, position: Option<Vec<u8>>) -> AmqpSource {
    let (name, seal) = ("out".parse().unwrap(), Default::default());
    AmqpSource::new(&TakeAmqp { name, queue: queue.into(), server, seal }, position)
}

fn sink_of(server: config::Amqp, queue: &str, high_water: u64) -> AmqpSink {
    let (name, events) = ("in".parse().unwrap(), Events::default());
    AmqpSink::new(&GiveAmqp { name, queue: queue.into(), server, high_water, events })
}

/// A broker, and somebody else's connection to it.
struct Behind {
    rabbit: Rabbit,
    other: Connection,
    channel: Channel,
    /// Queues in which nothing must be left, held by somebody or not.
    clear: Vec<String>,
}

impl Behind {
    async fn start() -> Behind {
        let rabbit = Rabbit::start().await;
        let (other, channel) = connect(&rabbit).await;
        Behind { rabbit, other, channel, clear: Vec::new() }
    }

    async fn restarted(&mut self) {
        self.rabbit.kill();
        self.rabbit.start_again().await;
        (self.other, self.channel) = connect(&self.rabbit).await;
    }

    fn source(&self, queue: &str, position: Option<Vec<u8>>) -> AmqpSource {
        source_of(self.rabbit.config(), queue, position)
    }

    fn sink(&self, queue: &str) -> AmqpSink {
        sink_of(self.rabbit.config(), queue, 1_000_000)
    }

    /// Declares a queue as a bot of IntelMQ's does, and puts items into it.
    async fn put(&self, queue: &str, items: &[Bytes]) {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-mode".into(), AMQPValue::LongString("lazy".into()));
        self.declare(queue, arguments).await;
        for item in items {
            let properties = BasicProperties::default().with_delivery_mode(2);
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let confirm = self.channel.basic_publish("".into(), queue.into(), options, item, properties).await.unwrap();
            assert!(confirm.await.unwrap().is_ack());
        }
    }

    async fn declare(&self, queue: &str, arguments: FieldTable) {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        self.channel.queue_declare(queue.into(), options, arguments).await.unwrap();
    }

    /// All that lies in a queue, taken out.
    async fn given(&self, queue: &str) -> Vec<Bytes> {
        let mut given = Vec::new();
        let at_once = BasicGetOptions { no_ack: true };
        while let Some(message) = self.channel.basic_get(queue.into(), at_once).await.unwrap() {
            assert_eq!(message.properties.delivery_mode(), &Some(2), "it must outlive the broker");
            given.push(message.delivery.data.into());
        }
        given
    }

    /// Waits until nobody consumes: what comes before that is delivered to a consumer that is gone, and is marked.
    async fn left_alone(&self, queue: &str) {
        timeout(PATIENCE, self.consumed(queue, false)).await.expect("the dropped door ends its connection");
    }

    /// Waits until somebody consumes, or nobody.
    async fn consumed(&self, queue: &str, by_somebody: bool) {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let consumers = async || {
            let look = self.channel.queue_declare(queue.into(), passive, FieldTable::default()).await;
            look.unwrap().consumer_count()
        };
        while (consumers().await > 0) != by_somebody {
            sleep(Duration::from_millis(10)).await;
        }
    }

    async fn remove(&self, queue: &str) {
        self.channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
    }
}

async fn connect(rabbit: &Rabbit) -> (Connection, Channel) {
    let other = rabbit.connect().await;
    let channel = other.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    (other, channel)
}

async fn take(source: &mut AmqpSource, limit: TakeLimit) -> Taken {
    let begun = std::time::Instant::now();
    loop {
        let taken = timeout(PATIENCE, source.take(limit)).await.expect("there is something to take");
        match taken {
            Ok(taken) => return taken,
            // The connection of an instance before, which was dropped, may not be ended yet.
            Err(DoorError::Retry(text)) => assert!(begun.elapsed() < PATIENCE, "{text}"),
            Err(operator) => panic!("{operator}"),
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Takes and commits until `count` items have come.
async fn drain(source: &mut AmqpSource, limit: TakeLimit, count: usize) -> Vec<Bytes> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(take(source, limit).await.items);
        source.committed().await.unwrap();
    }
    all
}

async fn nothing_comes(source: &mut AmqpSource) {
    let taken = timeout(Duration::from_millis(300), take(source, ALL)).await;
    assert!(taken.is_err(), "nothing was there, but {taken:?} came");
}

/// Gives until it is done, from what was confirmed on.
async fn give(sink: &mut AmqpSink, items: &[Bytes]) {
    let mut at = 0;
    while at < items.len() {
        match sink.give(&items[at..], mark(items.len())).await {
            Ok(()) => return,
            Err(DoorError::Retry(_)) => at += sink.confirmed(),
            Err(operator) => panic!("{operator}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Polls a future `polls` times at most and drops it: at once, or when it would have been woken.
async fn poll_and_drop<F: Future>(future: F, polls: usize, at_once: bool) -> Option<F::Output> {
    let (mut future, mut polled) = (pin!(future), 0);
    poll_fn(|cx| {
        if polled == polls {
            return Poll::Ready(None);
        }
        polled += 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if at_once && polled == polls => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_amqp_door() {
    let mut behind = Behind::start().await;
    let began = std::time::Instant::now();
    macro_rules! cases {
        ($($case:ident)*) => {$(
            eprintln!("{:>6.1?} {}", began.elapsed().as_secs_f32(), stringify!($case));
            $case(&mut behind).await;
        )*};
    }
    cases! {
        items_come_in_order_and_byte_for_byte
        a_waiting_take_wakes
        limits_hold_and_a_larger_item_comes_alone
        large_items_pass
        uncommitted_items_come_again
        committed_items_never_come_again
        what_was_taken_next_comes_again
        equal_items_are_each_an_item
        a_dropped_take_loses_nothing
        what_is_given_arrives_in_order
        a_dropped_give_loses_nothing
        a_queue_that_is_long_is_waited_for
        a_queue_with_other_arguments_is_used_as_it_is
        a_queue_that_is_removed_is_declared_anew
        another_consumer_is_noticed
        what_only_the_operator_can_mend
        a_position_of_another_door_is_no_position
        intelmq_itself_writes_and_reads
        an_alarm_is_waited_for
        a_broker_that_crashes_costs_nothing
    }
    eprintln!("{:>6.1?} the end", began.elapsed().as_secs_f32());
}

async fn items_come_in_order_and_byte_for_byte(behind: &mut Behind) {
    const QUEUE: &str = "order";
    behind.put(QUEUE, &items(0..150)).await;
    let mut source = behind.source(QUEUE, None);
    let got = drain(&mut source, TakeLimit { items: 7, ..ALL }, 150).await;
    assert_eq!(got, items(0..150));
    nothing_comes(&mut source).await;
    behind.clear.push(QUEUE.into());
}

async fn a_waiting_take_wakes(behind: &mut Behind) {
    const QUEUE: &str = "waiting";
    let mut source = behind.source(QUEUE, None);
    nothing_comes(&mut source).await;
    let waiting = tokio::spawn(async move { source.take(ALL).await.unwrap() });
    // It has declared the queue as a bot does: else this is refused.
    behind.put(QUEUE, &items(0..1)).await;
    assert_eq!(timeout(PATIENCE, waiting).await.unwrap().unwrap().items, items(0..1));
}

async fn limits_hold_and_a_larger_item_comes_alone(behind: &mut Behind) {
    const QUEUE: &str = "limits";
    let size = |n: usize| Bytes::from(vec![b'x'; n]);
    behind.put(QUEUE, &[size(10), size(10), size(300), size(10)]).await;
    let mut source = behind.source(QUEUE, None);
    let limit = TakeLimit { items: 10, bytes: 25 };
    for expected in [&[10, 10][..], &[300], &[10]] {
        let taken = take(&mut source, limit).await;
        assert_eq!(taken.items.iter().map(Bytes::len).collect::<Vec<_>>(), expected);
        source.committed().await.unwrap();
    }
    behind.clear.push(QUEUE.into());
}

async fn large_items_pass(behind: &mut Behind) {
    const QUEUE: &str = "large";
    let large: Vec<_> = (0..5_u8).map(|n| Bytes::from(vec![b'a' + n; 1 << 20])).collect();
    behind.sink(QUEUE).give(&large, mark(5)).await.unwrap();
    let got = drain(&mut behind.source(QUEUE, None), TakeLimit { bytes: 2 << 20, ..ALL }, 5).await;
    assert!(got == large);
    behind.clear.push(QUEUE.into());
}

async fn uncommitted_items_come_again(behind: &mut Behind) {
    const QUEUE: &str = "uncommitted";
    behind.put(QUEUE, &items(0..10)).await;
    let mut source = behind.source(QUEUE, None);
    let some = TakeLimit { items: 4, ..ALL };
    assert_eq!(take(&mut source, some).await.items, items(0..4));
    // The same instance, after an error further in.
    let again = take(&mut source, TakeLimit { items: 6, ..ALL }).await.items;
    assert_eq!(again, items(0..again.len()));
    // Another one, after a crash.
    drop(source);
    let mut source = behind.source(QUEUE, None);
    assert_eq!(drain(&mut source, some, 10).await, items(0..10));
    behind.clear.push(QUEUE.into());
}

async fn committed_items_never_come_again(behind: &mut Behind) {
    const QUEUE: &str = "committed";
    behind.put(QUEUE, &items(0..10)).await;
    let mut position = None;
    // Committed, and killed before the broker heard of it, every time.
    for n in 0..5 {
        let mut source = behind.source(QUEUE, position);
        let taken = take(&mut source, TakeLimit { items: 2, ..ALL }).await;
        assert_eq!(taken.items, items(2 * n..2 * n + 2));
        position = Some(taken.position);
    }
    let mut source = behind.source(QUEUE, position.clone());
    nothing_comes(&mut source).await;
    drop(source);
    behind.left_alone(QUEUE).await;
    // The old position says nothing about what comes later.
    behind.put(QUEUE, &items(8..10)).await;
    let mut source = behind.source(QUEUE, position);
    assert_eq!(drain(&mut source, ALL, 2).await, items(8..10));
    behind.clear.push(QUEUE.into());
}

async fn what_was_taken_next_comes_again(behind: &mut Behind) {
    const QUEUE: &str = "next";
    behind.put(QUEUE, &items(0..6)).await;
    let two = TakeLimit { items: 2, ..ALL };
    let mut source = behind.source(QUEUE, None);
    let position = take(&mut source, two).await.position;
    source.committed().await.unwrap();
    // Killed before these are stored.
    assert_eq!(take(&mut source, two).await.items, items(2..4));
    drop(source);
    let mut source = behind.source(QUEUE, Some(position));
    assert_eq!(drain(&mut source, ALL, 4).await, items(2..6));
    behind.clear.push(QUEUE.into());
}

async fn equal_items_are_each_an_item(behind: &mut Behind) {
    const QUEUE: &str = "equal";
    let same = vec![Bytes::from_static(b"{}"); 3];
    behind.put(QUEUE, &same).await;
    let one = TakeLimit { items: 1, ..ALL };
    let mut position = None;
    for acknowledged in [true, false, true] {
        let mut source = behind.source(QUEUE, position);
        let taken = take(&mut source, one).await;
        assert_eq!(taken.items, same[..1]);
        if acknowledged {
            source.committed().await.unwrap();
        }
        position = Some(taken.position);
    }
    nothing_comes(&mut behind.source(QUEUE, position.clone())).await;
    behind.left_alone(QUEUE).await;
    behind.put(QUEUE, &same).await;
    assert_eq!(drain(&mut behind.source(QUEUE, position), ALL, 3).await, same);
    behind.clear.push(QUEUE.into());
}

async fn a_dropped_take_loses_nothing(behind: &mut Behind) {
    const QUEUE: &str = "dropped";
    let mut source = behind.source(QUEUE, None);
    let (mut got, mut dropped, mut position) = (Vec::new(), 0, None);
    for n in 0..60_usize {
        behind.put(QUEUE, &items(3 * n..3 * n + 3)).await;
        if n == 30 {
            // A new connection: more to await.
            source = behind.source(QUEUE, position.clone());
        }
        let take = take(&mut source, TakeLimit { items: 5, ..ALL });
        match poll_and_drop(take, n / 2 % 15, n % 2 == 0).await {
            Some(taken) => {
                got.extend(taken.items);
                position = Some(taken.position);
                if poll_and_drop(source.committed(), n % 4, n % 3 == 0).await.is_none() {
                    // Nobody knows whether it was confirmed: begin anew with the position, as it is committed.
                    source = behind.source(QUEUE, position.clone());
                }
            }
            None => dropped += 1,
        }
    }
    assert!(dropped > 0 && !got.is_empty(), "{dropped} dropped");
    let rest = drain(&mut source, ALL, 180 - got.len()).await;
    got.extend(rest);
    assert_eq!(got, items(0..180));
    behind.clear.push(QUEUE.into());
}

async fn what_is_given_arrives_in_order(behind: &mut Behind) {
    const QUEUE: &str = "given";
    let mut sink = behind.sink(QUEUE);
    assert_eq!(sink.mark().await.unwrap(), None);
    sink.give(&items(0..2500), mark(2500)).await.unwrap();
    sink.give(&[], mark(2600)).await.unwrap();
    assert_eq!(sink.mark().await.unwrap(), None);
    sink.give(&items(2500..2502), mark(2700)).await.unwrap();
    assert_eq!(sink.confirmed(), 2);
    assert_eq!(behind.given(QUEUE).await, items(0..2502));
}

async fn a_dropped_give_loses_nothing(behind: &mut Behind) {
    const QUEUE: &str = "dropped-give";
    let mut sink = behind.sink(QUEUE);
    let (mut at, mut tries, mut dropped) = (0, 0_usize, 0);
    while at < 60 {
        let next = (at + 3).min(60);
        tries += 1;
        let items = items(at..next);
        match poll_and_drop(sink.give(&items, mark(next)), tries, tries.is_multiple_of(2)).await {
            Some(given) => {
                given.unwrap();
                at = next;
            }
            None => dropped += 1,
        }
    }
    assert!(dropped > 0);
    let given = behind.given(QUEUE).await;
    for item in items(0..60) {
        let times = given.iter().filter(|given| **given == item).count();
        assert!((1..=1 + dropped).contains(&times), "{item:?} came {times} times");
    }
}

async fn a_queue_that_is_long_is_waited_for(behind: &mut Behind) {
    const QUEUE: &str = "long";
    behind.put(QUEUE, &items(0..10)).await;
    let mut sink = sink_of(behind.rabbit.config(), QUEUE, 10);
    let giving = tokio::spawn(async move { sink.give(&items(10..12), mark(12)).await });
    sleep(Duration::from_millis(300)).await;
    assert!(!giving.is_finished(), "the queue is at its high-water mark");
    // It may give as soon as the first is taken.
    let mut given = behind.given(QUEUE).await;
    timeout(PATIENCE, giving).await.unwrap().unwrap().unwrap();
    given.extend(behind.given(QUEUE).await);
    assert_eq!(given, items(0..12));
}

async fn a_queue_with_other_arguments_is_used_as_it_is(behind: &mut Behind) {
    const QUEUE: &str = "other";
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(3));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    behind.declare(QUEUE, arguments).await;
    let mut sink = behind.sink(QUEUE);
    let text = retry(sink.give(&items(0..5), mark(5)).await);
    assert!(text.contains("x-max-length"), "{text}");
    assert_eq!(sink.confirmed(), 3);
    let mut source = behind.source(QUEUE, None);
    assert_eq!(drain(&mut source, ALL, 3).await, items(0..3));
    give(&mut sink, &items(3..5)).await;
    assert_eq!(drain(&mut source, ALL, 2).await, items(3..5));
    // check tells the operator which queue a bot could not use.
    let as_intelmq = async |queue| probe_amqp(&behind.rabbit.config(), queue).await.unwrap().map(|it| it.as_intelmq);
    assert_eq!(as_intelmq(QUEUE).await, Some(Some(false)));
    behind.put("usual", &items(0..2)).await;
    let usual = AmqpProbe { length: 2, consumers: 0, as_intelmq: Some(true) };
    assert_eq!(probe_amqp(&behind.rabbit.config(), "usual").await.unwrap(), Some(usual));
    assert_eq!(as_intelmq("nowhere").await, None);
    assert_eq!(as_intelmq("nowhere").await, None, "looking for it declared it");
    behind.clear.push(QUEUE.into());
}

async fn a_queue_that_is_removed_is_declared_anew(behind: &mut Behind) {
    const QUEUE: &str = "removed";
    let mut sink = behind.sink(QUEUE);
    sink.give(&items(0..1), mark(1)).await.unwrap();
    behind.remove(QUEUE).await;
    retry(sink.give(&items(1..2), mark(2)).await);
    assert_eq!(sink.confirmed(), 0);
    sink.give(&items(1..2), mark(2)).await.unwrap();
    let mut source = behind.source(QUEUE, None);
    assert_eq!(drain(&mut source, ALL, 1).await, items(1..2));
    let waiting = tokio::spawn(async move {
        let text = retry(source.take(ALL).await);
        (source, text)
    });
    timeout(PATIENCE, behind.consumed(QUEUE, true)).await.expect("it takes");
    behind.remove(QUEUE).await;
    let (mut source, text) = timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert!(text.contains("was removed"), "{text}");
    sink.mark().await.unwrap_err();
    give(&mut sink, &items(2..3)).await;
    assert_eq!(drain(&mut source, ALL, 1).await, items(2..3));
}

async fn another_consumer_is_noticed(behind: &mut Behind) {
    const QUEUE: &str = "shared";
    behind.put(QUEUE, &[]).await;
    let bot = behind.other.create_channel().await.unwrap();
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let consumer = bot.basic_consume(QUEUE.into(), "bot".into(), options, arguments).await.unwrap();
    let mut source = behind.source(QUEUE, None);
    let text = retry(timeout(PATIENCE, source.take(ALL)).await.expect("an answer"));
    assert!(text.contains("only consumer"), "{text}");
    // Stops it, and closes the channel.
    drop((consumer, bot));
    behind.put(QUEUE, &items(0..1)).await;
    assert_eq!(drain(&mut source, ALL, 1).await, items(0..1));
}

async fn what_only_the_operator_can_mend(behind: &mut Behind) {
    const QUEUE: &str = "forbidden";
    behind.put(QUEUE, &[]).await;
    behind.rabbit.control(&["add_user", "stranger", "secret"]).await;
    let good = behind.rabbit.config();
    let password = Password("hunter2".into());
    let nowhere = config::Amqp { vhost: "nowhere".into(), ..good.clone() };
    let stranger = config::Amqp { user: "stranger".into(), password: Password("secret".into()), ..good.clone() };
    let wrong = [
        (config::Amqp { password, ..good.clone() }, "`password`"),
        (nowhere, "add_vhost"),
        (stranger.clone(), "may not enter the vhost"),
    ];
    for (server, remedy) in wrong {
        let text = operator(source_of(server.clone(), QUEUE, None).take(ALL).await);
        assert!(text.contains(remedy) && !text.contains("hunter2"), "{text}");
        assert!(text.contains(&format!("127.0.0.1:{}, vhost", good.port)), "{text}");
        operator(sink_of(server, QUEUE, 10).mark().await);
    }
    behind.rabbit.control(&["set_permissions", "stranger", "", "", ""]).await;
    for text in [
        operator(source_of(stranger.clone(), QUEUE, None).take(ALL).await),
        operator(sink_of(stranger.clone(), "unheard-of", 10).mark().await),
        operator(sink_of(stranger, QUEUE, 10).give(&items(0..1), mark(1)).await),
    ] {
        assert!(text.contains("set_permissions"), "{text}");
    }
}

async fn a_position_of_another_door_is_no_position(behind: &mut Behind) {
    const QUEUE: &str = "position";
    behind.put(QUEUE, &items(0..2)).await;
    let position = Some(br#"{"file":"a.jsonl","inode":1,"changed":[0,0],"offset":3}"#.to_vec());
    assert_eq!(drain(&mut behind.source(QUEUE, position), ALL, 2).await, items(0..2));
}

/// From a bot of IntelMQ's through two nodes to another: the program as it is run, IntelMQ's own pipeline, and the node
/// that takes is killed now and then.
async fn intelmq_itself_writes_and_reads(behind: &mut Behind) {
    let config::Amqp { port, .. } = behind.rabbit.config();
    let all: Vec<String> = events(0..1200);
    let expected = all.clone();
    let got = tokio::task::spawn_blocking(move || {
        let pipeline = |words: &[&str]| {
            // It waits for ever for what does not come, and this thread for it.
            let mut command = Command::new("timeout");
            command
                .arg("80")
                .arg(intelmq::python())
                .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/amqp_pipeline.py"));
            command.args([words[0], &port.to_string()]).args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped());
            command.spawn().unwrap()
        };
        let (mut a, mut b) = (Relay::init("cert-a"), Relay::init("cert-b"));
        let server = format!("server = {{ port = {port} }}");
        a.and(&format!("[[take.amqp]]\nname = \"out\"\nqueue = \"relay-out-queue\"\n{server}"));
        let plain = "events = { shape = \"typed\", harmonization = \"none\" }";
        b.and(&format!("[[give.amqp]]\nname = \"in\"\nqueue = \"bot-queue\"\n{server}\n{plain}"));
        a.peer(&b, "community");
        b.peer(&a, "none");
        a.start();
        b.start();
        let mut bot = pipeline(&["send", "relay-out-queue"]);
        let mut lines = bot.stdin.take().unwrap();
        for (round, some) in all.chunks(300).enumerate() {
            lines.write_all((some.join("\n") + "\n").as_bytes()).unwrap();
            lines.flush().unwrap();
            // The moment is what is tried here; nothing is waited for.
            std::thread::sleep(Duration::from_millis(200 + 37 * round as u64));
            a.kill9();
            a.start();
        }
        drop(lines);
        assert!(bot.wait().unwrap().success());
        let got = pipeline(&["receive", "bot-queue", "1200"]).wait_with_output().unwrap();
        assert!(got.status.success());
        for (node, peer) in [(&a, "cert-b"), (&b, "cert-a")] {
            node.linked(peer);
            let found = node.expect(0, &["check"]);
            assert!(found.contains("RabbitMQ, queue"), "{found}");
        }
        // What would come twice has come, and stays in the queue.
        let head = a.status_when("A has given everything", |a| {
            a["peers"]["cert-b"]["linked"] == true && a["peers"]["cert-b"]["behind"] == 0
        })["head"]
            .as_u64();
        b.status_when("B has delivered everything", |b| {
            b["head"].as_u64() >= head && b["sinks"]["in"]["seq"] == b["head"]
        });
        a.terminate();
        b.terminate();
        String::from_utf8(got.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    });
    assert_once_each(&expected, &timeout(4 * PATIENCE, got).await.unwrap().unwrap());
    behind.clear.extend(["relay-out-queue".into(), "bot-queue".into()]);
}

/// The broker is low on memory, as it believes: publishers are stopped, nothing is lost.
async fn an_alarm_is_waited_for(behind: &mut Behind) {
    const QUEUE: &str = "alarm";
    let mut sink = behind.sink(QUEUE);
    sink.give(&items(0..1), mark(1)).await.unwrap();
    behind.rabbit.control(&["set_vm_memory_high_watermark", "0.000001"]).await;
    let giving = tokio::spawn(async move { sink.give(&items(1..101), mark(101)).await });
    sleep(Duration::from_millis(500)).await;
    assert!(!giving.is_finished(), "the broker takes nothing");
    // Taking goes on, which is how it gets better.
    assert_eq!(drain(&mut behind.source(QUEUE, None), ALL, 1).await, items(0..1));
    behind.rabbit.control(&["set_vm_memory_high_watermark", "0.8"]).await;
    timeout(PATIENCE, giving).await.unwrap().unwrap().unwrap();
    assert_eq!(behind.given(QUEUE).await, items(1..101));
}

async fn a_broker_that_crashes_costs_nothing(behind: &mut Behind) {
    const QUEUE: &str = "crash";
    const BOT: &str = "crash-in";
    nothing_is_left(behind).await;
    behind.put(QUEUE, &items(0..10)).await;
    let some = TakeLimit { items: 4, ..ALL };
    let (mut source, mut sink) = (behind.source(QUEUE, None), behind.sink(BOT));
    assert_eq!(take(&mut source, some).await.items, items(0..4));
    sink.give(&items(0..3), mark(3)).await.unwrap();
    behind.rabbit.kill();
    // Stored here, and the broker will not know.
    let text = retry(source.committed().await);
    assert!(text.contains("vhost /, queue crash"), "{text}");
    retry(source.take(some).await);
    retry(sink.give(&items(3..6), mark(6)).await);
    retry(sink.mark().await);
    behind.restarted().await;
    let taken = take(&mut source, some).await;
    assert_eq!(taken.items, items(4..8));
    give(&mut sink, &items(3..6)).await;
    assert_eq!(behind.given(BOT).await, items(0..6));
    // The relay crashes as well, and the broker is restarted in order: a killed one may forget what it was just told.
    drop(source);
    behind.rabbit.control(&["stop_app"]).await;
    behind.rabbit.control(&["start_app"]).await;
    (behind.other, behind.channel) = connect(&behind.rabbit).await;
    let mut source = behind.source(QUEUE, Some(taken.position));
    assert_eq!(drain(&mut source, ALL, 2).await, items(8..10));
    behind.clear = vec![QUEUE.into()];
    nothing_is_left(behind).await;
}

/// The broker's own word on what lies in the queues that must be clear, held by somebody or not.
async fn nothing_is_left(behind: &mut Behind) {
    let listed = behind.rabbit.control(&["list_queues", "--no-table-headers", "name", "messages"]).await;
    for queue in &behind.clear {
        assert!(listed.lines().any(|line| line == format!("{queue}\t0")), "{queue}:\n{listed}");
    }
}
