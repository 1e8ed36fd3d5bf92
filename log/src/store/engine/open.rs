//! Opening the log: lock, watermark, scan, engine, and whether they agree.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use raft::eraftpb::HardState;
use raft_engine::{Config, Engine, LogBatch, ReadableSize, RecoveryMode};
use rustix::fs::{FlockOperation, flock};

use super::read::EngineReader;
use super::scan::{self, Scan, file_path, io_error, missing_file};
use super::{
    CONF_KEY, ENTRIES, EngineStore, KEYS, Newest, STATE_KEY, TRUNCATED_KEY, UNIT_BYTES, failed,
};
use crate::config::{Durability, Options};
use crate::error::OpenError;
use crate::store::files::{FileRange, Files, HEADER_BYTES};
use crate::store::watermark::{Found, Watermark, WatermarkFile};
use crate::store::{Configuration, REMEDY, Recovered, StoreError, configuration};

/// Proof that no other process works on the directory, while it lives.
#[derive(Debug)]
pub(crate) struct DirLock {
    _file: File,
}

pub(super) fn open(
    options: &Options,
    lock: DirLock,
    now_millis: u64,
) -> Result<EngineStore, OpenError> {
    let dir = &options.dir;
    let files_dir = dir.join("raft");
    let path = dir.join("watermark");
    let (mut watermark, found) =
        WatermarkFile::open(&path).map_err(|source| io_error("open", &path, source))?;
    let mark = mark_of(options, &path, found)?;
    make(&files_dir)?;
    let scan = scan::scan(&files_dir, mark.as_ref())?;
    if let Some(mark) = &mark {
        agrees(&files_dir, mark, &scan)?;
    }
    if let Some(cut) = &scan.cut {
        tracing::warn!(file = %cut.path.display(), at = cut.at, bytes = cut.bytes,
            "cut an unfinished write off the end of the log");
        cut.apply()?;
    }
    remove(&files_dir, &scan.strays)?;
    if mark.is_some_and(|mark| !mark.clean) {
        renew(&files_dir, mark.as_ref(), &scan)?;
    }
    let record = Watermark {
        durability: options.config.durability,
        clean: false,
        number: 0,
        node: options.node,
        start: mark.map_or(0, |mark| mark.start + 1).max(now_millis),
        seal: scan.seal.or(mark.map(|mark| mark.seal)).unwrap_or_else(draw),
        unit_bytes_max: UNIT_BYTES,
        ..mark.unwrap_or_default()
    };
    watermark.write(record).map_err(|source| io_error("write", &path, source))?;
    sync_dir(dir)?;
    let unclean = mark.is_some_and(|mark| mark.durability == Durability::OsCache && !mark.clean);
    assemble(options, &files_dir, Parts { lock, watermark, record, scan, unclean })
}

struct Parts {
    lock: DirLock,
    watermark: WatermarkFile,
    record: Watermark,
    scan: Scan,
    unclean: bool,
}

fn assemble(options: &Options, dir: &Path, parts: Parts) -> Result<EngineStore, OpenError> {
    let engine =
        Engine::open(engine_config(options, dir)).map_err(|error| engine_error(dir, error))?;
    sync_dir(dir)?;
    let first = engine.first_index(ENTRIES).unwrap_or(0);
    let last = engine.last_index(ENTRIES).unwrap_or(0);
    let scan = parts.scan;
    if last != scan.last || (last != 0 && first != scan.first) {
        return Err(damaged(
            dir,
            format!(
                "raft-engine found the entries {first} to {last}, but the files hold {} to {}",
                scan.first, scan.last
            ),
        ));
    }
    let keys = all_keys(&engine).map_err(|error| store_error(dir, error))?;
    let truncated =
        engine.get(KEYS, TRUNCATED_KEY).and_then(|bytes| pair_of(&bytes)).unwrap_or_default();
    let hard_state = engine.get(KEYS, STATE_KEY).map(|bytes| state_of(&bytes)).unwrap_or_default();
    let configuration = match engine.get(KEYS, CONF_KEY) {
        None => Configuration::default(),
        Some(bytes) => configuration::from_bytes(&bytes)
            .ok_or_else(|| damaged(dir, "its list of members cannot be read".to_owned()))?,
    };
    let files = if scan.files.is_empty() {
        Files::new([FileRange { seq: 1, first: 1, bytes: HEADER_BYTES }])
    } else {
        Files::new(
            scan.files
                .iter()
                .map(|file| FileRange { bytes: file.bytes.max(HEADER_BYTES), ..*file }),
        )
    };
    let shared = Arc::new(EngineReader::new(engine, dir.to_owned()));
    let last = if last == 0 {
        truncated
    } else {
        shared.set_range(first, last);
        (last, shared.term(last).map_err(|error| store_error(dir, error))?)
    };
    if first > truncated.0 + 1 || hard_state.commit > last.0 {
        return Err(damaged(
            dir,
            format!(
                "entries {} to {} are committed, but the files hold {first} to {}",
                truncated.0 + 1,
                hard_state.commit,
                last.0
            ),
        ));
    }
    shared.set_range(truncated.0 + 1, last.0);
    let recovered = Recovered {
        hard_state: hard_state.clone(),
        configuration,
        truncated,
        last,
        start: parts.record.start,
        unclean: parts.unclean,
    };
    Ok(EngineStore {
        shared,
        batch: LogBatch::default(),
        raw: Vec::new(),
        files,
        newest: Newest::default(),
        keys: keys.into_iter().map(|key| (key, 0)).collect(),
        watermark: parts.watermark,
        record: parts.record,
        recovered,
        last,
        truncated,
        hard_state,
        writer: None,
        begun: None,
        #[cfg(test)]
        after_step: None,
        _lock: parts.lock,
    })
}

