//! Tails: reading the log from a place on, as it grows.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ledgermq_core::offset::Index;

use crate::class::Gate;
use crate::committed::CommittedBatch;
use crate::error::{ReadError, Stopped, TailError};
use crate::shared::{Shared, lock};
use crate::sleepers::Sleeper;
use crate::wake::Wake;

/// Every committed batch from an index on, in order, without a gap.
///
/// It is pulled: [`Tail::take`] never blocks. The recent batches come from a ring in memory that
/// all tails share, older ones from the disk.
pub struct Tail {
    next: Index,
    /// It stands at an entry that is damaged here. Others have it, and this process is about to end; if
    /// nobody can let the node go, whoever reads waits, and the rest of it serves.
    is_held: bool,
    shared: Arc<Shared>,
    sleeper: Arc<Sleeper>,
}

impl Tail {
    pub(crate) fn new(next: Index, shared: Arc<Shared>, wake: Arc<dyn Wake>) -> Self {
        let sleeper = Arc::new(Sleeper::new(next, wake));
        shared.sleepers.add(&sleeper);
        Self { next, is_held: false, shared, sleeper }
    }

    /// Appends the next batches to `out`, up to about `bytes_max` bytes but at least one if one is
    /// there.
    ///
    /// # Errors
    ///
    /// [`TailError::Gap`] once if batches were purged before they were taken; the tail then stands
    /// behind the gap. [`TailError::Stopped`] when everything was taken and the log has stopped.
    /// [`TailError::Read`] at an entry that is damaged; where others have it nothing is taken before this
    /// process ends.
    pub fn take(
        &mut self,
        bytes_max: usize,
        out: &mut Vec<Arc<CommittedBatch>>,
    ) -> Result<(), TailError> {
        let result = self.take_some(bytes_max.max(1), out);
        self.sleeper.set_next(self.next);
        result
    }

    fn take_some(
        &mut self,
        bytes_max: usize,
        out: &mut Vec<Arc<CommittedBatch>>,
    ) -> Result<(), TailError> {
        // The gate is looked at first: what was committed before the end is then seen.
        let gate = self.shared.gate();
        let taken = out.len();
        self.is_held = false;
        // Entries without a batch are passed over.
        while out.len() == taken && !self.is_held {
            let first = {
                let ring = lock(&self.shared.ring);
                if self.next > ring.last() {
                    return match gate {
                        Gate::Stopped { reason } => Err(Stopped { reason }.into()),
                        _ => Ok(()),
                    };
                }
                if self.next >= ring.first() {
                    self.next = ring.take(self.next, bytes_max, out);
                    continue;
                }
                ring.first()
            };
            match self.take_stored(first - 1, bytes_max, out) {
                Err(TailError::Read(ReadError::Damaged { .. }))
                    if self.shared.has_others.load(Ordering::Relaxed)
                        && !matches!(gate, Gate::Stopped { .. }) =>
                {
                    self.is_held = true;
                }
                taken => taken?,
            }
        }
        Ok(())
    }

    /// Takes from the disk what is no longer in the ring.
    fn take_stored(
        &mut self,
        upto: Index,
        bytes_max: usize,
        out: &mut Vec<Arc<CommittedBatch>>,
    ) -> Result<(), TailError> {
        match self.shared.read_from(self.next, upto, bytes_max, out) {
            Ok(next) => self.next = next,
            Err(ReadError::Purged { first }) => {
                let gap = TailError::Gap { from: self.next, to: first - 1 };
                self.next = first;
                return Err(gap);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Says that the owner is about to sleep and wants to be woken by the next commit. `false`
    /// means that something is there already: take it instead (no wake is owed then).
    #[must_use]
    pub fn prepare_sleep(&self) -> bool {
        // The flag first, then the look: else a commit between the two would wake nobody.
        self.sleeper.set_asleep(true);
        let is_behind = !self.is_held && self.next <= lock(&self.shared.ring).last();
        let may_sleep = !is_behind && !matches!(self.shared.gate(), Gate::Stopped { .. });
        self.sleeper.set_asleep(may_sleep);
        may_sleep
    }

    /// Says that the owner is awake: no wake is needed.
    pub fn awake(&self) {
        self.sleeper.set_asleep(false);
    }

    /// The next index to come.
    #[must_use]
    pub fn position(&self) -> Index {
        self.next
    }
}

/// What a projection reads: batches, or where they are gone the snapshot that stands for them.
pub struct StateTail {
    tail: Tail,
}

/// One item of a [`StateTail`].
#[derive(Clone, Debug)]
pub enum StateItem {
    /// The log has jumped to the snapshot that the projections took in last ([`crate::Incoming`]):
    /// their state is the one as of `index` now, and the next item follows it.
    Snapshot {
        /// Everything up to here is in it.
        index: Index,
    },
    /// A batch.
    Batch(Arc<CommittedBatch>),
}

impl StateTail {
    pub(crate) fn new(tail: Tail) -> Self {
        Self { tail }
    }

    /// As [`Tail::take`].
    ///
    /// # Errors
    ///
    /// As [`Tail::take`]; where a snapshot stands for what is missing, that comes instead of the gap.
    pub fn take(&mut self, bytes_max: usize, out: &mut Vec<StateItem>) -> Result<(), TailError> {
        let mut batches = Vec::new();
        let result = self.tail.take(bytes_max, &mut batches);
        out.extend(batches.into_iter().map(StateItem::Batch));
        match result {
            Err(TailError::Gap { to, .. }) if lock(&self.tail.shared.snapshots).is_at(to) => {
                out.push(StateItem::Snapshot { index: to });
                Ok(())
            }
            result => result,
        }
    }

    /// As [`Tail::prepare_sleep`].
    #[must_use]
    pub fn prepare_sleep(&self) -> bool {
        self.tail.prepare_sleep()
    }

    /// As [`Tail::awake`].
    pub fn awake(&self) {
        self.tail.awake();
    }

    /// As [`Tail::position`].
    #[must_use]
    pub fn position(&self) -> Index {
        self.tail.position()
    }
}
