//! The network: connections whose bytes come in pieces, late, and perhaps not at all.

use std::collections::{BTreeMap, VecDeque};

use crate::rng::Rng;

/// Number of a connection, never used again.
pub(crate) type ConnId = u32;

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct Network {
    pub(crate) connections: BTreeMap<ConnId, Connection>,
    last: ConnId,
}

/// One connection with its two directions.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The node at the other end.
    pub(crate) node: u64,
    /// From the client to the node.
    pub(crate) up: Pipe,
    /// From the node to the client.
    pub(crate) down: Pipe,
    /// The node has taken it.
    pub(crate) is_accepted: bool,
    /// No byte passes any more, and nobody is told.
    pub(crate) is_silent: bool,
    pub(crate) client_left: bool,
    pub(crate) node_left: bool,
}

/// One direction: bytes on their way, and bytes that arrived and were not read.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    travelling: VecDeque<u8>,
    arrived: VecDeque<u8>,
    /// The sender closed it behind the last byte.
    is_closed: bool,
    /// The reader may learn of the end: after the last byte, or at once after a reset.
    is_reset: bool,
}

/// What a reader gets.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Bytes(Vec<u8>),
    Nothing,
    Closed,
}

impl Network {
    /// A client's new connection to `node`.
    pub(crate) fn connect(&mut self, node: u64) -> ConnId {
        self.last += 1;
        let connection = Connection {
            node,
            up: Pipe::default(),
            down: Pipe::default(),
            is_accepted: false,
            is_silent: false,
            client_left: false,
            node_left: false,
        };
        self.connections.insert(self.last, connection);
        self.last
    }

    pub(crate) fn get_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.connections.get_mut(&id)
    }

    /// Forgets what both sides have left.
    pub(crate) fn sweep(&mut self) {
        self.connections.retain(|_, connection| !(connection.client_left && connection.node_left));
    }

    /// Whether no byte is on its way.
    pub(crate) fn is_silent(&self) -> bool {
        self.connections.values().all(|connection| {
            let pipes = [&connection.up, &connection.down];
            pipes.iter().all(|pipe| pipe.travelling.is_empty() && pipe.arrived.is_empty())
        })
    }

    /// A random connection, if there is one.
    pub(crate) fn any(&self, rng: &mut Rng) -> Option<ConnId> {
        if self.connections.is_empty() {
            return None;
        }
        let at = rng.size(0, self.connections.len() - 1);
        self.connections.keys().nth(at).copied()
    }

    /// The node's process is gone: the kernel resets its connections (or, after a power cut, does
    /// not).
    /// Whoever sits at a path that fell silent learns of it.
    pub(crate) fn end_silence(&mut self) {
        for connection in self.connections.values_mut().filter(|it| it.is_silent) {
            connection.reset();
        }
    }

    /// Nobody listens there any more.
    pub(crate) fn refuse(&mut self, node: u64) {
        let knocks = |it: &&mut Connection| it.node == node && !it.is_accepted;
        for connection in self.connections.values_mut().filter(knocks) {
            connection.reset();
            connection.node_left = true;
        }
    }

    pub(crate) fn node_died(&mut self, node: u64, rng: &mut Rng) {
        for connection in self.connections.values_mut().filter(|it| it.node == node) {
            connection.node_left = true;
            if rng.permille(200) {
                connection.is_silent = true;
            } else {
                connection.down.reset();
            }
            connection.up = Pipe::default();
        }
    }
}

impl Connection {
    /// Moves bytes on.
    pub(crate) fn advance(&mut self, rng: &mut Rng) {
        if !self.is_silent {
            self.up.advance(rng);
            self.down.advance(rng);
        }
    }

    /// The path fails: both sides learn of it, each at its next look.
    pub(crate) fn reset(&mut self) {
        self.up.reset();
        self.down.reset();
    }
}

impl Pipe {
    /// Takes bytes as long as fewer than `max` are under way; says how many.
    pub(crate) fn send(&mut self, bytes: &[u8], max: usize) -> Option<usize> {
        if self.is_reset {
            return None;
        }
        let room = max.saturating_sub(self.travelling.len() + self.arrived.len());
        let taken = bytes.len().min(room);
        self.travelling.extend(&bytes[..taken]);
        Some(taken)
    }

    pub(crate) fn close(&mut self) {
        self.is_closed = true;
    }

    fn reset(&mut self) {
        *self = Self { is_reset: true, ..Self::default() };
    }

    pub(crate) fn read(&mut self, max: usize) -> Read {
        let bytes = self.arrived.len().min(max);
        if bytes > 0 {
            return Read::Bytes(self.arrived.drain(..bytes).collect());
        }
        if self.is_reset || (self.is_closed && self.travelling.is_empty()) {
            return Read::Closed;
        }
        Read::Nothing
    }

    /// Whether a read would give something.
    pub(crate) fn is_readable(&self) -> bool {
        !self.arrived.is_empty() || self.is_reset || (self.is_closed && self.travelling.is_empty())
    }

    fn advance(&mut self, rng: &mut Rng) {
        if self.travelling.is_empty() {
            return;
        }
        let bytes = match rng.below(4) {
            0 => rng.size(1, 4).min(self.travelling.len()),
            1 => rng.size(1, self.travelling.len()),
            _ => self.travelling.len(),
        };
        self.arrived.extend(self.travelling.drain(..bytes));
    }
}
