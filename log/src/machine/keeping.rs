//! Housekeeping between turns: watermarks, purging, the orderly end.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ledgermq_core::offset::Index;

use crate::clock::Now;
use crate::config::Config;
use crate::machine::snapshots::Size;
use crate::machine::{LogMachine, TurnError};
use crate::replica::Syncing;
use crate::shared::{Shared, lock};
use crate::store::{LogStore, StoreError};

/// How often to look whether there is something to do.
const INTERVAL: Duration = Duration::from_secs(1);

/// When what was done last.
#[derive(Debug)]
pub(super) struct Keeping {
    last: Duration,
    /// Nothing was written since the last mark.
    is_marked: bool,
    /// The last mark found no room.
    is_late: bool,
    /// Bytes written since the last look.
    written: u64,
    purge_wanted: Option<Index>,
    /// What is to be purged waits for the checkpoint of admission.
    awaits_checkpoint: bool,
    /// The checkpoint of admission that is on the disk.
    checkpoint: Index,
    /// The one that is on its way there: it is there when the replica has written so many units of
    /// keys.
    coming: Option<(u64, Index)>,
}

impl Keeping {
    pub(super) fn new(now: Duration, checkpoint: Index) -> Self {
        Self {
            last: now,
            is_marked: false,
            is_late: false,
            written: 0,
            purge_wanted: None,
            awaits_checkpoint: false,
            checkpoint,
            coming: None,
        }
    }

    /// The log on the disk grew by so many bytes.
    pub(super) fn grew(&mut self, bytes: u64) {
        self.is_marked = false;
        self.written += bytes;
    }

    /// A checkpoint of admission is whole with the unit of keys of that number.
    fn checkpoint_comes(&mut self, unit: u64, index: Index) {
        self.coming = Some((unit, index));
    }

    /// So many units of keys were written.
    pub(super) fn wrote(&mut self, units: u64) {
        if let Some((_, index)) = self.coming.take_if(|(unit, _)| *unit <= units) {
            self.checkpoint = index;
        }
    }

    /// The log has jumped to a snapshot, which is a checkpoint of admission.
    pub(super) fn jumped(&mut self, index: Index) {
        (self.checkpoint, self.coming) = (index, None);
        (self.purge_wanted, self.awaits_checkpoint) = (None, false);
    }

    pub(super) fn purge_wanted(&self) -> Option<Index> {
        self.purge_wanted
    }
}

impl<S: LogStore> LogMachine<S> {
    /// Does what is due, also while a write waits for room: a purge makes some.
    pub(super) fn keep(&mut self, now: Now) -> Result<(), TurnError> {
        let is_due = now.monotonic.saturating_sub(self.keeping.last) >= INTERVAL
            || self.keeping.written >= self.config.file_bytes.0
            || (self.keeping.awaits_checkpoint && !self.checkpoint.is_due());
        if !is_due {
            // The watermark is written in place: a full disk does not keep it back.
            return if self.is_mark_wanted() { self.mark() } else { Ok(()) };
        }
        self.keeping.last = now.monotonic;
        self.keeping.written = 0;
        unless_full(self.purge(now.monotonic))?;
        if !self.keeping.is_marked || self.is_mark_wanted() {
            self.mark()?;
        }
        Ok(())
    }

    /// Whether somebody waits for the watermark.
    pub(super) fn is_mark_wanted(&self) -> bool {
        let mark = &self.shared.mark;
        mark.wanted.load(Ordering::SeqCst) > *lock(&mark.reached)
    }

    /// Whether the last mark found no room: it is tried again with the turns that come anyway.
    pub(super) fn is_mark_late(&self) -> bool {
        self.keeping.is_late
    }

    fn mark(&mut self) -> Result<(), TurnError> {
        let marked = self.sync_and_mark(false);
        self.keeping.is_late = marked.is_err();
        unless_full(marked)
    }

    /// Notes how far the log is synced, which it must be first.
    fn sync_and_mark(&mut self, clean: bool) -> Result<(), StoreError> {
        if self.is_unsynced {
            self.replica.store_mut().sync()?;
            self.is_unsynced = false;
        }
        // What the projections make durable by this mark is known to be committed after a restart: a
        // cut for another node must not lie before it. A full disk does not keep the mark back.
        if !self.replica.is_sole_member() && self.retry.is_none() {
            match self.replica.keep_commit() {
                Ok(()) | Err(StoreError::NoSpace) => {}
                Err(error) => return Err(error),
            }
        }
        self.replica.store_mut().mark(clean)?;
        self.keeping.is_marked = true;
        // Whatever is committed was written.
        let committed = lock(&self.shared.ring).last();
        *lock(&self.shared.mark.reached) = committed;
        self.shared.mark.changed.notify_all();
        Ok(())
    }

    /// Writes what a clean stop leaves behind: the state of admission, so that the next start has
    /// nothing to fold, and the mark that all of the log is synced.
    ///
    /// # Errors
    ///
    /// [`TurnError::Store`]; a full disk is none: the next start then folds more of the log.
    pub fn close(&mut self) -> Result<(), TurnError> {
        // Behind a jump that waits for room, the state of before must not be written.
        if !self.snapshots.is_installing() {
            unless_full(self.finish_checkpoint())?;
        }
        // Whatever was written last, the commit index among it, is synced.
        self.is_unsynced = true;
        unless_full(self.sync_and_mark(!self.replica.is_stuck()))
    }

