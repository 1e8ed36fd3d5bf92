//! What is known of a log before its first turn.

use ledgermq_core::event::{BatchBuilder, Event};
use raft::eraftpb::Entry;

use super::*;
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

fn uncommitted(index: Index, time: Timestamp) -> Entry {
    let mut events = BatchBuilder::new(ENVELOPE_BYTES);
    events.push(None, None, &Event::NodeStarted { node: 2, start: 1 });
    let mut bytes = staging::close(&mut events, ProducerId { node: 2, start: 1, local: 0 }, 1);
    envelope::stamp(&mut bytes, time);
    Entry { index, term: 1, data: bytes.into(), ..Entry::default() }
}
