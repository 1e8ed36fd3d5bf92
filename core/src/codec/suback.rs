//! SUBACK and UNSUBACK (MQTT 5 sections 3.9 and 3.11).

use crate::codec::header::{PacketType, write_packet};
use crate::codec::primitive::{Reader, put_packet_id};
use crate::codec::properties::{Properties, id, place, write_properties};
use crate::codec::{DecodeError, EncodeError, reason_code};
use crate::packet::{ProtocolVersion, SubAck};
use crate::reason::ReasonCode;

pub(super) fn decode<'a>(
    kind: PacketType,
    mut body: Reader<'a>,
    version: ProtocolVersion,
) -> Result<SubAck<'a>, DecodeError> {
    let packet_id = body.packet_id()?;
    let is_v5 = version == ProtocolVersion::V5;
    let properties =
        if is_v5 { Properties::read(&mut body, place::SUBACK)? } else { Properties::default() };
    let mut reasons = Vec::with_capacity(body.rest().len());
    for code in body.rest() {
        reasons.push(reason_code(*code, |code| is_allowed(kind, code, version))?);
    }
    if reasons.is_empty() && (is_v5 || kind == PacketType::SubAck) {
        return Err(DecodeError::protocol("no reason codes"));
    }
    Ok(SubAck {
        packet_id,
        reason_string: properties.reason_string,
        user_properties: properties.user_properties,
        reasons,
    })
}

pub(super) fn encode(
    suback: &SubAck<'_>,
    version: ProtocolVersion,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    if suback.reasons.is_empty() {
        return Err(EncodeError("a SUBACK has a reason code for each topic filter"));
    }
    write_packet(PacketType::SubAck, out, |out| {
        put_packet_id(suback.packet_id, out);
        if version == ProtocolVersion::V5 {
            write_suback_properties(suback, out)?;
        }
        out.extend(suback.reasons.iter().map(|reason| match version {
            ProtocolVersion::V31 | ProtocolVersion::V311 if reason.is_error() => {
                ReasonCode::UnspecifiedError as u8
            }
            ProtocolVersion::V31 | ProtocolVersion::V311 | ProtocolVersion::V5 => *reason as u8,
        }));
        Ok(())
    })
}

pub(super) fn encode_unsuback(
    unsuback: &SubAck<'_>,
    version: ProtocolVersion,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    if unsuback.reasons.is_empty() && version == ProtocolVersion::V5 {
        return Err(EncodeError("an UNSUBACK has a reason code for each topic filter"));
    }
    write_packet(PacketType::UnsubAck, out, |out| {
        put_packet_id(unsuback.packet_id, out);
        if version == ProtocolVersion::V5 {
            write_suback_properties(unsuback, out)?;
            out.extend(unsuback.reasons.iter().map(|reason| *reason as u8));
        }
        Ok(())
    })
}

fn write_suback_properties(suback: &SubAck<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    write_properties(out, |properties| {
        properties.put(id::REASON_STRING, suback.reason_string)?;
        properties.user(&suback.user_properties)
    })
}

fn is_allowed(kind: PacketType, code: ReasonCode, version: ProtocolVersion) -> bool {
    use ReasonCode as R;
    let is_granted = matches!(code, R::Success | R::GrantedQoS1 | R::GrantedQoS2);
    if version != ProtocolVersion::V5 {
        return is_granted || code == R::UnspecifiedError; // [MQTT311-3.9.3-2]
    }
    let is_common_error = matches!(
        code,
        R::UnspecifiedError
            | R::ImplementationSpecificError
            | R::NotAuthorized
            | R::TopicFilterInvalid
            | R::PacketIdentifierInUse
    );
    match kind {
        // [MQTT-3.11.3-2]
        PacketType::UnsubAck => {
            is_common_error || matches!(code, R::Success | R::NoSubscriptionExisted)
        }
        // [MQTT-3.9.3-2]
        _ => {
            is_granted
                || is_common_error
                || matches!(
                    code,
                    R::QuotaExceeded
                        | R::SharedSubscriptionsNotSupported
                        | R::SubscriptionIdentifiersNotSupported
                        | R::WildcardSubscriptionsNotSupported
                )
        }
    }
}
