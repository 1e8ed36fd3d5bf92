use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use ledgermq_core::event::Event;
use ledgermq_core::offset::Index;
#[cfg(feature = "testing")]
use ledgermq_core::quantity::ByteSize;

use super::*;
use crate::class::Class;
use crate::committed::CommittedBatch;
#[cfg(feature = "testing")]
use crate::config::Config;
#[cfg(feature = "testing")]
use crate::snapshots::MemoryFiles;
#[cfg(feature = "testing")]
use crate::store::simulated::{SimulatedDisk, SimulatedStore};
use crate::tail::Tail;
use crate::wake::Wake;

struct Bell(Sender<()>);

impl Wake for Bell {
    fn wake(&self) {
        let _ = self.0.send(());
    }
}

fn bell() -> (Arc<dyn Wake>, Receiver<()>) {
    let (sender, rung) = channel();
    (Arc::new(Bell(sender)), rung)
}

fn started(log: &Log, start: u64) -> Index {
    let mut events = log.builder();
    events.push(None, None, &Event::NodeStarted { node: 1, start });
    log.append(Class::Progress, events).expect("the log runs").index
}

/// Takes until the batch at `upto` came.
fn take_upto(tail: &mut Tail, upto: Index, rung: &Receiver<()>) -> Vec<Arc<CommittedBatch>> {
    let mut batches = Vec::new();
    while batches.last().is_none_or(|batch: &Arc<CommittedBatch>| batch.index < upto) {
        tail.take(1 << 20, &mut batches).expect("the log runs");
        if batches.last().is_none_or(|batch| batch.index < upto) && tail.prepare_sleep() {
            rung.recv_timeout(Duration::from_secs(10)).expect("woken by the next commit");
        }
    }
    batches
}

#[test]
fn what_was_appended_is_there_after_a_restart_with_the_same_marks() {
    let dir = tempfile::tempdir().expect("a directory");
    let (wake, rung) = bell();
    let (first, thread) = open(Options::new(dir.path(), 1)).expect("opens");
    let last = (1..=20).map(|start| started(&first, start)).max().expect("twenty");
    let mut tail = first.tail_gapless(1, Arc::clone(&wake));
    let before = take_upto(&mut tail, last, &rung);
    first.stop();
    thread.join().expect("stops");
    assert!(matches!(tail.take(1, &mut Vec::new()), Err(crate::TailError::Stopped(_))));
    let first_start = first.start();
    // The files are open as long as anybody can read them.
    drop((first, tail));

    let (second, thread) = open(Options::new(dir.path(), 1)).expect("opens again");
    assert!(second.start() > first_start);
    let mut tail = second.tail_gapless(1, wake);
    let after = take_upto(&mut tail, last, &rung);
    let shape = |batches: &[Arc<CommittedBatch>]| -> Vec<_> {
        batches.iter().map(|b| (b.index, b.time, b.producer, b.sequence, b.is_admitted())).collect()
    };
    assert_eq!(shape(&before), shape(&after));
    assert_eq!(after.len(), 20);
    assert!(after.iter().all(|batch| batch.is_admitted()));
    let again = second.read(last).expect("readable").expect("committed");
    assert_eq!(again.sequence, before.last().expect("twenty").sequence);
    second.stop();
    thread.join().expect("stops");
}

#[cfg(feature = "testing")]
fn at(monotonic: Duration) -> Now {
    Now { wall: Timestamp::from_secs(1), monotonic }
}

/// A log on a simulated disk that nobody turns.
#[cfg(feature = "testing")]
fn still(disk: &SimulatedDisk) -> (Log, LogMachine<SimulatedStore>) {
    let config = Config { file_bytes: ByteSize::mib(1), ..Config::default() };
    let beginning = Beginning {
        node: 1,
        seed: 1,
        membership: None,
        node_lost: Duration::from_secs(10),
        space: Monitor::new(&config, Box::new(disk.clone())),
        config,
        snapshots: Arc::new(MemoryFiles::default()),
        catch_up_rate: 64 << 20,
        stopwatch: Box::new(|| Duration::ZERO),
    };
    let store = SimulatedStore::open(disk).expect("opens");
    LogMachine::recover(store, beginning, at(Duration::ZERO)).expect("recovers")
}

