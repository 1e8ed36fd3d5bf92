//! One connection of a shard.

use std::net::SocketAddr;

use ledgermq_core::codec;
use ledgermq_core::connection::{Connection, Outputs};
use ledgermq_core::event::{Event, MessagePublished, SessionRef, Subscription};
use ledgermq_core::identity::ClientId;
use ledgermq_core::offset::Timestamp;
use ledgermq_core::packet::{Packet, ProtocolVersion};

use crate::shard::backlog::Backlog;
use crate::shard::stage::Stage;
use crate::shard::stats::ShardStats;
use crate::shard::table::Token;

/// Buffers up to this size are kept by an idle connection; larger ones are freed.
const KEPT_BYTES: usize = 512;

/// A connection: its machine, its buffers, and what it is owed.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) machine: Connection,
    pub(crate) link: Link,
    /// Bytes of a packet that has not come whole, or that may not be taken yet.
    pub(crate) input: Vec<u8>,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) backlog: Option<Box<Backlog>>,
    /// `SessionOpened` is on its way.
    pub(crate) is_opening: bool,
    /// `link.session` is not found by its names any more.
    pub(crate) is_detached: bool,
    /// It stands in the list of those whose progress is to be logged.
    pub(crate) is_unlogged: bool,
    /// Its input is not taken for a reason of ours.
    pub(crate) is_paused: bool,
}

/// The outward side of a connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) peer: SocketAddr,
    pub(crate) version: ProtocolVersion,
    pub(crate) session: Option<SessionRef>,
    output: Vec<u8>,
    written: usize,
    /// It stands in the list of those that have something to write.
    pub(crate) is_dirty: bool,
    /// It waits for a batch or a view.
    pub(crate) is_starving: bool,
    /// The transport is to be closed after the output.
    pub(crate) is_ending: bool,
    /// The transport is closed.
    pub(crate) is_gone: bool,
}

impl Client {
    pub(crate) fn new(now: Timestamp, peer: SocketAddr) -> Self {
        Self {
            machine: Connection::new(now),
            link: Link {
                peer,
                version: ProtocolVersion::V5,
                session: None,
                output: Vec::new(),
                written: 0,
                is_dirty: false,
                is_starving: false,
                is_ending: false,
                is_gone: false,
            },
            input: Vec::new(),
            subscriptions: Vec::new(),
            backlog: None,
            is_opening: false,
            is_detached: false,
            is_unlogged: false,
            is_paused: false,
        }
    }
}

impl Link {
    pub(crate) fn unwritten(&self) -> &[u8] {
        &self.output[self.written..]
    }

    pub(crate) fn written(&mut self, bytes: usize) {
        self.written += bytes;
        if self.written == self.output.len() {
            self.written = 0;
            self.output.clear();
            if self.output.capacity() > KEPT_BYTES {
                self.output = Vec::new();
            }
        }
    }
}

/// Where a connection's machine puts its decisions.
pub(crate) struct Sink<'a> {
    pub(crate) link: &'a mut Link,
    pub(crate) stage: &'a mut Stage,
    pub(crate) stats: &'a mut ShardStats,
    pub(crate) token: Token,
}

impl Outputs for Sink<'_> {
    fn send(&mut self, packet: &Packet<'_>) {
        // What the codec cannot express in this version (a string beyond 65,535 bytes) is none of
        // the packets that a machine makes; should one come, it is not sent half.
        let encoded = codec::encode(packet, self.link.version, &mut self.link.output);
        debug_assert!(encoded.is_ok(), "{encoded:?}");
    }

    fn publish(&mut self, message: &MessagePublished<'_>) {
        self.stage.publish(self.link.session.as_ref(), message);
    }

    fn append(&mut self, event: Event) {
        if matches!(event, Event::SessionOpened(_)) {
            self.stage.opening.push_back(self.token);
        }
        self.stage.append(self.link.session.as_ref(), &event);
    }

    fn refused(&mut self) {
        self.stats.refused += 1;
    }

    fn close(&mut self) {
        self.link.is_ending = true;
    }

    fn peer(&self) -> String {
        self.link.peer.to_string()
    }

    fn assign_client_id(&mut self) -> ClientId {
        self.stage.assign_client_id()
    }
}
