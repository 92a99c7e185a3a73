//! The network, over loopback: nodes that meet, strangers, storms, and peers that freeze.
//!
//! Nothing here sleeps: every test waits for a condition, and `within` only bounds how long a failure takes.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use futures::FutureExt as _;
use intelmq_relay::config;
use intelmq_relay::envelope::{Key, Secret};
use intelmq_relay::net::{Net, NetError, Peer, PeerLink, PeerState, Stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Far longer than anything takes on a busy machine.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it took too long")
}

fn secret(number: u64) -> Secret {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    Secret::from_seed(&seed)
}

/// Two secrets, the one with the lower key, which opens, first.
fn secrets(number: u64) -> (Secret, Secret) {
    let (a, b) = (secret(2 * number), secret(2 * number + 1));
    if a.key() < b.key() { (a, b) } else { (b, a) }
}

fn config() -> config::Net {
    config::Net {
        listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
        dial_min_seconds: 0.02,
        dial_max_seconds: 0.2,
        ..config::Net::default()
    }
}

fn peer(key: Key, addresses: &[&str]) -> Peer {
    let name = format!("peer-{}", &key.to_string().to_lowercase()[40..48]).parse().unwrap();
    Peer { name, key, addresses: addresses.iter().map(|text| text.to_string()).collect() }
}

async fn start(secret: &Secret, peers: Vec<Peer>) -> Net {
    within(Net::start(&config(), secret, peers)).await.unwrap()
}

fn address(net: &Net) -> String {
    net.listening().remove(0)
}

fn link(net: &Net, secret: &Secret) -> PeerLink {
    net.link(&secret.key()).unwrap()
}

/// What a node sees that the other does not list.
fn turned_away(state: &PeerState) -> bool {
    state.error.as_ref().is_some_and(|error| error.contains("peer list"))
}

/// Bytes one way, then the other.
async fn exchange(a: &mut Stream, b: &mut Stream) {
    carry(a, b).await;
    carry(b, a).await;
}

async fn carry(from: &mut Stream, to: &mut Stream) {
    let bytes = rand::random::<[u8; 16]>();
    from.write_all(&bytes).await.unwrap();
    from.flush().await.unwrap();
    let mut got = [0; 16];
    to.read_exact(&mut got).await.unwrap();
    assert_eq!(got, bytes);
}

/// Streams that reach each other: an older one may still be under way.
async fn meet(a: &mut PeerLink, b: &mut PeerLink) -> (Stream, Stream) {
    let (mut a, mut b) = within(async { tokio::join!(a.next(), b.next()) }).await;
    let (mut a, mut b) = (a.take().unwrap(), b.take().unwrap());
    within(exchange(&mut a, &mut b)).await;
    (a, b)
}

#[tokio::test]
async fn two_nodes_exchange_bytes_whoever_dials() {
    let (low, high) = secrets(1);
    for (dialler, listener) in [(&low, &high), (&high, &low)] {
        let b = start(listener, vec![peer(dialler.key(), &[])]).await;
        let a = start(dialler, vec![peer(listener.key(), &[&address(&b)])]).await;
        let (mut at_a, mut at_b) = (link(&a, listener), link(&b, dialler));
        let (mut from, mut to) = meet(&mut at_a, &mut at_b).await;
        assert!(at_a.state().connected.unwrap().starts_with("/ip4/127.0.0.1/tcp/"));
        assert_eq!(at_a.state().error, None);

        // More than all windows and buffers hold, and an end in order.
        let sent = vec![42; 20 << 20];
        let send = async {
            from.write_all(&sent).await.unwrap();
            from.shutdown().await.unwrap();
        };
        let mut got = Vec::new();
        let (_, received) = within(async { tokio::join!(send, to.read_to_end(&mut got)) }).await;
        assert_eq!(received.unwrap(), sent.len());
        within(async { tokio::join!(a.shutdown(), b.shutdown()) }).await;
    }
}

#[tokio::test]
async fn an_address_may_be_a_name() {
    let (low, high) = secrets(2);
    let b = start(&high, vec![peer(low.key(), &[])]).await;
    let named = address(&b).replace("/ip4/127.0.0.1", "/dns4/localhost");
    let a = start(&low, vec![peer(high.key(), &[&named])]).await;
    meet(&mut link(&a, &high), &mut link(&b, &low)).await;
}

