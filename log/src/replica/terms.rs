//! The terms of entries, known from few of them: terms never fall along the log, so between two
//! entries of the same term all have it.

use std::collections::BTreeMap;

use ledgermq_core::offset::Index;
use raft::eraftpb::Entry;

/// Entries of known terms: the first and the last of each run of one term.
#[derive(Debug, Default)]
pub(super) struct Terms {
    known: BTreeMap<Index, u64>,
}

impl Terms {
    /// Knows these entries: (index, term).
    pub(super) fn new(entries: impl IntoIterator<Item = (Index, u64)>) -> Self {
        let mut terms = Self::default();
        entries.into_iter().for_each(|(index, term)| terms.learn(index, term));
        terms
    }

    /// The term of the entry, if what is known says it.
    pub(super) fn get(&self, index: Index) -> Option<u64> {
        let (_, before) = self.known.range(..=index).next_back()?;
        let (_, behind) = self.known.range(index..).next()?;
        (before == behind).then_some(*before)
    }

    /// The entry has this term.
    pub(super) fn learn(&mut self, index: Index, term: u64) {
        let before = self.known.range(..index).next_back().map(|(at, term)| (*at, *term));
        let behind = self.known.range(index + 1..).next().map(|(at, term)| (*at, *term));
        if before.is_some_and(|(_, t)| t == term) && behind.is_some_and(|(_, t)| t == term) {
            return;
        }
        self.known.insert(index, term);
        // What now stands in the middle of its run says nothing more.
        for (at, _) in [before, behind].into_iter().flatten().filter(|(_, t)| *t == term) {
            let outer = match at < index {
                true => self.known.range(..at).next_back(),
                false => self.known.range(at + 1..).next(),
            };
            if outer.is_some_and(|(_, t)| *t == term) {
                self.known.remove(&at);
            }
        }
    }

    /// The terms of these entries.
    pub(super) fn learn_all(&mut self, entries: &[Entry]) {
        entries.iter().for_each(|entry| self.learn(entry.index, entry.term));
    }

    /// The entries from `index` on are gone.
    pub(super) fn cut(&mut self, index: Index) {
        let kept = index.checked_sub(1).and_then(|last| Some((last, self.get(last)?)));
        self.known.split_off(&index);
        self.known.extend(kept);
    }

    /// The entries before `index` are gone; it stays.
    pub(super) fn forget_before(&mut self, index: Index) {
        let kept = self.get(index);
        self.known = self.known.split_off(&index);
        if let Some(term) = kept {
            self.learn(index, term);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_long_run_is_two_entries() {
        let mut terms = Terms::new([(0, 0)]);
        (1..=1000).for_each(|index| terms.learn(index, 1 + index / 500));
        assert_eq!(terms.known.len(), 6);
        assert_eq!([terms.get(7), terms.get(499), terms.get(500)], [Some(1), Some(1), Some(2)]);
    }

    proptest! {
        #[test]
        fn what_it_says_is_true(
            rises in prop::collection::vec(0u64..2, 30),
            learned in prop::collection::vec(0usize..30, 0..20),
            cut in 1u64..31,
            forgotten in 0u64..31,
        ) {
            let term = |index: usize| rises[..=index].iter().sum::<u64>();
            let mut terms = Terms::new(learned.iter().map(|at| (*at as u64, term(*at))));
            for index in 0..30 {
                let said = terms.get(index as u64);
                prop_assert!(said.is_none_or(|said| said == term(index)));
                prop_assert!(said.is_some() || !learned.contains(&index));
            }
            terms.cut(cut);
            terms.forget_before(forgotten);
            for index in 0..30 {
                let said = terms.get(index as u64);
                let is_there = (forgotten..cut).contains(&(index as u64));
                prop_assert!(said.is_none_or(|said| said == term(index)));
                prop_assert!(said.is_some() || !is_there || !learned.contains(&index));
            }
        }
    }
}
