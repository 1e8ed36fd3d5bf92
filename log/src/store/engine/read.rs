//! Reading entries from any thread, never beside a purge.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use ledgermq_core::offset::Index;
use raft::eraftpb::Entry;
use raft_engine::Engine;
use raft_engine::internals::LogQueue;

use super::{ENTRIES, scan};
use crate::error::ReadError;
use crate::store::raw::{RawEntries, RawEntry};
use crate::store::{LogReader, StoreError};

/// Entries looked up in one call at most (their places are gathered first).
const ENTRIES_MAX: u64 = 1024;

/// The engine and what readers must know beside it.
pub(super) struct EngineReader {
    pub(super) engine: Engine,
    dir: PathBuf,
    first: AtomicU64,
    last: AtomicU64,
    /// raft-engine 0.4.2 may take a file away under a reader (tikv/raft-engine #370): reading and
    /// purging exclude each other.
    purge: RwLock<()>,
}

impl EngineReader {
    pub(super) fn new(engine: Engine, dir: PathBuf) -> Self {
        Self {
            engine,
            dir,
            first: AtomicU64::new(1),
            last: AtomicU64::new(0),
            purge: RwLock::new(()),
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn set_range(&self, first: Index, last: Index) {
        self.first.store(first, Ordering::Release);
        self.last.store(last, Ordering::Release);
    }

    /// Deletes the files up to number `file`. No entry and no key may stand in them.
    pub(super) fn purge_files(&self, file: u64) {
        let _no_reader = self.purge.write().unwrap_or_else(PoisonError::into_inner);
        // `purge_expired_files` would rewrite what it takes for old; we know that nothing is.
        self.engine.purge_manager().must_rewrite_append_queue(Some(file), None);
    }

    /// Nobody reads as long as that is held.
    pub(super) fn exclude_readers(&self) -> RwLockWriteGuard<'_, ()> {
        self.purge.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the file that raft-engine began for a write and had no room for: it goes on in the
    /// one before. Should that fail, the next opening does it.
    pub(super) fn remove_stray(&self) {
        let newest = self.engine.file_span(LogQueue::Append).1;
        let _ = fs::remove_file(scan::file_path(&self.dir, newest + 1));
    }

    /// Term of an entry.
    pub(super) fn term(&self, index: Index) -> Result<u64, StoreError> {
        let mut out = Vec::new();
        self.read(index, 1, &mut out).map_err(|error| StoreError::Failed {
            action: "read",
            source: std::io::Error::other(error),
        })?;
        Ok(out.first().map_or(0, |entry| entry.term))
    }

    fn damaged(&self, index: Index, error: &dyn std::fmt::Display) -> ReadError {
        let what = match scan::locate(&self.dir, index) {
            Some((file, at)) => format!("{} at byte {at}: {error}", file.display()),
            None => error.to_string(),
        };
        ReadError::Damaged { index, what: Arc::from(what) }
    }
}

impl LogReader for EngineReader {
    fn locate(&self, index: Index) -> Option<(PathBuf, u64)> {
        scan::locate(&self.dir, index)
    }

    fn first_index(&self) -> Index {
        self.first.load(Ordering::Acquire)
    }

    fn read(&self, from: Index, bytes_max: usize, out: &mut Vec<Entry>) -> Result<(), ReadError> {
        let _no_purge = self.purge.read().unwrap_or_else(PoisonError::into_inner);
        let first = self.first_index();
        if from < first {
            return Err(ReadError::Purged { first });
        }
        let end = self.last.load(Ordering::Acquire).min(from.saturating_add(ENTRIES_MAX - 1)) + 1;
        if from >= end {
            return Ok(());
        }
        let mut raw: Vec<RawEntry> = Vec::new();
        let read = self.engine.fetch_entries_to::<RawEntries>(
            ENTRIES,
            from,
            end,
            Some(bytes_max),
            &mut raw,
        );
        let before = out.len();
        for (index, raw) in (from..).zip(raw) {
            match raw.entry() {
                Ok(entry) if entry.index == index => out.push(entry),
                Ok(_) => return Err(self.damaged(index, &"another entry stands in its place")),
                Err(what) if out.len() == before => return Err(self.damaged(index, &what)),
                Err(_) => return Ok(()),
            }
        }
        match read {
            Ok(_) => Ok(()),
            // What was read before the damage is good; the next call meets it first.
            Err(_) if out.len() > before => Ok(()),
            Err(raft_engine::Error::Io(source)) => {
                Err(ReadError::Io { index: from, what: Arc::from(source.to_string()) })
            }
            Err(error) => Err(self.damaged(from, &error)),
        }
    }
}
