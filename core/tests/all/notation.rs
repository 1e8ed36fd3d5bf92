//! Packets as text, and what the decoder says of them.
//!
//! Bytes are written in hex; `'text'` stands for its bytes, `"text"` for a string with its length.
//! `r` stands for the Remaining Length, `p{..}` for a block with its length in front.

use ledgermq_core::codec::{PACKET_BYTES_MAX, decode};
use ledgermq_core::packet::ProtocolVersion;
use ledgermq_core::reason::ReasonCode as R;

use ProtocolVersion::{V5, V311};

/// Bytes of the notation above.
pub(super) fn bytes_of(text: &str) -> Vec<u8> {
    let mut first = Vec::new();
    let mut body = Vec::new();
    let mut outer = None;
    let mut is_measured = false;
    for word in words(text) {
        match word.as_bytes() {
            b"r" => {
                is_measured = true;
                first = std::mem::take(&mut body);
            }
            b"p{" => outer = Some(std::mem::take(&mut body)),
            b"}" => {
                let block = std::mem::replace(&mut body, outer.take().unwrap());
                put_varint(block.len(), &mut body);
                body.extend(block);
            }
            [b'\'', text @ .., b'\''] => body.extend(text),
            [b'"', text @ .., b'"'] => {
                body.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
                body.extend(text);
            }
            hex => body.extend(
                hex.chunks(2)
                    .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()),
            ),
        }
    }
    if is_measured {
        put_varint(body.len(), &mut first);
    }
    first.extend(body);
    first
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(' ').filter(|word| !word.is_empty())
}

fn put_varint(mut value: usize, out: &mut Vec<u8>) {
    while value >= 128 {
        out.push(u8::try_from(value % 128).unwrap() | 0x80);
        value /= 128;
    }
    out.push(u8::try_from(value).unwrap());
}

#[track_caller]
pub(super) fn refused(version: ProtocolVersion, text: &str, reason: R) {
    let bytes = bytes_of(text);
    match decode(&bytes, version, PACKET_BYTES_MAX) {
        Err(error) => assert_eq!(error.reason, reason, "{text}: {error}"),
        Ok(packet) => panic!("{text}: {packet:?}"),
    }
}

#[track_caller]
pub(super) fn refused_in_both(text: &str, reason: R) {
    refused(V311, text, reason);
    refused(V5, text, reason);
}

#[track_caller]
pub(super) fn taken(version: ProtocolVersion, text: &str) {
    let bytes = bytes_of(text);
    match decode(&bytes, version, PACKET_BYTES_MAX) {
        Ok(Some((_, length))) => assert_eq!(length, bytes.len(), "{text}"),
        other => panic!("{text}: {other:?}"),
    }
}
