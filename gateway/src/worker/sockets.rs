//! The sockets of a worker, by the token of their connection.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;

use mio::net::TcpStream;
use mio::{Interest, Registry};

use crate::shard::Token;
use crate::transport::{Layers, Received, Spare};

/// The poll's token of the worker's own waker.
pub(crate) const WAKER: mio::Token = mio::Token(usize::MAX);

/// Bytes that the system may hold of a connection and has not sent.
#[cfg(target_os = "linux")]
const UNSENT_BYTES: u32 = 128 << 10;

/// Outcome of a read.
pub(crate) enum Read {
    /// So many bytes of MQTT.
    Bytes(usize),
    /// So many bytes for the layers of the connection: [`Sockets::receive`].
    Layered(usize),
    /// Nothing is there now.
    Nothing,
    /// The peer closed, or the transport failed.
    Closed,
}

/// Outcome of a write.
pub(crate) enum Wrote {
    /// So many bytes of the output; none if the layers had something to say themselves.
    Bytes(usize),
    /// The socket takes nothing now; the poll says when it does.
    Blocked,
    /// The transport failed.
    Closed,
}

struct Socket {
    token: Token,
    stream: TcpStream,
    /// It stands in the queue of those to be read.
    is_queued: bool,
    /// It may have bytes, but is not read for now.
    is_waiting: bool,
    is_blocked: bool,
    /// The peer has sent all it will; what is before the end may not be read yet.
    is_read_closed: bool,
    /// None if MQTT is spoken on the socket itself.
    layers: Option<Box<Layers>>,
}

/// Sockets by the slot of their token.
#[derive(Default)]
pub(crate) struct Sockets {
    places: Vec<Option<Box<Socket>>>,
    /// Lent to the layers of the connection that is read or written to.
    spare: Spare,
}

