//! Clients that do not keep up: they get everything later, or are told what they lost; nobody else
//! waits for them.

use ledgermq_core::packet::QoS;

use crate::support::broker::{Broker, Options as BrokerOptions};
use crate::support::client::{Client, Options, message};

/// Messages of 1,000 bytes: far more than sockets and the broker's buffers for one client hold.
const MESSAGES: u32 = 30_000;
const WINDOW: u32 = 20;

fn payload(number: u32) -> Vec<u8> {
    let mut payload = number.to_string().into_bytes();
    payload.resize(1_000, b' ');
    payload
}

fn number(payload: &[u8]) -> u32 {
    String::from_utf8_lossy(payload).trim_end().parse().expect("tests publish numbers")
}

/// Publishes all messages; every window is acknowledged before the next.
fn publish_all(publisher: &mut Client, qos: QoS) {
    for first in (0..MESSAGES).step_by(WINDOW as usize) {
        for number in first..first + WINDOW {
            let payload = payload(number);
            publisher.send_publish(&message("flood", &payload, qos));
        }
        if qos == QoS::AtMostOnce {
            continue;
        }
        for _ in 0..WINDOW {
            publisher.answer();
        }
    }
    publisher.ping();
}

#[test]
fn a_client_that_did_not_read_gets_everything_in_order_when_it_does() {
    let broker = BrokerOptions::default()
        .set("log.file_bytes", "8MiB")
        .set("log.hot_bytes_max", "2GiB")
        .start();
    let mut stuck = Options::v5("stuck").persistent().connect(broker.mqtt);
    stuck.subscribe("flood", QoS::AtLeastOnce);
    let mut passing = Options::v5("passing").connect(broker.mqtt);
    passing.subscribe("flood", QoS::AtLeastOnce);
    let mut publisher = Options::v5("publisher").connect(broker.mqtt);
    // The second subscriber reads while the first does not.
    let reader = std::thread::spawn(move || {
        (0..MESSAGES).for_each(|n| assert_eq!(number(&passing.message().payload), n));
    });
    publish_all(&mut publisher, QoS::AtLeastOnce);
    reader.join().expect("the one that reads gets everything");
    for n in 0..MESSAGES {
        assert_eq!(number(&stuck.message().payload), n);
    }
    stuck.no_message();
}

#[test]
fn qos_0_to_a_client_that_does_not_read_is_dropped_and_counted() {
    let broker = Broker::run();
    let mut stuck = Options::v5("stuck").connect(broker.mqtt);
    stuck.subscribe("flood", QoS::AtMostOnce);
    let mut publisher = Options::v5("publisher").connect(broker.mqtt);
    publish_all(&mut publisher, QoS::AtMostOnce);
    publisher.publish("flood", payload(MESSAGES), QoS::AtLeastOnce);
    let mut received = Vec::new();
    loop {
        let last = number(&stuck.message().payload);
        received.push(last);
        if last == MESSAGES {
            break;
        }
    }
    assert!(received.is_sorted(), "what comes, comes in order");
    let lost = MESSAGES as usize + 1 - received.len();
    let (_, metrics) = broker.get("/metrics");
    let counted: u64 = metrics
        .lines()
        .filter(|line| line.starts_with("ledgermq_mqtt_messages_dropped_total{"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum();
    assert_eq!(counted, lost as u64, "{metrics}");
}
