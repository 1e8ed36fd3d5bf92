//! The worker's clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use ledgermq_core::offset::Timestamp;

/// Wall-clock instants that never run backwards: the wall clock at the start, and monotonic time
/// since.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    base: Timestamp,
    start: Instant,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "the driver reads the clock")]
    pub(crate) fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { base: Timestamp::default().plus(wall), start: Instant::now() }
    }

    #[expect(clippy::disallowed_methods, reason = "the driver reads the clock")]
    pub(crate) fn now(&self) -> Timestamp {
        self.base.plus(Instant::now().duration_since(self.start))
    }
}
