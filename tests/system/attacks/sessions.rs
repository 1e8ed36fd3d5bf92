//! Attacks by what waits while nobody is connected: numbers 34 and 35.

use std::time::{Duration, Instant};

use ledgermq_core::packet::{ForwardedProperties, ProtocolVersion, Publish, QoS, Will};
use ledgermq_core::reason::ReasonCode;

use crate::access::refusal;
use crate::support::broker::{Broker, Options as BrokerOptions};
use crate::support::client::{Client, Options, message};

use super::cost::{Cost, MIB, at_once, check_refused, put};
use super::transport::check_alive;

const V5: ProtocolVersion = ProtocolVersion::V5;

/// Seconds for which the wills are delayed.
const DELAY: u32 = 2;

/// Clients that come, leave a session with a delayed will, and vanish.
fn leave_wills(broker: &Broker, round: usize, began: Instant) {
    at_once(8, |attacker| {
        for number in 0..500 {
            let name = format!("mortal-{round}-{attacker}-{number}");
            let payload = began.elapsed().as_millis().to_string();
            let will = Will {
                // The same in each round: topics are remembered.
                topic: &format!("wills/{attacker}/{number}"),
                payload: payload.as_bytes(),
                qos: QoS::AtLeastOnce,
                retain: false,
                delay_interval: DELAY,
                message_expiry_interval: None,
                forwarded: ForwardedProperties::default(),
            };
            drop(Options::v5(&name).session_expiry(5).will_message(will).connect(broker.mqtt));
        }
    });
}

#[test]
fn attack_34_thousands_of_delayed_wills_come_in_time_and_leave_nothing_behind() {
    const WILLS: usize = 4_000;
    // What the log keeps of its last batches would grow to 32 MiB by and by.
    let mut broker = BrokerOptions::default().set("log.ring_bytes", "1MiB").start();
    let mut watcher = Options::v5("watcher").connect(broker.mqtt);
    watcher.subscribe("wills/#", QoS::AtLeastOnce);
    let began = Instant::now();
    let start = Cost::before(&broker);
    let mut settled = None;
    for round in 0..2 {
        leave_wills(&broker, round, began);
        // 1 KiB for a session, as much for its will, and their tables: one for each session, so that
        // `gateway.limits.sessions` bounds them.
        start.check(&broker, (WILLS * 6_000) as u64);
        let mut latest = Duration::ZERO;
        for _ in 0..WILLS {
            let message = watcher.message();
            let left = Duration::from_millis(message.text().parse().unwrap());
            let waited = began.elapsed() - left;
            assert!(waited >= Duration::from_secs(DELAY.into()), "{waited:?}: too early");
            latest = latest.max(waited);
        }
        println!("the latest after {latest:?}");
        assert!(latest < Duration::from_secs(12), "{latest:?}");
        broker.wait_for("their end", |broker| broker.metric("ledgermq_sessions") == 1.0);
        // What the first round needed, the second uses again: another 4,000 would be 16 MiB.
        settled.get_or_insert_with(|| Cost::before(&broker)).check(&broker, 6 * MIB);
    }
    watcher.no_message();
    check_alive(&broker);
}