/// Makes the directory and takes it for this process.
pub(super) fn lock(dir: &Path) -> Result<DirLock, OpenError> {
    make(dir)?;
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|source| io_error("open", &path, source))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(DirLock { _file: file }),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::InUse { dir: dir.to_owned() }),
        Err(errno) => Err(io_error("lock", &path, errno.into())),
    }
}

/// Makes the directory, if it is missing, so that a power cut leaves it where it is: every name on
/// the way is durable when the directory in which it stands is synced, whoever made it.
fn make(dir: &Path) -> Result<(), OpenError> {
    fs::create_dir_all(dir).map_err(|source| io_error("make", dir, source))?;
    for parent in parents(dir) {
        match sync_dir(parent) {
            // Not ours to read, or of a kind that is not synced: so somebody else made it.
            Err(OpenError::Io { source, .. })
                if matches!(
                    source.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput
                ) => {}
            synced => synced?,
        }
    }
    Ok(())
}

/// The directories in which the names of `dir` stand, the innermost first.
fn parents(dir: &Path) -> impl Iterator<Item = &Path> {
    let parents = dir.ancestors().skip(1);
    parents.map(|dir| if dir.as_os_str().is_empty() { Path::new(".") } else { dir })
}

fn mark_of(options: &Options, path: &Path, found: Found) -> Result<Option<Watermark>, OpenError> {
    match found {
        Found::Nothing => Ok(None),
        Found::Record(mark) if mark.node != options.node => Err(OpenError::Foreign {
            dir: options.dir.clone(),
            what: format!("belongs to node {}, this is node {}", mark.node, options.node),
        }),
        Found::Record(mark) => Ok(Some(mark)),
        Found::Damaged => Err(OpenError::Damaged {
            file: path.to_owned(),
            offset: 0,
            what: "neither of its two records is whole".to_owned(),
            remedy: "Restore the directory from a backup. Without this file the end of the log \
                     cannot be proved to be all that was acknowledged; to accept the log as it \
                     is, move the file away"
                .to_owned(),
        }),
    }
}

/// Everything that the watermark promises must have been found.
fn agrees(dir: &Path, mark: &Watermark, scan: &Scan) -> Result<(), OpenError> {
    let newest = scan.files.last();
    if mark.file > newest.map_or(0, |file| file.seq) {
        return Err(missing_file(dir, newest.map_or(1, |file| file.seq + 1)));
    }
    // A purge says in the log what goes before it says so in the watermark.
    let may_be_first = scan.given_up.max(mark.truncated + 1);
    if mark.last.0 > mark.truncated && scan.first > may_be_first {
        return Err(missing_file(dir, scan.files.first().map_or(1, |file| file.seq) - 1));
    }
    let ends = scan.files.iter().find(|file| file.seq == mark.file).map_or(0, |file| file.bytes);
    if ends < mark.file_bytes && mark.file != 0 {
        return Err(OpenError::Damaged {
            file: file_path(dir, mark.file),
            offset: ends,
            what: format!("the file ends there, but {} bytes of it were synced", mark.file_bytes),
            remedy: REMEDY.to_owned(),
        });
    }
    if scan.last < mark.last.0 && mark.last.0 > mark.truncated {
        return Err(damaged(
            dir,
            format!("the log ends with entry {}, but entry {} was synced", scan.last, mark.last.0),
        ));
    }
    Ok(())
}

