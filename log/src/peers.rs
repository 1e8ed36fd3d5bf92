//! The sockets between nodes: one thread for all lanes of all peers.
//!
//! It accepts and dials ([`crate::cluster::Peering`] says whom), speaks TLS, decodes and checks what
//! comes, and puts it into the [`Inbox`]. What is to be sent is encoded by whoever sends it, straight
//! into the lane's buffer ([`PeersHandle`]). Each lane has bounds of its own, so that a peer that does
//! not read holds up nobody else.

mod connection;
mod driver;
mod files;
mod join;
mod link;
mod resolve;
#[cfg(test)]
mod tests;
mod tls;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};

use crate::cluster::exchange::{Inbox, JoinAnswer, Local, Peers, Sent, Traffic};
use crate::cluster::frame::Frame;
use crate::cluster::peering::Me;

use driver::Driver;
use link::Shared;

pub use files::{ClusterDir, FilesError, Loaded};
pub use join::{JoinError, Joining, join};
pub use tls::{Credentials, TlsError};

/// How nodes speak to each other.
#[derive(Debug)]
pub enum Security {
    /// In the clear, believing what everybody says of itself: only where `cluster.insecure` says so.
    Plain,
    /// Over TLS 1.3 with the cluster's own certificates at both ends.
    Tls(Box<Credentials>),
}

/// What [`start`] needs.
#[derive(Debug)]
pub struct PeersOptions {
    /// Who this node is.
    pub me: Me,
    /// Where the others come in.
    pub listener: TcpListener,
    /// How they speak.
    pub security: Security,
    /// Where it goes what they say.
    pub inbox: Arc<Inbox>,
}

/// Why the peers' thread cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum PeersError {
    /// The system refused something.
    #[error("the connections between nodes cannot be set up")]
    Io(#[from] io::Error),
    /// The credentials cannot be used.
    #[error("the node's credentials cannot be used")]
    Tls(#[from] TlsError),
}

/// Starts the thread. Nobody is dialled before the first [`Peers::update`].
///
/// # Errors
///
/// If the credentials are no credentials, or the system has no room.
pub fn start(options: PeersOptions) -> Result<(PeersHandle, PeersThread), PeersError> {
    let PeersOptions { me, listener, security, inbox } = options;
    let tls = match security {
        Security::Plain => {
            tracing::warn!(
                "cluster.insecure: anybody who reaches the cluster's address can read and change everything"
            );
            None
        }
        Security::Tls(credentials) => Some(tls::Tls::new(me.cluster, &credentials)?),
    };
    let poll = mio::Poll::new()?;
    let shared = Arc::new(Shared::new(&poll)?);
    inbox.set_room(shared.bell());
    let driver = Driver::new(poll, listener, me, tls, Arc::clone(&shared), inbox)?;
    let thread = thread::Builder::new().name("peers".to_owned()).spawn(move || driver.run())?;
    Ok((PeersHandle { shared }, PeersThread { thread }))
}

/// The way to the peers through their sockets. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PeersHandle {
    shared: Arc<Shared>,
}

impl PeersHandle {
    /// Takes leave of everybody and ends the thread.
    pub fn stop(&self) {
        self.shared.is_stopping.store(true, Ordering::SeqCst);
        self.shared.wake();
    }
}

impl Peers for PeersHandle {
    fn send(&mut self, to: u64, frame: &Frame) -> Sent {
        self.shared.send(to, frame)
    }

    fn update(&mut self, local: &Local) {
        self.shared.update(local);
    }

    fn traffic(&self, peer: u64) -> Traffic {
        self.shared.traffic(peer)
    }

    fn answer(&mut self, id: u64, answer: JoinAnswer) {
        link::lock(&self.shared.answers).push((id, answer));
        self.shared.wake();
    }
}

/// The running thread. Dropping it does not stop it; see [`PeersHandle::stop`].
#[derive(Debug)]
pub struct PeersThread {
    thread: JoinHandle<io::Result<()>>,
}

impl PeersThread {
    /// Whether it has ended, asked to or not.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    ///
    /// If it ended since the system refused to wait for sockets, or panicked.
    pub fn join(self) -> io::Result<()> {
        let panicked = |_| Err(io::Error::other("the thread of the peers panicked"));
        self.thread.join().unwrap_or_else(panicked)
    }
}
