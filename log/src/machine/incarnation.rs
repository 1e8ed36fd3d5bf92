//! When this process has to begin anew; see `incarnation.rs`.

#[cfg(all(test, feature = "testing"))]
mod tests;

use std::sync::atomic::Ordering;

use crate::machine::LogMachine;
use crate::shared::lock;
use crate::store::LogStore;

/// The highest number that this process took, in the store: 8 bytes, big-endian.
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
        let start = least.max(now + 1);
        tracing::warn!(
            before = now,
            start,
            "this process begins anew, as another start of the node"
        );
        self.proposing.renew();
        lock(&self.shared.deriving).refuse();
        self.own.start = start;
        self.take_start(start);
        self.shared.renew(start);
    }

    /// Notes that this process writes as `start`. Nothing is sent before that is durable: the next
    /// process would take the same number.
    pub(super) fn take_start(&mut self, start: u64) {
        self.extra.puts.push((KEY.to_vec(), start.to_be_bytes().to_vec()));
        self.proposing.rename();
    }
}

/// The highest number that a process took at run time; 0 if none did.
pub(super) fn taken<S: LogStore>(store: &S) -> u64 {
    let bytes = store.get(KEY).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u64::from_be_bytes)
}
