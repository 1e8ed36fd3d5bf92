//! Nodes whose disk takes nothing, and those that hear no leader.

use super::*;
use ledgermq_core::identity::ProducerId;
use ledgermq_core::offset::Timestamp;
use raft::eraftpb::{Message, MessageType};

use crate::cluster::{Forward, Frame, HELD_UP, PeerInput};
use crate::machine::leaving::tests::World;
use crate::staging;

impl World {
    /// Node 2 writes something, so that there is something to lose.
    fn start_second(&mut self) {
        let mut events = BatchBuilder::new(ENVELOPE_BYTES);
        events.push(None, None, &Event::NodeStarted { node: 2, start: 1 });
        let producer = ProducerId { node: 2, start: 1, local: 0 };
        let batches = vec![staging::close(&mut events, producer, 1, Timestamp::default()).into()];
        let frame = Frame::Forward(Forward { term: self.machine.replica.term(), batches });
        self.machine.receive(PeerInput::Frame { from: 2, frame });
        for _ in 0..3 {
            self.turn();
            self.acknowledge(self.machine.replica.last_index());
        }
        assert_eq!(self.machine.admission.live_start(2), Some(1));
    }

    /// Both others answer what raft asks, for which they need no disk, and the second says this.
    fn answer(&mut self, gate: u8, seconds: u64) {
        self.gate = gate;
        let end = self.now() + Duration::from_secs(seconds);
        while self.now() < end {
            self.acknowledge(self.machine.replica.last_index());
        }
    }
}

/// It is heard all the same: it must not hold back wills, sessions and shared messages for ever.
#[test]
fn a_node_whose_disk_takes_nothing_is_declared_lost() {
    let mut world = World::of_three();
    let lost = |world: &World| world.machine.policy.nodes_lost();
    world.start_second();
    world.answer(HELD_UP, 9);
    assert_eq!(lost(&world), 0);
    // It got well in between: then it counts from the beginning.
    world.answer(0, 1);
    world.answer(HELD_UP, 9);
    assert_eq!(lost(&world), 0);
    world.answer(HELD_UP, 2);
    assert_eq!(lost(&world), 1);
}

/// It does not lead on, and its clients are not to wait for ever.
#[test]
fn a_node_whose_disk_takes_nothing_says_so() {
    let mut world = World::of_three();
    world.disk.set_capacity(Some(0));
    assert!(world.machine.propose_change(&MemberChange::Demote { nodes: vec![3] }));
    let start = world.now();
    while !world.machine.replica.is_stuck() {
        world.turn();
        assert!(world.now() < start + Duration::from_secs(1));
    }
    let start = world.now();
    let flags = |world: &mut World| {
        let frames = std::mem::take(&mut world.said.frames);
        let pulses = frames.into_iter().filter_map(|(_, frame)| match frame {
            Frame::Pulse(pulse) => Some(pulse.gate),
            _ => None,
        });
        pulses.last()
    };
    while world.now() < start + Duration::from_millis(4_800) {
        world.turn();
    }
    assert!(!matches!(world.log.gate(), Gate::NoQuorum { .. }));
    assert_eq!(flags(&mut world), Some(0));
    while world.now() < start + Duration::from_millis(5_800) {
        world.turn();
    }
    assert_eq!(flags(&mut world), Some(HELD_UP));
    assert_eq!(world.log.gate(), Gate::NoQuorum { reason: Arc::from(HELD_UP_TEXT) });
    world.disk.set_capacity(None);
    while world.now() < start + Duration::from_millis(7_500) {
        world.turn();
    }
    assert_eq!(flags(&mut world), Some(0));
}

/// Raft has a node without a vote keep its leader for ever; its clients would wait as long.
#[test]
fn a_learner_notices_that_it_hears_no_leader() {
    let mut world = World::of_three();
    assert!(world.machine.propose_change(&MemberChange::Demote { nodes: vec![1] }));
    for _ in 0..10 {
        world.acknowledge(world.machine.replica.last_index());
    }
    assert_eq!(world.machine.voters(), [2, 3]);
    let mut message = Message::new();
    (message.from, message.to, message.term) = (2, 1, world.machine.replica.term() + 1);
    message.set_msg_type(MessageType::MsgHeartbeat);
    world.machine.receive(PeerInput::Frame { from: 2, frame: Frame::raft(message) });
    world.turn();
    assert_eq!(world.machine.replica.leader(), 2);
    let start = world.now();
    while world.now() < start + Duration::from_secs(5) {
        world.turn();
    }
    assert_eq!(world.machine.replica.leader(), 0);
    assert_eq!(world.log.gate(), Gate::NoQuorum { reason: Arc::from(UNREACHED) });
}
