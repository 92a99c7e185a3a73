//! What a peer's rules cost per event: `cargo bench --bench policy`. 50 rules, of which the last one decides, beside the
//! word `community`, which asks none, and the decoding of the envelope, which comes before.

#![allow(clippy::unwrap_used)] // What fails here is to stop it.

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use intelmq_relay::config::Config;
use intelmq_relay::envelope::{Bounds, Draft, Envelope, Message, Name, Sealed, Secret, seal};
use intelmq_relay::policy::{Decision, Policy, Terms};
use intelmq_relay::sample::Events;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use uuid::Uuid;

/// As the program has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EVENTS: usize = 64;

fn events() -> Vec<Sealed> {
    let name = "us".parse().unwrap();
    let draft = |(text, id): (String, u128)| {
        let message = Message::read(text.as_bytes()).unwrap();
        let header = message.header(&name, Uuid::from_u128(id), 1_800_000_000_000);
        Draft::new(header, message.fields, &Bounds::default()).unwrap()
    };
    let drafts = Events::new(1).take(EVENTS).zip(1..).map(draft).collect();
    seal(&Secret::from_seed(&[7; 32]), drafts, &mut ChaCha8Rng::seed_from_u64(1))
}

/// As they are in a real peer list: networks of a constituency, domains, types, tags, ranges; none of them matches.
fn configuration(rules: usize) -> Config {
    let mut text = "[node]\nname = \"us\"\n\
         [[peer]]\nname = \"it\"\nkey = \"12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5\"\ngive = [\"r\"]\n\
         community = true\n"
        .to_owned();
    for n in 1..rules {
        let condition = match n % 7 {
            0 => format!("fields = {{ \"source.ip\" = {{ cidr = [\"10.{n}.0.0/16\", \"172.{n}.0.0/16\"] }} }}"),
            1 => format!("fields = {{ \"source.fqdn\" = {{ suffix = [\"n{n}.invalid\", \"m{n}.invalid\"] }} }}"),
            2 => format!("fields = {{ \"classification.type\" = [\"t{n}\", \"u{n}\", \"v{n}\"] }}"),
            3 => format!("fields = {{ \"source.asn\" = {{ range = [{n}, {n}] }} }}"),
            4 => format!("tags = [\"tag-{n}\"]"),
            5 => format!("fields = {{ \"feed.name\" = {{ prefix = \"feed {n}\" }} }}"),
            _ => format!("fields = {{ \"malware.name\" = \"m{n}\", \"source.port\" = {n} }}"),
        };
        writeln!(text, "[[rules.r]]\ndo = \"allow\"\n{condition}").unwrap();
    }
    text.push_str("[[rules.r]]\ndo = \"allow\"\n");
    Config::parse(&text, Path::new("/")).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn per_event(criterion: &mut Criterion) {
    let events = events();
    let peer: Name = "it".parse().unwrap();
    let mut group = criterion.benchmark_group("policy");
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("decode", |b| {
        b.iter(|| {
            for event in &events {
                black_box(Envelope::decode(event.bytes().clone(), &Bounds::default()).unwrap());
            }
        });
    });
    for rules in [1, 10, 50, 200] {
        let config = configuration(rules);
        let (policy, terms) = (Policy::new(&config), Terms::new(&config.peers[0], &config.rules));
        group.bench_function(format!("{rules} rules"), |b| {
            b.iter(|| {
                for event in &events {
                    let decision = policy.shares(event, None, &peer, &terms);
                    assert!(matches!(black_box(decision), Decision::Give(_)));
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, per_event);
criterion_main!(benches);
