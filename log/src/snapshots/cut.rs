//! Writing a cut: first the log's own part, then what the projections give.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ledgermq_core::offset::Index;

use super::format::ChunkWriter;
use super::{CutEnd, SnapshotFiles, Written, remove};
use crate::shared::{Shared, lock};

/// Writes the log's own part of a cut.
pub(crate) type Prologue = Box<dyn Fn(&mut dyn Write) -> io::Result<()> + Send + Sync>;

/// Room that a cut may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// Bytes that it may have: more would be of what the log needs itself.
    pub(crate) bytes_max: u64,
    /// About how many the log's own part has.
    pub(crate) own: u64,
    /// How many the last one had that this process made.
    pub(crate) last: Option<u64>,
}

impl Room {
    /// No bounds, for tests.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) const ANY: Self = Self { bytes_max: u64::MAX, own: 0, last: None };

    /// Whether a cut fits whose views have at most `views` bytes. A store that was larger once says more
    /// than it has: a state does not grow by more than a quarter between two cuts, or is found out while
    /// it is written.
    fn check(&self, views: u64) -> io::Result<()> {
        let said = self.own.saturating_add(views);
        let expected = self.last.map_or(said, |last| said.min(last + last / 4));
        if expected <= self.bytes_max {
            return Ok(());
        }
        let bytes_max = self.bytes_max;
        let what = format!("it would have {expected} bytes, and the disk has room for {bytes_max}");
        Err(io::Error::new(io::ErrorKind::StorageFull, what))
    }
}

/// A place in the log at which both folds are cut, and what the log has to say of it.
pub(crate) struct Cut {
    /// Everything up to here is in it.
    pub(crate) index: Index,
    /// Where its file stands.
    pub(crate) files: Arc<dyn SnapshotFiles>,
    /// Name of the file.
    pub(crate) name: String,
    /// The log's own part.
    pub(crate) prologue: Prologue,
    pub(crate) room: Room,
    /// Bytes written so far.
    pub(crate) progress: AtomicU64,
    /// The log waits for it no longer.
    pub(crate) is_given_up: AtomicBool,
}

impl Cut {
    /// Whoever writes it is told at the next write.
    pub(crate) fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Relaxed);
    }
}

impl fmt::Debug for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cut")
            .field("index", &self.index)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Takes the projections' part of a cut. One that is dropped before [`CutWriter::finish`] has
/// failed, and the log wants another. It takes no more bytes than the disk had room for when it was
/// wanted, and none once the log has given it up; what it takes is synced every 8 MiB.
pub struct CutWriter {
    cut: Arc<Cut>,
    /// None once it is finished.
    chunks: Option<ChunkWriter>,
    /// Why it failed, if it is not finished.
    why: String,
    shared: Arc<Shared>,
}

impl CutWriter {
    /// Begins the cut that the log wants at `index`.
    pub(crate) fn begin(shared: &Arc<Shared>, index: Index, views: u64) -> io::Result<Self> {
        let cut = lock(&shared.snapshots)
            .begin(index)
            .ok_or_else(|| io::Error::other("the log does not want this cut (any more)"))?;
        // From here on it fails if it is dropped.
        let shared = Arc::clone(shared);
        let why = "it was dropped unfinished".to_owned();
        let mut writer = Self { cut: Arc::clone(&cut), chunks: None, why, shared };
        let begun = writer.write_prologue(&cut, views);
        writer.noting(begun)?;
        Ok(writer)
    }

    fn write_prologue(&mut self, cut: &Cut, views: u64) -> io::Result<()> {
        cut.room.check(views)?;
        self.chunks = Some(ChunkWriter::new(cut.files.create(&cut.name)?));
        (cut.prologue)(self)
    }

    /// Takes note of why it fails.
    fn noting<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            self.why = error.to_string();
        }
        result
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(chunks) = &mut self.chunks else { return Err(is_over()) };
        if self.cut.is_given_up.load(Ordering::Relaxed) {
            return Err(is_over());
        }
        let bytes_max = self.cut.room.bytes_max;
        if chunks.bytes().saturating_add(bytes.len() as u64) > bytes_max {
            let what = format!("it has more than the {bytes_max} bytes that the disk has room for");
            return Err(io::Error::new(io::ErrorKind::StorageFull, what));
        }
        let taken = chunks.write(bytes)?;
        // What was synced meanwhile is progress, too.
        self.cut.progress.store(chunks.bytes(), Ordering::Relaxed);
        Ok(taken)
    }

    /// Ends the cut, whose views have this checksum, and makes it durable.
    ///
    /// # Errors
    ///
    /// What the disk answers, or that the log has given the cut up meanwhile. It has then failed.
    pub fn finish(mut self, checksum: u64) -> io::Result<()> {
        let Some(chunks) = self.chunks.take() else { return Err(is_over()) };
        let finished = chunks.finish();
        let (bytes, sums) = self.noting(finished)?;
        let written = Written { index: self.cut.index, bytes, sums, checksum };
        if !lock(&self.shared.snapshots).end(&self.cut, CutEnd::Finished(written)) {
            // What was removed already is not there again.
            remove(&*self.cut.files, &self.cut.name);
            return Err(is_over());
        }
        self.shared.wake_thread();
        Ok(())
    }
}

impl Write for CutWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.take(bytes);
        self.noting(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for CutWriter {
    fn drop(&mut self) {
        // Of one that is finished, this is known already.
        let end = CutEnd::Failed(std::mem::take(&mut self.why));
        if lock(&self.shared.snapshots).end(&self.cut, end) {
            self.shared.wake_thread();
        } else if self.chunks.is_some() {
            // It was given up, maybe before there was a file to be removed.
            remove(&*self.cut.files, &self.cut.name);
        }
    }
}

impl fmt::Debug for CutWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CutWriter").field("cut", &self.cut).finish_non_exhaustive()
    }
}

fn is_over() -> io::Error {
    io::Error::other("the log has given this cut up")
}
