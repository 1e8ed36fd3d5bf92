//! The data directory, held by one process at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::NodeError;

/// File in the data directory that is locked while a process works there; it holds its number.
const LOCK: &str = "ledgermq.pid";

/// A data directory that is ours until this is dropped.
#[derive(Debug)]
pub(super) struct DataDir {
    _lock: File,
}

impl DataDir {
    /// Makes the directory if it is not there, and takes it.
    ///
    /// The system gives the lock back when the process ends, however it ends.
    pub(super) fn open(dir: &Path) -> Result<Self, NodeError> {
        let context = |error: io::Error| {
            io::Error::new(error.kind(), format!("data directory {}: {error}", dir.display()))
        };
        fs::create_dir_all(dir).map_err(context)?;
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut lock = options.open(dir.join(LOCK)).map_err(context)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = lock.read_to_string(&mut holder);
                let holder = holder.trim().parse().ok();
                return Err(NodeError::InUse { dir: dir.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(context(error).into()),
        }
        // The number only serves the message above: a full disk must not keep a node from starting.
        let written = lock
            .set_len(0)
            .and_then(|()| lock.seek(SeekFrom::Start(0)))
            .and_then(|_| writeln!(lock, "{}", std::process::id()));
        if let Err(error) = written {
            tracing::warn!(%error, "the process number could not be written");
        }
        Ok(Self { _lock: lock })
    }
}
