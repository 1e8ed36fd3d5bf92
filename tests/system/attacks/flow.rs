//! Attacks by not reading, not answering, and repeating: numbers 27, 28, 29 and 36.

use std::time::{Duration, Instant};

use ledgermq_core::identity::PacketId;
use ledgermq_core::packet::{Packet, ProtocolVersion, Publish, QoS};
use ledgermq_core::reason::ReasonCode;

use crate::support::broker::{Broker, Options as BrokerOptions};
use crate::support::client::{Client, Options, message, success};
use crate::support::packets::Received;

use super::cost::{Cost, MIB, at_once, put};
use super::transport::check_alive;

const ALL: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

/// Publishes numbered messages of `bytes` at QoS 2, a window at a time.
fn flood(broker: &Broker, messages: u32, bytes: usize) {
    const WINDOW: u32 = 20;
    let mut client = Options::v5("flood").connect(broker.mqtt);
    for first in (0..messages).step_by(WINDOW as usize) {
        let mut ids = Vec::new();
        for number in first..first + WINDOW {
            let mut payload = number.to_string().into_bytes();
            payload.resize(bytes, b' ');
            ids.extend(client.send_publish(&message("flood", &payload, QoS::ExactlyOnce)));
        }
        for step in 0..2 {
            for id in &ids {
                match (step, client.answer()) {
                    (0, Received::PubRec(at, _)) if at == *id => {}
                    (1, Received::PubComp(at, _)) if at == *id => {}
                    (_, other) => panic!("{other:?}"),
                }
            }
            if step == 0 {
                ids.iter().for_each(|id| client.send(&Packet::PubRel(success(*id))));
            }
        }
    }
}

fn dropped(broker: &Broker, of: &str) -> f64 {
    broker.metric(&format!("ledgermq_{of}_messages_dropped_total{{reason=\"queue_full\"}}"))
}

#[test]
fn attack_27_subscribers_that_never_read_cost_their_bounds_and_nobody_else_waits() {
    const MESSAGES: u32 = 20_000;
    let mut broker = BrokerOptions::default().set("gateway.limits.queued_messages", 2_000).start();
    let mut passing = Options::v5("passing").connect(broker.mqtt);
    passing.subscribe("flood", QoS::ExactlyOnce);
    let cost = Cost::before(&broker);
    let names: Vec<String> = (0..36).map(|number| format!("stuck-{number}")).collect();
    let stuck: Vec<Client> = names
        .iter()
        .enumerate()
        .map(|(number, name)| {
            let options = if number % 2 == 0 { Options::v5(name) } else { Options::v311(name) };
            let options = if number % 4 < 2 { options } else { options.persistent() };
            let mut client = options.connect(broker.mqtt);
            client.subscribe("flood", ALL[number % 3]);
            client
        })
        .collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..MESSAGES {
                assert_eq!(passing.message().text().trim_end(), number.to_string());
            }
        });
        flood(&broker, MESSAGES, 1_000);
    });
    // 256 KiB of output and 2,000 references each, and the batches that these hold, which all share.
    // 36 times 20 MB would be 720 MB, of which the kernel takes what its buffers hold.
    cost.check(&broker, 96 * MIB);
    broker.wait_for("drops of connections", |broker| dropped(broker, "mqtt") > 0.0);
    broker.wait_for("drops of sessions", |broker| dropped(broker, "session") > 0.0);
    check_alive(&broker);
    drop(stuck);
    broker.wait_for("their end", |b| b.metric("ledgermq_mqtt_connections") <= 1.0);
    check_alive(&broker);
}

/// What of receiving a message a client does not do.
#[derive(Clone, Copy, Debug)]
enum Withheld {
    /// PUBACK.
    Acknowledged,
    /// PUBREC.
    Received,
    /// PUBCOMP.
    Completed,
}

