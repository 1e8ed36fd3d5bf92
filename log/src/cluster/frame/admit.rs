//! What of a frame's content depends on who sent it, and to whom.

use ledgermq_core::offset::Index;
use raft::eraftpb::{Message, MessageType};

use super::{Command, Frame};
use crate::envelope;

/// A frame that its sender may not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmitError {
    /// For somebody else, or in the name of somebody else.
    #[error("a message from {from} to {to}, where {peer} speaks to {me}")]
    Addressed {
        /// From whom it claims to be.
        from: u64,
        /// To whom.
        to: u64,
        /// Who sent it.
        peer: u64,
        /// Who got it.
        me: u64,
    },
    /// A batch that another node built.
    #[error("node {peer} forwards a batch of node {node}")]
    Foreign {
        /// Who built it.
        node: u64,
        /// Who sent it.
        peer: u64,
    },
    /// A node speaks about another one's log.
    #[error("node {peer} asks to re-admit node {node}")]
    Readmit {
        /// Whom.
        node: u64,
        /// Who asks.
        peer: u64,
    },
    /// A frame that does not belong into a session of two members.
    #[error("a greeting, or a request to join, amid a session")]
    Misplaced,
}

/// Whether `peer` may say that to `me`.
///
/// # Errors
///
/// Why not; the connection must be closed.
pub fn admit(frame: &Frame, me: u64, peer: u64) -> Result<(), AdmitError> {
    match frame {
        Frame::Raft { message, .. } => {
            if message.to != me || message.from != peer {
                let (from, to) = (message.from, message.to);
                return Err(AdmitError::Addressed { from, to, peer, me });
            }
            Ok(())
        }
        Frame::Forward(forward) => {
            for batch in &forward.batches {
                // What cannot be opened was refused when it was decoded.
                let node = envelope::node_of(batch);
                if node != peer {
                    return Err(AdmitError::Foreign { node, peer });
                }
            }
            Ok(())
        }
        Frame::Command { command: Command::Readmit { node, .. }, .. } if *node != peer => {
            Err(AdmitError::Readmit { node: *node, peer })
        }
        Frame::Hello(_) | Frame::Join(_) | Frame::Joined(_) => Err(AdmitError::Misplaced),
        Frame::Refusal(_)
        | Frame::Refused(_)
        | Frame::Pulse(_)
        | Frame::Members(_)
        | Frame::SnapshotBegin(_)
        | Frame::SnapshotChunk(_)
        | Frame::SnapshotEnd(_)
        | Frame::SnapshotAck(_)
        | Frame::Command { .. }
        | Frame::Answer { .. } => Ok(()),
    }
}

/// Whether raft can bear `message` when the own log ends at `last`. If not, either the peer is
/// mistaken or this log is shorter than what it acknowledged; raft would panic.
#[must_use]
pub fn fits_log(message: &Message, last: Index) -> bool {
    match message.msg_type {
        // "to commit .. is out of range".
        MessageType::MsgHeartbeat => message.commit <= last,
        // What I have not sent cannot have been received.
        MessageType::MsgAppendResponse => message.reject || message.index <= last,
        _ => true,
    }
}
