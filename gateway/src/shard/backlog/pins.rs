//! Batches that backlogs hold in memory, each counted once however many hold it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ledgermq_log::CommittedBatch;

/// A batch that is held.
#[derive(Debug)]
pub(crate) struct Pin {
    pub(crate) batch: Arc<CommittedBatch>,
    held_bytes: Arc<AtomicUsize>,
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.held_bytes.fetch_sub(self.batch.bytes(), Ordering::Relaxed);
    }
}

/// What a shard holds in this way.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    held_bytes: Arc<AtomicUsize>,
    /// The last one: those who hold a batch come one behind the other, mostly.
    last: Option<Arc<Pin>>,
}

impl Pins {
    /// Bytes of the batches that are held.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// Holds `batch`, if with it no more than `bytes_max` are held.
    pub(crate) fn pin(
        &mut self,
        batch: &Arc<CommittedBatch>,
        bytes_max: usize,
    ) -> Option<Arc<Pin>> {
        if let Some(last) = &self.last
            && last.batch.index == batch.index
        {
            return Some(Arc::clone(last));
        }
        self.last = None;
        if self.held_bytes() + batch.bytes() > bytes_max {
            return None;
        }
        self.held_bytes.fetch_add(batch.bytes(), Ordering::Relaxed);
        let (batch, held_bytes) = (Arc::clone(batch), Arc::clone(&self.held_bytes));
        let pin = Arc::new(Pin { batch, held_bytes });
        Some(Arc::clone(self.last.insert(pin)))
    }
}
