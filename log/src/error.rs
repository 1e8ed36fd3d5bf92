//! Errors, one per decision of a caller.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use ledgermq_core::offset::Index;

/// The log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process works on the directory.
    #[error("{dir} is in use by another ledgermq process (it holds the lock on {dir}/lock)", dir = dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// Bytes on disk are damaged where that cannot be the end of an unfinished write.
    #[error("{file} is damaged at byte {offset}: {what}. {remedy}", file = file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where in the file.
        offset: u64,
        /// What is wrong.
        what: String,
        /// What the operator can do.
        remedy: String,
    },
    /// An entry holds what was written, and this version does not know what it means. Other nodes hold
    /// the same: the log is kept.
    #[error(
        "entry {index} of the log is whole, but this version does not understand it: {what}. The log is \
         kept: start the version that wrote it, or a later one"
    )]
    NotUnderstood {
        /// The entry.
        index: Index,
        /// What is unknown.
        what: String,
    },
    /// The directory belongs to another node or another version.
    #[error("{dir} {what}", dir = dir.display())]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// The operating system refused something.
    #[error("cannot {action} {path}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A setting that cannot work.
    #[error("{0}")]
    Setting(String),
}

/// The log has stopped; no further batch will be committed by this process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log has stopped: {reason}")]
pub struct Stopped {
    /// Why.
    pub reason: Arc<str>,
}

/// No room for the events; nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("as much as this class of appends may have is waiting for the disk")]
pub struct Full;

/// An append did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Its class is refused at the moment; see [`crate::Log::gate`].
    #[error("refused: {reason}")]
    Refused {
        /// Why.
        reason: Arc<str>,
    },
    /// The log has stopped. Whether the events are in the log is unknown.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// A batch cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It is no longer in the hot log.
    #[error("the log begins at index {first}")]
    Purged {
        /// First index that is there.
        first: Index,
    },
    /// Its bytes on disk are damaged.
    #[error("entry {index} is damaged: {what}")]
    Damaged {
        /// The entry.
        index: Index,
        /// What is wrong.
        what: Arc<str>,
    },
    /// The disk failed.
    #[error("entry {index} cannot be read: {what}")]
    Io {
        /// The entry.
        index: Index,
        /// What is wrong.
        what: Arc<str>,
    },
}

/// A tail cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TailError {
    /// The batches from `from` to `to` (both included) are gone. The tail stands behind them: a
    /// consumer that can live without them says so aloud and takes again.
    #[error("the batches {from} to {to} are no longer in the log")]
    Gap {
        /// First missing index.
        from: Index,
        /// Last missing index.
        to: Index,
    },
    /// The log has stopped and everything committed was handed out.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// A batch cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}
