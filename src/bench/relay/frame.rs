//! Packets off a buffer: the frequent ones by hand, the rare ones by the codec.

use ledgermq_core::codec;
use ledgermq_core::packet::{Packet, ProtocolVersion, QoS};

use super::PACKET_BYTES_MAX;
use super::connection::End;

const TRUNCATED: End = End::Wrong("packet is too short");

/// A packet of a client.
pub(super) enum Frame<'a> {
    Publish(Publish<'a>),
    PubAck(u16),
    PubRec(u16),
    PubRel(u16),
    PubComp(u16),
    Rare(Packet<'a>),
}

/// A PUBLISH as it came, with what is needed to send it on.
pub(super) struct Publish<'a> {
    /// The whole packet.
    pub(super) bytes: &'a [u8],
    /// Where the length of the topic stands: behind the fixed header.
    pub(super) topic_at: usize,
    /// What is behind the topic: at QoS 1 and 2 the Packet Identifier, then the payload.
    pub(super) body_at: usize,
    pub(super) qos: QoS,
    /// 0 at QoS 0.
    pub(super) packet_id: u16,
}

impl<'a> Publish<'a> {
    /// The Topic Name, not checked yet.
    #[inline]
    pub(super) fn topic(&self) -> &'a [u8] {
        &self.bytes[self.topic_at + 2..self.body_at]
    }
}

/// The first packet of `buffer` and its length; `None` if it is not all there.
#[inline]
pub(super) fn first(buffer: &[u8]) -> Result<Option<(Frame<'_>, usize)>, End> {
    let Some((header_bytes, remaining)) = fixed_header(buffer)? else { return Ok(None) };
    let total = header_bytes + remaining;
    if total > PACKET_BYTES_MAX {
        return Err(End::Wrong("packet is too large"));
    }
    let Some(bytes) = buffer.get(..total) else { return Ok(None) };
    let frame = match bytes[0] {
        0x30..=0x3F => Frame::Publish(publish(bytes, header_bytes)?),
        0x40 => Frame::PubAck(answered(bytes)?),
        0x50 => Frame::PubRec(answered(bytes)?),
        0x62 => Frame::PubRel(answered(bytes)?),
        0x70 => Frame::PubComp(answered(bytes)?),
        _ => Frame::Rare(rare(bytes)?),
    };
    Ok(Some((frame, total)))
}

/// Length of the fixed header, and the Remaining Length.
#[inline]
fn fixed_header(buffer: &[u8]) -> Result<Option<(usize, usize)>, End> {
    let mut remaining = 0;
    for (at, byte) in buffer.iter().skip(1).take(4).enumerate() {
        remaining |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((at + 2, remaining)));
        }
    }
    if buffer.len() >= 5 {
        return Err(End::Wrong("length of more than four bytes"));
    }
    Ok(None)
}

#[inline]
fn publish(bytes: &[u8], topic_at: usize) -> Result<Publish<'_>, End> {
    let qos = QoS::from_bits(bytes[0] >> 1 & 0b11).ok_or(End::Wrong("QoS 3"))?;
    let body_at = topic_at + 2 + usize::from(u16_at(bytes, topic_at)?);
    let packet_id = if qos == QoS::AtMostOnce { 0 } else { u16_at(bytes, body_at)? };
    if body_at > bytes.len() {
        return Err(TRUNCATED);
    }
    if packet_id == 0 && qos != QoS::AtMostOnce {
        return Err(End::Wrong("packet identifier 0"));
    }
    Ok(Publish { bytes, topic_at, body_at, qos, packet_id })
}

/// The Packet Identifier of an acknowledgement.
#[inline]
fn answered(bytes: &[u8]) -> Result<u16, End> {
    match bytes {
        [_, 2, high, low] => Ok(u16::from_be_bytes([*high, *low])),
        _ => Err(End::Wrong("acknowledgement of a wrong length")),
    }
}

fn rare(bytes: &[u8]) -> Result<Packet<'_>, End> {
    let bytes_max = u32::try_from(PACKET_BYTES_MAX).unwrap_or(u32::MAX);
    match codec::decode(bytes, ProtocolVersion::V311, bytes_max) {
        Ok(Some((packet, _))) => Ok(packet),
        Ok(None) => Err(TRUNCATED),
        Err(error) => Err(End::Wrong(error.detail)),
    }
}

#[inline]
fn u16_at(bytes: &[u8], at: usize) -> Result<u16, End> {
    match bytes.get(at..at + 2) {
        Some([high, low]) => Ok(u16::from_be_bytes([*high, *low])),
        _ => Err(TRUNCATED),
    }
}
