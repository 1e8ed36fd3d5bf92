//! What nodes say to each other: frames, and the lanes on which they travel.
//!
//! | bytes | content |
//! |---|---|
//! | 0..4 | length of what follows the checksum |
//! | 4..8 | CRC32C of it |
//! | 8 | kind |
//! | 9 | version, 1 |
//! | 10..12 | flags |
//! | 12.. | body |
//!
//! All numbers are little endian; the bodies are laid out in the files of `frame/`. Whatever a peer
//! sends is checked while it is decoded, as far as that needs no state of the receiver: raft-rs and
//! the fold panic on what cannot be. What needs to know who is who is in [`admit`].

mod admit;

mod decode;
mod fields;
mod forward;
mod greeting;
mod joining;
mod message;
mod order;
mod pulse;
mod snapshot;

#[cfg(test)]
mod tests;

use std::fmt;

use ledgermq_core::offset::Timestamp;
use raft::eraftpb::{Message, MessageType};

use crate::cluster::members::Members;

pub use admit::{AdmitError, admit, fits_log};
pub use decode::{Decoder, split};
pub use forward::{Forward, Refused, Why};
pub use greeting::{Hello, PROTOCOL, Refusal, RefusalCode};
pub use joining::{Join, Joined, Secret};
pub use order::{Answer, Command};
pub use pulse::{AWAY, DRAINING, HELD_UP, LEAVING, Pulse};
pub use snapshot::{SnapshotAck, SnapshotBegin, SnapshotChunk, SnapshotEnd, SnapshotState};

/// Bytes in front of a frame's body.
pub const HEAD: usize = 12;
const VERSION: u8 = 1;
/// Bytes of the first frame on a connection, at most.
pub const GREETING_BYTES_MAX: usize = 16 << 10;

/// One of the connections between two nodes. A full one does not hold up the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Entries on their way to followers, forwarded batches on theirs to the leader.
    Log,
    /// What must not wait: heartbeats and votes.
    Pulse,
    /// Joining, commands, snapshots.
    Bulk,
}

impl Lane {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Log, Self::Pulse, Self::Bulk];

    /// Bytes of a frame, at most.
    #[must_use]
    pub const fn frame_bytes_max(self) -> usize {
        match self {
            // 1 MiB of entries, or one larger message alone.
            Self::Log => 20 << 20,
            Self::Pulse => 64 << 10,
            Self::Bulk => 320 << 10,
        }
    }

    /// Bytes that may wait to be sent; one larger frame may wait alone.
    #[must_use]
    pub const fn send_bytes_max(self) -> usize {
        match self {
            Self::Log => 8 << 20,
            Self::Pulse => 256 << 10,
            Self::Bulk => 1 << 20,
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::Log => 1,
            Self::Pulse => 2,
            Self::Bulk => 3,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| lane.code() == code)
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Log => "log",
            Self::Pulse => "pulse",
            Self::Bulk => "bulk",
        })
    }
}

/// Anything that a node says to another one.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// Who speaks: the first frame on each lane, from both ends.
    Hello(Box<Hello>),
    /// Why the connection ends.
    Refusal(Box<Refusal>),
    /// A message of raft. Snapshots never travel in one.
    Raft {
        /// The message.
        message: Box<Message>,
        /// In answers to vote requests: the highest log time that the voter has heard of.
        heard: Option<Timestamp>,
    },
    /// Batches for the leader to propose.
    Forward(Forward),
    /// The leader did not take forwarded batches.
    Refused(Refused),
    /// How the sender stands.
    Pulse(Box<Pulse>),
    /// A node asks to be let in. The only frame without a certificate.
    Join(Box<Join>),
    /// It is.
    Joined(Box<Joined>),
    /// The members, for a node that has been away.
    Members(Box<Members>),
    /// The leader has a snapshot for a follower.
    SnapshotBegin(SnapshotBegin),
    /// A piece of it.
    SnapshotChunk(SnapshotChunk),
    /// All of it was sent.
    SnapshotEnd(SnapshotEnd),
    /// How its receiver stands.
    SnapshotAck(SnapshotAck),
    /// A wish of a node, or of an operator there, that the leader must fulfil.
    Command {
        /// The sender's number for it, which comes back in the answer.
        id: u64,
        /// What is wished.
        command: Command,
    },
    /// What became of a command.
    Answer {
        /// Number of the command.
        id: u64,
        /// The answer.
        answer: Answer,
    },
}

impl Frame {
    /// A message of raft without a time.
    #[must_use]
    pub fn raft(message: Message) -> Self {
        Self::Raft { message: Box::new(message), heard: None }
    }

