//! A process that the others gave up begins anew.

use std::sync::Arc;
use std::time::Duration;

use ledgermq_core::event::{BatchBuilder, Event};

use super::*;
use crate::class::Class;
use crate::clock::Now;
use crate::cluster::{Frame, JoinAnswer, Local, NoPeers, Peers, Sent};
use crate::error::AppendError;
use crate::log::Log;
use crate::machine::testing::{START, beginning};
use crate::store::simulated::{SimulatedDisk, SimulatedStore};
use crate::wake::Wake;

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

struct World {
    log: Log,
    machine: LogMachine<SimulatedStore>,
    now: Now,
}

impl World {
    fn open(disk: &SimulatedDisk) -> Self {
        let store = SimulatedStore::open(disk).expect("it opens");
        let (log, machine) =
            LogMachine::recover(store, beginning(1, disk), START).expect("it is sound");
        Self { log, machine, now: START }
    }

    fn turn(&mut self) {
        self.now.monotonic += Duration::from_millis(10);
        self.machine.turn(self.now, &mut NoPeers).expect("a good disk");
    }

    /// Leaves no room on the disk, also not what the ballast keeps.
    fn fill(&mut self, disk: &SimulatedDisk) {
        for _ in 0..1_000 {
            disk.set_capacity(Some(disk.used()));
            self.turn();
        }
        assert!(!self.log.status().ballast);
    }

    /// What the log holds: start, producer, sequence, whether it counts.
    fn batches(&self) -> Vec<(u64, u16, u64, bool)> {
        let mut tail = self.log.tail_gapless(1, Arc::new(NoWake));
        let mut batches = Vec::new();
        while tail.position() <= self.log.committed() {
            tail.take(usize::MAX, &mut batches).expect("all is there");
        }
        let of = |batch: &crate::CommittedBatch| {
            let producer = batch.producer;
            (producer.start, producer.local, batch.sequence, batch.is_admitted())
        };
        batches.iter().map(|batch| of(batch)).collect()
    }
}

fn one(event: &Event) -> BatchBuilder {
    let mut events = BatchBuilder::new(crate::envelope::ENVELOPE_BYTES);
    events.push(None, None, event);
    events
}

fn started(start: u64) -> BatchBuilder {
    one(&Event::NodeStarted { node: 1, start })
}

#[test]
fn a_process_that_reads_of_its_own_loss_takes_the_next_number() {
    let disk = SimulatedDisk::new(1, 1 << 20);
    let mut world = World::open(&disk);
    let first = world.log.incarnation();
    let mut producer = world.log.producer(Arc::new(NoWake));
    let start = world.log.submit(Class::Progress, started(first)).expect("taken");
    world.turn();
    assert!(start.try_receipt().expect("it runs").is_some());
    let term = world.log.leading().expect("it is alone").term;
    let lost = world.log.derive(term, one(&Event::NodeLost { node: 1, start: first }));
    world.turn();
    assert_eq!(lost.outcome(), Some(Some(3)), "nothing else was said by then");
    assert_eq!(world.log.incarnation(), first + 1);

    // What waits from before is not taken, a producer has to look who it is.
    let mut events = started(first);
    producer.push(Class::Progress, &mut events).expect_err("it is another");
    assert!(producer.renew());
    assert!(!producer.renew());
    assert_eq!(producer.id().start, first + 1);
    assert_eq!(producer.push(Class::Progress, &mut events).expect("room").sequence, 1);
    let again = world.log.submit(Class::Progress, started(first + 1)).expect("taken");
    world.turn();
    assert!(again.try_receipt().expect("it runs").is_some());
    let batches = world.batches();
    assert_eq!(batches.len(), 4);
    assert!(batches.contains(&(first + 1, 0, 1, true)));
    assert!(batches.contains(&(first + 1, producer.id().local, 1, true)));
}

