//! The driver over a real log.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use ledgermq_core::event::{DeliveryRef, Event, MessagePublished, SessionOpened, Subscription};
use ledgermq_core::identity::ClientId;
use ledgermq_core::offset::{Index, Offset};
use ledgermq_core::packet::{ProtocolVersion, QoS, SubscriptionOptions};
use ledgermq_core::quantity::ByteSize;
use ledgermq_core::reason::ReasonCode;
use ledgermq_core::topic::TopicFilter;
use ledgermq_log::testing::HandMade;
use ledgermq_log::{Class, Log, LogThread, Producer, Wake};
use ledgermq_projections::driver::{self, Driver};
use ledgermq_projections::notice::{Notice, NoticeSink};
use ledgermq_projections::projector::Options;
use ledgermq_projections::reader::Reader;
use ledgermq_projections::views::Limits;
use ledgermq_projections::views::owed::{Owed, OwedSource};

use crate::support::table;

const PATIENCE: Duration = Duration::from_secs(30);

struct Sink(Sender<(Index, Vec<Notice>)>);

impl NoticeSink for Sink {
    fn notices(&mut self, applied: Index, notices: &mut Vec<Notice>) {
        let _ = self.0.send((applied, std::mem::take(notices)));
    }
}

struct Silent;

impl Wake for Silent {
    fn wake(&self) {}
}

/// A node without a gateway: the test is its only client.
struct Node {
    log: Log,
    log_thread: LogThread,
    driver: Driver,
    reader: Reader,
    producer: Producer,
    notices: Receiver<(Index, Vec<Notice>)>,
    pending: VecDeque<Notice>,
}

impl Node {
    fn start(directory: &Path) -> Self {
        Self::start_with(directory, ledgermq_log::Config::default(), Duration::from_secs(5))
    }

    fn start_with(directory: &Path, config: ledgermq_log::Config, checkpoint: Duration) -> Self {
        let log = ledgermq_log::Options::new(directory.join("log"), 1);
        let options = ledgermq_log::Options { config, ..log };
        let (log, log_thread) = open_log(&options);
        let options = Options {
            node: 1,
            start: log.start(),
            limits: Limits::default(),
            checkpoint_interval: checkpoint,
        };
        let opened = driver::open(directory.join("views.redb"), options, &log).expect("it opens");
        let reader = opened.reader();
        let (sink, notices) = channel();
        let driver = opened.start(Box::new(Sink(sink)));
        let producer = log.producer(Arc::new(Silent));
        let pending = VecDeque::new();
        let node = Self { log, log_thread, driver, reader, producer, notices, pending };
        while !node.reader.is_ready() {
            std::thread::yield_now();
        }
        node
    }

    fn push(&mut self, session: Option<(&ClientId, Offset)>, events: &[Event]) {
        let mut batch = self.producer.builder();
        for event in events {
            batch.push(session, None, event);
        }
        self.producer.push(Class::Open, &mut batch).expect("there is room");
    }

    fn publish(&mut self, session: Option<(&ClientId, Offset)>, topic: &str) {
        let mut batch = self.producer.builder();
        let message = MessagePublished {
            qos: QoS::AtLeastOnce,
            retain: true,
            packet_id: None,
            topic,
            message_expiry_interval: None,
            properties: &[],
            payload: b"x",
        };
        batch.publish(session, None, &message);
        self.producer.push(Class::Publish, &mut batch).expect("there is room");
    }

    fn open(&mut self, client: &str) -> Offset {
        self.push(None, &[Event::SessionOpened(Box::new(opened(client)))]);
        loop {
            if let Notice::SessionReady { epoch, .. } = self.notice() {
                return epoch;
            }
        }
    }

    /// The next notice of an opening or a subscription.
    fn notice(&mut self) -> Notice {
        loop {
            match self.pending.pop_front() {
                Some(Notice::SessionEnded { .. }) => {}
                Some(notice) => return notice,
                None => {
                    let (_, notices) = self.notices.recv_timeout(PATIENCE).expect("a notice");
                    self.pending.extend(notices);
                }
            }
        }
    }

    /// Waits until everything pushed so far is applied.
    fn settle(&mut self) {
        self.open("settled");
    }

