//! State as of one index, for nodes that lack what the others have purged.
//!
//! The log cuts at an index: it hands its own part to the projections' thread, which writes the whole
//! as one file ([`CutWriter`]). On the other side the log receives such a file and shows it to the
//! projections ([`Incoming`]); only when they have taken it in does the log jump there.

mod cut;
mod files;
mod format;
mod incoming;
#[cfg(feature = "testing")]
mod memory;
mod prologue;
mod state;

pub use cut::CutWriter;
pub use files::{SnapshotDir, SnapshotFile, SnapshotFiles};
pub use incoming::Incoming;
#[cfg(feature = "testing")]
pub use memory::MemoryFiles;

pub(crate) use cut::{Cut, Room};
#[cfg(feature = "testing")]
pub(crate) use format::ChunkWriter;
pub(crate) use format::{
    CHUNK_BYTES, ChunkReader, SYNC_CHUNKS, add_sum, bytes_of, chunks_of, length_of, read_chunk,
    write_chunk,
};
pub(crate) use incoming::Received;
pub(crate) use prologue::{Prologue, PrologueReader, read_part, write_part};
pub(crate) use state::{CutEnd, Snapshots, Written};

/// Removes a file; what cannot be removed now is when the log is opened next.
pub(crate) fn remove(files: &dyn SnapshotFiles, name: &str) {
    if let Err(error) = files.remove(name) {
        tracing::warn!(%error, name, "a snapshot cannot be removed");
    }
}