    /// The lane on which it is sent.
    #[must_use]
    pub fn lane(&self) -> Lane {
        match self {
            Self::Hello(hello) => hello.lane,
            Self::Raft { message, .. } => match message.msg_type {
                MessageType::MsgAppend | MessageType::MsgAppendResponse => Lane::Log,
                _ => Lane::Pulse,
            },
            Self::Forward(_) => Lane::Log,
            Self::Refusal(_) | Self::Refused(_) | Self::Pulse(_) => Lane::Pulse,
            Self::Join(_)
            | Self::Joined(_)
            | Self::Members(_)
            | Self::SnapshotBegin(_)
            | Self::SnapshotChunk(_)
            | Self::SnapshotEnd(_)
            | Self::SnapshotAck(_)
            | Self::Command { .. }
            | Self::Answer { .. } => Lane::Bulk,
        }
    }

    /// Whether it may come on `lane`.
    #[must_use]
    pub fn is_for(&self, lane: Lane) -> bool {
        matches!(self, Self::Refusal(_)) || self.lane() == lane
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => 1,
            Self::Refusal(_) => 2,
            Self::Raft { .. } => 10,
            Self::Forward(_) => 11,
            Self::Refused(_) => 12,
            Self::Pulse(_) => 13,
            Self::Join(_) => 20,
            Self::Joined(_) => 21,
            Self::Members(_) => 22,
            Self::SnapshotBegin(_) => 30,
            Self::SnapshotChunk(_) => 31,
            Self::SnapshotEnd(_) => 32,
            Self::SnapshotAck(_) => 33,
            // 50 to 59 are what edge nodes are interested in.
            Self::Command { .. } => 40,
            Self::Answer { .. } => 41,
        }
    }

    /// Appends the frame to `out`. If it cannot be sent, `out` is as it was.
    ///
    /// # Errors
    ///
    /// If it is longer than its lane takes, or a message of raft that no peer would take.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        let start = out.len();
        let encoded = self.encode_open(out).and_then(|()| {
            let bytes = out.len() - start;
            let max = self.lane().frame_bytes_max();
            if bytes > max { Err(FrameError::TooLong { bytes, max }) } else { Ok(bytes) }
        });
        let bytes = encoded.inspect_err(|_| out.truncate(start))?;
        let length = u32::try_from(bytes - 8).map_err(|_| FrameError::Content("is too long"))?;
        let sum = crc32c::crc32c(&out[start + 8..]);
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
        out[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
        Ok(())
    }

    /// Writes the frame without its length and checksum.
    fn encode_open(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        let flags = match self {
            Self::Raft { heard: Some(_), .. } => message::HAS_HEARD,
            _ => 0,
        };
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&[self.kind(), VERSION]);
        out.extend_from_slice(&u16::to_le_bytes(flags));
        match self {
            Self::Hello(hello) => hello.encode(out),
            Self::Refusal(refusal) => refusal.encode(out),
            Self::Raft { message, heard } => return message::encode(message, *heard, out),
            Self::Forward(forward) => return forward.encode(out),
            Self::Refused(refused) => refused.encode(out),
            Self::Pulse(pulse) => pulse.encode(out),
            Self::Join(join) => join.encode(out),
            Self::Joined(joined) => joined.encode(out),
            Self::Members(members) => out.extend_from_slice(&members.encode()),
            Self::SnapshotBegin(begin) => begin.encode(out),
            Self::SnapshotChunk(chunk) => chunk.encode(out),
            Self::SnapshotEnd(end) => end.encode(out),
            Self::SnapshotAck(ack) => ack.encode(out),
            Self::Command { id, command } => command.encode(*id, out),
            Self::Answer { id, answer } => answer.encode(*id, out),
        }
        Ok(())
    }
}

/// Bytes that are no frame, or one that no honest node sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than the lane takes.
    #[error("a frame of {bytes} bytes, where {max} are the most")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// Shorter than a frame can be.
    #[error("a frame too short to be one")]
    TooShort,
    /// Damaged on its way.
    #[error("the checksum of a frame does not match")]
    Checksum,
    /// A kind, version or flag that is not known.
    #[error(
        "a frame of kind {kind}, version {version}, flags {flags:#06x}, which is not known here"
    )]
    Unknown {
        /// Its kind.
        kind: u8,
        /// Its version.
        version: u8,
        /// Its flags.
        flags: u16,
    },
    /// A kind that does not belong on this lane, or does not come first.
    #[error("a frame of kind {kind} where it does not belong")]
    Misplaced {
        /// Its kind.
        kind: u8,
    },
    /// A greeting of another version of what nodes say to each other.
    #[error("the other node speaks protocol {theirs}, this one speaks {PROTOCOL}")]
    Protocol {
        /// What it speaks.
        theirs: u16,
    },
    /// A body that cannot be.
    #[error("a frame that {0}")]
    Content(&'static str),
}
