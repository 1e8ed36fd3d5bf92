//! Snapshots for nodes that lack what is purged.
//!
//! A leader whose raft asks for one cuts its state at an index (`offering.rs`), sends the file
//! (`sending.rs`), and keeps what follows in its log (`catching_up.rs`). A follower takes the file
//! (`receiving.rs`), has the projections take in their part, and only then jumps there
//! (`installing.rs`).

mod catching_up;
mod installing;
mod offering;
mod receiving;
mod sending;
#[cfg(all(test, feature = "testing"))]
mod tests;

pub(super) use catching_up::Size;
pub(super) use installing::time as time_of_snapshot;

use std::sync::Arc;
use std::time::Duration;

use ledgermq_core::offset::Index;

use crate::clock::Now;
use crate::cluster::{Frame, Peers};
use crate::machine::LogMachine;
use crate::shared::lock;
use crate::snapshots::{SnapshotFiles, remove};
use crate::status::{RunningSnapshot, SnapshotStatus, SnapshotStep};
use crate::store::LogStore;

/// A cut that does not go on for so long is given up, and so is a transfer of which nothing arrives.
const PATIENCE: Duration = Duration::from_secs(60);
/// A snapshot that nobody uses for so long is removed.
const IDLE: Duration = Duration::from_secs(10 * 60);
/// Chunks between two acknowledgements.
const ACK_CHUNKS: u32 = 8;
/// Chunks that may be under way.
const WINDOW_CHUNKS: u32 = 16;
/// What is not acknowledged for so long is sent again.
const RESEND: Duration = Duration::from_secs(5);
/// So often a receiver that takes a snapshot in says so.
const KEEPALIVE: Duration = Duration::from_secs(2);

/// What the machine knows of snapshots.
pub(super) struct Snapshots {
    files: Arc<dyn SnapshotFiles>,
    /// Bytes sent in a second, at most, of all transfers.
    rate: u64,
    /// Files made by this process so far.
    made: u32,
    offering: offering::Offering,
    sending: sending::Sending,
    catching_up: catching_up::CatchingUp,
    receiving: Option<receiving::Receiving>,
    installing: Option<installing::Installing>,
    pub(super) counts: SnapshotStatus,
}

impl Snapshots {
    /// Nothing yet. What an earlier process left in `files` is removed.
    pub(super) fn new(files: Arc<dyn SnapshotFiles>, rate: u64) -> Self {
        match files.list() {
            Ok(names) => names.iter().for_each(|name| remove(&*files, name)),
            Err(error) => tracing::warn!(%error, "old snapshots cannot be listed"),
        }
        Self {
            files,
            rate: rate.max(1),
            made: 0,
            offering: offering::Offering::default(),
            sending: sending::Sending::default(),
            catching_up: catching_up::CatchingUp::default(),
            receiving: None,
            installing: None,
            counts: SnapshotStatus::default(),
        }
    }

    /// What follows this index is kept in the log for whoever gets the snapshot, or has got it and
    /// has not caught up.
    pub(super) fn pinned(&self) -> Option<Index> {
        let pinned = [self.offering.pinned(), self.sending.pinned(), self.catching_up.pinned()];
        pinned.into_iter().flatten().min()
    }

    /// When there is something to be sent again.
    pub(super) fn next_turn(&self) -> Option<Duration> {
        self.sending.next_turn()
    }

    /// Whether there is something to be done at once.
    pub(super) fn has_work(&self) -> bool {
        self.receiving.as_ref().is_some_and(receiving::Receiving::is_reading)
    }

    /// The log is on its way to a snapshot: nothing of the state before may be written any more.
    pub(super) fn is_installing(&self) -> bool {
        self.installing.is_some()
    }

    fn number(&mut self) -> u32 {
        self.made += 1;
        self.made
    }
}

impl<S: LogStore> LogMachine<S> {
    /// The snapshots on their way.
    pub(super) fn snapshots_running(&self) -> Vec<RunningSnapshot> {
        let cut = lock(&self.shared.snapshots).running().map(|(index, bytes)| RunningSnapshot {
            step: SnapshotStep::Made,
            index,
            // That it was begun counts as one.
            bytes: bytes.saturating_sub(1),
            bytes_total: None,
        });
        let received = self.snapshots.receiving.as_ref().map(receiving::Receiving::running);
        cut.into_iter().chain(self.snapshots.sending.running()).chain(received).collect()
    }

    /// Takes a frame of a snapshot.
    pub(super) fn take_snapshot_frame(
        &mut self,
        from: u64,
        frame: Frame,
        now: Now,
        peers: &mut dyn Peers,
    ) -> usize {
        let now = now.monotonic;
        match frame {
            Frame::SnapshotBegin(begin) => self.take_begin(from, begin, now, peers),
            Frame::SnapshotChunk(chunk) => {
                let bytes = chunk.content.len();
                self.take_chunk(from, &chunk, now, peers);
                return bytes;
            }
            Frame::SnapshotEnd(end) => self.take_end(from, end, now, peers),
            Frame::SnapshotAck(ack) => self.take_ack(from, ack, now),
            // No other is one of snapshots.
            _ => {}
        }
        0
    }

    /// Does what is due in a turn, behind the fold.
    pub(super) fn keep_snapshots(&mut self, now: Now, peers: &mut dyn Peers) {
        self.offer_snapshot(now.monotonic);
        self.send_snapshots(now.monotonic, peers);
        self.keep_catching_up(now.monotonic);
        self.keep_receiving(now.monotonic, peers);
    }
}
