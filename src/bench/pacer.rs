//! When what is due at a fixed rate is due, and waking up for it.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::BenchError;
use super::clock::Instant;
use super::float;

/// Instants at equal distances.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    start: Instant,
    per_second: f64,
}

impl Schedule {
    /// So many a second from `start` on.
    pub(super) fn new(start: Instant, per_second: f64) -> Self {
        Self { start, per_second }
    }

    /// When the one with that number, from 0, is due.
    pub(super) fn due(&self, number: u64) -> Instant {
        let after = Duration::try_from_secs_f64(float(number) / self.per_second);
        self.start.after(after.unwrap_or(Duration::MAX))
    }
}

/// A timer that wakes the poll at an instant; its own timeout only knows milliseconds.
pub(super) struct Alarm(OwnedFd);

impl Alarm {
    /// An alarm that shows as an event of `token`.
    pub(super) fn new(token: Token, registry: &Registry) -> Result<Self, BenchError> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, flags).map_err(std::io::Error::from)?;
        let fd = timer.as_raw_fd();
        registry.register(&mut SourceFd(&fd), token, Interest::READABLE)?;
        Ok(Self(timer))
    }

    /// Rings at `at` (at once if that is over), instead of when it was set to before.
    pub(super) fn set(&self, at: Instant) -> Result<(), BenchError> {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        // 0 would switch it off.
        let left = at.since(Instant::now()).max(Duration::from_nanos(1));
        let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
        let value = Timespec { tv_sec: seconds, tv_nsec: i64::from(left.subsec_nanos()) };
        let spec = Itimerspec { it_interval: zero, it_value: value };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &spec)
            .map_err(std::io::Error::from)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::clock::nanos;

    #[test]
    fn what_is_due_is_at_equal_distances_without_drift() {
        let schedule = Schedule::new(Instant(1000), 3.0);
        assert_eq!(schedule.due(0), Instant(1000));
        assert_eq!(schedule.due(3), Instant(1000 + nanos(Duration::from_secs(1))));
        assert_eq!(schedule.due(3_000_000), Instant(1000 + nanos(Duration::from_secs(1_000_000))));
    }
}
