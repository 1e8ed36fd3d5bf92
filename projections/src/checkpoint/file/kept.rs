//! The open file, and reading kept messages from it.

use std::collections::VecDeque;
use std::error::Error;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use ledgermq_core::offset::Offset;
use redb::{Database, ReadableDatabase};

use crate::checkpoint::file::{KEPT, builder, cut, existing, offset_key, open_error, store_error};
use crate::checkpoint::{Kept, StoreError};
use crate::views::retained::RetainedMessage;

/// Bytes of kept messages that stay in memory.
const CACHE_BYTES_MAX: u64 = 8 << 20;

/// The file while it is open, for the store and for readers of kept messages.
#[derive(Debug, Default)]
pub(super) struct Shared {
    database: Mutex<Option<Arc<Database>>>,
}

impl Shared {
    pub(super) fn get_or_open(
        &self,
        open: impl FnOnce() -> Result<Database, StoreError>,
    ) -> Result<Arc<Database>, StoreError> {
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = &*database {
            return Ok(Arc::clone(database));
        }
        let opened = Arc::new(open()?);
        *database = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// Lets go of the file and exchanges it: nobody opens it in between.
    pub(super) fn exchange<E>(&self, exchange: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        *database = None;
        exchange()
    }

    /// Lets go of `failed`, unless the file was opened anew since.
    pub(super) fn close(&self, failed: &Arc<Database>) {
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        if database.as_ref().is_some_and(|held| Arc::ptr_eq(held, failed)) {
            *database = None;
        }
    }
}

/// Kept messages, the ones read last in memory: many sessions are owed the same.
#[derive(Debug)]
pub(super) struct FileKept {
    path: PathBuf,
    shared: Arc<Shared>,
    cache: Mutex<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    messages: VecDeque<Arc<RetainedMessage>>,
    bytes: u64,
    /// The last read failed, which was said: who waits asks again and again.
    is_failing: bool,
}

impl FileKept {
    pub(super) fn new(path: PathBuf, shared: Arc<Shared>) -> Self {
        Self { path, shared, cache: Mutex::default() }
    }

    /// Reads the file, which is opened anew if it was closed after an error. It exists: a new one
    /// in its place would say that nothing was kept.
    fn read(&self, at: Offset) -> Result<Option<RetainedMessage>, StoreError> {
        let open = || builder().open(&self.path).map_err(open_error);
        let database = self.shared.get_or_open(open)?;
        let result = read(&database, at);
        if matches!(result, Err(StoreError::Storage(_))) {
            // redb answers nothing more after an error of the storage.
            self.shared.close(&database);
        }
        result
    }
}

fn read(database: &Database, at: Offset) -> Result<Option<RetainedMessage>, StoreError> {
    let transaction = database.begin_read().map_err(store_error)?;
    let Some(table) = existing(transaction.open_table(KEPT))? else {
        return Ok(None);
    };
    let Some(row) = table.get(&*offset_key(at)).map_err(store_error)? else {
        return Ok(None);
    };
    RetainedMessage::decode(row.value()).map(Some).map_err(cut)
}

impl Kept for FileKept {
    fn get(&self, at: Offset) -> Result<Option<Arc<RetainedMessage>>, StoreError> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(place) = cache.messages.binary_search_by_key(&at, |held| held.offset) {
            return Ok(cache.messages.get(place).cloned());
        }
        let result = self.read(at);
        let did_fail = std::mem::replace(&mut cache.is_failing, result.is_err());
        if let Err(error) = &result
            && !did_fail
        {
            tracing::warn!(
                offset = %at,
                error = error as &dyn Error,
                "cannot read a kept message; it is tried again"
            );
        }
        Ok(result?.map(|message| cache.add(Arc::new(message))))
    }
}

impl Cache {
    /// Keeps the message, in the order of the offsets; sessions read forward, so the lowest go.
    fn add(&mut self, message: Arc<RetainedMessage>) -> Arc<RetainedMessage> {
        self.bytes += message.bytes();
        let place = self.messages.partition_point(|held| held.offset < message.offset);
        self.messages.insert(place, Arc::clone(&message));
        while self.bytes > CACHE_BYTES_MAX
            && let Some(first) = self.messages.pop_front()
        {
            self.bytes -= first.bytes();
        }
        message
    }
}

#[cfg(test)]
mod tests;
