//! The recent batches, shared by all tails of the process.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use ledgermq_core::offset::Index;

use crate::committed::CommittedBatch;
use crate::wake::Wake;

/// Batches in memory, oldest first, without a gap up to `last`.
pub(crate) struct Ring {
    batches: VecDeque<Arc<CommittedBatch>>,
    bytes: usize,
    bytes_max: usize,
    /// Every batch from here on is in the ring.
    first: Index,
    /// The last index that was committed here.
    last: Index,
    sleepers: Vec<Weak<Sleeper>>,
}

/// A tail as the log thread sees it: whom to wake, and what it still needs.
pub(crate) struct Sleeper {
    is_asleep: AtomicBool,
    /// The next index that the tail takes.
    next: AtomicU64,
    wake: Arc<dyn Wake>,
}

impl Sleeper {
    pub(crate) fn new(next: Index, wake: Arc<dyn Wake>) -> Self {
        Self { is_asleep: AtomicBool::new(false), next: AtomicU64::new(next), wake }
    }

    pub(crate) fn set_next(&self, next: Index) {
        self.next.store(next, Ordering::Release);
    }

    pub(crate) fn set_asleep(&self, is_asleep: bool) {
        self.is_asleep.store(is_asleep, Ordering::SeqCst);
    }

    fn ring(&self) {
        if self.is_asleep.swap(false, Ordering::SeqCst) {
            self.wake.wake();
        }
    }
}

impl Ring {
    /// An empty ring behind `last`.
    pub(crate) fn new(last: Index, bytes_max: usize) -> Self {
        Self {
            batches: VecDeque::new(),
            bytes: 0,
            bytes_max,
            first: last + 1,
            last,
            sleepers: Vec::new(),
        }
    }

    pub(crate) fn add_sleeper(&mut self, sleeper: &Arc<Sleeper>) {
        self.sleepers.retain(|sleeper| sleeper.strong_count() > 0);
        self.sleepers.push(Arc::downgrade(sleeper));
    }

    /// The lowest index from `first` on that a tail has not taken. A tail below `first` has lost
    /// what it wanted already.
    pub(crate) fn lowest_needed(&self, first: Index) -> Option<Index> {
        let sleepers = self.sleepers.iter().filter_map(Weak::upgrade);
        let next = sleepers.map(|sleeper| sleeper.next.load(Ordering::Acquire));
        next.filter(|next| *next >= first).min()
    }

    /// Takes the batches of one commit, which goes up to `last`, and wakes who sleeps.
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
        self.wake_all();
    }

    /// Goes on behind `last`, to which the log has jumped.
    pub(crate) fn reset(&mut self, last: Index) {
        self.batches.clear();
        self.bytes = 0;
        (self.first, self.last) = (last + 1, last);
    }

    pub(crate) fn wake_all(&self) {
        self.sleepers.iter().filter_map(Weak::upgrade).for_each(|sleeper| sleeper.ring());
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
