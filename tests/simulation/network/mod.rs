//! Whole networks of nodes in one process: one clock, no network, and the code that runs in production.
//!
//! Real are the links and their claims, the gate's judgement, policy, seals, and the store (on disk; in memory a stand-in
//! takes its decisions, and a test holds the two against each other). Made up are time, pipes, faults, and the loop that
//! moves frames between all of them. Everything is drawn from a seed, so that a failure can be run again.
//!
//! It serves the tests beside it and `examples/simulate`, each of which uses a part.

#![allow(dead_code)]
#![allow(clippy::unwrap_used)] // What panics in here says what it found.

pub mod checks;
pub mod exchange;
pub mod faults;
pub mod graph;
pub mod keep;
pub mod lies;
pub mod memory;
pub mod node;
pub mod reference;
pub mod report;
pub mod rules;
pub mod scenario;
pub mod world;
