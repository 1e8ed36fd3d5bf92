//! Every byte of the end of the log, cut and flipped.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use raft::eraftpb::Entry;

use super::{EngineStore, OpenError, copy, open, temp};
use crate::store::suite::entry;
use crate::store::{LogStore, Unit};

/// Positions tried in the test run; all of them in the long run.
const SAMPLES: u64 = 512;
/// How far from the end of the log bytes are damaged.
const REACH: u64 = 64 << 10;

/// An entry of zeros and ones mostly, in which headers of writes are seen everywhere that make no
/// sense, and of bytes drawn by splitmix64.
fn noisy(index: u64, bytes: usize) -> Entry {
    let mut random = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut data = Vec::with_capacity(bytes + 32);
    while data.len() < bytes {
        random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (random ^ (random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z ^= z >> 27;
        let run = usize::try_from(1 + (z >> 8) % 24).expect("small");
        match z % 8 {
            0 => data.extend_from_slice(&z.to_be_bytes()),
            1 => data.push(1 << ((z >> 16) % 8)),
            even if even % 2 == 0 => data.resize(data.len() + run, 0),
            _ => data.resize(data.len() + run, 0xff),
        }
    }
    data.truncate(bytes);
    Entry { data: data.into(), ..entry(index, 1, 8) }
}

/// A log of writes of a few sizes, several files long.
fn build(dir: &Path, mark_every: u64) -> (EngineStore, Vec<Entry>) {
    let mut store = open(dir).expect("opens");
    let mut entries = Vec::new();
    let mut index = 0;
    for write in 1..=160_u64 {
        let mut unit = Unit::default();
        for _ in 0..1 + write % 3 {
            index += 1;
            let bytes = 200 + usize::try_from(write * 7919 % 18_000).expect("small");
            unit.entries.push(noisy(index, bytes));
        }
        entries.extend(unit.entries.iter().cloned());
        store.write(&unit, true).expect("room");
        if write % mark_every == 0 {
            store.mark(false).expect("possible");
        }
    }
    (store, entries)
}

pub(super) fn newest_file(dir: &Path) -> PathBuf {
    let files = fs::read_dir(dir.join("raft")).expect("a log");
    let paths = files.map(|file| file.expect("a file").path());
    paths.filter(|path| path.extension().is_some_and(|end| end == "raftlog")).max().expect("files")
}

/// Where the written part of a file ends: zeros follow. (The last write may end with some, too.)
pub(super) fn end_of(path: &Path) -> u64 {
    let bytes = fs::read(path).expect("readable");
    let mut at = 69;
    while let Some(head) = bytes.get(at..at + 8) {
        let length = u64::from_be_bytes(head.try_into().expect("eight")) >> 8;
        if length == 0 {
            break;
        }
        at += usize::try_from(length).expect("small");
    }
    at as u64
}

pub(super) fn flip(path: &Path, at: u64, bit: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).expect("opens");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("there");
    byte[0] ^= 1 << bit;
    file.write_all_at(&byte, at).expect("room");
}

fn cut(path: &Path, at: u64) {
    OpenOptions::new().write(true).open(path).expect("opens").set_len(at).expect("possible");
}

/// What a damaged log did when it was opened.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// It refused, naming the file.
    Refused,
    /// It opened with this many entries, each as it was written.
    Entries(usize),
}

fn try_open(dir: &Path, entries: &[Entry]) -> Outcome {
    let store = match open(dir) {
        Ok(store) => store,
        Err(error) => {
            let OpenError::Damaged { file, what, remedy, .. } = &error else {
                unreachable!("{error}");
            };
            assert!(file.starts_with(dir) && !what.is_empty() && !remedy.is_empty());
            return Outcome::Refused;
        }
    };
    let reader = store.reader();
    let mut found = Vec::new();
    loop {
        let before = found.len();
        reader.read(before as u64 + 1, 1 << 20, &mut found).expect("what is there is whole");
        if found.len() == before {
            break;
        }
    }
    assert!(found == entries[..found.len()], "a damaged entry was served");
    assert_eq!(store.recovered().last.0, found.len() as u64);
    Outcome::Entries(found.len())
}

