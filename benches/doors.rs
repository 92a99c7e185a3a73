//! What the doors do with each event beside talking to the other side: from a queue's item to a sealed event, and from a
//! sealed event to a queue's item that fits IntelMQ's data format. `cargo bench --bench doors`.
//!
//! Where the machine is not quiet, count instructions instead:
//! `valgrind --tool=callgrind --toggle-collect='doors::ingest' <the built bench> --test ingest`. Valgrind knows no SHA
//! instructions, so hashes count some ten times too much there.

#![allow(clippy::unwrap_used)] // What fails here is to stop it.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use intelmq_relay::config;
use intelmq_relay::envelope::{Bounds, Draft, Kind, Message, Name, Sealed, Secret, Shape, Tlp, seal_among};
use intelmq_relay::harmonization::Format;
use intelmq_relay::policy::{Prepared, PseudonymKey, Sealing};
use intelmq_relay::sample::Events;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use uuid::Uuid;

/// Events of one take.
const EVENTS: usize = 512;
/// Events under one signature.
const BATCH: usize = 64;
const BOUNDS: Bounds = Bounds { bytes: 1 << 20, fields: 4096, path: 32 };

struct Door {
    name: Name,
    secret: Secret,
    sealing: Sealing,
    rng: ChaCha8Rng,
}

impl Door {
    fn new() -> Door {
        let (name, seed) = ("cert-a".parse().unwrap(), [7; 32]);
        let sealing = Sealing::new(&name, &config::Seal::default(), PseudonymKey::derive(&seed));
        Door { name, secret: Secret::from_seed(&seed), sealing, rng: ChaCha8Rng::seed_from_u64(1) }
    }
}

#[inline(never)]
fn read(texts: &[String]) -> Vec<Message> {
    let read = |text: &String| {
        let mut message = Message::read(text.as_bytes()).unwrap();
        message.flatten(&BOUNDS).unwrap();
        message
    };
    texts.iter().map(read).collect()
}

#[inline(never)]
fn draft(door: &Door, messages: Vec<Message>) -> Vec<Draft> {
    let draft = |(message, id): (Message, u128)| {
        let Prepared { message, .. } = door.sealing.prepare(message, Tlp::Green).unwrap();
        let header = message.header(&door.name, Uuid::from_u128(id), 1_800_000_000_000);
        Draft::new(header, message.fields, &BOUNDS).unwrap()
    };
    messages.into_iter().zip(1..).map(draft).collect()
}

#[inline(never)]
fn seal(door: &mut Door, mut drafts: Vec<Draft>) -> Vec<Sealed> {
    let mut sealed = Vec::with_capacity(drafts.len());
    while !drafts.is_empty() {
        let rest = drafts.split_off(drafts.len().min(BATCH));
        let batch = std::mem::replace(&mut drafts, rest);
        sealed.extend(seal_among(BATCH, &door.secret, batch, &mut door.rng));
    }
    sealed
}

#[inline(never)]
fn ingest(door: &mut Door, texts: &[String]) -> Vec<Sealed> {
    let drafts = draft(door, read(texts));
    seal(door, drafts)
}

#[inline(never)]
fn deliver(sealed: &[Sealed], shape: Shape) -> Vec<String> {
    let text = |envelope: &Sealed| {
        let fields = Format::builtin().fit(Kind::Event, envelope.open_fields()).unwrap();
        envelope.write_fitted(shape, fields.iter().map(|(key, value)| (&**key, &**value)))
    };
    sealed.iter().map(text).collect()
}

fn doors(criterion: &mut Criterion) {
    let texts: Vec<String> = Events::new(1).labelled(Tlp::Green).take(EVENTS).collect();
    let mut door = Door::new();
    let sealed = ingest(&mut door, &texts);
    assert_eq!(deliver(&sealed, Shape::Typed).len(), EVENTS);

    let mut group = criterion.benchmark_group("doors");
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("read", |b| b.iter(|| black_box(read(&texts))));
    group.bench_function("ingest", |b| b.iter(|| black_box(ingest(&mut door, &texts))));
    for (name, shape) in [("deliver, typed", Shape::Typed), ("deliver, with meta data", Shape::Extra)] {
        group.bench_function(name, |b| b.iter(|| black_box(deliver(&sealed, shape))));
    }
    group.finish();
}

criterion_group!(benches, doors);
criterion_main!(benches);
