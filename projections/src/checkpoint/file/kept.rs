//! The open file, and reading kept messages from it.

use std::collections::VecDeque;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use ledgermq_core::offset::Offset;
use redb::{Database, ReadableDatabase};

use crate::checkpoint::StoreError;
use crate::checkpoint::file::{KEPT, existing, offset_key, store_error};
use crate::views::Kept;
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

    pub(super) fn close(&self) {
        *self.database.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn get(&self) -> Option<Arc<Database>> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Kept messages, the ones read last in memory: many sessions are owed the same.
#[derive(Debug)]
pub(super) struct FileKept {
    shared: Arc<Shared>,
    cache: Mutex<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    messages: VecDeque<Arc<RetainedMessage>>,
    bytes: u64,
}

impl FileKept {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, cache: Mutex::default() }
    }

    fn read(&self, at: Offset) -> Result<Option<RetainedMessage>, StoreError> {
        let Some(database) = self.shared.get() else {
            return Ok(None);
        };
        let transaction = database.begin_read().map_err(store_error)?;
        let Some(table) = existing(transaction.open_table(KEPT))? else {
            return Ok(None);
        };
        let Some(row) = table.get(&*offset_key(at)).map_err(store_error)? else {
            return Ok(None);
        };
        RetainedMessage::decode(row.value()).map(Some).map_err(super::cut)
    }
}

impl Kept for FileKept {
    fn get(&self, at: Offset) -> Option<Arc<RetainedMessage>> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(place) = cache.messages.binary_search_by_key(&at, |held| held.offset) {
            return cache.messages.get(place).cloned();
        }
        match self.read(at) {
            Ok(message) => message.map(|message| cache.add(Arc::new(message))),
            Err(error) => {
                tracing::warn!(offset = %at, error = &error as &dyn Error, "cannot read a kept message");
                None
            }
        }
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
