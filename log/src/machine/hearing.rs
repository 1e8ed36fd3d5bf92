//! The time that this node has heard of, beyond the end of its process.
//!
//! Once a quorum has heard a time, everybody may go by it: no later leader stamps below, since one of
//! those who heard it has to vote for that leader. So what a node says that it heard has to outlive its
//! process. It is written down ahead, so that one write does for a while; a node that starts again
//! goes on from what is written, a little ahead of what it had heard.

#[cfg(all(test, feature = "testing"))]
mod tests;

use std::time::Duration;

use ledgermq_core::offset::Timestamp;

use crate::cluster::Peers;
use crate::machine::{LogMachine, TurnError};
use crate::store::{LogStore, StoreError, Unit};

/// A time that this node heard nothing beyond, in the store: 8 bytes, big-endian, microseconds.
const KEY: &[u8] = b"H";
/// So far ahead it is written.
const AHEAD: Duration = Duration::from_secs(2);
/// And written again when it is less far ahead.
const LEAST_AHEAD: Duration = Duration::from_secs(1);
/// After a write for which the disk had no space it is not tried before.
const PAUSE: Duration = Duration::from_secs(1);

impl<S: LogStore> LogMachine<S> {
    /// Writes down how late it may be, where others go by it. A full disk is no error: this node then
    /// says no more than what is written.
    pub(super) fn keep_time(
        &mut self,
        now: Duration,
        peers: &mut dyn Peers,
    ) -> Result<(), TurnError> {
        let heard = self.peers.heard();
        // Learners go by it as well.
        let is_alone = self.is_the_only_one();
        let is_due = heard.plus(LEAST_AHEAD) > self.peers.kept && now >= self.peers.keep_again;
        if is_alone || self.replica.is_stuck() || !is_due {
            return Ok(());
        }
        peers.flush();
        let kept = heard.plus(AHEAD);
        let puts = vec![(KEY.to_vec(), kept.0.to_be_bytes().to_vec())];
        match self.replica.store_mut().write(&Unit { puts, ..Unit::default() }, true) {
            Ok(()) => self.peers.kept = kept,
            // Each try costs an empty file.
            Err(StoreError::NoSpace) => self.peers.keep_again = now + PAUSE,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// The time that a process of this node went by last, or a later one; the beginning of time if it is
/// not written.
pub(super) fn kept<S: LogStore>(store: &S) -> Timestamp {
    let bytes = store.get(KEY).and_then(|bytes| bytes.try_into().ok());
    Timestamp(bytes.map_or(0, u64::from_be_bytes))
}
