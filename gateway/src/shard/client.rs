//! One connection of a shard.

use std::net::SocketAddr;

use ledgermq_core::codec;
use ledgermq_core::connection::{Connection, Outputs, Refusal, Request, Settings};
use ledgermq_core::event::{Event, MessagePublished, SessionRef, Subscription};
use ledgermq_core::identity::ClientId;
use ledgermq_core::offset::Timestamp;
use ledgermq_core::packet::{Packet, ProtocolVersion};
use ledgermq_core::topic::{TopicFilter, filter_bytes};

use crate::shard::access::Asked;
use crate::shard::backlog::Backlog;
use crate::shard::control::Control;
use crate::shard::counts::ConnectionCounts;
use crate::shard::held::Held;
use crate::shard::spare::SpareBuffers;
use crate::shard::stage::Stage;
use crate::shard::stats::ShardStats;
use crate::shard::table::Token;

/// A connection: its machine, its buffers, and what it is owed.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) machine: Connection,
    pub(crate) link: Link,
    /// Bytes of a packet that has not come whole, or that may not be taken yet.
    pub(crate) input: Vec<u8>,
    /// What is set aside for the packet that has begun in it.
    pub(crate) reserved_bytes: usize,
    /// What of it counts in what the shard holds.
    pub(crate) held: Held,
    /// Bytes of `input` that count among the shard's unfinished ones.
    pub(crate) unfinished_bytes: usize,
    /// Ordered by filter.
    pub(crate) subscriptions: Vec<Subscription>,
    /// What their filters count.
    pub(crate) subscription_bytes: usize,
    /// How many of them are shared.
    pub(crate) shared_subscriptions: usize,
    pub(crate) backlog: Option<Box<Backlog>>,
    /// `SessionOpened` is on its way.
    pub(crate) is_opening: bool,
    /// `link.session` is not found by its names any more.
    pub(crate) is_detached: bool,
    /// It stands in the list of those whose progress is to be logged.
    pub(crate) is_unlogged: bool,
    /// Why its input is not taken, if it is not.
    pub(crate) pause: Option<Pause>,
    /// From when on its entry in the wheel is returned.
    pub(crate) scheduled: Option<Timestamp>,
}

/// Why the input of a connection is not taken for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    /// Its session is being opened.
    Opening,
    /// The log takes no messages, and the client cannot be told.
    Withheld,
    /// The client does not read what it is answered.
    Answers,
    /// It published faster than it may, and cannot be told.
    Throttled,
    /// It has begun a packet for which the node has no memory just now.
    Memory,
    /// Answers to its subscriptions, with much that is retained, are on their way.
    Subscribing,
}

/// What a client that has read nothing can be given: what the system keeps of what it cannot send yet,
/// and what the client's system takes for it, with room to spare.
const READ_BYTES_MIN: u32 = 1 << 20;

/// The outward side of a connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) peer: SocketAddr,
    /// Who the client has proved to be below MQTT.
    pub(crate) identity: Option<Box<str>>,
    pub(crate) version: ProtocolVersion,
    pub(crate) session: Option<SessionRef>,
    output: Vec<u8>,
    written: usize,
    /// It stands in the list of those that have something to write.
    pub(crate) is_dirty: bool,
    /// Its socket took nothing more when it was last written to.
    pub(crate) is_blocked: bool,
    /// Bytes that its socket took since it last took nothing more.
    taken: u32,
    /// It waits for a batch or a view.
    pub(crate) is_starving: bool,
    /// The transport is to be closed after the output.
    pub(crate) is_ending: bool,
    /// The transport is closed.
    pub(crate) is_gone: bool,
    /// From its first packet on: what has not come so far costs less.
    pub(crate) counts: Option<Box<ConnectionCounts>>,
    /// SUBSCRIBEs whose retained messages have not come.
    pub(crate) subscribing: u32,
    /// How long the client may take to read the rest, once `is_ending`.
    pub(crate) linger_until: Timestamp,
}

