//! The first frame on a lane, and the last.

use ledgermq_core::offset::Index;

use super::fields::{Reader, put_numbers, put_text};
use super::{FrameError, Lane};
use crate::cluster::identity::ClusterId;
use crate::cluster::members::ADDRESS_BYTES_MAX;

/// The version of what nodes say to each other.
pub const PROTOCOL: u16 = 1;
const VERSION_BYTES_MAX: usize = 64;
const TEXT_BYTES_MAX: usize = 512;

/// Who speaks, and how far its log reaches. Sent first on each lane by both ends.
///
/// | bytes | content |
/// |---|---|
/// | 0..2 | protocol; what follows holds for protocol 1 |
/// | 2 | lane: 1 log, 2 pulse, 3 bulk |
/// | 3..19 | cluster |
/// | 19..35 | process |
/// | 35..43, 43..51, 51..59, 59..67 | session, generation, node, start |
/// | 67..75, 75..83 | last entry: index, term |
/// | 83..91, 91..99, 99..107, 107..115 | commit, acknowledged by you, first entry, last change of members |
/// | 115.. | version and address, each behind its length (16 bits) |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The lane that this connection is to be.
    pub lane: Lane,
    /// The sender's cluster.
    pub cluster: ClusterId,
    /// A random number of the sender's process: two processes never have the same.
    pub boot: u128,
    /// Lanes of one dialling belong together: the dialler counts, the other repeats it.
    pub session: u64,
    /// Which life of the cluster.
    pub generation: u64,
    /// The sender.
    pub node: u64,
    /// Its start epoch.
    pub start: u64,
    /// Index and term of its last durable entry.
    pub last: (Index, u64),
    /// What it knows to be committed.
    pub commit: Index,
    /// First entry of its log.
    pub first: Index,
    /// Index of the last change of the membership that it has applied.
    pub members_index: Index,
    /// Its version, for people.
    pub version: String,
    /// Where it is reached.
    pub address: String,
}

impl Hello {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&PROTOCOL.to_le_bytes());
        out.push(self.lane.code());
        out.extend_from_slice(&self.cluster.0);
        out.extend_from_slice(&self.boot.to_le_bytes());
        put_numbers(out, &[self.session, self.generation, self.node, self.start]);
        put_numbers(out, &[self.last.0, self.last.1]);
        put_numbers(out, &[self.commit, self.first, self.members_index]);
        put_text(out, &self.version, VERSION_BYTES_MAX);
        put_text(out, &self.address, ADDRESS_BYTES_MAX);
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, FrameError> {
        let mut reader = Reader::new(body);
        let theirs = reader.u16()?;
        if theirs != PROTOCOL {
            return Err(FrameError::Protocol { theirs });
        }
        let lane = Lane::from_code(reader.u8()?);
        let lane = lane.ok_or(FrameError::Content("greets on an unknown lane"))?;
        let hello = Self {
            lane,
            cluster: ClusterId(reader.array()?),
            boot: u128::from_le_bytes(reader.array()?),
            session: reader.u64()?,
            generation: reader.u64()?,
            node: reader.u64()?,
            start: reader.u64()?,
            last: (reader.u64()?, reader.u64()?),
            commit: reader.u64()?,
            first: reader.u64()?,
            members_index: reader.u64()?,
            version: reader.text(VERSION_BYTES_MAX)?,
            address: reader.address()?,
        };
        if hello.node == 0 {
            return Err(FrameError::Content("greets without a node"));
        }
        reader.end()?;
        Ok(hello)
    }
}

/// Why a connection ends, for programs. Codes that are not known read as [`Self::Other`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalCode {
    /// See the text.
    Other,
    /// Another version of what nodes say to each other.
    Protocol,
    /// Another cluster.
    Cluster,
    /// Another life of the cluster.
    Generation,
    /// The certificate is missing, or another node's.
    Certificate,
    /// The node has left the cluster.
    Retired,
    /// No such member.
    Unknown,
    /// Another process runs as this node.
    Cloned,
    /// The node's disk is older than what it has written.
    RolledBack,
    /// There is a connection already, or there are too many.
    Busy,
    /// A frame that cannot be.
    Malformed,
    /// The token, or the request to join, does not let in.
    Join,
    /// Somebody else must be asked.
    NotLeader,
    /// The node stops.
    Stopping,
}

const CODES: [RefusalCode; 14] = [
    RefusalCode::Other,
    RefusalCode::Protocol,
    RefusalCode::Cluster,
    RefusalCode::Generation,
    RefusalCode::Certificate,
    RefusalCode::Retired,
    RefusalCode::Unknown,
    RefusalCode::Cloned,
    RefusalCode::RolledBack,
    RefusalCode::Busy,
    RefusalCode::Malformed,
    RefusalCode::Join,
    RefusalCode::NotLeader,
    RefusalCode::Stopping,
];

/// Why a connection ends: code (8 bits), text and address to ask instead, each behind its length
/// (16 bits). Its form is the same in all protocols.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// For programs.
    pub code: RefusalCode,
    /// For people.
    pub text: String,
    /// Where to ask instead; empty if that is not known.
    pub instead: String,
}

impl Refusal {
    /// A refusal that names nobody else to ask.
    #[must_use]
    pub fn new(code: RefusalCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), instead: String::new() }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let code = CODES.iter().position(|code| *code == self.code);
        out.push(code.and_then(|code| u8::try_from(code).ok()).unwrap_or_default());
        put_text(out, &self.text, TEXT_BYTES_MAX);
        put_text(out, &self.instead, ADDRESS_BYTES_MAX);
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, FrameError> {
        let mut reader = Reader::new(body);
        let code = CODES.get(usize::from(reader.u8()?)).copied().unwrap_or(RefusalCode::Other);
        let refusal = Self { code, text: reader.text(TEXT_BYTES_MAX)?, instead: reader.address()? };
        reader.end()?;
        Ok(refusal)
    }
}
