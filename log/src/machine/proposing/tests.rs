//! What comes late.

use ledgermq_core::event::{BatchBuilder, Event};
use ledgermq_core::identity::ProducerId;

use raft::eraftpb::{Message, MessageType};

use super::*;
use crate::cluster::{NoPeers, PeerInput, Pulse};
use crate::machine::leaving::tests::World;
use crate::machine::testing::{START, beginning};
use crate::staging;
use crate::store::simulated::{SimulatedDisk, SimulatedStore};
use crate::store::{Configuration, Unit};

const PRODUCER: ProducerId = ProducerId { node: 2, start: 1, local: 0 };

impl World {
    /// Whether what node 2 forwards now, which was pushed there so long ago, comes late.
    fn is_late(&mut self, sequence: u64, age: Duration) -> bool {
        self.forward(sequence, age);
        self.came_late(sequence)
    }

    fn forward(&mut self, sequence: u64, age: Duration) {
        let mut events = BatchBuilder::new(ENVELOPE_BYTES);
        events.push(None, None, &Event::NodeStarted { node: 2, start: 1 });
        let time = self.machine.clock.now();
        let since = Timestamp(time.0 - u64::try_from(age.as_micros()).expect("short"));
        let batches = vec![staging::close(&mut events, PRODUCER, sequence, since).into()];
        let frame = Frame::Forward(Forward { term: self.machine.replica.term(), batches });
        self.machine.receive(PeerInput::Frame { from: 2, frame });
    }

    /// Whether that is committed as late.
    fn came_late(&mut self, sequence: u64) -> bool {
        for _ in 0..3 {
            self.turn();
            self.acknowledge(self.machine.replica.last_index());
        }
        let read = |index| self.log.read(index).expect("a good disk");
        let mut batches = (1..=self.log.status().commit_index).rev().filter_map(read);
        let batch = batches.find(|batch| (batch.producer, batch.sequence) == (PRODUCER, sequence));
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

/// As while leadership is handed over.
#[test]
fn what_raft_refuses_goes_on_waiting_since_it_was_pushed() {
    let mut world = World::of_three();
    assert!(!world.is_late(1, Duration::ZERO));
    assert!(world.machine.replica.transfer(3));
    world.forward(2, LATE - Duration::from_millis(200));
    let before = world.machine.clock.now();
    while world.machine.replica.is_transferring() {
        world.turn();
    }
    let waited = world.machine.clock.now().since(before);
    assert!(waited > Duration::from_millis(200), "it was refused for {waited:?}");
    assert!(world.came_late(2));
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

/// Else what it was given before it was cut off would come after what was given elsewhere meanwhile, and
/// in time.
#[test]
fn who_follows_goes_by_the_leaders_time_however_far_its_own_clock_is_ahead() {
    let disk = SimulatedDisk::new(1, 1 << 20);
    let mut store = SimulatedStore::open(&disk).expect("an empty disk");
    let configuration = Some(Configuration::of_voters(&[1, 2, 3]));
    store.write(&Unit { configuration, ..Unit::default() }, true).expect("room");
    let (log, mut machine) =
        LogMachine::recover(store, beginning(1, &disk), START).expect("an empty log");
    machine.trust();
    let mut hour_behind = Timestamp::from_secs(START.wall.0 / 1_000_000 - 3600);
    let mut now = START;
    let mut turn = |machine: &mut LogMachine<_>, frame: Option<Frame>| {
        now.monotonic += Duration::from_millis(100);
        now.wall = now.wall.plus(Duration::from_millis(100));
        frame.into_iter().for_each(|frame| machine.receive(PeerInput::Frame { from: 2, frame }));
        machine.turn(now, &mut NoPeers).expect("a good disk");
        lock(&log.shared().staging).time
    };
    let from_two = |kind, term| {
        let mut message = Message::new();
        (message.from, message.to, message.term) = (2, 1, term);
        message.set_msg_type(kind);
        Frame::raft(message)
    };
    let heartbeat = from_two(MessageType::MsgHeartbeat, 5);
    assert_eq!(turn(&mut machine, Some(heartbeat)), START.wall.plus(TICK));
    let says = |time| {
        let pulse = Pulse { term: 5, leader: 2, time, ..Pulse::default() };
        Some(Frame::Pulse(Box::new(pulse)))
    };
    assert_eq!(turn(&mut machine, says(hour_behind)), hour_behind);
    assert_eq!(turn(&mut machine, None), hour_behind.plus(TICK));
    // It cannot write how late it is, and says no more.
    assert_eq!(turn(&mut machine, says(hour_behind)), hour_behind.plus(2 * TICK));
    hour_behind = hour_behind.plus(Duration::from_secs(2));
    assert_eq!(turn(&mut machine, says(hour_behind)), hour_behind);
    // Whoever has led goes on with what it stamped last.
    machine.replica.campaign().expect("it may");
    turn(&mut machine, None);
    for kind in [MessageType::MsgRequestPreVoteResponse, MessageType::MsgRequestVoteResponse] {
        turn(&mut machine, Some(from_two(kind, 6)));
    }
    assert!(machine.replica.is_leader());
    let led = turn(&mut machine, None);
    assert!(led > START.wall);
    let after = turn(&mut machine, Some(from_two(MessageType::MsgHeartbeat, 7)));
    assert!(!machine.replica.is_leader());
    assert_eq!(after, led.plus(TICK));
}
