//! The load generator: many MQTT clients in one thread, over the broker's own codec.
//!
//! Flat out it is a closed loop: a publisher has at most a window of messages that are not
//! acknowledged (QoS 0: not delivered), so that a rate is a rate without loss by overrun. At a fixed
//! rate a latency is counted from the instant at which the message was due, not from the one at which
//! it could be sent (no coordinated omission). Every payload bears the number of its message and the
//! time, so that loss, duplicates and disorder are counted exactly.

mod answer;
mod clock;
pub(crate) mod connect;
mod connection;
mod effort;
mod fleet;
mod latency;
pub(crate) mod listen;
mod names;
pub(crate) mod offline;
mod opening;
mod pacer;
mod payload;
mod progress;
pub(crate) mod relay;
pub(crate) mod report;
pub(crate) mod retained;
mod socket;
mod store;
mod streams;
pub(crate) mod target;
pub(crate) mod traffic;
mod window;

use std::io;

use ledgermq_core::packet::ProtocolVersion;
use ledgermq_core::reason::ReasonCode;

use target::Target;

/// The brokers, and how clients speak to them; the same in every load.
#[derive(Clone, Debug)]
pub(crate) struct Brokers {
    /// Where clients connect, dealt out in turn; at least one.
    pub(crate) targets: Vec<Target>,
    /// Protocol version.
    pub(crate) version: ProtocolVersion,
    /// User Name of every client.
    pub(crate) username: Option<String>,
    /// Password of every client.
    pub(crate) password: Option<String>,
    /// Keep Alive in seconds; 0 is none.
    pub(crate) keep_alive: u16,
    /// Connections under way at a time while clients connect.
    pub(crate) at_once: usize,
    /// Processes of the brokers, whose CPU time and memory are to be told.
    pub(crate) pids: Vec<u32>,
    /// Whether to say on a terminal how it goes.
    pub(crate) shows_progress: bool,
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// A broker cannot be reached, or broke a connection.
    #[error("the connection of {client} to {url} failed")]
    Connection {
        /// Client Identifier.
        client: String,
        /// The broker.
        url: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A broker refused a client, or what it asked for.
    #[error("{client} was refused: {reason:?} ({:#04x})", u8::from(*reason))]
    Refused {
        /// Client Identifier.
        client: String,
        /// The broker's reason.
        reason: ReasonCode,
    },
    /// A broker granted a subscription with a lower QoS than was asked for.
    #[error("{client} asked for QoS {asked} and was granted QoS {granted}: measure that")]
    Downgraded {
        /// Client Identifier.
        client: String,
        /// What it asked for.
        asked: u8,
        /// What it got.
        granted: u8,
    },
    /// A broker sent what the protocol does not allow.
    #[error("{client} was sent {detail}")]
    Protocol {
        /// Client Identifier.
        client: String,
        /// What came.
        detail: String,
    },
    /// Nothing came for ten seconds.
    #[error("nothing came for ten seconds while {0}")]
    Silent(String),
    /// The run as asked for is impossible.
    #[error("{0}")]
    Plan(String),
    /// The operating system refused something.
    #[error("cannot run the load")]
    Io(#[from] io::Error),
}

#[expect(clippy::cast_precision_loss, reason = "counts and nanoseconds far below 2^53")]
fn float(value: u64) -> f64 {
    value as f64
}
