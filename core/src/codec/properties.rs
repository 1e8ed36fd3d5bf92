//! Properties (MQTT 5 section 2.2.2): one table for all packets.

use std::borrow::Cow;

use crate::codec::primitive::{Reader, VarInt, Wire};
use crate::codec::{DecodeError, EncodeError, header};
use crate::packet::UserProperties;
use crate::reason::ReasonCode;
use crate::topic;

/// Where properties stand. PUBACK, PUBREC, PUBREL and PUBCOMP allow the same ones, as do SUBACK and
/// UNSUBACK.
pub(super) mod place {
    pub(in crate::codec) const CONNECT: u16 = 1 << 0;
    pub(in crate::codec) const WILL: u16 = 1 << 1;
    pub(in crate::codec) const CONNACK: u16 = 1 << 2;
    pub(in crate::codec) const PUBLISH: u16 = 1 << 3;
    pub(in crate::codec) const ACK: u16 = 1 << 4;
    pub(in crate::codec) const SUBSCRIBE: u16 = 1 << 5;
    pub(in crate::codec) const SUBACK: u16 = 1 << 6;
    pub(in crate::codec) const UNSUBSCRIBE: u16 = 1 << 7;
    pub(in crate::codec) const DISCONNECT: u16 = 1 << 8;
    pub(in crate::codec) const AUTH: u16 = 1 << 9;
    pub(in crate::codec) const ALL: u16 = (1 << 10) - 1;
}

use place::{ACK, ALL, AUTH, CONNACK, CONNECT, DISCONNECT, PUBLISH, SUBACK, SUBSCRIBE, WILL};

// A macro, because identifiers, the struct and its reader must agree line by line.
macro_rules! properties {
    ($($id:literal $constant:ident $name:ident: $type:ty, in $places:expr;)*) => {
        /// Property identifiers.
        pub(super) mod id {
            $(pub(in crate::codec) const $constant: u8 = $id;)*
            pub(in crate::codec) const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;
            pub(in crate::codec) const USER_PROPERTY: u8 = 0x26;
        }

        /// The properties of one packet.
        #[derive(Default)]
        pub(super) struct Properties<'a> {
            $(pub(super) $name: Option<$type>,)*
            pub(super) subscription_identifiers: Vec<u32>,
            /// Empty for PUBLISH and Will: there they are a part of `forwarded`.
            pub(super) user_properties: UserProperties<'a>,
            /// Those of a PUBLISH or Will that are passed on unaltered.
            pub(super) forwarded: Cow<'a, [u8]>,
        }

        /// The places where a property may stand; none if it is unknown.
        const fn places(id: u8) -> u16 {
            match id {
                $($id => $places,)*
                id::SUBSCRIPTION_IDENTIFIER => PUBLISH | SUBSCRIBE,
                id::USER_PROPERTY => ALL,
                _ => 0,
            }
        }

        impl<'a> Properties<'a> {
            fn value(
                &mut self,
                id: u8,
                place: u16,
                reader: &mut Reader<'a>,
            ) -> Result<(), DecodeError> {
                match id {
                    $($id => once(&mut self.$name, reader),)*
                    id::SUBSCRIPTION_IDENTIFIER => self.subscription_identifier(place, reader),
                    id::USER_PROPERTY => self.user_property(place, reader),
                    _ => Err(NOT_HERE),
                }
            }
        }
    };
}

