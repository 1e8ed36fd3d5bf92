//! What of a group no member holds.

use ledgermq_core::event::{DeliveryRef, DropReason};
use ledgermq_core::offset::{Offset, Timestamp};

use crate::views::dirty::GroupRows;
use crate::views::owed::Entry;
use crate::views::shared::Group;

impl Group {
    /// Messages that no member holds, and their bytes.
    pub(crate) fn waiting(&self) -> (usize, u64) {
        (self.owed.len() - self.held, self.owed.bytes() - self.held_bytes)
    }

    /// Whether a member holds the owed message at `at`.
    pub(crate) fn is_given(&self, at: Offset) -> bool {
        at <= self.head.upto && !self.returned.contains(&at)
    }

    /// The last message that waits and has expired at `now`.
    pub(crate) fn last_expired(&self, now: Timestamp) -> Option<Offset> {
        if self.waiting().0 == 0 {
            return None;
        }
        let last = self.owed.last_expired(now, |message| self.is_given(message.at));
        last.map(|message| message.at)
    }

    /// Gives up what waits up to `upto`, for `reason` at `now`: what has expired, or all of it.
    /// Answers how much.
    pub(crate) fn drop_waiting(
        &mut self,
        upto: Offset,
        reason: DropReason,
        now: Timestamp,
        rows: &mut GroupRows<'_>,
    ) -> u32 {
        let (last, returned) = (self.head.upto, &self.returned);
        let keeps = |entry: Entry| {
            let at = entry.message().at;
            let is_due = reason != DropReason::Expired || entry.is_expired(now);
            !is_due || (at <= last && !returned.contains(&at))
        };
        let from = DeliveryRef::default();
        let count = self.owed.remove(from, upto.into(), keeps, &mut rows.owed());
        let owed = &self.owed;
        self.returned.retain(|at| *at > upto || owed.get((*at).into()).is_some());
        count
    }
}
