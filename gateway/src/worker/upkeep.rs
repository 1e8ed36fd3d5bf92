//! What a worker does between two turns: what the node's limits leave it, and how long it sleeps.

use std::time::Duration;

use ledgermq_core::offset::Timestamp;

use crate::worker::Worker;

/// How often a connection that waits for a view looks again, at the latest.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

impl Worker {
    /// Brings up to the moment what the node's limits leave to the shard: beside what the views hold,
    /// and what all workers have under way.
    pub(super) fn charge(&mut self) {
        // Read before what they hold: what is in between counts twice rather than not at all.
        let applied = self.sources.applied();
        let held = self.sources.volume();
        let under_way = self.shard.set_applied(applied);
        let of_others = self.census.charge(self.charged, under_way).minus(under_way);
        self.charged = under_way;
        self.shard.retained_messages = held.retained_messages;
        self.shard.room = self.volume_max.minus(held).minus(of_others);
    }

    /// How long the poll may sleep if nobody wakes it.
    pub(super) fn sleep_at_most(
        &mut self,
        draining: Option<Timestamp>,
        lingering: Option<Timestamp>,
    ) -> Option<Duration> {
        let now = self.clock.now();
        let due = [self.shard.next_tick(), lingering, self.quorum.next()];
        let due = due.into_iter().flatten().min();
        let mut until = due.map(|due| due.since(now));
        let is_starving = self.shard.is_starving() || !self.shard.is_reading;
        if is_starving {
            self.inbox.want_views();
        }
        // Nobody tells when the gate opens.
        let is_withholding = self.shard.is_withholding();
        let is_congested = self.shard.stage().is_congested();
        let is_waiting = is_starving || is_withholding || is_congested || self.shard.is_short();
        if is_waiting || draining.is_some() {
            until = Some(until.map_or(RETRY_INTERVAL, |until| until.min(RETRY_INTERVAL)));
        }
        // Rounded up: a poll that ends just before the tick would turn for nothing.
        until.map(|until| until + Duration::from_millis(1))
    }
}
