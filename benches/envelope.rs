//! What sealing, opening, hiding, writing, reading and signing hops cost per event, beside a signature for each event:
//! `cargo bench --bench envelope`. First a table by the size of the batch, sealing and signing by turns; then Criterion's
//! measurements of the parts (`-- FILTER` chooses among these).

#![allow(clippy::unwrap_used)] // What fails here is to stop it.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group};
use ed25519_dalek::{Signer, SigningKey};
use intelmq_relay::envelope::{
    AMONG, Bounds, Draft, EncryptionSecret, Envelope, Message, Name, Recipient, Sealed, Secret, Shape, Verifier,
    attest, encrypt, seal,
};
use intelmq_relay::sample::Events;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use uuid::Uuid;

/// As the program has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Events under one signature, as the doors do it.
const BATCH: usize = 64;
const BOUNDS: Bounds = Bounds { bytes: 1 << 20, fields: 4096, path: 32 };

/// Events of the table, and how often each is measured.
const EVENTS: usize = 1024;
const ROUNDS: usize = 31;

fn drafts(texts: &[String]) -> Vec<Draft> {
    let name = "cert-a".parse().unwrap();
    let draft = |(text, id): (&String, u128)| {
        let message = Message::read(text.as_bytes()).unwrap();
        let header = message.header(&name, Uuid::from_u128(id), 1_800_000_000_000);
        Draft::new(header, message.fields, &BOUNDS).unwrap()
    };
    texts.iter().zip(1..).map(draft).collect()
}

fn per_event(criterion: &mut Criterion) {
    let texts: Vec<String> = Events::new(1).take(BATCH).collect();
    let secret = Secret::from_seed(&[7; 32]);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let sealed: Vec<Sealed> = seal(&secret, drafts(&texts), &mut rng);
    let decode = |sealed: &Sealed| Envelope::decode(sealed.bytes().clone(), &BOUNDS).unwrap();

    let mut group = criterion.benchmark_group("envelope");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("make a sample event", |b| {
        let mut events = Events::new(1);
        b.iter(|| (0..BATCH).for_each(|_| drop(black_box(events.next()))));
    });
    group.bench_function("read a message", |b| {
        b.iter(|| texts.iter().for_each(|text| drop(black_box(Message::read(text.as_bytes())))));
    });
    group.bench_function("seal, in batches of 64", |b| {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        b.iter_batched(|| drafts(&texts), |drafts| seal(&secret, drafts, &mut rng), BatchSize::SmallInput);
    });
    group.bench_function("decode", |b| {
        b.iter(|| sealed.iter().for_each(|sealed| drop(black_box(decode(sealed)))));
    });
    group.bench_function("decode and open, in batches of 64", |b| {
        // A new verifier each time: the batch's signature is verified once.
        b.iter(|| {
            let verifier = Verifier::new(1024);
            sealed.iter().for_each(|sealed| drop(black_box(verifier.open(decode(sealed)).unwrap())));
        });
    });
    group.bench_function("hide a field", |b| {
        b.iter(|| sealed.iter().for_each(|sealed| drop(black_box(sealed.hide(|key| key == "source.ip")))));
    });
    for (name, shape) in [("write as IEP04", Shape::Iep04), ("write for the pipeline", Shape::Typed)] {
        group.bench_function(name, |b| {
            b.iter(|| sealed.iter().for_each(|sealed| drop(black_box(sealed.write(shape)))));
        });
    }
    group.finish();
}

/// What a node adds that takes events: its name, or its signed word. By batches: of one, and as full as a link's.
fn per_hop(criterion: &mut Criterion) {
    let texts: Vec<String> = Events::new(1).take(AMONG).collect();
    let secret = Secret::from_seed(&[7; 32]);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let sealed: Vec<Sealed> = seal(&secret, drafts(&texts), &mut rng);
    let me = "cert-b".parse().unwrap();
    let mut attested = sealed.clone();
    attest(&secret, &me, 1, &BOUNDS, &mut attested.iter_mut().collect::<Vec<_>>(), &mut rng);

    let mut group = criterion.benchmark_group("hop");
    for count in [1, AMONG] {
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("a name, {count}"), |b| {
            b.iter(|| sealed[..count].iter().for_each(|sealed| drop(black_box(sealed.with_hop(&me)))));
        });
        group.bench_function(format!("a signed word, {count}"), |b| {
            let fresh = || sealed[..count].to_vec();
            b.iter_batched_ref(
                fresh,
                |batch| attest(&secret, &me, 1, &BOUNDS, &mut batch.iter_mut().collect::<Vec<_>>(), &mut rng),
                BatchSize::SmallInput,
            );
        });
    }
    group.throughput(Throughput::Elements(1));
    for (name, envelope) in [("a name", &sealed[0].with_hop(&me)), ("a signed word", &attested[0])] {
        group.bench_function(format!("decode {name}"), |b| {
            b.iter(|| Envelope::decode(envelope.bytes().clone(), &BOUNDS).unwrap());
        });
    }
    group.bench_function("verify a signed word", |b| b.iter(|| black_box(attested[0].hops())));
    group.finish();
}

