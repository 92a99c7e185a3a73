//! Every decoder of what comes from outside, as a function of bytes with what must hold whatever they are: it does not
//! panic, it keeps to a bound of memory and time that the input's length sets, and its own properties (in `decoders.rs`).
//!
//! Used twice: by `tests/fuzz.rs`, on the stable toolchain, and by the libFuzzer targets of `tests/fuzz/Cargo.toml`.

use std::fmt::Display;
use std::time::Duration;

use peak_alloc::PeakAlloc;
use rustix::time::{ClockId, clock_gettime};

use super::{decoders, seeds};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// A decoder.
pub struct Target {
    pub name: &'static str,
    /// Decodes, and says in a few words what became of it: inputs that end in new words are worth keeping.
    decode: fn(&[u8]) -> String,
    /// What it is known to read or to refuse: where mutation begins.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Bytes that it may hold at once beside its input: so many (`serde` makes room for a list by what it says of its length,
    /// up to 1 MiB; lists in lists have several of these),
    room: usize,
    /// and so many for each byte of it.
    per_byte: usize,
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

pub const TARGETS: &[Target] = &[
    target("envelope", decoders::envelope, seeds::envelopes, 4 * MIB, 64),
    target("header", decoders::header, seeds::headers, 4 * MIB, 64),
    target("decrypted", decoders::decrypted, seeds::decrypted, 4 * MIB, 64),
    target("frame", decoders::frame, seeds::frames, 2 * MIB, 64),
    target("bodies", decoders::bodies, seeds::bodies, 2 * MIB, 8),
    target("link", decoders::link, seeds::links, 4 * MIB, 8),
    target("event", decoders::event, seeds::events, 256 * KIB, 64),
    target("harmonization", decoders::harmonization, seeds::harmonizations, 128 * MIB, 64),
    target("roster", decoders::roster, seeds::rosters, 4 * MIB, 32),
    target("notice", decoders::notice, seeds::notices, 64 * KIB, 8),
    target("config", decoders::config, seeds::configs, MIB, 1024),
    target("tcp", decoders::tcp, seeds::tcp, 64 * KIB, 256),
    target("invitation", decoders::invitation, seeds::invitations, 2 * MIB, 8),
    target("join", decoders::join, seeds::joins, 2 * MIB, 8),
    target("question", decoders::question, seeds::questions, 64 * KIB, 32),
    target("key-file", decoders::key_file, seeds::key_files, 64 * KIB, 8),
    target("runtime", decoders::runtime, seeds::runtimes, 4 * MIB, 256),
    target("token", decoders::token, seeds::tokens, 16 * KIB, 4),
    target("log-chunk", decoders::log_chunk, seeds::log_chunks, 40 * MIB, 64),
    target("journal-chunk", decoders::journal_chunk, seeds::journal_chunks, 64 * KIB, 64),
];

const fn target(
    name: &'static str,
    decode: fn(&[u8]) -> String,
    seeds: fn() -> Vec<Vec<u8>>,
    room: usize,
    per_byte: usize,
) -> Target {
    Target { name, decode, seeds, room, per_byte }
}

/// What one input cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    pub bytes: usize,
    pub time: Duration,
}

impl Target {
    pub fn of_name(name: &str) -> &'static Target {
        TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("there is no target {name}"))
    }

    /// Decodes what is there from the beginning, so that what is made once is not counted as an input's.
    pub fn warm_up(&self) {
        for seed in (self.seeds)() {
            (self.decode)(&seed);
        }
    }

    /// Decodes within the bounds. Only one may be at work in a process: memory is counted for all threads.
    pub fn decode(&self, input: &[u8]) -> (String, Cost) {
        MEMORY.reset_peak_usage();
        let (held, begun) = (MEMORY.current_usage(), processor_time());
        let outcome = (self.decode)(input);
        let cost =
            Cost { bytes: MEMORY.peak_usage().saturating_sub(held), time: processor_time().saturating_sub(begun) };
        let most = self.room + self.per_byte * input.len();
        assert!(
            cost.bytes <= most,
            "{} bytes are held for an input of {}, at most {most} may be",
            cost.bytes,
            input.len()
        );
        // Far more than anything takes, even unoptimised: what takes longer is not slow but hangs.
        let most = Duration::from_millis(1000) + Duration::from_micros(20) * input.len() as u32;
        assert!(cost.time <= most, "{:?} for an input of {} bytes", cost.time, input.len());
        (outcome, cost)
    }
}

/// Of this thread; not what others of the machine take.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The first words of a reason, without numbers and what it quotes.
pub fn words(reason: impl Display) -> String {
    let text = reason.to_string();
    let text = text.split(['"', '`', '\'']).step_by(2).collect::<String>();
    let text: String = text.chars().filter(|c| c.is_ascii_alphabetic() || *c == ' ').collect();
    text.split(' ').take(6).collect::<Vec<_>>().join(" ")
}
