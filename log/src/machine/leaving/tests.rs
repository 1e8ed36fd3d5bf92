//! When leadership is handed over, and when it is kept for a moment.

use std::time::Duration;

use ledgermq_core::offset::Index;
use raft::eraftpb::{Message, MessageType};

use super::*;
use crate::clock::Now;
use crate::cluster::{
    ClusterId, Frame, JoinAnswer, Local, MemberChange, Members, PeerInput, Peers, Pulse, Role,
    Sent, Standing,
};
use crate::log::Log;
use crate::machine::testing::{START, beginning, hello};
use crate::replica::MEMBERS_KEY;
use crate::store::simulated::{SimulatedDisk, SimulatedStore};
use crate::store::{Configuration, LogStore as _, Unit};

/// Node 1 votes alone and is about to have two others vote, whose answers are made up.
pub(in crate::machine) struct World {
    pub(in crate::machine) disk: SimulatedDisk,
    pub(in crate::machine) log: Log,
    pub(in crate::machine) machine: LogMachine<SimulatedStore>,
    now: Now,
    /// What it said, but for what nobody reached.
    pub(in crate::machine) said: Said,
    /// What node 2 says in its pulse.
    pub(in crate::machine) gate: u8,
    /// How far the others have folded.
    pub(in crate::machine) applied: Index,
}

/// Takes what is sent to nodes that are there.
#[derive(Default)]
pub(in crate::machine) struct Said {
    pub(in crate::machine) frames: Vec<(u64, Frame)>,
    /// There is no room for commands and answers.
    pub(in crate::machine) is_full: bool,
}

impl Peers for Said {
    fn send(&mut self, to: u64, frame: &Frame) -> Sent {
        if self.is_full && matches!(frame, Frame::Command { .. } | Frame::Answer { .. }) {
            return Sent::Full;
        }
        self.frames.push((to, frame.clone()));
        Sent::Taken
    }

    fn update(&mut self, _local: &Local) {}

    fn answer(&mut self, _id: u64, _answer: JoinAnswer) {}
}

impl World {
    pub(in crate::machine) fn new() -> Self {
        Self::on(SimulatedDisk::new(1, 1 << 20))
    }

    fn on(disk: SimulatedDisk) -> Self {
        let mut store = SimulatedStore::open(&disk).expect("an empty disk");
        let mut configuration = Configuration::of_voters(&[1]);
        configuration.state.learners = vec![2, 3];
        let unit = Unit {
            configuration: Some(configuration),
            puts: vec![(MEMBERS_KEY.to_vec(), members().encode())],
            ..Unit::default()
        };
        store.write(&unit, true).expect("room");
        let (log, mut machine) =
            LogMachine::recover(store, beginning(1, &disk), START).expect("an empty log");
        machine.trust();
        let mut world =
            Self { disk, log, machine, now: START, said: Said::default(), gate: 0, applied: 3 };
        for peer in [2, 3] {
            world.machine.receive(PeerInput::Connected { peer, hello: hello(peer) });
        }
        world.turn();
        world
    }

    /// The same when both others have caught up and vote.
    pub(in crate::machine) fn of_three() -> Self {
        Self::of_three_on(SimulatedDisk::new(1, 1 << 20))
    }

    fn of_three_on(disk: SimulatedDisk) -> Self {
        let mut world = Self::on(disk);
        for _ in 0..3 {
            world.acknowledge(world.machine.replica.last_index());
            (0..3).for_each(|_| world.turn());
        }
        assert_eq!(world.machine.voters(), [1, 2, 3]);
        world
    }

    /// A moment in which both others say that they follow this node.
    pub(in crate::machine) fn turn(&mut self) {
        for (from, gate) in [(2, self.gate), (3, 0)] {
            let term = self.machine.replica.term();
            let applied = self.applied;
            let pulse = Pulse { term, leader: 1, gate, applied, ..Pulse::default() };
            let frame = Frame::Pulse(Box::new(pulse));
            self.machine.receive(PeerInput::Frame { from, frame });
        }
        self.now.monotonic += Duration::from_millis(50);
        self.machine.turn(self.now, &mut self.said).expect("a good disk");
    }

    pub(in crate::machine) fn now(&self) -> Duration {
        self.now.monotonic
    }

    /// The others have everything up to `index`.
    pub(in crate::machine) fn acknowledge(&mut self, index: Index) {
        for from in [2, 3] {
            let mut message = Message::new();
            (message.from, message.to, message.index) = (from, 1, index);
            message.term = self.machine.replica.term();
            message.set_msg_type(MessageType::MsgAppendResponse);
            self.machine.receive(PeerInput::Frame { from, frame: Frame::raft(message) });
        }
        self.turn();
    }
}

fn members() -> Members {
    let mut members = Members::default();
    let address = |node: u64| format!("node:{node}");
    let found = MemberChange::Found {
        cluster: ClusterId([1; 16]),
        generation: 1,
        node: 1,
        address: address(1),
        mqtt: Vec::new(),
        key: [0; 32],
    };
    assert!(members.apply(1, &found));
    for node in [2, 3] {
        let join = MemberChange::Join {
            node,
            address: address(node),
            mqtt: Vec::new(),
            role: Role::Log,
            key: [0; 32],
            token: [u8::try_from(node).expect("few"); 8],
            expires_s: 1_800_000_000,
            at_s: 1_700_000_000,
        };
        assert!(members.apply(node, &join));
        assert_eq!(members.nodes[&node].standing, Standing::Learner);
    }
    members
}

/// Who has left is ended, and one that forgets it may need it.
#[test]
fn that_somebody_has_left_is_shown_when_a_crash_leaves_it() {
    for seed in 0..8 {
        let mut world = World::of_three_on(SimulatedDisk::new(seed, 1 << 20));
        world.disk.set_slow(4);
        assert!(world.machine.propose_change(&MemberChange::Retire { node: 3 }));
        let is_shown = |world: &World| lock(&world.machine.shared.members).retired.contains(&3);
        for _ in 0..40 {
            if !is_shown(&world) {
                world.acknowledge(world.machine.replica.last_index());
            }
        }
        assert!(is_shown(&world));
        let World { machine, disk, .. } = world;
        drop(machine);
        disk.crash();
        let kept = SimulatedStore::open(&disk).expect("it opens").get(MEMBERS_KEY);
        let kept = Members::decode(&kept.expect("they are written")).expect("members");
        assert!(kept.retired.contains(&3), "seed {seed}");
    }
}

/// CI, 2026-12-01: the founder stopped in that moment, and the two others never had a leader.
#[test]
fn leadership_is_not_handed_over_while_the_others_are_no_quorum() {
    let mut world = World::new();
    // They are there, and have caught up: both get a vote.
    world.acknowledge(world.machine.replica.last_index());
    (0..3).for_each(|_| world.turn());
    assert!(world.machine.is_joint());
    *lock(&world.machine.shared.is_handing_over) = true;
    for _ in 0..10 {
        world.turn();
        assert!(world.machine.is_joint() && !world.machine.replica.is_transferring());
    }
    world.acknowledge(world.machine.replica.last_index());
    assert!(!world.machine.is_joint(), "it is left as soon as the others have that");
    for _ in 0..3 {
        world.turn();
    }
    assert!(world.machine.replica.is_transferring());
}
