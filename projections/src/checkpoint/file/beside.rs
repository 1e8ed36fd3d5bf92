//! A second file beside the one in use.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, WriteTransaction};

use crate::checkpoint::file::kept::Shared;
use crate::checkpoint::file::{
    KEPT, KEPT_UPTO_KEY, META, META_KEY, builder, definition, encode_meta, offset_key, open_error,
    read_meta, store_error,
};
use crate::checkpoint::{Beside, Meta, Part, StoreError, Table};

/// What the name of the second file ends with.
const SUFFIX: &str = ".new";

/// The second file. It is complete when it says of which index it is, which is written last.
#[derive(Debug)]
pub(super) struct FileBeside {
    path: PathBuf,
    /// Open while it is being filled.
    filling: Option<Database>,
}

impl FileBeside {
    /// Beside the file `path`.
    pub(super) fn new(path: &Path) -> Self {
        let mut beside = path.as_os_str().to_owned();
        beside.push(SUFFIX);
        Self { path: beside.into(), filling: None }
    }

    /// Renames the file to `place`, where `shared` is open.
    pub(super) fn take_place(&mut self, place: &Path, shared: &Shared) -> Result<(), StoreError> {
        self.filling = None;
        if self.meta()?.is_none() {
            let what = io::Error::new(ErrorKind::NotFound, "there is no complete second store");
            return Err(storage(what));
        }
        shared.exchange(|| fs::rename(&self.path, place)).map_err(storage)?;
        sync_directory(place).map_err(storage)
    }

    fn write(
        &mut self,
        write: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        let Some(database) = &self.filling else {
            return Err(StoreError::Storage("the second store was not begun".into()));
        };
        let result = (|| {
            let transaction = database.begin_write()?;
            write(&transaction)?;
            transaction.commit()?;
            Ok(())
        })();
        result.map_err(|error: redb::Error| {
            self.filling = None;
            store_error(error)
        })
    }
}

impl Beside for FileBeside {
    fn meta(&mut self) -> Result<Option<Meta>, StoreError> {
        if self.filling.is_some() || !self.path.try_exists().map_err(storage)? {
            return Ok(None);
        }
        let read = || {
            let database = builder().open(&self.path).map_err(open_error)?;
            read_meta(&database.begin_read().map_err(store_error)?)
        };
        match read() {
            Err(StoreError::Damaged(_)) => Ok(None),
            read => read,
        }
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        self.discard()?;
        self.filling = Some(builder().create(&self.path).map_err(open_error)?);
        Ok(())
    }

    fn add(&mut self, part: &Part) -> Result<(), StoreError> {
        self.write(|transaction| {
            for table in Table::ALL {
                let rows = part.rows.iter().filter(|(of, ..)| *of == table);
                let mut stored = transaction.open_table(definition(table))?;
                for (_, key, value) in rows {
                    stored.insert(&**key, &**value)?;
                }
            }
            let mut kept = transaction.open_table(KEPT)?;
            for (at, message) in &part.kept {
                kept.insert(&*offset_key(*at), &**message)?;
            }
            Ok(())
        })
    }

    fn finish(&mut self, meta: &Meta) -> Result<(), StoreError> {
        self.write(|transaction| {
            let mut table = transaction.open_table(META)?;
            table.insert(KEPT_UPTO_KEY, meta.kept_upto.to_be_bytes().as_slice())?;
            table.insert(META_KEY, &*encode_meta(meta))?;
            Ok(())
        })?;
        self.filling = None;
        sync_directory(&self.path).map_err(storage)
    }

    fn discard(&mut self) -> Result<(), StoreError> {
        self.filling = None;
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(storage(error)),
            _ => Ok(()),
        }
    }
}

/// Makes the names in the directory of `file` durable.
fn sync_directory(file: &Path) -> io::Result<()> {
    let directory = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}

fn storage(error: io::Error) -> StoreError {
    StoreError::Storage(error.into())
}
