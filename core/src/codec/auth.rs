//! AUTH (MQTT 5 section 3.15).

use crate::codec::header::{PacketType, write_packet};
use crate::codec::primitive::Reader;
use crate::codec::properties::{Properties, id, place, write_properties};
use crate::codec::{DecodeError, EncodeError, reason_code};
use crate::packet::{Auth, ProtocolVersion};
use crate::reason::ReasonCode;

pub(super) fn decode(mut body: Reader<'_>) -> Result<Auth<'_>, DecodeError> {
    let mut auth = Auth {
        reason: ReasonCode::Success,
        authentication_method: None,
        authentication_data: None,
        reason_string: None,
        user_properties: Vec::new(),
    };
    if body.is_empty() {
        return Ok(auth);
    }
    auth.reason = reason_code(body.u8()?, is_allowed)?;
    let properties = Properties::read(&mut body, place::AUTH)?;
    auth.authentication_method = properties.authentication_method;
    auth.authentication_data = properties.authentication_data;
    auth.reason_string = properties.reason_string;
    auth.user_properties = properties.user_properties;
    body.finish()?;
    if auth.authentication_method.is_none() {
        return Err(DecodeError::protocol("no authentication method"));
    }
    Ok(auth)
}

pub(super) fn encode(
    auth: &Auth<'_>,
    version: ProtocolVersion,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    if version != ProtocolVersion::V5 {
        return Err(EncodeError("there is no AUTH in MQTT 3.1.1"));
    }
    let has_properties = auth.authentication_data.is_some()
        || auth.reason_string.is_some()
        || !auth.user_properties.is_empty();
    write_packet(PacketType::Auth, out, |out| {
        if auth.authentication_method.is_none() {
            let is_short = auth.reason == ReasonCode::Success && !has_properties;
            return is_short.then_some(()).ok_or(EncodeError("no authentication method"));
        }
        out.push(auth.reason as u8);
        write_properties(out, |properties| {
            properties.put(id::AUTHENTICATION_METHOD, auth.authentication_method)?;
            properties.put(id::AUTHENTICATION_DATA, auth.authentication_data)?;
            properties.put(id::REASON_STRING, auth.reason_string)?;
            properties.user(&auth.user_properties)
        })
    })
}

// [MQTT-3.15.2-1]
fn is_allowed(code: ReasonCode) -> bool {
    use ReasonCode as R;
    matches!(code, R::Success | R::ContinueAuthentication | R::ReAuthenticate)
}
