//! Messages of raft.
//!
//! Body: type (8 bits, raft's number), reject (8 bits), then to, from, term, log term, index,
//! commit, commit term, request for a snapshot, reject hint, priority (64 bits each), context
//! behind its length (16 bits), count of entries (32 bits). Each entry: kind (8 bits, raft's number),
//! length of the data (32 bits), index, term (64 bits each), data. With flag 1 the highest log time
//! that a voter has heard of (64 bits) comes last.
//!
//! raft-rs trusts its peers: it panics on what cannot be. So whatever it would not send is refused
//! here.

use bytes::Bytes;
use ledgermq_core::offset::Timestamp;
use raft::eraftpb::{Entry, EntryType, Message, MessageType};

use super::FrameError;
use super::fields::{Reader, put_bytes, put_numbers};
use crate::cluster::conf_change;
use crate::committed::CommittedBatch;

/// Flag: the log time is there.
pub(super) const HAS_HEARD: u16 = 1;
/// Bytes of an entry without its data.
const ENTRY_HEAD: usize = 21;
/// Longer than what raft and we write there: `CampaignTransfer`, or the number of a read.
const CONTEXT_BYTES_MAX: usize = 64;
/// Terms and indexes stay below, so that no arithmetic on them overflows.
const NUMBER_MAX: u64 = 1 << 62;
/// Bytes of a request to read.
const READ_BYTES: usize = 8;

pub(super) fn encode(
    message: &Message,
    heard: Option<Timestamp>,
    out: &mut Vec<u8>,
) -> Result<(), FrameError> {
    const TOO_LONG: FrameError = FrameError::Content("is too long");
    check_type(message.msg_type)?;
    out.push(type_code(message.msg_type));
    out.push(u8::from(message.reject));
    put_numbers(out, &[message.to, message.from, message.term, message.log_term, message.index]);
    put_numbers(out, &[message.commit, message.commit_term, message.request_snapshot]);
    put_numbers(out, &[message.reject_hint]);
    out.extend_from_slice(&message.priority.to_le_bytes());
    if message.context.len() > CONTEXT_BYTES_MAX {
        return Err(FrameError::Content("has a context that is too long"));
    }
    put_bytes(out, &message.context, CONTEXT_BYTES_MAX);
    let count = u32::try_from(message.entries.len()).map_err(|_| TOO_LONG)?;
    out.extend_from_slice(&count.to_le_bytes());
    for entry in &message.entries {
        out.push(match entry.entry_type {
            EntryType::EntryNormal => 0,
            EntryType::EntryConfChange => 1,
            EntryType::EntryConfChangeV2 => 2,
        });
        let length = u32::try_from(entry.data.len()).map_err(|_| TOO_LONG)?;
        out.extend_from_slice(&length.to_le_bytes());
        put_numbers(out, &[entry.index, entry.term]);
        out.extend_from_slice(&entry.data);
    }
    if let Some(heard) = heard {
        put_numbers(out, &[heard.0]);
    }
    Ok(())
}

pub(super) fn decode(body: &[u8], flags: u16) -> Result<(Message, Option<Timestamp>), FrameError> {
    let mut reader = Reader::new(body);
    let code = reader.u8()?;
    let mut message = Message::new();
    message.msg_type = TYPES
        .into_iter()
        .find(|kind| type_code(*kind) == code)
        .ok_or(FrameError::Content("is a message of raft that is not sent"))?;
    message.reject = reader.bool()?;
    message.to = reader.u64()?;
    message.from = reader.u64()?;
    message.term = reader.u64()?;
    message.log_term = reader.u64()?;
    message.index = reader.u64()?;
    message.commit = reader.u64()?;
    message.commit_term = reader.u64()?;
    message.request_snapshot = reader.u64()?;
    message.reject_hint = reader.u64()?;
    message.priority = i64::from_le_bytes(reader.array()?);
    check_head(&message)?;
    message.context = Bytes::copy_from_slice(reader.bytes(CONTEXT_BYTES_MAX)?);
    let count = reader.u32()? as usize;
    check_count(message.msg_type, count, reader.left())?;
    message.entries = entries(&mut reader, &message, count)?.into();
    let mut heard = None;
    if flags & HAS_HEARD != 0 {
        if !is_vote(message.msg_type) {
            return Err(FrameError::Content("has a time where none belongs"));
        }
        heard = Some(Timestamp(reader.u64()?));
    }
    reader.end()?;
    Ok((message, heard))
}

