//! The envelope of a batch: what the log writes in front of the body.
//!
//! | bytes | content |
//! |---|---|
//! | 0..4 | CRC32C of bytes 4..48 |
//! | 4 | version, 1 |
//! | 5 | kind, 1 = batch of events, 2 = one that came late |
//! | 6..8 | producer: number within its process |
//! | 8..16 | the leader's time, microseconds since 1970 |
//! | 16..24 | producer: node |
//! | 24..32 | producer: start epoch of the node |
//! | 32..40 | sequence number of the producer, from 1 |
//! | 40..44 | length of the body |
//! | 44..48 | CRC32C of the body |
//!
//! All numbers are little endian. The two checksums cover every byte; the body's is taken once
//! where the batch is closed, so that a leader stamps a batch by touching 48 bytes. Until then the time
//! is that at which its first event was pushed, as its node knew it.
//!
//! A batch came late if the leader stamps it long after that: clients may have gone elsewhere, and the
//! sessions that it would open are not opened (see [`crate::admission`]).

use ledgermq_core::identity::ProducerId;
use ledgermq_core::offset::Timestamp;

/// Bytes of the envelope: the headroom that a builder leaves in front.
pub(crate) const ENVELOPE_BYTES: usize = 48;
const VERSION: u8 = 1;
const KIND_BATCH: u8 = 1;
const KIND_LATE: u8 = 2;

/// A decoded envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) time: Timestamp,
    pub(crate) producer: ProducerId,
    pub(crate) sequence: u64,
    pub(crate) is_late: bool,
}

/// Bytes that are no batch in its envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct EnvelopeError(pub(crate) &'static str);

/// Closes a batch, the first event of which was pushed at `since`: `bytes` are the headroom and the
/// body. The leader's time is stamped later.
pub(crate) fn close(bytes: &mut [u8], producer: ProducerId, sequence: u64, since: Timestamp) {
    let (head, body) = bytes.split_at_mut(ENVELOPE_BYTES);
    let length = u32::try_from(body.len()).expect("a batch is smaller than 4 GiB");
    head[4] = VERSION;
    head[5] = KIND_BATCH;
    head[6..8].copy_from_slice(&producer.local.to_le_bytes());
    head[8..16].copy_from_slice(&since.0.to_le_bytes());
    head[16..24].copy_from_slice(&producer.node.to_le_bytes());
    head[24..32].copy_from_slice(&producer.start.to_le_bytes());
    head[32..40].copy_from_slice(&sequence.to_le_bytes());
    head[40..44].copy_from_slice(&length.to_le_bytes());
    head[44..48].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
}

/// Says that a closed batch, which is stamped next, came late.
pub(crate) fn set_late(bytes: &mut [u8]) {
    bytes[5] = KIND_LATE;
}

/// Writes the leader's time into a closed batch and seals it.
pub(crate) fn stamp(bytes: &mut [u8], time: Timestamp) {
    bytes[8..16].copy_from_slice(&time.0.to_le_bytes());
    let seal = crc32c::crc32c(&bytes[4..ENVELOPE_BYTES]);
    bytes[0..4].copy_from_slice(&seal.to_le_bytes());
}

/// Checks a closed batch that a peer forwarded, which is not stamped yet: everything but the
/// envelope's own checksum, which the stamp takes. Answers the body and the node that built it.
pub(crate) fn open_closed(bytes: &[u8]) -> Result<(u64, &[u8]), EnvelopeError> {
    let (head, body) = bytes
        .split_first_chunk::<ENVELOPE_BYTES>()
        .ok_or(EnvelopeError("shorter than an envelope"))?;
    if !is_known(head) {
        return Err(EnvelopeError("unknown version or kind of envelope"));
    }
    let (_, numbers) = head.split_at(40);
    if numbers[..4] != u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes() {
        return Err(EnvelopeError("length of the body does not match"));
    }
    if numbers[4..] != crc32c::crc32c(body).to_le_bytes() {
        return Err(EnvelopeError("checksum of the body does not match"));
    }
    Ok((node_of(bytes), body))
}

/// The node that built a batch; 0 of bytes that are no batch.
pub(crate) fn node_of(bytes: &[u8]) -> u64 {
    let node = bytes.get(16..).and_then(<[u8]>::first_chunk);
    node.map_or(0, |node| u64::from_le_bytes(*node))
}

/// The time in an envelope; nothing of it is checked.
pub(crate) fn time_of(bytes: &[u8]) -> Option<Timestamp> {
    let time = bytes.get(8..ENVELOPE_BYTES)?.first_chunk::<8>()?;
    Some(Timestamp(u64::from_le_bytes(*time)))
}

