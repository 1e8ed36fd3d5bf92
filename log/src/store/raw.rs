//! Entries as raft-engine keeps them: our own bytes behind protobuf's trait, so that nothing is
//! parsed by protobuf and the batch is copied once, into the write.
//!
//! | bytes | content |
//! |---|---|
//! | 0..4 | CRC32C of bytes 4..24, and of the data unless it is a batch in its own envelope |
//! | 4 | kind: raft's number of the entry type |
//! | 5..8 | zero |
//! | 8..16 | index |
//! | 16..24 | term |
//! | 24.. | data |
//!
//! All numbers are little endian.

use std::any::Any;
use std::fmt;
use std::io::BufRead;

use bytes::Bytes;
use ledgermq_core::offset::Index;
use protobuf::reflect::MessageDescriptor;
use protobuf::{
    Clear, CodedInputStream, CodedOutputStream, Message, ProtobufError, ProtobufResult,
    UnknownFields,
};
use raft::eraftpb::{Entry, EntryType};
use raft_engine::MessageExt;

const HEAD: usize = 24;

/// An entry with its head.
#[derive(Clone, Default, PartialEq)]
pub(super) struct RawEntry {
    head: [u8; HEAD],
    data: Bytes,
    unknown: UnknownFields,
}

impl RawEntry {
    pub(super) fn new(entry: &Entry) -> Self {
        let mut raw = Self { data: entry.data.clone(), ..Self::default() };
        raw.head[4] = match entry.entry_type {
            EntryType::EntryNormal => 0,
            EntryType::EntryConfChange => 1,
            EntryType::EntryConfChangeV2 => 2,
        };
        raw.head[8..16].copy_from_slice(&entry.index.to_le_bytes());
        raw.head[16..24].copy_from_slice(&entry.term.to_le_bytes());
        let sum = raw.sum();
        raw.head[0..4].copy_from_slice(&sum.to_le_bytes());
        raw
    }

    pub(super) fn entry(self) -> Result<Entry, &'static str> {
        if self.sum().to_le_bytes() != self.head[0..4] {
            return Err("checksum of the entry's head does not match");
        }
        let kind = match self.head[4] {
            0 => EntryType::EntryNormal,
            1 => EntryType::EntryConfChange,
            2 => EntryType::EntryConfChangeV2,
            _ => return Err("unknown kind of entry"),
        };
        let mut entry = Entry::new();
        entry.set_entry_type(kind);
        entry.index = self.u64_at(8);
        entry.term = self.u64_at(16);
        entry.data = self.data;
        Ok(entry)
    }

    fn index(&self) -> Index {
        self.u64_at(8)
    }

    fn sum(&self) -> u32 {
        let sum = crc32c::crc32c(&self.head[4..]);
        if self.head[4] == 0 { sum } else { crc32c::crc32c_append(sum, &self.data) }
    }

    fn u64_at(&self, at: usize) -> u64 {
        u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|i| self.head[at + i]))
    }
}

impl fmt::Debug for RawEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawEntry").field("index", &self.index()).finish_non_exhaustive()
    }
}

impl Clear for RawEntry {
    fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Message for RawEntry {
    fn descriptor(&self) -> &'static MessageDescriptor {
        unreachable!("raft-engine does not reflect upon entries")
    }

    fn is_initialized(&self) -> bool {
        true
    }

    fn merge_from(&mut self, is: &mut CodedInputStream<'_>) -> ProtobufResult<()> {
        is.read(&mut self.head)?;
        let mut data = Vec::new();
        loop {
            let chunk = is.fill_buf().map_err(ProtobufError::IoError)?;
            let length = chunk.len();
            if length == 0 {
                break;
            }
            // An entry comes as one slice: one allocation of the right size.
            data.extend_from_slice(chunk);
            is.consume(length);
        }
        self.data = Bytes::from(data);
        Ok(())
    }

    fn write_to_with_cached_sizes(&self, os: &mut CodedOutputStream<'_>) -> ProtobufResult<()> {
        os.write_raw_bytes(&self.head)?;
        os.write_raw_bytes(&self.data)
    }

    fn compute_size(&self) -> u32 {
        u32::try_from(HEAD + self.data.len()).expect("a batch is smaller than 4 GiB")
    }

    fn get_cached_size(&self) -> u32 {
        self.compute_size()
    }

    fn get_unknown_fields(&self) -> &UnknownFields {
        &self.unknown
    }

    fn mut_unknown_fields(&mut self) -> &mut UnknownFields {
        &mut self.unknown
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn new() -> Self {
        Self::default()
    }

    fn default_instance() -> &'static Self {
        unreachable!("raft-engine asks for no default entry")
    }
}

/// Tells raft-engine the index of an entry.
pub(super) struct RawEntries;

impl MessageExt for RawEntries {
    type Entry = RawEntry;

    fn index(entry: &RawEntry) -> u64 {
        entry.index()
    }
}
