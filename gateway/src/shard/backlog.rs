//! What waits for one connection, as references.

use std::collections::VecDeque;
use std::sync::Arc;

use ledgermq_core::event::DeliveryRef;
use ledgermq_core::event::batch::Fence;
use ledgermq_core::identity::PacketId;
use ledgermq_core::offset::Index;
use ledgermq_core::packet::QoS;
use ledgermq_log::CommittedBatch;
use ledgermq_projections::views::owed::{Owed, OwedSource};
use ledgermq_projections::views::retained::RetainedMessage;

use crate::shard::ShardLimits;

/// References kept here for a persistent session; what comes beyond is read from the owed view.
const PERSISTENT_MESSAGES_MAX: usize = 1024;

/// The messages that wait for a connection, in the order of its session.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    queue: VecDeque<Pending>,
    payload_bytes: usize,
    pinned_bytes: usize,
    pinned_last: Index,
    /// Answers to subscriptions that must be delivered before anything later is.
    pub(crate) holds: u32,
    /// Everything owed beyond this is read from the owed view: the connection is catching up.
    pub(crate) behind: Option<DeliveryRef>,
    /// QoS 2 deliveries whose identifiers are on their way to the log.
    pub(crate) starting: Vec<(PacketId, Pending)>,
}

/// A message that waits.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) message: DeliveryRef,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) payload_bytes: u32,
    pub(crate) source: Source,
}

/// Where its content is.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// In a batch that is held in memory.
    Pinned(Arc<CommittedBatch>, Fence),
    /// In the log.
    Logged,
    /// Kept by the projections.
    Kept(Arc<RetainedMessage>),
}

impl From<Owed> for Pending {
    fn from(owed: Owed) -> Self {
        let (source, payload_bytes) = match owed.source {
            OwedSource::Log => (Source::Logged, 0),
            OwedSource::Kept(message) => {
                let bytes = u32::try_from(message.payload.len()).unwrap_or(u32::MAX);
                (Source::Kept(message), bytes)
            }
        };
        let Owed { message, qos, retain, .. } = owed;
        Self { message, qos, retain, payload_bytes, source }
    }
}

impl Backlog {
    /// Whether the connection takes messages as they come.
    pub(crate) fn is_live(&self) -> bool {
        self.queue.is_empty() && self.holds == 0 && self.behind.is_none()
    }

    /// Whether nothing at all waits.
    pub(crate) fn is_done(&self) -> bool {
        self.is_live() && self.starting.is_empty()
    }

    pub(crate) fn is_full(&self, is_persistent: bool, limits: &ShardLimits) -> bool {
        let messages_max =
            if is_persistent { PERSISTENT_MESSAGES_MAX } else { limits.backlog_messages_max };
        self.queue.len() >= messages_max || self.payload_bytes >= limits.backlog_bytes_max
    }

    /// Place of the newest message that waits.
    pub(crate) fn last(&self) -> Option<DeliveryRef> {
        self.queue.back().map(|pending| pending.message)
    }

    /// Adds `pending` behind all that waits. Its batch stays in memory only within the bound.
    pub(crate) fn push(&mut self, mut pending: Pending, limits: &ShardLimits) {
        if let Source::Pinned(batch, _) = &pending.source
            && batch.index != self.pinned_last
        {
            if self.pinned_bytes + batch.bytes() > limits.pinned_bytes_max {
                pending.source = Source::Logged;
            } else {
                self.pinned_last = batch.index;
                self.pinned_bytes += batch.bytes();
            }
        }
        self.payload_bytes += pending.payload_bytes as usize;
        self.queue.push_back(pending);
    }

    /// Adds messages at their place in the order.
    pub(crate) fn insert(&mut self, pending: impl IntoIterator<Item = Pending>) {
        let mut pending = pending.into_iter().peekable();
        let Some(first) = pending.peek() else { return };
        let at = self.queue.partition_point(|waiting| waiting.message < first.message);
        let behind = self.queue.split_off(at);
        for pending in pending {
            self.payload_bytes += pending.payload_bytes as usize;
            self.queue.push_back(pending);
        }
        self.queue.extend(behind);
    }

    pub(crate) fn pop(&mut self) -> Option<Pending> {
        let pending = self.queue.pop_front()?;
        self.payload_bytes = self.payload_bytes.saturating_sub(pending.payload_bytes as usize);
        if let Source::Pinned(batch, _) = &pending.source
            && !self.queue.front().is_some_and(|next| next.is_pinned_at(batch.index))
        {
            self.pinned_bytes = self.pinned_bytes.saturating_sub(batch.bytes());
        }
        if self.queue.is_empty() {
            self.pinned_bytes = 0;
            self.pinned_last = 0;
        }
        Some(pending)
    }
}

impl Pending {
    fn is_pinned_at(&self, index: Index) -> bool {
        matches!(&self.source, Source::Pinned(batch, _) if batch.index == index)
    }
}
