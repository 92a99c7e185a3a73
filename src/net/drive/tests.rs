//! A link that is driven over a stream, the other side by hand.

use std::collections::HashMap;
use std::sync::Mutex;

use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

use super::*;
use crate::accept::{Bringer, Own, Rules};
use crate::config;
use crate::envelope::{Bounds, Draft, Message, Name, Secret, Tlp, seal};
use crate::link::{Allowance, Hello};
use crate::net::Traffic;
use crate::policy::Policy;
use crate::store::Store;

const DAY: u64 = 24 * 3600 * 1000;

async fn exchange(data: &std::path::Path, secret: &Secret) -> Exchange {
    let me: Name = "me".parse().unwrap();
    let policy = Policy { me: me.clone(), default_tlp: Tlp::Amber, hops: 16 };
    let (origins, terms, bounds) = (Arc::default(), HashMap::new(), Bounds::default());
    let rules = Rules { me, key: secret.key(), origins, policy, terms, bounds, age: DAY, future: DAY };
    let store = Store::open(data, &config::Store::default()).await.unwrap();
    Exchange {
        gate: Gate::new(store, rules),
        settings: Settings { beat: 50, ..Settings::default() },
        token_key: TokenKey::derive(secret.expose_seed()),
        claims: Claims::default(),
        started: Instant::now(),
        progress: watch::Sender::new(()),
    }
}

/// An event of the node's own gets into its log.
async fn own_event(exchange: &Exchange, secret: &Secret, number: u128) {
    let message = Message::read(b"{\"source.ip\": \"192.0.2.1\"}").unwrap();
    let header = message.header(&exchange.gate.rules().me, Uuid::from_u128(number), now());
    let draft = Draft::new(header, message.fields, &Bounds::default()).unwrap();
    let sealed = seal(secret, vec![draft], &mut ChaCha20Rng::seed_from_u64(1));
    exchange.gate.own(Own { sealed, ..Own::default() }, now()).await.unwrap();
}

fn partner(theirs: &Secret) -> Partner {
    Partner {
        bringer: Bringer { name: "it".parse().unwrap(), key: theirs.key() },
        id: 1,
        terms: watch::Sender::default(),
        allowance: Arc::new(Allowance::default()),
        first_contact: From::All,
        resend: watch::Sender::new(None),
        traffic: Mutex::new(Traffic::default()),
    }
}

fn hello() -> Hello {
    Hello {
        node: "it".parse().unwrap(),
        software: "a test".into(),
        log: Uuid::from_u128(2),
        envelope_bytes: 1 << 16,
        frame_bytes: 1 << 20,
        test: false,
    }
}

async fn receive(stream: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut) -> Frame {
    loop {
        if let Some(length) = decode_length(buffer, 1 << 20).unwrap() {
            let frame = Frame::decode(&buffer[..length]).unwrap();
            buffer.advance(length);
            return frame;
        }
        assert!(stream.read_buf(buffer).await.unwrap() > 0, "the link ended");
    }
}

/// The simulation of long outages found it: the link read and read, and its peer was never told where the log ends.
#[tokio::test]
async fn a_peer_that_comes_back_when_everything_has_expired_is_told_where_the_log_ends() {
    let (data, secret, theirs) =
        (tempfile::tempdir().unwrap(), Secret::from_seed(&[1; 32]), Secret::from_seed(&[2; 32]));
    let exchange = exchange(data.path(), &secret).await;
    own_event(&exchange, &secret, 1).await;
    let store = exchange.gate.store();
    assert_eq!(store.expire(now() + 30 * DAY).await.unwrap().entries, 1);

    let partner = partner(&theirs);
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let tokens = exchange.token_key.of_peer(theirs.key(), []);
    let before = tokens.seal(store.log_id(), 0, &mut rng);
    let (ours, mut stream) = tokio::io::duplex(1 << 20);
    let peer = async {
        let mut buffer = BytesMut::new();
        assert!(matches!(receive(&mut stream, &mut buffer).await, Frame::Hello(_)));
        for frame in [Frame::HelloAck(hello()), Frame::Pull(From::Token(before.into()))] {
            stream.write_all(&frame.encode()).await.unwrap();
        }
        loop {
            if let Frame::Beat(beat) = receive(&mut stream, &mut buffer).await {
                return tokens.open(&beat.token);
            }
        }
    };
    let told = tokio::select! {
        end = exchange.run(ours, true, &partner) => panic!("{end}"),
        told = tokio::time::timeout(Duration::from_secs(20), peer) => told.expect("it is told in time"),
    };
    assert_eq!(told, Some((store.log_id(), 1)));
}

/// A node that stops, and whoever asks for its status, must not take an event for given that the link has not seen.
#[tokio::test]
async fn what_was_committed_since_the_link_last_woke_is_behind() {
    let (data, secret, theirs) =
        (tempfile::tempdir().unwrap(), Secret::from_seed(&[1; 32]), Secret::from_seed(&[2; 32]));
    let exchange = exchange(data.path(), &secret).await;
    let partner = partner(&theirs);
    let behind = || {
        let traffic = partner.traffic().clone().at(exchange.gate.store().head());
        traffic.linked.then_some(traffic.behind)
    };
    own_event(&exchange, &secret, 1).await;
    let (ours, mut stream) = tokio::io::duplex(1 << 20);
    let mut link = std::pin::pin!(exchange.run(ours, true, &partner));
    let mut buffer = BytesMut::new();
    let greeted = async {
        assert!(matches!(receive(&mut stream, &mut buffer).await, Frame::Hello(_)));
        stream.write_all(&Frame::HelloAck(hello()).encode()).await.unwrap();
        assert!(matches!(receive(&mut stream, &mut buffer).await, Frame::Pull(_)));
    };
    tokio::select! {
        end = &mut link => panic!("{end}"),
        () = greeted => {}
    }
    assert_eq!(behind(), Some(1), "it has not said where it begins");
    let told = async {
        stream.write_all(&Frame::Pull(From::Now).encode()).await.unwrap();
        while !matches!(receive(&mut stream, &mut buffer).await, Frame::Beat(_)) {}
    };
    tokio::select! {
        end = &mut link => panic!("{end}"),
        () = told => {}
    }
    assert_eq!(behind(), Some(0));

    // The link does not run meanwhile.
    own_event(&exchange, &secret, 2).await;
    assert_eq!(behind(), Some(1));
    let looked = async {
        while behind() != Some(0) {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        end = &mut link => panic!("{end}"),
        looked = tokio::time::timeout(Duration::from_secs(20), looked) => looked.expect("it wakes"),
    }
    // It may have nothing.
    assert_eq!(partner.traffic().withheld.values().sum::<u64>(), 1);
    assert_eq!(Traffic { linked: false, ..partner.traffic().clone() }.at(7).behind, 0, "as of the last link");
}
