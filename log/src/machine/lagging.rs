//! How long ago the leader's log was as far as a follower's is now.

use std::collections::VecDeque;
use std::time::Duration;

use ledgermq_core::offset::Index;

/// How often the leader's log may have grown that is remembered; when there are more, only every second
/// one is kept of them.
const SAMPLES_MAX: usize = 1_024;

/// When the log had grown how far.
#[derive(Debug, Default)]
pub(super) struct Lags {
    /// Ascending in both.
    samples: VecDeque<(Duration, Index)>,
}

impl Lags {
    /// The log ends at `last` now.
    pub(super) fn note(&mut self, now: Duration, last: Index) {
        match self.samples.back() {
            Some((_, known)) if *known == last => return,
            // Another leader has cut something off.
            Some((_, known)) if *known > last => self.samples.clear(),
            _ => {}
        }
        if self.samples.len() >= SAMPLES_MAX {
            let mut nth = 0;
            self.samples.retain(|_| {
                nth += 1;
                nth % 2 == 1
            });
        }
        self.samples.push_back((now, last));
    }

    /// For how long the first entry behind `matched` has been in the log; zero if there is none. What
    /// is older than what is remembered counts since then.
    pub(super) fn of(&self, now: Duration, matched: Index) -> Duration {
        let at = self.samples.partition_point(|(_, last)| *last <= matched);
        self.samples.get(at).map_or(Duration::ZERO, |(since, _)| now.saturating_sub(*since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_lags_since_the_first_entry_that_it_lacks() {
        let at = Duration::from_secs;
        let mut lags = Lags::default();
        assert_eq!(lags.of(at(9), 0), at(0));
        for (now, last) in [(1, 10), (2, 20), (3, 20), (4, 30)] {
            lags.note(at(now), last);
        }
        assert_eq!(lags.of(at(10), 30), at(0));
        assert_eq!(lags.of(at(10), 29), at(6));
        assert_eq!(lags.of(at(10), 20), at(6));
        assert_eq!(lags.of(at(10), 19), at(8));
        assert_eq!(lags.of(at(10), 0), at(9));
        lags.note(at(11), 25);
        assert_eq!(lags.of(at(12), 20), at(1));
    }

    #[test]
    fn what_is_remembered_has_an_end_and_stays_right() {
        let mut lags = Lags::default();
        for second in 1..10_000 {
            lags.note(Duration::from_secs(second), second * 10);
        }
        assert!(lags.samples.len() <= SAMPLES_MAX);
        let now = Duration::from_secs(10_000);
        assert_eq!(lags.of(now, 99_990), Duration::ZERO);
        let lag = lags.of(now, 50_000).as_secs();
        assert!((4_800..=5_000).contains(&lag), "{lag}");
    }
}
