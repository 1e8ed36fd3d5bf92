//! The projector, turned by hand.

use std::sync::Arc;
use std::time::Duration;

use ledgermq_core::event::DeliveryRef;
use ledgermq_core::offset::{Offset, Timestamp};
use ledgermq_core::packet::QoS;
use ledgermq_log::CommittedBatch;
use ledgermq_projections::checkpoint::{Changes, MemoryStore, Store};
use ledgermq_projections::notice::Notice;
use ledgermq_projections::projector::{Events, Options, Output, Projector};
use ledgermq_projections::views::Limits;
use ledgermq_projections::views::owed::OwedSource;
use ledgermq_projections::views::retained::RetainedMessage;

use crate::support::{EPOCH, World, owed};

/// A projector over a memory store; the world makes its batches.
struct Turned {
    world: World,
    store: MemoryStore,
    projector: Projector,
    taken: usize,
    now: Timestamp,
    log_time: Timestamp,
    notices: Vec<Notice>,
    out: Vec<Output>,
}

impl Turned {
    fn new(world: World, store: MemoryStore) -> Self {
        let options = Options {
            node: 1,
            start: 1,
            limits: Limits::default(),
            checkpoint_interval: Duration::from_secs(5),
        };
        let mut held = store.clone();
        let commit = world.history.last_index();
        let projector = Projector::open(options, &mut held, 1, commit).expect("it is sound");
        let taken = usize::try_from(projector.next_index() - 1).expect("small");
        let (now, notices, out) = (Timestamp::from_secs(1_000), Vec::new(), Vec::new());
        let log_time = Timestamp::from_secs(EPOCH);
        Self { world, store, projector, taken, now, log_time, notices, out }
    }

    /// A projector that knows that its node started.
    fn ready(given: &str) -> Self {
        let mut turned = Self::new(World::default(), MemoryStore::default());
        turned.turn();
        turned.world.fold("node 1 1");
        turned.take_append().expect("the start");
        turned.projector.appended(turned.now, Some(1));
        turned.turn();
        turned.world.fold(given);
        turned.turn();
        turned.save_all();
        turned
    }

    fn turn(&mut self) {
        let batches: Vec<Arc<CommittedBatch>> = self.world.batches[self.taken..].to_vec();
        self.taken = self.world.batches.len();
        let (notices, out) = (&mut self.notices, &mut self.out);
        let (now, log_time) = (self.now, self.log_time);
        self.projector.turn(now, log_time, &batches, notices, out).expect("it can be folded");
    }

    fn pass(&mut self, seconds: u64) {
        self.pass_in_log(seconds, seconds);
    }

    /// The log's time may go slower or faster.
    fn pass_in_log(&mut self, seconds: u64, log_seconds: u64) {
        self.now = self.now.plus(Duration::from_secs(seconds));
        self.log_time = self.log_time.plus(Duration::from_secs(log_seconds));
        self.world.history.set_time(self.log_time);
    }

    fn wake_at(&self) -> Option<Timestamp> {
        self.projector.wake_at(self.now, self.log_time)
    }

    fn take_save(&mut self) -> Option<Arc<Changes>> {
        let at = self.out.iter().position(|output| matches!(output, Output::Save(_)))?;
        let Output::Save(changes) = self.out.remove(at) else { return None };
        Some(changes)
    }

    fn save_all(&mut self) {
        while let Some(changes) = self.take_save() {
            let result = self.store.commit(&changes);
            self.projector.saved(self.now, result, &mut self.out);
        }
    }

    fn take_append(&mut self) -> Option<Events> {
        let at = self.out.iter().position(|output| matches!(output, Output::Append(_)))?;
        let Output::Append(events) = self.out.remove(at) else { return None };
        Some(events)
    }

    /// Takes the append that is wanted into the log; its answer is still to be given.
    fn commit(&mut self) -> Option<u64> {
        let events = self.take_append()?;
        let mut batch = self.world.history.builder();
        events.write(&mut batch);
        self.world.commit(&mut batch);
        Some(self.world.history.last_index())
    }
}