#[test]
fn attack_34_tens_of_thousands_of_messages_expire_in_time() {
    const MESSAGES: u32 = 20_000;
    let mut broker = BrokerOptions::default().set("log.ring_bytes", "1MiB").start();
    let sleeper = || Options::v5("sleeper").persistent();
    let mut client = sleeper().connect(broker.mqtt);
    client.subscribe("owed/#", QoS::AtLeastOnce);
    client.disconnect();
    let mut publisher = Options::v5("publisher").connect(broker.mqtt);
    let expiring = |number: u32, topic: &str| {
        let retain = number.is_multiple_of(2);
        let qos = if retain { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        let publish = message(topic, b"short-lived", qos);
        let mut publish = Publish { retain, message_expiry_interval: Some(3), ..publish };
        publish.packet_id = (!retain).then(|| publisher_id(number));
        let mut bytes = Vec::new();
        put(&mut bytes, &ledgermq_core::packet::Packet::Publish(publish), V5);
        bytes
    };
    let start = Cost::before(&broker);
    let mut settled = None;
    for round in 1..=3 {
        for first in (0..2 * MESSAGES).step_by(40) {
            for number in first..first + 40 {
                let kind = if number % 2 == 0 { "kept" } else { "owed" };
                publisher.send_bytes(&expiring(number, &format!("{kind}/{number}")));
            }
            (0..20).for_each(|_| drop(publisher.answer()));
        }
        let published = Instant::now();
        // 20,000 references, as many retained messages, and 40,000 topics in the tree.
        start.check(&broker, 64 * MIB);
        let expired = "ledgermq_session_messages_dropped_total{reason=\"expired\"}";
        broker.wait_for("all to expire", |b| b.metric(expired) == f64::from(round * MESSAGES));
        println!("all gone {:?} after the last", published.elapsed());
        assert!(published.elapsed() < Duration::from_secs(15));
        let mut client = sleeper().connect(broker.mqtt);
        assert!(client.session_present());
        client.no_message();
        // Retained ones are hidden at once, and removed 256 at a time with what comes next.
        let mut late = Options::v5("late").connect(broker.mqtt);
        late.subscribe("kept/#", QoS::AtLeastOnce);
        late.no_message();
        broker.wait_for("their removal", |broker| {
            publisher.publish("next", "", QoS::AtLeastOnce);
            broker.metric("ledgermq_retained_messages") == 0.0
        });
        // What two rounds needed (the second begins beside what the first has not given back yet),
        // the third uses again.
        if round > 1 {
            // On a busy machine some is given back late.
            settled.get_or_insert_with(|| Cost::before(&broker)).check(&broker, 8 * MIB);
        }
    }
    check_alive(&broker);
}

fn publisher_id(number: u32) -> ledgermq_core::identity::PacketId {
    let number = u16::try_from(number % 60_000 + 1).unwrap();
    ledgermq_core::identity::PacketId::new(number).unwrap()
}

#[test]
fn attack_35_sessions_of_random_identifiers_end_at_the_limit() {
    const MAX: u32 = 1_000;
    let mut broker = BrokerOptions::default().set("gateway.limits.sessions", MAX).start();
    let mut resident = Options::v5("resident").persistent().connect(broker.mqtt);
    resident.subscribe("alive", QoS::AtLeastOnce);
    let cost = Cost::before(&broker);
    let granted = at_once(4, |attacker| {
        let mut granted = Vec::new();
        for number in 0..4_000 {
            let name = format!("random-{attacker}-{number}");
            let (options, expected) = match number % 2 {
                0 => (Options::v5(&name), ReasonCode::QuotaExceeded),
                _ => (Options::v311(&name), ReasonCode::ServerUnavailable),
            };
            match options.persistent().try_connect(broker.mqtt) {
                Ok(_) => granted.push(name),
                refused => assert_eq!(refusal(refused), expected),
            }
        }
        granted
    })
    .concat();
    assert_eq!(granted.len(), MAX as usize - 1, "and that of the resident");
    check_refused(&mut broker, "connects", "sessions", 16_000 - (MAX - 1));
    assert_eq!(broker.metric("ledgermq_persistent_sessions"), f64::from(MAX));
    // 1 KiB for each, their tables, and the connections that were there for a moment; 16,000 sessions
    // are 32 MiB.
    cost.check(&broker, 16 * MIB);
    // Nobody is locked out who was there, and who leaves nothing behind comes in.
    resident.publish("alive", "yes", QoS::AtLeastOnce);
    assert_eq!(resident.message().text(), "yes");
    drop(resident);
    let resident = Options::v5("resident").persistent().connect(broker.mqtt);
    assert!(resident.session_present());
    check_alive(&broker);
    // Nor by a crash; and the place of a session that ends is free.
    broker.crash();
    let again = |name: &str| -> Client { Options::v5(name).persistent().connect(broker.mqtt) };
    assert!(again("resident").session_present());
    let refused = Options::v5("late").persistent().try_connect(broker.mqtt);
    assert_eq!(refusal(refused), ReasonCode::QuotaExceeded);
    Options::v5(&granted[0]).connect(broker.mqtt).disconnect();
    let end = Instant::now() + Duration::from_secs(10);
    while Options::v5("late").persistent().try_connect(broker.mqtt).is_err() {
        assert!(Instant::now() < end, "its place is free");
        std::thread::sleep(Duration::from_millis(20));
    }
}
