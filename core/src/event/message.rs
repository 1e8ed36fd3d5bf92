//! The hot record: a published message.

use crate::event::EventError;
use crate::identity::PacketId;
use crate::packet::QoS;

/// A message was published. Borrows from the packet on the way in, from the batch on the way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessagePublished<'a> {
    /// Quality of Service of the publisher.
    pub qos: QoS,
    /// RETAIN flag.
    pub retain: bool,
    /// Packet Identifier of the publisher; absent for QoS 0 and derived messages.
    pub packet_id: Option<PacketId>,
    /// Topic Name.
    pub topic: &'a str,
    /// Message Expiry Interval in seconds, counted from the batch's time.
    pub message_expiry_interval: Option<u32>,
    /// Encoded properties that subscribers see ([`crate::packet::ForwardedProperties`]).
    pub properties: &'a [u8],
    /// Application Message (ciphertext if the record has a key id).
    pub payload: &'a [u8],
}

const NO_EXPIRY: u32 = u32::MAX;
const FIXED_BYTES: usize = 12;

impl<'a> MessagePublished<'a> {
    /// Bits 0 to 2 of the record's flags: QoS and RETAIN.
    pub(crate) fn flags(&self) -> u8 {
        self.qos as u8 | (u8::from(self.retain) << 2)
    }

    /// Appends the body of the record.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let topic = u16::try_from(self.topic.len()).expect("a topic name has at most 65,535 bytes");
        let properties =
            u32::try_from(self.properties.len()).expect("a packet has at most 256 MiB");
        let packet_id = self.packet_id.map_or(0, PacketId::get);
        // An interval of 2^32-1 seconds is 136 years: it is kept as "none".
        let expiry = self.message_expiry_interval.unwrap_or(NO_EXPIRY);
        let mut fixed = [0; FIXED_BYTES];
        fixed[0..2].copy_from_slice(&packet_id.to_le_bytes());
        fixed[2..4].copy_from_slice(&topic.to_le_bytes());
        fixed[4..8].copy_from_slice(&properties.to_le_bytes());
        fixed[8..12].copy_from_slice(&expiry.to_le_bytes());
        out.extend_from_slice(&fixed);
        out.extend_from_slice(self.topic.as_bytes());
        out.extend_from_slice(self.properties);
        out.extend_from_slice(self.payload);
    }

    /// Reads the body of a record.
    pub(crate) fn decode(flags: u8, body: &'a [u8]) -> Result<Self, EventError> {
        const SHORT: EventError = EventError("message shorter than its lengths");
        let (fixed, rest) = body.split_first_chunk::<FIXED_BYTES>().ok_or(SHORT)?;
        let topic = usize::from(u16::from_le_bytes([fixed[2], fixed[3]]));
        let properties = u32::from_le_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]) as usize;
        let expiry = u32::from_le_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]);
        let (topic, rest) = rest.split_at_checked(topic).ok_or(SHORT)?;
        let (properties, payload) = rest.split_at_checked(properties).ok_or(SHORT)?;
        Ok(Self {
            qos: QoS::from_bits(flags & 0b11).ok_or(EventError("QoS 3"))?,
            retain: flags & 0b100 != 0,
            packet_id: PacketId::new(u16::from_le_bytes([fixed[0], fixed[1]])),
            topic: str::from_utf8(topic).map_err(|_| EventError("topic is not UTF-8"))?,
            message_expiry_interval: (expiry != NO_EXPIRY).then_some(expiry),
            properties,
            payload,
        })
    }
}
