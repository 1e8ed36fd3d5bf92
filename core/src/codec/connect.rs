//! CONNECT (MQTT 5 section 3.1).

use crate::codec::header::{PacketType, write_packet};
use crate::codec::primitive::{Reader, put_binary, put_string};
use crate::codec::properties::{Properties, PropertyWriter, id, place, write_properties};
use crate::codec::{DecodeError, EncodeError};
use crate::packet::{Connect, ForwardedProperties, ProtocolVersion, QoS, Will};
use crate::reason::ReasonCode;
use crate::topic;

const PROTOCOL_NAME: &str = "MQTT";
const PROTOCOL_NAME_31: &str = "MQIsdp";

const CLEAN_START: u8 = 1 << 1;
const WILL: u8 = 1 << 2;
const WILL_QOS_SHIFT: u8 = 3;
const WILL_RETAIN: u8 = 1 << 5;
const PASSWORD: u8 = 1 << 6;
const USERNAME: u8 = 1 << 7;

pub(super) fn decode(mut body: Reader<'_>) -> Result<Connect<'_>, DecodeError> {
    let version = version(&mut body)?;
    decode_rest(body, version).map_err(|error| error.in_connect(version))
}

fn decode_rest(mut body: Reader<'_>, version: ProtocolVersion) -> Result<Connect<'_>, DecodeError> {
    let flags = Flags::read(&mut body, version)?;
    let keep_alive = body.u16()?;
    let properties = match version {
        ProtocolVersion::V31 | ProtocolVersion::V311 => Properties::default(),
        ProtocolVersion::V5 => Properties::read(&mut body, place::CONNECT)?,
    };
    if properties.authentication_data.is_some() && properties.authentication_method.is_none() {
        return Err(DecodeError::protocol("authentication data without a method"));
    }
    let client_id = body.string()?;
    let will = match flags.will {
        Some((qos, retain)) => Some(will(&mut body, qos, retain, version)?),
        None => None,
    };
    let username = if flags.has_username { Some(body.string()?) } else { None };
    let password = if flags.has_password { Some(body.binary()?) } else { None };
    body.finish()?;
    Ok(Connect {
        version,
        clean_start: flags.clean_start,
        keep_alive,
        client_id,
        username,
        password,
        will,
        session_expiry_interval: properties.session_expiry_interval,
        receive_maximum: properties.receive_maximum,
        maximum_packet_size: properties.maximum_packet_size,
        topic_alias_maximum: properties.topic_alias_maximum,
        request_response_information: properties.request_response_information,
        request_problem_information: properties.request_problem_information,
        authentication_method: properties.authentication_method,
        authentication_data: properties.authentication_data,
        user_properties: properties.user_properties,
    })
}

pub(super) fn encode(connect: &Connect<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let is_v5 = connect.version == ProtocolVersion::V5;
    if !is_v5 && connect.password.is_some() && connect.username.is_none() {
        return Err(EncodeError("no password without a user name in MQTT 3.1.1"));
    }
    write_packet(PacketType::Connect, out, |out| {
        let name = match connect.version {
            ProtocolVersion::V31 => PROTOCOL_NAME_31,
            ProtocolVersion::V311 | ProtocolVersion::V5 => PROTOCOL_NAME,
        };
        put_string(name, out)?;
        out.extend_from_slice(&[connect.version as u8, flags_byte(connect)]);
        out.extend_from_slice(&connect.keep_alive.to_be_bytes());
        if is_v5 {
            write_properties(out, |properties| put_properties(connect, properties))?;
        }
        put_string(connect.client_id, out)?;
        if let Some(will) = &connect.will {
            put_will(will, is_v5, out)?;
        }
        if let Some(username) = connect.username {
            put_string(username, out)?;
        }
        connect.password.map_or(Ok(()), |password| put_binary(password, out))
    })
}

fn version(body: &mut Reader<'_>) -> Result<ProtocolVersion, DecodeError> {
    let name = body.binary()?;
    let level = body.u8()?;
    let unsupported = |detail, answered_as| {
        let error = DecodeError::new(ReasonCode::UnsupportedProtocolVersion, detail);
        Err(error.in_connect(answered_as))
    };
    match ProtocolVersion::try_from(level) {
        Ok(ProtocolVersion::V31) if name == PROTOCOL_NAME_31.as_bytes() => Ok(ProtocolVersion::V31),
        Ok(version @ (ProtocolVersion::V311 | ProtocolVersion::V5))
            if name == PROTOCOL_NAME.as_bytes() =>
        {
            Ok(version)
        }
        // [MQTT-3.1.2-2]: a later version understands the answer of the newest that we know.
        Err(later) if name == PROTOCOL_NAME.as_bytes() && later > ProtocolVersion::V5 as u8 => {
            unsupported("protocol version is not supported", ProtocolVersion::V5)
        }
        // [MQTT-3.1.2-1]
        _ => unsupported("protocol name and version are none of MQTT", ProtocolVersion::V311),
    }
}

struct Flags {
    clean_start: bool,
    will: Option<(QoS, bool)>,
    has_username: bool,
    has_password: bool,
}

impl Flags {
    fn read(body: &mut Reader<'_>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        let byte = body.u8()?;
        if byte & 1 != 0 && version != ProtocolVersion::V31 {
            return Err(DecodeError::malformed("reserved connect flag")); // [MQTT-3.1.2-3]
        }
        // [MQTT-3.1.2-12]
        let qos = QoS::from_bits((byte >> WILL_QOS_SHIFT) & 0b11)
            .ok_or(DecodeError::malformed("will QoS 3"))?;
        let retain = byte & WILL_RETAIN != 0;
        let has_will = byte & WILL != 0;
        if !has_will && (retain || qos != QoS::AtMostOnce) {
            // [MQTT-3.1.2-11] [MQTT-3.1.2-13]
            return Err(DecodeError::malformed("will flags without a will"));
        }
        let flags = Self {
            clean_start: byte & CLEAN_START != 0,
            will: has_will.then_some((qos, retain)),
            has_username: byte & USERNAME != 0,
            has_password: byte & PASSWORD != 0,
        };
        if version != ProtocolVersion::V5 && flags.has_password && !flags.has_username {
            // [MQTT311-3.1.2-22]
            return Err(DecodeError::malformed("password without a user name"));
        }
        Ok(flags)
    }
}

fn will<'a>(
    body: &mut Reader<'a>,
    qos: QoS,
    retain: bool,
    version: ProtocolVersion,
) -> Result<Will<'a>, DecodeError> {
    let properties = match version {
        ProtocolVersion::V31 | ProtocolVersion::V311 => Properties::default(),
        ProtocolVersion::V5 => Properties::read(body, place::WILL)?,
    };
    let topic = body.string()?;
    if topic::check_name(topic).is_err() {
        return Err(DecodeError::new(ReasonCode::TopicNameInvalid, "will topic is not valid"));
    }
    Ok(Will {
        topic,
        payload: body.binary()?,
        qos,
        retain,
        delay_interval: properties.will_delay_interval.unwrap_or(0),
        message_expiry_interval: properties.message_expiry_interval,
        forwarded: ForwardedProperties(properties.forwarded),
    })
}

