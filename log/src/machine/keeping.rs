//! Housekeeping between turns: snapshots of the admission state, watermarks, purging.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ledgermq_core::offset::Index;

use crate::class::Gate;
use crate::clock::Now;
use crate::machine::{LogMachine, TurnError};
use crate::shared::Shared;
use crate::store::{LogStore, StoreError, Unit};

/// How often to look whether there is something to do.
const INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of log after which the admission state is written again.
const SNAPSHOT_BYTES: usize = 64 << 20;
/// Bytes of one part of an admission snapshot: well below one write unit.
const PART_BYTES: usize = 512 << 10;

/// Key of the head of the current admission snapshot: generation and number of parts.
pub(super) const HEAD_KEY: &[u8] = b"admission";

/// Key of a part.
pub(super) fn part_key(generation: u64, part: u64) -> Vec<u8> {
    format!("admission/{generation:016x}/{part:08x}").into_bytes()
}

/// When what was done last.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    last: Duration,
    since_snapshot: usize,
    since_mark: usize,
    generation: u64,
    purge_wanted: Option<Index>,
    is_full: bool,
}

impl Keeping {
    pub(super) fn new(generation: u64) -> Self {
        Self { generation, ..Self::default() }
    }

    pub(super) fn written(&mut self, bytes: usize) {
        self.since_snapshot += bytes;
        self.since_mark += bytes;
    }

    pub(super) fn on_no_space(&mut self) {
        self.is_full = true;
    }

    pub(super) fn purge_wanted(&self) -> Option<Index> {
        self.purge_wanted
    }
}

impl<S: LogStore> LogMachine<S> {
    /// Does what is due. A full disk postpones it.
    pub(super) fn keep(&mut self, now: Now) -> Result<(), TurnError> {
        let is_due = now.monotonic.saturating_sub(self.keeping.last) >= INTERVAL;
        if !is_due && self.keeping.since_snapshot < SNAPSHOT_BYTES {
            return Ok(());
        }
        self.keeping.last = now.monotonic;
        if self.replica.is_stuck() {
            return Ok(());
        }
        if self.keeping.is_full {
            self.keeping.is_full = false;
            self.shared.set_gate(Gate::Open);
        }
        unless_full(self.keep_what_is_due())
    }

    fn keep_what_is_due(&mut self) -> Result<(), StoreError> {
        if self.keeping.since_snapshot >= SNAPSHOT_BYTES {
            self.write_snapshot()?;
        }
        self.purge()?;
        if self.keeping.since_mark > 0 {
            if self.is_unsynced {
                self.replica.store_mut().sync()?;
                self.is_unsynced = false;
            }
            self.replica.store_mut().mark(false)?;
            self.keeping.since_mark = 0;
        }
        Ok(())
    }

    /// Writes what a clean stop leaves behind.
    ///
    /// # Errors
    ///
    /// [`TurnError::Store`]; a full disk is none: the next start then folds more of the log.
    pub fn close(&mut self) -> Result<(), TurnError> {
        unless_full(self.write_snapshot())?;
        self.replica.store_mut().sync()?;
        unless_full(self.replica.store_mut().mark(true))
    }

    /// Writes the admission state: the parts first, then the head that makes them count.
    fn write_snapshot(&mut self) -> Result<(), StoreError> {
        let bytes = self.admission.snapshot();
        let old = self.replica.store().keys(b"admission/");
        let generation = self.keeping.generation + 1;
        let mut parts = 0_u64;
        for part in bytes.chunks(PART_BYTES) {
            let puts = vec![(part_key(generation, parts), part.to_vec())];
            self.replica.store_mut().write(&Unit { puts, ..Unit::default() }, false)?;
            parts += 1;
        }
        let head = [generation.to_le_bytes(), parts.to_le_bytes()].concat();
        let unit = Unit { puts: vec![(HEAD_KEY.to_vec(), head)], deletes: old, ..Unit::default() };
        self.replica.store_mut().write(&unit, true)?;
        self.keeping.generation = generation;
        self.keeping.since_snapshot = 0;
        Ok(())
    }

    /// Drops the oldest entries when the hot log is beyond its bounds and nobody needs them.
    fn purge(&mut self) -> Result<(), StoreError> {
        let store = self.replica.store();
        let over = store.bytes().saturating_sub(self.config.hot_bytes_max.0);
        let first = self.shared.reader.first_index();
        let entries = (self.admission.applied() + 1).saturating_sub(first);
        let is_over = over > 0 || entries > self.config.hot_entries_max;
        self.keeping.purge_wanted = is_over
            .then(|| store.purge_point(over, self.config.hot_entries_max))
            .flatten()
            .filter(|wanted| *wanted >= first);
        let Some(wanted) = self.keeping.purge_wanted else { return Ok(()) };
        let upto = wanted
            .min(self.shared.checkpointed.load(Ordering::Relaxed))
            .min(self.shared.purge_allowed.load(Ordering::Relaxed))
            .min(self.admission.applied());
        if upto < first {
            return Ok(());
        }
        self.write_snapshot()?;
        let (truncated, _) = self.replica.purge(upto)?;
        forget_voids(&self.shared, truncated);
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
