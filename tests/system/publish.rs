//! QoS 0, 1 and 2 in both versions.

use ledgermq_core::codec::ForwardedProperty;
use ledgermq_core::packet::{
    ForwardedProperties, Packet, ProtocolVersion, Publish, QoS, RetainHandling, SubscriptionOptions,
};
use ledgermq_core::reason::ReasonCode;

use crate::support::broker::Broker;
use crate::support::client::{Options, granted, message, success};
use crate::support::packets::Received;

const VERSIONS: [ProtocolVersion; 2] = [ProtocolVersion::V311, ProtocolVersion::V5];
const LEVELS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

/// `[MQTT-3.3.2-3]` `[MQTT-3.8.4-8]` `[MQTT-4.2-1]` `[MQTT311-3.3.1-2]` `[MQTT311-3.3.2-3]`
/// `[MQTT311-3.3.4-1]` `[MQTT311-3.8.3-2]` `[MQTT311-3.8.4-6]` `[MQTT311-4.3.1-1]`
/// `[MQTT311-7.1.1-1]`
#[test]
fn a_message_arrives_once_with_the_lower_of_both_qos() {
    let broker = Broker::run();
    for (from, to) in [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(a, b)| (VERSIONS[a], VERSIONS[b])) {
        for published in LEVELS {
            for subscribed in LEVELS {
                let mut subscriber = Options::new(to, "subscriber").connect(broker.mqtt);
                subscriber.subscribe("a/+/c", subscribed);
                let mut publisher = Options::new(from, "publisher").connect(broker.mqtt);
                let payload = format!("{from:?} {to:?} {published:?} {subscribed:?}");
                publisher.publish("a/b/c", &payload, published);
                let message = subscriber.message();
                assert_eq!(message.topic, "a/b/c");
                assert_eq!(message.text(), payload);
                assert_eq!(message.qos, published.min(subscribed));
                assert!(!message.retain && !message.dup);
                subscriber.ping();
                assert_eq!(subscriber.message_within(std::time::Duration::ZERO), None);
            }
        }
    }
}

/// `[MQTT-4.6.0-5]` `[MQTT-4.6.0-6]` `[MQTT311-4.6.0-5]`
#[test]
fn messages_of_a_publisher_arrive_in_their_order() {
    let broker = Broker::run();
    let mut subscriber = Options::v5("subscriber").connect(broker.mqtt);
    subscriber.subscribe("#", QoS::ExactlyOnce);
    let mut publisher = Options::v5("publisher").connect(broker.mqtt);
    // Windows of 20, the Receive Maximum that the broker gives by default.
    for window in 0..20_u32 {
        let mut open = Vec::new();
        for n in 0..20 {
            let payload = (window * 20 + n).to_string();
            let publish = message("t", payload.as_bytes(), QoS::AtLeastOnce);
            open.push(publisher.send_publish(&publish).unwrap());
        }
        for id in open {
            // The codes "success" and "no matching subscribers" are both good.
            assert!(matches!(publisher.answer(), Received::PubAck(acked, _) if acked == id));
        }
    }
    for n in 0..400 {
        assert_eq!(subscriber.message().text(), n.to_string());
    }
}

/// `[MQTT-4.3.3-10]` `[MQTT-4.3.3-12]` `[MQTT311-4.3.3-2]`
#[test]
fn the_same_qos_2_identifier_is_one_message_until_it_is_released() {
    let broker = Broker::run();
    for version in VERSIONS {
        let mut subscriber = Options::new(version, "subscriber").connect(broker.mqtt);
        subscriber.subscribe("t", QoS::ExactlyOnce);
        let mut publisher = Options::new(version, "publisher").connect(broker.mqtt);
        let id = publisher.next_id();
        for dup in [false, true, true] {
            let publish =
                Publish { dup, packet_id: Some(id), ..message("t", b"once", QoS::ExactlyOnce) };
            publisher.send_publish(&publish);
            assert_eq!(publisher.answer(), Received::PubRec(id, ReasonCode::Success));
        }
        publisher.send(&Packet::PubRel(success(id)));
        assert_eq!(publisher.answer(), Received::PubComp(id, ReasonCode::Success));
        assert_eq!(subscriber.message().text(), "once");
        publisher.publish("t", "twice", QoS::ExactlyOnce);
        assert_eq!(subscriber.message().text(), "twice");
        subscriber.no_message();
    }
}

#[test]
fn a_large_message_arrives_whole() {
    let broker = Broker::run();
    let mut subscriber = Options::v5("subscriber").connect(broker.mqtt);
    subscriber.subscribe("t", QoS::AtLeastOnce);
    let mut publisher = Options::v5("publisher").connect(broker.mqtt);
    let payload: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    publisher.publish("t", &payload, QoS::AtLeastOnce);
    assert!(subscriber.message().payload == payload);
}

/// `[MQTT-3.8.4-3]` `[MQTT-3.10.4-2]` `[MQTT311-3.8.4-3]` `[MQTT311-3.10.4-2]` `[MQTT311-3.10.4-5]`
#[test]
fn a_subscription_is_replaced_and_given_up() {
    let broker = Broker::run();
    for version in VERSIONS {
        let mut client = Options::new(version, "client").connect(broker.mqtt);
        client.subscribe("t", QoS::AtMostOnce);
        client.subscribe("t", QoS::AtLeastOnce);
        client.publish("t", "1", QoS::AtLeastOnce);
        assert_eq!(client.message().qos, QoS::AtLeastOnce);
        let reasons = client.unsubscribe(&["t", "never"]);
        if version == ProtocolVersion::V5 {
            assert_eq!(reasons, [ReasonCode::Success, ReasonCode::NoSubscriptionExisted]);
        }
        client.publish("t", "2", QoS::AtLeastOnce);
        client.no_message();
    }
}

