//! What the fold tells the gateway.

use std::sync::Arc;

use ledgermq_core::event::{DeliveryRef, Outstanding, Subscription};
use ledgermq_core::identity::{ClientId, PacketId, ProducerId};
use ledgermq_core::offset::{Index, Offset};
use ledgermq_core::packet::QoS;
use ledgermq_core::reason::ReasonCode;

use crate::views::retained::RetainedMessage;

/// Something that a connection waits for, found by the fold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A session was opened; emitted for every `SessionOpened` that is not void.
    SessionReady {
        /// Who opened it.
        producer: ProducerId,
        /// Offset of the `SessionOpened`.
        epoch: Offset,
        /// The client.
        client: ClientId,
        /// What the session brings along.
        state: Box<SessionState>,
    },
    /// The retained messages that a `Subscribed` brings; emitted for every `Subscribed` that is
    /// not void, also when there is none.
    Retained {
        /// Who subscribed.
        producer: ProducerId,
        /// Epoch of the session.
        epoch: Offset,
        /// Offset of the `Subscribed`.
        at: Offset,
        /// The messages as of `at`, oldest first.
        messages: Vec<RetainedDelivery>,
    },
    /// A session ended or was taken over while it may still be connected.
    SessionEnded {
        /// Who opened it.
        producer: ProducerId,
        /// The client.
        client: ClientId,
        /// The epoch that ended.
        epoch: Offset,
        /// Why, as a DISCONNECT would say it.
        reason: ReasonCode,
    },
    /// A session was given messages as a member of groups (Shared Subscriptions).
    Shared {
        /// Who opened the session.
        producer: ProducerId,
        /// Epoch of the session.
        epoch: Offset,
        /// The batch by which they were given. Its messages, but also older ones.
        index: Index,
        /// The messages, in the order in which they were given.
        deliveries: Vec<SharedDelivery>,
    },
}

impl Notice {
    /// The producer whose connection it concerns.
    #[must_use]
    pub fn producer(&self) -> ProducerId {
        match self {
            Self::SessionReady { producer, .. }
            | Self::Retained { producer, .. }
            | Self::SessionEnded { producer, .. }
            | Self::Shared { producer, .. } => *producer,
        }
    }
}

/// A message that a session is given as a member of a group.
///
/// Of QoS 1 and 2 a session holds at most [`crate::views::shared::SHARED_WINDOW`] of each group that
/// it has not settled. Its content is in the log or was kept from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedDelivery {
    /// Message and group.
    pub message: DeliveryRef,
    /// The lower of the message's and the granted QoS.
    pub qos: QoS,
    /// RETAIN flag to send.
    pub retain: bool,
    /// Identifier of the Shared Subscription.
    pub identifier: Option<u32>,
}

/// What a session brings along when it is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionState {
    /// Whether an existing session was resumed (Session Present).
    pub session_present: bool,
    /// Its subscriptions, ordered by filter.
    pub subscriptions: Vec<Subscription>,
    /// QoS 2 messages received and not released, ascending.
    pub inbound: Vec<PacketId>,
    /// Deliveries begun and not settled.
    ///
    /// A QoS 2 delivery whose identifier was logged may lie beyond `cursor`. Whoever resumes the
    /// session walks [`crate::views::Views::owed`] from `DeliveryRef::default()` (not from
    /// `cursor`), so that each unsettled message comes once, in order.
    pub outstanding: Vec<Outstanding>,
    /// Of `outstanding`, the messages of groups that are bound to the session (QoS 2): to be sent
    /// again, in their order.
    pub shared: Vec<SharedDelivery>,
    /// Everything owed up to here was handed to the client; of it, `outstanding` is unsettled.
    pub cursor: DeliveryRef,
    /// Number of messages owed, those outstanding and not yet received included.
    pub owed: usize,
}

/// A retained message for a new subscription. Its RETAIN flag is 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetainedDelivery {
    /// The message.
    pub message: Arc<RetainedMessage>,
    /// The lower of the publisher's and the highest granted QoS.
    pub qos: QoS,
    /// Identifiers of the matching subscriptions of the event.
    pub identifiers: Vec<u32>,
    /// Place in this answer, from 1: the `nth` of its `DeliveryRef`.
    pub nth: u32,
}

/// Takes notices in: routes them to the workers and wakes these. Must not block.
pub trait NoticeSink: Send {
    /// Called once per turn of the projection thread, after the views were applied up to
    /// `applied`. Takes what it needs out of `notices`; what is left is dropped.
    fn notices(&mut self, applied: Index, notices: &mut Vec<Notice>);
}
