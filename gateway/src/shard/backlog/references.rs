//! References in the order of a session, and what they keep in memory.

use std::collections::VecDeque;

use ledgermq_core::event::DeliveryRef;
use ledgermq_core::offset::Index;

use crate::shard::backlog::{Pending, Source};

/// Messages for which the memory of an emptied queue is kept.
const KEPT_MESSAGES: usize = 64;

/// Messages in order.
#[derive(Debug, Default)]
pub(super) struct References {
    queue: VecDeque<Pending>,
    payload_bytes: usize,
    /// Bytes of the batches that the references hold: neighbours share one.
    pinned_bytes: usize,
}

impl References {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    pub(super) fn front(&self) -> Option<&Pending> {
        self.queue.front()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Pending> {
        self.queue.iter()
    }

    pub(super) fn last(&self) -> Option<DeliveryRef> {
        self.queue.back().map(|pending| pending.message)
    }

    /// Adds at the end. Beyond `pinned_bytes_max` the batch is let go, to be read again.
    pub(super) fn push(&mut self, mut pending: Pending, pinned_bytes_max: usize) {
        if let Source::Pinned(batch, _) = &pending.source
            && !self.queue.back().is_some_and(|last| last.is_pinned_at(batch.index))
        {
            if self.pinned_bytes + batch.bytes() > pinned_bytes_max {
                pending.source = Source::Logged;
            } else {
                self.pinned_bytes += batch.bytes();
            }
        }
        self.payload_bytes += pending.payload_bytes as usize;
        self.queue.push_back(pending);
    }

    /// Adds messages, which are in order, at the place of the first.
    pub(super) fn insert(&mut self, pending: impl IntoIterator<Item = Pending>) {
        let mut pending = pending.into_iter().peekable();
        let Some(first) = pending.peek() else { return };
        let at = self.queue.partition_point(|waiting| waiting.message < first.message);
        let mut behind = self.queue.split_off(at);
        for pending in pending {
            if let Source::Pinned(batch, _) = &pending.source {
                let neighbours = [self.queue.back(), behind.front()];
                let is_held =
                    neighbours.into_iter().flatten().any(|next| next.is_pinned_at(batch.index));
                self.pinned_bytes += if is_held { 0 } else { batch.bytes() };
            }
            self.payload_bytes += pending.payload_bytes as usize;
            self.queue.push_back(pending);
        }
        self.queue.append(&mut behind);
    }

    pub(super) fn pop(&mut self) -> Option<Pending> {
        let pending = self.queue.pop_front()?;
        self.payload_bytes = self.payload_bytes.saturating_sub(pending.payload_bytes as usize);
        if let Source::Pinned(batch, _) = &pending.source
            && !self.queue.front().is_some_and(|next| next.is_pinned_at(batch.index))
        {
            self.pinned_bytes = self.pinned_bytes.saturating_sub(batch.bytes());
        }
        if self.queue.is_empty() {
            (self.payload_bytes, self.pinned_bytes) = (0, 0);
            if self.queue.capacity() > KEPT_MESSAGES {
                self.queue = VecDeque::new();
            }
        }
        Some(pending)
    }
}

impl Pending {
    fn is_pinned_at(&self, index: Index) -> bool {
        matches!(&self.source, Source::Pinned(batch, _) if batch.index == index)
    }
}
