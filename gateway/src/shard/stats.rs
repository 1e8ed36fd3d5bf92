//! Counts of a shard.

use ledgermq_core::packet::QoS;

/// What a shard did since it was made. All values only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardStats {
    /// Network Connections taken.
    pub accepted: u64,
    /// Sessions opened.
    pub opened: u64,
    /// Connections ended because the client was silent for too long.
    pub silent: u64,
    /// Connections ended because the client broke the protocol.
    pub malformed: u64,
    /// Connections given up because too much of long CONNECT packets was under way.
    pub unfinished: u64,
    /// Connections ended by a takeover.
    pub taken_over: u64,
    /// PUBLISH packets received, by QoS.
    pub received: [u64; 3],
    /// PUBLISH packets refused because the log or the retained store takes none.
    pub refused: u64,
    /// PUBLISH packets sent, by QoS.
    pub sent: [u64; 3],
    /// Deliveries given up because too much waited for the client.
    pub dropped_queue_full: u64,
    /// QoS 0 deliveries given up because the client was catching up.
    pub dropped_catching_up: u64,
    /// Deliveries given up because the message expired.
    pub dropped_expired: u64,
    /// Deliveries given up because the message is larger than the client takes.
    pub dropped_too_large: u64,
    /// Deliveries given up because the log was purged beyond them.
    pub dropped_purged: u64,
}

/// Place of `qos` in an array by QoS.
pub(crate) fn by(qos: QoS) -> usize {
    match qos {
        QoS::AtMostOnce => 0,
        QoS::AtLeastOnce => 1,
        QoS::ExactlyOnce => 2,
    }
}
