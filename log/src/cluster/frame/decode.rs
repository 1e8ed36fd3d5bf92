//! Frames out of the bytes of a connection.

use super::forward::{Forward, Refused};
use super::greeting::{Hello, Refusal};
use super::joining::{self, Join, Joined};
use super::order::{Answer, Command};
use super::pulse::Pulse;
use super::snapshot::{SnapshotAck, SnapshotBegin, SnapshotChunk, SnapshotEnd};
use super::{Frame, FrameError, GREETING_BYTES_MAX, HEAD, Lane, VERSION, message};

/// The first frame of `bytes` and its length; none if there is more to come. Before the lane of a
/// connection is known, only a greeting, a request to join or a refusal can come.
///
/// # Errors
///
/// If there can be no frame, or one that no honest node sends. The connection must be closed.
pub fn split(bytes: &[u8], lane: Option<Lane>) -> Result<Option<(Frame, usize)>, FrameError> {
    let Some(length) = bytes.first_chunk::<4>() else { return Ok(None) };
    let length = (u32::from_le_bytes(*length) as usize).saturating_add(8);
    let max = lane.map_or(GREETING_BYTES_MAX, Lane::frame_bytes_max);
    if length > max {
        return Err(FrameError::TooLong { bytes: length, max });
    }
    if length < HEAD {
        return Err(FrameError::TooShort);
    }
    let Some(frame) = bytes.get(..length) else { return Ok(None) };
    let (head, checked) = frame.split_at(8);
    if crc32c::crc32c(checked).to_le_bytes() != head[4..] {
        return Err(FrameError::Checksum);
    }
    let frame = decode(checked)?;
    let fits = match lane {
        Some(lane) => frame.is_for(lane),
        None => matches!(frame, Frame::Hello(_) | Frame::Join(_) | Frame::Refusal(_)),
    };
    if !fits {
        return Err(FrameError::Misplaced { kind: frame.kind() });
    }
    Ok(Some((frame, length)))
}

/// A frame behind its length and checksum.
fn decode(bytes: &[u8]) -> Result<Frame, FrameError> {
    let (head, body) = bytes.split_first_chunk::<4>().ok_or(FrameError::TooShort)?;
    let [kind, version, ..] = *head;
    let flags = u16::from_le_bytes([head[2], head[3]]);
    let unknown = FrameError::Unknown { kind, version, flags };
    let flags_known = if kind == 10 { message::HAS_HEARD } else { 0 };
    if version != VERSION || flags & !flags_known != 0 {
        return Err(unknown);
    }
    Ok(match kind {
        1 => Frame::Hello(Box::new(Hello::decode(body)?)),
        2 => Frame::Refusal(Box::new(Refusal::decode(body)?)),
        10 => {
            let (message, heard) = message::decode(body, flags)?;
            Frame::Raft { message: Box::new(message), heard }
        }
        11 => Frame::Forward(Forward::decode(body)?),
        12 => Frame::Refused(Refused::decode(body)?),
        13 => Frame::Pulse(Box::new(Pulse::decode(body)?)),
        20 => Frame::Join(Box::new(Join::decode(body)?)),
        21 => Frame::Joined(Box::new(Joined::decode(body)?)),
        22 => Frame::Members(Box::new(joining::members(body)?)),
        30 => Frame::SnapshotBegin(SnapshotBegin::decode(body)?),
        31 => Frame::SnapshotChunk(SnapshotChunk::decode(body)?),
        32 => Frame::SnapshotEnd(SnapshotEnd::decode(body)?),
        33 => Frame::SnapshotAck(SnapshotAck::decode(body)?),
        40 => {
            let (id, command) = Command::decode(body)?;
            Frame::Command { id, command }
        }
        41 => {
            let (id, answer) = Answer::decode(body)?;
            Frame::Answer { id, answer }
        }
        _ => return Err(unknown),
    })
}

/// The receive buffer of a connection.
///
/// It holds at most one unfinished frame and what was read behind it.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// What is before was decoded.
    start: usize,
    lane: Option<Lane>,
}

/// A buffer that grew beyond this for one frame is given back afterwards.
const KEPT_BYTES: usize = 256 << 10;

impl Decoder {
    /// The decoder of a lane; without one it waits for a greeting.
    #[must_use]
    pub fn new(lane: Option<Lane>) -> Self {
        Self { bytes: Vec::new(), start: 0, lane }
    }

    /// From the next frame on, `lane` is spoken.
    pub fn set_lane(&mut self, lane: Lane) {
        self.lane = Some(lane);
    }

    /// Takes what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.compact();
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame and its length in bytes.
    ///
    /// # Errors
    ///
    /// As [`split`]; the connection must be closed.
    pub fn next_frame(&mut self) -> Result<Option<(Frame, usize)>, FrameError> {
        let split = split(&self.bytes[self.start..], self.lane)?;
        if let Some((_, length)) = &split {
            self.start += length;
        }
        Ok(split)
    }

    /// Bytes that wait for the rest of their frame.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether bytes wait that may be a whole frame.
    #[must_use]
    pub fn has_frame(&self) -> bool {
        let rest = &self.bytes[self.start..];
        let length = rest.first_chunk::<4>().map(|length| u32::from_le_bytes(*length) as usize);
        length.is_some_and(|length| rest.len() >= length.saturating_add(8))
    }

    /// Whether what waits begins as a handshake of TLS does.
    #[must_use]
    pub fn looks_like_tls(&self) -> bool {
        self.bytes[self.start..].starts_with(&[0x16, 0x03])
    }

    fn compact(&mut self) {
        if self.start == 0 {
            return;
        }
        self.bytes.drain(..self.start);
        self.start = 0;
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT_BYTES {
            self.bytes = Vec::new();
        }
    }
}