impl Client {
    pub(crate) fn new(now: Timestamp, peer: SocketAddr) -> Self {
        Self {
            machine: Connection::new(now),
            link: Link {
                peer,
                identity: None,
                version: ProtocolVersion::V5,
                session: None,
                output: Vec::new(),
                written: 0,
                is_dirty: false,
                is_blocked: false,
                taken: 0,
                is_starving: false,
                is_ending: false,
                is_gone: false,
                counts: None,
                subscribing: 0,
                linger_until: now,
            },
            input: Vec::new(),
            reserved_bytes: 0,
            held: Held::default(),
            unfinished_bytes: 0,
            subscriptions: Vec::new(),
            subscription_bytes: 0,
            shared_subscriptions: 0,
            backlog: None,
            is_opening: false,
            is_detached: false,
            is_unlogged: false,
            pause: None,
            scheduled: None,
        }
    }

    /// Place of the subscription to `filter`, or of where it would stand.
    pub(crate) fn place(&self, filter: &TopicFilter) -> Result<usize, usize> {
        find(&self.subscriptions, filter)
    }

    /// Counts its subscriptions after they were replaced.
    pub(crate) fn count_subscriptions(&mut self) {
        (self.subscription_bytes, self.shared_subscriptions) = (0, 0);
        for at in 0..self.subscriptions.len() {
            self.count_subscription(at);
        }
    }

    /// Counts the subscription at this place, which is new.
    pub(crate) fn count_subscription(&mut self, at: usize) {
        let filter = &self.subscriptions[at].filter;
        self.subscription_bytes += filter_bytes(filter);
        self.shared_subscriptions += usize::from(filter.is_shared());
    }

    /// When it is to be looked at, if ever: it was silent, or did not read, for too long.
    pub(crate) fn deadline(&self, settings: &Settings) -> Option<Timestamp> {
        match self.link.is_ending {
            true => Some(self.link.linger_until),
            false => self.machine.silent_until(settings),
        }
    }

    /// Whether its silence is our own doing.
    pub(crate) fn is_excused(&self) -> bool {
        match self.pause {
            Some(
                Pause::Opening
                | Pause::Withheld
                | Pause::Throttled
                | Pause::Memory
                | Pause::Subscribing,
            ) => true,
            Some(Pause::Answers) | None => false,
        }
    }
}

impl Link {
    pub(crate) fn unwritten(&self) -> &[u8] {
        &self.output[self.written..]
    }

    /// Adds packets of that many messages, which are encoded already, to what is written next.
    pub(crate) fn copy(&mut self, bytes: &[u8], messages: u64, spare: &mut SpareBuffers) {
        self.counts.get_or_insert_default().messages_sent += messages;
        if self.output.capacity() == 0 {
            self.output = spare.take();
        }
        self.output.extend_from_slice(bytes);
    }

    /// So many bytes were written. A buffer that is empty by that goes to `spare`.
    pub(crate) fn written(&mut self, bytes: usize, spare: &mut SpareBuffers) {
        self.is_blocked = false;
        self.taken = self.taken.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        self.written += bytes;
        if self.written == self.output.len() {
            self.written = 0;
            spare.give(std::mem::take(&mut self.output));
        } else if self.written > self.output.len() / 2 {
            // A client that reads slowly, but always something, never empties it.
            self.output.drain(..self.written);
            self.written = 0;
        }
    }

    /// The socket takes nothing more for now. The buffer stays as long as that: a large one that came
    /// from others is let go.
    pub(crate) fn set_blocked(&mut self) {
        self.is_blocked = true;
        self.taken = 0;
        if self.output.capacity() / 2 > self.output.len() {
            self.output.shrink_to_fit();
        }
    }

    /// Whether there is no doubt that its client reads: it took more than systems keep for one that
    /// does not.
    pub(crate) fn is_read(&self) -> bool {
        self.taken >= READ_BYTES_MIN
    }

