//! Messages of groups (Shared Subscriptions): who gets which is decided by the fold, and told.
//!
//! Nothing else may be done with them here than to deliver them in the order of the notices or to
//! give them up aloud: the fold counts them as held by the session until either is logged, or until
//! its connection ends. What of QoS 2 is not bound by the log is not sent.

use std::collections::VecDeque;
use std::sync::Arc;

use ledgermq_core::event::batch::Fence;
use ledgermq_core::offset::{Index, Offset, Timestamp};
use ledgermq_core::packet::QoS;
use ledgermq_log::CommittedBatch;
use ledgermq_projections::notice::SharedDelivery;
use ledgermq_projections::views::shared::SHARED_WINDOW;

use crate::shard::backlog::{Pending, Source};
use crate::shard::cursor::Cursor;
use crate::shard::{Shard, Sources};

/// Settled messages of groups of one session after which that is logged at once: a group gives its
/// members no more than they have room for, by what is logged.
pub(super) const SETTLED_MAX: u32 = 64;
const _: () = assert!(SETTLED_MAX as usize * 4 <= SHARED_WINDOW);

/// The last batches of the tail: the fold gives their messages away soon, if it gives them at all.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// Whether there ever was a member of a group here; nothing is held before.
    is_wanted: bool,
    batches: VecDeque<Arc<CommittedBatch>>,
    bytes: usize,
    cursor: Cursor,
}

/// What sessions were given by batches that the shard has not routed.
#[derive(Debug, Default)]
pub(super) struct Early {
    notices: VecDeque<Told>,
    /// Messages in them. Of QoS 1 and 2 the fold gives no more than a window of each group.
    messages: usize,
}

#[derive(Debug)]
struct Told {
    index: Index,
    epoch: Offset,
    deliveries: Vec<SharedDelivery>,
}

impl Shard {
    /// The session of `epoch` was given messages by the batch at `index`.
    pub(super) fn on_shared(
        &mut self,
        now: Timestamp,
        epoch: Offset,
        index: Index,
        mut deliveries: Vec<SharedDelivery>,
        sources: &mut impl Sources,
    ) {
        self.recent.is_wanted = true;
        if index <= self.routed_index() {
            return self.give(now, epoch, deliveries, sources);
        }
        let early = &mut self.early_shared;
        let room = self.limits.backlog_messages_max.saturating_sub(early.messages);
        let before = deliveries.len();
        let mut kept = 0;
        deliveries.retain(|delivery| {
            let is_kept = delivery.qos > QoS::AtMostOnce || kept < room;
            kept += usize::from(is_kept);
            is_kept
        });
        self.stats.dropped_queue_full += (before - kept) as u64;
        early.messages += kept;
        early.notices.push_back(Told { index, epoch, deliveries });
    }

    /// Takes up what was told ahead of the batch that is through now.
    pub(super) fn take_early_shared(&mut self, now: Timestamp, sources: &mut impl Sources) {
        while let Some(told) = self.early_shared.notices.front()
            && told.index <= self.routed_index()
            && let Some(Told { epoch, deliveries, .. }) = self.early_shared.notices.pop_front()
        {
            self.early_shared.messages -= deliveries.len();
            self.give(now, epoch, deliveries, sources);
        }
    }

    fn give(
        &mut self,
        now: Timestamp,
        epoch: Offset,
        deliveries: Vec<SharedDelivery>,
        sources: &mut impl Sources,
    ) {
        // What a connection that ended was given goes to others: the log says that it ended.
        let Some(token) = self.by_epoch.get(&epoch).copied() else { return };
        let Some(client) = self.table.get_mut(token) else { return };
        let backlog = client.backlog.get_or_insert_default();
        for delivery in deliveries {
            // Of those with a higher QoS the fold gives no more than a window of each group.
            if delivery.qos == QoS::AtMostOnce
                && backlog.given() >= self.limits.backlog_messages_max
            {
                self.stats.dropped_queue_full += 1;
                client.link.counts.get_or_insert_default().messages_dropped += 1;
                continue;
            }
            let mut pending = Pending::from(delivery);
            if let Some((batch, place)) = self.recent.find(delivery.message.at)
                && let Some(pin) = self.pins.pin(&batch, self.limits.pinned_bytes_all_max)
            {
                pending.source = Source::Pinned(pin, place);
            }
            backlog.give(pending, &self.limits);
        }
        self.drain(now, token, sources);
    }
}

impl Recent {
    /// The next batch of the tail.
    pub(super) fn push(&mut self, batch: &Arc<CommittedBatch>, bytes_max: usize) {
        if !self.is_wanted {
            return;
        }
        self.bytes += batch.bytes();
        self.batches.push_back(Arc::clone(batch));
        while self.bytes > bytes_max
            && let Some(oldest) = self.batches.pop_front()
        {
            self.bytes -= oldest.bytes();
        }
    }

    /// Forgets all: what comes next does not follow it.
    pub(super) fn clear(&mut self) {
        *self = Self { is_wanted: self.is_wanted, ..Self::default() };
    }

    /// Where the message at `at` stands, if its batch is among these.
    fn find(&mut self, at: Offset) -> Option<(Arc<CommittedBatch>, Fence)> {
        let place = self.batches.binary_search_by_key(&at.index, |batch| batch.index).ok()?;
        let batch = &self.batches[place];
        let found = self.cursor.find(batch, at.ordinal)?;
        Some((Arc::clone(batch), found))
    }
}
