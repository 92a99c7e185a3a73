//! A running relay that may not have more memory, whatever its peers, its TCP door and its control socket are told.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bytes::Bytes;
use intelmq_relay::envelope::Envelope;
use intelmq_relay::link::{Batch, Bodies, Frame, Offer, Verdict};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_bytes::ByteBuf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use uuid::Uuid;

use super::alone;
use super::bombs::zstd;
use super::hand::{Hand, by, sealed, sealed_fields, secret};
use super::relay::Relay;
use super::tcp::{address, frame};

const MIB: u64 = 1 << 20;
/// What a relay may need beside what it has when it starts, for all that is thrown at it here: frames of 4 MiB, and
/// connections with half a MiB each.
const MORE: u64 = 128 * MIB;
const CONNECTIONS: usize = 24;

/// A line of `/proc/PID/status`, in bytes.
fn memory(relay: &Relay, key: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", relay.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("Linux says so");
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}

/// From now on it gets so much more, and no more: else it ends.
fn limit(relay: &Relay) {
    let most = Some(memory(relay, "VmData:") + MORE);
    let pid = Pid::from_raw(relay.pid().try_into().unwrap());
    prlimit(pid, Resource::Data, Rlimit { current: most, maximum: most }).unwrap();
}

/// A relay with a peer and two TCP doors, one with lengths and one with line ends.
fn relay() -> (Relay, Hand, [SocketAddr; 2]) {
    let mut relay = Relay::init("cert-c");
    let hand = Hand::listed_by(&relay, "cert-m");
    let doors = [address(), address()];
    for (door, separator) in doors.iter().zip(["", "separator = \"\\n\""]) {
        let more = format!("max_connections = {CONNECTIONS}\n{separator}");
        relay.and(&format!("[[take.tcp]]\nname = \"tcp-{}\"\nlisten = \"{door}\"\n{more}", separator.len()));
    }
    relay.start();
    limit(&relay);
    (relay, hand, doors)
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::await_holding_lock)] // Nothing in this test waits for it.
async fn a_hostile_peer_takes_no_memory() {
    let _alone = alone();
    let (relay, mut hand, _) = relay();
    let before = memory(&relay, "VmHWM:");
    let offer = Offer(0, "cert-m".parse().unwrap(), Uuid::nil(), u32::MAX, 0);
    let batch = |offers: &[Offer], whole: Vec<u8>| {
        Frame::Batch(Batch { no: 1, offers: offers.to_vec(), whole: whole.into(), token: ByteBuf::from([7; 64]) })
            .encode()
    };
    let framed = |kind: u8, bytes: &[u8]| {
        let mut length = unsigned_varint::encode::usize_buffer();
        [unsigned_varint::encode::usize(bytes.len() + 1, &mut length), &[kind], bytes].concat()
    };
    let nothing = [&[0x9a, 0, 63, 0xff, 0x00][..], &[0x80; (4 << 20) - 256]].concat();
    let bombs = [
        ("a GiB, and says so", batch(&[], zstd(Some(1 << 30), 8192))),
        // This much it could have.
        ("80 MiB, and says so", batch(&[], zstd(Some(80 * MIB), 640))),
        ("a GiB, and does not say so", batch(&[], zstd(None, 8192))),
        ("a GiB, and says a MiB", batch(&[], zstd(Some(MIB), 8192))),
        ("zstd frames in a row", batch(&[], zstd(Some(4 * MIB), 1).repeat(16_000))),
        ("entries of nothing", batch(&[], zstd::bulk::compress(&nothing, 1).unwrap())),
        ("offers without end", batch(&vec![offer; 80_000], Vec::new())),
        ("bodies that nobody wants", Frame::Bodies(Bodies { no: 1, packed: zstd(Some(4 * MIB), 32).into() }).encode()),
        ("a frame of 4 GiB", vec![0xff, 0xff, 0xff, 0xff, 0x0f, 4]),
        ("a frame of more than that", vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 4]),
        ("a deep frame", framed(4, &[0x81; (4 << 20) - 64])),
        ("a list that says to be endless", framed(11, &[&[0x9b][..], &[0xff; 8]].concat())),
        ("a roster of nothing", framed(10, &[&[0x5a, 0, 0x0f, 0xff, 0x00][..], &[0; 0x0f_ff00]].concat())),
    ];
    for (what, bytes) in bombs {
        hand.link(&relay).await;
        for _ in 0..8 {
            hand.write(&bytes).await;
        }
        // A roster that is none ends no link.
        if !what.contains("roster") {
            hand.hung_up().await;
        }
        println!("{what}: {} MiB", memory(&relay, "VmHWM:") / MIB);
    }
    hand.link(&relay).await;
    let ours = secret("cert-m");
    let wide = (0..4096).map(|n| (format!("a{n}"), "\"\"".to_owned())).collect();
    let wide = by(&sealed_fields(&ours, "cert-m", wide, |_| {}), &[]);
    assert_eq!(
        hand.give(&[wide.clone(), Bytes::from(nothing[..1 << 20].to_vec())]).await,
        [Verdict::Accepted, Verdict::Malformed]
    );
    assert!(Envelope::named(&wide).is_some());
    still_works(&relay, &mut hand).await;
    assert!(memory(&relay, "VmHWM:") - before < 64 * MIB, "some of it was held");
}

