//! Wishes that the leader fulfils, or the node that they are for.

use ledgermq_core::offset::Index;

use super::FrameError;
use super::fields::{Reader, put_addresses, put_numbers, put_text};
use crate::cluster::members::ADDRESS_BYTES_MAX;

const TEXT_BYTES_MAX: usize = 512;

/// What is to be done, by the leader if nothing else is said.
///
/// Body: id (64 bits), which (8 bits), node (64 bits), then for 4 the index of its admission (64 bits), for 5
/// the address and the list of addresses for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// 1: let a node leave for ever.
    Remove {
        /// The node.
        node: u64,
    },
    /// 2: give a learner a vote.
    Promote {
        /// The node.
        node: u64,
    },
    /// 3: hand leadership over.
    Transfer {
        /// To whom.
        to: u64,
    },
    /// 4: take a node whose log is not what it promised out of raft, and in again.
    Readmit {
        /// The node.
        node: u64,
        /// Index of the change that let it in, as far as it knows: a later one is the answer.
        joined: Index,
    },
    /// 5: a node is reached elsewhere.
    Address {
        /// The node.
        node: u64,
        /// Where other nodes reach it.
        address: String,
        /// Where clients reach it.
        mqtt: Vec<String>,
    },
    /// 6: take a voter's vote.
    Demote {
        /// The node.
        node: u64,
    },
    /// 7: to the node itself, leader or not: let no new clients in, and lead no more.
    Drain {
        /// The node.
        node: u64,
    },
    /// 8: to the node itself: that is over.
    Undrain {
        /// The node.
        node: u64,
    },
}

impl Command {
    pub(super) fn encode(&self, id: u64, out: &mut Vec<u8>) {
        let (which, node) = match self {
            Self::Remove { node } => (1, node),
            Self::Promote { node } => (2, node),
            Self::Transfer { to } => (3, to),
            Self::Readmit { node, .. } => (4, node),
            Self::Address { node, .. } => (5, node),
            Self::Demote { node } => (6, node),
            Self::Drain { node } => (7, node),
            Self::Undrain { node } => (8, node),
        };
        put_numbers(out, &[id]);
        out.push(which);
        put_numbers(out, &[*node]);
        match self {
            Self::Readmit { joined, .. } => put_numbers(out, &[*joined]),
            Self::Address { address, mqtt, .. } => {
                put_text(out, address, ADDRESS_BYTES_MAX);
                put_addresses(out, mqtt);
            }
            Self::Remove { .. }
            | Self::Promote { .. }
            | Self::Transfer { .. }
            | Self::Demote { .. }
            | Self::Drain { .. }
            | Self::Undrain { .. } => {}
        }
    }

    pub(super) fn decode(body: &[u8]) -> Result<(u64, Self), FrameError> {
        let mut reader = Reader::new(body);
        let id = reader.u64()?;
        let (which, node) = (reader.u8()?, reader.u64()?);
        if node == 0 {
            return Err(FrameError::Content("commands something of no node"));
        }
        let command = match which {
            1 => Self::Remove { node },
            2 => Self::Promote { node },
            3 => Self::Transfer { to: node },
            4 => Self::Readmit { node, joined: reader.u64()? },
            5 => Self::Address { node, address: reader.address()?, mqtt: reader.addresses()? },
            6 => Self::Demote { node },
            7 => Self::Drain { node },
            8 => Self::Undrain { node },
            _ => return Err(FrameError::Content("is an unknown command")),
        };
        reader.end()?;
        Ok((id, command))
    }
}

/// What became of a command.
///
/// Body: id (64 bits), which (8 bits), then for 2 and 4 a text behind its length (16 bits), for 3 the
/// leader (64 bits).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 1: it is done: the log has it.
    Done,
    /// 2: it cannot be done.
    Refused {
        /// Why, for people.
        text: String,
    },
    /// 3: this node does not lead.
    NotLeader {
        /// Who does; 0 if that is not known.
        leader: u64,
    },
    /// 4: it was not done, or it is not known whether it was: whoever asked may look, and ask again.
    Unsettled {
        /// Why, for people.
        text: String,
    },
}

impl Answer {
    pub(super) fn encode(&self, id: u64, out: &mut Vec<u8>) {
        put_numbers(out, &[id]);
        match self {
            Self::Done => out.push(1),
            Self::Refused { text } => {
                out.push(2);
                put_text(out, text, TEXT_BYTES_MAX);
            }
            Self::NotLeader { leader } => {
                out.push(3);
                put_numbers(out, &[*leader]);
            }
            Self::Unsettled { text } => {
                out.push(4);
                put_text(out, text, TEXT_BYTES_MAX);
            }
        }
    }

    pub(super) fn decode(body: &[u8]) -> Result<(u64, Self), FrameError> {
        let mut reader = Reader::new(body);
        let id = reader.u64()?;
        let answer = match reader.u8()? {
            1 => Self::Done,
            2 => Self::Refused { text: reader.text(TEXT_BYTES_MAX)? },
            3 => Self::NotLeader { leader: reader.u64()? },
            4 => Self::Unsettled { text: reader.text(TEXT_BYTES_MAX)? },
            _ => return Err(FrameError::Content("is an unknown answer")),
        };
        reader.end()?;
        Ok((id, answer))
    }
}
