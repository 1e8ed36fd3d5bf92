//! What must hold of any bytes that reach the layers below MQTT, and the inputs to begin with.
//! `gateway/tests/fuzz.rs` includes this file: every seed is checked in every test run.

use ledgermq_gateway::transport::proxy::{self, Reader};
use ledgermq_gateway::transport::web_socket::{Decoder, Origins, WebSocket};

/// A frame, or a packet, longer than that is refused.
const BYTES_MAX: u64 = 1 << 16;
const REQUEST: &[u8] =
    b"GET /mqtt HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: mqtt\r\n\r\n";

/// Seeds of a target by name; none for an unknown target.
pub fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let seeds: Vec<Vec<u8>> = match target {
        "websocket" => {
            let frames = [
                b"\x82\x83\x01\x02\x03\x04abc\x89\x80\0\0\0\0".to_vec(),
                b"\x02\x81\0\0\0\0a\x80\x81\0\0\0\0b\x88\x82\0\0\0\0\x03\xE8".to_vec(),
                [&b"\x82\xFE\x01\x00\xFF\xFF\xFF\xFF"[..], &[7; 256]].concat(),
            ];
            // The first byte cuts the rest into pieces.
            let mut seeds: Vec<_> =
                frames.iter().map(|frames| [&[3], &frames[..]].concat()).collect();
            seeds.extend(frames.iter().map(|frames| [&[200], REQUEST, frames].concat()));
            seeds
        }
        "proxy" => vec![
            b"\x07PROXY TCP4 192.0.2.7 10.0.0.1 12345 1883\r\n\x10".to_vec(),
            b"\x40PROXY TCP6 2001:db8::7 ::1 65535 1883\r\n".to_vec(),
            b"\x01PROXY UNKNOWN\r\n".to_vec(),
            b"\x05\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0F\x7F\0\0\x01\x7F\0\0\x01\0\x01\x07\x5B\x04\0\0"
                .to_vec(),
            b"\x09\r\n\r\n\0\r\nQUIT\n\x20\0\0\0\x10".to_vec(),
        ],
        _ => Vec::new(),
    };
    (0..).zip(seeds).map(|(number, bytes)| (format!("{target}-{number}"), bytes)).collect()
}

/// The pieces that the first byte cuts the rest into.
fn pieces(data: &[u8]) -> Option<(&[u8], impl Iterator<Item = &[u8]>)> {
    let (length, rest) = data.split_first()?;
    Some((rest, rest.chunks(usize::from(*length).max(1))))
}

/// Frames, with and without the request before them, give the same in whatever pieces they come.
pub fn websocket(data: &[u8]) {
    let Some((whole, pieces)) = pieces(data) else { return };
    let mut bytes = whole.to_vec();
    let mut decoder = Decoder::new(BYTES_MAX);
    let decoded = decoder.decode(&mut bytes);
    assert!(decoded.payload <= whole.len());
    let expected = (bytes[..decoded.payload].to_vec(), decoded.ended);

    let mut asking = WebSocket::new(BYTES_MAX, Origins::Any);
    let mut asked = whole.to_vec();
    let received = asking.receive(&mut asked);
    let expected_asked = (asked[received.payload].to_vec(), received.ended);

    let (mut in_pieces, mut asked_in_pieces) =
        (Decoder::new(BYTES_MAX), WebSocket::new(BYTES_MAX, Origins::Any));
    let (mut found, mut found_asked) = ((Vec::new(), None), (Vec::new(), None));
    for piece in pieces {
        let mut bytes = piece.to_vec();
        let decoded = in_pieces.decode(&mut bytes);
        found.0.extend_from_slice(&bytes[..decoded.payload]);
        found.1 = decoded.ended;
        if found_asked.1.is_none() {
            let mut bytes = piece.to_vec();
            let received = asked_in_pieces.receive(&mut bytes);
            found_asked.0.extend_from_slice(&bytes[received.payload]);
            found_asked.1 = received.ended;
        }
    }
    assert_eq!(found, expected);
    assert_eq!(found_asked, expected_asked);
    // What we answer begins with a frame of ours or a line of HTTP, whatever it was.
    let mut out = Vec::new();
    let part = asking.begin(300, &mut out);
    assert!(part == 0 || part == 300);
    assert!(matches!(out.first(), None | Some(0x82 | 0x88 | 0x8A | b'H')));
    asking.sent(part);
    assert!(!asking.has_reply(), "whoever asks until all is said must come to an end");
}

/// A header is the same in whatever pieces it comes, and within its bound.
pub fn proxy(data: &[u8]) {
    let Some((whole, pieces)) = pieces(data) else { return };
    let parsed = proxy::parse(whole);
    if let Ok(Some(header)) = parsed {
        assert!(header.length <= whole.len() && header.length <= proxy::V2_BYTES_MAX);
        assert_eq!(proxy::parse(&whole[..header.length]), parsed);
        assert_eq!(proxy::parse(&whole[..header.length - 1]), Ok(None));
    }
    if parsed == Ok(None) {
        assert!(whole.len() < proxy::V2_BYTES_MAX);
    }
    let mut reader = Reader::default();
    let mut before = 0;
    for piece in pieces {
        match reader.receive(piece) {
            Ok(None) => before += piece.len(),
            Ok(Some((header, used))) => {
                assert_eq!(Ok(Some(header)), parsed);
                assert_eq!(before + used, header.length);
                return;
            }
            Err(_) => {
                assert!(parsed.is_err());
                return;
            }
        }
    }
    assert_eq!(parsed, Ok(None));
}
