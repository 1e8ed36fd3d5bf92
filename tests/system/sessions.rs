//! Sessions: kept, resumed, expired, taken over.

use std::time::Duration;

use ledgermq_core::packet::{Packet, ProtocolVersion, QoS};
use ledgermq_core::reason::ReasonCode;

use crate::support::broker::Broker;
use crate::support::client::{Client, Options, message, success};
use crate::support::packets::Received;

const VERSIONS: [ProtocolVersion; 2] = [ProtocolVersion::V311, ProtocolVersion::V5];

/// `[MQTT-3.1.2-5]` `[MQTT-3.1.2-6]` `[MQTT-3.1.2-23]` `[MQTT-3.1.3-2]` `[MQTT-3.2.2-3]`
/// `[MQTT-4.5.0-1]` `[MQTT311-3.1.2-4]` `[MQTT311-3.1.2-5]` `[MQTT311-3.1.3-2]` `[MQTT311-3.2.2-2]`
/// `[MQTT311-3.2.2-3]` `[MQTT311-4.1.0-1]` `[MQTT311-4.5.0-1]` `[MQTT311-4.6.0-5]`
/// `[MQTT311-4.6.0-6]`
#[test]
fn a_kept_session_receives_what_was_published_while_it_was_away() {
    let broker = Broker::run();
    for version in VERSIONS {
        let name = format!("sleeper {version:?}");
        let persistent = || Options::new(version, &name).persistent();
        let mut sleeper = persistent().connect(broker.mqtt);
        assert!(!sleeper.session_present());
        sleeper.subscribe("news/#", QoS::ExactlyOnce);
        sleeper.disconnect();
        let mut publisher = Options::new(version, "publisher").connect(broker.mqtt);
        for n in 0..4 {
            publisher.publish("news/one", n.to_string(), QoS::AtLeastOnce);
            publisher.publish("news/two", n.to_string(), QoS::ExactlyOnce);
        }
        let mut sleeper = persistent().connect(broker.mqtt);
        assert!(sleeper.session_present());
        // Order holds among messages of one QoS [MQTT-4.6.0-6].
        let messages: Vec<_> = (0..8).map(|_| sleeper.message()).collect();
        for topic in ["news/one", "news/two"] {
            let of_topic = messages.iter().filter(|message| message.topic == topic);
            assert_eq!(of_topic.map(|m| m.text()).collect::<Vec<_>>(), ["0", "1", "2", "3"]);
        }
        sleeper.no_message();
        sleeper.disconnect();
        // Nothing that was acknowledged comes again.
        let mut sleeper = persistent().connect(broker.mqtt);
        sleeper.no_message();
    }
}

/// `[MQTT-3.1.2-5]`
#[test]
fn a_session_survives_a_restart_with_its_subscriptions_and_queue() {
    let mut broker = Broker::run();
    let mut sleeper = Options::v5("sleeper").persistent().connect(broker.mqtt);
    sleeper.subscribe("news/#", QoS::AtLeastOnce);
    drop(sleeper);
    Options::v5("publisher").connect(broker.mqtt).publish("news/1", "before", QoS::AtLeastOnce);
    broker.restart();
    Options::v5("publisher").connect(broker.mqtt).publish("news/2", "between", QoS::ExactlyOnce);
    broker.crash();
    Options::v5("publisher").connect(broker.mqtt).publish("news/3", "after", QoS::AtLeastOnce);
    let mut sleeper = Options::v5("sleeper").persistent().connect(broker.mqtt);
    assert!(sleeper.session_present());
    let texts: Vec<String> = (0..3).map(|_| sleeper.message().text().to_owned()).collect();
    assert_eq!(texts, ["before", "between", "after"]);
    sleeper.no_message();
}

/// `[MQTT-3.1.2-4]` `[MQTT-3.1.4-4]`
#[test]
fn a_clean_start_and_an_end_with_0_leave_nothing() {
    let broker = Broker::run();
    let mut first = Options::v5("client").persistent().connect(broker.mqtt);
    first.subscribe("t", QoS::AtLeastOnce);
    drop(first);
    let clean = Options::v5("client").clean_start(true).connect(broker.mqtt);
    assert!(!clean.session_present());
    clean.disconnect();
    let again = Options::v5("client").persistent().connect(broker.mqtt);
    assert!(!again.session_present(), "a session with interval 0 ended with its connection");
}

