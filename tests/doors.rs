//! What every door must do, whatever is behind it: one suite, run on the Redis door and on the files door, and on the
//! TCP door as far as its protocol goes: it has no place for a position.

#![allow(clippy::unwrap_used)] // A test that fails may panic, in what it calls too.

#[path = "support/redis.rs"]
#[allow(dead_code)] // Other tests use the rest of it.
mod redis_server;
#[path = "support/tcp.rs"]
#[allow(dead_code)]
mod tcp;

use std::future::poll_fn;
use std::path::Path;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use intelmq_relay::config::{Events, GiveFiles, GiveRedis, GiveTcp, TakeFiles, TakeRedis, TakeTcp};
use intelmq_relay::intelmq::{
    DoorError, FilesSink, FilesSource, Mark, RedisSink, RedisSource, Sink, Source, TakeLimit, Taken, TcpSink, TcpSource,
};
use redis_server::Redis;
use tempfile::TempDir;
use tokio::time::timeout;
use uuid::Uuid;

/// What lies behind a door, as a test sees it.
trait Behind {
    type Source: Source + 'static;
    type Sink: Sink;

    fn start() -> Self;
    /// A new instance of the source, as after a restart of the relay.
    fn source(&self, position: Option<Vec<u8>>) -> Self::Source;
    /// A new instance of the sink.
    fn sink(&self) -> Self::Sink;
    /// IntelMQ has items for the source.
    fn put(&mut self, items: &[Bytes]);
    /// All that the sink gave, the oldest first.
    fn given(&self) -> Vec<Bytes>;
    /// Whether nothing is left for the source, taken or not.
    fn is_clear(&self) -> bool;
}

const LOG: Uuid = Uuid::from_u128(7);
const ALL: TakeLimit = TakeLimit { items: 1000, bytes: 100 << 20 };

fn items(range: std::ops::Range<usize>) -> Vec<Bytes> {
    // With what a door may be tempted to touch: quotes, spaces at the ends, UTF-8, bytes that are not, a NUL.
    range.map(|n| Bytes::from([format!(" {{\"n\":{n},\"ü\":\"\\n\"}}\0").as_bytes(), b"\xff "].concat())).collect()
}

fn mark(seq: u64) -> Mark {
    Mark { log: LOG, seq, again: 0 }
}

async fn take(source: &mut impl Source, limit: TakeLimit) -> Taken {
    timeout(Duration::from_secs(20), patiently(source, limit)).await.expect("there is something to take")
}

/// A call of an instance before, which was dropped, may still be under way: then the door says "again".
async fn patiently(source: &mut impl Source, limit: TakeLimit) -> Taken {
    loop {
        match source.take(limit).await {
            Ok(taken) => return taken,
            Err(DoorError::Retry(_)) => tokio::task::yield_now().await,
            Err(operator) => panic!("{operator}"),
        }
    }
}

/// Takes and commits until `count` items have come.
async fn drain(source: &mut impl Source, limit: TakeLimit, count: usize) -> Vec<Bytes> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(take(source, limit).await.items);
        source.committed().await.unwrap();
    }
    all
}

async fn nothing_comes(source: &mut impl Source) {
    let taken = timeout(Duration::from_millis(500), patiently(source, ALL)).await;
    assert!(taken.is_err(), "nothing was there, but {taken:?} came");
}

/// Polls a future `polls` times at most and drops it: at once, or when it would have been woken (its answer has come,
/// and nobody looks). Returns what it came to, if it did.
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

mod suite {
    use super::*;

    pub async fn items_come_in_order_and_byte_for_byte<B: Behind>() {
        let mut behind = B::start();
        behind.put(&items(0..100));
        behind.put(&items(100..150));
        let mut source = behind.source(None);
        let got = drain(&mut source, TakeLimit { items: 7, ..ALL }, 150).await;
        assert_eq!(got, items(0..150));
        nothing_comes(&mut source).await;
        assert!(behind.is_clear());
    }

    pub async fn a_waiting_take_wakes<B: Behind>() {
        let mut behind = B::start();
        let mut source = behind.source(None);
        nothing_comes(&mut source).await;
        let waiting = tokio::spawn(async move { source.take(ALL).await.unwrap() });
        tokio::task::yield_now().await;
        behind.put(&items(0..1));
        assert_eq!(timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap().items, items(0..1));
    }

    pub async fn limits_hold_and_a_larger_item_comes_alone<B: Behind>() {
        let mut behind = B::start();
        let size = |n: usize| Bytes::from(vec![b'x'; n]);
        behind.put(&[size(10), size(10), size(300), size(10)]);
        let mut source = behind.source(None);
        let limit = TakeLimit { items: 10, bytes: 25 };
        for expected in [&[10, 10][..], &[300], &[10]] {
            let taken = take(&mut source, limit).await;
            assert_eq!(taken.items.iter().map(Bytes::len).collect::<Vec<_>>(), expected);
            source.committed().await.unwrap();
        }
        assert!(behind.is_clear());
    }

