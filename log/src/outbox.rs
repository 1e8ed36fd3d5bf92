//! Batches of this process that the log has not admitted yet.
//!
//! A batch of a producer has one number and one content for ever. It stays here until this node's
//! own fold of the committed log has admitted it, and is proposed or forwarded again after any
//! doubt: that makes *at least once*. Admission, which takes `last + 1` and voids everything else,
//! makes *at most once* of it, in order, whatever comes twice, late or not at all.

use std::collections::VecDeque;

use bytes::Bytes;

/// What is sent and not admitted, towards another node.
pub(crate) const WINDOW_BYTES: usize = 4 << 20;
/// What waits here in all; beyond it nothing more is taken from the producers.
pub(crate) const OUTBOX_BYTES: usize = 8 << 20;

/// The batches of all producers of this process.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// By [`ledgermq_core::identity::ProducerId::local`].
    lanes: Vec<Lane>,
    /// Lane whose turn it is.
    turn: usize,
    bytes: usize,
    sent_bytes: usize,
    unsent: usize,
}

/// The batches of one producer.
#[derive(Debug, Default)]
struct Lane {
    /// Number of the first batch that waits.
    first: u64,
    batches: VecDeque<Bytes>,
    /// So many of them were sent in this attempt.
    sent: usize,
}

impl Lane {
    fn next(&self) -> u64 {
        self.first + self.batches.len() as u64
    }
}

impl Outbox {
    /// Takes the next batch of a producer.
    pub(crate) fn push(&mut self, local: u16, sequence: u64, batch: Bytes) {
        let at = usize::from(local);
        if at >= self.lanes.len() {
            self.lanes.resize_with(at + 1, Lane::default);
        }
        let lane = &mut self.lanes[at];
        if lane.batches.is_empty() {
            lane.first = sequence;
        }
        debug_assert_eq!(lane.next(), sequence, "a producer numbers without a gap");
        self.bytes += batch.len();
        self.unsent += 1;
        lane.batches.push_back(batch);
    }

    /// Lets `send` have the next batch that was not sent in this attempt: lanes in turn, each in
    /// order. `send` may change the batch and says whether it went. `false` if there is none, or
    /// it did not go.
    pub(crate) fn send(&mut self, send: impl FnOnce(&mut Bytes) -> bool) -> bool {
        for step in 0..self.lanes.len() {
            let at = (self.turn + step) % self.lanes.len();
            let lane = &mut self.lanes[at];
            let Some(batch) = lane.batches.get_mut(lane.sent) else { continue };
            if !send(batch) {
                return false;
            }
            self.sent_bytes += batch.len();
            self.unsent -= 1;
            lane.sent += 1;
            self.turn = at + 1;
            return true;
        }
        false
    }

    /// The next batches that were not sent in this attempt, about `bytes_max` of them, as sent.
    pub(crate) fn gather(&mut self, bytes_max: usize) -> Vec<Bytes> {
        let mut batches: Vec<Bytes> = Vec::new();
        let mut bytes = 0;
        while bytes < bytes_max
            && self.send(|batch| {
                batches.push(batch.clone());
                true
            })
        {
            bytes += batches.last().map_or(0, Bytes::len);
        }
        batches
    }

    /// The log has admitted the batch: it and what stood before it are done.
    pub(crate) fn admitted(&mut self, local: u16, sequence: u64) {
        let Some(lane) = self.lanes.get_mut(usize::from(local)) else { return };
        while lane.first <= sequence
            && let Some(batch) = lane.batches.pop_front()
        {
            lane.first += 1;
            self.bytes -= batch.len();
            if lane.sent > 0 {
                lane.sent -= 1;
                self.sent_bytes -= batch.len();
            } else {
                self.unsent -= 1;
            }
        }
    }

    /// The log has jumped to where the batches up to `last` of each producer are admitted.
    pub(crate) fn passed(&mut self, last: impl Fn(u16) -> u64) {
        let lanes = 0..u16::try_from(self.lanes.len()).unwrap_or(u16::MAX);
        lanes.for_each(|local| self.admitted(local, last(local)));
    }

    /// Whether a batch that came void tells that an earlier one was lost on its way: it is not the
    /// second copy of what is admitted.
    pub(crate) fn is_gap(&self, local: u16, sequence: u64) -> bool {
        self.lanes
            .get(usize::from(local))
            .is_some_and(|lane| !lane.batches.is_empty() && sequence > lane.first)
    }

    /// Begins again with the first batch of each lane.
    pub(crate) fn begin(&mut self) {
        for lane in &mut self.lanes {
            self.unsent += std::mem::take(&mut lane.sent);
        }
        self.sent_bytes = 0;
    }

