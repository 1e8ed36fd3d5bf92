//! Who may derive, and what becomes of it.

use std::time::Duration;

use ledgermq_core::event::{BatchBuilder, Event};
use ledgermq_core::offset::Index;
use raft::eraftpb::{Message, MessageType};

use super::*;
use crate::class::Class;
use crate::clock::Now;
use crate::cluster::{Frame, NoPeers, PeerInput};
use crate::deriving::Derivation;
use crate::log::Log;
use crate::machine::testing::{START, beginning};
use crate::store::simulated::{SimulatedDisk, SimulatedStore};
use crate::store::{Configuration, Unit};
use crate::wake::Wake;

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

/// Node 1, alone or among three voters, whose answers are made up.
struct World {
    log: Log,
    machine: LogMachine<SimulatedStore>,
    disk: SimulatedDisk,
    now: Now,
}

impl World {
    fn new(voters: &[u64]) -> Self {
        let disk = SimulatedDisk::new(1, 1 << 20);
        let mut store = SimulatedStore::open(&disk).expect("an empty disk");
        let configuration = Some(Configuration::of_voters(voters));
        store.write(&Unit { configuration, ..Unit::default() }, true).expect("room");
        let (log, mut machine) =
            LogMachine::recover(store, beginning(1, &disk), START).expect("an empty log");
        machine.trust();
        Self { log, machine, disk, now: START }
    }

    /// Node 1 as the leader of three, all of whose entries are at a second one.
    fn leading() -> Self {
        let mut world = Self::new(&[1, 2, 3]);
        world.elect();
        world
    }

    fn elect(&mut self) {
        self.machine.replica.campaign().expect("it can be read");
        self.turn();
        let term = self.machine.replica.term();
        self.hear(MessageType::MsgRequestPreVoteResponse, term + 1, 0);
        self.hear(MessageType::MsgRequestVoteResponse, term + 1, 0);
    }

    fn turn(&mut self) {
        self.now.monotonic += Duration::from_millis(10);
        self.machine.turn(self.now, &mut NoPeers).expect("a good disk");
    }

    /// Takes a message of node 2, and turns.
    fn hear(&mut self, kind: MessageType, term: u64, index: Index) {
        let mut message = Message::new();
        (message.from, message.to, message.term, message.index) = (2, 1, term, index);
        message.set_msg_type(kind);
        self.machine.receive(PeerInput::Frame { from: 2, frame: Frame::raft(message) });
        self.turn();
    }

    /// Node 2 has everything up to `index`.
    fn acknowledge(&mut self, index: Index) {
        self.hear(MessageType::MsgAppendResponse, self.machine.replica.term(), index);
    }

    /// Another leads the next term.
    fn depose(&mut self) {
        let term = self.machine.replica.term() + 1;
        self.hear(MessageType::MsgHeartbeat, term, 0);
        assert_eq!(self.log.leading(), None);
    }

    fn derive(&self, term: u64) -> Derivation {
        self.log.derive(term, events())
    }

    fn term(&self) -> u64 {
        self.log.leading().expect("it leads").term
    }

    /// What derived batches the log holds: index, sequence, whether it counts.
    fn derived(&self) -> Vec<(Index, u64, bool)> {
        let mut tail = self.log.tail_gapless(1, Arc::new(NoWake));
        let mut batches = Vec::new();
        while tail.position() <= self.log.committed() {
            tail.take(usize::MAX, &mut batches).expect("all is there");
        }
        let derived = batches.iter().filter(|batch| batch.producer.local == DERIVED);
        derived.map(|batch| (batch.index, batch.sequence, batch.is_admitted())).collect()
    }
}

fn events() -> BatchBuilder {
    let mut events = BatchBuilder::new(envelope::ENVELOPE_BYTES);
    events.push(None, None, &Event::NodeLost { node: 9, start: 1 });
    events
}

