//! What of an owed set has to go: what has expired, and what is too much.

use ledgermq_core::event::DeliveryRef;
use ledgermq_core::offset::Timestamp;

use crate::views::owed::chunk::Chunk;
use crate::views::owed::{Entry, OwedSet};

type Range = (DeliveryRef, DeliveryRef);

impl OwedSet {
    /// The first and the last of the oldest references that have to go for the rest to be no more
    /// than `is_beyond` (of messages and bytes) allows, `spared` not counted, which ascend and stay.
    pub(crate) fn excess(
        &self,
        spared: &[DeliveryRef],
        is_beyond: impl Fn(usize, u64) -> bool,
    ) -> Option<(DeliveryRef, DeliveryRef)> {
        let (mut messages, mut bytes) = (self.len(), self.bytes());
        for held in spared.iter().filter_map(|message| self.bytes_of(*message)) {
            messages -= 1;
            bytes -= held;
        }
        let mut range = None;
        for chunk in &self.chunks {
            // All of it goes if the rest is too much even then.
            if chunk.sums.answers == 0 && chunk.has_none_of(spared) {
                let rest = (messages - chunk.entries.len(), bytes - chunk.sums.bytes);
                if is_beyond(rest.0, rest.1) {
                    (messages, bytes) = rest;
                    add(&mut range, chunk.first(), chunk.last());
                    continue;
                }
            }
            for entry in &chunk.entries {
                if !is_beyond(messages, bytes) {
                    return range;
                }
                let message = entry.message();
                if spared.binary_search(&message).is_err() {
                    messages -= 1;
                    bytes -= self.bytes_of_entry(*entry);
                    add(&mut range, message, message);
                }
            }
        }
        range
    }

    /// The earliest instant at which a reference expires.
    pub(crate) fn next_expiry(&self) -> Option<Timestamp> {
        if self.expiring == 0 {
            return None;
        }
        self.chunks.iter().filter_map(|chunk| chunk.sums.soonest).min()
    }

    /// At most about `max` runs of references that have expired at `now`, first and last of each.
    /// `spares` are passed over and end no run.
    pub(crate) fn expired(
        &self,
        now: Timestamp,
        max: usize,
        spares: impl Fn(DeliveryRef) -> bool,
    ) -> Vec<(DeliveryRef, DeliveryRef)> {
        let mut runs = Vec::<(DeliveryRef, DeliveryRef)>::new();
        let mut is_run = false;
        for chunk in &self.chunks {
            if chunk.sums.soonest.is_none_or(|soonest| soonest > now) {
                is_run = false;
                continue;
            }
            if runs.len() >= max {
                break;
            }
            for entry in &chunk.entries {
                let message = entry.message();
                if spares(message) {
                    continue;
                }
                let is_expired = entry.is_expired(now);
                match runs.last_mut().filter(|_| is_run && is_expired) {
                    Some((_, last)) => *last = message,
                    None if is_expired => runs.push((message, message)),
                    None => {}
                }
                is_run = is_expired;
            }
        }
        runs
    }

    /// The last reference that has expired at `now` and is none of the `spares`.
    pub(crate) fn last_expired(
        &self,
        now: Timestamp,
        spares: impl Fn(DeliveryRef) -> bool,
    ) -> Option<DeliveryRef> {
        let is_any = |chunk: &&Chunk| chunk.sums.soonest.is_some_and(|soonest| soonest <= now);
        let chunks = self.chunks.iter().rev().filter(is_any);
        let mut expired = chunks
            .flat_map(|chunk| chunk.entries.iter().rev())
            .filter(|entry| entry.is_expired(now))
            .map(Entry::message_of);
        expired.find(|message| !spares(*message))
    }
}

fn add(range: &mut Option<Range>, first: DeliveryRef, last: DeliveryRef) {
    *range = Some((range.map_or(first, |(from, _)| from), last));
}