impl Sockets {
    /// Takes a socket; the poll tells edges of both directions from now on.
    pub(crate) fn insert(
        &mut self,
        token: Token,
        mut stream: TcpStream,
        layers: Option<Box<Layers>>,
        registry: &Registry,
    ) -> io::Result<()> {
        let slot = token.slot as usize;
        bound_unsent(&stream);
        registry.register(
            &mut stream,
            mio::Token(slot),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        if self.places.len() <= slot {
            self.places.resize_with(slot + 1, || None);
        }
        self.places[slot] = Some(Box::new(Socket {
            token,
            stream,
            is_queued: false,
            is_waiting: false,
            is_blocked: false,
            is_read_closed: false,
            layers,
        }));
        Ok(())
    }

    /// Gives a socket away that is to be closed by and by; none if the peer closed already.
    pub(crate) fn take(&mut self, token: Token) -> Option<TcpStream> {
        if self.get(token)?.is_read_closed {
            return None;
        }
        self.places[token.slot as usize].take().map(|socket| socket.stream)
    }

    /// Closes a socket; says whether there was one.
    pub(crate) fn remove(&mut self, token: Token, registry: &Registry) -> bool {
        if self.get(token).is_none() {
            return false;
        }
        if let Some(mut socket) = self.places[token.slot as usize].take() {
            let _ = registry.deregister(&mut socket.stream);
            let _ = socket.stream.shutdown(Shutdown::Both);
        }
        true
    }

    /// The connection that an event is about, if it is still there.
    pub(crate) fn token_of(&self, token: mio::Token) -> Option<Token> {
        self.places.get(token.0)?.as_ref().map(|socket| socket.token)
    }

    /// Notes that there may be bytes; says whether the connection is to be queued for reading.
    pub(crate) fn set_readable(&mut self, token: Token) -> bool {
        self.get(token).is_some_and(|socket| !std::mem::replace(&mut socket.is_queued, true))
    }

    /// Notes that the peer closed its side. No edge tells when the bytes before the end were read.
    pub(crate) fn set_read_closed(&mut self, token: Token) {
        if let Some(socket) = self.get(token) {
            socket.is_read_closed = true;
        }
    }

    /// Whether the end is still to be read, behind whatever comes before it.
    pub(crate) fn is_read_closed(&mut self, token: Token) -> bool {
        self.get(token).is_some_and(|socket| socket.is_read_closed)
    }

    pub(crate) fn set_unreadable(&mut self, token: Token) {
        if let Some(socket) = self.get(token) {
            socket.is_queued = false;
        }
    }

    /// Keeps in mind that there may be bytes, until [`Sockets::resume`].
    pub(crate) fn pause(&mut self, token: Token) {
        if let Some(socket) = self.get(token) {
            socket.is_queued = false;
            socket.is_waiting = true;
        }
    }

    /// Says whether a paused connection is to be queued for reading.
    pub(crate) fn resume(&mut self, token: Token) -> bool {
        let is_waiting =
            self.get(token).is_some_and(|socket| std::mem::take(&mut socket.is_waiting));
        is_waiting && self.set_readable(token)
    }

    /// Notes that a blocked socket takes bytes again, and adds it to those to be written.
    pub(crate) fn set_writable(&mut self, token: Token, unblocked: &mut Vec<Token>) {
        if let Some(socket) = self.get(token)
            && std::mem::take(&mut socket.is_blocked)
        {
            unblocked.push(token);
        }
    }

    pub(crate) fn read(&mut self, token: Token, buffer: &mut [u8]) -> Read {
        let Some(socket) = self.get(token) else { return Read::Nothing };
        match retry(|| socket.stream.read(buffer)) {
            Ok(0) => Read::Closed,
            Ok(bytes) if socket.layers.is_some() => Read::Layered(bytes),
            Ok(bytes) => Read::Bytes(bytes),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Read::Nothing,
            Err(_) => Read::Closed,
        }
    }

    /// Hands bytes from the socket to the layers of a connection that has some; `plain` is room for
    /// what TLS makes of them. Layers that have done their duty are put away.
    pub(crate) fn receive<'b>(
        &mut self,
        token: Token,
        bytes: &'b mut [u8],
        plain: &'b mut Vec<u8>,
    ) -> Received<'b> {
        let Some(socket) = self.get(token) else { return Received::default() };
        let Some(layers) = &mut socket.layers else {
            return Received { payload: bytes, ..Received::default() };
        };
        let received = layers.receive(bytes, plain);
        if layers.is_transparent() {
            socket.layers = None;
        }
        received
    }

    /// Whether the layers of a connection have something to say besides output.
    pub(crate) fn has_pending(&mut self, token: Token) -> bool {
        self.layers(token).is_some_and(|layers| layers.has_pending())
    }

    /// Has the layers of a connection take their leave; says whether something is to be written
    /// before it is closed.
    pub(crate) fn finish(&mut self, token: Token) -> bool {
        self.layers(token).is_some_and(|layers| {
            layers.finish();
            layers.has_pending()
        })
    }

    pub(crate) fn write(&mut self, token: Token, output: &[u8]) -> Wrote {
        let mut spare = std::mem::take(&mut self.spare);
        let wrote = match self.get(token) {
            None => Wrote::Closed,
            Some(socket) if socket.is_blocked => Wrote::Blocked,
            Some(socket) => socket.write(output, &mut spare),
        };
        self.spare = spare;
        wrote
    }

    fn layers(&mut self, token: Token) -> Option<&mut Layers> {
        self.get(token)?.layers.as_deref_mut()
    }

    fn get(&mut self, token: Token) -> Option<&mut Socket> {
        let socket = self.places.get_mut(token.slot as usize)?.as_deref_mut()?;
        (socket.token == token).then_some(socket)
    }
}

/// Has the system keep no more than it needs of what it cannot send yet: else a client that does not
/// read costs megabytes of its memory, and the work of filling them. How much may be on the way, which
/// is what throughput depends on, is left to the system.
fn bound_unsent(stream: &TcpStream) {
    #[cfg(target_os = "linux")]
    // A system that does not know this works as well without.
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES);
}

impl Socket {
    fn write(&mut self, output: &[u8], spare: &mut Spare) -> Wrote {
        let written = match &mut self.layers {
            None => retry(|| self.stream.write(output)),
            Some(layers) => {
                if layers.is_broken() {
                    return Wrote::Closed;
                }
                let filled = layers.fill(output, spare);
                let taken = filled.taken;
                if filled.is_empty() {
                    layers.wrote(0, spare);
                    debug_assert!(taken > 0, "layers that are asked have something to say");
                    return if taken > 0 { Wrote::Bytes(taken) } else { Wrote::Blocked };
                }
                match retry(|| self.stream.write_vectored(&filled.slices())) {
                    Ok(written) => Ok(taken + layers.wrote(written, spare)),
                    Err(error) => {
                        layers.blocked();
                        // What the layers took counts, and the next write will find out.
                        if taken > 0 { Ok(taken) } else { Err(error) }
                    }
                }
            }
        };
        match written {
            Ok(written) => Wrote::Bytes(written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.is_blocked = true;
                Wrote::Blocked
            }
            Err(_) => Wrote::Closed,
        }
    }
}

fn retry(mut operation: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match operation() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