properties! {
    0x01 PAYLOAD_FORMAT_INDICATOR payload_format_indicator: bool, in PUBLISH | WILL;
    0x02 MESSAGE_EXPIRY_INTERVAL message_expiry_interval: u32, in PUBLISH | WILL;
    0x03 CONTENT_TYPE content_type: &'a str, in PUBLISH | WILL;
    0x08 RESPONSE_TOPIC response_topic: &'a str, in PUBLISH | WILL;
    0x09 CORRELATION_DATA correlation_data: &'a [u8], in PUBLISH | WILL;
    0x11 SESSION_EXPIRY_INTERVAL session_expiry_interval: u32, in CONNECT | CONNACK | DISCONNECT;
    0x12 ASSIGNED_CLIENT_IDENTIFIER assigned_client_identifier: &'a str, in CONNACK;
    0x13 SERVER_KEEP_ALIVE server_keep_alive: u16, in CONNACK;
    0x15 AUTHENTICATION_METHOD authentication_method: &'a str, in CONNECT | CONNACK | AUTH;
    0x16 AUTHENTICATION_DATA authentication_data: &'a [u8], in CONNECT | CONNACK | AUTH;
    0x17 REQUEST_PROBLEM_INFORMATION request_problem_information: bool, in CONNECT;
    0x18 WILL_DELAY_INTERVAL will_delay_interval: u32, in WILL;
    0x19 REQUEST_RESPONSE_INFORMATION request_response_information: bool, in CONNECT;
    0x1A RESPONSE_INFORMATION response_information: &'a str, in CONNACK;
    0x1C SERVER_REFERENCE server_reference: &'a str, in CONNACK | DISCONNECT;
    0x1F REASON_STRING reason_string: &'a str, in CONNACK | ACK | SUBACK | DISCONNECT | AUTH;
    0x21 RECEIVE_MAXIMUM receive_maximum: u16, in CONNECT | CONNACK;
    0x22 TOPIC_ALIAS_MAXIMUM topic_alias_maximum: u16, in CONNECT | CONNACK;
    0x23 TOPIC_ALIAS topic_alias: u16, in PUBLISH;
    0x24 MAXIMUM_QOS maximum_qos: bool, in CONNACK;
    0x25 RETAIN_AVAILABLE retain_available: bool, in CONNACK;
    0x27 MAXIMUM_PACKET_SIZE maximum_packet_size: u32, in CONNECT | CONNACK;
    0x28 WILDCARD_SUBSCRIPTION_AVAILABLE wildcard_subscription_available: bool, in CONNACK;
    0x29 SUBSCRIPTION_IDENTIFIERS_AVAILABLE subscription_identifiers_available: bool, in CONNACK;
    0x2A SHARED_SUBSCRIPTION_AVAILABLE shared_subscription_available: bool, in CONNACK;
}

const NOT_HERE: DecodeError = DecodeError::malformed("property not of this packet");
const TWICE: DecodeError = DecodeError::protocol("property stands twice");

impl<'a> Properties<'a> {
    /// Reads the length of the properties and the properties.
    pub(super) fn read(reader: &mut Reader<'a>, place: u16) -> Result<Self, DecodeError> {
        let block = reader.block()?;
        if block.is_empty() {
            return Ok(Self::default());
        }
        Self::read_all(block, place)
    }

    /// Reads the properties that `block` consists of.
    pub(super) fn read_all(mut block: Reader<'a>, place: u16) -> Result<Self, DecodeError> {
        let mut properties = Self::default();
        let mut forwarded = Run::default();
        while !block.is_empty() {
            let start = block.rest();
            let id = block.u8()?;
            if places(id) & place == 0 {
                return Err(NOT_HERE);
            }
            properties.value(id, place, &mut block)?;
            properties.check(id)?;
            if place & (PUBLISH | WILL) != 0 && is_forwarded(id) {
                forwarded.add(start, start.len() - block.rest().len());
            }
        }
        properties.forwarded = forwarded.finish();
        Ok(properties)
    }

    /// Refuses values that the property just read must not have.
    fn check(&self, id: u8) -> Result<(), DecodeError> {
        match id {
            id::RECEIVE_MAXIMUM if self.receive_maximum == Some(0) => {
                Err(DecodeError::protocol("receive maximum 0"))
            }
            id::MAXIMUM_PACKET_SIZE if self.maximum_packet_size == Some(0) => {
                Err(DecodeError::protocol("maximum packet size 0"))
            }
            id::TOPIC_ALIAS if self.topic_alias == Some(0) => {
                // [MQTT-3.3.2-8]
                Err(DecodeError::new(ReasonCode::TopicAliasInvalid, "topic alias 0"))
            }
            id::RESPONSE_TOPIC if self.response_topic.is_some_and(is_no_topic) => {
                // [MQTT-3.3.2-14]
                Err(DecodeError::protocol("response topic is no topic name"))
            }
            _ => Ok(()),
        }
    }