    pub async fn large_items_pass<B: Behind>() {
        let mut behind = B::start();
        let large: Vec<_> = (0..5_u8).map(|n| Bytes::from(vec![b'a' + n; 1 << 20])).collect();
        behind.put(&large);
        let got = drain(&mut behind.source(None), TakeLimit { bytes: 2 << 20, ..ALL }, 5).await;
        assert!(got == large);
        behind.sink().give(&large, mark(5)).await.unwrap();
        assert!(behind.given() == large);
    }

    pub async fn uncommitted_items_come_again<B: Behind>() {
        let mut behind = B::start();
        behind.put(&items(0..10));
        let mut source = behind.source(None);
        let some = TakeLimit { items: 4, ..ALL };
        assert_eq!(take(&mut source, some).await.items, items(0..4));
        // The same instance, after an error further in.
        let again = take(&mut source, TakeLimit { items: 6, ..ALL }).await;
        assert_eq!(again.items, items(0..6));
        // Another one, after a crash.
        drop(source);
        let mut source = behind.source(None);
        assert_eq!(take(&mut source, some).await.items, items(0..4));
        source.committed().await.unwrap();
        assert_eq!(drain(&mut source, some, 6).await, items(4..10));
        assert!(behind.is_clear());
    }

    pub async fn committed_items_never_come_again<B: Behind>() {
        let mut behind = B::start();
        behind.put(&items(0..10));
        let mut position = None;
        // Committed, and killed before the other side heard of it, every time.
        for n in 0..5 {
            let mut source = behind.source(position);
            let taken = take(&mut source, TakeLimit { items: 2, ..ALL }).await;
            assert_eq!(taken.items, items(2 * n..2 * n + 2));
            position = Some(taken.position);
        }
        let mut source = behind.source(position.clone());
        nothing_comes(&mut source).await;
        assert!(behind.is_clear());
        drop(source);
        // The old position says nothing about what comes later.
        behind.put(&items(8..10));
        assert_eq!(take(&mut behind.source(position), ALL).await.items, items(8..10));
    }

    pub async fn equal_items_are_each_an_item<B: Behind>() {
        let mut behind = B::start();
        let same = vec![Bytes::from_static(b"{}"); 3];
        behind.put(&same);
        let one = TakeLimit { items: 1, ..ALL };
        let mut position = None;
        for acknowledged in [true, false, true] {
            let mut source = behind.source(position);
            let taken = take(&mut source, one).await;
            assert_eq!(taken.items, same[..1]);
            if acknowledged {
                source.committed().await.unwrap();
            }
            position = Some(taken.position);
        }
        nothing_comes(&mut behind.source(position.clone())).await;
        behind.put(&same);
        assert_eq!(drain(&mut behind.source(position), ALL, 3).await, same);
        assert!(behind.is_clear());
    }

    pub async fn a_dropped_take_loses_nothing<B: Behind>() {
        let mut behind = B::start();
        let mut source = behind.source(None);
        let (mut got, mut dropped, mut position) = (Vec::new(), 0, None);
        for n in 0..60_usize {
            behind.put(&items(3 * n..3 * n + 3));
            if n == 30 {
                // A new connection, a new file handle: more to await.
                source = behind.source(position.clone());
            }
            let take = patiently(&mut source, TakeLimit { items: 5, ..ALL });
            match poll_and_drop(take, n / 2 % 15, n % 2 == 0).await {
                Some(taken) => {
                    got.extend(taken.items);
                    position = Some(taken.position);
                    if poll_and_drop(source.committed(), n % 4, n % 3 == 0).await.is_none() {
                        // Nobody knows whether it was confirmed: begin anew with the position, as it is committed.
                        source = behind.source(position.clone());
                    }
                }
                None => dropped += 1,
            }
        }
        assert!(dropped > 0 && !got.is_empty(), "{dropped} dropped");
        let rest = drain(&mut source, ALL, 180 - got.len()).await;
        got.extend(rest);
        assert_eq!(got, items(0..180));
        assert!(behind.is_clear());
    }

    pub async fn what_is_given_arrives_in_order_with_the_mark<B: Behind>() {
        let behind = B::start();
        let mut sink = behind.sink();
        assert_eq!(sink.mark().await.unwrap(), None);
        sink.give(&items(0..2500), mark(2500)).await.unwrap();
        assert_eq!(sink.mark().await.unwrap(), Some(mark(2500)));
        sink.give(&items(2500..2501), mark(2501)).await.unwrap();
        // Another instance, after a restart; nothing for this door, but the log went on.
        sink = behind.sink();
        assert_eq!(sink.mark().await.unwrap(), Some(mark(2501)));
        sink.give(&[], mark(2600)).await.unwrap();
        sink = behind.sink();
        assert_eq!(sink.mark().await.unwrap(), Some(mark(2600)));
        sink.give(&items(2501..2503), mark(2700)).await.unwrap();
        assert_eq!(behind.given(), items(0..2503));
    }

