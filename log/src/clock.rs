//! The leader's time.

use std::time::Duration;

use ledgermq_core::offset::Timestamp;

/// A wall clock that is farther off than this has jumped; time then goes on without it.
const JUMP: Duration = Duration::from_secs(60);

/// What a driver reads off its clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The wall clock.
    pub wall: Timestamp,
    /// Monotonic time since some start.
    pub monotonic: Duration,
}

/// Time for the batches: never below an earlier one, carried by monotonic time, sliding towards
/// the wall clock by at most half of the time that passes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeaderClock {
    time: Timestamp,
    monotonic: Duration,
    jumped: Option<Duration>,
}

impl LeaderClock {
    /// A clock that goes on from the last batch of the log.
    pub(crate) fn new(last: Timestamp, now: Now) -> Self {
        Self { time: last.max(now.wall), monotonic: now.monotonic, jumped: None }
    }

    /// The time as read last.
    pub(crate) fn now(&self) -> Timestamp {
        self.time
    }

    /// Is not below `time` from now on.
    pub(crate) fn raise(&mut self, time: Timestamp) {
        self.time = self.time.max(time);
    }

    /// The time now.
    pub(crate) fn read(&mut self, now: Now) -> Timestamp {
        let passed = now.monotonic.saturating_sub(self.monotonic);
        self.monotonic = self.monotonic.max(now.monotonic);
        let carried = self.time.plus(passed);
        let (ahead, behind) = (carried.since(now.wall), now.wall.since(carried));
        let off = ahead.max(behind);
        self.jumped = (off > JUMP).then_some(off);
        let slide = if self.jumped.is_some() { Duration::ZERO } else { passed / 2 };
        self.time = if behind > Duration::ZERO {
            carried.plus(slide.min(behind))
        } else {
            let back = u64::try_from(slide.min(ahead).as_micros()).unwrap_or(u64::MAX);
            Timestamp(carried.0.saturating_sub(back)).max(self.time)
        };
        self.time
    }

    /// How far the wall clock is off, if that is more than a minute.
    pub(crate) fn jumped(&self) -> Option<Duration> {
        self.jumped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(wall_seconds: u64, monotonic_seconds: u64) -> Now {
        Now {
            wall: Timestamp::from_secs(wall_seconds),
            monotonic: Duration::from_secs(monotonic_seconds),
        }
    }

    #[test]
    fn time_never_runs_backwards_and_slides_to_the_wall_clock() {
        let mut clock = LeaderClock::new(Timestamp::from_secs(1000), now(990, 0));
        assert_eq!(clock.read(now(990, 0)), Timestamp::from_secs(1000));
        assert_eq!(clock.read(now(1000, 10)), Timestamp::from_secs(1005));
        assert_eq!(clock.read(now(1010, 20)), Timestamp::from_secs(1010));
        assert_eq!(clock.read(now(1024, 30)), Timestamp::from_secs(1024));
    }

    #[test]
    fn a_jump_is_told_and_not_followed() {
        let mut clock = LeaderClock::new(Timestamp::from_secs(1000), now(1000, 0));
        assert_eq!(clock.read(now(90_000, 1)), Timestamp::from_secs(1001));
        assert_eq!(clock.jumped(), Some(Duration::from_secs(88_999)));
        assert_eq!(clock.read(now(1002, 2)), Timestamp::from_secs(1002));
        assert_eq!(clock.jumped(), None);
    }
}