#[test]
fn the_only_voter_leads_from_the_first_entry_of_its_term_and_derives_in_a_turn() {
    let mut world = World::new(&[1]);
    let leading = world.log.leading().expect("it leads");
    assert_eq!((leading.term, leading.first), (1, 1));
    let derivation = world.derive(1);
    assert_eq!(derivation.outcome(), None);
    assert!(world.machine.has_work(world.now.monotonic) && !world.machine.is_idle());
    world.turn();
    assert_eq!(derivation.outcome(), Some(Some(2)));
    assert!(!world.machine.has_work(world.now.monotonic) && world.machine.is_idle());
    let next = world.derive(1);
    world.turn();
    assert_eq!(next.wait(), Some(3));
    assert_eq!(world.derived(), [(2, 1, true), (3, 2, true)]);
}

#[test]
fn nobody_derives_in_a_term_that_it_does_not_lead() {
    let world = World::new(&[1]);
    assert_eq!(world.derive(0).wait(), None);
    assert_eq!(world.derive(2).wait(), None);
    let world = World::new(&[1, 2, 3]);
    assert_eq!(world.log.leading(), None);
    assert_eq!(world.derive(1).wait(), None);
}

#[test]
fn a_new_leader_first_applies_all_that_lies_before_its_term() {
    let mut world = World::leading();
    let leading = world.log.leading().expect("it won");
    let early = world.derive(leading.term);
    world.turn();
    assert_eq!(early.outcome(), Some(None), "its own first entry is not committed");
    world.acknowledge(leading.first);
    let derivation = world.derive(leading.term);
    world.turn();
    assert_eq!(derivation.outcome(), None, "it is not committed yet");
    let second = world.derive(leading.term);
    assert_eq!(second.outcome(), Some(None), "one at a time");
    world.acknowledge(leading.first + 1);
    assert_eq!(derivation.wait(), Some(leading.first + 1));
}

#[test]
fn what_was_derived_is_not_waited_for_when_leadership_ends() {
    let mut world = World::leading();
    let first = world.log.leading().expect("it won").first;
    world.acknowledge(first);
    let waiting = world.derive(world.term());
    world.depose();
    assert_eq!(waiting.outcome(), Some(None), "never proposed");
    assert_eq!(world.derive(world.machine.replica.term()).wait(), None);

    world.elect();
    let first = world.log.leading().expect("it won again").first;
    world.acknowledge(first);
    let proposed = world.derive(world.term());
    world.turn();
    world.depose();
    assert_eq!(proposed.outcome(), Some(None), "nobody knows whether it will be committed");
    assert!(world.machine.is_idle(), "it is not sent again");

    // It is, before the first entry of the next term: the numbers go on behind it.
    world.elect();
    let first = world.log.leading().expect("it won again").first;
    world.acknowledge(first);
    let derivation = world.derive(world.term());
    world.turn();
    world.acknowledge(first + 1);
    assert_eq!(derivation.wait(), Some(first + 1));
    assert_eq!(world.derived(), [(first - 1, 1, true), (first + 1, 2, true)]);
}

#[test]
fn a_full_disk_is_waited_for_and_the_end_of_the_log_is_not() {
    let mut world = World::new(&[1]);
    let term = world.term();
    // Also what the ballast keeps is to be gone.
    for _ in 0..1_000 {
        world.disk.set_capacity(Some(world.disk.used()));
        world.turn();
    }
    let mut staged = BatchBuilder::new(envelope::ENVELOPE_BYTES);
    staged.push(None, None, &Event::NodeStarted { node: 1, start: world.log.start() });
    let ticket = world.log.submit(Class::Progress, staged).expect("it is taken");
    world.turn();
    world.turn();
    let derivation = world.derive(term);
    world.turn();
    assert_eq!(derivation.outcome(), None);
    assert!(!world.machine.has_work(world.now.monotonic), "there is no room to make it by turning");
    world.disk.set_capacity(None);
    for _ in 0..2_000 {
        world.turn();
    }
    let before = ticket.try_receipt().expect("it runs").expect("there is room").index;
    assert_eq!(derivation.wait(), Some(before + 1));

    let last = world.derive(term);
    world.log.shared().stopped("it was asked to");
    assert_eq!(last.wait(), None);
    assert_eq!(world.log.leading(), None);
}
