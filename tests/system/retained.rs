//! Retained messages.

use std::time::Duration;

use ledgermq_core::packet::{ProtocolVersion, Publish, QoS, RetainHandling, SubscriptionOptions};

use crate::support::broker::Broker;
use crate::support::client::{Options, message};

/// `[MQTT-3.3.1-5]` `[MQTT-3.3.1-6]` `[MQTT311-3.3.1-5]` `[MQTT311-3.3.1-6]` `[MQTT311-3.3.1-8]`
/// `[MQTT311-3.3.1-9]` `[MQTT311-3.3.1-10]`
#[test]
fn the_last_retained_message_of_a_topic_greets_a_new_subscription() {
    let broker = Broker::run();
    for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
        let mut publisher = Options::new(version, "publisher").connect(broker.mqtt);
        publisher.publish_retained("state/a", "old", QoS::AtLeastOnce);
        publisher.publish_retained("state/a", "new", QoS::ExactlyOnce);
        publisher.publish_retained("state/b", "other", QoS::AtMostOnce);
        publisher.ping();
        let mut subscriber = Options::new(version, "subscriber").connect(broker.mqtt);
        subscriber.subscribe("state/+", QoS::AtLeastOnce);
        let mut greeted = [subscriber.message(), subscriber.message()];
        greeted.sort_by(|a, b| a.topic.cmp(&b.topic));
        assert_eq!((greeted[0].text(), greeted[0].qos), ("new", QoS::AtLeastOnce));
        assert_eq!((greeted[1].text(), greeted[1].qos), ("other", QoS::AtMostOnce));
        assert!(greeted.iter().all(|message| message.retain));
        publisher.publish_retained("state/a", "live", QoS::AtLeastOnce);
        let live = subscriber.message();
        assert_eq!((live.text(), live.retain), ("live", false));
        publisher.publish_retained("state/a", "", QoS::AtLeastOnce);
        assert_eq!(subscriber.message().text(), "");
        let mut late = Options::new(version, "late").connect(broker.mqtt);
        late.subscribe("state/a", QoS::AtLeastOnce);
        late.no_message();
    }
}

#[test]
fn retained_messages_survive_a_restart_and_a_crash() {
    let mut broker = Broker::run();
    let mut publisher = Options::v5("publisher").connect(broker.mqtt);
    publisher.publish_retained("kept", "value", QoS::AtLeastOnce);
    publisher.publish_retained("gone", "value", QoS::AtLeastOnce);
    publisher.publish_retained("gone", "", QoS::AtLeastOnce);
    for crash in [false, true] {
        if crash {
            broker.crash();
        } else {
            broker.restart();
        }
        let mut subscriber = Options::v5("subscriber").connect(broker.mqtt);
        subscriber.subscribe("#", QoS::AtLeastOnce);
        let message = subscriber.message();
        assert_eq!(
            (message.topic.as_str(), message.text(), message.retain),
            ("kept", "value", true)
        );
        subscriber.no_message();
    }
}

/// `[MQTT-3.3.1-9]` `[MQTT-3.3.1-10]` `[MQTT-3.3.1-11]` `[MQTT-3.8.4-4]`
#[test]
fn retain_handling_decides_who_is_greeted() {
    let broker = Broker::run();
    let mut client = Options::v5("client").connect(broker.mqtt);
    client.publish_retained("t", "value", QoS::AtLeastOnce);
    let with = |retain_handling| SubscriptionOptions { retain_handling, ..Default::default() };
    client.subscribe_with(&[("t", with(RetainHandling::DoNotSend))], None);
    client.no_message();
    client.subscribe_with(&[("t", with(RetainHandling::SendIfNew))], None);
    client.no_message();
    client.unsubscribe(&["t"]);
    client.subscribe_with(&[("t", with(RetainHandling::SendIfNew))], None);
    assert_eq!(client.message().text(), "value");
    client.subscribe_with(&[("t", with(RetainHandling::Send))], None);
    assert_eq!(client.message().text(), "value");
    client.no_message();
}

/// `[MQTT-3.3.2-6]`
#[test]
fn a_retained_message_expires_and_its_remaining_interval_is_told() {
    let broker = Broker::run();
    let mut client = Options::v5("client").connect(broker.mqtt);
    let expiring = |topic, seconds| Publish {
        retain: true,
        message_expiry_interval: Some(seconds),
        ..message(topic, b"value", QoS::AtLeastOnce)
    };
    client.publish_packet(&expiring("short", 1));
    client.publish_packet(&expiring("long", 100));
    std::thread::sleep(Duration::from_millis(2_100));
    client.subscribe("#", QoS::AtLeastOnce);
    let message = client.message();
    assert_eq!(message.topic, "long");
    assert!(message.expiry.is_some_and(|left| (90..=98).contains(&left)), "{message:?}");
    client.no_message();
}
