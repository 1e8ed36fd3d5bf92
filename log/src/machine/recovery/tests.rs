//! What is known of a log before its first turn.

use ledgermq_core::event::{BatchBuilder, Event};
use raft::eraftpb::{Entry, HardState};

use super::*;
use crate::admission::of_a_later_version;
use crate::class::Class;
use crate::envelope::{self, ENVELOPE_BYTES};
use crate::machine::testing::{START, beginning};
use crate::staging;
use crate::store::Configuration;
use crate::store::simulated::{SimulatedDisk, SimulatedStore};

fn open(disk: &SimulatedDisk) -> (Log, LogMachine<SimulatedStore>) {
    let store = SimulatedStore::open(disk).expect("it opens");
    LogMachine::recover(store, beginning(1, disk), START).expect("it is sound")
}

/// One of several waits for others before anything is committed; but what its projections read first
/// they read at once.
#[test]
fn a_member_says_where_its_log_begins_and_ends_before_it_hears_of_others() {
    let disk = SimulatedDisk::new(1, 1 << 20);
    let (log, mut machine) = open(&disk);
    let mut events = BatchBuilder::new(ENVELOPE_BYTES);
    events.push(None, None, &Event::NodeStarted { node: 1, start: 1 });
    let ticket = log.submit(Class::Progress, events).expect("there is room");
    let now = Now { wall: Timestamp::from_secs(1_700_000_001), monotonic: Duration::from_secs(1) };
    machine.turn(now, &mut NoPeers).expect("a good disk");
    let receipt = ticket.try_receipt().expect("it runs").expect("it is committed");
    machine.close().expect("a good disk");
    drop((log, machine));
    let configuration = Some(Configuration::of_voters(&[1, 2, 3]));
    let mut store = SimulatedStore::open(&disk).expect("it opens");
    let entries = vec![uncommitted(receipt.index + 1, Timestamp::from_secs(1_800_000_000))];
    store.write(&Unit { configuration, entries, ..Unit::default() }, true).expect("a good disk");
    drop(store);

    let (log, _machine) = open(&disk);
    let status = log.status();
    assert_eq!((status.first_index, status.commit_index), (1, receipt.index));
    assert_eq!(status.time, receipt.time, "what follows may never be committed");
}

/// Once it is committed raft takes no answer but the entry.
#[test]
fn a_damaged_entry_that_may_be_committed_is_found_when_the_log_opens() {
    let disk = SimulatedDisk::new(1, 1 << 20);
    let mut store = SimulatedStore::open(&disk).expect("an empty disk");
    let configuration = Some(Configuration::of_voters(&[1, 2, 3]));
    let hard_state = Some(HardState { term: 1, ..HardState::default() });
    let time = Timestamp::from_secs(1_700_000_000);
    let entries = (1..=4).map(|index| uncommitted(index, time)).collect();
    store
        .write(&Unit { configuration, hard_state, entries, ..Unit::default() }, true)
        .expect("a good disk");
    drop(store);
    drop(open(&disk));
    disk.damage(2);
    let store = SimulatedStore::open(&disk).expect("it opens");
    let opened = LogMachine::recover(store, beginning(1, &disk), START).map(drop);
    let error = opened.expect_err("entry 2 is damaged");
    let names_it = |what: &str| what.starts_with("entry 2:");
    assert!(matches!(&error, OpenError::Damaged { what, .. } if names_it(what)), "{error}");
}

/// It stands so on every node: to give the log up would lose what all of them hold.
#[test]
fn an_entry_of_a_later_version_is_no_damage() {
    let disk = SimulatedDisk::new(1, 1 << 20);
    let mut store = SimulatedStore::open(&disk).expect("an empty disk");
    let configuration = Some(Configuration::of_voters(&[1, 2, 3]));
    let hard_state = Some(HardState { term: 1, commit: 1, ..HardState::default() });
    let mut bytes = of_a_later_version();
    envelope::stamp(&mut bytes, Timestamp::from_secs(1_700_000_000));
    let entries = vec![Entry { index: 1, term: 1, data: bytes.into(), ..Entry::default() }];
    let unit = Unit { configuration, hard_state, entries, ..Unit::default() };
    store.write(&unit, true).expect("a good disk");
    drop(store);
    let store = SimulatedStore::open(&disk).expect("it opens");
    let error = LogMachine::recover(store, beginning(1, &disk), START).map(drop);
    let error = error.expect_err("it cannot be folded");
    assert!(matches!(error, OpenError::NotUnderstood { index: 1, .. }), "{error}");
}

fn uncommitted(index: Index, time: Timestamp) -> Entry {
    let mut events = BatchBuilder::new(ENVELOPE_BYTES);
    events.push(None, None, &Event::NodeStarted { node: 2, start: 1 });
    let mut bytes = staging::close(
        &mut events,
        ProducerId { node: 2, start: 1, local: 0 },
        1,
        Timestamp::default(),
    );
    envelope::stamp(&mut bytes, time);
    Entry { index, term: 1, data: bytes.into(), ..Entry::default() }
}
