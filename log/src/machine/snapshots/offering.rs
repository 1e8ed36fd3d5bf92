//! Making a snapshot, and having it at hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use ledgermq_core::offset::Index;

use super::catching_up::Size;
use super::{IDLE, PATIENCE};
use crate::machine::LogMachine;
use crate::shared::lock;
use crate::snapshots::{Cut, CutEnd, Prologue, Room, Written, remove};
use crate::store::{Configuration, LogStore};

/// Pause after a cut that failed, twice as long after the next one, and so on: a disk that has no room
/// for it must not be filled again at once.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_DOUBLINGS_MAX: u32 = 4;

/// The cut that is made, and the snapshot that is at hand.
#[derive(Default)]
pub(super) struct Offering {
    cut: Option<Running>,
    pub(super) offered: Option<Offered>,
    /// No cut is begun before; and so many failed in a row.
    not_before: Duration,
    failures: u32,
    /// Bytes of the last one that was made.
    last_bytes: Option<u64>,
}

/// A cut that the projections write.
struct Running {
    place: Place,
    /// Bytes that were written when it was looked at last, and when that changed.
    progress: u64,
    progress_at: Duration,
}

/// Where a snapshot is cut.
pub(super) struct Place {
    /// Number and name of the file.
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) index: Index,
    pub(super) term: u64,
    configuration: Configuration,
}

/// A snapshot that can be sent.
pub(super) struct Offered {
    pub(super) place: Place,
    pub(super) written: Written,
    /// When it was sent last.
    pub(super) used_at: Duration,
    /// Somebody waits for it, who then needs what follows.
    pub(super) is_pinned: bool,
    /// When the log is larger and nobody takes it, it is waited for no longer.
    size_max: Size,
}

impl Offering {
    pub(super) fn pinned(&self) -> Option<Index> {
        let cut = self.cut.as_ref().map(|cut| cut.place.index);
        let offered = self.offered.as_ref().filter(|offered| offered.is_pinned);
        cut.into_iter().chain(offered.map(|offered| offered.place.index)).min()
    }
}

impl<S: LogStore> LogMachine<S> {
    /// Makes a snapshot if raft asks for one that is not there, and removes what nobody uses.
    pub(super) fn offer_snapshot(&mut self, now: Duration) {
        self.take_cut(now);
        self.look_at_cut(now);
        self.drop_unused(now);
        // Raft asks again with every heartbeat that is answered, as long as somebody lacks entries.
        let is_wanted = self.replica.take_snapshot_wanted();
        let may_cut = self.snapshots.offering.cut.is_none()
            && now >= self.snapshots.offering.not_before
            // Only one is kept: who takes the last one gets it whole.
            && !self.snapshots.sending.is_awaited(now)
            && !self.replica.is_stuck()
            && self.replica.is_leader()
            && lock(&self.shared.snapshots).may_cut(self.admission.applied());
        if is_wanted && may_cut {
            self.begin_cut(now);
        } else if is_wanted && self.replica.is_leader() {
            // Perhaps nothing is committed before there is a snapshot, and none is cut before that.
            let folded = lock(&self.shared.snapshots).began_behind();
            // It was folded from what was found here, and not from what came later.
            if folded <= self.found {
                self.replica.know_committed(folded);
            }
        }
    }

    pub(super) fn begin_cut(&mut self, now: Duration) {
        let index = self.admission.applied();
        let Some(term) = self.replica.term_of(index) else { return };
        let number = self.snapshots.number();
        let members = self.replica.members().clone();
        let configuration = self.replica.configuration().clone();
        let prologue = Prologue {
            cluster: members.cluster,
            generation: members.generation,
            node: self.shared.node,
            index,
            term,
            time: self.last_time,
            configuration: configuration.clone(),
            members,
            admission: self.admission.clone(),
        };
        let free = self.space.free_now();
        let room = Room {
            bytes_max: self.room_for_cut(free),
            own: self.admission.bytes(),
            last: self.snapshots.offering.last_bytes,
        };
        // Another process of this node numbers its own from elsewhere on.
        let id = (self.shared.start() << 24) | u64::from(number);
        let name = format!("cut-{number}");
        let cut = Cut {
            index,
            files: Arc::clone(&self.snapshots.files),
            name: name.clone(),
            prologue: Box::new(move |out| prologue.write(out)),
            room,
            progress: AtomicU64::new(0),
            is_given_up: AtomicBool::new(false),
        };
        tracing::info!(index, "a snapshot is made for a node that lacks what was purged");
        let place = Place { id, name, index, term, configuration };
        let running = Running { place, progress: 0, progress_at: now };
        self.snapshots.offering.cut = Some(running);
        // Nothing beyond the index is in the ring yet: whoever takes batches from now on learns of
        // the cut before it can pass it.
        lock(&self.shared.snapshots).want(cut);
        self.shared.sleepers.wake_all();
    }

