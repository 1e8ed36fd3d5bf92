//! How fast a client may publish.
//!
//! Two leaky buckets in the form of the Generic Cell Rate Algorithm (ITU-T I.371): each is the
//! instant at which it will be empty, so that they cost two numbers and no timer.

use crate::offset::Timestamp;

/// What a client may publish, on average; a burst may bring what a second allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishRate {
    /// Messages a second; 0 is no limit.
    pub messages: u32,
    /// Bytes of Topic Names and payloads a second; 0 is no limit.
    pub bytes: u64,
}

/// How full a bucket may be when something is put in, in nanoseconds.
const BURST: u64 = 1_000_000_000;

/// What a client published lately.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Published {
    /// Nanoseconds since the Unix epoch at which each bucket is empty.
    messages: u64,
    bytes: u64,
}

impl Published {
    /// From when on a message may be taken; `None` if it may be at `now`.
    pub(super) fn full_until(&self, now: Timestamp) -> Option<Timestamp> {
        let free = self.messages.max(self.bytes).saturating_sub(BURST);
        (free > nanos(now)).then(|| Timestamp(free.div_ceil(1000)))
    }

    /// Counts a message of so many bytes. What is larger than a burst fills the bucket for longer.
    pub(super) fn count(&mut self, now: Timestamp, rate: PublishRate, bytes: usize) {
        let now = nanos(now);
        if rate.messages > 0 {
            self.messages = self.messages.max(now) + BURST / u64::from(rate.messages);
        }
        if rate.bytes > 0 {
            let nanos = bytes as u128 * u128::from(BURST) / u128::from(rate.bytes);
            let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
            self.bytes = self.bytes.max(now).saturating_add(nanos);
        }
    }
}

impl PublishRate {
    /// Whether there is any limit.
    #[must_use]
    pub const fn is_limited(&self) -> bool {
        self.messages > 0 || self.bytes > 0
    }
}

const fn nanos(at: Timestamp) -> u64 {
    at.0.saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

    #[test]
    fn a_second_s_worth_may_come_at_once_and_then_one_at_a_time() {
        let rate = PublishRate { messages: 10, bytes: 0 };
        let mut published = Published::default();
        let mut taken = 0;
        while published.full_until(NOW).is_none() {
            published.count(NOW, rate, 100);
            taken += 1;
        }
        assert_eq!(taken, 11, "ten, and the one that fills it");
        assert_eq!(published.full_until(NOW), Some(Timestamp(NOW.0 + 100_000)));
        assert_eq!(published.full_until(Timestamp(NOW.0 + 100_000)), None);
    }

    #[test]
    fn a_message_larger_than_a_burst_passes_and_is_paid_for_afterwards() {
        let rate = PublishRate { messages: 0, bytes: 1000 };
        let mut published = Published::default();
        published.count(NOW, rate, 5000);
        assert_eq!(published.full_until(NOW), Some(Timestamp(NOW.0 + 4_000_000)));
        assert_eq!(published.full_until(Timestamp(NOW.0 + 4_000_000)), None);
    }

    #[test]
    fn the_average_is_kept_over_a_long_time() {
        let rate = PublishRate { messages: 1000, bytes: 0 };
        let (mut published, mut taken) = (Published::default(), 0);
        for tick in 0..100_000_u64 {
            let now = Timestamp(NOW.0 + tick * 100);
            if published.full_until(now).is_none() {
                published.count(now, rate, 1);
                taken += 1;
            }
        }
        assert_eq!(taken, 11_000, "ten seconds and the burst of one");
    }

    #[test]
    fn no_number_overflows() {
        let rate = PublishRate { messages: u32::MAX, bytes: 1 };
        let mut published = Published::default();
        for _ in 0..3 {
            published.count(Timestamp(u64::MAX), rate, usize::MAX);
        }
        assert!(published.full_until(NOW).is_some());
    }
}
