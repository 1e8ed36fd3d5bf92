//! The data types of the wire (MQTT 5 section 1.5).

use crate::codec::{DecodeError, EncodeError};
use crate::identity::PacketId;

const SHORT: DecodeError = DecodeError::malformed("packet ends early");

/// The bytes of a packet that are still to be read.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What is left, without taking it.
    #[inline]
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    #[inline]
    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A Variable Byte Integer in its shortest form.
    #[inline]
    pub(super) fn varint(&mut self) -> Result<u32, DecodeError> {
        let (value, bytes) = super::header::remaining_length(self.rest)?.ok_or(SHORT)?;
        self.rest = &self.rest[bytes..];
        Ok(value)
    }

    #[inline]
    pub(super) fn packet_id(&mut self) -> Result<PacketId, DecodeError> {
        // [MQTT-2.2.1-3] [MQTT-2.2.1-4]
        PacketId::new(self.u16()?).ok_or(DecodeError::protocol("packet identifier 0"))
    }

    /// Binary Data.
    #[inline]
    pub(super) fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.u16()?;
        self.bytes(usize::from(length))
    }

    /// A UTF-8 Encoded String.
    #[inline]
    pub(super) fn string(&mut self) -> Result<&'a str, DecodeError> {
        let text = self.unchecked_string()?;
        check_characters(text).map_err(DecodeError::malformed)?;
        Ok(text)
    }

    /// A UTF-8 string whose characters are still to be checked.
    #[inline]
    pub(super) fn unchecked_string(&mut self) -> Result<&'a str, DecodeError> {
        // [MQTT-1.5.4-1]: Rust's UTF-8 knows no surrogates either.
        str::from_utf8(self.binary()?).map_err(|_| DecodeError::malformed("string is not UTF-8"))
    }

    /// A part of the packet that begins with its length as a Variable Byte Integer.
    #[inline]
    pub(super) fn block(&mut self) -> Result<Self, DecodeError> {
        let length = self.varint()?;
        self.bytes(length as usize).map(Self::new)
    }

    /// The end of the packet must be here.
    #[inline]
    pub(super) fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(DecodeError::malformed("bytes after the end of the packet"))
    }

    #[inline]
    fn bytes(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(SHORT)?;
        self.rest = rest;
        Ok(bytes)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or(SHORT)?;
        self.rest = rest;
        Ok(*bytes)
    }
}

/// Refuses the characters that a UTF-8 Encoded String must not hold (U+0000, `[MQTT-1.5.4-2]`) and
/// those that it should not hold: control characters and non-characters. For the latter a receiver
/// may treat the packet as malformed (section 1.5.4); we do, as Mosquitto and HiveMQ do.
#[inline]
pub(super) fn check_characters(text: &str) -> Result<(), &'static str> {
    // Without an early exit the compiler looks at many bytes at once.
    let is_plain = text.bytes().fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~'));
    if is_plain {
        return Ok(());
    }
    match text.chars().find(|character| is_disallowed(*character)) {
        Some('\0') => Err("string with U+0000"),
        Some(_) => Err("string with a control character or non-character"),
        None => Ok(()),
    }
}

const fn is_disallowed(character: char) -> bool {
    matches!(
        character,
        '\0'..='\u{1F}' | '\u{7F}'..='\u{9F}' | '\u{FDD0}'..='\u{FDEF}'
    ) || character as u32 & 0xFFFE == 0xFFFE
}

/// A Variable Byte Integer.
#[derive(Clone, Copy)]
pub(super) struct VarInt(pub(super) u32);

/// A value of a property.
pub(super) trait Wire<'a>: Sized {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError>;
    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError>;
}

impl Wire<'_> for bool {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::protocol("property is neither 0 nor 1")),
        }
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.push(u8::from(*self));
        Ok(())
    }
}

impl Wire<'_> for u16 {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.u16()
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(&self.to_be_bytes());
        Ok(())
    }
}

impl Wire<'_> for u32 {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.u32()
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(&self.to_be_bytes());
        Ok(())
    }
}

impl Wire<'_> for VarInt {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.varint().map(Self)
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if self.0 > super::header::REMAINING_LENGTH_MAX {
            return Err(EncodeError("a variable byte integer is at most 268,435,455"));
        }
        put_varint(self.0, out);
        Ok(())
    }
}

impl<'a> Wire<'a> for &'a str {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.string()
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        put_string(self, out)
    }
}

impl<'a> Wire<'a> for &'a [u8] {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.binary()
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        put_binary(self, out)
    }
}

impl<'a> Wire<'a> for (&'a str, &'a str) {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok((reader.string()?, reader.string()?))
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        put_string(self.0, out)?;
        put_string(self.1, out)
    }
}

/// Appends a UTF-8 Encoded String.
pub(super) fn put_string(text: &str, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    check_characters(text).map_err(EncodeError)?;
    put_binary(text.as_bytes(), out)
}

/// Appends Binary Data.
pub(super) fn put_binary(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let length =
        u16::try_from(bytes.len()).map_err(|_| EncodeError("a string has at most 65,535 bytes"))?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

/// Appends a Packet Identifier.
pub(super) fn put_packet_id(packet_id: PacketId, out: &mut Vec<u8>) {
    out.extend_from_slice(&packet_id.get().to_be_bytes());
}

/// Appends a Variable Byte Integer, which is at most 268,435,455.
#[inline]
pub(super) fn put_varint(value: u32, out: &mut Vec<u8>) {
    let mut rest = value;
    while rest >= 0x80 {
        out.push(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    out.push(rest.to_le_bytes()[0]);
}

/// Bytes that a Variable Byte Integer takes.
#[inline]
pub(super) const fn varint_bytes(value: u32) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}