    /// Whether a batch waits that was not sent in this attempt.
    pub(crate) fn has_unsent(&self) -> bool {
        self.unsent > 0
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that were sent in this attempt and are not admitted.
    pub(crate) fn sent_bytes(&self) -> usize {
        self.sent_bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn batch(local: u16, sequence: u64) -> Bytes {
        Bytes::from(vec![u8::try_from(local).unwrap(), u8::try_from(sequence).unwrap()])
    }

    fn sent(outbox: &mut Outbox) -> Vec<(u16, u64)> {
        let mut all = Vec::new();
        while outbox.send(|batch| {
            all.push((u16::from(batch[0]), u64::from(batch[1])));
            true
        }) {}
        all
    }

    #[test]
    fn lanes_take_turns_and_each_keeps_its_order() {
        let mut outbox = Outbox::default();
        for sequence in 1..=2 {
            for local in [0, 2] {
                outbox.push(local, sequence, batch(local, sequence));
            }
        }
        assert_eq!(sent(&mut outbox), [(0, 1), (2, 1), (0, 2), (2, 2)]);
        outbox.admitted(0, 1);
        outbox.begin();
        assert_eq!(sent(&mut outbox), [(0, 2), (2, 1), (2, 2)]);
    }

    #[test]
    fn what_did_not_go_stays_first() {
        let mut outbox = Outbox::default();
        outbox.push(0, 1, batch(0, 1));
        assert!(!outbox.send(|_| false));
        assert_eq!(sent(&mut outbox), [(0, 1)]);
        assert!(!outbox.has_unsent() && !outbox.is_empty());
    }

    #[test]
    fn a_jump_passes_the_batches_that_are_admitted_where_it_ends() {
        let mut outbox = Outbox::default();
        for (local, sequence) in [(0, 1), (0, 2), (2, 1), (2, 2)] {
            outbox.push(local, sequence, batch(local, sequence));
        }
        assert!(outbox.send(|_| true));
        outbox.passed(|local| if local == 0 { 1 } else { 2 });
        assert_eq!((outbox.sent_bytes(), outbox.bytes()), (0, 2));
        assert_eq!(sent(&mut outbox), [(0, 2)]);
    }

    #[test]
    fn a_copy_of_what_is_admitted_is_no_gap() {
        let mut outbox = Outbox::default();
        (1..=3).for_each(|sequence| outbox.push(0, sequence, batch(0, sequence)));
        outbox.admitted(0, 1);
        assert!(!outbox.is_gap(0, 1) && !outbox.is_gap(0, 2));
        assert!(outbox.is_gap(0, 3));
    }

    proptest! {
        /// Whatever is lost, doubled or late on the way, each batch is admitted once and in order.
        #[test]
        fn every_batch_is_admitted_once_and_in_order(
            chances in prop::collection::vec((0u8..6, 0usize..8), 0..200),
        ) {
            let mut outbox = Outbox::default();
            let mut last = [0u64; 3];
            let mut travelling: Vec<(u16, u64)> = Vec::new();
            let mut pushed = [0u64; 3];
            let mut admit = |outbox: &mut Outbox, (local, sequence): (u16, u64)| {
                let last = &mut last[usize::from(local)];
                if sequence == *last + 1 {
                    *last += 1;
                    outbox.admitted(local, sequence);
                } else if outbox.is_gap(local, sequence) {
                    outbox.begin();
                }
            };
            for (what, at) in chances {
                let local = u16::try_from(at % 3).unwrap();
                match what {
                    0 => {
                        pushed[at % 3] += 1;
                        outbox.push(local, pushed[at % 3], batch(local, pushed[at % 3]));
                    }
                    1 => drop(outbox.send(|batch| {
                        travelling.push((u16::from(batch[0]), u64::from(batch[1])));
                        true
                    })),
                    2 if at < travelling.len() => drop(travelling.remove(at)),
                    3 if at < travelling.len() => travelling.push(travelling[at]),
                    4 if at < travelling.len() => {
                        let arrived = travelling.remove(at);
                        admit(&mut outbox, arrived);
                    }
                    _ => outbox.begin(),
                }
                prop_assert_eq!(outbox.is_empty(), outbox.bytes() == 0);
            }
            outbox.begin();
            for arrived in sent(&mut outbox) {
                admit(&mut outbox, arrived);
            }
            prop_assert!(outbox.is_empty() && !outbox.has_unsent());
            prop_assert_eq!(outbox.sent_bytes(), 0);
            prop_assert_eq!(last, pushed);
        }
    }
}
