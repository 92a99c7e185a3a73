//! A peer of a relay, by hand: a link on which a test says what it likes, and envelopes sealed as it likes.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use intelmq_relay::config;
use intelmq_relay::envelope::{Bounds, Draft, Header, Message, Sealed, Secret, Tlp, seal};
use intelmq_relay::link::{Answer, Batch, Done, Frame, From, Hello, Mode, Offer, Verdict, Want, decode_length, pack};
use intelmq_relay::net::{Net, Peer, PeerLink, Stream, now};
use serde_bytes::ByteBuf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use uuid::Uuid;

use super::relay::Relay;

const FRAME: usize = 4 << 20;

pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(50), future).await.expect("it took too long")
}

/// A peer of a relay, by hand.
pub struct Hand {
    pub name: &'static str,
    pub secret: Secret,
    net: Option<(Net, PeerLink)>,
    stream: Option<Stream>,
    buffer: BytesMut,
    no: u64,
}

impl Hand {
    /// A peer of this name, which `relay` has in its list, and gives what a community has.
    pub fn listed_by(relay: &Relay, name: &'static str) -> Hand {
        let key = secret(name).key().to_string();
        relay.expect(0, &["peer", "add", name, &key, "--give", "community"]);
        Hand::known(name)
    }

    /// A peer of this name, whom the relay knows already.
    pub fn known(name: &'static str) -> Hand {
        let secret = secret(name);
        Hand { name, secret, net: None, stream: None, buffer: BytesMut::new(), no: 0 }
    }

    /// Dials the relay, and says hello in the right order.
    pub async fn link(&mut self, relay: &Relay) {
        self.link_from(relay, From::Now).await;
        assert!(matches!(self.receive().await, Some(Frame::Pull(_))));
    }

    /// The same, to begin there in the relay's log. The relay's own `Pull` is the first frame that comes.
    pub async fn link_from(&mut self, relay: &Relay, from: From) {
        if self.net.is_none() {
            let peer = Peer {
                name: relay.name.parse().unwrap(),
                key: relay.key.parse().unwrap(),
                addresses: vec![relay.address.clone()],
            };
            let config =
                config::Net { dial_min_seconds: 0.05, dial_max_seconds: 0.2, listen: vec![], ..Default::default() };
            let net = Net::start(&config, &self.secret, vec![peer]).await.unwrap();
            let link = net.link(&relay.key.parse().unwrap()).unwrap();
            self.net = Some((net, link));
        }
        drop(self.stream.take());
        self.buffer.clear();
        self.no = 0;
        // A stream that the relay opened before it knew that the last one had ended may be there first.
        while !within(self.hello(relay)).await {}
        self.send(Frame::Pull(from)).await;
    }

    async fn hello(&mut self, relay: &Relay) -> bool {
        self.buffer.clear();
        self.stream = self.net.as_mut().unwrap().1.next().await;
        let hello = Hello {
            node: self.name.parse().unwrap(),
            software: "by hand".into(),
            log: Uuid::from_u128(1),
            envelope_bytes: 1 << 20,
            frame_bytes: FRAME as u64,
            test: false,
        };
        if self.secret.key() < relay.key.parse().unwrap() {
            self.send(Frame::Hello(hello)).await;
            matches!(self.receive().await, Some(Frame::HelloAck(_)))
        } else {
            let said = matches!(self.receive().await, Some(Frame::Hello(_)));
            self.send(Frame::HelloAck(hello)).await;
            said
        }
    }

    pub async fn send(&mut self, frame: Frame) {
        self.write(&frame.encode()).await;
    }

    /// Where the relay has hung up, the next read says so.
    pub async fn write(&mut self, bytes: &[u8]) {
        let stream = self.stream.as_mut().unwrap();
        let _ = stream.write_all(bytes).await;
        let _ = stream.flush().await;
    }

