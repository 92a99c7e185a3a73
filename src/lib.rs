//! A relay for IntelMQ events between CERTs: one node per CERT, a list of peers, signed envelopes,
//! a durable log, a seen set against loops and duplicates, and a policy that decides who may have what.
//!
//! Data flows one way through the rooms below; each imports only from those under it
//! (`docs/architecture.md` has the picture, `tests/tidy.rs` checks the order):
//!
//! `cli → node → { net, intelmq, watch } → accept → store → { policy, trust, link, invite } → { config, harmonization } → envelope`

pub mod accept;
pub mod cli;
pub mod config;
pub mod envelope;
pub mod harmonization;
pub mod intelmq;
pub mod invite;
pub mod link;
pub mod net;
pub mod node;
pub mod policy;
pub mod sample;
pub mod store;
pub mod trust;
pub mod watch;
