//! The process dies at every step of a purge.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::damage::{end_of, flip, newest_file};
use super::{EngineStore, copy, open, temp};
use crate::store::suite::entry;
use crate::store::{LogStore, Unit};

/// Bytes of a value that is larger than a write that need not be announced.
const LARGE: usize = 3 << 20;

fn entries(store: &mut EngineStore, indices: std::ops::RangeInclusive<u64>) {
    for index in indices {
        let unit = Unit { entries: vec![entry(index, 1, 100_000)], ..Unit::default() };
        store.write(&unit, true).expect("room");
    }
}

fn value(store: &mut EngineStore, key: &str, bytes: usize) {
    let puts = vec![(key.as_bytes().to_vec(), vec![7; bytes])];
    store.write(&Unit { puts, ..Unit::default() }, true).expect("room");
}

/// Purges up to `upto` and copies the directory after each step.
fn purge(store: &mut EngineStore, live: &Path, copies: &Path, upto: u64) -> Vec<PathBuf> {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let (from, to, list) = (live.to_owned(), copies.to_owned(), Arc::clone(&taken));
    store.after_step = Some(Box::new(move || {
        let mut taken = list.lock().expect("one thread");
        let at = to.join(taken.len().to_string());
        copy(&from, &at);
        taken.push(at);
    }));
    store.purge(upto).expect("possible");
    store.after_step = None;
    let taken = taken.lock().expect("one thread");
    taken.clone()
}

/// Opens what a crash left: all entries up to `last` but a purged beginning, and the values.
fn check(dir: &Path, last: u64, values: &[(&str, usize)], what: &str) {
    let store = open(dir).map_err(|error| format!("{what}: {error}")).expect("opens");
    let reader = store.reader();
    let mut found = Vec::new();
    for index in reader.first_index()..=last {
        reader.read(index, 1, &mut found).expect(what);
        assert_eq!(found.pop(), Some(entry(index, 1, 100_000)), "{what}");
    }
    assert_eq!(store.recovered().last.0, last, "{what}");
    for &(key, bytes) in values {
        assert_eq!(store.get(key.as_bytes()), Some(vec![7; bytes]), "{what}");
    }
}

#[test]
fn a_crash_at_any_step_of_a_purge_leaves_a_log_that_opens() {
    let (live, copies) = (temp(), temp());
    let mut store = open(live.path()).expect("opens");
    let values = [("small", 100), ("large", LARGE), ("next", LARGE / 2)];
    for (key, bytes) in values {
        value(&mut store, key, bytes);
    }
    entries(&mut store, 1..=60);
    store.mark(false).expect("possible");
    let taken = purge(&mut store, live.path(), copies.path(), 40);
    assert!(taken.len() >= 5, "two or more writes, the mark, the end: {}", taken.len());
    assert!(store.reader().first_index() > 20);
    for (step, dir) in taken.iter().enumerate() {
        // The last write of the step was perhaps under way, if it is not marked.
        let torn = copies.path().join(format!("{step} torn"));
        copy(dir, &torn);
        check(dir, 60, &values, &format!("step {step}"));
        if step + 2 < taken.len() {
            let newest = newest_file(&torn);
            flip(&newest, end_of(&newest) - 1, 0);
            check(&torn, 60, &values, &format!("step {step}, torn"));
        }
    }
}

#[test]
fn the_last_entry_is_never_purged() {
    let (live, copies) = (temp(), temp());
    let mut store = open(live.path()).expect("opens");
    entries(&mut store, 1..=11);
    // The newest file holds no entry.
    value(&mut store, "key", 100);
    assert_eq!(store.purge_point(u64::MAX, 0), None, "nothing that could go");
    let taken = purge(&mut store, live.path(), copies.path(), 11);
    for (step, dir) in taken.iter().enumerate() {
        check(dir, 11, &[("key", 100)], &format!("step {step}"));
    }
    assert_eq!(store.reader().first_index(), 1);
    entries(&mut store, 12..=12);
    assert_eq!(store.purge_point(u64::MAX, 0), Some(11));
    assert_eq!(store.purge(11).expect("possible"), (11, 1));
}
