//! A stream of [`super::export()`] becomes a second store beside the one in use, and views in memory.

use std::error::Error;
use std::io::{self, ErrorKind, Read};

use ledgermq_core::offset::{Index, Offset, Timestamp};

use crate::checkpoint::blocks::Unblocked;
use crate::checkpoint::export::{END, FORMAT, KEPT, MAGIC, ROW};
use crate::checkpoint::{Meta, Part, Store, StoreError, Table, VERSION};
use crate::views::retained::RetainedMessage;
use crate::views::rows::Loader;
use crate::views::{Limits, Views};

/// Bytes of rows that go into the store at once.
const PART_BYTES: usize = 8 << 20;
/// Most bytes of a key and of a value: a filter with its slot, and a packet with what is said of it.
const KEY_BYTES_MAX: u32 = 1 << 17;
const VALUE_BYTES_MAX: u32 = 1 << 29;

/// A snapshot was not taken in. Nothing is left of it.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The store does not take it; the same call may succeed later (a full disk).
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be read; the same call may succeed later.
    #[error("the snapshot cannot be read")]
    Read(#[source] io::Error),
    /// It is none, or not the one that was announced: it never will be taken in.
    #[error("the snapshot is refused: {0}")]
    Refused(String),
}

/// A snapshot that was taken in.
pub struct Imported {
    /// What the store beside says of itself.
    pub meta: Meta,
    /// The views as of its index.
    pub(crate) views: Views,
    /// Where the kept messages were published.
    pub(crate) kept: Vec<Offset>,
}

impl std::fmt::Debug for Imported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { meta, views, kept } = self;
        let mut debug = f.debug_struct("Imported");
        debug.field("meta", meta).field("views", views).field("kept", &kept.len()).finish()
    }
}

/// Takes in what `from` gives, which is announced as the state of `index` with the row checksum
/// `checksum`, as a second store beside `store` ([`Store::beside`]). It is complete and durable when this
/// returns. [`Store::take_place`] puts it in place of `store`.
///
/// # Errors
///
/// See [`ImportError`]. There is no store beside then.
pub fn import(
    store: &mut dyn Store,
    from: &mut dyn Read,
    limits: Limits,
    index: Index,
    checksum: u64,
) -> Result<Imported, ImportError> {
    let result = take_in(store, from, limits, index, checksum);
    if result.is_err()
        && let Err(error) = store.beside().discard()
    {
        // The next one replaces it, and the next start deletes it.
        let error = &error as &dyn Error;
        tracing::warn!(error, "what came of a refused snapshot cannot be deleted yet");
    }
    result
}

fn take_in(
    store: &mut dyn Store,
    from: &mut dyn Read,
    limits: Limits,
    index: Index,
    checksum: u64,
) -> Result<Imported, ImportError> {
    let mut stream = Stream { from: Unblocked::new(from), number: 0 };
    let meta = stream.head()?;
    if (meta.applied, meta.checksum) != (index, checksum) {
        return Err(refused(format!(
            "it is of index {} (checksum {:016x}) and not of {index} ({checksum:016x})",
            meta.applied, meta.checksum
        )));
    }
    store.beside().begin()?;
    let mut filling = Filling {
        store,
        part: Part::default(),
        bytes: 0,
        loader: Loader::new(limits),
        last: None,
        rows: 0,
        kept: Vec::new(),
    };
    let (rows, messages) = loop {
        match stream.record()? {
            Record::Row(table, key, value) => filling.row(table, key, value)?,
            Record::Kept(at, message) => filling.kept(at, message)?,
            Record::End { rows, messages } => break (rows, messages),
        }
    };
    stream.expect_end()?;
    let Filling { store, part, loader, rows: taken, kept, .. } = filling;
    if (rows, messages) != (taken, kept.len() as u64) {
        return Err(refused(format!(
            "it announces {rows} rows and {messages} messages and has {taken} and {}",
            kept.len()
        )));
    }
    let meta = Meta { kept_upto: index, ..meta };
    let mut views = loader.finish(&meta).map_err(unless_storage)?;
    views.set_kept(index);
    let beside = store.beside();
    beside.add(&part)?;
    beside.finish(&meta)?;
    Ok(Imported { meta, views, kept })
}

struct Filling<'s> {
    store: &'s mut dyn Store,
    part: Part,
    bytes: usize,
    loader: Loader,
    /// The row before.
    last: Option<(usize, Vec<u8>)>,
    rows: u64,
    kept: Vec<Offset>,
}

