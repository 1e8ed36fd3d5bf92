//! A WebSocket client that does what a test says, rules broken included.

use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

use super::transport::Stream;

/// The request of a client that wants MQTT.
pub(crate) const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: broker\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

/// A WebSocket over another transport.
#[derive(Debug)]
pub(crate) struct WebSocket {
    stream: Box<dyn Stream>,
    raw: Vec<u8>,
    payload: Vec<u8>,
    /// Code of the Close frame that came.
    pub(crate) closed: Option<u16>,
    /// Payloads of the pongs that came.
    pub(crate) pongs: Vec<Vec<u8>>,
}

impl WebSocket {
    /// Asks for MQTT and panics unless it is granted.
    pub(crate) fn open(stream: impl Stream + 'static) -> Self {
        let (socket, head) = Self::ask(stream, REQUEST);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let head = head.to_ascii_lowercase();
        assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{head}");
        assert!(head.contains("sec-websocket-protocol: mqtt\r\n"), "{head}");
        assert!(!head.contains("sec-websocket-extensions"), "{head}");
        socket
    }

    /// Sends a request; the socket, and the head of the answer with as much of its body as came
    /// along.
    pub(crate) fn ask(stream: impl Stream + 'static, request: &str) -> (Self, String) {
        let mut stream: Box<dyn Stream> = Box::new(stream);
        stream.write_all(request.as_bytes()).expect("the request is sent");
        let mut raw = Vec::new();
        let end = loop {
            if let Some(at) = raw.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            let mut chunk = [0; 4096];
            match stream.read(&mut chunk).expect("an answer comes") {
                0 => panic!("closed instead of an answer: {}", String::from_utf8_lossy(&raw)),
                read => raw.extend_from_slice(&chunk[..read]),
            }
        };
        let is_open = raw.starts_with(b"HTTP/1.1 101");
        let head = String::from_utf8_lossy(if is_open { &raw[..end] } else { &raw }).into_owned();
        raw.drain(..end);
        let (payload, pongs) = (Vec::new(), Vec::new());
        (Self { stream, raw, payload, closed: None, pongs }, head)
    }

    /// Sends one frame with that first byte.
    pub(crate) fn send_frame(&mut self, first: u8, payload: &[u8]) {
        self.send_raw(&frame(first, payload));
    }

    /// Sends bytes as they are.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.write_raw(bytes).expect("the connection stands");
    }

    pub(crate) fn write_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Reads until the connection ends; the code of the Close frame, if one came before.
    pub(crate) fn wait_closed(&mut self) -> Option<u16> {
        let mut chunk = [0; 4096];
        loop {
            match self.read(&mut chunk) {
                Ok(0) => return self.closed,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return self.closed,
                Err(error) => panic!("not closed: {error}"),
            }
        }
    }

    /// Reads until a pong came.
    pub(crate) fn wait_pong(&mut self) -> Vec<u8> {
        while self.pongs.is_empty() {
            let mut chunk = [0; 4096];
            let read = self.stream.read(&mut chunk).expect("the connection stands");
            assert_ne!(read, 0, "closed instead of a pong");
            self.raw.extend_from_slice(&chunk[..read]);
            self.take_frames();
        }
        self.pongs.remove(0)
    }

    fn take_frames(&mut self) {
        while let [first, short, rest @ ..] = &self.raw[..] {
            let extended = match short {
                126 => 2,
                127 => 8,
                length => {
                    assert!(*length <= 125, "a server does not mask");
                    0
                }
            };
            if rest.len() < extended {
                return;
            }
            let (length, rest) = rest.split_at(extended);
            let length = match extended {
                0 => usize::from(*short),
                _ => length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)),
            };
            if rest.len() < length {
                return;
            }
            let payload = &rest[..length];
            match first {
                0x82 => self.payload.extend_from_slice(payload),
                0x88 => {
                    let code = payload.first_chunk().map_or(0, |code| u16::from_be_bytes(*code));
                    self.closed = Some(code);
                }
                0x8A => self.pongs.push(payload.to_vec()),
                other => panic!("a frame that begins with {other:#x}"),
            }
            self.raw.drain(..2 + extended + length);
        }
    }
}

impl Read for WebSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.payload.is_empty() {
            let mut chunk = [0; 16_384];
            match self.stream.read(&mut chunk)? {
                0 => return Ok(0),
                read => self.raw.extend_from_slice(&chunk[..read]),
            }
            self.take_frames();
        }
        let length = buffer.len().min(self.payload.len());
        buffer[..length].copy_from_slice(&self.payload[..length]);
        self.payload.drain(..length);
        Ok(length)
    }
}

impl Write for WebSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write_all(&frame(0x82, bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl Stream for WebSocket {
    fn wait_at_most(&mut self, timeout: Duration) -> io::Result<()> {
        self.stream.wait_at_most(timeout)
    }
}

/// A masked frame.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x5A, 0x00, 0xFF, 0x13];
    let mut bytes = vec![first];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short), _) if short <= 125 => bytes.push(0x80 | short),
        (_, Ok(length)) => {
            bytes.push(0x80 | 126);
            bytes.extend(length.to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend((payload.len() as u64).to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}