    pub async fn an_empty_give_may_be_the_first<B: Behind>() {
        let behind = B::start();
        let other = Mark { log: Uuid::from_u128(8), seq: u64::MAX, again: 0 };
        behind.sink().give(&[], other).await.unwrap();
        let mut sink = behind.sink();
        assert_eq!(sink.mark().await.unwrap(), Some(other));
        assert!(behind.given().is_empty());
        // A wiped log begins at 1 again.
        sink.give(&items(0..1), mark(1)).await.unwrap();
        assert_eq!(sink.mark().await.unwrap(), Some(mark(1)));
        assert_eq!(behind.given(), items(0..1));
    }

    pub async fn a_dropped_give_is_done_once_or_not<B: Behind>() {
        let behind = B::start();
        let mut sink = behind.sink();
        let (mut at, mut tries, mut dropped) = (sink.mark().await.unwrap().map_or(0, |mark| mark.seq), 0, 0);
        while at < 100 {
            let next = (at + 3).min(100);
            let items = items(at as usize..next as usize);
            tries += 1;
            match poll_and_drop(sink.give(&items, mark(next)), tries / 2 % 15, tries.is_multiple_of(2)).await {
                Some(given) => given.unwrap(),
                None => {
                    dropped += 1;
                    if tries.is_multiple_of(3) {
                        // A relay that was killed and starts again.
                        sink = behind.sink();
                    }
                }
            }
            at = loop {
                match sink.mark().await {
                    Ok(mark) => break mark.map_or(0, |mark| mark.seq),
                    // The dropped step may still be under way.
                    Err(DoorError::Retry(_)) => tokio::task::yield_now().await,
                    Err(operator) => panic!("{operator}"),
                }
            };
        }
        assert!(dropped > 0);
        assert_eq!(behind.given(), items(0..100));
    }
}

struct BehindRedis(Redis);

impl Behind for BehindRedis {
    type Source = RedisSource;
    type Sink = RedisSink;

    fn start() -> BehindRedis {
        BehindRedis(Redis::start())
    }

    fn source(&self, position: Option<Vec<u8>>) -> RedisSource {
        let config = TakeRedis {
            name: "out".parse().unwrap(),
            queue: "relay-out-queue".into(),
            server: self.0.config(),
            seal: Default::default(),
        };
        RedisSource::new(&config, position)
    }

    fn sink(&self) -> RedisSink {
        let config = GiveRedis {
            name: "in".parse().unwrap(),
            queue: "bot-queue".into(),
            server: self.0.config(),
            high_water: 100_000,
            events: Events::default(),
        };
        RedisSink::new(&config, &"cert-at".parse().unwrap())
    }

    fn put(&mut self, items: &[Bytes]) {
        let mut pipe = redis::pipe();
        for item in items {
            pipe.cmd("LPUSH").arg("relay-out-queue").arg(&item[..]);
        }
        pipe.exec(&mut self.0.connect()).unwrap();
    }

    fn given(&self) -> Vec<Bytes> {
        let lrange = redis::cmd("LRANGE").arg("bot-queue").arg(0).arg(-1).to_owned();
        let mut given: Vec<Bytes> = lrange.query(&mut self.0.connect()).unwrap();
        given.reverse();
        given
    }

    fn is_clear(&self) -> bool {
        let exists = redis::cmd("EXISTS").arg("relay-out-queue").arg("relay-out-queue-internal").to_owned();
        exists.query::<u64>(&mut self.0.connect()).unwrap() == 0
    }
}

struct BehindFiles {
    directory: TempDir,
    files: usize,
}

impl BehindFiles {
    fn incoming(&self) -> &Path {
        self.directory.path()
    }
}

impl Behind for BehindFiles {
    type Source = FilesSource;
    type Sink = FilesSink;

