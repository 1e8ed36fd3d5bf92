//! One write of raft-engine: `header | entries | CRC32 | footer`.

use ledgermq_core::offset::Index;

use super::super::{ENTRIES, KEYS, STATE_KEY};

/// Bytes of the header: 56 bits length, 8 bits compression, 64 bits position of the footer.
pub(super) const BATCH_HEADER: u64 = 16;
const CHECKSUM: usize = 4;

/// A header that makes sense.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) length: u64,
    pub(super) footer: u64,
}

impl Header {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let (footer, _) = rest.split_first_chunk::<8>()?;
        let length = u64::from_be_bytes(*length);
        let footer = u64::from_be_bytes(*footer);
        // We never let raft-engine compress.
        let uncompressed = length.to_be_bytes()[7] == 0;
        let length = length >> 8;
        let least = footer.checked_add(CHECKSUM as u64 + 1)?;
        let fits = footer >= BATCH_HEADER && least < length;
        (uncompressed && fits).then_some(Self { length, footer })
    }
}

/// What a write does to the log.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    /// First and last entry.
    pub(super) entries: Option<(Index, Index)>,
    /// All entries were given up before.
    pub(super) clean: bool,
    /// Entries before this one were given up.
    pub(super) compact: Option<Index>,
    /// The seal of the log that the write belongs to.
    pub(super) seal: Option<u64>,
}

impl Found {
    /// Reads a footer that stands in file number `seq`.
    pub(super) fn parse(footer: &[u8], seq: u64) -> Result<Self, &'static str> {
        let (items, sum) =
            footer.split_last_chunk::<CHECKSUM>().ok_or("the footer of the write is cut")?;
        let [s0, s1, s2, s3, ..] = seq.to_le_bytes();
        let signature = u32::from_le_bytes([s0, s1, s2, s3]);
        if crc32fast::hash(items) ^ signature != u32::from_le_bytes(*sum) {
            return Err("checksum of the footer of the write there does not match");
        }
        Self::unchecked(items).ok_or("unknown content of a footer")
    }

    /// The seal that a footer bears, whether or not its checksum matches.
    pub(super) fn seal_of(footer: &[u8]) -> Option<u64> {
        let (items, _) = footer.split_last_chunk::<CHECKSUM>()?;
        Self::unchecked(items)?.seal
    }

    fn unchecked(items: &[u8]) -> Option<Self> {
        let mut found = Self::default();
        found.items(items)?;
        Some(found)
    }

    fn items(&mut self, mut bytes: &[u8]) -> Option<()> {
        let bytes = &mut bytes;
        for _ in 0..varint(bytes)? {
            let group = varint(bytes)?;
            match byte(bytes)? {
                1 => self.entries(group, bytes)?,
                2 => self.command(group, bytes)?,
                3 => self.key(group, bytes)?,
                _ => return None,
            }
        }
        bytes.is_empty().then_some(())
    }

    fn entries(&mut self, group: u64, bytes: &mut &[u8]) -> Option<()> {
        let count = varint(bytes)?;
        if count == 0 {
            return Some(());
        }
        let first = varint(bytes)?;
        for _ in 0..count {
            varint(bytes)?;
        }
        if group == ENTRIES {
            self.entries = Some((first, first.checked_add(count - 1)?));
        }
        Some(())
    }

    fn command(&mut self, group: u64, bytes: &mut &[u8]) -> Option<()> {
        match byte(bytes)? {
            1 => self.clean |= group == ENTRIES,
            2 => {
                let index = varint(bytes)?;
                if group == ENTRIES {
                    self.compact = Some(index);
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn key(&mut self, group: u64, bytes: &mut &[u8]) -> Option<()> {
        let operation = byte(bytes)?;
        let key = block(bytes)?;
        match operation {
            1 => {
                let value = block(bytes)?;
                if group == KEYS && key == STATE_KEY {
                    let seal = value.last_chunk::<8>()?;
                    self.seal = Some(u64::from_le_bytes(*seal));
                }
            }
            2 => {}
            _ => return None,
        }
        Some(())
    }
}

/// Whether the block of entries (with its checksum behind) is as it was written.
pub(super) fn entries_are_whole(block: &[u8]) -> bool {
    match block.split_last_chunk::<CHECKSUM>() {
        Some((entries, sum)) => crc32fast::hash(entries) == u32::from_le_bytes(*sum),
        None => block.is_empty(),
    }
}

fn byte(bytes: &mut &[u8]) -> Option<u8> {
    let (&first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(first)
}

fn block<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(varint(bytes)?).ok()?;
    let (block, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(block)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let next = byte(bytes)?;
        value |= u64::from(next & 0x7f) << shift;
        if next < 0x80 {
            return Some(value);
        }
    }
    None
}
