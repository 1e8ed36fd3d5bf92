//! What every [`LogStore`] promises, as checks that each implementation runs.
//!
//! A check panics where a promise is broken.

use raft::eraftpb::{Entry, HardState};

use super::{Configuration, LogReader, LogStore, Unit};
use crate::error::ReadError;

/// A disk on which stores are opened, one after the other. Its files hold little: 1 MiB.
pub trait Harness {
    /// The store under test.
    type Store: LogStore;

    /// Opens what the disk holds.
    fn open(&mut self) -> Self::Store;

    /// Ends `store` without any notice, as a killed process does.
    fn kill(&mut self, store: Self::Store);
}

/// Runs all checks, each on an empty disk.
pub fn check_all<H: Harness>(new: impl Fn() -> H) {
    entries_are_read_back_in_order(new());
    everything_synced_is_there_after_a_kill(new());
    a_later_write_overwrites_the_tail(new());
    what_is_marked_may_be_overwritten(new());
    a_snapshot_takes_the_place_of_all_entries(new());
    keys_are_kept_listed_and_forgotten(new());
    only_whole_files_are_purged_and_keys_survive(new());
    a_marked_log_opens_again(new());
    what_was_begun_is_there_when_it_has_ended(new());
    whatever_else_is_written_comes_after_what_was_begun(new());
    whoever_reads_beside_a_write_that_shortens_the_log_misses_nothing(new());
    an_empty_store_has_nothing(new());
}

/// An entry of `bytes` bytes that tells its index.
#[must_use]
pub fn entry(index: u64, term: u64, bytes: usize) -> Entry {
    let mut data = index.to_le_bytes().to_vec();
    data.resize(bytes.max(8), 7);
    let mut entry = Entry::new();
    (entry.index, entry.term, entry.data) = (index, term, data.into());
    entry
}

fn unit(indices: std::ops::RangeInclusive<u64>, term: u64, bytes: usize) -> Unit {
    Unit { entries: indices.map(|index| entry(index, term, bytes)).collect(), ..Unit::default() }
}

fn state(term: u64, vote: u64, commit: u64) -> HardState {
    let mut state = HardState::new();
    (state.term, state.vote, state.commit) = (term, vote, commit);
    state
}

fn all(reader: &dyn LogReader) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut next = reader.first_index();
    loop {
        let before = entries.len();
        reader.read(next, 1 << 20, &mut entries).expect("readable");
        if entries.len() == before {
            return entries;
        }
        next = entries.last().map_or(next, |entry| entry.index + 1);
    }
}

fn entries_are_read_back_in_order<H: Harness>(mut disk: H) {
    let mut store = disk.open();
    let reader = store.reader();
    store.write(&unit(1..=3, 1, 100), true).expect("room");
    store.write(&unit(4..=40, 1, 3000), true).expect("room");
    let entries = all(&*reader);
    assert_eq!(
        entries,
        (1..=40).map(|i| entry(i, 1, if i < 4 { 100 } else { 3000 })).collect::<Vec<_>>()
    );
    let mut some = Vec::new();
    reader.read(4, 7000, &mut some).expect("readable");
    assert!((1..=3).contains(&some.len()), "about as much as was asked for: {}", some.len());
    assert_eq!(some[0], entry(4, 1, 3000));
    some.clear();
    reader.read(9, 1, &mut some).expect("readable");
    assert_eq!(some, [entry(9, 1, 3000)], "at least one");
    some.clear();
    reader.read(41, 1 << 20, &mut some).expect("readable");
    assert_eq!(some, [], "nothing behind the last");
}

fn everything_synced_is_there_after_a_kill<H: Harness>(mut disk: H) {
    let mut store = disk.open();
    let start = store.recovered().start;
    let mut conf = Configuration { index: 4, ..Configuration::of_voters(&[1, 2]) };
    conf.state.learners.push(3);
    let first = Unit {
        hard_state: Some(state(3, 1, 0)),
        configuration: Some(conf.clone()),
        puts: vec![(b"key".to_vec(), b"value".to_vec())],
        ..unit(1..=5, 3, 50)
    };
    store.write(&first, true).expect("room");
    store
        .write(&Unit { hard_state: Some(state(4, 2, 5)), ..unit(6..=9, 4, 50) }, true)
        .expect("room");
    disk.kill(store);
    let store = disk.open();
    let recovered = store.recovered();
    assert_eq!(recovered.hard_state, state(4, 2, 5));
    assert_eq!(recovered.configuration, conf);
    assert_eq!(recovered.last, (9, 4));
    assert_eq!(recovered.truncated, (0, 0));
    assert!(recovered.start > start, "each start has a number of its own");
    assert_eq!(store.get(b"key").as_deref(), Some(b"value".as_slice()));
    assert_eq!(all(&*store.reader()).len(), 9);
}

