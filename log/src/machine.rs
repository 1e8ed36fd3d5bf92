//! The log as a machine: one turn proposes what waits, writes once, folds what was committed, and
//! hands it to the tails. The log thread (`driver.rs`) and the simulator turn it.

mod commands;
mod deriving;
mod doubting;
mod hearing;
mod incarnation;
mod joining;
mod keeping;
mod lagging;
mod leaving;
mod peers;
mod policy;
mod proposing;
mod recovery;
mod replacing;
mod showing;
mod snapshots;
#[cfg(feature = "testing")]
mod testing;

pub use joining::Membership;
pub use recovery::Beginning;
pub(crate) use recovery::describe;

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use ledgermq_core::identity::ProducerId;
use ledgermq_core::offset::{Index, Timestamp};
use raft::eraftpb::{Entry, EntryType};

use crate::admission::{Admission, Checkpoint};
use crate::clock::{LeaderClock, Now};
use crate::cluster::Peers;
use crate::cluster::doubt::Shortness;
use crate::committed::{CommittedBatch, Voids};
use crate::config::{Config, Durability};
use crate::envelope;
use crate::receipt::Receipt;
use crate::replica::{Replica, Syncing, Turned};
use crate::shared::{Shared, lock};
use crate::space::Monitor;
use crate::status::Buckets;
use crate::store::{LogStore, StoreError, Unit};

/// Time between two ticks of raft.
pub(crate) const TICK: Duration = Duration::from_millis(100);
/// After a write for which the disk had no space, room is looked for so often.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);
/// And so often the write is tried again whatever the system says about room.
const RETRY_ANYWAY_INTERVAL: Duration = Duration::from_secs(10);
/// With `durability = "os-cache"` everything is synced at least so often.
const SYNC_INTERVAL: Duration = Duration::from_millis(50);

/// Why the log cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    /// The disk failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A committed entry cannot be read: a broken invariant.
    #[error("committed entry {index} is damaged: {what}")]
    Damaged {
        /// Its index.
        index: Index,
        /// What is wrong.
        what: &'static str,
    },
    /// A committed entry holds what was written, and this version does not know what it means. Other
    /// nodes hold the same: the log is kept.
    #[error(
        "committed entry {index} is whole, but this version does not understand it: {what}. The log is \
         kept: start the version that wrote it, or a later one"
    )]
    NotUnderstood {
        /// Its index.
        index: Index,
        /// What is unknown.
        what: &'static str,
    },
    /// What this process is about to log no node could fold. It is not proposed.
    #[error("a batch of this process cannot be folded, and is not proposed: {0}")]
    NotFoldable(&'static str),
    /// Somebody leads who has another entry where this node has a committed one. Nobody but people
    /// can tell which of the two is right, so nothing is repaired.
    #[error(
        "node {from} leads, and its entry {index} is not the one that is committed here: one of the \
         two has lost or changed what it had acknowledged, or writes as a member of another \
         history of this cluster (a disk that was cloned, restored from a backup, or rolled back)"
    )]
    Contradicted {
        /// The first entry in which they differ.
        index: Index,
        /// The other node.
        from: u64,
    },
    /// The log is not what this node promised to others. The next process has to begin without it.
    #[error("{0}")]
    Short(Shortness),
}

impl TurnError {
    /// A committed entry cannot be folded. One that is whole is the same on every node: nobody may
    /// give a log up for it.
    fn unfit(index: Index, bytes: &[u8], what: &'static str) -> Self {
        match envelope::is_whole(bytes) {
            true => Self::NotUnderstood { index, what },
            false => Self::Damaged { index, what },
        }
    }
}

/// The log of one node, over any store.
pub struct LogMachine<S: LogStore> {
    replica: Replica<S>,
    admission: Admission,
    checkpoint: Checkpoint,
    space: Monitor,
    /// Keys for the next write.
    extra: Unit,
    /// Entries up to here were found on the disk: they are checked before they are shown.
    found: Index,
    clock: LeaderClock,
    shared: Arc<Shared>,
    config: Config,
    /// The log's own producer, for [`crate::Log::append`].
    own: ProducerId,
    /// The number of this process outlives it.
    is_number_kept: bool,
    /// The way of batches to raft, here or at the leader.
    proposing: proposing::Proposing,
    /// What is known of the other nodes.
    peers: peers::Table,
    policy: policy::Policy,
    commands: commands::Commands,
    joining: joining::Joining,
    doubting: doubting::Doubting,
    snapshots: snapshots::Snapshots,
    /// A node that is not heard for so long is declared lost.
    node_lost: Duration,
    /// When a write is tried again for which the disk had no space.
    retry: Option<Duration>,
    /// When it is tried again though the system says that there is no room.
    retry_anyway: Duration,
    turned: Turned,
    last_tick: Duration,
    last_sync: Duration,
    is_unsynced: bool,
    /// The last sync found the disk full.
    awaits_sync: bool,
    /// Time of the last batch that is committed.
    last_time: Timestamp,
    counts: Counts,
    keeping: keeping::Keeping,
    /// When the write under way began, by the stopwatch.
    write_began: Option<Duration>,
    /// Reads a monotonic clock, to time the syncs.
    stopwatch: Box<dyn FnMut() -> Duration + Send>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    batches: u64,
    bytes: u64,
    void_batches: u64,
    no_space: u64,
    last_sync: Duration,
    syncs: Buckets,
}

