//! The handle that everybody holds.

use std::fmt;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use ledgermq_core::event::BatchBuilder;
use ledgermq_core::identity::ProducerId;
use ledgermq_core::offset::{Index, Timestamp};

use crate::class::{Class, Gate};
use crate::committed::CommittedBatch;
use crate::envelope::ENVELOPE_BYTES;
use crate::error::{AppendError, Full, ReadError, Stopped};
use crate::incarnation::given_up;
use crate::producer::Producer;
use crate::receipt::Receipt;
use crate::shared::{Shared, lock};
use crate::snapshots::{CutWriter, Incoming};
use crate::status::Status;
use crate::tail::{StateTail, Tail};
use crate::wake::{Room, Wake};

/// The log of this node; a cheap clone.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
    own: ProducerId,
    room: Arc<Room>,
}

/// An append that is on its way.
pub struct Ticket {
    /// Start and sequence of the log's own producer.
    key: (u64, u64),
    shared: Arc<Shared>,
}

impl Ticket {
    /// The receipt, if the events are durable by now.
    ///
    /// # Errors
    ///
    /// If the log stopped before they were, or this process begins anew and they will never be in
    /// the log.
    pub fn try_receipt(&self) -> Result<Option<Receipt>, AppendError> {
        let place = lock(&self.shared.receipts.waiting).get(&self.key).copied();
        match (place, self.shared.gate()) {
            (Some(Some(receipt)), _) => Ok(Some(receipt)),
            (_, Gate::Stopped { reason }) => Err(Stopped { reason }.into()),
            (Some(None), _) => Ok(None),
            (None, _) => Err(given_up()),
        }
    }

    /// Waits for the receipt.
    ///
    /// # Errors
    ///
    /// If the log stopped before the events were durable, or this process begins anew and they will
    /// never be in the log.
    pub fn wait(self) -> Result<Receipt, AppendError> {
        let receipts = &self.shared.receipts;
        let mut waiting = lock(&receipts.waiting);
        loop {
            match waiting.get(&self.key) {
                Some(Some(receipt)) => return Ok(*receipt),
                Some(None) => {}
                None => return Err(given_up()),
            }
            if let Gate::Stopped { reason } = self.shared.gate() {
                return Err(Stopped { reason }.into());
            }
            waiting = receipts.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        lock(&self.shared.receipts.waiting).remove(&self.key);
    }
}

impl Log {
    /// Number of this start of the node: larger than that of every earlier one. It changes while the
    /// process runs if the cluster gave it up: see [`Log::incarnation`].
    #[must_use]
    pub fn start(&self) -> u64 {
        self.shared.start()
    }

    /// The log's time now: [`Status::time`].
    #[must_use]
    pub fn time(&self) -> Timestamp {
        lock(&self.shared.status).time
    }

    /// A new local producer. `wake` is called when there is room again after [`crate::Full`].
    #[must_use]
    pub fn producer(&self, wake: Arc<dyn Wake>) -> Producer {
        let (node, start) = (self.shared.node, self.shared.start());
        let id = lock(&self.shared.staging).add(node, start, false, wake);
        Producer::new(id, Arc::clone(&self.shared))
    }

    /// An empty batch with room for the envelope, for [`Log::append`].
    #[must_use]
    pub fn builder(&self) -> BatchBuilder {
        BatchBuilder::new(ENVELOPE_BYTES)
    }

    /// A tail whose first batch is the one at `from`. It never skips.
    #[must_use]
    pub fn tail_gapless(&self, from: Index, wake: Arc<dyn Wake>) -> Tail {
        Tail::new(from, Arc::clone(&self.shared), wake)
    }

    /// A tail for projections: batches from `from` on, or a snapshot first.
    #[must_use]
    pub fn tail_state(&self, from: Index, wake: Arc<dyn Wake>) -> StateTail {
        lock(&self.shared.snapshots).begins_behind(from.saturating_sub(1));
        StateTail::new(self.tail_gapless(from, wake))
    }

    /// The batch at `index` from ring, cache or disk; from any thread. `None` if it is not committed
    /// yet, or if the entry is none of events (raft's own).
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn read(&self, index: Index) -> Result<Option<Arc<CommittedBatch>>, ReadError> {
        self.shared.read(index)
    }

    /// Which classes are accepted. Cheap enough for every packet.
    #[must_use]
    pub fn gate(&self) -> Gate {
        self.shared.gate()
    }

    /// Number of the node.
    #[must_use]
    pub fn node(&self) -> u64 {
        self.shared.node
    }

    /// Index of the last committed entry.
    #[must_use]
    pub fn committed(&self) -> Index {
        lock(&self.shared.ring).last()
    }

    /// State and counters.
    #[must_use]
    pub fn status(&self) -> Status {
        lock(&self.shared.status).clone()
    }

    /// Everything up to `index` is in the caller's durable checkpoint: the log may purge it when it
    /// needs the room.
    pub fn checkpointed(&self, index: Index) {
        self.shared.checkpointed.fetch_max(index, Ordering::Relaxed);
    }

    /// Asks for the watermark to be moved to `index`, which is committed, and says whether it is
    /// there: then no power cut and no crash takes the log back behind `index`, whatever
    /// `durability` is, and a log that lost it is refused as damaged. What is derived from the log
    /// may be made durable only then, or it would know of what never was.
    pub fn want_mark(&self, index: Index) -> bool {
        if *lock(&self.shared.mark.reached) >= index {
            return true;
        }
        self.shared.mark.wanted.fetch_max(index, Ordering::SeqCst);
        self.shared.wake_thread();
        false
    }

