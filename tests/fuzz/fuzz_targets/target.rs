//! A target for libFuzzer: the one that the binary is named after.

#![no_main]

use std::sync::LazyLock;

use intelmq_relay_fuzz::targets::Target;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let target = Target::of_name(env!("CARGO_BIN_NAME"));
    target.warm_up();
    target
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    TARGET.decode(input);
});
