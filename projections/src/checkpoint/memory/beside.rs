//! The second store in memory.

use std::sync::Arc;

use crate::checkpoint::memory::{Content, Shared, State};
use crate::checkpoint::{Beside, Meta, Part, StoreError};
use crate::views::retained::RetainedMessage;

/// What is beside the store in use.
#[derive(Clone, Debug, Default)]
pub(super) struct MemoryBeside {
    pub(super) shared: Shared,
}

impl Beside for MemoryBeside {
    fn meta(&mut self) -> Result<Option<Meta>, StoreError> {
        Ok(self.shared.state().beside.as_ref().and_then(Content::meta))
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        self.shared.change()?.beside = Some(Content::default());
        Ok(())
    }

    fn add(&mut self, part: &Part) -> Result<(), StoreError> {
        let mut state = self.shared.change()?;
        let beside = begun(&mut state)?;
        for (table, key, value) in &part.rows {
            beside.rows.insert((*table, key.clone()), value.clone());
        }
        for (at, message) in &part.kept {
            let message = RetainedMessage::decode(message)
                .map_err(|cut| StoreError::Damaged(cut.to_string()))?;
            beside.kept.insert(*at, Arc::new(message));
        }
        Ok(())
    }

    fn finish(&mut self, meta: &Meta) -> Result<(), StoreError> {
        let mut state = self.shared.change()?;
        let beside = begun(&mut state)?;
        (beside.meta, beside.kept_upto) = (Some(*meta), meta.kept_upto);
        Ok(())
    }

    fn discard(&mut self) -> Result<(), StoreError> {
        self.shared.change()?.beside = None;
        Ok(())
    }
}

fn begun(state: &mut State) -> Result<&mut Content, StoreError> {
    let beside = state.beside.as_mut().filter(|beside| beside.meta.is_none());
    beside.ok_or_else(|| StoreError::Storage("the second store was not begun".into()))
}
