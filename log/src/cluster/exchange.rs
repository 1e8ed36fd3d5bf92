//! How the log and the connections to other nodes meet.

use crate::cluster::frame::{Frame, Hello};

/// What comes to the log from another node.
#[derive(Clone, Debug, PartialEq)]
pub enum PeerInput {
    /// All lanes of a peer are there.
    Connected {
        /// The peer.
        peer: u64,
        /// What it said of itself.
        hello: Box<Hello>,
    },
    /// They are gone, and what was sent last may be lost.
    Disconnected {
        /// The peer.
        peer: u64,
    },
    /// It sent this; what of it can be checked without the log's state was checked.
    Frame {
        /// The peer.
        from: u64,
        /// What it sent.
        frame: Frame,
    },
}

/// What became of a frame that was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way, as far as can be known.
    Taken,
    /// There is no connection.
    Down,
    /// As much as may wait for the peer is waiting.
    Full,
}

/// The way to the other nodes.
pub trait Peers: Send {
    /// Sends a frame, or drops it. Never waits.
    fn send(&mut self, to: u64, frame: &Frame) -> Sent;
}

/// No other nodes.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPeers;

impl Peers for NoPeers {
    fn send(&mut self, _to: u64, _frame: &Frame) -> Sent {
        Sent::Down
    }
}
