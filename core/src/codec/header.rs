//! The fixed header: packet type, flags and Remaining Length (MQTT 5 section 2.1).

use crate::codec::primitive::{put_varint, varint_bytes};
use crate::codec::{DecodeError, EncodeError};
use crate::packet::{ProtocolVersion, QoS};

/// The largest Remaining Length.
pub(super) const REMAINING_LENGTH_MAX: u32 = 268_435_455;

/// Packet type and QoS in the first byte.
const TYPE: u8 = 0xF0;
const QOS: u8 = 0b11 << 1;

const RESERVED_FLAGS: DecodeError = DecodeError::malformed("reserved flags of the fixed header");

/// Type of a Control Packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum PacketType {
    Connect = 1,
    ConnAck,
    Publish,
    PubAck,
    PubRec,
    PubRel,
    PubComp,
    Subscribe,
    SubAck,
    Unsubscribe,
    UnsubAck,
    PingReq,
    PingResp,
    Disconnect,
    Auth,
}

impl PacketType {
    /// Type and flags of the first byte, checked; those of a CONNECT by
    /// [`PacketType::check_connect_flags`], as its version stands in its body.
    #[inline]
    pub(super) fn of(first: u8, version: ProtocolVersion) -> Result<Self, DecodeError> {
        let kind = match first >> 4 {
            1 => Self::Connect,
            2 => Self::ConnAck,
            3 => return Self::publish(first),
            4 => Self::PubAck,
            5 => Self::PubRec,
            6 => Self::PubRel,
            7 => Self::PubComp,
            8 => Self::Subscribe,
            9 => Self::SubAck,
            10 => Self::Unsubscribe,
            11 => Self::UnsubAck,
            12 => Self::PingReq,
            13 => Self::PingResp,
            14 => Self::Disconnect,
            15 if version == ProtocolVersion::V5 => Self::Auth,
            _ => return Err(DecodeError::malformed("packet type is reserved")),
        };
        if first == kind.first_byte()
            || kind == Self::Connect
            || (version == ProtocolVersion::V31 && kind.is_said_in_31_by(first))
        {
            return Ok(kind);
        }
        Err(RESERVED_FLAGS) // [MQTT-2.1.3-1]
    }

    /// In 3.1 what is answered has QoS 1 and may say that it is sent again; other flags are not
    /// used.
    fn is_said_in_31_by(self, first: u8) -> bool {
        let is_answered = matches!(self, Self::PubRel | Self::Subscribe | Self::Unsubscribe);
        let used = if is_answered { TYPE | QOS } else { TYPE };
        first & used == self.first_byte()
    }

    /// Refuses a CONNECT with reserved flags as soon as `body`, all of it or its beginning, shows
    /// that it is not one of 3.1, which does not use them. `[MQTT-2.1.3-1]`
    #[inline]
    pub(super) fn check_connect_flags(self, first: u8, body: &[u8]) -> Result<(), DecodeError> {
        const BEGINNING_31: &[u8] = b"\0\x06MQIsdp\x03";
        if self != Self::Connect || first == self.first_byte() {
            return Ok(());
        }
        if body.iter().zip(BEGINNING_31).all(|(byte, expected)| byte == expected) {
            return Ok(());
        }
        Err(RESERVED_FLAGS)
    }

    /// Type and reserved flags as the first byte of a packet.
    pub(super) const fn first_byte(self) -> u8 {
        let flags = match self {
            Self::PubRel | Self::Subscribe | Self::Unsubscribe => 0b0010,
            Self::Connect
            | Self::ConnAck
            | Self::Publish
            | Self::PubAck
            | Self::PubRec
            | Self::PubComp
            | Self::SubAck
            | Self::UnsubAck
            | Self::PingReq
            | Self::PingResp
            | Self::Disconnect
            | Self::Auth => 0,
        };
        (self as u8) << 4 | flags
    }

    /// Refuses a Remaining Length that no packet of this type has, before the packet is there.
    #[inline]
    pub(super) fn check_length(
        self,
        length: u32,
        version: ProtocolVersion,
    ) -> Result<(), DecodeError> {
        let is_v5 = version == ProtocolVersion::V5;
        let fits = match self {
            Self::Publish => length >= 2,
            Self::PubAck | Self::PubRec | Self::PubRel | Self::PubComp if is_v5 => length >= 2,
            Self::UnsubAck if is_v5 => length >= 3,
            Self::PubAck | Self::PubRec | Self::PubRel | Self::PubComp | Self::UnsubAck => {
                length == 2
            }
            Self::ConnAck if is_v5 => length >= 3,
            Self::ConnAck => length == 2,
            Self::Connect | Self::Subscribe | Self::SubAck | Self::Unsubscribe => length >= 2,
            Self::PingReq | Self::PingResp => length == 0,
            Self::Disconnect | Self::Auth => is_v5 || length == 0,
        };
        if fits {
            return Ok(());
        }
        Err(DecodeError::malformed("remaining length does not fit the packet type"))
    }

    fn publish(first: u8) -> Result<Self, DecodeError> {
        let is_dup = first & 0b1000 != 0;
        match QoS::from_bits((first >> 1) & 0b11) {
            Some(QoS::AtMostOnce) if is_dup => {
                Err(DecodeError::malformed("DUP with QoS 0")) // [MQTT-3.3.1-2]
            }
            Some(_) => Ok(Self::Publish),
            None => Err(DecodeError::malformed("QoS 3")), // [MQTT-3.3.1-4]
        }
    }
}

/// The Remaining Length at the beginning of `bytes` and the number of bytes it takes; `None` if
/// more are needed.
#[inline]
pub(super) fn remaining_length(bytes: &[u8]) -> Result<Option<(u32, usize)>, DecodeError> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            if *byte == 0 && at > 0 {
                return Err(DecodeError::malformed("length longer than needed")); // [MQTT-1.5.5-1]
            }
            return Ok(Some((value, at + 1)));
        }
    }
    if bytes.len() >= 4 {
        return Err(DecodeError::malformed("length of more than four bytes"));
    }
    Ok(None)
}

/// Appends a packet without a body.
#[expect(clippy::unnecessary_wraps, reason = "as all packets are written")]
pub(super) fn write_empty(kind: PacketType, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    out.extend_from_slice(&[kind.first_byte(), 0]);
    Ok(())
}

/// Appends the fixed header.
#[inline]
pub(super) fn write_header(first: u8, remaining: u32, out: &mut Vec<u8>) {
    out.push(first);
    put_varint(remaining, out);
}

/// Appends a packet whose body `write` appends.
pub(super) fn write_packet(
    kind: PacketType,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    out.push(kind.first_byte());
    write_measured(out, write)
}

/// Appends what `write` appends, behind its length as a Variable Byte Integer.
///
/// Room for a length of one byte is left; longer contents are moved.
pub(super) fn write_measured(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    const TOO_LARGE: EncodeError = EncodeError("a packet has at most 268,435,455 bytes");
    let start = out.len();
    out.push(0);
    write(out)?;
    let length = u32::try_from(out.len() - start - 1).map_err(|_| TOO_LARGE)?;
    if length > REMAINING_LENGTH_MAX {
        return Err(TOO_LARGE);
    }
    if length < 0x80 {
        out[start] = length.to_le_bytes()[0];
        return Ok(());
    }
    let mut bytes = Vec::with_capacity(varint_bytes(length));
    put_varint(length, &mut bytes);
    out.splice(start..=start, bytes);
    Ok(())
}
