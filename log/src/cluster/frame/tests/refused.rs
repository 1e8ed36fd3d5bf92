//! One example for each check of what peers send.

use super::random::resealed;
use super::*;

/// What a changed message of raft is answered.
fn raft(kind: MessageType, change: impl FnOnce(&mut Message)) -> Result<(), FrameError> {
    let mut sent = match kind {
        MessageType::MsgAppend => append(),
        MessageType::MsgReadIndex | MessageType::MsgReadIndexResp => read(kind),
        _ => message(kind),
    };
    change(&mut sent);
    let frame = Frame::raft(sent);
    split(&encoded(&frame), Some(frame.lane())).map(|_| ())
}

/// What a frame with other bytes is answered.
fn bytes(frame: &Frame, change: impl FnOnce(&mut Vec<u8>)) -> Result<(), FrameError> {
    let mut bytes = encoded(frame);
    change(&mut bytes);
    split(&resealed(&bytes), lane(frame)).map(|_| ())
}

fn sample(name: &str) -> Frame {
    let sample = samples().into_iter().find(|(known, _)| *known == name);
    sample.expect("a sample of that name").1
}

#[test]
fn what_raft_does_not_bear_is_refused() {
    use MessageType::{MsgAppend, MsgHeartbeat, MsgReadIndex, MsgReadIndexResp, MsgRequestVote};
    let damaged = || {
        let mut damaged = stamped(2).to_vec();
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        Bytes::from(damaged)
    };
    let no_batch = || {
        let mut bytes = vec![0; ENVELOPE_BYTES];
        bytes.extend_from_slice(b"no records, no footer");
        envelope::close(
            &mut bytes,
            ProducerId { node: 2, start: 2, local: 3 },
            4,
            Timestamp::default(),
        );
        envelope::stamp(&mut bytes, Timestamp(5));
        Bytes::from(bytes)
    };
    let cases = [
        ("to nobody", raft(MsgHeartbeat, |m| m.to = 0)),
        ("from nobody", raft(MsgHeartbeat, |m| m.from = 0)),
        ("no term: a local message", raft(MsgHeartbeat, |m| m.term = 0)),
        ("a read with a term", raft(MsgReadIndex, |m| m.term = 1)),
        ("an answer to a read without a term", raft(MsgReadIndexResp, |m| m.term = 0)),
        ("a term that overflows", raft(MsgRequestVote, |m| m.term = u64::MAX)),
        ("an index that overflows", raft(MsgRequestVote, |m| m.index = 1 << 62)),
        ("a log term that overflows", raft(MsgRequestVote, |m| m.log_term = 1 << 62)),
        ("a commit that overflows", raft(MsgHeartbeat, |m| m.commit = 1 << 62)),
        ("a commit term that overflows", raft(MsgHeartbeat, |m| m.commit_term = 1 << 62)),
        ("a hint that overflows", raft(MsgHeartbeat, |m| m.reject_hint = 1 << 62)),
        ("a request for a snapshot", raft(MsgHeartbeat, |m| m.request_snapshot = 1)),
        ("entries in a heartbeat", raft(MsgHeartbeat, |m| m.entries = append().entries)),
        ("a read without its number", raft(MsgReadIndex, |m| m.entries.clear())),
        ("a read of two numbers", {
            raft(MsgReadIndex, |m| {
                let entry = m.entries[0].clone();
                m.entries.push(entry);
            })
        }),
        ("a read with a short number", {
            raft(MsgReadIndexResp, |m| m.entries[0].data = Bytes::from_static(&[1; 7]))
        }),
        ("a read with an index", raft(MsgReadIndex, |m| m.entries[0].index = 1)),
        ("a read with an entry's term", raft(MsgReadIndex, |m| m.entries[0].term = 1)),
        ("a read of another kind", {
            raft(MsgReadIndex, |m| m.entries[0].set_entry_type(EntryType::EntryConfChangeV2))
        }),
        ("an entry that does not follow", raft(MsgAppend, |m| m.index = 11)),
        ("a gap between entries", raft(MsgAppend, |m| m.entries[2].index = 14)),
        ("an entry twice", raft(MsgAppend, |m| m.entries[1].index = 11)),
        ("terms that fall", raft(MsgAppend, |m| m.entries[1].term = 4)),
        ("a term below the log's", raft(MsgAppend, |m| m.log_term = 6)),
        ("a term above the leader's", raft(MsgAppend, |m| m.entries[2].term = 8)),
        ("a log term above the leader's", {
            raft(MsgAppend, |m| {
                m.entries.clear();
                m.log_term = 8;
            })
        }),
        ("an entry without a term", {
            raft(MsgAppend, |m| {
                m.log_term = 0;
                m.entries[0].term = 0;
            })
        }),
        ("a change in the old form", {
            raft(MsgAppend, |m| m.entries[1].set_entry_type(EntryType::EntryConfChange))
        }),
        ("a change that is none", {
            raft(MsgAppend, |m| m.entries[1].data = Bytes::from_static(&[0x08, 9]))
        }),
        ("a damaged batch", raft(MsgAppend, |m| m.entries[0].data = damaged())),
        ("an unstamped batch", raft(MsgAppend, |m| m.entries[0].data = closed(2).into())),
        ("an envelope without a batch", raft(MsgAppend, |m| m.entries[0].data = no_batch())),
        ("bytes without an envelope", {
            raft(MsgAppend, |m| m.entries[0].data = Bytes::from_static(b"x"))
        }),
    ];
    for (what, answer) in cases {
        assert!(matches!(answer, Err(FrameError::Content(_))), "{what}: {answer:?}");
    }
}

