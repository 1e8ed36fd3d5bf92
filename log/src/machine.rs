//! The log as a machine: one turn proposes what waits, writes once, folds what was committed, and
//! hands it to the tails. The log thread (`driver.rs`) and the simulator turn it.

mod keeping;
mod recovery;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ledgermq_core::identity::ProducerId;
use ledgermq_core::offset::{Index, Timestamp};
use raft::eraftpb::{Entry, EntryType};

use crate::admission::Admission;
use crate::class::Gate;
use crate::clock::{LeaderClock, Now};
use crate::committed::{CommittedBatch, Voids};
use crate::config::{Config, Durability};
use crate::envelope;
use crate::receipt::Receipt;
use crate::replica::{Replica, Turned};
use crate::shared::{Shared, lock};
use crate::status::Buckets;
use crate::store::{LogStore, StoreError};

/// Bytes of batches proposed in one turn, which one sync makes durable.
const TURN_BYTES: usize = 1 << 20;
/// Time between two ticks of raft.
pub(crate) const TICK: Duration = Duration::from_millis(100);
/// With `durability = "os-cache"` everything is synced at least so often.
const SYNC_INTERVAL: Duration = Duration::from_millis(50);

/// Why the log cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    /// The disk failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A committed entry cannot be read: a broken invariant.
    #[error("committed entry {index} is damaged: {what}")]
    Damaged {
        /// Its index.
        index: Index,
        /// What is wrong.
        what: &'static str,
    },
}

/// The log of one node, over any store.
pub struct LogMachine<S: LogStore> {
    replica: Replica<S>,
    admission: Admission,
    clock: LeaderClock,
    shared: Arc<Shared>,
    config: Config,
    /// The log's own producer, for [`crate::Log::append`].
    own: ProducerId,
    /// Batches that raft did not take yet.
    unproposed: Vec<Vec<u8>>,
    turned: Turned,
    last_tick: Duration,
    last_sync: Duration,
    is_unsynced: bool,
    last_time: Timestamp,
    counts: Counts,
    keeping: keeping::Keeping,
    /// Reads a monotonic clock, to time the syncs.
    stopwatch: Box<dyn FnMut() -> Duration + Send>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    batches: u64,
    bytes: u64,
    void_batches: u64,
    no_space: u64,
    last_sync: Duration,
    syncs: Buckets,
}

impl<S: LogStore> LogMachine<S> {
    /// One turn. Answers whether there is more to do at once.
    ///
    /// # Errors
    ///
    /// [`TurnError`] is final: the log must be dropped, and the node stops.
    pub fn turn(&mut self, now: Now) -> Result<bool, TurnError> {
        if now.monotonic.saturating_sub(self.last_tick) >= TICK {
            self.last_tick = now.monotonic;
            self.replica.tick();
        }
        self.propose(now);
        self.write(now)?;
        self.publish()?;
        self.keep(now)?;
        self.report();
        Ok(!self.replica.is_stuck() && lock(&self.shared.staging).waiting_bytes() > 0)
    }

