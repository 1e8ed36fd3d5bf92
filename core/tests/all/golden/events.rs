//! Every event in a batch of its own, and its canonical form.

use ledgermq_core::access;
use ledgermq_core::event::batch::{Batch, BatchSession};
use ledgermq_core::event::{
    BatchBuilder, DeliveryPhase, DeliveryRef, DropReason, Event, EventRef, MessagePublished,
    Outstanding, SessionOpened, Subscription, WillMessage,
};
use ledgermq_core::identity::{ClientId, PacketId};
use ledgermq_core::offset::{Offset, Timestamp};
use ledgermq_core::packet::{ProtocolVersion, QoS, RetainHandling, SubscriptionOptions};
use ledgermq_core::reason::ReasonCode;
use ledgermq_core::topic::TopicFilter;

use super::Golden;

const EPOCH: Offset = Offset::new(0x0102_0304_0506_0708, 9);
const CAUSE: Offset = Offset::new(10, 11);
const AT: Offset = Offset::new(12, 13);
const ACL: &str = "topic read a/#\nuser u v\ntopic b\ntopic deny b/+\npattern write %c/%u";
const TIME: Timestamp = Timestamp(1_700_000_000_000_000);

#[test]
fn events_keep_their_bytes() {
    let golden = Golden::open("events-v1.txt");
    let lines = golden.lines();
    let mut today = Vec::new();
    for (name, event) in events() {
        let name = format!("{name}.batch");
        if let Some(bytes) = lines.get(name.as_str()) {
            let batch = Batch::parse(bytes).unwrap();
            let record = batch.records().next().unwrap().unwrap();
            assert_eq!(record.event(), Ok(event.clone()), "{name}");
        }
        let (batch, canonical) = written(&event);
        today.push((name.clone(), batch));
        today.push((name.replace(".batch", ".canonical"), canonical));
    }
    golden.check(&today);
}

#[test]
fn a_batch_keeps_its_bytes() {
    let golden = Golden::open("batch-v1.txt");
    let (one, other) = (ClientId::from("one"), ClientId::from("other"));
    let mut builder = BatchBuilder::new(0);
    let opened = Event::SessionOpened(Box::new(session_opened(None)));
    builder.push(None, None, &opened);
    builder.publish(Some((&one, Offset::new(1, 0))), None, &message());
    builder.publish(Some((&other, Offset::new(2, 5))), None, &message());
    builder.push(Some((&one, Offset::new(1, 0))), None, &Event::SessionExpired);
    builder.publish(Some((&other, Offset::new(2, 5))), Some(CAUSE), &message());
    let batch = builder.finish(Vec::new());
    let empty = builder.finish(Vec::new());
    golden.check(&[("five_records".into(), batch), ("empty".into(), empty)]);
}

/// The event as a batch, and its canonical form.
fn written(event: &EventRef<'_>) -> (Vec<u8>, Vec<u8>) {
    let client = ClientId::from("client");
    let has_session = !matches!(
        event,
        EventRef::Other(
            Event::NodeStarted { .. }
                | Event::NodeLost { .. }
                | Event::SessionOpened(_)
                | Event::SharedDropped { .. }
                | Event::AccessRulesReplaced { .. }
        )
    );
    let session = has_session.then_some((&client, EPOCH));
    let mut builder = BatchBuilder::new(0);
    match event {
        EventRef::MessagePublished(message) => builder.publish(session, Some(CAUSE), message),
        EventRef::Other(event) => builder.push(session, None, event),
    };
    let bytes = builder.finish(Vec::new());
    let batch = Batch::parse(&bytes).unwrap();
    let record = batch.records().next().unwrap().unwrap();
    let session = session.map(|(client, epoch)| BatchSession { client, epoch });
    let mut canonical = Vec::new();
    record.canonical(batch.namespace(), AT, TIME, session, &mut canonical);
    (bytes, canonical)
}

fn id(value: u16) -> PacketId {
    PacketId::new(value).unwrap()
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::new(text).unwrap()
}

fn message() -> MessagePublished<'static> {
    MessagePublished {
        qos: QoS::ExactlyOnce,
        retain: true,
        packet_id: PacketId::new(0x1234),
        topic: "some/topic",
        message_expiry_interval: Some(3600),
        properties: b"\x26\x00\x01k\x00\x01v",
        payload: b"payload",
    }
}

fn session_opened(will: Option<WillMessage>) -> SessionOpened {
    SessionOpened {
        client: "client".into(),
        username: will.is_some().then(|| "user".into()),
        is_proven: will.is_some(),
        node: 1,
        protocol: if will.is_some() { ProtocolVersion::V5 } else { ProtocolVersion::V311 },
        clean_start: true,
        session_expiry_interval: 300,
        keep_alive: 60,
        peer: "127.0.0.1:50000".into(),
        will,
    }
}

