//! `mqtt-protocol-core` as an oracle.

use std::sync::Arc;

use ledgermq_core::codec::DecodeError;
use ledgermq_core::packet::{Packet, ProtocolVersion};
use mqtt_protocol_core::mqtt::packet::{GenericPacketTrait, v3_1_1, v5_0};
use mqtt_protocol_core::mqtt::result_code::MqttError;

use super::Oracle;

pub(super) const ORACLE: Oracle = Oracle { recode, reduce, we_refuse, it_refuses };

fn recode(version: ProtocolVersion, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let (first, body) = frame(bytes).ok_or("no frame")?;
    let packet = match version {
        ProtocolVersion::V31 | ProtocolVersion::V311 => recode_v311(first, body),
        ProtocolVersion::V5 => recode_v5(first, body),
    };
    packet.map_err(|error| format!("{error:?}"))
}

/// The crate has parsers of packet bodies; their frames are found by its connection.
fn frame(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let mut length = 0;
    for (at, byte) in rest.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((*first, rest.get(at + 1..at + 1 + length)?));
        }
    }
    None
}

/// The packet as bytes, if its parser used up the body.
fn again<P: GenericPacketTrait>(
    body: &[u8],
    parsed: Result<(P, usize), MqttError>,
) -> Result<Vec<u8>, MqttError> {
    let (packet, length) = parsed?;
    if length != body.len() {
        return Err(MqttError::MalformedPacket);
    }
    Ok(packet.to_continuous_buffer())
}

fn recode_v311(first: u8, body: &[u8]) -> Result<Vec<u8>, MqttError> {
    match first {
        0x10 => again(body, v3_1_1::Connect::parse(body)),
        0x20 => again(body, v3_1_1::Connack::parse(body)),
        0x30..=0x3F => again(body, v3_1_1::Publish::parse(first & 0xF, Arc::from(body))),
        0x40 => again(body, v3_1_1::Puback::parse(body)),
        0x50 => again(body, v3_1_1::Pubrec::parse(body)),
        0x62 => again(body, v3_1_1::Pubrel::parse(body)),
        0x70 => again(body, v3_1_1::Pubcomp::parse(body)),
        0x82 => again(body, v3_1_1::Subscribe::parse(body)),
        0x90 => again(body, v3_1_1::Suback::parse(body)),
        0xA2 => again(body, v3_1_1::Unsubscribe::parse(body)),
        0xB0 => again(body, v3_1_1::Unsuback::parse(body)),
        0xC0 => again(body, v3_1_1::Pingreq::parse(body)),
        0xD0 => again(body, v3_1_1::Pingresp::parse(body)),
        0xE0 => again(body, v3_1_1::Disconnect::parse(body)),
        _ => Err(MqttError::MalformedPacket),
    }
}

fn recode_v5(first: u8, body: &[u8]) -> Result<Vec<u8>, MqttError> {
    match first {
        0x10 => again(body, v5_0::Connect::parse(body)),
        0x20 => again(body, v5_0::Connack::parse(body)),
        0x30..=0x3F => again(body, v5_0::Publish::parse(first & 0xF, Arc::from(body))),
        0x40 => again(body, v5_0::Puback::parse(body)),
        0x50 => again(body, v5_0::Pubrec::parse(body)),
        0x62 => again(body, v5_0::Pubrel::parse(body)),
        0x70 => again(body, v5_0::Pubcomp::parse(body)),
        0x82 => again(body, v5_0::Subscribe::parse(body)),
        0x90 => again(body, v5_0::Suback::parse(body)),
        0xA2 => again(body, v5_0::Unsubscribe::parse(body)),
        0xB0 => again(body, v5_0::Unsuback::parse(body)),
        0xC0 => again(body, v5_0::Pingreq::parse(body)),
        0xD0 => again(body, v5_0::Pingresp::parse(body)),
        0xE0 => again(body, v5_0::Disconnect::parse(body)),
        0xF0 => again(body, v5_0::Auth::parse(body)),
        _ => Err(MqttError::MalformedPacket),
    }
}

fn reduce(packet: &mut Packet<'_>) {
    if let Packet::Connect(connect) = packet {
        // Like 3.1.1 it wants a user name beside a password; MQTT 5 does not (section 3.1.2.9).
        if connect.password.is_some() {
            connect.username.get_or_insert("");
        }
    }
}

fn we_refuse(error: &DecodeError, first: u8) -> bool {
    // It does not look at these at all.
    const UNCHECKED: &[&str] = &[
        // Form.
        "DUP with QoS 0",
        "remaining length does not fit the packet type",
        "reserved connect acknowledge flags",
        "reserved connect flag",
        "reserved subscription options",
        "will flags without a will",
        "length longer than needed",
        "will QoS 3",
        // Text.
        "string with U+0000",
        "string with a control character or non-character",
        "topic name is not valid",
        "will topic is not valid",
        "response topic is no topic name",
        // Its connection looks at them, with its state.
        "neither topic name nor topic alias",
        // Meaning.
        "packet identifier 0",
        "no authentication method",
        "no local on a shared subscription",
        "session present with an error",
    ];
    // A PUBLISH and an AUTH of MQTT 5 may end before their property length.
    let may_be_short = matches!(first >> 4, 3 | 15);
    (may_be_short && error.detail == "packet ends early") || UNCHECKED.contains(&error.detail)
}

fn it_refuses(packet: &Packet<'_>, _error: &str) -> bool {
    let is_share = |filter: &str| filter.starts_with("$share");
    match packet {
        // See `reduce`.
        Packet::Connect(connect) => connect.password.is_some() && connect.username.is_none(),
        // A wrong filter is answered by its own Reason Code: the codec takes any string.
        Packet::Subscribe(subscribe) => {
            subscribe.filters.iter().any(|(filter, _)| is_share(filter))
        }
        Packet::Unsubscribe(unsubscribe) => unsubscribe.filters.iter().any(|f| is_share(f)),
        _ => false,
    }
}