    fn subscription_identifier(
        &mut self,
        place: u16,
        reader: &mut Reader<'a>,
    ) -> Result<(), DecodeError> {
        let identifier = reader.varint()?;
        if identifier == 0 {
            return Err(DecodeError::protocol("subscription identifier 0"));
        }
        if place == SUBSCRIBE && !self.subscription_identifiers.is_empty() {
            return Err(TWICE);
        }
        self.subscription_identifiers.push(identifier);
        Ok(())
    }

    fn user_property(&mut self, place: u16, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        let pair = Wire::read(reader)?;
        if place & (PUBLISH | WILL) == 0 {
            self.user_properties.push(pair);
        }
        Ok(())
    }
}

/// The properties to be forwarded, as they stand in the packet. They are copied only if another
/// property stands between them.
#[derive(Default)]
struct Run<'a> {
    /// The packet from the first of them on.
    from: &'a [u8],
    length: usize,
    copied: Vec<u8>,
}

impl<'a> Run<'a> {
    /// Adds the first `length` bytes of `rest`, which are a property.
    fn add(&mut self, rest: &'a [u8], length: usize) {
        if !self.copied.is_empty() {
            self.copied.extend_from_slice(&rest[..length]);
        } else if self.length == 0 {
            (self.from, self.length) = (rest, length);
        } else if self.from.len() - rest.len() == self.length {
            self.length += length;
        } else {
            self.copied = [&self.from[..self.length], &rest[..length]].concat();
        }
    }

    fn finish(self) -> Cow<'a, [u8]> {
        if self.copied.is_empty() {
            Cow::Borrowed(&self.from[..self.length])
        } else {
            Cow::Owned(self.copied)
        }
    }
}

/// Whether a server passes the property on unaltered. `[MQTT-3.3.2-4] [MQTT-3.3.2-15]
/// [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-20]`
pub(super) const fn is_forwarded(id: u8) -> bool {
    matches!(
        id,
        id::PAYLOAD_FORMAT_INDICATOR
            | id::CONTENT_TYPE
            | id::RESPONSE_TOPIC
            | id::CORRELATION_DATA
            | id::USER_PROPERTY
    )
}

fn is_no_topic(text: &str) -> bool {
    topic::check_name(text).is_err()
}

fn once<'a, T: Wire<'a>>(
    field: &mut Option<T>,
    reader: &mut Reader<'a>,
) -> Result<(), DecodeError> {
    if field.is_some() {
        return Err(TWICE);
    }
    *field = Some(T::read(reader)?);
    Ok(())
}

/// Appends the length of the properties that `write` appends, and these.
pub(super) fn write_properties(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut PropertyWriter<'_>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    header::write_measured(out, |out| write(&mut PropertyWriter::new(out)))
}

/// Appends properties.
pub(super) struct PropertyWriter<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> PropertyWriter<'o> {
    pub(super) fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out }
    }

    /// Appends the property, if there is a value.
    pub(super) fn put<'a, T: Wire<'a>>(
        &mut self,
        id: u8,
        value: Option<T>,
    ) -> Result<(), EncodeError> {
        let Some(value) = value else { return Ok(()) };
        self.out.push(id);
        value.write(self.out)
    }

    /// Appends User Properties in their order.
    pub(super) fn user(&mut self, pairs: &UserProperties<'_>) -> Result<(), EncodeError> {
        pairs.iter().try_for_each(|pair| self.put(id::USER_PROPERTY, Some(*pair)))
    }

    /// Appends a Subscription Identifier, if there is one.
    pub(super) fn subscription_identifier(
        &mut self,
        identifier: Option<u32>,
    ) -> Result<(), EncodeError> {
        if identifier == Some(0) {
            return Err(EncodeError("a subscription identifier is not 0"));
        }
        self.put(id::SUBSCRIPTION_IDENTIFIER, identifier.map(VarInt))
    }

    /// Appends properties that are encoded already.
    pub(super) fn forwarded(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }
}
