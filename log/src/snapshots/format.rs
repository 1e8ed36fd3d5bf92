//! The file of a snapshot: a stream of bytes in chunks, each with its checksum.
//!
//! | bytes of a chunk | content |
//! |---|---|
//! | 0..4 | CRC32C of its content |
//! | 4..8 | length of it: 256 KiB, but for the last chunk |
//! | 8.. | content |

use std::io::{self, Read, Write};

use crate::snapshots::SnapshotFile;

/// Bytes of the content of every chunk but the last, which has fewer.
pub(crate) const CHUNK_BYTES: usize = 256 << 10;
/// Chunks between two syncs of a file that is written: 8 MiB, so that a sync of the log beside it waits
/// for no more.
pub(crate) const SYNC_CHUNKS: u32 = 32;
/// Bytes before the content of a chunk.
const HEAD: usize = 8;

/// Where a chunk stands in its file.
fn place(number: u32) -> u64 {
    u64::from(number) * (CHUNK_BYTES + HEAD) as u64
}

/// How many chunks so many bytes have.
pub(crate) fn chunks_of(bytes: u64) -> u64 {
    bytes.div_ceil(CHUNK_BYTES as u64)
}

/// How many bytes the first chunks have of a snapshot of `bytes` bytes.
pub(crate) fn bytes_of(chunks: u32, bytes: u64) -> u64 {
    bytes.min(u64::from(chunks) * CHUNK_BYTES as u64)
}

/// Content of the chunk `number` of a snapshot of `bytes` bytes.
pub(crate) fn length_of(number: u32, bytes: u64) -> usize {
    let before = u64::from(number) * CHUNK_BYTES as u64;
    let left = bytes.saturating_sub(before).min(CHUNK_BYTES as u64);
    usize::try_from(left).unwrap_or(CHUNK_BYTES)
}

/// Writes a chunk where it belongs.
pub(crate) fn write_chunk(
    file: &mut dyn SnapshotFile,
    number: u32,
    content: &[u8],
) -> io::Result<u32> {
    let sum = crc32c::crc32c(content);
    let length = u32::try_from(content.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(HEAD + content.len());
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(content);
    file.write_at(place(number), &bytes)?;
    Ok(sum)
}

/// Reads a chunk of a snapshot of `bytes` bytes: its checksum, which was compared, and its content.
pub(crate) fn read_chunk(
    file: &dyn SnapshotFile,
    number: u32,
    bytes: u64,
) -> io::Result<(u32, Vec<u8>)> {
    let mut chunk = vec![0; HEAD + length_of(number, bytes)];
    file.read_at(place(number), &mut chunk)?;
    let number_at = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| chunk[at + i]));
    let (sum, length) = (number_at(0), number_at(4));
    let content = chunk.split_off(HEAD);
    if length as usize != content.len() || crc32c::crc32c(&content) != sum {
        let what = format!("chunk {number} of a snapshot is damaged");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    Ok((sum, content))
}

/// Takes a stream and writes it as chunks.
pub(crate) struct ChunkWriter {
    file: Box<dyn SnapshotFile>,
    content: Vec<u8>,
    chunks: u32,
    bytes: u64,
    /// CRC32C of the checksums of all chunks so far.
    sums: u32,
}

impl ChunkWriter {
    pub(crate) fn new(file: Box<dyn SnapshotFile>) -> Self {
        let content = Vec::with_capacity(CHUNK_BYTES);
        Self { file, content, chunks: 0, bytes: 0, sums: 0 }
    }

    /// Bytes taken so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn end_chunk(&mut self) -> io::Result<()> {
        let sum = write_chunk(&mut *self.file, self.chunks, &self.content)?;
        self.sums = add_sum(self.sums, sum);
        self.chunks += 1;
        self.content.clear();
        if self.chunks.is_multiple_of(SYNC_CHUNKS) {
            self.file.sync()?;
        }
        Ok(())
    }

    /// Writes the rest and syncs everything; answers the bytes of the stream and the checksum of
    /// all checksums.
    pub(crate) fn finish(mut self) -> io::Result<(u64, u32)> {
        if !self.content.is_empty() {
            self.end_chunk()?;
        }
        self.file.sync()?;
        Ok((self.bytes, self.sums))
    }
}

