//! Bytes to Control Packets and back, for all protocol versions.
//!
//! Decoding borrows from the buffer; encoding appends to a vector. One file per packet under
//! `codec/`; properties have one table, in `codec/properties.rs`.

use crate::packet::{Packet, ProtocolVersion, Publish};
use crate::reason::ReasonCode;

mod ack;
mod auth;
mod connack;
mod connect;
mod disconnect;
mod forwarded;
mod header;
mod primitive;
mod properties;
mod publish;
mod suback;
mod subscribe;

pub use forwarded::ForwardedProperty;

use header::PacketType;
use primitive::Reader;

/// Bytes of the largest packet that the protocol can express, fixed header included.
pub const PACKET_BYTES_MAX: u32 = header::REMAINING_LENGTH_MAX + 5;

/// Bytes that are no Control Packet. The Network Connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail} (reason code {:#04x})", *reason as u8)]
pub struct DecodeError {
    /// The code for DISCONNECT or CONNACK.
    pub reason: ReasonCode,
    /// What is wrong, for people.
    pub detail: &'static str,
    /// If it is in a CONNECT: the version in which that is to be answered.
    pub connect: Option<ProtocolVersion>,
}

impl DecodeError {
    const fn new(reason: ReasonCode, detail: &'static str) -> Self {
        Self { reason, detail, connect: None }
    }

    const fn in_connect(self, version: ProtocolVersion) -> Self {
        Self { connect: Some(version), ..self }
    }

    /// The bytes do not parse.
    const fn malformed(detail: &'static str) -> Self {
        Self::new(ReasonCode::MalformedPacket, detail)
    }

    /// The bytes parse, but say what is not allowed.
    const fn protocol(detail: &'static str) -> Self {
        Self::new(ReasonCode::ProtocolError, detail)
    }
}

/// A packet that the protocol cannot express (a string over 65,535 bytes, a packet over
/// 268,435,455 bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EncodeError(pub &'static str);

/// Decodes the first packet of `buffer`, and says how many bytes it took.
///
/// `Ok(None)` means that more bytes are needed. `version` is that of the connection; a CONNECT is
/// decoded by the version that it names itself.
///
/// # Errors
///
/// The first fault in the order of the bytes. A packet longer than `packet_bytes_max` (fixed header
/// included) is refused with `PacketTooLarge` as soon as its length is known, and one whose fixed
/// header is wrong before the rest is there.
#[inline]
pub fn decode(
    buffer: &[u8],
    version: ProtocolVersion,
    packet_bytes_max: u32,
) -> Result<Option<(Packet<'_>, usize)>, DecodeError> {
    let Some((first, rest)) = buffer.split_first() else {
        return Ok(None);
    };
    let kind = PacketType::of(*first, version)?;
    let Some((length, length_bytes)) = header::remaining_length(rest)? else {
        return Ok(None);
    };
    let header_bytes = 1 + length_bytes;
    let total = header_bytes + length as usize;
    if total > packet_bytes_max as usize {
        return Err(DecodeError::new(ReasonCode::PacketTooLarge, "packet larger than allowed"));
    }
    kind.check_length(length, version)?;
    kind.check_connect_flags(*first, &buffer[header_bytes..])?;
    let Some(body) = buffer.get(header_bytes..total) else {
        return Ok(None);
    };
    let packet = body_of(kind, *first, Reader::new(body), version)?;
    Ok(Some((packet, total)))
}

/// Bytes of the packet whose beginning `buffer` is, once they can be told. Nothing else is checked.
#[must_use]
pub fn packet_bytes(buffer: &[u8]) -> Option<usize> {
    let (_, rest) = buffer.split_first()?;
    let (length, length_bytes) = header::remaining_length(rest).ok()??;
    Some(1 + length_bytes + length as usize)
}

/// Appends `packet` to `out` in the form of `version` (a CONNECT in that of its own version).
///
/// What the version cannot carry is left out or translated: in 3.1.1 there are no properties,
/// CONNACK has Connect Return codes 0 to 5, SUBACK writes 0x80 for every error, UNSUBACK and
/// DISCONNECT carry no codes.
///
/// # Errors
///
/// See [`EncodeError`]; `out` is then as before.
pub fn encode(
    packet: &Packet<'_>,
    version: ProtocolVersion,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    or_as_before(out, |out| write(packet, version, out))
}