#[test]
#[cfg(feature = "testing")]
fn the_log_thread_does_not_sleep_over_a_push_between_its_turn_and_the_look() {
    let disk = SimulatedDisk::new(1, 1 << 20);
    let (log, mut machine) = still(&disk);
    let now = Duration::from_millis(10);
    let turn = |machine: &mut LogMachine<_>| {
        machine.turn(at(now), &mut NoPeers).expect("the disk is good")
    };
    let submit = |start| {
        let mut events = log.builder();
        events.push(None, None, &Event::NodeStarted { node: 1, start });
        log.submit(Class::Progress, events).expect("accepted")
    };
    assert!(!turn(&mut machine));
    assert!(pause(&machine, log.shared(), now).is_some(), "nothing waits");
    let _ticket = submit(1);
    assert_eq!(pause(&machine, log.shared(), now), None, "it would be woken by nobody");
    turn(&mut machine);
    assert!(!log.want_mark(log.committed()));
    assert_eq!(pause(&machine, log.shared(), now), None, "the mark, too");
    disk.set_tight(true);
    turn(&mut machine);
    assert!(pause(&machine, log.shared(), now).is_some(), "a mark that finds no room can wait");

    // On a full disk there is nothing to hurry for.
    disk.set_capacity(Some(0));
    let _ticket = submit(2);
    turn(&mut machine);
    turn(&mut machine);
    let _ticket = submit(3);
    assert!(pause(&machine, log.shared(), now).is_some_and(|pause| !pause.is_zero()));
    log.stop();
    assert_eq!(pause(&machine, log.shared(), now), None);
}

#[test]
fn a_producer_sees_its_own_batches_in_the_order_of_its_pushes() {
    let dir = tempfile::tempdir().expect("a directory");
    let (wake, rung) = bell();
    let (log, thread) = open(Options::new(dir.path(), 1)).expect("opens");
    let mut producer = log.producer(Arc::clone(&wake));
    let mut tail = log.tail_gapless(1, wake);
    let mut events = producer.builder();
    let mut pushed = Vec::new();
    for start in 0..500 {
        events.push(None, None, &Event::NodeStarted { node: 2, start });
        pushed.push(producer.push(Class::Progress, &mut events).expect("room"));
    }
    let mut seen = Vec::new();
    while seen.len() < 500 {
        let mut batches = Vec::new();
        tail.take(1 << 20, &mut batches).expect("the log runs");
        for batch in &batches {
            assert_eq!(batch.producer, producer.id());
            seen.extend((0..batch.batch().len()).map(|ordinal| (batch.sequence, ordinal)));
        }
        if batches.is_empty() && tail.prepare_sleep() {
            rung.recv_timeout(Duration::from_secs(10)).expect("woken by the next commit");
        }
    }
    let expected: Vec<_> = pushed.iter().map(|pushed| (pushed.sequence, pushed.ordinal)).collect();
    assert_eq!(seen, expected);
    log.stop();
    thread.join().expect("stops");
}

#[test]
fn a_log_under_load_stops_when_it_is_asked_to() {
    let dir = tempfile::tempdir().expect("a directory");
    let (wake, _rung) = bell();
    let (log, thread) = open(Options::new(dir.path(), 1)).expect("opens");
    let before = started(&log, 1);
    let pushing: Vec<_> = (0..2)
        .map(|_| {
            let mut producer = log.producer(Arc::clone(&wake));
            let log = log.clone();
            thread::spawn(move || {
                let mut events = producer.builder();
                let mut taken = 0;
                while !matches!(log.gate(), crate::Gate::Stopped { .. }) {
                    if events.is_empty() {
                        events.push(None, None, &Event::NodeStarted { node: 2, start: 1 });
                    }
                    taken += u64::from(producer.push(Class::Progress, &mut events).is_ok());
                }
                assert!(producer.push(Class::Progress, &mut events).is_err(), "it has stopped");
                taken
            })
        })
        .collect();
    let during = started(&log, 2);
    log.stop();
    thread.join().expect("stops");
    let taken: u64 = pushing.into_iter().map(|thread| thread.join().expect("ends")).sum();
    // Whatever was taken is in the log.
    let mut tail = log.tail_gapless(before + 1, wake);
    let (mut found, mut batches) = (0, Vec::new());
    while tail.take(1 << 20, &mut batches).is_ok() {
        found += batches.drain(..).map(|batch| u64::from(batch.batch().len())).sum::<u64>();
    }
    assert!(during > before);
    assert_eq!(found, taken + 1);
}