#[test]
fn attack_28_who_never_acknowledges_gets_its_window_and_no_more() {
    const MESSAGES: u32 = 5_000;
    let broker = BrokerOptions::default()
        .set("gateway.limits.inflight_out", 50)
        .set("gateway.limits.queued_messages", 1_000)
        .start();
    let cost = Cost::before(&broker);
    let cases = [
        (Withheld::Acknowledged, QoS::AtLeastOnce),
        (Withheld::Received, QoS::ExactlyOnce),
        (Withheld::Completed, QoS::ExactlyOnce),
    ];
    let mut clients = Vec::new();
    for (withheld, qos) in cases {
        for (version, window) in [(ProtocolVersion::V5, 10), (ProtocolVersion::V311, 50)] {
            for persistent in [false, true] {
                let name = format!("{withheld:?}-{version:?}-{persistent}");
                let options = Options::new(version, &name).manual_ack();
                let options = if window == 10 { options.receive_maximum(10) } else { options };
                let options = if persistent { options.persistent() } else { options };
                let mut client = options.connect(broker.mqtt);
                client.subscribe("flood", qos);
                clients.push((client, withheld, window, name));
            }
        }
    }
    flood(&broker, MESSAGES, 100);
    for (client, withheld, window, name) in &mut clients {
        let (mut messages, mut released) = (0, 0);
        while let Some(received) = client.next(Duration::from_millis(500)).unwrap() {
            match (received, *withheld) {
                (Received::Publish(message), Withheld::Completed) => {
                    messages += 1;
                    client.send(&Packet::PubRec(success(message.packet_id.unwrap())));
                }
                (Received::Publish(_), _) => messages += 1,
                (Received::PubRel(..), Withheld::Completed) => released += 1,
                (other, _) => panic!("{name}: {other:?}"),
            }
        }
        assert_eq!(messages, *window, "{name}");
        let expected = if matches!(withheld, Withheld::Completed) { *window } else { 0 };
        assert_eq!(released, expected, "{name}");
    }
    // 12 clients with 1,000 references and their batches.
    cost.check(&broker, 32 * MIB);
    check_alive(&broker);
}

#[test]
fn attack_28_who_never_releases_holds_no_more_identifiers_than_there_are() {
    let broker = Broker::run();
    let mut newer = Options::v5("newer").connect(broker.mqtt);
    for _ in 0..21 {
        newer.send_publish(&message("t", b"x", QoS::ExactlyOnce));
    }
    assert_eq!(newer.wait_closed(), Some(ReasonCode::ReceiveMaximumExceeded));
    // 3.1.1 has no Receive Maximum: all 65,535 identifiers, of a session that stays, by four clients.
    let cost = Cost::before(&broker);
    at_once(4, |attacker| {
        let name = format!("older-{attacker}");
        let mut client = Options::v311(&name).persistent().connect(broker.mqtt);
        for chunk in 0..64_u16 {
            let mut bytes = Vec::new();
            let ids = (chunk * 1_024..=chunk * 1_024 + 1_023).filter_map(PacketId::new);
            let ids: Vec<_> = ids.collect();
            for id in &ids {
                let mut publish = message("t", b"x", QoS::ExactlyOnce);
                publish.packet_id = Some(*id);
                put(&mut bytes, &Packet::Publish(publish), ProtocolVersion::V311);
            }
            client.send_bytes(&bytes);
            for id in ids {
                assert_eq!(client.answer(), Received::PubRec(id, ReasonCode::Success));
            }
        }
        client.ping();
    });
    // Some 32 bytes an identifier here, and two in the views.
    cost.check(&broker, 32 * MIB);
    // They are known, and released, by a connection that resumes the session.
    let mut client = Options::v311("older-0").persistent().connect(broker.mqtt);
    assert!(client.session_present());
    for id in [1, 40_000, 65_535].map(|id| PacketId::new(id).unwrap()) {
        client.send(&Packet::PubRel(success(id)));
        assert_eq!(client.answer(), Received::PubComp(id, ReasonCode::Success));
    }
    check_alive(&broker);
}

