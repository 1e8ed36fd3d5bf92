//! What waits for one connection, as references.

mod pins;
mod references;

use std::sync::Arc;

use ledgermq_core::event::DeliveryRef;
use ledgermq_core::event::batch::Fence;
use ledgermq_core::identity::PacketId;
use ledgermq_core::offset::Offset;
use ledgermq_core::packet::QoS;
use ledgermq_projections::notice::SharedDelivery;
use ledgermq_projections::views::owed::{Owed, OwedSource};
use ledgermq_projections::views::retained::RetainedMessage;

use crate::shard::ShardLimits;

pub(crate) use pins::{Pin, Pins};
use references::References;

/// The messages that wait for a connection.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    /// What the session is owed, in its order.
    queue: References,
    /// What it was given as a member of groups, in the order in which it was given it.
    given: References,
    /// Of that, what is bound to the session: it holds an identifier, and goes first.
    bound: References,
    /// QoS 2 deliveries whose identifiers are on their way to the log, in the order of the log. At
    /// most a window.
    starting: References,
    /// Answers to subscriptions that must be delivered before anything later is.
    pub(crate) holds: u32,
    /// Everything owed beyond this is read from the owed view: the connection is catching up.
    pub(crate) behind: Option<DeliveryRef>,
}

/// The queues of a backlog. Each keeps its order; one whose first message has no room does not hold
/// the others up, which may have to go first to make room for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// What is bound to the session of what groups gave.
    Bound,
    /// What else groups gave.
    Given,
    /// What the session is owed.
    Owed,
}

/// A message that waits, or a run of them: such that follow each other in their batch.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    /// The first.
    pub(crate) message: DeliveryRef,
    /// How many they are.
    pub(crate) messages: u32,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// Of all of them.
    pub(crate) payload_bytes: u32,
    /// Where the content of the first is.
    pub(crate) source: Source,
    /// Subscription Identifier of the Shared Subscription that brought it.
    pub(crate) identifier: Option<u32>,
    /// The identifier that is being logged for it.
    starting: Option<PacketId>,
}

/// Where its content is.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// In a batch that is held in memory.
    Pinned(Arc<Pin>, Fence),
    /// In the log.
    Logged,
    /// Kept by the projections before the log was purged.
    Kept,
    /// Here, since the owed view holds it: an answer to a subscription.
    Answer(Arc<RetainedMessage>),
    /// Answer to a subscription, with the identifiers of those that brought it.
    Retained(Arc<RetainedMessage>, Box<[u32]>),
}

impl Pending {
    pub(crate) fn new(message: DeliveryRef, qos: QoS, retain: bool, source: Source) -> Self {
        let payload_bytes = match &source {
            Source::Answer(message) | Source::Retained(message, _) => message.payload.len(),
            Source::Pinned(..) | Source::Logged | Source::Kept => 0,
        };
        let payload_bytes = u32::try_from(payload_bytes).unwrap_or(u32::MAX);
        Self {
            message,
            messages: 1,
            qos,
            retain,
            payload_bytes,
            source,
            identifier: None,
            starting: None,
        }
    }
}

impl From<Owed> for Pending {
    fn from(owed: Owed) -> Self {
        let Owed { message, qos, retain, source } = owed;
        let source = match source {
            OwedSource::Log => Source::Logged,
            OwedSource::Kept => Source::Kept,
            OwedSource::Answer(message) => Source::Answer(message),
        };
        Self::new(message, qos, retain, source)
    }
}

impl From<SharedDelivery> for Pending {
    fn from(delivery: SharedDelivery) -> Self {
        let SharedDelivery { message, qos, retain, identifier } = delivery;
        Self { identifier, ..Self::new(message, qos, retain, Source::Logged) }
    }
}

impl Backlog {
    /// Whether the connection takes messages as they come, but for those of groups.
    pub(crate) fn is_live(&self) -> bool {
        self.queue.is_empty() && self.holds == 0 && self.behind.is_none()
    }

    /// Whether nothing at all waits.
    pub(crate) fn is_done(&self) -> bool {
        self.is_live() && self.is_empty() && self.starting.is_empty()
    }