fn flags_byte(connect: &Connect<'_>) -> u8 {
    let will = connect.will.as_ref().map_or(0, |will| {
        WILL | (will.qos as u8) << WILL_QOS_SHIFT | if will.retain { WILL_RETAIN } else { 0 }
    });
    will | if connect.clean_start { CLEAN_START } else { 0 }
        | if connect.username.is_some() { USERNAME } else { 0 }
        | if connect.password.is_some() { PASSWORD } else { 0 }
}

fn put_properties(
    connect: &Connect<'_>,
    properties: &mut PropertyWriter<'_>,
) -> Result<(), EncodeError> {
    properties.put(id::SESSION_EXPIRY_INTERVAL, connect.session_expiry_interval)?;
    properties.put(id::RECEIVE_MAXIMUM, connect.receive_maximum)?;
    properties.put(id::MAXIMUM_PACKET_SIZE, connect.maximum_packet_size)?;
    properties.put(id::TOPIC_ALIAS_MAXIMUM, connect.topic_alias_maximum)?;
    properties.put(id::REQUEST_RESPONSE_INFORMATION, connect.request_response_information)?;
    properties.put(id::REQUEST_PROBLEM_INFORMATION, connect.request_problem_information)?;
    properties.put(id::AUTHENTICATION_METHOD, connect.authentication_method)?;
    properties.put(id::AUTHENTICATION_DATA, connect.authentication_data)?;
    properties.user(&connect.user_properties)
}

fn put_will(will: &Will<'_>, is_v5: bool, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    if is_v5 {
        write_properties(out, |properties| {
            let delay = Some(will.delay_interval).filter(|delay| *delay != 0);
            properties.put(id::WILL_DELAY_INTERVAL, delay)?;
            properties.put(id::MESSAGE_EXPIRY_INTERVAL, will.message_expiry_interval)?;
            properties.forwarded(&will.forwarded.0);
            Ok(())
        })?;
    }
    put_string(will.topic, out)?;
    put_binary(will.payload, out)
}
