//! The load generator: publishers and subscribers in pairs, one thread, over the broker's codec.
//!
//! It is a closed loop: each publisher has at most `window` messages that are not acknowledged (for
//! QoS 0: not delivered to its subscriber), so that a rate is a rate without loss by overrun.
//! Every payload carries its number and the time of its sending; loss, duplicates and disorder are
//! counted exactly.

mod connection;
mod report;
mod run;
mod sessions;

pub(crate) use run::pairs;
pub(crate) use sessions::open_sessions;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ledgermq_core::packet::{ProtocolVersion, QoS};

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Address of the broker.
    pub(crate) address: SocketAddr,
    /// Publishers, each with a topic and a subscriber of its own.
    pub(crate) pairs: usize,
    /// QoS of messages and subscriptions.
    pub(crate) qos: QoS,
    /// Protocol version.
    pub(crate) version: ProtocolVersion,
    /// Payload in bytes, at least 16.
    pub(crate) payload_bytes: usize,
    /// Messages under way of one publisher.
    pub(crate) window: u32,
    /// Time before the measurement.
    pub(crate) warm_up: Duration,
    /// Time of the measurement.
    pub(crate) measured: Duration,
    /// Process whose CPU time and memory are to be told.
    pub(crate) pid: Option<u32>,
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// The broker cannot be reached, or broke a connection.
    #[error("the connection to {address} failed")]
    Connection {
        /// The broker.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The broker answered something else than the protocol asks for.
    #[error("the broker answered with {0}")]
    Protocol(String),
    /// Nothing came for ten seconds.
    #[error("the broker answered nothing for ten seconds")]
    Silent,
    /// The operating system refused something.
    #[error("cannot run the load")]
    Io(#[from] io::Error),
}
