//! A store in memory, for the simulator and for tests: a crash leaves what was committed last.

mod beside;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ledgermq_core::offset::{Index, Offset};

use crate::checkpoint::{
    Beside, Changes, Kept, KeptVisitor, Meta, RowVisitor, Store, StoreError, Table, VERSION,
    row_checksum,
};
use crate::views::retained::RetainedMessage;

use beside::MemoryBeside;

/// Bytes of a row, or of a copy, beside its own: more than the stream of a snapshot has.
const ROW: usize = 32;

/// A store in memory. Clones share it: keep one, crash the projector, and open again with it.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    /// The other half of the same.
    beside: MemoryBeside,
}

#[derive(Clone, Debug, Default)]
struct Shared(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    used: Content,
    beside: Option<Content>,
    fails: bool,
    hides_kept: bool,
}

#[derive(Debug, Default)]
struct Content {
    meta: Option<Meta>,
    kept_upto: Index,
    rows: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    kept: BTreeMap<Offset, Arc<RetainedMessage>>,
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
        let Some(value) = state.used.rows.values_mut().find(|value| !value.is_empty()) else {
            return false;
        };
        value[0] ^= 1;
        true
    }

    /// Pretends that another version of the fold wrote the checkpoint.
    pub fn set_version(&self, version: u32) {
        if let Some(meta) = &mut self.state().used.meta {
            meta.version = version;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.beside.shared.state()
    }

    fn change(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        self.beside.shared.change()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, to be changed.
    fn change(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.state();
        if state.fails { Err(StoreError::Storage("told to fail".into())) } else { Ok(state) }
    }
}

impl Content {
    fn meta(&self) -> Option<Meta> {
        self.meta.map(|meta| Meta { kept_upto: self.kept_upto, ..meta })
    }
}

impl Store for MemoryStore {
    fn meta(&mut self) -> Result<Option<Meta>, StoreError> {
        Ok(self.state().used.meta())
    }

    fn load(&mut self, visit: &mut RowVisitor<'_>) -> Result<(), StoreError> {
        let rows = &self.state().used.rows;
        rows.iter().try_for_each(|((table, key), value)| visit(*table, key, value))
    }

    fn commit(&mut self, changes: &Changes) -> Result<(), StoreError> {
        let used = &mut self.change()?.used;
        let mut checksum = used.meta.unwrap_or_default().checksum;
        for (table, key, value) in &changes.rows {
            let old = match value {
                Some(value) => {
                    checksum = checksum.wrapping_add(row_checksum(*table, key, value));
                    used.rows.insert((*table, key.clone()), value.clone())
                }
                None => used.rows.remove(&(*table, key.clone())),
            };
            if let Some(old) = old {
                checksum = checksum.wrapping_sub(row_checksum(*table, key, &old));
            }
        }
        for offset in &changes.forget {
            used.kept.remove(offset);
        }
        let (applied, time) = (changes.applied, changes.time);
        used.meta = Some(Meta { version: VERSION, applied, time, checksum, kept_upto: 0 });
        Ok(())
    }

    fn keep(&mut self, upto: Index, messages: &[RetainedMessage]) -> Result<(), StoreError> {
        let used = &mut self.change()?.used;
        let messages = messages.iter().map(|message| (message.offset, Arc::new(message.clone())));
        used.kept.extend(messages);
        used.kept_upto = used.kept_upto.max(upto);
        Ok(())
    }

    fn bytes(&mut self) -> Result<u64, StoreError> {
        let state = self.state();
        let rows = state.used.rows.iter().map(|((_, key), value)| key.len() + value.len() + ROW);
        let mut copy = Vec::new();
        let kept = state.used.kept.values().map(|message| {
            copy.clear();
            message.encode(&mut copy);
            copy.len() + ROW
        });
        Ok((rows.sum::<usize>() + kept.sum::<usize>()) as u64)
    }

    fn kept(&self) -> Arc<dyn Kept> {
        Arc::new(self.clone())
    }

    fn kept_offsets(&mut self) -> Result<Vec<Offset>, StoreError> {
        Ok(self.state().used.kept.keys().copied().collect())
    }

    fn load_kept(&mut self, visit: &mut KeptVisitor<'_>) -> Result<(), StoreError> {
        let mut row = Vec::new();
        self.state().used.kept.iter().try_for_each(|(at, message)| {
            row.clear();
            message.encode(&mut row);
            visit(*at, &row)
        })
    }

    fn beside(&mut self) -> &mut dyn Beside {
        &mut self.beside
    }

    fn take_place(&mut self) -> Result<(), StoreError> {
        let mut state = self.change()?;
        match state.beside.take_if(|beside| beside.meta.is_some()) {
            Some(beside) => state.used = beside,
            None => {
                return Err(StoreError::Storage("there is no complete second store".into()));
            }
        }
        Ok(())
    }

    fn clear(&mut self) -> Result<(), StoreError> {
        self.change()?.used = Content::default();
        Ok(())
    }
}

impl Kept for MemoryStore {
    fn get(&self, at: Offset) -> Result<Option<Arc<RetainedMessage>>, StoreError> {
        let state = self.state();
        if state.hides_kept {
            return Err(StoreError::Storage("told to fail".into()));
        }
        Ok(state.used.kept.get(&at).cloned())
    }
}