impl<S: LogStore> LogMachine<S> {
    /// One turn: takes what came from peers, proposes what waits, writes once, hands out what was
    /// committed. What leaves goes to `peers`. Answers whether there is more to do at once.
    ///
    /// # Errors
    ///
    /// [`TurnError`] is final: the log must be dropped, and the node stops.
    pub fn turn(&mut self, now: Now, peers: &mut dyn Peers) -> Result<bool, TurnError> {
        self.clock.read(now);
        self.tell_peers_first(peers);
        // Then what came: a node that was held up must not stand for election beside it.
        self.take_inputs(now, peers);
        self.settle_clock(now);
        self.doubt(now, peers)?;
        if now.monotonic.saturating_sub(self.last_tick) >= TICK {
            self.last_tick = now.monotonic;
            self.tick(now, peers);
        }
        if self.space.look(now.monotonic).is_some() {
            self.set_gate();
        }
        if !self.commands.is_empty() || !lock(&self.shared.commanding).waiting.is_empty() {
            self.do_commands(now, peers);
        }
        if self.is_asked() {
            self.open_door(now, peers);
        }
        self.settle_clock(now);
        // What came may have told of a later time, and made this node the leader.
        let time = self.clock.now();
        self.note_own_time(time, now.monotonic);
        let may_write = self.may_write(now);
        if may_write {
            self.resume(now, peers)?;
            self.keep_number(now)?;
            self.tell_peers_number(peers);
            self.keep_time(now.monotonic, peers)?;
        }
        self.derive(time, may_write && self.is_number_kept)?;
        if may_write {
            self.note_acked();
            self.keep_acked(now.monotonic);
            self.leave_joint();
            self.propose(now, time, peers)?;
            self.restore_imported();
            self.step_checkpoint();
            self.write(now, peers)?;
        }
        peers.flush();
        self.sync_if_due(now)?;
        self.publish()?;
        self.keep_snapshots(now, peers);
        self.show_members();
        self.renew_if_due();
        self.keep(now)?;
        self.report(time, now.monotonic);
        let may_checkpoint = self.checkpoint.is_due() && !self.replica.is_writing();
        Ok(self.retry.is_none() && (self.may_propose(now.monotonic) || may_checkpoint))
    }