fn a_later_write_overwrites_the_tail<H: Harness>(mut disk: H) {
    let mut store = disk.open();
    store.write(&unit(1..=9, 1, 50), true).expect("room");
    store.write(&unit(5..=6, 2, 60), true).expect("room");
    let expected: Vec<Entry> =
        (1..=6).map(|i| if i < 5 { entry(i, 1, 50) } else { entry(i, 2, 60) }).collect();
    assert_eq!(all(&*store.reader()), expected);
    disk.kill(store);
    let store = disk.open();
    assert_eq!(store.recovered().last, (6, 2));
    assert_eq!(all(&*store.reader()), expected);
}

/// A follower's tail may be marked and not committed: the next leader's is shorter.
fn what_is_marked_may_be_overwritten<H: Harness>(mut disk: H) {
    let mut store = disk.open();
    store.write(&unit(1..=9, 1, 50), true).expect("room");
    store.mark(false).expect("possible");
    store.write(&unit(5..=6, 2, 60), true).expect("room");
    disk.kill(store);
    let mut store = disk.open();
    assert_eq!(store.recovered().last, (6, 2));
    store.write(&unit(7..=8, 2, 50), true).expect("room");
    store.mark(false).expect("possible");
    let snapshot =
        Unit { snapshot: Some((7, 3)), hard_state: Some(state(3, 0, 7)), ..Unit::default() };
    store.write(&snapshot, true).expect("room");
    disk.kill(store);
    let store = disk.open();
    assert_eq!((store.recovered().truncated, store.recovered().last), ((7, 3), (7, 3)));
}

fn a_snapshot_takes_the_place_of_all_entries<H: Harness>(mut disk: H) {
    let mut store = disk.open();
    store.write(&unit(1..=9, 1, 50), true).expect("room");
    let snapshot =
        Unit { snapshot: Some((20, 4)), hard_state: Some(state(4, 0, 20)), ..Unit::default() };
    store.write(&snapshot, true).expect("room");
    let reader = store.reader();
    assert_eq!(reader.first_index(), 21);
    assert_eq!(reader.read(9, 1, &mut Vec::new()), Err(ReadError::Purged { first: 21 }));
    store.write(&unit(21..=22, 4, 50), true).expect("room");
    drop(reader);
    disk.kill(store);
    let store = disk.open();
    assert_eq!((store.recovered().truncated, store.recovered().last), ((20, 4), (22, 4)));
    assert_eq!(all(&*store.reader()), [entry(21, 4, 50), entry(22, 4, 50)]);
}

fn keys_are_kept_listed_and_forgotten<H: Harness>(mut disk: H) {
    let mut store = disk.open();
    let put = |key: &str, value: &str| (key.as_bytes().to_vec(), value.as_bytes().to_vec());
    let puts = vec![put("a/2", "two"), put("b/1", "other"), put("a/1", "one")];
    store.write(&Unit { puts, ..Unit::default() }, true).expect("room");
    let again =
        Unit { puts: vec![put("a/2", "zwei")], deletes: vec![b"b/1".to_vec()], ..Unit::default() };
    store.write(&again, true).expect("room");
    for _ in 0..2 {
        assert_eq!(store.keys(b"a/"), [b"a/1".to_vec(), b"a/2".to_vec()]);
        assert_eq!(store.get(b"a/2").as_deref(), Some(b"zwei".as_slice()));
        assert_eq!(store.get(b"b/1"), None);
        assert_eq!(store.keys(b"b"), Vec::<Vec<u8>>::new());
        disk.kill(store);
        store = disk.open();
    }
}