/// What it costs to encrypt to recipients, and to open as one of them.
fn encrypted(criterion: &mut Criterion) {
    let text = Events::new(1).next().unwrap();
    let secret = Secret::from_seed(&[7; 32]);
    let message = Message::read(text.as_bytes()).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut group = criterion.benchmark_group("encrypted");
    group.throughput(Throughput::Elements(1));
    for count in [1_u8, 3] {
        let names: Vec<Name> = (0..count).map(|n| format!("cert-{n}").parse().unwrap()).collect();
        let keys: Vec<_> = (0..count).map(|n| Some(EncryptionSecret::derive(&[n; 32]).key())).collect();
        let mut header = message.header(&"cert-x".parse().unwrap(), Uuid::nil(), 1_800_000_000_000);
        (header.to, header.key) = (names, secret.key());
        group.bench_function(format!("encrypt to {count}"), |b| {
            b.iter(|| black_box(encrypt(header.clone(), &message.fields, &keys, &BOUNDS, &mut rng).unwrap()));
        });
        let (header, fields) = encrypt(header, &message.fields, &keys, &BOUNDS, &mut rng).unwrap();
        let sealed = seal(&secret, vec![Draft::new(header, fields, &BOUNDS).unwrap()], &mut rng).remove(0);
        let last = count - 1;
        let recipient =
            Recipient::new(format!("cert-{last}").parse().unwrap(), EncryptionSecret::derive(&[last; 32]), vec![]);
        group.bench_function(format!("open, of {count}"), |b| {
            b.iter(|| black_box(recipient.open(&sealed, &BOUNDS).unwrap().into_owned()));
        });
        eprintln!("{} bytes of text are {} bytes, encrypted to {count}", text.len(), sealed.bytes().len());
    }
    group.finish();
}

/// What a signature for every event would cost, beside everything above.
fn one_signature_each(criterion: &mut Criterion) {
    let texts: Vec<String> = Events::new(1).take(BATCH).collect();
    let key = SigningKey::from_bytes(&[7; 32]);
    let signatures: Vec<_> = texts.iter().map(|text| key.sign(text.as_bytes())).collect();
    let public = key.verifying_key();

    let mut group = criterion.benchmark_group("for comparison");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("sign each event", |b| {
        b.iter(|| {
            for text in &texts {
                black_box(key.sign(text.as_bytes()));
            }
        });
    });
    group.bench_function("verify each event", |b| {
        b.iter(|| {
            for (text, signature) in texts.iter().zip(&signatures) {
                public.verify_strict(black_box(text.as_bytes()), signature).unwrap();
            }
        });
    });
    group.finish();
}

/// Microseconds per event, by the size of the batch, and how much more a signature of each event takes. All of it by
/// turns, so that whatever else the machine does meets all alike; medians.
fn by_batch() {
    let texts: Vec<String> = Events::new(1).take(EVENTS).collect();
    let bytes = texts.iter().map(String::len).sum::<usize>() / EVENTS;
    let fields: usize = texts.iter().map(|text| Message::read(text.as_bytes()).unwrap().fields.len()).sum();
    println!(
        "{EVENTS} events of {bytes} bytes and {} fields in the mean; µs per event, medians of {ROUNDS}",
        fields / EVENTS
    );
    println!("beside a signature (or verify_strict) of the text of each:");
    println!(
        "{:>6}{:>9}{:>9}{:>8}{:>10}{:>9}{:>8}{:>10}{:>9}{:>8}",
        "batch", "seal", "sign", "ratio", "open", "verify", "ratio", "hide", "sign", "ratio"
    );
    let key = SigningKey::from_bytes(&[7; 32]);
    let public = key.verifying_key();
    let signatures: Vec<_> = texts.iter().map(|text| key.sign(text.as_bytes())).collect();
    let sign = || {
        for text in &texts {
            black_box(key.sign(black_box(text.as_bytes())));
        }
    };
    let verify = || {
        let all = texts.iter().zip(&signatures);
        all.for_each(|(text, signature)| public.verify_strict(black_box(text.as_bytes()), signature).unwrap());
    };
    for batch in [1, 64, 256, 1024] {
        let secret = Secret::from_seed(&[7; 32]);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut seal = |drafts| seal(&secret, drafts, &mut rng);
        let batches: Vec<Vec<Sealed>> = texts.chunks(batch).map(|texts| seal(drafts(texts))).collect();
        // What comes by a link is bytes, and the batch's root is new.
        let open = || {
            for batch in &batches {
                let verifier = Verifier::new(16);
                for sealed in batch {
                    let envelope = Envelope::decode(black_box(sealed.bytes().clone()), &BOUNDS).unwrap();
                    black_box(verifier.open(envelope).unwrap());
                }
            }
        };
        let hide =
            || batches.iter().flatten().for_each(|sealed| drop(black_box(sealed.hide(|key| key == "source.ip"))));
        let mut times = [(); 5].map(|()| Vec::with_capacity(ROUNDS));
        for _ in 0..ROUNDS {
            let drafts: Vec<_> = texts.chunks(batch).map(drafts).collect();
            times[0].push(time(|| drafts.into_iter().for_each(|drafts| drop(black_box(seal(drafts))))));
            times[1].push(time(sign));
            times[2].push(time(open));
            times[3].push(time(verify));
            times[4].push(time(hide));
        }
        let [seal, sign, open, verify, hide] = times.map(median);
        println!(
            "{batch:>6}{seal:>9.2}{sign:>9.2}{:>8.1}{open:>10.2}{verify:>9.2}{:>8.1}{hide:>10.2}{sign:>9.2}{:>8.1}",
            sign / seal,
            verify / open,
            sign / hide
        );
    }
}

fn time(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

/// Of one event, in µs.
fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e6 / EVENTS as f64
}

criterion_group!(benches, per_event, per_hop, encrypted, one_signature_each);

fn main() {
    by_batch();
    benches();
    Criterion::default().configure_from_args().final_summary();
}
