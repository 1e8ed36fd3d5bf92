//! Whether damage at the end of the newest file is a write that never came to its end.

use std::path::{Path, PathBuf};

use super::batch::{BATCH_HEADER, Found, Header, entries_are_whole};
use super::{Fault, HEADER_BYTES, OpenError, Walk, io_error};
use crate::config::Durability;
use crate::store::engine::UNIT_BYTES;
use crate::store::watermark::Watermark;

/// What is to be cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) path: PathBuf,
    /// The file ends here.
    pub(crate) at: u64,
    /// Bytes behind that were not zero: what is lost of a write that nobody was told about.
    pub(crate) bytes: u64,
}

/// Judges the first fault of the newest file: a cut, or an error if what is damaged may have been
/// synced. `seal` is that of the writes before.
pub(super) fn judge(
    walk: &Walk<'_>,
    fault: Fault,
    seal: Option<u64>,
    watermark: Option<&Watermark>,
) -> Result<Option<Cut>, OpenError> {
    let path = walk.path;
    if let Some(mark) = watermark
        && (walk.seq, fault.at) < (mark.file, mark.file_bytes)
    {
        return Err(fault.error(path, "the watermark says that it was synced"));
    }
    let rest = walk.read(fault.at, u64::MAX).map_err(|source| io_error("read", path, source))?;
    let used = rest.iter().rposition(|&byte| byte != 0).map_or(0, |last| last as u64 + 1);
    let cut = Cut { path: path.to_owned(), at: fault.at, bytes: used };
    if watermark.is_some_and(|mark| mark.durability == Durability::OsCache) {
        // Whatever lies beyond the watermark may have reached the disk in any order.
        return Ok(Some(cut));
    }
    if fault.at < HEADER_BYTES && used > HEADER_BYTES {
        return Err(fault.error(path, "writes follow behind it"));
    }
    let seal = seal.or(watermark.map(|mark| mark.seal));
    if let Some(behind) = whole_write(&rest, walk.seq, seal) {
        let at = fault.at + behind;
        return Err(fault.error(path, &format!("a whole write follows at byte {at}")));
    }
    // Each write was synced before the next began, so at most one was under way.
    let largest = watermark.map_or(u64::MAX, |mark| mark.unit_bytes_max.max(UNIT_BYTES));
    if used > fault.claims.filter(|&claims| claims <= largest).unwrap_or(largest) {
        return Err(fault.error(path, "more than one write is damaged"));
    }
    Ok(Some(cut))
}

/// Position of a whole write of ours behind the first byte of `bytes`. The seal, a secret of this
/// log, keeps a message that contains the image of a write from being taken for one; and checksums
/// are taken behind it only, or a message full of headers would keep a start busy for hours.
fn whole_write(bytes: &[u8], seq: u64, seal: Option<u64>) -> Option<u64> {
    (1..bytes.len()).find_map(|at| {
        let bytes = &bytes[at..];
        let header = Header::parse(bytes)?;
        let batch = bytes.get(..usize::try_from(header.length).ok()?)?;
        let (before, footer) = batch.split_at(usize::try_from(header.footer).ok()?);
        let bears = Found::seal_of(footer)?;
        if seal.is_some_and(|seal| bears != seal) {
            return None;
        }
        Found::parse(footer, seq).ok()?;
        let entries = &before[usize::try_from(BATCH_HEADER).ok()?..];
        entries_are_whole(entries).then_some(at as u64)
    })
}

impl Cut {
    /// Cuts the file and syncs it.
    pub(crate) fn apply(&self) -> Result<(), OpenError> {
        let path: &Path = &self.path;
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(path)
            .map_err(|source| io_error("open", path, source))?;
        file.set_len(self.at).map_err(|source| io_error("cut", path, source))?;
        file.sync_all().map_err(|source| io_error("sync", path, source))
    }
}