/// Damages a copy of `dir` at sampled positions of the last 64 KiB and hands the outcomes to
/// `judge` with the distance from the end.
fn for_samples(
    dir: &Path,
    entries: &[Entry],
    damage: impl Fn(&Path, u64, u64),
    judge: impl Fn(u64, Outcome),
) {
    let file = newest_file(dir);
    let end = end_of(&file);
    let reach = REACH.min(end);
    let step = if std::env::var_os("LEDGERMQ_LONG").is_some() { 1 } else { reach / SAMPLES };
    let copies = temp();
    for sample in (0..reach).step_by(usize::try_from(step.max(1)).expect("small")) {
        // Off the beat of the step, so that all kinds of bytes are met.
        let back = (sample + sample * 2_654_435_761 % step.max(1)).min(reach - 1);
        let at = copies.path().join("copy");
        copy(dir, &at);
        damage(&newest_file(&at), end - 1 - back, sample % 8);
        judge(back, try_open(&at, entries));
        fs::remove_dir_all(&at).expect("possible");
    }
}

/// Length of the last write and how many entries it holds.
fn last_write(dir: &Path) -> (u64, usize) {
    let file = newest_file(dir);
    let (bytes, end) = (fs::read(&file).expect("readable"), end_of(&file));
    let mut at = 69;
    loop {
        let head = u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight"));
        let length = usize::try_from(head >> 8).expect("small");
        if (at + length) as u64 == end {
            return (length as u64, 1 + 160 % 3);
        }
        at += length;
    }
}

#[test]
fn after_an_orderly_end_every_damaged_byte_is_an_error() {
    let (dir, live) = (temp(), temp());
    let (mut store, entries) = build(live.path(), 1000);
    store.mark(true).expect("possible");
    copy(live.path(), dir.path());
    drop(store);
    assert_eq!(try_open(live.path(), &entries), Outcome::Entries(entries.len()));
    for_samples(dir.path(), &entries, flip, |back, outcome| {
        assert_eq!(outcome, Outcome::Refused, "flipped {back} before the end");
    });
    for_samples(
        dir.path(),
        &entries,
        |file, at, _| cut(file, at),
        |back, outcome| {
            assert_eq!(outcome, Outcome::Refused, "cut {back} before the end");
        },
    );
}

#[test]
fn after_a_crash_only_the_last_write_may_be_missing() {
    let dir = temp();
    let live = temp();
    let (store, entries) = build(live.path(), 1000);
    copy(live.path(), dir.path());
    drop(store);
    let (length, count) = last_write(dir.path());
    let without_last = entries.len() - count;
    for_samples(dir.path(), &entries, flip, |back, outcome| {
        if back >= length {
            assert_eq!(outcome, Outcome::Refused, "flipped {back} before the end");
        } else {
            // The last write was not marked: it may have been under way.
            let cut = outcome == Outcome::Entries(without_last);
            assert!(
                cut || outcome == Outcome::Refused,
                "flipped {back} before the end: {outcome:?}"
            );
        }
    });
    for_samples(
        dir.path(),
        &entries,
        |file, at, _| cut(file, at),
        |back, outcome| {
            // A file that ends early cannot be told from a write under way, back to the mark.
            match outcome {
                Outcome::Refused => {}
                Outcome::Entries(left) if back < length => assert_eq!(left, without_last),
                Outcome::Entries(left) => assert!(left < without_last, "cut {back} before the end"),
            }
        },
    );
}

#[test]
fn what_the_watermark_covers_is_never_cut() {
    let dir = temp();
    let live = temp();
    // The last mark is that of the last write but some.
    let (store, entries) = build(live.path(), 7);
    copy(live.path(), dir.path());
    drop(store);
    let marked: usize = (1..=154).map(|write| 1 + write % 3).sum();
    for damage in [|file: &Path, at, _| cut(file, at), flip] {
        for_samples(dir.path(), &entries, damage, |back, outcome| {
            if let Outcome::Entries(left) = outcome {
                assert!(left >= marked, "{back} before the end: {left} of {marked}");
            }
        });
    }
}

#[test]
fn zeros_in_the_middle_of_the_newest_file_are_an_error() {
    let (dir, live) = (temp(), temp());
    let (store, entries) = build(live.path(), 1000);
    copy(live.path(), dir.path());
    drop(store);
    let file = newest_file(dir.path());
    let middle = end_of(&file) / 2;
    let open_file = OpenOptions::new().write(true).open(&file).expect("opens");
    open_file.write_all_at(&[0; 64 << 10], middle).expect("room");
    assert_eq!(try_open(dir.path(), &entries), Outcome::Refused);
}

#[test]
fn bytes_of_a_message_that_look_like_a_header_are_no_write() {
    let (dir, live) = (temp(), temp());
    let (mut store, entries) = build(live.path(), 1000);
    // A length of 32 bytes, and a footer that begins behind the end of all numbers.
    let header = [[0, 0, 0, 0, 0, 0, 0x20, 0], [0xff; 8]].concat();
    let mut last = entry(entries.len() as u64 + 1, 1, 8);
    last.data = header.repeat(50).into();
    store.write(&Unit { entries: vec![last], ..Unit::default() }, true).expect("room");
    copy(live.path(), dir.path());
    drop(store);
    let newest = newest_file(dir.path());
    flip(&newest, end_of(&newest) - 1, 0);
    assert_eq!(try_open(dir.path(), &entries), Outcome::Entries(entries.len()));
}

