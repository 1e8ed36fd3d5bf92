mod golden;
mod random;
mod refused;

use bytes::Bytes;
use ledgermq_core::event::{BatchBuilder, Event};
use ledgermq_core::identity::{ClientId, ProducerId};
use ledgermq_core::offset::Offset;
use raft::eraftpb::{Entry, EntryType};

use super::*;
use crate::cluster::conf_change;
use crate::cluster::identity::ClusterId;
use crate::cluster::members::{Member, MemberChange, Role, Standing};
use crate::envelope::{self, ENVELOPE_BYTES};

/// A closed batch of one event that `node` built.
pub(super) fn closed(node: u64) -> Vec<u8> {
    let mut events = BatchBuilder::new(ENVELOPE_BYTES);
    let client = ClientId::from("client");
    events.push(Some((&client, Offset::new(5, 0))), None, &Event::SessionExpired);
    let mut bytes = events.finish(Vec::new());
    envelope::close(&mut bytes, ProducerId { node, start: 2, local: 3 }, 4, Timestamp::default());
    bytes
}

pub(super) fn stamped(node: u64) -> Bytes {
    let mut bytes = closed(node);
    envelope::stamp(&mut bytes, Timestamp(1_700_000_000_000_000));
    bytes.into()
}

pub(super) fn entry(kind: EntryType, index: u64, term: u64, data: Bytes) -> Entry {
    let mut entry = Entry::new();
    entry.set_entry_type(kind);
    (entry.index, entry.term, entry.data) = (index, term, data);
    entry
}

pub(super) fn message(kind: MessageType) -> Message {
    let mut message = Message::new();
    message.set_msg_type(kind);
    (message.to, message.from, message.term) = (1, 2, 7);
    message
}

/// An append of a batch, a change of the configuration and an empty entry.
pub(super) fn append() -> Message {
    let mut append = message(MessageType::MsgAppend);
    (append.log_term, append.index, append.commit) = (5, 10, 9);
    let change = MemberChange::Promote { nodes: vec![2, 3] };
    let change = conf_change::encode(&conf_change::propose(&change, &Members::default()));
    append.entries = vec![
        entry(EntryType::EntryNormal, 11, 5, stamped(2)),
        entry(EntryType::EntryConfChangeV2, 12, 6, change.into()),
        entry(EntryType::EntryNormal, 13, 7, Bytes::new()),
    ]
    .into();
    append
}

pub(super) fn read(kind: MessageType) -> Message {
    let mut read = message(kind);
    if kind == MessageType::MsgReadIndex {
        read.term = 0;
    }
    let data = Bytes::from_static(&[1, 2, 3, 4, 5, 6, 7, 8]);
    read.entries = vec![entry(EntryType::EntryNormal, 0, 0, data)].into();
    read
}

pub(super) fn hello(lane: Lane) -> Hello {
    Hello {
        lane,
        cluster: ClusterId([0xAB; 16]),
        boot: 0x0102_0304_0506_0708_090A_0B0C_0D0E_0F10,
        session: 4,
        generation: 1,
        node: 2,
        start: 17,
        last: (100, 7),
        commit: 99,
        first: 50,
        members_index: 12,
        version: "0.1.0".into(),
        address: "two:7000".into(),
    }
}

pub(super) fn members() -> Members {
    let mut members = Members::default();
    members.apply(
        1,
        &MemberChange::Found {
            cluster: ClusterId([0xAB; 16]),
            generation: 1,
            node: 1,
            address: "one:7000".into(),
            mqtt: vec!["one:1883".into()],
            key: [1; 32],
        },
    );
    members
}

/// The same, with a node 2 that comes for the node 3.
fn replacing() -> Members {
    let mut members = members();
    for (node, replaces) in [(2, Some(3)), (3, None)] {
        members.nodes.insert(
            node,
            Member {
                address: format!("{node}:7000"),
                mqtt: Vec::new(),
                role: Role::Log,
                standing: Standing::Learner,
                key: [2; 32],
                joined: 2,
                is_held: false,
                replaces,
            },
        );
    }
    members
}

