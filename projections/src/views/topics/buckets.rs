//! Counting in buckets of time, in whole numbers.

use std::time::Duration;

use ledgermq_core::offset::Timestamp;

use crate::bytes::{Cut, Reader, put_u32, put_u64};

/// The time over which rates are taken.
pub const WINDOW: Duration = Duration::from_secs(10);

const WINDOW_MICROS: u64 = 10_000_000;

/// Messages and bytes within [`WINDOW`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Messages.
    pub messages: u64,
    /// Bytes of their topics, properties and payloads.
    pub bytes: u64,
}

impl Rate {
    /// Messages per second, rounded down.
    #[must_use]
    pub fn messages_per_second(self) -> u64 {
        self.messages / WINDOW.as_secs()
    }

    /// Bytes per second, rounded down.
    #[must_use]
    pub fn bytes_per_second(self) -> u64 {
        self.bytes / WINDOW.as_secs()
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.messages = self.messages.saturating_add(other.messages);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// Number of the bucket in which an instant lies.
pub(crate) fn bucket_of(time: Timestamp) -> u32 {
    u32::try_from(time.0 / WINDOW_MICROS).unwrap_or(u32::MAX)
}

/// The bucket in which something last came and the one before it. All nodes share one grid of
/// buckets, so that sums of subtrees are exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Buckets {
    bucket: u32,
    current: Rate,
    previous: Rate,
}

impl Buckets {
    pub(crate) fn add(&mut self, bucket: u32, counted: Rate) {
        if bucket != self.bucket {
            let is_next = bucket == self.bucket.wrapping_add(1);
            self.previous = if is_next { self.current } else { Rate::default() };
            self.current = Rate::default();
            self.bucket = bucket;
        }
        self.current.add(counted);
    }

    /// The last bucket that got something; 0 if none did.
    pub(crate) fn last(&self) -> u32 {
        self.bucket
    }

    /// What came within the window before `now`: the bucket of `now` and the part of the one
    /// before it that the window still covers.
    pub(crate) fn rate(&self, now: Timestamp) -> Rate {
        let at = bucket_of(now);
        let (current, previous) = match at.checked_sub(self.bucket) {
            // A reader's clock may be a little behind the log's.
            None | Some(0) => (self.current, self.previous),
            Some(1) => (Rate::default(), self.current),
            Some(_) => return Rate::default(),
        };
        let passed = if at < self.bucket { 0 } else { now.0 % WINDOW_MICROS };
        let left = WINDOW_MICROS - passed;
        let part = |whole: u64| {
            let part = u128::from(whole) * u128::from(left) / u128::from(WINDOW_MICROS);
            u64::try_from(part).unwrap_or(u64::MAX)
        };
        let mut rate = current;
        rate.add(Rate { messages: part(previous.messages), bytes: part(previous.bytes) });
        rate
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_u32(out, self.bucket);
        for rate in [self.current, self.previous] {
            put_u64(out, rate.messages);
            put_u64(out, rate.bytes);
        }
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, Cut> {
        let bucket = from.u32()?;
        let mut rate = || Ok(Rate { messages: from.u64()?, bytes: from.u64()? });
        Ok(Self { bucket, current: rate()?, previous: rate()? })
    }
}