    /// Whether everything that was pushed is committed.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.unproposed.is_empty()
            && !self.replica.is_stuck()
            && lock(&self.shared.staging).waiting_bytes() == 0
    }

    /// Until when the machine need not be turned if nothing is pushed.
    #[must_use]
    pub fn next_turn(&self) -> Duration {
        let tick = self.last_tick + TICK;
        if self.is_unsynced { tick.min(self.last_sync + SYNC_INTERVAL) } else { tick }
    }

    /// Gives raft what waits, stamped with the leader's time.
    fn propose(&mut self, now: Now) {
        if !self.replica.is_leader() || self.replica.is_stuck() {
            return;
        }
        if self.unproposed.is_empty() {
            let mut staging = lock(&self.shared.staging);
            staging.take(TURN_BYTES, &mut self.unproposed);
            staging.wake_waiting();
        }
        if self.unproposed.is_empty() {
            return;
        }
        let time = self.clock.read(now);
        let mut batches = std::mem::take(&mut self.unproposed).into_iter();
        for mut bytes in batches.by_ref() {
            envelope::stamp(&mut bytes, time);
            if !self.replica.propose(bytes) {
                // The only voter is its own leader and has no bound that this could meet.
                debug_assert!(false, "a leader takes proposals");
                break;
            }
        }
        self.unproposed.extend(batches);
    }

    fn write(&mut self, now: Now) -> Result<(), TurnError> {
        let is_fsync = self.config.durability == Durability::Fsync;
        let before = (self.stopwatch)();
        match self.replica.turn(is_fsync, &mut self.turned) {
            Ok(()) => {}
            Err(StoreError::NoSpace) => {
                self.counts.no_space += 1;
                self.on_no_space();
            }
            Err(error) => return Err(error.into()),
        }
        self.is_unsynced |= std::mem::take(&mut self.turned.is_unsynced);
        let written = std::mem::take(&mut self.turned.written);
        if written > 0 {
            self.keeping.written(written);
            self.counts.last_sync = (self.stopwatch)().saturating_sub(before);
            self.counts.syncs.record(self.counts.last_sync);
        }
        let is_due = now.monotonic.saturating_sub(self.last_sync) >= SYNC_INTERVAL;
        if self.is_unsynced && is_due {
            self.replica.store_mut().sync()?;
            self.is_unsynced = false;
            self.last_sync = now.monotonic;
        }
        Ok(())
    }

    /// Folds what was committed and hands it to the tails and to those who wait for receipts.
    fn publish(&mut self) -> Result<(), TurnError> {
        let committed = std::mem::take(&mut self.turned.committed);
        let Some(last) = committed.last().map(|entry| entry.index) else { return Ok(()) };
        let mut batches = Vec::with_capacity(committed.len());
        for entry in committed {
            batches.extend(self.fold(entry, false)?);
        }
        for batch in &batches {
            self.counts.batches += 1;
            self.counts.bytes += batch.bytes() as u64;
            self.counts.void_batches += u64::from(!batch.is_admitted());
            self.answer(batch);
        }
        lock(&self.shared.ring).extend(batches, last);
        Ok(())
    }

    /// Folds one committed entry. `None` if it carries no batch.
    fn fold(
        &mut self,
        entry: Entry,
        check: bool,
    ) -> Result<Option<Arc<CommittedBatch>>, TurnError> {
        let index = entry.index;
        let damaged = |what| TurnError::Damaged { index, what };
        if entry.get_entry_type() != EntryType::EntryNormal {
            return Err(damaged("an entry of a kind that a single node never writes"));
        }
        if entry.data.is_empty() {
            self.admission.skip(index);
            return Ok(None);
        }
        let batch =
            CommittedBatch::open(index, entry.data, check).map_err(|error| damaged(error.0))?;
        self.last_time = self.last_time.max(batch.time);
        let voids = self.admission.apply(&batch).map_err(|error| damaged(error.0))?;
        if voids != Voids::None
            && let Ok(mut marks) = self.shared.voids.write()
        {
            marks.insert(index, voids.clone());
        }
        Ok(Some(Arc::new(batch.with_voids(voids))))
    }

    fn answer(&self, batch: &CommittedBatch) {
        if batch.producer != self.own {
            return;
        }
        let receipt = Receipt { index: batch.index, time: batch.time };
        let mut waiting = lock(&self.shared.receipts.waiting);
        if let Some(place) = waiting.get_mut(&batch.sequence) {
            *place = Some(receipt);
            self.shared.receipts.changed.notify_all();
        }
    }

    /// Makes state and counters visible.
    fn report(&self) {
        let last = lock(&self.shared.ring).last();
        let waiting_bytes = lock(&self.shared.staging).waiting_bytes();
        let first = self.shared.reader.first_index();
        let gate = self.shared.gate();
        let mut status = lock(&self.shared.status);
        status.gate = gate;
        status.first_index = first;
        status.commit_index = last;
        status.term = self.replica.term();
        status.last_time = self.last_time;
        status.clock_jumped = self.clock.jumped();
        status.entries = (last + 1).saturating_sub(first);
        status.committed_batches = self.counts.batches;
        status.committed_bytes = self.counts.bytes;
        status.void_batches = self.counts.void_batches;
        status.no_space = self.counts.no_space;
        status.waiting_bytes = waiting_bytes as u64;
        status.last_sync = self.counts.last_sync;
        status.syncs = self.counts.syncs;
        status.disk_bytes = self.replica.store().bytes();
        status.purge_allowed = self.shared.purge_allowed.load(Ordering::Relaxed);
        status.purge_wanted = self.keeping.purge_wanted();
    }

    /// The disk is full: messages and openings are refused until a write succeeds again.
    fn on_no_space(&mut self) {
        let reason: Arc<str> = Arc::from("no space left on the disk of the log");
        self.shared.set_gate(Gate::RefuseOpens { reason });
        self.keeping.on_no_space();
    }
}
