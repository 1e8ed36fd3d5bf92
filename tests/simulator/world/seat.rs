//! A place for a node: what outlives its processes, when the next one starts, what its clocks show.

use std::time::Duration;

use ledgermq_core::offset::Timestamp;

use crate::node::disk::Disk;
use crate::node::{Name, Node, Remains};
use crate::raft::members::Standing;
use crate::trace::START;
use crate::world::members::Membering;

/// Where the wall clock begins: it may be put back from there.
const WALL_AHEAD: u64 = 1_000_000_000_000;

/// One of the nodes, running or not.
pub(crate) struct Seat {
    pub(crate) name: Name,
    pub(crate) node: Option<Node>,
    /// What the last process left, while none runs.
    pub(crate) remains: Option<Remains>,
    pub(crate) restart_at: Timestamp,
    /// When what is broken for a while heals.
    pub(crate) heal_at: Option<Timestamp>,
    /// The process takes no turn before then; its connections stand, its clocks go on.
    pub(crate) paused_until: Timestamp,
    /// Microseconds by which the wall clock is ahead of the even one.
    pub(crate) wall_ahead: u64,
    clock: Clock,
    /// Its place in a cluster that grows.
    pub(crate) membering: Option<Membering>,
}

/// An even clock that may go too fast or too slowly.
#[derive(Clone, Copy, Debug)]
struct Clock {
    /// Millionths by which it gains.
    drift_ppm: i32,
    /// A true time, and what the clock showed then.
    since: Timestamp,
    shown: Timestamp,
}

impl Clock {
    fn read(&self, now: Timestamp) -> Timestamp {
        let passed = now.since(self.since);
        let gained = passed * self.drift_ppm.unsigned_abs() / 1_000_000;
        let passed =
            if self.drift_ppm < 0 { passed.saturating_sub(gained) } else { passed + gained };
        self.shown.plus(passed)
    }
}

impl Seat {
    /// A seat, one of so many, whose node starts at once; several know of each other, or grow from the
    /// first.
    pub(crate) fn new(name: Name, nodes: u64, grows: bool) -> Self {
        let disk = if name.is_alone || grows { Disk::default() } else { Disk::of_voter(nodes) };
        Self {
            name,
            node: None,
            remains: Some(Remains { disk, ..Remains::default() }),
            restart_at: START,
            heal_at: None,
            paused_until: START,
            wall_ahead: WALL_AHEAD,
            clock: Clock { drift_ppm: 0, since: START, shown: START },
            membering: grows.then(|| Membering::new(name.id)),
        }
    }

    /// Whether its node is a member.
    pub(crate) fn is_in(&self) -> bool {
        self.membering.as_ref().is_none_or(|it| it.place == Standing::In)
    }

    /// A process had this number: the next one has a higher one.
    pub(crate) fn note_start(&mut self, start: u64) {
        if let Some(membering) = &mut self.membering {
            membering.start_min = membering.start_min.max(start + 1);
        }
    }

    /// The even clock at true time `now`: it never stands and is never put.
    pub(crate) fn monotonic(&self, now: Timestamp) -> Timestamp {
        self.clock.read(now)
    }

    /// From `now` on the clocks gain so many millionths.
    pub(crate) fn set_drift(&mut self, now: Timestamp, drift_ppm: i32) {
        self.clock = Clock { drift_ppm, since: now, shown: self.clock.read(now) };
    }

    /// The process stops for a while, and does not know.
    pub(crate) fn pause(&mut self, now: Timestamp, pause: Duration) {
        self.paused_until = now.plus(pause);
    }

    pub(crate) fn is_paused(&self, now: Timestamp) -> bool {
        self.paused_until > now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat() -> Seat {
        Seat::new(Name { id: 1, is_alone: true }, 1, false)
    }

    fn later(seconds: u64) -> Timestamp {
        START.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn a_clock_without_drift_shows_the_true_time() {
        assert_eq!(seat().monotonic(later(12_345)), later(12_345));
    }

    #[test]
    fn a_clock_that_drifts_gains_and_loses_and_never_jumps() {
        let mut seat = seat();
        seat.set_drift(START, 10_000);
        assert_eq!(seat.monotonic(later(100)), later(101));
        seat.set_drift(later(100), -10_000);
        assert_eq!(seat.monotonic(later(100)), later(101));
        assert_eq!(seat.monotonic(later(200)), later(200));
        seat.set_drift(later(200), 0);
        assert_eq!(seat.monotonic(later(300)), later(300));
    }
}
