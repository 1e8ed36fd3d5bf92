//! What raft-rs asks of its storage, answered from memory where it can be.

use std::collections::VecDeque;
use std::sync::Arc;

use ledgermq_core::offset::Index;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use crate::store::{LogReader, Recovered};

/// Bytes read from the disk at a time.
const READ_BYTES: usize = 1 << 20;

/// State that was written, with the entries that are not applied yet.
pub(super) struct RaftStorage {
    hard_state: HardState,
    conf_state: ConfState,
    truncated: (Index, u64),
    last: (Index, u64),
    /// The newest entries, up to `last`.
    recent: VecDeque<Entry>,
    reader: Arc<dyn LogReader>,
}

impl RaftStorage {
    pub(super) fn new(
        recovered: &Recovered,
        conf_state: ConfState,
        reader: Arc<dyn LogReader>,
    ) -> Self {
        let Recovered { hard_state, truncated, last, .. } = recovered.clone();
        Self { hard_state, conf_state, truncated, last, recent: VecDeque::new(), reader }
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

    /// Takes entries that were written; they replace those with the same indices and all behind.
    pub(super) fn append(&mut self, entries: Vec<Entry>) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
        while self.recent.back().is_some_and(|entry| entry.index >= first.index) {
            self.recent.pop_back();
        }
        self.last = (last.index, last.term);
        self.recent.extend(entries);
    }

    /// Entries up to `index` are applied: they are not kept in memory.
    pub(super) fn applied(&mut self, index: Index) {
        while self.recent.front().is_some_and(|entry| entry.index <= index) {
            self.recent.pop_front();
        }
    }

    pub(super) fn truncate(&mut self, truncated: (Index, u64)) {
        self.truncated = truncated;
    }

    fn read(&self, low: Index, high: Index, bytes_max: u64) -> raft::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut next = low;
        while next < high {
            let taken = entries.len();
            self.reader.read(next, READ_BYTES, &mut entries).map_err(unreadable)?;
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
        let mut entries = match self.recent.front() {
            Some(first) if first.index <= low => {
                let from = self.recent.partition_point(|entry| entry.index < low);
                let upto = self.recent.partition_point(|entry| entry.index < high);
                self.recent.range(from..upto).cloned().collect()
            }
            _ => self.read(low, high, bytes_max)?,
        };
        raft::util::limit_size(&mut entries, Some(bytes_max));
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.last.0 {
            return Ok(self.last.1);
        }
        if index == self.truncated.0 {
            return Ok(self.truncated.1);
        }
        if index < self.truncated.0 {
            return Err(StorageError::Compacted.into());
        }
        if index > self.last.0 {
            return Err(StorageError::Unavailable.into());
        }
        let at = self.recent.partition_point(|entry| entry.index < index);
        if let Some(entry) = self.recent.get(at).filter(|entry| entry.index == index) {
            return Ok(entry.term);
        }
        let entries = self.read(index, index + 1, 0)?;
        entries.first().map(|entry| entry.term).ok_or_else(|| StorageError::Unavailable.into())
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.truncated.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last.0)
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        Err(StorageError::SnapshotTemporarilyUnavailable.into())
    }
}

fn unreadable(error: crate::error::ReadError) -> raft::Error {
    StorageError::Other(Box::new(error)).into()
}
