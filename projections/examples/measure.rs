//! Measures the fold: `cargo run --release -p ledgermq-projections --example measure`.
//!
//! What is watched: nanoseconds per published message with and without persistent sessions, bytes
//! per persistent session, time of a restart with 100,000 sessions.

#![allow(clippy::print_stdout, clippy::disallowed_methods, clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use ledgermq_core::event::{
    BatchBuilder, DeliveryRef, Event, MessagePublished, SessionOpened, Subscription,
};
use ledgermq_core::identity::ClientId;
use ledgermq_core::offset::Offset;
use ledgermq_core::packet::{ProtocolVersion, QoS, SubscriptionOptions};
use ledgermq_core::topic::TopicFilter;
use ledgermq_log::CommittedBatch;
use ledgermq_log::testing::History;
use ledgermq_projections::checkpoint::{FileStore, Store};
use ledgermq_projections::projector::{Options, Projector};
use ledgermq_projections::views::{Limits, Views};

const SESSIONS: u32 = 100_000;

fn main() {
    messages("no persistent session, 10 topics", 0, 10, 2_000_000);
    messages("no persistent session, 10,000 topics", 0, 10_000, 2_000_000);
    messages("10 persistent sessions, one topic each", 10, 10, 2_000_000);
    messages("1,000 persistent sessions, one topic each", 1_000, 1_000, 2_000_000);
    sessions();
}

fn opened(client: &str) -> Event {
    Event::SessionOpened(Box::new(SessionOpened {
        client: client.into(),
        username: Some("sensor".to_owned()),
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

fn subscribed(filter: &str) -> Event {
    let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..SubscriptionOptions::default() };
    let filter = TopicFilter::new(filter).unwrap();
    Event::Subscribed { subscriptions: vec![Subscription { filter, options, identifier: None }] }
}

/// Opens sessions with one subscription each.
fn open(history: &mut History, views: &mut Views, count: u32) -> Vec<(ClientId, Offset)> {
    let mut notices = Vec::new();
    let mut batch = history.builder();
    let mut clients = Vec::new();
    for first in (0..count).step_by(500) {
        let numbers = first..(first + 500).min(count);
        let names: Vec<ClientId> =
            numbers.clone().map(|n| format!("client-{n:08}").as_str().into()).collect();
        names.iter().for_each(|name| {
            batch.push(None, None, &opened(name));
        });
        let committed = history.commit(&mut batch);
        views.apply(&committed, &mut notices).unwrap();
        for ((ordinal, name), number) in (0..).zip(names).zip(numbers) {
            let epoch = Offset::new(committed.index, ordinal);
            batch.push(Some((&name, epoch)), None, &subscribed(&format!("plant/line/{number}/t")));
            clients.push((name, epoch));
        }
        views.apply(&history.commit(&mut batch), &mut notices).unwrap();
        notices.clear();
    }
    clients
}

fn publish(batch: &mut BatchBuilder, topic: &str) {
    let message = MessagePublished {
        qos: QoS::AtLeastOnce,
        retain: false,
        packet_id: None,
        topic,
        message_expiry_interval: None,
        properties: &[],
        payload: &[7; 100],
    };
    batch.publish(None, None, &message);
}

fn messages(what: &str, sessions: u32, topics: usize, count: usize) {
    let mut history = History::default();
    let mut views = Views::new(Limits::default());
    let clients = open(&mut history, &mut views, sessions);
    let names: Vec<String> = (0..topics).map(|n| format!("plant/line/{n}/t")).collect();
    let mut batch = history.builder();
    let per_batch = 450;
    let mut spent = Duration::ZERO;
    let mut notices = Vec::new();
    for round in 0..count / per_batch {
        for place in 0..per_batch {
            publish(&mut batch, &names[(round * per_batch + place) % topics]);
        }
        let committed = history.commit(&mut batch);
        let start = Instant::now();
        views.apply(&committed, &mut notices).unwrap();
        spent += start.elapsed();
        // As the gateway does: progress every so often.
        if round % 20 == 19 {
            let upto = DeliveryRef::from(Offset::new(committed.index, u32::MAX >> 12));
            for (client, epoch) in &clients {
                let event = Event::DeliveryProgressed { upto, outstanding: Vec::new() };
                batch.push(Some((client, *epoch)), None, &event);
            }
            let committed: Arc<CommittedBatch> = history.commit(&mut batch);
            let start = Instant::now();
            views.apply(&committed, &mut notices).unwrap();
            spent += start.elapsed();
            views.changes();
        }
    }
    let nanos = spent.as_nanos() as f64 / count as f64;
    println!("{what}: {nanos:.0} ns per message");
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn sessions() {
    let mut history = History::default();
    let mut views = Views::new(Limits::default());
    let before = resident();
    open(&mut history, &mut views, SESSIONS);
    let changes = views.changes();
    let rows = changes.rows.len();
    let directory = tempfile::tempdir().unwrap();
    let mut store = FileStore::open(&directory.path().join("views.redb")).unwrap();
    let start = Instant::now();
    store.commit(&changes).unwrap();
    println!("{rows} rows written in {:?}", start.elapsed());
    drop(changes);
    let start = Instant::now();
    let checksum = views.checksum();
    println!("checksum {checksum:x} in {:?}", start.elapsed());
    let each = (resident() - before) / u64::from(SESSIONS);
    println!("at most {each} bytes per session with one subscription (with allocator slack)");
    drop(views);
    let options = Options {
        node: 1,
        start: 1,
        limits: Limits::default(),
        checkpoint_interval: Duration::from_secs(5),
    };
    let before = resident();
    let start = Instant::now();
    let projector = Projector::open(options, &mut store, 1, history.last_index()).unwrap();
    let taken = start.elapsed();
    let found = projector.reader().with(|views| views.sessions().len());
    println!("restart with {found} sessions: {taken:?}");
    println!("{} bytes more", resident().saturating_sub(before));
}
