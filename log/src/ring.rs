//! The recent batches, shared by all tails of the process.

use std::collections::VecDeque;
use std::sync::Arc;

use ledgermq_core::offset::Index;

use crate::committed::CommittedBatch;

/// Batches in memory, oldest first, without a gap up to `last`.
pub(crate) struct Ring {
    batches: VecDeque<Arc<CommittedBatch>>,
    bytes: usize,
    bytes_max: usize,
    /// Every batch from here on is in the ring.
    first: Index,
    /// The last index that was committed here.
    last: Index,
}

impl Ring {
    /// An empty ring behind `last`.
    pub(crate) fn new(last: Index, bytes_max: usize) -> Self {
        Self { batches: VecDeque::new(), bytes: 0, bytes_max, first: last + 1, last }
    }

    /// Takes the batches of one commit, which goes up to `last`. Who sleeps is to be woken
    /// when the ring is unlocked again: it looks here at once.
    pub(crate) fn extend(
        &mut self,
        batches: impl IntoIterator<Item = Arc<CommittedBatch>>,
        last: Index,
    ) {
        for batch in batches {
            self.bytes += batch.held_bytes();
            self.batches.push_back(batch);
        }
        self.last = last;
        while self.bytes > self.bytes_max && self.batches.len() > 1 {
            let Some(oldest) = self.batches.pop_front() else { break };
            self.bytes -= oldest.held_bytes();
            self.first = oldest.index + 1;
        }
    }

    /// Goes on behind `last`, to which the log has jumped.
    pub(crate) fn reset(&mut self, last: Index) {
        self.batches.clear();
        self.bytes = 0;
        (self.first, self.last) = (last + 1, last);
    }

    pub(crate) fn first(&self) -> Index {
        self.first
    }

    pub(crate) fn last(&self) -> Index {
        self.last
    }

    /// The batch at `index`, if it is here.
    pub(crate) fn get(&self, index: Index) -> Option<Arc<CommittedBatch>> {
        let at = self.batches.partition_point(|batch| batch.index < index);
        self.batches.get(at).filter(|batch| batch.index == index).map(Arc::clone)
    }

    /// Appends batches from `next` on, about `bytes_max`, and says which index comes then.
    pub(crate) fn take(
        &self,
        next: Index,
        bytes_max: usize,
        out: &mut Vec<Arc<CommittedBatch>>,
    ) -> Index {
        let at = self.batches.partition_point(|batch| batch.index < next);
        let mut bytes = 0;
        for batch in self.batches.range(at..) {
            if bytes >= bytes_max {
                return batch.index;
            }
            bytes += batch.bytes();
            out.push(Arc::clone(batch));
        }
        self.last + 1
    }
}