#[test]
fn other_messages_of_raft_are_neither_sent_nor_taken() {
    let all = [
        MessageType::MsgHup,
        MessageType::MsgBeat,
        MessageType::MsgPropose,
        MessageType::MsgSnapshot,
        MessageType::MsgUnreachable,
        MessageType::MsgSnapStatus,
        MessageType::MsgCheckQuorum,
        MessageType::MsgTransferLeader,
    ];
    let heartbeat = Frame::raft(message(MessageType::MsgHeartbeat));
    for kind in all {
        let mut out = vec![1, 2, 3];
        assert!(Frame::raft(message(kind)).encode(&mut out).is_err(), "{kind:?}");
        assert_eq!(out, [1, 2, 3]);
        let code = u8::try_from(kind as i32).unwrap();
        let answer = bytes(&heartbeat, |bytes| bytes[HEAD] = code);
        assert!(matches!(answer, Err(FrameError::Content(_))), "{kind:?}");
    }
    let answer = bytes(&heartbeat, |bytes| bytes[HEAD] = 19);
    assert!(matches!(answer, Err(FrameError::Content(_))));
}

#[test]
fn bytes_that_cannot_be_are_refused() {
    // Places in a message of raft, behind the head.
    const CONTEXT: usize = HEAD + 82;
    const COUNT: usize = CONTEXT + 2;
    let set = |at: usize, value: &'static [u8]| {
        move |bytes: &mut Vec<u8>| bytes[at..at + value.len()].copy_from_slice(value)
    };
    let heartbeat = Frame::raft(message(MessageType::MsgHeartbeat));
    let append = Frame::raft(append());
    let (hello, forward) = (sample("hello"), sample("forward"));
    let (command, answer) = (sample("command.remove"), sample("answer.done"));
    let refused =
        |name: &str, at: usize, value: &'static [u8]| bytes(&sample(name), set(at, value));
    let content = Bytes::from(vec![7; crate::snapshots::CHUNK_BYTES + 1]);
    let long_chunk = Frame::SnapshotChunk(SnapshotChunk { id: 4, number: 0, content });
    let long_chunk = bytes(&long_chunk, |_| {});
    let cases = [
        ("a truth value", bytes(&heartbeat, set(HEAD + 1, &[2]))),
        ("a long context", bytes(&heartbeat, set(CONTEXT, &[65, 0]))),
        ("more entries than bytes", bytes(&heartbeat, set(COUNT, &[255; 4]))),
        ("an unknown kind of entry", bytes(&append, set(COUNT + 4, &[3]))),
        ("an entry beyond the end", bytes(&append, set(COUNT + 5, &[255; 4]))),
        ("bytes behind a message", bytes(&heartbeat, |bytes| bytes.push(0))),
        ("a cut message", bytes(&heartbeat, |bytes| bytes.truncate(50))),
        (
            "a time where none belongs",
            bytes(&heartbeat, |bytes| {
                bytes[10] = 1;
                bytes.extend_from_slice(&[0; 8]);
            }),
        ),
        ("an unknown lane", bytes(&hello, set(HEAD + 2, &[4]))),
        ("a greeting of nobody", bytes(&hello, set(HEAD + 51, &[0]))),
        ("a text that is none", bytes(&hello, set(HEAD + 117, &[0xFF]))),
        ("a control character", bytes(&hello, set(HEAD + 117, &[0x1B]))),
        ("a long text", bytes(&hello, set(HEAD + 115, &[65, 0]))),
        ("bytes behind a greeting", bytes(&hello, |bytes| bytes.push(0))),
        ("no term", bytes(&forward, set(HEAD, &[0; 8]))),
        ("no batch", bytes(&forward, set(HEAD + 8, &[0; 4]))),
        ("more batches than bytes", bytes(&forward, set(HEAD + 8, &[255; 4]))),
        ("a batch beyond the end", bytes(&forward, set(HEAD + 12, &[255; 4]))),
        ("an unknown envelope", bytes(&forward, set(HEAD + 16 + 4, &[9]))),
        ("a damaged body", bytes(&forward, set(HEAD + 16 + 50, &[0xEE]))),
        ("an unknown reason", refused("refused.term", HEAD + 8, &[5])),
        ("a leader for no reason", refused("refused.term", HEAD + 9, &[1])),
        ("an unknown gate", refused("pulse", HEAD + 104, &[4])),
        ("an unknown gate of a node that is drained", refused("pulse", HEAD + 104, &[0x84])),
        ("an unknown wish", refused("pulse", HEAD + 105, &[2])),
        (
            "an unknown role",
            bytes(&sample("join"), |bytes| {
                bytes.pop();
                bytes.push(2);
            }),
        ),
        ("too many addresses", refused("join", HEAD + 11 + 8 + 4 + 12, &[9])),
        ("members of another version", refused("members", HEAD, &[9])),
        (
            "members that are none",
            bytes(&sample("joined"), |bytes| {
                bytes.pop();
            }),
        ),
        ("an unknown command", bytes(&command, set(HEAD + 8, &[9]))),
        ("a command of no node", bytes(&command, set(HEAD + 9, &[0]))),
        ("a snapshot without a number", refused("snapshot.begin", HEAD, &[0])),
        ("a snapshot of no entry", refused("snapshot.begin", HEAD + 8, &[0])),
        ("a snapshot of an index that overflows", refused("snapshot.begin", HEAD + 15, &[0x40])),
        ("a snapshot of no term", refused("snapshot.begin", HEAD + 16, &[0])),
        ("a snapshot of a term that overflows", refused("snapshot.begin", HEAD + 23, &[0x40])),
        ("a snapshot of no bytes", refused("snapshot.begin", HEAD + 24, &[0; 8])),
        ("a snapshot of too many bytes", refused("snapshot.begin", HEAD + 31, &[1])),
        (
            "bytes behind the beginning of a snapshot",
            bytes(&sample("snapshot.begin"), |bytes| bytes.push(0)),
        ),
        ("a chunk of no snapshot", refused("snapshot.chunk", HEAD, &[0])),
        ("a chunk with another checksum", refused("snapshot.chunk", HEAD + 12, &[0])),
        ("a damaged chunk", refused("snapshot.chunk", HEAD + 16, &[0])),
        ("an empty chunk", bytes(&sample("snapshot.chunk"), |bytes| bytes.truncate(HEAD + 16))),
        ("a long chunk", long_chunk),
        ("an end of no snapshot", refused("snapshot.end", HEAD, &[0])),
        ("an end without a chunk", refused("snapshot.end", HEAD + 8, &[0])),
        ("bytes behind an end", bytes(&sample("snapshot.end"), |bytes| bytes.push(0))),
        ("an answer of no snapshot", refused("snapshot.ack.done", HEAD, &[0])),
        ("an unknown state of a snapshot", refused("snapshot.ack.done", HEAD + 12, &[5])),
        ("no state of a snapshot", refused("snapshot.ack.done", HEAD + 12, &[0])),
        ("bytes behind an answer", bytes(&sample("snapshot.ack.done"), |bytes| bytes.push(0))),
        ("an unknown answer", bytes(&answer, set(HEAD + 8, &[4]))),
    ];
    for (what, answer) in cases {
        assert!(matches!(answer, Err(FrameError::Content(_))), "{what}: {answer:?}");
    }
    let protocol = bytes(&hello, set(HEAD, &[2, 0]));
    assert_eq!(protocol, Err(FrameError::Protocol { theirs: 2 }));
}