#[test]
fn attack_29_the_same_qos_2_identifier_again_and_again_is_one_message() {
    const TIMES: usize = 50_000;
    let mut broker = Broker::run();
    let mut watcher = Options::v5("watcher").connect(broker.mqtt);
    watcher.subscribe("t", QoS::ExactlyOnce);
    for version in [ProtocolVersion::V5, ProtocolVersion::V311] {
        let mut client = Options::new(version, "attacker").connect(broker.mqtt);
        let id = PacketId::new(7).unwrap();
        let publish = |dup| {
            let publish = message("t", b"once", QoS::ExactlyOnce);
            Packet::Publish(Publish { dup, packet_id: Some(id), ..publish })
        };
        client.send(&publish(false));
        assert_eq!(client.answer(), Received::PubRec(id, ReasonCode::Success));
        assert_eq!(watcher.message().text(), "once");
        let cost = Cost::before(&broker);
        let logged = broker.metric("ledgermq_log_batches_total");
        let mut bytes = Vec::new();
        for number in 0..100 {
            put(&mut bytes, &publish(number % 2 == 0), version);
        }
        for _ in 0..TIMES / 100 {
            client.send_bytes(&bytes);
            for _ in 0..100 {
                assert_eq!(client.answer(), Received::PubRec(id, ReasonCode::Success));
            }
        }
        // 50,000 that were kept, or logged, would be 5 MB at least.
        cost.check(&broker, 4 * MIB);
        let logged = broker.metric("ledgermq_log_batches_total") - logged;
        assert!(logged < 100.0, "{logged} batches");
        // Released once; the next is a new message, as often as it is done in full.
        for round in 0..1_000 {
            client.send(&Packet::PubRel(success(id)));
            assert_eq!(client.answer(), Received::PubComp(id, ReasonCode::Success));
            if round == 0 {
                watcher.no_message();
                client.send(&Packet::PubRel(success(id)));
                let expected = match version {
                    ProtocolVersion::V5 => ReasonCode::PacketIdentifierNotFound,
                    _ => ReasonCode::Success,
                };
                assert_eq!(client.answer(), Received::PubComp(id, expected));
            }
            client.send(&publish(false));
            assert_eq!(client.answer(), Received::PubRec(id, ReasonCode::Success));
            assert_eq!(watcher.message().text(), "once");
        }
        watcher.no_message();
    }
    broker.wait_for("their end", |b| b.metric("ledgermq_mqtt_connections") == 1.0);
    check_alive(&broker);
}

#[test]
fn attack_36_a_large_message_to_everybody_costs_each_its_bound() {
    const SUBSCRIBERS: usize = 100;
    let broker = Broker::run();
    let names: Vec<String> = (0..SUBSCRIBERS).map(|number| format!("stuck-{number}")).collect();
    let _stuck: Vec<Client> = names
        .iter()
        .enumerate()
        .map(|(number, name)| {
            let mut client = Options::v5(name).connect(broker.mqtt);
            client.subscribe("bomb", ALL[number % 3]);
            client
        })
        .collect();
    let cost = Cost::before(&broker);
    let mut publisher = Options::v5("publisher").connect(broker.mqtt);
    for _ in 0..100 {
        publisher.publish("bomb", [b'x'; 100_000], QoS::AtLeastOnce);
    }
    // Of each output 256 KiB and one message, and what their references hold of 10 MB, together. A copy
    // for each is 1 GB, of which the kernel takes what its buffers hold.
    cost.check(&broker, SUBSCRIBERS as u64 * (356 << 10) + 32 * MIB);
    check_alive(&broker);
}

#[test]
fn attack_36_one_message_to_thousands_reaches_all_and_holds_nobody_up() {
    let broker = Broker::run();
    let subscribers: Vec<Vec<Client>> = at_once(4, |thread| {
        let connect = |number: usize| {
            let name = format!("subscriber-{thread}-{number}");
            let mut client = Options::v5(&name).connect(broker.mqtt);
            client.subscribe("#", QoS::AtLeastOnce);
            client
        };
        (0..500).map(connect).collect()
    });
    let cost = Cost::before(&broker);
    let mut publisher = Options::v5("publisher").connect(broker.mqtt);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for clients in subscribers {
            scope.spawn(|| {
                for mut client in clients {
                    for number in 0..10 {
                        assert_eq!(client.message().text(), number.to_string());
                    }
                }
            });
        }
        for number in 0..10 {
            publisher.publish("all", number.to_string(), QoS::AtLeastOnce);
        }
        println!("published after {:?}", began.elapsed());
    });
    println!("delivered after {:?}", began.elapsed());
    // Ten packets of a few bytes for each of 2,000.
    cost.check(&broker, 2_000 * (4 << 10));
    check_alive(&broker);
}
