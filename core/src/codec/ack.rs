//! PUBACK, PUBREC, PUBREL and PUBCOMP (MQTT 5 sections 3.4 to 3.7).

use crate::codec::header::{PacketType, write_packet};
use crate::codec::primitive::{Reader, put_packet_id};
use crate::codec::properties::{Properties, id, place, write_properties};
use crate::codec::{DecodeError, EncodeError, reason_code};
use crate::packet::{Ack, ProtocolVersion};
use crate::reason::ReasonCode;

pub(super) fn decode<'a>(
    kind: PacketType,
    mut body: Reader<'a>,
    version: ProtocolVersion,
) -> Result<Ack<'a>, DecodeError> {
    let mut ack = Ack::new(body.packet_id()?, ReasonCode::Success);
    if version != ProtocolVersion::V5 || body.is_empty() {
        return body.finish().map(|()| ack);
    }
    ack.reason = reason_code(body.u8()?, |code| is_allowed(kind, code))?;
    if !body.is_empty() {
        let properties = Properties::read(&mut body, place::ACK)?;
        ack.reason_string = properties.reason_string;
        ack.user_properties = properties.user_properties;
    }
    body.finish().map(|()| ack)
}

pub(super) fn encode(
    kind: PacketType,
    ack: &Ack<'_>,
    version: ProtocolVersion,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let has_properties = ack.reason_string.is_some() || !ack.user_properties.is_empty();
    write_packet(kind, out, |out| {
        put_packet_id(ack.packet_id, out);
        let is_short = ack.reason == ReasonCode::Success && !has_properties;
        if version != ProtocolVersion::V5 || is_short {
            return Ok(());
        }
        out.push(ack.reason as u8);
        if !has_properties {
            return Ok(());
        }
        write_properties(out, |properties| {
            properties.put(id::REASON_STRING, ack.reason_string)?;
            properties.user(&ack.user_properties)
        })
    })
}

fn is_allowed(kind: PacketType, code: ReasonCode) -> bool {
    use ReasonCode as R;
    match kind {
        // [MQTT-3.6.2-1] [MQTT-3.7.2-1]
        PacketType::PubRel | PacketType::PubComp => {
            matches!(code, R::Success | R::PacketIdentifierNotFound)
        }
        // [MQTT-3.4.2-1] [MQTT-3.5.2-1]
        _ => matches!(
            code,
            R::Success
                | R::NoMatchingSubscribers
                | R::UnspecifiedError
                | R::ImplementationSpecificError
                | R::NotAuthorized
                | R::TopicNameInvalid
                | R::PacketIdentifierInUse
                | R::QuotaExceeded
                | R::PayloadFormatInvalid
        ),
    }
}
