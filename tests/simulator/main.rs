//! The simulator: the three machines of one node or several, under a seeded clock, network and disk.
//!
//! `tests/simulator/README.md` says what it does and how to repeat a seed.

#![allow(
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and says what it does"
)]

mod book;
mod client;
mod invariants;
mod net;
mod network;
mod node;
mod options;
mod oracle;
mod peers;
mod raft;
mod rng;
mod run;
mod seen;
mod sweep;
mod trace;
mod world;
