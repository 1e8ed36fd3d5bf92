//! Reading the views.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ledgermq_core::offset::{Index, Offset};

use crate::checkpoint::{Kept, StoreError};
use crate::views::Views;
use crate::views::retained::RetainedMessage;

/// A cheap handle to the views: many readers, one writer (the projection driver).
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

struct Shared {
    views: RwLock<Views>,
    kept: Arc<dyn Kept>,
    applied: AtomicU64,
    checkpointed: AtomicU64,
    persistent_sessions: AtomicU64,
    owed_messages: AtomicU64,
    retained_messages: AtomicU64,
    retained_bytes: AtomicU64,
    interest_changed: AtomicU64,
    /// Start of the process as which they are ready; 0 if they are not.
    ready: AtomicU64,
    failed: OnceLock<String>,
}

impl Reader {
    pub(crate) fn new(views: Views, kept: Arc<dyn Kept>) -> Self {
        let shared = Shared {
            applied: AtomicU64::new(views.applied()),
            checkpointed: AtomicU64::new(views.applied()),
            persistent_sessions: AtomicU64::new(views.sessions().persistent()),
            owed_messages: AtomicU64::new(views.owed_messages() as u64),
            retained_messages: AtomicU64::new(views.retained().len()),
            retained_bytes: AtomicU64::new(views.retained().bytes()),
            interest_changed: AtomicU64::new(views.interest_changed()),
            views: RwLock::new(views),
            kept,
            ready: AtomicU64::new(0),
            failed: OnceLock::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Reads the views. Holds the driver up: be brief, and never block inside.
    pub fn with<T>(&self, read: impl FnOnce(&Views) -> T) -> T {
        read(&self.views())
    }

    /// The owed message that was published at `at`, if it was kept before the log was purged.
    /// `None` is final. Reads a disk, without holding the views.
    ///
    /// # Errors
    ///
    /// If the store cannot be read. Nothing is known of the message then: ask again.
    pub fn kept(&self, at: Offset) -> Result<Option<Arc<RetainedMessage>>, StoreError> {
        self.shared.kept.get(at)
    }

    /// Everything up to this index is in the views.
    #[must_use]
    pub fn applied(&self) -> Index {
        self.shared.applied.load(Ordering::Acquire)
    }

    /// Everything up to this index is in a durable checkpoint; behind [`Reader::applied`] by some
    /// seconds, or by more while the disk is full.
    #[must_use]
    pub fn checkpointed(&self) -> Index {
        self.shared.checkpointed.load(Ordering::Relaxed)
    }

    /// Number of sessions that outlive their connections, without taking the lock. This and the next
    /// three are as of [`Reader::applied`] or later, if that is read first.
    #[must_use]
    pub fn persistent_sessions(&self) -> u64 {
        self.shared.persistent_sessions.load(Ordering::Relaxed)
    }

    /// Number of messages that sessions are owed, each counted for each, without taking the lock.
    #[must_use]
    pub fn owed_messages(&self) -> u64 {
        self.shared.owed_messages.load(Ordering::Relaxed)
    }

    /// Number of retained messages, without taking the lock.
    #[must_use]
    pub fn retained_messages(&self) -> u64 {
        self.shared.retained_messages.load(Ordering::Relaxed)
    }

    /// Bytes of retained messages (topics, properties and payloads), without taking the lock.
    #[must_use]
    pub fn retained_bytes(&self) -> u64 {
        self.shared.retained_bytes.load(Ordering::Relaxed)
    }

    /// [`Views::interest_changed`], without taking the lock; as of [`Reader::applied`] or later, if
    /// that is read first.
    #[must_use]
    pub fn interest_changed(&self) -> Index {
        self.shared.interest_changed.load(Ordering::Relaxed)
    }

    /// Whether the views have caught up with the start of this process.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.shared.ready.load(Ordering::Acquire) != 0
    }

    /// Whether the views have caught up with the start of this process as `start`, of several that it
    /// may have had ([`ledgermq_log::Log::incarnation`]).
    #[must_use]
    pub fn is_ready_as(&self, start: u64) -> bool {
        self.shared.ready.load(Ordering::Acquire) == start
    }

    /// Why the projections stand still, if they failed.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.shared.failed.get().map(String::as_str)
    }

    // A fold that panicked has stopped the driver, and with it the node; until then the views may
    // be looked at.
    fn views(&self) -> RwLockReadGuard<'_, Views> {
        self.shared.views.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn views_mut(&self) -> RwLockWriteGuard<'_, Views> {
        self.shared.views.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the counts visible; called by the driver after it applied.
    pub(crate) fn publish(&self, views: &Views) {
        self.shared.persistent_sessions.store(views.sessions().persistent(), Ordering::Relaxed);
        self.shared.owed_messages.store(views.owed_messages() as u64, Ordering::Relaxed);
        self.shared.retained_messages.store(views.retained().len(), Ordering::Relaxed);
        self.shared.retained_bytes.store(views.retained().bytes(), Ordering::Relaxed);
        self.shared.interest_changed.store(views.interest_changed(), Ordering::Relaxed);
        // Behind all others: who sees that something is applied sees them, too.
        self.shared.applied.store(views.applied(), Ordering::Release);
    }

    pub(crate) fn set_checkpointed(&self, index: Index) {
        self.shared.checkpointed.store(index, Ordering::Relaxed);
    }

    /// The views are ready as `start`; 0: as none.
    pub(crate) fn set_ready(&self, start: u64) {
        self.shared.ready.store(start, Ordering::Release);
    }

    pub(crate) fn set_failed(&self, reason: String) {
        let _ = self.shared.failed.set(reason);
    }
}
