//! Where snapshots stand while they are made, sent and received.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// A place for the files of snapshots. None of them outlives the process: what is left of an
/// earlier one is removed when the log is opened.
pub trait SnapshotFiles: Send + Sync {
    /// Makes an empty file of that name, in place of the one that was there.
    ///
    /// # Errors
    ///
    /// What the system answers.
    fn create(&self, name: &str) -> io::Result<Box<dyn SnapshotFile>>;

    /// Opens a file for reading.
    ///
    /// # Errors
    ///
    /// What the system answers.
    fn open(&self, name: &str) -> io::Result<Box<dyn SnapshotFile>>;

    /// Removes a file; one that is not there is removed already.
    ///
    /// # Errors
    ///
    /// What the system answers.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// The names of all files.
    ///
    /// # Errors
    ///
    /// What the system answers.
    fn list(&self) -> io::Result<Vec<String>>;
}

/// One file of a snapshot.
pub trait SnapshotFile: Send {
    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// What the system answers; [`io::ErrorKind::UnexpectedEof`] if there are not as many.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes `bytes` at `offset`.
    ///
    /// # Errors
    ///
    /// What the system answers.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes what was written durable.
    ///
    /// # Errors
    ///
    /// What the system answers.
    fn sync(&mut self) -> io::Result<()>;
}

/// A directory of its own, which is made with the first file.
pub struct SnapshotDir {
    dir: PathBuf,
}

impl SnapshotDir {
    /// The directory at `dir`.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }
}

impl SnapshotFiles for SnapshotDir {
    fn create(&self, name: &str) -> io::Result<Box<dyn SnapshotFile>> {
        fs::create_dir_all(&self.dir)?;
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(true);
        Ok(Box::new(options.open(self.dir.join(name))?))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn SnapshotFile>> {
        Ok(Box::new(File::open(self.dir.join(name))?))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.dir.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }
}

impl fmt::Debug for SnapshotDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SnapshotDir").field(&self.dir).finish()
    }
}

impl SnapshotFile for File {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}
