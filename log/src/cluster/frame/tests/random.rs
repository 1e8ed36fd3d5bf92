//! Frames of any content.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const BOUND: u64 = 1 << 62;

fn heads() -> impl Strategy<Value = Message> {
    let kinds = proptest::sample::select(vec![
        MessageType::MsgAppend,
        MessageType::MsgAppendResponse,
        MessageType::MsgRequestVote,
        MessageType::MsgRequestVoteResponse,
        MessageType::MsgHeartbeat,
        MessageType::MsgHeartbeatResponse,
        MessageType::MsgTimeoutNow,
        MessageType::MsgRequestPreVote,
        MessageType::MsgRequestPreVoteResponse,
    ]);
    let numbers = (1..BOUND, 0..BOUND, 0..BOUND, 0..BOUND, 0..BOUND, 0..BOUND);
    let rest = (any::<bool>(), any::<i64>(), vec(any::<u8>(), 0..=64));
    (kinds, 1..u64::MAX, 1..u64::MAX, numbers, rest).prop_map(
        |(kind, to, from, (term, log_term, index, commit, commit_term, hint), rest)| {
            let mut message = Message::new();
            message.set_msg_type(kind);
            (message.to, message.from, message.term) = (to, from, term);
            (message.log_term, message.index, message.commit) = (log_term, index, commit);
            (message.commit_term, message.reject_hint) = (commit_term, hint);
            let (reject, priority, context) = rest;
            (message.reject, message.priority, message.context) =
                (reject, priority, context.into());
            message
        },
    )
}

/// An append of entries as a leader's log has them.
fn appends() -> impl Strategy<Value = Message> {
    let entries = vec((0..3_u64, 0..3_u8), 0..6);
    (0..BOUND / 2, 1..BOUND / 2, entries).prop_map(|(index, term, kinds)| {
        let mut append = message(MessageType::MsgAppend);
        (append.index, append.log_term, append.term) = (index, term, term + 18);
        let mut last = term;
        let mut entries = Vec::new();
        for (at, (rise, kind)) in (1..).zip(kinds) {
            last += rise;
            let (kind, data) = match kind {
                0 => (EntryType::EntryNormal, Bytes::new()),
                1 => (EntryType::EntryNormal, stamped(at)),
                _ => (EntryType::EntryConfChangeV2, Bytes::from_static(&[0x12, 2, 0x10, 1])),
            };
            entries.push(entry(kind, index + at, last, data));
        }
        append.entries = entries.into();
        append
    })
}

proptest! {
    #[test]
    fn messages_of_raft_read_back(mut message in heads(), time in proptest::option::of(any::<u64>())) {
        let is_vote = matches!(
            message.msg_type,
            MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse
        );
        if message.msg_type == MessageType::MsgAppend {
            message.log_term = message.log_term.min(message.term);
        }
        let heard = if is_vote { time.map(Timestamp) } else { None };
        let frame = Frame::Raft { message: Box::new(message), heard };
        let bytes = encoded(&frame);
        prop_assert_eq!(split(&bytes, Some(frame.lane())), Ok(Some((frame, bytes.len()))));
    }

    #[test]
    fn appends_read_back(append in appends()) {
        let frame = Frame::raft(append);
        let bytes = encoded(&frame);
        prop_assert_eq!(split(&bytes, Some(Lane::Log)), Ok(Some((frame, bytes.len()))));
    }

    /// Whatever is read with a right checksum is written as it was.
    #[test]
    fn what_is_read_is_written_as_it_was(
        sample in 0..samples().len(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let (_, frame) = &samples()[sample];
        let mut bytes = encoded(frame);
        for (at, byte) in changes {
            let at = 8 + at.index(bytes.len() - 8);
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(8 + cut.index(bytes.len() - 8));
        }
        let bytes = resealed(&bytes);
        for lane in [None, Some(Lane::Log), Some(Lane::Pulse), Some(Lane::Bulk)] {
            if let Ok(Some((read, length))) = split(&bytes, lane) {
                prop_assert_eq!(length, bytes.len());
                let again = encoded(&read);
                prop_assert_eq!(split(&again, lane), Ok(Some((read.clone(), again.len()))));
                // Postcard can be written in more than one way, so can the codes of refusals.
                if !matches!(read, Frame::Joined(_) | Frame::Members(_) | Frame::Refusal(_)) {
                    prop_assert_eq!(&again, &bytes);
                }
            }
        }
    }

    #[test]
    fn frames_of_snapshots_read_back(
        id in 1..u64::MAX,
        (index, term, bytes) in (1..BOUND, 1..BOUND, 1..(1_u64 << 49)),
        (checksum, number, sums) in (any::<u64>(), 1..u32::MAX, any::<u32>()),
        content in vec(any::<u8>(), 1..2000),
        state in 0..4_usize,
    ) {
        use SnapshotState::{Done, Importing, Receiving, Refused};
        let state = [Receiving, Importing, Done, Refused][state];
        let frames = [
            Frame::SnapshotBegin(SnapshotBegin { id, index, term, bytes, checksum }),
            Frame::SnapshotChunk(SnapshotChunk { id, number, content: content.into() }),
            Frame::SnapshotEnd(SnapshotEnd { id, chunks: number, sums }),
            Frame::SnapshotAck(SnapshotAck { id, next: number, state }),
        ];
        for frame in frames {
            let bytes = encoded(&frame);
            prop_assert_eq!(split(&bytes, Some(Lane::Bulk)), Ok(Some((frame, bytes.len()))));
        }
    }

    #[test]
    fn texts_of_any_length_can_be_sent(text in any::<String>(), times in 1..100_usize) {
        let refusal = Refusal::new(RefusalCode::Other, text.repeat(times));
        let frame = Frame::Refusal(Box::new(refusal));
        let bytes = encoded(&frame);
        prop_assert!(matches!(split(&bytes, None), Ok(Some((Frame::Refusal(_), _)))));
    }
}

/// The bytes with a length and a checksum that fit.
pub(super) fn resealed(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let length = u32::try_from(bytes.len() - 8).expect("a short frame");
    let sum = crc32c::crc32c(&bytes[8..]);
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes[4..8].copy_from_slice(&sum.to_le_bytes());
    bytes
}
