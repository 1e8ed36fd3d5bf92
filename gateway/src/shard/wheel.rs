//! A coarse timer wheel: when to look at a connection's silence.

use std::time::Duration;

use ledgermq_core::offset::Timestamp;

use crate::shard::table::Token;

/// Width of a spoke. Deadlines are met at most two of these late.
const SPOKE: Duration = Duration::from_secs(1);
/// Number of spokes; what lies farther is looked at when the wheel came round.
const SPOKES: u64 = 64;

/// Tokens by the second in which they are due: an entry of 8 bytes a connection, no timer each.
#[derive(Debug)]
pub(crate) struct Wheel {
    spokes: Vec<Vec<Token>>,
    /// Number of the first spoke that has not passed, counted from the Unix epoch.
    current: u64,
    entries: usize,
}

impl Wheel {
    pub(crate) fn new(now: Timestamp) -> Self {
        let spokes = (0..SPOKES).map(|_| Vec::new()).collect();
        Self { spokes, current: spoke_of(now), entries: 0 }
    }

    /// Has `token` be returned not before `deadline`, or earlier if it lies beyond the wheel.
    /// Answers from which instant on.
    pub(crate) fn insert(&mut self, deadline: Timestamp, token: Token) -> Timestamp {
        // One later than the deadline's own: that spoke passes only when the deadline has.
        let spoke = (spoke_of(deadline) + 1).clamp(self.current, self.current + SPOKES - 1);
        self.spokes[index_of(spoke)].push(token);
        self.entries += 1;
        Timestamp(spoke * micros())
    }

    /// Moves what is due at `now` into `due`.
    pub(crate) fn advance(&mut self, now: Timestamp, due: &mut Vec<Token>) {
        let last = spoke_of(now);
        let before = due.len();
        let mut turned = 0;
        while self.current <= last && turned < SPOKES {
            due.append(&mut self.spokes[index_of(self.current)]);
            self.current += 1;
            turned += 1;
        }
        self.current = self.current.max(last + 1);
        self.entries -= due.len() - before;
    }

    /// When the next spoke passes, if anything is waiting.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        let next = Timestamp(self.current * micros());
        (self.entries > 0).then_some(next)
    }
}

fn micros() -> u64 {
    SPOKE.as_secs() * 1_000_000
}

fn spoke_of(at: Timestamp) -> u64 {
    at.0 / micros()
}

fn index_of(spoke: u64) -> usize {
    usize::try_from(spoke % SPOKES).expect("fewer spokes than addresses")
}

#[cfg(test)]
impl Wheel {
    pub(crate) fn entries(&self) -> usize {
        self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(slot: u32) -> Token {
        Token { slot, generation: 0 }
    }

    #[test]
    fn a_deadline_is_met_within_two_spokes_and_never_early() {
        let mut wheel = Wheel::new(Timestamp::from_secs(100));
        wheel.insert(Timestamp(105_300_000), token(1));
        let mut due = Vec::new();
        wheel.advance(Timestamp(105_999_999), &mut due);
        assert_eq!(due, []);
        wheel.advance(Timestamp(106_000_000), &mut due);
        assert_eq!(due, [token(1)]);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn a_far_deadline_is_looked_at_when_the_wheel_came_round() {
        let mut wheel = Wheel::new(Timestamp::from_secs(100));
        wheel.insert(Timestamp::from_secs(10_000), token(1));
        let mut due = Vec::new();
        wheel.advance(Timestamp::from_secs(164), &mut due);
        assert_eq!(due, [token(1)]);
    }

    #[test]
    fn a_long_pause_returns_everything_once() {
        let mut wheel = Wheel::new(Timestamp::from_secs(100));
        (0..60).for_each(|slot| {
            wheel.insert(Timestamp::from_secs(100 + u64::from(slot)), token(slot));
        });
        let mut due = Vec::new();
        wheel.advance(Timestamp::from_secs(100_000), &mut due);
        assert_eq!(due.len(), 60);
        wheel.advance(Timestamp::from_secs(100_100), &mut due);
        assert_eq!(due.len(), 60);
    }
}