/// Removes files that were begun on a full disk and never written.
fn remove(dir: &Path, strays: &[PathBuf]) -> Result<(), OpenError> {
    for stray in strays {
        tracing::warn!(file = %stray.display(), "removed a file that the log never wrote to");
        fs::remove_file(stray).map_err(|source| io_error("remove", stray, source))?;
    }
    if strays.is_empty() { Ok(()) } else { sync_dir(dir) }
}

/// Writes the end of the newest file again, as it is, and syncs it.
///
/// A process that ended because an fsync failed leaves bytes in the page cache that the system takes
/// for written: they can be read, and are gone after the next power cut. Written again, they are
/// durable before anything is acknowledged on top of them.
fn renew(dir: &Path, mark: Option<&Watermark>, scan: &Scan) -> Result<(), OpenError> {
    let Some(newest) = scan.files.last() else { return Ok(()) };
    let from = mark.filter(|mark| mark.file == newest.seq).map_or(0, |mark| mark.file_bytes);
    let length = newest.bytes.saturating_sub(from);
    if length == 0 {
        return Ok(());
    }
    let path = file_path(dir, newest.seq);
    let renewed = || {
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, from)?;
        file.write_all_at(&bytes, from)?;
        file.sync_data()
    };
    renewed().map_err(|source| io_error("renew", &path, source))
}

fn engine_config(options: &Options, dir: &Path) -> Config {
    let file = options.config.file_bytes.0;
    Config {
        dir: dir.to_string_lossy().into_owned(),
        // The scan has decided already; this only forgives what it has left, zeros behind the end.
        recovery_mode: RecoveryMode::TolerateTailCorruption,
        batch_compression_threshold: ReadableSize(0),
        target_file_size: ReadableSize(file),
        purge_threshold: ReadableSize(u64::MAX),
        purge_rewrite_threshold: Some(ReadableSize(u64::MAX)),
        // A purged file is to give its room back, and old bytes behind the end would look like
        // writes.
        enable_log_recycle: false,
        ..Config::default()
    }
}

fn all_keys(engine: &Engine) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut keys = Vec::new();
    engine
        .scan_raw_messages(KEYS, None, None, false, |key, _| {
            keys.push(key.to_vec());
            true
        })
        .map_err(|error| failed("read", error))?;
    Ok(keys)
}

/// A number that nobody can guess: drawn by the standard library from the system's source.
fn draw() -> u64 {
    RandomState::new().hash_one(0u8) | 1
}

fn sync_dir(dir: &Path) -> Result<(), OpenError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|source| io_error("sync", dir, source))
}

fn damaged(dir: &Path, what: String) -> OpenError {
    OpenError::Damaged { file: PathBuf::from(dir), offset: 0, what, remedy: REMEDY.to_owned() }
}

fn engine_error(dir: &Path, error: raft_engine::Error) -> OpenError {
    match error {
        raft_engine::Error::Io(source) => io_error("open the log in", dir, source),
        other => io_error("open the log in", dir, io::Error::other(other)),
    }
}

fn store_error(dir: &Path, error: StoreError) -> OpenError {
    io_error("read the log in", dir, io::Error::other(error))
}

fn numbers<const N: usize>(bytes: &[u8]) -> Option<[u64; N]> {
    let mut numbers = [0; N];
    if bytes.len() != N * 8 {
        return None;
    }
    for (number, place) in numbers.iter_mut().zip(bytes.chunks_exact(8)) {
        *number = u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|i| place[i]));
    }
    Some(numbers)
}

fn pair_of(bytes: &[u8]) -> Option<(u64, u64)> {
    numbers(bytes).map(|[index, term]| (index, term))
}

fn state_of(bytes: &[u8]) -> HardState {
    let [term, vote, commit, _seal] = numbers(bytes).unwrap_or_default();
    let mut state = HardState::default();
    (state.term, state.vote, state.commit) = (term, vote, commit);
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directories_of_all_names_are_synced() {
        let parents_of = |dir| parents(dir).map(Path::to_path_buf).collect::<Vec<_>>();
        assert_eq!(parents_of(Path::new("/a/b")), [Path::new("/a"), Path::new("/")]);
        assert_eq!(parents_of(Path::new("data/log")), [Path::new("data"), Path::new(".")]);
    }

    #[test]
    fn a_directory_several_levels_deep_is_made() {
        let dir = tempfile::tempdir().expect("a directory");
        let deep = dir.path().join("data/of/the/log");
        make(&deep).expect("possible");
        make(&deep).expect("again");
        assert!(deep.is_dir());
    }
}
