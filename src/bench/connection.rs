//! One client connection of the load generator.

use std::io;

use ledgermq_core::codec;
use ledgermq_core::packet::{Packet, ProtocolVersion, Publish};
use mio::{Registry, Token};

use super::BenchError;
use super::socket::Socket;
use super::target::Target;

/// Largest packet taken from the broker.
const PACKET_BYTES_MAX: u32 = 256 << 20;

/// A client: its socket, and what waits in both directions.
pub(super) struct Connection {
    socket: Socket,
    url: String,
    client_id: String,
    version: ProtocolVersion,
    /// The front of a packet whose rest has not come.
    input: Vec<u8>,
    output: Output,
    is_open: bool,
}

/// Bytes that wait to be written.
pub(super) struct Output {
    version: ProtocolVersion,
    bytes: Vec<u8>,
    written: usize,
}

impl Output {
    /// Adds a packet to what is written next.
    pub(super) fn send(&mut self, packet: &Packet<'_>) -> Result<(), BenchError> {
        codec::encode(packet, self.version, &mut self.bytes).map_err(impossible)
    }

    /// As above, for the packet that is sent most.
    pub(super) fn publish(&mut self, publish: &Publish<'_>) -> Result<(), BenchError> {
        codec::encode_publish(publish, self.version, &mut self.bytes).map_err(impossible)
    }

    /// Bytes that wait.
    pub(super) fn waiting(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Lets go of what was written, where a socket that is always a little behind never takes all.
    fn compact(&mut self) {
        if self.written > self.bytes.len() / 2 {
            self.bytes.drain(..self.written);
            self.written = 0;
        }
    }
}

fn impossible(error: codec::EncodeError) -> BenchError {
    BenchError::Plan(format!("the protocol cannot express that: {error}"))
}

impl Connection {
    /// Begins to connect.
    pub(super) fn open(
        target: &Target,
        client_id: String,
        version: ProtocolVersion,
        token: Token,
        registry: &Registry,
    ) -> Result<Self, BenchError> {
        let url = target.url.clone();
        let socket = match Socket::connect(target, token, registry) {
            Ok(socket) => socket,
            Err(source) => return Err(BenchError::Connection { client: client_id, url, source }),
        };
        let output = Output { version, bytes: Vec::new(), written: 0 };
        let input = Vec::new();
        Ok(Self { socket, url, client_id, version, input, output, is_open: false })
    }

    /// What is written next.
    pub(super) fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// Whether something waits to be written, here or below.
    pub(super) fn wants_write(&self) -> bool {
        self.output.waiting() > 0 || self.socket.wants_write()
    }

    /// Writes as much as the socket takes. What is left is written when it is writable again.
    pub(super) fn flush(&mut self) -> Result<(), BenchError> {
        match self.write() {
            Ok(()) => Ok(()),
            // Not connected yet, if there is no error behind it.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                match self.socket.take_error() {
                    Ok(None) => Ok(()),
                    Ok(Some(error)) | Err(error) => Err(self.failed(error)),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let output = &mut self.output;
        while output.written < output.bytes.len() {
            match self.socket.write(&output.bytes[output.written..]) {
                Ok(bytes) => output.written += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    output.compact();
                    return Err(error);
                }
            }
        }
        output.written = 0;
        output.bytes.clear();
        self.socket.flush()
    }

    /// Whether the broker has let it in, and all its subscriptions.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// The broker has let it in. Frees its buffers, for it may be idle from now on.
    pub(super) fn set_open(&mut self) {
        self.is_open = true;
        self.input.shrink_to_fit();
        if self.output.bytes.is_empty() {
            self.output.bytes = Vec::new();
        }
    }

    /// Reads what is there and gives each packet to `take`, which may answer. If the broker has
    /// closed its side (`is_closed`), that comes behind the last bytes.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        is_closed: bool,
        mut take: impl FnMut(&Packet<'_>, &mut Output) -> Result<(), BenchError>,
    ) -> Result<(), BenchError> {
        loop {
            let bytes = match self.socket.read(buffer) {
                Ok(0) => return Err(self.failed(io::ErrorKind::UnexpectedEof.into())),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.failed(error)),
            };
            if self.input.is_empty() {
                let taken = self.decode(&buffer[..bytes], &mut take)?;
                self.input.extend_from_slice(&buffer[taken..bytes]);
            } else {
                let mut input = std::mem::take(&mut self.input);
                input.extend_from_slice(&buffer[..bytes]);
                let taken = self.decode(&input, &mut take)?;
                input.drain(..taken);
                self.input = input;
            }
            if bytes < buffer.len() && self.socket.is_drained_by_short_read() && !is_closed {
                return Ok(());
            }
        }
    }

    /// Takes the packets that are whole, and says how many bytes they are.
    fn decode(
        &mut self,
        bytes: &[u8],
        take: &mut impl FnMut(&Packet<'_>, &mut Output) -> Result<(), BenchError>,
    ) -> Result<usize, BenchError> {
        let mut at = 0;
        loop {
            match codec::decode(&bytes[at..], self.version, PACKET_BYTES_MAX) {
                Ok(Some((packet, length))) => {
                    take(&packet, &mut self.output)?;
                    at += length;
                }
                Ok(None) => return Ok(at),
                Err(error) => return Err(self.protocol(error.to_string())),
            }
        }
    }

    /// What the broker sent is against the protocol.
    pub(super) fn protocol(&self, detail: String) -> BenchError {
        BenchError::Protocol { client: self.client_id.clone(), detail }
    }

    fn failed(&self, source: io::Error) -> BenchError {
        BenchError::Connection { client: self.client_id.clone(), url: self.url.clone(), source }
    }
}
