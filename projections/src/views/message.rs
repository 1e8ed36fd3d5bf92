//! A message that outlives its batch.

use ledgermq_core::event::{EventRef, MessagePublished, WillMessage};
use ledgermq_core::identity::ClientId;
use ledgermq_core::offset::{Offset, Timestamp};
use ledgermq_core::packet::QoS;
use ledgermq_log::CommittedBatch;

use crate::bytes::{Cut, Reader, put_bytes, put_u32, put_u64};
use crate::time;

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

impl RetainedMessage {
    /// Copies messages of one batch to `out`: those at `offsets`, which ascend. What is no message
    /// is passed over.
    pub fn copy(batch: &CommittedBatch, offsets: &[Offset], out: &mut Vec<Self>) {
        let body = batch.batch();
        let mut wanted = offsets.iter().peekable();
        for record in body.records().flatten() {
            let at = Offset::new(batch.index, record.ordinal);
            if wanted.next_if_eq(&&at).is_none() {
                continue;
            }
            if let Ok(EventRef::MessagePublished(message)) = record.event() {
                let session = record
                    .session
                    .and_then(|number| body.sessions().nth(usize::from(number))?.ok());
                let publisher = session.map(|session| session.client);
                out.push(Self::new(&message, record.key_id, publisher, batch.time, at));
            }
        }
    }

    /// Copies `message` out of its batch.
    pub fn new(
        message: &MessagePublished<'_>,
        key_id: u32,
        publisher: Option<&str>,
        time: Timestamp,
        offset: Offset,
    ) -> Self {
        Self {
            topic: message.topic.into(),
            qos: message.qos,
            retain: message.retain,
            properties: message.properties.into(),
            payload: message.payload.into(),
            message_expiry_interval: message.message_expiry_interval,
            time,
            offset,
            publisher: publisher.map(ClientId::from),
            key_id,
        }
    }

    /// Bytes of topic, properties and payload.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (self.topic.len() + self.properties.len() + self.payload.len()) as u64
    }

    /// Whether the Message Expiry Interval has passed at `now`.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires().is_some_and(|deadline| deadline <= now)
    }

    /// When the Message Expiry Interval passes.
    #[must_use]
    pub fn expires(&self) -> Option<Timestamp> {
        self.message_expiry_interval.map(|seconds| time::after(self.time, seconds))
    }

    /// Appends the bytes of a checkpoint's row.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.qos as u8 | u8::from(self.retain) << 2);
        put_u32(out, self.message_expiry_interval.unwrap_or(u32::MAX));
        put_u64(out, self.time.0);
        put_u64(out, self.offset.index);
        put_u32(out, self.offset.ordinal);
        put_u32(out, self.key_id);
        out.push(u8::from(self.publisher.is_some()));
        put_bytes(out, self.publisher.as_deref().unwrap_or_default().as_bytes());
        put_bytes(out, self.topic.as_bytes());
        put_bytes(out, &self.properties);
        put_bytes(out, &self.payload);
    }

    /// Reads what [`RetainedMessage::encode`] wrote.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Cut> {
        let mut from = Reader(bytes);
        let flags = from.u8()?;
        let expiry = from.u32()?;
        let time = Timestamp(from.u64()?);
        let offset = Offset::new(from.u64()?, from.u32()?);
        let key_id = from.u32()?;
        let has_publisher = from.u8()? != 0;
        let publisher = from.str()?;
        Ok(Self {
            qos: QoS::from_bits(flags & 0b11).ok_or(Cut)?,
            retain: flags & 0b100 != 0,
            message_expiry_interval: (expiry != u32::MAX).then_some(expiry),
            time,
            offset,
            publisher: has_publisher.then(|| publisher.into()),
            key_id,
            topic: from.str()?.into(),
            properties: from.bytes()?.into(),
            payload: from.bytes()?.into(),
        })
    }
}

/// The message that a will becomes.
pub(crate) fn published(will: &WillMessage) -> MessagePublished<'_> {
    MessagePublished {
        qos: will.qos,
        retain: will.retain,
        packet_id: None,
        topic: &will.topic,
        message_expiry_interval: will.message_expiry_interval,
        properties: &will.properties,
        payload: &will.payload,
    }
}