#[test]
fn it_is_ready_when_the_start_of_the_node_is_applied_and_notices_begin_there() {
    let mut world = World::default();
    world.fold("open c");
    let mut turned = Turned::new(world, MemoryStore::default());
    turned.turn();
    assert!(matches!(turned.take_append(), Some(Events::NodeStarted { node: 1, start: 1 })));
    assert!(turned.notices.is_empty());
    turned.world.fold("node 1 1; open d");
    turned.projector.appended(turned.now, Some(2));
    assert!(!turned.projector.reader().is_ready());
    turned.turn();
    assert!(turned.projector.reader().is_ready());
    assert_eq!(turned.notices.len(), 1);
    assert!(turned.take_append().is_none());
}

#[test]
fn a_refused_start_is_tried_again() {
    let mut turned = Turned::new(World::default(), MemoryStore::default());
    turned.turn();
    assert!(turned.take_append().is_some());
    turned.projector.appended(turned.now, None);
    turned.turn();
    assert!(turned.take_append().is_none());
    assert!(turned.wake_at() > Some(turned.now));
    turned.pass(1);
    turned.turn();
    assert!(turned.take_append().is_some());
}

#[test]
fn what_is_due_is_appended_once_though_it_stays_due_until_applied() {
    let mut turned = Turned::ready("open c expiry=10 will=w\n close c will");
    turned.pass(1);
    turned.turn();
    let index = turned.commit().expect("the will is due");
    turned.pass(1);
    turned.taken += 1;
    turned.turn();
    assert!(turned.take_append().is_none(), "the answer is not there yet");
    turned.projector.appended(turned.now, Some(index));
    turned.pass(1);
    turned.turn();
    assert!(turned.take_append().is_none(), "it is not applied yet");
    turned.taken -= 1;
    turned.turn();
    turned.pass(1);
    turned.turn();
    assert!(turned.take_append().is_none(), "it fired");
    turned.pass(10);
    turned.turn();
    assert!(matches!(turned.take_append(), Some(Events::Due(due)) if due.len() == 1));
}

#[test]
fn what_is_due_is_judged_by_the_time_of_the_log() {
    let mut turned = Turned::ready("open c expiry=10\n close c");
    turned.pass_in_log(15, 8);
    turned.turn();
    assert!(turned.take_append().is_none(), "the log would stamp it before its time");
    turned.pass_in_log(3, 2);
    turned.turn();
    assert!(turned.commit().is_some());
}

#[test]
fn it_asks_to_be_woken_before_something_can_be_due() {
    let mut turned = Turned::ready("open c expiry=100\n close c");
    turned.pass(5);
    turned.turn();
    turned.save_all();
    // The log's time may run half as fast again.
    let soonest = turned.now.plus(Duration::from_secs(95) * 2 / 3);
    let wake = turned.wake_at().expect("something will be due");
    assert!(turned.now < wake && wake <= soonest, "{wake:?}");
    turned.pass_in_log(100, 95);
    assert_eq!(turned.wake_at(), Some(turned.now));
}

#[test]
fn a_checkpoint_is_a_difference_and_is_told_to_the_log_when_durable() {
    let mut turned = Turned::ready("open c expiry=10");
    turned.world.fold("pub p a 1 retain");
    turned.pass(5);
    turned.turn();
    turned.save_all();
    assert!(matches!(turned.out.last(), Some(Output::Checkpointed(3))));
    turned.world.fold("pub p b 1 retain");
    turned.pass(1);
    turned.turn();
    assert!(turned.take_save().is_none(), "it is not time");
    turned.pass(5);
    turned.turn();
    let changes = turned.take_save().expect("it is time");
    let retained = changes.rows.iter().filter(|(table, ..)| table.name() == "retained");
    assert_eq!(retained.count(), 1);
}

#[test]
fn a_checkpoint_that_failed_is_written_later_and_nothing_is_missing() {
    let mut turned = Turned::ready("open c expiry=10");
    turned.store.set_failing(true);
    turned.world.fold("pub p a 1 retain");
    turned.pass(5);
    turned.turn();
    turned.save_all();
    turned.store.set_failing(false);
    turned.world.fold("pub p b 1 retain");
    for _ in 0..3 {
        turned.pass(5);
        turned.turn();
        turned.save_all();
    }
    let meta = turned.store.meta().expect("it can be read").expect("it was written");
    assert_eq!(meta.applied, 4);
    assert_eq!(meta.checksum, turned.world.views.checksum());
}

