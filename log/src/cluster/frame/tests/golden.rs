//! The bytes of each frame are the format: nodes of different versions speak to each other while a
//! cluster is updated.

use super::*;

const GOLDEN: &str = include_str!("../../../../tests/golden/frames-v1.txt");

#[test]
fn the_bytes_of_each_frame_stay() {
    let mut actual = String::from("# Frames between nodes: NAME = HEX.\n");
    for (name, frame) in samples() {
        let hex: String = encoded(&frame).iter().map(|byte| format!("{byte:02x}")).collect();
        actual += &format!("{name} = {hex}\n");
    }
    assert_eq!(actual, GOLDEN, "what is encoded now:\n{actual}");
}

#[test]
fn every_sample_reads_back_in_whatever_pieces_it_comes() {
    for (name, frame) in samples() {
        let bytes = encoded(&frame);
        let lane = lane(&frame);
        assert_eq!(split(&bytes, lane), Ok(Some((frame.clone(), bytes.len()))), "{name}");
        for cut in 0..bytes.len() {
            assert_eq!(split(&bytes[..cut], lane), Ok(None), "{name} cut at {cut}");
        }
        let mut decoder = Decoder::new(lane);
        for byte in [&bytes[..], &bytes].concat() {
            decoder.push(&[byte]);
            if decoder.has_frame() {
                assert_eq!(decoder.next_frame(), Ok(Some((frame.clone(), bytes.len()))), "{name}");
            } else {
                assert_eq!(decoder.next_frame(), Ok(None));
            }
        }
        assert_eq!(decoder.waiting(), 0);
    }
}

#[test]
fn every_flipped_bit_is_seen() {
    for (name, frame) in samples() {
        let good = encoded(&frame);
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bytes = good.clone();
                bytes[at] ^= 1 << bit;
                let read = split(&bytes, lane(&frame));
                assert!(!matches!(read, Ok(Some(_))), "{name} byte {at} bit {bit}");
            }
        }
    }
}
