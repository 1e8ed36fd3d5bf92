//! Attacks by what topics, filters and retained messages there are: numbers 30 to 33 and 40.

use std::time::{Duration, Instant};

use ledgermq_core::codec::ForwardedProperty;
use ledgermq_core::identity::PacketId;
use ledgermq_core::packet::{
    ForwardedProperties, Packet, ProtocolVersion, Publish, QoS, RetainHandling, Subscribe,
    SubscriptionOptions, Unsubscribe,
};
use ledgermq_core::reason::ReasonCode;

use crate::support::broker::{Broker, Options as BrokerOptions};
use crate::support::client::{Client, Options, Refused, message};
use crate::support::packets::Received;

use super::cost::{Cost, MIB, at_once, check_refused, put, refused, retained, subscribe};
use super::transport::check_alive;

const V5: ProtocolVersion = ProtocolVersion::V5;

/// Waits until the broker has taken everything that was sent before over this connection.
fn wait_taken(client: &mut Client) {
    client.publish("taken", "", QoS::AtLeastOnce);
}

#[test]
fn attack_30_a_flood_of_distinct_retained_topics_ends_at_the_limit() {
    const MAX: u64 = 10_000;
    let mut broker = BrokerOptions::default().set("gateway.limits.retained_messages", MAX).start();
    check_alive(&broker);
    let cost = Cost::before(&broker);
    // 200,000 topics with 1,000 bytes each, not acknowledged and therefore as fast as they are taken:
    // 220 MB if all were retained.
    at_once(4, |attacker| {
        let name = format!("attacker-{attacker}");
        let mut client = Options::v5(&name).connect(broker.mqtt);
        let payload = [b'x'; 1_000];
        for first in (0..50_000).step_by(500) {
            let mut bytes = Vec::new();
            for number in first..first + 500 {
                put(&mut bytes, &retained(&format!("{attacker}/{number}"), &payload), V5);
            }
            client.send_bytes(&bytes);
        }
        wait_taken(&mut client);
    });
    broker.wait_for("refusals", |broker| refused(broker, "messages", "retained") >= 180_000.0);
    broker.wait_for("the view", |broker| broker.metric("ledgermq_retained_messages") >= MAX as f64);
    // One worker is exact; each further one may overshoot by what it reads in a turn.
    let held = broker.metric("ledgermq_retained_messages");
    println!("{held} retained");
    assert!(held <= MAX as f64 * 1.2, "{held}");
    // What is retained, the topic tree (16 MiB of levels), and what is on its way.
    cost.check(&broker, 80 * MIB);
    // Told so, each in its way; what is there is replaced, and room is used again.
    let mut client = Options::v5("five").connect(broker.mqtt);
    let add = |topic| Publish { retain: true, ..message(topic, b"x", QoS::AtLeastOnce) };
    assert_eq!(client.publish_packet(&add("new")), ReasonCode::QuotaExceeded);
    let mut old = Options::v311("three").connect(broker.mqtt);
    old.send_publish(&add("new"));
    assert_eq!(old.wait_closed(), None);
    let topic = (0..50_000).map(|number| format!("0/{number}")).find(|topic| {
        client.subscribe(topic, QoS::AtMostOnce);
        client.message_within(Duration::from_millis(500)).is_some()
    });
    let topic = topic.expect("some of the first are retained");
    client.publish_retained(&topic, "replaced", QoS::AtLeastOnce);
    assert_eq!(client.message().text(), "replaced");
    check_alive(&broker);
}

