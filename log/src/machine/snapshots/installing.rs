//! Jumping to a snapshot that the projections have taken in.
//!
//! Raft takes it, and one write, which is synced, makes it so: the place of the log, term and commit,
//! configuration and members, the state of admission. A crash before leaves everything as it was, and one
//! behind it a log that begins behind the snapshot.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ledgermq_core::identity::ProducerId;
use ledgermq_core::offset::{Index, Timestamp};

use crate::admission::{Admission, Checkpoint};
use crate::cluster::Peers;
use crate::machine::LogMachine;
use crate::receipt::Receipt;
use crate::replica::Restored;
use crate::shared::lock;
use crate::snapshots::remove;
use crate::store::LogStore;

/// Index and time of the last snapshot that the log jumped to, in the store: 8 bytes each, big-endian.
const KEY: &[u8] = b"S";

/// A jump that raft has taken and that is not written yet.
pub(super) struct Installing {
    admission: Admission,
    checkpoint: Checkpoint,
    time: Timestamp,
    ready: Ready,
}

/// A snapshot that was received and is no longer looked after.
pub(super) struct Ready {
    pub(super) from: u64,
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) began_at: Duration,
}

impl<S: LogStore> LogMachine<S> {
    /// Lets raft have the snapshot that the projections have taken in, if there is one and a leader
    /// whom raft may answer.
    pub(in crate::machine) fn restore_imported(&mut self) {
        let leader = self.replica.leader();
        // What is written just now may leave keys behind that make way for those of the snapshot.
        if self.replica.is_stuck()
            || self.replica.has_unwritten()
            || leader == 0
            || leader == self.shared.node
        {
            return;
        }
        let Some(prologue) = self.imported() else { return };
        let prologue = prologue.clone();
        let (index, time) = (prologue.index, prologue.time);
        let (checkpoint, mut unit) = Checkpoint::replace(&prologue.admission, self.replica.store());
        unit.puts.push((KEY.to_vec(), key_bytes(index, time)));
        let restored = Restored {
            index,
            term: prologue.term,
            configuration: prologue.configuration,
            members: prologue.members,
            unit,
        };
        if !self.replica.restore(restored) {
            return self.drop_useless(index);
        }
        // Nothing of the state before may be written with it, or behind it.
        self.extra.puts.retain(|(key, _)| !Checkpoint::has_key(key));
        self.extra.deletes.retain(|key| !Checkpoint::has_key(key));
        // From the write on, tails find the gap.
        lock(&self.shared.snapshots).installing(index);
        let Some(ready) = self.take_received() else { return };
        let admission = prologue.admission;
        self.snapshots.installing = Some(Installing { admission, checkpoint, time, ready });
    }

    /// The write is done: the log is at the snapshot.
    pub(in crate::machine) fn jumped(
        &mut self,
        index: Index,
        now: Duration,
        peers: &mut dyn Peers,
    ) {
        let Some(installing) = self.snapshots.installing.take() else { return };
        let Installing { admission, checkpoint, time, ready } = installing;
        debug_assert_eq!(admission.applied(), index, "raft jumped there");
        tracing::info!(index, from = ready.from, "the log goes on from a snapshot");
        (self.admission, self.checkpoint) = (admission, checkpoint);
        self.keeping.jumped(index);
        self.last_time = self.last_time.max(time);
        self.hear(time);
        self.shared.voids.write().unwrap_or_else(PoisonError::into_inner).clear();
        self.shared.forget_cached();
        lock(&self.shared.ring).reset(index);
        self.answer_passed(index, time);
        // Who read what is gone now, and not yet the gap, may take messages for lost that are in the
        // snapshot: nothing that is decided so may leave.
        self.shared.is_renewal_wanted.store(true, Ordering::Relaxed);
        self.shared.sleepers.wake_all();
        remove(&*self.snapshots.files, &ready.name);
        let counts = &mut self.snapshots.counts;
        counts.received += 1;
        counts.received_bytes += ready.bytes;
        let time = now.saturating_sub(ready.began_at);
        counts.received_time += time;
        counts.last_received = Some((ready.bytes, time));
        let _ = peers.send(ready.from, &ready.answer());
    }

    /// Batches of this process that are in the snapshot are done; who waits for one is told the place
    /// of the snapshot: where exactly it stands is not known.
    fn answer_passed(&mut self, index: Index, time: Timestamp) {
        let own = self.own;
        let admission = &self.admission;
        self.proposing.passed(|local| admission.last(ProducerId { local, ..own }));
        let last = admission.last(own);
        let mut waiting = lock(&self.shared.receipts.waiting);
        for ((start, sequence), place) in waiting.iter_mut() {
            if *start == own.start && *sequence <= last && place.is_none() {
                *place = Some(Receipt { index, time });
            }
        }
        drop(waiting);
        self.shared.receipts.changed.notify_all();
    }
}

fn key_bytes(index: Index, time: Timestamp) -> Vec<u8> {
    [index.to_be_bytes(), time.0.to_be_bytes()].concat()
}

/// The time of the last batch in the snapshot that the log jumped to last; the beginning of time if
/// there is none.
pub(in crate::machine) fn time<S: LogStore>(store: &S) -> Timestamp {
    let bytes = store.get(KEY).and_then(|bytes| bytes.get(8..)?.try_into().ok());
    Timestamp(bytes.map_or(0, u64::from_be_bytes))
}
