//! What producers push: messages that say whose they are and which.

use ledgermq_core::event::{Event, EventRef, MessagePublished};
use ledgermq_core::identity::ProducerId;
use ledgermq_core::packet::QoS;
use ledgermq_log::{Class, CommittedBatch};

use crate::raft::seat::Process;
use crate::rng::Rng;

/// Bytes in which a message says which it is.
const NUMBER_BYTES: usize = 8;

/// Pushes a message or a few; answers the producer and the numbers of the first and last that was
/// taken.
pub(crate) fn push(
    process: &mut Process,
    payload_max: u64,
    rng: &mut Rng,
) -> Option<(ProducerId, u64, u64)> {
    let at = rng.size(0, process.producers.len() - 1);
    let producer = &mut process.producers[at];
    let mut events = producer.builder();
    let first = process.counters[at] + 1;
    let last = first + rng.below(3);
    for number in first..=last {
        let mut payload = number.to_le_bytes().to_vec();
        payload.resize(NUMBER_BYTES + rng.size(0, usize::try_from(payload_max).unwrap()), 7);
        events.publish(None, None, &message(&payload));
    }
    producer.push(Class::Publish, &mut events).ok()?;
    process.counters[at] = last;
    Some((producer.id(), first, last))
}

fn message(payload: &[u8]) -> MessagePublished<'_> {
    MessagePublished {
        qos: QoS::AtLeastOnce,
        retain: false,
        packet_id: None,
        topic: "t",
        message_expiry_interval: None,
        properties: &[],
        payload,
    }
}

/// Nodes that the batch declares lost, with the start.
pub(crate) fn lost(batch: &CommittedBatch) -> Vec<(u64, u64)> {
    let body = batch.batch();
    let records = body.records().map(|record| record.expect("a record"));
    records
        .filter_map(|record| match record.event().expect("an event") {
            EventRef::Other(Event::NodeLost { node, start }) => Some((node, start)),
            _ => None,
        })
        .collect()
}

/// The numbers of the messages in a batch.
pub(crate) fn numbers(batch: &CommittedBatch) -> Vec<u64> {
    let body = batch.batch();
    let records = body.records().map(|record| record.expect("a record"));
    records
        .filter_map(|record| match record.event().expect("an event") {
            EventRef::MessagePublished(message) => {
                let number = message.payload.first_chunk().expect("a number");
                Some(u64::from_le_bytes(*number))
            }
            EventRef::Other(_) => None,
        })
        .collect()
}