/// `[MQTT-4.1.0-2]`
#[test]
fn a_session_expires_after_its_interval() {
    let broker = Broker::run();
    let connect = || Options::v5("client").clean_start(false).session_expiry(1);
    let mut client = connect().connect(broker.mqtt);
    client.subscribe("t", QoS::AtLeastOnce);
    client.disconnect();
    let client = connect().connect(broker.mqtt);
    assert!(client.session_present(), "the interval has not passed");
    client.disconnect();
    std::thread::sleep(Duration::from_millis(2_500));
    assert!(!connect().connect(broker.mqtt).session_present());
}

#[test]
fn a_session_expires_while_the_node_is_down_or_after_its_start() {
    let mut broker = Broker::run();
    let connect = |name, seconds| Options::v5(name).clean_start(false).session_expiry(seconds);
    for (name, seconds) in [("short", 1), ("long", 1_000)] {
        connect(name, seconds).connect(broker.mqtt).disconnect();
    }
    // A connection that the crash breaks counts as closed when the node starts again.
    let _open = connect("open", 1).connect(broker.mqtt);
    broker.kill();
    std::thread::sleep(Duration::from_millis(1_500));
    broker.start();
    std::thread::sleep(Duration::from_millis(2_500));
    assert!(!connect("short", 1).connect(broker.mqtt).session_present());
    assert!(!connect("open", 1).connect(broker.mqtt).session_present());
    assert!(connect("long", 1_000).connect(broker.mqtt).session_present());
}

/// `[MQTT-3.3.1-1]` `[MQTT-4.3.2-3]` `[MQTT-4.3.3-3]` `[MQTT-4.4.0-1]` `[MQTT311-2.3.1-4]`
/// `[MQTT311-3.1.2-4]` `[MQTT311-3.3.1-1]` `[MQTT311-4.3.2-1]` `[MQTT311-4.4.0-1]`
/// `[MQTT311-4.6.0-1]`
#[test]
fn unacknowledged_deliveries_come_again_as_duplicates_with_their_identifiers() {
    let broker = Broker::run();
    for (version, qos) in
        [(ProtocolVersion::V311, QoS::AtLeastOnce), (ProtocolVersion::V5, QoS::ExactlyOnce)]
    {
        let connect = || Options::new(version, "slow").persistent();
        let mut slow = connect().manual_ack().connect(broker.mqtt);
        slow.subscribe("t", qos);
        let mut publisher = Options::new(version, "publisher").connect(broker.mqtt);
        publisher.publish("t", "1", qos);
        publisher.publish("t", "2", qos);
        let first = [slow.message(), slow.message()];
        drop(slow);
        let mut slow = connect().connect(broker.mqtt);
        assert!(slow.session_present());
        for before in first {
            let again = slow.message();
            assert_eq!(again.payload, before.payload);
            assert_eq!(again.packet_id, before.packet_id);
            assert!(again.dup && !before.dup);
        }
        slow.no_message();
        slow.disconnect();
        Options::new(version, "slow").clean_start(true).connect(broker.mqtt).disconnect();
    }
}

/// `[MQTT-4.3.3-5]`
#[test]
fn a_received_qos_2_delivery_goes_on_with_pubrel_and_not_with_publish() {
    let broker = Broker::run();
    let connect = || Options::v5("half").persistent().manual_ack();
    let mut half = connect().connect(broker.mqtt);
    half.subscribe("t", QoS::ExactlyOnce);
    Options::v5("publisher").connect(broker.mqtt).publish("t", "1", QoS::ExactlyOnce);
    let id = half.message().packet_id.unwrap();
    half.send(&Packet::PubRec(success(id)));
    assert_eq!(half.answer(), Received::PubRel(id, ReasonCode::Success));
    drop(half);
    let mut half = connect().connect(broker.mqtt);
    assert_eq!(half.answer(), Received::PubRel(id, ReasonCode::Success));
    half.send(&Packet::PubComp(success(id)));
    half.no_message();
    drop(half);
    connect().connect(broker.mqtt).no_message();
}

