//! Shared Subscriptions: each message to one member of the group.

use std::collections::BTreeMap;
use std::time::Duration;

use ledgermq_core::packet::{Ack, Packet, ProtocolVersion, QoS, SubscriptionOptions};
use ledgermq_core::reason::ReasonCode;

use crate::support::broker::{Broker, Options as BrokerOptions};
use crate::support::client::{Client, Options};

const GROUP: &str = "$share/group/work/+";

/// Time in which a message that was on its way has come, if any was.
const SOON: Duration = Duration::from_millis(300);

fn publisher(broker: &Broker) -> Client {
    Options::v5("publisher").connect(broker.mqtt)
}

fn publish(publisher: &mut Client, numbers: std::ops::Range<u32>, qos: QoS) {
    for n in numbers {
        publisher.publish("work/x", n.to_string(), qos);
    }
}

/// Everything that comes to any of the members, with the number of times.
fn all(members: &mut [Client], expected: usize) -> BTreeMap<u32, u32> {
    let mut came: BTreeMap<u32, u32> = BTreeMap::new();
    for member in members {
        let wait = if came.len() < expected { Duration::from_secs(5) } else { SOON };
        let mut next = member.message_within(wait);
        while let Some(message) = next {
            *came.entry(message.text().parse().unwrap()).or_default() += 1;
            next = member.message_within(SOON);
        }
    }
    came
}

/// `[MQTT-4.8.2-3]`
#[test]
fn each_message_reaches_one_member_by_the_lower_qos() {
    let broker = Broker::run();
    let mut members = [
        Options::v5("newer").connect(broker.mqtt),
        Options::v311("older").connect(broker.mqtt),
        Options::v5("third").connect(broker.mqtt),
    ];
    let granted = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
    for (member, qos) in members.iter_mut().zip(granted) {
        member.subscribe(GROUP, qos);
    }
    let mut plain = Options::v5("plain").connect(broker.mqtt);
    plain.subscribe("work/#", QoS::ExactlyOnce);
    let mut publisher = publisher(&broker);
    publish(&mut publisher, 0..30, QoS::ExactlyOnce);
    let mut came = BTreeMap::new();
    for (member, qos) in members.iter_mut().zip(granted) {
        for _ in 0..10 {
            let message = member.message();
            assert_eq!(message.qos, qos);
            assert!(!message.retain);
            *came.entry(message.text().parse::<u32>().unwrap()).or_insert(0) += 1;
        }
        member.no_message();
    }
    assert_eq!(came, (0..30).map(|n| (n, 1)).collect());
    for n in 0..30 {
        assert_eq!(plain.message().text(), n.to_string(), "others get all of them");
    }
}

#[test]
fn what_was_not_acknowledged_goes_to_another_when_its_member_or_the_node_is_lost() {
    let mut broker = Broker::run();
    for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
        let member = |name| Options::new(version, name).persistent();
        let mut silent = member("silent").manual_ack().connect(broker.mqtt);
        let mut diligent = member("diligent").connect(broker.mqtt);
        silent.subscribe(GROUP, QoS::AtLeastOnce);
        diligent.subscribe(GROUP, QoS::AtLeastOnce);
        let mut publisher = publisher(&broker);
        publish(&mut publisher, 0..10, QoS::AtLeastOnce);
        for _ in 0..5 {
            silent.message();
        }
        let mut came = all(std::slice::from_mut(&mut diligent), 5);
        drop(silent);
        came.append(&mut all(std::slice::from_mut(&mut diligent), 5));
        assert_eq!(came, (0..10).map(|n| (n, 1)).collect(), "{version:?}");
        // The same when everybody is lost.
        let mut silent = member("silent").manual_ack().connect(broker.mqtt);
        publish(&mut publisher, 10..20, QoS::AtLeastOnce);
        for _ in 0..5 {
            silent.message();
        }
        assert_eq!(all(std::slice::from_mut(&mut diligent), 5).len(), 5);
        // What was acknowledged is logged by then.
        std::thread::sleep(SOON);
        broker.crash();
        let mut diligent = member("diligent").connect(broker.mqtt);
        assert!(diligent.session_present());
        assert_eq!(all(std::slice::from_mut(&mut diligent), 5).len(), 5);
        let mut silent = member("silent").connect(broker.mqtt);
        silent.no_message();
        for client in [silent, diligent] {
            client.disconnect();
        }
        for name in ["silent", "diligent"] {
            Options::v5(name).connect(broker.mqtt).disconnect();
        }
    }
}

