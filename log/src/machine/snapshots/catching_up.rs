//! What follows a snapshot is kept for whoever has got one, until it has caught up.
//!
//! While a snapshot is sent the log grows beyond what it may have. Who stands at the snapshot would lose
//! the race against the next purge, and need another one, and so on for ever.

use std::collections::BTreeMap;
use std::time::Duration;

use ledgermq_core::offset::Index;

use super::IDLE;
use crate::machine::LogMachine;
use crate::machine::policy::CAUGHT_UP_ENTRIES;
use crate::store::LogStore;

/// Those who have got a snapshot and lack what follows it.
#[derive(Debug, Default)]
pub(super) struct CatchingUp {
    nodes: BTreeMap<u64, Behind>,
}

/// One of them.
#[derive(Debug)]
struct Behind {
    /// The snapshot, or how far its log is known to be beyond.
    matched: Index,
    /// When it came further.
    progress_at: Duration,
    /// When the log is larger, it is not waited for any longer.
    size_max: Size,
}

/// How much the log holds.
#[derive(Clone, Copy, Debug)]
pub(in crate::machine) struct Size {
    pub(in crate::machine) bytes: u64,
    pub(in crate::machine) entries: u64,
}

impl Size {
    pub(super) fn is_beyond(self, max: Self) -> bool {
        self.bytes > max.bytes || self.entries > max.entries
    }
}

impl CatchingUp {
    /// What follows this index is kept.
    pub(super) fn pinned(&self) -> Option<Index> {
        self.nodes.values().map(|behind| behind.matched).min()
    }

    /// It gets another snapshot.
    pub(super) fn forget(&mut self, node: u64) {
        self.nodes.remove(&node);
    }
}

impl Behind {
    fn come_to(&mut self, matched: Index, allowed: Size, now: Duration) {
        if matched > self.matched {
            (self.matched, self.progress_at) = (matched, now);
        }
        // What was dropped behind it does not come back.
        self.size_max.bytes = self.size_max.bytes.min(allowed.bytes);
        self.size_max.entries = self.size_max.entries.min(allowed.entries);
    }
}

impl<S: LogStore> LogMachine<S> {
    /// `node` stands at the snapshot of `index`.
    pub(super) fn begin_catching_up(&mut self, node: u64, index: Index, now: Duration) {
        let size_max = self.size_allowed();
        let behind = Behind { matched: index, progress_at: now, size_max };
        self.snapshots.catching_up.nodes.insert(node, behind);
    }

    /// Waits no longer for whom has caught up, or does not come further, or takes less than comes.
    pub(super) fn keep_catching_up(&mut self, now: Duration) {
        if self.snapshots.catching_up.nodes.is_empty() {
            return;
        }
        let (size, allowed) = (self.size(), self.size_allowed());
        let last = self.replica.last_index();
        let dropped = self.dropped_anyway();
        // Nobody else than the leader knows of any; it has left whom it does not know.
        let matched: BTreeMap<u64, Index> =
            self.replica.followers().map(|(node, matched, _)| (node, matched)).collect();
        self.snapshots.catching_up.nodes.retain(|node, behind| {
            let Some(matched) = matched.get(node) else { return false };
            behind.come_to(*matched, allowed, now);
            // From here on it is waited for as any other is.
            let has_caught_up =
                *matched + CAUGHT_UP_ENTRIES >= last && *matched >= dropped.min(last);
            let is_too_slow = size.is_beyond(behind.size_max);
            let is_still = now.saturating_sub(behind.progress_at) >= IDLE;
            let lacks = last.saturating_sub(*matched);
            if has_caught_up {
                tracing::info!(node, lacks, "the node has caught up behind its snapshot");
            } else if is_too_slow {
                tracing::warn!(
                    node,
                    lacks,
                    "the node takes what follows its snapshot slower than it comes: it is not \
                     waited for, and needs another one if the log is purged before it gets it"
                );
            } else if is_still {
                tracing::warn!(node, lacks, "the node takes nothing of what follows its snapshot");
            }
            !(has_caught_up || is_too_slow || is_still)
        });
    }

    /// How much the log holds now.
    pub(super) fn size(&self) -> Size {
        let first = self.shared.reader.first_index();
        let entries = (self.replica.last_index() + 1).saturating_sub(first);
        Size { bytes: self.replica.store().bytes(), entries }
    }

    /// How much it may hold before one who takes less than comes is given up: what it holds now, or
    /// may hold anyway, and half of that which it may hold anyway.
    pub(super) fn size_allowed(&self) -> Size {
        let (now, grace) = (self.size(), self.grace());
        let (bytes, entries) = (self.config.hot_bytes_max.0, self.config.hot_entries_max);
        Size {
            bytes: now.bytes.max(bytes).saturating_add(grace.bytes),
            entries: now.entries.max(entries).saturating_add(grace.entries),
        }
    }
}