#[test]
fn attack_31_topics_and_filters_of_65_535_levels_are_refused_or_served() {
    let deep = "/".repeat(65_535);
    let mut broker = Broker::run();
    let mut client = Options::v5("c").connect(broker.mqtt);
    let options = SubscriptionOptions::default();
    for filter in [&deep[..], &deep[..400]] {
        let reasons = client.subscribe_with(&[(filter, options)], None);
        assert_eq!(reasons, [ReasonCode::TopicFilterInvalid]);
    }
    assert_eq!(client.unsubscribe(&[&deep]), [ReasonCode::NoSubscriptionExisted]);
    client.send_publish(&message(&deep, b"", QoS::AtMostOnce));
    assert_eq!(client.wait_closed(), Some(ReasonCode::TopicNameInvalid));
    let mut old = Options::v311("old").connect(broker.mqtt);
    assert!(old.subscribe_with(&[(&deep, options)], None)[0].is_error());
    old.send_publish(&message(&deep, b"", QoS::AtLeastOnce));
    assert_eq!(old.wait_closed(), None);
    match Options::v5("will").will(&deep, b"", QoS::AtMostOnce).try_connect(broker.mqtt) {
        Err(Refused::ConnAck(connack)) => assert_eq!(connack.reason, ReasonCode::TopicNameInvalid),
        other => panic!("{other:?}"),
    }
    check_refused(&mut broker, "subscriptions", "topic", 3);
    check_alive(&broker);
    broker.kill();

    // As many as may be allowed are no danger: nothing recurses by level.
    let broker = BrokerOptions::default().set("gateway.limits.topic_levels", 1000).start();
    let mut client = Options::v5("c").connect(broker.mqtt);
    let topic = &deep[..999];
    let wild = "+/".repeat(999) + "#";
    for filter in [topic, &wild] {
        client.subscribe(filter, QoS::AtLeastOnce);
    }
    client.publish_retained(topic, "deep", QoS::AtLeastOnce);
    assert_eq!(client.message().text(), "deep");
    client.unsubscribe(&[topic]);
    client.subscribe(&wild, QoS::AtLeastOnce);
    assert_eq!(client.message().text(), "deep");
    check_alive(&broker);
}

#[test]
fn attack_32_a_hundred_thousand_subscriptions_that_overlap_end_at_the_limits() {
    let mut broker = Broker::run();
    let cost = Cost::before(&broker);
    let mut client = Options::v5("c").connect(broker.mqtt);
    // Every way to write 13 levels with and without '+': 8,192 filters that match one topic.
    let levels = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m"];
    let overlapping = |number: u32| {
        let each = levels.iter().enumerate();
        let each = each.map(|(at, level)| if number >> at & 1 == 1 { "+" } else { level });
        each.collect::<Vec<_>>().join("/")
    };
    let filters: Vec<String> = (0..8_192)
        .map(overlapping)
        .chain((8_192..100_000).map(|number| format!("other/{number}/+/#")))
        .collect();
    let mut granted = 0;
    let options = SubscriptionOptions {
        qos: QoS::AtLeastOnce,
        retain_handling: RetainHandling::DoNotSend,
        ..Default::default()
    };
    for (number, filters) in (1..).zip(filters.chunks(1_000)) {
        let filters: Vec<_> = filters.iter().map(|filter| (filter.as_str(), options)).collect();
        let reasons = client.subscribe_with(&filters, Some(number));
        assert!(reasons.iter().all(|reason| {
            matches!(reason, ReasonCode::GrantedQoS1 | ReasonCode::QuotaExceeded)
        }));
        granted += reasons.iter().filter(|reason| !reason.is_error()).count();
    }
    assert_eq!(granted, 10_000);
    check_refused(&mut broker, "subscriptions", "subscriptions", 90_000);
    // 10,000 filters at 133 bytes and their levels, in the worker and in the views, and the tables of
    // the session; 100,000 would be ten times as much.
    cost.check(&broker, 24 * MIB);
    // One message each, however many match, with their identifiers.
    let topic = levels.join("/");
    let mut publisher = Options::v5("publisher").connect(broker.mqtt);
    let began = Instant::now();
    for number in 0..200 {
        publisher.send_publish(&message(&topic, number.to_string().as_bytes(), QoS::AtMostOnce));
    }
    for number in 0..200 {
        let message = client.message();
        assert_eq!(message.text(), number.to_string());
        assert_eq!(message.identifiers.len(), 8_192);
    }
    println!("200 messages with 8,192 matches each: {:?}", began.elapsed());
    client.no_message();
    check_alive(&broker);
}

