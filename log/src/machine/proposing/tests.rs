//! What comes late.

use ledgermq_core::event::{BatchBuilder, Event};
use ledgermq_core::identity::ProducerId;

use super::*;
use crate::cluster::PeerInput;
use crate::machine::leaving::tests::World;
use crate::machine::testing::{START, beginning};
use crate::staging;
use crate::store::simulated::{SimulatedDisk, SimulatedStore};

impl World {
    /// Whether what node 2 forwards now, which was pushed there so long ago, comes late.
    fn is_late(&mut self, sequence: u64, age: Duration) -> bool {
        let mut events = BatchBuilder::new(ENVELOPE_BYTES);
        events.push(None, None, &Event::NodeStarted { node: 2, start: 1 });
        let producer = ProducerId { node: 2, start: 1, local: 0 };
        let time = self.machine.clock.now();
        let since = Timestamp(time.0 - u64::try_from(age.as_micros()).expect("short"));
        let batches = vec![staging::close(&mut events, producer, sequence, since).into()];
        let frame = Frame::Forward(Forward { term: self.machine.replica.term(), batches });
        self.machine.receive(PeerInput::Frame { from: 2, frame });
        for _ in 0..3 {
            self.turn();
            self.acknowledge(self.machine.replica.last_index());
        }
        let read = |index| self.log.read(index).expect("a good disk");
        let mut batches = (1..=self.log.status().commit_index).rev().filter_map(read);
        let batch = batches.find(|batch| (batch.producer, batch.sequence) == (producer, sequence));
        let batch = batch.expect("it is committed");
        batch.is_late()
    }
}

/// Also where the others are learners, which have clients, too.
#[test]
fn what_waited_longer_than_it_takes_to_find_a_leader_comes_late() {
    for mut world in [World::new(), World::of_three()] {
        assert!(!world.is_late(1, Duration::ZERO));
        assert!(!world.is_late(2, LATE - Duration::from_secs(1)));
        assert!(world.is_late(3, LATE + Duration::from_secs(1)));
        assert!(!world.is_late(4, Duration::ZERO));
    }
}

/// What is pushed before the first turn is pushed now, and not when the log was written last.
#[test]
fn what_is_pushed_first_is_pushed_at_the_start() {
    let disk = SimulatedDisk::new(1, 1 << 20);
    let store = SimulatedStore::open(&disk).expect("an empty disk");
    let (log, _machine) =
        LogMachine::recover(store, beginning(1, &disk), START).expect("an empty log");
    assert_eq!(lock(&log.shared().staging).time, START.wall);
}
