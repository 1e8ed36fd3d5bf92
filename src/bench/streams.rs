//! What one receiver got of one topic: exact loss, duplicates, disorder.

use std::collections::BTreeMap;

/// Numbers of one topic as they come to one receiver.
#[derive(Clone, Debug, Default)]
pub(super) struct Stream {
    /// The number behind the highest that came.
    next: u64,
    /// Numbers below `next` that did not come: first to the one behind the last.
    missing: BTreeMap<u64, u64>,
}

/// What a message is to its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The first of its number, in order; so many before it have not come yet.
    InOrder { skipped: u64 },
    /// The first of its number, behind a later one.
    Late,
    /// It came before.
    Again,
}

impl Stream {
    /// A stream of which everything below `number` is of no interest.
    pub(super) fn starting_at(number: u64) -> Self {
        Self { next: number, missing: BTreeMap::new() }
    }

    /// Takes the message with that number.
    pub(super) fn take(&mut self, number: u64) -> Arrival {
        if number >= self.next {
            let skipped = number - self.next;
            if skipped > 0 {
                self.missing.insert(self.next, number);
            }
            self.next = number + 1;
            return Arrival::InOrder { skipped };
        }
        let Some((&first, &end)) = self.missing.range(..=number).next_back() else {
            return Arrival::Again;
        };
        if number >= end {
            return Arrival::Again;
        }
        self.missing.remove(&first);
        if first < number {
            self.missing.insert(first, number);
        }
        if number + 1 < end {
            self.missing.insert(number + 1, end);
        }
        Arrival::Late
    }

    /// How many of the first `sent` never came.
    pub(super) fn lost(&self, sent: u64) -> u64 {
        self.holes() + sent.saturating_sub(self.next)
    }

    /// How many never came before one that did.
    pub(super) fn holes(&self) -> u64 {
        self.missing.iter().map(|(first, end)| end - first).sum()
    }
}

/// What all receivers together got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Messages that came, each once.
    pub(super) delivered: u64,
    /// Messages that came again.
    pub(super) duplicates: u64,
    /// Messages that came behind a later one of their topic.
    pub(super) out_of_order: u64,
}

impl Tally {
    /// Counts an arrival.
    pub(super) fn add(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::InOrder { .. } => self.delivered += 1,
            Arrival::Late => {
                self.delivered += 1;
                self.out_of_order += 1;
            }
            Arrival::Again => self.duplicates += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_duplicates_and_disorder_are_told_apart() {
        let mut stream = Stream::default();
        assert_eq!(stream.take(0), Arrival::InOrder { skipped: 0 });
        assert_eq!(stream.take(5), Arrival::InOrder { skipped: 4 });
        assert_eq!(stream.lost(6), 4);
        assert_eq!(stream.take(3), Arrival::Late);
        assert_eq!(stream.take(3), Arrival::Again);
        assert_eq!(stream.take(5), Arrival::Again);
        assert_eq!(stream.take(0), Arrival::Again);
        assert_eq!(stream.lost(6), 3, "1, 2 and 4");
        assert_eq!(stream.lost(8), 5, "and two that were sent at the end");
        for number in [1, 2, 4] {
            assert_eq!(stream.take(number), Arrival::Late);
        }
        assert_eq!(stream.lost(6), 0);
    }

    #[test]
    fn a_stream_that_is_joined_counts_from_there() {
        let mut stream = Stream::starting_at(10);
        assert_eq!(stream.take(10), Arrival::InOrder { skipped: 0 });
        assert_eq!(stream.lost(11), 0);
    }
}
