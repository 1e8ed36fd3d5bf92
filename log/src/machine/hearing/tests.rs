//! What was heard outlives the process.

use crate::clock::Now;
use crate::cluster::NoPeers;
use crate::machine::testing::{START, beginning};
use crate::store::Configuration;
use crate::store::simulated::{SimulatedDisk, SimulatedStore};

use super::*;

const WALL: Timestamp = Timestamp::from_secs(1_700_000_000);

fn open(disk: &SimulatedDisk) -> LogMachine<SimulatedStore> {
    let store = SimulatedStore::open(disk).expect("it opens");
    LogMachine::recover(store, beginning(1, disk), START).expect("it is sound").1
}

fn turn(machine: &mut LogMachine<SimulatedStore>, millis: u64) {
    let passed = Duration::from_millis(millis);
    let now = Now { wall: WALL.plus(passed), monotonic: passed };
    machine.turn(now, &mut NoPeers).expect("a good disk");
}

fn member() -> SimulatedDisk {
    let disk = SimulatedDisk::new(1, 1 << 20);
    let mut store = SimulatedStore::open(&disk).expect("it opens");
    let configuration = Some(Configuration::of_voters(&[1, 2, 3]));
    store.write(&Unit { configuration, ..Unit::default() }, true).expect("a good disk");
    disk
}

/// Its own wall clock is far behind.
#[test]
fn a_member_that_starts_again_goes_on_from_what_it_said_it_had_heard() {
    let disk = member();
    let mut machine = open(&disk);
    let heard = WALL.plus(Duration::from_secs(500));
    machine.hear(heard);
    assert!(machine.peers.told() < heard, "it is not written yet");
    turn(&mut machine, 1);
    assert_eq!(machine.peers.told(), heard);
    drop(machine);
    disk.crash();
    let machine = open(&disk);
    assert!(machine.peers.heard() >= heard);
    assert!(machine.clock.now() >= heard, "it stamps nothing below");
    assert!(machine.peers.heard() <= heard.plus(AHEAD));
}

#[test]
fn a_full_disk_keeps_back_what_is_said() {
    let disk = member();
    let mut machine = open(&disk);
    machine.hear(WALL);
    turn(&mut machine, 1);
    let told = machine.peers.told();
    disk.set_capacity(Some(disk.used()));
    machine.hear(WALL.plus(Duration::from_secs(500)));
    turn(&mut machine, 2);
    assert!(machine.peers.told() <= told.plus(AHEAD));
    disk.set_capacity(None);
    turn(&mut machine, 3);
    assert!(machine.peers.told() <= told.plus(AHEAD), "it is not tried in every turn");
    turn(&mut machine, 1_100);
    assert_eq!(machine.peers.told(), WALL.plus(Duration::from_secs(500)));
}
