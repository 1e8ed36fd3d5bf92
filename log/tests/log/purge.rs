//! What leaves the hot log, and when.

use std::time::Duration;

use ledgermq_core::quantity::ByteSize;
use ledgermq_log::store::simulated::SimulatedDisk;
use ledgermq_log::{Class, Config, ReadError, TailError};

use crate::simulated::{FILE, Simulated, config, drain};
use crate::support::{Bell, payloads, publish};

/// A log that is beyond its bound of four files, with 200 batches of 50 kB.
fn grown(config: &Config) -> (SimulatedDisk, Simulated) {
    let disk = SimulatedDisk::new(1, FILE);
    let mut log = Simulated::open(&disk, config).expect("opens");
    let mut producer = log.log.producer(Bell::mute());
    for number in 0..200 {
        let mut events = producer.builder();
        publish(&mut events, format!("{number:>50000}").as_bytes());
        producer.push(Class::Publish, &mut events).expect("room");
        log.turn().expect("the disk is good");
    }
    log.run(Duration::from_secs(3));
    (disk, log)
}

fn small() -> Config {
    Config {
        hot_bytes_max: ByteSize(4 * FILE),
        ring_bytes: ByteSize(FILE),
        cache_bytes: ByteSize(FILE),
        ..config()
    }
}

#[test]
fn nothing_is_purged_before_everybody_let_go_of_it() {
    let (_disk, mut log) = grown(&small());
    let wanted = log.log.purge_wanted().expect("it is too large");
    assert_eq!(log.log.status().purge_wanted, Some(wanted));
    assert_eq!(log.log.status().first_index, 1);
    log.log.checkpointed(wanted);
    log.run(Duration::from_secs(3));
    assert_eq!(log.log.status().first_index, 1, "messages are owed");
    log.log.purge_allowed(100);
    log.run(Duration::from_secs(3));
    let first = log.log.status().first_index;
    assert!((80..=101).contains(&first), "whole files up to 100: {first}");
    log.log.purge_allowed(wanted);
    log.run(Duration::from_secs(3));
    assert_eq!(log.log.status().first_index, wanted + 1);
    assert_eq!(log.log.purge_wanted(), None, "{:?}", log.log.status());
    assert!(log.log.status().disk_bytes <= 5 * FILE);
}

#[test]
fn a_reader_that_comes_too_late_is_told_the_gap() {
    let (disk, mut log) = grown(&small());
    let wanted = log.log.purge_wanted().expect("it is too large");
    let mut tail = log.tail(1);
    let mut batches = Vec::new();
    tail.take(1, &mut batches).expect("it is still there");
    let next = tail.position();
    log.log.checkpointed(u64::MAX);
    log.log.purge_allowed(u64::MAX);
    log.run(Duration::from_secs(3));
    assert!(log.log.status().first_index <= next, "a tail that is on its way is waited for");
    drop(tail);
    log.run(Duration::from_secs(3));
    let mut tail = log.tail(next);
    let gap = tail.take(1, &mut batches).expect_err("it is gone");
    assert_eq!(gap, TailError::Gap { from: next, to: wanted });
    let purged = log.log.read(next).expect_err("it is gone");
    assert_eq!(purged, ReadError::Purged { first: wanted + 1 });
    let rest = payloads(&drain(&mut tail));
    assert_eq!(rest.last().map(|payload| payload.trim()), Some("199"));

    // The same after a restart, and nothing is folded that is gone.
    drop((tail, log));
    disk.crash();
    let log = Simulated::open(&disk, &small()).expect("opens");
    assert_eq!(log.log.status().first_index, wanted + 1);
    assert_eq!(payloads(&drain(&mut log.tail(wanted + 1))), rest);
}

#[test]
fn too_many_entries_are_too_much_as_well() {
    let config = Config { hot_entries_max: 120, ..config() };
    let (_disk, mut log) = grown(&config);
    log.log.checkpointed(u64::MAX);
    log.log.purge_allowed(u64::MAX);
    log.run(Duration::from_secs(3));
    let entries = log.log.status().entries;
    assert!((90..=120).contains(&entries), "{entries}");
}
