//! The views fold committed batches.
//!
//! Watches "fold + match: at most 0.5 us a message", per batch and topic where that is possible.
//! Only the folding is timed, with the progress that subscribers log; not the checkpoint, which is
//! off the publish path.

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use ledgermq_core::event::{BatchBuilder, DeliveryRef, Event, SessionOpened, Subscription};
use ledgermq_core::identity::ClientId;
use ledgermq_core::offset::Offset;
use ledgermq_core::packet::{ProtocolVersion, QoS, SubscriptionOptions};
use ledgermq_core::topic::TopicFilter;
use ledgermq_log::testing::History;
use ledgermq_projections::notice::Notice;
use ledgermq_projections::views::{Limits, Views};

use crate::messages::{BATCH_MESSAGES, fill, topics};

/// Batches between two reports of progress.
const PROGRESS_BATCHES: u64 = 20;

/// All of this subject.
pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fold");
    group.throughput(Throughput::Elements(u64::from(BATCH_MESSAGES)));
    for (name, subscribers, topic_count, retain) in [
        ("nobody subscribes, 10 topics", 0, 10, false),
        ("1 persistent subscriber", 1, 1, false),
        ("100 persistent subscribers", 100, 1, false),
        ("retained, 1,000 topics", 0, 1_000, true),
    ] {
        group.bench_function(name, |bencher| {
            let topics = topics(topic_count);
            let mut fold = Fold::new(subscribers, &topics[0]);
            bencher.iter_custom(|batches| {
                (0..batches).map(|_| fold.batch(&topics, retain)).sum::<Duration>()
            });
        });
    }
    group.finish();
}

/// A log and the views of it.
struct Fold {
    history: History,
    events: BatchBuilder,
    views: Views,
    notices: Vec<Notice>,
    subscribers: Vec<(ClientId, Offset)>,
    batches: u64,
}

impl Fold {
    /// With so many persistent sessions that subscribe to `topic`.
    fn new(subscribers: u32, topic: &str) -> Self {
        let history = History::default();
        let events = history.builder();
        let mut fold = Self {
            history,
            events,
            views: Views::new(Limits::default()),
            notices: Vec::new(),
            subscribers: Vec::new(),
            batches: 0,
        };
        for number in 0..subscribers {
            fold.subscribe(format!("client-{number}").as_str().into(), topic);
        }
        fold
    }

    fn subscribe(&mut self, client: ClientId, topic: &str) {
        self.events.push(None, None, &opened(&client));
        self.apply();
        let epoch = Offset::new(self.history.last_index(), 0);
        self.events.push(Some((&client, epoch)), None, &subscribed(topic));
        self.apply();
        self.subscribers.push((client, epoch));
    }

    /// Folds a batch of messages, and says how long that took.
    fn batch(&mut self, topics: &[String], retain: bool) -> Duration {
        fill(&mut self.events, topics, retain, BATCH_MESSAGES);
        let mut spent = self.apply();
        self.batches += 1;
        if self.batches.is_multiple_of(PROGRESS_BATCHES) {
            let upto =
                DeliveryRef::from(Offset::new(self.history.last_index(), BATCH_MESSAGES - 1));
            for (client, epoch) in &self.subscribers {
                let event = Event::DeliveryProgressed { upto, outstanding: Vec::new() };
                self.events.push(Some((client, *epoch)), None, &event);
            }
            spent += self.apply();
            // What the checkpoint takes.
            self.views.changes();
        }
        spent
    }

    fn apply(&mut self) -> Duration {
        let batch = self.history.commit(&mut self.events);
        let start = Instant::now();
        self.views.apply(&batch, &mut self.notices).unwrap();
        let spent = start.elapsed();
        self.notices.clear();
        spent
    }
}

fn opened(client: &ClientId) -> Event {
    Event::SessionOpened(Box::new(SessionOpened {
        client: client.clone(),
        username: None,
        is_proven: false,
        node: 1,
        protocol: ProtocolVersion::V5,
        clean_start: false,
        session_expiry_interval: 3_600,
        keep_alive: 60,
        peer: "192.0.2.17:51234".to_owned(),
        will: None,
    }))
}

fn subscribed(topic: &str) -> Event {
    let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..SubscriptionOptions::default() };
    let filter = TopicFilter::new(topic).unwrap();
    Event::Subscribed { subscriptions: vec![Subscription { filter, options, identifier: None }] }
}
