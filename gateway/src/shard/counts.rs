//! Counts of one connection.

use crate::shard::Shard;

/// What passed over a connection since it was opened. All values only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// PUBLISH packets that came.
    pub messages_received: u64,
    /// PUBLISH packets that were sent, repetitions included.
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

impl ConnectionCounts {
    /// The counts with their names.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, u64); 6] {
        [
            ("messages_received", self.messages_received),
            ("messages_sent", self.messages_sent),
            ("bytes_received", self.bytes_received),
            ("bytes_sent", self.bytes_sent),
            ("messages_refused", self.messages_refused),
            ("messages_dropped", self.messages_dropped),
        ]
    }
}

impl Shard {
    /// The counts of the connection that holds the session of `client`, if it is here.
    #[must_use]
    pub fn counts(&self, client: &str) -> Option<ConnectionCounts> {
        let token = self.by_client.get(client)?;
        Some(self.table.get(*token)?.link.counts.as_deref().copied().unwrap_or_default())
    }
}
