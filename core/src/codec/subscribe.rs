//! SUBSCRIBE and UNSUBSCRIBE (MQTT 5 sections 3.8 and 3.10).

use crate::codec::header::{PacketType, write_packet};
use crate::codec::primitive::{Reader, put_packet_id, put_string};
use crate::codec::properties::{Properties, place, write_properties};
use crate::codec::{DecodeError, EncodeError};
use crate::packet::{
    ProtocolVersion, QoS, RetainHandling, Subscribe, SubscriptionOptions, Unsubscribe,
};

const NO_FILTER: DecodeError = DecodeError::protocol("no topic filter");
const ENCODE_NO_FILTER: EncodeError = EncodeError("at least one topic filter is needed");

pub(super) fn decode(
    mut body: Reader<'_>,
    version: ProtocolVersion,
) -> Result<Subscribe<'_>, DecodeError> {
    let packet_id = body.packet_id()?;
    let properties = properties(&mut body, place::SUBSCRIBE, version)?;
    let mut filters = Vec::new();
    while !body.is_empty() {
        let filter = filter(&mut body)?;
        let options = options(body.u8()?, version)?;
        if options.no_local && filter.starts_with("$share/") {
            // [MQTT-3.8.3-4]
            return Err(DecodeError::protocol("no local on a shared subscription"));
        }
        filters.push((filter, options));
    }
    if filters.is_empty() {
        return Err(NO_FILTER); // [MQTT-3.8.3-2]
    }
    Ok(Subscribe {
        packet_id,
        subscription_identifier: properties.subscription_identifiers.first().copied(),
        user_properties: properties.user_properties,
        filters,
    })
}

pub(super) fn encode(
    subscribe: &Subscribe<'_>,
    version: ProtocolVersion,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    if subscribe.filters.is_empty() {
        return Err(ENCODE_NO_FILTER);
    }
    write_packet(PacketType::Subscribe, out, |out| {
        put_packet_id(subscribe.packet_id, out);
        if version == ProtocolVersion::V5 {
            write_properties(out, |properties| {
                properties.subscription_identifier(subscribe.subscription_identifier)?;
                properties.user(&subscribe.user_properties)
            })?;
        }
        for (filter, options) in &subscribe.filters {
            put_string(filter, out)?;
            out.push(options_byte(*options, version));
        }
        Ok(())
    })
}

pub(super) fn decode_unsubscribe(
    mut body: Reader<'_>,
    version: ProtocolVersion,
) -> Result<Unsubscribe<'_>, DecodeError> {
    let packet_id = body.packet_id()?;
    let properties = properties(&mut body, place::UNSUBSCRIBE, version)?;
    let mut filters = Vec::new();
    while !body.is_empty() {
        filters.push(filter(&mut body)?);
    }
    if filters.is_empty() {
        return Err(NO_FILTER); // [MQTT-3.10.3-2]
    }
    Ok(Unsubscribe { packet_id, user_properties: properties.user_properties, filters })
}

/// `[MQTT-4.7.3-1]`; that wildcards stand where they may is for the topics to say.
fn filter<'a>(body: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
    let filter = body.string()?;
    if filter.is_empty() {
        return Err(DecodeError::malformed("a topic filter has at least one character"));
    }
    Ok(filter)
}

pub(super) fn encode_unsubscribe(
    unsubscribe: &Unsubscribe<'_>,
    version: ProtocolVersion,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    if unsubscribe.filters.is_empty() {
        return Err(ENCODE_NO_FILTER);
    }
    write_packet(PacketType::Unsubscribe, out, |out| {
        put_packet_id(unsubscribe.packet_id, out);
        if version == ProtocolVersion::V5 {
            write_properties(out, |properties| properties.user(&unsubscribe.user_properties))?;
        }
        unsubscribe.filters.iter().try_for_each(|filter| put_string(filter, out))
    })
}

fn properties<'a>(
    body: &mut Reader<'a>,
    place: u16,
    version: ProtocolVersion,
) -> Result<Properties<'a>, DecodeError> {
    match version {
        ProtocolVersion::V31 | ProtocolVersion::V311 => Ok(Properties::default()),
        ProtocolVersion::V5 => Properties::read(body, place),
    }
}

fn options(byte: u8, version: ProtocolVersion) -> Result<SubscriptionOptions, DecodeError> {
    let reserved = match version {
        ProtocolVersion::V31 | ProtocolVersion::V311 => 0b1111_1100, // [MQTT311-3.8.3-4]
        ProtocolVersion::V5 => 0b1100_0000,                          // [MQTT-3.8.3-5]
    };
    if byte & reserved != 0 {
        return Err(DecodeError::malformed("reserved subscription options"));
    }
    let qos = QoS::from_bits(byte & 0b11).ok_or(match version {
        ProtocolVersion::V31 | ProtocolVersion::V311 => DecodeError::malformed("maximum QoS 3"),
        ProtocolVersion::V5 => DecodeError::protocol("maximum QoS 3"),
    })?;
    let retain_handling = match (byte >> 4) & 0b11 {
        0 => RetainHandling::Send,
        1 => RetainHandling::SendIfNew,
        2 => RetainHandling::DoNotSend,
        _ => return Err(DecodeError::protocol("retain handling 3")),
    };
    Ok(SubscriptionOptions {
        qos,
        no_local: byte & 0b100 != 0,
        retain_as_published: byte & 0b1000 != 0,
        retain_handling,
    })
}

fn options_byte(options: SubscriptionOptions, version: ProtocolVersion) -> u8 {
    match version {
        ProtocolVersion::V31 | ProtocolVersion::V311 => options.qos as u8,
        ProtocolVersion::V5 => {
            options.qos as u8
                | u8::from(options.no_local) << 2
                | u8::from(options.retain_as_published) << 3
                | (options.retain_handling as u8) << 4
        }
    }
}
