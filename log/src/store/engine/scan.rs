//! Looking at raft-engine's files before raft-engine does.
//!
//! raft-engine forgives a damaged tail without a word, synced or not, and skips files before a
//! missing one. This scan walks every write of every file by its header and footer (and through
//! the entries of the newest file) and decides what is allowed to be cut; raft-engine then opens
//! files that are whole.

mod batch;
mod cut;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ledgermq_core::offset::Index;

use crate::error::OpenError;
use crate::store::REMEDY;
use crate::store::files::{FileRange, HEADER_BYTES};
use crate::store::watermark::Watermark;

use batch::{BATCH_HEADER, Found, Header};
pub(super) use cut::Cut;

const MAGIC: &[u8; 53] = b"RAFT-LOG-FILE-HEADER-9986AB3E47F320B394C8E84916EB0ED5";
const SUFFIX: &str = ".raftlog";

/// What the files hold.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The files with the index that was next when each was begun.
    pub(super) files: Vec<FileRange>,
    /// First entry; 0 if there is none.
    pub(super) first: Index,
    /// Last entry; 0 if there is none.
    pub(super) last: Index,
    /// Entries before this one were given up by a write that says so.
    pub(super) given_up: Index,
    /// The seal of the last write.
    pub(super) seal: Option<u64>,
    /// What must be cut off before raft-engine opens the files.
    pub(super) cut: Option<Cut>,
    /// Files that must be removed before: begun behind the newest, without a header.
    pub(super) strays: Vec<PathBuf>,
}

/// Walks all files of `dir`. Changes nothing.
pub(super) fn scan(dir: &Path, watermark: Option<&Watermark>) -> Result<Scan, OpenError> {
    let mut paths = log_files(dir)?;
    check_holes(dir, &paths)?;
    let mut scan = Scan { strays: take_strays(&mut paths, watermark)?, ..Scan::default() };
    for (place, (seq, path)) in paths.iter().enumerate() {
        let newest = place + 1 == paths.len();
        let file = File::open(path).map_err(|source| io_error("open", path, source))?;
        let length = file.metadata().map_err(|source| io_error("read", path, source))?.len();
        let walk = Walk { path, file: &file, seq: *seq, length, newest };
        scan.files.push(FileRange { seq: *seq, first: scan.last + 1, bytes: 0 });
        match walk.batches(&mut scan)? {
            None => {}
            Some(fault) if newest => {
                scan.cut = cut::judge(&walk, fault, scan.seal, watermark)?;
            }
            Some(fault) => {
                return Err(fault.error(path, "this file is not the newest: it was synced"));
            }
        }
    }
    Ok(scan)
}

/// Takes off the files at the end that no write ever went to: raft-engine begins a file by its
/// header, and if the disk has no room for that it goes on in the file before, which thus is still
/// the newest. With a whole header it would be closed and synced.
fn take_strays(
    paths: &mut Vec<(u64, PathBuf)>,
    watermark: Option<&Watermark>,
) -> Result<Vec<PathBuf>, OpenError> {
    let mut strays = Vec::new();
    while let Some((seq, path)) = paths.last() {
        let is_synced = watermark.is_some_and(|mark| *seq <= mark.file);
        if is_synced || !is_stray(path, *seq)? {
            break;
        }
        strays.extend(paths.pop().map(|(_, path)| path));
    }
    Ok(strays)
}

fn is_stray(path: &Path, seq: u64) -> Result<bool, OpenError> {
    let read = |source| io_error("read", path, source);
    let file = File::open(path).map_err(|source| io_error("open", path, source))?;
    let length = file.metadata().map_err(read)?.len();
    let walk = Walk { path, file: &file, seq, length, newest: true };
    if walk.header()?.is_none() {
        return Ok(false);
    }
    let behind = walk.read(HEADER_BYTES, u64::MAX).map_err(read)?;
    Ok(behind.iter().all(|&byte| byte == 0))
}

/// File and byte position of the write that holds the entry.
pub(super) fn locate(dir: &Path, index: Index) -> Option<(PathBuf, u64)> {
    let mut place = None;
    for (seq, path) in log_files(dir).ok()? {
        let Ok(file) = File::open(&path) else { continue };
        let length = file.metadata().ok()?.len();
        let walk = Walk { path: &path, file: &file, seq, length, newest: false };
        let mut at = HEADER_BYTES;
        while let Ok(Some((header, found))) = walk.batch(at) {
            if found.entries.is_some_and(|(first, last)| (first..=last).contains(&index)) {
                place = Some((path.clone(), at));
            }
            at += header.length;
        }
    }
    place
}

/// Damage where a write should stand.
#[derive(Debug)]
struct Fault {
    at: u64,
    what: String,
    /// Length that the header there claims, if it can be read.
    claims: Option<u64>,
}

impl Fault {
    fn error(self, path: &Path, why: &str) -> OpenError {
        OpenError::Damaged {
            file: path.to_owned(),
            offset: self.at,
            what: format!("{} ({why})", self.what),
            remedy: REMEDY.to_owned(),
        }
    }
}

/// One file under the scan.
struct Walk<'a> {
    path: &'a Path,
    file: &'a File,
    seq: u64,
    length: u64,
    newest: bool,
}

