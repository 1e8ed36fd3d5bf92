//! From one projector to another: cut here, installed there, folded on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ledgermq_core::event::DeliveryRef;
use ledgermq_core::offset::{Index, Offset, Timestamp};
use ledgermq_log::CommittedBatch;
use ledgermq_projections::checkpoint::{Imported, MemoryStore, Meta, Store, export, import};
use ledgermq_projections::notice::Notice;
use ledgermq_projections::projector::{Events, InstallError, Output, Projector};
use ledgermq_projections::views::Views;
use ledgermq_projections::views::owed::OwedSource;
use ledgermq_projections::views::retained::RetainedMessage;
use proptest::prelude::*;

use crate::checkpoint::{OPTIONS, line, seen};
use crate::support::{World, owed};

/// A projector with its store, turned by hand. What it asks the store for is answered when it is told to.
struct Node {
    projector: Projector,
    store: MemoryStore,
    /// Asked for and not answered.
    jobs: VecDeque<Output>,
    /// Everything else that it wanted.
    out: Vec<Output>,
    notices: Vec<Notice>,
    now: Timestamp,
    taken: usize,
    /// The last cut, and what it came to.
    cut: Option<(Meta, Vec<u8>)>,
    /// The snapshot that is here.
    incoming: Option<(Meta, Vec<u8>)>,
}

impl Node {
    fn new() -> Self {
        Self::on(MemoryStore::default())
    }

    fn on(store: MemoryStore) -> Self {
        let mut held = store.clone();
        let projector = Projector::open(OPTIONS, &mut held, 1, 1_000).expect("it is sound");
        let taken = usize::try_from(projector.next_index() - 1).expect("small");
        Self {
            projector,
            store,
            jobs: VecDeque::new(),
            out: Vec::new(),
            notices: Vec::new(),
            now: Timestamp::from_secs(1_000),
            taken,
            cut: None,
            incoming: None,
        }
    }

    /// Takes the batches up to number `upto`.
    fn turn(&mut self, batches: &[Arc<CommittedBatch>], upto: usize) {
        let new = batches.get(self.taken..upto).unwrap_or_default();
        self.taken += new.len();
        self.projector.set_lead(None, self.taken as Index);
        let (notices, out) = (&mut self.notices, &mut self.out);
        self.projector.turn(self.now, Timestamp(0), new, notices, out).expect("it can be folded");
        self.sort();
    }

    fn sort(&mut self) {
        for output in self.out.split_off(0) {
            match output {
                Output::Save(_)
                | Output::Keep { .. }
                | Output::Cut(_)
                | Output::Import { .. }
                | Output::TakePlace
                | Output::Discard => self.jobs.push_back(output),
                other => self.out.push(other),
            }
        }
    }

    /// The store does the next thing.
    fn work(&mut self, batches: &[Arc<CommittedBatch>]) {
        let Some(job) = self.jobs.pop_front() else { return };
        let (now, out) = (self.now, &mut self.out);
        match job {
            Output::Save(changes) => {
                let result = self.store.commit(&changes);
                self.projector.saved(now, result, out);
            }
            Output::Keep { upto, messages } => {
                let copies = copies(batches, &messages);
                let is_kept = self.store.keep(upto, &copies).is_ok();
                self.projector.kept(now, is_kept.then_some(upto), &messages, out);
            }
            Output::Cut(index) => {
                let mut stream = Vec::new();
                let meta = export(&mut self.store, index, &mut stream).expect("it stands there");
                self.cut = Some((meta, stream));
            }
            Output::Import { index, checksum } => {
                let (_, stream) = self.incoming.as_ref().expect("it was announced");
                let stream = &mut stream.as_slice();
                let limits = OPTIONS.limits;
                let result = import(&mut self.store, stream, limits, index, checksum);
                self.projector.imported(now, result.map(Box::new), out);
            }
            Output::TakePlace => {
                let result = self.store.take_place();
                self.projector.took_place(now, result, out).expect("it goes on");
            }
            Output::Discard => self.store.beside().discard().expect("it has room"),
            other => unreachable!("{other:?}"),
        }
        self.sort();
    }

