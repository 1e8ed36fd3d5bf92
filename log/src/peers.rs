//! The sockets between nodes: all lanes of all peers, turned by the thread that drives the log.
//!
//! They accept and dial ([`crate::cluster::Peering`] says whom), speak TLS, decode and check what
//! comes, and keep it until it is taken. What is to be sent is encoded straight into the lane's
//! buffer. Each lane has bounds of its own, so that a peer that does not read holds up nobody else.

mod connection;
mod files;
mod join;
mod link;
mod resolve;
mod sockets;
#[cfg(test)]
mod tests;
mod tls;

use std::io;
use std::net::TcpListener;

use crate::cluster::peering::Me;

pub use files::{ClusterDir, FilesError, Loaded, Repair};
pub use join::{JoinError, Joining, join};
pub use sockets::Sockets;
pub use tls::{Credentials, TlsError};

/// How nodes speak to each other.
#[derive(Debug)]
pub enum Security {
    /// In the clear, believing what everybody says of itself: only where `cluster.insecure` says so.
    Plain,
    /// Over TLS 1.3 with the cluster's own certificates at both ends.
    Tls(Box<Credentials>),
}

/// What [`open`] needs.
#[derive(Debug)]
pub struct PeersOptions {
    /// Who this node is.
    pub me: Me,
    /// Where the others come in.
    pub listener: TcpListener,
    /// How they speak.
    pub security: Security,
    /// Bytes of what they say that wait to be taken, at most.
    pub inbox_bytes: usize,
}

/// Why there are no sockets.
#[derive(Debug, thiserror::Error)]
pub enum PeersError {
    /// The system refused something.
    #[error("the connections between nodes cannot be set up")]
    Io(#[from] io::Error),
    /// The credentials cannot be used.
    #[error("the node's credentials cannot be used")]
    Tls(#[from] TlsError),
}

/// Opens the sockets. Nobody is dialled before the first [`crate::cluster::Peers::update`].
///
/// # Errors
///
/// If the credentials are no credentials, or the system has no room.
pub fn open(options: PeersOptions) -> Result<Sockets, PeersError> {
    let PeersOptions { me, listener, security, inbox_bytes } = options;
    let tls = match security {
        Security::Plain => {
            tracing::warn!(
                "cluster.insecure: anybody who reaches the cluster's address can read and change everything"
            );
            None
        }
        Security::Tls(credentials) => Some(tls::Tls::new(me.cluster, &credentials)?),
    };
    Ok(Sockets::new(listener, me, tls, inbox_bytes)?)
}