#[test]
fn a_head_that_is_not_known_is_refused() {
    let heartbeat = Frame::raft(message(MessageType::MsgHeartbeat));
    for (at, value) in [(8, 99), (9, 2), (10, 2), (11, 1)] {
        let answer = bytes(&heartbeat, |bytes| bytes[at] = value);
        assert!(matches!(answer, Err(FrameError::Unknown { .. })), "byte {at}: {answer:?}");
    }
    let answer = bytes(&sample("pulse"), |bytes| bytes[10] = 1);
    assert!(matches!(answer, Err(FrameError::Unknown { .. })), "flags of another kind");
    let short = [3, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0];
    assert_eq!(split(&short, None), Err(FrameError::TooShort));
}

#[test]
fn a_frame_comes_on_its_lane_only() {
    for (name, frame) in samples() {
        let bytes = encoded(&frame);
        for lane in Lane::ALL {
            let read = split(&bytes, Some(lane));
            match frame.is_for(lane) {
                true => assert!(read.is_ok(), "{name} on {lane}"),
                false => {
                    let kind = frame.kind();
                    assert_eq!(read, Err(FrameError::Misplaced { kind }), "{name} on {lane}");
                }
            }
        }
        let first = split(&bytes, None);
        let may = matches!(frame, Frame::Hello(_) | Frame::Join(_) | Frame::Refusal(_));
        assert_eq!(first.is_ok(), may, "{name} first");
    }
}

