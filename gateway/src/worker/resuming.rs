//! What a worker does when it cannot go on where it was: behind a gap in its tail, and as another
//! incarnation of the node.

use std::sync::Arc;

use ledgermq_core::offset::{Index, Timestamp};
use ledgermq_log::Wake;

use crate::worker::Turning;

/// Part of the log is skipped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Skipping {
    /// The first index that is there.
    next: Index,
    /// The incarnation that skips. Nobody knows what of its own lies in between, so that another one
    /// goes on.
    start: u64,
}

impl Turning {
    /// The log's batches before `next` are not to be had.
    pub(super) fn on_gap(&mut self, next: Index) {
        tracing::warn!(next, "a worker has to skip part of the log: its connections end");
        let start = self.worker.producer.id().start;
        self.skipping = Some(Skipping { next, start });
        // The log that jumps begins anew by itself.
        if self.worker.log.incarnation() == start {
            self.worker.log.renew_incarnation();
        }
    }

    /// Goes on behind a gap as soon as the node begins anew and the views have come as far: they know
    /// the rules.
    pub(super) fn jump(&mut self, now: Timestamp) {
        let Some(Skipping { next, start }) = self.skipping else { return };
        let worker = &mut self.worker;
        // Wanted first: what is applied behind the look wakes.
        worker.inbox.want_views();
        let (applied, rules) = worker.sources.rules();
        if applied + 1 < next || worker.log.incarnation() == start {
            return;
        }
        self.skipping = None;
        worker.sources.forget();
        worker.shard.jump(now, applied + 1, rules);
        let wake = Arc::clone(&worker.inbox) as Arc<dyn Wake>;
        worker.tail = worker.log.tail_gapless(applied + 1, wake);
    }

    /// Takes part as the node's incarnation of now.
    pub(super) fn renew(&mut self, now: Timestamp) {
        let worker = &mut self.worker;
        if worker.producer.renew() {
            worker.shard.on_incarnation(now, worker.producer.id());
            self.unconfirmed = None;
        }
    }
}
