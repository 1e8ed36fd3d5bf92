//! The handle that everybody holds.

use std::sync::Arc;

use ledgermq_core::event::BatchBuilder;
use ledgermq_core::identity::ProducerId;
use ledgermq_core::offset::{Index, Timestamp};

use crate::class::{Class, Gate};
use crate::committed::CommittedBatch;
use crate::config::Options;
use crate::envelope::ENVELOPE_BYTES;
use crate::error::{AppendError, OpenError, ReadError, Stopped};
use crate::producer::Producer;
use crate::status::Status;
use crate::tail::{StateTail, Tail};

/// Wakes the owner of a tail or producer. Called from the log thread: cheap, never blocking.
pub trait Wake: Send + Sync {
    /// Makes the owner look again.
    fn wake(&self);
}

/// The log of this node; a cheap clone.
#[derive(Clone, Debug)]
pub struct Log {}

/// The running log thread. Dropping it does not stop the log; see [`Log::stop`].
#[derive(Debug)]
pub struct LogThread {}

/// Proof that events are durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Index of their batch; the first event has ordinal 0.
    pub index: Index,
    /// Time of their batch.
    pub time: Timestamp,
}

/// Recovers the log in `options.dir` and starts the log thread. Returns when the log accepts
/// appends.
///
/// # Errors
///
/// See [`OpenError`]: in use, damaged, or something that the operating system refused.
pub fn open(options: Options) -> Result<(Log, LogThread), OpenError> {
    let _ = options;
    Ok((Log {}, LogThread {}))
}

impl LogThread {
    /// Waits until the log thread has ended.
    ///
    /// # Errors
    ///
    /// If it ended for another reason than [`Log::stop`].
    pub fn join(self) -> Result<(), Stopped> {
        Ok(())
    }
}

impl Log {
    /// Number of this start of the node: larger than that of every earlier one.
    #[must_use]
    pub fn start(&self) -> u64 {
        0
    }

    /// A new local producer. `wake` is called when there is room again after [`crate::Full`].
    #[must_use]
    pub fn producer(&self, wake: Arc<dyn Wake>) -> Producer {
        let _ = wake;
        Producer::new(ProducerId::default())
    }

    /// An empty batch with room for the envelope, for [`Log::append`].
    #[must_use]
    pub fn builder(&self) -> BatchBuilder {
        BatchBuilder::new(ENVELOPE_BYTES)
    }

    /// A tail whose first batch is the one at `from`. It never skips.
    #[must_use]
    pub fn tail_gapless(&self, from: Index, wake: Arc<dyn Wake>) -> Tail {
        let _ = wake;
        Tail::new(from)
    }

    /// A tail for projections: batches from `from` on, or a snapshot first.
    #[must_use]
    pub fn tail_state(&self, from: Index, wake: Arc<dyn Wake>) -> StateTail {
        StateTail::new(self.tail_gapless(from, wake))
    }

    /// The batch at `index` from ring, cache or disk; from any thread. `None` if it is not committed
    /// yet, or if the entry is none of events (raft's own).
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn read(&self, index: Index) -> Result<Option<Arc<CommittedBatch>>, ReadError> {
        let _ = index;
        Ok(None)
    }

    /// Which classes are accepted. Cheap enough for every packet.
    #[must_use]
    pub fn gate(&self) -> Gate {
        Gate::Open
    }

    /// State and counters.
    #[must_use]
    pub fn status(&self) -> Status {
        unimplemented!("lands with the log thread")
    }

    /// Everything up to `index` is in the caller's durable checkpoint: the log may purge it when it
    /// needs the room.
    pub fn checkpointed(&self, index: Index) {
        let _ = index;
    }

    /// The log has grown beyond its bounds and would like to drop everything up to this index.
    /// Projections copy what is still owed of it and answer by [`Log::purge_allowed`].
    #[must_use]
    pub fn purge_wanted(&self) -> Option<Index> {
        None
    }

    /// Nothing up to `index` is needed any more.
    pub fn purge_allowed(&self, index: Index) {
        let _ = index;
    }

    /// Appends the events and waits until they are durable and admitted: for rare producers. The
    /// events are the whole of their batch.
    ///
    /// # Errors
    ///
    /// See [`AppendError`].
    pub fn append(&self, class: Class, events: BatchBuilder) -> Result<Receipt, AppendError> {
        let _ = (class, events);
        Err(AppendError::Stopped(Stopped { reason: Arc::from("not there yet") }))
    }

    /// Stops the log thread after everything that waits is durable.
    pub fn stop(&self) {}
}