    /// Bytes held, those that were written included.
    pub(crate) fn held_bytes(&self) -> usize {
        if self.is_blocked { self.output.capacity() } else { self.output.len() }
    }
}

/// Place of the subscription to `filter` among `subscriptions`, ordered by filter.
pub(crate) fn find(subscriptions: &[Subscription], filter: &TopicFilter) -> Result<usize, usize> {
    subscriptions.binary_search_by(|held| held.filter.cmp(filter))
}

/// Where a connection's machine puts its decisions.
pub(crate) struct Sink<'a> {
    pub(crate) subscriptions: &'a [Subscription],
    pub(crate) subscription_bytes: usize,
    pub(crate) shared_subscriptions: usize,
    pub(crate) is_unread: bool,
    pub(crate) has_session: bool,
    pub(crate) is_retained: bool,
    pub(crate) link: &'a mut Link,
    pub(crate) stage: &'a mut Stage,
    pub(crate) stats: &'a mut ShardStats,
    pub(crate) asked: &'a mut Vec<Asked>,
    pub(crate) controls: &'a mut Vec<Control>,
    pub(crate) spare: &'a mut SpareBuffers,
    pub(crate) token: Token,
}

impl Outputs for Sink<'_> {
    fn send(&mut self, packet: &Packet<'_>) {
        self.stats.packets_sent += 1;
        if let Packet::Publish(publish) = packet {
            self.stats.payload_bytes_sent += publish.payload.len() as u64;
            self.link.counts.get_or_insert_default().messages_sent += 1;
        }
        if self.link.output.capacity() == 0 {
            self.link.output = self.spare.take();
        }
        // What the codec cannot express in this version (a string beyond 65,535 bytes) is none of
        // the packets that a machine makes; should one come, it is not sent half.
        let encoded = codec::encode(packet, self.link.version, &mut self.link.output);
        debug_assert!(encoded.is_ok(), "{encoded:?}");
    }

    fn publish(&mut self, message: &MessagePublished<'_>) {
        self.stage.publish(self.link.session.as_ref(), message);
    }

    fn control(&mut self, topic: &str, payload: &[u8]) {
        self.controls.push(Control {
            token: self.token,
            topic: topic.into(),
            payload: payload.into(),
        });
    }

    fn append(&mut self, event: Event) {
        match event {
            Event::SessionOpened(_) => self.stage.opening.push_back(self.token),
            Event::Subscribed { .. } => self.link.subscribing += 1,
            _ => {}
        }
        self.stage.append(self.link.session.as_ref(), &event);
    }

    fn subscriptions(&self) -> usize {
        self.subscriptions.len()
    }

    fn shared_subscriptions(&self) -> usize {
        self.shared_subscriptions
    }

    fn subscription_bytes(&self) -> usize {
        self.subscription_bytes
    }

    fn is_subscribed(&self, filter: &TopicFilter) -> bool {
        find(self.subscriptions, filter).is_ok()
    }

    fn has_session(&self) -> bool {
        self.has_session
    }

    fn is_unread(&self) -> bool {
        self.is_unread
    }

    fn is_retained(&self, _topic: &str) -> bool {
        self.is_retained
    }

    fn refused(&mut self, request: Request, refusal: Refusal) {
        self.stats.refused[request as usize][refusal as usize] += 1;
        let counts = self.link.counts.get_or_insert_default();
        counts.messages_refused += u64::from(request == Request::Publish);
    }

    fn authenticate(&mut self, username: &str, password: &[u8]) {
        let (username, password) = (username.into(), password.into());
        let (token, peer) = (self.token, self.link.peer);
        self.asked.push(Asked { token, peer, username, password });
    }

    fn close(&mut self) {
        self.link.is_ending = true;
    }

    fn peer(&self) -> String {
        self.link.peer.to_string()
    }

    fn identity(&self) -> Option<&str> {
        self.link.identity.as_deref()
    }

    fn assign_client_id(&mut self) -> ClientId {
        self.stage.assign_client_id()
    }
}