    /// Whether no message waits here (the owed view may have more).
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.given.is_empty() && self.bound.is_empty()
    }

    /// Whether no message waits here but such of groups.
    pub(crate) fn is_own_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Number of the messages that wait here.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Bytes that the references take.
    pub(crate) fn held_bytes(&self) -> usize {
        let lanes = [&self.queue, &self.given, &self.bound, &self.starting];
        size_of::<Self>() + lanes.into_iter().map(References::held_bytes).sum::<usize>()
    }

    /// How many more messages may wait, and bytes of them: one may go beyond these.
    pub(crate) fn room(&self, is_persistent: bool, limits: &ShardLimits) -> (usize, usize) {
        let messages_max = if is_persistent {
            limits.persistent_messages_max
        } else {
            limits.backlog_messages_max
        };
        let bytes = limits.backlog_bytes_max.saturating_sub(self.queue.payload_bytes());
        (messages_max.saturating_sub(self.queue.len()), bytes)
    }

    /// The first message of a queue.
    pub(crate) fn front(&self, lane: Lane) -> Option<&Pending> {
        self.lane(lane).front()
    }

    /// The queues in the order in which they are to be served: what is bound first, and of what is
    /// owed and what groups gave the older, so that neither waits for the end of the other.
    pub(crate) fn lanes(&self) -> [Lane; 3] {
        match (self.queue.front(), self.given.front()) {
            (Some(owed), Some(given)) if given.message.at < owed.message.at => {
                [Lane::Bound, Lane::Given, Lane::Owed]
            }
            _ => [Lane::Bound, Lane::Owed, Lane::Given],
        }
    }

    fn lane(&self, lane: Lane) -> &References {
        match lane {
            Lane::Bound => &self.bound,
            Lane::Given => &self.given,
            Lane::Owed => &self.queue,
        }
    }

    /// Kept messages that come behind `at` in a queue, which is kept itself, in order. Of what groups
    /// gave nothing says whether it was kept: only that of the same batch, or of an older one, is
    /// out of the log for certain. Who asks for another is told that there is no copy, while the log
    /// still has it.
    pub(crate) fn kept(&self, lane: Lane, at: Offset) -> impl Iterator<Item = Offset> {
        let is_kept = move |pending: &&Pending| match pending.source {
            Source::Kept => pending.message.at > at,
            Source::Logged => {
                let next = pending.message.at;
                lane != Lane::Owed && next.index <= at.index && next != at
            }
            Source::Pinned(..) | Source::Answer(_) | Source::Retained(..) => false,
        };
        self.lane(lane).iter().filter(is_kept).map(|pending| pending.message.at)
    }

    /// Place of the newest message that waits and is owed.
    pub(crate) fn last(&self) -> Option<DeliveryRef> {
        self.queue.last()
    }

    /// Adds `pending` behind all that is owed. Its batch stays in memory only within the bound.
    pub(crate) fn push(&mut self, pending: Pending, limits: &ShardLimits) {
        self.queue.push(pending, limits.pinned_bytes_max);
    }

    /// Adds messages, which are in order, at their place.
    pub(crate) fn insert(&mut self, pending: impl IntoIterator<Item = Pending>) {
        self.queue.insert(pending);
    }

    /// Number of messages of groups that wait.
    pub(crate) fn given(&self) -> usize {
        self.given.len()
    }

    /// Adds a message of a group behind all others of groups, with the same bound.
    pub(crate) fn give(&mut self, pending: Pending, limits: &ShardLimits) {
        self.given.push(pending, limits.pinned_bytes_max);
    }

    /// Adds a message of a group that is bound to the session: at most a window of them.
    pub(crate) fn bind(&mut self, pending: Pending) {
        self.bound.push(pending, usize::MAX);
    }

    /// Takes the first message of a queue.
    pub(crate) fn pop(&mut self, lane: Lane) -> Option<Pending> {
        match lane {
            Lane::Bound => self.bound.pop(),
            Lane::Given => self.given.pop(),
            Lane::Owed => self.queue.pop(),
        }
    }

    /// Takes the first messages of what is owed, no more than those of the first run; `next` is the
    /// place of the one behind them in their batch.
    pub(crate) fn skip(&mut self, messages: usize, next: Option<Fence>) {
        self.queue.skip(messages, next);
    }

    /// Sets a delivery aside until its identifier is logged.
    pub(crate) fn start(&mut self, id: PacketId, mut pending: Pending, limits: &ShardLimits) {
        pending.starting = Some(id);
        self.starting.push(pending, limits.pinned_bytes_max);
    }

    /// The identifier is logged: the delivery is next in its place.
    pub(crate) fn started(&mut self, id: PacketId) {
        if self.starting.front().is_none_or(|pending| pending.starting != Some(id)) {
            return;
        }
        match self.starting.pop() {
            Some(pending) if pending.message.group().is_some() => self.bind(pending),
            pending => self.queue.insert(pending),
        }
    }
}
