//! What raft-rs asks of its storage, answered from memory where it can be.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;

use ledgermq_core::offset::Index;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot, SnapshotMetadata};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use super::terms::Terms;
use crate::error::ReadError;
use crate::store::{LogReader, Missing, Recovered};

/// Bytes read from the disk at a time.
const READ_BYTES: usize = 1 << 20;
/// What an entry takes in memory besides its data.
const ENTRY_BYTES: usize = 160;

/// State that was written, with the entries that are not applied yet or are kept for followers.
pub(super) struct RaftStorage {
    hard_state: HardState,
    /// What raft begins with; it knows by itself what comes then.
    conf_state: ConfState,
    truncated: (Index, u64),
    last: (Index, u64),
    applied: Index,
    /// The newest entries, up to `last`.
    recent: VecDeque<Entry>,
    recent_bytes: usize,
    /// So much of what is applied is kept for followers that are a little behind.
    cache_bytes: usize,
    terms: RefCell<Terms>,
    reader: Arc<dyn LogReader>,
    /// An entry that could not be read.
    unreadable: Cell<Option<Index>>,
    /// The snapshot that can be sent.
    offered: Option<SnapshotMetadata>,
    /// Raft asked for one that is not there.
    is_wanted: Cell<bool>,
}

impl RaftStorage {
    pub(super) fn new(recovered: &Recovered, reader: Arc<dyn LogReader>) -> Self {
        let Recovered { hard_state, truncated, last, configuration, .. } = recovered.clone();
        Self {
            hard_state,
            conf_state: configuration.state,
            truncated,
            last,
            applied: 0,
            recent: VecDeque::new(),
            recent_bytes: 0,
            cache_bytes: 0,
            terms: RefCell::new(Terms::new([truncated, last])),
            reader,
            unreadable: Cell::new(None),
            offered: None,
            is_wanted: Cell::new(false),
        }
    }

    /// Takes the entries behind `applied` into memory, as if this process had written them. Raft asks for
    /// them when they are committed, and ends the process for any answer but the entries: should one
    /// of them be damaged by then, it is not asked of the disk. They are few: the commit index is written
    /// with every write, and a leader proposes only so much beyond it.
    ///
    /// # Errors
    ///
    /// Which entry cannot be read, and why.
    pub(super) fn recall(&mut self, applied: Index) -> Result<(), (Index, ReadError)> {
        let mut next = applied.max(self.truncated.0) + 1;
        // The term of what is committed is asked for as well.
        if self.terms.get_mut().get(applied).is_none() {
            self.learn(applied)?;
        }
        while next <= self.last.0 {
            let entries = self.read(next, self.last.0 + 1, READ_BYTES as u64);
            let entries = entries.map_err(|error| (next, error))?;
            if entries.is_empty() {
                let what = Arc::from(Missing.to_string());
                return Err((next, ReadError::Damaged { index: next, what }));
            }
            next += entries.len() as u64;
            self.terms.get_mut().learn_all(&entries);
            self.recent_bytes += entries.iter().map(held).sum::<usize>();
            self.recent.extend(entries);
        }
        Ok(())
    }

    fn learn(&mut self, index: Index) -> Result<(), (Index, ReadError)> {
        let entries = self.read(index, index + 1, 0).map_err(|error| (index, error))?;
        self.terms.get_mut().learn_all(&entries);
        Ok(())
    }

    pub(super) fn hard_state(&self) -> &HardState {
        &self.hard_state
    }

    pub(super) fn set_hard_state(&mut self, state: HardState) {
        self.hard_state = state;
    }

    pub(super) fn set_commit(&mut self, commit: Index) {
        self.hard_state.commit = commit;
    }

    /// Keeps about so many bytes of applied entries from now on.
    pub(super) fn set_cache_bytes(&mut self, bytes: usize) {
        self.cache_bytes = bytes;
        self.drop_applied();
    }

