//! Nodes that lack what the others have purged, with real files and sockets. A fold of the payloads
//! stands in for the projections.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ledgermq_core::event::EventRef;
use ledgermq_core::offset::Index;
use ledgermq_log::{CommittedBatch, Log, LogThread, StateItem, StateTail, TailError};

use crate::cluster::{Place, append, voters, wait};
use crate::support::{Bell, stop};

/// The checksums of all payloads in order, and what was taken in beside.
#[derive(Default)]
struct Fold {
    applied: Index,
    sums: Vec<u32>,
    beside: Option<(Index, Vec<u32>)>,
    jumps: usize,
}

/// A running node; what it folded outlives it.
struct Node {
    log: Log,
    running: (Log, LogThread),
    fold: Arc<Mutex<Fold>>,
    is_over: Arc<AtomicBool>,
    folding: JoinHandle<()>,
}

fn lock(fold: &Mutex<Fold>) -> MutexGuard<'_, Fold> {
    fold.lock().expect("no panic before")
}

impl Node {
    fn run(running: (Log, LogThread), fold: Arc<Mutex<Fold>>) -> Self {
        let log = running.0.clone();
        let is_over = Arc::new(AtomicBool::new(false));
        let folding = {
            let (log, fold, is_over) = (log.clone(), Arc::clone(&fold), Arc::clone(&is_over));
            thread::spawn(move || {
                let mut tail = log.tail_state(lock(&fold).applied + 1, Bell::mute());
                while !is_over.load(Ordering::SeqCst) {
                    lock(&fold).turn(&log, &mut tail);
                    thread::sleep(Duration::from_millis(1));
                }
            })
        };
        Self { log, running, fold, is_over, folding }
    }

    fn stop(self) -> Arc<Mutex<Fold>> {
        self.is_over.store(true, Ordering::SeqCst);
        self.folding.join().expect("it folds without a panic");
        stop(self.running);
        self.fold
    }

    fn sums(&self) -> Vec<u32> {
        lock(&self.fold).sums.clone()
    }

    fn first(&self) -> Index {
        self.log.status().first_index
    }
}

impl Fold {
    fn turn(&mut self, log: &Log, tail: &mut StateTail) {
        let mut items = Vec::new();
        match tail.take(1 << 20, &mut items) {
            Err(TailError::Stopped(_)) => return,
            taken => taken.expect("readable"),
        }
        let wanted = log.cut_wanted();
        let mut cut = None;
        for item in items {
            match item {
                StateItem::Batch(batch) => {
                    if wanted.is_some_and(|index| batch.index > index) && cut.is_none() {
                        cut = Some(self.sums.clone());
                    }
                    self.fold(&batch);
                }
                StateItem::Snapshot { index } => {
                    let (at, sums) = self.beside.take().expect("it was taken in");
                    assert_eq!(at, index);
                    (self.sums, self.jumps) = (sums, self.jumps + 1);
                }
            }
        }
        if let Some(index) = wanted.filter(|index| tail.position() > *index) {
            assert!(self.applied <= index, "nothing beyond the cut was taken before");
            let sums = cut.unwrap_or_else(|| self.sums.clone());
            let mut writer = log.begin_cut(index, 4 * sums.len() as u64).expect("it is wanted");
            for sum in &sums {
                writer.write_all(&sum.to_le_bytes()).expect("room");
            }
            writer.finish(sums.len() as u64).expect("room");
        }
        self.applied = tail.position() - 1;
        self.import(log);
        log.checkpointed(self.applied);
        log.purge_allowed(self.applied);
    }

    fn fold(&mut self, batch: &CommittedBatch) {
        for record in batch.batch().records() {
            let record = record.expect("a record");
            if let EventRef::MessagePublished(message) = record.event().expect("an event") {
                self.sums.push(crc32c::crc32c(message.payload));
            }
        }
    }

    fn import(&mut self, log: &Log) {
        let Some(incoming) = log.incoming() else {
            self.beside = None;
            return;
        };
        if self.beside.is_none() {
            let mut bytes = Vec::new();
            incoming.open().expect("there").read_to_end(&mut bytes).expect("whole");
            let sums =
                bytes.chunks_exact(4).map(|sum| u32::from_le_bytes([0, 1, 2, 3].map(|i| sum[i])));
            let sums: Vec<u32> = sums.collect();
            assert_eq!(sums.len() as u64, incoming.checksum);
            self.beside = Some((incoming.index, sums));
            log.imported(incoming.index, Ok(()));
        }
    }
}

/// Appends so much that a small log drops what was there.
fn fill(log: &Log) -> Index {
    let payload = |at: usize| format!("{at}:{}", "x".repeat(64 << 10));
    (0..160).map(|at| append(log, &payload(at))).max().expect("some")
}

#[test]
fn a_node_that_was_away_too_long_goes_on_from_a_snapshot() {
    let places = [1, 2, 3].map(Place::small);
    let first = Node::run(places[0].open(), Arc::default());
    let second = Node::run(places[1].join(&places[0]), Arc::default());
    let third = Node::run(places[2].join(&places[0]), Arc::default());
    wait("all vote", || voters(&third.log) == 3);
    let last = append(&third.log, "before");
    wait("it is there", || lock(&third.fold).applied >= last);
    let behind = third.log.committed();
    let kept = third.stop();
    assert_eq!(lock(&kept).sums.len(), 1);
    let last = fill(&first.log);
    wait("the others have dropped it", || {
        [&first, &second].iter().all(|node| node.first() > behind + 1)
    });
    let third = Node::run(places[2].open(), kept);
    wait("it caught up", || lock(&third.fold).applied >= last);
    assert_eq!(lock(&third.fold).jumps, 1);
    assert!(third.first() > behind + 1);
    let last = append(&third.log, "after");
    for node in [&first, &second, &third] {
        wait("all have it", || lock(&node.fold).applied >= last);
        assert_eq!(node.sums().len(), 162);
        assert_eq!(node.sums(), first.sums());
    }
    // It is told with the next tick.
    let counts = || {
        let sent = [&first, &second].map(|node| node.log.cluster_status().snapshots.sent);
        (sent.iter().sum::<u64>(), third.log.cluster_status().snapshots.received)
    };
    wait("it is told", || counts() == (1, 1));
    // What is on the disk is whole, too.
    let kept = third.stop();
    let third = Node::run(places[2].open(), kept);
    let last = append(&third.log, "again");
    wait("it is there", || lock(&third.fold).applied >= last);
    assert_eq!((third.sums().len(), lock(&third.fold).jumps), (163, 1));
    [third, second, first].into_iter().for_each(|node| drop(node.stop()));
}

#[test]
fn nodes_join_behind_a_log_that_begins_late() {
    let places = [1, 2, 3].map(Place::small);
    let first = Node::run(places[0].open(), Arc::default());
    wait("the cluster is founded", || voters(&first.log) == 1);
    fill(&first.log);
    wait("it begins late", || first.first() > 1);
    let second = Node::run(places[1].join(&places[0]), Arc::default());
    let third = Node::run(places[2].join(&places[0]), Arc::default());
    wait("all vote", || [&second, &third].iter().all(|node| voters(&node.log) == 3));
    let last = append(&third.log, "after");
    for node in [&first, &second, &third] {
        wait("all have it", || lock(&node.fold).applied >= last);
        assert_eq!(node.sums().len(), 161);
        assert_eq!(node.sums(), first.sums());
    }
    assert_eq!([&second, &third].map(|node| lock(&node.fold).jumps), [1, 1]);
    [third, second, first].into_iter().for_each(|node| drop(node.stop()));
}