impl Filling<'_> {
    fn row(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) -> Result<(), ImportError> {
        let place = (table.place(), key);
        if !self.kept.is_empty() || self.last.as_ref().is_some_and(|last| *last >= place) {
            return Err(refused(format!("its rows are out of order in table {}", table.name())));
        }
        self.loader.row(table, &place.1, &value).map_err(unless_storage)?;
        self.rows += 1;
        self.bytes += place.1.len() + value.len();
        self.part.rows.push((table, place.1.clone(), value));
        self.last = Some(place);
        self.pass_if_full()
    }

    fn kept(&mut self, at: Offset, message: Vec<u8>) -> Result<(), ImportError> {
        if self.kept.last().is_some_and(|last| *last >= at) {
            return Err(refused("its kept messages are out of order".to_owned()));
        }
        let is_sound = RetainedMessage::decode(&message).is_ok_and(|held| held.offset == at);
        if !is_sound {
            return Err(refused(format!("the kept message {at} cannot be read")));
        }
        self.kept.push(at);
        self.bytes += message.len();
        self.part.kept.push((at, message));
        self.pass_if_full()
    }

    fn pass_if_full(&mut self) -> Result<(), ImportError> {
        if self.bytes >= PART_BYTES {
            self.store.beside().add(&self.part)?;
            self.part = Part::default();
            self.bytes = 0;
        }
        Ok(())
    }
}

struct Stream<'r> {
    from: Unblocked<'r>,
    /// Records that were read.
    number: u64,
}

enum Record {
    Row(Table, Vec<u8>, Vec<u8>),
    Kept(Offset, Vec<u8>),
    End { rows: u64, messages: u64 },
}

impl Stream<'_> {
    fn head(&mut self) -> Result<Meta, ImportError> {
        if self.array::<8>()? != *MAGIC {
            return Err(refused("it does not begin as one".to_owned()));
        }
        let format = self.u32()?;
        if format != FORMAT {
            return Err(refused(format!("it has format {format}, this program {FORMAT}")));
        }
        let version = self.u32()?;
        if version != VERSION {
            return Err(refused(format!(
                "its rows have version {version}, this program {VERSION}"
            )));
        }
        let (applied, time, checksum) = (self.u64()?, Timestamp(self.u64()?), self.u64()?);
        Ok(Meta { version, applied, time, checksum, kept_upto: 0 })
    }

    fn record(&mut self) -> Result<Record, ImportError> {
        self.number += 1;
        Ok(match self.u8()? {
            ROW => {
                let number = self.u8()?;
                let table = Table::from_number(number)
                    .ok_or_else(|| refused(format!("it has rows of a table {number}")))?;
                let (key, value) = (self.u32()?, self.u32()?);
                if key > KEY_BYTES_MAX {
                    return Err(self.too_long());
                }
                Record::Row(table, self.bytes(key)?, self.bytes(value)?)
            }
            KEPT => {
                let at = Offset::new(self.u64()?, self.u32()?);
                let length = self.u32()?;
                Record::Kept(at, self.bytes(length)?)
            }
            END => Record::End { rows: self.u64()?, messages: self.u64()? },
            other => {
                let number = self.number;
                return Err(refused(format!("record {number} is of an unknown kind {other}")));
            }
        })
    }

    fn expect_end(&mut self) -> Result<(), ImportError> {
        match self.from.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(refused("it goes on behind its end".to_owned())),
            Err(error) => Err(read_error(error)),
        }
    }

    /// The memory grows with what really comes.
    fn bytes(&mut self, length: u32) -> Result<Vec<u8>, ImportError> {
        if length > VALUE_BYTES_MAX {
            return Err(self.too_long());
        }
        let mut bytes = Vec::new();
        let read = (&mut self.from).take(length.into()).read_to_end(&mut bytes);
        match read.map_err(read_error)? == length as usize {
            true => Ok(bytes),
            false => Err(cut_short()),
        }
    }

    fn too_long(&self) -> ImportError {
        refused(format!("record {} is longer than any can be", self.number))
    }

    fn u8(&mut self) -> Result<u8, ImportError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Result<u32, ImportError> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, ImportError> {
        self.array().map(u64::from_be_bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ImportError> {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes).map_err(read_error)?;
        Ok(bytes)
    }
}

fn refused(why: String) -> ImportError {
    ImportError::Refused(why)
}

fn cut_short() -> ImportError {
    refused("it is cut short".to_owned())
}

fn read_error(error: io::Error) -> ImportError {
    match error.kind() {
        ErrorKind::InvalidData => refused(error.to_string()),
        ErrorKind::UnexpectedEof => cut_short(),
        _ => ImportError::Read(error),
    }
}

/// Rows that cannot be are the snapshot's fault, not the store's.
fn unless_storage(error: StoreError) -> ImportError {
    match error {
        StoreError::Damaged(what) => refused(what),
        error @ StoreError::Storage(_) => ImportError::Store(error),
    }
}