#[test]
fn a_missing_file_is_an_error() {
    for (which, marked) in [(0, true), (1, false), (usize::MAX, true)] {
        let (dir, live) = (temp(), temp());
        let (mut store, entries) = build(live.path(), 1000);
        if marked {
            store.mark(false).expect("possible");
        }
        copy(live.path(), dir.path());
        drop(store);
        let mut files: Vec<PathBuf> = fs::read_dir(dir.path().join("raft"))
            .expect("a log")
            .map(|file| file.expect("a file").path())
            .filter(|path| path.extension().is_some_and(|end| end == "raftlog"))
            .collect();
        files.sort();
        assert!(files.len() > 2, "several files");
        fs::remove_file(&files[which.min(files.len() - 1)]).expect("possible");
        assert_eq!(try_open(dir.path(), &entries), Outcome::Refused, "{which}");
    }
}

#[test]
fn damage_in_an_older_file_is_found_when_it_is_read() {
    let (dir, live) = (temp(), temp());
    let (store, entries) = build(live.path(), 1000);
    copy(live.path(), dir.path());
    drop(store);
    let oldest = dir.path().join("raft/0000000000000001.raftlog");
    assert_eq!(try_open(dir.path(), &entries), Outcome::Entries(entries.len()));
    flip(&oldest, 5000, 3);
    let store = open(dir.path()).expect("headers and footers are whole");
    let mut found = Vec::new();
    let error = loop {
        match store.reader().read(found.len() as u64 + 1, 1 << 20, &mut found) {
            Ok(()) => assert!(found.len() < entries.len(), "the damage was not found"),
            Err(error) => break error.to_string(),
        }
    };
    assert!(found == entries[..found.len()], "a damaged entry was served");
    assert!(error.contains("0000000000000001.raftlog at byte"), "{error}");
}

/// Makes a file behind the newest of `dir` from its first `length` bytes.
fn begin_next(dir: &Path, length: usize) -> PathBuf {
    let newest = newest_file(dir);
    let number: u64 =
        newest.file_stem().expect("named").to_str().expect("ASCII").parse().expect("a number");
    let next = dir.join(format!("raft/{:016}.raftlog", number + 1));
    fs::write(&next, &fs::read(&newest).expect("readable")[..length]).expect("room");
    next
}

#[test]
fn an_unfinished_first_file_and_its_empty_successor_are_cut() {
    // The process died while it began a new file: an empty one, or half a header.
    for length in [0, 30, 69] {
        let (dir, live) = (temp(), temp());
        let (store, entries) = build(live.path(), 1000);
        copy(live.path(), dir.path());
        drop(store);
        let newest = newest_file(dir.path());
        cut(&newest, end_of(&newest));
        begin_next(dir.path(), length);
        assert_eq!(try_open(dir.path(), &entries), Outcome::Entries(entries.len()), "{length}");
        assert_eq!(try_open(dir.path(), &entries), Outcome::Entries(entries.len()), "again");
    }
}

#[test]
fn a_file_without_a_header_leaves_the_one_before_the_newest() {
    // The disk was full: the next file got no header, and the log went on in the one before, of
    // which the zeros behind the end were not cut when the process died.
    for length in [0, 30] {
        for torn in [false, true] {
            let (dir, live) = (temp(), temp());
            let (store, entries) = build(live.path(), 1000);
            copy(live.path(), dir.path());
            drop(store);
            let newest = newest_file(dir.path());
            let mut left = entries.len();
            if torn {
                flip(&newest, end_of(&newest) - 1, 0);
                left -= last_write(dir.path()).1;
            }
            let stray = begin_next(dir.path(), length);
            assert_eq!(try_open(dir.path(), &entries), Outcome::Entries(left), "{length}");
            assert!(!stray.exists());
            assert_eq!(try_open(dir.path(), &entries), Outcome::Entries(left), "again");
        }
    }
    // With a header the file before was closed and synced: it must be whole.
    let (dir, live) = (temp(), temp());
    let (store, entries) = build(live.path(), 1000);
    copy(live.path(), dir.path());
    drop(store);
    begin_next(dir.path(), 69);
    assert_eq!(try_open(dir.path(), &entries), Outcome::Refused);
}
