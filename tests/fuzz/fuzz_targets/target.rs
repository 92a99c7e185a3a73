//! A target for libFuzzer: the one that the binary is named after.

#![no_main]
#![allow(clippy::unwrap_used)] // A panic is a finding.

#[path = "../decoders.rs"]
mod decoders;
#[path = "../seeds.rs"]
#[allow(dead_code)]
mod seeds;
#[path = "../targets.rs"]
#[allow(dead_code)]
mod targets;

use std::sync::LazyLock;

use targets::Target;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let target = Target::of_name(env!("CARGO_BIN_NAME"));
    target.warm_up();
    target
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    TARGET.decode(input);
});
