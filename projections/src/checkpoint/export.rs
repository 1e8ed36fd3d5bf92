//! A checkpoint as a stream of bytes: what another node needs to go on from there.
//!
//! The stream is a sequence of blocks ([`super::blocks`]: length `u32`, digest `u64`, at most 64 KiB).
//! What they hold one behind the other, all numbers big-endian:
//!
//! ```text
//! head   "LMQVIEWS", format u32, version of the rows u32, index u64, time u64, checksum of the rows u64
//! row    1, table u8, length of the key u32, of the value u32, key, value
//!        in the order of the tables, within a table by key
//! kept   2, index u64, ordinal u32, length u32, the message as in `owed_kept`
//!        ascending, behind all rows
//! end    0, number of rows u64, of kept messages u64
//! ```
//!
//! Whatever is owed at or below the index is among the kept messages: who takes the stream in has no log
//! before it.

use std::io::{self, Write};

use ledgermq_core::offset::{Index, Offset};

use crate::bytes::{put_u32, put_u64};
use crate::checkpoint::blocks::Blocks;
use crate::checkpoint::{Meta, Store, StoreError, Table};

pub(super) const MAGIC: &[u8; 8] = b"LMQVIEWS";
/// Version of the stream itself; that of what the rows mean is [`crate::checkpoint::VERSION`].
pub(super) const FORMAT: u32 = 1;
pub(super) const END: u8 = 0;
pub(super) const ROW: u8 = 1;
pub(super) const KEPT: u8 = 2;

/// A checkpoint was not written out.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Where it goes to takes no more.
    #[error("the snapshot cannot be written")]
    Write(#[source] io::Error),
    /// The store holds the state of another index, or what was owed is not kept up to there.
    #[error("the checkpoint stands at {applied} and keeps what is owed up to {kept}, not {wanted}")]
    Elsewhere {
        /// The index that was wanted.
        wanted: Index,
        /// That of the checkpoint.
        applied: Index,
        /// Up to where it keeps what is owed.
        kept: Index,
    },
}

/// Writes the checkpoint of `store`, which stands at `index` and keeps everything that is owed up to
/// there, and returns what it says of itself. It holds one row in memory at a time.
///
/// # Errors
///
/// See [`ExportError`].
pub fn export(
    store: &mut dyn Store,
    index: Index,
    to: &mut dyn Write,
) -> Result<Meta, ExportError> {
    let meta = store.meta()?.unwrap_or_default();
    let Meta { applied, kept_upto: kept, .. } = meta;
    if applied != index || kept < index {
        return Err(ExportError::Elsewhere { wanted: index, applied, kept });
    }
    let mut out = Out { blocks: Blocks::new(to), failed: None, head: Vec::new() };
    out.write(|head| {
        head.extend_from_slice(MAGIC);
        put_u32(head, FORMAT);
        put_u32(head, meta.version);
        put_u64(head, meta.applied);
        put_u64(head, meta.time.0);
        put_u64(head, meta.checksum);
    });
    let (mut rows, mut messages) = (0_u64, 0_u64);
    let result = store.load(&mut |table, key, value| {
        rows += 1;
        out.row(table, key, value)
    });
    out.check(result)?;
    let result = store.load_kept(&mut |at, message| {
        messages += 1;
        out.kept(at, message)
    });
    out.check(result)?;
    out.write(|end| {
        end.push(END);
        put_u64(end, rows);
        put_u64(end, messages);
    });
    out.check(Ok(()))?;
    out.blocks.finish().map_err(ExportError::Write)?;
    Ok(meta)
}

struct Out<'w> {
    blocks: Blocks<'w>,
    /// Why nothing more can be written.
    failed: Option<io::Error>,
    head: Vec<u8>,
}

impl Out<'_> {
    fn row(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.write(|head| {
            head.extend_from_slice(&[ROW, table as u8]);
            put_u32(head, length(key));
            put_u32(head, length(value));
        });
        self.bytes(key);
        self.bytes(value);
        self.go_on()
    }

    fn kept(&mut self, at: Offset, message: &[u8]) -> Result<(), StoreError> {
        self.write(|head| {
            head.push(KEPT);
            put_u64(head, at.index);
            put_u32(head, at.ordinal);
            put_u32(head, length(message));
        });
        self.bytes(message);
        self.go_on()
    }

    fn write(&mut self, fill: impl FnOnce(&mut Vec<u8>)) {
        let mut head = std::mem::take(&mut self.head);
        head.clear();
        fill(&mut head);
        self.bytes(&head);
        self.head = head;
    }

    fn bytes(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.failed = self.blocks.write(bytes).err();
        }
    }

    /// Stops the walk through the store if nothing more can be written; [`Out::check`] says why.
    fn go_on(&self) -> Result<(), StoreError> {
        match self.failed {
            None => Ok(()),
            Some(_) => Err(StoreError::Storage("the snapshot cannot be written".into())),
        }
    }

    fn check(&mut self, walked: Result<(), StoreError>) -> Result<(), ExportError> {
        match self.failed.take() {
            Some(error) => Err(ExportError::Write(error)),
            None => Ok(walked?),
        }
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("a packet has at most 256 MiB")
}
