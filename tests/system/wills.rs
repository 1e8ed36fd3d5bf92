//! Will Messages.

use std::time::Duration;

use ledgermq_core::packet::{ForwardedProperties, ProtocolVersion, QoS, Will};
use ledgermq_core::reason::ReasonCode;

use crate::publish::properties;
use crate::support::broker::Broker;
use crate::support::client::{Client, Options, message};

fn watcher(broker: &Broker) -> Client {
    let mut watcher = Options::v5("watcher").persistent().connect(broker.mqtt);
    watcher.subscribe("will/#", QoS::ExactlyOnce);
    watcher
}

fn delayed(seconds: u32) -> Will<'static> {
    Will {
        topic: "will/delayed",
        payload: b"gone",
        qos: QoS::AtLeastOnce,
        retain: false,
        delay_interval: seconds,
        message_expiry_interval: None,
        forwarded: ForwardedProperties::default(),
    }
}

/// `[MQTT-3.1.2-7]` `[MQTT-3.1.2-8]` `[MQTT-3.14.4-3]` `[MQTT311-3.1.2-8]` `[MQTT311-3.14.4-3]`
#[test]
fn a_will_is_published_when_the_connection_breaks_and_not_after_a_disconnect() {
    let broker = Broker::run();
    let mut watcher = watcher(&broker);
    for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
        let connect = |qos| Options::new(version, "mortal").will("will/x", b"gone", qos);
        connect(QoS::AtLeastOnce).connect(broker.mqtt).disconnect();
        watcher.no_message();
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            drop(connect(qos).connect(broker.mqtt));
            let message = watcher.message();
            assert_eq!((message.topic.as_str(), message.text()), ("will/x", "gone"));
            assert_eq!(message.qos, qos);
        }
        watcher.no_message();
    }
    let asked = Options::v5("mortal").will("will/x", b"asked for", QoS::AtLeastOnce);
    asked.connect(broker.mqtt).disconnect_with(ReasonCode::DisconnectWithWill);
    assert_eq!(watcher.message().text(), "asked for");
    watcher.no_message();
}

/// `[MQTT-3.1.3-9]`
#[test]
fn a_delayed_will_is_cancelled_by_coming_back_in_time() {
    let broker = Broker::run();
    let mut watcher = watcher(&broker);
    let connect = |seconds| Options::v5("mortal").persistent().will_message(delayed(seconds));
    drop(connect(2).connect(broker.mqtt));
    let back = connect(1).connect(broker.mqtt);
    std::thread::sleep(Duration::from_millis(2_500));
    watcher.no_message();
    drop(back);
    assert_eq!(watcher.message().text(), "gone");
    watcher.no_message();
}

/// `[MQTT-3.1.2-8]`
#[test]
fn a_delayed_will_does_not_outlive_its_session() {
    let broker = Broker::run();
    let mut watcher = watcher(&broker);
    let connect = Options::v5("mortal").session_expiry(1).will_message(delayed(100));
    drop(connect.connect(broker.mqtt));
    watcher.no_message();
    assert_eq!(watcher.message().text(), "gone");
    // A clean start ends the session too.
    let connect = Options::v5("mortal").session_expiry(100).will_message(delayed(100));
    drop(connect.connect(broker.mqtt));
    Options::v5("mortal").clean_start(true).connect(broker.mqtt).disconnect();
    assert_eq!(watcher.message().text(), "gone");
    watcher.no_message();
}

/// `[MQTT-3.1.2-7]`
#[test]
fn a_delayed_will_survives_a_crash_and_comes_once() {
    let mut broker = Broker::run();
    drop(watcher(&broker));
    let connect = Options::v5("mortal").session_expiry(100).will_message(delayed(2));
    drop(connect.connect(broker.mqtt));
    broker.crash();
    let mut watcher = Options::v5("watcher").persistent().connect(broker.mqtt);
    assert_eq!(watcher.message().text(), "gone");
    watcher.ping();
    std::thread::sleep(Duration::from_millis(2_500));
    watcher.no_message();
}

#[test]
fn a_client_that_closes_behind_its_last_message_is_noticed() {
    let broker = Broker::run();
    let mut watcher = watcher(&broker);
    watcher.subscribe("last/words", QoS::AtMostOnce);
    let mortal = Options::v5("mortal").keep_alive(0).will("will/now", b"gone", QoS::AtLeastOnce);
    let mut mortal = mortal.connect(broker.mqtt);
    // Message and end are there at once when the broker looks: one edge tells of both.
    broker.pause();
    mortal.send_publish(&message("last/words", b"bye", QoS::AtMostOnce));
    drop(mortal);
    broker.go_on();
    assert_eq!(watcher.message().text(), "bye");
    assert_eq!(watcher.message().text(), "gone");
}

/// `[MQTT-3.1.2-14]` `[MQTT-3.1.2-15]` `[MQTT311-3.1.2-16]` `[MQTT311-3.1.2-17]`
#[test]
fn a_will_is_retained_if_it_says_so_and_else_not() {
    let broker = Broker::run();
    let mut watcher = watcher(&broker);
    for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
        for retain in [true, false] {
            let topic = format!("will/{version:?}/{retain}");
            let will = Will { retain, topic: &topic, ..delayed(0) };
            drop(Options::new(version, "mortal").will_message(will).connect(broker.mqtt));
            assert_eq!(watcher.message().topic, topic);
            let mut late = Options::new(version, "late").connect(broker.mqtt);
            late.subscribe(&topic, QoS::AtLeastOnce);
            if retain {
                let message = late.message();
                assert!(message.retain && message.text() == "gone", "{message:?}");
            }
            late.no_message();
        }
    }
}

/// `[MQTT-3.1.3-10]`
#[test]
fn a_will_keeps_its_properties_and_their_order() {
    let broker = Broker::run();
    let mut watcher = watcher(&broker);
    let will = Will { forwarded: properties(), ..delayed(0) };
    drop(Options::v5("mortal").will_message(will).connect(broker.mqtt));
    assert_eq!(watcher.message().properties, *properties().0);
}

#[test]
fn the_wills_of_a_crashed_node_are_published_once_after_its_restart() {
    let mut broker = Broker::run();
    drop(watcher(&broker));
    let mortal = Options::v5("mortal").will("will/crash", b"gone", QoS::ExactlyOnce);
    let _mortal = mortal.connect(broker.mqtt);
    broker.crash();
    let mut watcher = watcher(&broker);
    assert_eq!(watcher.message().text(), "gone");
    broker.crash();
    let unreleased = watcher.unreleased.clone();
    let mut watcher = Options::v5("watcher").persistent().connect(broker.mqtt);
    watcher.unreleased = unreleased;
    watcher.no_message();
}