/// What comes good is taken, within the limit.
async fn still_works(relay: &Relay, hand: &mut Hand) {
    hand.link(relay).await;
    let good = by(&sealed(&secret("cert-m"), "cert-m", 1, |_| {}), &[]);
    assert_eq!(hand.give(&[good]).await, [Verdict::Accepted]);
    println!("VmHWM {} MiB, VmData {} MiB", memory(relay, "VmHWM:") / MIB, memory(relay, "VmData:") / MIB);
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::await_holding_lock)] // Nothing in this test waits for it.
async fn hostile_senders_and_questions_take_no_memory() {
    let _alone = alone();
    let (relay, mut hand, [by_length, by_line]) = relay();
    let deep = |open: &str| frame(format!("{{\"extra.a\": {}", open.repeat(400_000)).as_bytes());
    let members: String = (0..60_000).map(|n| format!("\"a{n}\": 0, ")).collect();
    for (what, bytes) in [
        ("a length of 4 GiB", [&[0xff; 4][..], &[b'{'; 1 << 16]].concat()),
        ("a length of nearly a MiB, without a text", vec![0, 0x0f, 0xff, 0xff, b'{']),
        ("deep lists", deep("[")),
        ("deep objects", deep("{\"a\":")),
        ("members without end", frame(format!("{{{members} \"a\": 1}}").as_bytes())),
    ] {
        let mut streams: Vec<TcpStream> = (0..8).map(|_| TcpStream::connect(by_length).unwrap()).collect();
        for stream in &mut streams {
            // Where the door has hung up, it has.
            let _ = stream.write_all(&bytes);
        }
        println!("{what}: {} MiB", memory(&relay, "VmHWM:") / MIB);
    }
    // Each a frame of its own, faster than any door takes them.
    let lines: &[u8] = &b"x\n".repeat(512 << 10);
    let flood = async |_| {
        let mut stream = tokio::net::TcpStream::connect(by_line).await.unwrap();
        let _ = tokio::time::timeout(Duration::from_secs(3), stream.write_all(lines)).await;
    };
    futures::future::join_all((0..CONNECTIONS).map(flood)).await;
    println!("frames of a byte: {} MiB", memory(&relay, "VmHWM:") / MIB);

    let socket = relay.path("data").join("control.sock");
    for line in [vec![b'['; 16 << 20], b"{\"ask\":".repeat(100_000), [&b"\""[..], &[b'a'; 16 << 20]].concat()] {
        let mut streams: Vec<UnixStream> = (0..4).map(|_| UnixStream::connect(&socket).unwrap()).collect();
        for stream in &mut streams {
            stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
            let _ = stream.write_all(&line);
        }
        println!("a question of {} bytes: {} MiB", line.len(), memory(&relay, "VmHWM:") / MIB);
    }
    let mut sender = tokio::net::TcpStream::connect(by_length).await.unwrap();
    sender.write_all(&frame(br#"{"source.ip": "192.0.2.7"}"#)).await.unwrap();
    let mut answer = [0; 2];
    tokio::time::timeout(Duration::from_secs(40), sender.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"Ok");
    still_works(&relay, &mut hand).await;
}