/// Appends a PUBLISH to `out`, as [`encode`] does.
///
/// # Errors
///
/// See [`EncodeError`]; `out` is then as before.
#[inline]
pub fn encode_publish(
    publish: &Publish<'_>,
    version: ProtocolVersion,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    or_as_before(out, |out| publish::encode(publish, version, out))
}

#[inline]
fn or_as_before(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let before = out.len();
    let result = write(out);
    if result.is_err() {
        out.truncate(before);
    }
    result
}

/// The Reason Code `value`, if the packet may carry it.
fn reason_code(
    value: u8,
    is_allowed: impl Fn(ReasonCode) -> bool,
) -> Result<ReasonCode, DecodeError> {
    let code = ReasonCode::try_from(value).ok().filter(|code| is_allowed(*code));
    code.ok_or(DecodeError::protocol("reason code not of this packet"))
}

fn body_of<'a>(
    kind: PacketType,
    first: u8,
    body: Reader<'a>,
    version: ProtocolVersion,
) -> Result<Packet<'a>, DecodeError> {
    Ok(match kind {
        PacketType::Publish => Packet::Publish(publish::decode(first, body, version)?),
        PacketType::PubAck => Packet::PubAck(ack::decode(kind, body, version)?),
        PacketType::PubRec => Packet::PubRec(ack::decode(kind, body, version)?),
        PacketType::PubRel => Packet::PubRel(ack::decode(kind, body, version)?),
        PacketType::PubComp => Packet::PubComp(ack::decode(kind, body, version)?),
        PacketType::Connect => Packet::Connect(Box::new(connect::decode(body)?)),
        PacketType::ConnAck => Packet::ConnAck(Box::new(connack::decode(body, version)?)),
        PacketType::Subscribe => Packet::Subscribe(subscribe::decode(body, version)?),
        PacketType::SubAck => Packet::SubAck(suback::decode(kind, body, version)?),
        PacketType::Unsubscribe => {
            Packet::Unsubscribe(subscribe::decode_unsubscribe(body, version)?)
        }
        PacketType::UnsubAck => Packet::UnsubAck(suback::decode(kind, body, version)?),
        PacketType::PingReq => Packet::PingReq,
        PacketType::PingResp => Packet::PingResp,
        PacketType::Disconnect => Packet::Disconnect(disconnect::decode(body)?),
        PacketType::Auth => Packet::Auth(auth::decode(body)?),
    })
}

fn write(
    packet: &Packet<'_>,
    version: ProtocolVersion,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    match packet {
        Packet::Publish(publish) => publish::encode(publish, version, out),
        Packet::PubAck(ack) => ack::encode(PacketType::PubAck, ack, version, out),
        Packet::PubRec(ack) => ack::encode(PacketType::PubRec, ack, version, out),
        Packet::PubRel(ack) => ack::encode(PacketType::PubRel, ack, version, out),
        Packet::PubComp(ack) => ack::encode(PacketType::PubComp, ack, version, out),
        Packet::Connect(connect) => connect::encode(connect, out),
        Packet::ConnAck(connack) => connack::encode(connack, version, out),
        Packet::Subscribe(subscribe) => subscribe::encode(subscribe, version, out),
        Packet::SubAck(suback) => suback::encode(suback, version, out),
        Packet::Unsubscribe(unsubscribe) => {
            subscribe::encode_unsubscribe(unsubscribe, version, out)
        }
        Packet::UnsubAck(unsuback) => suback::encode_unsuback(unsuback, version, out),
        Packet::PingReq => header::write_empty(PacketType::PingReq, out),
        Packet::PingResp => header::write_empty(PacketType::PingResp, out),
        Packet::Disconnect(disconnect) => disconnect::encode(disconnect, version, out),
        Packet::Auth(auth) => auth::encode(auth, version, out),
    }
}
