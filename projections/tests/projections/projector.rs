//! The projector, turned by hand.

use std::sync::Arc;
use std::time::Duration;

use ledgermq_core::event::DeliveryRef;
use ledgermq_core::offset::{Offset, Timestamp};
use ledgermq_core::packet::QoS;
use ledgermq_log::{CommittedBatch, Leading};
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
    leading: Option<Leading>,
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
        let leading = Some(Leading { term: 1, first: 0 });
        Self { world, store, projector, taken, now, log_time, leading, notices, out }
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
        self.projector.set_lead(self.leading, self.taken as u64);
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

    fn take_derived(&mut self) -> Option<(u64, Events)> {
        let at = self.out.iter().position(|output| matches!(output, Output::Derive { .. }))?;
        let Output::Derive { term, events } = self.out.remove(at) else { return None };
        Some((term, events))
    }

    /// Takes what is due into the log; its answer is still to be given.
    fn commit(&mut self) -> Option<u64> {
        let (_, events) = self.take_derived()?;
        Some(self.write(&events))
    }

    fn write(&mut self, events: &Events) -> u64 {
        let mut batch = self.world.history.builder();
        events.write(&mut batch);
        self.world.commit(&mut batch);
        self.world.history.last_index()
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
    assert!(turned.take_derived().is_none(), "the answer is not there yet");
    turned.projector.derived(1, Some(index));
    turned.pass(1);
    turned.turn();
    assert!(turned.take_derived().is_none(), "it is not applied yet");
    turned.taken -= 1;
    turned.turn();
    turned.pass(1);
    turned.turn();
    assert!(turned.take_derived().is_none(), "it fired");
    turned.pass(10);
    turned.turn();
    assert!(matches!(turned.take_derived(), Some((1, Events::Due(due))) if due.len() == 1));
}

#[test]
fn only_a_leader_that_knows_all_before_its_term_appends_what_is_due() {
    let mut turned = Turned::ready("open c expiry=10 will=w delay=1\n close c will");
    let last = turned.world.history.last_index();
    turned.leading = None;
    turned.pass(1);
    turned.turn();
    turned.save_all();
    assert!(turned.take_derived().is_none());
    assert!(turned.wake_at() > Some(turned.now), "it waits for nothing that is due");
    turned.leading = Some(Leading { term: 3, first: last + 1 });
    turned.turn();
    assert!(turned.take_derived().is_none(), "its first entry is not read");
    // An earlier leader derived the same: its batch is applied before it is looked at.
    turned.world.fold("pub - w gone cause=2:0\n pub p x 1");
    turned.turn();
    assert!(turned.take_derived().is_none());
    turned.pass(10);
    turned.turn();
    let (term, due) = turned.take_derived().expect("the session has expired since");
    assert_eq!(term, 3);
    assert!(matches!(due, Events::Due(due) if due.len() == 1));
}

#[test]
fn what_was_derived_in_another_term_is_not_waited_for() {
    let mut turned = Turned::ready("open c expiry=10 will=w delay=1\n close c will");
    turned.pass(1);
    turned.turn();
    assert!(turned.take_derived().is_some());
    turned.leading = Some(Leading { term: 2, first: 1 });
    turned.pass(1);
    turned.turn();
    let (term, events) = turned.take_derived().expect("it is derived anew");
    assert_eq!(term, 2);
    // The answer of the earlier term comes late: it says nothing of this one.
    turned.projector.derived(1, None);
    turned.pass(1);
    turned.turn();
    assert!(turned.take_derived().is_none());
    let index = turned.write(&events);
    turned.turn();
    turned.projector.derived(2, Some(index));
    turned.pass(1);
    turned.turn();
    assert!(turned.take_derived().is_none(), "it fired");
}

