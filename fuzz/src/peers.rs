//! What must hold of any bytes that another node sends, and the inputs to begin with.
//! `log/tests/fuzz.rs` includes this file: every seed is checked in every test run.

use ledgermq_log::cluster::frame::{Decoder, Frame, Lane, admit, split};

const FRAMES: &str = include_str!("../../log/tests/golden/frames-v1.txt");

/// Seeds of the target: the golden frames without length and checksum, behind the number of their
/// lane; none for an unknown target.
pub fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    if target != "peer_frame" {
        return Vec::new();
    }
    let lines = FRAMES.lines().filter(|line| !line.starts_with('#'));
    let lines = lines.filter_map(|line| line.split_once(" = "));
    let seeds = lines.map(|(name, hex)| {
        let bytes = unhex(hex);
        let fits = |lane: &u8| split(&bytes, self::lane(*lane)).is_ok();
        let lane = (0..4).find(fits).expect("a golden frame comes on one of the lanes");
        (name.to_owned(), [&[lane], &bytes[8..]].concat())
    });
    seeds.collect()
}

fn lane(number: u8) -> Option<Lane> {
    [None, Some(Lane::Log), Some(Lane::Pulse), Some(Lane::Bulk)][usize::from(number % 4)]
}

/// The bytes behind the first, which names the lane, are given a length and a checksum. What is read
/// is written as it was, and comes out of a decoder in whatever pieces it goes in. So do bytes
/// that are left as they are.
pub fn peer_frame(data: &[u8]) {
    let Some((number, content)) = data.split_first() else { return };
    let lane = lane(*number);
    let mut sealed = u32::try_from(content.len()).unwrap_or(u32::MAX).to_le_bytes().to_vec();
    sealed.extend_from_slice(&crc32c(content).to_le_bytes());
    sealed.extend_from_slice(content);
    if let Ok(Some((frame, length))) = split(&sealed, lane) {
        assert_eq!(length, sealed.len());
        let _ = admit(&frame, 1, 2);
        let mut again = Vec::new();
        frame.encode(&mut again).expect("what was decoded can be encoded");
        assert_eq!(split(&again, lane), Ok(Some((frame.clone(), again.len()))));
        // Postcard can be written in more than one way, so can the codes of refusals.
        if !matches!(frame, Frame::Joined(_) | Frame::Members(_) | Frame::Refusal(_)) {
            assert_eq!(again, sealed);
        }
        assert_eq!(split(&sealed[..length - 1], lane), Ok(None));
    }
    pieces(&sealed, lane, usize::from(*number >> 2) + 1);
    pieces(content, lane, usize::from(*number >> 2) + 1);
}

fn pieces(bytes: &[u8], lane: Option<Lane>, length: usize) {
    let mut decoder = Decoder::new(lane);
    let mut pieces = Decoder::new(lane);
    decoder.push(bytes);
    let mut expected = Vec::new();
    let end = loop {
        match decoder.next_frame() {
            Ok(Some((frame, _))) => expected.push(frame),
            end => break end,
        }
    };
    let mut found = Vec::new();
    for piece in bytes.chunks(length) {
        pieces.push(piece);
        loop {
            match pieces.next_frame() {
                Ok(Some((frame, _))) => found.push(frame),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!((found, Err(error)), (expected, end));
                    return;
                }
            }
        }
    }
    assert_eq!((found, Ok(None)), (expected, end));
    assert_eq!(pieces.waiting(), decoder.waiting());
}

/// CRC32C bit by bit: the inputs are short.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |sum: u32| (sum >> 1) ^ (0x82F6_3B78 & (sum & 1).wrapping_neg());
    let sum = bytes
        .iter()
        .fold(u32::MAX, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), |sum, _| step(sum)));
    !sum
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |at: usize| text.get(at..at + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
    (0..text.len()).step_by(2).map(|at| digit(at).expect("a golden file holds hex")).collect()
}
