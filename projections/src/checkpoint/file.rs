//! The store in a file, by redb.

mod beside;
mod kept;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ledgermq_core::offset::{Index, Offset, Timestamp};
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition,
    TableError, WriteTransaction,
};

use crate::bytes::{Reader, put_u32, put_u64};
use crate::checkpoint::{
    Beside, Changes, Kept, KeptVisitor, Meta, RowVisitor, Store, StoreError, Table, VERSION,
    row_checksum,
};
use crate::views::retained::RetainedMessage;

use beside::FileBeside;
use kept::{FileKept, Shared};

type Bytes = TableDefinition<'static, &'static [u8], &'static [u8]>;

const META: Bytes = TableDefinition::new("meta");
const KEPT: Bytes = TableDefinition::new("owed_kept");
const META_KEY: &[u8] = b"checkpoint";
const KEPT_UPTO_KEY: &[u8] = b"kept_upto";
/// Memory of redb's page cache. Checkpoints are written once and read at the start.
const CACHE_BYTES: usize = 16 << 20;

/// A store in one file. After an error of the storage the file is opened anew by the next call.
#[derive(Debug)]
pub struct FileStore {
    path: PathBuf,
    shared: Arc<Shared>,
    beside: FileBeside,
}

impl FileStore {
    /// Opens or creates the file `path`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Storage`] if the system refuses or another process has it open. A damaged
    /// file is opened: [`Store::meta`] tells, [`Store::clear`] replaces it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let beside = FileBeside::new(path);
        let store = Self { path: path.to_owned(), shared: Arc::default(), beside };
        match store.database() {
            Ok(_) | Err(StoreError::Damaged(_)) => Ok(store),
            Err(error) => Err(error),
        }
    }

    fn database(&self) -> Result<Arc<Database>, StoreError> {
        self.shared.get_or_open(|| builder().create(&self.path).map_err(open_error))
    }

    /// Runs `write` in a transaction. If anything fails, nothing happened, and the file is closed
    /// since redb takes no more after an error of the storage.
    fn write(
        &self,
        write: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        let database = self.database()?;
        let result = (|| {
            let transaction = database.begin_write()?;
            write(&transaction)?;
            transaction.commit()?;
            Ok(())
        })();
        result.map_err(|error: redb::Error| {
            self.shared.close(&database);
            store_error(error)
        })
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&redb::ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let transaction = self.database()?.begin_read().map_err(store_error)?;
        read(&transaction)
    }
}

impl Store for FileStore {
    fn meta(&mut self) -> Result<Option<Meta>, StoreError> {
        self.read(read_meta)
    }

    fn load(&mut self, visit: &mut RowVisitor<'_>) -> Result<(), StoreError> {
        self.read(|transaction| {
            for table in Table::ALL {
                let Some(rows) = existing(transaction.open_table(definition(table)))? else {
                    continue;
                };
                for row in rows.iter().map_err(store_error)? {
                    let (key, value) = row.map_err(store_error)?;
                    visit(table, key.value(), value.value())?;
                }
            }
            Ok(())
        })
    }

    fn commit(&mut self, changes: &Changes) -> Result<(), StoreError> {
        let before = self.meta()?.unwrap_or_default().checksum;
        self.write(|transaction| {
            let mut checksum = before;
            for table in Table::ALL {
                checksum = checksum.wrapping_add(write_rows(transaction, table, changes)?);
            }
            let mut kept = transaction.open_table(KEPT)?;
            for offset in &changes.forget {
                kept.remove(&*offset_key(*offset))?;
            }
            let (applied, time) = (changes.applied, changes.time);
            let meta = Meta { version: VERSION, applied, time, checksum, kept_upto: 0 };
            transaction.open_table(META)?.insert(META_KEY, &*encode_meta(&meta))?;
            Ok(())
        })
    }

    fn keep(&mut self, upto: Index, messages: &[RetainedMessage]) -> Result<(), StoreError> {
        self.write(|transaction| {
            let mut kept = transaction.open_table(KEPT)?;
            let mut row = Vec::new();
            for message in messages {
                row.clear();
                message.encode(&mut row);
                kept.insert(&*offset_key(message.offset), &*row)?;
            }
            let upto = upto.to_be_bytes();
            transaction.open_table(META)?.insert(KEPT_UPTO_KEY, upto.as_slice())?;
            Ok(())
        })
    }

    fn bytes(&mut self) -> Result<u64, StoreError> {
        // Pages have a head, and a file that was larger once has free ones.
        let file = std::fs::metadata(&self.path);
        file.map(|file| file.len()).map_err(|error| StoreError::Storage(error.into()))
    }

    fn kept(&self) -> Arc<dyn Kept> {
        Arc::new(FileKept::new(self.path.clone(), Arc::clone(&self.shared)))
    }

