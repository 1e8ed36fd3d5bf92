//! Writing a cut: first the log's own part, then what the projections give.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ledgermq_core::offset::Index;

use super::format::ChunkWriter;
use super::{CutEnd, SnapshotFiles, Written};
use crate::shared::{Shared, lock};

/// Writes the log's own part of a cut.
pub(crate) type Prologue = Box<dyn Fn(&mut dyn Write) -> io::Result<()> + Send + Sync>;

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
    /// Bytes written so far.
    pub(crate) progress: AtomicU64,
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
/// failed, and the log wants another.
pub struct CutWriter {
    cut: Arc<Cut>,
    /// None once it is finished.
    chunks: Option<ChunkWriter>,
    shared: Arc<Shared>,
}

impl CutWriter {
    /// Begins the cut that the log wants at `index`.
    pub(crate) fn begin(shared: &Arc<Shared>, index: Index) -> io::Result<Self> {
        let cut = lock(&shared.snapshots)
            .begin(index)
            .ok_or_else(|| io::Error::other("the log does not want this cut (any more)"))?;
        // From here on it fails if it is dropped.
        let mut writer = Self { cut: Arc::clone(&cut), chunks: None, shared: Arc::clone(shared) };
        let mut chunks = ChunkWriter::new(cut.files.create(&cut.name)?);
        (cut.prologue)(&mut chunks)?;
        writer.chunks = Some(chunks);
        Ok(writer)
    }

    /// Ends the cut, whose views have this checksum, and makes it durable.
    ///
    /// # Errors
    ///
    /// What the disk answers, or that the log has given the cut up meanwhile. It has then failed.
    pub fn finish(mut self, checksum: u64) -> io::Result<()> {
        let Some(chunks) = self.chunks.take() else { return Err(is_over()) };
        let (bytes, sums) = chunks.finish()?;
        let written = Written { index: self.cut.index, bytes, sums, checksum };
        if !lock(&self.shared.snapshots).end(&self.cut, CutEnd::Finished(written)) {
            return Err(is_over());
        }
        self.shared.wake_thread();
        Ok(())
    }
}

impl Write for CutWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(chunks) = &mut self.chunks else { return Err(is_over()) };
        let taken = chunks.write(bytes)?;
        self.cut.progress.store(chunks.bytes(), Ordering::Relaxed);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for CutWriter {
    fn drop(&mut self) {
        // Of one that is finished, this is known already.
        if lock(&self.shared.snapshots).end(&self.cut, CutEnd::Failed) {
            self.shared.wake_thread();
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
