//! One session.

use ledgermq_core::event::{DeliveryRef, Outstanding, SessionOpened, Subscription, WillMessage};
use ledgermq_core::identity::{ClientId, PacketId, ProducerId};
use ledgermq_core::offset::{Offset, Timestamp};
use ledgermq_core::packet::ProtocolVersion;
use ledgermq_core::topic::TopicFilter;
use serde::{Deserialize, Serialize};

use crate::time;
use crate::views::owed::OwedSet;
use crate::views::presence::Presence;

/// A session: its head, its subscriptions, what it is owed.
#[derive(Debug)]
pub struct Session {
    pub(crate) head: Head,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) owed: OwedSet,
    /// The expiry under which the session stands in the table of owed expiries; a lower bound.
    pub(crate) owed_expiry: Option<Timestamp>,
}

/// What of a session stands in its own row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) client: ClientId,
    pub(crate) epoch: Offset,
    pub(crate) producer: ProducerId,
    pub(crate) node: u64,
    pub(crate) username: Option<Box<str>>,
    pub(crate) peer: Box<str>,
    pub(crate) protocol: ProtocolVersion,
    pub(crate) keep_alive: u16,
    pub(crate) session_expiry_interval: u32,
    /// The last connection resumed it.
    pub(crate) is_resumed: bool,
    pub(crate) presence: Presence,
    pub(crate) will: Option<Box<WillMessage>>,
    pub(crate) inbound: Vec<PacketId>,
    pub(crate) cursor: DeliveryRef,
    pub(crate) outstanding: Vec<Outstanding>,
}

impl Session {
    /// A new session as `opened` says.
    pub(crate) fn new(
        opened: SessionOpened,
        epoch: Offset,
        producer: ProducerId,
        time: Timestamp,
    ) -> Self {
        Self {
            head: Head {
                client: opened.client,
                epoch,
                producer,
                node: opened.node,
                username: opened.username.map(Into::into),
                peer: opened.peer.into(),
                protocol: opened.protocol,
                keep_alive: opened.keep_alive,
                session_expiry_interval: opened.session_expiry_interval,
                is_resumed: false,
                presence: Presence::Online { since: time },
                will: opened.will.map(Box::new),
                inbound: Vec::new(),
                cursor: DeliveryRef::default(),
                outstanding: Vec::new(),
            },
            subscriptions: Vec::new(),
            owed: OwedSet::default(),
            owed_expiry: None,
        }
    }

    /// The client.
    #[must_use]
    pub fn client(&self) -> &ClientId {
        &self.head.client
    }

    /// Offset of the last `SessionOpened`.
    #[must_use]
    pub fn epoch(&self) -> Offset {
        self.head.epoch
    }

    /// Node of the last connection.
    #[must_use]
    pub fn node(&self) -> u64 {
        self.head.node
    }

    /// User Name of the last connection.
    #[must_use]
    pub fn username(&self) -> Option<&str> {
        self.head.username.as_deref()
    }

    /// Address of the last connection.
    #[must_use]
    pub fn peer(&self) -> &str {
        &self.head.peer
    }

    /// Protocol version of the last connection.
    #[must_use]
    pub fn protocol(&self) -> ProtocolVersion {
        self.head.protocol
    }

    /// Keep Alive of the last connection, in seconds.
    #[must_use]
    pub fn keep_alive(&self) -> u16 {
        self.head.keep_alive
    }

    /// Session Expiry Interval in seconds.
    #[must_use]
    pub fn session_expiry_interval(&self) -> u32 {
        self.head.session_expiry_interval
    }

    /// Whether messages are owed to the session: it outlives its connection, or it outlived an
    /// earlier one. (The latter knows its subscriptions only when the log is folded, so what
    /// comes between could not be matched for it as it comes.)
    #[must_use]
    pub fn is_persistent(&self) -> bool {
        self.outlives_connection() || self.head.is_resumed
    }

    /// Whether the session goes on when its connection ends.
    #[must_use]
    pub fn outlives_connection(&self) -> bool {
        self.head.session_expiry_interval > 0
    }

    /// Whether its client is connected.
    #[must_use]
    pub fn presence(&self) -> Presence {
        self.head.presence
    }

    /// When the session expires; none while it is online or if it never does.
    #[must_use]
    pub fn expires(&self) -> Option<Timestamp> {
        match self.head.presence {
            Presence::Online { .. } => None,
            Presence::Offline { since, .. } => {
                time::expiry(since, self.head.session_expiry_interval)
            }
        }
    }

    /// The subscriptions, ordered by filter.
    #[must_use]
    pub fn subscriptions(&self) -> &[Subscription] {
        &self.subscriptions
    }

    /// The subscription to `filter`.
    #[must_use]
    pub fn subscription(&self, filter: &TopicFilter) -> Option<&Subscription> {
        self.place(filter).ok().map(|at| &self.subscriptions[at])
    }

    /// QoS 2 messages received and not released, ascending.
    #[must_use]
    pub fn inbound(&self) -> &[PacketId] {
        &self.head.inbound
    }

    /// Deliveries begun and not settled.
    #[must_use]
    pub fn outstanding(&self) -> &[Outstanding] {
        &self.head.outstanding
    }

    /// Everything owed up to here was handed to the client.
    #[must_use]
    pub fn cursor(&self) -> DeliveryRef {
        self.head.cursor
    }

    /// Whether its connection leaves a will, should it break.
    #[must_use]
    pub fn has_will(&self) -> bool {
        self.head.will.is_some()
    }

    /// Number of messages owed.
    #[must_use]
    pub fn owed_messages(&self) -> usize {
        self.owed.len()
    }

    /// Bytes of the messages owed.
    #[must_use]
    pub fn owed_bytes(&self) -> u64 {
        self.owed.bytes()
    }

    /// Adds or replaces a subscription; returns the old one.
    pub(crate) fn subscribe(&mut self, subscription: Subscription) -> Option<Subscription> {
        match self.place(&subscription.filter) {
            Ok(at) => Some(std::mem::replace(&mut self.subscriptions[at], subscription)),
            Err(at) => {
                if self.subscriptions.is_empty() {
                    self.subscriptions.reserve_exact(1);
                }
                self.subscriptions.insert(at, subscription);
                None
            }
        }
    }

    /// Removes the subscription to `filter`.
    pub(crate) fn unsubscribe(&mut self, filter: &TopicFilter) -> Option<Subscription> {
        self.place(filter).ok().map(|at| self.subscriptions.remove(at))
    }

    fn place(&self, filter: &TopicFilter) -> Result<usize, usize> {
        self.subscriptions.binary_search_by(|held| held.filter.cmp(filter))
    }
}
