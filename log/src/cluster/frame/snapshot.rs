//! Snapshots on their way to a node that lacks what is purged.

use bytes::Bytes;
use ledgermq_core::offset::Index;

use super::FrameError;
use super::fields::{Reader, put_numbers};
use crate::snapshots::CHUNK_BYTES;

/// Indices and terms from here on are refused: raft adds to them.
const BOUND: u64 = 1 << 62;

/// The leader has a snapshot for a follower. It is sent when the follower has said from where on.
///
/// Body: id, index, its term, bytes of the stream, checksum of the views (64 bits each).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotBegin {
    /// Number of the snapshot, which no other of the sender has.
    pub id: u64,
    /// Everything up to here is in it.
    pub index: Index,
    /// Term of the entry there.
    pub term: u64,
    /// Bytes of the stream, which has chunks of 256 KiB.
    pub bytes: u64,
    /// Checksum of the views in it.
    pub checksum: u64,
}

/// A piece of a snapshot.
///
/// Body: id (64 bits), number and CRC32C of the content (32 bits each), content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotChunk {
    /// Number of the snapshot.
    pub id: u64,
    /// Number of the chunk, from 0.
    pub number: u32,
    /// The content, 256 KiB but for the last chunk.
    pub content: Bytes,
}

/// All of a snapshot was sent.
///
/// Body: id (64 bits), chunks, CRC32C of the CRC32Cs of all chunks (32 bits each).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotEnd {
    /// Number of the snapshot.
    pub id: u64,
    /// How many chunks it has.
    pub chunks: u32,
    /// CRC32C of the CRC32Cs of all chunks.
    pub sums: u32,
}

/// How the receiver of a snapshot stands.
///
/// Body: id (64 bits), next chunk (32 bits), state (8 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotAck {
    /// Number of the snapshot.
    pub id: u64,
    /// Chunks before this one are there.
    pub next: u32,
    /// What the receiver does.
    pub state: SnapshotState,
}

/// What the receiver of a snapshot does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotState {
    /// 1: it waits for chunks.
    Receiving,
    /// 2: it has all of it and takes it in.
    Importing,
    /// 3: it is where the snapshot is, or beyond.
    Done,
    /// 4: it does not take it, now.
    Refused,
}

fn id(reader: &mut Reader<'_>) -> Result<u64, FrameError> {
    match reader.u64()? {
        0 => Err(FrameError::Content("speaks of no snapshot")),
        id => Ok(id),
    }
}

impl SnapshotBegin {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_numbers(out, &[self.id, self.index, self.term, self.bytes, self.checksum]);
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, FrameError> {
        let mut reader = Reader::new(body);
        let begin = Self {
            id: id(&mut reader)?,
            index: reader.u64()?,
            term: reader.u64()?,
            bytes: reader.u64()?,
            checksum: reader.u64()?,
        };
        reader.end()?;
        let is_number = |number: u64| number > 0 && number < BOUND;
        if !is_number(begin.index) || !is_number(begin.term) {
            return Err(FrameError::Content("has a snapshot of no entry"));
        }
        // Its chunks are counted in 32 bits.
        if begin.bytes == 0 || begin.bytes.div_ceil(CHUNK_BYTES as u64) > u64::from(u32::MAX) {
            return Err(FrameError::Content("has a snapshot of an impossible size"));
        }
        Ok(begin)
    }
}

impl SnapshotChunk {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_numbers(out, &[self.id]);
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&crc32c::crc32c(&self.content).to_le_bytes());
        out.extend_from_slice(&self.content);
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, FrameError> {
        let mut reader = Reader::new(body);
        let (id, number, sum) = (id(&mut reader)?, reader.u32()?, reader.u32()?);
        let content = reader.take_rest();
        if content.is_empty() || content.len() > CHUNK_BYTES {
            return Err(FrameError::Content("has a chunk of an impossible size"));
        }
        if crc32c::crc32c(content) != sum {
            return Err(FrameError::Content("has a chunk that does not match its checksum"));
        }
        Ok(Self { id, number, content: Bytes::copy_from_slice(content) })
    }
}

impl SnapshotEnd {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_numbers(out, &[self.id]);
        out.extend_from_slice(&self.chunks.to_le_bytes());
        out.extend_from_slice(&self.sums.to_le_bytes());
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, FrameError> {
        let mut reader = Reader::new(body);
        let end = Self { id: id(&mut reader)?, chunks: reader.u32()?, sums: reader.u32()? };
        reader.end()?;
        if end.chunks == 0 {
            return Err(FrameError::Content("has a snapshot of an impossible size"));
        }
        Ok(end)
    }
}

impl SnapshotAck {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_numbers(out, &[self.id]);
        out.extend_from_slice(&self.next.to_le_bytes());
        out.push(match self.state {
            SnapshotState::Receiving => 1,
            SnapshotState::Importing => 2,
            SnapshotState::Done => 3,
            SnapshotState::Refused => 4,
        });
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, FrameError> {
        let mut reader = Reader::new(body);
        let (id, next) = (id(&mut reader)?, reader.u32()?);
        let state = match reader.u8()? {
            1 => SnapshotState::Receiving,
            2 => SnapshotState::Importing,
            3 => SnapshotState::Done,
            4 => SnapshotState::Refused,
            _ => return Err(FrameError::Content("has an unknown state of a snapshot")),
        };
        reader.end()?;
        Ok(Self { id, next, state })
    }
}
