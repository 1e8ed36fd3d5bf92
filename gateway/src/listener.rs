//! Accepting Network Connections: one thread for all listeners deals them to the workers in turn.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use crate::census::{Admission, Census};
use crate::entrance::Entrance;
use crate::inbox::{Accepted, Inbound, Inboxes};
use crate::transport::Ended;

/// Connections that may wait to be accepted, as far as the system allows: when thousands of clients
/// come back at once, those that find no place try again only after a second.
const BACKLOG: i32 = 4096;
const WAKER: Token = Token(usize::MAX);
/// How long to leave a listener alone when the process has no file descriptor left.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// The acceptor: all listeners of the node.
pub(crate) struct Acceptor {
    poll: Poll,
    listeners: Vec<(TcpListener, Entrance)>,
    inboxes: Inboxes,
    census: Arc<Census>,
    stop: Arc<AtomicBool>,
}

/// Stops an [`Acceptor`].
#[derive(Clone)]
pub(crate) struct StopAccepting {
    stop: Arc<AtomicBool>,
    waker: Arc<Waker>,
}

impl StopAccepting {
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = self.waker.wake();
    }
}

impl Acceptor {
    /// Binds the `addresses` of the entrances; answers with the addresses that came of it (a port 0
    /// is chosen).
    pub(crate) fn bind(
        addresses: Vec<(SocketAddr, Entrance)>,
        inboxes: Inboxes,
        census: Arc<Census>,
    ) -> Result<(Self, StopAccepting, Vec<SocketAddr>), (SocketAddr, io::Error)> {
        let none = SocketAddr::from(([0, 0, 0, 0], 0));
        let poll = Poll::new().map_err(|error| (none, error))?;
        let waker = Waker::new(poll.registry(), WAKER).map_err(|error| (none, error))?;
        let mut listeners = Vec::new();
        let mut bound = Vec::new();
        for (address, entrance) in addresses {
            let listen = || {
                let mut listener = TcpListener::bind(address)?;
                // Once more, for a longer queue than the usual one.
                rustix::net::listen(&listener, BACKLOG)?;
                let token = Token(listeners.len());
                poll.registry().register(&mut listener, token, Interest::READABLE)?;
                let address = listener.local_addr()?;
                Ok((listener, address))
            };
            let (listener, at) = listen().map_err(|error| (address, error))?;
            listeners.push((listener, entrance));
            bound.push(at);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopper = StopAccepting { stop: Arc::clone(&stop), waker: Arc::new(waker) };
        let acceptor = Self { poll, listeners, inboxes, census, stop };
        Ok((acceptor, stopper, bound))
    }

    /// Accepts until it is stopped; then the listeners are closed.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(64);
        let mut pause = None;
        while !self.stop.load(Ordering::SeqCst) {
            if let Err(error) = self.poll.poll(&mut events, pause.take())
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "the acceptor cannot wait for connections");
                return;
            }
            for at in 0..self.listeners.len() {
                pause = pause.or(self.accept_all(at));
            }
        }
    }

    /// Accepts all that wait at one listener; answers with a pause if the process has no file
    /// descriptor left for the next.
    fn accept_all(&mut self, at: usize) -> Option<Duration> {
        loop {
            let (listener, entrance) = &self.listeners[at];
            match listener.accept() {
                Ok((stream, peer)) => {
                    if entrance.admits(peer.ip()) {
                        self.take(at, stream, peer);
                    } else {
                        self.census.count_failed(&Ended::Untrusted);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) if is_of_the_peer(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections");
                    return Some(EXHAUSTED_PAUSE);
                }
            }
        }
    }

    /// Deals a connection that came at one listener to a worker, if it is admitted.
    fn take(&self, at: usize, stream: TcpStream, peer: SocketAddr) {
        let (_, entrance) = &self.listeners[at];
        let refusal = match self.census.admit() {
            Admission::Taken => None,
            Admission::Told(refusal) => Some(refusal),
            Admission::Closed => return,
        };
        let layers = match entrance.layers(peer.ip()) {
            Ok(layers) => layers,
            Err(error) => {
                tracing::error!(%error, "TLS cannot begin");
                return self.census.leave();
            }
        };
        // An acknowledgement must not wait for the next one.
        let _ = stream.set_nodelay(true);
        let accepted = Accepted { stream, peer, layers, read: Vec::new(), refusal };
        self.inboxes.deal(Inbound::Accepted(accepted));
    }
}

/// The connection failed before it was accepted: the next one may be fine.
fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}
