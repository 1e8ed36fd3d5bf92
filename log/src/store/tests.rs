//! Both stores run the suite; damage on the real one.

mod damage;
mod purge;

use std::fs;
use std::path::Path;

use ledgermq_core::quantity::ByteSize;
use tempfile::TempDir;

use super::engine::EngineStore;
use super::simulated::{SimulatedDisk, SimulatedStore};
use super::suite::{Harness, check_all};
use crate::config::Options;
use crate::error::OpenError;

/// raft-engine in a directory of its own. A kill leaves a copy of what the files held then.
struct EngineHarness {
    dir: TempDir,
}

fn temp() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn options(dir: &Path) -> Options {
    let mut options = Options::new(dir, 1);
    options.config.file_bytes = ByteSize::mib(1);
    options
}

fn open(dir: &Path) -> Result<EngineStore, OpenError> {
    EngineStore::open(&options(dir), EngineStore::lock(dir)?, 1)
}

/// Copies a log's directory as it is now, as a crash would leave it. Only the newest file will be
/// written again: the others are shared.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("raft")).expect("a directory");
    let files = fs::read_dir(from.join("raft")).expect("a log");
    let mut files: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    files.sort();
    let newest = files.iter().rfind(|path| path.extension().is_some_and(|end| end == "raftlog"));
    for path in &files {
        let copy = to.join("raft").join(path.file_name().expect("named"));
        let is_old = path.extension().is_some_and(|end| end == "raftlog") && Some(path) != newest;
        let done = if is_old { fs::hard_link(path, copy) } else { fs::copy(path, copy).map(drop) };
        done.expect("room");
    }
    fs::copy(from.join("watermark"), to.join("watermark")).expect("room");
}

impl Harness for EngineHarness {
    type Store = EngineStore;

    fn open(&mut self) -> EngineStore {
        open(self.dir.path()).expect("opens")
    }

    fn kill(&mut self, store: EngineStore) {
        let after = temp();
        copy(self.dir.path(), after.path());
        drop(store);
        self.dir = after;
    }
}

struct SimulatedHarness(SimulatedDisk);

impl Harness for SimulatedHarness {
    type Store = SimulatedStore;

    fn open(&mut self) -> SimulatedStore {
        SimulatedStore::open(&self.0).expect("opens")
    }

    fn kill(&mut self, store: SimulatedStore) {
        drop(store);
        self.0.crash();
    }
}

#[test]
fn the_engine_keeps_what_a_store_promises() {
    check_all(|| EngineHarness { dir: temp() });
}

#[test]
fn the_simulated_disk_keeps_what_a_store_promises() {
    for seed in 0..20 {
        check_all(|| SimulatedHarness(SimulatedDisk::new(seed, 1 << 20)));
    }
}
