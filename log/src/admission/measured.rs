//! How long the log thread is busy with the state of a million sessions in a snapshot:
//! `cargo test --release -p ledgermq-log --lib measured -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use ledgermq_core::offset::Timestamp;

use super::tests::{commit, opened, producer};
use super::{Admission, Checkpoint};
use crate::cluster::{ClusterId, Members};
use crate::config::Options;
use crate::snapshots::{
    ChunkReader, ChunkWriter, Prologue, PrologueReader, SnapshotDir, SnapshotFiles,
};
use crate::store::engine::EngineStore;
use crate::store::{Configuration, LogStore};

/// A million sessions of clients with names of 24 characters.
fn prologue() -> Prologue {
    let mut admission = Admission::default();
    for index in 1..=1_000 {
        let batch = commit(index, producer(0), index, |events| {
            for at in 0..1_000 {
                events.push(None, None, &opened(&format!("sensor-{index:07}-{at:09}"), 9));
            }
        });
        admission.apply(&batch).expect("readable");
    }
    Prologue {
        cluster: ClusterId([7; 16]),
        generation: 2,
        node: 3,
        index: admission.applied(),
        term: 4,
        time: Timestamp(1_700_000_000_000_000),
        configuration: Configuration::of_voters(&[1, 2, 3]),
        members: Members::default(),
        admission,
    }
}

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn timed<T>(what: &str, run: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let result = run();
    let took = began.elapsed();
    if !what.is_empty() {
        eprintln!("{what}: {took:?}");
    }
    (result, took)
}

#[test]
#[ignore = "it measures"]
fn a_million_sessions_in_a_snapshot() {
    let dir = tempfile::tempdir().expect("a directory");
    let files = SnapshotDir::new(dir.path().join("snapshots"));
    let (prologue, _) = timed("folded", prologue);
    let ((bytes, _), _) = timed("written and synced by the sender", || {
        let mut writer = ChunkWriter::new(files.create("a").expect("made"));
        prologue.write(&mut writer).expect("room");
        writer.finish().expect("room")
    });
    println!("{bytes} bytes");
    let stream = ChunkReader::new(files.open("a").expect("there"), bytes);
    let mut reader = PrologueReader::new(stream);
    let mut turns = Vec::new();
    let (read, _) = loop {
        let (read, took) = timed("", || reader.read(1 << 20).expect("whole"));
        turns.push(took);
        if let Some(read) = read {
            break read;
        }
    };
    let (all, longest) = (turns.iter().sum::<Duration>(), turns.iter().max());
    println!("read in {} turns: {all:?}, the longest {longest:?}", turns.len());
    assert!(read == prologue);
    let (clone, _) = timed("cloned", || read.clone());
    let mut options = Options::new(dir.path(), 1);
    options.config.file_bytes = ledgermq_core::quantity::ByteSize::mib(32);
    let lock = EngineStore::lock(dir.path()).expect("nobody has it");
    let mut store = EngineStore::open(&options, lock, 1).expect("opens");
    let ((_, unit), _) =
        timed("made ready for the jump", || Checkpoint::replace(&clone.admission, &store));
    timed("written and synced by the jump", || store.write(&unit, true).expect("room"));
    drop((clone, prologue));
    timed("forgotten", || drop(read));
}