#[test]
fn attack_32_long_and_deep_filters_are_bounded_by_their_bytes() {
    let broker = Broker::run();
    // 1,000 filters of 60 kB are 60 MB, and five times as much in the tables.
    let long = |number: u32| format!("{number}/{}", "x".repeat(60_000));
    // Each level is a node of a tree: 10,000 filters of 200 levels are two million, and 280 MB.
    let deep = |number: u32| format!("{number}{}", "/x".repeat(199));
    for (name, most, filter) in
        [("long", 1_000, &long as &dyn Fn(u32) -> String), ("deep", 10_000, &deep)]
    {
        let cost = Cost::before(&broker);
        let mut client = Options::v5(name).connect(broker.mqtt);
        let options = SubscriptionOptions::default();
        let filters: Vec<String> = (0..most).map(filter).collect();
        let (mut bytes, mut refused) = (0, 0);
        for filters in filters.chunks(10) {
            let filters: Vec<_> = filters.iter().map(|filter| (filter.as_str(), options)).collect();
            for (reason, (filter, _)) in client.subscribe_with(&filters, None).iter().zip(filters) {
                match reason {
                    ReasonCode::Success => bytes += filter.len() + 32 * filter.split('/').count(),
                    ReasonCode::QuotaExceeded => refused += 1,
                    other => panic!("{other:?}"),
                }
            }
        }
        println!("{name}: {bytes} bytes, {refused} refused");
        // 4 MiB, eight times.
        cost.check(&broker, 32 * MIB);
        assert!(bytes <= 4 << 20, "{name}: {bytes}");
        assert!(refused > most / 2, "{name}: {refused}");
        check_alive(&broker);
    }
}

#[test]
fn attack_33_a_thousand_user_properties_of_64_kib_are_refused_and_not_kept() {
    const MANY: usize = 1_000;
    let short = vec![("name", "value"); MANY];
    let long = "x".repeat(65_000);
    let mut broker = Broker::run();
    // A packet of 65 MB is too large by its length, whatever stands in it.
    let mut client = Options::v5("c").connect(broker.mqtt);
    let mut large = message("t", b"", QoS::AtLeastOnce);
    let properties = (0..MANY).map(|_| ForwardedProperty::UserProperty("name", &long));
    large.forwarded = ForwardedProperties::new(properties).unwrap();
    large.packet_id = PacketId::new(1);
    let mut bytes = Vec::new();
    put(&mut bytes, &Packet::Publish(large), V5);
    client.send_bytes(&bytes[..64 << 10]);
    assert_eq!(client.wait_closed(), Some(ReasonCode::PacketTooLarge));
    // Many that are short are refused by each packet that may have them.
    let mut client = Options::v5("c").connect(broker.mqtt);
    let mut publish = message("t", b"", QoS::AtLeastOnce);
    let properties = short.iter().map(|(name, value)| ForwardedProperty::UserProperty(name, value));
    publish.forwarded = ForwardedProperties::new(properties).unwrap();
    assert_eq!(client.publish_packet(&publish), ReasonCode::QuotaExceeded);
    let packet_id = client.next_id();
    client.send(&Packet::Subscribe(Subscribe {
        packet_id,
        subscription_identifier: None,
        user_properties: short.clone(),
        filters: vec![("t", SubscriptionOptions::default())],
    }));
    let refusal = Received::SubAck(packet_id, vec![ReasonCode::QuotaExceeded]);
    assert_eq!(client.answer(), refusal);
    let packet_id = client.next_id();
    client.send(&Packet::Unsubscribe(Unsubscribe {
        packet_id,
        user_properties: short.clone(),
        filters: vec!["t"],
    }));
    let refusal = Received::UnsubAck(packet_id, vec![ReasonCode::ImplementationSpecificError]);
    assert_eq!(client.answer(), refusal);
    let mut options = Options::v5("d");
    options.connect.user_properties = short.clone();
    match options.try_connect(broker.mqtt) {
        Err(Refused::ConnAck(connack)) => assert_eq!(connack.reason, ReasonCode::QuotaExceeded),
        other => panic!("{other:?}"),
    }
    for (what, count) in [("messages", 1), ("subscriptions", 2), ("connects", 1)] {
        check_refused(&mut broker, what, "user_properties", count);
    }
    check_alive(&broker);
    broker.kill();

    // Where packets may be that large: refused again and again, it leaves nothing behind. Each is held
    // once while it comes; ten that stayed would be 650 MB.
    let broker = BrokerOptions::default().set("gateway.limits.packet_bytes", "256MiB").start();
    let cost = Cost::before(&broker);
    for _ in 0..10 {
        let mut client = Options::v5("c").connect(broker.mqtt);
        client.send_bytes(&bytes);
        let refusal = Received::PubAck(PacketId::new(1).unwrap(), ReasonCode::QuotaExceeded);
        assert_eq!(client.answer(), refusal);
        client.ping();
    }
    cost.check(&broker, 96 * MIB);
    check_alive(&broker);
}

