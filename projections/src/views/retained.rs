//! Retained messages.

use ledgermq_core::identity::ClientId;
use ledgermq_core::offset::{Offset, Timestamp};
use ledgermq_core::packet::QoS;

/// A message that outlives its batch: retained, or kept for a session. It owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetainedMessage {
    /// Topic Name.
    pub topic: Box<str>,
    /// QoS of the publisher.
    pub qos: QoS,
    /// RETAIN flag of the publisher.
    pub retain: bool,
    /// Encoded properties that subscribers see.
    pub properties: Box<[u8]>,
    /// Application Message.
    pub payload: Box<[u8]>,
    /// Message Expiry Interval in seconds, from `time`.
    pub message_expiry_interval: Option<u32>,
    /// When it was published.
    pub time: Timestamp,
    /// Where it was published.
    pub offset: Offset,
    /// Who published it; none for derived messages.
    pub publisher: Option<ClientId>,
    /// Key with which the payload is encrypted; 0 is none.
    pub key_id: u32,
}

/// The retained messages by topic.
#[derive(Debug, Default)]
pub struct Retained {}

impl Retained {
    /// Number of messages.
    #[must_use]
    pub fn len(&self) -> u64 {
        0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of topics, properties and payloads.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        0
    }
}