    fn stop(self) -> String {
        self.driver.stop();
        self.driver.join().expect("it ended well");
        self.log.stop();
        self.log_thread.join().expect("it ended well");
        self.reader.with(table)
    }
}

/// Opens the log. The appending thread of a node that has stopped is not waited for (its append may
/// wait for a full disk), so that it may hold the files for a moment longer.
fn open_log(options: &ledgermq_log::Options) -> (Log, LogThread) {
    for _ in 0..500 {
        if let Ok(opened) = ledgermq_log::open(options.clone()) {
            return opened;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    ledgermq_log::open(options.clone()).expect("the log opens")
}

fn opened(client: &str) -> SessionOpened {
    SessionOpened {
        client: client.into(),
        username: None,
        is_proven: false,
        node: 1,
        protocol: ProtocolVersion::V5,
        clean_start: false,
        session_expiry_interval: 1_000,
        keep_alive: 0,
        peer: String::new(),
        will: None,
    }
}

fn subscribed(filter: &str) -> Event {
    let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..SubscriptionOptions::default() };
    let filter = TopicFilter::new(filter).expect("a filter");
    Event::Subscribed { subscriptions: vec![Subscription { filter, options, identifier: None }] }
}

#[test]
fn a_session_survives_the_restart_of_its_node_with_what_it_is_owed() {
    let directory = tempfile::tempdir().expect("a directory");
    let client = ClientId::from("c");
    let mut node = Node::start(directory.path());
    let epoch = node.open("c");
    node.push(Some((&client, epoch)), &[subscribed("a/#")]);
    assert!(matches!(node.notice(), Notice::Retained { .. }));
    node.publish(None, "a/1");
    node.settle();
    let before = node.stop();
    assert!(before.contains("c 3:0 online, a/# qos 1, owed"), "{before}");

    let mut node = Node::start(directory.path());
    let session = node.reader.with(table);
    assert!(session.contains("c 3:0 offline until"), "{session}");
    node.push(None, &[Event::SessionOpened(Box::new(opened("c")))]);
    let Notice::SessionReady { state, .. } = node.notice() else { unreachable!("it was opened") };
    assert!(state.session_present);
    assert_eq!((state.owed, state.subscriptions.len()), (1, 1));
    node.stop();
}

#[test]
fn without_its_checkpoint_a_node_folds_the_whole_log_to_the_same_views() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut node = Node::start(directory.path());
    for topic in ["a", "b/c", "b/d"] {
        node.publish(None, topic);
    }
    node.settle();
    let views = node.reader.with(|views| views.retained().len());
    node.stop();
    std::fs::remove_file(directory.path().join("views.redb")).expect("it is there");
    let node = Node::start(directory.path());
    assert_eq!(node.reader.with(|views| views.retained().len()), views);
    node.stop();
}

#[test]
fn events_of_an_old_epoch_change_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let client = ClientId::from("c");
    let mut node = Node::start(directory.path());
    let old = node.open("c");
    let new = node.open("c");
    node.push(Some((&client, old)), &[subscribed("old")]);
    node.publish(Some((&client, old)), "old");
    node.push(Some((&client, new)), &[subscribed("new")]);
    node.settle();
    let views = node.stop();
    assert!(views.contains("online, new qos 1"), "{views}");
    assert!(!views.contains("old"), "{views}");
}

#[test]
fn a_session_whose_interval_passed_expires_by_an_event() {
    let directory = tempfile::tempdir().expect("a directory");
    let client = ClientId::from("c");
    let mut node = Node::start(directory.path());
    let epoch = node.open("c");
    let closed = Event::SessionClosed {
        reason: ReasonCode::Success,
        publish_will: false,
        session_expiry_interval: 1,
    };
    node.push(Some((&client, epoch)), &[closed]);
    let mut ended = false;
    while !ended {
        let (_, notices) = node.notices.recv_timeout(PATIENCE).expect("it expires");
        ended = notices.iter().any(
            |notice| matches!(notice, Notice::SessionEnded { epoch: ended, .. } if *ended == epoch),
        );
    }
    assert_eq!(node.stop(), "");
}

