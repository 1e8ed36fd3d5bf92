//! Keep alive, and the limits that need no authentication.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use ledgermq_core::codec::ForwardedProperty;
use ledgermq_core::packet::{
    ForwardedProperties, Packet, ProtocolVersion, Publish, QoS, SubscriptionOptions,
};
use ledgermq_core::reason::ReasonCode;

use crate::support::broker::{Broker, Options as BrokerOptions};
use crate::support::client::{Client, Options, Refused, message};

/// `[MQTT-3.1.2-22]`
#[test]
fn a_client_that_stays_silent_is_disconnected_after_one_and_a_half_keep_alives() {
    let broker = Broker::run();
    let mut client = Options::v5("client").keep_alive(1).connect(broker.mqtt);
    let started = Instant::now();
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(500));
        client.ping();
    }
    let silent = Instant::now();
    assert_eq!(client.wait_closed(), Some(ReasonCode::KeepAliveTimeout));
    assert!(silent.elapsed() >= Duration::from_millis(1_400), "{:?}", silent.elapsed());
    assert!(started.elapsed() >= Duration::from_secs(3));
}

#[test]
fn the_server_keep_alive_is_told_and_kept() {
    let broker = BrokerOptions::default().set("gateway.server_keep_alive", "1s").start();
    let mut client = Options::v5("client").connect(broker.mqtt);
    assert_eq!(client.connected().server_keep_alive, Some(1));
    assert_eq!(client.wait_closed(), Some(ReasonCode::KeepAliveTimeout));
    // 3.1.1 has no way to tell it, so its clients keep what they chose.
    let mut old = Options::v311("old").connect(broker.mqtt);
    std::thread::sleep(Duration::from_millis(2_500));
    old.ping();
}

#[test]
fn a_connection_without_connect_is_closed_after_the_timeout() {
    let broker = BrokerOptions::default().set("gateway.limits.connect_timeout", "1s").start();
    let started = Instant::now();
    let mut silent = Client::open(broker.mqtt, ProtocolVersion::V5).unwrap();
    let mut dribbling = Client::open(broker.mqtt, ProtocolVersion::V5).unwrap();
    dribbling.send_bytes(&[0x10, 40, 0, 4]);
    assert_eq!(silent.wait_closed(), None);
    assert_eq!(dribbling.wait_closed(), None);
    assert!(started.elapsed() >= Duration::from_millis(900));
}

/// `[MQTT-3.1.0-1]` `[MQTT-3.1.0-2]`
#[test]
fn the_first_packet_must_be_a_connect_and_there_is_only_one() {
    let broker = Broker::run();
    let mut client = Client::open(broker.mqtt, ProtocolVersion::V5).unwrap();
    client.send(&Packet::PingReq);
    assert_eq!(client.wait_closed(), None);
    let options = Options::v5("client");
    let mut client = options.clone().connect(broker.mqtt);
    client.send(&Packet::Connect(Box::new(options.connect)));
    assert_eq!(client.wait_closed(), Some(ReasonCode::ProtocolError));
}

/// How the connection was refused; by closing it if by no code.
fn refused(options: Options<'_>, broker: &Broker) -> Option<ReasonCode> {
    match options.try_connect(broker.mqtt) {
        Err(Refused::ConnAck(connected)) => Some(connected.reason),
        Err(Refused::Io(error)) => {
            assert_ne!(error.kind(), ErrorKind::TimedOut);
            None
        }
        Ok(_) => panic!("the connection was accepted"),
    }
}

