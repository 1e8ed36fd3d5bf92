//! A client's end of the wire: TCP, or TLS over it. Never blocks.

use std::io::{self, Read, Write};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::ClientConnection;

use super::target::Target;

/// A connected, or still connecting, socket.
pub(super) enum Socket {
    Tcp(TcpStream),
    Tls(Box<Tls>),
}

pub(super) struct Tls {
    stream: TcpStream,
    session: ClientConnection,
}

impl Socket {
    /// Begins to connect and registers for both directions.
    pub(super) fn connect(target: &Target, token: Token, registry: &Registry) -> io::Result<Self> {
        let mut stream = TcpStream::connect(target.address)?;
        stream.set_nodelay(true)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let Some(tls) = &target.tls else { return Ok(Self::Tcp(stream)) };
        let session = ClientConnection::new(tls.config.clone(), tls.name.clone());
        let session = session.map_err(io::Error::other)?;
        Ok(Self::Tls(Box::new(Tls { stream, session })))
    }

    /// What went wrong while connecting, if anything did.
    pub(super) fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self {
            Self::Tcp(stream) => stream.take_error(),
            Self::Tls(tls) => tls.stream.take_error(),
        }
    }

    /// Whether a read that did not fill the buffer took all there was.
    pub(super) fn is_drained_by_short_read(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }

    /// Reads what is there; 0 bytes are the end.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nothing is there.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Tls(tls) => tls.read(buffer),
        }
    }

    /// Writes what the socket takes.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if it takes nothing.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Tls(tls) => {
                tls.push()?;
                match tls.session.writer().write(bytes)? {
                    // As much waits for the handshake as may.
                    0 => Err(io::ErrorKind::WouldBlock.into()),
                    taken => Ok(taken),
                }
            }
        }
    }

    /// Whether TLS holds something back.
    pub(super) fn wants_write(&self) -> bool {
        matches!(self, Self::Tls(tls) if tls.session.wants_write())
    }

    /// Pushes out what TLS holds back.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if something is left.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(_) => Ok(()),
            Self::Tls(tls) => tls.push(),
        }
    }
}

impl Tls {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            if self.session.read_tls(&mut self.stream)? == 0 {
                return Ok(0);
            }
            self.session.process_new_packets().map_err(io::Error::other)?;
            match self.push() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => done?,
            }
        }
    }

    fn push(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(&mut self.stream)?;
        }
        Ok(())
    }
}
