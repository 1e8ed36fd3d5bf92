//! The tails that sleep until something is committed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use ledgermq_core::offset::Index;

use crate::shared::lock;
use crate::wake::Wake;

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

    fn wake(&self) {
        if self.is_asleep.swap(false, Ordering::SeqCst) {
            self.wake.wake();
        }
    }
}

/// All tails of the process. Not in the ring: who is woken looks there at once, and would wait for
/// the one that wakes it.
#[derive(Default)]
pub(crate) struct Sleepers(Mutex<Vec<Weak<Sleeper>>>);

impl Sleepers {
    pub(crate) fn add(&self, sleeper: &Arc<Sleeper>) {
        let mut sleepers = lock(&self.0);
        sleepers.retain(|sleeper| sleeper.strong_count() > 0);
        sleepers.push(Arc::downgrade(sleeper));
    }

    /// The lowest index from `first` on that a tail has not taken. A tail below `first` has lost
    /// what it wanted already.
    pub(crate) fn lowest_needed(&self, first: Index) -> Option<Index> {
        let sleepers = lock(&self.0);
        let sleepers = sleepers.iter().filter_map(Weak::upgrade);
        let next = sleepers.map(|sleeper| sleeper.next.load(Ordering::Acquire));
        next.filter(|next| *next >= first).min()
    }

    /// Wakes who sleeps. What it is to find must be there before.
    pub(crate) fn wake_all(&self) {
        lock(&self.0).iter().filter_map(Weak::upgrade).for_each(|sleeper| sleeper.wake());
    }
}
