//! One connection: a socket, TLS around it, frames within.

use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::time::Duration;

use mio::net::TcpStream;
use rustix::net::sockopt;

use crate::cluster::authority::Shown;
use crate::cluster::frame::{AdmitError, Decoder, Frame, FrameError, Lane};
use crate::cluster::peering::SessionId;

/// Bytes read at once.
pub(super) const READ_BYTES: usize = 64 << 10;
/// Bytes that a connection reads or writes before the others have their turn.
pub(super) const TURN_BYTES: usize = 1 << 20;
/// A peer that is asked is gone if it has not answered by then: its machine, or the way to it, is. TCP
/// asks ever more rarely, after twice the time; once that is over it is quicker to dial anew.
const SILENCE_MAX: Duration = Duration::from_secs(4);
/// And on a lane that may fill up: a peer whose disk does not answer reads nothing meanwhile, and is
/// there all the same. If it is not, [`Lane::Pulse`] tells; this is for a lane that breaks alone.
const HELD_BACK_MAX: Duration = Duration::from_secs(10);

/// A peer says something on [`Lane::Pulse`] several times a second. If it is heard again after as long, and
/// its pulse does not say that it was away itself, the way was broken; what was lost on the other lanes
/// meanwhile is sent again only when as much time has passed once more: it is quicker to dial anew.
pub(super) const PULSELESS_MAX: Duration = Duration::from_millis(1_500);

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("it was closed")]
    Closed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("it sent {0}")]
    Frame(#[from] FrameError),
    #[error("it sent {0}")]
    Admit(#[from] AdmitError),
    #[error("nothing came in time")]
    Late,
    #[error("it was silent for a while")]
    Silent,
}

/// Which lane of which session a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) peer: u64,
    pub(super) session: SessionId,
    pub(super) lane: Lane,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The system is dialling.
    Dialling,
    /// TLS is agreed on.
    Securing,
    /// The first frame is waited for.
    Greeting,
    /// Greeted; other lanes of the session are not yet.
    Waiting,
    /// The session is up.
    Open,
    /// A node waits to be let in.
    Joining(u64),
    /// What is to be sent goes out, then it is closed.
    Leaving,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: TcpStream,
    tls: Option<Box<rustls::Connection>>,
    pub(super) decoder: Decoder,
    pub(super) stage: Stage,
    /// Known from the beginning of what was dialled, from the greeting of what was accepted.
    pub(super) place: Option<Place>,
    pub(super) is_dialled: bool,
    /// Where it came from, if it was accepted.
    pub(super) from: Option<IpAddr>,
    /// Something was received.
    pub(super) has_spoken: bool,
    /// When that was last, on the lane of the pulses once the session is up.
    pub(super) heard_at: Option<Duration>,
    /// It was not heard for too long; the next pulse says why.
    pub(super) was_silent: bool,
    pub(super) deadline: Option<Duration>,
    pub(super) is_readable: bool,
    /// The other end writes nothing more: its end comes behind what is there.
    pub(super) is_ended: bool,
    pub(super) is_writable: bool,
    /// Frames that are being written, and how much of them was.
    pub(super) out: Vec<u8>,
    written: usize,
    /// Nothing more will be written.
    is_shut: bool,
}

/// Buffers that all connections share.
#[derive(Debug)]
pub(super) struct Scratch {
    wire: Vec<u8>,
    plain: Vec<u8>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self { wire: vec![0; READ_BYTES], plain: vec![0; READ_BYTES] }
    }
}

impl Connection {
    pub(super) fn new(
        socket: TcpStream,
        tls: Option<rustls::Connection>,
        dialled: Option<Place>,
        deadline: Duration,
    ) -> Self {
        Self {
            socket,
            tls: tls.map(Box::new),
            decoder: Decoder::new(None),
            stage: if dialled.is_some() { Stage::Dialling } else { Stage::Securing },
            is_dialled: dialled.is_some(),
            from: None,
            has_spoken: false,
            heard_at: None,
            was_silent: false,
            place: dialled,
            deadline: Some(deadline),
            is_readable: false,
            is_ended: false,
            is_writable: false,
            out: Vec::new(),
            written: 0,
            is_shut: false,
        }
    }

