//! What is known of the one log, from what any node has shown as committed.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use ledgermq_core::identity::ProducerId;
use ledgermq_core::offset::{Index, Timestamp};
use ledgermq_log::CommittedBatch;

use crate::raft::load::{self, numbers};

/// One committed batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) producer: ProducerId,
    pub(crate) sequence: u64,
    pub(crate) time: Timestamp,
    pub(crate) is_admitted: bool,
    pub(crate) numbers: Vec<u64>,
    pub(crate) lost: Vec<(u64, u64)>,
    hash: u64,
}

/// The one log.
#[derive(Default)]
pub(crate) struct Oracle {
    pub(crate) batches: BTreeMap<Index, Known>,
    /// Up to where somebody has known the log to be committed.
    pub(crate) committed: Index,
    /// By producer and number of the message: the log's time is not below, when it is stamped; said
    /// when.
    pub(crate) floors: BTreeMap<(ProducerId, u64), (Timestamp, Timestamp)>,
    /// No clock can have been ahead of this.
    pub(crate) latest: Timestamp,
    /// When a process was started last.
    pub(crate) started_at: Timestamp,
    /// By producer: sequence and last number of what was admitted last.
    pub(crate) admitted: BTreeMap<ProducerId, (u64, u64)>,
    /// The nodes that were declared lost, with the start.
    pub(crate) lost: BTreeSet<(u64, u64)>,
    /// Who led, by term.
    pub(crate) leaders: BTreeMap<u64, u64>,
    /// By node and term: whom it voted for.
    pub(crate) votes: BTreeMap<(u64, u64), u64>,
}

impl Known {
    pub(crate) fn of(batch: &CommittedBatch) -> Self {
        let mut hasher = DefaultHasher::new();
        for record in batch.batch().records() {
            let record = record.expect("a record");
            (record.ordinal, batch.is_void(&record)).hash(&mut hasher);
        }
        let numbers = numbers(batch);
        (&numbers, batch.bytes()).hash(&mut hasher);
        Self {
            producer: batch.producer,
            sequence: batch.sequence,
            time: batch.time,
            is_admitted: batch.is_admitted(),
            numbers,
            lost: load::lost(batch),
            hash: hasher.finish(),
        }
    }
}

impl Known {
    /// Stands for all of its content.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }
}

impl Oracle {
    /// The last index that any node has shown.
    pub(crate) fn last(&self) -> Index {
        self.batches.last_key_value().map_or(0, |(index, _)| *index)
    }
}
