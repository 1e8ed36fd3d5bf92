//! For tests of other crates: committed batches without a log.

use std::sync::Arc;

use bytes::Bytes;
use ledgermq_core::event::BatchBuilder;
use ledgermq_core::identity::ProducerId;
use ledgermq_core::offset::{Index, Timestamp};

use crate::admission::Admission;
use crate::committed::CommittedBatch;
use crate::envelope::{self, ENVELOPE_BYTES};

/// Admission folded from the beginning, batch by batch, apart from any log.
#[derive(Debug, Default)]
pub struct Admitted(Admission);

impl Admitted {
    /// Folds the next batch.
    pub fn apply(&mut self, batch: &CommittedBatch) {
        self.0.apply(batch).expect("a batch that was committed");
    }

    /// Checksum of the state.
    #[must_use]
    pub fn checksum(&self) -> u64 {
        self.0.checksum()
    }
}

/// A history of committed batches.
#[derive(Debug)]
pub struct History {
    admission: Admission,
    index: Index,
    time: Timestamp,
    producer: ProducerId,
    sequence: u64,
}

impl Default for History {
    fn default() -> Self {
        Self {
            admission: Admission::default(),
            index: 0,
            time: Timestamp::from_secs(1_700_000_000),
            producer: ProducerId { node: 1, start: 1, local: 0 },
            sequence: 0,
        }
    }
}

impl History {
    /// An empty batch with the right headroom.
    #[must_use]
    pub fn builder(&self) -> BatchBuilder {
        BatchBuilder::new(ENVELOPE_BYTES)
    }

    /// Index of the last batch; 0 if there is none.
    #[must_use]
    pub fn last_index(&self) -> Index {
        self.index
    }

    /// Lets time pass for the next batches.
    pub fn set_time(&mut self, time: Timestamp) {
        self.time = time;
    }

    /// Commits the events, none of which is void.
    pub fn commit(&mut self, events: &mut BatchBuilder) -> Arc<CommittedBatch> {
        self.sequence += 1;
        Arc::new(self.next(self.producer, self.sequence, events))
    }

    /// Commits the batch that `producer` built as its `sequence`th (from 1) and lets admission
    /// decide what of it counts, as in the real log.
    pub fn admit(
        &mut self,
        producer: ProducerId,
        sequence: u64,
        events: &mut BatchBuilder,
    ) -> Arc<CommittedBatch> {
        let batch = self.next(producer, sequence, events);
        let voids = self.admission.apply(&batch).expect("a batch that was just built");
        Arc::new(batch.with_voids(voids))
    }

    fn next(
        &mut self,
        producer: ProducerId,
        sequence: u64,
        events: &mut BatchBuilder,
    ) -> CommittedBatch {
        self.index += 1;
        let mut bytes = events.finish(Vec::new());
        envelope::close(&mut bytes, producer, sequence);
        envelope::stamp(&mut bytes, self.time);
        CommittedBatch::open(self.index, Bytes::from(bytes), true)
            .expect("a batch that was just closed")
    }
}
