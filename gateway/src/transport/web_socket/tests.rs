use proptest::prelude::*;

use super::*;

const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: broker\r\nUpgrade: websocket\r\n\
    Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: chat, mqtt\r\n\r\n";

/// A frame of a client: first byte as given, length in the shortest form, masked.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0xA1, 0x00, 0x37, 0xFF];
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..=125 => bytes.push(0x80 | u8::try_from(length).unwrap()),
        length @ 126..=0xFFFF => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// Payload and end of a whole stream that comes in pieces of those lengths, then of one byte.
fn decode(bytes: &[u8], pieces: &[usize], frame_bytes_max: u64) -> (Vec<u8>, Option<Ended>) {
    let mut decoder = Decoder::new(frame_bytes_max);
    let mut payload = Vec::new();
    let mut ended = None;
    let mut rest = bytes.to_vec();
    let mut pieces = pieces.iter().copied().chain(std::iter::repeat(1));
    while !rest.is_empty() {
        let mut piece: Vec<u8> =
            rest.drain(..pieces.next().unwrap().clamp(1, rest.len())).collect();
        let decoded = decoder.decode(&mut piece);
        payload.extend(&piece[..decoded.payload]);
        ended = decoded.ended;
    }
    (payload, ended)
}

fn check(bytes: &[u8], expected: &[u8], ended: Option<Ended>) {
    assert_eq!(decode(bytes, &[usize::MAX], 1 << 20), (expected.to_vec(), ended), "in one piece");
    assert_eq!(decode(bytes, &[], 1 << 20), (expected.to_vec(), ended), "byte by byte");
}

fn violation(code: u16) -> Option<Ended> {
    Some(Ended::Violation(CloseCode(code)))
}

/// `[MQTT-6.0.0-2]` `[MQTT311-6.0.0-2]`
#[test]
fn packets_split_over_frames_and_packed_into_one_are_the_same_bytes() {
    let split = [frame(0x82, b"ab"), frame(0x82, b""), frame(0x82, b"cdef")].concat();
    check(&split, b"abcdef", None);
    let fragments =
        [frame(0x02, b"ab"), frame(0x89, b"?"), frame(0x00, b"c"), frame(0x80, b"def")].concat();
    check(&fragments, b"abcdef", None);
    let long: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    check(&frame(0x82, &long), &long, None);
    check(&frame(0x82, &long[..300]), &long[..300], None);
}

/// `[MQTT-6.0.0-1]` `[MQTT311-6.0.0-1]`
#[test]
fn what_breaks_the_rules_ends_with_its_code_after_what_came_before() {
    let first = frame(0x82, b"ok");
    let mut unmasked = frame(0x82, b"x");
    unmasked[1] &= 0x7F;
    let padded_16 = vec![0x82, 0x80 | 126, 0, 5, 0, 0, 0, 0, 1, 2, 3, 4, 5];
    let padded_64 = [&[0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0, 9][..], &[0; 4]].concat();
    let negative = [&[0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 9][..], &[0; 4]].concat();
    let huge = [&[0x82, 0xFF, 0, 0, 0, 0, 0x10, 0, 0, 0][..], &[0; 4]].concat();
    for (name, bad, code) in [
        ("text", frame(0x81, b"x"), 1003),
        ("unmasked", unmasked, 1002),
        ("compressed", frame(0xC2, b"x"), 1002),
        ("second reserved bit", frame(0xA2, b"x"), 1002),
        ("third reserved bit", frame(0x92, b"x"), 1002),
        ("compressed text", frame(0xC1, b"x"), 1002),
        ("reserved data opcode", frame(0x83, b"x"), 1002),
        ("reserved control opcode", frame(0x8B, b"x"), 1002),
        ("continuation of nothing", frame(0x80, b"x"), 1002),
        ("a message within a message", [frame(0x02, b""), frame(0x82, b"x")].concat(), 1002),
        ("fragmented control", frame(0x09, b"x"), 1002),
        ("long control", frame(0x89, &[0; 126]), 1002),
        ("16 bits for a short length", padded_16, 1002),
        ("64 bits for a short length", padded_64, 1002),
        ("sign bit", negative, 1002),
        ("huge", huge, 1009),
        ("close with half a code", frame(0x88, &[3]), 1002),
        ("close with a code that is never sent", frame(0x88, &1005_u16.to_be_bytes()), 1002),
        ("close with a reason that is no text", frame(0x88, &[3, 0xE8, 0xFF]), 1007),
    ] {
        println!("{name}");
        let bytes = [&first[..], &bad, &frame(0x82, b"never taken")].concat();
        check(&bytes, b"ok", violation(code));
    }
}