    /// Takes entries that were written; they replace those with the same indices and all behind.
    pub(super) fn append(&mut self, entries: Vec<Entry>) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
        while self.recent.back().is_some_and(|entry| entry.index >= first.index) {
            self.recent_bytes -= self.recent.pop_back().map_or(0, |entry| held(&entry));
        }
        let terms = self.terms.get_mut();
        terms.cut(first.index);
        terms.learn_all(&entries);
        self.last = (last.index, last.term);
        self.recent_bytes += entries.iter().map(held).sum::<usize>();
        self.recent.extend(entries);
    }

    /// Entries up to `index` are applied.
    pub(super) fn applied(&mut self, index: Index) {
        self.applied = index;
        self.drop_applied();
    }

    fn drop_applied(&mut self) {
        while self.recent.front().is_some_and(|entry| entry.index <= self.applied)
            && (self.cache_bytes == 0 || self.recent_bytes > self.cache_bytes)
        {
            self.recent_bytes -= self.recent.pop_front().map_or(0, |entry| held(&entry));
        }
    }

    pub(super) fn truncate(&mut self, truncated: (Index, u64)) {
        self.truncated = truncated;
        self.terms.get_mut().forget_before(truncated.0);
    }

    /// A snapshot took the place of everything up to an entry, and of everything else.
    pub(super) fn install(&mut self, snapshot: (Index, u64)) {
        (self.truncated, self.last, self.applied) = (snapshot, snapshot, snapshot.0);
        self.recent.clear();
        self.recent_bytes = 0;
        self.terms = RefCell::new(Terms::new([snapshot]));
    }

    /// The snapshot that can be sent from now on, if there is one.
    pub(super) fn offer(&mut self, snapshot: Option<SnapshotMetadata>) {
        self.offered = snapshot;
    }

    /// Whether raft asked for a snapshot that is not there since the last call.
    pub(super) fn take_wanted(&self) -> bool {
        self.is_wanted.take()
    }

    /// The entry that could not be read, if there was one since the last call. Raft was told that
    /// it is purged: it ends the process for any other answer.
    pub(super) fn take_unreadable(&self) -> Option<Index> {
        self.unreadable.take()
    }

    fn read(&self, low: Index, high: Index, bytes_max: u64) -> Result<Vec<Entry>, ReadError> {
        let mut entries = Vec::new();
        let mut next = low;
        while next < high {
            let taken = entries.len();
            match self.reader.read(next, READ_BYTES, &mut entries) {
                Ok(()) => {}
                // What stands before it is good, and may be what a follower lacks.
                Err(ReadError::Damaged { .. }) if taken > 0 => break,
                Err(error) => return Err(error),
            }
            let Some(last) = entries.last() else { break };
            if entries.len() == taken {
                break;
            }
            next = last.index + 1;
            if entries.iter().map(|entry| entry.data.len() as u64).sum::<u64>() > bytes_max {
                break;
            }
        }
        entries.retain(|entry| entry.index < high);
        Ok(entries)
    }

    /// Entries from memory, about `bytes_max` of them; `None` if the first is not there.
    fn cached(&self, low: Index, high: Index, bytes_max: u64) -> Option<Vec<Entry>> {
        self.recent.front().filter(|first| first.index <= low)?;
        let from = self.recent.partition_point(|entry| entry.index < low);
        let mut bytes = 0;
        let some = self.recent.range(from..).take_while(|entry| {
            let is_wanted = entry.index < high && bytes <= bytes_max;
            bytes += entry.data.len() as u64;
            is_wanted
        });
        Some(some.cloned().collect())
    }

    fn failed(&self, index: Index, error: &ReadError) -> raft::Error {
        // What the disk refuses for once may be read the next time: raft asks again, or sends a
        // snapshot.
        if matches!(error, ReadError::Damaged { .. }) {
            self.unreadable.set(Some(index));
        }
        StorageError::Compacted.into()
    }
}

/// Bytes that the entry takes in memory, about.
fn held(entry: &Entry) -> usize {
    entry.data.len() + ENTRY_BYTES
}

impl Storage for RaftStorage {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState { hard_state: self.hard_state.clone(), conf_state: self.conf_state.clone() })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.truncated.0 {
            return Err(StorageError::Compacted.into());
        }
        let bytes_max = max_size.into().unwrap_or(u64::MAX);
        let mut entries = match self.cached(low, high, bytes_max) {
            Some(entries) => entries,
            None => self.read(low, high, bytes_max).map_err(|error| self.failed(low, &error))?,
        };
        raft::util::limit_size(&mut entries, Some(bytes_max));
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index < self.truncated.0 {
            return Err(StorageError::Compacted.into());
        }
        if index > self.last.0 {
            return Err(StorageError::Unavailable.into());
        }
        if let Some(term) = self.terms.borrow().get(index) {
            return Ok(term);
        }
        let entries = self.read(index, index + 1, 0).map_err(|error| self.failed(index, &error))?;
        let entry = entries.first().ok_or(StorageError::Unavailable)?;
        self.terms.borrow_mut().learn(index, entry.term);
        Ok(entry.term)
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.truncated.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last.0)
    }

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let least = request_index.max(self.truncated.0);
        // A node that is not in it would refuse it.
        let fits = |offered: &&SnapshotMetadata| {
            let state = offered.get_conf_state();
            let lists = [&state.voters, &state.learners, &state.voters_outgoing];
            offered.index >= least && lists.iter().any(|list| list.contains(&to))
        };
        let Some(metadata) = self.offered.as_ref().filter(fits) else {
            self.is_wanted.set(true);
            return Err(StorageError::SnapshotTemporarilyUnavailable.into());
        };
        let mut snapshot = Snapshot::default();
        snapshot.set_metadata(metadata.clone());
        Ok(snapshot)
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::store::simulated::{SimulatedDisk, SimulatedStore};
    use crate::store::{LogStore, Unit};

    #[test]
    fn what_stands_before_a_damaged_entry_can_be_sent() {
        let disk = SimulatedDisk::new(1, 1 << 20);
        let mut store = SimulatedStore::open(&disk).expect("an empty disk");
        let entries = (1..=4).map(|index| Entry { index, term: 1, ..Entry::default() });
        let entries = entries.collect();
        store.write(&Unit { entries, ..Unit::default() }, true).expect("room");
        drop(store);
        let store = SimulatedStore::open(&disk).expect("it opens");
        let storage = RaftStorage::new(&store.recovered(), store.reader());
        disk.damage(3);
        let context = || GetEntriesContext::empty(false);
        let sent = storage.entries(1, 5, None, context()).expect("two of them");
        assert_eq!((sent.len(), storage.take_unreadable()), (2, None));
        assert!(storage.entries(3, 5, None, context()).is_err());
        assert_eq!(storage.take_unreadable(), Some(3));
    }
}