    /// The next frame; none when the relay has hung up.
    pub async fn receive(&mut self) -> Option<Frame> {
        within(async {
            loop {
                if let Some(length) = decode_length(&mut self.buffer, FRAME).unwrap() {
                    let frame = Frame::decode(&self.buffer[..length]).unwrap();
                    self.buffer.advance(length);
                    return Some(frame);
                }
                if self.stream.as_mut().unwrap().read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                    return None;
                }
            }
        })
        .await
    }

    /// The next batch; what says nothing of events is passed over.
    pub async fn next_batch(&mut self) -> Batch {
        loop {
            match self.receive().await.expect("the relay keeps the link") {
                Frame::Batch(batch) => return batch,
                Frame::Beat(_) | Frame::Pull(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Sends a batch, and returns the verdicts; with what the relay answered to the offers.
    pub async fn batch(&mut self, offers: Vec<Offer>, whole: &[Bytes]) -> (Vec<(u16, Answer)>, Vec<Verdict>) {
        self.try_batch(offers, whole).await.expect("the relay keeps the link")
    }

    /// The same; none when the relay hangs up instead.
    pub async fn try_batch(
        &mut self,
        offers: Vec<Offer>,
        whole: &[Bytes],
    ) -> Option<(Vec<(u16, Answer)>, Vec<Verdict>)> {
        self.no += 1;
        let slots = (offers.len() as u16)..;
        let whole: Vec<(u16, Bytes)> = slots.zip(whole.iter().cloned()).collect();
        let whole = pack(&whole);
        self.send(Frame::Batch(Batch { no: self.no, offers, whole, token: ByteBuf::from([7; 64]) })).await;
        let mut answers = Vec::new();
        loop {
            match self.receive().await? {
                Frame::Want(Want { answers: more, .. }) => answers.extend(more),
                Frame::Done(done) => {
                    assert_eq!(done.no, self.no);
                    return Some((answers, done.verdicts));
                }
                Frame::Beat(_) | Frame::Have(_) | Frame::Roster(_) | Frame::Notices(_) => {}
                Frame::Batch(batch) => {
                    let count = batch.offers.len() + usize::from(!batch.whole.is_empty());
                    let verdicts = vec![Verdict::Accepted; count];
                    self.send(Frame::Done(Done { no: batch.no, verdicts, mode: Mode::Offer })).await;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    pub async fn give(&mut self, whole: &[Bytes]) -> Vec<Verdict> {
        self.batch(Vec::new(), whole).await.1
    }

    /// Waits until the relay hangs up.
    pub async fn hung_up(&mut self) {
        within(async { while self.receive().await.is_some() {} }).await;
    }
}

/// How many events a batch shows of which at most one goes whole: on a busy machine none does, for it is fresh no more.
pub fn shown(batch: &Batch) -> usize {
    batch.offers.len() + usize::from(!batch.whole.is_empty())
}

pub fn secret(name: &str) -> Secret {
    let mut seed = [5; 32];
    seed[..name.len()].copy_from_slice(name.as_bytes());
    Secret::from_seed(&seed)
}

/// An event sealed by `secret`, as `change` has the header; `way` are the nodes after the origin.
pub fn sealed(secret: &Secret, origin: &str, number: usize, change: impl FnOnce(&mut Header)) -> Sealed {
    let text = format!(
        "{{\"source.ip\": \"192.0.2.7\", \"extra.number\": {number}, \"extra.hush\": \"s3cret\", \"raw\": \"QUJD\"}}"
    );
    sealed_text(secret, origin, &text, change)
}

pub fn sealed_text(secret: &Secret, origin: &str, text: &str, change: impl FnOnce(&mut Header)) -> Sealed {
    let message = Message::read(text.as_bytes()).unwrap();
    sealed_fields(secret, origin, message.fields, change)
}

/// Seals fields that nobody has looked at.
pub fn sealed_fields(
    secret: &Secret,
    origin: &str,
    fields: Vec<(String, String)>,
    change: impl FnOnce(&mut Header),
) -> Sealed {
    let message = Message::read(b"{}").unwrap();
    let mut header = message.header(&origin.parse().unwrap(), Uuid::new_v4(), now());
    header.tlp = Some(Tlp::Green);
    change(&mut header);
    let bounds = Bounds { bytes: 64 << 20, fields: 4096, path: 32 };
    let draft = Draft::new(header, fields, &bounds).unwrap();
    seal(secret, vec![draft], &mut rand::rng()).remove(0)
}

pub fn by(sealed: &Sealed, way: &[&str]) -> Bytes {
    way.iter().fold(sealed.clone(), |sealed, node| sealed.with_hop(&node.parse().unwrap())).bytes().clone()
}
