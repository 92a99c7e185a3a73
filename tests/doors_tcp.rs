//! The TCP door among many senders, hostile ones too, and before collectors that fail.

#![allow(clippy::unwrap_used)] // A test that fails may panic, in what it calls too.

#[path = "support/tcp.rs"]
mod tcp;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use intelmq_relay::config::{Events, GiveTcp, TakeTcp};
use intelmq_relay::intelmq::{DoorError, Mark, Sink, Source, TakeLimit, TcpSink, TcpSource};
use tcp::{Collector, Do, Output, address, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use uuid::Uuid;

const ALL: TakeLimit = TakeLimit { items: 512, bytes: 1 << 20 };
const MOST: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(30);

fn config(address: SocketAddr) -> TakeTcp {
    TakeTcp {
        name: "out".parse().unwrap(),
        listen: vec![address],
        allow: vec!["127.0.0.0/8".parse().unwrap()],
        max_connections: 64,
        separator: None,
        seal: Default::default(),
    }
}

fn source(address: SocketAddr) -> TcpSource {
    TcpSource::new(&config(address), MOST)
}

fn items(client: usize, range: std::ops::Range<usize>) -> Vec<Bytes> {
    range.map(|n| Bytes::from(format!("{{\"client\": {client}, \"n\": {n}}}"))).collect()
}

async fn take(source: &mut TcpSource) -> Vec<Bytes> {
    timeout(PATIENCE, source.take(ALL)).await.expect("something comes").unwrap().items
}

/// Takes and commits until so many have come.
async fn drain(source: &mut TcpSource, count: usize) -> Vec<Bytes> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(take(source).await);
        source.committed().await.unwrap();
    }
    all
}

/// Looks at the door's connections while `other` is under way, which must not be for long. Nothing may come.
async fn meanwhile<T>(source: &mut TcpSource, other: impl Future<Output = T>) -> T {
    tokio::select! {
        taken = source.take(ALL) => panic!("{taken:?}"),
        done = timeout(PATIENCE, other) => done.expect("it does not take for ever"),
    }
}

