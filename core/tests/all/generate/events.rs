//! Generated events.

use ledgermq_core::access::{Access, Subject};
use ledgermq_core::event::{
    DeliveryPhase, DeliveryRef, DropReason, Event, MessagePublished, Outstanding, SessionOpened,
    Subscription, WillMessage,
};
use ledgermq_core::offset::Offset;
use ledgermq_core::packet::{RetainHandling, SubscriptionOptions};
use ledgermq_core::reason::ReasonCode;
use ledgermq_core::topic::TopicFilter;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::{binary, forwarded, packet_id, qos, string, text, topic_filter, topic_name, version};

pub(in super::super) fn offset() -> impl Strategy<Value = Offset> {
    (any::<u64>(), any::<u32>()).prop_map(|(index, ordinal)| Offset::new(index, ordinal))
}

/// An expiry of 2^32-1 seconds is written as none.
fn expiry() -> impl Strategy<Value = Option<u32>> {
    option::of(0..u32::MAX)
}

pub(in super::super) fn message() -> impl Strategy<Value = MessagePublished<'static>> {
    (
        (qos(), any::<bool>(), option::of(packet_id())),
        (topic_name(), expiry(), forwarded(), binary()),
    )
        .prop_map(|((qos, retain, packet_id), (topic, expiry, properties, payload))| {
            MessagePublished {
                qos,
                retain,
                packet_id,
                topic,
                message_expiry_interval: expiry,
                properties: properties.0.into_owned().leak(),
                payload,
            }
        })
}

/// Every event but the published message.
pub(in super::super) fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (any::<u64>(), any::<u64>()).prop_map(|(node, start)| Event::NodeStarted { node, start }),
        (any::<u64>(), any::<u64>()).prop_map(|(node, start)| Event::NodeLost { node, start }),
        session_opened().prop_map(|opened| Event::SessionOpened(Box::new(opened))),
        (any::<bool>(), prop_oneof![Just(0), any::<u32>()]).prop_map(
            |(publish_will, session_expiry_interval)| {
                let reason = ReasonCode::KeepAliveTimeout;
                Event::SessionClosed { reason, publish_will, session_expiry_interval }
            }
        ),
        Just(Event::SessionExpired),
        vec(subscription(), 0..4).prop_map(|subscriptions| Event::Subscribed { subscriptions }),
        vec(filter(), 0..4).prop_map(|filters| Event::Unsubscribed { filters }),
        vec(packet_id(), 0..4).prop_map(|packet_ids| Event::MessageReleased { packet_ids }),
        vec((packet_id(), delivery()), 0..4)
            .prop_map(|deliveries| Event::DeliveryStarted { deliveries }),
        vec(packet_id(), 0..4).prop_map(|packet_ids| Event::DeliveryReceived { packet_ids }),
        (delivery(), vec(outstanding(), 0..4))
            .prop_map(|(upto, outstanding)| Event::DeliveryProgressed { upto, outstanding }),
        (delivery(), delivery(), drop_reason())
            .prop_map(|(from, upto, reason)| Event::MessageDropped { from, upto, reason }),
        vec(delivery(), 0..4).prop_map(|deliveries| Event::SharedSettled { deliveries }),
        (filter(), offset(), drop_reason())
            .prop_map(|(group, upto, reason)| Event::SharedDropped { group, upto, reason }),
        option::of(vec((option::of(option::of(text())), access(), filter()), 0..6)).prop_map(
            |rules| {
                let subject = |subject: Option<Option<&str>>| match subject {
                    None => Subject::Everyone,
                    Some(None) => Subject::Nameless,
                    Some(Some(user)) => Subject::User(user.into()),
                };
                let rule = |(who, access, filter)| (subject(who), access, filter);
                let rules = rules.map(|rules| rules.into_iter().map(rule).collect());
                Event::AccessRulesReplaced { rules }
            }
        ),
    ]
}

fn session_opened() -> impl Strategy<Value = SessionOpened> {
    (
        (text(), option::of(string()), any::<u64>(), version(), any::<[bool; 2]>()),
        (any::<u32>(), any::<u16>(), string(), option::of(will())),
    )
        .prop_map(|((client, username, node, protocol, [clean_start, is_proven]), rest)| {
            let (session_expiry_interval, keep_alive, peer, will) = rest;
            SessionOpened {
                client: client.into(),
                username,
                is_proven,
                node,
                protocol,
                clean_start,
                session_expiry_interval,
                keep_alive,
                peer,
                will,
            }
        })
}

fn will() -> impl Strategy<Value = WillMessage> {
    (
        (topic_name(), binary(), qos(), any::<bool>()),
        (any::<u32>(), option::of(any::<u32>()), forwarded()),
    )
        .prop_map(|((topic, payload, qos, retain), (delay_interval, expiry, properties))| {
            WillMessage {
                topic: topic.into(),
                payload: payload.into(),
                qos,
                retain,
                delay_interval,
                message_expiry_interval: expiry,
                properties: properties.0.into_owned(),
            }
        })
}

fn filter() -> impl Strategy<Value = TopicFilter> {
    topic_filter().prop_map(|filter| TopicFilter::new(filter).unwrap())
}

fn subscription() -> impl Strategy<Value = Subscription> {
    (filter(), qos(), any::<bool>(), any::<bool>(), option::of(1..=268_435_455_u32)).prop_map(
        |(filter, qos, no_local, retain_as_published, identifier)| Subscription {
            filter,
            options: SubscriptionOptions {
                qos,
                no_local,
                retain_as_published,
                retain_handling: RetainHandling::SendIfNew,
            },
            identifier,
        },
    )
}

fn delivery() -> impl Strategy<Value = DeliveryRef> {
    (offset(), any::<u32>()).prop_map(|(at, nth)| DeliveryRef { at, nth })
}

fn outstanding() -> impl Strategy<Value = Outstanding> {
    let phase = prop_oneof![Just(DeliveryPhase::Published), Just(DeliveryPhase::Received)];
    (delivery(), packet_id(), phase).prop_map(|(message, packet_id, phase)| Outstanding {
        message,
        packet_id,
        phase,
    })
}

fn access() -> impl Strategy<Value = Access> {
    prop::sample::select(vec![Access::Read, Access::Write, Access::ReadWrite, Access::Deny])
}

fn drop_reason() -> impl Strategy<Value = DropReason> {
    prop_oneof![
        Just(DropReason::QueueFull),
        Just(DropReason::Expired),
        Just(DropReason::TooLarge),
        Just(DropReason::Purged),
        Just(DropReason::NotAuthorized)
    ]
}
