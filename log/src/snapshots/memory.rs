//! Files of snapshots in memory, which lose what was not synced when the machine crashes.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{SnapshotFile, SnapshotFiles};

/// A directory in memory; clones are the same one. As elsewhere a file that is open outlives its removal.
#[derive(Clone, Debug, Default)]
pub struct MemoryFiles(Arc<Mutex<Directory>>);

#[derive(Debug, Default)]
struct Directory {
    files: BTreeMap<String, Arc<Mutex<Content>>>,
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
        for content in self.lock().files.values() {
            let mut content = lock(content);
            content.current = content.durable.clone();
        }
    }

    /// Flips a bit of a file.
    pub fn flip(&self, name: &str, at: u64) {
        let directory = self.lock();
        let content = directory.files.get(name).expect("a file of that name");
        let at = usize::try_from(at).expect("within the file");
        lock(content).current[at] ^= 1;
    }

    /// After so many more writes each fails as on a full disk; none does if it is `None`.
    pub fn set_fails_after(&self, writes: Option<u64>) {
        self.lock().fails_after = writes;
    }

    fn lock(&self) -> MutexGuard<'_, Directory> {
        lock(&self.0)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SnapshotFiles for MemoryFiles {
    fn create(&self, name: &str) -> io::Result<Box<dyn SnapshotFile>> {
        self.lock().files.insert(name.to_owned(), Arc::default());
        self.open(name)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn SnapshotFile>> {
        let content = self.lock().files.get(name).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(MemoryFile { directory: self.clone(), content }))
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
    content: Arc<Mutex<Content>>,
}

fn end_of(offset: u64, bytes: usize) -> io::Result<(usize, usize)> {
    let start = usize::try_from(offset).map_err(io::Error::other)?;
    Ok((start, start + bytes))
}

impl SnapshotFile for MemoryFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let (start, end) = end_of(offset, buffer.len())?;
        let content = lock(&self.content);
        let bytes = content.current.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (start, end) = end_of(offset, bytes.len())?;
        match &mut self.directory.lock().fails_after {
            Some(0) => return Err(io::ErrorKind::StorageFull.into()),
            Some(left) => *left -= 1,
            None => {}
        }
        let mut content = lock(&self.content);
        if content.current.len() < end {
            content.current.resize(end, 0);
        }
        content.current[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut content = lock(&self.content);
        content.durable = content.current.clone();
        Ok(())
    }
}
