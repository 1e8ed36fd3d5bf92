//! Counts of a connection, which its node keeps in memory only.

use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;

/// What passed over a client's connection since it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// PUBLISH packets that came.
    pub messages_received: u64,
    /// PUBLISH packets that were sent.
    pub messages_sent: u64,
    /// Bytes of Control Packets that came.
    pub bytes_received: u64,
    /// Bytes of Control Packets that were written.
    pub bytes_sent: u64,
    /// PUBLISH packets that were not taken.
    pub messages_refused: u64,
    /// Deliveries to the client that were given up.
    pub messages_dropped: u64,
}

/// Asks for the counts of a client's connection; none if it is not connected here.
pub type AskCounts =
    Arc<dyn Fn(&str) -> Pin<Box<dyn Future<Output = Option<Counts>> + Send>> + Send + Sync>;