impl Walk<'_> {
    /// Walks the writes until the end or the first fault.
    fn batches(&self, scan: &mut Scan) -> Result<Option<Fault>, OpenError> {
        if let Some(fault) = self.header()? {
            return Ok(Some(fault));
        }
        let mut at = HEADER_BYTES;
        loop {
            if let Some(file) = scan.files.last_mut() {
                file.bytes = at;
            }
            match self.batch(at) {
                Ok(Some((header, found))) => {
                    if let Some(fault) = note(scan, &found, at) {
                        return Ok(Some(fault));
                    }
                    at += header.length;
                }
                Ok(None) => return Ok(None),
                Err(WalkError::Fault(fault)) => return Ok(Some(fault)),
                Err(WalkError::Io(source)) => return Err(io_error("read", self.path, source)),
            }
        }
    }

    fn header(&self) -> Result<Option<Fault>, OpenError> {
        let bytes = self.read(0, HEADER_BYTES).map_err(|s| io_error("read", self.path, s))?;
        let mut good = MAGIC.to_vec();
        good.extend_from_slice(&2u64.to_be_bytes());
        good.extend_from_slice(&0u64.to_be_bytes());
        let what = "the header of the file is not that of a log file".to_owned();
        Ok((bytes != good).then_some(Fault { at: 0, what, claims: None }))
    }

    /// The write at `at`; `None` at the end of the file.
    fn batch(&self, at: u64) -> Result<Option<(Header, Found)>, WalkError> {
        if at >= self.length {
            return Ok(None);
        }
        let fault =
            |what: &str, claims| WalkError::Fault(Fault { at, what: what.to_owned(), claims });
        let head = self.read(at, BATCH_HEADER)?;
        let header = Header::parse(&head).ok_or_else(|| fault("no write begins there", None))?;
        let claims = Some(header.length);
        if header.length > self.length - at {
            return Err(fault("the write there is longer than the file", claims));
        }
        let footer = self.read(at + header.footer, header.length - header.footer)?;
        let found = Found::parse(&footer, self.seq).map_err(|what| fault(what, claims))?;
        if self.newest {
            let entries = self.read(at + BATCH_HEADER, header.footer - BATCH_HEADER)?;
            if !batch::entries_are_whole(&entries) {
                return Err(fault("checksum of the entries there does not match", claims));
            }
        }
        Ok(Some((header, found)))
    }

    /// Up to `length` bytes from `at` on.
    fn read(&self, at: u64, length: u64) -> io::Result<Vec<u8>> {
        let length = length.min(self.length.saturating_sub(at));
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }
}

enum WalkError {
    Fault(Fault),
    Io(io::Error),
}

impl From<io::Error> for WalkError {
    fn from(source: io::Error) -> Self {
        Self::Io(source)
    }
}

/// Adds a write to what was found; entries must follow upon each other.
fn note(scan: &mut Scan, found: &Found, at: u64) -> Option<Fault> {
    if found.clean {
        // A snapshot took their place: whatever comes next is the first.
        (scan.first, scan.last, scan.given_up) = (0, 0, Index::MAX);
    }
    if let Some(compact) = found.compact {
        scan.first = scan.first.max(compact);
        scan.given_up = scan.given_up.max(compact);
    }
    scan.seal = found.seal.or(scan.seal);
    let (first, last) = found.entries?;
    if scan.last != 0 && first > scan.last + 1 {
        let what = format!("entry {} is followed by entry {first}", scan.last);
        return Some(Fault { at, what, claims: None });
    }
    if scan.last == 0 {
        scan.first = scan.first.max(first);
        if let Some(file) = scan.files.last_mut() {
            file.first = first;
        }
    }
    scan.last = last;
    None
}

/// The log's files by number.
fn log_files(dir: &Path) -> Result<Vec<(u64, PathBuf)>, OpenError> {
    let mut files = Vec::new();
    if !dir.exists() {
        return Ok(files);
    }
    let list = fs::read_dir(dir).map_err(|source| io_error("list", dir, source))?;
    for entry in list {
        let path = entry.map_err(|source| io_error("list", dir, source))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(seq) = name.strip_suffix(SUFFIX).and_then(|number| number.parse().ok()) {
            files.push((seq, path));
        }
    }
    files.sort_unstable();
    Ok(files)
}

fn check_holes(dir: &Path, files: &[(u64, PathBuf)]) -> Result<(), OpenError> {
    for pair in files.windows(2) {
        if pair[0].0 + 1 != pair[1].0 {
            return Err(missing_file(dir, pair[0].0 + 1));
        }
    }
    Ok(())
}

/// Path of a file by its number.
pub(super) fn file_path(dir: &Path, seq: u64) -> PathBuf {
    dir.join(format!("{seq:016}{SUFFIX}"))
}

/// A file that must be there is not.
pub(super) fn missing_file(dir: &Path, seq: u64) -> OpenError {
    OpenError::Damaged {
        file: file_path(dir, seq),
        offset: 0,
        what: "the file is missing".to_owned(),
        remedy: "Nothing was changed. Put the file back, restore the directory from a backup or \
                 rebuild this node from another"
            .to_owned(),
    }
}

pub(super) fn io_error(action: &'static str, path: &Path, source: io::Error) -> OpenError {
    OpenError::Io { action, path: path.to_owned(), source }
}