#[test]
fn a_close_frame_ends_the_stream_and_its_code_is_echoed() {
    let bytes = [frame(0x88, &[3, 0xE8, b'b']), frame(0x82, b"x")].concat();
    check(&bytes, b"", Some(Ended::ByClient(Some(CloseCode::NORMAL))));
    check(&frame(0x88, b""), b"", Some(Ended::ByClient(None)));
    let mut socket = WebSocket::upgraded(100);
    let received = socket.receive(&mut frame(0x88, &4000_u16.to_be_bytes()));
    assert_eq!(received.ended, Some(End::Closed));
    let mut out = Vec::new();
    assert_eq!(socket.begin(10, &mut out), 0, "no output after it");
    assert_eq!(out, [0x88, 2, 0x0F, 0xA0]);
    socket.close(Some(CloseCode::NORMAL));
    assert!(!socket.has_reply(), "one Close frame is enough");
}

#[test]
fn a_ping_before_a_close_frame_leaves_nothing_to_be_said() {
    let mut socket = WebSocket::upgraded(100);
    socket.receive(&mut [frame(0x89, b"?"), frame(0x88, b"")].concat());
    let mut out = Vec::new();
    assert_eq!(socket.begin(0, &mut out), 0);
    assert_eq!(out, [0x88, 0]);
    assert!(!socket.has_reply(), "else it would be asked for ever");
}

#[test]
fn only_the_newest_ping_is_answered_and_only_between_two_frames() {
    let mut socket = WebSocket::upgraded(100);
    let mut out = Vec::new();
    assert_eq!(socket.begin(300, &mut out), 300);
    assert_eq!(out, [0x82, 126, 1, 44]);
    socket.sent(100);
    socket.receive(&mut [frame(0x89, b"old"), frame(0x8A, b"?"), frame(0x89, b"new")].concat());
    assert!(socket.has_reply());
    out.clear();
    assert_eq!(socket.begin(500, &mut out), 200, "the rest of the frame, though there is more");
    assert_eq!(out, []);
    socket.sent(200);
    assert_eq!(socket.begin(5, &mut out), 5);
    assert_eq!(out, [0x8A, 3, b'n', b'e', b'w', 0x82, 5]);
    assert!(!socket.has_reply());
}

/// `[MQTT-6.0.0-4]` `[MQTT311-6.0.0-4]`
#[test]
fn the_request_is_answered_as_rfc_6455_shows_and_frames_may_follow_it_at_once() {
    let mut socket = WebSocket::new(100, Origins::Local([].into()));
    let mut bytes = [REQUEST.as_bytes(), &frame(0x82, b"hello")].concat();
    let received = socket.receive(&mut bytes);
    assert_eq!((&bytes[received.payload], received.ended), (&b"hello"[..], None));
    let mut out = Vec::new();
    assert_eq!(socket.begin(0, &mut out), 0);
    let answer = String::from_utf8(out).unwrap();
    assert_eq!(
        answer,
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
         sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nsec-websocket-protocol: mqtt\r\n\r\n"
    );
}

/// The status line that a request is answered with, however it is cut.
fn status(request: &str) -> u16 {
    let mut statuses = [usize::MAX, 1, 7].map(|piece| {
        let mut socket = WebSocket::new(100, Origins::Local([].into()));
        let mut bytes = request.as_bytes().to_vec();
        for piece in bytes.chunks_mut(piece.min(request.len())) {
            if socket.receive(piece).ended.is_some() {
                break;
            }
        }
        let mut out = Vec::new();
        socket.begin(0, &mut out);
        let line = String::from_utf8(out).unwrap();
        line.get(9..12).map_or(0, |status| status.parse().unwrap())
    });
    statuses.sort_unstable();
    assert_eq!(statuses[0], statuses[2], "{request}");
    statuses[0]
}

