//! What is measured of a run between warm-up and end.

use crate::bench::clock::Instant;
use crate::bench::latency::Latencies;

/// Latencies of the messages that were due (flat out: sent) between warm-up and end, whenever their
/// answers came.
pub(super) struct Measured {
    pub(super) from: Instant,
    pub(super) until: Instant,
    pub(super) delivery: Latencies,
    pub(super) acknowledgement: Latencies,
    pub(super) lag: Latencies,
}

impl Measured {
    pub(super) fn new(from: Instant, until: Instant) -> Self {
        let [delivery, acknowledgement, lag] = [(); 3].map(|()| Latencies::new());
        Self { from, until, delivery, acknowledgement, lag }
    }

    pub(super) fn covers(&self, at: Instant) -> bool {
        (self.from..self.until).contains(&at)
    }
}

/// What was sent and came of it.
#[derive(Clone, Copy)]
pub(super) struct Counts {
    pub(super) sent: u64,
    pub(super) acknowledged: u64,
    pub(super) delivered: u64,
}

impl Counts {
    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            sent: self.sent - earlier.sent,
            acknowledged: self.acknowledged - earlier.acknowledged,
            delivered: self.delivered - earlier.delivered,
        }
    }
}
