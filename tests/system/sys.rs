//! `$SYS`.

use std::collections::BTreeMap;
use std::time::Duration;

use ledgermq_core::packet::QoS;
use ledgermq_core::reason::ReasonCode;

use crate::support::broker::Broker;
use crate::support::client::{Client, Options, message};

fn values(client: &mut Client) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    while let Some(message) = client.message_within(Duration::from_millis(300)) {
        assert!(message.retain && message.qos == QoS::AtMostOnce);
        values.insert(message.topic.clone(), message.text().to_owned());
    }
    values
}

#[test]
fn the_values_of_the_node_answer_a_subscription_like_retained_messages() {
    let broker = Broker::run();
    let mut client = Options::v5("client").connect(broker.mqtt);
    client.subscribe("$SYS/#", QoS::ExactlyOnce);
    let values = values(&mut client);
    assert!(values["$SYS/broker/version"].starts_with("ledgermq version "));
    assert!(values["$SYS/broker/uptime"].ends_with(" seconds"));
    assert_eq!(values["$SYS/broker/retained messages/count"], "0");
    for name in [
        "clients/total",
        "clients/connected",
        "clients/disconnected",
        "clients/maximum",
        "bytes/received",
        "messages/sent",
        "publish/messages/dropped",
        "subscriptions/count",
        "shared_subscriptions/count",
        "store/messages/count",
        "heap/current",
        "connections/socket/count",
    ] {
        let value = &values[&format!("$SYS/broker/{name}")];
        assert!(value.parse::<u64>().is_ok(), "{name} = {value}");
    }
    for name in ["messages/received/1min", "publish/sent/15min", "bytes/sent/5min"] {
        let value = &values[&format!("$SYS/broker/load/{name}")];
        assert!(value.split_once('.').is_some_and(|(_, digits)| digits.len() == 2), "{value}");
    }
}

#[test]
fn what_changes_is_told_to_who_subscribed() {
    let broker = Broker::run();
    let mut client = Options::v311("client").connect(broker.mqtt);
    client.subscribe("$SYS/broker/clients/+", QoS::AtMostOnce);
    assert_eq!(values(&mut client)["$SYS/broker/clients/connected"], "0");
    let mut changed = BTreeMap::new();
    while let Some(message) = client.message_within(Duration::from_secs(30)) {
        assert!(!message.retain);
        changed.insert(message.topic.clone(), message.text().to_owned());
        if changed.contains_key("$SYS/broker/clients/maximum") {
            break;
        }
    }
    assert_eq!(changed["$SYS/broker/clients/connected"], "1");
    assert!(!changed.contains_key("$SYS/broker/clients/expired"), "{changed:?}");
}

#[test]
fn the_values_are_nobodys_to_publish_and_no_wildcard_in_front_matches_them() {
    let broker = Broker::run();
    let mut client = Options::v5("client").connect(broker.mqtt);
    client.subscribe("#", QoS::AtMostOnce);
    client.subscribe("+/broker/version", QoS::AtMostOnce);
    let reason = client.publish_packet(&message("$SYS/broker/version", b"mine", QoS::AtLeastOnce));
    assert_eq!(reason, ReasonCode::NotAuthorized);
    client.no_message();
}
