//! One publisher: what it may send, and when.

use ledgermq_core::identity::PacketId;
use ledgermq_core::packet::{ForwardedProperties, Publish, QoS};

use super::layout::Map;
use crate::bench::BenchError;
use crate::bench::clock::Instant;
use crate::bench::connection::Output;
use crate::bench::payload::{Head, Run};
use crate::bench::window::Window;

/// Bytes that may wait to be written before a publisher that nothing else holds back stops.
const WAITING_BYTES_MAX: usize = 256 << 10;

/// What a publisher waits for before it sends more.
pub(super) enum Bound {
    /// Acknowledgements (QoS 1 and 2).
    Acknowledgements(Window),
    /// So many deliveries at the most may be missing (QoS 0, flat out).
    Deliveries { missing: u64, most: u64, each: u64 },
    /// The socket alone.
    Socket,
}

/// One publisher.
pub(super) struct Publisher {
    number: usize,
    bound: Bound,
    /// Messages sent.
    pub(super) sent: u64,
}

/// What all publishers of a run have in common.
pub(super) struct Message {
    pub(super) run: Run,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) payload: Vec<u8>,
    /// Topics of each publisher: numbers in a stream are numbers of its messages by this.
    pub(super) topics_each: u64,
}

impl Publisher {
    pub(super) fn new(number: usize, bound: Bound) -> Self {
        Self { number, bound, sent: 0 }
    }

    /// Whether it may send now.
    pub(super) fn may_send(&self, output: &Output) -> bool {
        let has_room = output.waiting() < WAITING_BYTES_MAX;
        has_room
            && match &self.bound {
                Bound::Acknowledgements(window) => !window.is_full(),
                Bound::Deliveries { missing, most, .. } => missing < most,
                Bound::Socket => true,
            }
    }

    /// Sends the next message, which was due at `at`.
    pub(super) fn send(
        &mut self,
        map: &Map,
        message: &mut Message,
        at: Instant,
        output: &mut Output,
    ) -> Result<(), BenchError> {
        let stream = map.stream(self.number, self.sent);
        let packet_id = match &mut self.bound {
            Bound::Acknowledgements(window) => window.take(at),
            Bound::Deliveries { missing, each, .. } => {
                *missing += *each;
                None
            }
            Bound::Socket => None,
        };
        let head = Head {
            run: message.run,
            stream: u32::try_from(stream).unwrap_or(u32::MAX),
            number: self.sent / message.topics_each,
            at,
        };
        head.write(&mut message.payload);
        output.publish(&Publish {
            dup: false,
            qos: message.qos,
            retain: message.retain,
            topic: &map.topics()[stream],
            packet_id,
            message_expiry_interval: None,
            topic_alias: None,
            subscription_identifiers: Vec::new(),
            forwarded: ForwardedProperties::default(),
            payload: &message.payload,
        })?;
        self.sent += 1;
        Ok(())
    }

    /// The broker acknowledged a message: says when it was due.
    pub(super) fn settle(&mut self, id: PacketId) -> Option<Instant> {
        match &mut self.bound {
            Bound::Acknowledgements(window) => window.settle(id),
            Bound::Deliveries { .. } | Bound::Socket => None,
        }
    }

    /// That many of its messages reached a receiver, or are known to be lost on the way to it.
    pub(super) fn delivered(&mut self, count: u64) {
        if let Bound::Deliveries { missing, .. } = &mut self.bound {
            *missing = missing.saturating_sub(count);
        }
    }

    /// What is missing will not come.
    pub(super) fn give_up(&mut self) {
        if let Bound::Deliveries { missing, .. } = &mut self.bound {
            *missing = 0;
        }
    }

    /// Whether acknowledgements are missing.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(&self.bound, Bound::Acknowledgements(window) if !window.is_empty())
    }

    /// The broker's Receive Maximum.
    pub(super) fn limit(&mut self, receive_maximum: u16) {
        if let Bound::Acknowledgements(window) = &mut self.bound {
            window.limit(receive_maximum);
        }
    }

    /// How many of its messages were sent to a stream of its own with that number.
    pub(super) fn sent_to(&self, topic: u64, topics_each: u64) -> u64 {
        self.sent / topics_each + u64::from(self.sent % topics_each > topic)
    }
}
