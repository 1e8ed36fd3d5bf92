//! What can happen, and its bytes.
//!
//! An event is a fact in the past tense, complete in itself. Events travel in *batches*
//! ([`BatchBuilder`], [`batch::Batch`]); one raft entry carries one batch. The published
//! message has a fixed layout of its own, written in place and read without copying; all other
//! events are written by postcard. `core/README.md` has the layouts.

pub mod batch;
mod builder;
mod message;

pub use builder::BatchBuilder;
pub use message::MessagePublished;

use serde::{Deserialize, Serialize};

use crate::access::RuleList;
use crate::identity::{ClientId, PacketId};
use crate::offset::Offset;
use crate::packet::{ProtocolVersion, QoS, SubscriptionOptions};
use crate::reason::ReasonCode;
use crate::topic::TopicFilter;

/// Version of the event and batch bytes that this code writes.
pub const VERSION: u8 = 1;

/// A Session Expiry Interval that never ends.
pub const NEVER_EXPIRES: u32 = u32::MAX;

/// Bytes that are no event or batch of a known version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("damaged event bytes: {0}")]
pub struct EventError(pub &'static str);

/// An event as readers see it: messages borrow from the batch, the others are owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventRef<'a> {
    /// A message was published.
    MessagePublished(MessagePublished<'a>),
    /// Anything else.
    Other(Event),
}

/// A session at one of its epochs.
///
/// The *epoch* of a session is the offset of its last `SessionOpened`; an event whose epoch is no
/// longer the client's current one is void (decided by the log's admission).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SessionRef {
    /// The client.
    pub client: ClientId,
    /// Offset of the `SessionOpened`.
    pub epoch: Offset,
}

/// Every event but the published message. The session that it concerns stands in the record
/// ([`batch::Record::session`]), not here.
///
/// The order of the variants is part of the format: new ones go to the end, none is removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A node's process started; connections of its earlier starts are gone.
    NodeStarted {
        /// The node.
        node: u64,
        /// Start epoch of the process.
        start: u64,
    },
    /// A client connected; its session was made or resumed. The event's own offset is the epoch,
    /// so its record names no session.
    SessionOpened(Box<SessionOpened>),
    /// The Network Connection of the session ended.
    SessionClosed {
        /// Why, as a DISCONNECT would say it.
        reason: ReasonCode,
        /// Whether the Will Message is to be published (after its delay).
        publish_will: bool,
        /// Session Expiry Interval that counts from now, in seconds.
        session_expiry_interval: u32,
    },
    /// The Session Expiry Interval of a closed session passed; nothing of it is left.
    SessionExpired,
    /// The client made or replaced subscriptions.
    Subscribed {
        /// The subscriptions, in the order of the packet.
        subscriptions: Vec<Subscription>,
    },
    /// The client gave subscriptions up.
    Unsubscribed {
        /// Their filters.
        filters: Vec<TopicFilter>,
    },
    /// The client released QoS 2 messages (PUBREL): their identifiers are free again.
    MessageReleased {
        /// The identifiers.
        packet_ids: Vec<PacketId>,
    },
    /// QoS 2 deliveries to a persistent session, or of a group to any session, got their Packet
    /// Identifiers; logged before the first PUBLISH. One of a group is bound to the session from
    /// here on. `[MQTT-4.8.2-4]` `[MQTT-4.8.2-5]`
    DeliveryStarted {
        /// Identifier and message, in the order of delivery.
        deliveries: Vec<(PacketId, DeliveryRef)>,
    },
    /// The client received QoS 2 messages (PUBREC); logged before PUBREL is sent.
    DeliveryReceived {
        /// The identifiers.
        packet_ids: Vec<PacketId>,
    },
    /// How far deliveries to a persistent session came: all that was owed up to `upto` is settled,
    /// but for what is `outstanding`. Of messages of groups it says only what is outstanding.
    DeliveryProgressed {
        /// The last message handed to the client.
        upto: DeliveryRef,
        /// Handed over and not yet settled, in order.
        outstanding: Vec<Outstanding>,
    },
    /// Messages owed to a session were given up: all from `from` to `upto`, both included. One of
    /// a group stands alone.
    MessageDropped {
        /// The first.
        from: DeliveryRef,
        /// The last.
        upto: DeliveryRef,
        /// Why.
        reason: DropReason,
    },
    /// The client has messages of groups, or refused them: it answered by PUBACK or PUBREC. Nobody
    /// else gets them. `[MQTT-4.8.2-6]`
    ///
    /// Logged for every session, also for one that ends with its connection.
    SharedSettled {
        /// The messages, in the order of the answers.
        deliveries: Vec<DeliveryRef>,
    },
    /// Messages that wait for a member of a group were given up: all up to `upto`, included; for
    /// [`DropReason::Expired`] those of them that have expired by the time of the batch.
    SharedDropped {
        /// The group: its Shared Subscription.
        group: TopicFilter,
        /// The last.
        upto: Offset,
        /// Why.
        reason: DropReason,
    },
    /// The access rules are others from here on.
    AccessRulesReplaced {
        /// All rules; none if everything is allowed but what needs a rule.
        rules: Option<RuleList>,
    },
    /// A node's process is gone, as the others see it: nothing more of that start counts, and its
    /// connections are gone. The node may still run, cut off; it takes another start then.
    NodeLost {
        /// The node.
        node: u64,
        /// Start epoch of the process; earlier ones are gone with it.
        start: u64,
    },
}

