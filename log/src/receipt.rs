//! What a push and an append are answered with.

use ledgermq_core::offset::{Index, Timestamp};

/// Where pushed events will be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// [`crate::CommittedBatch::sequence`] of the batch.
    pub sequence: u64,
    /// Ordinal of the first of the events in the batch.
    pub ordinal: u32,
}

/// Proof that events are durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Index of their batch; the first event has ordinal 0.
    pub index: Index,
    /// Time of their batch.
    pub time: Timestamp,
}
