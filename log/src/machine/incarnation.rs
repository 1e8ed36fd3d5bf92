//! When this process has to begin anew; see `incarnation.rs`.

#[cfg(all(test, feature = "testing"))]
mod tests;

use std::sync::atomic::Ordering;

use crate::clock::Now;
use crate::machine::{LogMachine, TurnError};
use crate::shared::lock;
use crate::store::{LogStore, StoreError, Unit};

/// The highest number that a process took which is not that of its start, in the store: 8 bytes, big-endian.
const KEY: &[u8] = b"I";

impl<S: LogStore> LogMachine<S> {
    /// Takes another number if the log does not count the one of now any more, or somebody asked
    /// for it. To be called behind the fold: what is thrown away was either folded or never counts.
    pub(super) fn renew_if_due(&mut self) {
        let now = self.shared.start();
        let least = self.admission.least_start(self.shared.node);
        let is_wanted = self.shared.is_renewal_wanted.swap(false, Ordering::Relaxed);
        if least <= now && !is_wanted {
            return;
        }
        // A snapshot may tell of a process that this node does not remember, since it lost its log.
        let known = self.admission.known_start(self.shared.node);
        let start = least.max(now + 1).max(known + 1);
        tracing::warn!(
            before = now,
            start,
            "this process begins anew, as another start of the node"
        );
        self.proposing.renew();
        lock(&self.shared.deriving).refuse();
        self.own.start = start;
        self.is_number_kept = false;
        self.shared.renew(start);
    }

    /// Writes down under which number this process writes, before anybody hears of it: batches leave
    /// for others before this node has synced any of them, and no later process may number its own
    /// in the same way. A full disk is tried again.
    pub(super) fn keep_number(&mut self, now: Now) -> Result<(), TurnError> {
        if self.is_number_kept || self.replica.is_stuck() {
            return Ok(());
        }
        let start = self.shared.start();
        let puts = vec![(KEY.to_vec(), start.to_be_bytes().to_vec())];
        match self.replica.store_mut().write(&Unit { puts, ..Unit::default() }, true) {
            Ok(()) => self.is_number_kept = true,
            Err(StoreError::NoSpace) => self.on_no_space(now),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// The highest number that a process took at run time; 0 if none did.
pub(super) fn taken<S: LogStore>(store: &S) -> u64 {
    let bytes = store.get(KEY).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u64::from_be_bytes)
}