    fn start() -> BehindFiles {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("given")).unwrap();
        BehindFiles { directory, files: 0 }
    }

    fn source(&self, position: Option<Vec<u8>>) -> FilesSource {
        let config = TakeFiles {
            name: "out".parse().unwrap(),
            directory: self.incoming().to_owned(),
            taken: None,
            seal: Default::default(),
        };
        FilesSource::new(&config, position)
    }

    fn sink(&self) -> FilesSink {
        let config = GiveFiles {
            name: "in".parse().unwrap(),
            directory: self.directory.path().join("given"),
            // Small, so that it rotates.
            rotate_bytes: 1000,
            rotate_seconds: 3600,
            events: Events::default(),
        };
        FilesSink::new(&config)
    }

    fn put(&mut self, items: &[Bytes]) {
        self.files += 1;
        let temporary = self.incoming().join(".next");
        let lines: Vec<u8> = items.iter().flat_map(|item| [&item[..], b"\n"].concat()).collect();
        std::fs::write(&temporary, lines).unwrap();
        std::fs::rename(&temporary, self.incoming().join(format!("{:06}.jsonl", self.files))).unwrap();
    }

    fn given(&self) -> Vec<Bytes> {
        let directory = self.directory.path().join("given");
        let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|ext| ext == "jsonl"));
        // events-000000000001.jsonl sorts before events.jsonl.
        files.sort();
        let lines = files.iter().flat_map(|path| std::fs::read(path).unwrap()).collect::<Vec<u8>>();
        let mut lines: Vec<_> = lines.split(|&byte| byte == b'\n').map(Bytes::copy_from_slice).collect();
        assert_eq!(lines.pop(), Some(Bytes::new()), "every line ends");
        lines
    }

    fn is_clear(&self) -> bool {
        std::fs::read_dir(self.incoming()).unwrap().all(|entry| entry.unwrap().file_name() == "given")
    }
}

struct BehindTcp {
    address: std::net::SocketAddr,
    output: tcp::Output,
    collector: tcp::Collector,
}

impl Behind for BehindTcp {
    type Source = TcpSource;
    type Sink = TcpSink;

    fn start() -> BehindTcp {
        let address = tcp::address();
        let collector = tcp::Collector::start(|_| tcp::Do::Answer);
        BehindTcp { address, output: tcp::Output::to(address), collector }
    }

    fn source(&self, _: Option<Vec<u8>>) -> TcpSource {
        let config = TakeTcp {
            name: "out".parse().unwrap(),
            listen: vec![self.address],
            allow: vec!["127.0.0.0/8".parse().unwrap()],
            max_connections: 64,
            separator: None,
            seal: Default::default(),
        };
        TcpSource::new(&config, 2 << 20)
    }

    fn sink(&self) -> TcpSink {
        let config = GiveTcp {
            name: "in".parse().unwrap(),
            address: self.collector.address.to_string(),
            answer_seconds: 20.0,
            events: Events::default(),
        };
        TcpSink::new(&config)
    }

    fn put(&mut self, items: &[Bytes]) {
        self.output.put(items);
    }

    fn given(&self) -> Vec<Bytes> {
        self.collector.got()
    }

    fn is_clear(&self) -> bool {
        // The answers are on their way.
        let begun = std::time::Instant::now();
        while self.output.unanswered() > 0 && begun.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.output.unanswered() == 0
    }
}

macro_rules! conform {
    ($($test:ident)*; of_any: $($any:ident)*) => {
        mod tcp_door {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $any() {
                super::suite::$any::<super::BehindTcp>().await;
            })*
        }
        conform! { $($test)* $($any)* }
    };
    ($($test:ident)*) => {
        mod redis_door {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::suite::$test::<super::BehindRedis>().await;
            })*
        }
        mod files_door {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::suite::$test::<super::BehindFiles>().await;
            })*
        }
    };
}

conform! {
    committed_items_never_come_again
    equal_items_are_each_an_item
    a_dropped_take_loses_nothing
    what_is_given_arrives_in_order_with_the_mark
    an_empty_give_may_be_the_first
    a_dropped_give_is_done_once_or_not;
    // Without a position, too.
    of_any:
    items_come_in_order_and_byte_for_byte
    a_waiting_take_wakes
    limits_hold_and_a_larger_item_comes_alone
    large_items_pass
    uncommitted_items_come_again
}

/// Not a test: `cargo test --release --test doors -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn rates() {
    async fn measure<B: Behind>(name: &str) {
        const BATCH: usize = 512;
        let item = Bytes::from(vec![b'x'; 1400]);
        let batches = 100;
        let mut behind = B::start();
        for _ in 0..batches {
            behind.put(&vec![item.clone(); BATCH]);
        }
        let mut source = behind.source(None);
        let begun = std::time::Instant::now();
        for _ in 0..batches {
            assert_eq!(take(&mut source, TakeLimit { items: BATCH, bytes: 4 << 20 }).await.items.len(), BATCH);
            source.committed().await.unwrap();
        }
        let taken = (batches * BATCH) as f64 / begun.elapsed().as_secs_f64();
        let (mut sink, begun) = (behind.sink(), std::time::Instant::now());
        for n in 0..batches {
            sink.give(&vec![item.clone(); BATCH], mark(n as u64 + 1)).await.unwrap();
        }
        let given = (batches * BATCH) as f64 / begun.elapsed().as_secs_f64();
        println!("{name}: take and committed {taken:.0} items/s, give {given:.0} items/s");
    }
    measure::<BehindRedis>("Redis").await;
    measure::<BehindFiles>("files").await;
}