#[test]
fn connections_that_come_too_fast_are_told_so() {
    let broker = BrokerOptions::default().set("gateway.limits.connection_rate", 2).start();
    let reasons: Vec<_> = (0..20)
        .filter_map(|_| match Options::v5("client").try_connect(broker.mqtt) {
            Ok(client) => {
                client.disconnect();
                None
            }
            Err(Refused::ConnAck(connected)) => Some(connected.reason),
            Err(Refused::Io(error)) => panic!("{error}"),
        })
        .collect();
    assert!(reasons.len() > 10, "{reasons:?}");
    assert!(reasons.iter().all(|reason| *reason == ReasonCode::ConnectionRateExceeded));
    // The rate is an average: later they may come again.
    let end = Instant::now() + Duration::from_secs(5);
    while Options::v5("client").try_connect(broker.mqtt).is_err() {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_client_publishes_no_faster_than_it_may() {
    let mut broker = BrokerOptions::default().set("gateway.limits.publish_rate", 5).start();
    let mut newer = Options::v5("newer").connect(broker.mqtt);
    let reasons: Vec<_> = (0..20)
        .map(|_| newer.publish_packet(&message("t", b"x", QoS::AtLeastOnce)))
        .filter(|reason| reason.is_error())
        .collect();
    assert!(reasons.len() > 5, "{reasons:?}");
    assert!(reasons.iter().all(|reason| *reason == ReasonCode::QuotaExceeded), "{reasons:?}");
    newer.send_publish(&message("t", b"x", QoS::AtMostOnce));
    assert_eq!(newer.wait_closed(), Some(ReasonCode::MessageRateTooHigh));
    // 3.1.1 has no code for it: such a client waits for its acknowledgements, and gets them all.
    let started = Instant::now();
    let mut older = Options::v311("older").connect(broker.mqtt);
    for _ in 0..11 {
        older.publish("t", b"x", QoS::ExactlyOnce);
    }
    assert!(started.elapsed() >= Duration::from_millis(950), "{:?}", started.elapsed());
    let metric = "ledgermq_mqtt_throttled_total";
    broker.wait_for("it is counted", |broker| broker.metric(metric) > 0.0);
}

#[test]
fn bytes_are_limited_like_messages() {
    let broker = BrokerOptions::default().set("gateway.limits.publish_bytes", "1KiB").start();
    let mut client = Options::v5("client").connect(broker.mqtt);
    // What is larger than a second's worth passes once.
    client.publish("t", [0; 5000], QoS::AtLeastOnce);
    let reason = client.publish_packet(&message("t", b"x", QoS::AtLeastOnce));
    assert_eq!(reason, ReasonCode::QuotaExceeded);
}

#[test]
fn user_properties_are_limited() {
    let broker = BrokerOptions::default().set("gateway.limits.user_properties", 2).start();
    let mut options = Options::v5("client");
    options.connect.user_properties = vec![("name", "value"); 3];
    assert_eq!(refused(options, &broker), Some(ReasonCode::QuotaExceeded));
    let mut client = Options::v5("client").connect(broker.mqtt);
    for (count, reason) in [(2, ReasonCode::NoMatchingSubscribers), (3, ReasonCode::QuotaExceeded)]
    {
        let properties = (0..count).map(|_| ForwardedProperty::UserProperty("name", "value"));
        let mut publish = message("t", b"x", QoS::AtLeastOnce);
        publish.forwarded = ForwardedProperties::new(properties).unwrap();
        assert_eq!(client.publish_packet(&publish), reason);
    }
}

#[test]
fn connections_beyond_the_limit_are_turned_away() {
    let mut broker = BrokerOptions::default().set("gateway.limits.connections", 2).start();
    let first = Options::v5("1").connect(broker.mqtt);
    let _second = Options::v5("2").connect(broker.mqtt);
    assert_eq!(refused(Options::v5("3"), &broker), Some(ReasonCode::QuotaExceeded));
    assert_eq!(refused(Options::v311("3"), &broker), Some(ReasonCode::ServerUnavailable));
    let metric = "ledgermq_mqtt_connects_refused_total{reason=\"connections\"}";
    broker.wait_for("both are counted", |broker| broker.metric(metric) == 2.0);
    first.disconnect();
    // The broker may learn of the end a moment later than the client.
    let end = Instant::now() + Duration::from_secs(5);
    while Options::v5("3").try_connect(broker.mqtt).is_err() {
        assert!(Instant::now() < end, "the place of the first is free again");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// `[MQTT-3.2.2-15]`
#[test]
fn a_packet_beyond_the_limit_is_refused_by_its_length() {
    let broker = BrokerOptions::default().set("gateway.limits.packet_bytes", "1KiB").start();
    let mut client = Options::v5("client").connect(broker.mqtt);
    assert_eq!(client.connected().maximum_packet_size, Some(1024));
    client.publish("t", [0; 900], QoS::AtLeastOnce);
    // Only the head of a packet of 2,000 bytes.
    client.send_bytes(&[0x30, 0xD0, 0x0F]);
    assert_eq!(client.wait_closed(), Some(ReasonCode::PacketTooLarge));
}

#[test]
fn topics_and_filters_have_a_limit_of_levels() {
    let broker = BrokerOptions::default().set("gateway.limits.topic_levels", 4).start();
    let mut client = Options::v5("client").connect(broker.mqtt);
    let options = SubscriptionOptions::default();
    let reasons = client.subscribe_with(&[("a/b/c/d", options), ("a/b/c/d/#", options)], None);
    assert_eq!(reasons[0], ReasonCode::Success);
    assert!(reasons[1].is_error(), "{reasons:?}");
    client.send_publish(&message("a/b/c/d/e", b"", QoS::AtLeastOnce));
    assert_eq!(client.wait_closed(), Some(ReasonCode::TopicNameInvalid));
}

#[test]
fn topics_may_be_a_thousand_levels_deep_and_no_deeper() {
    let options = || BrokerOptions::default().set("gateway.limits.topic_levels", 1000);
    let mut broker = options().start();
    let topic = ["a"; 1000].join("/");
    let filters = [topic.clone(), ["+"; 1000].join("/"), format!("{}/#", ["+"; 999].join("/"))];
    let mut publisher = Options::v5("publisher").connect(broker.mqtt);
    publisher.publish_retained(&topic, "deep", QoS::AtLeastOnce);
    // The views answer a persistent session, so all of it is folded.
    for filter in &filters {
        let mut client = Options::v5("deep").persistent().connect(broker.mqtt);
        client.subscribe(filter, QoS::AtLeastOnce);
        assert_eq!(client.message().topic, topic);
        client.unsubscribe(&[filter]);
    }
    publisher.send_publish(&message(&format!("{topic}/a"), b"", QoS::AtLeastOnce));
    assert_eq!(publisher.wait_closed(), Some(ReasonCode::TopicNameInvalid));
    let wild = filters[1].replace('+', "%2B");
    let estimate = broker.api(&format!("/subscriptions:estimate?filter={wild}"));
    assert!(estimate["messages"].is_number(), "{estimate}");
    let listed = broker.api(&format!("/retained?filter={wild}"));
    assert_eq!(listed["items"][0]["topic"], topic);
    broker.restart();
    let mut client = Options::v5("deep").connect(broker.mqtt);
    client.subscribe(&filters[2], QoS::AtLeastOnce);
    assert_eq!(client.message().topic, topic);

    let mut broker = BrokerOptions::default().set("gateway.limits.topic_levels", 1001).prepare();
    broker.spawn();
    assert!(!broker.wait_end().success());
    let stderr = broker.stderr();
    assert!(stderr.contains("gateway.limits.topic_levels: must be from 1 to 1000"), "{stderr}");
}

/// `[MQTT-3.3.4-7]`
#[test]
fn more_unacknowledged_messages_than_the_receive_maximum_are_a_fault() {
    let broker = BrokerOptions::default().set("gateway.limits.receive_maximum", 3).start();
    let mut client = Options::v5("client").connect(broker.mqtt);
    assert_eq!(client.connected().receive_maximum, Some(3));
    // QoS 2 is unacknowledged until PUBREL was answered, so these four are on their way at once.
    for _ in 0..4 {
        client.send_publish(&message("t", b"", QoS::ExactlyOnce));
    }
    assert_eq!(client.wait_closed(), Some(ReasonCode::ReceiveMaximumExceeded));
}

#[test]
fn the_queue_of_a_session_keeps_the_newest_messages() {
    let mut broker = BrokerOptions::default().set("gateway.limits.queued_messages", 10).start();
    assert_eq!(kept_in_queue(&broker, 50, 0), (40..50).collect::<Vec<u32>>());
    // The session was not connected: it is the session that lost them, at any restart.
    let metric = "ledgermq_session_messages_dropped_total{reason=\"queue_full\"}";
    assert_eq!(broker.metric(metric), 40.0);
    broker.crash();
    assert_eq!(broker.metric(metric), 40.0);
}

#[test]
fn the_queue_of_a_session_keeps_the_newest_bytes() {
    let broker = BrokerOptions::default().set("gateway.limits.queued_bytes", "10KiB").start();
    let kept = kept_in_queue(&broker, 50, 1000);
    // Ten of a thousand bytes each and a little more; the topic counts, too.
    assert_eq!(kept, (40..50).collect::<Vec<u32>>());
}

/// What a session finds that was away while numbered messages, `padding` bytes longer than their
/// number, were published.
fn kept_in_queue(broker: &Broker, messages: u32, padding: usize) -> Vec<u32> {
    let persistent = || Options::v5("sleeper").persistent();
    let mut sleeper = persistent().connect(broker.mqtt);
    sleeper.subscribe("t", QoS::AtLeastOnce);
    sleeper.disconnect();
    let mut publisher = Options::v5("publisher").connect(broker.mqtt);
    for n in 0..messages {
        publisher.publish("t", format!("{n}{}", " ".repeat(padding)), QoS::AtLeastOnce);
    }
    // Drops are events of their own, a moment behind the messages.
    std::thread::sleep(Duration::from_millis(500));
    let mut sleeper = persistent().connect(broker.mqtt);
    let mut texts = Vec::new();
    while let Some(message) = sleeper.message_within(Duration::from_millis(500)) {
        texts.push(message.text().trim_end().parse().unwrap());
    }
    texts
}

#[test]
fn messages_beyond_the_retained_limit_are_refused() {
    let broker = BrokerOptions::default().set("gateway.limits.retained_messages", 2).start();
    only_two_are_retained(&broker, "value");
}

#[test]
fn bytes_beyond_the_retained_limit_are_refused() {
    let broker = BrokerOptions::default().set("gateway.limits.retained_bytes", "2000B").start();
    only_two_are_retained(&broker, &"x".repeat(1000));
}

fn only_two_are_retained(broker: &Broker, payload: &str) {
    let mut client = Options::v5("client").connect(broker.mqtt);
    client.publish_retained("1", payload, QoS::AtLeastOnce);
    client.publish_retained("2", payload, QoS::AtLeastOnce);
    // The count is that of the view, a moment behind the log.
    std::thread::sleep(Duration::from_millis(300));
    let third = Publish { retain: true, ..message("3", b"value", QoS::AtLeastOnce) };
    assert_eq!(client.publish_packet(&third), ReasonCode::QuotaExceeded);
    // What is there may be replaced, and removed.
    client.publish_retained("2", payload, QoS::AtLeastOnce);
    client.publish_retained("1", "", QoS::AtLeastOnce);
    std::thread::sleep(Duration::from_millis(300));
    client.publish_retained("3", "value", QoS::AtLeastOnce);
}

/// `[MQTT-3.1.2-24]`
#[test]
fn a_message_larger_than_the_client_takes_is_not_sent_to_it() {
    let broker = Broker::run();
    let mut small = Options::v5("small").maximum_packet_size(200).connect(broker.mqtt);
    small.subscribe("t", QoS::AtLeastOnce);
    let mut publisher = Options::v5("publisher").connect(broker.mqtt);
    publisher.publish("t", [b'x'; 300], QoS::AtLeastOnce);
    publisher.publish("t", "short", QoS::AtLeastOnce);
    assert_eq!(small.message().text(), "short");
}

#[test]
fn malformed_packets_are_answered_with_their_reason() {
    let broker = Broker::run();
    let mut client = Options::v5("client").connect(broker.mqtt);
    client.send_bytes(&[0x36, 5, 0, 1, b't', 0, 1]); // QoS 3
    assert_eq!(client.wait_closed(), Some(ReasonCode::MalformedPacket));
    let mut client = Options::v5("client").connect(broker.mqtt);
    let wildcard = message("a/#", b"", QoS::AtMostOnce);
    client.send_publish(&wildcard);
    assert_eq!(client.wait_closed(), Some(ReasonCode::MalformedPacket));
    let mut client = Options::v311("client").connect(broker.mqtt);
    client.send_bytes(&[0x36, 5, 0, 1, b't', 0, 1]);
    assert_eq!(client.wait_closed(), None);
    // Nobody else is the worse for it.
    Options::v5("client").connect(broker.mqtt).ping();
}

#[test]
fn a_session_has_only_so_many_subscriptions() {
    let broker = BrokerOptions::default().set("gateway.limits.subscriptions_per_client", 2).start();
    let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..SubscriptionOptions::default() };
    for client in [Options::v5("five"), Options::v311("three")] {
        let mut client = client.connect(broker.mqtt);
        let all = [("a", options), ("b", options), ("c", options), ("a", options)];
        let reasons = client.subscribe_with(&all, None);
        assert_eq!(reasons[..2], [ReasonCode::GrantedQoS1; 2]);
        assert!(reasons[2].is_error(), "{reasons:?}");
        client.unsubscribe(&["a"]);
        assert_eq!(client.subscribe_with(&[("c", options)], None), [ReasonCode::GrantedQoS1]);
    }
}

#[test]
fn clients_cannot_take_the_file_descriptors_of_the_log() {
    // Sixteen are left for clients.
    let options = || BrokerOptions::default().set("log.file_bytes", "1MiB").descriptors(544);
    let mut broker = options().set("log.hot_bytes_max", "8MiB").start();
    let body = broker.get("/readyz").1;
    assert!(body.contains("\"connections_max\":16"), "{body}");
    let mut publisher = Options::v5("publisher").connect(broker.mqtt);
    // They stay as long as they can; those above the bound are closed at once.
    let idle: Vec<_> =
        (0..600).filter_map(|_| std::net::TcpStream::connect(broker.mqtt).ok()).collect();
    let payload = vec![b'x'; 100_000];
    for _ in 0..200 {
        // The log begins a file for each ten of them, and purges.
        publisher.publish("t", &payload, QoS::AtLeastOnce);
    }
    assert!(broker.ended().is_none(), "{}", broker.stderr());
    drop(idle);

    let mut broker = options().set("log.hot_bytes_max", "9MiB").prepare();
    broker.spawn();
    assert!(!broker.wait_end().success());
    assert!(broker.stderr().contains("log.hot_bytes_max"), "{}", broker.stderr());
}

#[test]
fn a_client_that_goes_on_sending_hears_why_it_was_cut_off() {
    let broker = BrokerOptions::default().set("gateway.limits.receive_maximum", 3).start();
    for _ in 0..10 {
        let mut client = Options::v5("client").connect(broker.mqtt);
        for _ in 0..4 {
            client.send_publish(&message("t", b"x", QoS::ExactlyOnce));
        }
        // It comes after the end, and nobody reads it: a socket that is simply closed would reset
        // the connection, and what was sent last would be lost.
        std::thread::sleep(Duration::from_millis(20));
        for _ in 0..100 {
            client.send_bytes(&[0xC0, 0]);
        }
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(client.wait_closed(), Some(ReasonCode::ReceiveMaximumExceeded));
    }
    let mut broker = broker;
    broker.wait_for("nothing is left of them", |broker| {
        broker.metric("ledgermq_mqtt_connections") == 0.0
    });
}