/// `[MQTT-4.8.2-4]` `[MQTT-4.8.2-5]`
#[test]
fn of_qos_2_what_a_member_was_sent_comes_to_it_again_and_to_nobody_else() {
    let mut broker = Broker::run();
    let member = |name| Options::v5(name).persistent();
    let mut first = member("first").manual_ack().connect(broker.mqtt);
    let mut second = member("second").connect(broker.mqtt);
    first.subscribe(GROUP, QoS::ExactlyOnce);
    second.subscribe(GROUP, QoS::ExactlyOnce);
    let mut publisher = publisher(&broker);
    publish(&mut publisher, 0..4, QoS::ExactlyOnce);
    let sent = [first.message(), first.message()];
    assert_eq!(all(std::slice::from_mut(&mut second), 2).len(), 2);
    broker.crash();
    let mut second = member("second").connect(broker.mqtt);
    second.no_message();
    let mut first = member("first").manual_ack().connect(broker.mqtt);
    for before in sent {
        let again = first.message();
        assert!(again.dup);
        assert_eq!((again.payload, again.packet_id), (before.payload, before.packet_id));
    }
    // With its session what it was sent is gone.
    drop(first);
    Options::v5("first").connect(broker.mqtt).disconnect();
    second.no_message();
}

/// `[MQTT-4.8.2-6]`
#[test]
fn what_a_member_refuses_goes_to_nobody() {
    let broker = Broker::run();
    let mut refusing = Options::v5("refusing").manual_ack().connect(broker.mqtt);
    refusing.subscribe(GROUP, QoS::ExactlyOnce);
    let mut publisher = publisher(&broker);
    publisher.publish("work/x", "1", QoS::AtLeastOnce);
    publisher.publish("work/x", "2", QoS::ExactlyOnce);
    for (text, qos) in [("1", QoS::AtLeastOnce), ("2", QoS::ExactlyOnce)] {
        let message = refusing.message();
        assert_eq!((message.text(), message.qos), (text, qos));
        let refusal = Ack::new(message.packet_id.unwrap(), ReasonCode::ImplementationSpecificError);
        refusing.send(&match qos {
            QoS::ExactlyOnce => Packet::PubRec(refusal),
            _ => Packet::PubAck(refusal),
        });
    }
    refusing.ping();
    let mut other = Options::v5("other").connect(broker.mqtt);
    other.subscribe(GROUP, QoS::ExactlyOnce);
    drop(refusing);
    other.no_message();
}

#[test]
fn a_group_keeps_what_waits_as_long_as_it_has_a_member() {
    let mut broker = Broker::run();
    let mut member = Options::v5("member").persistent().connect(broker.mqtt);
    member.subscribe(GROUP, QoS::AtLeastOnce);
    member.disconnect();
    let mut publisher = publisher(&broker);
    publisher.publish_retained("work/kept", "retained", QoS::AtLeastOnce);
    publish(&mut publisher, 0..3, QoS::AtLeastOnce);
    let waiting = |broker: &Broker| broker.metric("ledgermq_shared_messages{state=\"waiting\"}");
    broker.wait_for("what waits in the group", |broker| waiting(broker) == 4.0);
    assert_eq!(broker.metric("ledgermq_shared_groups"), 1.0);
    broker.crash();
    assert_eq!(waiting(&broker), 4.0);
    // Who joins gets what waits, but nothing for being retained.
    let mut late = Options::v5("late").connect(broker.mqtt);
    late.subscribe(GROUP, QoS::AtLeastOnce);
    for text in ["retained", "0", "1", "2"] {
        let message = late.message();
        assert_eq!((message.text(), message.retain), (text, false));
    }
    late.no_message();
    // When the last is gone, what waits is gone.
    assert_eq!(late.unsubscribe(&[GROUP]), [ReasonCode::Success]);
    let mut member = Options::v5("member").clean_start(false).connect(broker.mqtt);
    assert_eq!(member.unsubscribe(&[GROUP]), [ReasonCode::Success]);
    let mut publisher = self::publisher(&broker);
    let message = crate::support::client::message("work/x", b"3", QoS::AtLeastOnce);
    assert_eq!(publisher.publish_packet(&message), ReasonCode::NoMatchingSubscribers);
    member.subscribe(GROUP, QoS::AtLeastOnce);
    member.no_message();
}

#[test]
fn a_client_is_a_member_of_so_many_groups_only() {
    let key = "gateway.limits.shared_subscriptions_per_client";
    let broker = BrokerOptions::default().set(key, 1).start();
    let mut client = Options::v5("client").connect(broker.mqtt);
    let options = SubscriptionOptions::default();
    let filters = ["$share/a/t", "$share/b/t", "plain"].map(|filter| (filter, options));
    let granted = [ReasonCode::Success, ReasonCode::QuotaExceeded, ReasonCode::Success];
    assert_eq!(client.subscribe_with(&filters, None), granted);
    client.unsubscribe(&["$share/a/t"]);
    assert_eq!(client.subscribe_with(&filters[1..2], None), [ReasonCode::Success]);
    let refused = "ledgermq_mqtt_subscriptions_refused_total{reason=\"subscriptions\"}";
    assert_eq!(broker.metric(refused), 1.0);
}
