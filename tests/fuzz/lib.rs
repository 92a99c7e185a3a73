//! The targets, compiled once for all binaries of libFuzzer: each of these is then only linked.

#![allow(clippy::unwrap_used)] // A panic is a finding.

mod decoders;
mod seeds;
pub mod targets;
