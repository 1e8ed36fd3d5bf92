//! When the log takes more than the views can fold, connections are left unread for a while.

use ledgermq_core::offset::Index;

/// Batches that the views may be behind.
const BATCHES_MAX: Index = 500;

/// How far the views are behind, and what that will bring: each batch that they have to fold may owe
/// something to thousands of sessions. What is too much goes by an event, which stands behind all
/// that is to be folded before.
#[derive(Debug)]
pub(crate) struct Lag {
    /// Messages owed to all sessions, in all.
    owed_max: u64,
    /// As of the last look.
    applied: Index,
    owed: u64,
    /// Messages that a batch added to these lately, at most.
    growth: u64,
}

impl Lag {
    pub(crate) fn new(owed_max: u64) -> Self {
        Self { owed_max, applied: 0, owed: 0, growth: 0 }
    }

    /// Looks at where the views are, the log being at `position`; says whether connections may be read.
    pub(super) fn look(&mut self, position: Index, applied: Index, owed: u64) -> bool {
        if applied > self.applied {
            let batches = if self.applied == 0 { u64::MAX } else { applied - self.applied };
            let growth = owed.saturating_sub(self.owed) / batches;
            self.growth = growth.max(self.growth - self.growth / 8);
            (self.applied, self.owed) = (applied, owed);
        }
        let batches = position.saturating_sub(applied);
        let expected = owed.saturating_add(batches.saturating_mul(self.growth));
        batches < BATCHES_MAX && (batches <= 1 || expected < self.owed_max.saturating_mul(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_that_are_far_behind_are_waited_for() {
        let mut lag = Lag::new(1_000);
        assert!(lag.look(100, 99, 0));
        assert!(!lag.look(99 + BATCHES_MAX, 99, 0));
        assert!(lag.look(98 + BATCHES_MAX, 99, 0));
    }

    #[test]
    fn where_much_is_owed_they_may_be_less_behind() {
        let mut lag = Lag::new(1_000);
        assert!(lag.look(100, 99, 0));
        assert!(lag.look(104, 101, 400), "200 a batch: 1,000 are expected");
        assert!(!lag.look(110, 101, 400), "2,200 would be");
        assert!(lag.look(110, 109, 1_900), "one is always taken");
        assert!(!lag.look(112, 109, 1_900));
        assert!(lag.look(114, 110, 0), "they were given up");
    }
}
