//! Sockets on which everything was said, until their peers have closed, too.
//!
//! A socket that is closed while bytes from its peer are unread, or still come, resets the
//! connection, and the peer may lose what it was sent last: the DISCONNECT that tells it why. So our
//! side is closed first, and what still comes is read and thrown away for a while.

use std::collections::VecDeque;
use std::io::{self, Read as _};
use std::net::Shutdown;
use std::time::Duration;

use ledgermq_core::offset::Timestamp;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

/// How long a peer may take to close.
const LINGER: Duration = Duration::from_secs(1);
/// Sockets that wait at the same time; what is beyond is closed at once.
const SOCKETS_MAX: usize = 1024;
/// Bytes that are thrown away before a peer is given up: it does not listen.
const BYTES_MAX: usize = 1 << 20;
/// The poll's tokens from here on, up to the waker's, are those of these sockets.
const FIRST: usize = usize::MAX - 1 - SOCKETS_MAX;

/// The sockets, by the place in their token.
#[derive(Default)]
pub(crate) struct Lingering {
    places: Vec<Option<Held>>,
    free: Vec<usize>,
    /// In the order of their deadlines; entries of sockets that are gone are passed over.
    due: VecDeque<(Timestamp, usize)>,
}

struct Held {
    stream: TcpStream,
    until: Timestamp,
    bytes: usize,
}

impl Lingering {
    /// Whether an event of this token is for a socket here.
    pub(crate) fn is_here(token: Token) -> bool {
        (FIRST..FIRST + SOCKETS_MAX).contains(&token.0)
    }

    /// Closes our side of `stream`, which is registered, and keeps the rest for a while. Says whether
    /// it is kept; it is closed otherwise.
    pub(crate) fn keep(
        &mut self,
        now: Timestamp,
        mut stream: TcpStream,
        registry: &Registry,
    ) -> bool {
        if stream.shutdown(Shutdown::Write).is_err() {
            return false;
        }
        let place = match self.free.pop() {
            Some(place) => place,
            None if self.places.len() < SOCKETS_MAX => {
                self.places.push(None);
                self.places.len() - 1
            }
            None => return false,
        };
        let token = Token(FIRST + place);
        if registry.reregister(&mut stream, token, Interest::READABLE).is_err() {
            self.free.push(place);
            return false;
        }
        let until = now.plus(LINGER);
        self.places[place] = Some(Held { stream, until, bytes: 0 });
        self.due.push_back((until, place));
        true
    }

    /// Throws away what came for `token`; says whether the socket is done with, and closed.
    pub(crate) fn read(&mut self, token: Token, buffer: &mut [u8]) -> bool {
        let place = token.0 - FIRST;
        let Some(held) = self.places.get_mut(place).and_then(Option::as_mut) else { return false };
        loop {
            match held.stream.read(buffer) {
                Ok(0) => break,
                Ok(bytes) => held.bytes += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(_) => break,
            }
            if held.bytes > BYTES_MAX {
                break;
            }
        }
        self.drop(place);
        true
    }

    /// Closes those that had their time; says how many.
    pub(crate) fn expire(&mut self, now: Timestamp) -> usize {
        let mut closed = 0;
        while let Some((until, place)) = self.due.pop_front_if(|(until, _)| *until <= now) {
            let held = self.places[place].as_ref();
            if held.is_some_and(|held| held.until == until) {
                self.drop(place);
                closed += 1;
            }
        }
        closed
    }

    /// When the next one had its time.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.due.front().map(|(until, _)| *until)
    }

    /// Whether none waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.free.len() == self.places.len()
    }

    fn drop(&mut self, place: usize) {
        // Closing it takes it out of the poll.
        self.places[place] = None;
        self.free.push(place);
    }
}
