//! Frames of RFC 6455: a client's are taken apart in place, ours get a head in front.

/// Payload of a control frame, at most.
pub const CONTROL_BYTES_MAX: usize = 125;
/// Longest head of a frame: two bytes, a length of eight, a mask of four.
const HEAD_BYTES_MAX: usize = 14;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// Status code of a Close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// The connection did what it was for.
    pub const NORMAL: Self = Self(1000);
    /// The peer broke the rules of the framing.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// Text, where only binary is spoken. `[MQTT-6.0.0-1]`
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// The reason in a Close frame is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// A frame longer than is taken.
    pub const TOO_BIG: Self = Self(1009);

    /// Whether a peer may send it (RFC 6455, 7.4).
    fn may_be_sent(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

/// Why no more frames are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The client sent a Close frame, with this code or none.
    ByClient(Option<CloseCode>),
    /// The client broke a rule; this is the code to tell it.
    Violation(CloseCode),
}

/// What came of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// So many bytes of payload stand at the front of the buffer now.
    pub payload: usize,
    /// Whether anything more will be taken after them.
    pub ended: Option<Ended>,
}

/// Takes a client's frames apart. The payload of data frames is one stream of bytes, wherever
/// frames begin and end. `[MQTT-6.0.0-2]`
#[derive(Debug)]
pub struct Decoder {
    head: [u8; HEAD_BYTES_MAX],
    head_length: u8,
    frame: Option<Frame>,
    /// A message was begun whose last frame has not come.
    is_fragmented: bool,
    frame_bytes_max: u64,
    /// Payload of the control frame that is coming in.
    control: Vec<u8>,
    /// The newest ping that was not answered.
    ping: Option<Vec<u8>>,
    ended: Option<Ended>,
}

/// The frame that is coming in.
#[derive(Debug)]
struct Frame {
    opcode: u8,
    left: u64,
    mask: [u8; 4],
}

impl Decoder {
    /// Takes frames with at most that many bytes of payload.
    #[must_use]
    pub fn new(frame_bytes_max: u64) -> Self {
        Self {
            head: [0; HEAD_BYTES_MAX],
            head_length: 0,
            frame: None,
            is_fragmented: false,
            frame_bytes_max,
            control: Vec::new(),
            ping: None,
            ended: None,
        }
    }

    /// Takes bytes as they came, wherever they were cut: unmasks the payload and moves it to the
    /// front of `bytes`.
    pub fn decode(&mut self, bytes: &mut [u8]) -> Decoded {
        let (mut from, mut payload) = (0, 0);
        while from < bytes.len() && self.ended.is_none() {
            if self.frame.is_none() {
                match self.take_head(&bytes[from..]) {
                    Ok(taken) => from += taken,
                    Err(code) => self.ended = Some(Ended::Violation(code)),
                }
            }
            let Some(frame) = &mut self.frame else { continue };
            let left = usize::try_from(frame.left).unwrap_or(usize::MAX);
            let part = left.min(bytes.len() - from);
            if is_control(frame.opcode) {
                let before = self.control.len();
                self.control.extend_from_slice(&bytes[from..from + part]);
                frame.unmask(&mut self.control[before..]);
            } else {
                bytes.copy_within(from..from + part, payload);
                frame.unmask(&mut bytes[payload..payload + part]);
                payload += part;
            }
            from += part;
            if frame.left == 0 {
                self.end_frame();
            }
        }
        Decoded { payload, ended: self.ended }
    }

    /// The newest ping that was not answered: of several, only that one needs its answer
    /// (RFC 6455, 5.5.3), so that a client that reads nothing cannot make us keep pongs.
    pub fn take_ping(&mut self) -> Option<Vec<u8>> {
        self.ping.take()
    }

    /// Whether [`Decoder::take_ping`] has one.
    #[must_use]
    pub fn has_ping(&self) -> bool {
        self.ping.is_some()
    }

    /// Takes bytes of a head up to its end or theirs, and says how many.
    fn take_head(&mut self, bytes: &[u8]) -> Result<usize, CloseCode> {
        for (taken, byte) in (1..).zip(bytes) {
            self.head[usize::from(self.head_length)] = *byte;
            self.head_length += 1;
            match self.head_length {
                1 => self.check_first(*byte)?,
                2 => self.check_second(*byte)?,
                length if usize::from(length) == self.head_bytes() => {
                    self.begin_frame()?;
                    return Ok(taken);
                }
                _ => {}
            }
        }
        Ok(bytes.len())
    }

