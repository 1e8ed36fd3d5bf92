//! `rmqtt-codec` as an oracle.

use bytes::BytesMut;
use ledgermq_core::codec::{DecodeError, ForwardedProperty};
use ledgermq_core::packet::{ForwardedProperties, Packet, ProtocolVersion};
use rmqtt_codec::{v3, v5};
use tokio_util::codec::{Decoder, Encoder};

use super::Oracle;

pub(super) const ORACLE: Oracle = Oracle { recode, reduce, we_refuse, it_refuses };

fn recode(version: ProtocolVersion, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut source = BytesMut::from(bytes);
    let mut out = BytesMut::new();
    match version {
        ProtocolVersion::V31 | ProtocolVersion::V311 => {
            let packet =
                v3::Codec::new(0).decode(&mut source).map_err(|error| error.to_string())?;
            let (packet, _) = packet.ok_or("incomplete")?;
            v3::Codec::new(0).encode(packet, &mut out).map_err(|error| error.to_string())?;
        }
        ProtocolVersion::V5 => {
            let codec = || v5::Codec::new(0, 0);
            let packet = codec().decode(&mut source).map_err(|error| error.to_string())?;
            let (packet, _) = packet.ok_or("incomplete")?;
            codec().encode(packet, &mut out).map_err(|error| error.to_string())?;
        }
    }
    Ok(out.to_vec())
}

/// What it does not keep: whether a property was absent or said its default.
fn reduce(packet: &mut Packet<'_>) {
    match packet {
        Packet::Connect(connect) => {
            // It refuses an empty Client Identifier without clean start; that needs an answer of
            // the server's (0x85), so it is not for the codec.
            connect.clean_start |= connect.client_id.is_empty();
            absent(&mut connect.session_expiry_interval, 0);
            absent(&mut connect.topic_alias_maximum, 0);
            absent(&mut connect.request_problem_information, true);
            absent(&mut connect.request_response_information, false);
        }
        Packet::ConnAck(connack) => {
            absent(&mut connack.receive_maximum, u16::MAX);
            absent(&mut connack.topic_alias_maximum, 0);
            absent(&mut connack.retain_available, true);
            absent(&mut connack.wildcard_subscription_available, true);
            absent(&mut connack.subscription_identifiers_available, true);
            absent(&mut connack.shared_subscription_available, true);
        }
        Packet::Publish(publish) => {
            let format = ForwardedProperty::PayloadFormatIndicator(false);
            let kept = publish.forwarded.iter().filter(|property| *property != format);
            publish.forwarded = ForwardedProperties::new(kept.collect::<Vec<_>>()).unwrap();
        }
        Packet::Auth(auth) => {
            // It writes reason and property length even if there is no method.
            auth.authentication_method.get_or_insert("method");
        }
        _ => {}
    }
}

fn absent<T: PartialEq>(property: &mut Option<T>, default: T) {
    property.take_if(|value| *value == default);
}

fn we_refuse(error: &DecodeError, first: u8) -> bool {
    // It does not look at these at all.
    const UNCHECKED: &[&str] = &[
        // Form.
        "DUP with QoS 0",
        "bytes after the end of the packet",
        "length longer than needed",
        "remaining length does not fit the packet type",
        "reserved subscription options",
        "will QoS 3",
        "will flags without a will",
        // Text.
        "string with U+0000",
        "string with a control character or non-character",
        "topic name is not valid",
        "will topic is not valid",
        "response topic is no topic name",
        "neither topic name nor topic alias",
        // Meaning.
        "authentication data without a method",
        "no authentication method",
        "no local on a shared subscription",
        "no reason codes",
        "no topic filter",
        "password without a user name",
        "reason code not of this packet",
        "session present with an error",
        "unknown connect return code",
        // It takes 2 as Maximum QoS.
        "property is neither 0 nor 1",
        // It speaks MQTT 3.1, too.
        "protocol name is not MQTT",
        "protocol version is not supported",
    ];
    // It ends an AUTH after the Reason Code, as a DISCONNECT; MQTT 5 section 3.15.2.1 does not.
    let is_short_auth = first == 0xF0 && error.detail == "packet ends early";
    is_short_auth || UNCHECKED.contains(&error.detail)
}

fn it_refuses(packet: &Packet<'_>, error: &str) -> bool {
    match packet {
        // See `reduce`.
        Packet::Connect(connect) => connect.client_id.is_empty() && error == "Invalid client id",
        // A wrong filter is answered by its own Reason Code: the codec takes any string.
        Packet::Subscribe(_) | Packet::Unsubscribe(_) => error == "Invalid topic filter",
        _ => false,
    }
}