    fn kept_offsets(&mut self) -> Result<Vec<Offset>, StoreError> {
        self.read(|transaction| {
            let Some(table) = existing(transaction.open_table(KEPT))? else {
                return Ok(Vec::new());
            };
            let rows = table.iter().map_err(store_error)?;
            rows.map(|row| offset_of(row.map_err(store_error)?.0.value())).collect()
        })
    }

    fn load_kept(&mut self, visit: &mut KeptVisitor<'_>) -> Result<(), StoreError> {
        self.read(|transaction| {
            let Some(table) = existing(transaction.open_table(KEPT))? else {
                return Ok(());
            };
            for row in table.iter().map_err(store_error)? {
                let (key, value) = row.map_err(store_error)?;
                visit(offset_of(key.value())?, value.value())?;
            }
            Ok(())
        })
    }

    fn beside(&mut self) -> &mut dyn Beside {
        &mut self.beside
    }

    fn take_place(&mut self) -> Result<(), StoreError> {
        self.beside.take_place(&self.path, &self.shared)
    }

    fn clear(&mut self) -> Result<(), StoreError> {
        if matches!(self.database(), Err(StoreError::Damaged(_))) {
            std::fs::remove_file(&self.path).map_err(|error| StoreError::Storage(error.into()))?;
        }
        self.write(|transaction| {
            for table in Table::ALL {
                transaction.delete_table(definition(table))?;
            }
            transaction.delete_table(KEPT)?;
            transaction.delete_table(META)?;
            Ok(())
        })
    }
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn definition(table: Table) -> Bytes {
    TableDefinition::new(table.name())
}

/// Writes the rows of one table; returns by how much the checksum changes.
fn write_rows(
    transaction: &WriteTransaction,
    table: Table,
    changes: &Changes,
) -> Result<u64, redb::Error> {
    let mut difference = 0_u64;
    let mut stored = transaction.open_table(definition(table))?;
    for (_, key, value) in changes.rows.iter().filter(|(of, _, _)| *of == table) {
        let old = match value {
            Some(value) => {
                difference = difference.wrapping_add(row_checksum(table, key, value));
                stored.insert(&**key, &**value)?
            }
            None => stored.remove(&**key)?,
        };
        if let Some(old) = old {
            difference = difference.wrapping_sub(row_checksum(table, key, old.value()));
        }
    }
    Ok(difference)
}

fn read_meta(transaction: &redb::ReadTransaction) -> Result<Option<Meta>, StoreError> {
    let Some(table) = existing(transaction.open_table(META))? else {
        return Ok(None);
    };
    let kept_upto = match table.get(KEPT_UPTO_KEY).map_err(store_error)? {
        Some(row) => index_of(row.value())?,
        None => 0,
    };
    let row = table.get(META_KEY).map_err(store_error)?;
    let meta = row.map(|row| decode_meta(row.value())).transpose()?;
    Ok(meta.map(|meta| Meta { kept_upto, ..meta }))
}

fn encode_meta(meta: &Meta) -> Vec<u8> {
    let mut row = Vec::new();
    put_u32(&mut row, meta.version);
    put_u64(&mut row, meta.applied);
    put_u64(&mut row, meta.time.0);
    put_u64(&mut row, meta.checksum);
    row
}

fn decode_meta(row: &[u8]) -> Result<Meta, StoreError> {
    let mut from = Reader(row);
    let mut read = || {
        let version = from.u32()?;
        let (applied, time, checksum) = (from.u64()?, Timestamp(from.u64()?), from.u64()?);
        Ok(Meta { version, applied, time, checksum, kept_upto: 0 })
    };
    read().map_err(cut)
}

fn index_of(row: &[u8]) -> Result<Index, StoreError> {
    Reader(row).u64().map_err(cut)
}

fn offset_of(key: &[u8]) -> Result<Offset, StoreError> {
    let mut from = Reader(key);
    let mut read = || Ok(Offset::new(from.u64()?, from.u32()?));
    read().map_err(cut)
}

fn offset_key(offset: Offset) -> Vec<u8> {
    let mut key = Vec::with_capacity(12);
    put_u64(&mut key, offset.index);
    put_u32(&mut key, offset.ordinal);
    key
}

fn cut(cut: crate::bytes::Cut) -> StoreError {
    StoreError::Damaged(cut.to_string())
}

/// A table that was never written does not exist.
fn existing<T>(opened: Result<T, TableError>) -> Result<Option<T>, StoreError> {
    match opened {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(store_error(error)),
    }
}

fn open_error(error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::Storage(StorageError::Corrupted(what)) => StoreError::Damaged(what),
        DatabaseError::Storage(StorageError::Io(error))
            if error.kind() == std::io::ErrorKind::InvalidData =>
        {
            StoreError::Damaged(error.to_string())
        }
        DatabaseError::RepairAborted | DatabaseError::UpgradeRequired(_) => {
            StoreError::Damaged(error.to_string())
        }
        other => StoreError::Storage(other.into()),
    }
}

fn store_error(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Corrupted(what) => StoreError::Damaged(what),
        other => StoreError::Storage(other.into()),
    }
}
