//! PUBLISH (MQTT 5 section 3.3).

use crate::codec::header::{PacketType, REMAINING_LENGTH_MAX, write_header};
use crate::codec::primitive::{Reader, check_characters, put_packet_id, put_varint, varint_bytes};
use crate::codec::properties::{Properties, PropertyWriter, id, place};
use crate::codec::{DecodeError, EncodeError};
use crate::packet::{ForwardedProperties, ProtocolVersion, Publish, QoS};
use crate::topic::{TopicError, check_name};

/// Reads the body of a PUBLISH whose first byte is `first` (checked before).
#[inline]
pub(super) fn decode<'a>(
    first: u8,
    mut body: Reader<'a>,
    version: ProtocolVersion,
) -> Result<Publish<'a>, DecodeError> {
    let topic = topic_name(&mut body, version)?;
    let qos = QoS::from_bits((first >> 1) & 0b11).unwrap_or_default();
    let packet_id = match qos {
        QoS::AtMostOnce => None,
        QoS::AtLeastOnce | QoS::ExactlyOnce => Some(body.packet_id()?),
    };
    let mut publish = Publish {
        dup: first & 0b1000 != 0,
        qos,
        retain: first & 0b0001 != 0,
        topic,
        packet_id,
        message_expiry_interval: None,
        topic_alias: None,
        subscription_identifiers: Vec::new(),
        forwarded: ForwardedProperties::default(),
        payload: &[],
    };
    if version == ProtocolVersion::V5 {
        read_properties(&mut publish, &mut body)?;
    }
    publish.payload = body.rest();
    Ok(publish)
}

/// Appends a PUBLISH.
#[inline]
pub(super) fn encode(
    publish: &Publish<'_>,
    version: ProtocolVersion,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let is_v5 = version == ProtocolVersion::V5;
    check(publish, is_v5)?;
    let topic = u16::try_from(publish.topic.len())
        .map_err(|_| EncodeError("a topic has at most 65,535 bytes"))?;
    let properties = if is_v5 { properties_bytes(publish)? } else { 0 };
    let remaining = 2
        + publish.topic.len()
        + if publish.packet_id.is_some() { 2 } else { 0 }
        + if is_v5 { varint_bytes(properties) + properties as usize } else { 0 }
        + publish.payload.len();
    let remaining = packet_bytes(remaining)?;
    out.reserve(remaining as usize + 5);
    write_header(first_byte(publish), remaining, out);
    out.extend_from_slice(&topic.to_be_bytes());
    out.extend_from_slice(publish.topic.as_bytes());
    if let Some(packet_id) = publish.packet_id {
        put_packet_id(packet_id, out);
    }
    if is_v5 {
        put_varint(properties, out);
        if properties > 0 {
            write_properties(publish, out)?;
        }
    }
    out.extend_from_slice(publish.payload);
    Ok(())
}

#[inline]
fn topic_name<'a>(body: &mut Reader<'a>, version: ProtocolVersion) -> Result<&'a str, DecodeError> {
    let topic = body.unchecked_string()?;
    // One look at all bytes settles the usual case.
    let plain = |byte| matches!(byte, b' '..=b'~') && byte != b'+' && byte != b'#';
    if topic.bytes().fold(!topic.is_empty(), |all, byte| all & plain(byte)) {
        return Ok(topic);
    }
    check_characters(topic).map_err(DecodeError::malformed)?;
    match check_name(topic) {
        Ok(()) => Ok(topic),
        // A Topic Alias may follow.
        Err(TopicError::Empty) if version == ProtocolVersion::V5 => Ok(topic),
        // [MQTT-3.3.2-2]
        Err(_) => Err(DecodeError::malformed("topic name is not valid")),
    }
}

#[inline]
fn read_properties<'a>(
    publish: &mut Publish<'a>,
    body: &mut Reader<'a>,
) -> Result<(), DecodeError> {
    if body.rest().first() == Some(&0) {
        body.u8()?;
    } else {
        let properties = Properties::read(body, place::PUBLISH)?;
        publish.message_expiry_interval = properties.message_expiry_interval;
        publish.topic_alias = properties.topic_alias;
        publish.subscription_identifiers = properties.subscription_identifiers;
        publish.forwarded = ForwardedProperties(properties.forwarded);
    }
    if publish.topic.is_empty() && publish.topic_alias.is_none() {
        return Err(DecodeError::protocol("neither topic name nor topic alias"));
    }
    Ok(())
}

#[inline]
fn first_byte(publish: &Publish<'_>) -> u8 {
    PacketType::Publish.first_byte()
        | u8::from(publish.dup) << 3
        | (publish.qos as u8) << 1
        | u8::from(publish.retain)
}

#[inline]
fn check(publish: &Publish<'_>, is_v5: bool) -> Result<(), EncodeError> {
    let needs_packet_id = publish.qos != QoS::AtMostOnce;
    if needs_packet_id != publish.packet_id.is_some() {
        return Err(EncodeError("a packet identifier stands exactly with QoS 1 and 2"));
    }
    if publish.dup && !needs_packet_id {
        return Err(EncodeError("no DUP with QoS 0"));
    }
    if publish.topic.is_empty() && !(is_v5 && publish.topic_alias.is_some()) {
        return Err(EncodeError("a topic name or topic alias is needed"));
    }
    Ok(())
}

#[inline]
fn properties_bytes(publish: &Publish<'_>) -> Result<u32, EncodeError> {
    let identifiers = &publish.subscription_identifiers;
    let bytes = if publish.message_expiry_interval.is_some() { 5 } else { 0 }
        + if publish.topic_alias.is_some() { 3 } else { 0 }
        + identifiers.iter().map(|identifier| 1 + varint_bytes(*identifier)).sum::<usize>()
        + publish.forwarded.0.len();
    packet_bytes(bytes)
}

fn write_properties(publish: &Publish<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let mut writer = PropertyWriter::new(out);
    writer.put(id::MESSAGE_EXPIRY_INTERVAL, publish.message_expiry_interval)?;
    writer.put(id::TOPIC_ALIAS, publish.topic_alias)?;
    for identifier in &publish.subscription_identifiers {
        writer.subscription_identifier(Some(*identifier))?;
    }
    writer.forwarded(&publish.forwarded.0);
    Ok(())
}

#[inline]
fn packet_bytes(bytes: usize) -> Result<u32, EncodeError> {
    u32::try_from(bytes)
        .ok()
        .filter(|bytes| *bytes <= REMAINING_LENGTH_MAX)
        .ok_or(EncodeError("a packet has at most 268,435,455 bytes"))
}
