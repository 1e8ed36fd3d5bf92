//! What an attack may cost, and what attackers have in common.

use std::thread;

use ledgermq_core::codec;
use ledgermq_core::packet::{Packet, ProtocolVersion, Publish, QoS, Subscribe};

use crate::support::broker::Broker;
use crate::support::client::{Client, message};

pub(super) const MIB: u64 = 1 << 20;

/// Resident memory of the broker before an attack.
pub(super) struct Cost {
    before: u64,
}

impl Cost {
    pub(super) fn before(broker: &Broker) -> Self {
        Self { before: broker.memory() }
    }

    /// Panics if the broker has grown by more than `bound` bytes.
    pub(super) fn check(&self, broker: &Broker, bound: u64) {
        let grown = broker.memory().saturating_sub(self.before);
        println!("{} KiB more, of at most {}", grown >> 10, bound >> 10);
        assert!(grown <= bound, "{} KiB more, of at most {}", grown >> 10, bound >> 10);
    }
}

/// A counter of what was refused, by what was asked for (`connects`, `messages`, `subscriptions`).
pub(super) fn refused(broker: &Broker, what: &str, reason: &str) -> f64 {
    broker.metric(&format!("ledgermq_mqtt_{what}_refused_total{{reason=\"{reason}\"}}"))
}

/// Waits until so many were refused, and checks that it is not one more.
pub(super) fn check_refused(broker: &mut Broker, what: &str, reason: &str, count: u32) {
    let count = f64::from(count);
    broker.wait_for("refusals", |broker| refused(broker, what, reason) >= count);
    assert_eq!(refused(broker, what, reason), count, "{what} {reason}");
}

/// Runs `attack` on as many threads at once; each is told its number.
pub(super) fn at_once<T: Send>(threads: usize, attack: impl Fn(usize) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let attack = &attack;
        let threads: Vec<_> =
            (0..threads).map(|number| scope.spawn(move || attack(number))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no attacker panics")).collect()
    })
}

/// Encodes `packet` behind `bytes`.
pub(super) fn put(bytes: &mut Vec<u8>, packet: &Packet<'_>, version: ProtocolVersion) {
    codec::encode(packet, version, bytes).expect("tests build what can be encoded");
}

/// SUBSCRIBE to `filters` at one QoS.
pub(super) fn subscribe<'a>(client: &mut Client, filters: &[&'a str], qos: QoS) -> Packet<'a> {
    let options = ledgermq_core::packet::SubscriptionOptions { qos, ..Default::default() };
    Packet::Subscribe(Subscribe {
        packet_id: client.next_id(),
        subscription_identifier: None,
        user_properties: Vec::new(),
        filters: filters.iter().map(|filter| (*filter, options)).collect(),
    })
}

/// A retained message of QoS 0.
pub(super) fn retained<'a>(topic: &'a str, payload: &'a [u8]) -> Packet<'a> {
    Packet::Publish(Publish { retain: true, ..message(topic, payload, QoS::AtMostOnce) })
}