/// What peers send each other. Not among them: local messages, which would be taken for the
/// receiver's own; proposals and wishes for a transfer, which raft would obey; snapshots.
const TYPES: [MessageType; 11] = [
    MessageType::MsgAppend,
    MessageType::MsgAppendResponse,
    MessageType::MsgRequestVote,
    MessageType::MsgRequestVoteResponse,
    MessageType::MsgHeartbeat,
    MessageType::MsgHeartbeatResponse,
    MessageType::MsgTimeoutNow,
    MessageType::MsgReadIndex,
    MessageType::MsgReadIndexResp,
    MessageType::MsgRequestPreVote,
    MessageType::MsgRequestPreVoteResponse,
];

fn check_type(kind: MessageType) -> Result<(), FrameError> {
    match TYPES.contains(&kind) {
        true => Ok(()),
        false => Err(FrameError::Content("is a message of raft that is not sent")),
    }
}

/// Raft's number of the type.
fn type_code(kind: MessageType) -> u8 {
    u8::try_from(kind as i32).expect("raft has few types of messages")
}

fn is_vote(kind: MessageType) -> bool {
    matches!(kind, MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse)
}

fn is_read(kind: MessageType) -> bool {
    matches!(kind, MessageType::MsgReadIndex | MessageType::MsgReadIndexResp)
}

fn check_head(message: &Message) -> Result<(), FrameError> {
    let check = |holds: bool, what| if holds { Ok(()) } else { Err(FrameError::Content(what)) };
    check(message.to != 0 && message.from != 0, "is to or from nobody")?;
    // A message without a term is a local one, but for this one, which raft sends so.
    let is_without = message.msg_type == MessageType::MsgReadIndex;
    check((message.term == 0) == is_without, "has a term that cannot be")?;
    let numbers = [
        message.term,
        message.log_term,
        message.index,
        message.commit,
        message.commit_term,
        message.reject_hint,
    ];
    check(numbers.iter().all(|number| *number < NUMBER_MAX), "has a number that cannot be")?;
    let is_append = message.msg_type == MessageType::MsgAppend;
    check(!is_append || message.log_term <= message.term, "has entries of terms that cannot be")?;
    check(message.request_snapshot == 0, "asks for a snapshot in a way that is not used")
}

fn check_count(kind: MessageType, count: usize, left: usize) -> Result<(), FrameError> {
    if count > left / ENTRY_HEAD {
        return Err(FrameError::Content("announces more entries than it holds"));
    }
    let is_right = match kind {
        MessageType::MsgAppend => true,
        kind if is_read(kind) => count == 1,
        _ => count == 0,
    };
    if is_right { Ok(()) } else { Err(FrameError::Content("has entries where none belong")) }
}

/// The entries, each with memory of its own: rings and caches keep them one by one.
fn entries(
    reader: &mut Reader<'_>,
    message: &Message,
    count: usize,
) -> Result<Vec<Entry>, FrameError> {
    let mut entries = Vec::with_capacity(count);
    let (mut index, mut term) = (message.index, message.log_term);
    for _ in 0..count {
        let kind = reader.u8()?;
        let length = reader.u32()? as usize;
        let mut entry = Entry::new();
        (entry.index, entry.term) = (reader.u64()?, reader.u64()?);
        let data = reader.slice(length)?;
        if is_read(message.msg_type) {
            if kind != 0 || length != READ_BYTES || entry.index != 0 || entry.term != 0 {
                return Err(FrameError::Content("has no request to read"));
            }
            entry.data = Bytes::copy_from_slice(data);
        } else {
            if entry.index != index + 1 {
                return Err(FrameError::Content("has entries with a gap"));
            }
            if entry.term == 0 || entry.term < term || entry.term > message.term {
                return Err(FrameError::Content("has entries of terms that cannot be"));
            }
            (index, term) = (entry.index, entry.term);
            entry.data = Bytes::copy_from_slice(data);
            entry.set_entry_type(check_entry(kind, &entry)?);
        }
        entries.push(entry);
    }
    Ok(entries)
}

fn check_entry(kind: u8, entry: &Entry) -> Result<EntryType, FrameError> {
    match kind {
        0 => {
            if !entry.data.is_empty() {
                CommittedBatch::open(entry.index, entry.data.clone(), true)
                    .map_err(|error| FrameError::Content(error.0))?;
            }
            Ok(EntryType::EntryNormal)
        }
        2 => {
            conf_change::decode(&entry.data).map_err(|error| FrameError::Content(error.0))?;
            Ok(EntryType::EntryConfChangeV2)
        }
        _ => Err(FrameError::Content("has an entry of an unknown kind")),
    }
}