#[test]
fn a_frame_longer_than_its_lane_takes_is_refused_before_it_is_there() {
    for (lane, max) in [
        (None, GREETING_BYTES_MAX),
        (Some(Lane::Pulse), 64 << 10),
        (Some(Lane::Bulk), 320 << 10),
        (Some(Lane::Log), 20 << 20),
    ] {
        let length = |bytes: usize| u32::try_from(bytes - 8).unwrap().to_le_bytes();
        assert_eq!(split(&length(max), lane), Ok(None), "{lane:?}");
        let bytes = max + 1;
        assert_eq!(split(&length(bytes), lane), Err(FrameError::TooLong { bytes, max }));
    }
    assert!(matches!(split(&[255; 4], None), Err(FrameError::TooLong { .. })));
    let batches = vec![vec![0; 21 << 20].into()];
    let mut out = Vec::new();
    let sent = Frame::Forward(Forward { term: 1, batches }).encode(&mut out);
    assert!(matches!(sent, Err(FrameError::TooLong { .. })) && out.is_empty());
}

#[test]
fn who_speaks_for_another_is_refused() {
    let addressed = |to, from| {
        let mut message = message(MessageType::MsgHeartbeat);
        (message.to, message.from) = (to, from);
        admit(&Frame::raft(message), 1, 2)
    };
    assert_eq!(addressed(1, 2), Ok(()));
    let wrong = |from, to| Err(AdmitError::Addressed { from, to, peer: 2, me: 1 });
    assert_eq!(addressed(3, 2), wrong(2, 3));
    assert_eq!(addressed(1, 3), wrong(3, 1));
    let batches = vec![closed(2).into(), closed(3).into()];
    let forward = Frame::Forward(Forward { term: 1, batches });
    assert_eq!(admit(&forward, 1, 2), Err(AdmitError::Foreign { node: 3, peer: 2 }));
    let readmit = Frame::Command { id: 1, command: Command::Readmit { node: 3, joined: 1 } };
    assert_eq!(admit(&readmit, 1, 3), Ok(()));
    assert_eq!(admit(&readmit, 1, 2), Err(AdmitError::Readmit { node: 3, peer: 2 }));
    let moved = |node| Command::Address { node, address: "three:7000".into(), mqtt: vec![] };
    let moved = |node| Frame::Command { id: 1, command: moved(node) };
    assert_eq!(admit(&moved(2), 1, 2), Ok(()));
    assert_eq!(admit(&moved(3), 1, 2), Err(AdmitError::Address { node: 3, peer: 2 }));
    for (name, frame) in samples() {
        let greets = matches!(name, "hello" | "join" | "joined");
        assert_eq!(admit(&frame, 1, 2).is_err(), greets, "{name}");
    }
}

#[test]
fn what_raft_cannot_bear_with_this_log_is_told() {
    let mut heartbeat = message(MessageType::MsgHeartbeat);
    heartbeat.commit = 10;
    assert!(fits_log(&heartbeat, 10) && !fits_log(&heartbeat, 9));
    let mut acknowledged = message(MessageType::MsgAppendResponse);
    acknowledged.index = 10;
    assert!(fits_log(&acknowledged, 10) && !fits_log(&acknowledged, 9));
    acknowledged.reject = true;
    assert!(fits_log(&acknowledged, 9) && fits_log(&append(), 0));
}
