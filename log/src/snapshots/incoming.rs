//! A snapshot that came from another node.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use ledgermq_core::offset::Index;

use super::SnapshotFiles;
use super::format::ChunkReader;

/// A whole snapshot in its file, as it was received.
pub(crate) struct Received {
    /// Everything up to here is in it.
    pub(crate) index: Index,
    /// Checksum of the views.
    pub(crate) checksum: u64,
    /// Where its file stands.
    pub(crate) files: Arc<dyn SnapshotFiles>,
    /// Name of the file.
    pub(crate) name: String,
    /// Bytes of the stream in it.
    pub(crate) bytes: u64,
    /// Bytes of the log's own part, which comes first.
    pub(crate) prologue: u64,
}

impl Received {
    /// The whole stream.
    pub(crate) fn read(&self) -> io::Result<ChunkReader> {
        Ok(ChunkReader::new(self.files.open(&self.name)?, self.bytes))
    }
}

/// A snapshot that came from another node and is to be taken in beside what the projections have;
/// answered by [`crate::Log::imported`].
#[derive(Clone)]
pub struct Incoming {
    /// Everything up to here is in it.
    pub index: Index,
    /// Checksum of the views in it.
    pub checksum: u64,
    received: Arc<Received>,
}

impl Incoming {
    pub(crate) fn new(received: &Arc<Received>) -> Self {
        let (index, checksum) = (received.index, received.checksum);
        Self { index, checksum, received: Arc::clone(received) }
    }

    /// The projections' bytes, as they were written into the cut. Each piece was compared with its
    /// checksum; one that does not match is an error of the read.
    ///
    /// # Errors
    ///
    /// If the file cannot be read: it may have been withdrawn meanwhile.
    pub fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        let mut stream = self.received.read()?;
        let skipped = io::copy(&mut (&mut stream).take(self.received.prologue), &mut io::sink())?;
        if skipped < self.received.prologue {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Box::new(stream))
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("index", &self.index)
            .field("checksum", &self.checksum)
            .finish_non_exhaustive()
    }
}
