//! Files of snapshots in memory, which lose what was not synced when the machine crashes.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{SnapshotFile, SnapshotFiles};

/// A directory in memory; clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct MemoryFiles(Arc<Mutex<Directory>>);

#[derive(Debug, Default)]
struct Directory {
    files: BTreeMap<String, Content>,
    /// Writes to come until one fails.
    fails_after: Option<u64>,
}

#[derive(Clone, Debug, Default)]
struct Content {
    current: Vec<u8>,
    durable: Vec<u8>,
}

impl MemoryFiles {
    /// The power goes: of each file only what was synced is left.
    pub fn crash(&self) {
        for content in self.lock().files.values_mut() {
            content.current = content.durable.clone();
        }
    }

    /// Flips a bit of a file.
    pub fn flip(&self, name: &str, at: u64) {
        let mut directory = self.lock();
        let content = directory.files.get_mut(name).expect("a file of that name");
        let at = usize::try_from(at).expect("within the file");
        content.current[at] ^= 1;
    }

    /// After so many more writes each fails as on a full disk; none does if it is `None`.
    pub fn set_fails_after(&self, writes: Option<u64>) {
        self.lock().fails_after = writes;
    }

    fn lock(&self) -> MutexGuard<'_, Directory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SnapshotFiles for MemoryFiles {
    fn create(&self, name: &str) -> io::Result<Box<dyn SnapshotFile>> {
        self.lock().files.insert(name.to_owned(), Content::default());
        self.open(name)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn SnapshotFile>> {
        if !self.lock().files.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Box::new(MemoryFile { directory: self.clone(), name: name.to_owned() }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.lock().files.remove(name);
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().files.keys().cloned().collect())
    }
}

struct MemoryFile {
    directory: MemoryFiles,
    name: String,
}

fn end_of(offset: u64, bytes: usize) -> io::Result<(usize, usize)> {
    let start = usize::try_from(offset).map_err(io::Error::other)?;
    Ok((start, start + bytes))
}

impl SnapshotFile for MemoryFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let (start, end) = end_of(offset, buffer.len())?;
        let directory = self.directory.lock();
        let content = directory.files.get(&self.name).ok_or(io::ErrorKind::NotFound)?;
        let bytes = content.current.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (start, end) = end_of(offset, bytes.len())?;
        let mut directory = self.directory.lock();
        match &mut directory.fails_after {
            Some(0) => return Err(io::ErrorKind::StorageFull.into()),
            Some(left) => *left -= 1,
            None => {}
        }
        let content = directory.files.get_mut(&self.name).ok_or(io::ErrorKind::NotFound)?;
        if content.current.len() < end {
            content.current.resize(end, 0);
        }
        content.current[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut directory = self.directory.lock();
        let content = directory.files.get_mut(&self.name).ok_or(io::ErrorKind::NotFound)?;
        content.durable = content.current.clone();
        Ok(())
    }
}
