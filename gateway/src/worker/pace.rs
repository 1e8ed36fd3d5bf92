//! How much of everything a worker takes in one turn.

use std::time::Duration;

/// How long a turn may take. Who is answered in a turn waits for its end, and so does everybody who
/// sent something meanwhile.
const TURN: Duration = Duration::from_millis(25);
/// Batches that one turn's reads may fill before they are handed to the log, at most.
const BATCHES_MAX: usize = 16;
/// Bytes of committed batches taken for each of them.
const COMMITTED_BYTES_EACH: usize = 256 << 10;

/// What a worker takes in a turn: less if what comes of it is much, such as a message for a thousand
/// subscribers.
#[derive(Debug)]
pub(super) struct Pace {
    batches: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { batches: BATCHES_MAX }
    }
}

impl Pace {
    /// Batches that may be filled.
    pub(super) fn batches(&self) -> usize {
        self.batches
    }

    /// Bytes of committed batches.
    pub(super) fn committed_bytes(&self) -> usize {
        self.batches * COMMITTED_BYTES_EACH
    }

    /// A turn took that long.
    pub(super) fn turned(&mut self, took: Duration) {
        self.batches = match took {
            took if took > 2 * TURN => (self.batches / 2).max(1),
            took if took > TURN => self.batches,
            _ => (self.batches + 1).min(BATCHES_MAX),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_turns_take_less_and_short_ones_more_again() {
        let mut pace = Pace::default();
        assert_eq!(pace.batches(), BATCHES_MAX);
        for batches in [8, 4, 2, 1, 1] {
            pace.turned(3 * TURN);
            assert_eq!(pace.batches(), batches);
        }
        pace.turned(TURN * 3 / 2);
        assert_eq!(pace.batches(), 1);
        (0..100).for_each(|_| pace.turned(TURN));
        assert_eq!(pace.batches(), BATCHES_MAX);
    }
}