#[tokio::test]
async fn a_node_with_another_key_is_refused_and_the_error_names_both() {
    let (low, high) = secrets(3);
    let expected = secret(1000);
    let b = start(&high, vec![peer(low.key(), &[])]).await;
    let at_b = address(&b).split("/p2p/").next().unwrap().to_owned();
    let a = start(&low, vec![peer(expected.key(), &[&at_b])]).await;
    let mut to_expected = link(&a, &expected);
    let state = within(to_expected.state_when(|state| state.error.is_some())).await.unwrap();
    let error = state.error.unwrap();
    for part in [expected.key().to_string(), high.key().to_string(), "correct the key".into()] {
        assert!(error.contains(&part), "{error}");
    }
    assert_eq!(state.connected, None);
    assert!(to_expected.next().now_or_never().is_none());
}

#[tokio::test]
async fn a_stranger_gets_no_protocol_at_all() {
    use futures::StreamExt as _;
    use libp2p::swarm::SwarmEvent;

    let (low, high) = secrets(4);
    let node = start(&high, vec![peer(low.key(), &[])]).await;
    // A node of ours: its stream is never opened, whichever of the two would open.
    for number in [2000, 2001, 2002, 2003] {
        let stranger = secret(number);
        let net = start(&stranger, vec![peer(high.key(), &[&address(&node)])]).await;
        let mut to_node = link(&net, &high);
        let mut state = link(&net, &high);
        tokio::select! {
            stream = to_node.next() => panic!("{stream:?}"),
            state = within(state.state_when(turned_away)) => assert!(state.is_some()),
        }
    }
    // Any libp2p node: not even its pings are answered.
    let mut swarm = libp2p::SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(Default::default(), libp2p::noise::Config::new, libp2p::yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| libp2p::ping::Behaviour::default())
        .unwrap()
        .build();
    swarm.dial(address(&node).parse::<libp2p::Multiaddr>().unwrap()).unwrap();
    within(async {
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::ConnectionClosed { .. } => break,
                SwarmEvent::Behaviour(ping) => assert!(ping.result.is_err(), "{ping:?}"),
                _ => {}
            }
        }
    })
    .await;
    assert!(link(&node, &low).next().now_or_never().is_none());
    assert_eq!(node.link(&secret(2000).key()).map(|_| ()), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_dial_each_other_at_once_share_one_stream() {
    for round in 0..20 {
        let (low, high) = secrets(100 + round);
        let (a, b) = (start(&low, vec![]).await, start(&high, vec![]).await);
        let to_b = vec![peer(high.key(), &[&address(&b)])];
        let to_a = vec![peer(low.key(), &[&address(&a)])];
        let (a_set, b_set) = within(async { tokio::join!(a.set_peers(to_b), b.set_peers(to_a)) }).await;
        a_set.unwrap();
        b_set.unwrap();
        let (mut at_a, mut at_b) = (link(&a, &high), link(&b, &low));
        let (mut from, mut to) = meet(&mut at_a, &mut at_b).await;
        // And no other one comes.
        assert!(at_b.superseded().now_or_never().is_none());
        within(exchange(&mut from, &mut to)).await;
    }
}

#[tokio::test]
async fn a_node_that_comes_back_gets_a_new_stream() {
    let (low, high) = secrets(5);
    for (dialler, listener) in [(&low, &high), (&high, &low)] {
        let mut b = start(listener, vec![peer(dialler.key(), &[])]).await;
        let bound = address(&b);
        let a = start(dialler, vec![peer(listener.key(), &[&bound])]).await;
        let mut at_a = link(&a, listener);
        let (mut from, to) = meet(&mut at_a, &mut link(&b, dialler)).await;
        drop(to);
        within(b.shutdown()).await;
        assert!(within(link_ended(&b, dialler)).await);
        // The stream ends, by itself.
        assert!(within(from.read_u8()).await.is_err());

        let here = config::Net { listen: vec![bound.split("/p2p/").next().unwrap().into()], ..config() };
        b = within(Net::start(&here, listener, vec![peer(dialler.key(), &[])])).await.unwrap();
        meet(&mut at_a, &mut link(&b, dialler)).await;
    }
}

async fn link_ended(net: &Net, peer: &Secret) -> bool {
    net.link(&peer.key()).is_none() && net.listening().is_empty()
}

#[tokio::test]
async fn a_newer_stream_supersedes_the_older_one() {
    let (low, high) = secrets(6);
    let b = start(&high, vec![peer(low.key(), &[])]).await;
    let a = start(&low, vec![peer(high.key(), &[&address(&b)])]).await;
    let (mut opener, mut acceptor) = (link(&a, &high), link(&b, &low));
    let (_first, mut first_there) = meet(&mut opener, &mut acceptor).await;
    assert!(acceptor.superseded().now_or_never().is_none());

    // The opener forgets the first one without dropping it.
    let mut second = within(opener.next()).await.unwrap();
    within(acceptor.superseded()).await;
    let mut second_there = within(acceptor.next()).await.unwrap();
    within(exchange(&mut second, &mut second_there)).await;
    assert!(acceptor.superseded().now_or_never().is_none());
    assert!(opener.superseded().now_or_never().is_none());
    // The older is whole as long as both sides keep it.
    assert!(first_there.read_u8().now_or_never().is_none());
}

#[tokio::test]
async fn a_peer_that_opens_without_end_fills_nothing_and_the_newest_wins() {
    let (low, high) = secrets(7);
    let b = start(&high, vec![peer(low.key(), &[])]).await;
    let a = start(&low, vec![peer(high.key(), &[&address(&b)])]).await;
    let (mut opener, mut acceptor) = (link(&a, &high), link(&b, &low));
    const STREAMS: u32 = 200;
    let mut last = None;
    for number in 0..STREAMS {
        let mut stream = within(opener.next()).await.unwrap();
        stream.write_u32(number).await.unwrap();
        stream.flush().await.unwrap();
        last = Some(stream);
    }
    // The ones before are dropped on both sides, or were never taken.
    within(async {
        loop {
            let mut stream = acceptor.next().await.unwrap();
            if stream.read_u32().await.is_ok_and(|number| number == STREAMS - 1) {
                return exchange(&mut stream, last.as_mut().unwrap()).await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn closing_ends_the_streams_of_both_sides_and_it_is_dialled_again() {
    let (low, high) = secrets(8);
    for (closing, other) in [(&low, &high), (&high, &low)] {
        let b = start(other, vec![peer(closing.key(), &[])]).await;
        let a = start(closing, vec![peer(other.key(), &[&address(&b)])]).await;
        let (mut at_a, mut at_b) = (link(&a, other), link(&b, closing));
        let (mut from, mut to) = meet(&mut at_a, &mut at_b).await;
        // Readers that wait are woken, ours too; in tasks of their own, so that nothing else wakes them.
        let here = tokio::spawn(async move { from.read_u8().await });
        let there = tokio::spawn(async move { to.read_u8().await });
        tokio::task::yield_now().await;
        within(at_a.close()).await;
        assert!(within(here).await.unwrap().is_err());
        assert!(within(there).await.unwrap().is_err());
        meet(&mut at_a, &mut at_b).await;
    }
}

#[tokio::test]
async fn a_stream_that_died_before_it_was_taken_is_replaced() {
    let (low, high) = secrets(15);
    let b = start(&high, vec![peer(low.key(), &[])]).await;
    let a = start(&low, vec![peer(high.key(), &[&address(&b)])]).await;
    let (mut at_a, mut at_b, mut watching) = (link(&a, &high), link(&b, &low), link(&a, &high));
    let mut next = pin!(at_a.next());
    assert!(futures::poll!(&mut next).is_pending());
    // It is opened and nobody looks; then its connection is closed.
    let mut there = within(at_b.next()).await.unwrap();
    within(watching.state_when(|state| state.connected.is_some())).await.unwrap();
    within(watching.close()).await;
    assert!(within(there.read_u8()).await.is_err());

    let (from, to) = within(async { tokio::join!(next, at_b.next()) }).await;
    within(exchange(&mut from.unwrap(), &mut to.unwrap())).await;
}

#[tokio::test]
async fn peers_come_and_go_and_the_others_stay() {
    let (low, high) = secrets(9);
    let third = secret(3000);
    let hub = start(&low, vec![]).await;
    let there = address(&hub);
    let (b, c) =
        (start(&high, vec![peer(low.key(), &[&there])]).await, start(&third, vec![peer(low.key(), &[&there])]).await);
    let (to_b, to_c) = (peer(high.key(), &[]), peer(third.key(), &[]));
    hub.set_peers(vec![to_b.clone(), to_c.clone()]).await.unwrap();
    let (mut hub_b, mut hub_c) = (link(&hub, &high), link(&hub, &third));
    let (mut b_hub, mut c_hub) = (link(&b, &low), link(&c, &low));
    let (mut here_b, mut there_b) = meet(&mut hub_b, &mut b_hub).await;
    let (here_c, mut there_c) = meet(&mut hub_c, &mut c_hub).await;

    // A wrong list changes nothing.
    let twice = vec![to_b.clone(), to_b.clone()];
    assert!(matches!(hub.set_peers(twice).await, Err(NetError::Peer { .. })));
    within(exchange(&mut here_b, &mut there_b)).await;

    // One goes; of the other only the address changes.
    hub.set_peers(vec![peer(high.key(), &["/ip4/192.0.2.1/tcp/1"])]).await.unwrap();
    assert!(hub.link(&third.key()).is_none());
    assert!(within(hub_c.next()).await.is_none());
    assert!(within(there_c.read_u8()).await.is_err());
    within(exchange(&mut here_b, &mut there_b)).await;
    assert!(hub_b.superseded().now_or_never().is_none());
    // The one that is gone is kept out.
    within(c_hub.state_when(turned_away)).await;

    // And comes back.
    drop((here_c, there_c));
    hub.set_peers(vec![to_b, to_c]).await.unwrap();
    meet(&mut link(&hub, &third), &mut c_hub).await;
    within(exchange(&mut here_b, &mut there_b)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_storm_every_listed_peer_gets_its_stream_and_no_stranger_does() {
    const LISTED: u64 = 100;
    let node = secret(4000);
    let listed: Vec<Peer> = (0..LISTED).map(|n| peer(secret(5000 + n).key(), &[])).collect();
    let hub = start(&node, listed).await;
    let there = address(&hub);

    let mut served = JoinSet::new();
    for number in 0..LISTED {
        let mut link = link(&hub, &secret(5000 + number));
        served.spawn(async move {
            // As the hello does: a stream that says nothing is dropped for the next.
            loop {
                let mut stream = link.next().await.unwrap();
                stream.write_u64(number).await.unwrap();
                stream.flush().await.unwrap();
                if stream.read_u64().await.is_ok_and(|answer| answer == number) {
                    return stream;
                }
            }
        });
    }
    let mut callers = JoinSet::new();
    for number in 0..2 * LISTED {
        let there = there.clone();
        let node = node.key();
        callers.spawn(async move {
            let config = config::Net { listen: vec![], ..config() };
            let net = Net::start(&config, &secret(5000 + number), vec![peer(node, &[&there])]).await.unwrap();
            let mut link = net.link(&node).unwrap();
            if number >= LISTED {
                let mut state = net.link(&node).unwrap();
                tokio::select! {
                    stream = link.next() => panic!("a stranger got {stream:?}"),
                    _ = state.state_when(turned_away) => return None,
                }
            }
            let mut stream = link.next().await.unwrap();
            assert_eq!(stream.read_u64().await.unwrap(), number);
            stream.write_u64(number).await.unwrap();
            stream.flush().await.unwrap();
            Some((net, stream))
        });
    }
    let (served, callers) = within(async { tokio::join!(served.join_all(), callers.join_all()) }).await;
    assert_eq!(served.len() as u64, LISTED);
    assert_eq!(callers.iter().flatten().count() as u64, LISTED);
}

/// A proxy whose connections freeze when the number changes: they stay, and move no byte any more. New ones work.
async fn proxy(to: SocketAddr, ice_age: watch::Receiver<u32>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut forwarding = JoinSet::new();
        while let Ok((from, _)) = listener.accept().await {
            let to = TcpStream::connect(to).await.unwrap();
            let (from_read, from_write) = from.into_split();
            let (to_read, to_write) = to.into_split();
            forwarding.spawn(forward(from_read, to_write, ice_age.clone()));
            forwarding.spawn(forward(to_read, from_write, ice_age.clone()));
        }
    });
    here
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut ice_age: watch::Receiver<u32>) {
    ice_age.mark_unchanged();
    tokio::select! {
        biased;
        _ = ice_age.changed() => std::future::pending().await,
        _ = tokio::io::copy(&mut from, &mut to) => {}
    }
}

fn socket(address: &str) -> SocketAddr {
    let parts: Vec<&str> = address.split('/').collect();
    format!("{}:{}", parts[2], parts[4]).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_peer_is_noticed_and_found_again() {
    let (low, high) = secrets(10);
    let impatient = config::Net { ping_seconds: 0.3, ..config() };
    for (dialler, listener) in [(&low, &high), (&high, &low)] {
        let b = within(Net::start(&impatient, listener, vec![peer(dialler.key(), &[])])).await.unwrap();
        let ice_age = watch::Sender::new(0);
        let between = proxy(socket(&address(&b)), ice_age.subscribe()).await;
        let through = format!("/ip4/{}/tcp/{}", between.ip(), between.port());
        let a = within(Net::start(&impatient, dialler, vec![peer(listener.key(), &[&through])])).await.unwrap();
        let (mut at_a, mut at_b) = (link(&a, listener), link(&b, dialler));
        // Often enough that frozen connections which do not go away would use up the two that a peer may have.
        for _ in 0..3 {
            let (mut from, mut to) = meet_at_last(&mut at_a, &mut at_b).await;
            ice_age.send_modify(|number| *number += 1);
            // Both sides notice, the one that reads and the one whose writes have filled the window.
            let full = vec![0; 64 << 20];
            let (wrote, read) = within(async { tokio::join!(from.write_all(&full), to.read_u8()) }).await;
            assert!(wrote.is_err() && read.is_err());
        }
        meet_at_last(&mut at_a, &mut at_b).await;
    }
}

/// As [`meet`], where streams of connections that die may come between: what does not answer is dropped.
async fn meet_at_last(a: &mut PeerLink, b: &mut PeerLink) -> (Stream, Stream) {
    let one = async |link: &mut PeerLink, met: &watch::Sender<u8>| {
        let mut done = met.subscribe();
        loop {
            let mut stream = link.next().await.unwrap();
            let greet = async |stream: &mut Stream| {
                stream.write_u8(1).await?;
                stream.flush().await?;
                stream.read_u8().await
            };
            tokio::select! {
                answer = greet(&mut stream) => if answer.is_ok() {
                    met.send_modify(|met| *met += 1);
                    done.wait_for(|met| *met >= 2).await.unwrap();
                    return stream;
                },
                () = link.superseded() => {}
            }
        }
    };
    let met = watch::Sender::new(0);
    within(async { tokio::join!(one(a, &met), one(b, &met)) }).await
}

#[tokio::test]
async fn a_quiet_connection_outlives_many_pings() {
    let (low, high) = secrets(11);
    let pings = config::Net { ping_seconds: 1.0, ..config() };
    let b = within(Net::start(&pings, &high, vec![peer(low.key(), &[])])).await.unwrap();
    let a = within(Net::start(&pings, &low, vec![peer(high.key(), &[&address(&b)])])).await.unwrap();
    let (mut at_a, mut at_b) = (link(&a, &high), link(&b, &low));
    let (mut from, mut to) = meet(&mut at_a, &mut at_b).await;
    // Here the passing of time is the condition: well over the 3 s of silence that close a connection.
    let quiet = tokio::time::timeout(Duration::from_secs(5), from.read_u8()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    within(exchange(&mut from, &mut to)).await;
}

#[tokio::test]
async fn on_request_only_the_addresses_of_peers_may_call() {
    let (low, high) = secrets(12);
    let strict = config::Net { only_peer_addresses: true, ..config() };
    let elsewhere = vec![peer(low.key(), &["/ip4/192.0.2.1/tcp/1"])];
    let b = within(Net::start(&strict, &high, elsewhere)).await.unwrap();
    let a = start(&low, vec![peer(high.key(), &[&address(&b)])]).await;
    let mut at_a = link(&a, &high);
    let state = within(at_a.state_when(|state| state.error.is_some())).await.unwrap();
    // Not "the connection was closed before its use": there was no handshake.
    assert!(!state.error.as_ref().unwrap().contains("peer list"), "{state:?}");
    assert!(at_a.next().now_or_never().is_none());

    // A name that means the caller's address.
    b.set_peers(vec![peer(low.key(), &["/dns4/localhost/tcp/1"])]).await.unwrap();
    meet(&mut at_a, &mut link(&b, &low)).await;
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let node = secret(6000);
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let running = start(&secret(6001), vec![]).await;
    let also_taken = address(&running).split("/p2p/").next().unwrap().to_owned();
    for (listen, says) in [
        (format!("/ip4/127.0.0.1/tcp/{port}"), "take another port"),
        (also_taken, "take another port"),
        ("/ip4/192.0.2.1/tcp/0".into(), "no such address"),
        ("/dns/localhost/tcp/0".into(), "host name"),
        ("127.0.0.1:4747".into(), "expected a form"),
    ] {
        let config = config::Net { listen: vec![listen.clone()], ..config() };
        let error = within(Net::start(&config, &node, vec![])).await.unwrap_err().to_string();
        assert!(error.contains(says) && error.contains(&listen), "{error}");
    }
    for (peers, says) in [
        (vec![peer(node.key(), &[])], "own"),
        (vec![peer(secret(1).key(), &[]), peer(secret(1).key(), &[])], "same key"),
        (vec![peer(secret(1).key(), &["/tcp/1"])], "/tcp/1"),
    ] {
        let error = within(Net::start(&config(), &node, peers)).await.unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[tokio::test]
async fn it_ends_when_asked_and_when_the_last_handle_is_gone() {
    let (low, high) = secrets(13);
    let net = start(&low, vec![peer(high.key(), &[])]).await;
    let mut waiting = link(&net, &high);
    let other = net.clone();
    drop(net);
    assert!(waiting.next().now_or_never().is_none());
    drop(other);
    assert!(within(waiting.next()).await.is_none());
    assert!(within(waiting.state_when(|_| true)).await.is_none());

    let net = start(&low, vec![peer(high.key(), &[])]).await;
    let bound = socket(&address(&net));
    within(async { tokio::join!(net.shutdown(), net.shutdown()) }).await;
    assert!(matches!(net.set_peers(vec![]).await, Err(NetError::Ended)));
    // The port is free.
    drop(TcpListener::bind(bound).await.unwrap());
}

#[cfg(feature = "quic")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quic_does_the_same() {
    let (low, high) = secrets(14);
    let quic = config::Net { listen: vec!["/ip4/127.0.0.1/udp/0/quic-v1".into()], ..config() };
    for (dialler, listener) in [(&low, &high), (&high, &low)] {
        let b = within(Net::start(&quic, listener, vec![peer(dialler.key(), &[])])).await.unwrap();
        let a = within(Net::start(&quic, dialler, vec![peer(listener.key(), &[&address(&b)])])).await.unwrap();
        let (mut at_a, mut at_b) = (link(&a, listener), link(&b, dialler));
        let (mut from, mut to) = meet(&mut at_a, &mut at_b).await;
        let sent = vec![42; 8 << 20];
        let send = async {
            from.write_all(&sent).await.unwrap();
            from.shutdown().await.unwrap();
        };
        let mut got = Vec::new();
        let (_, received) = within(async { tokio::join!(send, to.read_to_end(&mut got)) }).await;
        assert_eq!(received.unwrap(), sent.len());

        // Closing wakes the readers of both sides, and a new stream comes.
        drop((from, to));
        let (mut from, mut to) = meet(&mut at_a, &mut at_b).await;
        let here = tokio::spawn(async move { from.read_u8().await });
        let there = tokio::spawn(async move { to.read_u8().await });
        within(at_a.close()).await;
        assert!(within(here).await.unwrap().is_err());
        assert!(within(there).await.unwrap().is_err());
        meet(&mut at_a, &mut at_b).await;

        let stranger = secret(7000);
        let net = within(Net::start(&quic, &stranger, vec![peer(listener.key(), &[&address(&b)])])).await.unwrap();
        let mut state = link(&net, listener);
        within(state.state_when(turned_away)).await;
    }
}