/// `[MQTT-6.0.0-3]` `[MQTT311-6.0.0-3]`
#[test]
fn a_request_that_is_no_request_for_mqtt_over_websocket_is_told_why() {
    let without = |line: &str| {
        let lines = REQUEST.split_inclusive("\r\n").filter(|found| !found.starts_with(line));
        lines.collect::<String>()
    };
    let with = |line: &str| REQUEST.replace("Host:", &format!("{line}\r\nHost:"));
    for (request, expected) in [
        (REQUEST.to_owned(), 101),
        (REQUEST.replace("/mqtt ", "/mqtt?token=1 "), 101),
        (REQUEST.replace("/mqtt ", "/other "), 404),
        (REQUEST.replace("/mqtt ", "/mqtt/ "), 404),
        (REQUEST.replace("GET", "POST"), 405),
        (REQUEST.replace("HTTP/1.1", "HTTP/1.0"), 400),
        (without("Upgrade"), 426),
        (without("Connection"), 426),
        (without("Sec-WebSocket-Version"), 426),
        (REQUEST.replace(": 13", ": 8"), 426),
        (without("Sec-WebSocket-Protocol"), 400),
        (REQUEST.replace("chat, mqtt", "mqttv3.1"), 400),
        (without("Sec-WebSocket-Key"), 400),
        (REQUEST.replace("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), 400),
        (with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400),
        (without("Host"), 400),
        (with("Host: another"), 400),
        (with("Origin: http://localhost:3000"), 101),
        (with("Origin: https://example.com"), 403),
        (with("Origin: null"), 403),
        (with("Content-Length: 5"), 400),
        (with("Transfer-Encoding: chunked"), 400),
        (with("Sec-WebSocket-Extensions: permessage-deflate"), 101),
        (with(&format!("Cookie: {}", "x".repeat(HEAD_BYTES_MAX))), 431),
        (with("A: b\r\n".repeat(70).trim_end()), 431),
        ("\u{10}\u{c}\0\u{4}MQTT".to_owned() + "\r\n\r\n", 400),
    ] {
        assert_eq!(status(&request), expected, "{request}");
    }
}

#[test]
fn a_slow_request_keeps_no_more_than_the_longest_head() {
    let mut socket = WebSocket::new(100, Origins::Local([].into()));
    for _ in 0..HEAD_BYTES_MAX {
        assert_eq!(socket.receive(&mut [b'A']).ended, None);
    }
    assert_eq!(socket.receive(&mut [b'A']).ended, Some(End::Refused));
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![8 => Just(0x82), 2 => Just(0x02), 2 => Just(0x80), 2 => Just(0x89),
        1 => any::<u8>()];
    let payload = prop::collection::vec(any::<u8>(), 0..200);
    (first, payload).prop_map(|(first, payload)| frame(first, &payload))
}

proptest! {
    #[test]
    fn any_cut_of_the_bytes_gives_the_same_payload_and_the_same_end(
        frames in prop::collection::vec(any_frame(), 0..12),
        damage in prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>())),
        pieces in prop::collection::vec(1_usize..150, 0..40),
    ) {
        let mut bytes = frames.concat();
        if let Some((at, value)) = damage && !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let whole = decode(&bytes, &[usize::MAX], 180);
        prop_assert_eq!(decode(&bytes, &pieces, 180), whole);
    }

    /// `[MQTT-6.0.0-1]` `[MQTT311-6.0.0-1]`
    #[test]
    fn our_frames_are_read_back_whatever_part_of_them_a_socket_takes(
        outputs in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..70_000), 1..4),
        taken in prop::collection::vec(1_usize..40_000, 1..20),
    ) {
        let mut socket = WebSocket::upgraded(100);
        let (mut wire, mut output, mut expected) = (Vec::new(), Vec::new(), Vec::new());
        let mut taken = taken.into_iter().cycle();
        let mut outputs = outputs.into_iter();
        loop {
            if let Some(more) = outputs.next() {
                expected.extend(&more);
                output.extend(more);
            } else if output.is_empty() {
                break;
            }
            let part = socket.begin(output.len(), &mut wire).min(taken.next().unwrap());
            wire.extend(output.drain(..part));
            socket.sent(part);
        }
        prop_assert_eq!(unframe(&wire), expected);
    }
}

/// The payload of a server's frames.
fn unframe(mut wire: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    while let [0x82, short, rest @ ..] = wire {
        let extended = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let length = match extended {
            0 => usize::from(*short),
            _ => rest[..extended].iter().fold(0, |length, byte| length << 8 | usize::from(*byte)),
        };
        payload.extend(&rest[extended..extended + length]);
        wire = &rest[extended + length..];
    }
    assert_eq!(wire, []);
    payload
}
