//! Where entries become durable: the trait and its two implementations.

mod configuration;
pub(crate) mod engine;
mod files;
mod raw;
#[cfg(feature = "testing")]
pub mod simulated;
#[cfg(feature = "testing")]
pub mod suite;
#[cfg(all(test, feature = "testing"))]
mod tests;
mod watermark;

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use ledgermq_core::offset::Index;
use raft::eraftpb::{Entry, HardState};

use crate::error::ReadError;

pub use configuration::Configuration;
pub(crate) use configuration::{from_bytes as configuration_of, to_bytes as configuration_bytes};

/// What one atomic write makes durable.
#[derive(Clone, Debug, Default)]
pub struct Unit {
    /// Entries; the first may overwrite what a deposed leader left behind.
    pub entries: Vec<Entry>,
    /// Term, vote and commit index.
    pub hard_state: Option<HardState>,
    /// Members.
    pub configuration: Option<Configuration>,
    /// A snapshot took the place of all entries up to (index, term).
    pub snapshot: Option<(Index, u64)>,
    /// Values to keep, by key.
    pub puts: Vec<(Vec<u8>, Vec<u8>)>,
    /// Keys to forget.
    pub deletes: Vec<Vec<u8>>,
}

impl Unit {
    /// Whether nothing is to be written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
            && self.hard_state.is_none()
            && self.configuration.is_none()
            && self.snapshot.is_none()
            && self.puts.is_empty()
            && self.deletes.is_empty()
    }

    /// Up to which entry it leaves what was there as it is; all if it touches no entry.
    pub(crate) fn rest(&self) -> Index {
        match (self.snapshot, self.entries.first()) {
            (Some(_), _) => 0,
            (None, Some(first)) => first.index - 1,
            (None, None) => Index::MAX,
        }
    }

    /// Makes of this write and a later one a single one, with what both leave behind.
    pub(crate) fn add(&mut self, later: Self) {
        debug_assert!(self.snapshot.is_none() && later.snapshot.is_none(), "it is written alone");
        if let Some(first) = later.entries.first() {
            let kept = self.entries.partition_point(|entry| entry.index < first.index);
            self.entries.truncate(kept);
            self.entries.extend(later.entries);
        }
        self.hard_state = later.hard_state.or(self.hard_state.take());
        self.configuration = later.configuration.or(self.configuration.take());
        if !later.puts.is_empty() || !later.deletes.is_empty() {
            let puts: BTreeSet<&[u8]> = later.puts.iter().map(|(key, _)| &key[..]).collect();
            let deletes: BTreeSet<&[u8]> = later.deletes.iter().map(|key| &key[..]).collect();
            self.puts.retain(|(key, _)| !puts.contains(&key[..]) && !deletes.contains(&key[..]));
            self.deletes.retain(|key| !puts.contains(&key[..]) && !deletes.contains(&key[..]));
        }
        self.puts.extend(later.puts);
        self.deletes.extend(later.deletes);
    }

    /// About how many bytes the write has.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let entries: usize = self.entries.iter().map(|entry| entry.data.len() + 64).sum();
        let puts: usize = self.puts.iter().map(|(key, value)| key.len() + value.len() + 16).sum();
        entries + puts + 256
    }
}

/// A write that did not happen.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk is full. Nothing was written; the same unit may be written again.
    #[error("no space left for the log")]
    NoSpace,
    /// Anything else: what the disk holds is unknown, so this process must not write again.
    #[error("cannot {action} the log")]
    Failed {
        /// What was tried.
        action: &'static str,
        /// The answer.
        #[source]
        source: io::Error,
    },
}

/// What a store knew when it was opened.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Term, vote and commit index.
    pub hard_state: HardState,
    /// Members; empty before the first write.
    pub configuration: Configuration,
    /// The entry before the first one: (index, term).
    pub truncated: (Index, u64),
    /// The last entry: (index, term); the truncated one if there is none.
    pub last: (Index, u64),
    /// Number of this start: larger than that of every earlier one.
    pub start: u64,
    /// Something that was perhaps acknowledged may be gone: the process or the machine crashed
    /// while the log was kept with `durability = "os-cache"`.
    pub unclean: bool,
}

