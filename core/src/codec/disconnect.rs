//! DISCONNECT (MQTT 5 section 3.14).

use crate::codec::header::{PacketType, write_packet};
use crate::codec::primitive::Reader;
use crate::codec::properties::{Properties, id, place, write_properties};
use crate::codec::{DecodeError, EncodeError, reason_code};
use crate::packet::{Disconnect, ProtocolVersion};
use crate::reason::ReasonCode;

/// Reads the body; that of 3.1.1 is empty (checked with the fixed header).
pub(super) fn decode(mut body: Reader<'_>) -> Result<Disconnect<'_>, DecodeError> {
    let mut disconnect = Disconnect::new(ReasonCode::Success);
    if body.is_empty() {
        return Ok(disconnect);
    }
    disconnect.reason = reason_code(body.u8()?, is_allowed)?;
    if !body.is_empty() {
        let properties = Properties::read(&mut body, place::DISCONNECT)?;
        disconnect.session_expiry_interval = properties.session_expiry_interval;
        disconnect.reason_string = properties.reason_string;
        disconnect.server_reference = properties.server_reference;
        disconnect.user_properties = properties.user_properties;
    }
    body.finish().map(|()| disconnect)
}

pub(super) fn encode(
    disconnect: &Disconnect<'_>,
    version: ProtocolVersion,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let has_properties = disconnect.session_expiry_interval.is_some()
        || disconnect.reason_string.is_some()
        || disconnect.server_reference.is_some()
        || !disconnect.user_properties.is_empty();
    write_packet(PacketType::Disconnect, out, |out| {
        let is_short = disconnect.reason == ReasonCode::Success && !has_properties;
        if version != ProtocolVersion::V5 || is_short {
            return Ok(());
        }
        out.push(disconnect.reason as u8);
        if !has_properties {
            return Ok(());
        }
        write_properties(out, |properties| {
            properties.put(id::SESSION_EXPIRY_INTERVAL, disconnect.session_expiry_interval)?;
            properties.put(id::REASON_STRING, disconnect.reason_string)?;
            properties.put(id::SERVER_REFERENCE, disconnect.server_reference)?;
            properties.user(&disconnect.user_properties)
        })
    })
}

/// The codes of either side: which side sent it is not the codec's to know. `[MQTT-3.14.2-1]`
fn is_allowed(code: ReasonCode) -> bool {
    use ReasonCode as R;
    match code {
        R::Success | R::DisconnectWithWill => true,
        R::UnsupportedProtocolVersion
        | R::ClientIdentifierNotValid
        | R::BadUserNameOrPassword
        | R::ServerUnavailable
        | R::Banned
        | R::PacketIdentifierInUse
        | R::PacketIdentifierNotFound => false,
        other => other.is_error(),
    }
}