    /// Turns and works until nothing is left to do.
    fn settle(&mut self, batches: &[Arc<CommittedBatch>]) {
        loop {
            self.turn(batches, self.taken);
            if self.jobs.is_empty() {
                return;
            }
            self.work(batches);
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now.plus(Duration::from_secs(seconds));
    }

    fn want_cut(&mut self, index: Option<Index>) {
        self.projector.cut_wanted(index, &mut self.out);
    }

    /// A cut at `index`, of which everything is applied.
    fn cut_at(&mut self, batches: &[Arc<CommittedBatch>], index: Index) -> (Meta, Vec<u8>) {
        self.want_cut(Some(index));
        self.settle(batches);
        self.cut.take().expect("it was cut")
    }

    /// Takes the snapshot in; the log is told that it is here.
    fn take_in(&mut self, snapshot: (Meta, Vec<u8>)) {
        let Meta { applied, checksum, .. } = snapshot.0;
        self.incoming = Some(snapshot);
        self.projector.incoming(self.now, Some((applied, checksum)), &mut self.out);
        self.settle(&[]);
    }

    /// Takes the snapshot in, and the log jumps.
    fn install(&mut self, snapshot: (Meta, Vec<u8>)) {
        let index = snapshot.0.applied;
        self.take_in(snapshot);
        let told = |output: &Output| matches!(output, Output::Imported { index: at, result: Ok(()) } if *at == index);
        assert!(self.out.iter().any(told), "{:?}", self.out);
        self.projector.jumped(index).expect("it was taken in");
        self.taken = usize::try_from(index).expect("small");
        self.settle(&[]);
    }

    fn views<T>(&self, look: impl FnOnce(&Views) -> T) -> T {
        self.projector.reader().with(look)
    }
}

fn copies(batches: &[Arc<CommittedBatch>], messages: &[Offset]) -> Vec<RetainedMessage> {
    let mut copies = Vec::new();
    for at in messages {
        // What is gone from the log is passed over.
        let batch = batches.iter().find(|batch| batch.index == at.index);
        batch.into_iter().for_each(|batch| RetainedMessage::copy(batch, &[*at], &mut copies));
    }
    copies
}

/// Whatever is owed at or below `upto` can be read.
fn check_kept(
    node: &Node,
    batches: &[Arc<CommittedBatch>],
    upto: Index,
) -> Result<(), TestCaseError> {
    let reader = node.projector.reader();
    for at in node.views(|views| views.owed_between(0, upto)) {
        let kept = reader.kept(at).expect("it can be read");
        let expected = copies(batches, &[at]).pop();
        prop_assert_eq!(kept.as_deref(), expected.as_ref(), "kept {}", at);
    }
    for client in ["a", "b", "c"] {
        for held in node.views(|views| owed(views, client, DeliveryRef::default())) {
            let is_below = held.message.at.index <= upto;
            prop_assert!(!(is_below && matches!(held.source, OwedSource::Log)), "{:?}", held);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// *fold(all) == fold(rest) after install(cut at k)*, whatever is under way when the cut is wanted,
    /// and the one that cut loses nothing by it.
    #[test]
    fn folding_the_rest_behind_a_snapshot_gives_the_same(
        lines in prop::collection::vec(line(), 1..40),
        before in 0..40_usize,
        (here, there) in (0..40_usize, 0..40_usize),
        chances in prop::collection::vec((0..4_usize, 0..3_usize, any::<bool>(), 0..7_u64), 1..40),
    ) {
        let mut world = World::new(OPTIONS.limits);
        let mut now = 0;
        for (line, _) in &lines {
            let (pause, batch) = line.split_once('|').expect("as written");
            now += pause.parse::<u64>().expect("seconds");
            world.fold(&format!("time {now}\n{batch}"));
        }
        let batches = &world.batches;
        let all = batches.len();
        let at = 1 + here % all;
        let index = at as Index;
        // It goes its way, and somewhere the cut is wanted.
        let mut leader = Node::new();
        let is_wanted_at = before % (at + 1);
        for (batches_now, works, fails, passes) in chances.iter().cycle().take(400) {
            let upto = (leader.taken + batches_now).min(all);
            if upto >= is_wanted_at && leader.cut.is_none() {
                leader.want_cut(Some(index));
            }
            // The cut is wanted before anything beyond it is handed out.
            let upto = if upto > at && leader.taken <= at { upto.max(at) } else { upto };
            if upto > at {
                leader.want_cut(Some(index));
            }
            leader.turn(batches, upto);
            leader.store.set_failing(*fails);
            (0..*works).for_each(|_| leader.work(batches));
            leader.pass(*passes);
        }
        leader.store.set_failing(false);
        leader.want_cut(Some(index));
        leader.turn(batches, all);
        for _ in 0..4 {
            leader.pass(10);
            leader.settle(batches);
        }
        let (meta, stream) = leader.cut.take().expect("it was cut");
        prop_assert_eq!(meta.applied, index);
        let refused = leader.out.iter().any(|output| matches!(output, Output::CutFailed(_)));
        prop_assert!(!refused);

        // Nothing is missing where it was cut.
        let expected = seen(&world.views);
        prop_assert_eq!(&leader.views(seen), &expected);
        leader.settle(batches);
        let last = leader.store.meta().expect("it can be read").expect("it was written");
        prop_assert_eq!((last.applied, last.checksum), (all as Index, world.views.checksum()));
        check_kept(&leader, batches, index)?;
        let again = Node::on(leader.store.clone());
        prop_assert_eq!(&again.views(seen), &expected);

        // Another one that had come less far gets it.
        let mut follower = Node::new();
        follower.turn(batches, there % at);
        follower.pass(10);
        follower.settle(batches);
        follower.notices.clear();
        follower.install((meta, stream));
        prop_assert!(follower.notices.is_empty());
        prop_assert_eq!(follower.projector.next_index(), index + 1);
        let reader = follower.projector.reader();
        prop_assert_eq!((reader.applied(), reader.checkpointed()), (index, index));
        check_kept(&follower, batches, index)?;
        follower.turn(batches, all);
        prop_assert_eq!(&follower.views(seen), &expected);
        prop_assert_eq!(reader.owed_messages(), world.views.owed_messages() as u64);
        check_kept(&follower, batches, index)?;
        // And so does its checkpoint.
        follower.pass(10);
        follower.settle(batches);
        let again = Node::on(follower.store.clone());
        prop_assert_eq!(&again.views(seen), &expected);
        check_kept(&again, batches, index)?;
    }
}

const LINES: &str = "open a expiry=never; open b expiry=never
    sub a # qos=1; sub b x qos=1
    pub p x 1 qos=1 retain
    pub p y 2 qos=1
    pub p x 3 qos=1
    pub p y 4 qos=1 retain";

fn world() -> World {
    let mut world = World::new(OPTIONS.limits);
    world.fold(LINES);
    world
}

fn told(node: &Node, what: impl Fn(&Output) -> bool) -> usize {
    node.out.iter().filter(|output| what(output)).count()
}

#[test]
fn nothing_waits_for_a_cut_but_saves() {
    let world = world();
    let mut node = Node::new();
    node.turn(&world.batches, 2);
    assert!(matches!(node.jobs[0], Output::Save(_)));
    node.want_cut(Some(4));
    // A save is under way, and batches beyond the cut come: they are applied at once.
    node.turn(&world.batches, 6);
    assert_eq!(node.projector.reader().applied(), 6);
    assert_eq!(node.jobs.len(), 1);
    node.work(&world.batches);
    node.turn(&world.batches, 6);
    assert!(matches!(&node.jobs[0], Output::Save(changes) if changes.applied == 4));
    node.work(&world.batches);
    // Nothing else is saved before it was written out.
    node.pass(60);
    node.turn(&world.batches, 6);
    assert!(matches!(&node.jobs[0], Output::Keep { upto: 4, messages } if messages.len() == 2));
    assert_eq!(node.jobs.len(), 1);
    node.work(&world.batches);
    node.turn(&world.batches, 6);
    let jobs: Vec<_> = node.jobs.iter().collect();
    assert!(matches!(jobs[..], [Output::Cut(4), Output::Save(_)]), "{jobs:?}");
    node.settle(&world.batches);
    let (meta, _) = node.cut.take().expect("it was cut");
    assert_eq!(meta.applied, 4);
    // It is done once.
    node.want_cut(Some(4));
    node.settle(&world.batches);
    assert!(node.cut.is_none());
    assert_eq!(node.store.meta().unwrap().unwrap().checksum, world.views.checksum());
}

#[test]
fn a_cut_behind_the_last_batch_stands_at_its_own_index() {
    let world = world();
    let mut node = Node::new();
    node.turn(&world.batches, 6);
    node.want_cut(Some(8));
    node.settle(&world.batches);
    assert!(node.cut.is_none(), "two entries are still to come");
    node.projector.set_lead(None, 8);
    let (notices, out) = (&mut node.notices, &mut node.out);
    node.projector.turn(node.now, Timestamp(0), &[], notices, out).expect("nothing to fold");
    node.pass(10);
    node.settle(&world.batches);
    let (meta, stream) = node.cut.take().expect("they held no batches");
    assert_eq!((meta.applied, meta.checksum), (8, world.views.checksum()));
    let mut other = Node::new();
    other.install((meta, stream));
    assert_eq!(other.projector.next_index(), 9);
    assert_eq!(other.views(seen), seen(&world.views));
}

#[test]
fn a_cut_that_was_passed_is_refused_and_one_that_is_given_up_loses_nothing() {
    let world = world();
    let mut node = Node::new();
    node.turn(&world.batches, 3);
    node.want_cut(Some(2));
    assert_eq!(told(&node, |output| matches!(output, Output::CutFailed(2))), 1);
    // The disk is full: what is taken at the cut waits behind what could not be saved.
    node.settle(&world.batches);
    node.store.set_failing(true);
    node.turn(&world.batches, 4);
    node.pass(10);
    node.settle(&world.batches);
    node.want_cut(Some(5));
    node.turn(&world.batches, 6);
    node.pass(10);
    node.settle(&world.batches);
    node.want_cut(None);
    node.want_cut(Some(6));
    assert_eq!(told(&node, |output| matches!(output, Output::CutFailed(6))), 1);
    node.store.set_failing(false);
    for _ in 0..3 {
        node.pass(10);
        node.settle(&world.batches);
    }
    assert!(node.cut.is_none());
    assert_eq!(Node::on(node.store.clone()).views(seen), seen(&world.views));
    // The next one is had.
    node.want_cut(None);
    assert_eq!(node.cut_at(&world.batches, 6).0.applied, 6);
}

#[test]
fn copies_that_fail_are_made_again_for_a_cut() {
    let world = world();
    let mut node = Node::new();
    node.turn(&world.batches, 6);
    node.settle(&world.batches);
    node.want_cut(Some(6));
    node.turn(&world.batches, 6);
    assert!(matches!(node.jobs[0], Output::Keep { .. }), "it is saved already");
    node.store.set_failing(true);
    node.settle(&world.batches);
    assert!(node.cut.is_none());
    assert!(node.projector.wake_at(node.now, Timestamp(0)) > Some(node.now));
    node.store.set_failing(false);
    node.pass(2);
    node.settle(&world.batches);
    assert!(node.cut.is_some());
}

/// A snapshot of all lines.
fn snapshot(world: &World) -> (Meta, Vec<u8>) {
    let mut node = Node::new();
    node.turn(&world.batches, world.batches.len());
    node.cut_at(&world.batches, world.history.last_index())
}

#[test]
fn a_refused_snapshot_is_answered_with_the_reason_and_a_failing_store_tries_again() {
    let world = world();
    let (meta, mut stream) = snapshot(&world);
    let mut node = Node::new();
    node.store.set_failing(true);
    node.take_in((meta, stream.clone()));
    assert_eq!(told(&node, |output| matches!(output, Output::Imported { .. })), 0);
    let wake = node.projector.wake_at(node.now, Timestamp(0)).expect("it tries again");
    assert!(wake > node.now);
    node.pass(1);
    node.settle(&[]);
    node.store.set_failing(false);
    node.pass(1);
    node.settle(&[]);
    let is_in = |output: &Output| matches!(output, Output::Imported { index: 6, result: Ok(()) });
    assert_eq!(told(&node, is_in), 1);
    // It is there already, and the log may ask for the same again.
    node.take_in((meta, stream.clone()));
    assert_eq!(told(&node, is_in), 2);
    assert!(node.jobs.is_empty());

    // Not for ever.
    let mut node = Node::new();
    node.store.set_failing(true);
    node.take_in((meta, stream.clone()));
    for _ in 0..20 {
        node.pass(1);
        node.settle(&[]);
    }
    let is_out = |output: &Output| matches!(output, Output::Imported { result: Err(_), .. });
    assert_eq!(told(&node, is_out), 1);

    let mut node = Node::new();
    let whole = stream.clone();
    stream.truncate(100);
    node.take_in((meta, stream.clone()));
    let Some(Output::Imported { index: 6, result: Err(why) }) = node.out.pop() else {
        unreachable!("{:?}", node.out)
    };
    assert_eq!(why, "the snapshot is refused: it is cut short");
    node.take_in((meta, stream.clone()));
    assert_eq!(told(&node, is_out), 0, "the log knows");
    // What is shown for longer was sent again.
    node.pass(1);
    node.take_in((meta, stream));
    assert_eq!(told(&node, is_out), 1);
    // When it was withdrawn it may come again, whole.
    node.projector.incoming(node.now, None, &mut node.out);
    node.take_in((meta, whole));
    assert_eq!(told(&node, is_in), 1);
}

#[test]
fn a_snapshot_that_was_not_needed_is_thrown_away_when_the_log_has_come_as_far() {
    let world = world();
    let mut node = Node::new();
    node.take_in(snapshot(&world));
    assert!(node.store.beside().meta().unwrap().is_some());
    node.turn(&world.batches, 5);
    node.settle(&world.batches);
    assert!(node.store.beside().meta().unwrap().is_some());
    node.turn(&world.batches, 6);
    node.settle(&world.batches);
    assert_eq!(node.store.beside().meta().unwrap(), None);
    // One that comes later still is not taken in: raft has no use for it.
    node.out.clear();
    node.take_in(snapshot(&world));
    let is_in = |output: &Output| matches!(output, Output::Imported { index: 6, result: Ok(()) });
    assert_eq!(told(&node, is_in), 1);
    assert_eq!(node.store.beside().meta().unwrap(), None);
    assert!(matches!(node.projector.jumped(6), Err(InstallError::NotHere(6))));
}

#[test]
fn a_newer_snapshot_replaces_one_that_was_not_installed() {
    let mut world = world();
    let first = snapshot(&world);
    world.fold("pub p x 5 qos=1");
    let second = snapshot(&world);
    let mut node = Node::new();
    node.take_in(first);
    node.install(second);
    assert_eq!(node.views(seen), seen(&world.views));
}

#[test]
fn a_jump_without_a_snapshot_is_an_error() {
    let mut node = Node::new();
    let error = node.projector.jumped(6).expect_err("there is none");
    assert!(error.to_string().contains("jumped to index 6"), "{error}");
    let world = world();
    node.take_in(snapshot(&world));
    assert!(matches!(node.projector.jumped(5), Err(InstallError::NotHere(5))));
}

#[test]
fn what_the_old_state_left_to_be_done_is_forgotten() {
    let world = world();
    let snapshot = snapshot(&world);
    let mut node = Node::new();
    node.turn(&world.batches, 3);
    node.settle(&world.batches);
    node.store.set_failing(true);
    node.turn(&world.batches, 4);
    node.pass(10);
    node.settle(&world.batches);
    node.store.set_failing(false);
    // Its changes could not be saved, a cut is wanted, and a purge.
    node.want_cut(Some(5));
    node.projector.purge_wanted(Some(3));
    node.out.clear();
    node.install(snapshot);
    node.pass(10);
    node.settle(&world.batches);
    assert_eq!(node.store.meta().unwrap().unwrap().applied, 6);
    assert_eq!(node.store.meta().unwrap().unwrap().checksum, world.views.checksum());
    assert_eq!(told(&node, |output| matches!(output, Output::Checkpointed(6))), 1);
    assert_eq!(told(&node, |output| matches!(output, Output::PurgeAllowed(6))), 1);
    assert_eq!(Node::on(node.store.clone()).views(seen), seen(&world.views));
}

#[test]
fn a_store_that_puts_nothing_in_place_is_asked_again_and_not_for_ever() {
    let world = world();
    for mends in [true, false] {
        let mut node = Node::new();
        node.take_in(snapshot(&world));
        node.projector.jumped(6).expect("it was taken in");
        assert!(node.projector.is_installing());
        node.store.set_failing(true);
        node.settle(&[]);
        assert!(node.projector.is_installing());
        assert!(node.projector.wake_at(node.now, Timestamp(0)) > Some(node.now));
        if mends {
            node.store.set_failing(false);
            node.pass(1);
            node.settle(&[]);
            assert_eq!(node.views(seen), seen(&world.views));
            continue;
        }
        let mut result = Ok(());
        for _ in 0..20 {
            node.pass(1);
            node.turn(&[], node.taken);
            if node.jobs.pop_front().is_some() {
                let failed = node.store.take_place();
                result = result.and(node.projector.took_place(node.now, failed, &mut node.out));
            }
        }
        assert!(matches!(result, Err(InstallError::Store(_))), "{result:?}");
    }
}

/// How the start of a process ends that lies before, in or behind what is skipped.
#[test]
fn the_start_of_the_process_is_known_or_appended_again() {
    let start = Events::NodeStarted { node: 1, start: 1 };
    let appended = |node: &Node| {
        told(node, |output| matches!(output, Output::Append(events) if *events == start))
    };
    let mut world = World::new(OPTIONS.limits);
    world.fold("node 1 1\n open c");
    // It was ready, and what is skipped knows of it.
    let mut node = Node::new();
    node.turn(&world.batches, 0);
    node.projector.appended(node.now, Some(1));
    node.turn(&world.batches, 1);
    let reader = node.projector.reader();
    assert!(reader.is_ready_as(1));
    node.take_in(snapshot(&world));
    node.projector.jumped(2).expect("it was taken in");
    assert!(!reader.is_ready(), "the views are not there");
    node.settle(&[]);
    assert!(reader.is_ready_as(1));
    assert_eq!(appended(&node), 1);

    // It has its place and was not read.
    let mut node = Node::new();
    node.turn(&[], 0);
    node.projector.appended(node.now, Some(1));
    node.install(snapshot(&world));
    assert!(node.projector.reader().is_ready_as(1));
    assert_eq!(appended(&node), 1);

    // Nobody knows whether it is in the log: the log will say.
    let mut node = Node::new();
    node.turn(&[], 0);
    node.install(snapshot(&world));
    assert!(!node.projector.reader().is_ready());
    node.projector.appended(node.now, Some(2));
    assert!(node.projector.reader().is_ready_as(1));

    // Or another incarnation begins meanwhile, which is to be known by its own start.
    let mut node = Node::new();
    node.turn(&[], 0);
    node.install(snapshot(&world));
    node.projector.renew(2);
    node.projector.appended(node.now, None);
    node.pass(1);
    node.settle(&[]);
    let again = Events::NodeStarted { node: 1, start: 2 };
    let is_again = |output: &Output| matches!(output, Output::Append(events) if *events == again);
    assert_eq!(told(&node, is_again), 1);
    node.projector.appended(node.now, Some(3));
    world.fold("node 1 2; open d");
    node.turn(&world.batches, 3);
    assert!(node.projector.reader().is_ready_as(2));
    assert_eq!(node.notices.len(), 1, "of what came behind its start");

    // It lies behind what is skipped.
    let mut other = World::new(OPTIONS.limits);
    other.fold("open c");
    let behind = snapshot(&other);
    let mut node = Node::new();
    node.turn(&[], 0);
    node.projector.appended(node.now, Some(2));
    node.install(behind.clone());
    assert!(!node.projector.reader().is_ready());
    other.fold("node 1 1");
    node.turn(&other.batches, 2);
    assert!(node.projector.reader().is_ready_as(1));

    // It was ready, and another start of the node lies in what is skipped: it begins again.
    let mut other = World::new(OPTIONS.limits);
    other.fold("node 1 1\n node 1 7");
    let mut node = Node::new();
    node.turn(&[], 0);
    node.projector.appended(node.now, Some(1));
    node.turn(&other.batches, 1);
    node.install(snapshot(&other));
    assert!(!node.projector.reader().is_ready());
    node.pass(1);
    node.settle(&[]);
    assert_eq!(appended(&node), 2);
}

#[test]
fn imported_views_show_what_they_are() {
    let world = world();
    let (meta, stream) = snapshot(&world);
    let mut store = MemoryStore::default();
    let limits = OPTIONS.limits;
    let imported: Imported =
        import(&mut store, &mut &stream[..], limits, 6, meta.checksum).expect("it is sound");
    assert!(format!("{imported:?}").contains("applied: 6"));
}
