//! The number under which this process writes to the log, which may change while it runs.
//!
//! It begins as the number of the start. When the others gave the process up (`NodeLost`), nothing
//! that it wrote and that was not committed counts any more: it takes the next number and begins
//! anew, like a process that was started again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ledgermq_core::identity::ProducerId;

use crate::error::AppendError;
use crate::log::Log;
use crate::producer::Producer;
use crate::shared::{Shared, lock};

/// What an append is answered that was under way.
const GIVEN_UP: &str = "the cluster gave this node up before the events were committed";

impl Log {
    /// The number under which this process writes now: [`Log::start`].
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.start()
    }

    /// Asks for another incarnation, as if the others had given this process up: what was pushed and
    /// is not committed may be lost, and whoever pushed it cannot tell. For whoever cannot follow the
    /// log any more. [`Log::incarnation`] says when it is there.
    pub fn renew_incarnation(&self) {
        self.shared().is_renewal_wanted.store(true, Ordering::Relaxed);
        self.shared().wake_thread();
    }
}

impl Producer {
    /// Takes part as the incarnation of now; says whether it is another. Then what was pushed before
    /// and not committed is void, and the numbers begin with 1. Until then nothing is taken of the
    /// producer, which is woken.
    pub fn renew(&mut self) -> bool {
        let start = self.shared().start();
        let is_other = self.id().start != start;
        if is_other {
            self.set_id(ProducerId { start, ..self.id() });
        }
        is_other
    }
}

impl Shared {
    /// Begins anew as `start`: nothing that waits is taken any more. Appends that have no receipt by
    /// now get none.
    pub(crate) fn renew(&self, start: u64) {
        // An append keeps its place before it pushes: it has both under one start.
        let mut waiting = lock(&self.receipts.waiting);
        self.raise_start(start);
        lock(&self.staging).renew(start);
        waiting.retain(|_, receipt| receipt.is_some());
        drop(waiting);
        self.receipts.changed.notify_all();
        // Whoever reads the log has to look who it is now.
        self.sleepers.wake_all();
    }
}

/// An append that will never be in the log.
pub(crate) fn given_up() -> AppendError {
    AppendError::Refused { reason: Arc::from(GIVEN_UP) }
}