impl Event {
    /// Whether the event moves a session's epoch on, or ends sessions: the log's admission looks
    /// at these, and a batch says where they stand.
    #[must_use]
    pub fn is_fence(&self) -> bool {
        matches!(
            self,
            Self::NodeStarted { .. }
                | Self::NodeLost { .. }
                | Self::SessionOpened(_)
                | Self::SessionExpired
                | Self::SessionClosed { session_expiry_interval: 0, .. }
        )
    }
}

/// Content of [`Event::SessionOpened`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionOpened {
    /// The client.
    pub client: ClientId,
    /// User Name, if one was given or a certificate names one.
    pub username: Option<String>,
    /// Whether a password or a certificate has proven the User Name. Such a session belongs to the
    /// user: while it lives, the openings of others with its Client Identifier are void.
    pub is_proven: bool,
    /// Node that holds the connection.
    pub node: u64,
    /// Protocol version.
    pub protocol: ProtocolVersion,
    /// Whether an existing session ends here.
    pub clean_start: bool,
    /// Session Expiry Interval in seconds; 0 ends with the connection. A 3.1.1 session without
    /// Clean Session has [`NEVER_EXPIRES`].
    pub session_expiry_interval: u32,
    /// Keep Alive in force, in seconds; 0 is none.
    pub keep_alive: u16,
    /// Address of the client.
    pub peer: String,
    /// Will Message.
    pub will: Option<WillMessage>,
}

/// A Will Message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WillMessage {
    /// Topic Name.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// Quality of Service.
    pub qos: QoS,
    /// Whether to retain it.
    pub retain: bool,
    /// Will Delay Interval in seconds.
    pub delay_interval: u32,
    /// Message Expiry Interval in seconds.
    pub message_expiry_interval: Option<u32>,
    /// Encoded properties that subscribers see.
    pub properties: Vec<u8>,
}

/// One subscription of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// Topic Filter.
    pub filter: TopicFilter,
    /// Options; `qos` is what was granted.
    pub options: SubscriptionOptions,
    /// Subscription Identifier.
    pub identifier: Option<u32>,
}

/// A message in the order in which one consumer is owed it.
///
/// `nth` is 0 for a message that was published at `at`; a retained message that the `Subscribed`
/// event at `at` brought has its place in that answer, from 1. A message that a session got as a
/// member of a group (Shared Subscription) has the group's number, with [`SHARED`] set: one session
/// may hold the same message by itself and through several groups.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct DeliveryRef {
    /// Offset of the message, or of the subscription that brought it.
    pub at: Offset,
    /// 0, or the place in the answer to the subscription, or the group with [`SHARED`] set.
    pub nth: u32,
}

/// Bit of [`DeliveryRef::nth`] that says that the rest of it is the number of a group.
pub const SHARED: u32 = 1 << 31;

impl DeliveryRef {
    /// The message that was published at `at`, as the group of this number (31 bits) owes it.
    #[must_use]
    pub const fn shared(at: Offset, group: u32) -> Self {
        Self { at, nth: group | SHARED }
    }

    /// The number of the group through which it came, if it came through one.
    #[must_use]
    pub const fn group(self) -> Option<u32> {
        if self.nth & SHARED == 0 { None } else { Some(self.nth & !SHARED) }
    }
}

impl From<Offset> for DeliveryRef {
    fn from(at: Offset) -> Self {
        Self { at, nth: 0 }
    }
}

/// A delivery that was begun and is not settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outstanding {
    /// The message.
    pub message: DeliveryRef,
    /// Its Packet Identifier.
    pub packet_id: PacketId,
    /// How far it came.
    pub phase: DeliveryPhase,
}

/// Steps of a delivery with QoS above 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeliveryPhase {
    /// PUBLISH was or may have been sent.
    Published,
    /// PUBREC came (QoS 2): PUBREL was or may have been sent.
    Received,
}

/// Why owed messages were given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DropReason {
    /// `gateway.limits.queued_messages` or `queued_bytes` was passed: the oldest go.
    QueueFull,
    /// The Message Expiry Interval passed.
    Expired,
    /// The message is larger than the client's Maximum Packet Size.
    TooLarge,
    /// The log was purged beyond the message and it was not kept.
    Purged,
    /// The client may no longer receive messages of that topic.
    NotAuthorized,
}