/// A connection, and whoever listens there may not have begun.
async fn connect(source: &mut TcpSource, address: SocketAddr, from: Option<IpAddr>) -> TcpStream {
    let connecting = async {
        loop {
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.unwrap();
            if let Some(from) = from {
                socket.bind(SocketAddr::new(from, 0)).unwrap();
            }
            match socket.connect(address).await {
                Ok(stream) => return stream,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    meanwhile(source, connecting).await
}

async fn answers(stream: &mut TcpStream, count: usize) {
    let mut answers = vec![0; 2 * count];
    timeout(PATIENCE, stream.read_exact(&mut answers)).await.expect("answers").unwrap();
    assert_eq!(answers, b"Ok".repeat(count));
}

/// The other side closes, without a word.
async fn closes(source: &mut TcpSource, stream: &mut TcpStream) {
    let mut byte = [0];
    let end = meanwhile(source, stream.read(&mut byte)).await;
    assert!(matches!(end, Ok(0) | Err(_)), "it said something: {end:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_senders_each_in_their_order() {
    let address = address();
    let outputs: Vec<Output> = (0..20).map(|_| Output::to(address)).collect();
    for (client, output) in outputs.iter().enumerate() {
        output.put(&items(client, 0..50));
    }
    let all = drain(&mut source(address), 1000).await;
    for client in 0..20 {
        let prefix = format!("{{\"client\": {client},");
        let own: Vec<&Bytes> = all.iter().filter(|item| item.starts_with(prefix.as_bytes())).collect();
        assert_eq!(own, items(client, 0..50).iter().collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn an_answer_comes_when_it_is_committed_and_not_before() {
    let address = address();
    let mut source = source(address);
    let mut stream = connect(&mut source, address, None).await;
    for item in items(0, 0..3) {
        stream.write_all(&frame(&item)).await.unwrap();
    }
    let mut taken = take(&mut source).await;
    let mut byte = [0];
    assert!(timeout(Duration::from_millis(200), stream.read(&mut byte)).await.is_err(), "an answer before its time");
    // What was not committed comes again.
    while taken.len() < 3 {
        // What is held is there at once: the runtime must get to hear of the rest.
        tokio::task::yield_now().await;
        taken = take(&mut source).await;
    }
    assert_eq!(taken, items(0, 0..3));
    source.committed().await.unwrap();
    answers(&mut stream, 3).await;
    // Answers are not given twice.
    source.committed().await.unwrap();
    assert!(timeout(Duration::from_millis(200), stream.read(&mut byte)).await.is_err());
}

#[tokio::test]
async fn nobodys_many_keep_out_anothers_one() {
    let address = address();
    let mut source = source(address);
    let mut busy = connect(&mut source, address, None).await;
    let mut quiet = connect(&mut source, address, None).await;
    quiet.write_all(&frame(b"quiet")).await.unwrap();
    let many: Vec<u8> = items(0, 0..100).iter().flat_map(|item| frame(item)).collect();
    busy.write_all(&many).await.unwrap();
    let mut last = Vec::new();
    while last.len() < 4 {
        tokio::task::yield_now().await;
        last = timeout(PATIENCE, source.take(TakeLimit { items: 4, ..ALL })).await.unwrap().unwrap().items;
    }
    assert!(last.contains(&Bytes::from_static(b"quiet")), "{last:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_broken_off_comes_at_least_once() {
    let address = address();
    let output = Output::to(address);
    output.put(&items(0, 0..300));
    let (mut all, mut round) = (Vec::new(), 0);
    while output.unanswered() > 0 {
        // Killed after taking, after the commit, or not at all.
        let mut source = source(address);
        if let Ok(taken) = timeout(PATIENCE, source.take(TakeLimit { items: 20, ..ALL })).await {
            if round % 3 > 0 {
                all.extend(taken.unwrap().items);
            }
            if round % 3 > 1 {
                source.committed().await.unwrap();
                let before = output.unanswered();
                timeout(PATIENCE, async {
                    while output.unanswered() == before {
                        tokio::task::yield_now().await;
                    }
                })
                .await
                .expect("an answer arrives");
            }
        }
        round += 1;
    }
    // What was committed and not answered is there twice: the protocol cannot do better.
    let mut once = all.clone();
    once.sort();
    once.dedup();
    let mut expected = items(0, 0..300);
    expected.sort();
    assert_eq!(once, expected);
    assert!(all.len() > 300);
}

#[tokio::test]
async fn what_is_no_frame_ends_its_own_connection_only() {
    let address = address();
    let mut source = source(address);
    let mut good = connect(&mut source, address, None).await;
    for broken in [&[0xff; 4][..], &[0; 4], &(MOST as u32 + 1).to_be_bytes(), b"GET / HTTP/1.1\r\n\r\n"] {
        let mut bad = connect(&mut source, address, None).await;
        bad.write_all(broken).await.unwrap();
        closes(&mut source, &mut bad).await;
        // What was whole before is taken, and answered.
        let mut bad = connect(&mut source, address, None).await;
        bad.write_all(&[&frame(b"whole"), broken].concat()).await.unwrap();
        assert_eq!(drain(&mut source, 1).await, ["whole"]);
        answers(&mut bad, 1).await;
        closes(&mut source, &mut bad).await;
    }
    good.write_all(&frame(b"good")).await.unwrap();
    assert_eq!(drain(&mut source, 1).await, ["good"]);
    answers(&mut good, 1).await;
    // As long as may be.
    let longest = vec![b'x'; MOST];
    let whole = frame(&longest);
    let (_, got) = tokio::join!(good.write_all(&whole), drain(&mut source, 1));
    assert!(got[0] == longest);
}

#[tokio::test(start_paused = true)]
async fn half_a_frame_is_waited_for_and_not_for_ever() {
    let address = address();
    let mut source = source(address);
    let mut slow = connect(&mut source, address, None).await;
    let mut idle = connect(&mut source, address, None).await;
    slow.write_all(&frame(b"half of it")[..7]).await.unwrap();
    let begun = tokio::time::Instant::now();
    let mut byte = [0];
    // Not by `meanwhile`: its patience is shorter.
    tokio::select! {
        taken = source.take(ALL) => panic!("{taken:?}"),
        end = slow.read(&mut byte) => assert_eq!(end.unwrap_or(0), 0),
    }
    assert!((50..90).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    // Who says nothing at all may stay.
    idle.write_all(&frame(b"at last")).await.unwrap();
    assert_eq!(source.take(ALL).await.unwrap().items, ["at last"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_do_not_keep_others_out() {
    let address = address();
    let mut source = source(address);
    let mut bot = connect(&mut source, address, Some("127.0.0.9".parse().unwrap())).await;
    let mut flood = Vec::new();
    for n in 0..1000 {
        let mut stream = connect(&mut source, address, None).await;
        if n % 2 == 0 {
            // Refused, it may be closed by now.
            let _ = stream.write_all(&[0, 0]).await;
        }
        flood.push(stream);
    }
    // The one that was there, and one that comes now.
    let mut late = connect(&mut source, address, Some("127.0.0.8".parse().unwrap())).await;
    bot.write_all(&frame(b"bot")).await.unwrap();
    late.write_all(&frame(b"late")).await.unwrap();
    let mut got = drain(&mut source, 2).await;
    got.sort();
    assert_eq!(got, ["bot", "late"]);
    answers(&mut bot, 1).await;
    answers(&mut late, 1).await;
    // Of the flood, no more than there is room for are still open.
    let mut open = 0;
    let mut byte = [0];
    for stream in &flood {
        open += usize::from(matches!(stream.try_read(&mut byte), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock));
    }
    assert!(open < 64, "{open}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_senders_where_there_is_room_are_all_answered() {
    let address = address();
    let mut source = TcpSource::new(&TakeTcp { max_connections: 1000, ..config(address) }, MOST);
    let mut streams = Vec::new();
    for _ in 0..1000 {
        streams.push(connect(&mut source, address, None).await);
    }
    for stream in &mut streams {
        stream.write_all(&frame(b"{}")).await.unwrap();
    }
    assert_eq!(drain(&mut source, 1000).await.len(), 1000);
    for stream in &mut streams {
        answers(stream, 1).await;
    }
}

#[tokio::test]
async fn strangers_are_refused() {
    let address = address();
    let config = TakeTcp { allow: vec!["127.0.0.7/32".parse().unwrap()], ..config(address) };
    let mut source = TcpSource::new(&config, MOST);
    let mut stranger = connect(&mut source, address, Some("127.0.0.6".parse().unwrap())).await;
    let _ = stranger.write_all(&frame(b"stranger")).await;
    closes(&mut source, &mut stranger).await;
    let mut known = connect(&mut source, address, Some("127.0.0.7".parse().unwrap())).await;
    known.write_all(&frame(b"known")).await.unwrap();
    assert_eq!(drain(&mut source, 1).await, ["known"]);
}

#[tokio::test]
async fn ipv6_and_several_addresses() {
    let four = address();
    // There is one address of this kind: its port comes from the system.
    let six = std::net::TcpListener::bind("[::1]:0").unwrap().local_addr().unwrap();
    let allow = vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
    let mut source = TcpSource::new(&TakeTcp { listen: vec![four, six], allow, ..config(four) }, MOST);
    for (address, text) in [(four, "four"), (six, "six")] {
        let mut stream = connect(&mut source, address, None).await;
        stream.write_all(&frame(text.as_bytes())).await.unwrap();
        assert_eq!(drain(&mut source, 1).await, [text]);
        answers(&mut stream, 1).await;
    }
    // An address that is taken is waited for, and named.
    match TcpSource::new(&config(four), MOST).take(ALL).await {
        Err(DoorError::Retry(text)) => assert!(text.contains(&four.to_string()), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn texts_with_a_separator() {
    let address = address();
    let mut source = TcpSource::new(&TakeTcp { separator: Some("\n".into()), ..config(address) }, MOST);
    let mut stream = connect(&mut source, address, None).await;
    stream.write_all(b"one\n\ntwo\nth").await.unwrap();
    assert_eq!(drain(&mut source, 2).await, ["one", "two"]);
    // IntelMQ's output waits for an answer in this mode too, unless it is told not to.
    answers(&mut stream, 2).await;
    stream.write_all(b"ree\n").await.unwrap();
    assert_eq!(drain(&mut source, 1).await, ["three"]);
    let mut lengths = connect(&mut source, address, None).await;
    lengths.write_all(&frame(b"{}")).await.unwrap();
    closes(&mut source, &mut lengths).await;
}

#[tokio::test(start_paused = true)]
async fn who_reads_no_answers_gets_no_more_and_is_taken_all_the_same() {
    let address = address();
    let mut source = source(address);
    let stream = {
        // Little room for answers.
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(2048).unwrap();
        let mut connecting = Box::pin(socket.connect(address));
        loop {
            tokio::select! {
                taken = source.take(ALL) => panic!("{taken:?}"),
                connected = &mut connecting => match connected {
                    Ok(stream) => break stream,
                    Err(_) => connecting = Box::pin({
                        let socket = TcpSocket::new_v4().unwrap();
                        socket.set_recv_buffer_size(2048).unwrap();
                        socket.connect(address)
                    }),
                },
            }
        }
    };
    let (_read, mut write) = stream.into_split();
    let writing = tokio::spawn(async move {
        let many: Vec<u8> = frame(b"{}").repeat(1000);
        while write.write_all(&many).await.is_ok() {}
    });
    // The system has room for millions of answers. Then the relay waits, for seconds; and then no more.
    let (mut after, begun) = (0, tokio::time::Instant::now());
    while after < 200_000 {
        let taken = source.take(ALL).await.unwrap().items.len();
        source.committed().await.unwrap();
        after += if begun.elapsed().is_zero() { 0 } else { taken };
    }
    assert!((5..15).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    writing.abort();
}

#[tokio::test(start_paused = true)]
async fn who_went_while_the_relay_was_held_up_sends_again_and_is_not_taken_twice() {
    let address = address();
    let mut source = source(address);
    let mut waiting = connect(&mut source, address, None).await;
    let mut gone = connect(&mut source, address, None).await;
    gone.write_all(&frame(b"first")).await.unwrap();
    assert_eq!(source.take(ALL).await.unwrap().items, ["first"]);
    // The commit takes long: full disks do. Its sender has given up, and one more has come and gone.
    gone.shutdown().await.unwrap();
    let mut again = TcpStream::connect(address).await.unwrap();
    again.write_all(&frame(b"gone")).await.unwrap();
    drop(again);
    waiting.write_all(&frame(b"waits")).await.unwrap();
    tokio::time::advance(Duration::from_secs(20)).await;
    source.committed().await.unwrap();
    let mut got = Vec::new();
    while let Ok(taken) = timeout(Duration::from_secs(1), source.take(ALL)).await {
        got.extend(taken.unwrap().items);
        source.committed().await.unwrap();
    }
    assert_eq!(got, ["waits"]);
    // In normal times, who does not wait for an answer is taken.
    tokio::time::advance(Duration::from_secs(5)).await;
    let mut hasty = connect(&mut source, address, None).await;
    hasty.write_all(&frame(b"hasty")).await.unwrap();
    drop(hasty);
    assert_eq!(source.take(ALL).await.unwrap().items, ["hasty"]);
}

// ---- Into a collector -----------------------------------------------------------------------------------------------

fn sink(address: impl ToString, answer_seconds: f64) -> TcpSink {
    let (name, address) = ("in".parse().unwrap(), address.to_string());
    TcpSink::new(&GiveTcp { name, address, answer_seconds, events: Events::default() })
}

fn mark(seq: u64) -> Mark {
    Mark { log: Uuid::from_u128(7), seq, again: 0 }
}

#[track_caller]
fn retry(result: Result<(), DoorError>, what: &str) {
    match result {
        Err(DoorError::Retry(text)) => assert!(text.contains(what), "{text}"),
        other => panic!("not {what:?}, but {other:?}"),
    }
}

#[tokio::test]
async fn given_over_one_connection_in_order() {
    let collector = Collector::start(|_| Do::Answer);
    let mut sink = sink(collector.address, 20.0);
    assert_eq!(sink.mark().await.unwrap(), None);
    sink.give(&items(0, 0..2000), mark(2000)).await.unwrap();
    sink.give(&[], mark(2001)).await.unwrap();
    let large: Vec<Bytes> = (b'a'..b'f').map(|byte| Bytes::from(vec![byte; 1 << 20])).collect();
    sink.give(&large, mark(2006)).await.unwrap();
    assert!(collector.got() == [items(0, 0..2000), large].concat());
    assert_eq!(collector.connections(), 1);
}

#[tokio::test]
async fn what_was_answered_before_an_error_is_known() {
    let collector = Collector::start(|n| if n == 5 { Do::Close } else { Do::Answer });
    let mut sink = sink(collector.address, 20.0);
    let all = items(0, 0..100);
    retry(sink.give(&all, mark(100)).await, "what had no answer is sent again");
    assert_eq!(sink.confirmed(), 5);
    sink.give(&all[5..], mark(100)).await.unwrap();
    // The one that was kept and not answered is there twice.
    assert_eq!(collector.got(), [&all[..6], &all[5..]].concat());
}

#[tokio::test]
async fn a_collector_that_is_restarted_between_two_steps_is_no_trouble() {
    let address = address();
    let first = Collector::at(address, |_| Do::Answer);
    let mut sink = sink(address, 20.0);
    sink.give(&items(0, 0..3), mark(3)).await.unwrap();
    drop(first);
    retry(sink.give(&items(0, 3..6), mark(6)).await, "start IntelMQ's TCP collector");
    assert_eq!(sink.confirmed(), 0);
    let second = Collector::at(address, |_| Do::Answer);
    sink.give(&items(0, 3..6), mark(6)).await.unwrap();
    assert_eq!(second.got(), items(0, 3..6));
}

#[tokio::test]
async fn who_does_not_answer_or_not_so_is_no_collector() {
    let hangs = Arc::new(AtomicBool::new(true));
    let hanging = hangs.clone();
    let collector = Collector::start(move |_| if hanging.load(Ordering::Relaxed) { Do::Hang } else { Do::Answer });
    let mut door = sink(collector.address, 0.3);
    retry(door.give(&items(0, 0..3), mark(3)).await, "no \"Ok\" within 300ms");
    hangs.store(false, Ordering::Relaxed);
    let mut door = sink(collector.address, 20.0);
    door.give(&items(0, 0..3), mark(3)).await.unwrap();
    assert_eq!(collector.got(), items(0, 0..3));
    let other = Collector::start(|_| Do::Babble);
    retry(sink(other.address, 20.0).give(&items(0, 0..1), mark(1)).await, "HTTP/1.1 400");
}
