//! The program: everything is in the library.

/// Envelopes are small pieces of memory that one thread makes and another frees, at which this one is better than libc's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    intelmq_relay::cli::main()
}