fn only_whole_files_are_purged_and_keys_survive<H: Harness>(mut disk: H) {
    let mut store = disk.open();
    let puts = vec![(b"old".to_vec(), b"kept".to_vec())];
    let configuration = Some(Configuration::of_voters(&[1]));
    store.write(&Unit { puts, configuration, ..Unit::default() }, true).expect("room");
    for index in 1..=60 {
        store.write(&unit(index..=index, 1, 100_000), true).expect("room");
    }
    let before = store.bytes();
    assert_eq!(store.purge_point(0, u64::MAX), None, "nothing is to be freed");
    let point = store.purge_point(2 << 20, u64::MAX).expect("there are several files");
    assert!((20..=40).contains(&point), "{point}");
    assert!(store.purge_point(0, 30).is_some_and(|point| point >= 30), "too many entries");
    assert_eq!(store.purge(3).expect("possible"), (0, 0), "no whole file");
    let (truncated, term) = store.purge(point).expect("possible");
    assert_eq!((truncated, term), (point, 1));
    assert!(store.bytes() + (2 << 20) <= before + 200_000, "{} of {before}", store.bytes());
    for _ in 0..2 {
        let reader = store.reader();
        assert_eq!(reader.first_index(), point + 1);
        let first = ReadError::Purged { first: point + 1 };
        assert_eq!(reader.read(point, 1, &mut Vec::new()), Err(first));
        let indices: Vec<u64> = all(&*reader).iter().map(|entry| entry.index).collect();
        assert_eq!(indices, (point + 1..=60).collect::<Vec<_>>());
        assert_eq!(store.get(b"old").as_deref(), Some(b"kept".as_slice()));
        drop(reader);
        disk.kill(store);
        store = disk.open();
        assert_eq!((store.recovered().truncated, store.recovered().last), ((point, 1), (60, 1)));
        assert_eq!(store.recovered().configuration, Configuration::of_voters(&[1]));
    }
}

fn a_marked_log_opens_again<H: Harness>(mut disk: H) {
    let mut store = disk.open();
    store.write(&unit(1..=5, 1, 50), false).expect("room");
    store.sync().expect("possible");
    store.mark(false).expect("possible");
    store.write(&unit(6..=7, 1, 50), true).expect("room");
    store.mark(true).expect("possible");
    drop(store);
    let store = disk.open();
    assert_eq!(store.recovered().last, (7, 1));
    assert!(!store.recovered().unclean);
}

fn an_empty_store_has_nothing<H: Harness>(mut disk: H) {
    let store = disk.open();
    assert_eq!(store.recovered().last, (0, 0));
    assert_eq!(store.reader().first_index(), 1);
    assert_eq!(all(&*store.reader()), []);
    assert_eq!(store.keys(b""), Vec::<Vec<u8>>::new());
    disk.kill(store);
    assert_eq!(disk.open().recovered().last, (0, 0));
}

fn what_was_begun_is_there_when_it_has_ended<H: Harness>(mut disk: H) {
    let mut store = disk.open();
    assert!(store.end(false).is_none() && store.end(true).is_none(), "nothing was begun");
    for first in [1, 4, 7] {
        store.begin(&unit(first..=first + 2, 1, 50)).expect("room");
        while !store.has_ended() {
            std::thread::yield_now();
        }
        assert!(matches!(store.end(false), Some(Ok(()))));
        assert!(!store.has_ended() && store.end(true).is_none(), "it is told once");
    }
    store.begin(&unit(10..=10, 1, 50)).expect("room");
    assert!(matches!(store.end(true), Some(Ok(()))));
    assert_eq!(all(&*store.reader()).len(), 10);
    disk.kill(store);
    assert_eq!(disk.open().recovered().last, (10, 1));
}

fn whatever_else_is_written_comes_after_what_was_begun<H: Harness>(mut disk: H) {
    let mut store = disk.open();
    let puts = |value: &[u8]| vec![(b"key".to_vec(), value.to_vec())];
    store.begin(&Unit { puts: puts(b"old"), ..unit(1..=3, 1, 50) }).expect("room");
    store.write(&Unit { puts: puts(b"new"), ..unit(4..=5, 1, 50) }, true).expect("room");
    assert!(matches!(store.end(false), Some(Ok(()))));
    store.begin(&unit(6..=6, 1, 50)).expect("room");
    store.mark(false).expect("room");
    disk.kill(store);
    let store = disk.open();
    assert_eq!(store.recovered().last, (6, 1));
    assert_eq!(store.get(b"key").as_deref(), Some(b"new".as_slice()));
}

fn whoever_reads_beside_a_write_that_shortens_the_log_misses_nothing<H: Harness>(mut disk: H) {
    let mut store = disk.open();
    let reader = store.reader();
    store.write(&unit(1..=9, 1, 50), true).expect("room");
    store.begin(&unit(5..=6, 2, 50)).expect("room");
    for _ in 0..2 {
        let mut entries = Vec::new();
        reader.read(3, 1 << 20, &mut entries).expect("what was there before is there");
        assert_eq!(entries[..2], [entry(3, 1, 50), entry(4, 1, 50)]);
        while !store.has_ended() {
            std::thread::yield_now();
        }
    }
    assert!(matches!(store.end(true), Some(Ok(()))));
    assert_eq!(all(&*reader).len(), 6);
}