/// A durable log of entries with a small map of keys beside it. Written by one thread.
///
/// ```text
///  truncated   first_index              last      position
///      |           |                     |           |
///  ....x-----------+---------------------+...........+
///      purged               hot log        not synced
/// ```
///
/// A write is atomic: after a crash all of a unit is there or nothing. What was synced stays, or
/// the store refuses to open. An error other than [`StoreError::NoSpace`] is final, and an
/// implementation may end the process where a sync fails.
pub trait LogStore: Send + 'static {
    /// What was there at opening; members as written since.
    fn recovered(&self) -> Recovered;

    /// A handle for reading from any thread.
    fn reader(&self) -> Arc<dyn LogReader>;

    /// Writes the unit; with `sync`, it and everything before is durable on return.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    fn write(&mut self, unit: &Unit, sync: bool) -> Result<(), StoreError>;

    /// Begins to write the unit and to sync it; [`LogStore::end`] tells the outcome, and nothing else is
    /// begun before. Whatever else writes or syncs waits for it first.
    ///
    /// # Errors
    ///
    /// See [`StoreError`]: nothing was begun.
    fn begin(&mut self, unit: &Unit) -> Result<(), StoreError>;

    /// The outcome of the write that was begun, once: then it is durable, or did not happen. `None`
    /// while it is under way, for which `wait` lets no time pass, or if none was begun.
    fn end(&mut self, wait: bool) -> Option<Result<(), StoreError>>;

    /// Whether [`LogStore::end`] has an outcome to tell.
    fn has_ended(&self) -> bool;

    /// Makes everything written so far durable.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    fn sync(&mut self) -> Result<(), StoreError>;

    /// Notes durably that everything written so far was synced (the caller has just done so): it
    /// must be found at the next opening, but for what later writes overwrote. `clean` says that nothing more will be written.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    fn mark(&mut self, clean: bool) -> Result<(), StoreError>;

    /// Up to which index must be purged to free about `bytes`, or to be left with `entries_max`
    /// entries; `None` if nothing helps.
    fn purge_point(&self, bytes: u64, entries_max: u64) -> Option<Index>;

    /// Drops whole files of entries that are all at or below `upto`, but never the last entry, and
    /// says what is now the entry before the first one.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    fn purge(&mut self, upto: Index) -> Result<(Index, u64), StoreError>;

    /// Bytes on disk.
    fn bytes(&self) -> u64;

    /// The value of a key.
    fn get(&self, key: &[u8]) -> Option<Vec<u8>>;

    /// All keys that begin with `prefix`, in order.
    fn keys(&self, prefix: &[u8]) -> Vec<Vec<u8>>;
}

/// Reads entries from any thread.
pub trait LogReader: Send + Sync {
    /// First index that is there.
    fn first_index(&self) -> Index;

    /// Appends entries from `from` on to `out`: at least one if it is there, up to about
    /// `bytes_max`. Their bytes are checked. Nothing is appended if `from` is behind the last.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    fn read(&self, from: Index, bytes_max: usize, out: &mut Vec<Entry>) -> Result<(), ReadError>;

    /// File and byte position where the entry stands, for messages about damage.
    fn locate(&self, index: Index) -> Option<(PathBuf, u64)>;
}

/// An entry that must be there is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is missing")]
pub(crate) struct Missing;

/// What an operator can do about damage.
pub(crate) const REMEDY: &str = "Nothing was changed, but for an unfinished write at \
    the end if the log says that it was cut. Restore the directory from a backup or \
    rebuild this node from another; to go on without what follows that byte, and lose it, move \
    the newer files of the directory and the file `watermark` away and truncate this one there";