/// Reads the envelope. `check` also takes the checksum of the body.
pub(crate) fn open(bytes: &[u8], check: bool) -> Result<(Envelope, &[u8]), EnvelopeError> {
    let (head, body) = bytes
        .split_first_chunk::<ENVELOPE_BYTES>()
        .ok_or(EnvelopeError("shorter than an envelope"))?;
    let u32_at = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| head[at + i]));
    let u64_at = |at: usize| u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|i| head[at + i]));
    if crc32c::crc32c(&head[4..]) != u32_at(0) {
        return Err(EnvelopeError("checksum of the envelope does not match"));
    }
    if !is_known(head) {
        return Err(EnvelopeError("unknown version or kind of envelope"));
    }
    if u32_at(40) as usize != body.len() {
        return Err(EnvelopeError("length of the body does not match"));
    }
    if check && crc32c::crc32c(body) != u32_at(44) {
        return Err(EnvelopeError("checksum of the body does not match"));
    }
    let producer = ProducerId {
        node: u64_at(16),
        start: u64_at(24),
        local: u16::from_le_bytes([head[6], head[7]]),
    };
    let (time, sequence, is_late) = (Timestamp(u64_at(8)), u64_at(32), head[5] == KIND_LATE);
    Ok((Envelope { time, producer, sequence, is_late }, body))
}

fn is_known(head: &[u8; ENVELOPE_BYTES]) -> bool {
    head[4] == VERSION && matches!(head[5], KIND_BATCH | KIND_LATE)
}

/// Whether these are the bytes that were written, be they understood or not: both checksums hold.
pub(crate) fn is_whole(bytes: &[u8]) -> bool {
    let Some((head, body)) = bytes.split_first_chunk::<ENVELOPE_BYTES>() else { return false };
    head[..4] == crc32c::crc32c(&head[4..]).to_le_bytes()
        && head[44..] == crc32c::crc32c(body).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed() -> Vec<u8> {
        let mut bytes = vec![0; ENVELOPE_BYTES];
        bytes.extend_from_slice(b"some body");
        close(&mut bytes, ProducerId { node: 1, start: 2, local: 3 }, 4, Timestamp(1));
        assert_eq!(time_of(&bytes), Some(Timestamp(1)), "until it is stamped");
        stamp(&mut bytes, Timestamp(5));
        bytes
    }

    #[test]
    fn an_envelope_reads_back() {
        let bytes = sealed();
        let (envelope, body) = open(&bytes, true).expect("sealed");
        assert_eq!(body, b"some body");
        let producer = ProducerId { node: 1, start: 2, local: 3 };
        let time = Timestamp(5);
        assert_eq!(envelope, Envelope { time, producer, sequence: 4, is_late: false });
    }

    #[test]
    fn a_late_batch_reads_back_as_late_also_when_it_is_forwarded_and_stamped_again() {
        let mut bytes = sealed();
        set_late(&mut bytes);
        assert!(open(&bytes, true).is_err(), "it is stamped next");
        for time in [6, 7] {
            assert_eq!(open_closed(&bytes), Ok((1, &b"some body"[..])));
            stamp(&mut bytes, Timestamp(time));
            assert!(open(&bytes, true).expect("sealed").0.is_late);
        }
    }

    #[test]
    fn what_a_later_version_wrote_is_whole_and_not_understood() {
        let mut bytes = sealed();
        bytes[4] = VERSION + 1;
        stamp(&mut bytes, Timestamp(5));
        assert!(open(&bytes, true).is_err());
        assert!(is_whole(&bytes));
    }

    #[test]
    fn a_forwarded_batch_needs_no_stamp_and_a_whole_body() {
        let mut good = sealed();
        good[..4].fill(0);
        assert_eq!(open_closed(&good), Ok((1, &b"some body"[..])));
        for at in [4, 5].into_iter().chain(40..good.len()) {
            let mut bytes = good.clone();
            bytes[at] ^= 4;
            assert!(open_closed(&bytes).is_err(), "byte {at}");
        }
        assert!(open_closed(&good[..40]).is_err());
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let good = sealed();
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bytes = good.clone();
                bytes[at] ^= 1 << bit;
                assert!(open(&bytes, true).is_err(), "byte {at} bit {bit}");
                assert!(!is_whole(&bytes), "byte {at} bit {bit}");
            }
            assert!(open(&good[..at], true).is_err(), "cut at {at}");
        }
    }
}
