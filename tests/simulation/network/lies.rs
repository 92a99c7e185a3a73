//! What nodes that lie make of what they send.

use bytes::Bytes;
use intelmq_relay::envelope::{Draft, Envelope, Message, SeenKeys, seal};
use intelmq_relay::link::{Batch, Bodies, Frame, Outgoing, pack};
use rand::RngExt;
use serde_bytes::ByteBuf;
use uuid::Uuid;

use super::node::{BOUNDS, Manner, name};
use super::world::World;

impl World {
    /// What a liar makes of a frame: other ids offered, bodies changed, forged or replayed.
    pub(super) fn lie(&mut self, me: usize, frame: Frame) -> Frame {
        let forged: Vec<(u16, Bytes)> =
            bodies(&frame).into_iter().map(|(slot, body)| (slot, self.forge(me, body))).collect();
        let packed = pack(&forged);
        match frame {
            Frame::Batch(mut batch) => {
                let lies = self.nodes[me].manner == Manner::Liar;
                for offer in batch.offers.iter_mut().filter(|_| lies) {
                    if self.rng.random_bool(0.2) {
                        self.seen.fault("wrong ids offered");
                        offer.2 = Uuid::from_u128(self.rng.random());
                    }
                    if self.rng.random_bool(0.2) {
                        self.seen.fault("hidden fields denied");
                        offer.4 = 0;
                    }
                }
                Frame::Batch(Batch { whole: packed, ..batch })
            }
            Frame::Bodies(bodies) => Frame::Bodies(Bodies { packed, ..bodies }),
            other => other,
        }
    }

    fn forge(&mut self, me: usize, body: Bytes) -> Bytes {
        if body.is_empty() {
            return body;
        }
        if let Manner::Poisoner(victim) = self.nodes[me].manner {
            self.seen.fault("paths changed");
            return self.forge_path(me, &body, &[victim]);
        }
        match self.rng.random_range(0..7) {
            0 => {
                self.seen.fault("bits turned over");
                let mut changed = body.to_vec();
                let at = self.rng.random_range(0..changed.len());
                changed[at] ^= 1 << self.rng.random_range(0..8);
                changed.into()
            }
            1 => {
                self.seen.fault("paths changed");
                let others = [0; 3].map(|_| self.rng.random_range(0..self.graph.nodes));
                if others[0] % 2 == 0 { self.forge_path(me, &body, &others) } else { forge_start(&body, others[0]) }
            }
            2 => {
                self.seen.fault("bringers denied");
                let other = self.rng.random_range(0..self.graph.nodes);
                self.forge_end(me, &body, other)
            }
            3 if !self.replay.is_empty() => {
                self.seen.fault("replays");
                self.replay[self.rng.random_range(0..self.replay.len())].clone()
            }
            4 => {
                self.seen.fault("ids of others sealed");
                // Another's event under its id, sealed by us; of ours, a second one under the same id.
                let envelope = Envelope::decode(body, &BOUNDS).unwrap();
                let message = Message::read(br#"{"source.ip": "::1", "extra.secret": 0}"#).unwrap();
                let time = self.nodes[me].wall(self.now);
                let mut header = message.header(&envelope.header().origin, envelope.header().id, time);
                (header.tlp, header.to) = (envelope.header().tlp, envelope.header().to.clone());
                let draft = Draft::new(header, message.fields, &BOUNDS).unwrap();
                let sealed = seal(&self.nodes[me].secret, vec![draft], &mut self.rng).remove(0);
                sealed.with_hop(&self.nodes[me].name).bytes().clone()
            }
            _ => body,
        }
    }

    /// Names of others put into the path, between its true ends.
    fn forge_path(&self, me: usize, body: &[u8], others: &[usize]) -> Bytes {
        with_path(body, |path| {
            path.splice(1..1, others.iter().map(|&other| text(other)));
            if path.last() != Some(&text(me)) {
                path.push(text(me));
            }
        })
    }

    /// Another's name where the bringer's belongs.
    fn forge_end(&self, me: usize, body: &[u8], other: usize) -> Bytes {
        with_path(body, |path| {
            path.retain(|name| *name != text(me));
            path.push(text(other));
        })
    }

    /// One who offers without end says that its log is longer by so much.
    pub(super) fn invent(&mut self, node: usize, more: u64) {
        if self.nodes[node].manner == Manner::Flooder {
            self.nodes[node].sessions.values_mut().for_each(|session| session.invented += more);
            self.pump(node);
        }
    }

    /// An event that nobody has sealed, of somebody whom everybody knows.
    pub(super) fn invention(&mut self) -> Outgoing {
        self.seen.fault("events invented");
        let id = Uuid::from_u128(self.rng.random());
        let origin = &self.nodes[self.rng.random_range(0..self.graph.nodes)];
        Outgoing {
            at: 0,
            own: false,
            key: SeenKeys::of_offer(&origin.key, id, 0).insert,
            origin: origin.name.clone(),
            id,
            hidden: 0,
            bytes: Bytes::from_static(b"nothing"),
        }
    }
}

/// Another's name where the origin's belongs.
fn forge_start(body: &[u8], other: usize) -> Bytes {
    with_path(body, |path| path[0] = text(other))
}

fn text(node: usize) -> serde_cbor::Value {
    serde_cbor::Value::Text(name(node).as_str().to_owned())
}

fn with_path(body: &[u8], change: impl FnOnce(&mut Vec<serde_cbor::Value>)) -> Bytes {
    let serde_cbor::Value::Array(mut parts) = serde_cbor::from_slice(body).unwrap() else { unreachable!() };
    let Some(serde_cbor::Value::Array(path)) = parts.last_mut() else { unreachable!() };
    change(path);
    serde_cbor::to_vec(&parts).unwrap().into()
}

/// The envelopes in a frame, with their slots.
pub fn bodies(frame: &Frame) -> Vec<(u16, Bytes)> {
    let packed = match frame {
        Frame::Batch(batch) => &batch.whole,
        Frame::Bodies(bodies) => &bodies.packed,
        _ => return Vec::new(),
    };
    if packed.is_empty() {
        return Vec::new();
    }
    let plain = zstd::stream::decode_all(&packed[..]).unwrap();
    let bodies: Vec<(u16, ByteBuf)> = serde_cbor::from_slice(&plain).unwrap();
    bodies.into_iter().map(|(slot, body)| (slot, Bytes::from(body.into_vec()))).collect()
}