#[test]
fn what_could_not_be_derived_is_derived_again() {
    let mut turned = Turned::ready("open c expiry=10 will=w delay=1\n close c will");
    turned.pass(1);
    turned.turn();
    let (_, events) = turned.take_derived().expect("the will is due");
    turned.projector.derived(1, None);
    turned.turn();
    assert!(turned.take_derived().is_none(), "not at once");
    assert!(turned.wake_at() > Some(turned.now));
    turned.pass(1);
    turned.turn();
    assert_eq!(turned.take_derived(), Some((1, events)));
}

#[test]
fn rules_at_a_start_count_unless_the_log_has_some_and_an_order_always() {
    let rules = |text: &str| Some(ledgermq_core::access::parse(text).expect("rules"));
    let mut turned = Turned::ready("");
    turned.projector.offer_rules(rules("topic a"));
    turned.turn();
    let events = turned.take_append().expect("the log has none");
    assert_eq!(events, Events::AccessRules(rules("topic a")));
    let index = turned.write(&events);
    turned.projector.appended(turned.now, Some(index));
    turned.turn();
    turned.projector.offer_rules(rules("topic b"));
    turned.pass(1);
    turned.turn();
    assert!(turned.take_append().is_none(), "the log has some");
    turned.projector.set_rules(rules("topic c"));
    turned.turn();
    assert_eq!(turned.take_append(), Some(Events::AccessRules(rules("topic c"))));
}

#[test]
fn a_process_that_begins_anew_says_so_and_is_ready_as_another() {
    let mut turned = Turned::ready("open c expiry=10 will=w delay=1\n close c will");
    let reader = turned.projector.reader();
    assert!(reader.is_ready_as(1) && !reader.is_ready_as(2));
    turned.projector.renew(2);
    assert_eq!(turned.projector.start(), 2);
    assert!(!reader.is_ready());
    turned.pass(1);
    turned.world.fold("open d");
    turned.turn();
    assert!(turned.take_derived().is_none(), "nothing is due before");
    assert!(turned.notices.is_empty(), "nor is anybody told anything");
    let events = turned.take_append().expect("it starts");
    assert_eq!(events, Events::NodeStarted { node: 1, start: 2 });
    let index = turned.write(&events);
    turned.projector.appended(turned.now, Some(index));
    turned.turn();
    assert!(reader.is_ready_as(2));
    assert!(reader.with(|views| views.session("d").is_none()), "its connection is gone");
    turned.pass(1);
    turned.turn();
    assert!(turned.take_derived().is_some());
}

#[test]
fn an_answer_to_an_earlier_incarnation_says_nothing_of_this_one() {
    let mut turned = Turned::new(World::default(), MemoryStore::default());
    turned.turn();
    assert!(turned.take_append().is_some());
    turned.projector.renew(2);
    turned.turn();
    assert!(turned.take_append().is_none(), "one at a time");
    turned.projector.appended(turned.now, Some(0));
    turned.turn();
    assert!(!turned.projector.reader().is_ready());
    let events = turned.take_append().expect("it starts");
    assert_eq!(events, Events::NodeStarted { node: 1, start: 2 });
}

#[test]
fn rules_and_what_is_due_are_never_under_way_together() {
    let mut turned = Turned::ready("open c expiry=10 will=w delay=1\n close c will");
    turned.projector.set_rules(None);
    turned.turn();
    turned.projector.set_rules(Some(ledgermq_core::access::parse("topic x").expect("rules")));
    turned.pass(1);
    turned.turn();
    let rules = turned.take_append().expect("the rules are others");
    assert!(turned.take_derived().is_none(), "the will may be forbidden by them");
    let index = turned.write(&rules);
    turned.projector.appended(turned.now, Some(index));
    turned.pass(1);
    turned.turn();
    turned.pass(1);
    turned.turn();
    assert!(turned.take_derived().is_none(), "it is");
}

#[test]
fn what_is_due_is_judged_by_the_time_of_the_log() {
    let mut turned = Turned::ready("open c expiry=10\n close c");
    turned.pass_in_log(15, 8);
    turned.turn();
    assert!(turned.take_derived().is_none(), "the log would stamp it before its time");
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
