//! The messages that all benches speak of: 100 bytes of payload in a topic of 20 to 30.

use ledgermq_core::event::{BatchBuilder, MessagePublished};
use ledgermq_core::identity::PacketId;
use ledgermq_core::packet::{ForwardedProperties, Publish, QoS};

/// What every message carries.
pub(crate) const PAYLOAD: [u8; 100] = [b'x'; 100];
/// Where most of them go.
pub(crate) const TOPIC: &str = "plant/line/7/temperature";
/// Messages of 100 bytes in a batch that the log closes at its target of 64 KiB.
pub(crate) const BATCH_MESSAGES: u32 = 400;

/// Names of `count` topics.
pub(crate) fn topics(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("plant/line/{number}/temperature")).collect()
}

/// A message as a client sends it.
pub(crate) fn publish(qos: QoS, packet_id: u16) -> Publish<'static> {
    let packet_id = PacketId::new(packet_id).filter(|_| qos > QoS::AtMostOnce);
    Publish {
        dup: false,
        qos,
        retain: false,
        topic: TOPIC,
        packet_id,
        message_expiry_interval: None,
        topic_alias: None,
        subscription_identifiers: Vec::new(),
        forwarded: ForwardedProperties::default(),
        payload: &PAYLOAD,
    }
}

/// A message at QoS 1 as the log keeps it.
pub(crate) fn published(topic: &str, retain: bool) -> MessagePublished<'_> {
    MessagePublished {
        qos: QoS::AtLeastOnce,
        retain,
        packet_id: PacketId::new(7),
        topic,
        message_expiry_interval: None,
        properties: &[],
        payload: &PAYLOAD,
    }
}

/// Adds `count` messages to `batch`, to `topics` in turn.
pub(crate) fn fill(batch: &mut BatchBuilder, topics: &[String], retain: bool, count: u32) {
    for topic in topics.iter().cycle().take(count as usize) {
        batch.publish(None, None, &published(topic, retain));
    }
}