    fn take_cut(&mut self, now: Duration) {
        if self.snapshots.offering.cut.is_none() {
            return;
        }
        let Some(end) = lock(&self.shared.snapshots).take_end() else { return };
        let Some(Running { place, .. }) = self.snapshots.offering.cut.take() else { return };
        let written = match end {
            CutEnd::Finished(written) => written,
            CutEnd::Failed(why) => {
                tracing::warn!(index = place.index, %why, "a snapshot could not be written");
                return self.cut_failed(&place, now);
            }
        };
        self.snapshots.offering.failures = 0;
        self.snapshots.offering.last_bytes = Some(written.bytes);
        self.drop_offered();
        tracing::info!(index = place.index, bytes = written.bytes, "a snapshot is ready");
        self.snapshots.counts.made += 1;
        self.replica.offer_snapshot(Some((place.index, place.term, &place.configuration)));
        // Who asked while it was made gets this one.
        self.replica.take_snapshot_wanted();
        let size_max = self.size_allowed();
        self.snapshots.offering.offered =
            Some(Offered { place, written, used_at: now, is_pinned: true, size_max });
    }

    fn cut_failed(&mut self, place: &Place, now: Duration) {
        self.snapshots.counts.failed += 1;
        let offering = &mut self.snapshots.offering;
        offering.not_before = now + PAUSE * (1 << offering.failures);
        offering.failures = PAUSE_DOUBLINGS_MAX.min(offering.failures + 1);
        remove(&*self.snapshots.files, &place.name);
    }

    /// Bytes that may be written before the log lacks what it keeps for itself.
    fn room_for_cut(&self, free: u64) -> u64 {
        free.saturating_sub(self.config.reserve_publish_bytes())
    }

    /// Gives up a cut that does not go on, or takes the room of the log, which has grown beside it.
    fn look_at_cut(&mut self, now: Duration) {
        let Some(running) = &mut self.snapshots.offering.cut else { return };
        let progress = lock(&self.shared.snapshots).running().map_or(0, |(_, bytes)| bytes);
        if progress > running.progress {
            (running.progress, running.progress_at) = (progress, now);
        }
        let is_still = now.saturating_sub(running.progress_at) >= PATIENCE;
        let index = running.place.index;
        if is_still {
            tracing::warn!(index, "the projections do not write a snapshot: it is given up");
        } else if progress > 0 && self.room_for_cut(self.space.free()) == 0 {
            tracing::warn!(index, "the disk has no room left for a snapshot: it is given up");
        } else {
            return;
        }
        lock(&self.shared.snapshots).give_up();
        if let Some(running) = self.snapshots.offering.cut.take() {
            self.cut_failed(&running.place, now);
        }
    }

    /// Removes the snapshot that nobody uses, or behind which the log does not go on.
    fn drop_unused(&mut self, now: Duration) {
        let (size, allowed) = (self.size(), self.size_allowed());
        let Some(offered) = &mut self.snapshots.offering.offered else { return };
        let is_used = !self.snapshots.sending.is_idle();
        if is_used {
            offered.used_at = now;
        }
        if self.snapshots.sending.is_taken() {
            offered.size_max = allowed;
        }
        if size.is_beyond(offered.size_max) {
            tracing::warn!(
                index = offered.place.index,
                "nobody takes the snapshot, and the log grows: it is given up"
            );
            self.fail_transfers("its receiver does not take it, and the log has grown too far");
            // By the time of another one the log has grown by as much again.
            self.snapshots.offering.not_before = now + PAUSE;
            return self.drop_offered();
        }
        let is_idle = now.saturating_sub(offered.used_at) >= IDLE;
        let is_passed = offered.place.index + 1 < self.shared.reader.first_index();
        if is_idle || is_passed || !(self.replica.is_leader() || is_used) {
            self.fail_transfers("the log was purged behind the snapshot");
            self.drop_offered();
        }
    }

    pub(super) fn drop_offered(&mut self) {
        self.replica.offer_snapshot(None);
        if let Some(offered) = self.snapshots.offering.offered.take() {
            remove(&*self.snapshots.files, &offered.place.name);
        }
    }
}