#[test]
fn what_is_owed_outlives_the_purge_of_the_log() {
    let directory = tempfile::tempdir().expect("a directory");
    let small = || ledgermq_log::Config {
        hot_bytes_max: ByteSize(2 << 20),
        file_bytes: ByteSize(1 << 20),
        ..ledgermq_log::Config::default()
    };
    let pause = Duration::from_millis(50);
    let client = ClientId::from("c");
    let mut node = Node::start_with(directory.path(), small(), pause);
    let epoch = node.open("c");
    node.push(Some((&client, epoch)), &[subscribed("owed")]);
    node.publish(None, "owed");
    node.settle();
    let at = node.reader.with(|views| crate::support::owed(views, "c", DeliveryRef::default()));
    let [Owed { message, source: OwedSource::Log, .. }] = at[..] else { unreachable!("{at:?}") };

    let mut filling = 0;
    while node.log.status().first_index <= message.at.index {
        filling += 1;
        assert!(filling < 20_000, "the log purges nothing: {:?}", node.log.status());
        let mut batch = node.producer.builder();
        batch.publish(None, None, &filler());
        node.producer.push(Class::Publish, &mut batch).expect("there is room");
        node.settle();
    }
    let is_kept = |node: &Node| {
        let owed = crate::support::owed;
        let owed = node.reader.with(|views| owed(views, "c", DeliveryRef::default()));
        match &owed[..] {
            [Owed { message: held, source: OwedSource::Kept, .. }] => assert_eq!(*held, message),
            _ => return false,
        }
        let content = node.reader.kept(message.at).expect("it can be read").expect("it was kept");
        &*content.topic == "owed" && &*content.payload == b"x"
    };
    assert!(is_kept(&node));
    node.stop();
    let node = Node::start_with(directory.path(), small(), pause);
    assert!(is_kept(&node));
    node.stop();
}

/// What the projections wrote into the cut that the log wants.
fn cut(snapshots: &HandMade) -> (Index, u64, Vec<u8>) {
    let index = snapshots.want_cut();
    loop {
        if let Some(cut) = snapshots.take_cut() {
            let (checksum, content) = cut.expect("it was written");
            return (index, checksum, content);
        }
        std::thread::yield_now();
    }
}

/// What they answer to a snapshot that came.
fn answer(snapshots: &HandMade) -> Result<(), String> {
    loop {
        if let Some((_, result)) = snapshots.answer() {
            return result;
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_node_cuts_while_it_works_and_another_one_takes_that_in() {
    let directory = tempfile::tempdir().expect("a directory");
    let client = ClientId::from("c");
    let mut node = Node::start(directory.path());
    let snapshots = HandMade::of(&node.log);
    let epoch = node.open("c");
    node.push(Some((&client, epoch)), &[subscribed("#")]);
    for _ in 0..20 {
        node.publish(None, "before");
    }
    node.settle();
    (0..20).for_each(|number| node.publish(None, &format!("t/{number}")));
    let (index, checksum, content) = cut(&snapshots);
    for _ in 0..20 {
        node.publish(None, "behind");
    }
    node.settle();
    // It goes on, and the next one is of another state.
    let (later, other, _) = cut(&snapshots);
    assert!(later > index && other != checksum);

    let elsewhere = tempfile::tempdir().expect("a directory");
    let fresh = Node::start(elsewhere.path());
    let received = HandMade::of(&fresh.log);
    let beside = elsewhere.path().join("views.redb.new");
    let mut damaged = content.clone();
    damaged[40] ^= 1;
    assert!(received.offer(index, checksum, &damaged).expect("it is shown"));
    let why = answer(&received).expect_err("it is damaged");
    assert!(why.starts_with("the snapshot is refused"), "{why}");
    assert!(!beside.exists());
    received.withdraw();
    assert!(received.offer(index, checksum, &content).expect("it is shown"));
    answer(&received).expect("it is sound");
    assert!(beside.exists());
    drop(received);
    fresh.stop();
    // The log did not jump: the next start has no need of it.
    let fresh = Node::start(elsewhere.path());
    assert!(!beside.exists());
    fresh.stop();
    node.stop();
}

fn filler() -> MessagePublished<'static> {
    MessagePublished {
        qos: QoS::AtMostOnce,
        retain: false,
        packet_id: None,
        topic: "filler",
        message_expiry_interval: None,
        properties: &[],
        payload: &[7; 100_000],
    }
}