    /// Waits for [`Log::want_mark`]. Never to be called by the thread that turns the log.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the log stops before.
    pub fn mark(&self, index: Index) -> Result<(), Stopped> {
        if self.want_mark(index) {
            return Ok(());
        }
        let mark = &self.shared.mark;
        let mut reached = lock(&mark.reached);
        while *reached < index {
            if let Gate::Stopped { reason } = self.shared.gate() {
                return Err(Stopped { reason });
            }
            reached = mark.changed.wait(reached).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// The log has grown beyond its bounds and would like to drop everything up to this index.
    /// Projections copy what is still owed of it and answer by [`Log::purge_allowed`].
    #[must_use]
    pub fn purge_wanted(&self) -> Option<Index> {
        lock(&self.shared.status).purge_wanted
    }

    /// Nothing up to `index` is needed any more.
    pub fn purge_allowed(&self, index: Index) {
        self.shared.purge_allowed.fetch_max(index, Ordering::Relaxed);
    }

    /// The log wants the state as of this index, for a node that lacks what is purged. To be asked
    /// after every [`StateTail::take`]: whoever has taken nothing beyond the index applies up to
    /// exactly there, and answers by [`Log::begin_cut`] or [`Log::refuse_cut`] within a minute.
    #[must_use]
    pub fn cut_wanted(&self) -> Option<Index> {
        lock(&self.shared.snapshots).wanted()
    }

    /// Begins the cut that is wanted at `index`: the state as of there goes into the writer, of which
    /// there are at most about `bytes`.
    ///
    /// # Errors
    ///
    /// If that cut is not wanted (any more), its file cannot be written, or the disk has no room for so
    /// much beside what the log keeps free for itself.
    pub fn begin_cut(&self, index: Index, bytes: u64) -> io::Result<CutWriter> {
        CutWriter::begin(&self.shared, index, bytes)
    }

    /// The cut that is wanted at `index` cannot be made, and why: the log wants another. In vain if it is
    /// not wanted (any more), or was begun.
    pub fn refuse_cut(&self, index: Index, why: &str) {
        if lock(&self.shared.snapshots).refuse(index, why) {
            self.shared.wake_thread();
        }
    }

    /// A snapshot that another node sent, to be taken in beside what is there. It is shown until
    /// [`StateItem::Snapshot`](crate::StateItem::Snapshot) comes or it is withdrawn; what was taken
    /// in of one that is withdrawn is to be thrown away. Tails are woken when it changes.
    #[must_use]
    pub fn incoming(&self) -> Option<Incoming> {
        lock(&self.shared.snapshots).incoming()
    }

    /// The snapshot at `index` was taken in durably, or cannot be and why. The first answer counts,
    /// and one to a snapshot that is not shown any more is in vain.
    pub fn imported(&self, index: Index, result: Result<(), String>) {
        if lock(&self.shared.snapshots).imported(index, result) {
            self.shared.wake_thread();
        }
    }

    /// Appends the events and waits until they are durable and admitted: for rare producers. The
    /// events are the whole of their batch. Never to be called by the thread that turns the log.
    ///
    /// # Errors
    ///
    /// See [`AppendError`].
    pub fn append(&self, class: Class, mut events: BatchBuilder) -> Result<Receipt, AppendError> {
        loop {
            match self.try_submit(class, &mut events)? {
                Ok(ticket) => return ticket.wait(),
                Err(Full) => self.room.wait(),
            }
        }
    }

    /// Hands the events over like [`Log::append`], and does not wait.
    ///
    /// # Errors
    ///
    /// See [`AppendError`]; the events are refused also while too much waits for the disk.
    pub fn submit(&self, class: Class, mut events: BatchBuilder) -> Result<Ticket, AppendError> {
        self.try_submit(class, &mut events)?
            .map_err(|full| AppendError::Refused { reason: Arc::from(full.to_string()) })
    }

    fn try_submit(
        &self,
        class: Class,
        events: &mut BatchBuilder,
    ) -> Result<Result<Ticket, Full>, AppendError> {
        match self.shared.gate() {
            Gate::Stopped { reason } => return Err(Stopped { reason }.into()),
            gate if !gate.accepts(class) => {
                let reason = Arc::from(gate.reason().unwrap_or_default());
                return Err(AppendError::Refused { reason });
            }
            _ => {}
        }
        // The place is made before the push: the receipt may come at once.
        let mut waiting = lock(&self.shared.receipts.waiting);
        // It changes under that lock only.
        let start = self.shared.start();
        let pushed = match self.shared.push(ProducerId { start, ..self.own }, class, events) {
            Ok(pushed) => pushed,
            Err(full) => return Ok(Err(full)),
        };
        let key = (start, pushed.sequence);
        waiting.insert(key, None);
        drop(waiting);
        Ok(Ok(Ticket { key, shared: Arc::clone(&self.shared) }))
    }

    /// Stops the log thread after everything that waits is durable. From now on nothing more is
    /// taken: pushes are answered by [`Full`], and appends by [`Stopped`] when it has stopped.
    pub fn stop(&self) {
        lock(&self.shared.staging).close();
        self.shared.is_stopping.store(true, Ordering::SeqCst);
        self.shared.wake_thread();
    }

    pub(crate) fn new(shared: Arc<Shared>, own: ProducerId, room: Arc<Room>) -> Self {
        Self { shared, own, room }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("node", &self.node())
            .field("start", &self.start())
            .finish_non_exhaustive()
    }
}
