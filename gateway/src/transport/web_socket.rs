//! MQTT over WebSocket, without a socket: the request that opens it, then frames.
//!
//! What a client sends is unmasked where it lies. What we send is not copied either: a frame's head
//! goes in front of the connection's output, and the frame is as long as that is at the moment.

mod frames;
mod origins;
mod upgrade;

#[cfg(test)]
mod tests;

pub use frames::{CONTROL_BYTES_MAX, CloseCode, Decoded, Decoder, Ended};
pub use origins::Origins;
pub use upgrade::{HEAD_BYTES_MAX, PATH, Refusal, SUBPROTOCOL, judge};

use std::ops::Range;

/// The smallest bound of a frame: clients put many small packets into one.
const FRAME_BYTES_MIN: u64 = 64 << 10;

/// One connection's WebSocket.
#[derive(Debug)]
pub struct WebSocket {
    stage: Stage,
    decoder: Decoder,
    /// Bytes of the output that belong to the frame begun last.
    frame_left: usize,
    /// What is to be sent between two frames: the answer to the request, or a Close frame.
    reply: Vec<u8>,
}

#[derive(Debug)]
enum Stage {
    /// The request has come so far; it may come from pages of those origins.
    Upgrading(Vec<u8>, Origins),
    Open,
    /// A Close frame or a refusal was put into the reply; nothing is taken or sent after it.
    Closing,
}

/// What came of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Where in the buffer the payload stands.
    pub payload: Range<usize>,
    /// How it ended, if it did.
    pub ended: Option<End>,
}

/// How a WebSocket ends from the client's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With a Close frame.
    Closed,
    /// The client broke a rule, or asked for something else.
    Refused,
}

impl WebSocket {
    /// Waits for the request. `packet_bytes_max` bounds a frame too.
    #[must_use]
    pub fn new(packet_bytes_max: u64, origins: Origins) -> Self {
        Self {
            stage: Stage::Upgrading(Vec::new(), origins),
            decoder: Decoder::new(packet_bytes_max.max(FRAME_BYTES_MIN)),
            frame_left: 0,
            reply: Vec::new(),
        }
    }

    /// The request was answered elsewhere.
    #[must_use]
    pub fn upgraded(packet_bytes_max: u64) -> Self {
        Self { stage: Stage::Open, ..Self::new(packet_bytes_max, Origins::Any) }
    }

    /// Takes bytes as they came.
    pub fn receive(&mut self, bytes: &mut [u8]) -> Received {
        let from = match &mut self.stage {
            Stage::Upgrading(..) => match self.take_head(bytes) {
                Ok(Some(from)) => from,
                Ok(None) => return Received { payload: 0..0, ended: None },
                Err(end) => return Received { payload: 0..0, ended: Some(end) },
            },
            Stage::Open => 0,
            Stage::Closing => return Received { payload: 0..0, ended: Some(End::Closed) },
        };
        let decoded = self.decoder.decode(&mut bytes[from..]);
        let ended = decoded.ended.map(|ended| {
            let (code, end) = match ended {
                Ended::ByClient(code) => (code, End::Closed),
                Ended::Violation(code) => (Some(code), End::Refused),
            };
            self.close(code);
            end
        });
        Received { payload: from..from + decoded.payload, ended }
    }

    /// Takes bytes of the request; says where in `bytes` it ended, once it has.
    fn take_head(&mut self, bytes: &[u8]) -> Result<Option<usize>, End> {
        let Stage::Upgrading(head, origins) = &mut self.stage else { return Ok(Some(0)) };
        let before = head.len();
        let part = bytes.len().min(HEAD_BYTES_MAX + 1 - before);
        // To the byte: this is what a slow client costs.
        head.reserve_exact(part);
        head.extend_from_slice(&bytes[..part]);
        let upgrade::Head::Whole(length, answer) = upgrade::read(head, origins) else {
            return Ok(None);
        };
        match answer {
            Ok(accept) => {
                self.reply = upgrade::switching(&accept);
                self.stage = Stage::Open;
                Ok(Some(length - before))
            }
            Err(refusal) => {
                self.reply = upgrade::refusing(&refusal);
                self.stage = Stage::Closing;
                Err(End::Refused)
            }
        }
    }

    /// Whether output can be sent: not before the request was answered, nor after the end.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open)
    }

    /// Queues a Close frame, unless the client has got one or a refusal.
    pub fn close(&mut self, code: Option<CloseCode>) {
        if self.is_open() {
            frames::close(code, &mut self.reply);
        }
        self.stage = Stage::Closing;
    }

    /// Whether there is something to be sent besides output.
    #[must_use]
    pub fn has_reply(&self) -> bool {
        !self.reply.is_empty() || (self.is_open() && self.decoder.has_ping())
    }

    /// Whether a frame of ours was begun whose end was not sent.
    #[must_use]
    pub fn is_within_frame(&self) -> bool {
        self.frame_left > 0
    }

    /// Writes into `out` what is to be sent before the next bytes of an output of `length` bytes,
    /// and says how many of these follow it.
    pub fn begin(&mut self, length: usize, out: &mut Vec<u8>) -> usize {
        if self.frame_left > 0 {
            return self.frame_left.min(length);
        }
        let is_open = self.is_open();
        if is_open && let Some(ping) = self.decoder.take_ping() {
            frames::pong(&ping, &mut self.reply);
        }
        out.append(&mut std::mem::take(&mut self.reply));
        if is_open && length > 0 {
            frames::binary_head(length, out);
            self.frame_left = length;
        }
        self.frame_left
    }

    /// So many bytes of the output were sent.
    pub fn sent(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.frame_left, "only the frame that was begun is sent");
        self.frame_left -= bytes;
    }
}
