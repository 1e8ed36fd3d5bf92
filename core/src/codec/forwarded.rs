//! The properties of a message that a server passes on unaltered.

use std::borrow::Cow;

use crate::codec::primitive::{Reader, Wire};
use crate::codec::properties::{Properties, PropertyWriter, id, place};
use crate::codec::{DecodeError, EncodeError, header};
use crate::packet::ForwardedProperties;

/// One property that a server passes on unaltered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedProperty<'a> {
    /// Payload Format Indicator: whether the payload is UTF-8.
    PayloadFormatIndicator(bool),
    /// Content Type.
    ContentType(&'a str),
    /// Response Topic.
    ResponseTopic(&'a str),
    /// Correlation Data.
    CorrelationData(&'a [u8]),
    /// User Property.
    UserProperty(&'a str, &'a str),
}

impl ForwardedProperties<'static> {
    /// Encodes `properties` in their order.
    ///
    /// # Errors
    ///
    /// If a text is too long or they are not what a packet may hold (one twice, a Response Topic
    /// that is no Topic Name).
    pub fn new<'a>(
        properties: impl IntoIterator<Item = ForwardedProperty<'a>>,
    ) -> Result<Self, EncodeError> {
        let mut bytes = Vec::new();
        let mut writer = PropertyWriter::new(&mut bytes);
        for property in properties {
            match property {
                ForwardedProperty::PayloadFormatIndicator(is_utf8) => {
                    writer.put(id::PAYLOAD_FORMAT_INDICATOR, Some(is_utf8))?;
                }
                ForwardedProperty::ContentType(text) => writer.put(id::CONTENT_TYPE, Some(text))?,
                ForwardedProperty::ResponseTopic(topic) => {
                    writer.put(id::RESPONSE_TOPIC, Some(topic))?;
                }
                ForwardedProperty::CorrelationData(data) => {
                    writer.put(id::CORRELATION_DATA, Some(data))?;
                }
                ForwardedProperty::UserProperty(name, value) => {
                    writer.put(id::USER_PROPERTY, Some((name, value)))?;
                }
            }
        }
        let checked = ForwardedProperties::parse(&bytes).map(|_| ());
        checked.map_err(|error| EncodeError(error.detail))?;
        Ok(Self(Cow::Owned(bytes)))
    }
}

impl<'a> ForwardedProperties<'a> {
    /// Checks encoded properties, for example those of an event.
    ///
    /// # Errors
    ///
    /// If these are not properties, or others than those that are passed on.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if length > header::REMAINING_LENGTH_MAX {
            return Err(DecodeError::malformed("properties longer than a packet"));
        }
        let checked = Properties::read_all(Reader::new(bytes), place::WILL)?;
        if checked.forwarded.len() != bytes.len() {
            return Err(DecodeError::malformed("property is not passed on"));
        }
        Ok(Self(Cow::Borrowed(bytes)))
    }

    /// Whether there are more than `max` User Properties among them.
    #[must_use]
    pub fn has_more_user_properties_than(&self, max: usize) -> bool {
        let is_user_property =
            |property: &_| matches!(property, ForwardedProperty::UserProperty(..));
        // Each has an identifier and two lengths.
        self.0.len() / 5 > max && self.iter().filter(is_user_property).count() > max
    }

    /// The properties in their order.
    pub fn iter(&self) -> impl Iterator<Item = ForwardedProperty<'_>> {
        let mut reader = Reader::new(&self.0);
        std::iter::from_fn(move || {
            if reader.is_empty() {
                return None;
            }
            // Valid by construction; should it not be, the iteration ends.
            next(&mut reader).ok()
        })
    }
}

fn next<'a>(reader: &mut Reader<'a>) -> Result<ForwardedProperty<'a>, DecodeError> {
    match reader.u8()? {
        id::PAYLOAD_FORMAT_INDICATOR => {
            Wire::read(reader).map(ForwardedProperty::PayloadFormatIndicator)
        }
        id::CONTENT_TYPE => Wire::read(reader).map(ForwardedProperty::ContentType),
        id::RESPONSE_TOPIC => Wire::read(reader).map(ForwardedProperty::ResponseTopic),
        id::CORRELATION_DATA => Wire::read(reader).map(ForwardedProperty::CorrelationData),
        id::USER_PROPERTY => {
            let (name, value) = Wire::read(reader)?;
            Ok(ForwardedProperty::UserProperty(name, value))
        }
        _ => Err(DecodeError::malformed("property is not passed on")),
    }
}
