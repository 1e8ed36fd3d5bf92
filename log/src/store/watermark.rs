//! The watermark: how far the log is known to be synced, kept outside of the log's own files.
//!
//! A file of two slots of 4 KiB, written alternately and synced, so that one is always whole. A
//! slot is one record:
//!
//! | bytes | content |
//! |---|---|
//! | 0..8 | `LMQWMRK1` |
//! | 8..12 | CRC32C of bytes 12..112 |
//! | 12 | durability of the writer: 0 fsync, 1 os-cache |
//! | 13 | 1 if nothing was written after this record |
//! | 14..16 | zero |
//! | 16..24 | number of the record; the higher counts |
//! | 24..32 | node |
//! | 32..40 | start epoch of the writer |
//! | 40..48 | seal: a number that stands in every write to the log's files |
//! | 48..56, 56..64 | last synced entry: index and term |
//! | 64..72 | the entry before the first one: index |
//! | 72..80 | number of the log's last synced file |
//! | 80..88 | synced bytes of that file |
//! | 88..96 | largest write that may have been under way |
//! | 96..112 | zero |

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use ledgermq_core::offset::Index;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use crate::config::Durability;

const SLOT: usize = 4096;
const RECORD: usize = 112;
const MAGIC: &[u8; 8] = b"LMQWMRK1";

/// Content of the watermark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Watermark {
    pub(super) durability: Durability,
    pub(super) clean: bool,
    pub(super) number: u64,
    pub(super) node: u64,
    pub(super) start: u64,
    pub(super) seal: u64,
    pub(super) last: (Index, u64),
    pub(super) truncated: Index,
    pub(super) file: u64,
    pub(super) file_bytes: u64,
    pub(super) unit_bytes_max: u64,
}

/// The open file.
#[derive(Debug)]
pub(super) struct WatermarkFile {
    file: File,
    number: u64,
}

/// What was found.
pub(super) enum Found {
    /// No file.
    Nothing,
    /// The newest whole record.
    Record(Watermark),
    /// A file without a whole record.
    Damaged,
}

impl WatermarkFile {
    /// Opens or creates the file, with room for both of its slots, and reads the newest record.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Found)> {
        let existed = path.exists();
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        // A record must be writable on a full disk, also the first one of its slot.
        match fallocate(&file, FallocateFlags::KEEP_SIZE, 0, place(2)) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSPC) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut newest: Option<Watermark> = None;
        for slot in 0..2 {
            let mut bytes = [0; RECORD];
            if file.read_exact_at(&mut bytes, place(slot)).is_ok()
                && let Some(record) = decode(&bytes)
                && newest.is_none_or(|newest| record.number > newest.number)
            {
                newest = Some(record);
            }
        }
        let found = match newest {
            Some(record) => Found::Record(record),
            // A crash between making the file and its first record leaves it empty.
            None if !existed || file.metadata()?.len() == 0 => Found::Nothing,
            None => Found::Damaged,
        };
        let number = newest.map_or(0, |record| record.number);
        Ok((Self { file, number }, found))
    }

    /// Writes the next record and syncs it. If that fails, the next try is for the same slot: the
    /// other one is whole.
    pub(super) fn write(&mut self, mut record: Watermark) -> io::Result<()> {
        record.number = self.number + 1;
        let mut slot = [0; SLOT];
        slot[..RECORD].copy_from_slice(&encode(&record));
        self.file.write_all_at(&slot, place(record.number % 2))?;
        self.file.sync_data()?;
        self.number = record.number;
        Ok(())
    }
}

/// Where a slot begins.
fn place(slot: u64) -> u64 {
    slot * SLOT as u64
}

fn encode(record: &Watermark) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    bytes[0..8].copy_from_slice(MAGIC);
    bytes[12] = u8::from(record.durability == Durability::OsCache);
    bytes[13] = u8::from(record.clean);
    let numbers = [
        record.number,
        record.node,
        record.start,
        record.seal,
        record.last.0,
        record.last.1,
        record.truncated,
        record.file,
        record.file_bytes,
        record.unit_bytes_max,
    ];
    for (place, number) in bytes[16..96].chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    let sum = crc32c::crc32c(&bytes[12..]);
    bytes[8..12].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; RECORD]) -> Option<Watermark> {
    if &bytes[0..8] != MAGIC || crc32c::crc32c(&bytes[12..]).to_le_bytes() != bytes[8..12] {
        return None;
    }
    let mut numbers = [0; 10];
    for (place, number) in bytes[16..96].chunks_exact(8).zip(&mut numbers) {
        *number = u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|i| place[i]));
    }
    let [number, node, start, seal, index, term, truncated, file, file_bytes, unit_bytes_max] =
        numbers;
    Some(Watermark {
        durability: if bytes[12] == 1 { Durability::OsCache } else { Durability::Fsync },
        clean: bytes[13] == 1,
        number,
        node,
        start,
        seal,
        last: (index, term),
        truncated,
        file,
        file_bytes,
        unit_bytes_max,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn both_slots_have_their_room_before_the_first_record() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("watermark");
        let (mut file, _) = WatermarkFile::open(&path).expect("opens");
        let blocks = || std::fs::metadata(&path).expect("there").blocks();
        let before = blocks();
        assert!(before * 512 >= place(2), "{before} blocks");
        file.write(Watermark::default()).expect("writes");
        file.write(Watermark::default()).expect("writes");
        assert_eq!(blocks(), before);
    }

    #[test]
    fn the_newest_whole_record_counts() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("watermark");
        let (mut file, found) = WatermarkFile::open(&path).expect("opens");
        assert!(matches!(found, Found::Nothing));
        let record = |index| Watermark { last: (index, 1), node: 7, ..Watermark::default() };
        file.write(record(10)).expect("writes");
        file.write(record(20)).expect("writes");
        let read = || match WatermarkFile::open(&path).expect("opens").1 {
            Found::Record(record) => record.last.0,
            _ => 0,
        };
        assert_eq!(read(), 20);
        // The second record stands in slot 0; torn, the first one counts.
        file.file.write_all_at(&[0xff], 50).expect("writes");
        assert_eq!(read(), 10);
        file.file.write_all_at(&[0xff], place(1) + 50).expect("writes");
        assert!(matches!(WatermarkFile::open(&path).expect("opens").1, Found::Damaged));
    }
}
