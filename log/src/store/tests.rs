//! Both stores run the suite; damage on the real one.

mod damage;
mod purge;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use ledgermq_core::quantity::ByteSize;
use raft::eraftpb::HardState;
use tempfile::TempDir;

use super::Unit;
use super::engine::EngineStore;
use super::simulated::{SimulatedDisk, SimulatedStore};
use super::suite::{Harness, check_all, entry};
use crate::config::Options;
use crate::error::OpenError;
use crate::wake::Wake;

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

/// The same, with a thread that writes what is begun.
struct BesideHarness(EngineHarness);

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

impl Harness for BesideHarness {
    type Store = EngineStore;

    fn open(&mut self) -> EngineStore {
        let mut store = self.0.open();
        store.write_beside(Arc::new(NoWake)).expect("a thread");
        store
    }

    fn kill(&mut self, store: EngineStore) {
        self.0.kill(store);
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
fn so_it_does_when_a_thread_writes_for_it() {
    check_all(|| BesideHarness(EngineHarness { dir: temp() }));
}

#[test]
fn two_writes_made_one_leave_what_both_would() {
    let key = |name: &str| name.as_bytes().to_vec();
    let put = |name: &str, value: &str| (key(name), key(value));
    let mut state = HardState { term: 3, ..HardState::default() };
    let mut unit = Unit {
        entries: (1..=4).map(|index| entry(index, 1, 10)).collect(),
        hard_state: Some(state.clone()),
        puts: vec![put("a", "1"), put("b", "1"), put("c", "1")],
        deletes: vec![key("d"), key("e")],
        ..Unit::default()
    };
    state.term = 4;
    unit.add(Unit {
        entries: vec![entry(3, 2, 10)],
        hard_state: Some(state.clone()),
        puts: vec![put("b", "2"), put("d", "2")],
        deletes: vec![key("c"), key("f")],
        ..Unit::default()
    });
    unit.add(Unit::default());
    let ends: Vec<_> = unit.entries.iter().map(|entry| (entry.index, entry.term)).collect();
    assert_eq!(ends, [(1, 1), (2, 1), (3, 2)]);
    assert_eq!(unit.hard_state, Some(state));
    assert_eq!(unit.puts, [put("a", "1"), put("b", "2"), put("d", "2")]);
    assert_eq!(unit.deletes, [key("e"), key("c"), key("f")]);
}

#[test]
fn the_simulated_disk_keeps_what_a_store_promises() {
    for seed in 0..20 {
        check_all(|| SimulatedHarness(SimulatedDisk::new(seed, 1 << 20)));
    }
}