#[test]
fn a_qos_2_publish_is_completed_after_a_crash_and_delivered_once() {
    let mut broker = Broker::run();
    let mut subscriber = Options::v5("subscriber").persistent().connect(broker.mqtt);
    subscriber.subscribe("t", QoS::ExactlyOnce);
    let mut publisher = Options::v5("publisher").persistent().connect(broker.mqtt);
    let publish = message("t", b"once", QoS::ExactlyOnce);
    let id = publisher.send_publish(&publish).unwrap();
    assert_eq!(publisher.answer(), Received::PubRec(id, ReasonCode::Success));
    broker.crash();
    let mut publisher = Options::v5("publisher").persistent().connect(broker.mqtt);
    assert!(publisher.session_present());
    // As a client that did not see the PUBREC, then as one that did.
    let again = ledgermq_core::packet::Publish { dup: true, packet_id: Some(id), ..publish };
    publisher.send_publish(&again);
    assert_eq!(publisher.answer(), Received::PubRec(id, ReasonCode::Success));
    publisher.send(&Packet::PubRel(success(id)));
    assert_eq!(publisher.answer(), Received::PubComp(id, ReasonCode::Success));
    let unreleased = subscriber.unreleased.clone();
    let mut subscriber = Options::v5("subscriber").persistent().connect(broker.mqtt);
    subscriber.unreleased = unreleased;
    assert!(subscriber.session_present());
    assert_eq!(subscriber.message().text(), "once");
    subscriber.no_message();
}

/// `[MQTT-3.1.3-2]` `[MQTT-3.1.4-3]` `[MQTT311-3.1.3-2]` `[MQTT311-3.1.4-2]`
#[test]
fn a_second_connection_takes_the_session_over() {
    let broker = Broker::run();
    for version in VERSIONS {
        let name = format!("same {version:?}");
        let connect = || Options::new(version, &name).persistent();
        let mut first = connect().connect(broker.mqtt);
        first.subscribe("t", QoS::AtLeastOnce);
        let mut second = connect().connect(broker.mqtt);
        assert!(second.session_present());
        let reason = first.wait_closed();
        let expected = (version == ProtocolVersion::V5).then_some(ReasonCode::SessionTakenOver);
        assert_eq!(reason, expected);
        let mut publisher = Options::new(version, "publisher").connect(broker.mqtt);
        publisher.publish("t", "for the second", QoS::AtLeastOnce);
        assert_eq!(second.message().text(), "for the second");
    }
}

/// `[MQTT-3.1.3-6]` `[MQTT-3.1.3-7]` `[MQTT-3.2.2-16]` `[MQTT311-3.1.3-6]`
#[test]
fn a_client_without_a_name_is_given_one() {
    let broker = Broker::run();
    let client = Options::v5("").connect(broker.mqtt);
    let name = client.connected().assigned_client_id.clone().unwrap();
    assert!(!name.is_empty());
    let other = Options::v5("").connect(broker.mqtt);
    assert_ne!(other.connected().assigned_client_id.as_deref(), Some(&*name));
    Options::v311("").connect(broker.mqtt).ping();
    let refused = Options::v311("").clean_start(false).try_connect(broker.mqtt);
    assert!(refused.is_err(), "[MQTT311-3.1.3-8]");
}

/// `[MQTT-3.3.4-9]`
#[test]
fn the_receive_maximum_of_a_client_bounds_what_is_on_its_way() {
    let broker = Broker::run();
    let mut slow = Options::v5("slow").receive_maximum(2).manual_ack().connect(broker.mqtt);
    slow.subscribe("t", QoS::AtLeastOnce);
    let mut publisher = Options::v5("publisher").connect(broker.mqtt);
    for n in 0..5 {
        publisher.publish("t", n.to_string(), QoS::AtLeastOnce);
    }
    let acknowledge = |slow: &mut Client, id| slow.send(&Packet::PubAck(success(id)));
    let first = [slow.message(), slow.message()];
    slow.no_message();
    acknowledge(&mut slow, first[0].packet_id.unwrap());
    assert_eq!(slow.message().text(), "2");
    slow.no_message();
    acknowledge(&mut slow, first[1].packet_id.unwrap());
    assert_eq!(slow.message().text(), "3");
}
