//! A store in memory, for the simulator and for tests: a crash leaves what was committed last.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ledgermq_core::offset::{Index, Offset};

use crate::checkpoint::{
    Changes, Kept, Meta, RowVisitor, Store, StoreError, Table, VERSION, row_checksum,
};
use crate::views::retained::RetainedMessage;

/// A store in memory. Clones share it: keep one, crash the projector, and open again with it.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    meta: Option<Meta>,
    kept_upto: Index,
    rows: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    kept: BTreeMap<Offset, Arc<RetainedMessage>>,
    fails: bool,
    hides_kept: bool,
}

impl MemoryStore {
    /// Makes every write fail (or no longer), as a full disk does.
    pub fn set_failing(&self, fails: bool) {
        self.state().fails = fails;
    }

    /// Makes kept messages unreadable (or readable again), as a failing disk does.
    pub fn set_kept_hidden(&self, hides: bool) {
        self.state().hides_kept = hides;
    }

    /// Changes a byte of a row, as a failing disk does. Says whether there is a row.
    pub fn damage(&self) -> bool {
        let mut state = self.state();
        let Some(value) = state.rows.values_mut().find(|value| !value.is_empty()) else {
            return false;
        };
        value[0] ^= 1;
        true
    }

    /// Pretends that another version of the fold wrote the checkpoint.
    pub fn set_version(&self, version: u32) {
        if let Some(meta) = &mut self.state().meta {
            meta.version = version;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn check(&self) -> Result<(), StoreError> {
        if self.fails { Err(StoreError::Storage("told to fail".into())) } else { Ok(()) }
    }
}

impl Store for MemoryStore {
    fn meta(&mut self) -> Result<Option<Meta>, StoreError> {
        let state = self.state();
        Ok(state.meta.map(|meta| Meta { kept_upto: state.kept_upto, ..meta }))
    }

    fn load(&mut self, visit: &mut RowVisitor<'_>) -> Result<(), StoreError> {
        self.state().rows.iter().try_for_each(|((table, key), value)| visit(*table, key, value))
    }

    fn commit(&mut self, changes: &Changes) -> Result<(), StoreError> {
        let mut state = self.state();
        state.check()?;
        let mut checksum = state.meta.unwrap_or_default().checksum;
        for (table, key, value) in &changes.rows {
            let old = match value {
                Some(value) => {
                    checksum = checksum.wrapping_add(row_checksum(*table, key, value));
                    state.rows.insert((*table, key.clone()), value.clone())
                }
                None => state.rows.remove(&(*table, key.clone())),
            };
            if let Some(old) = old {
                checksum = checksum.wrapping_sub(row_checksum(*table, key, &old));
            }
        }
        for offset in &changes.forget {
            state.kept.remove(offset);
        }
        let (applied, time) = (changes.applied, changes.time);
        state.meta = Some(Meta { version: VERSION, applied, time, checksum, kept_upto: 0 });
        Ok(())
    }

    fn keep(&mut self, upto: Index, messages: &[RetainedMessage]) -> Result<(), StoreError> {
        let mut state = self.state();
        state.check()?;
        let messages = messages.iter().map(|message| (message.offset, Arc::new(message.clone())));
        state.kept.extend(messages);
        state.kept_upto = state.kept_upto.max(upto);
        Ok(())
    }

    fn kept(&self) -> Arc<dyn Kept> {
        Arc::new(self.clone())
    }

    fn kept_offsets(&mut self) -> Result<Vec<Offset>, StoreError> {
        Ok(self.state().kept.keys().copied().collect())
    }

    fn clear(&mut self) -> Result<(), StoreError> {
        let mut state = self.state();
        state.check()?;
        state.meta = None;
        state.kept_upto = 0;
        state.rows.clear();
        state.kept.clear();
        Ok(())
    }
}

impl Kept for MemoryStore {
    fn get(&self, at: Offset) -> Result<Option<Arc<RetainedMessage>>, StoreError> {
        let state = self.state();
        if state.hides_kept {
            return Err(StoreError::Storage("told to fail".into()));
        }
        Ok(state.kept.get(&at).cloned())
    }
}