#[test]
fn the_last_checkpoint_leaves_nothing_to_fold() {
    let mut turned = Turned::ready("open c expiry=10");
    turned.world.fold("pub p a 1 retain");
    turned.turn();
    let changes = turned.projector.last_checkpoint().expect("something is new");
    turned.store.commit(&changes).expect("it has room");
    let next = Turned::new(turned.world, turned.store);
    assert_eq!(next.projector.next_index(), 4);
    assert!(next.projector.reader().with(|views| views.session("c").is_some()));
}

#[test]
fn many_changes_do_not_wait_for_their_time() {
    let mut turned = Turned::ready("open c expiry=10");
    for number in 0..30 {
        let retained = (0..1_000).map(|topic| format!("pub p t/{number}/{topic} 1 retain"));
        turned.world.fold(&retained.collect::<Vec<_>>().join(";"));
    }
    turned.turn();
    assert!(turned.take_save().is_some());
}

#[test]
fn owed_messages_are_kept_before_a_purge_and_forgotten_when_nobody_is_owed_them() {
    let mut turned =
        Turned::ready("open c expiry=never; open d expiry=never\n sub c # qos=1; sub d x qos=1");
    turned.world.fold("pub p x 1 qos=1\n pub p y 2 qos=1\n pub p z 3\n pub p x 4 qos=1");
    turned.turn();
    turned.projector.purge_wanted(Some(6));
    turned.turn();
    assert!(!turned.out.iter().any(|output| matches!(output, Output::Keep { .. })), "not saved");
    turned.pass(5);
    turned.turn();
    turned.save_all();
    turned.out.clear();
    turned.turn();
    let Some(Output::Keep { upto: 6, messages }) = turned.out.pop() else { unreachable!("kept") };
    assert_eq!(messages, [Offset::new(4, 0), Offset::new(5, 0)]);

    let copies = [message("x", 4), message("y", 5)];
    turned.store.keep(6, &copies).expect("it has room");
    turned.projector.kept(turned.now, Some(6), &messages, &mut turned.out);
    assert!(matches!(turned.out.last(), Some(Output::PurgeAllowed(6))));
    let sources = |turned: &Turned| {
        turned.projector.reader().with(|views| {
            let owed = owed(views, "c", DeliveryRef::default()).into_iter();
            owed.map(|owed| matches!(owed.source, OwedSource::Kept)).collect::<Vec<_>>()
        })
    };
    assert_eq!(sources(&turned), [true, true, false]);
    assert!(turned.wake_at().is_none());

    turned.world.fold("progress c 5:0\n pub p z 1");
    turned.pass(60);
    turned.turn();
    let changes = turned.take_save().expect("it is time");
    assert_eq!(changes.forget, [Offset::new(5, 0)], "the other is owed to d");
    turned.store.commit(&changes).expect("it has room");
    assert_eq!(turned.store.kept_offsets().expect("it can be read"), [Offset::new(4, 0)]);

    let mut restarted = Turned::new(turned.world, turned.store);
    restarted.turn();
    assert!(restarted.out.iter().any(|output| matches!(output, Output::PurgeAllowed(6))));
    restarted.projector.reader().with(|views| {
        let owed = owed(views, "d", DeliveryRef::default());
        assert!(matches!(owed[0].source, OwedSource::Kept));
    });
    let kept = restarted.projector.reader().kept(Offset::new(4, 0)).expect("it can be read");
    assert_eq!(*kept.expect("it was kept"), message("x", 4));
}

fn message(topic: &str, index: u64) -> RetainedMessage {
    RetainedMessage {
        topic: topic.into(),
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: Box::default(),
        payload: b"kept".as_slice().into(),
        message_expiry_interval: None,
        time: Timestamp(1),
        offset: Offset::new(index, 0),
        publisher: None,
        key_id: 0,
    }
}