    fn finish_checkpoint(&mut self) -> Result<(), StoreError> {
        self.checkpoint.want();
        while self.checkpoint.is_due() {
            self.checkpoint.step(&self.admission, &mut self.extra);
            let Self { replica, extra, turned, .. } = self;
            // What leaves now would reach nobody: the process ends.
            replica.turn(extra, Syncing::Within, &mut |_| {}, turned)?;
        }
        Ok(())
    }

    /// Puts the next piece of a checkpoint of admission into the next write, if one is due: one piece
    /// for each write.
    pub(super) fn step_checkpoint(&mut self) {
        if self.snapshots.is_installing() || self.replica.is_writing() {
            return;
        }
        let before = self.checkpoint.index();
        self.checkpoint.step(&self.admission, &mut self.extra);
        if self.checkpoint.index() != before {
            let unit = self.replica.extras_taken() + 1;
            self.keeping.checkpoint_comes(unit, self.checkpoint.index());
        }
    }

    /// How far the logs of the members are known to reach who are heard: what one of them lacks is
    /// kept a while, for a snapshot costs more. While nobody makes snapshots, nothing else could be
    /// sent to the others, and all count.
    fn held_by_others(&self, now: Duration) -> Index {
        let own = self.shared.node;
        let is_served = lock(&self.shared.snapshots).is_served();
        let counts = |node: &u64| {
            let heard_at = self.peers.get(*node).map(|known| known.heard_at);
            let is_heard = heard_at.is_some_and(|at| now.saturating_sub(at) < self.node_lost);
            *node != own && (is_heard || !is_served)
        };
        let members = self.replica.configuration().members();
        let others = members.into_iter().filter(counts);
        others.map(|node| self.peers.applied(node)).min().unwrap_or(Index::MAX)
    }

    /// What is dropped though somebody lacks it who is heard: beyond half as much again as the hot
    /// log may have, and what the disk has no room for.
    pub(super) fn dropped_anyway(&self) -> Index {
        if !lock(&self.shared.snapshots).is_served() {
            return 0;
        }
        let grace = self.grace();
        let entries = self.config.hot_entries_max.saturating_add(grace.entries);
        let over = self.over().saturating_sub(grace.bytes).max(self.space.missing());
        self.replica.store().purge_point(over, entries).unwrap_or_default()
    }

    /// By how much the log may be larger while it waits for others: half of what it may have.
    pub(super) fn grace(&self) -> Size {
        let Config { hot_bytes_max, hot_entries_max, .. } = &self.config;
        Size { bytes: hot_bytes_max.0 / 2, entries: hot_entries_max / 2 }
    }

    /// Bytes that the log would like to be rid of.
    fn over(&self) -> u64 {
        let over = self.replica.store().bytes().saturating_sub(self.config.hot_bytes_max.0);
        // A disk that is smaller than the hot log may be is a bound, too.
        over.max(self.space.missing())
    }

    /// The index behind which the log must stay, for a snapshot that is sent and for those who have got
    /// one and lack what follows; a disk that has no room does not wait for it.
    fn pinned(&self) -> Index {
        let pinned = self.snapshots.pinned().filter(|_| self.space.missing() == 0);
        pinned.unwrap_or(Index::MAX)
    }

    /// Says what the log would like to drop, and drops what nobody needs.
    fn purge(&mut self, now: Duration) -> Result<(), StoreError> {
        let store = self.replica.store();
        let over = self.over();
        let first = self.shared.reader.first_index();
        self.keeping.purge_wanted = store
            .purge_point(over, self.config.hot_entries_max)
            .map(|wanted| wanted.min(self.admission.applied()))
            .filter(|wanted| *wanted >= first);
        self.keeping.awaits_checkpoint = false;
        let Some(wanted) = self.keeping.purge_wanted else { return Ok(()) };
        if self.checkpoint.index() < wanted {
            self.checkpoint.want();
            self.keeping.awaits_checkpoint = true;
        }
        let upto = wanted
            .min(self.shared.checkpointed.load(Ordering::Relaxed))
            .min(self.shared.purge_allowed.load(Ordering::Relaxed))
            // One that waits for room on the disk is none yet.
            .min(self.keeping.checkpoint)
            .min(self.held_by_others(now).max(self.dropped_anyway()))
            .min(self.pinned());
        // A tail of this process that is a moment behind must not find a gap.
        let needed = self.shared.sleepers.lowest_needed(first);
        let upto = needed.map_or(upto, |needed| upto.min(needed - 1));
        if upto < first || !self.space.make_room_to_purge() {
            return Ok(());
        }
        let (truncated, _) = self.replica.purge(upto)?;
        self.keeping.is_marked = false;
        forget_voids(&self.shared, truncated);
        self.checkpoint.purged(truncated + 1, &mut self.extra);
        Ok(())
    }
}

fn forget_voids(shared: &Shared, upto: Index) {
    let mut voids = shared.voids.write().unwrap_or_else(PoisonError::into_inner);
    *voids = voids.split_off(&(upto + 1));
}

/// A full disk postpones housekeeping; everything else is an error.
fn unless_full(result: Result<(), StoreError>) -> Result<(), TurnError> {
    match result {
        Ok(()) | Err(StoreError::NoSpace) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