    /// Whether everything that was pushed is committed here.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.proposing.is_idle()
            && self.retry.is_none()
            && lock(&self.shared.staging).waiting_bytes() == 0
            && lock(&self.shared.deriving).is_idle()
    }

    /// Whether the next turn has something to do at once: a mark that is wanted, a snapshot to be read
    /// on in, what came from peers, or a push that has a way to the leader (not before there is room on the disk).
    #[must_use]
    pub fn has_work(&self, now: Duration) -> bool {
        let is_mark_wanted = self.is_mark_wanted() && !self.is_mark_late();
        let may_write = self.retry.is_none();
        let has_derived = || lock(&self.shared.deriving).is_waiting();
        let has_commands = || {
            let waiting = !lock(&self.shared.commanding).waiting.is_empty();
            waiting && self.commands.has_room()
        };
        is_mark_wanted
            || has_commands()
            || self.snapshots.has_work()
            || (may_write
                && (!self.extra.is_empty()
                    || self.replica.has_written()
                    || self.has_inputs()
                    || self.may_propose(now)
                    || has_derived()))
    }

    /// Until when the machine need not be turned if nothing is pushed.
    #[must_use]
    pub fn next_turn(&self) -> Duration {
        let tick = self.last_tick + TICK;
        let sync = self.is_unsynced.then_some(self.last_sync + SYNC_INTERVAL);
        // What found no way is not tried while a write waits for room.
        let next_try = self.proposing.next_try().filter(|_| self.retry.is_none());
        let next_chunk = self.snapshots.next_turn();
        let others = next_try.into_iter().chain(next_chunk).chain(self.retry);
        sync.into_iter().chain(others).fold(tick, Duration::min)
    }

    /// Whether a write is worth trying. On a full disk each try costs raft-engine an empty file, so
    /// there must be room by what the system says, but for a try now and then.
    fn may_write(&mut self, now: Now) -> bool {
        let Some(retry) = self.retry else { return true };
        if now.monotonic < retry {
            return false;
        }
        let bytes = self.replica.stuck_bytes() as u64;
        let may = now.monotonic >= self.retry_anyway || self.space.has_room_for(bytes);
        if !may {
            self.retry = Some(now.monotonic + RETRY_INTERVAL);
        }
        may
    }

    /// Hears whether the write beside the turns has ended, and goes on from there.
    fn resume(&mut self, now: Now, peers: &mut dyn Peers) -> Result<(), TurnError> {
        if !self.replica.has_written() {
            return Ok(());
        }
        self.turn_replica(now, peers, |replica, send, turned| replica.resume(send, turned))
    }

    /// Does what raft has ready, and writes.
    fn write(&mut self, now: Now, peers: &mut dyn Peers) -> Result<(), TurnError> {
        let syncing = match self.config.durability {
            Durability::OsCache => Syncing::Later,
            Durability::Fsync if self.has_others() => Syncing::Beside,
            Durability::Fsync => Syncing::Within,
        };
        let mut extra = std::mem::take(&mut self.extra);
        let written = self.turn_replica(now, peers, |replica, send, turned| {
            replica.turn(&mut extra, syncing, send, turned)
        });
        self.extra = extra;
        written
    }

    fn turn_replica(
        &mut self,
        now: Now,
        peers: &mut dyn Peers,
        turn: impl FnOnce(
            &mut Replica<S>,
            crate::replica::Send<'_>,
            &mut Turned,
        ) -> Result<(), StoreError>,
    ) -> Result<(), TurnError> {
        let before = (self.stopwatch)();
        let heard = self.heard();
        let is_sound = !self.is_in_doubt();
        let mut outgoing = self.peers.outgoing(heard, peers);
        // What waited for a write that ends when it has begun to doubt is no promise of its any more.
        let mut send = |message| {
            if is_sound {
                outgoing.send(message);
            }
        };
        let written = turn(&mut self.replica, &mut send, &mut self.turned);
        let (lost, snapshots) = outgoing.end();
        lost.into_iter().for_each(|peer| self.replica.unreachable(peer));
        for (to, index) in snapshots {
            self.send_snapshot(to, index, now.monotonic);
        }
        if let Some(index) = self.turned.restored.take() {
            self.jumped(index, now.monotonic, peers);
        }
        // Who is alone cannot be helped: raft was told that it is gone, and sends a snapshot.
        if let Some(index) = self.replica.take_unreadable()
            && self.has_others()
        {
            self.found_damaged(index, now.monotonic);
        }
        match written {
            Ok(()) => {
                self.keeping.wrote(self.replica.extras_written());
                if self.retry.take().is_some() && !self.awaits_sync {
                    self.space.found_room();
                }
            }
            Err(StoreError::NoSpace) => self.on_no_space(now),
            Err(error) => return Err(error.into()),
        }
        self.count_written(before);
        Ok(())
    }

    /// Takes note of what was written, in a turn that began when the stopwatch said `before`.
    fn count_written(&mut self, before: Duration) {
        let is_unsynced = std::mem::take(&mut self.turned.is_unsynced);
        self.is_unsynced |= is_unsynced;
        let written = std::mem::take(&mut self.turned.written);
        let began = self.write_began.take_if(|_| written > 0).unwrap_or(before);
        if written > 0 {
            self.space.wrote(written as u64);
            self.keeping.grew(written as u64);
            if !is_unsynced {
                self.counts.last_sync = (self.stopwatch)().saturating_sub(began);
                self.counts.syncs.record(self.counts.last_sync);
            }
        }
        if self.replica.is_writing() && self.write_began.is_none() {
            self.write_began = Some((self.stopwatch)());
        }
    }

    /// With `durability = "os-cache"`: syncs what was written. A full disk does not keep it back,
    /// for it needs no room; should the system ask for some all the same, it is tried again.
    fn sync_if_due(&mut self, now: Now) -> Result<(), TurnError> {
        let is_due = now.monotonic.saturating_sub(self.last_sync) >= SYNC_INTERVAL;
        if !self.is_unsynced || !is_due {
            return Ok(());
        }
        self.last_sync = now.monotonic;
        match self.replica.store_mut().sync() {
            Ok(()) => {
                self.is_unsynced = false;
                if std::mem::take(&mut self.awaits_sync) {
                    self.space.found_room();
                }
            }
            Err(StoreError::NoSpace) => {
                self.awaits_sync = true;
                self.on_no_space(now);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Folds what was committed and hands it to the tails and to those who wait for receipts.
    fn publish(&mut self) -> Result<(), TurnError> {
        let committed = std::mem::take(&mut self.turned.committed);
        let Some(last) = committed.last().map(|entry| entry.index) else { return Ok(()) };
        let mut batches = Vec::with_capacity(committed.len());
        for entry in committed {
            batches.extend(self.fold(entry)?);
        }
        for batch in &batches {
            self.counts.batches += 1;
            self.counts.bytes += batch.bytes() as u64;
            self.counts.void_batches += u64::from(!batch.is_clean());
        }
        lock(&self.shared.ring).extend(batches.iter().cloned(), last);
        self.shared.sleepers.wake_all();
        // Whoever has a receipt finds the batch.
        for batch in &batches {
            if (batch.producer.node, batch.producer.start) == (self.own.node, self.own.start) {
                self.proposing.passed_own(batch);
            }
            self.answer(batch);
        }
        Ok(())
    }

    /// Folds one committed entry. `None` if it carries no batch.
    fn fold(&mut self, entry: Entry) -> Result<Option<Arc<CommittedBatch>>, TurnError> {
        let index = entry.index;
        let check = index <= self.found;
        // Raft's own entries, and the members, which the replica has applied.
        if entry.get_entry_type() != EntryType::EntryNormal || entry.data.is_empty() {
            self.admission.pass(index);
            return Ok(None);
        }
        let bytes = entry.data.clone();
        let unfit = |what| TurnError::unfit(index, &bytes, what);
        let batch =
            CommittedBatch::open(index, entry.data, check).map_err(|error| unfit(error.0))?;
        self.last_time = self.last_time.max(batch.time);
        let voids = self.admission.apply(&batch).map_err(|error| unfit(error.0))?;
        self.checkpoint.folded(index, batch.bytes(), &voids);
        if voids != Voids::None {
            let mut marks = self.shared.voids.write().unwrap_or_else(PoisonError::into_inner);
            marks.insert(index, voids.clone());
        }
        Ok(Some(Arc::new(batch.with_voids(voids))))
    }

    fn answer(&self, batch: &CommittedBatch) {
        self.answer_derived(batch);
        if batch.producer != self.own || !batch.is_admitted() {
            return;
        }
        let receipt = Receipt { index: batch.index, time: batch.time };
        let mut waiting = lock(&self.shared.receipts.waiting);
        if let Some(place) = waiting.get_mut(&(batch.producer.start, batch.sequence)) {
            *place = Some(receipt);
            self.shared.receipts.changed.notify_all();
        }
    }

    /// Makes state and counters visible.
    fn report(&self, time: Timestamp, now: Duration) {
        let pushed_at = self.pushed_at(time, now);
        let last = lock(&self.shared.ring).last();
        let (waiting_bytes, refused) = {
            let mut staging = lock(&self.shared.staging);
            staging.time = pushed_at;
            (staging.waiting_bytes(), staging.refused())
        };
        let first = self.shared.reader.first_index();
        let gate = self.shared.gate();
        let is_alone = self.is_alone();
        self.shared.has_others.store(self.has_others(), Ordering::Relaxed);
        let safe = self.peers.safe().max(self.last_time);
        let mut status = lock(&self.shared.status);
        status.gate = gate;
        status.first_index = first;
        status.commit_index = last;
        status.last_index = self.replica.last_index();
        status.term = self.replica.term();
        status.leader = self.replica.leader();
        // With others, a later leader may be behind this one: what a quorum has heard holds.
        // Nor does who is alone by now go by its own wall clock before it leads.
        let is_sure = is_alone && self.clock.is_settled();
        status.time = status.time.max(if is_sure { time } else { safe });
        status.last_time = self.last_time;
        status.clock_jumped = self.clock.jumped();
        status.entries = (last + 1).saturating_sub(first);
        status.committed_batches = self.counts.batches;
        status.committed_bytes = self.counts.bytes;
        status.void_batches = self.counts.void_batches;
        status.no_space = self.counts.no_space;
        status.waiting_bytes = (waiting_bytes + self.proposing.outbox_bytes()) as u64;
        status.refused = refused;
        status.free_bytes = self.space.free();
        status.ballast = self.space.has_ballast();
        status.last_sync = self.counts.last_sync;
        status.syncs = self.counts.syncs;
        status.disk_bytes = self.replica.store().bytes();
        status.purge_allowed = self.shared.purge_allowed.load(Ordering::Relaxed);
        status.purge_wanted = self.keeping.purge_wanted();
    }

    /// The disk is full: messages and openings are refused until there is room again. The ballast
    /// makes some at once.
    fn on_no_space(&mut self, now: Now) {
        self.counts.no_space += 1;
        let pause = if self.space.found_full() { Duration::ZERO } else { RETRY_INTERVAL };
        self.retry = Some(now.monotonic + pause);
        self.retry_anyway = now.monotonic + RETRY_ANYWAY_INTERVAL;
        self.set_gate();
    }
}
