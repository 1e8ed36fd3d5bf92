//! The MQTT edge: listeners, workers that own connections, delivery.
//!
//! [`shard::Shard`] is the pure part: connections as machines, matching, delivery. Around it stands
//! one driver a core (`worker.rs`), fed by one acceptor (`listener.rs`). [`gateway::Gateway`] is
//! the component that `src/node.rs` starts and drains.

pub mod authenticator;
pub mod certificates;
pub mod config;
pub mod control;
pub mod counts;
pub mod gateway;
pub mod network;
pub mod passwords;
pub mod shard;
pub mod transport;
pub mod upgrade;
pub mod worker;

mod census;
mod clock;
mod entrance;
mod inbox;
mod listener;
mod notices;
mod sources;
