//! One client connection of the load generator.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use ledgermq_core::codec;
use ledgermq_core::packet::{Packet, ProtocolVersion};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::BenchError;

/// Largest packet taken from the broker.
const PACKET_BYTES_MAX: u32 = 16 << 20;

/// A socket with what waits in both directions.
pub(super) struct Connection {
    stream: TcpStream,
    address: SocketAddr,
    version: ProtocolVersion,
    input: Vec<u8>,
    output: Vec<u8>,
    written: usize,
}

impl Connection {
    pub(super) fn open(
        address: SocketAddr,
        version: ProtocolVersion,
        token: usize,
        registry: &Registry,
    ) -> Result<Self, BenchError> {
        let failed = |source| BenchError::Connection { address, source };
        // Blocking until it is connected: the run begins when all are.
        let stream = std::net::TcpStream::connect(address).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        stream.set_nonblocking(true).map_err(failed)?;
        let mut stream = TcpStream::from_std(stream);
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut stream, Token(token), interest).map_err(failed)?;
        let (input, output) = (Vec::new(), Vec::new());
        Ok(Self { stream, address, version, input, output, written: 0 })
    }

    /// Adds a packet to what is written next.
    pub(super) fn send(&mut self, packet: &Packet<'_>) -> Result<(), BenchError> {
        codec::encode(packet, self.version, &mut self.output)
            .map_err(|error| BenchError::Protocol(error.to_string()))
    }

    /// Writes as much as the socket takes.
    pub(super) fn flush(&mut self) -> Result<(), BenchError> {
        while self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(bytes) => self.written += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        self.written = 0;
        self.output.clear();
        Ok(())
    }

    /// Reads what is there and gives each packet to `take`, which may answer into `self`.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        mut take: impl FnMut(&Packet<'_>, &mut Vec<u8>) -> Result<(), BenchError>,
    ) -> Result<(), BenchError> {
        loop {
            let bytes = match self.stream.read(buffer) {
                Ok(0) => return Err(self.failed(io::ErrorKind::UnexpectedEof.into())),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.failed(error)),
            };
            self.input.extend_from_slice(&buffer[..bytes]);
            let mut at = 0;
            while let Some((packet, length)) =
                codec::decode(&self.input[at..], self.version, PACKET_BYTES_MAX)
                    .map_err(|error| BenchError::Protocol(error.to_string()))?
            {
                take(&packet, &mut self.output)?;
                at += length;
            }
            self.input.drain(..at);
            if bytes < buffer.len() {
                return Ok(());
            }
        }
    }

    fn failed(&self, source: io::Error) -> BenchError {
        BenchError::Connection { address: self.address, source }
    }
}