#[test]
fn what_waits_is_thrown_away_and_its_appender_told() {
    let disk = SimulatedDisk::new(1, 1 << 20);
    let mut world = World::open(&disk);
    let first = world.log.incarnation();
    let kept = world.log.submit(Class::Progress, started(first)).expect("taken");
    world.turn();
    // A full disk holds what comes next up.
    world.fill(&disk);
    let held = world.log.submit(Class::Progress, started(first)).expect("taken");
    world.turn();
    let waits = world.log.submit(Class::Progress, started(first)).expect("taken");
    world.log.renew_incarnation();
    world.turn();
    assert_eq!(world.log.incarnation(), first + 1);
    assert!(kept.try_receipt().expect("it was committed").is_some());
    for ticket in [held, waits] {
        assert!(matches!(ticket.try_receipt(), Err(AppendError::Refused { .. })));
    }
    disk.set_capacity(None);
    let next = world.log.submit(Class::Progress, started(first + 1)).expect("taken");
    for _ in 0..2_000 {
        world.turn();
    }
    assert!(next.try_receipt().expect("it runs").is_some());
    // What raft had was committed and counts; what waited is nowhere.
    let expected = [(first, 0, 1, true), (first, 0, 2, true), (first + 1, 0, 1, true)];
    assert_eq!(world.batches(), expected);
}

#[test]
fn the_next_process_takes_a_number_beyond_all_that_this_one_had() {
    let disk = SimulatedDisk::new(1, 1 << 20);
    let mut world = World::open(&disk);
    let first = world.log.incarnation();
    for _ in 0..5 {
        world.log.renew_incarnation();
        world.turn();
    }
    world.turn();
    assert_eq!(world.log.incarnation(), first + 5);
    drop(world);
    disk.crash();
    assert!(World::open(&disk).log.incarnation() > first + 5);
}

/// Batches leave for others before this node has synced anything of its own.
#[test]
fn a_number_outlives_the_process_before_anything_is_sent_under_it() {
    let disk = SimulatedDisk::new(1, 1 << 20);
    let mut world = World::open(&disk);
    let first = world.log.incarnation();
    world.log.renew_incarnation();
    world.turn();
    assert_eq!(world.log.incarnation(), first + 1);
    world.machine.keep_number(world.now).expect("a good disk");
    // The power fails behind it, in the same turn.
    drop(world);
    disk.crash();
    assert!(World::open(&disk).log.incarnation() > first + 1);
}

#[test]
fn nothing_is_proposed_before_the_number_is_written_down() {
    let disk = SimulatedDisk::new(1, 1 << 20);
    let mut world = World::open(&disk);
    world.turn();
    world.log.renew_incarnation();
    world.turn();
    let ticket = world.log.submit(Class::Progress, started(world.log.incarnation()));
    let ticket = ticket.expect("there is room");
    assert!(!world.machine.has_work(world.now.monotonic), "it has no way yet");
    world.turn();
    assert!(ticket.try_receipt().expect("it runs").is_some());
}

/// What greetings say, by what the machine told the peers.
#[derive(Default)]
struct Greetings(Vec<u64>);

impl Peers for Greetings {
    fn send(&mut self, _to: u64, _frame: &Frame) -> Sent {
        Sent::Down
    }

    fn update(&mut self, local: &Local) {
        self.0.push(local.start);
    }

    fn answer(&mut self, _id: u64, _answer: JoinAnswer) {}
}

/// Whoever is greeted by the number of a process that was lost takes its disk for a copy, and does not
/// speak with it for half a minute.
#[test]
fn greetings_say_the_new_number_as_soon_as_it_is_written_down() {
    let disk = SimulatedDisk::new(1, 1 << 20);
    let mut world = World::open(&disk);
    let mut peers = Greetings::default();
    let first = world.log.incarnation();
    let mut turn = |world: &mut World| {
        world.now.monotonic += Duration::from_millis(1);
        world.machine.turn(world.now, &mut peers).expect("a good disk");
        peers.0.last().copied()
    };
    assert_eq!(turn(&mut world), Some(first));
    world.log.renew_incarnation();
    assert_eq!(turn(&mut world), Some(first), "it is not written down yet");
    assert_eq!(world.log.incarnation(), first + 1);
    assert_eq!(turn(&mut world), Some(first + 1));
}