    /// End of message, reserved bits, opcode.
    fn check_first(&self, byte: u8) -> Result<(), CloseCode> {
        let is_last = byte & 0x80 != 0;
        // No extension was agreed on, so none of their bits is defined: a compressed frame is one.
        let is_reserved = byte & 0x70 != 0;
        let is_right = match byte & 0x0F {
            CONTINUATION => self.is_fragmented,
            TEXT if !is_reserved => return Err(CloseCode::UNSUPPORTED_DATA),
            BINARY => !self.is_fragmented,
            CLOSE | PING | PONG => is_last,
            _ => false,
        };
        if is_right && !is_reserved { Ok(()) } else { Err(CloseCode::PROTOCOL_ERROR) }
    }

    /// Mask bit and short length.
    fn check_second(&self, byte: u8) -> Result<(), CloseCode> {
        let is_masked = byte & 0x80 != 0;
        let length = usize::from(byte & 0x7F);
        if !is_masked || (is_control(self.head[0] & 0x0F) && length > CONTROL_BYTES_MAX) {
            return Err(CloseCode::PROTOCOL_ERROR);
        }
        Ok(())
    }

    /// Length of the head that is coming in, once its second byte is there.
    fn head_bytes(&self) -> usize {
        match self.head[1] & 0x7F {
            127 => 14,
            126 => 8,
            _ => 6,
        }
    }

    fn begin_frame(&mut self) -> Result<(), CloseCode> {
        let (head, mask) = self.head[..usize::from(self.head_length)]
            .split_last_chunk::<4>()
            .expect("a head is longer than its mask");
        let extended = head[2..].iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
        let length = match head[1] & 0x7F {
            // The shortest form that holds the length must be used, and no sign bit.
            127 if extended <= u64::from(u16::MAX) || extended >> 63 != 0 => None,
            126 if extended <= 125 => None,
            126 | 127 => Some(extended),
            short => Some(u64::from(short)),
        };
        let length = length.ok_or(CloseCode::PROTOCOL_ERROR)?;
        if length > self.frame_bytes_max {
            return Err(CloseCode::TOO_BIG);
        }
        let opcode = head[0] & 0x0F;
        if !is_control(opcode) {
            self.is_fragmented = head[0] & 0x80 == 0;
        }
        self.frame = Some(Frame { opcode, left: length, mask: *mask });
        self.head_length = 0;
        Ok(())
    }

    fn end_frame(&mut self) {
        let Some(frame) = self.frame.take() else { return };
        match frame.opcode {
            PING => self.ping = Some(std::mem::take(&mut self.control)),
            CLOSE => self.ended = Some(closed(&self.control)),
            _ => {}
        }
        self.control = Vec::new();
    }
}

impl Frame {
    /// Unmasks the next bytes of the frame.
    fn unmask(&mut self, bytes: &mut [u8]) {
        let [a, b, c, d] = self.mask;
        let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
        let mut chunks = bytes.chunks_exact_mut(8);
        for chunk in &mut chunks {
            let word = u64::from_ne_bytes((&*chunk).try_into().expect("eight bytes")) ^ wide;
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        for (byte, mask) in chunks.into_remainder().iter_mut().zip(self.mask.into_iter().cycle()) {
            *byte ^= mask;
        }
        self.mask.rotate_left(bytes.len() % 4);
        self.left -= bytes.len() as u64;
    }
}

/// Judges the payload of a Close frame.
fn closed(payload: &[u8]) -> Ended {
    let (code, reason) = match payload {
        [] => return Ended::ByClient(None),
        [high, low, reason @ ..] => (CloseCode(u16::from_be_bytes([*high, *low])), reason),
        [_] => return Ended::Violation(CloseCode::PROTOCOL_ERROR),
    };
    if !code.may_be_sent() {
        return Ended::Violation(CloseCode::PROTOCOL_ERROR);
    }
    match str::from_utf8(reason) {
        Ok(_) => Ended::ByClient(Some(code)),
        Err(_) => Ended::Violation(CloseCode::INVALID_PAYLOAD),
    }
}

fn is_control(opcode: u8) -> bool {
    opcode & 0x8 != 0
}

/// Writes the head of a binary frame of ours. What a server sends is not masked.
pub(super) fn binary_head(length: usize, out: &mut Vec<u8>) {
    head(BINARY, length, out);
}

/// Writes a Pong frame.
pub(super) fn pong(payload: &[u8], out: &mut Vec<u8>) {
    head(PONG, payload.len(), out);
    out.extend_from_slice(payload);
}

/// Writes a Close frame.
pub(super) fn close(code: Option<CloseCode>, out: &mut Vec<u8>) {
    let code = code.map(|code| code.0.to_be_bytes());
    let payload = code.as_ref().map_or(&[][..], |code| code);
    head(CLOSE, payload.len(), out);
    out.extend_from_slice(payload);
}

fn head(opcode: u8, length: usize, out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short <= 125 => out.push(short),
        (_, Ok(length)) => {
            out.push(126);
            out.extend(length.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend((length as u64).to_be_bytes());
        }
    }
}
