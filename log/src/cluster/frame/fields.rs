//! Numbers and texts in a frame's body: little endian, texts and lists behind their length.

use super::FrameError;
use crate::cluster::members::{ADDRESS_BYTES_MAX, MQTT_ADDRESSES_MAX, Role};

/// What is left of a body.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let (array, rest) = self.rest.split_first_chunk::<N>().ok_or(SHORT)?;
        self.rest = rest;
        Ok(*array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, FrameError> {
        self.array().map(u8::from_le_bytes)
    }

    /// A byte that is 0 or 1.
    pub(super) fn bool(&mut self) -> Result<bool, FrameError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(FrameError::Content("has a truth value that is none")),
        }
    }

    pub(super) fn u16(&mut self) -> Result<u16, FrameError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, FrameError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, FrameError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn slice(&mut self, length: usize) -> Result<&'a [u8], FrameError> {
        let (slice, rest) = self.rest.split_at_checked(length).ok_or(SHORT)?;
        self.rest = rest;
        Ok(slice)
    }

    /// Bytes behind their length in 16 bits.
    pub(super) fn bytes(&mut self, max: usize) -> Result<&'a [u8], FrameError> {
        let length = usize::from(self.u16()?);
        if length > max {
            return Err(FrameError::Content("has a field that is too long"));
        }
        self.slice(length)
    }

    /// A text that can be shown to people: a peer does not write control characters into a log.
    pub(super) fn text(&mut self, max: usize) -> Result<String, FrameError> {
        let text = str::from_utf8(self.bytes(max)?);
        let text = text.map_err(|_| FrameError::Content("has a text that is no UTF-8"))?;
        if text.contains(char::is_control) {
            return Err(FrameError::Content("has a text with control characters"));
        }
        Ok(text.to_owned())
    }

    pub(super) fn address(&mut self) -> Result<String, FrameError> {
        self.text(ADDRESS_BYTES_MAX)
    }

    pub(super) fn addresses(&mut self) -> Result<Vec<String>, FrameError> {
        let count = usize::from(self.u8()?);
        if count > MQTT_ADDRESSES_MAX {
            return Err(FrameError::Content("has too many addresses"));
        }
        (0..count).map(|_| self.address()).collect()
    }

    pub(super) fn role(&mut self) -> Result<Role, FrameError> {
        match self.u8()? {
            0 => Ok(Role::Log),
            1 => Ok(Role::Edge),
            _ => Err(FrameError::Content("has an unknown role")),
        }
    }

    /// Everything that is left.
    pub(super) fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    pub(super) fn end(self) -> Result<(), FrameError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(FrameError::Content("is longer than its content"))
    }
}

const SHORT: FrameError = FrameError::Content("is shorter than its content");

/// Appends bytes behind their length; what is beyond `max` is not sent.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8], max: usize) {
    let bytes = &bytes[..bytes.len().min(max)];
    let length = u16::try_from(bytes.len()).expect("no field is longer than 16 bits count");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Appends a text that the reader takes: cut at `max` bytes, without control characters.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str, max: usize) {
    let end = text.floor_char_boundary(max);
    let text = &text[..end];
    if text.contains(char::is_control) {
        // What replaces a control character is one byte, as most of them are.
        put_bytes(out, text.replace(char::is_control, " ").as_bytes(), max);
    } else {
        put_bytes(out, text.as_bytes(), max);
    }
}

pub(super) fn put_addresses(out: &mut Vec<u8>, addresses: &[String]) {
    let addresses = &addresses[..addresses.len().min(MQTT_ADDRESSES_MAX)];
    out.push(u8::try_from(addresses.len()).unwrap_or_default());
    for address in addresses {
        put_text(out, address, ADDRESS_BYTES_MAX);
    }
}

pub(super) fn put_role(out: &mut Vec<u8>, role: Role) {
    out.push(match role {
        Role::Log => 0,
        Role::Edge => 1,
    });
}

pub(super) fn put_numbers(out: &mut Vec<u8>, numbers: &[u64]) {
    for number in numbers {
        out.extend_from_slice(&number.to_le_bytes());
    }
}
