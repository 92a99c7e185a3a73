//! The program: everything is in the library.

fn main() -> std::process::ExitCode {
    intelmq_relay::cli::main()
}
