//! One publisher: what it may send, and when.

use std::time::Duration;

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
    Deliveries { missing: u64, most: u64, each: u64, since: Instant },
    /// The socket alone.
    Socket,
}

/// One publisher.
pub(super) struct Publisher {
    number: usize,
    bound: Bound,
    /// Messages sent.
    pub(super) sent: u64,
    /// Messages that are due and were not sent.
    pub(super) due: u64,
    /// Whether it stands in the list of those that may have something to send.
    pub(super) is_listed: bool,
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
        Self { number, bound, sent: 0, due: 0, is_listed: true }
    }

    /// Whether it may send now.
    pub(super) fn may_send(&self, output: &Output) -> bool {
        output.waiting() < WAITING_BYTES_MAX && !self.is_full()
    }

    /// Whether it waits for the broker, and not only for its socket.
    pub(super) fn is_full(&self) -> bool {
        match &self.bound {
            Bound::Acknowledgements(window) => window.is_full(),
            Bound::Deliveries { missing, most, .. } => missing >= most,
            Bound::Socket => false,
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
            Bound::Deliveries { missing, each, since, .. } => {
                *missing += *each;
                *since = at;
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
    pub(super) fn delivered(&mut self, count: u64, now: Instant) {
        if let Bound::Deliveries { missing, since, .. } = &mut self.bound {
            *missing = missing.saturating_sub(count);
            *since = now;
        }
    }

    /// Whether what is missing is taken for lost, since nothing came or was sent for so long. It may send
    /// again then.
    pub(super) fn gives_up(&mut self, now: Instant, patience: Duration) -> bool {
        match &mut self.bound {
            Bound::Deliveries { missing, since, .. }
                if *missing > 0 && now.since(*since) > patience =>
            {
                *missing = 0;
                true
            }
            _ => false,
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
