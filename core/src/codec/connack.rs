//! CONNACK (MQTT 5 section 3.2).

use crate::codec::header::{PacketType, write_packet};
use crate::codec::primitive::Reader;
use crate::codec::properties::{Properties, PropertyWriter, id, place, write_properties};
use crate::codec::{DecodeError, EncodeError, reason_code};
use crate::packet::{ConnAck, ProtocolVersion, QoS};
use crate::reason::ReasonCode;

pub(super) fn decode(
    mut body: Reader<'_>,
    version: ProtocolVersion,
) -> Result<ConnAck<'_>, DecodeError> {
    let flags = body.u8()?;
    if flags > 1 {
        return Err(DecodeError::malformed("reserved connect acknowledge flags")); // [MQTT-3.2.2-1]
    }
    let session_present = flags == 1;
    let code = body.u8()?;
    let reason = match version {
        ProtocolVersion::V31 | ProtocolVersion::V311 => reason_of_return_code(code)?,
        ProtocolVersion::V5 => reason_code(code, is_allowed)?,
    };
    if session_present && reason != ReasonCode::Success {
        return Err(DecodeError::protocol("session present with an error")); // [MQTT-3.2.2-6]
    }
    let mut connack = ConnAck::new(session_present, reason);
    if version == ProtocolVersion::V5 {
        read_properties(&mut connack, Properties::read(&mut body, place::CONNACK)?);
    }
    body.finish().map(|()| connack)
}

pub(super) fn encode(
    connack: &ConnAck<'_>,
    version: ProtocolVersion,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    if connack.session_present && connack.reason != ReasonCode::Success {
        return Err(EncodeError("no session present with an error")); // [MQTT-3.2.2-6]
    }
    write_packet(PacketType::ConnAck, out, |out| {
        // In 3.1 the byte is reserved.
        out.push(u8::from(connack.session_present && version != ProtocolVersion::V31));
        match version {
            ProtocolVersion::V31 | ProtocolVersion::V311 => {
                out.push(return_code(connack.reason));
                Ok(())
            }
            ProtocolVersion::V5 => {
                out.push(connack.reason as u8);
                write_properties(out, |properties| put_properties(connack, properties))
            }
        }
    })
}

fn read_properties<'a>(connack: &mut ConnAck<'a>, properties: Properties<'a>) {
    connack.session_expiry_interval = properties.session_expiry_interval;
    connack.receive_maximum = properties.receive_maximum;
    connack.maximum_qos = properties
        .maximum_qos
        .map(|is_one| if is_one { QoS::AtLeastOnce } else { QoS::AtMostOnce });
    connack.retain_available = properties.retain_available;
    connack.maximum_packet_size = properties.maximum_packet_size;
    connack.assigned_client_identifier = properties.assigned_client_identifier;
    connack.topic_alias_maximum = properties.topic_alias_maximum;
    connack.reason_string = properties.reason_string;
    connack.wildcard_subscription_available = properties.wildcard_subscription_available;
    connack.subscription_identifiers_available = properties.subscription_identifiers_available;
    connack.shared_subscription_available = properties.shared_subscription_available;
    connack.server_keep_alive = properties.server_keep_alive;
    connack.response_information = properties.response_information;
    connack.server_reference = properties.server_reference;
    connack.authentication_method = properties.authentication_method;
    connack.authentication_data = properties.authentication_data;
    connack.user_properties = properties.user_properties;
}

fn put_properties(
    connack: &ConnAck<'_>,
    properties: &mut PropertyWriter<'_>,
) -> Result<(), EncodeError> {
    // Maximum QoS 2 is said by silence.
    let maximum_qos = match connack.maximum_qos {
        Some(QoS::AtMostOnce) => Some(false),
        Some(QoS::AtLeastOnce) => Some(true),
        Some(QoS::ExactlyOnce) | None => None,
    };
    properties.put(id::SESSION_EXPIRY_INTERVAL, connack.session_expiry_interval)?;
    properties.put(id::RECEIVE_MAXIMUM, connack.receive_maximum)?;
    properties.put(id::MAXIMUM_QOS, maximum_qos)?;
    properties.put(id::RETAIN_AVAILABLE, connack.retain_available)?;
    properties.put(id::MAXIMUM_PACKET_SIZE, connack.maximum_packet_size)?;
    properties.put(id::ASSIGNED_CLIENT_IDENTIFIER, connack.assigned_client_identifier)?;
    properties.put(id::TOPIC_ALIAS_MAXIMUM, connack.topic_alias_maximum)?;
    properties.put(id::REASON_STRING, connack.reason_string)?;
    properties.put(id::WILDCARD_SUBSCRIPTION_AVAILABLE, connack.wildcard_subscription_available)?;
    properties
        .put(id::SUBSCRIPTION_IDENTIFIERS_AVAILABLE, connack.subscription_identifiers_available)?;
    properties.put(id::SHARED_SUBSCRIPTION_AVAILABLE, connack.shared_subscription_available)?;
    properties.put(id::SERVER_KEEP_ALIVE, connack.server_keep_alive)?;
    properties.put(id::RESPONSE_INFORMATION, connack.response_information)?;
    properties.put(id::SERVER_REFERENCE, connack.server_reference)?;
    properties.put(id::AUTHENTICATION_METHOD, connack.authentication_method)?;
    properties.put(id::AUTHENTICATION_DATA, connack.authentication_data)?;
    properties.user(&connack.user_properties)
}

// [MQTT-3.2.2-7]
fn is_allowed(code: ReasonCode) -> bool {
    use ReasonCode as R;
    match code {
        R::Success => true,
        R::ServerShuttingDown
        | R::KeepAliveTimeout
        | R::SessionTakenOver
        | R::TopicFilterInvalid
        | R::PacketIdentifierInUse
        | R::PacketIdentifierNotFound
        | R::ReceiveMaximumExceeded
        | R::TopicAliasInvalid
        | R::MessageRateTooHigh
        | R::AdministrativeAction
        | R::SharedSubscriptionsNotSupported
        | R::MaximumConnectTime
        | R::SubscriptionIdentifiersNotSupported
        | R::WildcardSubscriptionsNotSupported => false,
        other => other.is_error(),
    }
}

/// The Reason Code that says what a Connect Return code of 3.1.1 says.
fn reason_of_return_code(code: u8) -> Result<ReasonCode, DecodeError> {
    match code {
        0 => Ok(ReasonCode::Success),
        1 => Ok(ReasonCode::UnsupportedProtocolVersion),
        2 => Ok(ReasonCode::ClientIdentifierNotValid),
        3 => Ok(ReasonCode::ServerUnavailable),
        4 => Ok(ReasonCode::BadUserNameOrPassword),
        5 => Ok(ReasonCode::NotAuthorized),
        _ => Err(DecodeError::protocol("unknown connect return code")),
    }
}

/// The Connect Return code of 3.1.1 that says most of what the Reason Code says.
fn return_code(reason: ReasonCode) -> u8 {
    match reason {
        reason if !reason.is_error() => 0,
        ReasonCode::UnsupportedProtocolVersion => 1,
        ReasonCode::ClientIdentifierNotValid => 2,
        ReasonCode::BadUserNameOrPassword => 4,
        ReasonCode::NotAuthorized | ReasonCode::Banned | ReasonCode::BadAuthenticationMethod => 5,
        _ => 3, // Server unavailable: try again later
    }
}
