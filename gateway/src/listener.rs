//! Accepting Network Connections: one thread for all listeners deals them to the workers in turn.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::inbox::{Inbound, Inboxes};

const WAKER: Token = Token(usize::MAX);
/// How long to leave a listener alone when the process has no file descriptor left.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Connections of the node, counted by acceptor and workers.
#[derive(Debug, Default)]
pub(crate) struct Census {
    /// Open connections.
    pub(crate) connections: AtomicUsize,
    /// Connections closed at once because there were too many.
    pub(crate) refused: AtomicU64,
}

/// The acceptor: all listeners of the node.
pub(crate) struct Acceptor {
    poll: Poll,
    listeners: Vec<TcpListener>,
    inboxes: Inboxes,
    census: Arc<Census>,
    connections_max: usize,
    stop: Arc<AtomicBool>,
    next: usize,
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
    /// Binds `addresses`; answers with the addresses that came of it (a port 0 is chosen).
    pub(crate) fn bind(
        addresses: &[SocketAddr],
        inboxes: Inboxes,
        census: Arc<Census>,
        connections_max: usize,
    ) -> Result<(Self, StopAccepting, Vec<SocketAddr>), (SocketAddr, io::Error)> {
        let none = SocketAddr::from(([0, 0, 0, 0], 0));
        let poll = Poll::new().map_err(|error| (none, error))?;
        let waker = Waker::new(poll.registry(), WAKER).map_err(|error| (none, error))?;
        let mut listeners = Vec::new();
        let mut bound = Vec::new();
        for address in addresses {
            let listen = || {
                let mut listener = TcpListener::bind(*address)?;
                let token = Token(listeners.len());
                poll.registry().register(&mut listener, token, Interest::READABLE)?;
                let address = listener.local_addr()?;
                Ok((listener, address))
            };
            let (listener, at) = listen().map_err(|error| (*address, error))?;
            listeners.push(listener);
            bound.push(at);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopper = StopAccepting { stop: Arc::clone(&stop), waker: Arc::new(waker) };
        let acceptor = Self { poll, listeners, inboxes, census, connections_max, stop, next: 0 };
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
            match self.listeners[at].accept() {
                Ok((stream, peer)) => {
                    let connections = self.census.connections.load(Ordering::Relaxed);
                    if connections >= self.connections_max {
                        self.census.refused.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    self.census.connections.fetch_add(1, Ordering::Relaxed);
                    // An acknowledgement must not wait for the next one.
                    let _ = stream.set_nodelay(true);
                    let (_, inbox) = &self.inboxes.0[self.next % self.inboxes.0.len()];
                    inbox.push(Inbound::Accepted(stream, peer));
                    self.next = self.next.wrapping_add(1);
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
