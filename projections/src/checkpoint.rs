//! Checkpoints: the views as rows of a small store, so that a restart folds the tail alone.

mod blocks;
mod checksum;
mod export;
mod file;
mod import;
mod memory;
mod table;

use std::sync::Arc;

use ledgermq_core::offset::{Index, Offset, Timestamp};

use crate::views::retained::RetainedMessage;

pub use checksum::row_checksum;
pub use export::{ExportError, export};
pub use file::FileStore;
pub use import::{ImportError, Imported, import};
pub use memory::MemoryStore;
pub use table::Table;

/// Version of the fold and of its rows. A checkpoint of another version is not read but rebuilt
/// from the log: raise it with every change of what an event does or how a row is written.
pub const VERSION: u32 = 6;

/// What a checkpoint says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// [`VERSION`] of the code that wrote it.
    pub version: u32,
    /// Everything up to this index is in it.
    pub applied: Index,
    /// Time of the last batch in it.
    pub time: Timestamp,
    /// Sum of [`row_checksum`] over all its rows.
    pub checksum: u64,
    /// What is owed up to this index was kept ([`Store::keep`]).
    pub kept_upto: Index,
}

/// A difference between two states of the views.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The index that they lead to.
    pub applied: Index,
    /// Time of its batch.
    pub time: Timestamp,
    /// The rows that changed, each once: its new value, or none if it is gone.
    pub rows: Vec<(Table, Vec<u8>, Option<Vec<u8>>)>,
    /// Kept messages that nobody is owed any more.
    pub forget: Vec<Offset>,
}

/// A store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The storage refused; the same call may succeed later (a full disk).
    #[error("the store of the projections failed")]
    Storage(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What is stored is not what was written.
    #[error("the checkpoint is damaged: {0}")]
    Damaged(String),
}

/// Takes the rows of a checkpoint in, in the order of their tables and keys. An error means that
/// the row cannot be.
pub type RowVisitor<'a> = dyn FnMut(Table, &[u8], &[u8]) -> Result<(), StoreError> + 'a;

/// Takes kept messages in, as they are stored, in the order of their offsets.
pub type KeptVisitor<'a> = dyn FnMut(Offset, &[u8]) -> Result<(), StoreError> + 'a;

/// Part of a state that is taken in whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Rows: table, key, value.
    pub rows: Vec<(Table, Vec<u8>, Vec<u8>)>,
    /// Kept messages, as they are stored.
    pub kept: Vec<(Offset, Vec<u8>)>,
}

/// A second store beside one in use: the state of a snapshot while it is taken in, and until it takes
/// the place of the other ([`Store::take_place`]). A crash leaves it complete, incomplete, or away.
pub trait Beside {
    /// What it says of itself, if there is one that is complete.
    ///
    /// # Errors
    ///
    /// [`StoreError::Storage`]; one that is damaged is none.
    fn meta(&mut self) -> Result<Option<Meta>, StoreError>;

    /// Begins an empty one, which is incomplete, in place of any that is there.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    fn begin(&mut self) -> Result<(), StoreError>;

    /// Adds to it.
    ///
    /// # Errors
    ///
    /// See [`StoreError`]. It is to be begun anew then.
    fn add(&mut self, part: &Part) -> Result<(), StoreError>;

    /// Makes it complete, and durable.
    ///
    /// # Errors
    ///
    /// See [`StoreError`]. It is to be begun anew then.
    fn finish(&mut self, meta: &Meta) -> Result<(), StoreError>;

    /// Deletes it, if it is there.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    fn discard(&mut self) -> Result<(), StoreError>;
}

/// Messages that were copied before the log was purged.
pub trait Kept: Send + Sync {
    /// The message that was published at `at`. `None` is final: it was not kept, or was forgotten
    /// since nobody is owed it.
    ///
    /// Reads a disk: ask where nobody is held up by that.
    ///
    /// # Errors
    ///
    /// See [`StoreError`]. Nothing is known of the message then: ask again.
    fn get(&self, at: Offset) -> Result<Option<Arc<RetainedMessage>>, StoreError>;
}

/// Where checkpoints are: a file, or memory in the simulator.
pub trait Store: Send {
    /// What the last checkpoint says of itself; none if there is none.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    fn meta(&mut self) -> Result<Option<Meta>, StoreError>;

    /// Hands out all rows of the last checkpoint.
    ///
    /// # Errors
    ///
    /// See [`StoreError`]; also the visitor's.
    fn load(&mut self, visit: &mut RowVisitor<'_>) -> Result<(), StoreError>;

    /// Makes `changes` durable, all or none, with their index and the new checksum.
    ///
    /// # Errors
    ///
    /// See [`StoreError`]. Nothing changed then.
    fn commit(&mut self, changes: &Changes) -> Result<(), StoreError>;

    /// Makes copies of messages durable, and that everything owed up to `upto` is among them.
    ///
    /// # Errors
    ///
    /// See [`StoreError`]. Nothing changed then.
    fn keep(&mut self, upto: Index, messages: &[RetainedMessage]) -> Result<(), StoreError>;

    /// About how many bytes its rows and copies have, at most.
    ///
    /// # Errors
    ///
    /// [`StoreError::Storage`].
    fn bytes(&mut self) -> Result<u64, StoreError>;

    /// Where the copies can be read from, by any thread.
    fn kept(&self) -> Arc<dyn Kept>;

    /// Offsets of all copies.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    fn kept_offsets(&mut self) -> Result<Vec<Offset>, StoreError>;

    /// Hands out all copies.
    ///
    /// # Errors
    ///
    /// See [`StoreError`]; also the visitor's.
    fn load_kept(&mut self, visit: &mut KeptVisitor<'_>) -> Result<(), StoreError>;

    /// The store beside this one.
    fn beside(&mut self) -> &mut dyn Beside;

    /// Puts the store beside, which is complete, in place of this one, whose rows and copies are gone
    /// then. Who reads copies ([`Store::kept`]) reads those of the other from now on.
    ///
    /// # Errors
    ///
    /// See [`StoreError`]. Nothing changed then.
    fn take_place(&mut self) -> Result<(), StoreError>;

    /// Throws everything away, for views that are folded anew from a log that is whole: what was
    /// kept is still there.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    fn clear(&mut self) -> Result<(), StoreError>;
}
