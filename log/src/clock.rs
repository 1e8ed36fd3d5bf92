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
    /// What the log has or somebody told of; none when it is settled which wall clock counts.
    floor: Option<Timestamp>,
    monotonic: Duration,
    jumped: Option<Duration>,
}

impl LeaderClock {
    /// A clock that goes on from the last batch of the log.
    pub(crate) fn new(last: Timestamp, now: Now) -> Self {
        let (time, monotonic) = (last.max(now.wall), now.monotonic);
        Self { time, floor: Some(last), monotonic, jumped: None }
    }

    /// Before the first batch is stamped: the wall clocks of all that are heard, this one among them. One
    /// that is more than a minute off from the middle of them (the earlier one of two) does not count:
    /// a process that starts with it must not have everything expire.
    pub(crate) fn settle(&mut self, own: Timestamp, walls: impl FnOnce() -> Vec<Timestamp>) {
        let Some(floor) = self.floor.take() else { return };
        let mut walls = walls();
        walls.push(own);
        walls.sort_unstable();
        let middle = walls[(walls.len() - 1) / 2];
        if own.since(middle).max(middle.since(own)) > JUMP {
            self.time = floor.max(middle);
        }
    }

    /// Whether it is settled which wall clock counts: before, the time may yet become an earlier one.
    pub(crate) fn is_settled(&self) -> bool {
        self.floor.is_none()
    }

    /// The time as read last.
    pub(crate) fn now(&self) -> Timestamp {
        self.time
    }

    /// Is not below `time` from now on.
    pub(crate) fn raise(&mut self, time: Timestamp) {
        self.time = self.time.max(time);
        self.floor = self.floor.map(|floor| floor.max(time));
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

    /// `long-cluster`, 2026-12-01: a node that was started with a clock 400 days ahead came to lead, and
    /// all sessions expired.
    #[test]
    fn a_process_that_starts_with_another_clock_than_the_others_takes_theirs() {
        let at = Timestamp::from_secs;
        let first = |last, wall, others: &[u64]| {
            let mut clock = LeaderClock::new(at(last), now(wall, 0));
            clock.settle(at(wall), || others.iter().copied().map(at).collect());
            clock.read(now(wall, 0))
        };
        assert_eq!(first(1000, 90_000, &[2000, 2001]), at(2001));
        assert_eq!(first(1000, 90_000, &[2000]), at(2000), "of two the earlier one");
        assert_eq!(first(1000, 1_000, &[90_000]), at(1000));
        assert_eq!(first(1000, 500, &[90_000, 90_001]), at(90_000), "it was the one behind");
        assert_eq!(first(3000, 90_000, &[2000, 2001]), at(3000), "never below the log");
        assert_eq!(first(1000, 2000, &[2030, 2031]), at(2000), "near is near enough");
        assert_eq!(first(1000, 90_000, &[]), at(90_000), "nobody knows better");
    }

    #[test]
    fn what_was_heard_holds_whichever_clock_counts_and_it_is_settled_once() {
        let at = Timestamp::from_secs;
        let mut clock = LeaderClock::new(at(1000), now(90_000, 0));
        clock.raise(at(2500));
        assert!(!clock.is_settled());
        clock.settle(at(90_000), || vec![at(2000), at(2000)]);
        assert!(clock.is_settled());
        assert_eq!(clock.now(), at(2500));
        clock.settle(at(90_000), || vec![at(80_000), at(80_000)]);
        assert_eq!(clock.now(), at(2500));
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