/// The checksum of the checksums of chunks, with that of one more chunk.
pub(crate) fn add_sum(sums: u32, sum: u32) -> u32 {
    crc32c::crc32c_append(sums, &sum.to_le_bytes())
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK_BYTES - self.content.len());
        self.content.extend_from_slice(&bytes[..taken]);
        if self.content.len() == CHUNK_BYTES {
            self.end_chunk()?;
        }
        self.bytes += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The stream that was written as chunks. Every chunk is checked before anything of it is shown.
pub(crate) struct ChunkReader {
    file: Box<dyn SnapshotFile>,
    /// Bytes of the stream.
    bytes: u64,
    next: u32,
    content: Vec<u8>,
    at: usize,
}

impl ChunkReader {
    /// The stream of `bytes` bytes in `file`.
    pub(crate) fn new(file: Box<dyn SnapshotFile>, bytes: u64) -> Self {
        Self { file, bytes, next: 0, content: Vec::new(), at: 0 }
    }

    /// Bytes that were not read yet.
    pub(crate) fn left(&self) -> u64 {
        let taken = u64::from(self.next) * CHUNK_BYTES as u64;
        self.bytes.saturating_sub(taken) + (self.content.len() - self.at) as u64
    }
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.content.len() && u64::from(self.next) < chunks_of(self.bytes) {
            (_, self.content) = read_chunk(&*self.file, self.next, self.bytes)?;
            (self.next, self.at) = (self.next + 1, 0);
        }
        let taken = buffer.len().min(self.content.len() - self.at);
        buffer[..taken].copy_from_slice(&self.content[self.at..self.at + taken]);
        self.at += taken;
        Ok(taken)
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::snapshots::{MemoryFiles, SnapshotFiles};

    fn written(files: &MemoryFiles, content: &[u8]) -> (u64, u32) {
        let mut writer = ChunkWriter::new(files.create("a").expect("made"));
        // In pieces that fit into no chunk.
        content.chunks(100_003).for_each(|piece| writer.write_all(piece).expect("written"));
        writer.finish().expect("synced")
    }

    fn content(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| u8::try_from(at * 31 % 251).expect("small")).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        for bytes in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES] {
            let files = MemoryFiles::default();
            let content = content(bytes);
            assert_eq!(written(&files, &content).0, bytes as u64);
            let mut reader = ChunkReader::new(files.open("a").expect("there"), bytes as u64);
            assert_eq!(reader.left(), bytes as u64);
            let mut read = Vec::new();
            reader.read_to_end(&mut read).expect("whole");
            assert!(read == content && reader.left() == 0, "{bytes} bytes");
        }
    }

    #[test]
    fn what_is_written_is_synced_now_and_then() {
        let files = MemoryFiles::default();
        let mut writer = ChunkWriter::new(files.create("a").expect("made"));
        let content = content((SYNC_CHUNKS as usize + 1) * CHUNK_BYTES);
        writer.write_all(&content).expect("written");
        files.crash();
        let file = files.open("a").expect("there");
        let bytes = content.len() as u64;
        read_chunk(&*file, SYNC_CHUNKS - 1, bytes).expect("synced");
        assert!(read_chunk(&*file, SYNC_CHUNKS, bytes).is_err());
    }

    #[test]
    fn a_flipped_bit_is_noticed_in_its_chunk() {
        let files = MemoryFiles::default();
        let content = content(3 * CHUNK_BYTES);
        written(&files, &content);
        files.flip("a", place(1) + 100);
        let file = files.open("a").expect("there");
        let bytes = content.len() as u64;
        let damaged: Vec<bool> =
            (0..3).map(|number| read_chunk(&*file, number, bytes).is_err()).collect();
        assert_eq!(damaged, [false, true, false]);
        let mut reader = ChunkReader::new(file, bytes);
        assert!(reader.read_to_end(&mut Vec::new()).is_err());
    }
}