    /// Whether the system has reached the other end; then the socket is set up.
    pub(super) fn is_connected(&mut self) -> io::Result<bool> {
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        match self.socket.peer_addr() {
            Ok(_) => {
                set_up(&self.socket)?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                // Not yet: the system says so again when it is.
                self.is_writable = false;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether TLS is still being agreed on.
    pub(super) fn is_securing(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    pub(super) fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Who the other end is by its certificate; none if it has shown none, or a wrong one.
    pub(super) fn certificate(&self) -> Option<Shown> {
        let certificate = self.tls.as_ref()?.peer_certificates()?.first()?;
        Shown::of(certificate).ok()
    }

    /// Reads once. What came is in the decoder; answers how much it was.
    pub(super) fn read(&mut self, scratch: &mut Scratch) -> Result<usize, Broken> {
        let bytes = match self.socket.read(&mut scratch.wire) {
            Ok(0) => return Err(Broken::Closed),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.is_readable = false;
                return Ok(0);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        // That was all of it: the system tells of what comes after. Of the end it has told already.
        self.is_readable = bytes == scratch.wire.len() || self.is_ended;
        self.has_spoken = true;
        let Some(tls) = &mut self.tls else {
            self.decoder.push(&scratch.wire[..bytes]);
            return Ok(bytes);
        };
        let mut wire = &scratch.wire[..bytes];
        while !wire.is_empty() {
            if tls.read_tls(&mut wire)? == 0 {
                return Err(Broken::Closed);
            }
            tls.process_new_packets()?;
            loop {
                match tls.reader().read(&mut scratch.plain) {
                    Ok(0) => return Err(Broken::Closed),
                    Ok(plain) => self.decoder.push(&scratch.plain[..plain]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(bytes)
    }

    /// Reads and forgets, so that closing does not take back what was sent.
    pub(super) fn discard(&mut self, scratch: &mut Scratch) -> Result<(), Broken> {
        match self.socket.read(&mut scratch.wire) {
            Ok(0) => Err(Broken::Closed),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.is_readable = false;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Adds a frame to what is being written.
    pub(super) fn queue(&mut self, frame: &Frame) {
        if let Err(error) = frame.encode(&mut self.out) {
            tracing::error!(%error, "a frame cannot be sent");
        }
    }

    /// Bytes that were given to this connection and are not written.
    pub(super) fn unwritten(&self) -> usize {
        self.out.len() - self.written
    }

    /// Whether everything has gone to the system.
    pub(super) fn is_flushed(&self) -> bool {
        self.unwritten() == 0 && !self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Writes as long as the system takes it, up to a bound; answers how much it was.
    pub(super) fn write(&mut self) -> Result<usize, Broken> {
        let mut total = 0;
        while self.is_writable && total < TURN_BYTES && !self.is_flushed() {
            let bytes = match &mut self.tls {
                None => self.socket.write(&self.out[self.written..]),
                Some(tls) if tls.wants_write() => tls.write_tls(&mut self.socket),
                Some(tls) if tls.is_handshaking() => break,
                Some(tls) => {
                    let taken = tls.writer().write(&self.out[self.written..])?;
                    if taken == 0 {
                        // TLS has failed: what is left cannot be said any more.
                        self.written = self.out.len();
                    }
                    self.written += taken;
                    continue;
                }
            };
            match bytes {
                Ok(0) => return Err(Broken::Closed),
                Ok(bytes) => {
                    total += bytes;
                    if self.tls.is_none() {
                        self.written += bytes;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        if self.unwritten() == 0 && self.written > 0 {
            self.written = 0;
            self.out.clear();
        }
        Ok(total)
    }

    /// Nothing more will be written; the other end may still be reading.
    pub(super) fn shut(&mut self) {
        if !self.is_shut {
            self.is_shut = true;
            let _ = self.socket.shutdown(std::net::Shutdown::Write);
        }
    }
}

/// Small frames go at once, and a peer that vanished without a word is noticed.
pub(super) fn set_up(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, SILENCE_MAX / 2)?;
    sockopt::set_tcp_keepintvl(socket, Duration::from_secs(1))?;
    sockopt::set_tcp_keepcnt(socket, 2)?;
    // A heartbeat that was lost is sent again after 0.2 s each time for a while, not after twice the time: a
    // way that heals within seconds is used at once. Where the system does not know that, it takes longer.
    let _ = sockopt::set_tcp_thin_linear_timeouts(socket, true);
    set_silence_max(socket, SILENCE_MAX)
}

/// The same once it is known which lane it is.
pub(super) fn set_up_lane(socket: &TcpStream, lane: Lane) -> io::Result<()> {
    let max = if lane == Lane::Pulse { SILENCE_MAX } else { HELD_BACK_MAX };
    set_silence_max(socket, max)
}

fn set_silence_max(socket: &TcpStream, max: Duration) -> io::Result<()> {
    let millis = u32::try_from(max.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(socket, millis)?;
    Ok(())
}