#[test]
fn attack_40_a_storm_of_subscriptions_to_much_that_is_retained_waits_within_bounds() {
    const RETAINED: usize = 20_000;
    const ATTACKERS: usize = 8;
    const SUBSCRIBES: usize = 100;
    let mut broker = Broker::run();
    let mut bystander = Options::v5("bystander").connect(broker.mqtt);
    let mut bytes = Vec::new();
    for number in 0..RETAINED {
        // More than the kernel takes off the broker's hands.
        put(&mut bytes, &retained(&format!("r/{number}"), &[b'x'; 300]), V5);
    }
    bystander.send_bytes(&bytes);
    wait_taken(&mut bystander);
    bystander.subscribe("done", QoS::AtLeastOnce);
    let cost = Cost::before(&broker);
    let names: Vec<String> = (0..ATTACKERS).map(|number| format!("attacker-{number}")).collect();
    // They ask for 16 million messages, and read none: at 100 bytes each that would be 1.6 GB.
    let mut attackers: Vec<Client> = names
        .iter()
        .enumerate()
        .map(|(number, name)| {
            let old = number % 2 == 1;
            let options = if old { Options::v311(name) } else { Options::v5(name) };
            let mut client = options.connect(broker.mqtt);
            for _ in 0..SUBSCRIBES {
                let subscribe = subscribe(&mut client, &["r/#"], QoS::AtMostOnce);
                client.send(&subscribe);
            }
            client.send_publish(&message("done", b"", QoS::AtLeastOnce));
            client
        })
        .collect();
    for _ in 0..ATTACKERS {
        assert_eq!(bystander.message().topic, "done");
    }
    // Each has 100,000 messages waiting, and at most as many were being answered.
    cost.check(&broker, (ATTACKERS * 220_000 * 128) as u64);
    let least = (ATTACKERS * (SUBSCRIBES - 12)) as f64;
    let is_refused = |broker: &mut Broker| refused(broker, "subscriptions", "unread") >= least;
    broker.wait_for("nearly all to be refused", is_refused);
    check_alive(&broker);
    // Told so, and all that was asked for before comes.
    for (number, client) in attackers.iter_mut().enumerate() {
        let (mut messages, mut granted, mut refused) = (0, 0, 0);
        while granted + refused < SUBSCRIBES || messages < granted * RETAINED {
            match client.next(Duration::from_secs(20)).unwrap().expect("all comes") {
                Received::Publish(_) => messages += 1,
                Received::SubAck(_, reasons) => match reasons[0] {
                    ReasonCode::Success => granted += 1,
                    ReasonCode::QuotaExceeded if number % 2 == 0 => refused += 1,
                    ReasonCode::UnspecifiedError if number % 2 == 1 => refused += 1,
                    other => panic!("{other:?}"),
                },
                Received::PubAck(..) => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(granted >= 5, "{granted}");
        if number == 1 {
            break;
        }
    }
    // Who has read may ask again.
    attackers[0].subscribe("r/1", QoS::AtMostOnce);
    assert_eq!(attackers[0].message().topic, "r/1");
    check_alive(&broker);
}

#[test]
fn attack_40_one_filter_a_hundred_thousand_times_in_one_packet_is_answered_once() {
    let broker = Broker::run();
    let mut client = Options::v5("c").connect(broker.mqtt);
    let mut bytes = Vec::new();
    for number in 0..5_000 {
        put(&mut bytes, &retained(&format!("r/{number}"), b"value"), V5);
    }
    client.send_bytes(&bytes);
    wait_taken(&mut client);
    client.subscribe("r/#", QoS::AtMostOnce);
    (0..5_000).for_each(|_| drop(client.message()));
    // The session has the subscription, so that none is one too many. To look through what is retained
    // for each would take minutes, in which nobody's session is opened.
    let began = Instant::now();
    let many = subscribe(&mut client, &["r/#"; 100_000], QoS::AtMostOnce);
    client.send(&many);
    let mut bystander = Options::v5("bystander").connect(broker.mqtt);
    bystander.subscribe("alive", QoS::AtLeastOnce);
    let (mut messages, mut answers) = (0, 0);
    while messages < 5_000 || answers == 0 {
        match client.next(Duration::from_secs(20)).unwrap().expect("all comes") {
            Received::Publish(_) => messages += 1,
            Received::SubAck(_, reasons) => answers = reasons.len(),
            other => panic!("{other:?}"),
        }
    }
    println!("{:?}", began.elapsed());
    assert_eq!((messages, answers), (5_000, 100_000));
    client.no_message();
    check_alive(&broker);
}

#[test]
fn attack_40_filters_that_overlap_are_few_enough_in_one_packet() {
    let mut broker = Broker::run();
    let mut client = Options::v5("c").connect(broker.mqtt);
    let levels = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    let mut bytes = Vec::new();
    for number in 0..5_000 {
        let topic = format!("{}/{number}", levels.join("/"));
        put(&mut bytes, &retained(&topic, b"value"), V5);
    }
    client.send_bytes(&bytes);
    wait_taken(&mut client);
    // 924 filters of which each matches all that is retained, and none covers another: 4.6 million
    // messages to look at, with 20,000 retained ones half a minute in which nobody's session is opened.
    let filters: Vec<String> = (0..4_096_u32)
        .filter(|number| number.count_ones() == 6)
        .map(|number| {
            let each = levels.iter().enumerate();
            let each = each.map(|(at, level)| if number >> at & 1 == 1 { "+" } else { level });
            each.collect::<Vec<_>>().join("/") + "/+"
        })
        .collect();
    let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
    let many = subscribe(&mut client, &filters, QoS::AtMostOnce);
    client.send(&many);
    match client.answer() {
        Received::SubAck(_, reasons) => {
            let granted = reasons.iter().filter(|reason| **reason == ReasonCode::Success).count();
            let refused =
                reasons.iter().filter(|reason| **reason == ReasonCode::QuotaExceeded).count();
            assert_eq!((granted, refused), (32, 924 - 32));
        }
        other => panic!("{other:?}"),
    }
    (0..5_000).for_each(|_| drop(client.message()));
    client.no_message();
    check_refused(&mut broker, "subscriptions", "wildcards", 924 - 32);
    check_alive(&broker);
}