fn will() -> WillMessage {
    WillMessage {
        topic: "will".into(),
        payload: b"gone".into(),
        qos: QoS::AtLeastOnce,
        retain: true,
        delay_interval: 5,
        message_expiry_interval: Some(3600),
        properties: b"\x01\x01".into(),
    }
}

fn subscription() -> Subscription {
    Subscription {
        filter: filter("a/+/#"),
        options: SubscriptionOptions {
            qos: QoS::AtLeastOnce,
            no_local: true,
            retain_as_published: true,
            retain_handling: RetainHandling::SendIfNew,
        },
        identifier: Some(268_435_455),
    }
}

/// Every event, named. A new variant makes `name` fail to compile until it stands here.
fn events() -> Vec<(String, EventRef<'static>)> {
    let published = |nth| DeliveryRef { at: Offset::new(300, 2), nth };
    let outstanding = |phase| Outstanding { message: published(0), packet_id: id(1), phase };
    let drop = |reason| Event::MessageDropped { from: published(0), upto: published(1), reason };
    let close = |publish_will, session_expiry_interval| Event::SessionClosed {
        reason: ReasonCode::KeepAliveTimeout,
        publish_will,
        session_expiry_interval,
    };
    let events = [
        Event::NodeStarted { node: 1, start: 1_700_000_000 },
        Event::SessionOpened(Box::new(session_opened(None))),
        Event::SessionOpened(Box::new(session_opened(Some(will())))),
        close(true, u32::MAX),
        close(false, 0),
        Event::SessionExpired,
        Event::Subscribed { subscriptions: vec![subscription()] },
        Event::Unsubscribed { filters: vec![filter("a/+/#"), filter("b")] },
        Event::MessageReleased { packet_ids: vec![id(1), id(65_535)] },
        Event::DeliveryStarted { deliveries: vec![(id(7), published(0)), (id(8), published(3))] },
        Event::DeliveryReceived { packet_ids: vec![id(7)] },
        Event::DeliveryProgressed {
            upto: published(0),
            outstanding: vec![
                outstanding(DeliveryPhase::Published),
                outstanding(DeliveryPhase::Received),
            ],
        },
        drop(DropReason::QueueFull),
        drop(DropReason::Expired),
        drop(DropReason::TooLarge),
        drop(DropReason::Purged),
        Event::SharedSettled {
            deliveries: vec![DeliveryRef::shared(AT, 0), DeliveryRef::shared(CAUSE, 0x7fff_ffff)],
        },
        Event::SharedDropped {
            group: filter("$share/g/a/+"),
            upto: AT,
            reason: DropReason::QueueFull,
        },
        drop(DropReason::NotAuthorized),
        Event::AccessRulesReplaced { rules: None },
        Event::AccessRulesReplaced { rules: Some(access::parse(ACL).unwrap()) },
        Event::NodeLost { node: 2, start: 1_700_000_000 },
    ];
    let bare = MessagePublished {
        qos: QoS::AtMostOnce,
        retain: false,
        packet_id: None,
        message_expiry_interval: None,
        properties: b"",
        payload: b"",
        ..message()
    };
    let messages = [message(), bare].map(EventRef::MessagePublished);
    let mut counts = std::collections::BTreeMap::new();
    messages
        .into_iter()
        .chain(events.map(EventRef::Other))
        .map(|event| {
            let name = name(&event);
            let count = counts.entry(name).or_insert(0);
            *count += 1;
            (format!("{name}_{count}"), event)
        })
        .collect()
}

fn name(event: &EventRef<'_>) -> &'static str {
    match event {
        EventRef::MessagePublished(_) => "message_published",
        EventRef::Other(event) => match event {
            Event::NodeStarted { .. } => "node_started",
            Event::SessionOpened(_) => "session_opened",
            Event::SessionClosed { .. } => "session_closed",
            Event::SessionExpired => "session_expired",
            Event::Subscribed { .. } => "subscribed",
            Event::Unsubscribed { .. } => "unsubscribed",
            Event::MessageReleased { .. } => "message_released",
            Event::DeliveryStarted { .. } => "delivery_started",
            Event::DeliveryReceived { .. } => "delivery_received",
            Event::DeliveryProgressed { .. } => "delivery_progressed",
            Event::MessageDropped { .. } => "message_dropped",
            Event::SharedSettled { .. } => "shared_settled",
            Event::SharedDropped { .. } => "shared_dropped",
            Event::AccessRulesReplaced { .. } => "access_rules_replaced",
            Event::NodeLost { .. } => "node_lost",
        },
    }
}
