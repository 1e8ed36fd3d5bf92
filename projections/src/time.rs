//! Arithmetic with the log's time.

use std::time::Duration;

use ledgermq_core::event::NEVER_EXPIRES;
use ledgermq_core::offset::Timestamp;

/// The instant `seconds` after `from`.
pub(crate) fn after(from: Timestamp, seconds: u32) -> Timestamp {
    from.plus(Duration::from_secs(u64::from(seconds)))
}

/// The instant at which a Session Expiry Interval that counts from `from` passes, if ever.
pub(crate) fn expiry(from: Timestamp, interval: u32) -> Option<Timestamp> {
    (interval != NEVER_EXPIRES).then(|| after(from, interval))
}
