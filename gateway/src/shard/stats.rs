//! Counts of a shard.

use ledgermq_core::connection::{Refusal, Request};
use ledgermq_core::packet::QoS;

use crate::shard::held::Held;

/// What a shard did since it was made. All values but the first only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardStats {
    /// What the connections hold now.
    pub held: Held,
    /// Network Connections taken.
    pub accepted: u64,
    /// Sessions opened.
    pub opened: u64,
    /// Connections ended because the client was silent for too long.
    pub silent: u64,
    /// Connections ended because the client broke the protocol.
    pub malformed: u64,
    /// Connections given up because too much of long CONNECT packets was under way.
    pub unfinished: u64,
    /// Connections ended by a takeover.
    pub taken_over: u64,
    /// PUBLISH packets received, by QoS.
    pub received: [u64; 3],
    /// What clients asked for and did not get, by [`Request`] and [`Refusal`]. A message of QoS 0 or
    /// MQTT 3.1.1 is dropped without a word.
    pub refused: [[u64; Refusal::ALL.len()]; Request::COUNT],
    /// Connections of MQTT 3.1.1 and 3.1 left unread for a while, since they published too fast.
    pub throttled: u64,
    /// CONNECT packets refused for their password, or since too many waited to be compared.
    pub refused_connects: u64,
    /// Of these, those of the second kind.
    pub refused_busy: u64,
    /// CONNECT packets refused because the session belongs to another user.
    pub refused_foreign: u64,
    /// PUBLISH packets sent, by QoS.
    pub sent: [u64; 3],
    /// Bytes of Control Packets received and sent.
    pub bytes_received: u64,
    /// See above.
    pub bytes_sent: u64,
    /// Control Packets received and sent.
    pub packets_received: u64,
    /// See above.
    pub packets_sent: u64,
    /// Bytes of the payloads of PUBLISH packets received and sent.
    pub payload_bytes_received: u64,
    /// See above.
    pub payload_bytes_sent: u64,
    /// Deliveries given up because too much waited for the client.
    pub dropped_queue_full: u64,
    /// QoS 0 deliveries given up because the client was catching up.
    pub dropped_catching_up: u64,
    /// Deliveries given up because the message expired.
    pub dropped_expired: u64,
    /// Deliveries given up because the message is larger than the client takes.
    pub dropped_too_large: u64,
    /// Deliveries given up because the log was purged beyond them.
    pub dropped_purged: u64,
    /// Deliveries given up because the client may not receive the message.
    pub dropped_not_authorized: u64,
}

impl ShardStats {
    /// Adds what another shard counted.
    pub fn add(&mut self, other: &Self) {
        let Self {
            held,
            accepted,
            opened,
            silent,
            malformed,
            unfinished,
            taken_over,
            received,
            refused,
            throttled,
            refused_connects,
            refused_busy,
            refused_foreign,
            sent,
            bytes_received,
            bytes_sent,
            packets_received,
            packets_sent,
            payload_bytes_received,
            payload_bytes_sent,
            dropped_queue_full,
            dropped_catching_up,
            dropped_expired,
            dropped_too_large,
            dropped_purged,
            dropped_not_authorized,
        } = self;
        *held = held.plus(other.held);
        *accepted += other.accepted;
        *opened += other.opened;
        *silent += other.silent;
        *malformed += other.malformed;
        *unfinished += other.unfinished;
        *taken_over += other.taken_over;
        received.iter_mut().zip(other.received).for_each(|(all, other)| *all += other);
        for (all, other) in refused.iter_mut().zip(other.refused) {
            all.iter_mut().zip(other).for_each(|(all, other)| *all += other);
        }
        *throttled += other.throttled;
        *refused_connects += other.refused_connects;
        *refused_busy += other.refused_busy;
        *refused_foreign += other.refused_foreign;
        sent.iter_mut().zip(other.sent).for_each(|(all, other)| *all += other);
        *bytes_received += other.bytes_received;
        *bytes_sent += other.bytes_sent;
        *packets_received += other.packets_received;
        *packets_sent += other.packets_sent;
        *payload_bytes_received += other.payload_bytes_received;
        *payload_bytes_sent += other.payload_bytes_sent;
        *dropped_queue_full += other.dropped_queue_full;
        *dropped_catching_up += other.dropped_catching_up;
        *dropped_expired += other.dropped_expired;
        *dropped_too_large += other.dropped_too_large;
        *dropped_purged += other.dropped_purged;
        *dropped_not_authorized += other.dropped_not_authorized;
    }
}

impl ShardStats {
    /// Messages were copied to a connection at QoS 0.
    pub(super) fn copied(&mut self, messages: u64, payload_bytes: u64) {
        self.packets_sent += messages;
        self.payload_bytes_sent += payload_bytes;
        self.sent[by(QoS::AtMostOnce)] += messages;
    }

    /// How often a `request` was refused for that reason.
    #[must_use]
    pub const fn refused(&self, request: Request, refusal: Refusal) -> u64 {
        self.refused[request as usize][refusal as usize]
    }
}

/// Place of `qos` in an array by QoS.
pub(crate) fn by(qos: QoS) -> usize {
    match qos {
        QoS::AtMostOnce => 0,
        QoS::AtLeastOnce => 1,
        QoS::ExactlyOnce => 2,
    }
}