#[test]
fn subscription_options_and_identifiers_of_mqtt_5_are_honoured() {
    let broker = Broker::run();
    let mut client = Options::v5("client").connect(broker.mqtt);
    let own = SubscriptionOptions { qos: QoS::AtLeastOnce, no_local: true, ..Default::default() };
    assert_eq!(client.subscribe_with(&[("own/#", own)], None), [granted(QoS::AtLeastOnce)]);
    let kept = SubscriptionOptions {
        retain_as_published: true,
        retain_handling: RetainHandling::DoNotSend,
        ..own
    };
    let kept = SubscriptionOptions { no_local: false, ..kept };
    assert_eq!(client.subscribe_with(&[("kept/#", kept)], Some(7)), [granted(QoS::AtLeastOnce)]);

    client.publish("own/x", "not for me", QoS::AtLeastOnce);
    client.publish_retained("kept/x", "as published", QoS::AtLeastOnce);
    let message = client.message();
    assert_eq!((message.text(), message.retain), ("as published", true));
    assert_eq!(message.identifiers, [7]);
    client.no_message();
}

#[test]
fn what_cannot_be_subscribed_to_is_refused_filter_by_filter() {
    let broker = Broker::run();
    let mut client = Options::v5("client").connect(broker.mqtt);
    let options = SubscriptionOptions::default();
    let reasons = client
        .subscribe_with(&[("ok", options), ("a/#/b", options), ("$share/a+b/t", options)], None);
    let invalid = ReasonCode::TopicFilterInvalid;
    assert_eq!(reasons, [ReasonCode::Success, invalid, invalid]);
}

/// `[MQTT-4.7.2-1]`
#[test]
fn topics_that_begin_with_a_dollar_are_hidden_from_wildcards() {
    let broker = Broker::run();
    let mut client = Options::v5("client").connect(broker.mqtt);
    client.subscribe("#", QoS::AtMostOnce);
    client.subscribe("+/x", QoS::AtMostOnce);
    client.publish("$other/x", "hidden", QoS::AtMostOnce);
    client.publish("plain", "seen", QoS::AtMostOnce);
    assert_eq!(client.message().text(), "seen");
    client.no_message();
}

/// One of each property that a server passes on, and User Properties out of any order.
pub(crate) fn properties() -> ForwardedProperties<'static> {
    ForwardedProperties::new([
        ForwardedProperty::UserProperty("z", "first"),
        ForwardedProperty::CorrelationData(b"\0\xFF"),
        ForwardedProperty::PayloadFormatIndicator(true),
        ForwardedProperty::UserProperty("a", "second"),
        ForwardedProperty::ContentType("text/plain"),
        ForwardedProperty::ResponseTopic("answer/here"),
        ForwardedProperty::UserProperty("z", "first"),
        ForwardedProperty::UserProperty("", ""),
    ])
    .unwrap()
}

/// `[MQTT-3.3.2-4]` `[MQTT-3.3.2-15]` `[MQTT-3.3.2-16]` `[MQTT-3.3.2-17]` `[MQTT-3.3.2-18]`
/// `[MQTT-3.3.2-20]`
#[test]
fn what_a_publisher_says_of_its_message_is_passed_on_unaltered_live_queued_and_retained() {
    let mut broker = Broker::run();
    let persistent = || Options::v5("queued").persistent();
    let mut queued = persistent().connect(broker.mqtt);
    queued.subscribe("t", QoS::AtLeastOnce);
    queued.disconnect();
    let mut live = Options::v5("live").connect(broker.mqtt);
    live.subscribe("t", QoS::ExactlyOnce);
    let mut publisher = Options::v5("publisher").connect(broker.mqtt);
    for qos in LEVELS {
        let forwarded = properties();
        publisher.publish_packet(&Publish { retain: true, forwarded, ..message("t", b"x", qos) });
        assert_eq!(live.message().properties, *properties().0);
    }
    broker.restart();
    let mut queued = persistent().connect(broker.mqtt);
    for _ in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        assert_eq!(queued.message().properties, *properties().0);
    }
    let mut late = Options::v5("late").connect(broker.mqtt);
    late.subscribe("t", QoS::AtMostOnce);
    assert_eq!(late.message().properties, *properties().0);
}

#[test]
fn who_publishes_what_nobody_subscribes_to_is_told_so() {
    let broker = Broker::run();
    let mut publisher = Options::v5("publisher").connect(broker.mqtt);
    let mut answer = |topic: &str, qos| publisher.publish_packet(&message(topic, b"x", qos));
    assert_eq!(answer("a/b", QoS::AtLeastOnce), ReasonCode::NoMatchingSubscribers);
    let mut sleeper = Options::v311("sleeper").persistent().connect(broker.mqtt);
    sleeper.subscribe("a/+", QoS::AtMostOnce);
    assert_eq!(answer("a/b", QoS::AtLeastOnce), ReasonCode::Success);
    sleeper.disconnect();
    assert_eq!(answer("a/b", QoS::AtLeastOnce), ReasonCode::Success);
    assert_eq!(answer("a/b/c", QoS::AtLeastOnce), ReasonCode::NoMatchingSubscribers);
}