/// A frame of each kind and case.
pub(super) fn samples() -> Vec<(&'static str, Frame)> {
    let command = |command| Frame::Command { id: 6, command };
    let answer = |answer| Frame::Answer { id: 6, answer };
    let refused = |why| Frame::Refused(Refused { term: 7, why });
    let mut vote = message(MessageType::MsgRequestVote);
    (vote.index, vote.log_term, vote.commit, vote.commit_term) = (100, 7, 99, 7);
    vote.priority = -1;
    vote.context = Bytes::from_static(b"CampaignTransfer");
    let mut rejected = message(MessageType::MsgAppendResponse);
    (rejected.reject, rejected.index, rejected.reject_hint, rejected.log_term) = (true, 12, 9, 6);
    let mut heartbeat = message(MessageType::MsgHeartbeat);
    (heartbeat.commit, heartbeat.context) = (9, Bytes::from_static(&[1; 8]));
    let heard = Frame::Raft {
        message: Box::new(message(MessageType::MsgRequestVoteResponse)),
        heard: Some(Timestamp(1_700_000_000_000_000)),
    };
    let pulse = Pulse {
        term: 7,
        leader: 2,
        commit: 99,
        applied: 98,
        checkpoint: 90,
        checksum: 0x1122_3344_5566_7788,
        time: Timestamp(1_700_000_000_000_000),
        safe_time: Timestamp(1_699_999_999_999_999),
        fsync_us: 1_500,
        bytes_free: 1 << 40,
        acked: 97,
        greeted: 18,
        wall: Timestamp(1_700_000_000_500_000),
        gate: 1,
        wants_snapshot: true,
    };
    let join = Join {
        token: "lmq1.AAAA".into(),
        node: 3,
        request: vec![0x30, 0],
        address: "three:7000".into(),
        mqtt: vec!["three:1883".into()],
        role: Role::Edge,
    };
    let joined = Joined {
        cluster: ClusterId([0xAB; 16]),
        generation: 1,
        start_min: 9,
        authority: vec![0x30, 1],
        authority_key: Secret(vec![0x30, 2]),
        certificate: vec![0x30, 3],
        members: members(),
    };
    let refusal = Refusal {
        code: RefusalCode::NotLeader,
        text: "node 3 does not lead".into(),
        instead: "one:7000".into(),
    };
    let begin = SnapshotBegin { id: 4, index: 100, term: 7, bytes: 300_000, checksum: 0x1122 };
    let chunk = SnapshotChunk { id: 4, number: 1, content: Bytes::from_static(b"piece") };
    let ack = |state| Frame::SnapshotAck(SnapshotAck { id: 4, next: 2, state });
    let address = Command::Address { node: 2, address: "b:1".into(), mqtt: vec!["c:2".into()] };
    vec![
        ("hello", Frame::Hello(Box::new(hello(Lane::Bulk)))),
        ("refusal", Frame::Refusal(Box::new(refusal))),
        ("raft.append", Frame::raft(append())),
        ("raft.append_response", Frame::raft(rejected)),
        ("raft.request_vote", Frame::raft(vote)),
        ("raft.request_vote_response", heard),
        ("raft.heartbeat", Frame::raft(heartbeat)),
        ("raft.heartbeat_response", Frame::raft(message(MessageType::MsgHeartbeatResponse))),
        ("raft.timeout_now", Frame::raft(message(MessageType::MsgTimeoutNow))),
        ("raft.read_index", Frame::raft(read(MessageType::MsgReadIndex))),
        ("raft.read_index_response", Frame::raft(read(MessageType::MsgReadIndexResp))),
        ("raft.request_pre_vote", Frame::raft(message(MessageType::MsgRequestPreVote))),
        (
            "raft.request_pre_vote_response",
            Frame::raft(message(MessageType::MsgRequestPreVoteResponse)),
        ),
        (
            "forward",
            Frame::Forward(Forward { term: 7, batches: vec![closed(2).into(), closed(2).into()] }),
        ),
        ("refused.not_leader", refused(Why::NotLeader { leader: 3 })),
        ("refused.term", refused(Why::Term)),
        ("refused.full", refused(Why::Full)),
        ("refused.transfer", refused(Why::Transfer)),
        ("pulse", Frame::Pulse(Box::new(pulse))),
        ("pulse.draining", Frame::Pulse(Box::new(Pulse { gate: DRAINING | 1, ..pulse }))),
        ("pulse.leaving", Frame::Pulse(Box::new(Pulse { gate: LEAVING, ..pulse }))),
        ("pulse.away", Frame::Pulse(Box::new(Pulse { gate: AWAY, ..pulse }))),
        ("pulse.held_up", Frame::Pulse(Box::new(Pulse { gate: HELD_UP, ..pulse }))),
        ("join", Frame::Join(Box::new(join))),
        ("joined", Frame::Joined(Box::new(joined))),
        ("members", Frame::Members(Box::new(members()))),
        ("members.replacing", Frame::Members(Box::new(replacing()))),
        ("snapshot.begin", Frame::SnapshotBegin(begin)),
        ("snapshot.chunk", Frame::SnapshotChunk(chunk)),
        ("snapshot.end", Frame::SnapshotEnd(SnapshotEnd { id: 4, chunks: 2, sums: 0x5566_7788 })),
        ("snapshot.ack.receiving", ack(SnapshotState::Receiving)),
        ("snapshot.ack.importing", ack(SnapshotState::Importing)),
        ("snapshot.ack.done", ack(SnapshotState::Done)),
        ("snapshot.ack.refused", ack(SnapshotState::Refused)),
        ("command.remove", command(Command::Remove { node: 3 })),
        ("command.promote", command(Command::Promote { node: 3 })),
        ("command.transfer", command(Command::Transfer { to: 3 })),
        ("command.readmit", command(Command::Readmit { node: 2, joined: 90 })),
        ("command.address", command(address)),
        ("command.demote", command(Command::Demote { node: 3 })),
        ("command.drain", command(Command::Drain { node: 3 })),
        ("command.undrain", command(Command::Undrain { node: 3 })),
        ("answer.done", answer(Answer::Done)),
        ("answer.refused", answer(Answer::Refused { text: "no voter would be left".into() })),
        ("answer.not_leader", answer(Answer::NotLeader { leader: 1 })),
        ("answer.unsettled", answer(Answer::Unsettled { text: "is there a quorum?".into() })),
    ]
}

pub(super) fn encoded(frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes).expect("a frame that can be sent");
    bytes
}

/// The lane on which a decoder waits for the frame.
pub(super) fn lane(frame: &Frame) -> Option<Lane> {
    (!matches!(frame, Frame::Hello(_))).then(|| frame.lane())
}
